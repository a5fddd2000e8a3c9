//! record.proto says what the tables of events say, to the letter: a new kind of event is declared in its table, and
//! `BLESS=1 cargo test -p engine --test proto` writes it into the document.
#![allow(clippy::disallowed_methods)] // the document is a file

use std::collections::BTreeMap;
use std::fmt::Write;

use engine::record::describe;
use engine::record::table::{FieldText, MessageText};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/record.proto");
const WIDTH: usize = 125;

/// `TagFreed` is `tag_freed` among the kinds.
fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, c| {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}

/// As a comment; what leads to other code leads nowhere from here.
fn comment(docs: &[&str], indent: &str) -> String {
    docs.iter().map(|doc| format!("{indent}//{}\n", doc.replace("[`", "").replace("`]", ""))).collect()
}

fn field(FieldText { proto, name, number, .. }: &FieldText) -> String {
    format!("{proto} {name} = {number};")
}

fn message(message: &MessageText) -> String {
    let name = message.name;
    let mut text = comment(message.docs, "");
    if message.fields.is_empty() {
        return text + &format!("message {name} {{}}\n");
    }
    let mut fields: Vec<&FieldText> = message.fields.iter().collect();
    fields.sort_by_key(|field| field.number);
    let one_line: Vec<String> = fields.iter().map(|of| field(of)).collect();
    let one_line = format!("message {name} {{ {} }}\n", one_line.join(" "));
    if one_line.len() <= WIDTH && fields.iter().all(|field| field.docs.is_empty()) {
        return text + &one_line;
    }
    writeln!(text, "message {name} {{").unwrap();
    for of in fields {
        let line = field(of);
        match of.docs {
            [] => writeln!(text, "  {line}").unwrap(),
            [doc] if line.len().max(27) + doc.len() + 5 <= WIDTH => {
                write!(text, "  {line:27}{}", comment(&[*doc], " ")).unwrap();
            }
            docs => writeln!(text, "{}  {line}", comment(docs, "  ")).unwrap(),
        }
    }
    text + "}\n"
}

/// Puts a text into the document, where the table of this name has its place with this indentation.
fn put(document: &mut String, table: &str, indent: &str, text: &str) {
    let (begins, ends) =
        (format!("\n{indent}// From the table of {table}.\n"), format!("{indent}// End of the table.\n"));
    let begins =
        document.find(&begins).unwrap_or_else(|| panic!("record.proto has no place for {table}")) + begins.len();
    let ends = begins + document[begins..].find(&ends).expect("an end");
    document.replace_range(begins..ends, text);
}

#[test]
fn the_document_says_what_the_tables_say() {
    let written = std::fs::read_to_string(PATH).expect("the document");
    let mut document = written.clone();
    let mut known: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (table, messages) in describe() {
        let mut texts = String::new();
        let mut kinds = String::new();
        for of in &messages {
            writeln!(kinds, "    {} {} = {};", of.name, snake(of.name), of.number).unwrap();
            // An event and a message between shards may be the same; then it stands with the event.
            let fields: Vec<String> = of.fields.iter().map(field).collect();
            match known.get(of.name) {
                Some(first) => assert_eq!(*first, fields, "{} is two messages", of.name),
                None => texts += &message(of),
            }
            known.insert(of.name, fields);
        }
        put(&mut document, table, "", &texts);
        if messages.iter().all(|of| of.number > 0) {
            put(&mut document, table, "    ", &kinds);
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(PATH, document).expect("the document can be written");
    } else {
        assert!(document == written, "record.proto is not what the tables say: BLESS=1 writes it");
    }
}

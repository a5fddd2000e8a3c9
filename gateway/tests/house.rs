//! The house inside: the gateway's parts lie in layers, and each imports only from those below it.

use std::fs;
use std::path::{Path, PathBuf};

/// What has routes, and what puts them together.
const ROUTES: [&str; 5] =
    ["crate::http::app", "crate::http::gates", "crate::http::cashless", "crate::http::reports", "crate::http::ops"];

/// Who may not import whom: a part, and what it must not name. A part is a folder or a file below `src`.
const NOT: [(&str, &[&str]); 10] = [
    // Below every route, and they know none.
    ("http/state.rs", &ROUTES),
    ("http/kit", &ROUTES),
    // Above them all is the app, and only the server puts it together.
    ("http/gates", &["crate::http::app", "crate::http::cashless", "crate::http::reports", "crate::http::ops"]),
    ("http/cashless", &["crate::http::app", "crate::http::reports", "crate::http::ops"]),
    ("http/reports", &["crate::http::app", "crate::http::ops"]),
    ("http/ops", &["crate::http::app", "crate::http::gates", "crate::http::cashless", "crate::http::reports"]),
    // One door does not know the other, nor who signs in how.
    ("quic", &["crate::http", "crate::live", "crate::demo", "crate::cli", "axum", "hyper"]),
    ("cluster", &["crate::http", "crate::live", "crate::demo", "crate::cli", "axum", "hyper"]),
    ("auth", &["crate::http", "crate::quic", "crate::server", "axum", "hyper"]),
    ("read_models.rs", &["crate::http", "crate::quic", "crate::server", "axum", "hyper"]),
];

fn files(of: &Path) -> Vec<PathBuf> {
    if of.is_file() {
        return vec![of.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(of).expect("a folder of the house") {
        found.extend(files(&entry.expect("an entry").path()));
    }
    found
}

/// Every path that a file names, from the crate's root: `super::` followed up from where the file stands, and each branch of
/// `use a::{b, c::{d}}` by itself.
fn paths(file: &str, text: &str) -> Vec<String> {
    let module: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|l| [l, "\n"]).collect();
    let (mut found, mut path, mut stems) = (Vec::new(), String::new(), Vec::new());
    for c in code.chars() {
        match c {
            c if c.is_alphanumeric() || c == '_' || c == ':' => path.push(c),
            // A branch: what stands before it goes before each of its twigs. Any other brace has nothing before it.
            '{' => stems.push(std::mem::take(&mut path)),
            _ => {
                if !path.is_empty() && (path.contains("::") || stems.last().is_some_and(|stem| stem.ends_with("::"))) {
                    found.push(format!("{}{path}", stems.concat()));
                }
                path.clear();
                if c == '}' {
                    stems.pop();
                }
            }
        }
    }
    let rooted = |path: String| {
        let up = path.matches("super::").count();
        match path.strip_prefix(&"super::".repeat(up)).filter(|_| up > 0) {
            Some(rest) => [&["crate"], &module[..module.len().saturating_sub(up)], &[rest]].concat().join("::"),
            None => path,
        }
    };
    found.into_iter().map(rooted).collect()
}

/// What a file names and its part must not.
fn wrong(file: &str, text: &str, must_not: &[&str]) -> Vec<String> {
    let lies_in =
        |path: &str, of: &&str| path.strip_prefix(*of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    paths(file, text).into_iter().filter(|path| must_not.iter().any(|of| lies_in(path, of))).collect()
}

#[test]
fn each_part_imports_only_from_below() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (part, must_not) in NOT {
        let mut all = files(&source.join(part));
        let alone = source.join(part).with_extension("rs");
        all.extend(alone.is_file().then_some(alone));
        for file in all {
            let text = fs::read_to_string(&file).expect("a source file");
            let file = file.strip_prefix(&source).expect("below the source").to_string_lossy().into_owned();
            assert_eq!(wrong(&file, &text, must_not), [""; 0], "{file}");
        }
    }
}

#[test]
fn an_import_from_above_is_found() {
    for (file, text, found) in [
        ("http/kit/answer.rs", "use super::problem::Problem;", 0),
        ("http/kit/answer.rs", "use crate::http::gates::zones::zone_no;", 1),
        ("http/kit/answer.rs", "use super::super::gates;", 1),
        ("http/kit/json/money.rs", "use super::super::super::{kit, gates::{self, zones}};", 2),
        ("http/state.rs", "use super::cashless::wallet_for;", 1),
        ("http/state.rs", "use crate::http::{kit::{\n    answer,\n    problem,\n}, cashless as c, reports};", 2),
        ("http/state.rs", "fn f() { crate::http::ops::router() }", 1),
        ("http/state.rs", "use crate::http::operations;", 0),
        ("http/state.rs", "// as crate::http::app does", 0),
        ("http/state.rs", "match x { A => { B::c() } _ => kit::d(super::kit::e) }", 0),
    ] {
        assert_eq!(wrong(file, text, &ROUTES).len(), found, "{file}: {text}: {:?}", paths(file, text));
    }
}

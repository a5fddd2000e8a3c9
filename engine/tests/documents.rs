//! The documents: what they say is there, is there. A name that a move has left behind fails here, not a reader.
#![allow(clippy::disallowed_methods)] // the documents are files

use std::fs;
use std::path::{Path, PathBuf};

use engine::audit::Check;
use engine::plants::Plant;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Every file of the repository, from its root, without what is built.
fn files() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            match path.is_dir() {
                true if ["target", ".git", "data"].contains(&name.as_str()) => {}
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.iter().map(|path| path.strip_prefix(root()).expect("below it").to_string_lossy().into_owned()).collect()
}

/// What stands between backticks, in order. Code blocks are no words of a sentence.
fn quoted(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The part of a page between two lines.
fn between<'a>(page: &'a str, begins: &str, ends: &str) -> &'a str {
    let (_, rest) = page.split_once(begins).unwrap_or_else(|| panic!("no line `{begins}`"));
    rest.split_once(ends).unwrap_or_else(|| panic!("no line `{ends}` behind `{begins}`")).0
}

/// An invariant of the page, with what holds it.
struct Invariant {
    number: u8,
    /// By kind (tests, lints …), the names.
    held_by: Vec<(String, Vec<String>)>,
}

fn invariants(page: &str) -> Vec<Invariant> {
    let section = between(page, "\n## Invariants\n", "\n### ");
    let mut found = Vec::new();
    for item in section.split("\n\n").filter(|item| item.trim_start().starts_with(|first: char| first.is_ascii_digit()))
    {
        let (number, holds) = item.trim_start().split_once(". ").expect("a number");
        let (_, held_by) = holds.split_once("*Held by* ").unwrap_or_else(|| panic!("held by nothing: {item}"));
        let kinds = held_by.split(" · ").map(|group| {
            let kind = group.split('`').next().expect("a word").split_whitespace().collect::<Vec<_>>().join(" ");
            (kind, quoted(group))
        });
        found.push(Invariant { number: number.parse().expect("a number"), held_by: kinds.collect() });
    }
    found
}

#[test]
fn every_invariant_is_held_by_something_that_exists() {
    let page = text("ARCHITECTURE.md");
    let sources: Vec<String> = files().iter().filter(|path| path.ends_with(".rs")).map(|path| text(path)).collect();
    let is_test = |name: &str| {
        sources.iter().any(|source| {
            source.match_indices(&format!("fn {name}(")).any(|(at, _)| {
                let before: Vec<&str> = source[..at].lines().rev().take(4).collect();
                before.iter().any(|line| line.trim().starts_with("#[test]") || line.contains("::test"))
            })
        })
    };
    let lints = text("Cargo.toml") + &text("engine/clippy.toml");
    let invariants = invariants(&page);
    let numbers: Vec<u8> = invariants.iter().map(|invariant| invariant.number).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    for Invariant { number, held_by } in &invariants {
        let mut audited = Vec::new();
        for (kind, names) in held_by {
            assert!(!names.is_empty(), "{number}: {kind} what?");
            for name in names {
                let exists = match kind.as_str() {
                    "lints" => lints.contains(&format!("{} = ", name)),
                    "tests" => is_test(name),
                    "audit" => Check::ALL.iter().any(|check| check.word() == name),
                    "plants" => Plant::ALL.iter().any(|plant| plant.word() == name),
                    other => panic!("{number}: there is no kind `{other}`"),
                };
                assert!(exists, "{number}: no {kind} are called {name}");
            }
            if kind == "audit" {
                audited = names.iter().map(String::as_str).collect();
            }
        }
        let about_it = Check::ALL.iter().filter(|check| check.invariants().contains(number));
        assert_eq!(audited, about_it.map(|check| check.word()).collect::<Vec<_>>(), "{number}: page and audit");
    }
}

#[test]
fn the_page_lists_what_the_audit_checks() {
    let (begins, ends) = ("<!-- From `checks!` in the engine's audit. -->\n", "<!-- End of the checks. -->\n");
    let page = text("ARCHITECTURE.md");
    let mut table = "\n| check | what holds | invariant |\n|---|---|---|\n".to_owned();
    for check in Check::ALL {
        let numbers: Vec<String> = check.invariants().iter().map(u8::to_string).collect();
        table += &format!("| `{}` | {} | {} |\n", check.word(), check.sentence(), numbers.join(", "));
    }
    table += "\n";
    let written = between(&page, begins, ends);
    if std::env::var("BLESS").is_ok() {
        let blessed = page.replace(&format!("{begins}{written}{ends}"), &format!("{begins}{table}{ends}"));
        fs::write(root().join("ARCHITECTURE.md"), blessed).expect("the page can be written");
    } else {
        assert!(written == table, "the table is not what the audit checks: BLESS=1 writes it");
    }
}

#[test]
fn a_file_that_a_page_names_is_there() {
    let files = files();
    let pages = files.iter().filter(|path| path.ends_with(".md") && path.as_str() != ".github/CHANGELOG.md");
    let mut missing = Vec::new();
    for page in pages {
        // The end of a path may stand for the whole of it: `pipeline/deferred.rs`.
        for name in quoted(&text(page)) {
            let ends = [".rs", ".md", ".toml", ".proto", ".yml", ".service", "Dockerfile"];
            let is_ours = ends.iter().any(|end| name.ends_with(end)) && !name.contains(char::is_whitespace);
            let below = format!("/{name}");
            if is_ours && !files.iter().any(|file| *file == name || file.ends_with(&below)) {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn ci_calls_each_step_there_is() {
    let (run, workflow) = (text(".ci/run"), text(".github/workflows/ci.yml"));
    let all = between(&run, "|| steps=(", ")");
    let called = between(&workflow, "step: [", "]");
    // It needs another user's rights, and stands before them all.
    let all: Vec<&str> = all.split(' ').filter(|step| *step != "packages").collect();
    assert_eq!(called.split(", ").collect::<Vec<_>>(), all);
    assert!(workflow.contains("sudo .ci/run packages"));
}

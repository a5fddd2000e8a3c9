//! The house inside: the gateway's parts lie in layers, and each imports only from those below it.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may not import whom: a part, and what it must not name. A part is a folder or a file below `src`.
const NOT: [(&str, &[&str]); 9] = [
    // Below every route, and it knows none.
    (
        "http/state.rs",
        &[
            "crate::http::app",
            "crate::http::gates",
            "crate::http::cashless",
            "crate::http::reports",
            "crate::http::ops",
        ],
    ),
    (
        "http/kit",
        &[
            "crate::http::app",
            "crate::http::gates",
            "crate::http::cashless",
            "crate::http::reports",
            "crate::http::ops",
        ],
    ),
    // Above them all, and only the server puts it together.
    ("http/gates", &["crate::http::app", "crate::http::cashless", "crate::http::reports", "crate::http::ops"]),
    ("http/cashless", &["crate::http::app", "crate::http::ops"]),
    ("http/reports", &["crate::http::app", "crate::http::ops"]),
    ("http/ops", &["crate::http::app", "crate::http::gates", "crate::http::cashless", "crate::http::reports"]),
    // One door does not know the other, nor who signs in how.
    ("quic", &["crate::http", "crate::live", "crate::demo", "crate::cli", "axum::", "hyper::"]),
    ("auth", &["crate::http", "crate::quic", "crate::server", "axum::", "hyper::"]),
    ("read_models.rs", &["crate::http", "crate::quic", "crate::server", "axum::", "hyper::"]),
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

/// Paths from the crate's root, whichever way a file writes them: `super::` is followed up from where it stands.
fn rooted(file: &Path, source: &Path, text: &str) -> String {
    let module = file.strip_prefix(source).expect("below the source").with_extension("");
    let mut path: Vec<String> = vec!["crate".to_owned()];
    path.extend(module.iter().map(|part| part.to_string_lossy().into_owned()));
    path.pop();
    text.replace("use super::", &format!("use {}::", path.join("::")))
}

/// The lines of a file that name what its part must not.
fn wrong(text: &str, must_not: &[&str]) -> Vec<String> {
    let names = |line: &&str| must_not.iter().any(|name| line.contains(name));
    text.lines().filter(|line| !line.trim_start().starts_with("//")).filter(names).map(str::to_owned).collect()
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
            assert_eq!(wrong(&rooted(&file, &source, &text), must_not), [""; 0], "{}", file.display());
        }
    }
}

#[test]
fn an_import_from_above_is_found() {
    let source = Path::new("src");
    for (file, text, found) in [
        ("src/http/kit/answer.rs", "use super::problem::Problem;", 0),
        ("src/http/kit/answer.rs", "use crate::http::gates::zones::zone_no;", 1),
        ("src/http/state.rs", "use super::cashless::wallet_for;", 1),
        ("src/http/state.rs", "// as crate::http::app does", 0),
    ] {
        let text = rooted(Path::new(file), source, text);
        assert_eq!(wrong(&text, NOT[0].1).len(), found, "{file}: {text}");
    }
}

//! The house: crates stand in a line, each imports only from its left.
#![allow(clippy::disallowed_methods)] // the manifests are files

use std::collections::BTreeMap;
use std::path::Path;

/// From left to right; `loadtest` and `benches` stand side by side at the end.
const LINE: [(&str, u8); 6] =
    [("engine", 0), ("storage", 1), ("actors", 2), ("gateway", 3), ("loadtest", 4), ("benches", 4)];

/// The crates of the house that a manifest's dependencies name, in whichever of its tables.
fn arrows(manifest: &str) -> Vec<String> {
    fn walk(table: &toml_edit::Table, in_dependencies: bool, found: &mut Vec<String>) {
        for (name, item) in table.iter() {
            if in_dependencies {
                // `other = { package = "engine" }` is an arrow to the engine.
                let package = item.get("package").and_then(|package| package.as_str()).unwrap_or(name);
                found.push(package.to_owned());
            } else if let Some(inner) = item.as_table() {
                walk(inner, name.ends_with("dependencies"), found);
            }
        }
    }
    let manifest: toml_edit::DocumentMut = manifest.parse().expect("a manifest is TOML");
    let mut found = Vec::new();
    walk(manifest.as_table(), false, &mut found);
    found.retain(|name| LINE.iter().any(|(of_house, _)| of_house == name));
    found
}

/// The arrows of one crate that do not point to its left.
fn wrong(name: &str, manifest: &str) -> Vec<String> {
    let line: BTreeMap<&str, u8> = LINE.into();
    arrows(manifest).into_iter().filter(|to| line[to.as_str()] >= line[name]).collect()
}

#[test]
fn each_crate_imports_only_from_its_left() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let workspace = std::fs::read_to_string(root.join("Cargo.toml")).expect("the workspace's manifest");
    let workspace: toml_edit::DocumentMut = workspace.parse().expect("a manifest is TOML");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    let mut looked_at: Vec<&str> = Vec::new();
    for member in members.iter().filter_map(|member| member.as_str()) {
        let manifest = std::fs::read_to_string(root.join(member).join("Cargo.toml")).expect("a member's manifest");
        assert_eq!(wrong(member, &manifest), [""; 0], "{member} imports to its right");
        looked_at.push(member);
    }
    let mut line = LINE.map(|(name, _)| name);
    line.sort_unstable();
    looked_at.sort_unstable();
    assert_eq!(looked_at, line, "a crate that is new needs its place in the line");
}

#[test]
fn an_arrow_the_wrong_way_is_found() {
    for (name, manifest, found) in [
        ("storage", "[dependencies]\nengine.workspace = true\nredb = \"4\"", vec![]),
        ("storage", "[dependencies]\nactors.workspace = true", vec!["actors"]),
        ("engine", "[dev-dependencies]\nstorage = { path = \"../storage\" }", vec!["storage"]),
        ("actors", "[dependencies]\nother = { package = \"gateway\", path = \"../gateway\" }", vec!["gateway"]),
        ("actors", "[target.'cfg(unix)'.build-dependencies]\nloadtest.workspace = true", vec!["loadtest"]),
        ("actors", "[dependencies.gateway]\npath = \"../gateway\"", vec!["gateway"]),
        ("loadtest", "[dependencies]\nbenches.workspace = true", vec!["benches"]),
        ("gateway", "[features]\nplants = [\"actors/plants\"]\n[dependencies]\nactors.workspace = true", vec![]),
    ] {
        assert_eq!(wrong(name, manifest), found, "{manifest}");
    }
}

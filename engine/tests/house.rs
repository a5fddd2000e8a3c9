//! The house: which crate may import which others of the house, and what a device's library must not bring along.
#![allow(clippy::disallowed_methods)] // the manifests are files

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each crate with its folder, and the crates it may import. ARCHITECTURE.md draws the same.
const HOUSE: [(&str, &str, &[&str]); 8] = [
    ("engine", "engine", &[]),
    ("tapgate-wire", "gateway/wire", &["engine"]),
    ("tapgate-client", "gateway/client", &["engine", "tapgate-wire"]),
    ("storage", "storage", &["engine"]),
    ("actors", "actors", &["engine", "tapgate-wire", "storage"]),
    ("gateway", "gateway", &["engine", "tapgate-wire", "tapgate-client", "storage", "actors"]),
    ("loadtest", "loadtest", &["engine", "tapgate-wire", "tapgate-client", "storage", "actors"]),
    ("benches", "benches", &["engine", "tapgate-wire", "tapgate-client", "storage", "actors", "gateway"]),
];

/// What a device maker must not get with the client: HTTP frameworks, databases, terminal UIs, actors.
const NOT_ON_A_DEVICE: [&str; 11] = [
    "axum",
    "hyper",
    "tower",
    "redb",
    "ratatui",
    "actix",
    "ractor",
    "clap",
    "utoipa",
    "metrics-exporter-prometheus",
    "rcgen",
];

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
    let mut found = Vec::new();
    walk(parse(manifest).as_table(), false, &mut found);
    found.retain(|name| HOUSE.iter().any(|(of_house, ..)| of_house == name));
    found
}

/// Whether what a crate is built with, its tests apart, has the doubles and suites of the storage in it.
fn is_built_with_doubles(manifest: &str) -> bool {
    let manifest = parse(manifest);
    let storage = manifest.get("dependencies").and_then(|table| table.get("storage"));
    let features = storage.and_then(|storage| storage.get("features")).and_then(|features| features.as_array());
    features.is_some_and(|features| features.iter().any(|feature| feature.as_str() == Some("testing")))
}

/// The arrows of one crate that the house does not have. It may name itself, to have a feature of its own on in its tests.
fn wrong(name: &str, manifest: &str) -> Vec<String> {
    let (.., allowed) = HOUSE.iter().find(|(of_house, ..)| *of_house == name).expect("a crate of the house");
    arrows(manifest).into_iter().filter(|to| to != name && !allowed.contains(&to.as_str())).collect()
}

fn parse(toml: &str) -> toml_edit::DocumentMut {
    toml.parse().expect("this is TOML")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

#[test]
fn each_crate_imports_only_what_the_house_allows() {
    let workspace = parse(&read("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().expect("members");
    let mut looked_at = Vec::new();
    for folder in members.iter().filter_map(|member| member.as_str()) {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let name = parse(&manifest)["package"]["name"].as_str().expect("a name").to_owned();
        assert!(HOUSE.iter().any(|(of_house, ..)| *of_house == name), "{name} is new and needs its place in the house");
        assert_eq!(wrong(&name, &manifest), [""; 0], "{name} imports what it must not");
        let simulates = name == "loadtest";
        assert!(simulates || !is_built_with_doubles(&manifest), "{name} is built with the storage's test doubles");
        looked_at.push((name, folder.to_owned()));
    }
    let mut house = HOUSE.map(|(name, folder, _)| (name.to_owned(), folder.to_owned()));
    house.sort_unstable();
    looked_at.sort_unstable();
    assert_eq!(looked_at, house);
}

#[test]
fn the_house_has_no_circle() {
    for (at, (name, _, allowed)) in HOUSE.iter().enumerate() {
        for to in *allowed {
            let before = HOUSE[..at].iter().any(|(of_house, ..)| of_house == to);
            assert!(before, "{name} may import {to}, which has to stand before it then");
        }
    }
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
        // Side by side: neither the journal nor the server's house is a device's business.
        ("tapgate-client", "[dependencies]\ntapgate-wire.workspace = true\nengine.workspace = true", vec![]),
        ("tapgate-client", "[dev-dependencies]\ngateway.workspace = true", vec!["gateway"]),
        ("tapgate-wire", "[dependencies]\nstorage.workspace = true", vec!["storage"]),
        ("storage", "[dependencies]\ntapgate-wire.workspace = true", vec!["tapgate-wire"]),
        ("actors", "[dependencies]\ntapgate-client.workspace = true", vec!["tapgate-client"]),
        ("loadtest", "[dependencies]\ngateway.workspace = true", vec!["gateway"]),
    ] {
        assert_eq!(wrong(name, manifest), found, "{manifest}");
    }
}

#[test]
fn doubles_in_what_is_built_are_found() {
    for (manifest, found) in [
        ("[dependencies]\nstorage = { workspace = true, features = [\"testing\"] }", true),
        ("[dependencies.storage]\nworkspace = true\nfeatures = [\"plants\", \"testing\"]", true),
        ("[dependencies]\nstorage.workspace = true", false),
        ("[dev-dependencies]\nstorage = { workspace = true, features = [\"testing\"] }", false),
    ] {
        assert_eq!(is_built_with_doubles(manifest), found, "{manifest}");
    }
}

/// Every package that `name` leads to in a lock file, itself included. A lock file does not tell what is built from what
/// only tests need: of the house's own crates the manifests say so.
fn all_under(
    name: &str,
    lock: &toml_edit::DocumentMut,
    own_tests: &BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<String> {
    let packages = lock["package"].as_array_of_tables().expect("packages");
    let mut found = BTreeSet::new();
    let mut next = vec![name.to_owned()];
    while let Some(name) = next.pop() {
        if !found.insert(name.clone()) {
            continue;
        }
        for package in packages.iter().filter(|package| package["name"].as_str() == Some(&name)) {
            let dependencies = package.get("dependencies").and_then(|list| list.as_array()).into_iter().flatten();
            // "name", or "name version" where there are several.
            let names = dependencies.filter_map(|one| one.as_str()?.split(' ').next());
            let only_tests = own_tests.get(&name);
            next.extend(names.filter(|to| only_tests.is_none_or(|tests| !tests.contains(*to))).map(str::to_owned));
        }
    }
    found
}

/// What each crate of the house needs for its tests alone.
fn own_tests() -> BTreeMap<String, BTreeSet<String>> {
    let names = |manifest: &toml_edit::DocumentMut, table: &str| -> BTreeSet<String> {
        let table = manifest.get(table).and_then(|table| table.as_table());
        table.into_iter().flat_map(|table| table.iter()).map(|(name, _)| name.to_owned()).collect()
    };
    let of = |(name, folder, _): &(&str, &str, &[&str])| {
        let manifest = parse(&read(&format!("{folder}/Cargo.toml")));
        let built = names(&manifest, "dependencies");
        ((*name).to_owned(), names(&manifest, "dev-dependencies").difference(&built).cloned().collect())
    };
    HOUSE.iter().map(of).collect()
}

#[test]
fn the_values_import_nothing_else_of_the_engine() {
    let mut folders = vec![root().join("engine/src/model")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the engine") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source file");
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                assert!(!line.replace("crate::model", "").contains("crate::"), "{}: {line}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "the values lie elsewhere");
}

#[test]
fn a_device_gets_no_server_with_its_library() {
    let (lock, own_tests) = (parse(&read("Cargo.lock")), own_tests());
    let client = all_under("tapgate-client", &lock, &own_tests);
    let brought: Vec<_> = NOT_ON_A_DEVICE.iter().filter(|name| client.contains(**name)).collect();
    assert_eq!(
        brought, [&""; 0],
        "tapgate-client brings these along; `cargo tree -p tapgate-client -i NAME` says through what"
    );
    assert!(client.contains("quinn") && client.contains("tapgate-wire"), "the lock file was understood: {client:?}");
    // The names are spelled as they are in the house, and are found where they are.
    let gateway = all_under("gateway", &lock, &own_tests);
    let missing: Vec<_> = NOT_ON_A_DEVICE.iter().filter(|name| !gateway.contains(**name)).collect();
    assert_eq!(missing, [&""; 0], "nobody uses these any more: watch for what has taken their place");
    // And the wire alone has no socket.
    let wire = all_under("tapgate-wire", &lock, &own_tests);
    let heavy: Vec<_> = ["quinn", "tokio", "rustls"].into_iter().filter(|name| wire.contains(*name)).collect();
    assert_eq!(heavy, [""; 0]);
}

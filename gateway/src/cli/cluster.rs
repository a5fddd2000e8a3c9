//! `tapgate cluster …`.

use std::path::Path;

use crate::cli::Cluster;
use crate::cluster::certificates;

/// Does it, and says what to do next.
///
/// # Errors
/// A sentence for whoever typed it.
pub fn run(command: Cluster) -> anyhow::Result<String> {
    match command {
        Cluster::Certificates { folder, nodes } => made(&folder, nodes),
    }
}

fn made(folder: &Path, nodes: u16) -> anyhow::Result<String> {
    let made = certificates::make(folder, nodes)?;
    let at = folder.display();
    let authority = match made.authority {
        true => format!("A new authority is in {at}: ca.pem and ca.key.\n"),
        false => format!("The authority in {at} has signed them.\n"),
    };
    let all: Vec<String> = made.nodes.iter().map(|node| node.0.to_string()).collect();
    let new = match all.as_slice() {
        [] => "Every node has its pair already.\n".to_owned(),
        all => format!("New pairs, node-N.pem and node-N.key, for node {}.\n", all.join(", ")),
    };
    Ok(format!(
        "{authority}{new}Copy ca.pem (`peer_ca`) and its own pair (`peer_certificate`, `peer_key`) to each node. Keep ca.key \
         elsewhere: whoever has it can make nodes.\n"
    ))
}

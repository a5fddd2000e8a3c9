//! The nodes of a cluster: processes of the one binary, each with a folder, ports and settings of its own.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::servers::Servers;
use crate::admin::{Admin, Doors};
use crate::server::{Program, Server};

/// What no node may say of itself.
const MUST_NOT_SAY: [&str; 2] = ["panicked at", "RUST_BACKTRACE"];

/// As whoever sets a cluster up does.
fn make_certificates(program: &Program, folder: &Path, nodes: usize) -> anyhow::Result<()> {
    let mut command = Command::new(program.path());
    command.args(["cluster", "certificates"]).arg(folder).args(["--nodes", &nodes.to_string()]);
    let made = command.output().context("the tapgate program")?;
    ensure!(made.status.success(), "`tapgate cluster certificates`: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// All of them.
pub(super) struct Nodes {
    pub(super) all: Vec<Server>,
}

impl Nodes {
    /// Folders, keys and settings.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(super) fn prepare(program: &Program, folder: &Path, servers: &Servers, count: usize) -> anyhow::Result<Self> {
        // What all nodes share: devices pin one key, and tickets are signed with one secret.
        let (certificate, key) = (folder.join("devices.pem"), folder.join("devices.key"));
        let made = rcgen::generate_simple_self_signed(vec!["tapgate".to_owned()])?;
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let shared = format!(
            "{}qr_secret = \"a secret of a load test, known to everybody\"\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n\
             http_requests_per_key_s = 0\n",
            servers.settings()
        );
        let mut all = Vec::new();
        let several = count > 1;
        let certificates = folder.join("peers");
        if several {
            make_certificates(program, &certificates, count)?;
        }
        for number in 1..=count {
            let own = folder.join(format!("node-{number}"));
            fs::create_dir(&own)?;
            let mut settings = shared.clone();
            if several {
                let peers = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
                let pem = |name: String| certificates.join(name);
                settings += &format!(
                    "node = {number}\npeers = \"{peers}\"\npeer_ca = {:?}\npeer_certificate = {:?}\npeer_key = {:?}\n",
                    pem("ca.pem".to_owned()),
                    pem(format!("node-{number}.pem")),
                    pem(format!("node-{number}.key"))
                );
            }
            all.push(Server::in_folder(program.clone(), own, &settings)?);
        }
        Ok(Self { all })
    }

    /// Starts all, and makes an operator's key that is good at each.
    ///
    /// # Errors
    /// One does not start.
    pub(super) fn start_all(&mut self) -> anyhow::Result<Admin> {
        // One after the other: the first makes the topic.
        for node in &mut self.all {
            node.start()?;
            node.wait_ready(&Admin::new(node.http(), String::new()))?;
        }
        let key = self.all.first().context("there is a node")?.admin()?;
        let http = self.all.iter().map(Server::http).collect();
        let quic = self.all.iter().map(Server::quic).collect();
        Ok(key.of_all(Doors { http, quic }))
    }

    /// Waits until this one serves.
    ///
    /// # Errors
    /// It takes too long, or ends.
    pub(super) fn wait_ready(&mut self, number: usize) -> anyhow::Result<Duration> {
        let node = &mut self.all[number];
        node.wait_ready(&Admin::new(node.http(), String::new()))
    }

    /// SIGTERM, one after the other. What they should not have said or done, in words.
    pub(super) fn stop_all(mut self) -> Vec<String> {
        let mut unlike = Vec::new();
        for (number, node) in (1..).zip(&mut self.all) {
            unlike.extend(node.stop().err().map(|why| format!("node {number}: {why:#}")));
            let said = node.said();
            let line = said.lines().find(|line| MUST_NOT_SAY.iter().any(|words| line.contains(words)));
            unlike.extend(line.map(|line| format!("node {number} said: {line}")));
        }
        unlike
    }
}

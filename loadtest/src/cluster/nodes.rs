//! The nodes of a cluster: processes of the one binary, each with a folder, ports and settings of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::apart::{Apart, Begins, Way};
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
    /// Where the others reach each.
    peers: Vec<SocketAddr>,
    /// The last one, if it has a network of its own.
    apart: Option<Apart>,
    /// So many of them, the last ones, are started later.
    pub(super) later: usize,
    /// Its ways to the brokers and to the other nodes.
    pub(super) to_kafka: Way,
    pub(super) to_peers: Way,
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
        let (mut all, mut peers) = (Vec::new(), Vec::new());
        let certificates = folder.join("peers");
        make_certificates(program, &certificates, count)?;
        for number in 1..=count {
            let own = folder.join(format!("node-{number}"));
            fs::create_dir(&own)?;
            let door = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            peers.push(door);
            let pem = |name: String| certificates.join(name);
            let settings = format!(
                "{shared}node = {number}\npeers = \"{door}\"\npeer_ca = {:?}\npeer_certificate = {:?}\npeer_key = {:?}\n",
                pem("ca.pem".to_owned()),
                pem(format!("node-{number}.pem")),
                pem(format!("node-{number}.key"))
            );
            all.push(Server::in_folder(program.clone(), own, &settings)?);
        }
        Ok(Self { all, peers, apart: None, later: 0, to_kafka: Way::default(), to_peers: Way::default() })
    }

    /// Puts the last node into a network of its own, before it is started.
    ///
    /// # Errors
    /// Only root may.
    pub(super) fn set_apart(&mut self, servers: &Servers) -> anyhow::Result<()> {
        let apart = Apart::make()?;
        let (node, never) = (self.all.last_mut().context("there is a node")?, Way::default());
        node.prefix(apart.prefix());
        for broker in &servers.kafka {
            apart.streams(broker.parse()?, Begins::Inside, &self.to_kafka)?;
        }
        if let Some((own, others)) = self.peers.split_last() {
            apart.datagrams(*own, Begins::Outside, &self.to_peers)?;
            others.iter().try_for_each(|door| apart.datagrams(*door, Begins::Inside, &self.to_peers))?;
        }
        apart.streams(node.http(), Begins::Outside, &never)?;
        apart.datagrams(node.quic(), Begins::Outside, &never)?;
        self.apart = Some(apart);
        Ok(())
    }

    /// Starts all, and makes an operator's key that is good at each.
    ///
    /// # Errors
    /// One does not start.
    pub(super) fn start_all(&mut self) -> anyhow::Result<Admin> {
        // One after the other: the first makes the topic.
        let now = self.all.len().saturating_sub(self.later);
        for node in &mut self.all[..now] {
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

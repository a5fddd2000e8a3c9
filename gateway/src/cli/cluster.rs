//! `tapgate cluster …`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use axum::http::StatusCode;

use crate::cli::{Cluster, DataFolder};
use crate::cluster::certificates;
use crate::server::control::{self, Control};
use crate::server::placing::{ClusterStatus, STATUS};
use crate::server::{secret, tls};

/// Does it, and says what to do next.
///
/// # Errors
/// A sentence for whoever typed it.
pub fn run(command: Cluster) -> anyhow::Result<String> {
    match command {
        Cluster::Certificates { folder, nodes } => made(&folder, nodes),
        Cluster::Status { json, data } => asking(async {
            let status = status(&running(data).await?).await?;
            Ok(if json { serde_json::to_string(&status)? + "\n" } else { in_words(&status) })
        }),
        Cluster::Drain { node, data } => asking(drain(node, data)),
        Cluster::Undrain { node, data } => asking(async {
            tell(&running(data).await?, &format!("/cluster/undrain/{node}")).await?;
            Ok(format!("Node {node} takes its share again.\n"))
        }),
    }
}

/// How long a node that is drained is waited for. It goes on after that.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);

async fn drain(node: u32, data: DataFolder) -> anyhow::Result<String> {
    let control = running(data).await?;
    tell(&control, &format!("/cluster/drain/{node}")).await?;
    let began = Instant::now();
    loop {
        let left = status(&control).await?.shards.iter().filter(|shard| shard.here == "serving").count();
        if left == 0 {
            return Ok(format!("Node {node} has handed over all its shards, and forwards what it is asked.\n"));
        }
        if began.elapsed() > DRAIN_WITHIN {
            bail!(
                "{left} shards are still on node {node}; they leave as soon as another node takes them over: see `tapgate cluster status`"
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asks the server that runs here.
fn asking(asked: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(asked)
}

async fn running(data: DataFolder) -> anyhow::Result<Control> {
    let folder = data.settings()?.data;
    let socket = control::path(&folder);
    Control::of_running(&folder).await.with_context(|| format!("no server answers at {}", socket.display()))
}

async fn status(control: &Control) -> anyhow::Result<ClusterStatus> {
    let (status, body) =
        control.ask("GET", STATUS, "cluster", String::new()).await.context("the server does not answer")?;
    match status {
        StatusCode::OK => Ok(serde_json::from_slice(&body)?),
        StatusCode::NOT_FOUND => bail!("this server is alone: it has no `node` in its settings"),
        status => bail!("the server answered {status}"),
    }
}

async fn tell(control: &Control, path: &str) -> anyhow::Result<()> {
    let (status, body) =
        control.ask("POST", path, "cluster", String::new()).await.context("the server does not answer")?;
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::NOT_FOUND => bail!("this server is alone: it has no `node` in its settings"),
        StatusCode::CONFLICT => bail!("{}", String::from_utf8_lossy(&body)),
        status => bail!("the server answered {status}"),
    }
}

fn in_words(status: &ClusterStatus) -> String {
    let mut text =
        format!("as node {} sees it{}\n", status.node, if status.takes_part { "" } else { ", which is drained" });
    match &status.group {
        Some(group) => {
            let nodes: Vec<String> = group.nodes.iter().map(u32::to_string).collect();
            text += &format!("group     {}: nodes {}\n", group.state, nodes.join(", "));
        }
        None => text += "group     its coordinator does not answer\n",
    }
    text += "shard  node  epoch         end  here\n";
    for shard in &status.shards {
        let owner = shard.owner.map_or("-".to_owned(), |owner| owner.to_string());
        let fault = shard.fault.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
        let wanted = if shard.assigned && shard.here != "serving" { ", and should be" } else { "" };
        let (number, epoch, end, here) = (shard.shard, shard.epoch, shard.end, &shard.here);
        text += &format!("{number:>5}  {owner:>4}  {epoch:>5}  {end:>10}  {here}{wanted}{fault}\n");
    }
    text
}

fn made(folder: &Path, nodes: u16) -> anyhow::Result<String> {
    let made = certificates::make(folder, nodes)?;
    // What all nodes have in common besides. Nobody uses either before it is copied, so no lock is needed.
    let devices = folder.join("devices.pem");
    if !devices.try_exists()? {
        tls::make(&devices).with_context(|| devices.display().to_string())?;
    }
    let secret = folder.join("qr.secret");
    secret::kept(&secret).with_context(|| secret.display().to_string())?;
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
        "{authority}{new}Copy ca.pem (`peer_ca`) and its own pair (`peer_certificate`, `peer_key`) to each node, and to all of \
         them devices.pem (`tls_certificate` and `tls_key` in one) and qr.secret (`qr_secret_file`). Back these two up: without \
         them devices have to be enrolled anew, and tickets printed anew. Keep ca.key elsewhere: whoever has it can make nodes.\n"
    ))
}

//! `tapgate key …`: asks the running server through its control socket, or opens the data folder itself when none runs.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use axum::http::StatusCode;
use engine::model::status::Role;
use serde::Deserialize;
use serde_json::json;

use crate::cli::{DataFolder, Key};
use crate::server::control::Control;
use crate::server::data_folder::FolderError;
use crate::server::{control, data_folder, run};

/// What a command has to say.
#[derive(Debug, Default)]
pub struct Said {
    /// What was asked for, for standard output: scripts read it.
    pub answer: String,
    /// A word to the person, for standard error.
    pub note: String,
}

/// Does it.
///
/// # Errors
/// A sentence for whoever typed it.
pub async fn run(command: Key) -> anyhow::Result<Said> {
    match command {
        Key::Create { role, festivals, name, data } => {
            if festivals.is_empty() && role != Role::Admin {
                bail!("a festival is needed: --festival SLUG (only an ADMIN key can be valid at all of them)");
            }
            let folder = data.clone().settings()?.data;
            let is_new = !data_folder::has_journal(&folder);
            let body = json!({ "name": name, "role": role.word(), "festivals": festivals });
            let made: Made = ask(data, "POST", "/api/v1/keys", body.to_string()).await?;
            let mut note = String::new();
            if is_new {
                let _ = writeln!(note, "There was no data folder at {}: a new one was made.", folder.display());
            }
            let _ = writeln!(note, "This is key {}. It is shown only once: keep it with your other secrets.", made.no);
            Ok(Said { answer: format!("{}\n", made.key), note })
        }
        Key::List { data } => {
            let keys: Listed = ask(data, "GET", "/api/v1/keys", String::new()).await?;
            Ok(Said { answer: table(&keys.items), ..Said::default() })
        }
        Key::Revoke { number, data } => {
            let _: Nothing = ask(data, "DELETE", &format!("/api/v1/keys/{number}"), String::new()).await?;
            Ok(Said { note: format!("Key {number} is revoked: it is refused from now on.\n"), ..Said::default() })
        }
    }
}

#[derive(Deserialize)]
struct Made {
    no: u32,
    key: String,
}

#[derive(Deserialize)]
struct Listed {
    items: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    no: u32,
    name: String,
    role: String,
    festivals: Vec<String>,
    created_at: String,
    revoked: bool,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct No {
    detail: String,
    code: String,
}

async fn ask<A: for<'de> Deserialize<'de>>(
    data: DataFolder,
    method: &str,
    path: &str,
    body: String,
) -> anyhow::Result<A> {
    let config = data.settings()?;
    let folder = config.data.clone();
    let (control, node) = match Control::of_running(&folder).await {
        Some(running) => (running, None),
        // To be asked is no reason to make one: a slip of the pen would leave a journal and a secret where nobody looks.
        None if method != "POST" && !data_folder::has_journal(&folder) => {
            return Err(FolderError::Missing { path: folder }.into());
        }
        None if config.cluster.as_ref().is_some_and(|cluster| cluster.node.is_some()) => {
            bail!(
                "no server answers at {}; a node has its shards while it runs only: start it first",
                control::path(&folder).display()
            )
        }
        None => {
            let opened = tokio::task::spawn_blocking(move || run::open(&config)).await?;
            let opened = opened.with_context(|| {
                format!(
                    "no server answers at {}, and the data folder cannot be opened",
                    control::path(&folder).display()
                )
            })?;
            (Control::Offline(control::app(opened.state()?)), Some(opened.node))
        }
    };
    // One attempt, one id: a fresh one for each call.
    let once = uuid::Uuid::from_bytes(crate::server::secret::random()?[..16].try_into()?).to_string();
    let answered = control.ask(method, path, &once, body).await;
    if let Some(node) = node {
        node.stop().await;
    }
    let (status, body) = answered.context("the server does not answer")?;
    match status {
        StatusCode::NO_CONTENT => Ok(serde_json::from_str("{}")?),
        status if status.is_success() => Ok(serde_json::from_slice(&body)?),
        status => match serde_json::from_slice::<No>(&body) {
            Ok(No { detail, code }) => bail!("{detail} ({code})"),
            Err(_) => bail!("the server answered {status}"),
        },
    }
}

fn table(keys: &[Row]) -> String {
    if keys.is_empty() {
        return "There are no keys yet. To create one: tapgate key create --role ADMIN\n".into();
    }
    let mut text = format!("{:>4}  {:9}  {:7}  {:20}  {:24}  name\n", "no", "role", "", "made", "festivals");
    for key in keys {
        let festivals = if key.festivals.is_empty() { "all".into() } else { key.festivals.join(",") };
        let state = if key.revoked { "revoked" } else { "" };
        let made = key.created_at.get(..19).unwrap_or(&key.created_at);
        let _ = writeln!(text, "{:>4}  {:9}  {state:7}  {made:20}  {festivals:24}  {}", key.no, key.role, key.name);
    }
    text
}

//! `tapgate ready`: asks a running server whether it takes commands, for whoever has no HTTP client at hand: a container's
//! health check, or a script that waits for the start.

use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use clap::Args;
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::top::TopArgs;

/// The answer needs nothing but memory: a server that takes longer than this is in no state to serve.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The longest answer that is read: a sentence and its envelope are below 1 KiB.
const ANSWER_MAX: usize = 16 << 10;

/// `tapgate ready`
#[derive(Debug, Args)]
pub struct Ready {
    /// The server's HTTP address.
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub at: String,
}

/// Asks `/readyz`. What comes back is printed.
///
/// # Errors
/// The server cannot be reached, does not answer in time, or is not ready.
pub async fn run(args: Ready) -> anyhow::Result<String> {
    let server = TopArgs::of(&args.at)?.authority;
    let answer = timeout(ANSWER_WITHIN, ask(&server)).await;
    let answer = answer.with_context(|| format!("the server at {server} does not answer"))?;
    let (status, body) = answer.with_context(|| format!("cannot reach the server at {server}"))?;
    read(status, &body)
}

async fn ask(server: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, server).body(Body::empty())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok((head.status, body.to_bytes()))
}

/// A server that is degraded takes commands all the same, and restarting it would not help.
fn read(status: StatusCode, body: &[u8]) -> anyhow::Result<String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match (status, body["status"].as_str(), body["reason"].as_str(), body["detail"].as_str()) {
        (StatusCode::OK, Some(word), None, _) => Ok(format!("{word}\n")),
        (StatusCode::OK, Some(word), Some(reason), _) => Ok(format!("{word}: {reason}\n")),
        (StatusCode::SERVICE_UNAVAILABLE, _, _, Some(detail)) => bail!("the server is not ready: {detail}"),
        (StatusCode::SERVICE_UNAVAILABLE, ..) => bail!("the server is not ready"),
        _ => bail!("the answer ({status}) is not that of a Tapgate server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_line_or_a_reason() {
        for (status, body, expected) in [
            (200, r#"{"status": "ok"}"#, Ok("ok\n")),
            (
                200,
                r#"{"status": "degraded", "reason": "the clock has jumped"}"#,
                Ok("degraded: the clock has jumped\n"),
            ),
            (503, r#"{"status": 503, "detail": "shard 3 is down"}"#, Err("the server is not ready: shard 3 is down")),
            (503, r#"{"status": 503}"#, Err("the server is not ready")),
            (503, "a proxy's page", Err("the server is not ready")),
            (200, "<html>", Err("the answer (200 OK) is not that of a Tapgate server")),
            (404, r#"{"status": 404}"#, Err("the answer (404 Not Found) is not that of a Tapgate server")),
        ] {
            let read = read(StatusCode::from_u16(status).unwrap(), body.as_bytes()).map_err(|why| why.to_string());
            assert_eq!(read.as_deref().map_err(String::as_str), expected, "{body}");
        }
    }
}

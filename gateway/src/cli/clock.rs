//! `tapgate clock …`: how a running server's clock stands to the system's.

use anyhow::{Context as _, bail};
use axum::http::StatusCode;

use crate::cli::Clock;
use crate::server::control;
use crate::server::control::{CLOCK_ACCEPT, ClockAccepted, Control};

/// Does it, and says what it came to.
///
/// # Errors
/// A sentence for whoever typed it.
pub async fn run(command: Clock) -> anyhow::Result<String> {
    let Clock::Accept { data } = command;
    let folder = data.settings()?.data;
    let Some(running) = Control::of_running(&folder).await else {
        bail!(
            "no server answers at {}; a server takes the system's time when it starts, so there is nothing to accept",
            control::path(&folder).display()
        )
    };
    let (status, body) =
        running.ask("POST", CLOCK_ACCEPT, "clock", String::new()).await.context("the server does not answer")?;
    if status != StatusCode::OK {
        bail!("the server answered {status}");
    }
    let ClockAccepted { moved_ms, now, journal_ahead_ms } = serde_json::from_slice(&body)?;
    let now = serde_json::to_value(now)?;
    let now = now.as_str().unwrap_or_default();
    let moved = match moved_ms {
        0 => "The server's clock already is the system's".to_owned(),
        ms => format!("The server's clock moved {} by {:.3} s", if ms > 0 { "forward" } else { "back" }, seconds(ms)),
    };
    let ahead = match journal_ahead_ms {
        0..1_000 => String::new(),
        ms => format!(
            " The journal is {:.0} s ahead of it: recorded time stands still until the clock has caught up.",
            seconds(ms)
        ),
    };
    Ok(format!("{moved}: {now}.{ahead}\n"))
}

fn seconds(ms: i64) -> f64 {
    ms.unsigned_abs() as f64 / 1_000.0
}

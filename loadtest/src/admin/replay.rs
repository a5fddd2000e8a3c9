//! Calls that are made again under the same key until they are answered, whatever happens to the server meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::Admin;

/// How long one try may take: longer than the server lets an operation wait.
const TRY_WITHIN: Duration = Duration::from_secs(40);
/// The same where another node can be asked: longer than it takes until a shard has another owner.
const TRY_ONE_OF_MANY_WITHIN: Duration = Duration::from_secs(8);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the server may be away, or have no time, altogether.
const AWAY_MAX: Duration = Duration::from_secs(90);

/// A change with the key under which it has an effect once.
#[derive(Clone, Debug)]
pub struct Attempt {
    key: String,
    path: String,
    body: String,
}

/// A final answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// 2xx, or a refusal.
    pub status: u16,
    /// The body; null if there is none.
    pub body: Value,
}

impl Said {
    /// The stable code of a refusal; `None` for a yes.
    pub fn refusal(&self) -> Option<&str> {
        (self.status >= 300).then(|| self.body["code"].as_str().unwrap_or("?"))
    }
}

/// An answer with what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The answer.
    pub said: Said,
    /// Tries without a final answer before it.
    pub tries: u64,
}

impl Admin {
    /// A change under a key of its own.
    pub fn attempt(&self, path: &str, body: &Value) -> Attempt {
        Attempt { key: self.fresh_key(), path: format!("/api/v1{path}"), body: body.to_string() }
    }

    /// Makes it again and again until there is a final answer: nobody there, a broken connection, a server that has no
    /// time or is still at it are none.
    ///
    /// # Errors
    /// The server was away too long, or answers what cannot be read.
    pub fn insist(&self, attempt: &Attempt) -> anyhow::Result<Answered> {
        let began = Instant::now();
        let mut tries = 0;
        let within = if self.doors.http.len() > 1 { TRY_ONE_OF_MANY_WITHIN } else { TRY_WITHIN };
        loop {
            let media = Some("application/json");
            match self.once_as(&attempt.key, "POST", &attempt.path, media, &attempt.body, within) {
                Ok(answer) if !matches!(answer.status, 429 | 503 | 504) => {
                    let body = if answer.body.is_empty() {
                        Value::Null
                    } else {
                        serde_json::from_slice(&answer.body).context("an answer that is no JSON")?
                    };
                    return Ok(Answered { said: Said { status: answer.status, body }, tries });
                }
                Ok(answer) => {
                    let (path, status) = (&attempt.path, answer.status);
                    ensure!(began.elapsed() < AWAY_MAX, "POST {path}: still {status} after {tries} tries");
                }
                Err(error) if began.elapsed() >= AWAY_MAX => {
                    return Err(error.context(format!("POST {}: no answer after {tries} tries", attempt.path)));
                }
                Err(_) => {}
            }
            tries += 1;
            self.next_door();
            std::thread::sleep(PAUSE);
        }
    }
}

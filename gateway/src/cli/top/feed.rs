//! What a running server says: its festivals, and one festival's live stream, followed for as long as somebody watches.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::live::Festival;
use crate::live::snapshot::{Point, Snapshot};

/// The server sends something every three seconds at least: after this long without a byte it is taken for gone.
const SILENCE: Duration = Duration::from_secs(8);
/// The first wait before coming again; doubled up to the longest.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(10);
/// The longest event: a history with 1,024 gates and 1,024 vendors is 3 MiB.
const EVENT_MAX: usize = 16 << 20;
/// The longest answer that is no stream: a thousand festivals of 300 B, or a problem.
const ANSWER_MAX: usize = 1 << 20;

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It cannot be reached, or has gone.
    #[error("cannot reach the server: {0}")]
    Gone(String),
    /// It has said no, and will say so again.
    #[error("{0}")]
    No(String),
    /// It says something that is not understood here.
    #[error("the server speaks another version: {0}")]
    Odd(String),
}

/// What comes of a stream.
#[derive(Debug)]
pub enum News {
    /// It begins: the festival, its last minutes, the present picture.
    History(Box<History>),
    /// A second has ended.
    Second(Box<Second>),
    /// The stream was lost, and why; it is tried again.
    Lost(String),
    /// The server has said no. Nothing more comes.
    No(String),
}

/// The first event, as [`crate::live::History`] is written.
#[derive(Debug, Deserialize)]
pub struct History {
    /// Which festival.
    pub festival: Festival<'static>,
    /// Its last seconds, oldest first.
    pub points: Vec<Point>,
    /// How it stands.
    pub now: Snapshot,
}

/// Each following one, as [`crate::live::Second`] is written.
#[derive(Debug, Deserialize)]
pub struct Second {
    /// What it has brought.
    pub point: Point,
    /// How it stands.
    pub now: Snapshot,
}

/// A server, with the key that is shown to it.
pub struct Server {
    authority: String,
    bearer: header::HeaderValue,
}

#[derive(Deserialize)]
struct Festivals {
    items: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    slug: String,
    status: String,
}

impl Server {
    /// At `host:port`.
    ///
    /// # Errors
    /// The key has characters that no key has.
    pub fn new(authority: &str, key: &str) -> Result<Self, FeedError> {
        let bearer = header::HeaderValue::try_from(format!("Bearer {key}"));
        let bearer = bearer.map_err(|_| FeedError::No("this cannot be a key".into()))?;
        Ok(Self { authority: authority.to_owned(), bearer })
    }

    /// The festivals that the key sees, those that are open first.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn festivals(&self) -> Result<Vec<String>, FeedError> {
        let answer = timeout(SILENCE, async { whole(self.get("/api/v1/festivals", "application/json").await?).await });
        let body = answer.await.map_err(|_| silent())??;
        let mut festivals: Festivals = read(&body)?;
        festivals.items.sort_by_key(|festival| festival.status != "ONGOING");
        Ok(festivals.items.into_iter().map(|festival| festival.slug).collect())
    }

    async fn get(&self, path: &str, accept: &'static str) -> Result<Response<Incoming>, FeedError> {
        let gone = |why: &dyn std::fmt::Display| FeedError::Gone(format!("{}: {why}", self.authority));
        let stream = TcpStream::connect(&self.authority).await.map_err(|why| gone(&why))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|why| gone(&why))?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, &self.bearer)
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .map_err(|why| FeedError::No(why.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|why| gone(&why))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(FeedError::No("this key is not known, or it has been revoked".into())),
            StatusCode::FORBIDDEN => Err(FeedError::No("this key may not see this".into())),
            StatusCode::NOT_FOUND => Err(FeedError::No("this key sees no such festival".into())),
            status => {
                #[derive(Deserialize)]
                struct Said {
                    detail: Option<String>,
                }
                let said = whole(answer).await.ok().and_then(|body| read::<Said>(&body).ok()?.detail);
                Err(FeedError::Gone(said.unwrap_or_else(|| status.to_string())))
            }
        }
    }

    /// One stream until it ends.
    async fn stream(&self, slug: &str, news: &mpsc::Sender<News>) -> Result<(), FeedError> {
        let path = format!("/api/v1/festivals/{}/live/stream", percent(slug));
        let answer = timeout(SILENCE, self.get(&path, "text/event-stream")).await.map_err(|_| silent())??;
        let (mut body, mut events) = (answer.into_body(), Events::default());
        loop {
            let frame = timeout(SILENCE, body.frame()).await.map_err(|_| silent())?;
            let Some(frame) = frame else { return Ok(()) };
            let Ok(bytes) = frame.map_err(|why| FeedError::Gone(why.to_string()))?.into_data() else { continue };
            events.add(&bytes)?;
            while let Some((name, data)) = events.next_event() {
                let one = match &*name {
                    "history" => News::History(Box::new(read(&data)?)),
                    "second" => News::Second(Box::new(read(&data)?)),
                    _ => continue, // something that is newer than this program
                };
                if news.send(one).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn silent() -> FeedError {
    FeedError::Gone("it says nothing any more".into())
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, FeedError> {
    serde_json::from_slice(json).map_err(|why| FeedError::Odd(why.to_string()))
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes, FeedError> {
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    body.map(|body| body.to_bytes()).map_err(|why| FeedError::Gone(why.to_string()))
}

/// A slug in a path. One that is none is not found there, and nothing worse.
fn percent(slug: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    slug.bytes().map(byte).collect()
}

/// Follows a festival's stream, and comes again whenever it is lost, until nobody listens or the server says no.
pub async fn follow(server: Arc<Server>, slug: String, news: mpsc::Sender<News>) {
    let mut wait = AGAIN_AFTER;
    loop {
        let began = tokio::time::Instant::now();
        let why = match server.stream(&slug, &news).await {
            Ok(()) => "the server has ended the stream".to_owned(),
            Err(why @ (FeedError::No(_) | FeedError::Odd(_))) => {
                return drop(news.send(News::No(why.to_string())).await);
            }
            Err(why) => why.to_string(),
        };
        if news.send(News::Lost(why)).await.is_err() {
            return;
        }
        if began.elapsed() > SILENCE {
            wait = AGAIN_AFTER; // it had been there for a while
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_AFTER_MAX);
    }
}

/// Server-sent events out of bytes, wherever those were cut.
#[derive(Default)]
struct Events {
    bytes: Vec<u8>,
    /// How far no end of a line was found.
    looked: usize,
    name: String,
    data: Vec<u8>,
}

impl Events {
    fn add(&mut self, more: &[u8]) -> Result<(), FeedError> {
        if self.bytes.len() + self.data.len() + more.len() > EVENT_MAX {
            return Err(FeedError::Odd("an event without an end".into()));
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn next_event(&mut self) -> Option<(String, Vec<u8>)> {
        loop {
            let Some(end) = self.bytes[self.looked..].iter().position(|&byte| byte == b'\n') else {
                self.looked = self.bytes.len();
                return None;
            };
            let line: Vec<u8> = self.bytes.drain(..self.looked + end + 1).collect();
            self.looked = 0;
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                if !data.is_empty() {
                    return Some((name, data));
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            } else if let Some(name) = line.strip_prefix(b"event:") {
                self.name = String::from_utf8_lossy(name).trim().to_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_wherever_they_were_cut() {
        let sent = b": still here\n\nevent: history\ndata: {\"a\":1}\n\nevent: second\r\ndata:{}\r\n\r\n";
        for cut in 1..sent.len() {
            let mut events = Events::default();
            let mut got = Vec::new();
            for part in sent.chunks(cut) {
                events.add(part).unwrap();
                while let Some((name, data)) = events.next_event() {
                    got.push(format!("{name} {}", String::from_utf8(data).unwrap()));
                }
            }
            assert_eq!(got, ["history {\"a\":1}", "second {}"], "in pieces of {cut}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        let given_up = (0..=16).find_map(|_| events.add(&piece).err());
        assert!(matches!(given_up, Some(FeedError::Odd(_))));
    }

    #[test]
    fn a_slug_that_is_none_stays_one_part_of_the_path() {
        for (slug, path) in [("demo-1", "demo-1"), ("a/../b", "a%2F%2E%2E%2Fb"), ("é", "%C3%A9")] {
            assert_eq!(percent(slug), path);
        }
    }
}

//! What a running server says: its festivals, and one festival's live stream, followed for as long as somebody watches.

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode, header};
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use sse_stream::{Sse, SseByteStream};
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
    Unexpected(String),
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
    items: Vec<FestivalEntry>,
}

#[derive(Deserialize)]
struct FestivalEntry {
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
        let gone = |why: &dyn Display| FeedError::Gone(format!("{}: {why}", self.authority));
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
                struct Problem {
                    detail: Option<String>,
                }
                let detail = whole(answer).await.ok().and_then(|body| read::<Problem>(&body).ok()?.detail);
                Err(FeedError::Gone(detail.unwrap_or_else(|| status.to_string())))
            }
        }
    }

    /// One stream until it ends.
    async fn stream(&self, slug: &str, news: &mpsc::Sender<News>) -> Result<(), FeedError> {
        let path = format!("/api/v1/festivals/{}/live/stream", percent(slug));
        let answer = timeout(SILENCE, self.get(&path, "text/event-stream")).await.map_err(|_| silent())??;
        let mut events = pin!(events(answer.into_body()));
        while let Some(event) = events.next().await.transpose()? {
            let (name, data) = (event.event.unwrap_or_default(), event.data.unwrap_or_default());
            let one = match &*name {
                "history" => News::History(Box::new(read(data.as_bytes())?)),
                "second" => News::Second(Box::new(read(data.as_bytes())?)),
                _ => continue, // something that is newer than this program
            };
            if news.send(one).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn silent() -> FeedError {
    FeedError::Gone("it says nothing any more".into())
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, FeedError> {
    serde_json::from_slice(json).map_err(|why| FeedError::Unexpected(why.to_string()))
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
            Err(why @ (FeedError::No(_) | FeedError::Unexpected(_))) => {
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

/// A body's events. Whoever sends one without an end is given up after [`EVENT_MAX`], whoever sends nothing after
/// [`SILENCE`].
fn events<B>(body: B) -> impl Stream<Item = Result<Sse, FeedError>>
where
    B: hyper::body::Body<Data = Bytes, Error: Display> + Unpin,
{
    let since_an_event = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&since_an_event);
    let pieces = stream::try_unfold((body, counted), |(mut body, counted)| async {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| silent())?;
        let Some(frame) = frame.transpose().map_err(|why| FeedError::Gone(why.to_string()))? else { return Ok(None) };
        let piece = frame.into_data().unwrap_or_default();
        if counted.fetch_add(piece.len(), Ordering::Relaxed) + piece.len() > EVENT_MAX {
            return Err(FeedError::Unexpected("an event without an end".into()));
        }
        Ok(Some((piece, (body, counted))))
    });
    SseByteStream::new(pieces).map(move |event| {
        since_an_event.store(0, Ordering::Relaxed);
        event.map_err(|why| match why {
            sse_stream::Error::Body(why) => {
                why.downcast::<FeedError>().map_or_else(|why| FeedError::Gone(why.to_string()), |why| *why)
            }
            why => FeedError::Unexpected(why.to_string()),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::TryStreamExt as _;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// What comes of a body in these pieces.
    async fn got(pieces: impl IntoIterator<Item = Bytes>) -> Result<Vec<String>, FeedError> {
        let frames = stream::iter(pieces).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let line = |event: Sse| format!("{} {}", event.event.unwrap_or_default(), event.data.unwrap_or_default());
        pin!(events(StreamBody::new(frames))).map_ok(line).try_collect().await
    }

    #[tokio::test]
    async fn events_come_out_whole_wherever_they_were_cut() {
        let sent = b": still here\n\nevent: history\ndata: {\"a\":1}\n\nevent: second\r\ndata:{}\r\n\r\n";
        for cut in 1..=sent.len() {
            let got = got(sent.chunks(cut).map(Bytes::from_static)).await.unwrap();
            assert_eq!(got, ["history {\"a\":1}", "second {}"], "in pieces of {cut}");
        }
    }

    #[tokio::test]
    async fn an_event_without_an_end_is_given_up_and_many_events_are_not() {
        for line in ["x", "data: x", "event: x"] {
            let without_end = || {
                [Bytes::from_static(line.as_bytes())].into_iter().chain((0..).map(|_| Bytes::from(vec![b'x'; 1 << 20])))
            };
            assert!(matches!(got(without_end()).await, Err(FeedError::Unexpected(_))), "{line}");
        }
        let event = Bytes::from([b"data: ".as_slice(), &[b'x'; 1 << 20], b"\n\n"].concat());
        assert_eq!(got((0..20).map(|_| event.clone())).await.unwrap().len(), 20, "20 MiB in events that end");
    }

    #[test]
    fn a_slug_that_is_none_stays_one_part_of_the_path() {
        for (slug, path) in [("demo-1", "demo-1"), ("a/../b", "a%2F%2E%2E%2Fb"), ("é", "%C3%A9")] {
            assert_eq!(percent(slug), path);
        }
    }
}

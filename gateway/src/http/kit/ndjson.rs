//! Bodies of many lines: taken apart as they arrive, however they are cut into pieces.

use std::io;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use engine::command::IdempotencyKey;
use engine::model::ids::FestivalId;
use engine::model::rejection::Rejection;
use http_body_util::BodyExt;
use serde::Serialize;
use sha2::Sha256;
use utoipa::ToSchema;

use crate::auth::Operator;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::{call_hash, idempotency_key, key_header, media_type_is};
use crate::http::kit::shares::{CallPermit, CallPermits, Holder, Most};
use crate::http::state::AppState;

/// The most lines in one call.
pub const LINES_MAX: u32 = 100_000;
/// The longest line, in bytes; one with everything in it has about 90.
pub const LINE_LEN_MAX: usize = 512;
/// The longest body: as many lines as can be, each as long as can be, and its end. 51 MB.
const BODY_LEN_MAX: u64 = LINES_MAX as u64 * (LINE_LEN_MAX as u64 + 2);
/// How many calls a node carries at a time, unless told. What a call keeps until it is answered is 100,000 × 48 B of ids,
/// as many times 64 B where all are refused, and 1,000 × 200 B of explanations: 92 MB for eight. Of these a key may have
/// two, and an organiser half.
pub const CALLS_MAX: usize = 8;
/// How long a call waits for its turn, and for more of its body.
const WAIT: Duration = Duration::from_secs(10);
/// How long a whole call may take to arrive and be decided: 100,000 lines of 90 B at 15 KB/s. Its answer has as long.
pub const CALL_TIME: Duration = Duration::from_secs(600);
/// What has to arrive for each second that a call waits for more of its body, in bytes, beyond [`WAIT`]: whoever trickles
/// holds a turn that others wait for.
const BYTES_PER_S_MIN: u32 = 8 * 1_024;
/// Lines of an answer that are made at a time: 128 × 330 B = 42 KB.
pub const ANSWER_LINES: usize = 128;

/// Beyond so many bad lines, a line says its code only.
const EXPLAINED_MAX: usize = 1_000;

/// Media types by which such a body is known.
const MEDIA_TYPES: &[&str] = &["application/x-ndjson", "application/ndjson", "application/jsonl"];

/// Why a line was not carried out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LineError {
    /// The stable code, as in a problem.
    pub code: &'static str,
    /// What it was this time.
    pub detail: std::borrow::Cow<'static, str>,
    /// Which field of the line, if one is to blame.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schema(example = "/holder")]
    pub pointer: String,
}

impl From<Rejection> for LineError {
    fn from(rejection: Rejection) -> Self {
        Self { code: rejection.code(), detail: rejection.sentence().into(), pointer: String::new() }
    }
}

/// A bulk call's attempt: its key, and a hash of method and path behind which its lines go.
///
/// # Errors
/// `idempotency_key_missing` and what else is wrong with the header, `unsupported_media_type`.
pub fn attempt(operator: &Operator, parts: &Parts) -> Result<(IdempotencyKey, Sha256), Problem> {
    let header = key_header(&parts.headers)?.ok_or(Fault::IdempotencyKeyMissing)?;
    if !media_type_is(&parts.headers, MEDIA_TYPES) {
        return Err(Problem::from(Fault::UnsupportedMediaType).detail("Send application/x-ndjson."));
    }
    let request = call_hash(parts);
    Ok((idempotency_key(operator, header, &request), request))
}

/// The turns of a node that carries so many calls at a time.
pub fn permits(calls_max: usize) -> CallPermits {
    CallPermits::new(Most { all: calls_max, per_key: 2, per_organiser: calls_max.div_ceil(2) }, WAIT)
}

/// Waits for a call's turn. It is held until its answer has been made.
///
/// # Errors
/// `too_many_uploads`.
pub async fn turn(state: &AppState, operator: &Operator, festival: FestivalId) -> Result<CallPermit, Problem> {
    let turn = state.uploads.take(Holder { key: operator.no, organiser: festival }).await;
    turn.ok_or_else(|| Fault::TooManyUploads.into())
}

/// The error that ends an answer which nobody has taken within [`CALL_TIME`].
///
/// # Errors
/// Always, once that time is over.
pub fn in_time(began: Instant) -> Result<(), io::Error> {
    if began.elapsed() < CALL_TIME { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// The lines of a body on its way.
pub struct Lines<'a> {
    body: &'a mut Body,
    wait: Duration,
    bytes_per_s_min: u32,
    /// How long more of the body was waited for, in all.
    waited: Duration,
    /// Has arrived, and is not taken apart yet.
    piece: Bytes,
    /// The line that is arriving, at most [`LINE_LEN_MAX`] + 1 bytes of it.
    partial: Vec<u8>,
    line: u32,
    taken: u64,
    explained: usize,
}

impl<'a> Lines<'a> {
    /// Of this body.
    pub fn new(body: &'a mut Body) -> Self {
        Self {
            body,
            wait: WAIT,
            bytes_per_s_min: BYTES_PER_S_MIN,
            waited: Duration::ZERO,
            piece: Bytes::new(),
            partial: Vec::new(),
            line: 0,
            taken: 0,
            explained: 0,
        }
    }

    /// The next line that says something, without white space around it, and its number from 1; `None` at the end. Of a
    /// line that is too long there is one byte more than it may have.
    ///
    /// # Errors
    /// `body_too_large`, `body_timeout`.
    pub async fn next(&mut self) -> Result<Option<(u32, Vec<u8>)>, Problem> {
        loop {
            if self.piece.is_empty() {
                let Some(data) = self.arrives().await? else {
                    let last = core::mem::take(&mut self.partial);
                    return Ok(self.whole(last));
                };
                self.taken += data.len() as u64;
                if self.taken > BODY_LEN_MAX {
                    return Err(Problem::from(Fault::BodyTooLarge).detail(format!("At most {BODY_LEN_MAX} bytes.")));
                }
                self.piece = data;
            }
            let end = self.piece.iter().position(|&byte| byte == b'\n');
            let text = self.piece.split_to(end.unwrap_or(self.piece.len()));
            // One byte more than a line may have is enough to know that it is too long.
            let room = (LINE_LEN_MAX + 1).saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if end.is_some() {
                let _line_end = self.piece.split_to(1);
                let line = core::mem::take(&mut self.partial);
                if let Some(line) = self.whole(line) {
                    return Ok(Some(line));
                }
            }
        }
    }

    /// The next piece of the body, if enough of it has come for the time that it took.
    async fn arrives(&mut self) -> Result<Option<Bytes>, Problem> {
        let earned = Duration::from_secs(self.taken) / self.bytes_per_s_min;
        let left = (self.wait + earned).saturating_sub(self.waited);
        let began = Instant::now();
        let data = next_data(self.body, left.min(self.wait)).await?;
        self.waited += began.elapsed();
        Ok(data)
    }

    fn whole(&mut self, line: Vec<u8>) -> Option<(u32, Vec<u8>)> {
        self.line += 1;
        let text = line.trim_ascii();
        (!text.is_empty()).then(|| (self.line, text.to_vec()))
    }

    /// What is wrong with a line, in a few words; after the first thousand, in one.
    pub fn explain(&mut self, problem: &Problem) -> LineError {
        self.explained += 1;
        if self.explained > EXPLAINED_MAX {
            return LineError { code: problem.code(), detail: "".into(), pointer: String::new() };
        }
        let field = problem.errors().first();
        let detail: String = field.map_or(problem.what(), |field| &field.detail).chars().take(120).collect();
        let pointer = field.map(|field| field.pointer.chars().take(40).collect()).unwrap_or_default();
        LineError { code: problem.code(), detail: detail.into(), pointer }
    }

    /// What the first line beyond the last one is told.
    pub fn too_many(&mut self) -> LineError {
        let problem = Problem::from(Fault::TooManyLines).detail(format!("At most {LINES_MAX} lines."));
        self.explain(&problem)
    }
}

/// The next piece of a body; `None` at its end. Who sends nothing for `wait` is not waited for.
async fn next_data(body: &mut Body, wait: Duration) -> Result<Option<Bytes>, Problem> {
    loop {
        match tokio::time::timeout(wait, body.frame()).await {
            Err(_) | Ok(Some(Err(_))) => return Err(Fault::BodyTimeout.into()),
            Ok(None) => return Ok(None),
            // Trailers and empty pieces say nothing here.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    #[tokio::test]
    async fn lines_are_the_same_however_they_are_cut() {
        let long = "x".repeat(LINE_LEN_MAX * 3);
        let text = format!("one\n\n  two\r\n{long}\nlast");
        for size in [1, 2, 3, 7, 512, 5_000] {
            let pieces: Vec<_> = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
            let mut body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
            let mut lines = Lines::new(&mut body);
            let mut found = Vec::new();
            while let Some((number, line)) = lines.next().await.unwrap() {
                found.push((number, line.len()));
            }
            assert_eq!(found, [(1, 3), (3, 3), (4, LINE_LEN_MAX + 1), (5, 4)], "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn who_sends_nothing_is_not_waited_for() {
        let mut silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let mut lines = Lines { wait: Duration::from_millis(1), ..Lines::new(&mut silent) };
        let problem = lines.next().await.unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (408, "body_timeout"));
    }

    #[tokio::test]
    async fn who_sends_a_byte_now_and_then_is_not_waited_for_either() {
        // One byte each time that is waited for at all, for as long as anybody listens.
        let trickle = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(4)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        });
        let mut body = Body::from_stream(Box::pin(trickle));
        let wait = Duration::from_millis(60);
        let mut lines = Lines { wait, bytes_per_s_min: 1_000, ..Lines::new(&mut body) };
        assert_eq!(lines.next().await.unwrap_err().code(), "body_timeout");
        assert!(lines.waited >= wait && lines.taken > 1, "although each byte came in time: {}", lines.taken);
        // The same with enough for each second.
        let pieces = (0..40).map(|_| Ok::<_, Infallible>(Bytes::from_static(b"{}\n")));
        let steady = stream::unfold(pieces, async |mut pieces| {
            tokio::time::sleep(Duration::from_millis(2)).await;
            pieces.next().map(|piece| (piece, pieces))
        });
        let mut body = Body::from_stream(Box::pin(steady));
        let mut lines = Lines { wait: Duration::from_secs(5), bytes_per_s_min: 1, ..Lines::new(&mut body) };
        while lines.next().await.unwrap().is_some() {}
        assert_eq!(lines.taken, 120);
    }
}

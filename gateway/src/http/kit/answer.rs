//! What a handler gives back: the shapes of a change's answer and of a page of a list.
//!
//! The answer to a change is made of the engine's answer and of what was asked, and of nothing else: so a request that
//! is sent again gets the same bytes, whatever has happened since.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::model::ids::{ShardId, TicketId};
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use storage::views::cashless::CashlessPosition;
use storage::views::gates::LogPosition;
use utoipa::{IntoParams, ToSchema};

use crate::http::kit::problem::{Fault, Problem, REPLAYED};

/// The node has answered something else than was asked: a bug.
pub fn unexpected_answer() -> Problem {
    tracing::error!("the node's answer is not of the kind that was asked for");
    Rejection::Internal.into()
}

/// 204: it is so.
pub struct Done {
    /// It was so before this request.
    pub replayed: bool,
}

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        (StatusCode::NO_CONTENT, replayed(self.replayed)).into_response()
    }
}

/// 200 with what a change came to.
pub struct Changed<T> {
    /// What it came to.
    pub body: T,
    /// It did so before this request.
    pub replayed: bool,
}

impl<T: Serialize> IntoResponse for Changed<T> {
    fn into_response(self) -> Response {
        (replayed(self.replayed), Json(self.body)).into_response()
    }
}

/// 201: it was made, and stands there.
pub struct Created<T> {
    /// Its address.
    pub location: String,
    /// What it is called.
    pub body: T,
    /// It was made before this request.
    pub replayed: bool,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, replayed(self.replayed), Json(self.body)).into_response();
        if let Ok(location) = HeaderValue::try_from(self.location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// The header that marks a replay.
pub fn replayed(replayed: bool) -> HeaderMap {
    let mark = (HeaderName::from_static(REPLAYED), HeaderValue::from_static("true"));
    replayed.then_some(mark).into_iter().collect()
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Send this as `cursor` for the next page; `null` on the last one.
    pub next: Option<String>,
}

/// How many rows a page has unless told.
const PAGE_DEFAULT: u32 = 100;
/// How many it can have: 1,000 rows of an access log are about 400 KB of JSON.
const PAGE_MAX: u32 = 1_000;

/// Which part of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many rows, 1 to 1,000; 100 unless told.
    pub limit: Option<u32>,
}

impl PageQuery {
    /// How many rows.
    ///
    /// # Errors
    /// `invalid_query`.
    pub fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(PAGE_DEFAULT);
        if (1..=PAGE_MAX).contains(&limit) {
            return Ok(limit as usize);
        }
        Err(Problem::from(Fault::InvalidQuery).detail(format!("limit must be 1 to {PAGE_MAX}.")))
    }

    /// Where the page before ended.
    ///
    /// # Errors
    /// `invalid_cursor`.
    pub fn after<P: Position>(&self) -> Result<Option<P>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let position = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| P::from_bytes(&bytes));
        position.map(Some).ok_or_else(|| Fault::InvalidCursor.into())
    }
}

impl<T> Page<T> {
    /// From one row more than `limit`, if there are as many: then there is a next page.
    pub fn of<R, P: Position>(
        mut rows: Vec<R>,
        limit: usize,
        position: impl Fn(&R) -> P,
        show: impl Fn(R) -> T,
    ) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(position(last).to_bytes()));
        Self { items: rows.into_iter().map(show).collect(), next }
    }
}

/// A place within a list, as a cursor carries it. It says nothing about which list: that is in the address, and is
/// checked against the operator's rights each time.
pub trait Position: Sized {
    /// Big endian.
    fn to_bytes(&self) -> Vec<u8>;
    /// `None` unless [`Position::to_bytes`] could have written it.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Position for u32 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(bytes.try_into().ok()?))
    }
}
impl Position for TicketId {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_u128().to_be_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_u128(u128::from_be_bytes(bytes.try_into().ok()?))
    }
}
impl Position for LogPosition {
    fn to_bytes(&self) -> Vec<u8> {
        [self.at.0.to_be_bytes(), self.order.to_be_bytes()].concat()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (at, order) = bytes.split_at_checked(8)?;
        let at = Timestamp(i64::from_be_bytes(at.try_into().ok()?));
        Some(Self { at, order: u64::from_be_bytes(order.try_into().ok()?) })
    }
}
impl Position for CashlessPosition {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.at.0.to_be_bytes()[..], &self.shard.0.to_be_bytes(), &self.order.to_be_bytes()].concat()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (at, rest) = bytes.split_at_checked(8)?;
        let (shard, order) = rest.split_at_checked(2)?;
        Some(Self {
            at: Timestamp(i64::from_be_bytes(at.try_into().ok()?)),
            shard: ShardId(u16::from_be_bytes(shard.try_into().ok()?)),
            order: u64::from_be_bytes(order.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_and_nothing_else_does() {
        let at = |cursor: &str| PageQuery { cursor: Some(cursor.into()), limit: None };
        let page = Page::of(vec![1_u32, 2, 3], 2, |&row| row, |row| row);
        assert_eq!(page.items, [1, 2]);
        assert_eq!(at(page.next.as_deref().unwrap()).after::<u32>().unwrap(), Some(2));
        assert_eq!(Page::of(vec![1_u32, 2], 2, |&row| row, |row| row).next, None, "a full last page is the last");
        for bad in ["", "!", "AAAA", &"A".repeat(10_000)] {
            assert_eq!(at(bad).after::<u32>().unwrap_err().code(), "invalid_cursor");
            assert_eq!(at(bad).after::<LogPosition>().unwrap_err().code(), "invalid_cursor");
            assert_eq!(at(bad).after::<TicketId>().unwrap_err().code(), "invalid_cursor");
        }
        let position = LogPosition { at: Timestamp(-5), order: u64::MAX };
        assert_eq!(LogPosition::from_bytes(&position.to_bytes()), Some(position));
    }
}

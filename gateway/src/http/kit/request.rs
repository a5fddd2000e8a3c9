//! What a handler takes from a request: parts of the path, the query, and changes with their `Idempotency-Key`.
//!
//! A change is taken in this order: who asks (401), the key that makes asking again harmless (400), a body within its
//! bound and in time (413, 408); then the handler asks for its right (403, 404), and only then is the body understood
//! (400, 422): whoever may not do a thing is not told how to do it.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Request};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, header};
use engine::command::IdempotencyKey;
use engine::model::time::Timestamp;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::auth::Operator;
use crate::http::kit::fields;
use crate::http::kit::problem::{Fault, FieldError, Problem};
use crate::http::state::AppState;

/// The longest body of a change, in bytes. The largest that makes sense: a key for 64 festivals with slugs of 64
/// characters and a name of 200 bytes takes about 5 KiB.
pub const BODY_LEN_MAX: usize = 16 * 1024;
/// How long a body may take to arrive.
pub const BODY_TIME: Duration = Duration::from_secs(10);
/// The longest `Idempotency-Key`.
pub const KEY_LEN_MAX: usize = 255;

/// Parts of the path; a part that cannot be read is a `invalid_path`.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct Path<T>(pub T);

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::from(Fault::InvalidPath).detail(rejection.body_text())
    }
}

/// The query string; what cannot be read, or is not asked for, is a `invalid_query`.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::from(Fault::InvalidQuery).detail(rejection.body_text())
    }
}

/// Something is to change: who asks, the key of this attempt, and a body that nobody has looked into yet.
pub struct Change<T> {
    /// Who asks.
    pub operator: Operator,
    /// The id of this attempt.
    pub key: IdempotencyKey,
    /// What is asked.
    pub body: Unread<T>,
}

/// A body as it came.
pub struct Unread<T>(Bytes, PhantomData<fn() -> T>);

impl<T: DeserializeOwned + ToSchema> Unread<T> {
    /// Understands it.
    ///
    /// # Errors
    /// `invalid_json`, `validation` with the pointer of each bad field.
    pub fn read(&self) -> Result<T, Problem> {
        // Nothing is the empty object: where all fields may be left out, so may the body.
        let body: &[u8] = if self.0.is_empty() { b"{}" } else { &self.0 };
        parse_json(body).map_err(|first| match first.errors() {
            [] => first,
            _ => fields::all_of::<T>(body, first),
        })
    }
}

/// A change that needs no body. An empty object is as good.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<T: DeserializeOwned> FromRequest<AppState> for Change<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let operator = Operator::from_request_parts(&mut parts, state).await?;
        let header = key_header(&parts.headers)?.ok_or(Fault::IdempotencyKeyMissing)?.to_owned();
        let bytes = match tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_LEN_MAX).collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(Problem::from(Fault::BodyTooLarge).detail(format!("At most {BODY_LEN_MAX} bytes.")));
            }
            Ok(Err(_)) | Err(_) => return Err(Fault::BodyTimeout.into()),
        };
        if !bytes.is_empty() && !media_type_is(&parts.headers, &["application/json"]) {
            return Err(Problem::from(Fault::UnsupportedMediaType).detail("Send application/json."));
        }
        let key = idempotency_key(&operator, &header, &call_hash(&parts).chain_update(canonical(&bytes)));
        Ok(Self { operator, key, body: Unread(bytes, PhantomData) })
    }
}

/// Whether the body is said to be of one of these types; parameters (charset) do not matter.
pub fn media_type_is(headers: &HeaderMap, types: &[&str]) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    let said = said.split(';').next().unwrap_or_default().trim();
    types.iter().any(|one| said.eq_ignore_ascii_case(one))
}

/// The `Idempotency-Key` as it was sent, without the quotes that the header's draft puts around it.
///
/// # Errors
/// `idempotency_key_invalid`.
pub fn key_header(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let good = (1..=KEY_LEN_MAX).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
    if good { Ok(Some(text)) } else { Err(Fault::IdempotencyKeyInvalid.into()) }
}

/// Method, path and query, hashed; what else makes the request goes behind.
pub fn call_hash(parts: &Parts) -> Sha256 {
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
    Sha256::new()
        .chain_update(parts.method.as_str())
        .chain_update(b" ")
        .chain_update(uri.path_and_query().map_or("/", PathAndQuery::as_str))
        .chain_update(b"\n")
}

/// A body in one spelling: the same fields in another order, or with other white space, are the same request. A client
/// that sends again may well have built its body anew. What is no JSON stays as it came, and is refused later.
fn canonical(body: &[u8]) -> Cow<'_, [u8]> {
    let body = if body.is_empty() { b"{}" } else { body };
    // Objects are sorted maps here.
    serde_json::from_slice::<serde_json::Value>(body)
        .map_or(Cow::Borrowed(body), |value| Cow::Owned(value.to_string().into_bytes()))
}

/// The key in the form in which the engine remembers it. Keys belong to whoever is signed in.
pub fn idempotency_key(operator: &Operator, header: &str, request: &Sha256) -> IdempotencyKey {
    let id = Sha256::new().chain_update(operator.no.to_be_bytes()).chain_update(header).finalize();
    IdempotencyKey {
        id: u128::from_be_bytes(first(&id)),
        fingerprint: u64::from_be_bytes(first(&request.clone().finalize())),
        made_at: made_at(header),
    }
}

/// The first `N` bytes of a digest.
pub fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&digest[..N]);
    bytes
}

/// A UUIDv7 says when it was made.
fn made_at(header: &str) -> Option<Timestamp> {
    let (seconds, nanos) =
        uuid::Uuid::try_parse(header).ok().filter(|id| id.get_version_num() == 7)?.get_timestamp()?.to_unix();
    Some(Timestamp(i64::try_from(seconds).ok()?.checked_mul(1_000)? + i64::from(nanos / 1_000_000)))
}

/// Parses JSON and says which field is wrong: the first, where several are.
///
/// # Errors
/// `invalid_json`, `validation`.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take the array of a struct's values for the struct.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
            Ok(_) => Problem::field("", "must be an object"),
            Err(error) => Problem::from(Fault::InvalidJson).detail(error.to_string()),
        });
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let inner = error.inner();
        if !inner.is_data() {
            return Problem::from(Fault::InvalidJson).detail(inner.to_string());
        }
        let detail = inner.to_string();
        let detail = detail.split(" at line ").next().unwrap_or_default().to_owned();
        let mut pointer = pointer(error.path().iter());
        // serde names a field that is missing, or there twice, in its sentence only.
        let named = ["missing field `", "duplicate field `"].iter().find_map(|says| detail.strip_prefix(says));
        if let Some(rest) = named {
            pointer = format!("{pointer}/{}", rest.split('`').next().unwrap_or_default());
        }
        Problem::fields(vec![FieldError { pointer, detail }])
    })?;
    json.end().map_err(|error| Problem::from(Fault::InvalidJson).detail(error.to_string()))?;
    Ok(value)
}

fn pointer<'a>(path: impl Iterator<Item = &'a Segment>) -> String {
    path.fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{}", fields::escaped(key)),
        Segment::Enum { variant } => format!("{pointer}/{variant}"),
        Segment::Unknown => pointer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Inner {
        #[allow(dead_code, reason = "only whether it parses matters")]
        entry_gate: u8,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code, reason = "only whether it parses matters")]
        inner: Vec<Inner>,
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let table = [
            (r#"{"inner":[{"entryGate":1}]}"#, "ok", ""),
            (r#"{"inner":[{"entryGate":1},{"entryGate":256}]}"#, "validation", "/inner/1/entryGate"),
            (r#"{"inner":[{}]}"#, "validation", "/inner/0/entryGate"),
            (r#"{"inner":[],"extra":1}"#, "validation", "/extra"),
            (r#"{"inner":[],"inner":[]}"#, "validation", "/inner"),
            (r#"{}"#, "validation", "/inner"),
            (r#"[[{"entryGate":1}]]"#, "validation", ""),
            (r#"7"#, "validation", ""),
            (r#"{"inner":[}"#, "invalid_json", ""),
            (r#"{"inner":[]} x"#, "invalid_json", ""),
            ("", "invalid_json", ""),
            ("\u{0}", "invalid_json", ""),
        ];
        for (json, code, at) in table {
            match parse_json::<Outer>(json.as_bytes()) {
                Ok(_) => assert_eq!(code, "ok", "{json}"),
                Err(problem) => {
                    let pointer = problem.errors().first().map_or("", |field| field.pointer.as_str());
                    assert_eq!((problem.code(), pointer), (code, at), "{json}: {}", problem.what());
                }
            }
        }
    }

    #[test]
    fn another_method_path_or_query_is_another_request() {
        let hash = |method: &str, uri: &str| {
            let request = axum::http::Request::builder().method(method).uri(uri).body(()).unwrap();
            call_hash(&request.into_parts().0).finalize()
        };
        let one = hash("POST", "/api/v1/festivals/own/zones/1?a=1");
        assert_eq!(one, hash("POST", "/api/v1/festivals/own/zones/1?a=1"));
        for (method, uri) in [
            ("PUT", "/api/v1/festivals/own/zones/1?a=1"),
            ("POST", "/api/v1/festivals/own/zones/2?a=1"),
            ("POST", "/api/v1/festivals/own/zones/1?a=2"),
            ("POST", "/api/v1/festivals/own/zones/1"),
        ] {
            assert_ne!(one, hash(method, uri), "{method} {uri}");
        }
    }

    #[test]
    fn the_same_json_in_another_order_is_the_same_request() {
        let same = [r#"{"a":1,"b":{"c":[1,2],"d":"x"}}"#, "{ \"b\": {\"d\":\"\\u0078\",\n\"c\":[1, 2]},\"a\":1}"];
        assert_eq!(canonical(same[0].as_bytes()), canonical(same[1].as_bytes()));
        assert_eq!(canonical(b""), canonical(b" { } "), "a body that may be left out");
        for other in [r#"{"a":2,"b":{"c":[1,2],"d":"x"}}"#, r#"{"a":1,"b":{"c":[2,1],"d":"x"}}"#, r#"{"a":1}"#, "{"] {
            assert_ne!(canonical(same[0].as_bytes()), canonical(other.as_bytes()), "{other}");
        }
        assert_eq!(&*canonical(b"{\"a\":"), b"{\"a\":", "what is no JSON stays as it came");
    }

    #[test]
    fn keys() {
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([(
                header::HeaderName::from_static("idempotency-key"),
                HeaderValue::from_str(value).unwrap(),
            )]);
            key_header(&headers).map(|key| key.map(str::to_owned)).map_err(|p| p.code())
        };
        assert_eq!(read("order-7"), Ok(Some("order-7".into())));
        assert_eq!(read("\"order-7\""), Ok(Some("order-7".into())), "the draft's quotes");
        let longest = "x".repeat(KEY_LEN_MAX);
        assert_eq!(read(&longest), Ok(Some(longest.clone())));
        assert_eq!(key_header(&HeaderMap::new()).unwrap(), None);
        for bad in ["", "\"\"", "two words", &format!("{longest}x")] {
            assert_eq!(read(bad), Err("idempotency_key_invalid"), "{bad}");
        }
        assert_eq!(made_at("0192f0c1-2345-7abc-8def-0123456789ab"), Some(Timestamp(0x0192_f0c1_2345)));
        assert_eq!(made_at("d9428888-122b-41d4-a716-446655440000"), None, "a version 4 says no time");
    }
}

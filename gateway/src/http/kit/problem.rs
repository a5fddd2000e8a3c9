//! The one shape in which the HTTP door says no (RFC 9457), and the one table that gives each no its status.
//!
//! `code` is what programs go by: the domain's own code where the engine said no, one of the door's where the request
//! did not get that far. Codes are stable; sentences may change.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::model::rejection::Rejection;
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of every error body.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Says that an answer is that of an earlier request with the same `Idempotency-Key`: nothing happened now.
pub const REPLAYED: &str = "idempotent-replayed";

/// Why the door itself says no, before the engine was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No key, or none that is known.
    NotSignedIn,
    /// The key's role may not do this.
    Forbidden,
    /// No such address.
    UnknownRoute,
    /// The address exists, the method does not.
    MethodNotAllowed,
    /// A part of the path cannot be read.
    InvalidPath,
    /// The query string cannot be read.
    InvalidQuery,
    /// The cursor is not one that was given out.
    InvalidCursor,
    /// The body is no JSON.
    InvalidJson,
    /// The body is JSON, but not what is asked for.
    Validation,
    /// Not the media type that is asked for.
    UnsupportedMediaType,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The body came too slowly, or broke off.
    BodyTimeout,
    /// A change needs an `Idempotency-Key`.
    IdempotencyKeyMissing,
    /// The `Idempotency-Key` is empty, too long, or has characters that cannot be.
    IdempotencyKeyInvalid,
    /// More requests from this address than it may make.
    TooManyRequests,
    /// Too many connections at once: only what protects people is answered.
    TooManyConnections,
    /// As many bulk calls as the node carries are under way.
    TooManyUploads,
    /// As many live streams as there can be are watched.
    TooManyStreams,
    /// As many reads of the read models as the node carries are under way.
    TooManyReads,
    /// The answer took too long.
    Timeout,
    /// What follows the journal is not there, or is being rebuilt.
    ReadModelsUnavailable,
    /// More lines than one bulk call may have.
    TooManyLines,
    /// Cards cannot be charged yet.
    CardPaymentsUnavailable,
}

impl Fault {
    /// All of them, for the published table.
    pub const ALL: &'static [Self] = &[
        Self::NotSignedIn,
        Self::Forbidden,
        Self::UnknownRoute,
        Self::MethodNotAllowed,
        Self::InvalidPath,
        Self::InvalidQuery,
        Self::InvalidCursor,
        Self::InvalidJson,
        Self::Validation,
        Self::UnsupportedMediaType,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::IdempotencyKeyMissing,
        Self::IdempotencyKeyInvalid,
        Self::TooManyRequests,
        Self::TooManyConnections,
        Self::TooManyUploads,
        Self::TooManyStreams,
        Self::TooManyReads,
        Self::Timeout,
        Self::ReadModelsUnavailable,
        Self::TooManyLines,
        Self::CardPaymentsUnavailable,
    ];

    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::NotSignedIn => (S::UNAUTHORIZED, "not_signed_in", "A valid API key is needed."),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "Your role may not do this."),
            Self::UnknownRoute => (S::NOT_FOUND, "unknown_route", "There is nothing at this address."),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "Not with this method."),
            Self::InvalidPath => (S::BAD_REQUEST, "invalid_path", "A part of the address cannot be read."),
            Self::InvalidQuery => (S::BAD_REQUEST, "invalid_query", "The query cannot be read."),
            Self::InvalidCursor => (S::BAD_REQUEST, "invalid_cursor", "This cursor was not given out."),
            Self::InvalidJson => (S::BAD_REQUEST, "invalid_json", "The body is not JSON."),
            Self::Validation => (S::UNPROCESSABLE_ENTITY, "validation", "A field is missing or not as it must be."),
            Self::UnsupportedMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body has another media type than asked for.")
            }
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too long."),
            Self::BodyTimeout => (S::REQUEST_TIMEOUT, "body_timeout", "The body did not arrive whole in time."),
            Self::IdempotencyKeyMissing => {
                (S::BAD_REQUEST, "idempotency_key_missing", "A change needs an Idempotency-Key.")
            }
            Self::IdempotencyKeyInvalid => {
                (S::BAD_REQUEST, "idempotency_key_invalid", "An Idempotency-Key has 1 to 255 visible ASCII characters.")
            }
            Self::TooManyRequests => {
                (S::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests with your key, or from your address.")
            }
            Self::TooManyConnections => (
                S::SERVICE_UNAVAILABLE,
                "too_many_connections",
                "Too many connections at once. Please close some, or come again.",
            ),
            Self::TooManyStreams => {
                (S::SERVICE_UNAVAILABLE, "too_many_streams", "Too many live streams are watched. Please close some.")
            }
            Self::TooManyReads => {
                (S::SERVICE_UNAVAILABLE, "too_many_reads", "Too many lists are being read. Please come again.")
            }
            Self::TooManyUploads => {
                (S::SERVICE_UNAVAILABLE, "too_many_uploads", "Too many bulk calls are under way. Please come again.")
            }
            Self::Timeout => (S::SERVICE_UNAVAILABLE, "timeout", "The answer took too long."),
            Self::ReadModelsUnavailable => {
                (S::SERVICE_UNAVAILABLE, "read_models_unavailable", "Lists are being rebuilt. Please come again.")
            }
            Self::TooManyLines => (S::PAYLOAD_TOO_LARGE, "too_many_lines", "More lines than one call may have."),
            Self::CardPaymentsUnavailable => {
                (S::NOT_IMPLEMENTED, "card_payments_unavailable", "Cards are not taken here yet. Please pay in cash.")
            }
        }
    }

    /// The stable code.
    pub fn code(self) -> &'static str {
        self.row().1
    }
}

/// The status of each rejection. No arm for "the rest": a new rejection has to be thought about here.
pub fn status_of(rejection: Rejection) -> StatusCode {
    use Rejection::*;
    match rejection {
        UnknownTicket | UnknownTag | UnknownDevice | UnknownCode | UnknownFestival | UnknownZone | UnknownGate
        | UnknownCategory | UnknownKey | UnknownWallet | UnknownTransaction | UnknownVendor | UnknownProduct => {
            StatusCode::NOT_FOUND
        }
        AlreadyUsed | Cancelled | Refunded | Unpaid | Blocked | FestivalNotActive | NotYetValid | NoLongerValid
        | ZoneDenied | ZoneClosed | AlreadyInside | NotInsideParent | ZoneFull | WrongFestival | KeyRetired
        | WrongGate | StaleSeq | WindowFull | IdempotencyConflict | NothingToUndo | UndoTooLate | NotYourScan
        | SlugTaken | InvalidTransition | SoldOut | LimitReached | TagTaken | DeviceRevoked | AboveMaxBalance
        | InsufficientFunds | WalletBlocked | SameWallet | NotAPayment | AlreadyRefunded | RefundExceedsPayment
        | RefundTooLate | NotYourPayment | VendorClosed | NotACashier | TagLost | TagMoved | NothingLeft
        | TransferCancelled | WalletClaimed | AlreadyTagged | NotCashless | ForeignWallet | Expired
        | OutcomeUnknown | NotOneAccount | CurrencyInUse | PeopleInside | TooLateToReset | ReasonNeeded => {
            StatusCode::CONFLICT
        }
        CodeExpired => StatusCode::GONE,
        IdempotencyKeyExpired => StatusCode::BAD_REQUEST,
        InvalidQr | TamperedQr | InvalidValue | InvalidAmount | WrongCurrency | BelowMinTopup | AboveMaxTopup
        | BelowMinPayment | LinesMismatch | UnusableTag | UnknownCurrency => StatusCode::UNPROCESSABLE_ENTITY,
        Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Busy | Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        StillPending | InDoubt => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// A no, ready to be sent. Boxed inside, so that results stay small.
#[derive(Clone, Debug)]
pub struct Problem(Box<ProblemBody>);

/// Problem details, RFC 9457, as `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Where this kind of problem is explained.
    #[schema(example = "/api/v1/problems#sold_out")]
    r#type: String,
    /// One sentence that is the same for every problem of this code; a steward can say it aloud.
    title: Cow<'static, str>,
    /// The HTTP status, once more.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What it was this time.
    detail: String,
    /// The stable code that programs go by.
    #[schema(example = "sold_out")]
    code: &'static str,
    /// For `validation`, and for some others: which fields, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
    #[serde(skip)]
    replayed: bool,
}

/// What is wrong with one field.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) into the body; empty for the body itself.
    #[schema(example = "/policy/entry")]
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self(Box::new(ProblemBody {
            r#type: format!("/api/v1/problems#{code}"),
            title: title.into(),
            status: status.as_u16(),
            detail: title.into(),
            code,
            errors: Vec::new(),
            retry_after_s: None,
            replayed: false,
        }))
    }

    /// The same with what it was this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// A `validation` problem with one field.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// A `validation` problem with these fields.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::from(Fault::Validation);
        if let Some(first) = errors.first() {
            problem.0.detail = format!("{}: {}", first.pointer, first.detail);
        }
        problem.0.errors = errors;
        problem
    }

    /// The same where one field is to blame.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let field = FieldError { pointer: pointer.into(), detail: detail.into() };
        self.0.detail = format!("{}: {}", field.pointer, field.detail);
        self.0.errors.push(field);
        self
    }

    /// The same, marked as the answer to an earlier request.
    #[must_use]
    pub fn replayed(mut self, replayed: bool) -> Self {
        self.0.replayed = replayed;
        self
    }

    /// Whether it is the answer to an earlier request.
    pub fn is_replayed(&self) -> bool {
        self.0.replayed
    }

    /// The same with a time to come again, in seconds.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What it was this time.
    pub fn what(&self) -> &str {
        &self.0.detail
    }

    /// The body, as it is sent.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&*self.0).unwrap_or_default()
    }

    /// The fields of a `validation`.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let (status, code, title) = fault.row();
        let problem = Self::new(status, code, title);
        match fault {
            Fault::TooManyUploads
            | Fault::TooManyStreams
            | Fault::TooManyReads
            | Fault::ReadModelsUnavailable
            | Fault::Timeout => problem.retry_after_s(5),
            Fault::TooManyConnections => problem.retry_after_s(1),
            _ => problem,
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let problem = Self::new(status_of(rejection), rejection.code(), rejection.sentence());
        match rejection {
            Rejection::Busy => problem.retry_after_s(1),
            Rejection::StillPending => problem.retry_after_s(5),
            Rejection::Unavailable | Rejection::InDoubt => problem.retry_after_s(30),
            _ => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], self.to_json()).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tapgate\""));
        }
        if self.0.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_of_the_door_and_of_the_domain_never_meet() {
        let door: BTreeSet<_> = Fault::ALL.iter().map(|f| f.code()).collect();
        assert_eq!(door.len(), Fault::ALL.len());
        for rejection in Rejection::ALL {
            assert!(!door.contains(rejection.code()), "{} means two things", rejection.code());
        }
    }

    #[test]
    fn a_problem_says_the_same_in_status_and_body() {
        let response = Problem::from(Rejection::SoldOut).into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(Problem::from(Rejection::Busy).into_response().headers()[header::RETRY_AFTER], "1");
    }
}

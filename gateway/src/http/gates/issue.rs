//! Tickets in bulk: one call carries up to 100,000 lines of NDJSON in, and as many out.
//!
//! What is issued, and how a call that broke off is finished by sending it again, is in `issue/call.rs`.
//!
//! The answer begins when the last line has been decided, and its QR texts are made while it is sent: a client may
//! send everything first and read afterwards without either side waiting for the other. A call that breaks off before
//! its end leaves its last, unfinished window undone.

use std::fmt::Write as _;
use std::io;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::model::credential;
use engine::model::credential::QrKey;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::kit::answer::replayed;
use crate::http::kit::ndjson::{ANSWER_LINES, CALL_TIME, LineError, attempt, in_time, turn};
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::Path;
use crate::http::kit::routes::Routes;
use crate::http::kit::shares::CallPermit;
use crate::http::state::AppState;
use call::{Call, Outcome};

mod call;

/// The route of this file. It stands apart because it may take longer than others.
pub fn router() -> Routes {
    Routes::new().with(Right::ManageTickets, routes!(issue))
}

/// One line of a bulk call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTicket {
    /// The number of the category.
    pub category: u16,
    /// Whose it is, if that is known: the UUID of a person.
    #[schema(format = Uuid)]
    pub holder: Option<String>,
    /// SOLD if paid, else RESERVED.
    pub paid: bool,
}

/// One line of the answer: a ticket, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuedLine {
    /// The number of the line it answers, from 1.
    pub line: u32,
    /// The ticket's id.
    #[schema(format = Uuid)]
    pub ticket_id: Option<String>,
    /// Its short code.
    pub code: Option<String>,
    /// The text of its QR.
    pub qr: Option<String>,
    /// Why there is no ticket.
    pub error: Option<LineError>,
}

/// Issues up to 100,000 tickets. A line that is not good gets an error; the others go on.
#[utoipa::path(post, path = "/festivals/{slug}/tickets", tag = "tickets", operation_id = "issue_tickets",
    params(("slug" = String, Path)),
    request_body(content = NewTicket, content_type = "application/x-ndjson", description = "One ticket a line."),
    responses((status = 200, body = IssuedLine, content_type = "application/x-ndjson",
        description = "One line for each, in their order. `Tapgate-Issued` and `Tapgate-Rejected` count them.")))]
async fn issue(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let festival = operator.at(&slug)?;
    let (parts, mut body) = request.into_parts();
    let (key, request) = attempt(&operator, &parts)?;
    let qr_version = state.about(&slug).await?.qr_version;
    let turn = turn(&state, &operator, festival).await?;

    let mut call = Call::new(&state, &operator, festival, key, request);
    match tokio::time::timeout(CALL_TIME, call.take(&mut body)).await {
        Ok(taken) => taken?,
        Err(_) => return Err(Fault::BodyTimeout.into()),
    }
    let all_repeated = call.asked && call.all_repeated;
    let outcomes = call.outcomes;
    let issued = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    let count = |name: &'static str, n: usize| (HeaderName::from_static(name), HeaderValue::from(n));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        count("tapgate-issued", issued),
        count("tapgate-rejected", outcomes.len() - issued),
    ];
    let qr_key = state.qr_secret.key(festival, qr_version);
    let body = Body::from_stream(stream::iter(Answer {
        outcomes,
        at: 0,
        qr_key,
        qr_version,
        began: Instant::now(),
        _permit: turn,
    }));
    Ok((headers, replayed(all_repeated), body).into_response())
}

/// Writes the answer, a few lines at a time, as fast as the client reads.
struct Answer {
    outcomes: Vec<(u32, Outcome)>,
    at: usize,
    qr_key: QrKey,
    qr_version: u32,
    began: Instant,
    /// Held until the last line has been made: the outcomes are what it bounds.
    _permit: CallPermit,
}

impl Iterator for Answer {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let lines = self.outcomes.get(self.at..).filter(|rest| !rest.is_empty())?;
        if let Err(late) = in_time(self.began) {
            self.at = self.outcomes.len();
            return Some(Err(late));
        }
        let lines = &lines[..lines.len().min(ANSWER_LINES)];
        let mut text = String::with_capacity(lines.len() * 340);
        for (line, outcome) in lines {
            self.write(&mut text, *line, outcome);
        }
        self.at += lines.len();
        Some(Ok(text.into()))
    }
}

impl Answer {
    fn write(&self, text: &mut String, line: u32, outcome: &Outcome) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Good<'a> {
            line: u32,
            ticket_id: String,
            code: &'a str,
            qr: String,
        }
        #[derive(Serialize)]
        struct Bad<'a> {
            line: u32,
            error: &'a LineError,
        }
        let json = match outcome {
            Ok(ticket) => serde_json::to_string(&Good {
                line,
                ticket_id: ticket.to_string(),
                code: ticket.code().as_str(),
                qr: credential::text(&self.qr_key.sign(*ticket, self.qr_version)),
            }),
            Err(error) => serde_json::to_string(&Bad { line, error }),
        };
        // Neither can fail: strings and numbers only.
        let _ = writeln!(text, "{}", json.unwrap_or_default());
    }
}

//! Wallets in bulk: the wristbands of a whole festival, linked before the doors open. One call carries up to 100,000
//! lines of NDJSON in, and as many out.
//!
//! A wallet's id is made of the call's key and of how many good lines came before its own. So a call that broke off can be
//! sent again: what was made is found, and the rest is made now. The first command carries the call's key and a
//! fingerprint of all its lines; other lines under the same key are a conflict, and nothing is done.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::command::IdempotencyKey;
use engine::command::ask::{Ask, CreateWallet, SellWallet};
use engine::model::credential::{QrKey, wallet_text};
use engine::model::ids::{FestivalId, TagUid, WalletId};
use engine::model::rejection::Rejection;
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::gates::tickets::tag_at;
use crate::http::kit::answer::replayed;
use crate::http::kit::ndjson::{
    ANSWER_LINES, CALL_TIME, LINE_LEN_MAX, LINES_MAX, LineError, Lines, attempt, in_time, turn,
};
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::{Path, first, parse_json};
use crate::http::kit::routes::Routes;
use crate::http::kit::shares::CallPermit;
use crate::http::state::AppState;

/// Lines that are being decided at a time.
const AT_A_TIME: usize = 512;
/// A full queue is asked again after so long, so many times.
const BUSY_WAIT: Duration = Duration::from_millis(100);
const BUSY_TRIES: u32 = 50;

/// The route of this file. It stands apart because it may take longer than others.
pub fn router() -> Routes {
    Routes::new().with(Right::ServeWallets, routes!(make_wallets))
}

/// One line of a bulk call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WalletLine {
    /// The wristband's UID in hexadecimal; without one the wallet is shown by its QR alone.
    #[schema(example = "04a1b2c3d4e5f6")]
    pub tag: Option<String>,
}

/// One line of the answer: a wallet, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeLine {
    /// The number of the line it answers, from 1.
    pub line: u32,
    /// The wallet's id.
    #[schema(format = Uuid)]
    pub wallet: Option<String>,
    /// The text of its QR.
    pub qr: Option<String>,
    /// Why there is no wallet.
    pub error: Option<LineError>,
}

/// What became of a line. An error is boxed: most lines have none.
type Outcome = Result<WalletId, Box<LineError>>;

/// A call's lines, once all of them have arrived.
#[derive(Default)]
struct BulkRequest {
    /// Those that are good: the line's number, and its wristband.
    good: Vec<(u32, Option<TagUid>)>,
    outcomes: Vec<(u32, Outcome)>,
    hash: Sha256,
}

/// Makes up to 100,000 wallets that belong to nobody yet, each with its wristband. A line that is not good gets an error;
/// the others go on.
#[utoipa::path(post, path = "/festivals/{slug}/wallets", tag = "cashless", operation_id = "make_wallets",
    params(("slug" = String, Path)),
    request_body(content = WalletLine, content_type = "application/x-ndjson", description = "One wallet a line."),
    responses((status = 200, body = MadeLine, content_type = "application/x-ndjson",
        description = "One line for each, in their order. `Tapgate-Made` and `Tapgate-Rejected` count them.")))]
async fn make_wallets(
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
    let carried = tokio::time::timeout(CALL_TIME, async {
        let wanted = read(BulkRequest { hash: request, ..BulkRequest::default() }, &mut body).await?;
        make(&state, &operator, festival, key, wanted).await
    });
    let (mut outcomes, repeated) = carried.await.map_err(|_| Problem::from(Fault::BodyTimeout))??;
    outcomes.sort_unstable_by_key(|(line, _)| *line);
    let made = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    let count = |name: &'static str, n: usize| (HeaderName::from_static(name), HeaderValue::from(n));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        count("tapgate-made", made),
        count("tapgate-rejected", outcomes.len() - made),
    ];
    let qr_key = state.qr_secret.key(festival, qr_version);
    let answer = Answer { outcomes, at: 0, festival, qr_key, qr_version, began: Instant::now(), _permit: turn };
    Ok((headers, replayed(repeated), Body::from_stream(stream::iter(answer))).into_response())
}

async fn read(mut wanted: BulkRequest, body: &mut Body) -> Result<BulkRequest, Problem> {
    let mut lines = Lines::new(body);
    while let Some((line, text)) = lines.next().await? {
        if line > LINES_MAX {
            wanted.outcomes.push((line, Err(Box::new(lines.too_many()))));
            break;
        }
        wanted.hash.update(&text);
        wanted.hash.update(b"\n");
        match read_line(&text) {
            Ok(tag) => wanted.good.push((line, tag)),
            Err(problem) => wanted.outcomes.push((line, Err(Box::new(lines.explain(&problem))))),
        }
    }
    Ok(wanted)
}

fn read_line(text: &[u8]) -> Result<Option<TagUid>, Problem> {
    if text.len() > LINE_LEN_MAX {
        return Err(Problem::field("", format!("a line has at most {LINE_LEN_MAX} bytes")));
    }
    let WalletLine { tag } = parse_json(text)?;
    tag.map(|tag| tag_at(&tag, "/tag")).transpose()
}

/// Makes the wallets; `true` if the call was a repetition.
async fn make(
    state: &AppState,
    operator: &Operator,
    festival: FestivalId,
    key: IdempotencyKey,
    wanted: BulkRequest,
) -> Result<(Vec<(u32, Outcome)>, bool), Problem> {
    let BulkRequest { good, mut outcomes, hash } = wanted;
    let wallet = |nth: usize| {
        let digest = Sha256::new_with_prefix(b"tapgate.wallets.v1")
            .chain_update(key.id.to_be_bytes())
            .chain_update((nth as u64).to_be_bytes())
            .finalize();
        WalletId(u64::from_be_bytes(first(&digest)).max(1))
    };
    if good.is_empty() {
        return Ok((outcomes, false));
    }
    let whole = IdempotencyKey { fingerprint: u64::from_be_bytes(first(&hash.finalize())), ..key };
    let create = |nth| CreateWallet { wallet: wallet(nth), festival, account: None };
    let (answer, repeated) = ask(state, operator, Some(whole), create(0)).await;
    answer?;
    let made: Vec<(u32, Outcome)> = stream::iter(good.into_iter().enumerate())
        .map(async |(nth, (line, tag))| {
            let (made, _) = match tag {
                Some(tag) => ask(state, operator, None, SellWallet { tag, wallet: wallet(nth), festival }).await,
                None => ask(state, operator, None, create(nth)).await,
            };
            (line, made.map_err(|rejection| Box::new(rejection.into())))
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    outcomes.extend(made);
    Ok((outcomes, repeated))
}

async fn ask<A: Ask<Answer = WalletId> + Clone>(
    state: &AppState,
    operator: &Operator,
    key: Option<IdempotencyKey>,
    change: A,
) -> (Result<WalletId, Rejection>, bool) {
    let mut tries = 0;
    loop {
        let (answer, repeated) = state.node.ask_for(change.clone(), operator.principal(), key).await;
        if answer != Err(Rejection::Busy) || tries == BUSY_TRIES {
            return (answer, repeated);
        }
        tries += 1;
        tokio::time::sleep(BUSY_WAIT).await;
    }
}

/// Writes the answer, a few lines at a time, as fast as the client reads.
struct Answer {
    outcomes: Vec<(u32, Outcome)>,
    at: usize,
    festival: FestivalId,
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
        let mut text = String::with_capacity(lines.len() * 300);
        for (line, outcome) in lines {
            let line = *line;
            let json = match outcome {
                Ok(wallet) => {
                    let claim = self.qr_key.sign_wallet(*wallet, self.festival, self.qr_version);
                    serde_json::json!({ "line": line, "wallet": wallet.to_string(), "qr": wallet_text(&claim) })
                }
                Err(error) => serde_json::json!({ "line": line, "error": error }),
            };
            // A String takes whatever is written.
            let _ = writeln!(text, "{json}");
        }
        self.at += lines.len();
        Some(Ok(text.into()))
    }
}

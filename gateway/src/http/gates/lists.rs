//! Lists that follow the journal: tickets by status, category or holder; the access log by zone, reader or ticket;
//! counts per minute. They may be a moment behind, and answer 503 while they are being rebuilt.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use engine::gates::command::{BY_HAND, CONFLICT, FIRST_ENTRY, Verdict, WAS_NOT_INSIDE};
use engine::model::ids::{CategoryNo, DeviceId, GateNo, TicketId, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use storage::views;
use storage::views::gates::{AccessLog, CountPosition, CountRow, Counts, GateViews, TicketRow, Tickets};
use storage::views::{Span, ViewsError};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::gates::tickets::{FirstUse, ticket_for};
use crate::http::gates::zones::zone_no;
use crate::http::kit::answer::{Page, PageQuery, Position};
use crate::http::kit::json::{Moment, TicketStatus, direction_word, span};
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::request::{Path, Query};
use crate::http::kit::routes::Routes;
use crate::http::kit::shares::{CallPermits, Most};
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ManageTickets, routes!(list_tickets))
        .with(Right::LookUp, routes!(list_access_log))
        .with(Right::LookUp, routes!(minute_counts))
        .with(Right::LookUp, routes!(ticket_history))
}

/// Reads at a time, unless told: each holds a thread of the pool for what may block, one snapshot of the store, and at most
/// 1,024 rows of some 400 B or the sums of a vendor's hours. Of these a key may have half.
pub const READS_MAX: usize = 8;
/// How long a read waits for its turn. It is below what the door waits for an answer.
const WAIT: Duration = Duration::from_secs(10);

/// The turns of a node that carries so many reads at a time.
pub fn permits(reads_max: usize) -> CallPermits {
    CallPermits::new(Most { all: reads_max, per_key: reads_max.div_ceil(2), per_organiser: reads_max }, WAIT)
}

/// A ticket in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TicketInList {
    /// Its id.
    #[schema(format = Uuid)]
    pub ticket_id: String,
    /// The short code that is printed on it.
    pub code: String,
    /// The number of its category.
    pub category: u16,
    /// Where it is in its life.
    pub status: TicketStatus,
    /// Blocked by the organiser.
    pub blocked: bool,
    /// Whose it is, if that is known.
    #[schema(format = Uuid)]
    pub holder: Option<String>,
}

impl From<TicketRow> for TicketInList {
    fn from(row: TicketRow) -> Self {
        Self {
            ticket_id: row.ticket.to_string(),
            code: row.ticket.code().as_str().to_owned(),
            category: row.ticket.category().0,
            status: TicketStatus(row.status),
            blocked: row.blocked,
            holder: row.holder.map(|holder| uuid::Uuid::from_u128(holder).to_string()),
        }
    }
}

/// Which tickets.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TicketsQuery {
    /// Only these.
    pub status: Option<TicketStatus>,
    /// Only this category's.
    pub category: Option<u16>,
    /// Only this person's.
    #[param(format = Uuid)]
    pub holder: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many rows, 1 to 1,000; 100 unless told.
    pub limit: Option<u32>,
}

/// Lists tickets by id.
#[utoipa::path(get, path = "/festivals/{slug}/tickets", tag = "tickets", params(("slug" = String, Path), TicketsQuery),
    responses((status = 200, body = Page<TicketInList>)))]
async fn list_tickets(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    Query(query): Query<TicketsQuery>,
) -> Result<Json<Page<TicketInList>>, Problem> {
    let festival = operator.at(&slug)?;
    let holder = query.holder.as_deref().map(uuid::Uuid::try_parse).transpose();
    let holder = holder.map_err(|_| Problem::from(Fault::InvalidQuery).detail("holder must be a UUID."))?;
    let of = Tickets {
        festival,
        status: query.status.map(|status| status.0),
        category: query.category.map(CategoryNo),
        holder: holder.map(|holder| holder.as_u128()),
    };
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    let (after, limit) = (page.after::<TicketId>()?, page.limit()?);
    let rows = state
        .read(move |models| Ok(models.gates()?.tickets(of, views::Page { after, ..views::Page::first(limit + 1) })?))
        .await?;
    Ok(Json(Page::of(rows, limit, |row| row.ticket, TicketInList::from)))
}

/// What came of a scan.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// In.
    Admitted,
    /// Out.
    Exited,
    /// The scan before was undone.
    Undone,
    /// Red; `code` says why.
    Rejected,
}

/// One entry of the access log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessEntry {
    /// When it was decided, by the server's clock. The log is in this order.
    pub at: Moment,
    /// When it was read, by the reader's clock, which may be wrong; of an undo as `at`.
    pub captured_at: Moment,
    /// It had waited in the reader's queue, while the reader had no network. It counts in the minute of `countedAt`.
    pub late: bool,
    /// When it counts: `capturedAt` of a late scan, as far as the reader's connections allow that; else `at`.
    pub counted_at: Moment,
    /// Whose, once the QR or wristband named one of this festival's tickets.
    #[schema(format = Uuid)]
    pub ticket_id: Option<String>,
    /// Where.
    pub zone: u8,
    /// Through which gate.
    pub gate: u16,
    /// By which reader; `null` if the office did it.
    pub device_id: Option<String>,
    /// ENTER or EXIT; `null` for an undo.
    pub direction: Option<&'static str>,
    /// What came of it.
    pub outcome: Outcome,
    /// For REJECTED: the stable code.
    #[schema(example = "already_used")]
    pub code: Option<&'static str>,
    /// What the steward said.
    pub say: &'static str,
    /// It was the ticket's first entry to a perimeter.
    pub first_entry: bool,
    /// An exit of somebody who was not inside.
    pub was_not_inside: bool,
    /// The reader had shown another answer, on account of a crash, and that one stood.
    pub conflict: bool,
    /// An operator has let them in by hand.
    pub by_hand: bool,
    /// What a reader would have said to whom a conflict or an operator's hand let in.
    #[schema(example = "already_used")]
    pub instead_of: Option<&'static str>,
    /// For `already_used`: when and where it was.
    pub first_use: Option<FirstUse>,
}

impl From<views::gates::AccessEntry> for AccessEntry {
    fn from(row: views::gates::AccessEntry) -> Self {
        let (outcome, code, say) = match row.verdict {
            Verdict::Admitted => (Outcome::Admitted, None, "Welcome."),
            Verdict::Exited => (Outcome::Exited, None, "Goodbye."),
            Verdict::Undone => (Outcome::Undone, None, "The scan was taken back."),
            Verdict::Rejected(rejection) => (Outcome::Rejected, Some(rejection.code()), rejection.sentence()),
        };
        Self {
            at: Moment(row.position.at),
            captured_at: Moment(row.captured_at),
            late: row.taken_at != row.position.at,
            counted_at: Moment(row.taken_at),
            ticket_id: row.ticket.map(|ticket| ticket.to_string()),
            zone: row.zone.0,
            gate: row.gate.0,
            device_id: row.device.map(|device| device.to_string()),
            direction: row.direction.map(direction_word),
            outcome,
            code,
            say,
            first_entry: row.flags & FIRST_ENTRY != 0,
            was_not_inside: row.flags & WAS_NOT_INSIDE != 0,
            conflict: row.flags & CONFLICT != 0,
            by_hand: row.flags & BY_HAND != 0,
            instead_of: row.instead_of.map(Rejection::code),
            first_use: row.first_use.map(FirstUse::from),
        }
    }
}

/// Which part of the access log: of one zone, or of one reader.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AccessLogQuery {
    /// Of this zone. Either this or `device`.
    pub zone: Option<u8>,
    /// Of this reader. Either this or `zone`.
    #[param(example = "1a2b3c4d-17")]
    pub device: Option<String>,
    /// From when; the beginning unless told.
    pub from: Option<Moment>,
    /// Until before when; now unless told.
    pub to: Option<Moment>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many rows, 1 to 1,000; 100 unless told.
    pub limit: Option<u32>,
}

/// Lists what happened at a zone or a reader, oldest first.
#[utoipa::path(get, path = "/festivals/{slug}/access-log", tag = "access log",
    params(("slug" = String, Path), AccessLogQuery), responses((status = 200, body = Page<AccessEntry>)))]
async fn list_access_log(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    Query(query): Query<AccessLogQuery>,
) -> Result<Json<Page<AccessEntry>>, Problem> {
    let festival = operator.at(&slug)?;
    let span = span(query.from, query.to)?;
    let of = match (query.zone, query.device) {
        (Some(zone), None) => AccessLog::Zone(festival, zone_no(zone)?, span),
        (None, Some(device)) => {
            let device = DeviceId::parse(&device).filter(|device| device.festival() == festival);
            AccessLog::Device(device.ok_or(Rejection::UnknownDevice)?, span)
        }
        _ => return Err(Problem::from(Fault::InvalidQuery).detail("Ask for one zone or for one device.")),
    };
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    entries(&state, of, &page).await
}

async fn entries(state: &AppState, of: AccessLog, page: &PageQuery) -> Result<Json<Page<AccessEntry>>, Problem> {
    let (after, limit) = (page.after()?, page.limit()?);
    let rows = state
        .read(move |models| {
            Ok(models.gates()?.access_log(of, views::Page { after, ..views::Page::first(limit + 1) })?)
        })
        .await?;
    Ok(Json(Page::of(rows, limit, |row| row.position, AccessEntry::from)))
}

/// Why was she refused at 18:04? Each scan of a ticket, oldest first, with what the steward said.
#[utoipa::path(get, path = "/tickets/{ticket}/history", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid), PageQuery), responses((status = 200, body = Page<AccessEntry>)))]
async fn ticket_history(
    State(state): State<AppState>,
    operator: Operator,
    Path(ticket): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<AccessEntry>>, Problem> {
    let ticket = ticket_for(&operator, &ticket)?;
    entries(&state, AccessLog::Ticket(ticket, Span::ALWAYS), &page).await
}

/// What one gate did in one minute.
#[derive(Debug, Serialize, ToSchema)]
pub struct MinuteCount {
    /// Where the minute begins.
    pub minute: Moment,
    /// Which gate.
    pub gate: u16,
    /// Entries, less undone ones.
    pub admitted: u64,
    /// Exits, less undone ones.
    pub exited: u64,
    /// Entries and exits of this minute that were undone, whenever that was.
    pub undone: u64,
    /// Rejections.
    pub rejected: u64,
}

/// A place in these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GateMinute {
    minute: Timestamp,
    gate: GateNo,
}

impl Position for GateMinute {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.minute.0.to_be_bytes().to_vec();
        bytes.extend(self.gate.0.to_be_bytes());
        bytes
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (minute, gate) = bytes.split_at_checked(8)?;
        let minute = Timestamp(i64::from_be_bytes(minute.try_into().ok()?));
        Some(Self { minute, gate: GateNo(u16::from_be_bytes(gate.try_into().ok()?)) })
    }
}

/// Counts by minute and gate. The store has a row for each zone that the gate's readers named: here they are one.
fn by_gate(
    views: &dyn GateViews,
    of: Counts,
    after: Option<GateMinute>,
    limit: usize,
) -> Result<Vec<MinuteCount>, ViewsError> {
    let behind = |GateMinute { minute, gate }| CountPosition { minute, gate, zone: ZoneNo(u8::MAX) };
    let mut page = views::Page { after: after.map(behind), ..views::Page::first(views::PAGE_MAX) };
    let mut rows: Vec<MinuteCount> = Vec::new();
    loop {
        let read = views.counts(of, page)?;
        let last = read.len() < views::PAGE_MAX;
        for CountRow { position, tally } in read {
            page.after = Some(position);
            let (minute, gate) = (position.minute, position.gate.0);
            if rows.last().is_none_or(|row| (row.minute.0, row.gate) != (minute, gate)) {
                if rows.len() >= limit {
                    return Ok(rows);
                }
                rows.push(MinuteCount { minute: Moment(minute), gate, admitted: 0, exited: 0, undone: 0, rejected: 0 });
            }
            let Some(row) = rows.last_mut() else { return Ok(rows) };
            row.admitted += tally.admitted();
            row.exited += tally.exited();
            row.undone += tally.undone();
            row.rejected += tally.rejected_in_all();
        }
        if last {
            return Ok(rows);
        }
    }
}

/// Which minutes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CountsQuery {
    /// From when; the beginning unless told.
    pub from: Option<Moment>,
    /// Until before when; now unless told.
    pub to: Option<Moment>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many rows, 1 to 1,000; 100 unless told.
    pub limit: Option<u32>,
}

/// Counts entries, exits and rejections by minute and gate, in the minute in which they were read. What is undone is taken
/// out of its minute. Minutes without scans are left out.
#[utoipa::path(get, path = "/festivals/{slug}/counts", tag = "access log", params(("slug" = String, Path), CountsQuery),
    responses((status = 200, body = Page<MinuteCount>)))]
async fn minute_counts(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
    Query(query): Query<CountsQuery>,
) -> Result<Json<Page<MinuteCount>>, Problem> {
    let of = Counts { festival: operator.at(&slug)?, span: span(query.from, query.to)? };
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    let (after, limit) = (page.after()?, page.limit()?);
    let rows = state.read(move |models| Ok(by_gate(&*models.gates()?, of, after, limit + 1)?)).await?;
    let position = |row: &MinuteCount| GateMinute { minute: row.minute.0, gate: GateNo(row.gate) };
    Ok(Json(Page::of(rows, limit, position, |row| row)))
}

//! One ticket: looked up, its QR, its status, blocked, its wristband, its last scan undone.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use engine::command::AdminAction;
use engine::gates::command::ByHand;
use engine::gates::view::{CODE_FOUND_MAX, TicketView};
use engine::model::credential;
use engine::model::ids::{CategoryNo, GateNo, TagUid, TicketCode, TicketId};
use engine::model::rejection::Rejection;
use engine::view::question::{GetTicket, GetTicketsByCode};
use fast_qr::convert::svg::SvgBuilder;
use fast_qr::{ECL, QRBuilder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::gates::categories::zones_of;
use crate::http::kit::answer::Done;
use crate::http::kit::json::{Moment, TicketStatus};
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::reason::{Reason, a_reason};
use crate::http::kit::request::{Change, Nothing, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::LookUp, routes!(show_ticket))
        .with(Right::ManageTickets, routes!(ticket_qr))
        .with(Right::ManageTickets, routes!(set_ticket_status))
        .with(Right::BlockTickets, routes!(block_ticket))
        .with(Right::BlockTickets, routes!(unblock_ticket))
        .with(Right::ManageTickets, routes!(bind_tag))
        .with(Right::ManageTickets, routes!(report_ticket_tag_lost))
        .with(Right::UndoScans, routes!(undo_scan))
        .with(Right::ManageFestival, routes!(restore_ticket))
        .with(Right::AdmitByHand, routes!(admit_by_hand))
        .with(Right::LookUp, routes!(tickets_by_code))
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Its id.
    #[schema(format = Uuid)]
    pub ticket_id: String,
    /// The short code that is printed on it; for people, it is not unique by itself.
    pub code: String,
    /// The number of its category.
    pub category: u16,
    /// Where it is in its life.
    pub status: TicketStatus,
    /// Blocked by the organiser.
    pub blocked: bool,
    /// The zones its holder is in.
    pub inside: Vec<u8>,
    /// When and where it first came in.
    pub first_use: Option<FirstUse>,
    /// The version of the key with which its QR is signed now.
    pub qr_version: u32,
    /// Its wristband's UID in hexadecimal.
    #[schema(example = "04a1b2c3d4e5f6")]
    pub nfc_tag_id: Option<String>,
    /// The wristband was reported lost.
    pub tag_lost: bool,
}

/// When and where a ticket first came in.
#[derive(Debug, Serialize, ToSchema)]
pub struct FirstUse {
    /// When.
    pub at: Moment,
    /// Into which perimeter.
    pub zone: u8,
    /// Through which gate.
    pub gate: u16,
}

impl From<engine::gates::command::FirstUse> for FirstUse {
    fn from(first: engine::gates::command::FirstUse) -> Self {
        Self { at: Moment(first.at), zone: first.zone.0, gate: first.gate.0 }
    }
}

impl From<&TicketView> for Ticket {
    fn from(view: &TicketView) -> Self {
        Self {
            ticket_id: view.id.to_string(),
            code: view.id.code().as_str().to_owned(),
            category: view.id.category().0,
            status: TicketStatus(view.status),
            blocked: view.blocked,
            inside: zones_of(view.inside),
            first_use: view.first_use.map(FirstUse::from),
            qr_version: view.qr_version,
            nfc_tag_id: view.tag.map(tag_text),
            tag_lost: view.tag_lost,
        }
    }
}

/// Reads a ticket's id out of an address, in any spelling of a UUID.
///
/// # Errors
/// `invalid_path` if it is no UUID, `unknown_ticket` if it is none of ours.
pub fn ticket_id(text: &str) -> Result<TicketId, Problem> {
    let uuid = uuid::Uuid::try_parse(text)
        .map_err(|_| Problem::from(Fault::InvalidPath).detail("A ticket's id is a UUID."))?;
    TicketId::from_u128(uuid.as_u128()).ok_or_else(|| Rejection::UnknownTicket.into())
}

/// The ticket with this id, if the operator may do this with it. A foreign festival's is unknown.
///
/// # Errors
/// As [`ticket_id`] and [`Operator::within`].
pub fn ticket_for(operator: &Operator, text: &str) -> Result<TicketId, Problem> {
    let ticket = ticket_id(text)?;
    operator.within(ticket.festival(), Rejection::UnknownTicket)?;
    Ok(ticket)
}

/// An SVG of a QR with this text, dark on white with the quiet zone that scanners need.
///
/// # Errors
/// `internal` if the text is longer than a QR holds, which none of ours is.
pub fn qr_svg(text: &str) -> Result<String, Problem> {
    let qr = QRBuilder::new(text).ecl(ECL::M).build().map_err(|error| {
        tracing::error!(?error, "a QR does not hold its text");
        Problem::from(Rejection::Internal)
    })?;
    Ok(SvgBuilder::default().to_str(&qr))
}

/// Shows a ticket.
#[utoipa::path(get, path = "/tickets/{ticket}", tag = "tickets", params(("ticket" = String, Path, format = Uuid)),
    responses((status = 200, body = Ticket)))]
async fn show_ticket(
    State(state): State<AppState>,
    operator: Operator,
    Path(ticket): Path<String>,
) -> Result<Json<Ticket>, Problem> {
    let ticket = ticket_for(&operator, &ticket)?;
    let view = state.get(GetTicket(ticket)).await?;
    Ok(Json(Ticket::from(&view)))
}

/// Draws a ticket's QR, signed with the present key.
#[utoipa::path(get, path = "/tickets/{ticket}/qr.svg", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid)),
    responses((status = 200, description = "The QR.", body = String, content_type = "image/svg+xml")))]
async fn ticket_qr(
    State(state): State<AppState>,
    operator: Operator,
    Path(ticket): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let ticket = ticket_for(&operator, &ticket)?;
    let view = state.get(GetTicket(ticket)).await?;
    let claim = state.qr_secret.key(ticket.festival(), view.qr_version).sign(ticket, view.qr_version);
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], qr_svg(&credential::text(&claim))?))
}

/// A status to be reached.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToTicketStatus {
    /// RESERVED → SOLD; RESERVED, SOLD → CANCELLED; SOLD, USED, CANCELLED → REFUNDED.
    pub status: TicketStatus,
}

/// Marks a ticket as paid, cancels or refunds it.
#[utoipa::path(post, path = "/tickets/{ticket}/status", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid)),
    request_body = ToTicketStatus, responses((status = 204, description = "It is so.")))]
async fn set_ticket_status(
    State(state): State<AppState>,
    Path(ticket): Path<String>,
    change: Change<ToTicketStatus>,
) -> Result<Done, Problem> {
    let ticket = ticket_for(&change.operator, &ticket)?;
    let to = change.body.read()?.status.0;
    state.ask_done(&change.operator, Some(change.key), AdminAction::SetTicketStatus { ticket, to }).await
}

/// Blocks a ticket: it is refused from the next scan on.
#[utoipa::path(post, path = "/tickets/{ticket}/block", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid)), responses((status = 204, description = "It is so.")))]
async fn block_ticket(
    State(state): State<AppState>,
    Path(ticket): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    set_blocked(&state, &ticket, change, true).await
}

/// Lets a blocked ticket go again.
#[utoipa::path(post, path = "/tickets/{ticket}/unblock", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid)), responses((status = 204, description = "It is so.")))]
async fn unblock_ticket(
    State(state): State<AppState>,
    Path(ticket): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    set_blocked(&state, &ticket, change, false).await
}

async fn set_blocked(state: &AppState, ticket: &str, change: Change<Nothing>, blocked: bool) -> Result<Done, Problem> {
    let ticket = ticket_for(&change.operator, ticket)?;
    change.body.read()?;
    state.ask_done(&change.operator, Some(change.key), AdminAction::BlockTicket { ticket, blocked }).await
}

/// A wristband.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// The tag's UID in hexadecimal: 4, 7 or 10 bytes.
    #[schema(example = "04a1b2c3d4e5f6", pattern = "^([0-9a-fA-F]{8}|[0-9a-fA-F]{14}|[0-9a-fA-F]{20})$")]
    pub uid: String,
}

impl Tag {
    fn parse(&self) -> Result<TagUid, Problem> {
        tag_at(&self.uid, "/uid")
    }
}

/// A tag's UID as JSON spells it.
pub fn tag_text(tag: TagUid) -> String {
    tag.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a tag's UID, in hexadecimal of either case. `at` is its JSON pointer.
///
/// # Errors
/// `validation`.
pub fn tag_at(uid: &str, at: &str) -> Result<TagUid, Problem> {
    let digits: Option<Vec<u8>> = uid.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    digits
        .filter(|digits| digits.len() % 2 == 0)
        .map(|digits| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>())
        .and_then(|bytes| TagUid::new(&bytes))
        .ok_or_else(|| Problem::field(at, "must be 4, 7 or 10 bytes in hexadecimal"))
}

/// Binds a wristband to a ticket, in place of any it had. If that one named a wallet, the wallet has the new one too.
#[utoipa::path(post, path = "/tickets/{ticket}/tag", tag = "tickets", params(("ticket" = String, Path, format = Uuid)),
    request_body = Tag, responses((status = 204, description = "It is so.")))]
async fn bind_tag(
    State(state): State<AppState>,
    Path(ticket): Path<String>,
    change: Change<Tag>,
) -> Result<Done, Problem> {
    let ticket = ticket_for(&change.operator, &ticket)?;
    let tag = change.body.read()?.parse()?;
    state.ask_done(&change.operator, Some(change.key), AdminAction::BindTag { ticket, tag }).await
}

/// Reports a ticket's wristband lost: from now on it opens no gate, pays at no stand, and cannot be given to anybody again.
/// Bind another one to the ticket; a wallet that the lost one named gets it too.
#[utoipa::path(post, path = "/tickets/{ticket}/tag/lost", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid)), responses((status = 204, description = "It is so.")))]
async fn report_ticket_tag_lost(
    State(state): State<AppState>,
    Path(ticket): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    let ticket = ticket_for(&change.operator, &ticket)?;
    change.body.read()?;
    state.ask_done(&change.operator, Some(change.key), AdminAction::ReportTicketTagLost { ticket }).await
}

/// Undoes a ticket's last scan, as a supervisor: without the 15 minutes that a reader has.
#[utoipa::path(post, path = "/tickets/{ticket}/undo-scan", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid)), responses((status = 204, description = "It is so.")))]
async fn undo_scan(
    State(state): State<AppState>,
    Path(ticket): Path<String>,
    change: Change<Nothing>,
) -> Result<Done, Problem> {
    let ticket = ticket_for(&change.operator, &ticket)?;
    change.body.read()?;
    state.ask_done(&change.operator, Some(change.key), AdminAction::UndoScan { ticket }).await
}

/// Makes a ticket that was cancelled or refunded SOLD again, while there is room. It moves no money.
#[utoipa::path(post, path = "/tickets/{ticket}/restore", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid)),
    request_body = Reason, responses((status = 204, description = "It is so.")))]
async fn restore_ticket(
    State(state): State<AppState>,
    Path(ticket): Path<String>,
    change: Change<Reason>,
) -> Result<Done, Problem> {
    let ticket = ticket_for(&change.operator, &ticket)?;
    let reason = a_reason(change.body.read()?.reason)?;
    let action = AdminAction::ByHand(ByHand::RestoreTicket { ticket, reason });
    state.ask_done(&change.operator, Some(change.key), action).await
}

/// Somebody is to be let in by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmissionByHand {
    /// Through which gate.
    pub gate: u16,
    /// Why, at most 200 bytes. It must name nobody: it is kept for ever.
    #[schema(example = "She was at the medical tent")]
    pub reason: String,
}

/// Lets a ticket's holder in by hand, in spite of `already_used`, `not_yet_valid`, `no_longer_valid`, `zone_denied`,
/// `already_inside` and `not_inside_parent`. It is counted and uses the ticket like a scan, and the access log says that it
/// was done by hand, and instead of what. Nothing else can be overruled.
#[utoipa::path(post, path = "/tickets/{ticket}/admit", tag = "tickets",
    params(("ticket" = String, Path, format = Uuid)),
    request_body = AdmissionByHand, responses((status = 204, description = "It is so.")))]
async fn admit_by_hand(
    State(state): State<AppState>,
    Path(ticket): Path<String>,
    change: Change<AdmissionByHand>,
) -> Result<Done, Problem> {
    let ticket = ticket_for(&change.operator, &ticket)?;
    let AdmissionByHand { gate, reason } = change.body.read()?;
    let action = ByHand::Admit { ticket, gate: GateNo(gate), reason: a_reason(reason)? };
    state.ask_done(&change.operator, Some(change.key), AdminAction::ByHand(action)).await
}

/// Tickets with a printed code.
#[derive(Debug, Serialize, ToSchema)]
pub struct TicketsWithCode {
    /// Mostly one; a code is not unique by itself.
    pub items: Vec<Ticket>,
}

/// Finds tickets by the short code that is printed on them. Case and hyphens do not matter, and O is 0, I and L are 1.
#[utoipa::path(get, path = "/festivals/{slug}/tickets/by-code/{code}", tag = "tickets",
    params(("slug" = String, Path), ("code" = String, Path, example = "BD2F-P2D4")),
    responses((status = 200, body = TicketsWithCode)))]
async fn tickets_by_code(
    State(state): State<AppState>,
    operator: Operator,
    Path((slug, code)): Path<(String, String)>,
) -> Result<Json<TicketsWithCode>, Problem> {
    let festival = operator.at(&slug)?;
    let code = TicketCode::parse(&code)
        .ok_or_else(|| Problem::from(Fault::InvalidPath).detail("A printed code has eight letters and digits."))?;
    let mut items = Vec::new();
    let mut from = (CategoryNo(0), 0);
    // A part at a time, so that the gates' scans pass in between.
    loop {
        let (found, next) = state.get(GetTicketsByCode { festival, code: code.bits(), from }).await?;
        items.extend(found.iter().map(Ticket::from));
        match next {
            Some(next) if items.len() < CODE_FOUND_MAX => from = next,
            _ => return Ok(Json(TicketsWithCode { items })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids() {
        let parse =
            |uid: &str| Tag { uid: uid.into() }.parse().map(|tag| tag.as_bytes().to_vec()).map_err(|p| p.code());
        assert_eq!(parse("04A1b2c3"), Ok(vec![0x04, 0xA1, 0xB2, 0xC3]));
        for bad in ["", "04", "04a1b2c", "04a1b2cg", "04:a1:b2:c3", "éééé", &"00".repeat(11)] {
            assert_eq!(parse(bad), Err("validation"), "{bad}");
        }
    }
}

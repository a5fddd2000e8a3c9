//! What the door asks of the read models, in its own words: plain questions and plain rows, so that whatever stores
//! them can be put behind [`ReadModels`] by a few lines. Money's are many, and are asked for in the words of
//! [`storage::views`], which are as plain.
//!
//! Every question names one festival (or a wallet), and an implementation answers from that festival alone: the door has
//! checked that the operator may see it. Positions in cursors are only ever places *within* such an answer.

use std::sync::Arc;

use engine::command::{Direction, FirstUse, Verdict};
use engine::ids::{CategoryNo, DeviceId, FestivalId, GateNo, TicketId, ZoneNo};
use engine::rejection::Rejection;
use engine::status::TicketStatus;
use engine::time::Timestamp;
use storage::views::{CashViews, ViewsError};

/// The read models of this node. Calls may read from disk: the door makes them on the blocking pool.
pub trait ReadModels: Send + Sync {
    /// Entries of the access log, oldest first, strictly after `page.after`.
    ///
    /// # Errors
    /// [`ReadError`].
    fn access_log(&self, of: AccessLog, page: PageOf<LogPosition>) -> Result<Vec<AccessRow>, ReadError>;

    /// Tickets by id, strictly after `page.after`.
    ///
    /// # Errors
    /// [`ReadError`].
    fn tickets(&self, of: Tickets, page: PageOf<TicketId>) -> Result<Vec<TicketRow>, ReadError>;

    /// Counts per minute and gate, by minute then gate, strictly after `page.after`. Minutes without scans are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    fn counts(&self, of: Counts, page: PageOf<CountPosition>) -> Result<Vec<CountRow>, ReadError>;

    /// Money's.
    ///
    /// # Errors
    /// [`ReadError`].
    fn cash(&self) -> Result<Arc<dyn CashViews + Send + Sync>, ReadError>;

    /// Something that was read cannot be: whether they are whole is to be looked at.
    fn suspect(&self);

    /// How they are getting on. Cheap.
    fn condition(&self) -> Condition;
}

/// How read models are getting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What they are doing.
    pub state: State,
    /// Records of the journal that they do not have yet.
    pub lag_records: u64,
}

/// What read models are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// They keep up.
    Following,
    /// They are being opened, and verified on the way.
    Opening,
    /// They are built from nothing, and are not yet where the journal ended when that began.
    Rebuilding,
    /// They stand still because of a fault, which the log names. It is tried again.
    Stopped,
}

/// Why there are no rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They are being rebuilt.
    #[error("the read models are being rebuilt")]
    Rebuilding,
    /// Whoever asked has gone.
    #[error("nobody waits for this read any more")]
    NobodyWaits,
    /// They cannot be read; the sentence is for whoever is on call, not for the client.
    #[error("{0}")]
    Failed(String),
}

impl From<ViewsError> for ReadError {
    fn from(why: ViewsError) -> Self {
        match why {
            ViewsError::NobodyWaits => Self::NobodyWaits,
            why => Self::Failed(why.to_string()),
        }
    }
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageOf<P> {
    /// The last row of the page before.
    pub after: Option<P>,
    /// How many rows at most.
    pub limit: usize,
}

/// From `from` until before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Timestamp,
    /// The first moment that is no longer in it.
    pub until: Timestamp,
}

/// Which part of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Of one zone.
    Zone(FestivalId, ZoneNo, Span),
    /// Of one reader, whose id names its festival.
    Device(DeviceId, Span),
    /// Of one ticket, whose id names its festival; all of it.
    Ticket(TicketId),
}

/// A place in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The shard's time of the decision.
    pub at: Timestamp,
    /// Tells entries of the same millisecond apart; rises in the order of decision.
    pub order: u64,
}

/// One scan, or one undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRow {
    /// Where it stands in the log.
    pub position: LogPosition,
    /// Whose, once the QR or wristband named one of this festival's.
    pub ticket: Option<TicketId>,
    /// Where.
    pub zone: ZoneNo,
    /// Through which gate.
    pub gate: GateNo,
    /// By which reader; `None` if the office did it.
    pub device: Option<DeviceId>,
    /// In or out; `None` for an undo.
    pub direction: Option<Direction>,
    /// What came of it.
    pub verdict: Verdict,
    /// As in `engine::command`: `WAS_NOT_INSIDE`, `CONFLICT`, `FIRST_ENTRY`.
    pub flags: u8,
    /// For `already_used`: when and where it was.
    pub first_use: Option<FirstUse>,
    /// What would have been decided, where a conflict or an operator's hand let somebody in.
    pub instead_of: Option<Rejection>,
    /// The reader's clock; of an undo the server's.
    pub captured_at: Timestamp,
    /// When it counts: earlier than its position if it had waited in its reader's queue.
    pub taken_at: Timestamp,
}

/// Which tickets. Filters are joined by "and".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tickets {
    /// Of which festival.
    pub festival: FestivalId,
    /// Only these.
    pub status: Option<TicketStatus>,
    /// Only this category's.
    pub category: Option<CategoryNo>,
    /// Only this person's.
    pub holder: Option<u128>,
}

/// One ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketRow {
    /// Which; its category is in it.
    pub ticket: TicketId,
    /// Where it is in its life.
    pub status: TicketStatus,
    /// Blocked by the organiser.
    pub blocked: bool,
    /// Whose, if that is known.
    pub holder: Option<u128>,
}

/// Which counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Of which festival.
    pub festival: FestivalId,
    /// Which minutes.
    pub span: Span,
}

/// A place in the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CountPosition {
    /// Where the minute begins.
    pub minute: Timestamp,
    /// Which gate's.
    pub gate: GateNo,
}

/// What one gate did in one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountRow {
    /// Which minute and gate.
    pub position: CountPosition,
    /// Entries, less undone ones.
    pub admitted: u64,
    /// Exits, less undone ones.
    pub exited: u64,
    /// Entries and exits of this minute that were undone, whenever that was.
    pub undone: u64,
    /// Rejections.
    pub rejected: u64,
}

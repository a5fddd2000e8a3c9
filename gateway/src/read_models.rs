//! The read models of this node behind the door's questions: a projector follows the journal into one file in the data
//! folder, and answers come from there. When it stands still, for want of space or for damage, the gates go on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::ids::{TicketId, ZoneNo};
use storage::journal::Journal;
use storage::projector::{Begin, Open, Pace, Projector};
use storage::views::embedded::EmbeddedViews;
use storage::views::{self, CashViews, PAGE_MAX, Page, Views, ViewsError};

use crate::http::readmodels::{
    AccessLog, AccessRow, Condition, CountPosition, CountRow, Counts, LogPosition, PageOf, ReadError, ReadModels, Span,
    State, TicketRow, Tickets,
};

/// How often the figures are set.
const FIGURES_EVERY: Duration = Duration::from_secs(5);

/// Where the read models of a data folder are.
pub fn file_in(data: &Path) -> PathBuf {
    data.join("views").join("views.redb")
}

/// Opens the read models at `path`, or begins new ones.
///
/// # Errors
/// As [`EmbeddedViews::open`].
pub fn open(path: &Path) -> Result<EmbeddedViews, ViewsError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .map_err(|why| ViewsError::Store { doing: "make the folder of", why: why.to_string() })?;
    }
    EmbeddedViews::open(path)
}

/// Removes the read models at `path`, if they are there.
fn remove(path: &Path) -> Result<(), ViewsError> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(ViewsError::Store { doing: "remove", why: why.to_string() })
        }
        _ => Ok(()),
    }
}

/// The read models, followed.
pub struct Lists {
    projector: Projector,
}

impl Lists {
    /// Begins to follow `journal` into the read models of the data folder. A file that is missing, damaged or of another journal is
    /// built from zero.
    ///
    /// # Errors
    /// The system's, if it gives no thread. Whatever is wrong with the file is told by [`ReadModels::condition`] and
    /// tried again.
    pub fn follow(journal: Arc<dyn Journal>, data: &Path) -> io::Result<Self> {
        let path = file_in(data);
        let open: Open = Box::new(move |begin| {
            if begin == Begin::Anew {
                remove(&path)?;
            }
            Ok(Arc::new(open(&path)?))
        });
        Ok(Self { projector: Projector::start(journal, open, Pace::default())? })
    }

    /// Sets the figures now and then. It has no end.
    pub async fn figures(self: Arc<Self>) {
        metrics::describe_gauge!(
            "tapgate_read_models_lag_records",
            "Records of the journal that the read models do not have yet."
        );
        metrics::describe_gauge!("tapgate_read_models_following", "1 while the read models follow the journal.");
        metrics::describe_counter!("tapgate_read_models_events_total", "Events folded into the read models.");
        let mut every = tokio::time::interval(FIGURES_EVERY);
        loop {
            every.tick().await;
            let status = self.projector.status();
            metrics::gauge!("tapgate_read_models_lag_records").set(status.lag_records as f64);
            metrics::gauge!("tapgate_read_models_following").set(f64::from(u8::from(status.fault.is_none())));
            metrics::counter!("tapgate_read_models_events_total").absolute(status.events);
        }
    }

    /// Makes what was written durable, and ends. Blocks for as long as one batch takes.
    pub fn stop(&self) {
        self.projector.stop();
    }

    fn views(&self) -> Result<Arc<dyn Views>, ReadError> {
        let status = self.projector.status();
        match (self.projector.views(), status.fault) {
            (_, Some(fault)) => Err(ReadError::Failed(fault)),
            (Some(views), None) if status.caught_up => Ok(views),
            _ => Err(ReadError::Rebuilding),
        }
    }
}

fn span(span: Span) -> views::Span {
    views::Span { from: span.from, until: span.until }
}

fn page<P, Q>(page: PageOf<P>, place: impl Fn(P) -> Q) -> Page<Q> {
    Page { after: page.after.map(place), limit: page.limit, backwards: false }
}

impl ReadModels for Lists {
    fn access_log(&self, of: AccessLog, asked: PageOf<LogPosition>) -> Result<Vec<AccessRow>, ReadError> {
        let of = match of {
            AccessLog::Zone(festival, zone, within) => views::AccessLog::Zone(festival, zone, span(within)),
            AccessLog::Device(device, within) => views::AccessLog::Device(device, span(within)),
            AccessLog::Ticket(ticket) => views::AccessLog::Ticket(ticket, views::Span::ALWAYS),
        };
        let place = |place: LogPosition| views::LogPosition { at: place.at, order: place.order };
        let entries = self.views()?.access_log(of, page(asked, place))?;
        Ok(entries.into_iter().map(AccessRow::from).collect())
    }

    fn tickets(&self, of: Tickets, asked: PageOf<TicketId>) -> Result<Vec<TicketRow>, ReadError> {
        let Tickets { festival, status, category, holder } = of;
        let of = views::Tickets { festival, status, category, holder };
        let rows = self.views()?.tickets(of, page(asked, |ticket| ticket))?;
        let row = |row: views::TicketRow| TicketRow {
            ticket: row.ticket,
            status: row.status,
            blocked: row.blocked,
            holder: row.holder,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    fn counts(&self, of: Counts, asked: PageOf<CountPosition>) -> Result<Vec<CountRow>, ReadError> {
        let views = self.views()?;
        let of = views::Counts { festival: of.festival, span: span(of.span) };
        // A gate has several rows in a minute if readers named other zones than its own; here they are one.
        let behind = |place: CountPosition| views::CountPosition {
            minute: place.minute,
            gate: place.gate,
            zone: ZoneNo(u8::MAX),
        };
        let mut next = Page { limit: PAGE_MAX, ..page(asked, behind) };
        let mut rows: Vec<CountRow> = Vec::new();
        loop {
            let read = views.counts(of, next)?;
            let last = read.len() < PAGE_MAX;
            for row in read {
                next.after = Some(row.position);
                let position = CountPosition { minute: row.position.minute, gate: row.position.gate };
                if rows.last().is_none_or(|known| known.position != position) {
                    if rows.len() >= asked.limit {
                        return Ok(rows);
                    }
                    rows.push(CountRow { position, admitted: 0, exited: 0, undone: 0, rejected: 0 });
                }
                let Some(known) = rows.last_mut() else { return Ok(rows) };
                known.admitted += row.tally.admitted();
                known.exited += row.tally.exited();
                known.undone += row.tally.undone();
                known.rejected += row.tally.rejected_in_all();
            }
            if last {
                return Ok(rows);
            }
        }
    }

    fn cash(&self) -> Result<Arc<dyn CashViews + Send + Sync>, ReadError> {
        Ok(self.views()?)
    }

    fn suspect(&self) {
        self.projector.suspect();
    }

    fn condition(&self) -> Condition {
        let status = self.projector.status();
        let state = match status {
            _ if status.fault.is_some() => State::Stopped,
            _ if status.rebuilding => State::Rebuilding,
            _ if status.opening => State::Opening,
            _ => State::Following,
        };
        Condition { state, lag_records: status.lag_records }
    }
}

impl From<views::AccessEntry> for AccessRow {
    fn from(entry: views::AccessEntry) -> Self {
        Self {
            position: LogPosition { at: entry.position.at, order: entry.position.order },
            ticket: entry.ticket,
            zone: entry.zone,
            gate: entry.gate,
            device: entry.device,
            direction: entry.direction,
            verdict: entry.verdict,
            flags: entry.flags,
            first_use: entry.first_use,
            captured_at: entry.captured_at,
            taken_at: entry.taken_at,
            instead_of: entry.instead_of,
        }
    }
}

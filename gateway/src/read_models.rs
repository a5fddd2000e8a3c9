//! The read models of this node as the doors reach them: a projector follows the journal into their store, which is one file
//! in the data folder, and [`storage::views`] answers from there. When it stands still, for want of space or for damage, the gates
//! go on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use storage::follower::Begin;
use storage::journal::Journal;
use storage::projector::{Open, Pace, Projector};
use storage::views::cashless::CashlessViews;
use storage::views::embedded::EmbeddedViews;
use storage::views::gates::GateViews;
use storage::views::{Views, ViewsError};

/// The read models of this node. What is reached through it may read from disk: the doors do that where blocking is
/// allowed.
pub trait ReadModels: Send + Sync {
    /// The lists of gates and tickets.
    ///
    /// # Errors
    /// [`ReadError`].
    fn gates(&self) -> Result<Arc<dyn GateViews>, ReadError>;

    /// The lists of money.
    ///
    /// # Errors
    /// [`ReadError`].
    fn cashless(&self) -> Result<Arc<dyn CashlessViews>, ReadError>;

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

/// Read models in one file of the data folder.
pub fn in_folder(data: &Path) -> Open {
    let path = file_in(data);
    Box::new(move |begin| {
        if begin == Begin::Anew {
            remove(&path)?;
        }
        Ok(Arc::new(open(&path)?))
    })
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

/// Read models that follow the journal.
pub struct FollowedReadModels {
    projector: Projector,
}

impl FollowedReadModels {
    /// Begins to follow `journal` into the store that `open` opens. One that is missing, damaged or of another journal is
    /// built from zero.
    ///
    /// # Errors
    /// The system's, if it gives no thread. Whatever is wrong with the store is told by [`ReadModels::condition`] and
    /// tried again.
    pub fn follow(journal: Arc<dyn Journal>, open: Open) -> io::Result<Self> {
        Ok(Self { projector: Projector::start(journal, open, Pace::default())? })
    }

    /// Sets the figures now and then. It has no end.
    pub async fn publish_metrics(self: Arc<Self>) {
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

impl ReadModels for FollowedReadModels {
    fn gates(&self) -> Result<Arc<dyn GateViews>, ReadError> {
        Ok(self.views()?)
    }

    fn cashless(&self) -> Result<Arc<dyn CashlessViews>, ReadError> {
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

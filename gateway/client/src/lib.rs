//! The device's side: connect, resume, scan or take payments, a bounded queue on disk for what could not be sent, back-off.
//!
//! ```no_run
//! # async fn example() -> Result<(), tapgate_client::ClientError> {
//! use std::path::Path;
//! use tapgate_client::{Direction, Read, Reader, ReaderOptions, enrol};
//!
//! let offer = "tapgate:enrol?…".parse().expect("the operator's QR");
//! let identity = enrol(&offer, Path::new("identity.json")).await?;
//! let reader = Reader::connect(identity, ReaderOptions::with_queue(Path::new("queue"))).await?;
//! let answered = reader.scan(Read::Qr(b"what the camera saw".to_vec()), Direction::Enter).await?;
//! println!("{:?}", answered.answer.verdict);
//! # Ok(()) }
//! ```
//!
//! A scan is in the queue's file before it is sent, and stays there until its final answer. Its number is never used
//! for anything else, so sending it again is harmless. A [`Terminal`] does the same with money. [`Link`] is the bare
//! connection underneath. `examples/reader.rs` and `examples/terminal.rs` are whole devices, with a keyboard for a scanner.

#![warn(missing_docs)] // outsiders read this

mod addresses;
mod ask;
mod driver;
mod identity;
mod late;
mod link;
mod pinned;
mod queue;
mod replace;
mod silence;
mod terminal;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::cashless::command::LINES_MAX;
use quinn::Endpoint;
use tapgate_wire::WireError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};

// What a device says and hears, so that it needs no other crate of ours.
pub use engine::cashless::command::{CashlessVerdict, Line, TerminalAnswer};
pub use engine::gates::command::{DeviceAnswer, Direction, Verdict};
pub use engine::model::ids::{DeviceId, ProductNo, TagUid, TicketId, TransactionId, VendorNo, WalletId, ZoneNo};
pub use engine::model::money::{Currency, Money};
pub use engine::model::rejection::Rejection;
pub use tapgate_wire::{NoOffer, Notice, Offer, Recent, Refusal};

pub use addresses::first_of;
pub use identity::{DeviceKey, Identity};
pub use late::{LateAnswer, Lately, Unanswered, settle, unanswered};
pub use link::{CONNECT_TIMEOUT, FrameReader, Link, PING_EVERY, TerminalWelcomed, Welcomed, config, endpoint};
pub use pinned::pinned;
pub use queue::QUEUE_MAX;
pub use replace::replace;
pub use terminal::{ANSWER_SLACK, Shown, Terminal, Told};

use ask::{Ask, DeviceKind, Reply};
use driver::Driver;
use late::Untold;

/// What can go wrong on a device.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The server says no.
    #[error("refused by the server: {refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// When to come again; 0 if that is of no use.
        retry_after_ms: u32,
    },
    /// The server closed the connection with this code of [`tapgate_wire::close`].
    #[error("closed by the server with code {0}")]
    Closed(u32),
    /// No connection: the network, another key, another protocol.
    #[error("no connection: {0}")]
    Net(String),
    /// It took too long.
    #[error("the server did not answer in time")]
    Timeout,
    /// The server sent what is no frame, or one out of place.
    #[error("the server does not speak tapgate/2: {0}")]
    Server(WireError),
    /// The queue holds [`QUEUE_MAX`] commands; nothing was taken.
    #[error("the queue is full: {QUEUE_MAX} commands wait for the server")]
    QueueFull,
    /// The device has never been connected, so it does not know where it stands.
    #[error("the device does not know yet which zone it stands at")]
    NoZoneYet,
    /// The terminal has never been connected, so it does not know which numbers are free.
    #[error("the terminal has never been connected")]
    NeverConnected,
    /// A payment with more lines than one can have; nothing was taken.
    #[error("a payment has at most {LINES_MAX} lines")]
    TooManyLines,
    /// The server knows this device as a terminal, and it was to be a reader, or the other way round.
    #[error("this device is enrolled as {0}")]
    WrongTrade(&'static str),
    /// It was sent, the caller's patience is over, and nobody knows yet whether it was done: [`Event::LateAnswer`] will say.
    #[error("there is no answer yet; it may still be done")]
    NoAnswerYet,
    /// The server takes no more from this device, and had been sent this: nobody here knows whether it was done. Money that
    /// was taken is kept until an operator has looked it up under the device and this number. It stays in the queue
    /// ([`unanswered`]).
    #[error("nobody knows whether number {seq} was done: {why}")]
    InDoubt {
        /// The command's number.
        seq: u64,
        /// Why there will be no answer.
        why: Box<ClientError>,
    },
    /// There is no connection now, and this cannot be asked later.
    #[error("there is no connection to the server")]
    Offline,
    /// The server's lists are being built anew, or it is asked for too many of them.
    #[error("the server cannot list transactions now")]
    NoLists,
    /// The device was closed.
    #[error("the device was closed")]
    Gone,
    /// This identity file belongs to an enrolled device already.
    #[error("this device was enrolled before")]
    AlreadyEnrolled,
    /// The enrolment never ended.
    #[error("this device's enrolment has not ended: show it a code again")]
    NotEnrolled,
    /// Another process uses this queue.
    #[error("{0} is used by another process")]
    InUse(PathBuf),
    /// A file is not what it should be.
    #[error("{0} is damaged, or of another device")]
    Damaged(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: Arc<io::Error>,
    },
    /// No randomness, or a key that is none.
    #[error("the device's key cannot be made or used")]
    Key,
}

impl ClientError {
    /// Coming again will not help.
    pub fn is_final(&self) -> bool {
        use engine::model::rejection::Rejection::{DeviceRevoked, UnknownDevice};
        match self {
            Self::Refused { refusal, .. } => matches!(
                refusal,
                Refusal::Rejected(DeviceRevoked | UnknownDevice)
                    | Refusal::BadVersion
                    | Refusal::BadProof
                    | Refusal::Replaced
            ),
            Self::Closed(code) => {
                use tapgate_wire::close;
                matches!(*code, close::REVOKED | close::BAD_VERSION | close::AUTH_FAILED | close::REPLACED)
            }
            Self::Net(_) | Self::Timeout | Self::Server(_) => false,
            _ => true,
        }
    }
}

/// Enrols this device: makes its key, shows the offer's code, keeps who it is from now on at `path`. Cut off at any
/// moment, it can be called again with the same offer and ends well, even if the server's answer was lost.
///
/// # Errors
/// [`ClientError::Refused`] with `unknown_code` or `code_expired`; [`ClientError::AlreadyEnrolled`]; no connection.
pub async fn enrol(offer: &Offer, path: &Path) -> Result<Identity, ClientError> {
    let key = identity::key_for_enrolment(path, offer.server(), offer.fingerprint())?;
    let identity = enrol_key(None, offer, key).await?;
    identity.save(path)?;
    Ok(identity)
}

/// The same with a key that is kept elsewhere; `endpoint` may be shared by many devices.
///
/// # Errors
/// As [`enrol`].
pub async fn enrol_key(endpoint: Option<&Endpoint>, offer: &Offer, key: DeviceKey) -> Result<Identity, ClientError> {
    let device = link::enrol(endpoint, offer, &key).await?;
    Ok(Identity {
        device,
        server: offer.server().to_owned(),
        fingerprint: offer.fingerprint(),
        next: None,
        file: None,
        key,
    })
}

/// What was held to the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The bytes of a QR.
    Qr(Vec<u8>),
    /// A wristband's tag.
    Tag(TagUid),
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its number, to undo it by.
    pub seq: u64,
    /// What.
    pub answer: DeviceAnswer,
    /// On the server's disk. If not, the reader keeps the scan until it is ([`Event::Confirmed`]).
    pub durable: bool,
}

/// What happens to a reader without its asking.
#[derive(Clone, Debug)]
pub enum Event {
    /// It is connected.
    Connected(Arc<Welcomed>),
    /// It is not, and tries again: within 3 s of the last packet if something is unanswered.
    Lost(ClientError),
    /// It is not, and will not be: revoked, unknown, replaced by another connection of the same identity.
    Ended(ClientError),
    /// The server says something.
    Notice(Notice),
    /// An answer that was not on disk when it came is now.
    Confirmed(u64),
    /// The server cannot answer this command now: [`Rejection::Unavailable`], nothing was done; or
    /// [`Rejection::InDoubt`], perhaps it was. It is asked again under the same number until it is answered; said
    /// once for each.
    PutOff {
        /// Which.
        seq: u64,
        /// Why, and what to say.
        why: Rejection,
    },
    /// What was decided and nobody waited for: the caller had given up, or asked before a restart.
    LateAnswer(LateAnswer),
}

/// How a reader is set up.
#[derive(Clone, Default)]
pub struct ReaderOptions {
    /// Where its queue is kept. None: in memory, for tests and load.
    pub queue: Option<PathBuf>,
    /// A socket shared with others. None: one of its own.
    pub endpoint: Option<Endpoint>,
    /// The zone to scan for. None: where the device's gate is.
    pub zone: Option<ZoneNo>,
    /// How long to wait after the first broken connection; doubles up to [`BACKOFF_MAX`]. None: 100 ms.
    pub backoff: Option<Duration>,
}

/// The longest wait between two attempts to connect.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Calls under way to a reader's task; a caller beyond it waits. 256 × 128 B = 32 KiB.
const ASKS_MAX: usize = 256;
/// Events a slow listener may be behind; it loses the oldest.
const EVENTS_MAX: usize = 1_024;

impl ReaderOptions {
    /// With a queue at this path, and everything else as usual.
    pub fn with_queue(path: &Path) -> Self {
        Self { queue: Some(path.to_owned()), ..Self::default() }
    }
}

/// A reader that stays connected. Clones are the same reader; it ends when the last one goes.
#[derive(Clone)]
pub struct Reader {
    device: DeviceId,
    asks: mpsc::Sender<Ask>,
    events: broadcast::Sender<Event>,
    state: watch::Receiver<State>,
    untold: Untold,
}

/// How a reader is.
#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Connecting,
    Connected(Arc<Welcomed>),
    Ended(ClientError),
}

impl Reader {
    /// Opens the queue and begins to connect; scans are taken at once, if the queue knows the reader's zone.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The queue's file cannot be used.
    pub fn start(identity: Identity, options: ReaderOptions) -> Result<Self, ClientError> {
        let (asks, inbox) = mpsc::channel(ASKS_MAX);
        let (events, untold) = (broadcast::Sender::new(EVENTS_MAX), Untold::new());
        let (state_out, state) = watch::channel(State::default());
        let device = identity.device;
        let driver =
            Driver::new(identity, DeviceKind::Reader, options, inbox, (events.clone(), untold.clone()), state_out)?;
        tokio::spawn(driver.run());
        Ok(Self { device, asks, events, state, untold })
    }

    /// The same, and waits until the device is connected.
    ///
    /// # Errors
    /// As [`Self::start`]; the server's refusal, if it is final; [`ClientError::Timeout`] after twice
    /// [`CONNECT_TIMEOUT`].
    pub async fn connect(identity: Identity, options: ReaderOptions) -> Result<Self, ClientError> {
        let reader = Self::start(identity, options)?;
        tokio::time::timeout(2 * CONNECT_TIMEOUT, reader.connected()).await.unwrap_or(Err(ClientError::Timeout))?;
        Ok(reader)
    }

    /// Its id.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Waits until it is connected.
    ///
    /// # Errors
    /// It never will be.
    pub async fn connected(&self) -> Result<Arc<Welcomed>, ClientError> {
        connected(&self.state).await
    }

    /// Somebody wants in or out. The first answer; see [`Answered::durable`]. Waits as long as there is no connection:
    /// the scan is in the queue and will be sent, also when the caller has stopped waiting.
    ///
    /// # Errors
    /// [`ClientError::QueueFull`], [`ClientError::NoZoneYet`], the queue's file; the server's final refusal.
    pub async fn scan(&self, read: Read, direction: Direction) -> Result<Answered, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Scan { read, direction, reply: Reply::Once(reply) }).await?;
        answer.await.map_err(|_| ClientError::Gone)?
    }

    /// Takes back the scan with this number, whose answer named this ticket.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub async fn undo(&self, scan_seq: u64, ticket: TicketId) -> Result<Answered, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Undo { scan_seq, ticket, reply: Reply::Once(reply) }).await?;
        answer.await.map_err(|_| ClientError::Gone)?
    }

    /// Many scans without waiting for each: at most `window` at a time.
    pub fn stream(&self, window: usize) -> ScanStream {
        let (replies, answers) = mpsc::unbounded_channel(); // Bounded by the window's permits.
        ScanStream { reader: self.clone(), window: Arc::new(Semaphore::new(window.max(1))), replies, answers, next: 0 }
    }

    /// What happens from now on, and for the first who asks the late answers that came before. A listener that lags loses
    /// the oldest and is told so.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.untold.listen(&self.events)
    }

    /// Says goodbye and ends the reader; what is unanswered stays in the queue's file.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.ask(Ask::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    async fn ask(&self, ask: Ask) -> Result<(), ClientError> {
        hand_over(&self.asks, &self.state, ask).await
    }
}

/// Waits until a device is connected, or never will be.
async fn connected(state: &watch::Receiver<State>) -> Result<Arc<Welcomed>, ClientError> {
    let mut state = state.clone();
    loop {
        match &*state.borrow_and_update() {
            State::Connecting => {}
            State::Connected(welcome) => return Ok(Arc::clone(welcome)),
            State::Ended(error) => return Err(error.clone()),
        }
        state.changed().await.map_err(|_| ClientError::Gone)?;
    }
}

/// Gives the device's task something to do, or says why there is none any more.
async fn hand_over(asks: &mpsc::Sender<Ask>, state: &watch::Receiver<State>, ask: Ask) -> Result<(), ClientError> {
    if asks.send(ask).await.is_ok() {
        return Ok(());
    }
    match &*state.borrow() {
        State::Ended(error) => Err(error.clone()),
        _ => Err(ClientError::Gone),
    }
}

/// Scans that are under way together.
pub struct ScanStream {
    reader: Reader,
    window: Arc<Semaphore>,
    replies: mpsc::UnboundedSender<Streamed>,
    answers: mpsc::UnboundedReceiver<Streamed>,
    next: u64,
}

/// One answer of a [`ScanStream`], with its place in the window.
struct Streamed {
    token: u64,
    outcome: Result<Answered, ClientError>,
    _place: OwnedSemaphorePermit,
}

impl ScanStream {
    /// Sends one; waits while the window is full (take answers with [`Self::next`] meanwhile, or push with
    /// [`Self::has_room`]). The token that its answer will carry, counting from 0.
    ///
    /// # Errors
    /// The reader has ended.
    pub async fn push(&mut self, read: Read, direction: Direction) -> Result<u64, ClientError> {
        let place = Arc::clone(&self.window).acquire_owned().await.map_err(|_| ClientError::Gone)?;
        let token = self.next;
        let reply = Reply::Streamed { token, place, replies: self.replies.clone() };
        self.reader.ask(Ask::Scan { read, direction, reply }).await?;
        self.next += 1;
        Ok(token)
    }

    /// Another push would not wait.
    pub fn has_room(&self) -> bool {
        self.window.available_permits() > 0
    }

    /// The next answer, in the order in which they come. Waits for ever if none is under way.
    pub async fn next(&mut self) -> (u64, Result<Answered, ClientError>) {
        match self.answers.recv().await {
            Some(Streamed { token, outcome, _place }) => (token, outcome),
            None => unreachable!("the stream holds a sender itself"),
        }
    }
}

//! A simulated device, as whoever drives it sees it. It knows no network and no clock: bytes and nanoseconds come in,
//! bytes go out.

use engine::model::ids::DeviceId;
use hdrhistogram::Histogram;
use tapgate_wire::{Frame, Refusal};

/// The most that is written at a time, in bytes: 840 packed scans.
pub const WRITE_MAX: usize = 64 * 1_024;
/// The longest latency that is told apart, in µs; what took longer counts as that.
pub const LATENCY_MAX_US: u64 = 120_000_000;

/// A simulated device.
pub trait SimulatedDevice: Send + 'static {
    /// Which one of the run, from 0.
    fn number(&self) -> usize;
    /// Nanosecond 0 is then, in ms since 1970: what it captures has a time.
    fn begins_at(&mut self, epoch_ms: i64);
    /// The server has given it this id.
    fn enrolled(&mut self, device: DeviceId);
    /// Commands sent, each counted once however often it was sent again.
    fn sent(&self) -> u64;
    /// How many commands have no answer.
    fn open(&self) -> usize;
    /// Everything that was asked is answered, and on disk.
    fn is_done(&self) -> bool;
    /// When the oldest command was sent that is still to be answered and was not refused.
    fn waits_since_ns(&self) -> Option<u64>;
    /// When a refused command is to be sent again, if there is one.
    fn next_retry_ns(&self) -> Option<u64>;
    /// Whether one more may be asked, and there is room for it in `out`.
    fn may_ask(&self, out: &[u8]) -> bool;
    /// Asks for whoever comes next. False if nobody can come now.
    fn ask(&mut self, due_ns: u64, now_ns: u64, out: &mut Vec<u8>) -> bool;
    /// When the asking is over: what has to be asked all the same, as far as window and `out` have room.
    fn ask_at_the_end(&mut self, _now_ns: u64, _out: &mut Vec<u8>) {}
    /// Sends again what was refused and is due.
    fn ask_again(&mut self, now_ns: u64, out: &mut Vec<u8>);
    /// The connection has taken this command now.
    fn left(&mut self, seq: u64, now_ns: u64);
    /// On a new connection: everything above the floor is asked again, in order; also what was answered, whose answers
    /// must be the same again.
    fn resume(&mut self, now_ns: u64, out: &mut Vec<u8>);
    /// A frame has arrived.
    ///
    /// # Errors
    /// The server's refusal: it ends the connection, and why.
    fn heard(&mut self, frame: &Frame<'_>, now_ns: u64, latencies: &mut Latencies) -> Result<(), Refusal>;
}

/// From a person's turn to the answer on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When it was their turn, in ns after the start.
    pub due_ns: u64,
    /// When they had their answer.
    pub told_ns: u64,
}

/// How long answers and refusals took, in µs.
pub struct Latencies {
    /// From the moment a command should have been sent to its answer.
    pub answers: Histogram<u64>,
    /// From the moment a command was sent to its refusal at the door.
    pub busy: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order");
        Self { answers: histogram(), busy: histogram() }
    }
}

impl Latencies {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.answers += &other.answers;
        self.busy += &other.busy;
    }
    /// A command that was due then is answered now.
    pub fn answered(&mut self, due_ns: u64, now_ns: u64) {
        self.answers.saturating_record((now_ns.saturating_sub(due_ns) / 1_000).clamp(1, LATENCY_MAX_US));
    }
    /// A command that was sent then is refused now.
    pub fn refused(&mut self, sent_ns: u64, now_ns: u64) {
        self.busy.saturating_record((now_ns.saturating_sub(sent_ns) / 1_000).clamp(1, LATENCY_MAX_US));
    }
}

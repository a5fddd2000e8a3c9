//! What waits to be written to one connection: frames behind each other, taken all at once, so that the answers of a whole step
//! leave in one write. Whoever adds to it never waits.

use std::sync::{Mutex, MutexGuard, PoisonError};

use actors::peers::codec::{self, Frame, TooLong};
use tokio::sync::Notify;

/// Frames for one connection.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
    /// Some was taken.
    less: Notify,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    closed: bool,
}

/// Why a frame was not added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotAdded {
    /// So much waits already.
    Full,
    /// Nobody writes any more.
    Closed,
    TooLong(TooLong),
}

impl Queue {
    /// Adds a frame while fewer than so many bytes wait: it may go beyond that by its own length.
    pub(super) fn add<F: Frame>(&self, frame: &F, bytes_max: usize) -> Result<(), NotAdded> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(NotAdded::Closed);
        }
        if waiting.bytes.len() >= bytes_max {
            return Err(NotAdded::Full);
        }
        let was_empty = waiting.bytes.is_empty();
        codec::encode(frame, &mut waiting.bytes).map_err(NotAdded::TooLong)?;
        drop(waiting);
        if was_empty {
            self.more.notify_one();
        }
        Ok(())
    }

    /// All that waits, once there is something; `None` when it is closed.
    pub(super) async fn take(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut waiting = self.waiting();
                if waiting.closed {
                    return None;
                }
                if !waiting.bytes.is_empty() {
                    self.less.notify_one();
                    return Some(core::mem::take(&mut waiting.bytes));
                }
            }
            self.more.notified().await;
        }
    }

    /// How many wait.
    pub(super) fn bytes(&self) -> usize {
        self.waiting().bytes.len()
    }

    /// Until fewer bytes wait than these.
    pub(super) async fn shorter_than(&self, bytes: usize) {
        while self.bytes() >= bytes {
            self.less.notified().await;
        }
    }

    /// Takes no more, and forgets what waits.
    pub(super) fn close(&self) {
        *self.waiting() = Waiting { bytes: Vec::new(), closed: true };
        self.more.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What pieces of a frame may keep for the next, in bytes.
const KEPT_BYTES: usize = 64 * 1_024;

/// Puts frames together again from the pieces in which they come.
#[derive(Default)]
pub(super) struct Pieces(Vec<u8>);

impl Pieces {
    /// Takes in what has come, and gives out each frame that is whole. What is left over is less than one frame.
    ///
    /// # Errors
    /// [`codec::Malformed`], and whatever `with` says.
    pub(super) fn take<F: Frame>(
        &mut self,
        piece: &[u8],
        mut with: impl FnMut(F) -> Result<(), codec::Malformed>,
    ) -> Result<(), codec::Malformed> {
        // Nearly always nothing is left over, and frames are read where they lie.
        if self.0.is_empty() {
            let taken = read(piece, &mut with)?;
            self.0.extend_from_slice(&piece[taken..]);
        } else {
            self.0.extend_from_slice(piece);
            let taken = read(&self.0, &mut with)?;
            self.0.drain(..taken);
        }
        // A large one came once: its room is not kept for ever.
        if self.0.is_empty() && self.0.capacity() > KEPT_BYTES {
            self.0 = Vec::new();
        }
        Ok(())
    }
}

/// Frames from the beginning of these bytes, and how many bytes these took.
fn read<F: Frame>(
    bytes: &[u8],
    with: &mut impl FnMut(F) -> Result<(), codec::Malformed>,
) -> Result<usize, codec::Malformed> {
    let mut at = 0;
    while let Some((frame, taken)) = codec::decode(&bytes[at..])? {
        at += taken;
        with(frame)?;
    }
    Ok(at)
}

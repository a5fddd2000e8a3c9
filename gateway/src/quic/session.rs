//! One device's connection, from the first packet to the last word. What its frames mean is said in `reader` and
//! `terminal`; here is what both share: the order of frames, how many may come, when to stop.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use actors::Busy;
use bytes::Bytes;
use engine::gates::view::DeviceView;
use engine::model::ids::DeviceId;
use engine::model::rejection::Rejection;
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use tapgate_wire::{Fingerprint, Frame, Notice, Refusal, Unusable, WireError, close, decode, unusable};
use tokio::time::{timeout, timeout_at};

use super::handshake::{Proven, prove};
use super::limits::{ConnectionPermit, TokenBucket};
use super::outbox::{End, Outbox, part};
use super::reader::Reader;
use super::terminal::Terminal;
use super::welcome::welcome;
use super::{Listener, SessionGuard};

/// Packets taken in one read: 32 × 1,452 B = 45 KiB, about 590 packed scans or 930 payments by wristband.
const CHUNKS: usize = 32;

/// From the first packet to the last word.
pub(super) async fn serve(listener: Arc<Listener>, incoming: Incoming, mut permit: ConnectionPermit) {
    let deadline = tokio::time::Instant::now() + listener.limits.hello_timeout;
    let Ok(connecting) = incoming.accept() else { return listener.metrics.refused.increment(1) };
    let connected = tokio::select! {
        connected = timeout_at(deadline, connecting) => connected,
        () = permit.displaced() => return listener.metrics.refused.increment(1),
    };
    let Ok(Ok(connection)) = connected else { return listener.metrics.refused.increment(1) };
    let stream = tokio::select! {
        stream = timeout_at(deadline, connection.accept_bi()) => stream.map_err(|_| Refusal::TooSlow),
        () = permit.displaced() => Err(Refusal::TooMany),
    };
    let (mut send, mut recv) = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return listener.metrics.refused.increment(1),
        Err(refusal) => {
            listener.metrics.refused.increment(1);
            return connection.close(VarInt::from_u32(refusal.close_code()), refusal.sentence().as_bytes());
        }
    };
    let outbox = Outbox::new(&listener.limits, Arc::clone(&listener.metrics), Arc::clone(&listener.unconfirmed));
    let proven = tokio::select! {
        proven = timeout_at(deadline, prove(&listener, &permit, &connection, &mut send, &mut recv)) => {
            proven.unwrap_or(Err(End::refused(Refusal::TooSlow)))
        }
        () = permit.displaced() => Err(End { retry_after_ms: 1_000, ..End::refused(Refusal::TooMany) }),
    };
    let opening = async {
        let proven = proven?;
        if !permit.prove() {
            return Err(End { retry_after_ms: 5_000, ..End::refused(Refusal::TooMany) });
        }
        let mut entered = listener.enter(proven.device.id, Arc::clone(&outbox));
        entered.connected(&proven.device).await?;
        let next_seq = welcome(&listener, &proven.device, &mut send).await?;
        Ok((proven, entered, next_seq))
    };
    match timeout_at(deadline, opening).await.unwrap_or(Err(End::refused(Refusal::TooSlow))) {
        Ok((proven, entered, next_seq)) => {
            listener.metrics.handshakes.increment(1);
            connection.set_receive_window(VarInt::from_u32(listener.limits.window_bytes));
            let Proven { device, ahead } = proven;
            let session = Session::new(listener, &device, next_seq, outbox, entered, ahead);
            session.run(&connection, send, recv).await;
        }
        Err(end) => {
            // Who has enrolled and goes is done, and has not failed.
            if end != End::BYE {
                listener.metrics.refused.increment(1);
            }
            part(&connection, &mut send, end).await;
        }
    }
}

struct Session {
    intake: Intake,
    kind: DeviceKind,
    /// Gives the device's place back.
    _entered: SessionGuard,
}

/// What a device is.
enum DeviceKind {
    Reader(Reader),
    Terminal(Terminal),
}

/// What comes in from a device, of whichever trade.
pub(super) struct Intake {
    pub(super) listener: Arc<Listener>,
    pub(super) device: DeviceId,
    pub(super) outbox: Arc<Outbox>,
    /// The first bytes of a frame that has not arrived whole: less than a frame.
    carry: Vec<u8>,
    rate: Option<TokenBucket>,
    /// The device has been told to slow down, and has not yet.
    slowed: bool,
    /// It has said that it keeps the server's next pin.
    pinned: bool,
}

impl Intake {
    /// The device keeps what it was told of the next key: said once a connection, since each time is a record.
    pub(super) fn pinned(&mut self, pin: Fingerprint) {
        if !std::mem::replace(&mut self.pinned, true) {
            self.listener.pins.kept(&self.listener.node, self.device, pin);
        }
    }
}

impl Session {
    fn new(
        listener: Arc<Listener>,
        device: &DeviceView,
        next_seq: u64,
        outbox: Arc<Outbox>,
        entered: SessionGuard,
        ahead: Vec<u8>,
    ) -> Self {
        let rate =
            (listener.limits.frames_per_s > 0).then(|| TokenBucket::full(listener.limits.frames_burst, Instant::now()));
        let kind = match device.terminal {
            None => DeviceKind::Reader(Reader::new(&outbox)),
            Some(_) => DeviceKind::Terminal(Terminal::new(&outbox, listener.numbers.of(device.id), next_seq)),
        };
        let intake = Intake { listener, device: device.id, outbox, carry: ahead, rate, slowed: false, pinned: false };
        intake.listener.pins.shown(&intake.listener.node, device);
        Self { intake, kind, _entered: entered }
    }

    /// Reads and writes until either side has had enough.
    async fn run(mut self, connection: &Connection, mut send: SendStream, mut recv: RecvStream) {
        let outbox = Arc::clone(&self.intake.outbox);
        let mut writer = pin!(outbox.write_out(connection, &mut send));
        tokio::select! {
            () = &mut writer => return,
            end = self.read_in(&mut recv) => outbox.end(end),
        }
        // What is owed is waited for, but not for ever: after a fault of the journal some answers never come.
        if timeout(self.intake.listener.limits.write_timeout, writer).await.is_err() {
            connection.close(VarInt::from_u32(close::RESUME), b"");
        }
    }

    async fn read_in(&mut self, recv: &mut RecvStream) -> End {
        let mut chunks: [Bytes; CHUNKS] = Default::default();
        // What came with the proof.
        let mut arrived = 0;
        loop {
            // Nothing is taken once the session has ended: what was not answered, the device sends again.
            if let Some(end) = self.intake.outbox.ended() {
                return end;
            }
            let end = match &mut self.kind {
                DeviceKind::Reader(reader) => reader.take_in(&mut self.intake, &mut chunks[..arrived]),
                DeviceKind::Terminal(terminal) => {
                    let (end, asks) = terminal.take_in(&mut self.intake, &mut chunks[..arrived]);
                    if let Some(asks) = asks {
                        // Boxed: seldom, and readers' sessions shall not be as large as this is.
                        Box::pin(terminal.look_up(&self.intake, *asks)).await;
                    }
                    end
                }
            };
            if let Some(end) = end {
                return end;
            }
            if let Some(end) = self.intake.outbox.room().await {
                return end;
            }
            arrived = match recv.read_chunks(&mut chunks).await {
                Ok(Some(arrived)) => arrived,
                Ok(None) if self.intake.carry.is_empty() => return End::BYE,
                Ok(None) | Err(quinn::ReadError::Reset(_)) => {
                    self.intake.listener.metrics.malformed.increment(1);
                    return End::refused(Refusal::Malformed);
                }
                Err(_) => return End::RESUME,
            };
        }
    }
}

/// What lay at the front of the stream.
pub(super) enum Taken<'a> {
    Frame(Frame<'a>),
    /// To be answered with its rejection, and nothing else.
    Unusable(Unusable),
}

impl Intake {
    /// Puts what has arrived behind what was there.
    pub(super) fn gather(&mut self, chunks: &mut [Bytes], bytes: &mut Vec<u8>, now: Instant) {
        bytes.clear();
        bytes.append(&mut self.carry);
        for chunk in chunks {
            bytes.extend_from_slice(chunk);
            *chunk = Bytes::new(); // The packet goes back now, not with the next read.
        }
        if let Some(rate) = &mut self.rate {
            let limits = &self.listener.limits;
            rate.refill(f64::from(limits.frames_per_s), limits.frames_burst, now);
            self.slowed &= !rate.is_at_least(f64::from(limits.frames_burst / 2));
        }
    }

    /// The next whole frame; without one, what is left is kept for later.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<Taken<'a>>, End> {
        match decode(rest) {
            Ok(Some((frame, len))) => {
                *rest = &rest[len..];
                Ok(Some(Taken::Frame(frame)))
            }
            Ok(None) => {
                self.carry.extend_from_slice(rest);
                Ok(None)
            }
            Err(WireError::Protocol(_)) => Err(End::refused(Refusal::BadVersion)),
            Err(error) => {
                if let Some(command) = unusable(rest, error) {
                    tracing::debug!(device = %self.device, seq = command.seq, %error, "cannot be carried out");
                    *rest = &rest[command.len..];
                    return Ok(Some(Taken::Unusable(command)));
                }
                tracing::debug!(device = %self.device, %error, "malformed");
                self.listener.metrics.malformed.increment(1);
                Err(End::refused(Refusal::Malformed))
            }
        }
    }

    /// Whether the device may send one more now.
    pub(super) fn may(&mut self) -> bool {
        self.rate.as_mut().is_none_or(TokenBucket::take)
    }

    /// The device sends too much.
    pub(super) fn slow_down(&mut self, seqs: &[u64]) {
        let per_s = self.listener.limits.frames_per_s.max(1);
        let retry_after_ms = (seqs.len() as u64 * 1_000 / u64::from(per_s)).clamp(10, 5_000) as u32;
        if !self.slowed {
            self.slowed = true;
            self.outbox.notice(Notice::SlowDown { retry_after_ms });
        }
        self.outbox.busy(seqs, Busy { retry_after_ms, ..Busy::of(Rejection::Busy) });
    }
}

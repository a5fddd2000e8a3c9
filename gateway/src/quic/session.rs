//! One device's connection: reads what has arrived, verifies a batch's signatures, hands the batch to the shard.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use actors::{Busy, Inbox};
use bytes::Bytes;
use engine::command::{Credential as Checked, DeviceAction, DeviceCommand, Scan, Undo};
use engine::credential::{self, KeyCache, QrClaim, VerifiedTicket};
use engine::ids::{DeviceId, Home};
use engine::rejection::Rejection;
use engine::status::ZoneState;
use engine::view::{DeviceView, FestivalView, Query, View};
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use sha2::{Digest as _, Sha256};
use tokio::time::{timeout, timeout_at};

use super::handshake::{Proven, look_up, now, prove, unavailable};
use super::limits::{Permit, TokenBucket};
use super::outbox::{End, Outbox, part};
use super::{Door, Entered};
use crate::wire::{self, Credential, Frame, Notice, Refusal, WINDOW_MAX, Welcome, WireError, close, decode};

/// Packets taken in one read: 32 × 1,452 B = 45 KiB, about 590 packed scans.
const CHUNKS: usize = 32;

/// From the first packet to the last word.
pub(super) async fn serve(door: Arc<Door>, incoming: Incoming, mut permit: Permit) {
    let patience = door.limits.hello_timeout;
    let deadline = tokio::time::Instant::now() + patience;
    let Ok(connecting) = incoming.accept() else { return door.figures.refused.increment(1) };
    let Ok(Ok(connection)) = timeout(patience, connecting).await else { return door.figures.refused.increment(1) };
    let (mut send, mut recv) = match timeout_at(deadline, connection.accept_bi()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return door.figures.refused.increment(1),
        Err(_) => {
            door.figures.refused.increment(1);
            return connection.close(VarInt::from_u32(close::TOO_SLOW), Refusal::TooSlow.say().as_bytes());
        }
    };
    let outbox = Outbox::new(&door.limits, Arc::clone(&door.figures), Arc::clone(&door.unconfirmed));
    let opening = async {
        let proven = prove(&door, &permit, &connection, &mut send, &mut recv).await?;
        if !permit.prove() {
            return Err(End { retry_after_ms: 5_000, ..End::refused(Refusal::TooMany) });
        }
        let entered = door.enter(proven.device.id, Arc::clone(&outbox));
        welcome(&door, &proven.device, &mut send).await?;
        Ok((proven, entered))
    };
    match timeout_at(deadline, opening).await.unwrap_or(Err(End::refused(Refusal::TooSlow))) {
        Ok((proven, entered)) => {
            door.figures.handshakes.increment(1);
            connection.set_receive_window(VarInt::from_u32(door.limits.window_bytes));
            let Proven { device, ahead } = proven;
            let session = Session::new(door, device.id, outbox, entered, ahead);
            session.run(&connection, send, recv).await;
        }
        Err(end) => {
            door.figures.refused.increment(1);
            part(&connection, &mut send, end).await;
        }
    }
}

/// Tells the device how things are. Asked anew, now that the session hears notices: whatever changes from here on, it
/// will be told.
async fn welcome(door: &Door, device: &DeviceView, send: &mut SendStream) -> Result<(), End> {
    let device = look_up(door, device.id).await.map_err(unavailable)?;
    if device.revoked {
        return Err(End::refused(Refusal::Rejected(Rejection::DeviceRevoked)));
    }
    let festival: Box<FestivalView> = match door.node.query(Query::Festival(device.id.festival())).await {
        View::Festival(view) => view,
        View::No(rejection) => return Err(unavailable(rejection)),
        _ => return Err(unavailable(Rejection::Internal)),
    };
    let mut bytes = Vec::new();
    Frame::Welcome(Welcome {
        server_time: now(),
        next_seq: device.next_seq,
        festival: festival.id,
        gate: device.gate,
        zone: device.zone,
        ack: device.ack,
        window: door.limits.in_flight_max.min(WINDOW_MAX as usize) as u16,
        device_name: &device.name,
        festival_name: &festival.name,
        gate_name: festival.gates.iter().find(|gate| gate.no == device.gate).map_or("", |gate| &gate.name),
        zone_name: festival.zones.iter().find(|zone| zone.no == device.zone).map_or("", |zone| &zone.name),
    })
    .encode(&mut bytes);
    for zone in festival.zones.iter().filter(|zone| zone.state != ZoneState::Open) {
        Frame::Notice(Notice::Zone { zone: zone.no, state: zone.state }).encode(&mut bytes);
    }
    send.write_all(&bytes).await.map_err(|_| End::RESUME)
}

struct Session {
    door: Arc<Door>,
    device: DeviceId,
    outbox: Arc<Outbox>,
    inbox: Arc<dyn Inbox>,
    keys: KeyCache,
    /// The first bytes of a frame that has not arrived whole: less than a frame.
    carry: Vec<u8>,
    rate: Option<TokenBucket>,
    /// The device has been told to slow down, and has not yet.
    slowed: bool,
    /// Gives the device's place back.
    _entered: Entered,
}

/// What a batch needs while it is taken apart; kept by the thread, so that 10,000 idle sessions hold none of it. At most
/// 46 KiB and 1,600 numbers.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    seqs: Vec<u64>,
    refused: Vec<u64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Session {
    fn new(door: Arc<Door>, device: DeviceId, outbox: Arc<Outbox>, entered: Entered, ahead: Vec<u8>) -> Self {
        let rate = (door.limits.frames_per_s > 0).then(|| TokenBucket::full(door.limits.frames_burst, Instant::now()));
        let inbox: Arc<dyn Inbox> = Arc::<Outbox>::clone(&outbox);
        Self {
            door,
            device,
            outbox,
            inbox,
            keys: KeyCache::default(),
            carry: ahead,
            rate,
            slowed: false,
            _entered: entered,
        }
    }

    /// Reads and writes until either side has had enough.
    async fn run(mut self, connection: &Connection, mut send: SendStream, mut recv: RecvStream) {
        let outbox = Arc::clone(&self.outbox);
        let mut writer = pin!(outbox.write_out(connection, &mut send));
        tokio::select! {
            () = &mut writer => return,
            end = self.read_in(&mut recv) => outbox.end(end),
        }
        // What is owed is waited for, but not for ever: after a fault of the journal some answers never come.
        if timeout(self.door.limits.write_timeout, writer).await.is_err() {
            connection.close(VarInt::from_u32(close::RESUME), b"");
        }
    }

    async fn read_in(&mut self, recv: &mut RecvStream) -> End {
        let mut chunks: [Bytes; CHUNKS] = Default::default();
        // What came with the proof.
        let mut arrived = 0;
        loop {
            if let Some(end) = self.take_in(&mut chunks[..arrived]) {
                return end;
            }
            if let Some(end) = self.outbox.room().await {
                return end;
            }
            arrived = match recv.read_chunks(&mut chunks).await {
                Ok(Some(arrived)) => arrived,
                Ok(None) if self.carry.is_empty() => return End::BYE,
                Ok(None) | Err(quinn::ReadError::Reset(_)) => {
                    self.door.figures.malformed.increment(1);
                    return End::refused(Refusal::Malformed);
                }
                Err(_) => return End::RESUME,
            };
        }
    }

    /// All whole frames that have arrived, in one batch. Says so when there is nothing more to come.
    fn take_in(&mut self, chunks: &mut [Bytes]) -> Option<End> {
        // Nothing is taken once the session has ended: what was not answered, the device sends again.
        if let Some(end) = self.outbox.ended() {
            return Some(end);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.bytes.clear();
            scratch.bytes.append(&mut self.carry);
            for chunk in chunks {
                scratch.bytes.extend_from_slice(chunk);
                *chunk = Bytes::new(); // The packet goes back now, not with the next read.
            }
            self.take_batch(scratch)
        })
    }

    fn take_batch(&mut self, scratch: &mut Scratch) -> Option<End> {
        let read_at = Instant::now();
        let Scratch { bytes, seqs, refused } = scratch;
        seqs.clear();
        refused.clear();
        let limits = &self.door.limits;
        if let Some(rate) = &mut self.rate {
            rate.refill(f64::from(limits.frames_per_s), limits.frames_burst, read_at);
            self.slowed &= !rate.is_at_least(f64::from(limits.frames_burst / 2));
        }
        let shut = self.door.node.has_room(Home::Festival(self.device.festival())).err();
        let mut commands = Vec::new();
        let mut rest = &bytes[..];
        let end = loop {
            let frame = match decode(rest) {
                Ok(Some((frame, len))) => {
                    rest = &rest[len..];
                    frame
                }
                Ok(None) => break None,
                Err(WireError::Protocol(_)) => break Some(End::refused(Refusal::BadVersion)),
                Err(error) => {
                    tracing::debug!(device = %self.device, %error, "malformed");
                    self.door.figures.malformed.increment(1);
                    break Some(End::refused(Refusal::Malformed));
                }
            };
            let seq = match &frame {
                Frame::Scan(scan) => scan.seq,
                Frame::Undo(undo) => undo.seq,
                Frame::Bye => break Some(End::BYE),
                _ => break Some(End::refused(Refusal::OutOfPlace)),
            };
            // The cheap checks come first: what is refused at the door costs no signature.
            if shut.is_some() || self.rate.as_mut().is_some_and(|rate| !rate.take()) {
                refused.push(seq);
                continue;
            }
            if let Some(command) = self.command(&frame) {
                if commands.is_empty() {
                    commands.reserve(1 + rest.len() / 64);
                }
                seqs.push(seq);
                commands.push(command);
            }
        };
        self.carry.extend_from_slice(if end.is_none() { rest } else { &[] });
        self.door.figures.scans.increment((seqs.len() + refused.len()) as u64);
        if !commands.is_empty() {
            // Before the shard has them: its answers may be faster than we are.
            self.outbox.submitted(seqs.len(), read_at);
            if let Err(busy) = self.door.node.submit(commands, &self.inbox) {
                self.outbox.turned_away(seqs, busy);
            }
        }
        if !refused.is_empty() {
            self.refuse(refused, shut);
        }
        end
    }

    /// At the door: the shard has no room, or the device sends too much.
    fn refuse(&mut self, seqs: &[u64], shut: Option<Busy>) {
        if let Some(busy) = shut {
            return self.outbox.busy(seqs, busy);
        }
        let per_s = self.door.limits.frames_per_s.max(1);
        let retry_after_ms = (seqs.len() as u64 * 1_000 / u64::from(per_s)).clamp(10, 5_000) as u32;
        if !self.slowed {
            self.slowed = true;
            self.outbox.notice(Notice::SlowDown { retry_after_ms });
        }
        self.outbox.busy(seqs, Busy { rejection: Rejection::Busy, retry_after_ms });
    }

    fn command(&mut self, frame: &Frame<'_>) -> Option<DeviceCommand> {
        match frame {
            Frame::Scan(scan) => Some(self.scan(scan)),
            Frame::Undo(undo) => {
                let action = DeviceAction::Undo(Undo { ticket: undo.ticket, scan_seq: undo.scan_seq });
                Some(DeviceCommand { device: self.device, seq: undo.seq, floor: undo.floor, action })
            }
            _ => None,
        }
    }

    /// Who asks is proven by the connection; no frame can name another device.
    fn scan(&mut self, scan: &wire::Scan<'_>) -> DeviceCommand {
        let verified = match scan.credential {
            Credential::Packed(claim) => self.check(&claim).map(Checked::Ticket),
            Credential::Raw(qr) => credential::parse(qr).and_then(|claim| self.check(&claim)).map(Checked::Ticket),
            Credential::Tag(uid) => Ok(Checked::Tag(uid)),
        };
        let action = DeviceAction::Scan(Scan {
            zone: scan.zone,
            direction: scan.direction,
            credential: verified.unwrap_or_else(|rejection| Checked::Refused(rejection, attempt(&scan.credential))),
            captured_at: scan.captured_at,
            shown: scan.shown,
        });
        DeviceCommand { device: self.device, seq: scan.seq, floor: scan.floor, action }
    }

    fn check(&mut self, claim: &QrClaim) -> Result<VerifiedTicket, Rejection> {
        self.keys.verify(&self.door.secret, claim)
    }
}

/// Tells one refused credential from another; the same one, sent again, has the same number.
fn attempt(credential: &Credential<'_>) -> u32 {
    let digest = match credential {
        Credential::Packed(QrClaim { ticket, version, hash }) => Sha256::new()
            .chain_update(ticket.as_u128().to_le_bytes())
            .chain_update(version.to_le_bytes())
            .chain_update(hash),
        Credential::Raw(qr) => Sha256::new().chain_update(qr),
        Credential::Tag(uid) => Sha256::new().chain_update(uid.as_bytes()),
    }
    .finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

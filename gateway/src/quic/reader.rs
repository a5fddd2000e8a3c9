//! A reader's frames: verifies a batch's signatures, hands the batch to the festival's shard.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use actors::{DeviceReply, Inbox};
use bytes::Bytes;
use engine::gates::command::{Credential as Checked, DeviceAction, DeviceAnswer, DeviceCommand, Scan, Undo};
use engine::model::credential;
use engine::model::credential::{KeyCache, QrClaim, VerifiedTicket};
use engine::model::ids::{DeviceId, Home, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::time::{HOUR_MS, Timestamp};
use sha2::{Digest as _, Sha256};
use tapgate_wire::{Credential, Frame, Refusal, Unusable};

use super::Listener;
use super::outbox::{End, Outbox};
use super::session::{Intake, Taken};

pub(super) struct Reader {
    inbox: Arc<dyn Inbox>,
    keys: KeyCache,
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

impl Reader {
    pub(super) fn new(outbox: &Arc<Outbox>) -> Self {
        Self { inbox: Arc::<Outbox>::clone(outbox), keys: KeyCache::default() }
    }

    /// All whole frames that have arrived, in one batch. Says so when there is nothing more to come.
    pub(super) fn take_in(&mut self, intake: &mut Intake, chunks: &mut [Bytes]) -> Option<End> {
        SCRATCH.with_borrow_mut(|scratch| self.take_batch(intake, chunks, scratch))
    }

    fn take_batch(&mut self, intake: &mut Intake, chunks: &mut [Bytes], scratch: &mut Scratch) -> Option<End> {
        let read_at = Instant::now();
        let Scratch { bytes, seqs, refused } = scratch;
        intake.gather(chunks, bytes, read_at);
        seqs.clear();
        refused.clear();
        let shut = intake.listener.node.has_room(Home::Festival(intake.device.festival())).err();
        let (mut commands, mut told) = (Vec::new(), Vec::new());
        let mut rest = &bytes[..];
        let end = loop {
            let frame = match intake.next(&mut rest) {
                Ok(Some(Taken::Frame(frame))) => frame,
                Ok(Some(Taken::Unusable(command))) if shut.is_some() || !intake.may() => {
                    refused.push(command.seq);
                    continue;
                }
                Ok(Some(Taken::Unusable(command))) => {
                    told.push(no(&intake.listener, command));
                    continue;
                }
                Ok(None) => break None,
                Err(end) => break Some(end),
            };
            let seq = match &frame {
                Frame::Scan(scan) => scan.seq,
                Frame::Undo(undo) => undo.seq,
                Frame::Ping => continue, // QUIC has acknowledged it
                &Frame::Pinned(pin) => {
                    intake.pinned(pin);
                    continue;
                }
                Frame::Bye => break Some(End::BYE),
                _ => break Some(End::refused(Refusal::OutOfPlace)),
            };
            // The cheap checks come first: what is refused at the door costs no signature.
            if shut.is_some() || !intake.may() {
                refused.push(seq);
                continue;
            }
            if let Some(command) = self.command(&intake.listener, intake.device, &frame) {
                if commands.is_empty() {
                    commands.reserve(1 + rest.len() / 64);
                }
                seqs.push(seq);
                commands.push(command);
            }
        };
        intake.listener.metrics.frames.increment((seqs.len() + told.len() + refused.len()) as u64);
        if !told.is_empty() {
            intake.outbox.submitted(told.len(), read_at);
            self.inbox.answered(&told);
        }
        if !commands.is_empty() {
            // Before the shard has them: its answers may be faster than we are.
            intake.outbox.submitted(seqs.len(), read_at);
            if let Err(busy) = intake.listener.node.submit(commands, &self.inbox) {
                intake.outbox.turned_away(seqs, busy);
            }
        }
        match shut {
            _ if refused.is_empty() => {}
            Some(busy) => intake.outbox.busy(refused, busy),
            None => intake.slow_down(refused),
        }
        end
    }

    fn command(&mut self, listener: &Listener, device: DeviceId, frame: &Frame<'_>) -> Option<DeviceCommand> {
        match frame {
            Frame::Scan(scan) => Some(self.scan(listener, device, scan)),
            Frame::Undo(undo) => {
                let action = DeviceAction::Undo(Undo { ticket: undo.ticket, scan_seq: undo.scan_seq });
                Some(DeviceCommand { device, seq: undo.seq, floor: undo.floor, action })
            }
            _ => None,
        }
    }

    /// Who asks is proven by the connection; no frame can name another device.
    fn scan(&mut self, listener: &Listener, device: DeviceId, scan: &tapgate_wire::Scan<'_>) -> DeviceCommand {
        let verified = match scan.credential {
            Credential::Packed(claim) => self.check(listener, &claim).map(Checked::Ticket),
            Credential::Raw(qr) => {
                credential::parse(qr).and_then(|claim| self.check(listener, &claim)).map(Checked::Ticket)
            }
            Credential::Tag(uid) => Ok(Checked::Tag(uid)),
            Credential::Unreadable { .. } => Err(Rejection::InvalidQr),
        };
        let action = DeviceAction::Scan(Scan {
            zone: scan.zone,
            direction: scan.direction,
            credential: verified.unwrap_or_else(|rejection| Checked::Refused(rejection, attempt(&scan.credential))),
            captured_at: possible(scan.captured_at, listener.node.now()),
            resent: scan.resent,
            shown: scan.shown,
        });
        DeviceCommand { device, seq: scan.seq, floor: scan.floor, action }
    }

    fn check(&mut self, listener: &Listener, claim: &QrClaim) -> Result<VerifiedTicket, Rejection> {
        self.keys.verify(&listener.secret, claim)
    }
}

/// No queue is older than this, and no clock that anybody has set is further off.
const CLOCK_OFF_POSSIBLE_MS: i64 = 7 * 24 * HOUR_MS;

/// What a reader's clock says, or the nearest time that it can have meant: nobody reads of the year 292,277,026 in the
/// access log, and the clock is flagged all the same.
fn possible(captured_at: Timestamp, now: Timestamp) -> Timestamp {
    captured_at.clamp(now.plus_ms(-CLOCK_OFF_POSSIBLE_MS), now.plus_ms(CLOCK_OFF_POSSIBLE_MS))
}

/// An answer that is given here: what was asked can be decided without the shard.
fn no(listener: &Listener, command: Unusable) -> DeviceReply {
    let answer = DeviceAnswer::rejected(command.rejection, ZoneNo(0), listener.node.now());
    DeviceReply { seq: command.seq, answer, durable: true }
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
        Credential::Unreadable { kind, bytes } => Sha256::new().chain_update([*kind]).chain_update(bytes),
    }
    .finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reader_is_believed_a_time_that_cannot_be() {
        let now = Timestamp(1_800_000_000_000);
        let week = 7 * 24 * HOUR_MS;
        for (said, kept) in [
            (now, now),
            (now.plus_ms(-5 * HOUR_MS), now.plus_ms(-5 * HOUR_MS)),
            (Timestamp(0), now.plus_ms(-week)),
            (Timestamp(i64::MIN), now.plus_ms(-week)),
            (Timestamp(i64::MAX), now.plus_ms(week)),
        ] {
            assert_eq!(possible(said, now), kept, "{said:?}");
        }
    }
}

//! A device: enrolled once with a one-time code, named in everything it sends, revocable at any moment.

use serde::{Deserialize, Serialize};

use crate::gates::command::Scan;
use crate::gates::connections::Connections;
use crate::gates::view::DeviceView;
use crate::model::ids::{DeviceId, FestivalId, GateNo, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::status::ScanAck;
use crate::model::time::{MINUTE_MS, Timestamp};
use crate::shard::dedupe::Window;
use crate::view::Terminal;

/// How long an enrolment code can be used.
pub const CODE_KEPT_MS: i64 = 15 * MINUTE_MS;
/// The most codes that wait or were used within their 15 minutes, at one festival: 16,384 × about 150 B = 2.4 MiB. A whole
/// festival's readers can be enrolled in one go.
pub const CODES_MAX: usize = 16_384;
/// The most devices of one festival, revoked ones included: 65,536 × about 250 B at rest = 16 MiB.
pub const DEVICES_MAX: usize = 65_536;

/// A reader or terminal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// What it is called.
    pub name: String,
    /// Where it stands, if it is a reader.
    pub gate: GateNo,
    /// What it is allowed, if it is a terminal. Those ask at wallets' homes, never at a gate.
    pub terminal: Option<Terminal>,
    /// Ed25519.
    pub public_key: [u8; 32],
    pub enrolled_at: Timestamp,
    /// When it last asked something that was recorded.
    pub last_seen_at: Timestamp,
    /// Refused.
    pub revoked: bool,
    /// When it was connected.
    pub connections: Connections,
    /// By how much its clock was ahead when that could be seen last; behind, if negative.
    pub clock_off_ms: i64,
    /// The server's keys that it trusts, by the first eight bytes of their SHA-256: the present one's, the next one's; 0:
    /// none, or nobody knows.
    pub pins: [u64; 2],
    /// The answers it may ask for again.
    pub window: Window,
}

impl Device {
    /// When a scan of its counts. Validity windows and counts go by it; it is the shard's time for all but what has
    /// waited in its queue.
    pub fn taken_at(&self, scan: &Scan, now: Timestamp) -> Timestamp {
        self.connections.taken_at(scan.captured_at, scan.resent, now)
    }

    /// For the door and the office.
    pub fn view(&self, festival: FestivalId, number: u32, zone: ZoneNo, ack: ScanAck) -> DeviceView {
        DeviceView {
            id: DeviceId::new(festival, number),
            name: self.name.clone(),
            gate: self.gate,
            zone,
            terminal: self.terminal,
            public_key: self.public_key,
            revoked: self.revoked,
            enrolled_at: self.enrolled_at,
            last_seen_at: self.last_seen_at,
            clock_off_ms: self.clock_off_ms,
            pins: self.pins,
            next_seq: self.window.next_seq(),
            ack,
        }
    }
}

/// A one-time code that waits for its device. Once used it is kept until it lapses, so that a device whose answer was
/// lost on the way gets it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// For which gate, if it is for a reader.
    pub gate: GateNo,
    /// For a terminal: what it will be allowed.
    pub terminal: Option<Terminal>,
    /// What the device will be called.
    pub name: String,
    pub until: Timestamp,
    /// The device that has used it.
    pub used_by: Option<u32>,
}

impl Offer {
    /// What the code gets a device with this key, at this time: a new device, or the one that it is already.
    ///
    /// # Errors
    /// [`Rejection::CodeExpired`]; [`Rejection::UnknownCode`] if another key has used it.
    pub fn redeem(&self, devices: &[Device], public_key: &[u8; 32], now: Timestamp) -> Result<Option<u32>, Rejection> {
        match self.used_by {
            Some(number) if devices[number as usize].public_key == *public_key => Ok(Some(number)),
            Some(_) => Err(Rejection::UnknownCode),
            None if now > self.until => Err(Rejection::CodeExpired),
            None => Ok(None),
        }
    }
}

//! How scans and what undoes them are written and read: by hand, since there are a million a second of them.

use prost::Message;

use crate::gates::command::{Direction, FirstUse, Verdict};
use crate::gates::event::{ByDevice, Scanned, TakenBack, Undone};
use crate::model::ids::{DeviceId, GateNo, TagUid, TicketId, ZoneNo};
use crate::model::time::Timestamp;
use crate::record::table::Table;
use crate::record::{RecordError, decode, floor, narrow, proto, rejection, word};

/// Their numbers among the events.
const SCANNED: u32 = 1;
const UNDONE: u32 = 2;

impl Table for Scanned {
    fn number(&self) -> u32 {
        SCANNED
    }
    fn write_body(&self, at: Timestamp, out: &mut Vec<u8>) {
        scanned_to_proto(self, at).encode_raw(out);
    }
    fn read_body(number: u32, body: &[u8], at: Timestamp) -> Result<Option<Self>, RecordError> {
        (number == SCANNED).then(|| scanned_from_proto(decode(body, "scanned")?, at)).transpose()
    }
}

fn scanned_to_proto(scanned: &Scanned, at: Timestamp) -> proto::Scanned {
    let (ticket_high, ticket_low) = ticket_halves(scanned.ticket);
    let (tag_first, tag_rest) = scanned.tag.map_or((0, 0), TagUid::to_words);
    proto::Scanned {
        device: scanned.device.0,
        seq: scanned.seq,
        below: (scanned.seq - scanned.floor) as u32,
        fingerprint: scanned.fingerprint,
        zone: u32::from(scanned.zone.0),
        gate: u32::from(scanned.gate.0),
        direction: scanned.direction as u32,
        verdict: u32::from(scanned.verdict.number()),
        flags: u32::from(scanned.flags),
        ticket_high,
        ticket_low,
        occupancy: scanned.occupancy,
        first_use: scanned.first_use.map(|first| proto::FirstUse {
            at: first.at.0,
            zone: u32::from(first.zone.0),
            gate: u32::from(first.gate.0),
        }),
        captured_ago: at.0.wrapping_sub(scanned.captured_at.0),
        instead_of: scanned.instead_of.map_or(0, |rejection| rejection as u32),
        credential: scanned.credential,
        taken_ago: at.0.wrapping_sub(scanned.taken_at.0),
        tag_first,
        tag_rest,
    }
}

fn scanned_from_proto(scanned: proto::Scanned, at: Timestamp) -> Result<Scanned, RecordError> {
    let named = scanned.ticket_high != 0 || scanned.ticket_low != 0;
    let first_use = |first: proto::FirstUse| {
        Ok(FirstUse { at: Timestamp(first.at), zone: zone(first.zone)?, gate: gate(first.gate)? })
    };
    Ok(Scanned {
        device: DeviceId(scanned.device),
        seq: scanned.seq,
        floor: floor(scanned.seq, scanned.below)?,
        fingerprint: scanned.fingerprint,
        // A reader may have named a zone that does not exist: it is recorded as it was named.
        zone: ZoneNo(narrow(scanned.zone, "zone")?),
        gate: gate(scanned.gate)?,
        direction: if scanned.direction == 0 { Direction::Enter } else { Direction::Exit },
        verdict: verdict(scanned.verdict)?,
        flags: narrow(scanned.flags, "flags")?,
        ticket: if named { Some(ticket(scanned.ticket_high, scanned.ticket_low)?) } else { None },
        occupancy: scanned.occupancy,
        first_use: scanned.first_use.map(first_use).transpose()?,
        captured_at: Timestamp(at.0.wrapping_sub(scanned.captured_ago)),
        instead_of: rejection(scanned.instead_of)?,
        credential: scanned.credential,
        taken_at: Timestamp(at.0.wrapping_sub(scanned.taken_ago)),
        tag: match scanned.tag_rest {
            0 => None,
            rest => Some(word(TagUid::from_words(scanned.tag_first, rest), "tag")?),
        },
    })
}

impl Table for Undone {
    fn number(&self) -> u32 {
        UNDONE
    }
    fn write_body(&self, at: Timestamp, out: &mut Vec<u8>) {
        undone_to_proto(self, at).encode_raw(out);
    }
    fn read_body(number: u32, body: &[u8], at: Timestamp) -> Result<Option<Self>, RecordError> {
        (number == UNDONE).then(|| undone_from_proto(decode(body, "undone")?, at)).transpose()
    }
}

fn undone_to_proto(undone: &Undone, at: Timestamp) -> proto::Undone {
    let (ticket_high, ticket_low) = ticket_halves(Some(undone.ticket));
    let by = undone.by.unwrap_or(ByDevice { device: DeviceId(0), seq: 0, floor: 0, fingerprint: 0 });
    proto::Undone {
        device: by.device.0,
        seq: by.seq,
        below: (by.seq - by.floor) as u32,
        fingerprint: by.fingerprint,
        zone: u32::from(undone.zone.0),
        gate: u32::from(undone.gate.0),
        verdict: u32::from(undone.verdict.number()),
        ticket_high,
        ticket_low,
        inside: undone.inside,
        unused: undone.unused,
        occupancy: undone.occupancy,
        scan_gate: undone.scan.map_or(0, |scan| u32::from(scan.gate.0)),
        scan_direction: undone.scan.map_or(0, |scan| scan.direction as u32),
        scan_ago: undone.scan.map(|scan| at.0.wrapping_sub(scan.minute.0)),
    }
}

fn undone_from_proto(undone: proto::Undone, at: Timestamp) -> Result<Undone, RecordError> {
    let by = ByDevice {
        device: DeviceId(undone.device),
        seq: undone.seq,
        floor: floor(undone.seq, undone.below)?,
        fingerprint: undone.fingerprint,
    };
    Ok(Undone {
        by: (undone.seq != 0).then_some(by),
        zone: zone(undone.zone)?,
        gate: gate(undone.gate)?,
        verdict: verdict(undone.verdict)?,
        ticket: ticket(undone.ticket_high, undone.ticket_low)?,
        inside: undone.inside,
        unused: undone.unused,
        occupancy: undone.occupancy,
        scan: match undone.scan_ago {
            None => None,
            Some(ago) => Some(TakenBack {
                gate: gate(undone.scan_gate)?,
                direction: if undone.scan_direction == 0 { Direction::Enter } else { Direction::Exit },
                minute: Timestamp(at.0.wrapping_sub(ago)),
            }),
        },
    })
}

fn ticket_halves(ticket: Option<TicketId>) -> (u64, u64) {
    let bits = ticket.map_or(0, TicketId::as_u128);
    ((bits >> 64) as u64, bits as u64)
}

fn zone(value: u32) -> Result<ZoneNo, RecordError> {
    if value < 64 { Ok(ZoneNo(value as u8)) } else { Err(RecordError::Malformed("zone")) }
}

fn gate(value: u32) -> Result<GateNo, RecordError> {
    narrow(value, "gate").map(GateNo)
}

fn ticket(high: u64, low: u64) -> Result<TicketId, RecordError> {
    TicketId::from_u128(u128::from(high) << 64 | u128::from(low)).ok_or(RecordError::Malformed("ticket"))
}

fn verdict(number: u32) -> Result<Verdict, RecordError> {
    Verdict::from_number(narrow(number, "verdict")?).ok_or(RecordError::Malformed("verdict"))
}

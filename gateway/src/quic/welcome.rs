//! Tells a device how things are. Asked anew, now that the session hears notices: whatever changes from here on, it will
//! be told.

use engine::rejection::Rejection;
use engine::status::ZoneState;
use engine::view::{CashView, DeviceView, FestivalView, LedgerView, Query, Till, View};
use quinn::SendStream;

use super::Door;
use super::handshake::{look_up, now, unavailable};
use super::outbox::End;
use crate::wire::{Frame, Notice, Refusal, TerminalWelcome, WINDOW_MAX, Welcome};

/// The first frames that a proven device gets.
pub(super) async fn welcome(door: &Door, device: &DeviceView, send: &mut SendStream) -> Result<(), End> {
    let device = look_up(door, device.id).await.map_err(unavailable)?;
    if device.revoked {
        return Err(End::refused(Refusal::Rejected(Rejection::DeviceRevoked)));
    }
    let festival: Box<FestivalView> = match door.node.query(Query::Festival(device.id.festival())).await {
        View::Festival(view) => view,
        other => return Err(unavailable(no(&other))),
    };
    let mut bytes = Vec::new();
    match device.terminal {
        None => reader(door, &device, &festival, &mut bytes),
        Some(till) => terminal(door, &device, till, &festival, &mut bytes).await?,
    }
    send.write_all(&bytes).await.map_err(|_| End::RESUME)
}

fn reader(door: &Door, device: &DeviceView, festival: &FestivalView, bytes: &mut Vec<u8>) {
    Frame::Welcome(Welcome {
        server_time: now(),
        next_seq: device.next_seq,
        festival: festival.id,
        gate: device.gate,
        zone: device.zone,
        ack: device.ack,
        window: window(door),
        device_name: &device.name,
        festival_name: &festival.name,
        gate_name: festival.gates.iter().find(|gate| gate.no == device.gate).map_or("", |gate| &gate.name),
        zone_name: festival.zones.iter().find(|zone| zone.no == device.zone).map_or("", |zone| &zone.name),
    })
    .encode(bytes);
    for zone in festival.zones.iter().filter(|zone| zone.state != ZoneState::Open) {
        Frame::Notice(Notice::Zone { zone: zone.no, state: zone.state }).encode(bytes);
    }
}

async fn terminal(
    door: &Door,
    device: &DeviceView,
    till: Till,
    festival: &FestivalView,
    bytes: &mut Vec<u8>,
) -> Result<(), End> {
    let cash: Box<CashView> = match door.node.query(Query::Cash(festival.id)).await {
        View::Cash(view) => view,
        other => return Err(unavailable(no(&other))),
    };
    // Each shard has answered some of its numbers: the highest over all of them holds.
    let books: Box<LedgerView> = match door.node.query(Query::Ledger(festival.id)).await {
        View::Ledger(view) => view,
        other => return Err(unavailable(no(&other))),
    };
    let seen = books.terminals.iter().find(|seen| seen.device == device.id);
    let vendor = till.vendor.and_then(|no| cash.vendors.iter().find(|vendor| vendor.no == no));
    Frame::TerminalWelcome(TerminalWelcome {
        server_time: now(),
        next_seq: seen.map_or(0, |seen| seen.next_seq).max(1), // no shard takes 0
        festival: festival.id,
        vendor: till.vendor,
        cashier: till.cashier,
        window: window(door),
        currency: cash.policy.currency,
        device_name: &device.name,
        festival_name: &festival.name,
        vendor_name: vendor.map_or("", |vendor| &vendor.values.name),
    })
    .encode(bytes);
    Ok(())
}

fn window(door: &Door) -> u16 {
    door.limits.in_flight_max.min(WINDOW_MAX as usize) as u16
}

fn no(view: &View) -> Rejection {
    match view {
        View::No(rejection) => *rejection,
        _ => Rejection::Internal,
    }
}

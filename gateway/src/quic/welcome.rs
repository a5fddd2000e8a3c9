//! Tells a device how things are. Asked anew, now that the session hears notices: whatever changes from here on, it will
//! be told.

use engine::gates::view::DeviceView;
use engine::gates::view::brief::StandingView;
use engine::model::rejection::Rejection;
use engine::view::{Query, Terminal, View};
use quinn::SendStream;
use tapgate_wire::{Frame, Notice, Refusal, TerminalWelcome, WINDOW_MAX, Welcome};

use super::Listener;
use super::handshake::unavailable;
use super::outbox::End;

/// The first frames that a proven device gets. The lowest number that it can use without asking again, as it is told.
pub(super) async fn welcome(listener: &Listener, device: &DeviceView, send: &mut SendStream) -> Result<u64, End> {
    let standing = match listener.node.query(Query::Standing(device.id)).await {
        View::Standing(standing) => standing,
        other => return Err(unavailable(no(&other))),
    };
    if standing.device.revoked {
        return Err(End::refused(Refusal::Rejected(Rejection::DeviceRevoked)));
    }
    let mut bytes = Vec::new();
    let next_seq = match standing.device.terminal {
        None => reader(listener, &standing, &mut bytes),
        Some(place) => terminal(listener, &standing, place, &mut bytes).await?,
    };
    send.write_all(&bytes).await.map_err(|_| End::RESUME)?;
    Ok(next_seq)
}

fn reader(listener: &Listener, standing: &StandingView, bytes: &mut Vec<u8>) -> u64 {
    let device = &standing.device;
    Frame::Welcome(Welcome {
        server_time: listener.node.now(),
        next_seq: device.next_seq,
        festival: device.id.festival(),
        gate: device.gate,
        zone: device.zone,
        ack: device.ack,
        window: window(listener),
        next_pin: listener.pins.next,
        device_name: &device.name,
        festival_name: &standing.festival_name,
        gate_name: &standing.gate_name,
        zone_name: &standing.zone_name,
    })
    .encode(bytes);
    for &(zone, state) in &standing.not_open {
        Frame::Notice(Notice::Zone { zone, state }).encode(bytes);
    }
    device.next_seq
}

async fn terminal(
    listener: &Listener,
    standing: &StandingView,
    place: Terminal,
    bytes: &mut Vec<u8>,
) -> Result<u64, End> {
    let device = &standing.device;
    let Some(currency) = standing.currency else { return Err(unavailable(Rejection::NotCashless)) };
    // Each shard has answered some of its numbers: the highest over all of them holds. No shard takes 0. One that is down
    // keeps nobody from selling at the others: a terminal that has its queue knows its numbers by itself, and to one that
    // has lost it, a number that only that shard knows is a conflict there and never paid twice.
    let next_seq = match listener.node.query_those_up(Query::NextSeq(device.id)).await {
        (View::NextSeq(next_seq), all) => {
            if !all {
                tracing::warn!(device = %device.id, "a terminal is welcomed while a shard is down");
            }
            next_seq.max(1)
        }
        (other, _) => return Err(unavailable(no(&other))),
    };
    Frame::TerminalWelcome(TerminalWelcome {
        server_time: listener.node.now(),
        next_seq,
        festival: device.id.festival(),
        vendor: place.vendor,
        cashier: place.cashier,
        window: window(listener),
        next_pin: listener.pins.next,
        currency,
        device_name: &device.name,
        festival_name: &standing.festival_name,
        vendor_name: &standing.vendor_name,
    })
    .encode(bytes);
    Ok(next_seq)
}

fn window(listener: &Listener) -> u16 {
    listener.limits.in_flight_max.min(WINDOW_MAX as usize) as u16
}

fn no(view: &View) -> Rejection {
    match view {
        View::No(rejection) => *rejection,
        _ => Rejection::Internal,
    }
}

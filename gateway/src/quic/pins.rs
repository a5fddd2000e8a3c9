//! Which of the server's keys its devices trust. A device shows by connecting that it trusts the present one, and says so
//! when it has kept the next one; both are recorded, so that an operator knows before a change, and a server at its start,
//! whom another key keeps out.

use actors::Node;
use engine::command::{AdminAction, AdminCommand};
use engine::gates::view::DeviceView;
use engine::model::ids::DeviceId;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::{Query, View};
use tapgate_wire::Fingerprint;

/// How many devices of a festival are looked at in one question.
const PAGE: u32 = 500;
/// How many are named.
const NAMED_MAX: usize = 20;

/// The server's own keys.
pub(super) struct Pins {
    pub(super) present: Fingerprint,
    pub(super) next: Option<Fingerprint>,
}

impl Pins {
    /// A device has connected.
    pub(super) fn shown(&self, node: &Node, device: &DeviceView) {
        if device.pins[0] != self.present.short() {
            self.record(node, device.id, 0);
        }
    }

    /// A device has kept this pin. One that we have not named is its own affair.
    pub(super) fn kept(&self, node: &Node, device: DeviceId, pin: Fingerprint) {
        if self.next == Some(pin) {
            self.record(node, device, pin.short());
        }
    }

    /// Nobody waits for it: what is lost is said again on the next connection.
    fn record(&self, node: &Node, device: DeviceId, next: u64) {
        let (node, present) = (node.clone(), self.present.short());
        let action = AdminAction::DevicePins { device, present, next };
        tokio::spawn(async move { node.ask(AdminCommand { key: None, by: Principal::Device(device), action }).await });
    }
}

/// How many devices, revoked ones left out, trust which of a server's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinning {
    pub devices: usize,
    /// Those that trust another key, and not this server's: they cannot connect until they are enrolled anew.
    pub locked_out: usize,
    /// The names of the first twenty of those.
    pub named: Vec<String>,
    /// Those that will connect after the change to the next key.
    pub know_next: usize,
}

/// Asks every festival's devices. One that has never connected has its key from its enrolment code, which nobody knows
/// here: it is counted, and not as locked out.
///
/// # Errors
/// A shard that cannot say.
pub async fn pinning(node: &Node, present: Fingerprint, next: Option<Fingerprint>) -> Result<Pinning, Rejection> {
    let View::Festivals(festivals) = node.query(Query::Festivals).await else { return Err(Rejection::Unavailable) };
    let mut pinning = Pinning::default();
    for festival in festivals.iter().map(|festival| festival.id) {
        let mut from = 0;
        loop {
            let View::Devices(page) = node.query(Query::Devices { festival, from, limit: PAGE }).await else {
                return Err(Rejection::Unavailable);
            };
            let Some(last) = page.last() else { break };
            from = last.id.number().saturating_add(1);
            page.iter().filter(|device| !device.revoked).for_each(|device| pinning.count(device, present, next));
        }
    }
    Ok(pinning)
}

impl Pinning {
    fn count(&mut self, device: &DeviceView, present: Fingerprint, next: Option<Fingerprint>) {
        let trusts = |pin: Fingerprint| device.pins.contains(&pin.short());
        self.devices += 1;
        if device.pins != [0; 2] && !trusts(present) {
            self.locked_out += 1;
            if self.named.len() < NAMED_MAX {
                self.named.push(format!("{} ({})", device.name, device.id));
            }
        }
        self.know_next += usize::from(next.is_some_and(trusts));
    }
}

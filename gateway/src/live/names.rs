//! What a festival's devices are called: people know a reader by its name, not by its id.

use std::collections::HashMap;

use actors::Node;
use engine::model::ids::{DeviceId, FestivalId};
use engine::view::{Query, View};

/// How many devices are looked up at once; more follow a second later.
const NAMES_AT_ONCE: u32 = 256;

/// The names that were asked for so far, by the devices' numbers: at most 65,536, 60 B each.
pub(super) struct Names {
    festival: FestivalId,
    known: HashMap<u32, String>,
}

impl Names {
    pub(super) fn of(festival: FestivalId) -> Self {
        Self { festival, known: HashMap::new() }
    }

    /// What this device is called, once that is known.
    pub(super) fn get(&self, device: DeviceId) -> Option<&str> {
        self.known.get(&device.number()).map(String::as_str)
    }

    /// Asks for names that are not known yet, of which there are none in most seconds.
    pub(super) async fn learn(&mut self, node: &Node, devices: impl Iterator<Item = DeviceId>) {
        let unknown = devices.filter(|device| device.festival() == self.festival).map(|device| device.number());
        let Some(from) = unknown.filter(|number| !self.known.contains_key(number)).min() else { return };
        let query = Query::Devices { festival: self.festival, from, limit: NAMES_AT_ONCE };
        let View::Devices(devices) = node.query(query).await else { return };
        self.known.extend(devices.into_iter().map(|device| (device.id.number(), device.name)));
    }

    #[cfg(test)]
    pub(super) fn known(festival: FestivalId, names: &[(u32, &str)]) -> Self {
        Self { festival, known: names.iter().map(|&(number, name)| (number, name.to_owned())).collect() }
    }
}

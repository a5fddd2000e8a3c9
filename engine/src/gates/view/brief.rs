//! Few words about something large: who needs a festival's name, its key's version, or one vendor of five hundred, does not
//! get all of it cloned on the shard's thread.

use serde::{Deserialize, Serialize};

use crate::cashless::command::CashlessPolicy;
use crate::cashless::view::VendorView;
use crate::gates::view::DeviceView;
use crate::model::ids::{FestivalId, ZoneNo};
use crate::model::money::Currency;
use crate::model::status::{FestivalStatus, ZoneState};
use crate::model::time::{Calendar, Timestamp};

/// A festival without its zones, gates and categories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutView {
    pub id: FestivalId,
    /// Its name in addresses.
    pub slug: String,
    pub name: String,
    /// When it begins.
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    /// Where it is in its life.
    pub status: FestivalStatus,
    /// How its days are told.
    pub calendar: Calendar,
    /// The version of the key that signs QRs now.
    pub qr_version: u32,
}

/// What a device is told when it connects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StandingView {
    pub device: DeviceView,
    /// What its festival is called.
    pub festival_name: String,
    /// What its gate is called; empty for a terminal.
    pub gate_name: String,
    /// What the zone behind the gate is called; empty for a terminal.
    pub zone_name: String,
    /// The zones that are closed, or being evacuated.
    pub not_open: Vec<(ZoneNo, ZoneState)>,
    /// Of the festival's prices, where it takes cashless payments.
    pub currency: Option<Currency>,
    /// What the terminal's vendor is called; empty where it takes no payments.
    pub vendor_name: String,
}

/// One vendor, and how its festival takes cashless payments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StandView {
    pub policy: CashlessPolicy,
    /// The vendor with what it sells.
    pub vendor: VendorView,
}

//! Statuses, kinds, roles and policies, as the reference has them, with the transitions that exist.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The word in JSON and on screens.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
            /// The one with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
            /// The one with this number in records.
            pub fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// Where a festival is in its life.
    FestivalStatus {
        /// Being prepared; nobody sees it.
        Draft = 0, "DRAFT";
        /// On sale.
        Published = 1, "PUBLISHED";
        /// Its gates are open.
        Ongoing = 2, "ONGOING";
        /// Over.
        Completed = 3, "COMPLETED";
        /// Will not take place.
        Cancelled = 4, "CANCELLED";
    }
}

impl FestivalStatus {
    /// DRAFT → PUBLISHED → ONGOING → COMPLETED; CANCELLED from any but COMPLETED.
    pub fn may_become(self, to: Self) -> bool {
        use FestivalStatus::*;
        matches!(
            (self, to),
            (Draft, Published) | (Published, Ongoing) | (Ongoing, Completed) | (Draft | Published | Ongoing, Cancelled)
        )
    }
}

words! {
    /// Where a ticket is in its life. AVAILABLE is a place under the quota that nobody holds: it has no ticket yet.
    TicketStatus {
        /// Not issued.
        Available = 0, "AVAILABLE";
        /// Held, not paid.
        Reserved = 1, "RESERVED";
        /// Paid.
        Sold = 2, "SOLD";
        /// Has entered a perimeter.
        Used = 3, "USED";
        /// Cancelled.
        Cancelled = 4, "CANCELLED";
        /// Refunded.
        Refunded = 5, "REFUNDED";
    }
}

impl TicketStatus {
    /// By the office's word: RESERVED → SOLD; RESERVED, SOLD → CANCELLED; SOLD, USED, CANCELLED → REFUNDED.
    /// (SOLD → USED and back is a scan's and an undo's doing.)
    pub fn may_become(self, to: Self) -> bool {
        use TicketStatus::*;
        matches!((self, to), (Reserved, Sold) | (Reserved | Sold, Cancelled) | (Sold | Used | Cancelled, Refunded))
    }
    /// Takes a place under the quota.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Reserved | Self::Sold | Self::Used)
    }
}

words! {
    /// What kind of ticket a category sells.
    CategoryKind {
        /// The usual.
        Standard = 0, "STANDARD";
        /// With more comfort.
        Vip = 1, "VIP";
        /// For those who work or play.
        Backstage = 2, "BACKSTAGE";
        /// With a place for a tent.
        Camping = 3, "CAMPING";
        /// With a place for a car.
        Parking = 4, "PARKING";
        /// Several in one.
        Combo = 5, "COMBO";
    }
}

words! {
    /// What a vendor mostly sells.
    VendorKind {
        /// To eat.
        Food = 0, "FOOD";
        /// To drink, without alcohol.
        Drink = 1, "DRINK";
        /// To drink, also with alcohol.
        Bar = 2, "BAR";
        /// To take home.
        Merchandise = 3, "MERCHANDISE";
    }
}

words! {
    /// Who may do what.
    Role {
        /// Everything, at every festival.
        Admin = 0, "ADMIN";
        /// Everything at their own festivals.
        Organizer = 1, "ORGANIZER";
        /// Tickets, devices, looking things up, undoing scans.
        Staff = 2, "STAFF";
        /// The cash desk.
        Cashier = 3, "CASHIER";
        /// Zones, blocks, evacuation, looking things up.
        Security = 4, "SECURITY";
        /// A visitor.
        User = 5, "USER";
    }
}

words! {
    /// Whether a zone lets people in.
    ZoneState {
        /// Yes.
        Open = 0, "OPEN";
        /// No; those inside stay, and may leave.
        Closed = 1, "CLOSED";
        /// No, and neither do the zones inside it; everybody is to leave.
        Evacuating = 2, "EVACUATING";
    }
}

words! {
    /// Whether a used ticket opens a perimeter again.
    EntryPolicy {
        /// Never.
        SingleEntry = 0, "single_entry";
        /// While its holder is outside.
        Reentry = 1, "reentry";
    }
}

words! {
    /// When a scan's answer leaves.
    ScanAck {
        /// When it is on disk.
        Durable = 0, "durable";
        /// When it is decided; the confirmation follows. May admit a ticket twice across a crash.
        Decided = 1, "decided";
    }
}

/// How a festival's gates behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Whether a used ticket opens a perimeter again.
    pub entry: EntryPolicy,
    /// When a scan's answer leaves.
    pub ack: ScanAck,
    /// One rejection in so many goes to the access log; 1 (the default) means all of them. At most 1,000.
    pub log_one_rejection_in: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { entry: EntryPolicy::SingleEntry, ack: ScanAck::Durable, log_one_rejection_in: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_festival_goes_forward_only() {
        let steps: Vec<(&str, &str)> = FestivalStatus::ALL
            .iter()
            .flat_map(|&from| FestivalStatus::ALL.iter().map(move |&to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .map(|(from, to)| (from.word(), to.word()))
            .collect();
        assert_eq!(
            steps,
            [
                ("DRAFT", "PUBLISHED"),
                ("DRAFT", "CANCELLED"),
                ("PUBLISHED", "ONGOING"),
                ("PUBLISHED", "CANCELLED"),
                ("ONGOING", "COMPLETED"),
                ("ONGOING", "CANCELLED"),
            ]
        );
    }

    #[test]
    fn words_and_numbers_lead_back() {
        for &status in TicketStatus::ALL {
            assert_eq!(TicketStatus::from_word(status.word()), Some(status));
            assert_eq!(TicketStatus::from_number(status as u32), Some(status));
        }
        assert_eq!(Role::from_word("admin"), None, "words are exact");
    }
}

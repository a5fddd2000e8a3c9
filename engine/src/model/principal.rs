//! Who did something. It stands in the record before what came of it ([`crate::event::Origin`]), so that the question "who
//! let her in, and who gave the money back?" has an answer for as long as the journal is kept. A device's own commands
//! carry the device in their event instead, with its number for the command ([`crate::gates::event::ByDevice`]).

use serde::{Deserialize, Serialize};

use crate::model::ids::{DeviceId, NodeNo, PersonId, ProviderNo};

/// Who did something, with what identifies them. It tells nobody's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Principal {
    /// The installation itself: its command line, and what the server does by its own rules.
    Installation,
    /// Whoever has this API key, by its number.
    ApiKey(u32),
    /// Somebody who was signed in to their account.
    Person(PersonId),
    /// A reader or a terminal.
    Device(DeviceId),
    /// A provider of payments that has told us something.
    Webhook(ProviderNo),
    /// One of the nodes, on its own account.
    Node(NodeNo),
    /// A kind that a newer program has recorded. It is kept as it was read, so that it is still there when that program
    /// reads on.
    Other {
        /// Its number in records.
        kind: u32,
        /// What identifies it there.
        id: PersonId,
    },
}

/// It lies in each remembered idempotency key and is copied with each command of the office.
const _: () = assert!(size_of::<Principal>() <= 24, "16 bytes of a person's id, and which kind");

/// The kinds' numbers in records. Never another meaning for one of them; the next is 6.
const INSTALLATION: u32 = 0;
const API_KEY: u32 = 1;
const PERSON: u32 = 2;
const DEVICE: u32 = 3;
const WEBHOOK: u32 = 4;
const NODE: u32 = 5;

impl Principal {
    /// The number of its kind in records, and the 128 bits that identify it there.
    pub fn to_parts(self) -> (u32, u128) {
        match self {
            Self::Installation => (INSTALLATION, 0),
            Self::ApiKey(number) => (API_KEY, u128::from(number)),
            Self::Person(person) => (PERSON, person.as_u128()),
            Self::Device(device) => (DEVICE, u128::from(device.0)),
            Self::Webhook(provider) => (WEBHOOK, u128::from(provider.0)),
            Self::Node(node) => (NODE, u128::from(node.0)),
            Self::Other { kind, id } => (kind, id.as_u128()),
        }
    }

    /// What [`Principal::to_parts`] wrote. Whatever this program does not know, a kind or more than a kind's own bits, is
    /// kept as it is.
    pub fn from_parts(kind: u32, id: u128) -> Self {
        let known = match kind {
            INSTALLATION => (id == 0).then_some(Self::Installation),
            API_KEY => u32::try_from(id).ok().map(Self::ApiKey),
            PERSON => Some(Self::Person(PersonId::from_u128(id))),
            DEVICE => u64::try_from(id).ok().map(|id| Self::Device(DeviceId(id))),
            WEBHOOK => u16::try_from(id).ok().map(|id| Self::Webhook(ProviderNo(id))),
            NODE => u32::try_from(id).ok().map(|id| Self::Node(NodeNo(id))),
            _ => None,
        };
        known.unwrap_or(Self::Other { kind, id: PersonId::from_u128(id) })
    }

    /// The number of the API key; 0 for the installation itself.
    pub fn key_number(self) -> Option<u32> {
        match self {
            Self::Installation => Some(0),
            Self::ApiKey(number) => Some(number),
            Self::Person(_) | Self::Device(_) | Self::Webhook(_) | Self::Node(_) | Self::Other { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_numbers_of_the_kinds_never_change() {
        let person = PersonId::from_u128(0xFEDC_BA98_7654_3210_0123_4567_89AB_CDEF);
        for (principal, kind, id) in [
            (Principal::Installation, 0, 0),
            (Principal::ApiKey(7), 1, 7),
            (Principal::Person(person), 2, person.as_u128()),
            (Principal::Device(DeviceId(0x1A2B_3C4D_0000_0011)), 3, 0x1A2B_3C4D_0000_0011),
            (Principal::Webhook(ProviderNo::STRIPE), 4, 1),
            (Principal::Node(NodeNo(3)), 5, 3),
        ] {
            assert_eq!(principal.to_parts(), (kind, id));
            assert_eq!(Principal::from_parts(kind, id), principal);
        }
    }

    proptest! {
        /// A newer program's kinds, and known kinds with more in them than we know of.
        #[test]
        fn whatever_is_read_is_written_again(kind in prop_oneof![0_u32..8, any::<u32>()], id in any::<u128>(), bits in 0_u32..128) {
            let id = id >> bits;
            prop_assert_eq!(Principal::from_parts(kind, id).to_parts(), (kind, id));
        }
    }
}

//! Why a connection ends: the codes in a Refuse frame, and the application codes with which QUIC closes.

use engine::model::rejection::Rejection;

macro_rules! closes {
    ($($(#[doc = $says:literal])* $name:ident = $number:literal;)*) => {
        /// Application codes of QUIC's CONNECTION_CLOSE. (Another ALPN is refused by TLS itself, with its alert 120.)
        pub mod close {
            $($(#[doc = $says])* pub const $name: u32 = $number;)*

            /// All of them, each with its name and what it says.
            pub const ALL: &[(u32, &str, &str)] = &[$(($number, stringify!($name), concat!($($says),*)),)*];
        }
    };
}

closes! {
    /// All is said; also a device's own way of leaving.
    DONE = 0;
    /// The server stops; come again.
    SHUTTING_DOWN = 1;
    /// The first frame speaks another protocol.
    BAD_VERSION = 2;
    /// The proof does not hold, the device is not known, or the code is not good.
    AUTH_FAILED = 3;
    /// Bytes that are no frame, a frame out of place, or a stream that ended inside a frame.
    MALFORMED = 4;
    /// No hello in time, or answers are not taken off the stream.
    TOO_SLOW = 5;
    /// The device was revoked.
    REVOKED = 6;
    /// Too many connections or attempts from this address; come again later.
    LIMITS = 7;
    /// The same device has opened a newer connection.
    REPLACED = 8;
    /// The festival's shard does not answer now; come again.
    UNAVAILABLE = 9;
    /// The server lost track of what this device was to be told: come again, and learn it anew.
    RESUME = 10;
}

/// Why a Refuse was sent: a [`Rejection`]'s number below 256, or one of the protocol's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The domain's own no.
    #[error("{}", .0.code())]
    Rejected(Rejection),
    /// 256: the first frame speaks another protocol.
    #[error("bad_version")]
    BadVersion,
    /// 257: the signature does not hold for this connection and the device's key.
    #[error("bad_proof")]
    BadProof,
    /// 258: bytes that are no frame.
    #[error("malformed")]
    Malformed,
    /// 259: a frame that has no place here: scans before the welcome, a second hello, a server's frame, a reader's payment, a
    /// terminal's scan.
    #[error("out_of_place")]
    OutOfPlace,
    /// 260: no hello in time.
    #[error("too_slow")]
    TooSlow,
    /// 261: too many connections from this address, or too many failures with this code, key or id, or of strangers here.
    #[error("too_many")]
    TooMany,
    /// 262: a newer connection of the same device takes over.
    #[error("replaced")]
    Replaced,
    /// 263: the server stops.
    #[error("shutting_down")]
    ShuttingDown,
}

impl Refusal {
    /// Its number in a frame.
    pub fn number(self) -> u16 {
        match self {
            Self::Rejected(rejection) => u16::from(rejection as u8),
            Self::BadVersion => 256,
            Self::BadProof => 257,
            Self::Malformed => 258,
            Self::OutOfPlace => 259,
            Self::TooSlow => 260,
            Self::TooMany => 261,
            Self::Replaced => 262,
            Self::ShuttingDown => 263,
        }
    }

    /// The one with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0..=255 => Self::Rejected(Rejection::from_number(number as u8)?),
            256 => Self::BadVersion,
            257 => Self::BadProof,
            258 => Self::Malformed,
            259 => Self::OutOfPlace,
            260 => Self::TooSlow,
            261 => Self::TooMany,
            262 => Self::Replaced,
            263 => Self::ShuttingDown,
            _ => return None,
        })
    }

    /// With which code the connection closes after it.
    pub fn close_code(self) -> u32 {
        match self {
            Self::Rejected(Rejection::DeviceRevoked) => close::REVOKED,
            Self::Rejected(
                Rejection::Busy
                | Rejection::Unavailable
                | Rejection::Internal
                | Rejection::StillPending
                | Rejection::InDoubt,
            ) => close::UNAVAILABLE,
            Self::Rejected(_) | Self::BadProof => close::AUTH_FAILED,
            Self::BadVersion => close::BAD_VERSION,
            Self::Malformed | Self::OutOfPlace => close::MALFORMED,
            Self::TooSlow => close::TOO_SLOW,
            Self::TooMany => close::LIMITS,
            Self::Replaced => close::REPLACED,
            Self::ShuttingDown => close::SHUTTING_DOWN,
        }
    }

    /// In words, for whoever reads the device's log.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.sentence(),
            Self::BadVersion => "This server speaks tapgate/2.",
            Self::BadProof => "The proof does not hold for this device and connection.",
            Self::Malformed => "These bytes are no frame.",
            Self::OutOfPlace => "This frame has no place here.",
            Self::TooSlow => "The device took too long.",
            Self::TooMany => "Too many connections or attempts from this address.",
            Self::Replaced => "The device has connected anew.",
            Self::ShuttingDown => "The server is stopping.",
        }
    }
}

//! Who is measured, and with how much under way.

use crate::load::Shape;

/// Who does it. The order is that of the turns: whoever is compared with each other comes one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    PostgresFunction,
    PostgresStatements,
    Redis,
    TigerBeetle,
    Tapgate,
    /// The frames of payments through a bare QUIC echo.
    Echo,
    /// Those of scans.
    ScanEcho,
    /// Scans that are answered when they are decided.
    Decided,
    /// Scans that are answered when they are durable.
    Durable,
}

impl Way {
    pub(crate) const ALL: [Self; 9] = [
        Self::PostgresFunction,
        Self::PostgresStatements,
        Self::Redis,
        Self::TigerBeetle,
        Self::Tapgate,
        Self::Echo,
        Self::ScanEcho,
        Self::Decided,
        Self::Durable,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::PostgresFunction => "postgres, one call",
            Self::PostgresStatements => "postgres, five statements",
            Self::Redis => "redis, always",
            Self::TigerBeetle => "tigerbeetle",
            Self::Tapgate => "tapgate",
            Self::Echo => "echo of payments",
            Self::ScanEcho => "echo of scans",
            Self::Decided => "scans, decided",
            Self::Durable => "scans, durable",
        }
    }

    pub(crate) fn is_scans(self) -> bool {
        matches!(self, Self::ScanEcho | Self::Decided | Self::Durable)
    }

    /// Whether it belongs to another one, and cannot be measured without it.
    pub(crate) fn is_of(self, other: Self) -> bool {
        let ours = |way: Self| way.is_scans() || [Self::Tapgate, Self::Echo].contains(&way);
        self == other || (self == Self::Tapgate && ours(other))
    }

    /// Which others it is compared with.
    pub(crate) fn beside(self) -> &'static [Self] {
        match self {
            Self::Tapgate => {
                &[Self::PostgresFunction, Self::PostgresStatements, Self::Redis, Self::TigerBeetle, Self::Echo]
            }
            Self::Decided | Self::Durable => &[Self::ScanEcho],
            _ => &[],
        }
    }

    /// How it keeps so many requests under way; `None` if it cannot, or if nobody is compared there.
    pub(crate) fn shape(self, at: At) -> Option<Shape> {
        let shape = |connections, window| Some(Shape { connections, window });
        match (self, at) {
            (_, At::One) => shape(1, 1),
            (_, At::Terminals32) => shape(32, 1),
            (_, At::Terminals256) => shape(256, 1),
            // A transaction of several statements has its connection to itself; a process for each is how it is done.
            (Self::PostgresFunction | Self::PostgresStatements, At::Windows) => None,
            (_, At::Windows) => shape(32, 8),
            (way, At::Streams) => way.is_scans().then_some(Shape { connections: 4, window: 256 }),
            (Self::PostgresFunction, At::Pipelined) => shape(64, 128),
            (Self::PostgresStatements, At::Pipelined) => None,
            (Self::Redis, At::Pipelined) => shape(128, 64),
            (Self::TigerBeetle, At::Pipelined) => shape(1, 8_189),
            (Self::Tapgate | Self::Echo, At::Pipelined) => shape(16, 512),
            (_, At::Pipelined) => shape(16, 1_024),
        }
    }
}

/// How much is under way: the same for all, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// One device with one command.
    One,
    /// 32 with one each.
    Terminals32,
    /// 256 with one each: an evening at a festival.
    Terminals256,
    /// 32 with eight each.
    Windows,
    /// Four with 256 each.
    Streams,
    /// Whatever each of them pipelines best.
    Pipelined,
}

impl At {
    pub(crate) const ALL: [Self; 6] =
        [Self::One, Self::Terminals32, Self::Terminals256, Self::Windows, Self::Streams, Self::Pipelined];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::One => "1 × 1",
            Self::Terminals32 => "32 × 1",
            Self::Terminals256 => "256 × 1",
            Self::Windows => "32 × 8",
            Self::Streams => "4 × 256",
            Self::Pipelined => "pipelined",
        }
    }
}

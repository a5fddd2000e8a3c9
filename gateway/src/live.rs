//! The live stream: a festival's counters, once a second, as server-sent events.

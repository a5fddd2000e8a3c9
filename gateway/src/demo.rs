//! The demo festival and its crowd: simulated readers that stream real scans over real QUIC.

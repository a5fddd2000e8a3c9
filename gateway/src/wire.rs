//! The frames that devices and server exchange.

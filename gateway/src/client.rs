//! The device's side: connect, resume, scan, a bounded queue on disk for what could not be sent, back-off.

//! The server's certificate, and the fingerprint devices pin.

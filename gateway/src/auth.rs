//! Who asks, and what they may: operators' keys, roles, and the rule that nobody sees another organiser's festival.
//!
//! A key is `tgk_` and 43 characters of URL-safe base 64 (32 random bytes), sent as `Authorization: Bearer …`. The
//! engine knows its SHA-256 only, and is asked on every request: a revoked key is refused by the next one.
//! What a key may not see does not exist for it: a foreign festival answers exactly as one that was never made.

mod api_key;
mod one_time;
mod principal;
mod rights;

pub use api_key::{KEY_PREFIX, key_hash, key_text};
pub use one_time::{OneTime, enrolment_code, enrolment_code_hash};
pub use principal::{Denied, Operator};
pub use rights::Right;

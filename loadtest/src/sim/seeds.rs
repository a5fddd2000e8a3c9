//! Seeds that CI always runs.

/// How many seeds CI runs, from 0.
pub const CI: u64 = 200;

/// Seeds that once found a real bug. They stay, whatever they find today:
/// - 3: an answer shown under `scan_ack = decided` and lost in a crash did not stand once the policy was durable again;
///   and answers left early under a change of policy that was not durable itself.
/// - 33: an answer shown green did not stand once the QR's key had been replaced.
/// - 170: an idempotency key was refused for its age by a clock that was wrong for a moment; asked again, it happened.
///
/// And since there is money:
/// - 3: a wallet was cashed out at a festival with another currency, into that festival's books.
/// - 74: a transfer's key was too old while the transfer was under way, and then it was told how that had ended.
pub const FOUND_SOMETHING: &[u64] = &[3, 33, 74, 170];

//! What an audit came to.

use serde::Serialize;

/// How many violations are listed; all are counted.
pub const VIOLATIONS_MAX: usize = 1_000;
/// How many conflicts are listed; all are counted.
pub const CONFLICTS_MAX: usize = 1_000;

/// What the audit came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Shards that had records.
    pub shards: u16,
    /// Records read.
    pub records: u64,
    pub events: u64,
    /// Of these: entries.
    pub admitted: u64,
    pub exited: u64,
    /// Scans and undos that got a no.
    pub rejected: u64,
    /// Undone scans.
    pub undone: u64,
    /// Tickets issued.
    pub tickets: u64,
    /// Transactions: entries in wallets' histories.
    pub transactions: u64,
    /// Of these: payments.
    pub debits: u64,
    pub refunds: u64,
    /// Transfers that left a wallet.
    pub transfers: u64,
    /// Of these, those that came back.
    pub transfers_returned: u64,
    /// What terminals asked and were refused.
    pub cash_rejected: u64,
    /// Each check, with how often it was made and how often it failed.
    pub checks: Vec<Checked>,
    /// The first violations, at most [`VIOLATIONS_MAX`].
    pub violations: Vec<Violation>,
    pub violations_total: u64,
    /// The first conflicts, at most [`CONFLICTS_MAX`]: scans whose shown answer stood (`scan_ack = decided`). They are
    /// no violations; somebody should look at them.
    pub conflicts: Vec<Conflict>,
    pub conflicts_total: u64,
}

/// One check's sums.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    pub check: &'static str,
    /// What holds.
    pub says: &'static str,
    /// The numbers of the invariants in ARCHITECTURE.md that it helps to hold.
    pub invariants: &'static [u8],
    /// How often it was looked at.
    pub checked: u64,
    /// How often it did not hold.
    pub violated: u64,
}

/// Something that must not be.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// In which record of the whole journal; the last number there is for what was seen at the end.
    #[serde(skip)]
    pub nth: u64,
    pub shard: u16,
    /// In which record.
    pub seq: u64,
    pub check: &'static str,
    /// What there is instead.
    pub what: String,
}

/// An answer that stood against what would have been decided.
#[derive(Clone, Debug, Serialize)]
pub struct Conflict {
    /// In which record of the whole journal.
    #[serde(skip)]
    pub nth: u64,
    pub shard: u16,
    /// In which record.
    pub seq: u64,
    /// By which reader.
    pub device: String,
    pub ticket: Option<String>,
    pub zone: u8,
    /// Let in; else turned away.
    pub admitted: bool,
    /// What would have been decided, if it was a no.
    pub instead_of: Option<&'static str>,
}

impl Report {
    /// Nothing was found.
    pub fn holds(&self) -> bool {
        self.violations_total == 0
    }

    /// Takes in what another part of the audit has found.
    pub(super) fn add(&mut self, other: Self) {
        let Self {
            shards: _, // counted when all are joined
            records,
            events,
            admitted,
            exited,
            rejected,
            undone,
            tickets,
            transactions,
            debits,
            refunds,
            transfers,
            transfers_returned,
            cash_rejected,
            checks,
            violations,
            violations_total,
            conflicts,
            conflicts_total,
        } = other;
        self.records += records;
        self.events += events;
        self.admitted += admitted;
        self.exited += exited;
        self.rejected += rejected;
        self.undone += undone;
        self.tickets += tickets;
        self.transactions += transactions;
        self.debits += debits;
        self.refunds += refunds;
        self.transfers += transfers;
        self.transfers_returned += transfers_returned;
        self.cash_rejected += cash_rejected;
        for (sums, theirs) in self.checks.iter_mut().zip(checks) {
            sums.checked += theirs.checked;
            sums.violated += theirs.violated;
        }
        self.violations.extend(violations);
        self.violations_total += violations_total;
        self.conflicts.extend(conflicts);
        self.conflicts_total += conflicts_total;
    }
}

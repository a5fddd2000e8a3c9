//! Gates and bars at work while servers fail, and all that they were told held against the journal afterwards.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine::model::status::ScanAck;

use super::bars::{self, Bars};
use super::gates;
use super::journaled::Journaled;
use crate::admin::Admin;
use crate::gate::slots;
use crate::load::{self, Plan, Running};
use crate::reader::{DeviceConfig, Reader};
use crate::report::CrashReport;
use crate::simulated::Wait;
use crate::terminal::Terminal;

/// Answers a reader or a terminal holds on to, and asks for again after each crash.
const KEEP: usize = 256;
/// The load lasts as long as the failures do; this only bounds it.
const LASTS_MAX: Duration = Duration::from_secs(24 * 3_600);
const NOTES_MAX: usize = 8;

/// Who comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrowdConfig {
    /// Readers.
    pub(crate) readers: u32,
    /// Commands without an answer a device keeps under way.
    pub(crate) window: u32,
    /// Scans a second, all readers together.
    pub(crate) scans: u64,
    /// Tickets, over all readers.
    pub(crate) tickets: u32,
    /// Terminals; one more pays by wristbands that are moved from wallet to wallet.
    pub(crate) terminals: u32,
    /// Commands a second, all terminals together.
    pub(crate) payments: u64,
    /// Wallets, over all terminals.
    pub(crate) wallets: u32,
    /// When answers to scans leave.
    pub(crate) ack: ScanAck,
    /// The same seed makes the same crowd.
    pub(crate) seed: u64,
    /// As in [`Plan`].
    pub(crate) answer_within: Option<Duration>,
    /// How long each answer is waited for is written down.
    pub(crate) waits: bool,
}

/// Everybody at work.
pub(crate) struct Crowd {
    gates: Running<Reader>,
    bars: bars::Open,
}

impl Crowd {
    /// Makes two festivals, and lets everybody begin.
    ///
    /// # Errors
    /// The server refuses.
    pub(crate) fn open(admin: &Admin, config: &CrowdConfig) -> anyhow::Result<Self> {
        let readers = config.readers as usize;
        let window = (config.window as usize).min(config.tickets as usize / readers / 8).max(1);
        let strangers = config.tickets as usize / 64;
        let festival = admin.make_festival(config.tickets as usize - strangers, strangers, config.ack)?;
        let device_config = DeviceConfig { window, keep: KEEP, remember: true, waits: config.waits, echo: false };
        let (slots, target) = slots(admin, &festival, readers, config.seed, device_config)?;
        let bars = Bars::prepare(admin, config, device_config, LASTS_MAX)?;
        let (rate, answer_within) = (Some(config.scans), config.answer_within);
        let gates = load::start(Plan { target, slots, threads: 1, lasts: LASTS_MAX, rate, answer_within })?;
        Ok(Self { gates, bars: bars.open(admin)? })
    }

    /// The server was killed, and takes calls again: whoever is connected to the one before connects anew.
    pub(crate) fn server_is_back(&self) {
        self.gates.context.incarnation.send_modify(|incarnation| *incarnation += 1);
        self.bars.server_is_back();
    }

    /// When gates and bars began, each with a clock of its own.
    pub(crate) fn began(&self) -> (Instant, Instant) {
        (self.gates.context.start, self.bars.began())
    }

    /// Waits until everybody has every answer, and terminals have counted every wallet.
    ///
    /// # Errors
    /// Somebody panicked.
    pub(crate) fn close(self) -> anyhow::Result<Closed> {
        self.gates.end();
        debug_assert!(self.gates.context.end_ns.load(Ordering::Relaxed) < LASTS_MAX.as_nanos() as u64);
        let home = self.gates.come_home()?;
        let bars = self.bars.close()?;
        let complaints = home.complaints.into_iter().filter(|complaint| !is_expected(complaint)).collect();
        Ok(Closed { readers: home.simulated_devices, bars, complaints })
    }
}

/// Whether it is how a device should lose its connection while servers fail.
pub(super) fn is_expected(complaint: &str) -> bool {
    [
        "the server has gone",
        "the node is silent",
        "an answer does not come",
        "connection lost",
        "closed by peer",
        "shutting_down",
    ]
    .iter()
    .any(|why| complaint.contains(why))
}

/// Everybody has come home.
pub(crate) struct Closed {
    readers: Vec<Reader>,
    bars: bars::Closed,
    complaints: Vec<String>,
}

impl Closed {
    /// Looks at wallets and books.
    ///
    /// # Errors
    /// The server does not show them.
    pub(crate) fn count(&mut self, admin: &Admin) -> anyhow::Result<()> {
        self.bars.count(admin)
    }

    /// The readers, as they came home.
    pub(crate) fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// The terminals.
    pub(crate) fn terminals(&self) -> &[Terminal] {
        self.bars.terminals()
    }

    /// How long operators waited, on the terminals' clock.
    pub(crate) fn office_waits(&self) -> &[Wait] {
        &self.bars.office_waits
    }

    /// Holds what was acknowledged against the journal.
    pub(crate) fn compare(self, journaled: Journaled, report: &mut CrashReport) {
        let Journaled { gates, money, audit } = journaled;
        report.notes = self.complaints;
        gates::compare(&self.readers, gates, report);
        let (money, notes) = self.bars.compare(money);
        report.money = money;
        report.notes.extend(notes);
        report.audited = audit.records;
        report.violations = audit.violations_total;
        let found = audit.violations.into_iter();
        report.notes.extend(
            found.map(|found| format!("shard {}, record {}: {}: {}", found.shard, found.seq, found.check, found.what)),
        );
        report.notes.truncate(NOTES_MAX);
    }
}

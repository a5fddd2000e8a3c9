//! The bars while the server is killed: terminals pay, refund and top up; one more is tapped with wristbands that an
//! operator moves; others transfer money.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use engine::model::ids::{TagUid, WalletId};

use super::crowd::{CrowdConfig, is_expected};
use super::gates::how_else;
use super::journaled::MoneyBook;
use super::operators::Operators;
use super::tags::Tags;
use super::transfers::{RING, Transfers};
use crate::admin::Admin;
use crate::admin::bar::BarPlace;
use crate::cashless_model::{CashlessModel, Customer, Totals};
use crate::link::{Offer, Target};
use crate::load::{self, Plan, Running, Slot};
use crate::reader::DeviceConfig;
use crate::report::MoneyMetrics;
use crate::simulated::Wait;
use crate::terminal::{Tapped, Terminal};
use crate::workload::bar::CustomerMix;

const VENDORS: u16 = 3;
/// One wallet in so many has a wristband, which names it.
const TAGGED_ONE_IN: u32 = 4;
/// A terminal's wallets are at least so many times its window: else everybody would be at the bar at once.
const WALLETS_PER_COMMAND: u32 = 4;
/// Operators who transfer.
const TRANSFERRING: usize = 2;
/// Wallets from which those who transfer pick theirs, in different shards.
const SPARE: usize = TRANSFERRING * RING * 4;
/// Tags that an operator moves, and how many commands each may have under way.
const ROAMING: usize = 8;
const TAPS_AT_ONCE: usize = 4;
/// The number of the first of them: no wallet's tag of its own.
const ROAMING_FROM: usize = 10_000_000;

/// Everything is ready to begin.
pub(super) struct Bars {
    bar: BarPlace,
    metrics: MoneyMetrics,
    plan: Plan<Terminal>,
    transfers: Vec<Transfers>,
    tags: Vec<Tags>,
}

/// Everybody is at work.
pub(super) struct Open {
    bar: BarPlace,
    metrics: MoneyMetrics,
    running: Running<Terminal>,
    transfers: Operators<Transfers>,
    tags: Operators<Tags>,
}

/// Everybody has come home.
pub(super) struct Closed {
    bar: BarPlace,
    /// What is known so far.
    pub(super) metrics: MoneyMetrics,
    terminals: Vec<Terminal>,
    totals: Totals,
    transfers: Vec<Transfers>,
    tags: Vec<Tags>,
    /// How long operators waited for their answers.
    pub(super) office_waits: Vec<Wait>,
    /// In words.
    pub(super) notes: Vec<String>,
}

impl Bars {
    /// Makes a festival with its bars, wallets and terminals.
    ///
    /// # Errors
    /// The server refuses.
    pub(super) fn prepare(
        admin: &Admin,
        args: &CrowdConfig,
        device_config: DeviceConfig,
        lasts: Duration,
    ) -> anyhow::Result<Self> {
        let (terminals, wallets) = (args.terminals as usize, args.wallets as usize);
        let mut bar = admin.make_bar(VENDORS, wallets + SPARE + 2, (args.wallets / TAGGED_ONE_IN) as usize)?;
        let mut spare: Vec<WalletId> = bar.wallets.split_off(wallets).into_iter().map(|(wallet, _)| wallet).collect();
        let roaming: Vec<TagUid> = (ROAMING_FROM..ROAMING_FROM + ROAMING).filter_map(|nth| admin.tag(nth)).collect();
        let wearers = spare.split_off(SPARE).try_into().ok().context("two wallets wear wristbands that roam")?;
        let tags = vec![Tags::prepare(admin, &bar, wearers, roaming.clone())?];
        let transfers =
            (0..TRANSFERRING).map(|_| Transfers::prepare(admin, &bar, &mut spare)).collect::<Result<_, _>>()?;
        let offers: Vec<(Offer, Target)> = (0..=terminals)
            .map(|number| admin.offer_terminal(&bar, &format!("Terminal {number}"), number as u16 % VENDORS))
            .collect::<anyhow::Result<_>>()?;
        let target = offers.first().context("there is a terminal")?.1.clone();
        let window = (args.window).min(args.wallets / args.terminals / WALLETS_PER_COMMAND).max(1) as usize;
        let slot = |(number, (offer, _)): (usize, (Offer, Target))| {
            let own = bar.wallets.iter().skip(number).step_by(terminals);
            let customers = if number == terminals {
                (0..TAPS_AT_ONCE).flat_map(|_| roaming.iter().map(|tag| Customer::roaming(*tag))).collect()
            } else {
                own.map(|(wallet, tag)| Customer::new(*wallet, *tag, 0)).collect()
            };
            let mix = CustomerMix::new(args.seed.wrapping_mul(1_000_003).wrapping_add(number as u64), 0.0);
            let device_config = DeviceConfig { window, ..device_config };
            Slot {
                simulated: Terminal::new(number, CashlessModel::new(customers), mix, device_config),
                offer: Some(offer),
            }
        };
        let slots = offers.into_iter().enumerate().map(slot).collect();
        let metrics = MoneyMetrics { terminals: args.terminals + 1, wallets: args.wallets, ..MoneyMetrics::default() };
        let plan =
            Plan { target, slots, threads: 1, lasts, rate: Some(args.payments), answer_within: args.answer_within };
        Ok(Self { bar, metrics, plan, transfers, tags })
    }

    /// Lets everybody begin.
    ///
    /// # Errors
    /// A terminal cannot connect.
    pub(super) fn open(self, admin: &Admin) -> anyhow::Result<Open> {
        let Self { bar, metrics, plan, transfers, tags } = self;
        let running = load::start(plan)?;
        let transfers = Operators::start(admin, &running.context, transfers, Transfers::run);
        let tags = Operators::start(admin, &running.context, tags, Tags::run);
        Ok(Open { bar, metrics, running, transfers, tags })
    }
}

impl Open {
    /// Their moment 0.
    pub(super) fn began(&self) -> Instant {
        self.running.context.start
    }

    /// The server has been killed, and takes calls again.
    pub(super) fn server_is_back(&self) {
        self.running.context.incarnation.send_modify(|incarnation| *incarnation += 1);
    }

    /// Waits until everybody has every answer, and terminals have counted every wallet.
    ///
    /// # Errors
    /// Somebody panicked.
    pub(super) fn close(self) -> anyhow::Result<Closed> {
        let Self { bar, mut metrics, running, transfers, tags } = self;
        let (transfers, tags) = (transfers.come_home()?, tags.come_home()?);
        metrics.asked_again = transfers.asked_again + tags.asked_again;
        let office_waits = transfers.waits.into_iter().chain(tags.waits).collect();
        let mut notes: Vec<String> = transfers.gave_up.into_iter().chain(tags.gave_up).collect();
        let (transfers, tags) = (transfers.works, tags.works);
        // Whoever gave up has an answer that nobody knows.
        metrics.lost = notes.len() as u64;
        running.end();
        let home = running.come_home()?;
        notes.extend(home.complaints.into_iter().filter(|complaint| !is_expected(complaint)));
        let mut totals = Totals::default();
        home.simulated_devices.iter().for_each(|terminal| totals.add(&terminal.cashless_model.totals));
        metrics.payments = totals.paid;
        metrics.refunds = totals.refunded;
        metrics.topups = totals.topped_up;
        metrics.wrong = totals.wrong;
        metrics.balances_checked = totals.counted;
        metrics.balances_wrong = totals.balances_wrong;
        notes.append(&mut totals.explained);
        Ok(Closed { bar, metrics, terminals: home.simulated_devices, totals, transfers, tags, office_waits, notes })
    }
}

impl Closed {
    /// The terminals, as they came home.
    pub(super) fn terminals(&self) -> &[Terminal] {
        &self.terminals
    }

    /// Looks at the operators' wallets and at the books.
    ///
    /// # Errors
    /// The server does not show them.
    pub(super) fn count(&mut self, admin: &Admin) -> anyhow::Result<()> {
        let Self { bar, metrics, terminals, totals, transfers, tags, notes, .. } = self;
        let tapped: Vec<Tapped> = terminals.iter().flat_map(|terminal| terminal.tapped.iter().copied()).collect();
        transfers.iter_mut().try_for_each(|of_one| of_one.count(admin, metrics))?;
        tags.iter_mut().try_for_each(|of_one| of_one.count(admin, &tapped, metrics))?;
        let funded: i64 = transfers.iter().map(Transfers::funded).chain(tags.iter().map(Tags::funded)).sum();
        let (turnover, cash) = (totals.turnover, totals.cash);
        let due = funded + cash - turnover;
        let books = admin.books(bar)?;
        metrics.in_transit = books.in_transit;
        metrics.books_agree =
            books.balanced && (books.wallets, books.turnover, books.terminals) == (due, turnover, cash);
        if !metrics.books_agree || books.in_transit != 0 {
            notes.push(format!(
                "the server says {books:?}; it should be {due} in wallets, {turnover} turnover, {cash} cash"
            ));
        }
        Ok(())
    }

    /// Holds what was acknowledged against the journal.
    pub(super) fn compare(self, book: MoneyBook) -> (MoneyMetrics, Vec<String>) {
        let Self { mut metrics, terminals, transfers, tags, mut notes, .. } = self;
        for terminal in &terminals {
            metrics.lost += terminal.lost();
            metrics.resent += terminal.resent;
            metrics.acknowledged += terminal.remembered.len() as u64;
            let none = BTreeMap::new();
            let answers = terminal.device.and_then(|device| book.answers.get(&device.0)).unwrap_or(&none);
            for (seq, hash) in &terminal.remembered {
                if answers.get(seq) != Some(hash) {
                    metrics.lost += 1;
                    let what = how_else(answers.contains_key(seq));
                    notes.push(format!("command {seq} of terminal {} is in the journal {what}", terminal.number));
                }
            }
        }
        transfers.into_iter().for_each(|of_one| of_one.compare(&book, &mut metrics, &mut notes));
        tags.into_iter().for_each(|of_one| of_one.compare(&book, &mut metrics, &mut notes));
        metrics.journaled = book.commands;
        metrics.doubled += book.doubled;
        metrics.wrong += book.wrong;
        notes.extend(book.notes);
        (metrics, notes)
    }
}

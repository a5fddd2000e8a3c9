//! The bars while the server is killed: terminals pay, refund and top up; one more is tapped with wristbands that an
//! operator moves; others transfer money.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use engine::model::ids::{TagUid, WalletId};

use super::gates::how_else;
use super::journaled::MoneyBook;
use super::operators::Operators;
use super::transfers::{RING, Transfers};
use super::wristbands::Wristbands;
use crate::cli::Crash;
use crate::link::{Offer, Target};
use crate::load::{self, Plan, Running, Seat};
use crate::office::Office;
use crate::office::bar::BarPlace;
use crate::reader::Habits;
use crate::report::MoneyFigures;
use crate::tab::{Guest, Tab, Takings};
use crate::till::{Tapped, Till};
use crate::workload::bar::Round;

const VENDORS: u16 = 3;
/// One wallet in so many has a wristband, which names it.
const TAGGED_ONE_IN: u32 = 4;
/// A terminal's wallets are at least so many times its window: else everybody would be at the bar at once.
const WALLETS_PER_COMMAND: u32 = 4;
/// Operators who transfer.
const TRANSFERRING: usize = 2;
/// Wallets from which those who transfer pick theirs, in different shards.
const SPARE: usize = TRANSFERRING * RING * 4;
/// Chips that an operator moves, and how many commands each may have under way.
const ROAMING: usize = 8;
const TAPS_AT_ONCE: usize = 4;
/// The number of the first of them: no wallet's chip of its own.
const ROAMING_FROM: usize = 10_000_000;

/// Everything is ready to begin.
pub(super) struct Bars {
    bar: BarPlace,
    figures: MoneyFigures,
    plan: Plan<Till>,
    transfers: Vec<Transfers>,
    wristbands: Vec<Wristbands>,
}

/// Everybody is at work.
pub(super) struct Open {
    bar: BarPlace,
    figures: MoneyFigures,
    running: Running<Till>,
    transfers: Operators<Transfers>,
    wristbands: Operators<Wristbands>,
}

/// Everybody has come home.
pub(super) struct Closed {
    bar: BarPlace,
    /// What is known so far.
    pub(super) figures: MoneyFigures,
    tills: Vec<Till>,
    takings: Takings,
    transfers: Vec<Transfers>,
    wristbands: Vec<Wristbands>,
    /// In words.
    pub(super) notes: Vec<String>,
}

impl Bars {
    /// Makes a festival with its bars, wallets and terminals.
    ///
    /// # Errors
    /// The server refuses.
    pub(super) fn prepare(office: &Office, args: &Crash, habits: Habits, lasts: Duration) -> anyhow::Result<Self> {
        let (terminals, wallets) = (args.terminals as usize, args.wallets as usize);
        let mut bar = office.make_bar(VENDORS, wallets + SPARE + 2, (args.wallets / TAGGED_ONE_IN) as usize)?;
        let mut spare: Vec<WalletId> = bar.wallets.split_off(wallets).into_iter().map(|(wallet, _)| wallet).collect();
        let roaming: Vec<TagUid> = (ROAMING_FROM..ROAMING_FROM + ROAMING).filter_map(|nth| office.tag(nth)).collect();
        let wearers = spare.split_off(SPARE).try_into().ok().context("two wallets wear wristbands that roam")?;
        let wristbands = vec![Wristbands::prepare(office, &bar, wearers, roaming.clone())?];
        let transfers =
            (0..TRANSFERRING).map(|_| Transfers::prepare(office, &bar, &mut spare)).collect::<Result<_, _>>()?;
        let offers: Vec<(Offer, Target)> = (0..=terminals)
            .map(|number| office.offer_terminal(&bar, &format!("Terminal {number}"), number as u16 % VENDORS))
            .collect::<anyhow::Result<_>>()?;
        let target = offers.first().context("there is a terminal")?.1;
        let window = (args.window).min(args.wallets / args.terminals / WALLETS_PER_COMMAND).max(1) as usize;
        let seat = |(number, (offer, _)): (usize, (Offer, Target))| {
            let own = bar.wallets.iter().skip(number).step_by(terminals);
            let guests = if number == terminals {
                (0..TAPS_AT_ONCE).flat_map(|_| roaming.iter().map(|tag| Guest::roaming(*tag))).collect()
            } else {
                own.map(|(wallet, tag)| Guest::new(*wallet, *tag, 0)).collect()
            };
            let round = Round::new(args.seed.wrapping_mul(1_000_003).wrapping_add(number as u64), 0.0);
            let habits = Habits { window, ..habits };
            Seat { player: Till::new(number, Tab::new(guests), round, habits), offer: Some(offer) }
        };
        let seats = offers.into_iter().enumerate().map(seat).collect();
        let figures = MoneyFigures { terminals: args.terminals + 1, wallets: args.wallets, ..MoneyFigures::default() };
        let plan = Plan { target, seats, threads: 1, lasts, rate: Some(args.payments) };
        Ok(Self { bar, figures, plan, transfers, wristbands })
    }

    /// Lets everybody begin.
    ///
    /// # Errors
    /// A terminal cannot connect.
    pub(super) fn open(self, office: &Office) -> anyhow::Result<Open> {
        let Self { bar, figures, plan, transfers, wristbands } = self;
        let running = load::start(plan)?;
        let transfers = Operators::start(office, &running.course, transfers, Transfers::run);
        let wristbands = Operators::start(office, &running.course, wristbands, Wristbands::run);
        Ok(Open { bar, figures, running, transfers, wristbands })
    }
}

impl Open {
    /// The server has been killed, and takes calls again.
    pub(super) fn server_is_back(&self) {
        self.running.course.incarnation.send_modify(|incarnation| *incarnation += 1);
    }

    /// Waits until everybody has every answer, and terminals have counted every wallet.
    ///
    /// # Errors
    /// Somebody panicked.
    pub(super) fn close(self) -> anyhow::Result<Closed> {
        let Self { bar, mut figures, running, transfers, wristbands } = self;
        let (transfers, again, mut notes) = transfers.come_home()?;
        let (wristbands, again_too, gave_up) = wristbands.come_home()?;
        figures.asked_again = again + again_too;
        notes.extend(gave_up);
        // Whoever gave up has an answer that nobody knows.
        figures.lost = notes.len() as u64;
        running.end();
        let home = running.come_home()?;
        notes.extend(home.complaints.into_iter().filter(|complaint| !complaint.contains("the server has gone")));
        let mut takings = Takings::default();
        home.players.iter().for_each(|till| takings.add(&till.tab.takings));
        figures.payments = takings.paid;
        figures.refunds = takings.refunded;
        figures.topups = takings.topped_up;
        figures.wrong = takings.wrong;
        figures.balances_checked = takings.counted;
        figures.balances_wrong = takings.balances_wrong;
        notes.append(&mut takings.explained);
        Ok(Closed { bar, figures, tills: home.players, takings, transfers, wristbands, notes })
    }
}

impl Closed {
    /// Looks at the operators' wallets and at the books.
    ///
    /// # Errors
    /// The server does not show them.
    pub(super) fn count(&mut self, office: &Office) -> anyhow::Result<()> {
        let Self { bar, figures, tills, takings, transfers, wristbands, notes } = self;
        let tapped: Vec<Tapped> = tills.iter().flat_map(|till| till.tapped.iter().copied()).collect();
        transfers.iter_mut().try_for_each(|of_one| of_one.count(office, figures))?;
        wristbands.iter_mut().try_for_each(|of_one| of_one.count(office, &tapped, figures))?;
        let funded: i64 =
            transfers.iter().map(Transfers::funded).chain(wristbands.iter().map(Wristbands::funded)).sum();
        let (turnover, cash) = (takings.turnover, takings.cash);
        let due = funded + cash - turnover;
        let books = office.books(bar)?;
        figures.in_transit = books.in_transit;
        figures.books_agree = books.balanced && (books.wallets, books.turnover, books.tills) == (due, turnover, cash);
        if !figures.books_agree || books.in_transit != 0 {
            notes.push(format!(
                "the server says {books:?}; it should be {due} in wallets, {turnover} turnover, {cash} cash"
            ));
        }
        Ok(())
    }

    /// Holds what was acknowledged against the journal.
    pub(super) fn compare(self, book: MoneyBook) -> (MoneyFigures, Vec<String>) {
        let Self { mut figures, tills, transfers, wristbands, mut notes, .. } = self;
        for till in &tills {
            figures.lost += till.lost();
            figures.resent += till.resent;
            figures.acknowledged += till.remembered.len() as u64;
            let none = BTreeMap::new();
            let answers = till.device.and_then(|device| book.answers.get(&device.0)).unwrap_or(&none);
            for (seq, hash) in &till.remembered {
                if answers.get(seq) != Some(hash) {
                    figures.lost += 1;
                    let what = how_else(answers.contains_key(seq));
                    notes.push(format!("command {seq} of terminal {} is in the journal {what}", till.number));
                }
            }
        }
        transfers.into_iter().for_each(|of_one| of_one.compare(&book, &mut figures, &mut notes));
        wristbands.into_iter().for_each(|of_one| of_one.compare(&book, &mut figures, &mut notes));
        figures.journaled = book.commands;
        figures.doubled += book.doubled;
        figures.wrong += book.wrong;
        notes.extend(book.notes);
        (figures, notes)
    }
}

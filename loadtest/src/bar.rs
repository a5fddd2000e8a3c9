//! `bar`: a festival's bars are opened, its terminals enrolled, a thirsty crowd comes, every answer is checked, and at the
//! end every wallet and the books, to the cent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use engine::model::ids::WalletId;
use engine::model::rejection::Rejection;
use storage::journal::bench::bench_disk;

use crate::cli::{Bar, Guests, Load};
use crate::gate::{DISK_S, now_ms};
use crate::link::{Offer, Target};
use crate::load::Seat;
use crate::office::Office;
use crate::office::bar::BarPlace;
use crate::reader::Habits;
use crate::report::{BarReport, DiskUs, rejected};
use crate::server::Server;
use crate::stage::{self, Worked, on_a_server};
use crate::tab::{Guest, Tab, Takings};
use crate::till::Till;
use crate::workload::bar::Round;

/// A terminal's wallets are at least so many times its window: else everybody would be at the bar at once.
const WALLETS_PER_COMMAND: usize = 2;
/// What the hot wallet has, in minor units: more than anybody can drink in an hour.
const HOT: i64 = 100_000_000_000;
/// What an operator who transfers has in each of two wallets, in minor units.
const FLOAT: i64 = 100_000;

/// Runs it.
///
/// # Errors
/// The server does not start, or refuses to be set up. What it answers wrongly is in the report.
pub fn run(args: &Bar) -> anyhow::Result<BarReport> {
    let (mut report, stopped) =
        on_a_server(&args.load, |server, office, folder| measure(args, server, office, folder))?;
    if let Some(why) = stopped {
        report.wrong += 1;
        report.notes.push(why);
    }
    Ok(report)
}

fn measure(args: &Bar, server: Option<&Server>, office: &Office, folder: PathBuf) -> anyhow::Result<BarReport> {
    let window = window(&args.load, &args.guests, args.load.connections)?;
    let habits = Habits { window, keep: 0, remember: false, epoch_ms: now_ms(), echo: false };
    let mut evening = Evening::prepare(office, &args.guests, args.load.connections, args.load.seed, habits)?;
    let disk = bench_disk(&folder, DISK_S)?;
    let seats = core::mem::take(&mut evening.seats);
    let working = stage::start(&args.load, window, evening.target, seats, server.and_then(Server::pid))?;
    let transfers = Transfers::start(office, &evening, args.load.seconds);
    let worked = working.come_home()?;
    let mut report = add_up(&args.guests, worked, transfers.come_home()?, (office, &evening))?;
    report.figures.disk_us = DiskUs::of(&disk);
    Ok(report)
}

/// Commands a terminal keeps under way: as asked, or as many as its wallets allow.
///
/// # Errors
/// It was asked for more than the wallets allow.
pub fn window(load: &Load, guests: &Guests, terminals: u32) -> anyhow::Result<usize> {
    let most = guests.wallets as usize / terminals as usize / WALLETS_PER_COMMAND;
    ensure!(
        most > 0 && load.window.is_none_or(|window| window as usize <= most),
        "{} wallets are too few: each terminal needs {WALLETS_PER_COMMAND} for each command under way; try --wallets {}",
        guests.wallets,
        load.window() * WALLETS_PER_COMMAND * terminals as usize
    );
    Ok(load.window().min(most))
}

/// A festival whose terminals are ready to begin.
pub struct Evening {
    /// The festival.
    pub bar: BarPlace,
    /// Where its terminals connect.
    pub target: Target,
    pub seats: Vec<Seat<Till>>,
    /// The wallet that is hot, if there is one.
    hot: Option<WalletId>,
    /// Two wallets for each operator who transfers.
    floats: Vec<(WalletId, WalletId)>,
}

impl Evening {
    /// Makes a festival with its bars, wallets and terminals.
    ///
    /// # Errors
    /// The server refuses.
    pub fn prepare(
        office: &Office,
        guests: &Guests,
        terminals: u32,
        seed: u64,
        habits: Habits,
    ) -> anyhow::Result<Self> {
        let terminals = terminals as usize;
        let extra = 1 + 2 * guests.transfers as usize;
        let mut bar = office.make_bar(
            guests.vendors,
            guests.wallets as usize + extra,
            guests.tags.min(guests.wallets) as usize,
        )?;
        let mut rest = bar.wallets.split_off(guests.wallets as usize).into_iter().map(|(wallet, _)| wallet);
        let hot = rest.next().filter(|_| guests.hot > 0.0);
        if let Some(hot) = hot {
            office.top_up(&bar, hot, HOT)?;
        }
        let rest: Vec<WalletId> = rest.collect();
        let floats: Vec<(WalletId, WalletId)> = rest.chunks_exact(2).map(|two| (two[0], two[1])).collect();
        for (one, other) in &floats {
            office.top_up(&bar, *one, FLOAT)?;
            office.top_up(&bar, *other, FLOAT)?;
        }
        let at_the_hot_vendor = (guests.hot * terminals as f64).round() as usize;
        let offers: Vec<(Offer, Target)> = (0..terminals)
            .map(|number| {
                let vendor = if number < at_the_hot_vendor { 0 } else { number as u16 % guests.vendors };
                office.offer_terminal(&bar, &format!("Terminal {number}"), vendor)
            })
            .collect::<anyhow::Result<_>>()?;
        let target = offers.first().context("there is a terminal")?.1;
        let seat = |(number, (offer, _)): (usize, (Offer, Target))| {
            let mut theirs: Vec<Guest> = Vec::new();
            if let Some(hot) = hot {
                theirs.push(Guest { shared: true, ..Guest::new(hot, None, HOT) });
            }
            let own = bar.wallets.iter().skip(number).step_by(terminals);
            theirs.extend(own.map(|(wallet, tag)| Guest::new(*wallet, *tag, 0)));
            let round = Round::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64), guests.hot);
            Seat { player: Till::new(number, Tab::new(theirs), round, habits), offer: Some(offer) }
        };
        let seats = offers.into_iter().enumerate().map(seat).collect();
        // The tills have them now.
        bar.wallets = Vec::new();
        Ok(Self { bar, target, seats, hot, floats })
    }
}

/// Operators who transfer money to and fro while the bars are open.
pub struct Transfers {
    threads: Vec<JoinHandle<anyhow::Result<u64>>>,
    stop: Arc<AtomicBool>,
    began: Instant,
}

impl Transfers {
    /// Starts them, for so many seconds.
    pub fn start(office: &Office, evening: &Evening, seconds: u64) -> Self {
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let threads = evening.floats.iter().enumerate().map(|(number, (one, other))| {
            let (office, stop, one, other) = (office.another(), Arc::clone(&stop), *one, *other);
            std::thread::spawn(move || {
                let (mut has, mut had) = ((one, FLOAT), (other, FLOAT));
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) && began.elapsed().as_secs() < seconds {
                    let amount = 1 + (done as i64 * 37 + number as i64) % 500;
                    let left = office.transfer(has.0, had.0, amount)?;
                    (has.1, had.1) = (has.1 - amount, had.1 + amount);
                    ensure!(left == has.1, "{} has {left} after a transfer, and should have {}", has.0, has.1);
                    core::mem::swap(&mut has, &mut had);
                    done += 1;
                }
                Ok(done)
            })
        });
        Self { threads: threads.collect(), stop, began }
    }

    /// Waits for them: how many transfers, and how many a second.
    ///
    /// # Errors
    /// One was refused, or answered wrongly.
    pub fn come_home(self) -> anyhow::Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut done = 0;
        for thread in self.threads {
            done += thread.join().map_err(|_| anyhow!("an operator's thread panicked"))??;
        }
        Ok((done, (done as f64 / self.began.elapsed().as_secs_f64()) as u64))
    }
}

/// What terminals found, and whether wallets and books agree.
///
/// # Errors
/// The server does not show its books.
pub fn add_up(
    guests: &Guests,
    worked: Worked<Till>,
    (transfers, transfers_per_s): (u64, u64),
    (office, evening): (&Office, &Evening),
) -> anyhow::Result<BarReport> {
    let Worked { players: tills, mut figures, complaints } = worked;
    let mut takings = Takings::default();
    tills.iter().for_each(|till| takings.add(&till.tab.takings));
    let sum = |of: fn(&Till) -> u64| tills.iter().map(of).sum::<u64>();
    figures.answered(takings.answered, tills.iter().map(|till| till.last_ns).max().unwrap_or_default());
    figures.busy = sum(|till| till.busy);
    figures.resent = sum(|till| till.resent);
    figures.slowed = sum(|till| till.slowed);

    let books = office.books(&evening.bar)?;
    let by_the_office = if evening.hot.is_some() { HOT } else { 0 } + 2 * FLOAT * evening.floats.len() as i64;
    let due = by_the_office + takings.cash - takings.turnover;
    let books_agree =
        books.balanced && books.in_transit == 0 && (books.turnover, books.tills) == (takings.turnover, takings.cash);
    let mut notes: Vec<String> = complaints.into_iter().chain(takings.explained).collect();
    if !books_agree || books.wallets != due {
        let (turnover, cash) = (takings.turnover, takings.cash);
        notes.push(format!(
            "the server says {books:?}; it should be {due} in wallets, {turnover} turnover, {cash} cash"
        ));
    }
    Ok(BarReport {
        mode: "bar",
        figures,
        wallets: guests.wallets,
        vendors: guests.vendors,
        hot: guests.hot,
        debits: takings.paid,
        refunds: takings.refunded,
        topups: takings.topped_up,
        transfers,
        transfers_per_s,
        insufficient: takings.rejected[Rejection::InsufficientFunds as usize],
        rejected: rejected(&takings.rejected),
        wrong: takings.wrong,
        balances_checked: takings.counted,
        balances_wrong: takings.balances_wrong,
        money_created: (books.wallets - due).max(0),
        money_lost: (due - books.wallets).max(0),
        books_agree,
        notes,
    })
}

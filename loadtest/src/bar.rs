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

use crate::admin::Admin;
use crate::admin::bar::BarPlace;
use crate::cashless_model::{CashlessModel, Customer, Totals};
use crate::cli::{Bar, Customers, Load};
use crate::gate::DISK_S;
use crate::link::{Offer, Target};
use crate::load::Slot;
use crate::reader::DeviceConfig;
use crate::report::{BarReport, DiskUs, rejected};
use crate::server::Server;
use crate::stage::{self, Worked, on_a_server};
use crate::terminal::Terminal;
use crate::workload::bar::CustomerMix;

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
    let (mut report, stopped) = on_a_server(&args.load, |server, admin, folder| measure(args, server, admin, folder))?;
    if let Some(why) = stopped {
        report.wrong += 1;
        report.notes.push(why);
    }
    Ok(report)
}

fn measure(args: &Bar, server: Option<&Server>, admin: &Admin, folder: PathBuf) -> anyhow::Result<BarReport> {
    let window = window(&args.load, args.customers.wallets, args.load.connections)?;
    let device_config = DeviceConfig { window, keep: 0, remember: false, waits: false, echo: false };
    let mut evening = Evening::prepare(admin, &args.customers, args.load.connections, args.load.seed, device_config)?;
    let disk = bench_disk(&folder, DISK_S)?;
    let slots = core::mem::take(&mut evening.slots);
    let working = stage::start(&args.load, window, evening.target.clone(), slots, server.and_then(Server::watched))?;
    let transfers = Transfers::start(admin, &evening, args.load.seconds);
    let worked = working.come_home()?;
    let mut report = add_up(&args.customers, worked, transfers.come_home()?, (admin, &evening))?;
    report.metrics.disk_us = DiskUs::of(&disk);
    Ok(report)
}

/// Commands a terminal keeps under way: as asked, or as many as its wallets allow.
///
/// # Errors
/// It was asked for more than the wallets allow.
pub fn window(load: &Load, wallets: u32, terminals: u32) -> anyhow::Result<usize> {
    let most = wallets as usize / terminals as usize / WALLETS_PER_COMMAND;
    ensure!(
        most > 0 && load.window.is_none_or(|window| window as usize <= most),
        "{} wallets are too few: each terminal needs {WALLETS_PER_COMMAND} for each command under way; try --wallets {}",
        wallets,
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
    pub slots: Vec<Slot<Terminal>>,
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
        admin: &Admin,
        customers: &Customers,
        terminals: u32,
        seed: u64,
        device_config: DeviceConfig,
    ) -> anyhow::Result<Self> {
        let terminals = terminals as usize;
        let extra = 1 + 2 * customers.transfers as usize;
        let mut bar = admin.make_bar(
            customers.vendors,
            customers.wallets as usize + extra,
            customers.tags.min(customers.wallets) as usize,
        )?;
        let mut rest = bar.wallets.split_off(customers.wallets as usize).into_iter().map(|(wallet, _)| wallet);
        let hot = rest.next().filter(|_| customers.hot > 0.0);
        if let Some(hot) = hot {
            admin.top_up(&bar, hot, HOT)?;
        }
        let rest: Vec<WalletId> = rest.collect();
        let floats: Vec<(WalletId, WalletId)> = rest.chunks_exact(2).map(|two| (two[0], two[1])).collect();
        for (one, other) in &floats {
            admin.top_up(&bar, *one, FLOAT)?;
            admin.top_up(&bar, *other, FLOAT)?;
        }
        let at_the_hot_vendor = (customers.hot * terminals as f64).round() as usize;
        let offers: Vec<(Offer, Target)> = (0..terminals)
            .map(|number| {
                let vendor = if number < at_the_hot_vendor { 0 } else { number as u16 % customers.vendors };
                admin.offer_terminal(&bar, &format!("Terminal {number}"), vendor)
            })
            .collect::<anyhow::Result<_>>()?;
        let target = offers.first().context("there is a terminal")?.1.clone();
        let slot = |(number, (offer, _)): (usize, (Offer, Target))| {
            let mut theirs: Vec<Customer> = Vec::new();
            if let Some(hot) = hot {
                theirs.push(Customer { shared: true, ..Customer::new(hot, None, HOT) });
            }
            let own = bar.wallets.iter().skip(number).step_by(terminals);
            theirs.extend(own.map(|(wallet, tag)| Customer::new(*wallet, *tag, 0)));
            let round = CustomerMix::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64), customers.hot);
            Slot {
                simulated: Terminal::new(number, CashlessModel::new(theirs), round, device_config),
                offer: Some(offer),
            }
        };
        let slots = offers.into_iter().enumerate().map(slot).collect();
        // The terminals have them now.
        bar.wallets = Vec::new();
        Ok(Self { bar, target, slots, hot, floats })
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
    pub fn start(admin: &Admin, evening: &Evening, seconds: u64) -> Self {
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let threads = evening.floats.iter().enumerate().map(|(number, (one, other))| {
            let (admin, stop, one, other) = (admin.another(), Arc::clone(&stop), *one, *other);
            std::thread::spawn(move || {
                let (mut has, mut had) = ((one, FLOAT), (other, FLOAT));
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) && began.elapsed().as_secs() < seconds {
                    let amount = 1 + (done as i64 * 37 + number as i64) % 500;
                    let left = admin.transfer(has.0, had.0, amount)?;
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
    customers: &Customers,
    worked: Worked<Terminal>,
    (transfers, transfers_per_s): (u64, u64),
    (admin, evening): (&Admin, &Evening),
) -> anyhow::Result<BarReport> {
    let Worked { simulated_devices: terminals, mut metrics, complaints } = worked;
    let mut totals = Totals::default();
    terminals.iter().for_each(|terminal| totals.add(&terminal.cashless_model.totals));
    let sum = |of: fn(&Terminal) -> u64| terminals.iter().map(of).sum::<u64>();
    metrics.answered(totals.answered, terminals.iter().map(|terminal| terminal.last_ns).max().unwrap_or_default());
    metrics.busy = sum(|terminal| terminal.busy);
    metrics.resent = sum(|terminal| terminal.resent);
    metrics.slowed = sum(|terminal| terminal.slowed);

    let books = admin.books(&evening.bar)?;
    let by_the_admin = if evening.hot.is_some() { HOT } else { 0 } + 2 * FLOAT * evening.floats.len() as i64;
    let due = by_the_admin + totals.cash - totals.turnover;
    let books_agree =
        books.balanced && books.in_transit == 0 && (books.turnover, books.terminals) == (totals.turnover, totals.cash);
    let mut notes: Vec<String> = complaints.into_iter().chain(totals.explained).collect();
    if !books_agree || books.wallets != due {
        let (turnover, cash) = (totals.turnover, totals.cash);
        notes.push(format!(
            "the server says {books:?}; it should be {due} in wallets, {turnover} turnover, {cash} cash"
        ));
    }
    Ok(BarReport {
        mode: "bar",
        metrics,
        wallets: customers.wallets,
        vendors: customers.vendors,
        hot: customers.hot,
        debits: totals.paid,
        refunds: totals.refunded,
        topups: totals.topped_up,
        transfers,
        transfers_per_s,
        insufficient: totals.rejected[Rejection::InsufficientFunds as usize],
        rejected: rejected(&totals.rejected),
        wrong: totals.wrong,
        balances_checked: totals.counted,
        balances_wrong: totals.balances_wrong,
        money_created: (books.wallets - due).max(0),
        money_lost: (due - books.wallets).max(0),
        books_agree,
        notes,
    })
}

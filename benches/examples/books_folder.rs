//! A data folder with the books of a big festival, for `tapgate audit`: every transaction is decided by the engine, on
//! sixteen shards, and appended to a real journal. The same arguments make the same records.
//! `cargo run --release -p benches --example books_folder -- --transactions N --data DIR`
#![allow(clippy::print_stdout)] // printing is its job

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use engine::cashless::command::{
    CashlessAction, CashlessPolicy, Line, ProductValues, Source, SourceKind, TerminalAction, TerminalCommand,
    VendorValues,
};
use engine::command::{AdminAction, AdminAnswer, AdminCommand, Answer, Command};
use engine::model::ids::{DeviceId, FestivalId, Home, ProductNo, ShardId, TransactionId, VendorNo, WalletId, nonce_at};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::status::{FestivalStatus, Policy};
use engine::model::time::{HOUR_MS, Timestamp};
use engine::shard::outbox::DELIVER_MAX;
use engine::shard::{Shard, Step};
use storage::journal::disk::FolderDisk;
use storage::journal::file::{FileJournal, Options};
use storage::journal::log::{LogOptions, LogWriter, NotStaged};

#[derive(Parser)]
struct Args {
    /// How many transactions, at least: entries in wallets' histories.
    #[arg(long, default_value_t = 1_000_000)]
    transactions: u64,
    /// The data folder; its journal must not exist yet.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Wallets, each with a wristband's worth of money [default: one for each twenty transactions].
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..))]
    wallets: Option<u32>,
    /// How many commands a record decides at most, as a busy server has it.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    batch: u64,
    /// How many shards.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,
}

/// 2026-07-10T18:00:00Z.
const EVENING: Timestamp = Timestamp(1_783_706_400_000);
const VENDORS: u16 = 12;
/// The first so many take payments, four for each vendor; behind them are the cash desks.
const TERMINALS: u32 = 48;
const DESKS: u32 = 4;
/// Payments that a refund may name, by shard.
const RECENT: usize = 1_024;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let wallets = args.wallets.unwrap_or_else(|| (args.transactions / 20).clamp(16, 50_000_000) as u32);
    let began = Instant::now();
    let mut evening = Evening::new(&args.data, args.shards)?;
    evening.open(wallets)?;
    while evening.transactions() < args.transactions {
        evening.round(args.batch)?;
    }
    evening.quiet()?;
    evening.journal.flush()?;
    let Evening { told, .. } = &evening;
    println!(
        "{} transactions of {wallets} wallets in {:.1} s: {} payments, {} refunds, {} top-ups, {} transfers, {} refused; \
         {} records, {} bytes of them",
        evening.transactions(),
        began.elapsed().as_secs_f64(),
        told.payments,
        told.refunds,
        told.topups,
        told.transfers,
        told.refused,
        told.records,
        told.bytes,
    );
    Ok(())
}

#[derive(Default)]
struct Told {
    payments: u64,
    refunds: u64,
    topups: u64,
    transfers: u64,
    refused: u64,
    records: u64,
    bytes: u64,
}

/// All shards, stepped in turn by one thread.
struct Evening {
    shards: Vec<Shard>,
    step: Step,
    journal: LogWriter<FolderDisk>,
    now: Timestamp,
    festival: FestivalId,
    wallets: Vec<WalletId>,
    /// The next number of each terminal.
    seqs: Vec<u64>,
    recent: Vec<Vec<(TransactionId, DeviceId)>>,
    dice: u64,
    told: Told,
}

impl Evening {
    fn new(data: &Path, shards: u16) -> anyhow::Result<Self> {
        let dir = data.join("journal");
        ensure!(!dir.exists(), "{} exists: name a new folder", dir.display());
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let log = LogOptions { shards, ..LogOptions::default() };
        let (journal, _) = FileJournal::open(&dir, Options { log, ..Options::default() })?.into_parts();
        Ok(Self {
            shards: (0..shards).map(|id| Shard::new(ShardId(id), shards)).collect(),
            step: Step::default(),
            journal,
            now: EVENING,
            festival: FestivalId::of_slug("books"),
            wallets: Vec::new(),
            seqs: vec![1; (TERMINALS + DESKS) as usize],
            recent: vec![Vec::new(); usize::from(shards)],
            dice: 0,
            told: Told::default(),
        })
    }

    fn transactions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.cashless().serial()).sum()
    }

    /// A number below `below`, the same each time.
    fn dice(&mut self, below: u64) -> u64 {
        self.dice += 1;
        nonce_at(self.dice, 1) % below
    }

    fn home(&self, wallet: WalletId) -> usize {
        usize::from(Home::Wallet(wallet).shard(self.shards.len() as u16).0)
    }

    /// The festival with its vendors and terminals; the wallets, each filled at the desk.
    fn open(&mut self, wallets: u32) -> anyhow::Result<()> {
        let festival = self.festival;
        let name = |what: &str, no: u32| format!("{what} {no}");
        self.admin(AdminAction::CreateFestival {
            slug: "books".into(),
            name: "Books".into(),
            starts_at: EVENING,
            ends_at: EVENING.plus_ms(72 * HOUR_MS),
            policy: Policy::default(),
            calendar: engine::model::time::Calendar::default(),
        })?;
        self.admin(AdminAction::SetFestivalStatus { festival, to: FestivalStatus::Published })?;
        self.admin(AdminAction::Cashless(CashlessAction::SetPolicy { festival, policy: CashlessPolicy::default() }))?;
        for no in 0..VENDORS {
            let values = VendorValues {
                name: name("Bar", no.into()),
                commission_bp: 100 * (no % 4) + 725,
                open: true,
                kind: engine::model::status::VendorKind::Bar,
            };
            self.admin(AdminAction::Cashless(CashlessAction::PutVendor { festival, vendor: None, values }))?;
            for (price, vat_bp) in [(450, 1_900), (320, 700)] {
                let values = ProductValues { name: name("Product", price as u32), price, vat_bp, on_sale: true };
                let vendor = VendorNo(no);
                self.admin(AdminAction::Cashless(CashlessAction::PutProduct {
                    festival,
                    vendor,
                    product: None,
                    values,
                }))?;
            }
        }
        for no in 0..TERMINALS + DESKS {
            let (vendor, code_hash) = ((no < TERMINALS).then_some(VendorNo((no % 12) as u16)), [no as u8; 32]);
            let (cashier, name) = (vendor.is_none(), name("Till", no));
            self.admin(AdminAction::Cashless(CashlessAction::OfferTerminal {
                festival,
                vendor,
                cashier,
                code_hash,
                name,
            }))?;
            self.admin(AdminAction::EnrolDevice { festival, code_hash, public_key: [no as u8; 32] })?;
        }
        self.wallets = (0..wallets).map(|n| WalletId(nonce_at(3, n) | 1 << 60)).collect();
        let mut by_shard = vec![Vec::new(); self.shards.len()];
        for &wallet in &self.wallets {
            by_shard[self.home(wallet)].push(wallet);
        }
        let source = Source::new(SourceKind::Desk, festival, 1);
        for (shard, wallets) in by_shard.into_iter().enumerate() {
            for chunk in wallets.chunks(256) {
                let made = chunk.iter().map(|&wallet| CashlessAction::CreateWallet { wallet, festival, account: None });
                let amount = eur(10_000);
                let filled = chunk.iter().map(|&wallet| CashlessAction::TopUp {
                    wallet,
                    festival,
                    amount,
                    source,
                    taken: false,
                });
                let commands: Vec<Command> = made.chain(filled).map(AdminAction::Cashless).map(asked).collect();
                self.decide(shard, &commands)?;
            }
        }
        Ok(())
    }

    /// One command of the office, and whatever follows from it.
    fn admin(&mut self, action: AdminAction) -> anyhow::Result<()> {
        let shard = action.home().shard(self.shards.len() as u16);
        let what = format!("{action:?}");
        self.decide(usize::from(shard.0), &[asked(action)])?;
        if let Answer::Admin { answer: AdminAnswer::Rejected(why), .. } = self.step.answers[0] {
            bail!("{what} is refused: {}", why.code());
        }
        self.quiet()
    }

    /// Steps one shard, and appends its record.
    fn decide(&mut self, shard: usize, commands: &[Command]) -> anyhow::Result<()> {
        self.shards[shard].step(self.now, commands, &mut self.step);
        let record = &self.step.record;
        if record.is_empty() {
            return Ok(());
        }
        self.told.records += 1;
        self.told.bytes += record.len() as u64;
        loop {
            match self.journal.stage(ShardId(shard as u16), record) {
                Ok(_) => return Ok(()),
                Err(NotStaged::GroupFull) => drop(self.journal.flush()?),
                Err(NotStaged::TooLarge) => bail!("a record that fits into no group"),
            }
        }
    }

    /// Some tens of milliseconds of the evening: everybody's commands, sorted by shard; now and then, messages.
    fn round(&mut self, batch: u64) -> anyhow::Result<()> {
        self.now = self.now.plus_ms(20);
        let floors = self.seqs.clone();
        let mut commands: Vec<Vec<Command>> = vec![Vec::new(); self.shards.len()];
        for _ in 0..batch * self.shards.len() as u64 {
            let wallet = self.somebody();
            let (shard, command) = self.command(wallet, &floors);
            commands[shard].push(command);
        }
        for (shard, commands) in commands.iter().enumerate() {
            for part in commands.chunks(batch as usize) {
                self.decide(shard, part)?;
                self.learn(shard);
            }
        }
        self.carry()?;
        Ok(())
    }

    fn somebody(&mut self) -> WalletId {
        let at = self.dice(self.wallets.len() as u64);
        self.wallets[at as usize]
    }

    fn command(&mut self, wallet: WalletId, floors: &[u64]) -> (usize, Command) {
        let (shard, festival) = (self.home(wallet), self.festival);
        let terminal = self.dice(u64::from(TERMINALS)) as usize;
        let (device, action) = match self.dice(100) {
            0..=2 => {
                let (to, amount) = (self.somebody(), eur(100 + self.dice(900) as i64));
                return (
                    shard,
                    asked(AdminAction::Cashless(CashlessAction::Transfer { from: wallet, to, festival, amount })),
                );
            }
            3..=7 => {
                let desk = (u64::from(TERMINALS) + self.dice(DESKS.into())) as usize;
                let amount = eur(500 * (1 + self.dice(10) as i64));
                (desk, TerminalAction::TopUp { wallet, tap: None, amount })
            }
            8..=11 if !self.recent[shard].is_empty() => {
                let nth = self.dice(self.recent[shard].len() as u64) as usize;
                let (payment, device) = self.recent[shard].swap_remove(nth);
                let amount = (self.dice(2) == 0).then_some(eur(50));
                // By another vendor's terminal it is refused.
                let terminal = if self.dice(16) == 0 { terminal } else { device.number() as usize };
                (terminal, TerminalAction::Refund { payment, amount, lines: [].into() })
            }
            12..=19 => {
                let (line, other) = ((450, 0), (320, 1));
                let count = 1 + self.dice(2) as u16;
                let sold = |(price, product), count| Line { product: ProductNo(product), count, price };
                let amount = eur(line.0 * i64::from(count) + other.0);
                (
                    terminal,
                    TerminalAction::Pay {
                        wallet,
                        tap: None,
                        amount,
                        lines: [sold(line, count), sold(other, 1)].into(),
                    },
                )
            }
            _ => {
                let amount = eur(100 + self.dice(900) as i64);
                (terminal, TerminalAction::Pay { wallet, tap: None, amount, lines: [].into() })
            }
        };
        let seq = self.seqs[device];
        self.seqs[device] += 1;
        let floor = floors[device];
        let device = DeviceId::new(festival, device as u32);
        (shard, Command::Terminal(TerminalCommand { device, seq, floor, expires_at: Timestamp(0), action }))
    }

    /// What the last step said.
    fn learn(&mut self, shard: usize) {
        use engine::cashless::command::CashlessVerdict::{Balance, Paid, Refunded, Rejected, ToppedUp};
        for answer in &self.step.answers {
            match answer {
                Answer::Terminal { device, answer, .. } => match answer.verdict {
                    Paid => {
                        self.told.payments += 1;
                        let recent = &mut self.recent[shard];
                        if let Some(id) = answer.transaction().filter(|_| recent.len() < RECENT) {
                            recent.push((id, *device));
                        }
                    }
                    Refunded => self.told.refunds += 1,
                    ToppedUp => self.told.topups += 1,
                    Rejected(_) => self.told.refused += 1,
                    Balance => {}
                },
                Answer::Admin { answer: AdminAnswer::Rejected(_), .. } => self.told.refused += 1,
                Answer::Admin { .. } => self.told.transfers += 1,
                _ => {}
            }
        }
    }

    /// Hands over what shards have to tell each other, one record a shard; then the word that it has come, likewise.
    /// Says whether there was anything.
    fn carry(&mut self) -> anyhow::Result<bool> {
        let ids: Vec<ShardId> = self.shards.iter().map(Shard::id).collect();
        let mut came = vec![Vec::new(); ids.len()];
        for &to in &ids {
            let mut deliveries = Vec::new();
            for &from in ids.iter().filter(|from| **from != to) {
                let (first, messages) = self.shards[usize::from(from.0)].outgoing(to);
                let messages: Vec<_> = messages.take(DELIVER_MAX).cloned().collect();
                if !messages.is_empty() {
                    deliveries.push(Command::Deliver { from, first, messages });
                }
            }
            self.decide(usize::from(to.0), &deliveries)?;
            for answer in &self.step.answers {
                let Answer::Acked { from, through } = *answer else { continue };
                came[usize::from(from.0)].push(Command::Delivered { to, through });
            }
        }
        for (from, came) in came.iter().enumerate() {
            self.decide(from, came)?;
        }
        Ok(came.iter().any(|came| !came.is_empty()))
    }

    /// Until nobody has anything to say.
    fn quiet(&mut self) -> anyhow::Result<()> {
        while self.carry()? {}
        Ok(())
    }
}

fn asked(action: AdminAction) -> Command {
    Command::Admin(Box::new(AdminCommand { key: None, by: Principal::ApiKey(1), action }))
}

fn eur(minor: i64) -> Money {
    Money { minor, currency: Currency::EUR }
}

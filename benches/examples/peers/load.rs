//! A closed loop over one peer: so many connections, each with so many debits under way, and how long they take.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use serde::Serialize;

/// What each wallet holds at first: nobody runs out.
pub(crate) const FILLED: i64 = 1_000_000_000;

/// How requests are kept under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// Debits that each sends before it waits for all their answers.
    pub(crate) window: usize,
}

/// One debit. Terminal and number are the client's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Debit {
    pub(crate) terminal: i32,
    pub(crate) seq: i64,
    pub(crate) wallet: i64,
    pub(crate) amount: i64,
}

/// What became of a debit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refused,
    Paid {
        balance: i64,
    },
    /// The key was there: the same answer as before, and nothing happened.
    Again {
        balance: i64,
    },
}

impl Verdict {
    /// As the peers' functions number them.
    pub(crate) fn new(number: i64, balance: i64) -> Self {
        match number {
            1 => Self::Paid { balance },
            2 => Self::Again { balance },
            _ => Self::Refused,
        }
    }
}

/// Which debits come: the same for all peers, as ours has them.
pub(crate) struct Draws {
    state: u64,
    wallets: u32,
    hot: f64,
    next_terminal: i32,
}

impl Draws {
    pub(crate) fn new(wallets: u32, hot: f64) -> Self {
        Self { state: 1, wallets, hot, next_terminal: 1 }
    }

    /// Sebastiano Vigna's splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ self.state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A terminal nobody has had.
    pub(crate) fn terminal(&mut self) -> i32 {
        self.next_terminal += 1;
        self.next_terminal - 1
    }

    pub(crate) fn debit(&mut self, terminal: i32, seq: i64) -> Debit {
        let (which, chance) = (self.next(), self.next());
        let hot = (chance >> 11) as f64 / ((1_u64 << 53) as f64) < self.hot;
        let wallet = if hot { 0 } else { (which % u64::from(self.wallets)) as i64 };
        Debit { terminal, seq, wallet, amount: 100 + (which >> 40) as i64 % 900 }
    }
}

/// One connection to a peer.
pub(crate) trait Terminal {
    /// Sends all of these, and waits for all answers, in order.
    async fn debits(&mut self, debits: &[Debit], verdicts: &mut Vec<Verdict>) -> anyhow::Result<()>;
}

/// What a measurement came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rate_per_s: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// Debits that were acknowledged, and their sum.
    pub(crate) debits: u64,
    pub(crate) amount: i64,
    /// The last of them, to be asked again.
    pub(crate) last: Option<(Debit, i64)>,
    /// What our read models cost meanwhile.
    pub(crate) views: Option<ViewsCost>,
}

/// What our read models cost, until they had caught up.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ViewsCost {
    /// Of the server's processor time, in percent.
    pub(crate) cpu_pct: f64,
    /// By how much they grew for each answer, in bytes.
    pub(crate) bytes: f64,
    /// What was written to the disk for each answer, in bytes.
    pub(crate) written: f64,
    /// How long after the last answer they had caught up, in ms.
    pub(crate) behind_ms: f64,
}

/// Lets all of them work for so long.
pub(crate) async fn drive<T: Terminal>(
    devices: &mut [T],
    window: usize,
    lasts: Duration,
    draws: &mut Draws,
) -> anyhow::Result<Measured> {
    let began = Instant::now();
    let draws = std::cell::RefCell::new(draws);
    let work = devices.iter_mut().map(async |device| {
        let terminal = draws.borrow_mut().terminal();
        let (mut debits, mut verdicts, mut seq) = (Vec::with_capacity(window), Vec::with_capacity(window), 0);
        let (mut histogram, mut sum) = (Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?, Measured::default());
        while began.elapsed() < lasts {
            debits.clear();
            verdicts.clear();
            for _ in 0..window {
                seq += 1;
                debits.push(draws.borrow_mut().debit(terminal, seq));
            }
            let sent = Instant::now();
            device.debits(&debits, &mut verdicts).await?;
            histogram.saturating_record_n((sent.elapsed().as_micros() as u64).max(1), window as u64);
            ensure!(verdicts.len() == window, "{} answers to {window} debits", verdicts.len());
            for (debit, verdict) in debits.iter().zip(&verdicts) {
                let Verdict::Paid { balance } = *verdict else {
                    anyhow::bail!("{debit:?} is answered {verdict:?}");
                };
                sum.debits += 1;
                sum.amount += debit.amount;
                sum.last = Some((*debit, balance));
            }
        }
        anyhow::Ok((histogram, sum, began.elapsed()))
    });
    let (mut all, mut measured, mut took) =
        (Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?, Measured::default(), lasts);
    for (histogram, sum, until) in try_join_all(work).await? {
        all.add(&histogram)?;
        measured.debits += sum.debits;
        measured.amount += sum.amount;
        measured.last = sum.last.or(measured.last);
        took = took.max(until);
    }
    measured.rate_per_s = (measured.debits as f64 / took.as_secs_f64()) as u64;
    measured.p50_us = all.value_at_quantile(0.5);
    measured.p99_us = all.value_at_quantile(0.99);
    Ok(measured)
}

/// The machine's processor time so far: how much of it neighbours took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    steal: u64,
    all: u64,
}

impl Ticks {
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let cpu = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what follows is counted in user and nice already.
        let fields: Vec<u64> = cpu.split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap_or(0)).collect();
        Self { steal: fields.get(7).copied().unwrap_or(0), all: fields.iter().sum() }
    }

    /// Stolen since then, in percent.
    pub(crate) fn steal_pct(&self) -> f64 {
        let now = Self::now();
        let share = (now.steal - self.steal) as f64 / now.all.saturating_sub(self.all).max(1) as f64;
        (share * 10_000.0).round() / 100.0
    }
}

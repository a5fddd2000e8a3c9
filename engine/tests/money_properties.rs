//! What holds whatever anybody does with money: random nights over several shards, with messages that are lost, repeated
//! and late, and shards that restart. The books are added up after every step.

mod bar;

use std::collections::BTreeMap;

use bar::{Bar, eur};
use engine::cashless::command::*;
use engine::command::*;
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::shard::Shard;
use proptest::prelude::*;

/// One thing that happens. Small numbers, so that they meet often; taken modulo what there is.
#[derive(Clone, Debug)]
enum Deed {
    Pay { wallet: usize, terminal: usize, amount: i64, tag: Option<usize>, seq: SeqOf, lines: bool },
    Refund { payment: usize, terminal: usize, amount: Option<i64>, seq: SeqOf },
    TopUp { wallet: usize, amount: i64, seq: SeqOf },
    Admin { key: Option<u128>, action: usize, wallet: usize, other: usize, n: i64 },
    Carry { from: u16, to: u16, ack: bool, stale: bool },
    Restart { shard: u16 },
    Tick { ms: i64 },
}

/// How a terminal numbers: the next one mostly, now and then an old one, or with a floor that rises.
#[derive(Clone, Debug)]
enum SeqOf {
    Next,
    Again(u64),
    Floor(u64),
}

fn seq_of() -> impl Strategy<Value = SeqOf> {
    prop_oneof![
        8 => Just(SeqOf::Next),
        2 => (1..6_u64).prop_map(SeqOf::Again),
        1 => (0..8_u64).prop_map(SeqOf::Floor),
    ]
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![10 => 1..3_000_i64, 2 => Just(500_i64), 1 => Just(0), 1 => Just(-5), 1 => 40_000..120_000_i64, 1 => Just(1_000_000_000_000)]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        10 => (0..6_usize, 0..5_usize, amount(), proptest::option::of(0..3_usize), seq_of(), any::<bool>())
            .prop_map(|(wallet, terminal, amount, tag, seq, lines)| Deed::Pay { wallet, terminal, amount, tag, seq, lines }),
        5 => (0..8_usize, 0..5_usize, proptest::option::of(amount()), seq_of())
            .prop_map(|(payment, terminal, amount, seq)| Deed::Refund { payment, terminal, amount, seq }),
        6 => (0..6_usize, amount(), seq_of()).prop_map(|(wallet, amount, seq)| Deed::TopUp { wallet, amount, seq }),
        10 => (proptest::option::of(0..6_u128), 0..15_usize, 0..6_usize, 0..6_usize, 1..2_000_i64)
            .prop_map(|(key, action, wallet, other, n)| Deed::Admin { key, action, wallet, other, n }),
        8 => (0..5_u16, 0..5_u16, any::<bool>(), any::<bool>())
            .prop_map(|(from, to, ack, stale)| Deed::Carry { from, to, ack, stale }),
        1 => (0..5_u16).prop_map(|shard| Deed::Restart { shard }),
        2 => (0..40_000_i64).prop_map(|ms| Deed::Tick { ms }),
    ]
}

/// A night under way.
struct Night {
    bar: Bar,
    wallets: Vec<WalletId>,
    tags: Vec<TagUid>,
    payments: Vec<TransactionId>,
    next: BTreeMap<String, u64>,
    /// What terminals were told, by their id and the shard that did.
    told: BTreeMap<(DeviceId, u64, ShardId), (TerminalCommand, TerminalAnswer)>,
    keys: BTreeMap<(u128, ShardId), (u64, AdminAnswer)>,
    /// Deliveries that may come again, much later.
    stale: Vec<(ShardId, Command)>,
}

const TERMINALS: [&str; 5] = ["bar-7", "bar-7b", "bar-8", "stall", "desk"];

impl Night {
    fn new(shards: u16) -> Self {
        let mut bar = Bar::open(shards);
        bar.play("topup W1 50.00\n topup W2 20.00 from card number 9\n topup W3 10.00\n link T0 W1\n link T1 W2");
        bar.quiet = false;
        let mut wallets: Vec<WalletId> = bar.wallets.values().copied().collect();
        wallets.push(WalletId(0xDEAD));
        let tags = (0..3).map(|n| TagUid::new(&[4, 9, 9, 9, 9, 9, n]).unwrap()).collect();
        let (payments, next, told) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { bar, wallets, tags, payments, next, told, keys: BTreeMap::new(), stale: Vec::new() }
    }

    fn wallet(&self, n: usize) -> WalletId {
        self.wallets[n % self.wallets.len()]
    }

    fn number(&mut self, terminal: &str, seq: &SeqOf) -> (u64, u64) {
        let next = self.next.entry(terminal.to_owned()).or_insert(1_000);
        let (seq, floor) = match *seq {
            SeqOf::Next => (*next, next.saturating_sub(60)),
            SeqOf::Again(back) => (next.saturating_sub(back), 1),
            SeqOf::Floor(back) => (*next, next.saturating_sub(back).max(1)),
        };
        *next = (*next).max(seq + 1);
        (seq, floor)
    }

    fn terminal(&mut self, terminal: usize, seq: &SeqOf, action: TerminalAction) -> Result<(), TestCaseError> {
        let terminal = TERMINALS[terminal % TERMINALS.len()];
        let (seq, floor) = self.number(terminal, seq);
        let device = self.bar.terminals[terminal].id;
        let command = TerminalCommand { device, seq, floor, expires_at: Timestamp(0), action };
        let (home, answer) = self.bar.ask(Command::Terminal(command.clone()));
        let Answer::Terminal { answer, repeated, .. } = answer else { panic!("{answer:?}") };
        let recorded = !self.bar.step.record.is_empty();
        if recorded {
            let before = self.told.insert((device, seq, home), (command, answer));
            prop_assert!(before.is_none(), "number {} of {} was decided twice", seq, terminal);
            if answer.verdict == CashlessVerdict::Paid {
                self.payments.extend(answer.transaction());
            }
        } else if repeated {
            prop_assert_eq!(self.told[&(device, seq, home)].1, answer, "the same number, the same answer");
        }
        Ok(())
    }

    fn admin(&mut self, key: Option<u128>, n: i64, action: CashlessAction) -> Result<(), TestCaseError> {
        let fingerprint = n as u64 % 2;
        let key = key.map(|id| IdempotencyKey { id: id + 10_000, fingerprint, made_at: None });
        let action = AdminAction::Cashless(action);
        let command = Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action }));
        let (home, answer) = self.bar.ask(command);
        let Answer::Admin { answer, repeated } = answer else { panic!("{answer:?}") };
        if let (AdminAnswer::Transaction { id, order: 1.., .. }, false) = (answer, repeated) {
            self.payments.push(id);
        }
        if let Some(key) = key {
            let (known, first) = *self.keys.entry((key.id, home)).or_insert((key.fingerprint, answer));
            let now = match first {
                AdminAnswer::Pending(op) => *self.bar.finished.get(&(home, op)).unwrap_or(&first),
                other => other,
            };
            match known == key.fingerprint {
                true => prop_assert_eq!(answer, now, "the same key, the same answer"),
                false => prop_assert_eq!(answer, AdminAnswer::Rejected(Rejection::IdempotencyConflict)),
            }
        }
        Ok(())
    }

    fn action(&self, action: usize, wallet: usize, other: usize, n: i64) -> CashlessAction {
        let festival = if n % 11 == 0 { self.bar.elsewhere } else { self.bar.festival };
        let (tag, to) = (self.tags[n as usize % 3], self.wallet(other));
        let wallet = self.wallet(wallet);
        match action {
            0..=3 => CashlessAction::Transfer { from: wallet, to, festival, amount: eur(n) },
            4 => CashlessAction::Correct {
                wallet,
                festival,
                delta: eur(n - 1_000),
                reason: "why".into(),
                gives_back: n > 1_000 && n % 2 == 0,
            },
            5 => CashlessAction::CashOut { wallet, festival },
            6 => CashlessAction::Block { wallet, blocked: n % 3 == 0 },
            7 => CashlessAction::ReportLost { wallet },
            8 | 9 => CashlessAction::LinkTag { tag, wallet, festival, replace: n % 2 == 0, create: n % 5 == 0 },
            10 => {
                let kind = SourceKind::ALL[n as usize % 5];
                let source = Source::new(kind, festival, n as u64 % 7);
                CashlessAction::TopUp { wallet, festival, amount: eur(n), source, taken: n % 2 == 0 }
            }
            11 if !self.payments.is_empty() => {
                let payment = self.payments[n as usize % self.payments.len()];
                CashlessAction::Refund { payment, festival, amount: (n % 2 == 0).then(|| eur(n / 2)), lines: [].into() }
            }
            13 => {
                let lines: Box<[Line]> = match n % 3 {
                    0 => [Line { product: ProductNo(0), count: 1, price: n }].into(),
                    _ => [].into(),
                };
                CashlessAction::Pay { wallet, festival, vendor: VendorNo(n as u16 % 3), amount: eur(n), lines }
            }
            12 => CashlessAction::Claim { wallet, account: n as u128 % 3 + 1 },
            _ => CashlessAction::CreateWallet { wallet, festival, account: None },
        }
    }

    fn deed(&mut self, deed: &Deed) -> Result<(), TestCaseError> {
        let shards = self.bar.shards.len() as u16;
        match *deed {
            Deed::Pay { wallet, terminal, amount, tag, ref seq, lines } => {
                let tag = tag.map(|tag| self.tags[tag]);
                let (wallet, tap) = match tag.and_then(|tag| self.bar.resolve(tag)) {
                    Some((wallet, tap)) if amount % 5 != 0 => (wallet, Some(tap)),
                    // Resolved long ago.
                    Some((_, tap)) => {
                        (self.wallet(wallet), Some(Tap { version: tap.version.saturating_sub(1), ..tap }))
                    }
                    None => (self.wallet(wallet), None),
                };
                let line = Line { product: ProductNo(0), count: 1, price: amount };
                let lines = if lines { [line].into() } else { [].into() };
                self.terminal(terminal, seq, TerminalAction::Pay { wallet, tap, amount: eur(amount), lines })
            }
            Deed::Refund { payment, terminal, amount, ref seq } if !self.payments.is_empty() => {
                let payment = self.payments[payment % self.payments.len()];
                self.terminal(
                    terminal,
                    seq,
                    TerminalAction::Refund { payment, amount: amount.map(eur), lines: [].into() },
                )
            }
            Deed::Refund { .. } => Ok(()),
            Deed::TopUp { wallet, amount, ref seq } => {
                let wallet = self.wallet(wallet);
                self.terminal(4, seq, TerminalAction::TopUp { wallet, tap: None, amount: eur(amount) })
            }
            Deed::Admin { key, action, wallet, other, n } => {
                let action = self.action(action, wallet, other, n);
                self.admin(key, n, action)
            }
            Deed::Carry { from, to, ack, stale } => {
                let (from, to) = (ShardId(from % shards), ShardId(to % shards));
                if from == to {
                    return Ok(());
                }
                let (first, messages) = self.bar.outgoing(from, to);
                if !messages.is_empty() {
                    self.stale.push((to, Command::Deliver { from, first, messages }));
                }
                if stale && !self.stale.is_empty() {
                    let (to, again) = self.stale[self.stale.len() / 2].clone();
                    self.bar.batch(to, &[again]);
                } else {
                    self.bar.carry(from, to, ack);
                }
                Ok(())
            }
            Deed::Restart { shard } => {
                let at = usize::from(shard % shards);
                let snapshot = self.bar.shards[at].snapshot();
                self.bar.shards[at] = Shard::restore(&snapshot).expect("our own");
                Ok(())
            }
            Deed::Tick { ms } => {
                self.bar.now = self.bar.now.plus_ms(ms);
                (0..shards).for_each(|id| drop(self.bar.batch(ShardId(id), &[Command::Tick])));
                Ok(())
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn money_is_neither_made_nor_lost(
        shards in prop_oneof![Just(1_u16), Just(2), Just(5)],
        deeds in proptest::collection::vec(deed(), 1..150),
        snapshot_at in 0..150_usize,
    ) {
        let mut night = Night::new(shards);
        for (i, deed) in deeds.iter().enumerate() {
            if i == snapshot_at {
                night.bar.take_snapshots();
            }
            night.deed(deed)?;
            night.bar.books();
        }
        // In the middle of it all: what is under way is accounted for.
        let report = night.bar.audit(&[]);
        prop_assert!(report.holds(), "{:#?}", report.violations);
        night.bar.pump();
        night.bar.quiet = true;
        night.bar.books();
        for shard in &night.bar.shards {
            prop_assert!(shard.cashless().ops.is_empty(), "every operation ends");
            prop_assert!(shard.cashless().wallets.iter().all(|wallet| wallet.reserved == 0), "nothing is left on the way");
        }
        night.bar.replays();
        let report = night.bar.audit(&[]);
        prop_assert!(report.holds(), "{:#?}", report.violations);

        // Sent again, everything is answered as it was, and nothing happens.
        let hashes: Vec<_> = night.bar.shards.iter().map(Shard::state_hash).collect();
        for ((device, seq, home), (command, answer)) in night.told.clone() {
            let shard = &night.bar.shards[usize::from(home.0)];
            let floor = shard.cashless().directory.terminal(device).unwrap().1.window.floor();
            let (again, repeated) = night.bar.terminal(command);
            if seq >= floor {
                prop_assert_eq!((again, repeated), (answer, true));
            } else {
                prop_assert_eq!(again.verdict, CashlessVerdict::Rejected(Rejection::StaleSeq));
            }
        }
        prop_assert!(hashes == night.bar.shards.iter().map(Shard::state_hash).collect::<Vec<_>>());
    }
}

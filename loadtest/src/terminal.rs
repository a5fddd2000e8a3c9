//! One simulated terminal: what it has asked, what it has been told, what it still waits for.
//!
//! A command is **asked**, perhaps **refused** at the door (busy: it is sent again), and **final** once it is answered:
//! money's answers are on disk. The terminal's floor is the lowest command that is not final. When the asking is over it
//! asks for every balance, so that the run ends with each wallet compared, to the cent.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};

use engine::cashless::command::{CashlessVerdict, Line, TerminalAnswer};
use engine::model::ids::{DeviceId, ProductNo, TagUid, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use tapgate_wire::{Frame, LineItem, Refusal, WINDOW_MAX, WalletName};

use crate::cashless_model::{CashlessModel, Customer, Order};
use crate::reader::DeviceConfig;
use crate::simulated::{Latencies, SimulatedDevice, WRITE_MAX, Wait};
use crate::workload::bar::{CustomerMix, PRICE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Origin,
    Refused,
    Final,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// When it should have been sent.
    due_ns: u64,
    /// When it was for the first time.
    asked_ns: u64,
    /// When it was, last.
    sent_ns: u64,
    customer: u32,
    order: Order,
    phase: Phase,
    /// It belongs to the count at the end.
    counts: bool,
    /// The answer was a no.
    refused: bool,
    /// It is answered, and was asked again since: that answer is still to come.
    replay: bool,
    hash: u64,
}

/// Money that moved by a wristband which roams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// The command.
    pub seq: u64,
    /// The tag.
    pub tag: TagUid,
    /// Whose money it was.
    pub wallet: WalletId,
    /// What it paid, in minor units; negative: was given back.
    pub amount: i64,
    /// When the command was sent for the first time, in ns after the start.
    pub asked_ns: u64,
    /// When its answer came.
    pub told_ns: u64,
}

/// A simulated terminal.
pub struct Terminal {
    /// Which one of the run, from 0.
    pub number: usize,
    /// Its id at the server, once it is enrolled.
    pub device: Option<DeviceId>,
    /// Its wallets, and what they must be answered.
    pub cashless_model: CashlessModel,
    /// Commands sent, each counted once however often it was sent again.
    pub sent: u64,
    /// Refusals at the door.
    pub busy: u64,
    /// Commands sent again on another connection.
    pub resent: u64,
    /// How often the server asked to slow down.
    pub slowed: u64,
    /// When the last answer came that is no part of the count, in ns after the start.
    pub last_ns: u64,
    /// The final answers, `(seq, hash)`, where they are remembered.
    pub remembered: Vec<(u64, u64)>,
    /// How long each of them was waited for, where that is asked for.
    pub waits: Vec<Wait>,
    /// When it was refused at the door, in ns after the start, where that is asked for too.
    pub refusals: Vec<u64>,
    /// What wristbands paid that roam, and got back.
    pub tapped: Vec<Tapped>,
    mix: CustomerMix,
    device_config: DeviceConfig,
    /// Milliseconds since 1970 at nanosecond 0.
    epoch_ms: i64,
    /// The next wallet to be counted at the end.
    to_count: usize,
    next_seq: u64,
    slots: VecDeque<Slot>,
    /// Asked or refused.
    open: usize,
    /// Refused commands by the time they are to be sent again.
    retry: BTreeSet<(u64, u64)>,
}

impl Terminal {
    /// A terminal that has asked nothing yet.
    pub fn new(number: usize, cashless_model: CashlessModel, mix: CustomerMix, device_config: DeviceConfig) -> Self {
        // An echo has no balances to ask for.
        let to_count = if device_config.echo { cashless_model.customers.len() } else { 0 };
        Self {
            number,
            device: None,
            cashless_model,
            sent: 0,
            busy: 0,
            resent: 0,
            slowed: 0,
            last_ns: 0,
            remembered: Vec::new(),
            waits: Vec::new(),
            refusals: Vec::new(),
            tapped: Vec::new(),
            mix,
            device_config,
            epoch_ms: 0,
            to_count,
            next_seq: 1,
            slots: VecDeque::new(),
            open: 0,
            retry: BTreeSet::new(),
        }
    }

    /// How many commands have no answer.
    pub fn lost(&self) -> u64 {
        self.open as u64
    }

    fn floor(&self) -> u64 {
        self.next_seq - self.slots.len() as u64
    }

    fn push(&mut self, customer: usize, order: Order, counts: bool, (due_ns, now_ns): (u64, u64), out: &mut Vec<u8>) {
        self.cashless_model.customers[customer].under_way = true;
        let (customer, phase) = (customer as u32, Phase::Origin);
        self.slots.push_back(Slot {
            due_ns,
            asked_ns: now_ns,
            sent_ns: now_ns,
            customer,
            order,
            phase,
            counts,
            refused: false,
            replay: false,
            hash: 0,
        });
        self.next_seq += 1;
        self.open += 1;
        self.write(self.next_seq - 1, false, out);
    }

    fn write(&self, seq: u64, resent: bool, out: &mut Vec<u8>) {
        let floor = self.floor();
        let slot = &self.slots[(seq - floor) as usize];
        let customer = &self.cashless_model.customers[slot.customer as usize];
        let wallet = customer.tag.map_or(WalletName::Id(customer.wallet), WalletName::Tag);
        let eur = |minor| Money { minor, currency: Currency::EUR };
        let captured_at = Timestamp(self.epoch_ms + (slot.asked_ns / 1_000_000) as i64);
        let expires_at = Timestamp(0);
        match slot.order {
            Order::Pay { amount, count } => {
                let line = [LineItem::from(Line { product: ProductNo(0), count, price: PRICE })];
                let lines = if count > 0 { &line[..] } else { &[] };
                let amount = eur(amount);
                Frame::Pay(tapgate_wire::Pay { seq, floor, captured_at, expires_at, wallet, amount, lines, resent })
                    .encode(out);
            }
            Order::Refund { payment, amount } => {
                Frame::Refund(tapgate_wire::Refund {
                    seq,
                    floor,
                    payment,
                    amount: Some(eur(amount)),
                    lines: &[],
                    resent,
                })
                .encode(out);
            }
            Order::TopUp { amount } => {
                let amount = eur(amount);
                Frame::TopUp(tapgate_wire::TopUp { seq, floor, captured_at, expires_at, wallet, amount, resent })
                    .encode(out);
            }
            Order::Balance => {
                Frame::Balance(tapgate_wire::Balance { seq, floor, captured_at, wallet, resent }).encode(out);
            }
        }
    }

    fn slot(&mut self, seq: u64) -> Option<&mut Slot> {
        let at = seq.checked_sub(self.floor())?;
        self.slots.get_mut(at as usize)
    }

    fn answered(&mut self, seq: u64, answer: &TerminalAnswer, now_ns: u64, latencies: &mut Latencies) {
        let hash = if self.device_config.remember { hash_of(seq, answer) } else { 0 };
        let Some(slot) = self.slot(seq) else {
            return self
                .cashless_model
                .totals
                .wrong(|| format!("an answer to {seq}, which is under way no more: {answer:?}"));
        };
        let before = *slot;
        if before.phase == Phase::Final {
            // Asked again: to the last bit the same. A balance is looked up anew.
            slot.replay = false;
            self.forget();
            if before.hash != hash && before.order != Order::Balance {
                self.cashless_model.totals.wrong(|| format!("command {seq} had an answer, then another: {answer:?}"));
            }
            return;
        }
        let refused = matches!(answer.verdict, CashlessVerdict::Rejected(_));
        (slot.phase, slot.hash, slot.refused) = (Phase::Final, hash, refused);
        self.open -= 1;
        if before.phase == Phase::Refused {
            self.retry.retain(|(_, retried)| *retried != seq);
        }
        let customer = before.customer as usize;
        if before.counts {
            self.cashless_model.counted(customer, answer);
        } else {
            latencies.answered(before.due_ns, now_ns);
            self.last_ns = now_ns;
            if self.device_config.echo {
                self.cashless_model.totals.answered += 1;
                self.cashless_model.customers[customer].under_way = false;
                return self.forget();
            }
            self.cashless_model.answered(customer, before.order, seq, answer);
            let moved = !matches!(answer.verdict, CashlessVerdict::Balance | CashlessVerdict::Rejected(_));
            if self.device_config.remember && moved {
                self.remembered.push((seq, hash));
            }
            if self.device_config.waits && moved {
                self.waits.push(Wait { due_ns: before.due_ns, told_ns: now_ns });
            }
            if moved && let Customer { roams: true, tag: Some(tag), .. } = self.cashless_model.customers[customer] {
                let given_back = answer.verdict == CashlessVerdict::Refunded;
                let amount = if given_back { -answer.amount } else { answer.amount };
                let (wallet, asked_ns, told_ns) = (answer.wallet, before.asked_ns, now_ns);
                self.tapped.push(Tapped { seq, tag, wallet, amount, asked_ns, told_ns });
            }
        }
        self.cashless_model.customers[customer].under_way = false;
        self.forget();
    }

    /// Forgets the oldest commands as far as nothing more is heard of them. Their shards do not answer in the order of
    /// the questions: what was asked again may be answered after what is new.
    fn forget(&mut self) {
        let done = |slot: &Slot| slot.phase == Phase::Final && !slot.replay;
        while self.slots.len() > self.device_config.keep && self.slots.front().is_some_and(done) {
            self.slots.pop_front();
        }
    }

    fn refused(&mut self, seq: u64, why: Rejection, retry_after_ms: u32, now_ns: u64, latencies: &mut Latencies) {
        let Some(slot) = self.slot(seq) else {
            return self.cashless_model.totals.wrong(|| format!("{seq} refused, which is under way no more"));
        };
        match slot.phase {
            Phase::Origin => slot.phase = Phase::Refused,
            Phase::Refused => {
                return self.cashless_model.totals.wrong(|| format!("{seq} refused twice, {}", why.code()));
            }
            // What was answered before and is asked again may find the door shut like any other.
            Phase::Final => {}
        }
        latencies.refused(slot.sent_ns, now_ns);
        self.busy += 1;
        if self.device_config.waits {
            self.refusals.push(now_ns);
        }
        self.retry.insert((now_ns + u64::from(retry_after_ms.max(1)) * 1_000_000, seq));
    }
}

impl SimulatedDevice for Terminal {
    fn number(&self) -> usize {
        self.number
    }

    fn begins_at(&mut self, epoch_ms: i64) {
        self.epoch_ms = epoch_ms;
    }

    fn enrolled(&mut self, device: DeviceId) {
        self.device = Some(device);
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn open(&self) -> usize {
        self.open
    }

    fn is_done(&self) -> bool {
        self.open == 0 && self.to_count == self.cashless_model.customers.len()
    }

    fn waits_since_ns(&self) -> Option<u64> {
        self.slots.iter().filter(|slot| slot.phase == Phase::Origin).map(|slot| slot.sent_ns).min()
    }

    fn next_retry_ns(&self) -> Option<u64> {
        self.retry.first().map(|(at, _)| *at)
    }

    fn may_ask(&self, out: &[u8]) -> bool {
        self.open < self.device_config.window && (self.slots.len() as u64) < WINDOW_MAX && out.len() < WRITE_MAX
    }

    fn ask(&mut self, due_ns: u64, now_ns: u64, out: &mut Vec<u8>) -> bool {
        let Some((customer, order)) = self.mix.next(&self.cashless_model) else { return false };
        self.sent += 1;
        self.push(customer, order, false, (due_ns, now_ns), out);
        true
    }

    fn ask_at_the_end(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        // Whoever is still being served is counted afterwards.
        if self.to_count == 0 && self.open > 0 {
            return;
        }
        while self.to_count < self.cashless_model.customers.len() && self.may_ask(out) {
            self.push(self.to_count, Order::Balance, true, (now_ns, now_ns), out);
            self.to_count += 1;
        }
    }

    fn ask_again(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        while out.len() < WRITE_MAX
            && let Some(&(at, seq)) = self.retry.first()
            && at <= now_ns
        {
            self.retry.remove(&(at, seq));
            let Some(slot) = self.slot(seq) else { continue };
            if slot.phase == Phase::Refused {
                slot.phase = Phase::Origin;
            }
            slot.sent_ns = now_ns;
            self.write(seq, false, out);
        }
    }

    fn left(&mut self, seq: u64, now_ns: u64) {
        if let Some(slot) = self.slot(seq) {
            slot.sent_ns = now_ns;
        }
    }

    fn resume(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        self.retry.clear();
        for seq in self.floor()..self.next_seq {
            let floor = self.floor();
            let slot = &mut self.slots[(seq - floor) as usize];
            // That a tag names nothing is not recorded, and may be otherwise by now: whoever was told so and sends it
            // again wants to pay after all.
            if slot.refused && self.cashless_model.customers[slot.customer as usize].roams {
                continue;
            }
            slot.sent_ns = now_ns;
            match slot.phase {
                Phase::Origin => {}
                Phase::Refused => slot.phase = Phase::Origin,
                Phase::Final => slot.replay = true,
            }
            self.resent += 1;
            self.write(seq, true, out);
        }
    }

    fn heard(&mut self, frame: &Frame<'_>, now_ns: u64, latencies: &mut Latencies) -> Result<(), Refusal> {
        match frame {
            Frame::CashlessAnswer { seq, answer } => self.answered(*seq, answer, now_ns, latencies),
            Frame::Busy { seq, rejection, retry_after_ms } => {
                self.refused(*seq, *rejection, *retry_after_ms, now_ns, latencies);
            }
            Frame::Notice(tapgate_wire::Notice::SlowDown { .. }) => self.slowed += 1,
            Frame::Notice(_) => {}
            Frame::Refuse { refusal, .. } => return Err(*refusal),
            other => self.cashless_model.totals.wrong(|| format!("a frame that has no place here: {other:?}")),
        }
        Ok(())
    }
}

/// What an answer is, to the last bit: as its frame is.
pub fn hash_of(seq: u64, answer: &TerminalAnswer) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    Frame::CashlessAnswer { seq, answer: *answer }.encode(&mut bytes);
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapgate_wire::decode;

    fn terminal(window: usize, keep: usize) -> Terminal {
        let device_config = DeviceConfig { window, keep, remember: true, waits: false, echo: false };
        let customers = (1..=8).map(|id| Customer::new(WalletId(id), None, 100_000)).collect();
        Terminal::new(0, CashlessModel::new(customers), CustomerMix::new(1, 0.0), device_config)
    }

    /// The numbers and floors of the frames, and which are marked as sent again.
    fn frames(mut bytes: &[u8]) -> Vec<(u64, u64, bool)> {
        let mut all = Vec::new();
        while let Some((frame, len)) = decode(bytes).unwrap() {
            all.push(match frame {
                Frame::Pay(pay) => (pay.seq, pay.floor, pay.resent),
                Frame::Refund(refund) => (refund.seq, refund.floor, refund.resent),
                Frame::TopUp(topup) => (topup.seq, topup.floor, topup.resent),
                Frame::Balance(balance) => (balance.seq, balance.floor, balance.resent),
                other => panic!("{other:?}"),
            });
            bytes = &bytes[len..];
        }
        all
    }

    fn right(terminal: &Terminal, seq: u64) -> TerminalAnswer {
        let slot = terminal.slots[(seq - terminal.floor()) as usize];
        let customer = &terminal.cashless_model.customers[slot.customer as usize];
        let (verdict, amount, balance) = match slot.order {
            Order::Pay { amount, .. } if amount > customer.balance => {
                (CashlessVerdict::Rejected(Rejection::InsufficientFunds), amount, customer.balance)
            }
            Order::Pay { amount, .. } => (CashlessVerdict::Paid, amount, customer.balance - amount),
            Order::Refund { amount, .. } => (CashlessVerdict::Refunded, amount, customer.balance + amount),
            Order::TopUp { amount } => (CashlessVerdict::ToppedUp, amount, customer.balance + amount),
            Order::Balance => (CashlessVerdict::Balance, 0, customer.balance),
        };
        let moved = !matches!(verdict, CashlessVerdict::Balance | CashlessVerdict::Rejected(_));
        let order = u32::from(verdict == CashlessVerdict::Paid);
        let (serial, wallet, currency) = (u64::from(moved) * seq, customer.wallet, Currency::EUR);
        TerminalAnswer { verdict, flags: 0, currency, order, amount, balance, wallet, serial, at: Timestamp(1) }
    }

    fn answer(terminal: &mut Terminal, seq: u64) {
        let answer = right(terminal, seq);
        terminal.heard(&Frame::CashlessAnswer { seq, answer }, 5, &mut Latencies::default()).unwrap();
    }

    /// With the time of its preparation, every wristband that was linked meanwhile would be younger than its tap.
    #[test]
    fn what_is_captured_has_the_time_of_the_run() {
        let (mut terminal, mut out) = (terminal(1, 0), Vec::new());
        terminal.begins_at(1_000_000);
        assert!(terminal.ask(0, 7_000_000, &mut out));
        let captured_at = match decode(&out).unwrap().unwrap().0 {
            Frame::Pay(pay) => pay.captured_at,
            Frame::TopUp(topup) => topup.captured_at,
            Frame::Balance(balance) => balance.captured_at,
            other => panic!("{other:?}"),
        };
        assert_eq!(captured_at, Timestamp(1_000_007));
    }

    #[test]
    fn it_keeps_its_window_asks_again_and_counts_at_the_end() {
        let mut terminal = terminal(2, 0);
        let mut out = Vec::new();
        while terminal.may_ask(&out) && terminal.ask(0, 0, &mut out) {}
        assert_eq!(frames(&out), [(1, 1, false), (2, 1, false)]);
        let busy = Frame::Busy { seq: 2, rejection: Rejection::Busy, retry_after_ms: 3 };
        terminal.heard(&busy, 0, &mut Latencies::default()).unwrap();
        assert_eq!(terminal.next_retry_ns(), Some(3_000_000));
        answer(&mut terminal, 1);
        out.clear();
        terminal.ask_again(3_000_000, &mut out);
        assert_eq!(frames(&out), [(2, 2, false)], "the floor has risen");
        out.clear();
        terminal.resume(4, &mut out);
        assert_eq!(frames(&out), [(2, 2, true)]);
        terminal.ask_at_the_end(5, &mut out);
        assert!(!terminal.is_done() && frames(&out).len() == 1, "somebody is still being served");
        answer(&mut terminal, 2);
        let mut counted = 0;
        while !terminal.is_done() {
            out.clear();
            terminal.ask_at_the_end(6, &mut out);
            for (seq, ..) in frames(&out) {
                answer(&mut terminal, seq);
                counted += 1;
            }
        }
        let totals = &terminal.cashless_model.totals;
        assert_eq!((counted, totals.counted, totals.answered), (8, 8, 2));
        assert_eq!(
            (totals.wrong, totals.balances_wrong, terminal.sent, terminal.busy),
            (0, 0, 2, 1),
            "{:?}",
            totals.explained
        );
    }

    #[test]
    fn a_wristband_that_roams_is_written_down_and_a_no_to_it_is_not_asked_again() {
        let tag = TagUid::new(&[4, 1, 2, 3]).unwrap();
        let mut terminal = terminal(2, 8);
        terminal.cashless_model = CashlessModel::new(vec![Customer::roaming(tag), Customer::roaming(tag)]);
        let mut out = Vec::new();
        while terminal.may_ask(&out) && terminal.ask(0, 3, &mut out) {}
        let Order::Pay { amount, .. } = terminal.slots[0].order else { panic!("it pays") };
        let no = TerminalAnswer::rejected(Rejection::UnknownTag, WalletId(0), Timestamp(1));
        let paid =
            TerminalAnswer { verdict: CashlessVerdict::Paid, amount, wallet: WalletId(7), serial: 1, order: 1, ..no };
        for (seq, answer) in [(1, paid), (2, no)] {
            terminal.heard(&Frame::CashlessAnswer { seq, answer }, 9, &mut Latencies::default()).unwrap();
        }
        let tapped = Tapped { seq: 1, tag, wallet: WalletId(7), amount, asked_ns: 3, told_ns: 9 };
        assert_eq!(
            (terminal.cashless_model.totals.wrong, &terminal.tapped),
            (0, &vec![tapped]),
            "{:?}",
            terminal.cashless_model.totals.explained
        );
        out.clear();
        terminal.resume(10, &mut out);
        assert_eq!(frames(&out), [(1, 1, true)]);
    }

    #[test]
    fn an_answer_that_comes_again_may_come_after_newer_ones() {
        let mut terminal = terminal(2, 1);
        let mut out = Vec::new();
        assert!(terminal.ask(0, 0, &mut out));
        let first = right(&terminal, 1);
        answer(&mut terminal, 1);
        terminal.resume(1, &mut out);
        assert!(terminal.ask(2, 2, &mut out) && terminal.ask(2, 2, &mut out));
        answer(&mut terminal, 2);
        answer(&mut terminal, 3);
        assert_eq!(terminal.floor(), 1, "it waits for the first");
        terminal.heard(&Frame::CashlessAnswer { seq: 1, answer: first }, 3, &mut Latencies::default()).unwrap();
        assert_eq!(
            (terminal.floor(), terminal.cashless_model.totals.wrong),
            (3, 0),
            "{:?}",
            terminal.cashless_model.totals.explained
        );
    }

    #[test]
    fn another_answer_to_the_same_command_is_wrong() {
        let mut terminal = terminal(1, 4);
        let mut out = Vec::new();
        assert!(terminal.ask(0, 0, &mut out));
        let answer = right(&terminal, 1);
        for (at, wrong) in [(1, 0), (1, 0), (2, 1)] {
            let frame = Frame::CashlessAnswer { seq: 1, answer: TerminalAnswer { at: Timestamp(at), ..answer } };
            terminal.heard(&frame, 1, &mut Latencies::default()).unwrap();
            assert_eq!(terminal.cashless_model.totals.wrong, wrong);
        }
        assert_eq!(terminal.remembered.len(), 1);
        terminal.heard(&Frame::CashlessAnswer { seq: 99, answer }, 1, &mut Latencies::default()).unwrap();
        assert_eq!(terminal.cashless_model.totals.wrong, 2, "never asked");
    }
}

//! One simulated terminal: what it has asked, what it has been told, what it still waits for.
//!
//! A command is **asked**, perhaps **refused** at the door (busy: it is sent again), and **final** once it is answered:
//! money's answers are on disk. The terminal's floor is the lowest command that is not final. When the asking is over it
//! asks for every balance, so that the run ends with each wallet compared, to the cent.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};

use engine::cashless::command::{CashVerdict, Line, TerminalAnswer};
use engine::model::ids::{DeviceId, ProductNo, TagUid, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use tapgate_wire::{Frame, LineItem, Refusal, WINDOW_MAX, WalletName};

use crate::player::{Latencies, Player, WRITE_MAX};
use crate::reader::Habits;
use crate::tab::{Guest, Order, Tab};
use crate::workload::bar::{PRICE, Round};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asked,
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
    guest: u32,
    order: Order,
    phase: Phase,
    /// It belongs to the count at the end.
    counts: bool,
    /// The answer was a no.
    refused: bool,
    /// It is answered, and was asked again since: that answer is still to come.
    again: bool,
    hash: u64,
}

/// Money that moved by a wristband which roams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// The command.
    pub seq: u64,
    /// The chip.
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
pub struct Till {
    /// Which one of the run, from 0.
    pub number: usize,
    /// Its id at the server, once it is enrolled.
    pub device: Option<DeviceId>,
    /// Its wallets, and what they must be answered.
    pub tab: Tab,
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
    /// What wristbands paid that roam, and got back.
    pub tapped: Vec<Tapped>,
    round: Round,
    habits: Habits,
    /// The next wallet to be counted at the end.
    to_count: usize,
    next_seq: u64,
    slots: VecDeque<Slot>,
    /// Asked or refused.
    open: usize,
    /// Refused commands by the time they are to be sent again.
    retry: BTreeSet<(u64, u64)>,
}

impl Till {
    /// A terminal that has asked nothing yet.
    pub fn new(number: usize, tab: Tab, round: Round, habits: Habits) -> Self {
        Self {
            number,
            device: None,
            tab,
            sent: 0,
            busy: 0,
            resent: 0,
            slowed: 0,
            last_ns: 0,
            remembered: Vec::new(),
            tapped: Vec::new(),
            round,
            habits,
            to_count: 0,
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

    fn push(&mut self, guest: usize, order: Order, counts: bool, (due_ns, now_ns): (u64, u64), out: &mut Vec<u8>) {
        self.tab.guests[guest].under_way = true;
        let (guest, phase) = (guest as u32, Phase::Asked);
        self.slots.push_back(Slot {
            due_ns,
            asked_ns: now_ns,
            sent_ns: now_ns,
            guest,
            order,
            phase,
            counts,
            refused: false,
            again: false,
            hash: 0,
        });
        self.next_seq += 1;
        self.open += 1;
        self.write(self.next_seq - 1, false, out);
    }

    fn write(&self, seq: u64, resent: bool, out: &mut Vec<u8>) {
        let floor = self.floor();
        let slot = &self.slots[(seq - floor) as usize];
        let guest = &self.tab.guests[slot.guest as usize];
        let wallet = guest.tag.map_or(WalletName::Id(guest.wallet), WalletName::Tag);
        let eur = |minor| Money { minor, currency: Currency::EUR };
        let captured_at = Timestamp(self.habits.epoch_ms + (slot.asked_ns / 1_000_000) as i64);
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
        let hash = if self.habits.remember { hash_of(seq, answer) } else { 0 };
        let Some(slot) = self.slot(seq) else {
            return self.tab.takings.wrong(|| format!("an answer to {seq}, which is under way no more: {answer:?}"));
        };
        let before = *slot;
        if before.phase == Phase::Final {
            // Asked again: to the last bit the same. A balance is looked up anew.
            slot.again = false;
            self.forget();
            if before.hash != hash && before.order != Order::Balance {
                self.tab.takings.wrong(|| format!("command {seq} had an answer, then another: {answer:?}"));
            }
            return;
        }
        let refused = matches!(answer.verdict, CashVerdict::Rejected(_));
        (slot.phase, slot.hash, slot.refused) = (Phase::Final, hash, refused);
        self.open -= 1;
        if before.phase == Phase::Refused {
            self.retry.retain(|(_, retried)| *retried != seq);
        }
        let guest = before.guest as usize;
        if before.counts {
            self.tab.counted(guest, answer);
        } else {
            latencies.answered(before.due_ns, now_ns);
            self.last_ns = now_ns;
            self.tab.answered(guest, before.order, seq, answer);
            let moved = !matches!(answer.verdict, CashVerdict::Balance | CashVerdict::Rejected(_));
            if self.habits.remember && moved {
                self.remembered.push((seq, hash));
            }
            if moved && let Guest { roams: true, tag: Some(tag), .. } = self.tab.guests[guest] {
                let given_back = answer.verdict == CashVerdict::Refunded;
                let amount = if given_back { -answer.amount } else { answer.amount };
                let (wallet, asked_ns, told_ns) = (answer.wallet, before.asked_ns, now_ns);
                self.tapped.push(Tapped { seq, tag, wallet, amount, asked_ns, told_ns });
            }
        }
        self.tab.guests[guest].under_way = false;
        self.forget();
    }

    /// Forgets the oldest commands as far as nothing more is heard of them. Their shards do not answer in the order of
    /// the questions: what was asked again may be answered after what is new.
    fn forget(&mut self) {
        let done = |slot: &Slot| slot.phase == Phase::Final && !slot.again;
        while self.slots.len() > self.habits.keep && self.slots.front().is_some_and(done) {
            self.slots.pop_front();
        }
    }

    fn refused(&mut self, seq: u64, why: Rejection, retry_after_ms: u32, now_ns: u64, latencies: &mut Latencies) {
        let Some(slot) = self.slot(seq) else {
            return self.tab.takings.wrong(|| format!("{seq} refused, which is under way no more"));
        };
        match slot.phase {
            Phase::Asked => slot.phase = Phase::Refused,
            Phase::Refused => return self.tab.takings.wrong(|| format!("{seq} refused twice, {}", why.code())),
            // What was answered before and is asked again may find the door shut like any other.
            Phase::Final => {}
        }
        latencies.refused(slot.sent_ns, now_ns);
        self.busy += 1;
        self.retry.insert((now_ns + u64::from(retry_after_ms.max(1)) * 1_000_000, seq));
    }
}

impl Player for Till {
    fn number(&self) -> usize {
        self.number
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
        self.open == 0 && self.to_count == self.tab.guests.len()
    }

    fn next_retry_ns(&self) -> Option<u64> {
        self.retry.first().map(|(at, _)| *at)
    }

    fn may_ask(&self, out: &[u8]) -> bool {
        self.open < self.habits.window && (self.slots.len() as u64) < WINDOW_MAX && out.len() < WRITE_MAX
    }

    fn ask(&mut self, due_ns: u64, now_ns: u64, out: &mut Vec<u8>) -> bool {
        let Some((guest, order)) = self.round.next(&self.tab) else { return false };
        self.sent += 1;
        self.push(guest, order, false, (due_ns, now_ns), out);
        true
    }

    fn ask_at_the_end(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        // Whoever is still being served is counted afterwards.
        if self.to_count == 0 && self.open > 0 {
            return;
        }
        while self.to_count < self.tab.guests.len() && self.may_ask(out) {
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
                slot.phase = Phase::Asked;
            }
            slot.sent_ns = now_ns;
            self.write(seq, false, out);
        }
    }

    fn resume(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        self.retry.clear();
        for seq in self.floor()..self.next_seq {
            let floor = self.floor();
            let slot = &mut self.slots[(seq - floor) as usize];
            // That a chip names nothing is not recorded, and may be otherwise by now: whoever was told so and sends it
            // again wants to pay after all.
            if slot.refused && self.tab.guests[slot.guest as usize].roams {
                continue;
            }
            slot.sent_ns = now_ns;
            match slot.phase {
                Phase::Asked => {}
                Phase::Refused => slot.phase = Phase::Asked,
                Phase::Final => slot.again = true,
            }
            self.resent += 1;
            self.write(seq, true, out);
        }
    }

    fn heard(&mut self, frame: &Frame<'_>, now_ns: u64, latencies: &mut Latencies) -> Result<(), Refusal> {
        match frame {
            Frame::CashAnswer { seq, answer } => self.answered(*seq, answer, now_ns, latencies),
            Frame::Busy { seq, rejection, retry_after_ms } => {
                self.refused(*seq, *rejection, *retry_after_ms, now_ns, latencies);
            }
            Frame::Notice(tapgate_wire::Notice::SlowDown { .. }) => self.slowed += 1,
            Frame::Notice(_) => {}
            Frame::Refuse { refusal, .. } => return Err(*refusal),
            other => self.tab.takings.wrong(|| format!("a frame that has no place here: {other:?}")),
        }
        Ok(())
    }
}

/// What an answer is, to the last bit: as its frame is.
pub fn hash_of(seq: u64, answer: &TerminalAnswer) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    Frame::CashAnswer { seq, answer: *answer }.encode(&mut bytes);
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapgate_wire::decode;

    fn till(window: usize, keep: usize) -> Till {
        let habits = Habits { window, keep, remember: true, epoch_ms: 0, echo: false };
        let guests = (1..=8).map(|id| Guest::new(WalletId(id), None, 100_000)).collect();
        Till::new(0, Tab::new(guests), Round::new(1, 0.0), habits)
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

    fn right(till: &Till, seq: u64) -> TerminalAnswer {
        let slot = till.slots[(seq - till.floor()) as usize];
        let guest = &till.tab.guests[slot.guest as usize];
        let (verdict, amount, balance) = match slot.order {
            Order::Pay { amount, .. } if amount > guest.balance => {
                (CashVerdict::Rejected(Rejection::InsufficientFunds), amount, guest.balance)
            }
            Order::Pay { amount, .. } => (CashVerdict::Paid, amount, guest.balance - amount),
            Order::Refund { amount, .. } => (CashVerdict::Refunded, amount, guest.balance + amount),
            Order::TopUp { amount } => (CashVerdict::ToppedUp, amount, guest.balance + amount),
            Order::Balance => (CashVerdict::Balance, 0, guest.balance),
        };
        let moved = !matches!(verdict, CashVerdict::Balance | CashVerdict::Rejected(_));
        let order = u32::from(verdict == CashVerdict::Paid);
        let (serial, wallet, currency) = (u64::from(moved) * seq, guest.wallet, Currency::EUR);
        TerminalAnswer { verdict, flags: 0, currency, order, amount, balance, wallet, serial, at: Timestamp(1) }
    }

    fn hear(till: &mut Till, seq: u64) {
        let answer = right(till, seq);
        till.heard(&Frame::CashAnswer { seq, answer }, 5, &mut Latencies::default()).unwrap();
    }

    #[test]
    fn it_keeps_its_window_asks_again_and_counts_at_the_end() {
        let mut till = till(2, 0);
        let mut out = Vec::new();
        while till.may_ask(&out) && till.ask(0, 0, &mut out) {}
        assert_eq!(frames(&out), [(1, 1, false), (2, 1, false)]);
        let busy = Frame::Busy { seq: 2, rejection: Rejection::Busy, retry_after_ms: 3 };
        till.heard(&busy, 0, &mut Latencies::default()).unwrap();
        assert_eq!(till.next_retry_ns(), Some(3_000_000));
        hear(&mut till, 1);
        out.clear();
        till.ask_again(3_000_000, &mut out);
        assert_eq!(frames(&out), [(2, 2, false)], "the floor has risen");
        out.clear();
        till.resume(4, &mut out);
        assert_eq!(frames(&out), [(2, 2, true)]);
        till.ask_at_the_end(5, &mut out);
        assert!(!till.is_done() && frames(&out).len() == 1, "somebody is still being served");
        hear(&mut till, 2);
        let mut counted = 0;
        while !till.is_done() {
            out.clear();
            till.ask_at_the_end(6, &mut out);
            for (seq, ..) in frames(&out) {
                hear(&mut till, seq);
                counted += 1;
            }
        }
        let takings = &till.tab.takings;
        assert_eq!((counted, takings.counted, takings.answered), (8, 8, 2));
        assert_eq!(
            (takings.wrong, takings.balances_wrong, till.sent, till.busy),
            (0, 0, 2, 1),
            "{:?}",
            takings.explained
        );
    }

    #[test]
    fn a_wristband_that_roams_is_written_down_and_a_no_to_it_is_not_asked_again() {
        let tag = TagUid::new(&[4, 1, 2, 3]).unwrap();
        let mut till = till(2, 8);
        till.tab = Tab::new(vec![Guest::roaming(tag), Guest::roaming(tag)]);
        let mut out = Vec::new();
        while till.may_ask(&out) && till.ask(0, 3, &mut out) {}
        let Order::Pay { amount, .. } = till.slots[0].order else { panic!("it pays") };
        let no = TerminalAnswer::rejected(Rejection::UnknownTag, WalletId(0), Timestamp(1));
        let paid =
            TerminalAnswer { verdict: CashVerdict::Paid, amount, wallet: WalletId(7), serial: 1, order: 1, ..no };
        for (seq, answer) in [(1, paid), (2, no)] {
            till.heard(&Frame::CashAnswer { seq, answer }, 9, &mut Latencies::default()).unwrap();
        }
        let tapped = Tapped { seq: 1, tag, wallet: WalletId(7), amount, asked_ns: 3, told_ns: 9 };
        assert_eq!((till.tab.takings.wrong, &till.tapped), (0, &vec![tapped]), "{:?}", till.tab.takings.explained);
        out.clear();
        till.resume(10, &mut out);
        assert_eq!(frames(&out), [(1, 1, true)]);
    }

    #[test]
    fn an_answer_that_comes_again_may_come_after_newer_ones() {
        let mut till = till(2, 1);
        let mut out = Vec::new();
        assert!(till.ask(0, 0, &mut out));
        let first = right(&till, 1);
        hear(&mut till, 1);
        till.resume(1, &mut out);
        assert!(till.ask(2, 2, &mut out) && till.ask(2, 2, &mut out));
        hear(&mut till, 2);
        hear(&mut till, 3);
        assert_eq!(till.floor(), 1, "it waits for the first");
        till.heard(&Frame::CashAnswer { seq: 1, answer: first }, 3, &mut Latencies::default()).unwrap();
        assert_eq!((till.floor(), till.tab.takings.wrong), (3, 0), "{:?}", till.tab.takings.explained);
    }

    #[test]
    fn another_answer_to_the_same_command_is_wrong() {
        let mut till = till(1, 4);
        let mut out = Vec::new();
        assert!(till.ask(0, 0, &mut out));
        let answer = right(&till, 1);
        for (at, wrong) in [(1, 0), (1, 0), (2, 1)] {
            let frame = Frame::CashAnswer { seq: 1, answer: TerminalAnswer { at: Timestamp(at), ..answer } };
            till.heard(&frame, 1, &mut Latencies::default()).unwrap();
            assert_eq!(till.tab.takings.wrong, wrong);
        }
        assert_eq!(till.remembered.len(), 1);
        till.heard(&Frame::CashAnswer { seq: 99, answer }, 1, &mut Latencies::default()).unwrap();
        assert_eq!(till.tab.takings.wrong, 2, "never asked");
    }
}

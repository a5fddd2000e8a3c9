//! Operators who transfer money while the server is killed: the same call under the same key until it is answered, then
//! the next one. Each has wallets of its own, so the answer is known beforehand.

use anyhow::{Context as _, bail};
use engine::model::ids::{Home, TransactionId, WalletId};
use serde_json::json;

use super::journaled::{MoneyBook, Side};
use super::operators::Operator;
use crate::admin::Admin;
use crate::admin::bar::{Account, BarPlace, euros, minor};
use crate::admin::replay::{Attempt, Said};
use crate::report::MoneyMetrics;

/// Wallets of one operator, in a ring.
pub(super) const RING: usize = 4;
/// What each has at first, in minor units.
pub(super) const FLOAT: i64 = 100_000;
/// One transfer in so many is for more than there is.
const TOO_MUCH_ONE_IN: u64 = 8;
/// A server has so many shards unless told otherwise.
const SHARDS: u16 = 16;

/// An operator's wallets, and what its transfers came to.
pub(super) struct Transfers {
    wallets: Vec<(WalletId, i64)>,
    done: Vec<(TransactionId, WalletId, i64)>,
    refused: u64,
    wrong: u64,
    notes: Vec<String>,
    /// The last one with its answer, which must be the same if it is asked again.
    last: Option<(Attempt, Said)>,
}

impl Transfers {
    /// Takes wallets out of the many, each in another shard than the one before, and puts money into them.
    ///
    /// # Errors
    /// The server refuses, or there are too few.
    pub(super) fn prepare(admin: &Admin, bar: &BarPlace, spare: &mut Vec<WalletId>) -> anyhow::Result<Self> {
        let shard = |wallet: WalletId| Home::Wallet(wallet).shard(SHARDS);
        let mut wallets: Vec<(WalletId, i64)> = Vec::new();
        while wallets.len() < RING {
            let before = wallets.last().map(|(wallet, _)| shard(*wallet));
            let at = spare.iter().position(|wallet| Some(shard(*wallet)) != before).context("wallets in two shards")?;
            let wallet = spare.swap_remove(at);
            admin.top_up(bar, wallet, FLOAT)?;
            wallets.push((wallet, FLOAT));
        }
        Ok(Self { wallets, done: Vec::new(), refused: 0, wrong: 0, notes: Vec::new(), last: None })
    }

    fn wrong(&mut self, note: String) {
        self.wrong += 1;
        self.notes.push(note);
    }

    /// One transfer after the other until the operator is to stop.
    ///
    /// # Errors
    /// The server is away too long, or answers what nobody understands.
    pub(super) fn run(&mut self, operator: &mut Operator) -> anyhow::Result<()> {
        for nth in 0.. {
            if operator.is_to_stop() {
                break;
            }
            self.one(operator, nth)?;
        }
        Ok(())
    }

    fn one(&mut self, operator: &mut Operator, nth: u64) -> anyhow::Result<()> {
        let (from, to) = (nth as usize % RING, (nth as usize + 1) % RING);
        let ((sender, had), (receiver, _)) = (self.wallets[from], self.wallets[to]);
        let too_much = nth % TOO_MUCH_ONE_IN == TOO_MUCH_ONE_IN - 1;
        let amount = if too_much { had + 1 } else { 1 + (nth as i64 * 37) % 500 };
        let transfer = json!({ "from": sender.to_string(), "to": receiver.to_string(), "amount": euros(amount),
            "currency": "EUR" });
        let attempt = operator.admin.attempt("/cashless/transfer", &transfer);
        let (said, was_broken) = operator.insist(&attempt)?;
        if was_broken && let Some((before, answer)) = &self.last {
            let replay = operator.admin.insist(before)?.said;
            if replay != *answer {
                let note = format!("a transfer was answered {answer:?}, then {replay:?}");
                self.wrong(note);
            }
        }
        match said.refusal() {
            Some("insufficient_funds") if too_much => self.refused += 1,
            Some(refusal) => bail!("{nth}: {amount} of {had} from {sender} to {receiver}: {refusal}"),
            None => {
                let id = said.body["transactionId"].as_str().and_then(|id| TransactionId::parse(id.as_bytes()));
                let id = id.context("a transfer has a transaction")?;
                let (moved, left) = (minor(&said.body["amount"])?, minor(&said.body["balance"])?);
                self.wallets[from].1 -= amount;
                self.wallets[to].1 += amount;
                if (id.wallet, moved, left) != (sender, amount, had - amount) {
                    self.wrong(format!("{amount} of {had} from {sender}: {said:?}"));
                }
                self.done.push((id, receiver, amount));
                self.last = Some((attempt, said));
            }
        }
        Ok(())
    }

    /// What the office put in.
    pub(super) fn funded(&self) -> i64 {
        FLOAT * self.wallets.len() as i64
    }

    /// Each wallet holds what the answers say, and nothing is under way.
    ///
    /// # Errors
    /// The server does not show them.
    pub(super) fn count(&mut self, admin: &Admin, metrics: &mut MoneyMetrics) -> anyhow::Result<()> {
        for &(wallet, balance) in &self.wallets {
            let account = admin.account(wallet)?;
            metrics.balances_checked += 1;
            if account != (Account { balance, reserved: 0 }) {
                metrics.balances_wrong += 1;
                self.notes.push(format!("{wallet} has {account:?} at the end, and should have {balance}"));
            }
        }
        Ok(())
    }

    /// Each acknowledged transfer is in the journal once on both sides, as it was told, and no other is.
    pub(super) fn compare(self, book: &MoneyBook, metrics: &mut MoneyMetrics, notes: &mut Vec<String>) {
        metrics.transfers += self.done.len() as u64;
        metrics.transfers_refused += self.refused;
        metrics.wrong += self.wrong;
        notes.extend(self.notes);
        for &(id, to, amount) in &self.done {
            let side = book.sent.get(&id);
            let (from, of) = (id.wallet, side.map_or(0, |side| side.of));
            let credited = book.received.get(&(from, of)).map_or(&[][..], Vec::as_slice);
            let whole = side == Some(&Side { wallet: from, other: to, amount, of })
                && credited.contains(&Side { wallet: to, other: from, amount, of })
                && !book.returned.contains_key(&(from, of));
            if !whole {
                metrics.lost += 1;
                notes.push(format!("{id}, {amount} to {to}, left as {side:?} and came as {credited:?}"));
            }
        }
        let ours = |wallet: &WalletId| self.wallets.iter().any(|(own, _)| own == wallet);
        let sent = book.sent.values().filter(|side| ours(&side.wallet)).count();
        let came = book.received.values().flatten().filter(|side| ours(&side.wallet)).count();
        if (sent, came) != (self.done.len(), self.done.len()) {
            metrics.doubled += 1;
            notes.push(format!("{} transfers were acknowledged, {sent} left and {came} came", self.done.len()));
        }
    }
}

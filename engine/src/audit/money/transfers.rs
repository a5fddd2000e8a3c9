//! What needs two sides: transfers.

use super::MoneyBooks;
use super::currency::CurrencyChange;
use crate::audit::{Check, Findings};
use crate::cashless::event::Transaction;
use crate::model::ids::{Home, ShardId, TagUid, WalletId};
use crate::shard::outbox::{Message, TagTarget};

/// An operation of this shard that is not over.
pub(super) enum Op {
    /// Money that has left a wallet.
    Transfer {
        from: WalletId,
        to: WalletId,
        amount: i64,
        /// Within this shard: the other wallet has it.
        credited: bool,
    },
    /// A tag that is to name something, and what comes with it.
    Giving {
        tag: TagUid,
        named: TagTarget,
        /// So many wallets and festivals have not answered.
        asked: u8,
        /// So many tags whose place it takes have not said what they name; below zero, if one has before it was known.
        carries: i8,
    },
    /// A tag that was lost: so many have not heard of it.
    Loss { due: u8 },
    /// A festival that is to have another currency.
    Currency(CurrencyChange),
}

/// What another shard has asked this one to take.
pub(super) struct Credit {
    from: WalletId,
    to: WalletId,
    amount: i64,
    credited: bool,
    declined: bool,
}

impl MoneyBooks {
    pub(super) fn op_begins(&mut self, op: u64, what: Op, found: &mut Findings) {
        let next = self.last_op + 1;
        found.check(Check::Transfer, op == next, || format!("operation {op} where {next} follows"));
        self.last_op = self.last_op.max(op);
        self.ops.insert(op, what);
    }

    pub(super) fn is_near(&self, wallet: WalletId) -> bool {
        Home::Wallet(wallet).shard(self.of) == self.id
    }

    fn reserve(&mut self, wallet: WalletId, amount: i64) {
        if let Some(wallet) = self.wallets.get_mut(wallet) {
            wallet.reserved += amount;
        }
    }

    /// Money has left a wallet.
    pub(super) fn left(&mut self, t: &Transaction, found: &mut Findings) {
        found.report.transfers += 1;
        let Some(to) = t.other else {
            found.check(Check::Transfer, false, || format!("{:?} goes to nobody", t.id()));
            return;
        };
        found.check(Check::Transfer, to != t.wallet, || format!("{:?} goes to itself", t.id()));
        self.reserve(t.wallet, t.amount);
        self.op_begins(t.of, Op::Transfer { from: t.wallet, to, amount: t.amount, credited: false }, found);
    }

    /// Money has come into a wallet: asked for by whoever it left.
    pub(super) fn came(&mut self, t: &Transaction, found: &mut Findings) {
        let Some(other) = t.other else {
            found.check(Check::Transfer, false, || format!("{:?} comes from nobody", t.id()));
            return;
        };
        let asked = if self.is_near(other) {
            match self.ops.get_mut(&t.of) {
                Some(Op::Transfer { from, to, amount, credited }) => {
                    !core::mem::replace(credited, true) && (*from, *to, *amount) == (other, t.wallet, t.amount)
                }
                _ => false,
            }
        } else {
            let shard = Home::Wallet(other).shard(self.of).0;
            self.credits.get_mut(&(shard, t.of)).is_some_and(|credit| {
                let once = !core::mem::replace(&mut credit.credited, true) && !credit.declined;
                once && (credit.from, credit.to, credit.amount) == (other, t.wallet, t.amount)
            })
        };
        found.check(Check::Transfer, asked, || format!("{:?} was not sent, or came before", t.id()));
    }

    /// Money is back: the other side has said that it will not take it.
    pub(super) fn is_back(&mut self, t: &Transaction, found: &mut Findings) {
        found.report.transfers_returned += 1;
        let declined = self.answers.remove(&t.of) == Some(false);
        let own = match self.ops.remove(&t.of) {
            Some(Op::Transfer { from, to, amount, credited }) => {
                !credited && (from, Some(to), amount) == (t.wallet, t.other, t.amount)
            }
            _ => false,
        };
        found.check(Check::Transfer, own && declined, || {
            format!("{:?} is back, though the other side did not say that it would not take it", t.id())
        });
        self.reserve(t.wallet, -t.amount);
    }

    /// The other side has said that it has the money.
    pub(super) fn settled(&mut self, op: u64, found: &mut Findings) {
        let said = self.answers.remove(&op) == Some(true);
        let settled = match self.ops.remove(&op) {
            Some(Op::Transfer { from, to, amount, credited }) => {
                self.reserve(from, -amount);
                if self.is_near(to) { credited } else { said }
            }
            _ => false,
        };
        found.check(Check::Transfer, settled, || format!("operation {op} is settled, and nobody has the money"));
    }

    /// What this shard tells another one must be so.
    pub(super) fn promised(&mut self, to: ShardId, message: &Message, found: &mut Findings) {
        let mut transfer = |holds: bool| {
            found.check(Check::Transfer, holds, || format!("shard {} is told {message:?}, which is not so", to.0));
        };
        match message {
            Message::Credit { op, from, to, lots, .. } => transfer(matches!(
                self.ops.get(op),
                Some(Op::Transfer { from: ours, to: theirs, amount, .. })
                    if (ours, theirs, *amount) == (from, to, lots.sum())
            )),
            Message::Credited { op } => {
                let credit = self.credits.remove(&(to.0, *op));
                transfer(credit.is_some_and(|credit| credit.credited && !credit.declined));
            }
            Message::Declined { op, .. } => {
                let credit = self.credits.remove(&(to.0, *op));
                transfer(credit.is_some_and(|credit| !credit.credited));
            }
            Message::Cancel { op } => transfer(self.ops.contains_key(op)),
            Message::CurrencyAsk { op, festival } => {
                let asked = self.agrees(*op, *festival, false);
                found.check(Check::Currency, asked, || format!("shard {} is asked {message:?} in vain", to.0));
            }
            Message::CurrencyDecided { op, festival } => {
                let told = self.agrees(*op, *festival, true);
                found.check(Check::Currency, told, || format!("shard {} is told {message:?}, undecided", to.0));
            }
            of_tag => self.promised_of_tag(to, of_tag, found),
        }
    }

    /// What another shard has told.
    pub(super) fn heard(&mut self, from: ShardId, message: &Message, found: &mut Findings) {
        match message {
            Message::Credit { op, from: sender, to, lots, .. } => {
                let credit = Credit { from: *sender, to: *to, amount: lots.sum(), credited: false, declined: false };
                let before = self.credits.insert((from.0, *op), credit);
                found.check(Check::Transfer, before.is_none(), || format!("operation {op} of {} again", from.0));
            }
            Message::Credited { op } => {
                self.answers.insert(*op, true);
            }
            Message::Declined { op, .. } => {
                self.answers.insert(*op, false);
            }
            Message::CurrencyVote { op, booked } => self.vote = Some((*op, *booked)),
            of_tag => self.heard_of_tag(from, of_tag),
        }
    }

    /// At the end, with all shards in view: money on its way is what was neither taken nor given back, and what wristbands name agrees.
    pub(in crate::audit) fn finish(all: &[&Self], found: &mut Findings) {
        let in_transit: i128 = all.iter().flat_map(|books| books.accounts.values()).map(|a| a.in_transit).sum();
        let mut under_way = 0_i128;
        for books in all {
            for (op, what) in &books.ops {
                let Op::Transfer { to, amount, credited, .. } = what else { continue };
                let other = all[usize::from(Home::Wallet(*to).shard(books.of).0)];
                let taken = match books.id == other.id {
                    true => *credited,
                    // Taken, and the word that it was is on its way; or not asked yet.
                    false => other.has_taken(books.id, *op),
                };
                under_way += if taken { 0 } else { i128::from(*amount) };
            }
            found.shard = books.id.0;
            let sum = books.accounts.values().map(super::Accounts::sum).sum::<i128>();
            found.check(Check::Ledger, sum == 0, || format!("the accounts of shard {} add up to {sum}", books.id.0));
        }
        found.check(Check::Ledger, in_transit == under_way, || {
            format!("{in_transit} in transit, transfers of {under_way} under way")
        });
        Self::tags_at_the_end(all, found);
    }

    /// Whether this shard has credited another one's operation, be the word of it under way or not yet sent.
    fn has_taken(&self, shard: ShardId, op: u64) -> bool {
        self.credits.get(&(shard.0, op)).is_some_and(|credit| credit.credited)
            || self.peers[usize::from(shard.0)].has_credited(op)
    }
}

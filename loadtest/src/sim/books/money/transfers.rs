//! What needs two sides: transfers.

use engine::cashless::event::Transaction;
use engine::command::AdminAnswer;
use engine::model::ids::{FestivalId, ShardId, TagUid, TransactionId, WalletId};
use engine::model::money::Money;
use engine::model::rejection::Rejection;
use engine::shard::outbox::{Message, TagTarget};

use super::{Ended, MoneyBook, Source};
use crate::sim::{Check, breach};

/// An operation that waits, or waited, for another wallet.
#[derive(Clone)]
pub(in crate::sim) struct OpBook {
    pub(in crate::sim) end: Option<End>,
    /// The wallet that is asked.
    pub(in crate::sim) to: WalletId,
    pub(super) what: What,
}

#[derive(Clone)]
pub(super) enum What {
    Transfer {
        id: TransactionId,
        amount: Money,
        after: i64,
        lots: Vec<(Source, i64)>,
    },
    /// A wristband that is given out, with what was asked for; how many have not answered, and how many tags whose place
    /// it takes have not said what they name.
    Giving {
        tag: TagUid,
        named: TagTarget,
        asked: u8,
        carries: i8,
    },
    /// A wristband that was lost; how many have not heard.
    Loss {
        due: u8,
    },
    /// A festival that is to have another currency; how many shards have not answered in this round.
    Currency {
        festival: FestivalId,
        others: u16,
        waits: u16,
        booked: bool,
        decided: bool,
    },
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum End {
    Settled,
    Returned,
}

impl OpBook {
    pub(super) fn of_nobodys(what: What) -> Self {
        Self { end: None, to: WalletId(0), what }
    }
    pub(in crate::sim) fn is_open(&self) -> bool {
        self.end.is_none()
    }
    pub(in crate::sim) fn is_transfer(&self) -> bool {
        matches!(self.what, What::Transfer { .. })
    }
    /// How much is on its way by it, unless it is back.
    pub(in crate::sim) fn sent(&self) -> i128 {
        match &self.what {
            What::Transfer { amount, .. } if self.end != Some(End::Returned) => i128::from(amount.minor),
            _ => 0,
        }
    }
}

impl MoneyBook {
    pub(super) fn begin(&mut self, op: u64, what: OpBook) -> Check {
        if op != self.ops.len() as u64 + 1 {
            return breach("operations are numbered densely", format!("{op} after {}", self.ops.len()));
        }
        self.ops.insert(op, what);
        Ok(())
    }

    /// An operation ends, once.
    pub(super) fn end(&mut self, op: u64, end: End) -> Check<OpBook> {
        match self.ops.get_mut(&op) {
            Some(open) if open.end.is_none() => {
                open.end = Some(end);
                Ok(open.clone())
            }
            other => {
                let before = other.and_then(|op| op.end);
                breach("a transfer ends settled or returned, never both", format!("{op}: {before:?}, then {end:?}"))
            }
        }
    }

    pub(super) fn answer_of(&self, op: u64, answer: AdminAnswer) -> Ended {
        self.keys.get(&op).map(|key| (*key, answer))
    }

    /// Money has left a wallet.
    pub(super) fn left(&mut self, t: &Transaction, to: WalletId) -> Check {
        self.count("transfers");
        let id = TransactionId { wallet: t.wallet, serial: t.serial };
        let amount = Money { minor: t.amount, currency: t.currency };
        let lots = t.lots.iter().map(|lot| (lot.source, lot.amount)).collect();
        self.wallet(t.wallet)?.reserved += t.amount;
        self.begin(t.of, OpBook { end: None, to, what: What::Transfer { id, amount, after: t.after, lots } })
    }

    /// Money has come into a wallet: as it was sent, once, and not after it was declined.
    pub(super) fn came(&mut self, t: &Transaction, other: WalletId) -> Check {
        let lots: Vec<_> = t.lots.iter().map(|lot| (lot.source, lot.amount)).collect();
        let from = if self.is_near(other) {
            let same = self.ops.get(&t.of).is_some_and(|op| {
                matches!(&op.what, What::Transfer { id, lots: sent, .. } if id.wallet == other && *sent == lots)
                    && (op.to, op.end) == (t.wallet, None)
            });
            same.then_some(self.id)
        } else {
            match &self.heard {
                Some((shard, Message::Credit { op, from, to, lots: sent, .. }))
                    if (*op, *from, *to) == (t.of, other, t.wallet)
                        && sent.iter().map(|lot| (lot.source, lot.amount)).eq(lots) =>
                {
                    Some(*shard)
                }
                _ => None,
            }
        };
        let Some(from) = from else { return breach("money comes as it was sent", format!("{t:?}")) };
        if let Some(before) = self.credits.insert((from, t.of), true) {
            let what = format!("operation {} of shard {}: taken {before} before", t.of, from.0);
            return breach("a transfer is credited once, and not after it was declined", what);
        }
        Ok(())
    }

    /// Money is back: the other side has just said that it will not take it.
    pub(super) fn is_back(&mut self, t: &Transaction) -> Check<Ended> {
        self.count("transfers_returned");
        let said = match &self.heard {
            Some((_, Message::Declined { op, rejection })) if *op == t.of => Some(*rejection),
            _ => None,
        };
        if said.is_none() || said != t.rejection {
            return breach("money comes back by the other side's word alone", format!("heard {said:?}: {t:?}"));
        }
        let op = self.end(t.of, End::Returned)?;
        let lots: Vec<_> = t.lots.iter().map(|lot| (lot.source, lot.amount)).collect();
        let right = matches!(&op.what, What::Transfer { id, amount, lots: sent, .. }
            if id.wallet == t.wallet && amount.minor == t.amount && *sent == lots);
        if !right {
            return breach("money comes back as it was sent", format!("{t:?}"));
        }
        self.wallet(t.wallet)?.reserved -= t.amount;
        if said == Some(Rejection::TransferCancelled) {
            self.count("transfers_cancelled");
        }
        Ok(self.answer_of(t.of, AdminAnswer::Rejected(t.rejection.expect("just compared"))))
    }

    /// The other side has said that it has the money.
    pub(super) fn settled(&mut self, op: u64) -> Check<Ended> {
        let book = self.end(op, End::Settled)?;
        let What::Transfer { id, amount, after, .. } = book.what else {
            return breach("a transfer ends settled or returned, never both", format!("{op} is none"));
        };
        let said = match self.is_near(book.to) {
            true => self.credits.get(&(self.id, op)) == Some(&true),
            false => matches!(&self.heard, Some((_, Message::Credited { op: said })) if *said == op),
        };
        if !said {
            return breach("a transfer is settled when the other side has the money", format!("operation {op}"));
        }
        self.wallet(id.wallet)?.reserved -= amount.minor;
        Ok(self.answer_of(op, AdminAnswer::Transaction { id, amount, balance: after, over_limit: false, order: 0 }))
    }

    /// What another shard is told must be so.
    pub(super) fn promised(&mut self, to: ShardId, message: &Message) -> Check {
        let fits = match message {
            Message::Credit { op, from, to: wallet, lots, .. } => self.ops.get(op).is_some_and(|op| {
                matches!(&op.what, What::Transfer { id, amount, .. } if id.wallet == *from && amount.minor == lots.sum())
                    && (op.to, op.end) == (*wallet, None)
            }),
            Message::Credited { op } => self.credits.get(&(to, *op)) == Some(&true),
            Message::Declined { op, .. } => self.credits.insert((to, *op), false).is_none(),
            Message::Cancel { op } => self.ops.get(op).is_some_and(OpBook::is_open),
            Message::CurrencyAsk { op, festival } => self.agrees(*op, *festival, false),
            Message::CurrencyDecided { op, festival } => self.agrees(*op, *festival, true),
            of_tag => self.is_so_of_tag(of_tag),
        };
        let what = || format!("shard {} is told {message:?}", to.0);
        if fits { Ok(()) } else { breach("what other shards are told is so", what()) }
    }
}

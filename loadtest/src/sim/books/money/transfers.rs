//! What needs two sides: transfers, and wristbands that are linked.

use engine::command::OfficeAnswer;
use engine::event::Transaction;
use engine::ids::{ShardId, TagUid, TransactionId, WalletId};
use engine::money::Money;
use engine::outbox::Message;
use engine::rejection::Rejection;
use engine::view::TagState;

use super::{Ended, MoneyBook, Source};
use crate::sim::{Check, breach};

/// An operation that waits, or waited, for another wallet.
#[derive(Clone)]
pub(in crate::sim) struct OpBook {
    pub(in crate::sim) end: Option<End>,
    /// The wallet that is asked.
    pub(in crate::sim) to: WalletId,
    what: What,
}

#[derive(Clone)]
enum What {
    Transfer { id: TransactionId, amount: Money, after: i64, lots: Vec<(Source, i64)> },
    Link(TagUid),
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum End {
    Settled,
    Returned,
}

impl OpBook {
    pub(super) fn link(tag: TagUid, wallet: WalletId) -> Self {
        Self { end: None, to: wallet, what: What::Link(tag) }
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
    fn end(&mut self, op: u64, end: End) -> Check<OpBook> {
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

    fn told(&self, op: u64, answer: OfficeAnswer) -> Ended {
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
        Ok(self.told(t.of, OfficeAnswer::Rejected(t.rejection.expect("just compared"))))
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
        Ok(self.told(op, OfficeAnswer::Transaction { id, amount, balance: after, over_limit: false, order: 0 }))
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
            _ => true,
        };
        let what = || format!("shard {} is told {message:?}", to.0);
        if fits { Ok(()) } else { breach("what other shards are told is so", what()) }
    }

    /// A wallet has a wristband.
    pub(super) fn attached(&mut self, wallet: WalletId, tag: TagUid, version: u32) -> Check {
        let linking = TagState::Linking;
        let near = self.tags.get(&tag).is_some_and(|page| (page.state, page.wallet) == (linking, wallet));
        let may_replace = match &self.heard {
            Some((_, Message::Link { tag: asked, wallet: to, version: at, replace, .. }))
                if (*asked, *to, *at) == (tag, wallet, version) =>
            {
                Some(*replace)
            }
            _ => near.then_some(true),
        };
        let page = self.wallet(wallet)?;
        let kept = page.tag.is_some() && !page.lost;
        if may_replace.is_none() || (kept && may_replace == Some(false)) {
            return breach("a wallet has the wristband it was given", format!("{tag:?} at {version} for {wallet:?}"));
        }
        (page.tag, page.lost) = (Some((tag, version)), false);
        Ok(())
    }

    /// The wallet has answered.
    pub(super) fn link_ended(&mut self, tag: TagUid, op: u64, refused: Option<Rejection>) -> Check<Ended> {
        self.count(if refused.is_some() { "links_refused" } else { "links" });
        let book = self.end(op, if refused.is_some() { End::Returned } else { End::Settled })?;
        let said = match (&self.heard, refused) {
            _ if self.is_near(book.to) => true,
            (Some((_, Message::LinkTaken { op: said })), None) => *said == op,
            (Some((_, Message::LinkRefused { op: said, rejection })), Some(why)) => *said == op && *rejection == why,
            _ => false,
        };
        let holds = self.wallets.get(&book.to).and_then(|wallet| wallet.tag);
        let (near, Some(page)) = (self.is_near(book.to), self.tags.get_mut(&tag)) else {
            return breach("events are of what exists", format!("{tag:?}"));
        };
        let right = page.state == TagState::Linking && matches!(book.what, What::Link(asked) if asked == tag);
        let has_it = !near || (holds == Some((tag, page.version))) == refused.is_none();
        if !said || !right || !has_it {
            return breach("a wristband names a wallet that has it", format!("{tag:?}, operation {op}"));
        }
        page.state = if refused.is_some() { TagState::Free } else { TagState::Linked };
        let answer = refused.map_or(OfficeAnswer::Wallet(book.to), OfficeAnswer::Rejected);
        Ok(self.told(op, answer))
    }

    /// A wristband names its wallet no more.
    pub(super) fn unlinked(&mut self, tag: TagUid, state: TagState) -> Check {
        match self.tags.get_mut(&tag) {
            Some(page) if page.state == TagState::Linked => {
                page.state = state;
                Ok(())
            }
            _ => breach("a wristband is one wallet's", format!("{tag:?} becomes {state:?} and named nothing")),
        }
    }
}

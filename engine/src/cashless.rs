//! Cashless: wallets, tags, what each shard knows of vendors and terminals, and the books.
//!
//! [`Cashless`] is one shard's part. Terminals' commands are decided in `terminal.rs`, the office's in `admin.rs`, what other
//! shards tell in `peers.rs`; all of it is written down by `Cashless::apply` and nothing else.

mod admin;
pub mod command;
mod currency;
pub mod directory;
pub mod event;
mod gifts;
pub mod ledger;
pub mod operations;
pub mod payouts;
mod peers;
pub mod refundable;
pub mod tag;
mod terminal;
pub mod view;
pub mod wallet;

use serde::{Deserialize, Serialize};

use crate::cashless::directory::Directory;
use crate::cashless::event::{CashlessEvent, Transaction, TransactionKind};
pub use crate::cashless::gifts::LAPSE_MAX;
pub(crate) use crate::cashless::peers::Attaching;
use crate::command::AdminAnswer;
use crate::model::ids::{TagUid, TransactionId, WalletId};
use crate::model::money::Money;
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;
use crate::plants::{Plant, planted};
use crate::shard::outbox::{Entry, TagTarget};

use crate::cashless::operations::{Asker, Op, OpKind, Ops};
use crate::cashless::payouts::Payouts;
use crate::cashless::refundable::{Payment, Refundable};
use crate::cashless::tag::Tags;
use crate::cashless::wallet::Wallets;

/// One shard's part of all that is about money.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cashless {
    /// What it knows of the festivals.
    pub directory: Directory,
    /// The wallets whose home it is.
    pub wallets: Wallets,
    /// The tags whose home it is.
    pub tags: Tags,
    /// The payments that can be refunded.
    pub refundable: Refundable,
    /// What the latest cash-outs gave to whom.
    pub payouts: Payouts,
    /// What waits for other shards.
    pub ops: Ops,
    /// The last transaction's serial.
    serial: u64,
}

/// An operation is over: its number, who asked, and what they are told.
pub(crate) type Finished = (u64, Asker, AdminAnswer);

impl Cashless {
    /// The serial of the last transaction.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Writes a transaction down. Cannot fail, and decides nothing. `asker` is whoever asked for a transfer.
    pub(crate) fn apply_transaction(&mut self, t: &Transaction, asker: Asker, at: Timestamp) -> Option<Finished> {
        let festival = self.directory.get_mut(t.festival).expect("decided");
        if let Some(by) = t.by {
            festival.answered(by, t.answer(at), at);
        }
        festival.ledger.enter(t, at);
        if t.serial == 0 {
            return None;
        }
        assert_eq!(t.serial, self.serial + 1, "serials are dense");
        self.serial = t.serial;
        if t.kind == TransactionKind::Payment {
            festival.vendor_mut(t.vendor).payments += 1;
            self.refundable.push(Payment::of(t));
        }
        if t.kind == TransactionKind::CashOut {
            self.payouts.push(t);
        }
        if t.kind == TransactionKind::Refund {
            self.refundable.refunded(t.of, t.amount, &t.lines);
        }
        let slot = self.wallets.slot(t.wallet).expect("decided");
        if t.posting.wallet < 0 {
            self.wallets.take(slot, &t.lots)
        } else {
            self.wallets.give(slot, &t.lots)
        }
        let wallet = self.wallets.at_mut(slot);
        assert_eq!(wallet.available, t.before, "paired with decide");
        wallet.available += t.posting.wallet;
        wallet.transactions += 1;
        assert_eq!(wallet.available, t.after, "paired with decide");
        assert!(wallet.available >= 0 || planted(Plant::NegativeBalance), "nobody spends what they do not have");
        assert!(t.posting.sum() == 0 || planted(Plant::PostingOffByOne), "a posting is balanced");
        match t.kind {
            TransactionKind::TransferOut => {
                wallet.reserved += t.amount;
                let other = t.other.expect("a transfer has another side");
                let kind = OpKind::Transfer(operations::Transfer {
                    from: t.id().expect("money moved"),
                    to: other,
                    festival: t.festival,
                    amount: t.amount,
                    after: t.after,
                    lots: t.lots.clone(),
                });
                self.ops.begin(t.of, Op { asker, since: at, cancel_asked: false, kind });
                None
            }
            TransactionKind::TransferBack => {
                if !planted(Plant::ReservedForGood) {
                    wallet.reserved -= t.amount;
                }
                let rejection = t.rejection.unwrap_or(Rejection::TransferCancelled);
                let op = self.ops.end(t.of)?;
                Some((t.of, op.asker, AdminAnswer::Rejected(rejection)))
            }
            _ => None,
        }
    }

    /// Writes down anything else about money.
    pub(crate) fn apply(&mut self, event: &CashlessEvent, asker: Asker, at: Timestamp) -> Option<Finished> {
        match event {
            CashlessEvent::PolicySet { .. } | CashlessEvent::VendorPut { .. } | CashlessEvent::ProductPut { .. } => {
                self.put(&entry_of(event).expect("the directory's own"), at);
            }
            CashlessEvent::TerminalEnrolled { .. } => {
                self.put(&entry_of(event).expect("the directory's own"), at);
            }
            CashlessEvent::TerminalOffered { .. } => {}
            CashlessEvent::WalletCreated { wallet, issuer, currency, account } => {
                self.wallets.create(*wallet, *issuer, *currency, *account);
            }
            CashlessEvent::WalletClaimed { wallet, account } => self.wallets.claim(*wallet, *account),
            CashlessEvent::WalletBlockSet { wallet, blocked } => self.wallet_mut(*wallet).set_blocked(*blocked),
            CashlessEvent::WalletTagLost { wallet, op, .. } => {
                self.wallet_mut(*wallet).set_tag_lost();
                return if *op == 0 { None } else { self.ops.loss(*op, 1, asker, at) };
            }
            CashlessEvent::TagAttached { wallet, tag, version } => self.wallet_mut(*wallet).attach(*tag, *version),
            CashlessEvent::TagLinking { tag, wallet, version, op, festival } => {
                self.tags.linking(*tag, *wallet, *version, *festival, at);
                self.ops.asks(*op, (*tag, TagTarget::Wallet(*wallet, *version)), *festival, asker, at);
            }
            CashlessEvent::TagLinked { tag, op, carry } => {
                let named = self.tags.wallet_of(*tag).expect("decided");
                self.tags.linked(*tag);
                return self.ops.answered(*op, named, *carry, None);
            }
            CashlessEvent::TagRefused { tag, op, rejection } => {
                let named = self.tags.wallet_of(*tag).expect("decided");
                self.tags.refused(*tag);
                return self.ops.answered(*op, named, false, Some(*rejection));
            }
            CashlessEvent::TagFreed { tag } => self.tags.freed(*tag, at),
            CashlessEvent::TagLost { tag, op } => {
                self.tags.lost(*tag, at);
                let due = self.named_by(*tag).count() as u8;
                return if *op == 0 { None } else { self.ops.loss(*op, due, asker, at) };
            }
            CashlessEvent::TagBinding { tag, ticket, op } => {
                self.tags.binding(*tag, *ticket, at);
                self.ops.asks(*op, (*tag, TagTarget::Ticket(*ticket)), ticket.festival(), asker, at);
            }
            CashlessEvent::TagBindTaken { tag, op, carry } => {
                let named = self.tags.ticket_of(*tag).expect("decided");
                self.tags.bound(*tag);
                return self.ops.answered(*op, named, *carry, None);
            }
            CashlessEvent::TagBindRefused { tag, op, rejection } => {
                let named = self.tags.ticket_of(*tag).expect("decided");
                self.tags.unbound(*tag);
                return self.ops.answered(*op, named, false, Some(*rejection));
            }
            CashlessEvent::TagUnbound { tag } => self.tags.unbound(*tag),
            CashlessEvent::TagCarried { op, .. } => return self.ops.carried(*op),
            CashlessEvent::TagBarred { op, .. } => {
                return if *op == 0 { None } else { self.ops.loss(*op, 1, asker, at) };
            }
            CashlessEvent::LossKnown { op } => return self.ops.loss_known(*op),
            CashlessEvent::TransferSettled { op } => {
                let op_was = self.ops.end(*op)?;
                let OpKind::Transfer(transfer) = op_was.kind else { unreachable!("a transfer's operation") };
                let wallet = self.wallet_mut(transfer.from.wallet);
                wallet.reserved -= transfer.amount;
                let currency = wallet.currency;
                let answer = AdminAnswer::Transaction {
                    id: transfer.from,
                    amount: Money { minor: transfer.amount, currency },
                    balance: transfer.after,
                    over_limit: false,
                    order: 0,
                };
                return Some((*op, op_was.asker, answer));
            }
            CashlessEvent::TransferCancelAsked { op } => self.ops.cancel_asked(*op),
            CashlessEvent::CurrencyChanging { .. }
            | CashlessEvent::CurrencyHeld { .. }
            | CashlessEvent::CurrencyVoted { .. }
            | CashlessEvent::CurrencyReleased { .. } => return self.apply_currency(event, asker, at),
        }
        None
    }

    /// What a tag of this shard names or is about to name.
    pub(crate) fn named_by(&self, tag: TagUid) -> impl Iterator<Item = TagTarget> + use<> {
        [self.tags.wallet_of(tag), self.tags.ticket_of(tag)].into_iter().flatten()
    }

    fn wallet_mut(&mut self, id: WalletId) -> &mut wallet::Wallet {
        let slot = self.wallets.slot(id).expect("decided");
        self.wallets.at_mut(slot)
    }

    fn next_id(&self, wallet: WalletId) -> TransactionId {
        TransactionId { wallet, serial: self.serial + 1 }
    }
}

/// What the other shards are to know of an event of a festival's own shard.
pub(crate) fn entry_of(event: &CashlessEvent) -> Option<Entry> {
    Some(match event {
        CashlessEvent::PolicySet { festival, policy, status } => {
            Entry::Festival { festival: *festival, policy: *policy, status: *status }
        }
        CashlessEvent::VendorPut { festival, vendor, values } => {
            Entry::Vendor { festival: *festival, vendor: *vendor, values: values.clone() }
        }
        CashlessEvent::ProductPut { festival, vendor, product, values } => {
            Entry::Product { festival: *festival, vendor: *vendor, product: *product, values: values.clone() }
        }
        CashlessEvent::TerminalEnrolled { device, vendor, cashier, .. } => {
            Entry::Terminal { device: *device, vendor: *vendor, cashier: *cashier, revoked: false }
        }
        _ => return None,
    })
}

//! What other shards tell about money, and what this one makes of it.

use crate::cashless::Cashless;
use crate::cashless::event::{CashlessEvent, Lots, Posting, Transaction, TransactionKind};
use crate::cashless::operations::{OpKind, Transfer};
use crate::cashless::terminal::blank;
use crate::model::ids::{FestivalId, TagUid, WalletId};
use crate::model::money::Currency;
use crate::model::rejection::Rejection;
use crate::plants::tripwire;

/// What a wallet's taking a tag brings about.
pub(crate) struct Attaching {
    /// The wallet is made for it.
    pub(crate) made: Option<CashlessEvent>,
    /// The tag whose place it takes, with its link's version.
    pub(crate) before: Option<(TagUid, u32)>,
}

impl Cashless {
    /// Whether a wallet takes this money, and how.
    ///
    /// # Errors
    /// [`Rejection::UnknownWallet`], [`Rejection::WalletBlocked`], [`Rejection::ForeignWallet`],
    /// [`Rejection::WrongCurrency`], [`Rejection::AboveMaxBalance`], [`Rejection::NotCashless`]; of a merge
    /// [`Rejection::NotOneAccount`].
    pub(crate) fn decide_credit(
        &self,
        op: u64,
        (from, to): (WalletId, WalletId),
        festival: FestivalId,
        currency: Currency,
        lots: &Lots,
        merges: Option<u128>,
    ) -> Result<Transaction, Rejection> {
        let amount = lots.sum();
        tripwire(amount as u32);
        let mut t = self.begin(TransactionKind::TransferIn, festival, to, amount)?;
        let wallet = self.wallets.get(to)?;
        if wallet.currency != currency {
            return Err(Rejection::WrongCurrency);
        }
        if wallet.is_blocked() {
            return Err(Rejection::WalletBlocked);
        }
        let at = self.directory.get(festival)?;
        match merges {
            // A person's money may be more than a festival lets anybody put in: it is there already.
            Some(_) if wallet.account() != merges || wallet.issuer != festival => return Err(Rejection::NotOneAccount),
            Some(_) => {}
            None if wallet.available.saturating_add(amount) > at.policy.max_balance => {
                return Err(Rejection::AboveMaxBalance);
            }
            None => {}
        }
        t.lots = lots.clone();
        t.of = op;
        t.other = Some(from);
        t.posting = Posting { wallet: amount, in_transit: -amount, ..Posting::default() };
        self.over_limit(&mut t, at);
        self.book(&mut t)?;
        Ok(t)
    }

    /// Puts a transfer that the other side would not have back where it came from.
    pub(crate) fn decide_back(&self, op: u64, rejection: Rejection) -> Option<Transaction> {
        let transfer = self.transfer(op)?;
        let wallet = self.wallets.get(transfer.from.wallet).ok()?;
        let mut t = blank(TransactionKind::TransferBack, transfer.festival, transfer.from.wallet, wallet.currency);
        (t.amount, t.before, t.after) = (transfer.amount, wallet.available, wallet.available);
        t.rejection = Some(rejection);
        t.lots = transfer.lots.clone();
        t.of = op;
        t.other = Some(transfer.to);
        t.posting = Posting { wallet: transfer.amount, in_transit: -transfer.amount, ..Posting::default() };
        // A wallet that was credited to the brim meanwhile keeps what was reserved: nobody can owe it that much.
        self.book(&mut t).ok()?;
        Some(t)
    }

    /// The transfer with this number, if it is not over.
    pub(crate) fn transfer(&self, op: u64) -> Option<&Transfer> {
        match &self.ops.get(op)?.kind {
            OpKind::Transfer(transfer) => Some(transfer),
            OpKind::Giving(_) | OpKind::Loss { .. } | OpKind::Currency(_) => None,
        }
    }

    /// Whether a wallet takes this tag, and what that brings about.
    ///
    /// # Errors
    /// [`Rejection::UnknownWallet`], [`Rejection::AlreadyTagged`], [`Rejection::NotCashless`],
    /// [`Rejection::ForeignWallet`], [`Rejection::LimitReached`]; [`Rejection::TagMoved`] if the wallet has not the
    /// wristband any more whose place this one takes.
    pub(crate) fn decide_attach(
        &self,
        wallet: WalletId,
        festival: FestivalId,
        replace: bool,
        create: bool,
        from: Option<TagUid>,
    ) -> Result<Attaching, Rejection> {
        let Ok(known) = self.wallets.get(wallet) else {
            return match create {
                true => Ok(Attaching { made: Some(self.create(wallet, festival, None)?), before: None }),
                false => Err(Rejection::UnknownWallet),
            };
        };
        if known.issuer != festival && !self.directory.get(festival)?.policy.foreign_wallets {
            return Err(Rejection::ForeignWallet);
        }
        if from.is_some() && known.tag().map(|(tag, _)| tag) != from {
            return Err(Rejection::TagMoved);
        }
        // A lost tag needs nobody's word to be replaced.
        if known.tag().is_some() && !known.is_tag_lost() && !replace {
            return Err(Rejection::AlreadyTagged);
        }
        Ok(Attaching { made: None, before: known.tag() })
    }

    /// Whether a tag names this wallet by this link.
    pub(crate) fn tag_names(&self, tag: TagUid, wallet: WalletId, version: u32) -> bool {
        self.tags.names(tag, wallet, version)
    }
}

//! Another currency in the books: nothing was booked in the one before, and nothing is until all know how that came out.

use engine::cashless::event::{CashlessEvent, Transaction, TransactionKind};
use engine::command::AdminAnswer;
use engine::model::ids::FestivalId;
use engine::model::money::Currency;
use engine::model::rejection::Rejection;
use engine::shard::outbox::Message;

use super::transfers::What;
use super::{End, Ended, MoneyBook, OpBook};
use crate::sim::{Check, breach};

impl MoneyBook {
    pub(super) fn of_currency(&mut self, event: &CashlessEvent) -> Check<Ended> {
        match event {
            CashlessEvent::CurrencyChanging { festival, op, others, .. } => {
                self.hold(*festival)?;
                let (festival, others, waits) = (*festival, *others, *others);
                let what = What::Currency { festival, others, waits, booked: false, decided: false };
                self.begin(*op, OpBook::of_nobodys(what))?;
            }
            CashlessEvent::CurrencyHeld { festival } => self.hold(*festival)?,
            CashlessEvent::CurrencyReleased { festival } => self.page(*festival)?.held = false,
            CashlessEvent::CurrencyVoted { op, booked } => return self.voted(*op, *booked),
            _ => {}
        }
        Ok(None)
    }

    /// Nothing moves at a festival until its currency is decided, and nothing has.
    fn hold(&mut self, festival: FestivalId) -> Check {
        let page = self.page(festival)?;
        page.was_held = true;
        if page.booked || core::mem::replace(&mut page.held, true) {
            return breach("a currency in which something is booked stays", format!("festival {festival}"));
        }
        Ok(())
    }

    /// Whether a currency was about to be another at some time: then somebody may have been told to wait.
    pub(in crate::sim) fn was_held(&self) -> bool {
        self.festivals.values().any(|page| page.was_held)
    }

    /// A festival has another currency: so have its wallets, and its products are off sale.
    pub(super) fn redenominate(&mut self, festival: FestivalId, currency: Currency) -> Check {
        let page = self.page(festival)?;
        if page.booked || !page.held {
            return breach("a currency in which something is booked stays", format!("festival {festival}"));
        }
        let products = page.vendors.iter_mut().flat_map(|vendor| &mut vendor.products);
        products.for_each(|product| product.on_sale = false);
        let own = self.wallets.values_mut().filter(|wallet| wallet.issuer == festival);
        own.for_each(|wallet| wallet.currency = currency);
        let undecided = self.ops.values().any(|op| {
            matches!(&op.what, What::Currency { festival: of, booked, decided, .. }
                if *of == festival && op.is_open() && (*booked || !*decided))
        });
        if undecided {
            breach("shards are asked before a currency changes", format!("festival {festival}"))
        } else {
            Ok(())
        }
    }

    /// Money has moved: at a festival, in a wallet that one has issued. Where a currency is about to be another, only what
    /// another shard has sent at the festival is taken: that one has booked it, so the currency stays.
    pub(super) fn booked(&mut self, t: &Transaction) -> Check {
        let issuer = self.wallet(t.wallet)?.issuer;
        for festival in [t.festival, issuer] {
            let page = self.page(festival)?;
            let sent = t.kind == TransactionKind::TransferIn && festival == t.festival;
            if page.held && !sent {
                return breach("nothing moves while a currency changes", format!("{t:?}"));
            }
            page.booked = true;
        }
        Ok(())
    }

    /// Whether shards are asked about a currency, or told that it is decided, when that is so.
    pub(super) fn agrees(&self, op: u64, of: FestivalId, is_decided: bool) -> bool {
        self.ops.get(&op).is_some_and(|op| {
            matches!(&op.what, What::Currency { festival, decided, .. } if (*festival, *decided) == (of, is_decided))
                && op.is_open()
        })
    }

    /// Another shard has said whether it has booked anything, or that it knows how that came out.
    fn voted(&mut self, op: u64, said: bool) -> Check<Ended> {
        let heard = matches!(&self.heard, Some((_, Message::CurrencyVote { op: asked, booked }))
            if (*asked, *booked) == (op, said));
        let Some(OpBook { what: What::Currency { festival, others, waits, booked, decided }, end: None, .. }) =
            self.ops.get_mut(&op).filter(|_| heard)
        else {
            return breach("shards are asked before a currency changes", format!("operation {op}"));
        };
        *waits -= 1;
        *booked |= said;
        if *waits > 0 {
            return Ok(None);
        }
        if !core::mem::replace(decided, true) {
            *waits = *others;
            return Ok(None);
        }
        let (festival, booked) = (*festival, *booked);
        self.count(if booked { "currencies_kept" } else { "currencies_changed" });
        self.end(op, if booked { End::Returned } else { End::Settled })?;
        self.page(festival)?.held = false;
        let answer = if booked { AdminAnswer::Rejected(Rejection::CurrencyInUse) } else { AdminAnswer::Done };
        Ok(self.answer_of(op, answer))
    }
}

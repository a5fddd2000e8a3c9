//! Whether a shard shows what its books say.

use engine::cashless::command::TerminalAnswer;
use engine::model::ids::{DeviceId, ShardId};
use engine::shard::Shard;
use engine::view::{Query, View};

use super::MoneyBook;
use crate::sim::disk::SHARDS;
use crate::sim::{Check, breach};

const BEYOND: &str = "no reply shows state beyond the durable position";

impl MoneyBook {
    /// Whether a view shows what is in the books. `None`: it is not about money.
    pub(in crate::sim) fn shows(&self, query: &Query, view: &View) -> Option<Check> {
        let agrees = match (query, view) {
            (Query::Wallet(id), View::Wallet(view)) => self.wallets.get(id).is_some_and(|page| {
                let lots = view.lots.iter().map(|lot| (lot.source, lot.amount));
                (view.available, view.reserved, view.blocked) == (page.available, page.reserved, page.blocked)
                    && (view.tag, view.tag_lost, view.account) == (page.tag, page.lost, page.account)
                    && (view.issuer, view.currency, view.transactions)
                        == (page.issuer, page.currency, page.transactions)
                    && lots.eq(page.lots.iter().copied())
            }),
            (Query::Wallet(id), View::No(_)) => !self.wallets.contains_key(id),
            (Query::Tag(tag), View::Tag(view)) => self.tags.get(tag).is_some_and(|page| page.is_shown_by(view)),
            (Query::Tag(tag), View::No(_)) => !self.tags.contains_key(tag),
            (Query::Payment(id), View::Payment(view)) => self.payments.get(&id.serial).is_some_and(|page| {
                (view.vendor, view.festival, view.refunded) == (page.vendor, page.festival, page.amount - page.left)
            }),
            (Query::Payment(id), View::No(_)) => !self.payments.contains_key(&id.serial),
            (Query::Ledger(festival), View::Ledger(view)) => self.festivals.get(festival).is_some_and(|page| {
                let sums = (view.wallets, view.commission, view.corrections, view.in_transit);
                let payable = |no: usize| view.vendors.get(no).map_or(0, |sums| sums.payable);
                let terminals = view.terminals.iter().map(|terminal| {
                    (
                        terminal.device.number(),
                        super::TerminalBook {
                            vendor: terminal.vendor,
                            cashier: terminal.cashier,
                            revoked: terminal.revoked,
                        },
                    )
                });
                sums == (page.wallets, page.commission, page.corrections, page.in_transit)
                    && view.sources.iter().copied().eq(page.sources.iter().map(|(source, sum)| (*source, *sum)))
                    && page.vendors.iter().enumerate().all(|(no, vendor)| vendor.payable == payable(no))
                    && terminals.eq(page.terminals.iter().map(|(number, terminal)| (*number, *terminal)))
                    && view.trial_balance() == 0
            }),
            (Query::Ledger(festival), View::No(_)) => !self.festivals.contains_key(festival),
            (Query::Cashless(festival), View::Cashless(view)) => self.festivals.get(festival).is_some_and(|page| {
                let vendors = view.vendors.iter().map(|vendor| {
                    (&vendor.values, vendor.products.iter().map(|(_, values)| values).collect::<Vec<_>>())
                });
                let ours = page.vendors.iter().map(|vendor| (&vendor.values, vendor.products.iter().collect()));
                (view.policy, view.status) == (page.policy, page.status) && vendors.eq(ours)
            }),
            (Query::CashlessPolicy(festival), View::CashlessPolicy(policy)) => {
                self.festivals.get(festival).is_some_and(|page| page.policy == *policy)
            }
            (Query::Stand(festival, no), View::Stand(stand)) => self.festivals.get(festival).is_some_and(|page| {
                let products = stand.vendor.products.iter().map(|(_, values)| values);
                page.vendors.get(usize::from(no.0)).is_some_and(|vendor| {
                    (&stand.policy, &stand.vendor.values) == (&page.policy, &vendor.values)
                        && products.eq(vendor.products.iter())
                })
            }),
            _ => return None,
        };
        Some(if agrees { Ok(()) } else { breach(BEYOND, format!("{query:?} answered {view:?}")) })
    }

    /// Whether a balance that a terminal is told is what the wallet had at some moment of the last record.
    pub(in crate::sim) fn had(&self, answer: &TerminalAnswer, record: u64) -> bool {
        self.wallets.get(&answer.wallet).is_some_and(|page| {
            page.available == answer.balance || (page.lately.0 == record && page.lately.1.contains(&answer.balance))
        })
    }

    /// Whether a terminal was ever revoked as far as this shard knows; it may have been readmitted since.
    pub(in crate::sim) fn has_revoked(&self, device: DeviceId) -> bool {
        self.ever_revoked.contains(&device)
    }

    /// The terminal's vendor, if it takes payments for one.
    pub(in crate::sim) fn vendor_of(&self, device: DeviceId) -> Option<engine::model::ids::VendorNo> {
        self.terminal(device)?.vendor
    }

    /// The numbers that a terminal was answered here.
    pub(in crate::sim) fn numbers_of(&self, device: DeviceId) -> impl Iterator<Item = u64> {
        self.answers.range((device, 0)..=(device, u64::MAX)).map(|((_, seq), _)| *seq)
    }

    /// Whether a living or recovered shard says what the books say, wherever it can be asked.
    pub(in crate::sim) fn agree_with(&self, shard: &Shard) -> Check {
        let wallets = self.wallets.keys().map(|id| Query::Wallet(*id));
        let tags = self.tags.keys().map(|tag| Query::Tag(*tag));
        let festivals =
            self.festivals.keys().flat_map(|id| [Query::Ledger(*id), Query::Cashless(*id), Query::CashlessPolicy(*id)]);
        let stands = self.festivals.iter().flat_map(|(id, page)| {
            (0..page.vendors.len() as u16).map(|no| Query::Stand(*id, engine::model::ids::VendorNo(no)))
        });
        let payments = self.payments.iter().rev().take(20).map(|(serial, page)| {
            Query::Payment(engine::model::ids::TransactionId { wallet: page.wallet, serial: *serial })
        });
        for query in wallets.chain(tags).chain(festivals).chain(stands).chain(payments) {
            match self.shows(&query, &shard.query(&query)) {
                Some(Ok(())) => {}
                Some(Err(mut violation)) => {
                    violation.rule = "replay rebuilds the state".to_owned();
                    return Err(violation);
                }
                None => return breach("replay rebuilds the state", format!("{query:?} is answered otherwise")),
            }
        }
        for to in (0..SHARDS).map(ShardId).filter(|to| *to != self.id) {
            let post = &self.posts[usize::from(to.0)];
            let (first, pending) = shard.outgoing(to);
            let same = first == post.delivered + 1 && pending.eq(&post.sent[post.delivered as usize..]);
            if !same {
                return breach("messages are kept until they are acknowledged", format!("to shard {}", to.0));
            }
        }
        let open = self.ops.values().filter(|op| op.is_open()).count();
        if shard.cashless().ops.len() != open || shard.cashless().serial() != self.serial {
            return breach("replay rebuilds the state", format!("{open} operations under way"));
        }
        Ok(())
    }
}

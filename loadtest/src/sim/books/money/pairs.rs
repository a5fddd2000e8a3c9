//! What must hold over all shards together.

use std::collections::{BTreeMap, BTreeSet};

use engine::model::ids::Home;

use super::{End, MoneyBook};
use crate::sim::disk::SHARDS;
use crate::sim::{Check, breach};

/// At any moment: money that has left a wallet and has come to none is in transit, no transfer ends both ways, a
/// wristband is one wallet's, a terminal's number has moved money once.
pub(in crate::sim) fn all_together(all: &[&MoneyBook]) -> Check {
    let (mut in_transit, mut under_way) = (0_i128, 0_i128);
    for book in all {
        for page in book.festivals.values() {
            let vendors: i128 = page.vendors.iter().map(|vendor| vendor.payable).sum();
            let sources: i128 = page.sources.values().sum();
            let sum = page.wallets + page.commission + page.corrections + page.in_transit + vendors + sources;
            if sum != 0 {
                return breach("the accounts of a shard add up to zero", format!("shard {}: {sum}", book.id.0));
            }
            in_transit += page.in_transit;
        }
        for (op, page) in book.ops.iter().filter(|(_, page)| page.is_transfer()) {
            let other = all[usize::from(Home::Wallet(page.to).shard(SHARDS).0)];
            let taken = other.credits.get(&(book.id, *op)).copied();
            let what = || format!("operation {op} of shard {}: {:?}, taken {taken:?}", book.id.0, page.end);
            match (page.end, taken) {
                (Some(End::Settled), Some(true)) | (Some(End::Returned), Some(false)) | (None, _) => {}
                (Some(End::Returned), None) if book.id == other.id => {}
                _ => return breach("a transfer ends settled or returned, never both", what()),
            }
            if taken != Some(true) {
                under_way += page.sent();
            }
        }
        for wallet in book.wallets.values() {
            let lots: i64 = wallet.lots.iter().map(|(_, amount)| amount).sum();
            if wallet.available < 0 || wallet.reserved < 0 || lots != wallet.available {
                return breach("balances are never negative", format!("{} in {:?}", wallet.available, wallet.lots));
            }
        }
    }
    if in_transit != under_way {
        let what = format!("{in_transit} in transit, transfers of {under_way} under way");
        return breach("in_transit equals the transfers under way", what);
    }
    let mut holders = BTreeMap::new();
    for (id, wallet) in all.iter().flat_map(|book| &book.wallets) {
        if let Some((tag, _)) = wallet.tag.filter(|_| !wallet.lost)
            && let Some(before) = holders.insert(tag, *id)
        {
            return breach("a wristband is one wallet's", format!("{tag:?} is {id:?}'s and {before:?}'s"));
        }
    }
    let (mut moved, mut orders) = (BTreeSet::new(), BTreeSet::new());
    for book in all {
        for (number, _) in book.answers.iter().filter(|(_, answer)| answer.serial > 0) {
            if !moved.insert(*number) {
                return breach("every command happens once", format!("{} seq {} in two shards", number.0, number.1));
            }
        }
        for (festival, page) in &book.festivals {
            for (no, vendor) in page.vendors.iter().enumerate() {
                for order in &vendor.orders {
                    if !orders.insert((*festival, no, *order)) {
                        return breach("orders have numbers of their own", format!("order {order} of vendor {no}"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// When everything has come to rest: nothing is under way, and all shards know the same.
pub(in crate::sim) fn all_quiet(all: &[&MoneyBook]) -> Check {
    for book in all {
        if let Some((op, _)) = book.ops.iter().find(|(_, page)| page.is_open()) {
            return breach("an operation comes to an end", format!("operation {op} of shard {}", book.id.0));
        }
        for (other, post) in all.iter().zip(&book.posts).filter(|(other, _)| other.id != book.id) {
            let received = other.posts[usize::from(book.id.0)].received;
            if received != post.sent.len() as u64 || post.delivered != received {
                let what = format!("shard {} has {received} of {}", other.id.0, post.sent.len());
                return breach("every message arrives", what);
            }
        }
        if let Some((festival, _)) = book.festivals.iter().find(|(_, page)| page.held) {
            return breach("an operation comes to an end", format!("festival {festival} is held"));
        }
        for (festival, page) in &book.festivals {
            let home = all[usize::from(Home::Festival(*festival).shard(SHARDS).0)];
            let same = home.festivals.get(festival).is_some_and(|own| {
                let vendors = |page: &super::CashlessBook| -> Vec<_> {
                    page.vendors.iter().map(|vendor| (vendor.values.clone(), vendor.products.clone())).collect()
                };
                (own.policy, own.status) == (page.policy, page.status)
                    && own.terminals == page.terminals
                    && vendors(own) == vendors(page)
            });
            if !same {
                return breach("all shards know the same", format!("festival {festival} in shard {}", book.id.0));
            }
        }
    }
    let in_transit: i128 = all.iter().flat_map(|book| book.festivals.values()).map(|page| page.in_transit).sum();
    let reserved: i64 = all.iter().flat_map(|book| book.wallets.values()).map(|wallet| wallet.reserved).sum();
    if (in_transit, reserved) != (0, 0) {
        return breach("in_transit is zero at rest", format!("{in_transit} in transit, {reserved} reserved"));
    }
    super::tags::at_rest(all)
}

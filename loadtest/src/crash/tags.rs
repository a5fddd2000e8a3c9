//! An operator who moves wristbands from wallet to wallet while the server is killed and a terminal is tapped with them.
//!
//! Two wallets wear one each, one is free: the free one replaces the other wallet's in turn, so that each goes round. Now
//! and then one is reported lost and a new one comes in. What each named when is known to within the time of a call: a
//! payment must have come to a wallet that its wristband named at some moment between the question and the answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use engine::model::ids::{TagUid, WalletId};
use serde_json::{Value, json};

use super::journaled::MoneyBook;
use super::operators::Operator;
use crate::admin::Admin;
use crate::admin::bar::{Account, BarPlace, hex};
use crate::admin::replay::{Attempt, Said};
use crate::report::MoneyMetrics;
use crate::terminal::Tapped;

/// What each wallet has at first, in minor units: more than a terminal can take.
const FUNDS: i64 = 100_000_000_000;
/// Between two changes. While a terminal's connection is away, which takes up to two seconds, a tag moves more than eight
/// times: it remembers eight wallets for commands that are sent again, and moves between two are not more than two.
const PAUSE: Duration = Duration::from_millis(20);
/// One change in so many is a report of a loss, as long as there are new ones.
const LOST_ONE_IN: u64 = 24;
/// A tag whose place another one took is free as soon as its home has heard of it.
const FREE_WITHIN: Duration = Duration::from_secs(30);

/// What a tag names from some moment between the two on.
#[derive(Clone, Copy, Debug)]
struct Change {
    wallet: Option<WalletId>,
    asked_ns: u64,
    told_ns: u64,
}

/// The wallets and their wristbands, and what was done with them.
pub(super) struct Tags {
    /// With what they wear.
    wearers: [(WalletId, TagUid); 2],
    free: TagUid,
    fresh: Vec<TagUid>,
    named: HashMap<TagUid, Vec<Change>>,
    linked: HashMap<(TagUid, WalletId), u64>,
    lost: Vec<TagUid>,
    changes: u64,
    wrong: u64,
    notes: Vec<String>,
    last: Option<(Attempt, Said)>,
}

impl Tags {
    /// Two wallets, with money and a wristband each.
    ///
    /// # Errors
    /// The server refuses, or there are fewer than three tags.
    pub(super) fn prepare(
        admin: &Admin,
        bar: &BarPlace,
        wallets: [WalletId; 2],
        mut tags: Vec<TagUid>,
    ) -> anyhow::Result<Self> {
        ensure!(tags.len() >= 3, "two chips are worn, one is free");
        let fresh = tags.split_off(3);
        let mut this = Self {
            wearers: [(wallets[0], tags[0]), (wallets[1], tags[1])],
            free: tags[2],
            fresh,
            named: HashMap::new(),
            linked: HashMap::new(),
            lost: Vec::new(),
            changes: 0,
            wrong: 0,
            notes: Vec::new(),
            last: None,
        };
        for (wallet, tag) in this.wearers {
            admin.top_up(bar, wallet, FUNDS)?;
            let (path, body) = link(wallet, tag);
            let said = admin.insist(&admin.attempt(&path, &body))?.said;
            ensure!(said.refusal().is_none(), "{wallet} gets its first wristband: {said:?}");
            this.names(tag, Some(wallet), (0, 0));
            *this.linked.entry((tag, wallet)).or_default() += 1;
        }
        Ok(this)
    }

    fn names(&mut self, tag: TagUid, wallet: Option<WalletId>, (asked_ns, told_ns): (u64, u64)) {
        self.named.entry(tag).or_default().push(Change { wallet, asked_ns, told_ns });
    }

    /// One change after the other until the operator is to stop.
    ///
    /// # Errors
    /// The server is away too long, or refuses what it must do.
    pub(super) fn run(&mut self, operator: &mut Operator) -> anyhow::Result<()> {
        for nth in 0.. {
            if operator.is_to_stop() {
                break;
            }
            let at = nth as usize % 2;
            if nth % LOST_ONE_IN == LOST_ONE_IN - 1 && !self.fresh.is_empty() {
                self.report_lost(operator, at)?;
            } else {
                self.replace(operator, at)?;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn insist(&mut self, operator: &mut Operator, path: &str, body: &Value) -> anyhow::Result<(Said, (u64, u64))> {
        let attempt = operator.admin.attempt(path, body);
        let asked_ns = operator.context.ns();
        let (said, was_broken) = operator.insist(&attempt)?;
        let told_ns = operator.context.ns();
        if was_broken && let Some((before, answer)) = &self.last {
            let replay = operator.admin.insist(before)?.said;
            if replay != *answer {
                self.wrong += 1;
                self.notes.push(format!("a change of a wristband was answered {answer:?}, then {replay:?}"));
            }
        }
        if said.refusal().is_none() {
            self.last = Some((attempt, said.clone()));
        }
        Ok((said, (asked_ns, told_ns)))
    }

    /// The free wristband takes the place of the one that this wallet wears.
    fn replace(&mut self, operator: &mut Operator, at: usize) -> anyhow::Result<()> {
        let ((wallet, old), new) = (self.wearers[at], self.free);
        let (path, body) = link(wallet, new);
        let began = Instant::now();
        loop {
            let (said, when) = self.insist(operator, &path, &body)?;
            match said.refusal() {
                None => {
                    self.names(new, Some(wallet), when);
                    // One that was lost names nothing since then, and never will.
                    if self.lost.contains(&old) {
                        self.free = self.fresh.pop().context("a loss is reported while there are fresh chips")?;
                    } else {
                        self.names(old, None, when);
                        self.free = old;
                    }
                    self.wearers[at].1 = new;
                    *self.linked.entry((new, wallet)).or_default() += 1;
                    self.changes += 1;
                    return Ok(());
                }
                Some("tag_taken") if began.elapsed() < FREE_WITHIN => {}
                Some(refusal) => bail!("{new:?} in place of {old:?} for {wallet}: {refusal}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn report_lost(&mut self, operator: &mut Operator, at: usize) -> anyhow::Result<()> {
        let (wallet, tag) = self.wearers[at];
        let (said, when) = self.insist(operator, &format!("/cashless/wallets/{wallet}/tag/lost"), &json!({}))?;
        ensure!(said.refusal().is_none(), "{tag:?} of {wallet} is lost: {said:?}");
        self.names(tag, None, when);
        self.lost.push(tag);
        self.changes += 1;
        // The wallet gets another one at once: the next change is its neighbour's.
        self.replace(operator, at)
    }

    /// What the office put in.
    pub(super) fn funded(&self) -> i64 {
        FUNDS * self.wearers.len() as i64
    }

    fn could_pay(&self, tapped: &Tapped) -> bool {
        could_pay(self.named.get(&tapped.tag).map_or(&[][..], Vec::as_slice), tapped)
    }

    /// Each payment came to a wallet that its wristband named, and both hold what is left.
    ///
    /// # Errors
    /// The server does not show the wallets.
    pub(super) fn count(&mut self, admin: &Admin, tapped: &[Tapped], metrics: &mut MoneyMetrics) -> anyhow::Result<()> {
        // A refund names its payment, whatever the wristband does.
        for tap in tapped.iter().filter(|tap| tap.amount > 0) {
            metrics.taps += 1;
            if !self.could_pay(tap) {
                self.wrong += 1;
                self.notes.push(format!("{tap:?}, and the wristband named {:?}", self.named.get(&tap.tag)));
            }
        }
        for (wallet, _) in self.wearers {
            let spent: i64 = tapped.iter().filter(|tap| tap.wallet == wallet).map(|tap| tap.amount).sum();
            let account = admin.account(wallet)?;
            metrics.balances_checked += 1;
            if account != (Account { balance: FUNDS - spent, reserved: 0 }) {
                metrics.balances_wrong += 1;
                self.notes.push(format!("{wallet} has {account:?} at the end, and has spent {spent} of {FUNDS}"));
            }
        }
        Ok(())
    }

    /// Each acknowledged change is in the journal once, and no other is.
    pub(super) fn compare(self, book: &MoneyBook, metrics: &mut MoneyMetrics, notes: &mut Vec<String>) {
        metrics.tag_changes += self.changes;
        metrics.tags_lost += self.lost.len() as u64;
        metrics.wrong += self.wrong;
        notes.extend(self.notes);
        let mut held = |what: String, told: u64, journaled: u64| {
            metrics.lost += told.saturating_sub(journaled);
            metrics.doubled += journaled.saturating_sub(told);
            if told != journaled {
                notes.push(format!("{what}: {told} times acknowledged, {journaled} times in the journal"));
            }
        };
        let all = |tag: &TagUid| self.named.contains_key(tag);
        for ((tag, wallet), told) in &self.linked {
            held(format!("{tag:?} to {wallet}"), *told, book.linked.get(&(*tag, *wallet)).copied().unwrap_or(0));
        }
        let told_of = |link: &(TagUid, WalletId)| self.linked.contains_key(link);
        for ((tag, wallet), count) in book.linked.iter().filter(|(link, _)| all(&link.0) && !told_of(link)) {
            held(format!("{tag:?} to {wallet}"), 0, *count);
        }
        for tag in self.named.keys() {
            let told = u64::from(self.lost.contains(tag));
            held(format!("{tag:?} lost"), told, book.reported.get(tag).copied().unwrap_or(0));
        }
    }
}

fn link(wallet: WalletId, tag: TagUid) -> (String, Value) {
    (format!("/cashless/wallets/{wallet}/tag"), json!({ "tag": hex(&tag), "replace": true }))
}

/// Whether a wristband of which this became named the payment's wallet at some moment between the question and the
/// answer.
fn could_pay(changes: &[Change], tapped: &Tapped) -> bool {
    changes.iter().enumerate().any(|(nth, change)| {
        let until_ns = changes.get(nth + 1).map_or(u64::MAX, |next| next.told_ns);
        change.wallet == Some(tapped.wallet) && change.asked_ns <= tapped.told_ns && tapped.asked_ns <= until_ns
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wallet_that_was_named_meanwhile_can_have_paid() {
        let tag = TagUid::new(&[4, 1, 2, 3]).unwrap();
        let (one, other) = (WalletId(1), WalletId(2));
        let change = |wallet, asked_ns, told_ns| Change { wallet, asked_ns, told_ns };
        let changes = [change(Some(one), 10, 20), change(None, 30, 40), change(Some(other), 50, 60)];
        for (what, wallet, asked_ns, told_ns, could) in [
            ("before it was asked for", one, 1, 9, false),
            ("while it was asked for", one, 1, 10, true),
            ("while it was worn", one, 22, 23, true),
            ("while it was replaced", one, 40, 41, true),
            ("after it was replaced", one, 41, 45, false),
            ("not yet the other's", other, 41, 49, false),
            ("the other's", other, 61, 62, true),
            ("asked when it was the first one's", one, 25, 99, true),
            ("nobody's at all", WalletId(3), 1, 99, false),
        ] {
            let tapped = Tapped { seq: 1, tag, wallet, amount: 1, asked_ns, told_ns };
            assert_eq!(could_pay(&changes, &tapped), could, "{what}");
        }
    }
}

//! What leaves the node about money, judged the moment it leaves.

use std::collections::BTreeSet;

use actors::TerminalReply;
use engine::cashless::command::{CashlessAction, CashlessVerdict};
use engine::cashless::tag::EARLIER_MAX;
use engine::cashless::view::TAP_SLACK_MS;
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::gates::command::ByHand;
use engine::model::ids::DeviceId;
use engine::model::ids::Home;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;

use crate::sim::books::money::MoneyBook;
use crate::sim::disk::SHARDS;
use crate::sim::terminal::Ask;
use crate::sim::world::World;
use crate::sim::{Check, breach};

impl World {
    /// A terminal is told something.
    pub(super) fn judge_terminal(&self, shard: usize, device: DeviceId, reply: &TerminalReply) -> Check {
        let ledger = &self.ledgers[shard];
        let (books, decided) = (&ledger.books.money, &ledger.ahead.money);
        let (seq, answer) = (reply.seq, &reply.answer);
        let said = || format!("{device} seq {seq}: {answer:?}");
        if answer.verdict == CashlessVerdict::Balance {
            return match books.had(answer, ledger.books.seq) {
                true => Ok(()),
                false => breach("no reply shows state beyond the durable position", said()),
            };
        }
        if let Some(recorded) = books.answers.get(&(device, seq)) {
            let terminal = self.terminals.iter().find(|terminal| terminal.id == device);
            let ask = terminal.and_then(|terminal| terminal.asked(seq));
            let asked_anew = matches!(ask, Some(Ask::Balance { .. }));
            let stale = answer.verdict == CashlessVerdict::Rejected(Rejection::StaleSeq) && seq < decided.floor(device);
            // Asked by an older link, before it was asked by the present one in the same record.
            let moved = answer.verdict == CashlessVerdict::Rejected(Rejection::TagMoved) && recorded.at == answer.at;
            if recorded != answer && !asked_anew && !stale && !moved {
                return breach("same id, same answer", format!("{}, in the books {recorded:?}", said()));
            }
            let end = terminal.map_or(Timestamp(0), |terminal| terminal.end_of(seq));
            let is_over = end != Timestamp(0) && answer.at > end;
            match answer.verdict {
                CashlessVerdict::Paid | CashlessVerdict::ToppedUp if is_over => {
                    return breach("what comes too late is not done", said());
                }
                CashlessVerdict::Rejected(Rejection::Expired) if !is_over => {
                    return breach("only what comes too late has expired", said());
                }
                CashlessVerdict::Paid | CashlessVerdict::ToppedUp => self.judge_tap(shard, device, seq)?,
                _ => {}
            }
            return self.judge_refusal(shard, device, ask, reply);
        }
        let CashlessVerdict::Rejected(why) = answer.verdict else {
            return breach("nothing is acknowledged before it is durable", said());
        };
        let fine = match why {
            Rejection::TagMoved => true,
            Rejection::StaleSeq => seq < decided.floor(device),
            Rejection::DeviceRevoked => self.is_balance(device, seq) && books.has_revoked(device),
            why => self.is_balance(device, seq) && why != Rejection::UnknownDevice,
        };
        if fine { Ok(()) } else { breach("nothing is acknowledged before it is durable", said()) }
    }

    /// Money has moved by a wristband: by a link that there was when it was held to the terminal.
    fn judge_tap(&self, shard: usize, device: DeviceId, seq: u64) -> Check {
        let Some((tag, version)) = self.ledgers[shard].ahead.money.taps.get(&(device, seq)).copied() else {
            return Ok(());
        };
        let terminal = self.terminals.iter().find(|terminal| terminal.id == device);
        let captured_at = terminal.map_or(Timestamp(0), |terminal| terminal.captured_at(seq));
        let home = usize::from(Home::Tag(tag).shard(SHARDS).0);
        let link = self.ledgers[home].ahead.money.links.get(&(tag, version));
        match link {
            Some((_, began)) if began.since_ms(captured_at) <= TAP_SLACK_MS => Ok(()),
            _ => {
                let what =
                    format!("{device} seq {seq}: tapped at {captured_at:?}, by link {version} of {tag:?}: {link:?}");
                breach("a wristband pays what it named when it was tapped", what)
            }
        }
    }

    /// A terminal is told no by the gateway, or that its wristband has moved on once more: nobody has decided that number,
    /// and nobody will, or it is said that nobody knows.
    pub(in crate::sim) fn judge_refused(&mut self, device: DeviceId, seq: u64, why: Rejection) -> Check {
        let number = (device, seq);
        let recorded = |book: &MoneyBook| book.answers.get(&number).is_some_and(|answer| answer.serial > 0);
        let taken = self.ledgers.iter().any(|ledger| recorded(&ledger.ahead.money));
        self.counts.resolved(match why {
            Rejection::TagMoved => "tag_moved",
            Rejection::OutcomeUnknown if taken => "outcome_unknown_taken",
            Rejection::OutcomeUnknown => "outcome_unknown",
            Rejection::UnknownTag => "unknown_tag",
            Rejection::TagLost => "tag_lost",
            _ => return breach("the gateway decides nothing", format!("{device} seq {seq}: {why:?}")),
        });
        if why == Rejection::OutcomeUnknown {
            let terminal = self.terminals.iter().find(|terminal| terminal.id == device);
            let tag = terminal.and_then(|terminal| terminal.asked(seq)).and_then(Ask::tag);
            let links = self.ledgers.iter().flat_map(|ledger| &ledger.ahead.money.links);
            let named: BTreeSet<_> = links.filter(|((of, _), _)| Some(*of) == tag).map(|(_, (w, _))| *w).collect();
            return match named.len() > EARLIER_MAX {
                true => Ok(()),
                false => breach("only what is forgotten is unknown", format!("{device} seq {seq}: {tag:?}, {named:?}")),
            };
        }
        match taken {
            true => breach("nobody is told no of what was taken", format!("{device} seq {seq}: {why:?}")),
            false => Ok(()),
        }
    }

    /// Somebody has used a number of a terminal's for another question: never its answer, never a new one.
    pub(super) fn judge_thief(&self, device: DeviceId, reply: &TerminalReply) -> Check {
        match reply.answer.verdict {
            CashlessVerdict::Rejected(Rejection::IdempotencyConflict | Rejection::StaleSeq) => Ok(()),
            _ => breach("same id with other content: conflict", format!("{device}: {reply:?}")),
        }
    }

    fn is_balance(&self, device: DeviceId, seq: u64) -> bool {
        let terminal = self.terminals.iter().find(|terminal| terminal.id == device);
        terminal.is_some_and(|terminal| matches!(terminal.asked(seq), Some(Ask::Balance { .. })))
    }

    /// Whether a refund was refused with reason: what was left of a payment never grows.
    fn judge_refusal(&self, shard: usize, device: DeviceId, ask: Option<&Ask>, reply: &TerminalReply) -> Check {
        let (Some(Ask::Refund { payment, amount, lines }), CashlessVerdict::Rejected(why)) =
            (ask, reply.answer.verdict)
        else {
            return Ok(());
        };
        let books = &self.ledgers[shard].books.money;
        if why == Rejection::DeviceRevoked && books.has_revoked(device) {
            return Ok(());
        }
        let (festival, vendor) = (device.festival(), books.vendor_of(device));
        let amount = amount.map(|amount| amount.minor);
        let of_products = !lines.is_empty() && books.refuses_products(payment.serial, amount, lines, why);
        let refused = books.refuses_refund(*payment, festival, Some(vendor), amount, why);
        if why == Rejection::StaleSeq || of_products || refused {
            return Ok(());
        }
        breach("money is decided by the table", format!("{device} seq {}: {ask:?} is refused: {why:?}", reply.seq))
    }

    /// The office is told that it has to wait: only while that is so.
    pub(super) fn judge_still_pending(&self, shard: usize, command: &AdminCommand) -> Check {
        let (Some(key), action) = (command.key, &command.action) else { return Ok(()) };
        let transfer = matches!(
            action,
            AdminAction::BindTag { .. }
                | AdminAction::ReportTicketTagLost { .. }
                | AdminAction::Cashless(
                    CashlessAction::Transfer { .. }
                        | CashlessAction::Merge { .. }
                        | CashlessAction::LinkTag { .. }
                        | CashlessAction::ReportLost { .. }
                        | CashlessAction::ReportTagLost { .. }
                )
        );
        let over = transfer && self.ledgers[shard].books.outcome_of(key.id).is_some();
        if over {
            return breach("whoever waits is told when it is over", format!("{command:?}"));
        }
        if transfer || spreads(action) {
            return Ok(());
        }
        breach("only what needs another shard waits for it", format!("{command:?}"))
    }

    /// An answer that everybody was to hear of first: everybody has, and durably.
    pub(super) fn judge_spread(&self, shard: usize, command: &AdminCommand, answer: AdminAnswer) -> Check {
        if matches!(answer, AdminAnswer::Rejected(_)) || !spreads(&command.action) {
            return Ok(());
        }
        let told = command.key.map_or(&[][..], |key| self.ledgers[shard].books.told_for(key.id));
        for (to, n) in told {
            let received = self.ledgers[usize::from(to.0)].books.money.posts[shard].received;
            if received < *n {
                let what = format!("{command:?}: shard {} has {received}, it was told so in {n}", to.0);
                return breach("an answer about everybody waits until everybody knows", what);
            }
        }
        let AdminAction::RevokeDevice { device } = command.action else { return Ok(()) };
        let is_terminal = self.ledgers[shard].books.money.terminal(device).is_some();
        let all = self.ledgers.iter().all(|ledger| ledger.books.money.has_revoked(device));
        if all || !is_terminal {
            return Ok(());
        }
        breach("an answer about everybody waits until everybody knows", format!("{device} is not revoked everywhere"))
    }

    /// What the office is told of money is what it asked for.
    pub(super) fn judge_bank(&self, shard: usize, command: &AdminCommand, answer: AdminAnswer) -> Check {
        let AdminAction::Cashless(action) = &command.action else { return Ok(()) };
        let wrong = || format!("{command:?}: {answer:?}");
        let right = match (action, answer) {
            (
                CashlessAction::TopUp { wallet, amount, .. }
                | CashlessAction::Pay { wallet, amount, .. }
                | CashlessAction::Transfer { from: wallet, amount, .. },
                AdminAnswer::Transaction { id, amount: moved, .. },
            ) => id.wallet == *wallet && moved == *amount,
            (CashlessAction::Merge { from, .. }, AdminAnswer::Transaction { id, .. }) => id.wallet == *from,
            (CashlessAction::Correct { wallet, delta, .. }, AdminAnswer::Transaction { id, amount, .. }) => {
                id.wallet == *wallet && amount == *delta
            }
            (CashlessAction::Refund { payment, amount, .. }, AdminAnswer::Transaction { id, amount: moved, .. }) => {
                id.wallet == payment.wallet && amount.is_none_or(|amount| amount == moved)
            }
            (CashlessAction::Refund { payment, festival, amount, .. }, AdminAnswer::Rejected(why)) => {
                let (books, amount) = (&self.ledgers[shard].books.money, amount.map(|amount| amount.minor));
                books.refuses_refund(*payment, *festival, None, amount, why)
            }
            // What is left then is gifts, as the books have judged.
            (CashlessAction::CashOut { wallet, .. }, AdminAnswer::Transaction { id, balance, .. }) => {
                id.wallet == *wallet && balance >= 0
            }
            (
                CashlessAction::Block { .. } | CashlessAction::ReportLost { .. } | CashlessAction::ReportTagLost { .. },
                AdminAnswer::Done,
            ) => true,
            (CashlessAction::SetPolicy { .. }, AdminAnswer::Done) => true,
            (
                CashlessAction::LinkTag { wallet, .. } | CashlessAction::Claim { wallet, .. },
                AdminAnswer::Wallet(found),
            ) => found == *wallet,
            (_, AdminAnswer::Rejected(_) | AdminAnswer::Vendor(_) | AdminAnswer::Product(_)) => true,
            (CashlessAction::OfferTerminal { .. }, AdminAnswer::CodeUntil(_)) => true,
            _ => false,
        };
        if right { Ok(()) } else { breach("the office is told of what it asked", wrong()) }
    }

    /// Everything that terminals ever heard is in the books, and what is in the books they have heard so.
    pub(in crate::sim) fn terminals_heard_the_books(&self) -> Check {
        for terminal in &self.terminals {
            for (seq, ask, answer) in terminal.answers() {
                let number = (terminal.id, seq);
                let recorded = self.ledgers.iter().filter_map(|ledger| ledger.books.money.answers.get(&number));
                let moved: Vec<_> = recorded.clone().filter(|recorded| recorded.serial > 0).collect();
                let known = recorded.clone().any(|recorded| recorded == answer);
                if moved.len() > 1 {
                    return breach(
                        "every command happens once",
                        format!("{} seq {seq}: {ask:?}: {moved:?}", terminal.id),
                    );
                }
                // Nobody says that it was taken, or that it was not.
                let unknown = answer.verdict == CashlessVerdict::Rejected(Rejection::OutcomeUnknown);
                let otherwise = moved.iter().any(|moved| *moved != answer) && !unknown;
                if otherwise || (answer.serial > 0 && !known) {
                    let what = format!("{} seq {seq}: {ask:?} was told {answer:?}, moved {moved:?}", terminal.id);
                    return breach("every acknowledged command is in the fold", what);
                }
            }
        }
        Ok(())
    }
}

/// Whether all shards are to hear of it.
pub(super) fn spreads(action: &AdminAction) -> bool {
    matches!(
        action,
        AdminAction::RevokeDevice { .. }
            | AdminAction::EnrolDevice { .. }
            | AdminAction::SetFestivalStatus { .. }
            | AdminAction::ByHand(ByHand::Complete { .. } | ByHand::Reopen { .. } | ByHand::ReadmitDevice { .. })
            | AdminAction::Cashless(
                CashlessAction::SetPolicy { .. } | CashlessAction::PutVendor { .. } | CashlessAction::PutProduct { .. }
            )
    )
}

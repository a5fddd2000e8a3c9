//! What leaves the node, judged the moment it leaves: against the books of what is durable, and of what is decided.

use actors::DeviceReply;
use actors::pipeline::Effect;
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::gates::command::{DeviceAnswer, Verdict};
use engine::model::ids::DeviceId;
use engine::model::rejection::Rejection;
use engine::model::status::ScanAck;
use engine::shard::dedupe::KEY_KEPT_MS;
use engine::view::Query;

use super::net::Packet;
use super::world::{Asker, CLOCK_OFF_MS_MAX, World};
use super::{Check, breach};

mod money;

impl World {
    /// Judges what a shard releases, and sends it on its way.
    pub(super) fn release(&mut self, shard: usize, releases: Vec<Effect<Asker>>) -> Check {
        for release in releases {
            match (release, &self.life) {
                (Effect::Device { to: Asker::Device { device, connection, probe }, replies }, &life) => {
                    for reply in &replies {
                        self.judge_reply(shard, device, reply, probe)?;
                    }
                    if !probe {
                        self.send(Packet::Replies { device, connection, life, replies });
                    }
                }
                (Effect::Confirmed { to: Asker::Device { device, connection, probe }, seqs }, &life) => {
                    for &seq in &seqs {
                        self.judge_confirmation(shard, device, seq)?;
                    }
                    if !probe {
                        self.send(Packet::Confirmed { device, connection, life, seqs });
                    }
                }
                (Effect::Admin { to: Asker::Admin { number, command, probe }, answer, .. }, _) => {
                    self.judge_admin(shard, &command, answer, probe)?;
                    if !probe {
                        self.send(Packet::Told { number, answer });
                    }
                }
                (Effect::Admin { to: Asker::Welcome { device, connection }, .. }, _) => {
                    self.welcomed(device, connection);
                }
                (Effect::Admin { to: Asker::Setup, answer, .. }, _) => self.set_up = Some(answer),
                (Effect::View { to: Asker::Query(query), view }, _) => {
                    self.counts.views += 1;
                    self.ledgers[shard].books.shows(&query, &view)?;
                }
                (Effect::View { to: Asker::Resolve(number), view }, _) => {
                    if let Some(tag) = self.tag_of(number) {
                        self.ledgers[shard].books.shows(&Query::Tag(tag), &view)?;
                    }
                    self.resolved(number, &view)?;
                }
                (Effect::Terminal { to: Asker::Terminal { device, connection }, replies }, _) => {
                    for reply in &replies {
                        self.judge_terminal(shard, device, reply)?;
                    }
                    self.terminal_answered(device, connection, replies)?;
                }
                (Effect::Terminal { to: Asker::Tap { number, device }, replies }, _) => {
                    for reply in &replies {
                        self.judge_terminal(shard, device, reply)?;
                        self.candidate_answered(number, reply)?;
                    }
                }
                (Effect::Terminal { to: Asker::Thief { device }, replies }, _) => {
                    for reply in &replies {
                        self.judge_thief(device, reply)?;
                    }
                }
                (Effect::Send { to, through }, _) => self.may_send(shard, to, through)?,
                (Effect::Ack { to, through }, _) => self.acknowledge(shard, to, through)?,
                (Effect::Notice(_), _) => {}
                (other, _) => return breach("answers go to whoever asked", format!("{other:?}")),
            }
        }
        Ok(())
    }

    fn judge_reply(&mut self, shard: usize, device: DeviceId, reply: &DeviceReply, probe: bool) -> Check {
        let ledger = &self.ledgers[shard];
        let (durable, decided) = (&ledger.books, &ledger.ahead);
        let said = |answer: &DeviceAnswer| format!("{device} seq {}: {answer:?}", reply.seq);
        let refused = |rejection| reply.answer.verdict == Verdict::Rejected(rejection);
        if probe {
            // The number of another question: never its answer, never a new one.
            if refused(Rejection::IdempotencyConflict) || refused(Rejection::StaleSeq) {
                return Ok(());
            }
            return breach("same id with other content: conflict", said(&reply.answer));
        }
        if refused(Rejection::StaleSeq) {
            let floor = decided.device(device).map_or(0, |device| device.floor);
            // The device's own floor may be in the same frame; then it is below that, and the device knows.
            let known = decided.answer_of(device, reply.seq).is_some() || reply.seq < floor;
            let skipped = self.readers.iter().any(|reader| reader.id == device && reply.seq < reader.floor());
            if known || skipped {
                return Ok(());
            }
            return breach("forgetting is never mistaken", said(&reply.answer));
        }
        if refused(Rejection::WindowFull)
            || refused(Rejection::IdempotencyConflict)
            || refused(Rejection::UnknownDevice)
        {
            return breach("a device that keeps the protocol is answered", said(&reply.answer));
        }
        let books = if reply.durable { durable } else { decided };
        match books.answer_of(device, reply.seq) {
            Some(answer) if answer == reply.answer => {}
            Some(answer) => {
                return breach("same id, same answer", format!("{}, in the books {answer:?}", said(&reply.answer)));
            }
            None => return breach("nothing is acknowledged before it is durable", said(&reply.answer)),
        }
        self.judge_window(shard, device, &reply.answer)?;
        if !reply.durable {
            let page = &decided.festivals[&device.festival()];
            if page.policy.ack != ScanAck::Decided {
                return breach("nothing is acknowledged before it is durable", said(&reply.answer));
            }
            self.counts.early += 1;
        }
        Ok(())
    }

    /// While the node's clock is right, no ticket is over before it is, however the machine's clock jumps, and no answer is
    /// from tomorrow.
    fn judge_window(&self, shard: usize, device: DeviceId, answer: &DeviceAnswer) -> Check {
        let latest = self.true_ms + CLOCK_OFF_MS_MAX;
        if !self.on_time {
            return Ok(());
        }
        if answer.at.0 > latest {
            return breach("no answer is from tomorrow", format!("{device}: {answer:?} at {}", self.true_ms));
        }
        let (Verdict::Rejected(Rejection::NoLongerValid), Some(ticket)) = (answer.verdict, answer.ticket) else {
            return Ok(());
        };
        let page = &self.ledgers[shard].ahead.festivals[&device.festival()];
        let until = page.categories[usize::from(ticket.category().0)].values.valid_until;
        if until.0 > latest {
            return breach("a ticket is valid until it ends", format!("{device}: {answer:?} at {}", self.true_ms));
        }
        Ok(())
    }

    fn judge_confirmation(&self, shard: usize, device: DeviceId, seq: u64) -> Check {
        let books = &self.ledgers[shard].books;
        let below = books.device(device).is_some_and(|device| seq < device.floor);
        if below || books.answer_of(device, seq).is_some() {
            return Ok(());
        }
        breach("nothing is acknowledged before it is durable", format!("{device} seq {seq} confirmed"))
    }

    fn judge_admin(&mut self, shard: usize, command: &AdminCommand, answer: AdminAnswer, probe: bool) -> Check {
        if answer == AdminAnswer::Rejected(Rejection::StillPending) {
            return self.judge_still_pending(shard, command);
        }
        if !probe && answer == AdminAnswer::Rejected(Rejection::Busy) {
            let waits =
                matches!(command.action, AdminAction::Cashless(_)) && self.ledgers[shard].ahead.money.was_held();
            return if waits { Ok(()) } else { breach("only a currency is waited for", format!("{command:?}")) };
        }
        if !probe {
            self.judge_spread(shard, command, answer)?;
        }
        let ledger = &mut self.ledgers[shard];
        let books = &ledger.books;
        let Some(key) = command.key else { return Ok(()) };
        if answer == AdminAnswer::Rejected(Rejection::IdempotencyKeyExpired) {
            // By the time of what is durable: a clock that is wrong for a moment makes nothing old.
            let age = key.made_at.map(|made| books.at.since_ms(made));
            if age.is_some_and(|age| age > KEY_KEPT_MS) {
                ledger.too_old.insert(key.id);
                return Ok(());
            }
            return breach("forgetting is never mistaken", format!("key {:x} is {age:?} ms old: {answer:?}", key.id));
        }
        // What has waited for other shards since before the key was too old, was decided before.
        if ledger.too_old.contains(&key.id) && !probe && !money::spreads(&command.action) {
            return breach("same id, same answer", format!("key {:x} was too old, then {answer:?}", key.id));
        }
        if probe {
            if answer == AdminAnswer::Rejected(Rejection::IdempotencyConflict) {
                return Ok(());
            }
            return breach("same id with other content: conflict", format!("{command:?}: {answer:?}"));
        }
        match books.outcome_of(key.id) {
            Some(outcome) if outcome == answer => self.judge_bank(shard, command, answer),
            Some(outcome) => breach("same id, same answer", format!("key {:x}: {outcome:?}, then {answer:?}", key.id)),
            None => breach("nothing is acknowledged before it is durable", format!("{command:?}: {answer:?}")),
        }
    }
}

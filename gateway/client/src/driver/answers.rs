//! What the server says to a device, and what becomes of the command that it was about.

use std::time::Duration;

use engine::cashless::command::{CashlessVerdict, TerminalAnswer};
use engine::gates::command::{DeviceAnswer, Verdict};
use engine::model::ids::WalletId;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use tapgate_wire::{Frame, Notice, RecentRow, RecentRows, Refund, WireError};
use tokio::time::Instant;

use super::{ANSWER_WITHIN, Driver};
use crate::ask::Request;
use crate::late::LateAnswer;
use crate::{Answered, BACKOFF_MAX, ClientError, Event, Told};

impl Driver {
    pub(super) fn receive(&mut self, frame: &Frame<'_>) -> Result<(), ClientError> {
        match *frame {
            Frame::Answer { seq, answer, durable } => {
                self.answered(seq, answer, durable);
                Ok(())
            }
            Frame::CashlessAnswer { seq, answer } => {
                self.complete(seq, answer);
                Ok(())
            }
            Frame::Confirmed(ranges) => {
                for seq in ranges.iter().flat_map(|range| range.seqs()) {
                    // Only what was shown can be confirmed.
                    if self.pending.get(&seq).is_some_and(|pending| pending.kept.shown.is_some()) {
                        self.settle(seq);
                        let _ = self.events.send(Event::Confirmed(seq));
                    }
                }
                Ok(())
            }
            Frame::RecentRows(answer) => {
                if let Some((lately, _)) = self.listing.get_mut(&answer.ask) {
                    (lately.at, lately.behind) = (answer.at, answer.behind);
                    lately.rows.extend(answer.rows.iter().filter_map(RecentRow::read));
                    if answer.is_last {
                        self.listed(answer.ask, answer.behind != RecentRows::REBUILDING);
                    }
                }
                Ok(())
            }
            Frame::Busy { seq, .. } if self.listing.contains_key(&seq) => {
                self.listed(seq, false);
                Ok(())
            }
            Frame::Busy { seq, rejection, retry_after_ms } => {
                self.put_off(seq, rejection);
                self.again_in(seq, retry_after_ms);
                Ok(())
            }
            Frame::Notice(notice) => {
                match notice {
                    Notice::SlowDown { retry_after_ms } => {
                        self.paused_until = Some(Instant::now() + Duration::from_millis(u64::from(retry_after_ms)));
                    }
                    Notice::Closing { retry_after_ms } => {
                        self.come_again = Duration::from_millis(u64::from(retry_after_ms));
                    }
                    // How answers leave, each of them says for itself.
                    Notice::Zone { .. } | Notice::DeviceRevoked | Notice::PolicyChanged => {}
                }
                let _ = self.events.send(Event::Notice(notice));
                Ok(())
            }
            Frame::Refuse { refusal, retry_after_ms, .. } => Err(ClientError::Refused { refusal, retry_after_ms }),
            _ => Err(ClientError::Server(WireError::Kind(frame.to_bytes()[2]))),
        }
    }

    fn answered(&mut self, seq: u64, answer: DeviceAnswer, durable: bool) {
        if let Verdict::Rejected(Rejection::Busy | Rejection::Unavailable) = answer.verdict {
            self.put_off(seq, Rejection::Unavailable);
            return self.again_in(seq, 100);
        }
        let Some(pending) = self.pending.get_mut(&seq) else { return }; // Answered twice: the first one stood.
        if std::mem::take(&mut pending.in_flight) {
            self.in_flight -= 1;
        }
        let answered = Answered { seq, answer, durable };
        let was_shown = pending.kept.shown.is_some();
        let waited = pending.reply.take().is_some_and(|reply| reply.answered(answered));
        if !waited && !was_shown {
            self.untold.notify(&self.events, LateAnswer::Scan(answered));
        }
        if durable {
            return self.settle(seq);
        }
        pending.kept.shown = Some(answer.verdict);
        if let Err(error) = self.queue.shown(seq, answer.verdict) {
            tracing::warn!(%error, "the queue's file does not take what was shown");
        }
    }

    fn listed(&mut self, ask: u64, there_are_lists: bool) {
        let Some((lately, reply)) = self.listing.remove(&ask) else { return };
        let _ = reply.send(if there_are_lists { Ok(lately) } else { Err(ClientError::NoLists) });
    }

    /// A terminal's answer is final, unless it says that nothing could be done just now.
    fn complete(&mut self, seq: u64, answer: TerminalAnswer) {
        if let CashlessVerdict::Rejected(Rejection::Busy | Rejection::Unavailable) = answer.verdict {
            return self.again_in(seq, 100);
        }
        self.end_of(seq, answer);
    }

    /// What was never sent and whose time is over has not happened and will not: nobody else knows of it.
    pub(super) fn expire(&mut self) {
        let now = self.server_time();
        while let Some(&(end, seq)) = self.ends.first()
            && end < now
        {
            self.ends.pop_first();
            if self.pending.get(&seq).is_some_and(|pending| !pending.was_sent) {
                self.end_of(seq, TerminalAnswer::rejected(Rejection::Expired, WalletId(0), now));
            }
        }
    }

    /// The last word about a terminal's command: to whoever waits for it, else to all that listen.
    fn end_of(&mut self, seq: u64, answer: TerminalAnswer) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        let told = Told { seq, answer };
        let waited = pending.reply.take().is_some_and(|reply| reply.complete(told));
        if !waited && answer.verdict != CashlessVerdict::Balance {
            let wanted_back = pending.kept.give_back && answer.verdict == CashlessVerdict::Paid;
            let given_back = if wanted_back { self.give_back(&told) } else { None };
            self.untold.notify(&self.events, LateAnswer::Cashless { told, given_back });
        }
        self.settle(seq);
    }

    /// Nobody wants this payment any more. Its refund is in the queue before the payment leaves it; if a crash comes in
    /// between, the payment is told late once more, and finds its refund there, or given back.
    fn give_back(&mut self, told: &Told) -> Option<u64> {
        let payment = told.transaction()?;
        let is_it = |frame: &[u8]| matches!(tapgate_wire::decode(frame), Ok(Some((Frame::Refund(refund), _))) if refund.payment == payment);
        if let Some((seq, _)) = self.pending.iter().find(|(_, pending)| is_it(&pending.kept.frame)) {
            return Some(*seq);
        }
        let frame = |seq| {
            Frame::Refund(Refund { seq, floor: seq, payment, amount: None, lines: &[], resent: false }).to_bytes()
        };
        let wanted = Request { kept: true, ..Request::default() };
        match self.number(frame, wanted, Timestamp(0)) {
            Ok(seq) => Some(seq),
            Err(error) => {
                tracing::warn!(%error, %payment, "a payment that nobody waits for cannot be given back");
                None
            }
        }
    }

    /// Answered for good.
    pub(super) fn settle(&mut self, seq: u64) {
        let Some(pending) = self.pending.remove(&seq) else { return };
        if pending.in_flight {
            self.in_flight -= 1;
        }
        self.unsent.remove(&seq);
        self.ends.remove(&(pending.expires_at, seq));
        let done = self.queue.done(seq).and_then(|()| {
            if !self.queue.wants_compacting() {
                return Ok(());
            }
            let kept = self.pending.iter().map(|(&seq, pending)| (seq, pending.kept.clone())).collect();
            self.queue.compact(&kept)
        });
        if let Err(error) = done {
            // After a restart it would be sent once more, and get the same answer once more.
            tracing::warn!(%error, "the queue's file does not take an answer");
        }
    }

    /// The server cannot answer this one now; whoever stands there is to know.
    fn put_off(&mut self, seq: u64, why: Rejection) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        if why == Rejection::InDoubt {
            pending.unsure = true;
            // It may have been answered once, and is to be confirmed.
            self.in_flight += usize::from(!std::mem::replace(&mut pending.in_flight, true));
        }
        let down = matches!(why, Rejection::InDoubt | Rejection::Unavailable);
        if down && !std::mem::replace(&mut pending.put_off, true) {
            let _ = self.events.send(Event::PutOff { seq, why });
        }
    }

    /// No answer came, and the connection stands: the same frame again.
    pub(super) fn ask_again_what_is_late(&mut self) {
        let now = Instant::now();
        for (&seq, pending) in &mut self.pending {
            let late = pending.sent_at.is_some_and(|at| now.duration_since(at) >= ANSWER_WITHIN);
            if pending.in_flight && late {
                pending.in_flight = false;
                pending.unsure = true;
                self.in_flight -= 1;
                self.unsent.insert(seq);
            }
        }
    }

    /// The same frame under the same number, a little later.
    fn again_in(&mut self, seq: u64, retry_after_ms: u32) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        // It may have been decided when it was sent on an older connection, but not now.
        pending.was_sent = pending.unsure;
        if std::mem::take(&mut pending.in_flight) {
            self.in_flight -= 1;
            let wait = Duration::from_millis(u64::from(retry_after_ms)).min(BACKOFF_MAX);
            self.later.insert((Instant::now() + wait, seq));
        }
    }
}

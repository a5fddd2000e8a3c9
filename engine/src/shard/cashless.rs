//! How money's commands go through a shard: terminals', the office's, other shards'.

use crate::cashless::command::{CashlessAction, TerminalAction, TerminalAnswer, TerminalCommand};
use crate::cashless::event::{CashlessEvent, Transaction};
use crate::cashless::operations::{AskedBy, Asker};
use crate::cashless::{LAPSE_MAX, entry_of};
use crate::command::{AdminAction, AdminAnswer, Answer};
use crate::event::{Event, Origin};
use crate::gates::command::ByHand;
use crate::gates::event::{ByDevice, DoneByHand};
use crate::model::ids::{Home, ShardId};
use crate::model::rejection::Rejection;
use crate::model::status::FestivalStatus;
use crate::model::time::Timestamp;
use crate::plants::{Plant, planted};
use crate::record::Writer;
use crate::shard::dedupe::Seen;
use crate::shard::outbox::{DELIVER_MAX, Entry, Message, OPS_MAX, TagTarget};
use crate::shard::{Hold, Shard, Step};

impl Shard {
    pub(super) fn terminal(&mut self, command: &TerminalCommand, now: Timestamp, writer: &mut Writer<'_>) -> Answer {
        let (device, seq) = (command.device, command.seq);
        let reply = |answer, repeated| Answer::Terminal { device, seq, answer, repeated };
        let wallet = command.action.wallet();
        if let TerminalAction::Balance { wallet, tap } = &command.action {
            return reply(self.cashless.balance(device, *wallet, tap.as_ref(), now), false);
        }
        let Some((_, terminal)) = self.cashless.directory.terminal(device) else {
            return reply(TerminalAnswer::rejected(Rejection::UnknownDevice, wallet, now), false);
        };
        let fingerprint = fingerprint(&command.action);
        match terminal.window.look_up(seq, command.floor, fingerprint) {
            Seen::New => {}
            Seen::Answered(answer) => return reply(answer, true),
            Seen::Refused(rejection) => return reply(TerminalAnswer::rejected(rejection, wallet, now), false),
        }
        let by = ByDevice { device, seq, floor: terminal.window.floor().max(command.floor), fingerprint };
        match self.cashless.decide_terminal(by, command, self.number_of_order(), now) {
            Ok(transaction) => {
                self.cashless.apply_transaction(&transaction, None, now);
                writer.push_transaction(&transaction);
                reply(transaction.answer(now), false)
            }
            Err(unrecorded) => reply(unrecorded, false),
        }
    }

    /// The number of a vendor's next payment after so many. No two of them share one: each shard counts by as many as
    /// there are.
    pub(super) fn number_of_order(&self) -> impl Fn(u32) -> u32 + use<> {
        let (id, shards) = (u32::from(self.id.0), u32::from(self.shards));
        move |payments| payments.wrapping_mul(shards).wrapping_add(id + 1)
    }

    /// Whether there is room for what an action would send and leave open.
    ///
    /// # Errors
    /// [`Rejection::Busy`].
    pub(super) fn has_room_for(&self, action: &AdminAction) -> Result<(), Rejection> {
        let room = match action {
            AdminAction::Cashless(
                CashlessAction::Transfer { to: wallet, .. }
                | CashlessAction::Merge { into: wallet, .. }
                | CashlessAction::LinkTag { wallet, .. },
            ) => self.cashless.ops.len() < OPS_MAX && self.outbox.has_room(Home::Wallet(*wallet).shard(self.shards)),
            AdminAction::BindTag { ticket, .. } => {
                let to = Home::Festival(ticket.festival()).shard(self.shards);
                self.cashless.ops.len() < OPS_MAX && self.outbox.has_room(to)
            }
            // A loss is told even where a shard is far behind: as many as there are operations.
            AdminAction::ReportTicketTagLost { .. }
            | AdminAction::Cashless(CashlessAction::ReportLost { .. } | CashlessAction::ReportTagLost { .. }) => {
                self.cashless.ops.len() < OPS_MAX
            }
            AdminAction::Cashless(CashlessAction::SetPolicy { .. }) => {
                self.cashless.ops.len() < OPS_MAX && self.others().all(|other| self.outbox.has_room(other))
            }
            AdminAction::Cashless(CashlessAction::PutVendor { .. } | CashlessAction::PutProduct { .. })
            | AdminAction::SetFestivalStatus { .. }
            | AdminAction::ByHand(ByHand::Complete { .. } | ByHand::Reopen { .. } | ByHand::ReadmitDevice { .. })
            | AdminAction::EnrolDevice { .. }
            | AdminAction::RevokeDevice { .. } => self.others().all(|other| self.outbox.has_room(other)),
            _ => true,
        };
        if room { Ok(()) } else { Err(Rejection::Busy) }
    }

    /// What a transfer inside one shard would be refused for by the other side, found before anything moves.
    pub(super) fn check_near_side(&self, event: &Event, action: &CashlessAction) -> Result<(), Rejection> {
        let Event::Transaction(t) = event else { return Ok(()) };
        let Some(to) = t.other.filter(|to| Home::Wallet(*to).shard(self.shards) == self.id) else { return Ok(()) };
        let merges = self.merges(t, action);
        self.cashless.decide_credit(t.of, (t.wallet, to), t.festival, t.currency, &t.lots, merges).map(|_| ())
    }

    /// For a merge the account whose wallets are merged.
    fn merges(&self, t: &Transaction, action: &CashlessAction) -> Option<u128> {
        let CashlessAction::Merge { .. } = action else { return None };
        self.cashless.wallets.get(t.wallet).ok()?.account()
    }

    /// Tells other shards of what the office has just brought about, or does here what it causes.
    pub(super) fn follow(
        &mut self,
        event: &Event,
        action: &AdminAction,
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) {
        match (event, action) {
            (Event::Transaction(t), AdminAction::Cashless(action)) if t.other.is_some() => {
                let to = t.other.expect("just looked");
                let issuer = self.cashless.wallets.get(t.wallet).expect("it paid").issuer;
                let message = Message::Credit {
                    op: t.of,
                    from: t.wallet,
                    to,
                    festival: t.festival,
                    issuer,
                    currency: t.currency,
                    lots: t.lots.clone(),
                    account: self.merges(t, action),
                };
                self.notify(Home::Wallet(to).shard(self.shards), message, now, writer, out);
            }
            (
                Event::Cashless(CashlessEvent::TagLinking { tag, wallet, version, op, .. }),
                AdminAction::Cashless(CashlessAction::LinkTag { festival, replace, create, .. }),
            ) => {
                let message = Message::Link {
                    op: *op,
                    tag: *tag,
                    wallet: *wallet,
                    version: *version,
                    festival: *festival,
                    replace: *replace,
                    create: *create,
                    from: None,
                };
                self.notify(Home::Wallet(*wallet).shard(self.shards), message, now, writer, out);
            }
            (Event::Cashless(CashlessEvent::CurrencyChanging { festival, op, .. }), _) => {
                let message = Message::CurrencyAsk { op: *op, festival: *festival };
                self.notify_others(&message, now, writer, out);
            }
            (Event::Cashless(CashlessEvent::TagBinding { tag, ticket, op }), _) => {
                let message = Message::Bind { op: *op, tag: *tag, ticket: *ticket, from: None };
                self.notify(Home::Festival(ticket.festival()).shard(self.shards), message, now, writer, out);
            }
            (Event::Cashless(CashlessEvent::WalletTagLost { wallet, tag, version, op }), _) => {
                let message = Message::Lost { tag: *tag, named: TagTarget::Wallet(*wallet, *version), op: *op };
                self.notify(Home::Tag(*tag).shard(self.shards), message, now, writer, out);
            }
            (
                Event::Cashless(CashlessEvent::TagBarred { tag, op, .. }),
                AdminAction::ReportTicketTagLost { ticket },
            ) => {
                let message = Message::Lost { tag: *tag, named: TagTarget::Ticket(*ticket), op: *op };
                self.notify(Home::Tag(*tag).shard(self.shards), message, now, writer, out);
            }
            (Event::Cashless(CashlessEvent::TagLost { tag, op }), _) => {
                for named in self.cashless.named_by(*tag) {
                    self.bar(*tag, named, (self.id, *op), now, writer, out);
                }
            }
            _ => {
                let Some(entry) = self.entry(event) else { return };
                self.notify_others(&Message::Directory(entry), now, writer, out);
            }
        }
    }

    /// What the other shards are to know of an event.
    fn entry(&self, event: &Event) -> Option<Entry> {
        match event {
            Event::Cashless(event) => entry_of(event),
            Event::FestivalStatusSet { festival, to } => {
                let policy = self.cashless.directory.get(*festival).ok()?.policy;
                Some(Entry::Festival { festival: *festival, policy, status: *to })
            }
            Event::ByHand(DoneByHand::Reopened { festival, .. }) => {
                let policy = self.cashless.directory.get(*festival).ok()?.policy;
                Some(Entry::Festival { festival: *festival, policy, status: FestivalStatus::Ongoing })
            }
            Event::DeviceRevoked { device } | Event::ByHand(DoneByHand::DeviceReadmitted { device, .. }) => {
                let (_, terminal) = self.cashless.directory.terminal(*device)?;
                let (vendor, cashier) = (terminal.vendor, terminal.cashier);
                let revoked = matches!(event, Event::DeviceRevoked { .. });
                Some(Entry::Terminal { device: *device, vendor, cashier, revoked })
            }
            _ => None,
        }
    }

    /// The own shard's directory follows what its festivals' events say.
    pub(super) fn note_in_directory(&mut self, event: &Event, at: Timestamp) {
        if let Event::FestivalStatusSet { .. } | Event::DeviceRevoked { .. } | Event::ByHand(_) = event
            && let Some(entry) = self.entry(event)
        {
            self.cashless.put(&entry, at);
        }
    }

    /// Makes an answer wait until the other shards have what they were told: all that is under way now, so that a
    /// repetition waits as well.
    pub(super) fn hold(&self, action: &AdminAction, answer: &AdminAnswer, index: usize, holds: &mut Vec<Hold>) {
        let spreads = match (action, answer) {
            (_, AdminAnswer::Rejected(_) | AdminAnswer::Pending(_)) => false,
            (
                AdminAction::Cashless(
                    CashlessAction::SetPolicy { .. }
                    | CashlessAction::PutVendor { .. }
                    | CashlessAction::PutProduct { .. },
                ),
                _,
            ) => true,
            (
                AdminAction::SetFestivalStatus { festival, .. }
                | AdminAction::ByHand(ByHand::Complete { festival } | ByHand::Reopen { festival, .. }),
                _,
            ) => self.cashless.directory.get(*festival).is_ok(),
            (AdminAction::RevokeDevice { device } | AdminAction::ByHand(ByHand::ReadmitDevice { device, .. }), _) => {
                self.cashless.directory.terminal(*device).is_some()
            }
            (AdminAction::EnrolDevice { .. }, AdminAnswer::Device(device)) => {
                self.cashless.directory.terminal(*device).is_some()
            }
            _ => false,
        };
        if !spreads {
            return;
        }
        for to in self.others() {
            let n = self.outbox.next(to) - 1;
            if self.outbox.delivered(to) < n {
                holds.push(Hold { answer: index, to, n });
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let id = self.id;
        (0..self.shards).map(ShardId).filter(move |other| *other != id)
    }

    fn notify_others(&mut self, message: &Message, now: Timestamp, writer: &mut Writer<'_>, out: &mut Step) {
        for other in self.others() {
            self.notify(other, message.clone(), now, writer, out);
        }
    }

    /// Another shard is sent a message; this one takes it in at once.
    pub(super) fn notify(
        &mut self,
        to: ShardId,
        message: Message,
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) {
        if to == self.id {
            self.receive(to, &message, false, now, writer, out);
            return;
        }
        let n = self.outbox.next(to);
        out.sent.retain(|(shard, _)| *shard != to);
        out.sent.push((to, n));
        self.emit(&Event::Sent { to, n, message }, None, now, writer);
    }

    /// Takes in what another shard has sent.
    pub(super) fn deliver(
        &mut self,
        from: ShardId,
        first: u64,
        messages: &[Message],
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) -> Answer {
        let known = from != self.id && from.0 < self.shards;
        for (i, message) in messages.iter().enumerate().take(if known { DELIVER_MAX } else { 0 }) {
            let n = first.saturating_add(i as u64);
            let expected = self.outbox.high_water(from) + 1;
            if n < expected && !planted(Plant::HighWaterLost) {
                continue;
            }
            if n > expected {
                break; // what lies between comes again, and this with it
            }
            let cancelled = cancels(&messages[i + 1..], message);
            self.emit(&Event::Received { from, n, message: message.clone() }, None, now, writer);
            self.receive(from, message, cancelled, now, writer, out);
        }
        Answer::Acked { from, through: self.outbox.high_water(from) }
    }

    /// Another shard has our messages.
    pub(super) fn delivered_to(
        &mut self,
        to: ShardId,
        through: u64,
        now: Timestamp,
        writer: &mut Writer<'_>,
    ) -> Answer {
        let known = to != self.id && to.0 < self.shards;
        if known && through > self.outbox.delivered(to) && through < self.outbox.next(to) {
            self.emit(&Event::Delivered { to, through }, None, now, writer);
        }
        Answer::Noted
    }

    /// Does what a message asks. `cancelled`: the sender has taken it back meanwhile.
    fn receive(
        &mut self,
        from: ShardId,
        message: &Message,
        cancelled: bool,
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) {
        match message {
            // Written down where it is received.
            Message::Directory(_) => {}
            Message::Credit { op, from: sender, to, festival, currency, lots, account, .. } => {
                let decided = self.cashless.decide_credit(*op, (*sender, *to), *festival, *currency, lots, *account);
                let decided = if cancelled { Err(Rejection::TransferCancelled) } else { decided };
                if cancelled
                    && planted(Plant::NoTombstone)
                    && let Ok(t) =
                        self.cashless.decide_credit(*op, (*sender, *to), *festival, *currency, lots, *account)
                {
                    self.transact(t, now, writer, out);
                }
                let answer = match decided {
                    Ok(t) => {
                        if !planted(Plant::CreditForgotten) {
                            self.transact(t, now, writer, out);
                        }
                        Message::Credited { op: *op }
                    }
                    Err(rejection) => Message::Declined { op: *op, rejection },
                };
                self.notify(from, answer, now, writer, out);
            }
            Message::Credited { op } => {
                if self.cashless.transfer(*op).is_some() {
                    self.cashless_happens(CashlessEvent::TransferSettled { op: *op }, now, writer, out);
                }
            }
            Message::Declined { op, rejection } => {
                if let Some(t) = self.cashless.decide_back(*op, *rejection) {
                    self.transact(t, now, writer, out);
                }
            }
            // What it takes back came first, and was decided then; the answer to that is on its way.
            Message::Cancel { .. } => {}
            Message::CurrencyAsk { op, festival } => {
                let booked = self.cashless.has_booked(*festival);
                if !booked {
                    self.cashless_happens(CashlessEvent::CurrencyHeld { festival: *festival }, now, writer, out);
                }
                self.notify(from, Message::CurrencyVote { op: *op, booked }, now, writer, out);
            }
            Message::CurrencyVote { op, booked } => self.currency_vote(*op, *booked, now, writer, out),
            Message::CurrencyDecided { op, festival } => {
                if self.cashless.is_held(*festival) {
                    self.cashless_happens(CashlessEvent::CurrencyReleased { festival: *festival }, now, writer, out);
                }
                self.notify(from, Message::CurrencyVote { op: *op, booked: false }, now, writer, out);
            }
            Message::Link { .. }
            | Message::LinkTaken { .. }
            | Message::LinkRefused { .. }
            | Message::Unlink { .. }
            | Message::Lost { .. }
            | Message::Bind { .. }
            | Message::BindTaken { .. }
            | Message::BindRefused { .. }
            | Message::Unbind { .. }
            | Message::Carry { .. }
            | Message::Bar { .. }
            | Message::LossKnown { .. } => self.hear_of_tag(from, message, now, writer, out),
        }
    }

    /// Another shard has answered about a festival's other currency; the last one decides.
    fn currency_vote(&mut self, op: u64, booked: bool, now: Timestamp, writer: &mut Writer<'_>, out: &mut Step) {
        let Some(before) = self.cashless.currency_change(op) else { return };
        let was_decided = before.decided;
        self.cashless_happens(CashlessEvent::CurrencyVoted { op, booked }, now, writer, out);
        let Some(change) = self.cashless.currency_change(op).filter(|change| change.decided && !was_decided) else {
            return;
        };
        let festival = change.festival;
        if let Some(set) = self.cashless.changed_policy(change) {
            let entry = entry_of(&set).expect("the directory's own");
            self.cashless_happens(set, now, writer, out);
            self.notify_others(&Message::Directory(entry), now, writer, out);
        }
        self.notify_others(&Message::CurrencyDecided { op, festival }, now, writer, out);
    }

    fn transact(&mut self, t: Transaction, now: Timestamp, writer: &mut Writer<'_>, out: &mut Step) {
        out.finished.extend(self.emit(&Event::Transaction(t), None, now, writer));
    }

    pub(super) fn cashless_happens(
        &mut self,
        event: CashlessEvent,
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) {
        out.finished.extend(self.emit(&Event::Cashless(event), None, now, writer));
    }

    /// Asks the other sides of transfers that have taken too long to let them be.
    pub(super) fn overdue(&mut self, now: Timestamp, writer: &mut Writer<'_>, out: &mut Step) {
        let overdue: Vec<(u64, ShardId)> = self
            .cashless
            .ops
            .overdue(now)
            .map(|(op, transfer)| (op, Home::Wallet(transfer.to).shard(self.shards)))
            .collect();
        for (op, to) in overdue {
            if planted(Plant::RefundOnAClock) {
                if let Some(t) = self.cashless.decide_back(op, Rejection::TransferCancelled) {
                    self.transact(t, now, writer, out);
                }
                continue;
            }
            self.cashless_happens(CashlessEvent::TransferCancelAsked { op }, now, writer, out);
            self.notify(to, Message::Cancel { op }, now, writer, out);
        }
    }

    /// Gifts of festivals that are over lapse, some at each tick.
    pub(super) fn lapse(&mut self, now: Timestamp, writer: &mut Writer<'_>, out: &mut Step) {
        for _ in 0..LAPSE_MAX {
            let Some(t) = self.cashless.decide_lapse(now) else { return };
            self.transact(t, now, writer, out);
        }
    }

    /// What an office command of this event's is told: for an operation its answer if it is over already.
    pub(super) fn answer_of(&self, event: &Event, out: &mut Step) -> AdminAnswer {
        let answer = event.answer();
        if let AdminAnswer::Pending(op) = answer
            && let Some(at) = out.finished.iter().position(|(finished, _)| *finished == op)
        {
            return out.finished.swap_remove(at).1;
        }
        answer
    }

    /// Who asked for the operation that this event begins.
    pub(super) fn asker(asked: Option<Origin>) -> Asker {
        let asked = asked?;
        let (key, fingerprint) = asked.key?;
        Some(AskedBy { by: asked.by, key, fingerprint })
    }
}

/// Whether the messages that lie behind a credit take it back: it was never decided, so it is not going to be.
fn cancels(behind: &[Message], message: &Message) -> bool {
    let Message::Credit { op, .. } = message else { return false };
    behind.iter().any(|later| matches!(later, Message::Cancel { op: cancelled } if cancelled == op))
}

/// Tells one question of a terminal from another with the same number: FNV-1a over what was asked, folded to 32 bits. A
/// question that names a tag is the same whatever wallet the tag was resolved to. Kept in records, so it never changes.
fn fingerprint(action: &TerminalAction) -> u32 {
    let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
    let mut mix = |word: u64| {
        hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        hash ^= hash >> 29;
    };
    let (kind, wallet, tap, amount) = match action {
        TerminalAction::Pay { wallet, tap, amount, .. } => (1, wallet, tap, Some(amount)),
        TerminalAction::TopUp { wallet, tap, amount } => (2, wallet, tap, Some(amount)),
        TerminalAction::Refund { payment, amount, .. } => (3, &payment.wallet, &None, amount.as_ref()),
        TerminalAction::Balance { wallet, tap } => (4, wallet, tap, None),
    };
    mix(kind);
    match tap {
        Some(tap) => {
            let (first, rest) = tap.tag.to_words();
            mix(first);
            mix(1 << 32 | u64::from(rest));
        }
        None => mix(wallet.0),
    }
    if let Some(amount) = amount {
        mix(amount.minor as u64);
        mix(1 << 32 | u64::from(amount.currency.to_word()));
    }
    match action {
        TerminalAction::Pay { lines, .. } => {
            for line in lines {
                mix(u64::from(line.product.0) << 16 | u64::from(line.count));
                mix(line.price as u64);
            }
        }
        TerminalAction::Refund { payment, lines, .. } => {
            mix(payment.serial);
            // What they had cost follows from the payment.
            for line in lines {
                mix(u64::from(line.product.0) << 16 | u64::from(line.count));
            }
        }
        TerminalAction::TopUp { .. } | TerminalAction::Balance { .. } => {}
    }
    (hash ^ hash >> 32) as u32
}

//! The books: what the journal's records amount to, told a second time and in another way than the engine does. There
//! are no counters of people here: occupancy is counted, ticket by ticket, and each scan is judged by the rules as the
//! design states them. Whatever the engine decides has to be right by these books, and whatever it remembers has to be
//! what they say.

use std::collections::{BTreeMap, BTreeSet};

use engine::cashless::command::OVER_LIMIT;
use engine::cashless::event::{CashlessEvent, TransactionKind};
use engine::command::AdminAnswer;
use engine::event::{Event, Origin};
use engine::gates::command::DeviceAnswer;
use engine::model::ids::{DeviceId, FestivalId, ShardId, TagUid, TicketId, TransactionId};
use engine::model::money::Money;
use engine::model::principal::Principal;
use engine::model::status::TicketStatus;
use engine::model::time::Timestamp;
use engine::record;
use engine::shard::Shard;
use engine::shard::dedupe::Seen;
use engine::shard::outbox::Message;
use engine::view::{Query, View};

use super::admin::WHO;
use super::{Check, breach};
use festival::{CategoryBook, DeviceBook, FestivalBook, TicketBook};
use money::MoneyBook;

mod festival;
pub(super) mod money;

/// One shard's books.
#[derive(Clone)]
pub(super) struct Books {
    /// Of the last record.
    pub(super) seq: u64,
    /// The time of the last record.
    pub(super) at: Timestamp,
    /// Events so far.
    pub(super) events: u64,
    pub(in crate::sim) festivals: BTreeMap<FestivalId, FestivalBook>,
    /// Every idempotency key's outcome, forgotten by the shard or not.
    ever: BTreeMap<u128, AdminAnswer>,
    /// Which messages to other shards came of what was asked with a key, by number.
    told: BTreeMap<u128, Vec<(ShardId, u64)>>,
    api_keys: u32,
    pub(super) money: MoneyBook,
}

impl Books {
    pub(super) fn new(id: ShardId) -> Self {
        Self {
            seq: 0,
            at: Timestamp::default(),
            events: 0,
            festivals: BTreeMap::new(),
            ever: BTreeMap::new(),
            told: BTreeMap::new(),
            api_keys: 0,
            money: MoneyBook::new(id),
        }
    }

    /// Enters one record.
    pub(super) fn enter(&mut self, bytes: &[u8]) -> Check {
        let record = match record::read(bytes) {
            Ok(record) => record,
            Err(why) => return breach("damage is found, never skipped", format!("a record in the journal: {why}")),
        };
        if record.seq != self.seq + 1 {
            return breach("seq is dense", format!("record {} follows {}", record.seq, self.seq));
        }
        if record.at < self.at {
            return breach(
                "time never goes back",
                format!("record {} at {:?} after {:?}", record.seq, record.at, self.at),
            );
        }
        (self.seq, self.at) = (record.seq, record.at);
        let mut asked: Option<Origin> = None;
        let mut key = None;
        self.money.next_record();
        for event in &record.events {
            self.events += 1;
            let by = asked.take();
            match event {
                Event::Sent { to, n, message: Message::Directory(_) } => {
                    if let Some(key) = key {
                        self.told.entry(key).or_default().push((*to, *n));
                    }
                }
                Event::Origin(_) => {}
                _ => key = by.and_then(|by| by.key).map(|(id, _)| id),
            }
            let device = |event: &Event| match event {
                Event::DeviceConnected { device, .. } => Some(Principal::Device(*device)),
                _ => None,
            };
            let right = match event {
                Event::Origin(who) => who.key.is_none() || who.by == WHO,
                other => device(other).is_none_or(|device| by.is_some_and(|by| by.by == device)),
            };
            if !right {
                return breach("the record says who asked", format!("{by:?}: {event:?}"));
            }
            match event {
                Event::Origin(who) => match (who.key, who.answer()) {
                    (Some((id, _)), Some(answer)) => self.outcome(id, answer)?,
                    (_, Some(_)) => {}
                    (_, None) => asked = Some(*who),
                },
                other => {
                    self.happened(other)?;
                    match (by.and_then(|by| by.key), told_of(other)) {
                        (Some((id, _)), AdminAnswer::Pending(op)) => self.money.pending(op, id),
                        (Some((id, _)), answer) => self.outcome(id, answer)?,
                        (None, _) => {}
                    }
                    let ended = self.money.happened(other, self.seq, self.at)?;
                    if let Some((id, answer)) = ended {
                        self.outcome(id, answer)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn outcome(&mut self, id: u128, answer: AdminAnswer) -> Check {
        if self.ever.insert(id, answer).is_some() {
            return breach(
                "every command happens once",
                format!("idempotency key {id:x} has a second outcome: {answer:?}"),
            );
        }
        Ok(())
    }

    /// What an idempotency key came to, ever.
    pub(super) fn outcome_of(&self, id: u128) -> Option<AdminAnswer> {
        self.ever.get(&id).copied()
    }

    /// The messages to other shards that came of what was asked with this key.
    pub(super) fn told_for(&self, id: u128) -> &[(ShardId, u64)] {
        self.told.get(&id).map_or(&[], Vec::as_slice)
    }

    /// What a device was told, ever.
    pub(super) fn answer_of(&self, device: DeviceId, seq: u64) -> Option<DeviceAnswer> {
        self.device(device)?.answers.get(&seq).map(|(_, answer)| *answer)
    }

    /// Whether what a reader says it has shown for this scan stands.
    pub(super) fn may_have_shown(&self, device: DeviceId, seq: u64) -> bool {
        self.device(device).is_some_and(|page| page.may_have_shown.contains(&seq))
    }

    /// A device's page.
    pub(super) fn device(&self, device: DeviceId) -> Option<&DeviceBook> {
        self.festivals.get(&device.festival())?.devices.get(device.number() as usize)
    }

    fn happened(&mut self, event: &Event) -> Check {
        let at = self.at;
        match event {
            Event::Origin(_) => {}
            Event::Scanned(scanned) => return self.festival(scanned.device.festival())?.scanned(scanned, at),
            Event::Undone(undone) => {
                let home = undone.by.map_or(undone.ticket.festival(), |by| by.device.festival());
                return self.festival(home)?.undone(undone, at);
            }
            Event::ByHand(done) => return self.festival(done.festival())?.by_hand(done, at),
            Event::FestivalCreated { slug, policy, starts_at, .. } => {
                self.festivals.insert(FestivalId::of_slug(slug), FestivalBook::new(*policy, *starts_at, at));
            }
            Event::FestivalStatusSet { festival, to } => {
                let page = self.festival(*festival)?;
                if !page.status.may_become(*to) {
                    return breach("statuses go forward", format!("{:?} became {to:?}", page.status));
                }
                page.status = *to;
            }
            Event::PolicySet { festival, policy } => {
                let page = self.festival(*festival)?;
                page.set_policy(*policy, at);
            }
            Event::ZonePut { festival, zone, parent, capacity, .. } => {
                self.festival(*festival)?.put_zone(*zone, *parent, *capacity);
            }
            Event::GateAdded { festival, zone, .. } => {
                let page = self.festival(*festival)?;
                page.gates.push(*zone);
                page.counted.push([0; 4]);
            }
            Event::CategoryPut { festival, category, values } => {
                let page = self.festival(*festival)?;
                match page.categories.get_mut(usize::from(category.0)) {
                    Some(known) => known.values = values.clone(),
                    None => page.categories.push(CategoryBook { values: values.clone(), issued: 0 }),
                }
                return page.within_quota(usize::from(category.0));
            }
            Event::TicketsIssued { festival, category, first_serial, count, seed, paid, .. } => {
                let page = self.festival(*festival)?;
                let known = &mut page.categories[usize::from(category.0)];
                if known.issued != *first_serial {
                    return breach("serials are dense", format!("{first_serial} after {}", known.issued));
                }
                known.issued += count;
                let status = if *paid { TicketStatus::Sold } else { TicketStatus::Reserved };
                for id in engine::command::issued(*festival, *category, *first_serial, *count, *seed) {
                    page.tickets.insert(id, TicketBook { status, blocked: false, inside: 0, last: None });
                }
                return page.within_quota(usize::from(category.0));
            }
            Event::TicketStatusSet { ticket, from, to } => {
                let known = self.festival(ticket.festival())?.ticket(*ticket)?;
                if known.status != *from || !from.may_become(*to) {
                    return breach(
                        "statuses go forward",
                        format!("{:?} became {to:?}, said to be {from:?}", known.status),
                    );
                }
                known.status = *to;
            }
            Event::TicketBlockSet { ticket, blocked } => {
                self.festival(ticket.festival())?.ticket(*ticket)?.blocked = *blocked;
            }
            Event::TagBound { ticket, tag } => {
                let page = self.festival(ticket.festival())?;
                page.tags.retain(|_, bound| bound != ticket);
                if page.tags.insert(*tag, *ticket).is_some() {
                    return breach("a tag names one ticket", format!("{tag:?} was another's"));
                }
            }
            Event::Cashless(CashlessEvent::TagBarred { festival, tag, .. }) => {
                self.festival(*festival)?.lost_tags.insert(*tag);
            }
            Event::ZoneStateSet { festival, zone, state } => {
                self.festival(*festival)?.zones[usize::from(zone.0)].state = *state;
            }
            Event::EnrolmentOffered { .. } => {}
            Event::DeviceEnrolled { device, gate, .. } => {
                let page = self.festival(device.festival())?;
                if page.devices.len() != device.number() as usize {
                    return breach("devices are numbered densely", format!("{device}"));
                }
                let gate = usize::from(gate.0);
                page.devices.push(DeviceBook::new(gate, at));
            }
            Event::Cashless(CashlessEvent::TerminalEnrolled { device, .. }) => {
                let page = self.festival(device.festival())?;
                if page.devices.len() != device.number() as usize {
                    return breach("devices are numbered densely", format!("{device}"));
                }
                // It stands at no gate.
                page.devices.push(DeviceBook::new(0, at));
            }
            Event::DeviceConnected { device, session } => {
                return self.festival(device.festival())?.connected(*device, *session, at);
            }
            Event::DeviceLeft { device, session } => {
                self.festival(device.festival())?.left(*device, *session, at);
            }
            Event::DeviceClockSeen { .. } | Event::DevicePins { .. } => {}
            Event::DeviceRevoked { device } => {
                self.festival(device.festival())?.devices[device.number() as usize].revoked = true;
            }
            Event::QrKeyRotated { festival, version } => {
                let page = self.festival(*festival)?;
                if *version != page.qr_version + 1 {
                    return breach("key versions are dense", format!("{version} after {}", page.qr_version));
                }
                page.qr_version = *version;
            }
            Event::ApiKeyCreated { key, .. } => {
                self.api_keys += 1;
                if *key != self.api_keys {
                    return breach("operators' keys are numbered densely", format!("{key}"));
                }
            }
            Event::ApiKeyRevoked { .. } => {}
            Event::Expired
            | Event::Transaction(_)
            | Event::Cashless(_)
            | Event::Sent { .. }
            | Event::Received { .. }
            | Event::Delivered { .. } => {} // about money
        }
        Ok(())
    }

    /// The wristband of a ticket.
    fn tag_of(&self, ticket: TicketId) -> Option<TagUid> {
        let page = self.festivals.get(&ticket.festival())?;
        page.tags.iter().find(|(_, bound)| **bound == ticket).map(|(tag, _)| *tag)
    }

    fn festival(&mut self, id: FestivalId) -> Check<&mut FestivalBook> {
        match self.festivals.get_mut(&id) {
            Some(page) => Ok(page),
            None => breach("events are of what exists", format!("no festival {id}")),
        }
    }

    /// Whether a living or recovered shard says what the books say, wherever it can be asked.
    pub(super) fn agree_with(&self, shard: &Shard) -> Check {
        if (shard.seq(), shard.now()) != (self.seq, self.at) {
            let found = format!("shard {:?} at {:?}, books {:?} at {:?}", shard.seq(), shard.now(), self.seq, self.at);
            return breach("replay rebuilds the state", found);
        }
        self.money.agree_with(shard)?;
        for (id, page) in &self.festivals {
            self.shows(&Query::Live(*id), &shard.query(&Query::Live(*id)))?;
            for ticket in page.tickets.keys() {
                self.shows(&Query::Ticket(*ticket), &shard.query(&Query::Ticket(*ticket)))?;
            }
            let Some(living) = shard.festivals().find(|festival| festival.id == *id) else {
                return breach("replay rebuilds the state", format!("festival {id} is gone"));
            };
            for (number, (device, known)) in living.devices.iter().zip(&page.devices).enumerate() {
                if device.revoked != known.revoked {
                    return breach("a revoked device is refused by the next decision", format!("device {number}"));
                }
                for (seq, (fingerprint, answer)) in known.answers.range(known.floor..).rev().take(40) {
                    let seen = device.window.look_up(*seq, known.floor, *fingerprint);
                    if seen != Seen::Answered(*answer) {
                        let found = format!("device {number} seq {seq}: {seen:?}, told before {answer:?}");
                        return breach("same id, same answer", found);
                    }
                }
            }
            for (category, known) in living.categories.iter().zip(&page.categories) {
                let live = page.live(usize::from(category.no.0));
                if (category.live, category.tickets.len() as u32) != (live, known.issued) {
                    return breach(
                        "issued ≤ quota",
                        format!("category {:?}: {} of {live}", category.no, category.live),
                    );
                }
            }
        }
        Ok(())
    }

    /// Whether a view shows what is in the books, no more and no less.
    pub(super) fn shows(&self, query: &Query, view: &View) -> Check {
        if let Some(shown) = self.money.shows(query, view) {
            return shown;
        }
        let differs = |what: String| breach("no reply shows state beyond the durable position", what);
        match (query, view) {
            (Query::Live(id), View::Live(live)) => {
                let Some(page) = self.festivals.get(id) else { return differs(format!("festival {id}")) };
                if (live.status, live.conflicts, live.zones.len()) != (page.status, page.conflicts, page.zones.len()) {
                    return differs(format!("{live:?}"));
                }
                for (shown, books) in live.gates.iter().zip(&page.counted) {
                    let said = [shown.admitted, shown.exited, shown.undone, shown.rejected];
                    if said != *books {
                        return differs(format!("gate {}: shown {said:?}, books {books:?}", shown.no.0));
                    }
                }
                for (shown, zone) in live.zones.iter().zip(&page.zones) {
                    let said = (shown.occupancy, shown.admitted, shown.left, shown.capacity, shown.state);
                    let books = (page.occupancy(shown.no), zone.admitted, zone.left, zone.capacity, zone.state);
                    if said != books {
                        return differs(format!("zone {}: shown {said:?}, books {books:?}", shown.no.0));
                    }
                    if u64::from(shown.occupancy) + shown.left != shown.admitted {
                        return breach("occupancy = admitted − left", format!("zone {}: {said:?}", shown.no.0));
                    }
                }
                Ok(())
            }
            (Query::Ticket(id), View::Ticket(shown)) => {
                let known = self.festivals.get(&id.festival()).and_then(|page| page.tickets.get(id));
                match known {
                    Some(known)
                        if (shown.status, shown.blocked, shown.inside, shown.tag)
                            == (known.status, known.blocked, known.inside, self.tag_of(*id)) =>
                    {
                        Ok(())
                    }
                    Some(known) => differs(format!(
                        "ticket {id}: shown {:?} inside {:b}, books {:?} inside {:b}",
                        shown.status, shown.inside, known.status, known.inside
                    )),
                    None => differs(format!("ticket {id} is not issued yet")),
                }
            }
            (Query::Ticket(id), View::No(_))
                if !self.festivals.get(&id.festival()).is_some_and(|page| page.tickets.contains_key(id)) =>
            {
                Ok(())
            }
            (Query::Inside { festival, zone, .. }, View::Inside(shown)) => {
                let Some(page) = self.festivals.get(festival) else { return differs(format!("festival {festival}")) };
                let inside: BTreeSet<_> =
                    page.tickets.iter().filter(|(_, t)| t.inside & zone.bit() != 0).map(|(id, _)| *id).collect();
                if inside == shown.iter().copied().collect() { Ok(()) } else { differs(format!("zone {}", zone.0)) }
            }
            (query, view) => differs(format!("{query:?} answered {view:?}")),
        }
    }
}

/// What the office is told of an event it asked for.
fn told_of(event: &Event) -> AdminAnswer {
    match event {
        Event::FestivalCreated { slug, .. } => AdminAnswer::Festival(FestivalId::of_slug(slug)),
        Event::ZonePut { zone, .. } => AdminAnswer::Zone(*zone),
        Event::GateAdded { gate, .. } => AdminAnswer::Gate(*gate),
        Event::CategoryPut { category, .. } => AdminAnswer::Category(*category),
        Event::TicketsIssued { festival, category, first_serial, count, seed, .. } => AdminAnswer::Issued {
            festival: *festival,
            category: *category,
            first_serial: *first_serial,
            count: *count,
            seed: *seed,
        },
        Event::EnrolmentOffered { until, .. } => AdminAnswer::CodeUntil(*until),
        Event::DeviceEnrolled { device, .. } => AdminAnswer::Device(*device),
        Event::QrKeyRotated { version, .. } => AdminAnswer::QrKey(*version),
        Event::ApiKeyCreated { key, .. } => AdminAnswer::ApiKey(*key),
        Event::Transaction(t) if t.kind == TransactionKind::TransferOut => AdminAnswer::Pending(t.of),
        Event::Transaction(t) => AdminAnswer::Transaction {
            id: TransactionId { wallet: t.wallet, serial: t.serial },
            amount: Money { minor: t.amount, currency: t.currency },
            balance: t.after,
            over_limit: t.flags & OVER_LIMIT != 0,
            order: t.order,
        },
        Event::Cashless(CashlessEvent::VendorPut { vendor, .. }) => AdminAnswer::Vendor(*vendor),
        Event::Cashless(CashlessEvent::ProductPut { product, .. }) => AdminAnswer::Product(*product),
        Event::Cashless(CashlessEvent::TerminalOffered { until, .. }) => AdminAnswer::CodeUntil(*until),
        Event::Cashless(CashlessEvent::TerminalEnrolled { device, .. }) => AdminAnswer::Device(*device),
        Event::Cashless(CashlessEvent::WalletCreated { wallet, .. } | CashlessEvent::WalletClaimed { wallet, .. }) => {
            AdminAnswer::Wallet(*wallet)
        }
        Event::Cashless(
            CashlessEvent::TagLinking { op, .. }
            | CashlessEvent::TagBinding { op, .. }
            | CashlessEvent::WalletTagLost { op, .. }
            | CashlessEvent::TagBarred { op, .. }
            | CashlessEvent::TagLost { op, .. }
            | CashlessEvent::CurrencyChanging { op, .. },
        ) => AdminAnswer::Pending(*op),
        _ => AdminAnswer::Done,
    }
}

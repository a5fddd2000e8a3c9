//! A festival: status and policies, and the home of its categories, zones, gates and devices. Its decisions for the
//! office are in here; its gates' are in `admission.rs`.

mod by_hand;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::cashless::event::CashlessEvent;
use crate::command::{AdminAction, TEXT_LEN_MAX};
use crate::event::{Already, Event};
use crate::gates::admission;
use crate::gates::category::{Category, QUOTA_MAX, Ticket};
use crate::gates::command::{CONFLICT, CategoryValues, ISSUE_MAX, Scan, Undo, Verdict};
use crate::gates::connections::{Connections, clock_off_ms};
use crate::gates::device::{CODE_KEPT_MS, CODES_MAX, DEVICES_MAX, Device, Offer};
use crate::gates::event::Scanned;
use crate::gates::view::brief::AboutView;
use crate::gates::view::{CODE_FOUND_MAX, CODE_SCAN_MAX, FestivalView, LiveView, RecentRejection, TicketView};
use crate::gates::zone::{Gate, Zone};
use crate::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, TagUid, TicketId, ZONES_MAX, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::status::{FestivalStatus, Policy, ScanAck, TicketStatus};
use crate::model::time::{Calendar, Timestamp};
use crate::view::Terminal;

pub use crate::gates::festival::by_hand::RESET_WITHIN_MS;

/// The most gates of one festival.
pub const GATES_MAX: usize = 1_024;
/// The most categories of one festival.
pub const CATEGORIES_MAX: usize = 1_024;
/// How many of the latest rejections are shown.
pub const RECENT_MAX: usize = 32;

/// One festival and all that shares its home.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Festival {
    /// From its slug.
    pub id: FestivalId,
    /// Its name in addresses.
    pub slug: String,
    pub name: String,
    /// When it begins.
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    /// Where it is; empty: nobody has said so.
    pub location: String,
    /// How many people the site is meant for; decides nothing.
    pub max_capacity: Option<u32>,
    /// Where it is in its life.
    pub status: FestivalStatus,
    /// How its gates behave.
    pub policy: Policy,
    /// How its days are told.
    pub calendar: Calendar,
    /// The version of the key that signs QRs; it and the one before are accepted.
    pub qr_version: u32,
    /// By number.
    pub zones: Vec<Zone>,
    /// By number.
    pub gates: Vec<Gate>,
    /// By number.
    pub categories: Vec<Category>,
    /// By number.
    pub devices: Vec<Device>,
    /// One-time codes, by hash.
    pub offers: BTreeMap<[u8; 32], Offer>,
    /// Which ticket a wristband names.
    pub tags: BTreeMap<TagUid, TicketId>,
    /// The wristband of a ticket that has one.
    pub tag_of: BTreeMap<TicketId, TagUid>,
    /// Wristbands of its tickets that were reported lost, still bound or not: about 30 B for each such call.
    pub lost_tags: BTreeSet<TagUid>,
    /// Rejections by number.
    rejections: Vec<u64>,
    conflicts: u64,
    /// When readers last showed answers before they were durable: such an answer stands, also when it comes in after
    /// the policy has changed.
    decided: Option<DecidedSpan>,
    recent: VecDeque<RecentRejection>,
}

/// From when until when a festival's policy was `decided`; without an end it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct DecidedSpan {
    from: Timestamp,
    until: Option<Timestamp>,
}

pub(crate) fn check(valid: bool) -> Result<(), Rejection> {
    if valid { Ok(()) } else { Err(Rejection::InvalidValue) }
}

pub(crate) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= TEXT_LEN_MAX
}

impl Festival {
    /// Whether such a festival can be made.
    ///
    /// # Errors
    /// [`Rejection::InvalidValue`] for a slug that is not `[a-z0-9-]{1,64}`, an empty or long name, an end before the
    /// start, or a policy out of bounds.
    pub fn decide_create(action: &AdminAction) -> Result<Event, Rejection> {
        let AdminAction::CreateFestival { slug, name, starts_at, ends_at, policy, calendar } = action else {
            return Err(Rejection::InvalidValue);
        };
        let slug_ok = (1..=64).contains(&slug.len())
            && slug.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        check(slug_ok && is_name(name) && starts_at < ends_at && calendar.is_valid())?;
        check_policy(policy)?;
        Ok(Event::FestivalCreated {
            slug: slug.clone(),
            name: name.clone(),
            starts_at: *starts_at,
            ends_at: *ends_at,
            policy: *policy,
            calendar: calendar.clone(),
        })
    }

    /// As its event says, at the event's time.
    pub(crate) fn new(
        slug: String,
        name: String,
        (starts_at, ends_at): (Timestamp, Timestamp),
        policy: Policy,
        calendar: Calendar,
        at: Timestamp,
    ) -> Self {
        Self {
            id: FestivalId::of_slug(&slug),
            slug,
            name,
            starts_at,
            ends_at,
            location: String::new(),
            max_capacity: None,
            status: FestivalStatus::Draft,
            policy,
            calendar,
            qr_version: 1,
            zones: Vec::new(),
            gates: Vec::new(),
            categories: Vec::new(),
            devices: Vec::new(),
            offers: BTreeMap::new(),
            tags: BTreeMap::new(),
            tag_of: BTreeMap::new(),
            lost_tags: BTreeSet::new(),
            rejections: vec![0; Rejection::NUMBERS],
            conflicts: 0,
            decided: (policy.ack == ScanAck::Decided).then_some(DecidedSpan { from: at, until: None }),
            recent: VecDeque::new(),
        }
    }

    /// # Errors
    /// [`Rejection::UnknownZone`].
    pub fn zone(&self, zone: ZoneNo) -> Result<&Zone, Rejection> {
        self.zones.get(usize::from(zone.0)).ok_or(Rejection::UnknownZone)
    }

    /// The zones that `zone` lies in.
    pub fn outer_of(&self, zone: &Zone) -> impl Iterator<Item = &Zone> {
        self.zones.iter().filter(move |outer| zone.outer & outer.no.bit() != 0)
    }

    /// # Errors
    /// [`Rejection::UnknownTicket`].
    pub fn ticket(&self, id: TicketId) -> Result<&Ticket, Rejection> {
        self.categories
            .get(usize::from(id.category().0))
            .filter(|_| id.festival() == self.id)
            .and_then(|category| category.ticket(id))
            .ok_or(Rejection::UnknownTicket)
    }

    /// # Errors
    /// [`Rejection::UnknownDevice`].
    pub fn device(&self, id: DeviceId) -> Result<&Device, Rejection> {
        self.devices.get(id.number() as usize).filter(|_| id.festival() == self.id).ok_or(Rejection::UnknownDevice)
    }

    /// The wristband of a ticket; `false`: reported lost.
    ///
    /// # Errors
    /// [`Rejection::UnknownTicket`]; [`Rejection::UnknownTag`] if it has none.
    pub(crate) fn tag_of(&self, ticket: TicketId) -> Result<(TagUid, bool), Rejection> {
        self.ticket(ticket)?;
        let tag = *self.tag_of.get(&ticket).ok_or(Rejection::UnknownTag)?;
        Ok((tag, !self.lost_tags.contains(&tag)))
    }

    /// Whether a ticket takes a wristband, and which one's place that takes. `from`: only that one's.
    ///
    /// # Errors
    /// [`Rejection::UnknownTicket`], [`Rejection::TagMoved`].
    pub(crate) fn decide_bind(&self, ticket: TicketId, from: Option<TagUid>) -> Result<Option<TagUid>, Rejection> {
        self.ticket(ticket)?;
        let before = self.tag_of.get(&ticket).copied();
        if from.is_some() && before != from { Err(Rejection::TagMoved) } else { Ok(before) }
    }

    /// Decides what the office asks of this festival.
    ///
    /// # Errors
    /// The rejections named in [`crate::model::rejection`] under "The office", "Undo" and "Devices".
    pub(crate) fn decide(&self, action: &AdminAction, now: Timestamp) -> Result<Decided, Rejection> {
        let festival = self.id;
        let event = match action {
            AdminAction::CreateFestival { .. } => return Err(Rejection::SlugTaken),
            AdminAction::SetFestivalStatus { to, .. } => {
                if (self.status, *to) == (FestivalStatus::Completed, FestivalStatus::Ongoing) {
                    return Err(Rejection::ReasonNeeded);
                }
                if !self.status.may_become(*to) {
                    return Err(Rejection::InvalidTransition);
                }
                if *to == FestivalStatus::Completed && self.is_anybody_inside() {
                    return Err(Rejection::PeopleInside);
                }
                Event::FestivalStatusSet { festival, to: *to }
            }
            AdminAction::SetPolicy { policy, .. } => {
                check_policy(policy)?;
                Event::PolicySet { festival, policy: *policy }
            }
            AdminAction::PutZone { zone, name, parent, capacity, .. } => {
                check(is_name(name))?;
                let (zone, parent) = match zone {
                    Some(zone) => {
                        // Fixed when it was made; said again, it is to be the same.
                        let known = self.zone(*zone)?.parent;
                        check(parent.is_none() || *parent == known)?;
                        (*zone, known)
                    }
                    None if self.zones.len() >= ZONES_MAX => return Err(Rejection::LimitReached),
                    None => (ZoneNo(self.zones.len() as u8), *parent),
                };
                if let Some(parent) = parent {
                    self.zone(parent)?;
                }
                Event::ZonePut { festival, zone, name: name.clone(), parent, capacity: *capacity }
            }
            AdminAction::AddGate { zone, name, .. } => {
                check(is_name(name))?;
                self.zone(*zone)?;
                if self.gates.len() >= GATES_MAX {
                    return Err(Rejection::LimitReached);
                }
                Event::GateAdded { festival, gate: GateNo(self.gates.len() as u16), zone: *zone, name: name.clone() }
            }
            AdminAction::PutCategory { category, values, .. } => {
                self.check_category(values)?;
                let category = match category {
                    Some(category) => {
                        let known = self.categories.get(usize::from(category.0)).ok_or(Rejection::UnknownCategory)?;
                        check(values.quota >= known.live)?;
                        *category
                    }
                    None if self.categories.len() >= CATEGORIES_MAX => return Err(Rejection::LimitReached),
                    None => CategoryNo(self.categories.len() as u16),
                };
                Event::CategoryPut { festival, category, values: values.clone() }
            }
            AdminAction::IssueTickets { category, holders, paid, seed, .. } => {
                let known = self.categories.get(usize::from(category.0)).ok_or(Rejection::UnknownCategory)?;
                check((1..=ISSUE_MAX).contains(&holders.len()))?;
                if matches!(self.status, FestivalStatus::Completed | FestivalStatus::Cancelled) {
                    return Err(Rejection::InvalidTransition);
                }
                known.has_places(holders.len() as u32)?;
                Event::TicketsIssued {
                    festival,
                    category: *category,
                    first_serial: known.tickets.len() as u32,
                    count: holders.len() as u32,
                    seed: *seed,
                    paid: *paid,
                    holders: if holders.iter().all(Option::is_none) { Vec::new() } else { holders.clone() },
                }
            }
            AdminAction::SetTicketStatus { ticket, to } => {
                let from = self.ticket(*ticket)?.status;
                if !from.may_become(*to) {
                    return Err(Rejection::InvalidTransition);
                }
                Event::TicketStatusSet { ticket: *ticket, from, to: *to }
            }
            AdminAction::BlockTicket { ticket, blocked } => {
                if self.ticket(*ticket)?.blocked == *blocked {
                    return Ok(Decided::Already(Already::Done));
                }
                Event::TicketBlockSet { ticket: *ticket, blocked: *blocked }
            }
            AdminAction::UndoScan { ticket } => {
                let undone = admission::decide_undo(self, None, &Undo { ticket: *ticket, scan_seq: 0 }, now);
                if let Verdict::Rejected(rejection) = undone.verdict {
                    return Err(rejection);
                }
                Event::Undone(undone)
            }
            AdminAction::SetZoneState { zone, state, .. } => {
                if self.zone(*zone)?.state == *state {
                    return Ok(Decided::Already(Already::Done));
                }
                Event::ZoneStateSet { festival, zone: *zone, state: *state }
            }
            AdminAction::OfferEnrolment { gate, code_hash, name, .. } => {
                self.gates.get(usize::from(gate.0)).ok_or(Rejection::UnknownGate)?;
                let until = self.decide_offer(code_hash, name, now)?;
                Event::EnrolmentOffered { festival, gate: *gate, code_hash: *code_hash, name: name.clone(), until }
            }
            AdminAction::EnrolDevice { code_hash, public_key, .. } => {
                let offer = self.offers.get(code_hash).ok_or(Rejection::UnknownCode)?;
                if let Some(number) = offer.redeem(&self.devices, public_key, now)? {
                    return Ok(Decided::Already(Already::Device(DeviceId::new(festival, number))));
                }
                if self.devices.len() >= DEVICES_MAX {
                    return Err(Rejection::LimitReached);
                }
                let device = DeviceId::new(festival, self.devices.len() as u32);
                let (public_key, name, code_hash) = (*public_key, offer.name.clone(), *code_hash);
                match offer.terminal {
                    None => Event::DeviceEnrolled { device, gate: offer.gate, public_key, name, code_hash },
                    Some(Terminal { vendor, cashier }) => Event::Cashless(CashlessEvent::TerminalEnrolled {
                        device,
                        vendor,
                        cashier,
                        public_key,
                        name,
                        code_hash,
                    }),
                }
            }
            AdminAction::RevokeDevice { device } => {
                if self.device(*device)?.revoked {
                    return Ok(Decided::Already(Already::Done));
                }
                Event::DeviceRevoked { device: *device }
            }
            AdminAction::DeviceConnected { device, session } => {
                if self.device(*device)?.revoked {
                    return Err(Rejection::DeviceRevoked);
                }
                Event::DeviceConnected { device: *device, session: *session }
            }
            AdminAction::DeviceLeft { device, session } => {
                if !self.device(*device)?.connections.is_present(*session) {
                    return Ok(Decided::Already(Already::Done));
                }
                Event::DeviceLeft { device: *device, session: *session }
            }
            AdminAction::DeviceClockSeen { device, off_ms } => {
                if self.device(*device)?.clock_off_ms == *off_ms {
                    return Ok(Decided::Already(Already::Done));
                }
                Event::DeviceClockSeen { device: *device, off_ms: *off_ms }
            }
            AdminAction::DevicePins { device, present, next } => {
                let known = self.device(*device)?.pins;
                let next = if *next == 0 { known[1] } else { *next };
                let pins = [*present, if next == *present { 0 } else { next }];
                if known == pins {
                    return Ok(Decided::Already(Already::Done));
                }
                Event::DevicePins { device: *device, pins }
            }
            AdminAction::RotateQrKey { .. } => Event::QrKeyRotated { festival, version: self.qr_version + 1 },
            AdminAction::ByHand(action) => return self.decide_by_hand(action, now),
            AdminAction::ReportTicketTagLost { .. }
            | AdminAction::BindTag { .. }
            | AdminAction::CreateApiKey { .. }
            | AdminAction::RevokeApiKey { .. }
            | AdminAction::Cashless(_) => return Err(Rejection::UnknownFestival),
        };
        Ok(Decided::Event(event))
    }

    /// Until when a one-time code would hold.
    ///
    /// # Errors
    /// [`Rejection::InvalidValue`] for a bad name or a code in use; [`Rejection::LimitReached`].
    pub(crate) fn decide_offer(
        &self,
        code_hash: &[u8; 32],
        name: &str,
        now: Timestamp,
    ) -> Result<Timestamp, Rejection> {
        check(is_name(name) && !self.offers.contains_key(code_hash))?;
        if self.offers.len() >= CODES_MAX || self.devices.len() >= DEVICES_MAX {
            return Err(Rejection::LimitReached);
        }
        Ok(now.plus_ms(CODE_KEPT_MS))
    }

    /// Few words about it.
    pub(crate) fn about(&self) -> AboutView {
        AboutView {
            id: self.id,
            slug: self.slug.clone(),
            name: self.name.clone(),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            status: self.status,
            calendar: self.calendar.clone(),
            qr_version: self.qr_version,
        }
    }

    /// The key that has used this code, if one has.
    ///
    /// # Errors
    /// [`Rejection::UnknownCode`], [`Rejection::CodeExpired`].
    pub(crate) fn code_used_by(&self, code_hash: &[u8; 32], now: Timestamp) -> Result<Option<[u8; 32]>, Rejection> {
        let offer = self.offers.get(code_hash).ok_or(Rejection::UnknownCode)?;
        match offer.used_by {
            Some(number) => Ok(Some(self.devices[number as usize].public_key)),
            None if now > offer.until => Err(Rejection::CodeExpired),
            None => Ok(None),
        }
    }

    fn check_category(&self, values: &CategoryValues) -> Result<(), Rejection> {
        let known_zones = self.zones.iter().fold(0, |mask, zone| mask | zone.no.bit());
        if values.zones & !known_zones != 0 {
            return Err(Rejection::UnknownZone);
        }
        check(
            is_name(&values.name)
                && values.quota <= QUOTA_MAX
                && values.price.minor >= 0
                && values.price.currency.is_known()
                && values.valid_from < values.valid_until,
        )
    }

    /// Writes down what has happened to this festival. Cannot fail, and decides nothing.
    pub(crate) fn apply(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Scanned(scanned) => admission::apply_scan(self, scanned, at),
            Event::Undone(undone) => admission::apply_undo(self, undone, at),
            Event::FestivalStatusSet { to, .. } => self.status = *to,
            Event::PolicySet { policy, .. } => {
                self.policy = *policy;
                self.note_ack(policy.ack, at);
            }
            Event::ZonePut { zone, name, parent, capacity, .. } => self.put_zone(*zone, name, *parent, *capacity),
            Event::GateAdded { gate, zone, name, .. } => {
                self.gates.push(Gate {
                    no: *gate,
                    name: name.clone(),
                    zone: *zone,
                    admitted: 0,
                    exited: 0,
                    undone: 0,
                    rejected: 0,
                });
            }
            Event::CategoryPut { category, values, .. } => match self.categories.get_mut(usize::from(category.0)) {
                Some(known) => known.values = values.clone(),
                None => self.categories.push(Category::new(*category, values.clone())),
            },
            Event::TicketsIssued { category, first_serial, count, seed, paid, .. } => {
                self.categories[usize::from(category.0)].issue(*first_serial, *count, *seed, *paid);
            }
            Event::TicketStatusSet { ticket, to, .. } => self.set_ticket_status(*ticket, *to),
            Event::TicketBlockSet { ticket, blocked } => {
                self.categories[usize::from(ticket.category().0)].ticket_mut(*ticket).blocked = *blocked;
            }
            Event::TagBound { ticket, tag } => {
                if let Some(before) = self.tag_of.insert(*ticket, *tag) {
                    self.tags.remove(&before);
                }
                self.tags.insert(*tag, *ticket);
            }
            Event::ZoneStateSet { zone, state, .. } => self.zones[usize::from(zone.0)].state = *state,
            Event::EnrolmentOffered { gate, code_hash, name, until, .. } => {
                let offer = Offer { gate: *gate, terminal: None, name: name.clone(), until: *until, used_by: None };
                self.offers.insert(*code_hash, offer);
            }
            Event::DeviceEnrolled { device, gate, public_key, name, code_hash } => {
                self.enrol(*device, *gate, None, public_key, name, code_hash, at);
            }
            Event::Cashless(CashlessEvent::TerminalOffered { vendor, cashier, code_hash, name, until, .. }) => {
                let terminal = Some(Terminal { vendor: *vendor, cashier: *cashier });
                let (gate, name, until) = (GateNo(0), name.clone(), *until);
                self.offers.insert(*code_hash, Offer { gate, terminal, name, until, used_by: None });
            }
            Event::Cashless(CashlessEvent::TerminalEnrolled {
                device,
                vendor,
                cashier,
                public_key,
                name,
                code_hash,
            }) => {
                let terminal = Some(Terminal { vendor: *vendor, cashier: *cashier });
                self.enrol(*device, GateNo(0), terminal, public_key, name, code_hash, at);
            }
            Event::Cashless(CashlessEvent::TagBarred { tag, .. }) => {
                self.lost_tags.insert(*tag);
            }
            Event::DeviceRevoked { device } => self.devices[device.number() as usize].revoked = true,
            Event::DeviceConnected { device, session } => {
                let device = &mut self.devices[device.number() as usize];
                device.connections.began(*session, at, device.last_seen_at);
            }
            Event::DeviceLeft { device, session } => {
                self.devices[device.number() as usize].connections.ended(*session, at);
            }
            Event::DeviceClockSeen { device, off_ms } => {
                self.devices[device.number() as usize].clock_off_ms = *off_ms;
            }
            Event::DevicePins { device, pins } => self.devices[device.number() as usize].pins = *pins,
            Event::QrKeyRotated { version, .. } => self.qr_version = *version,
            Event::ByHand(done) => self.apply_by_hand(done, at),
            Event::Expired => self.offers.retain(|_, offer| offer.until >= at),
            Event::Origin(_)
            | Event::FestivalCreated { .. }
            | Event::ApiKeyCreated { .. }
            | Event::ApiKeyRevoked { .. }
            | Event::Transaction(_)
            | Event::Cashless(_)
            | Event::Sent { .. }
            | Event::Received { .. }
            | Event::Delivered { .. } => unreachable!("not a festival's own"),
        }
    }

    fn enrol(
        &mut self,
        device: DeviceId,
        gate: GateNo,
        terminal: Option<Terminal>,
        public_key: &[u8; 32],
        name: &str,
        code_hash: &[u8; 32],
        at: Timestamp,
    ) {
        assert_eq!(device.number() as usize, self.devices.len(), "devices are numbered densely");
        if let Some(offer) = self.offers.get_mut(code_hash) {
            offer.used_by = Some(device.number());
        }
        self.devices.push(Device {
            name: name.to_owned(),
            gate,
            terminal,
            public_key: *public_key,
            enrolled_at: at,
            last_seen_at: at,
            revoked: false,
            connections: Connections::none(at),
            clock_off_ms: 0,
            pins: [0; 2],
            window: crate::shard::dedupe::Window::default(),
        });
    }

    fn put_zone(&mut self, zone: ZoneNo, name: &str, parent: Option<ZoneNo>, capacity: u32) {
        if let Some(known) = self.zones.get_mut(usize::from(zone.0)) {
            known.name = name.to_owned();
            known.capacity = capacity;
            return;
        }
        let parent = parent.map(|parent| &self.zones[usize::from(parent.0)]);
        let made = Zone::new(zone, name.to_owned(), parent, capacity);
        for outer in self.zones.iter_mut().filter(|outer| made.outer & outer.no.bit() != 0) {
            outer.inner |= zone.bit();
        }
        self.zones.push(made);
    }

    /// A ticket that is cancelled or refunded leaves its holder where they are: the exit still counts them out.
    fn set_ticket_status(&mut self, ticket: TicketId, to: TicketStatus) {
        self.categories[usize::from(ticket.category().0)].set_status(ticket, to);
    }

    /// Whether [`Event::Expired`] would change anything here.
    pub(crate) fn any_due(&self, now: Timestamp) -> bool {
        self.offers.values().any(|offer| offer.until < now)
    }

    /// Counts a scan, and keeps the device's answer.
    pub(crate) fn tally_scan(&mut self, scanned: &Scanned, at: Timestamp) {
        let device = &mut self.devices[scanned.device.number() as usize];
        device.window.remember(scanned.seq, scanned.floor, scanned.fingerprint, scanned.answer(at));
        device.last_seen_at = at;
        if let Some(off_ms) = clock_off_ms(scanned.captured_at, scanned.taken_at, at) {
            device.clock_off_ms = off_ms;
        }
        let gate = &mut self.gates[usize::from(scanned.gate.0)];
        let conflict = scanned.flags & CONFLICT != 0;
        self.conflicts += u64::from(conflict);
        let reason = match scanned.verdict {
            Verdict::Admitted => {
                gate.admitted += 1;
                scanned.instead_of
            }
            Verdict::Exited | Verdict::Undone => {
                gate.exited += 1;
                None
            }
            Verdict::Rejected(rejection) => {
                gate.rejected += 1;
                self.rejections[rejection as usize] += 1;
                Some(rejection)
            }
        };
        let Some(reason) = reason else { return };
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_back();
        }
        self.recent.push_front(RecentRejection {
            at,
            gate: scanned.gate,
            device: scanned.device,
            reason,
            ticket: scanned.ticket,
            conflict,
        });
    }

    /// The plant `presence-not-restored`.
    pub(crate) fn forget_presence(&mut self) {
        self.categories.iter_mut().flat_map(|category| &mut category.tickets).for_each(|ticket| ticket.inside = 0);
    }

    fn note_ack(&mut self, ack: ScanAck, at: Timestamp) {
        match (ack, &mut self.decided) {
            (ScanAck::Decided, Some(DecidedSpan { until: None, .. })) => {}
            (ScanAck::Decided, decided) => *decided = Some(DecidedSpan { from: at, until: None }),
            (ScanAck::Durable, Some(span)) => _ = span.until.get_or_insert(at),
            (ScanAck::Durable, None) => {}
        }
    }

    /// Whether a reader can have shown an answer that a crash has lost: it sends the scan again, and captured it while
    /// answers left before they were durable, and while it was connected. Anything else is a claim.
    pub fn may_have_shown(&self, device: DeviceId, scan: &Scan) -> bool {
        let decided = |span: DecidedSpan| {
            span.from <= scan.captured_at && span.until.is_none_or(|until| scan.captured_at < until)
        };
        let connected = |device: &Device| device.connections.lasted_at(scan.captured_at);
        scan.resent && self.decided.is_some_and(decided) && self.device(device).is_ok_and(connected)
    }

    /// For the office.
    pub fn view(&self) -> FestivalView {
        FestivalView {
            id: self.id,
            slug: self.slug.clone(),
            name: self.name.clone(),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            location: self.location.clone(),
            max_capacity: self.max_capacity,
            status: self.status,
            policy: self.policy,
            calendar: self.calendar.clone(),
            qr_version: self.qr_version,
            zones: self.zones.iter().map(Zone::view).collect(),
            gates: self.gates.iter().map(Gate::view).collect(),
            categories: self.categories.iter().map(Category::view).collect(),
            devices: self.devices.len() as u32,
        }
    }

    /// For whoever watches.
    pub fn live(&self, at: Timestamp) -> LiveView {
        let counted = |&reason: &Rejection| Some((reason, self.rejections[reason as usize])).filter(|(_, n)| *n > 0);
        LiveView {
            at,
            status: self.status,
            zones: self.zones.iter().map(Zone::view).collect(),
            gates: self.gates.iter().map(Gate::view).collect(),
            rejections: Rejection::ALL.iter().filter_map(counted).collect(),
            conflicts: self.conflicts,
            latest: self.recent.iter().copied().collect(),
        }
    }

    /// # Errors
    /// [`Rejection::UnknownTicket`].
    pub fn ticket_view(&self, id: TicketId) -> Result<TicketView, Rejection> {
        let ticket = self.ticket(id)?;
        Ok(TicketView {
            id,
            status: ticket.status,
            blocked: ticket.blocked,
            inside: ticket.inside,
            first_use: ticket.first_use(),
            qr_version: self.qr_version,
            tag: self.tag_of.get(&id).copied(),
            tag_lost: self.tag_of.get(&id).is_some_and(|tag| self.lost_tags.contains(tag)),
        })
    }

    /// The tickets with this printed code, among the next [`CODE_SCAN_MAX`] from `from` on, and where to go on.
    pub fn by_code(&self, code: u64, from: (CategoryNo, u32)) -> (Vec<TicketView>, Option<(CategoryNo, u32)>) {
        const CODE_BITS: u64 = (1 << 40) - 1;
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for category in self.categories.iter().skip(usize::from(from.0.0)) {
            let first = if category.no == from.0 { from.1 as usize } else { 0 };
            for (serial, ticket) in category.tickets.iter().enumerate().skip(first) {
                if looked_at == CODE_SCAN_MAX || found.len() == CODE_FOUND_MAX {
                    return (found, Some((category.no, serial as u32)));
                }
                looked_at += 1;
                if ticket.nonce & CODE_BITS == code {
                    let id = TicketId::new(self.id, category.no, serial as u32, ticket.nonce);
                    found.extend(self.ticket_view(id));
                }
            }
        }
        (found, None)
    }

    /// Who is in a zone: the next `limit` tickets after `after`. Walks at most all tickets: 5 ms for a million.
    pub fn inside(&self, zone: ZoneNo, after: Option<TicketId>, limit: usize) -> Vec<TicketId> {
        let start = after.map(|id| (usize::from(id.category().0), id.serial() as usize + 1)).unwrap_or_default();
        self.categories
            .iter()
            .skip(start.0)
            .flat_map(|category| {
                let from = if usize::from(category.no.0) == start.0 { start.1 } else { 0 };
                category
                    .tickets
                    .iter()
                    .enumerate()
                    .skip(from)
                    .map(move |(serial, ticket)| (category.no, serial, ticket))
            })
            .filter(|(.., ticket)| ticket.inside & zone.bit() != 0)
            .take(limit)
            .map(|(category, serial, ticket)| TicketId::new(self.id, category, serial as u32, ticket.nonce))
            .collect()
    }
}

/// What the office's command comes to.
pub(crate) enum Decided {
    /// This happens.
    Event(Event),
    /// It is so already.
    Already(Already),
}

fn check_policy(policy: &Policy) -> Result<(), Rejection> {
    check((1..=1_000).contains(&policy.log_one_rejection_in))
}

//! A festival: status and policies, and the home of its categories, zones, gates and devices. Its decisions for the
//! office are in here; its gates' are in `admission.rs`.

mod apply;
mod by_hand;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::cashless::event::CashlessEvent;
use crate::command::{AdminAction, TEXT_LEN_MAX};
use crate::event::{Already, Event};
use crate::gates::admission;
use crate::gates::category::{Category, QUOTA_MAX, Ticket};
use crate::gates::command::{CategoryValues, ISSUE_MAX, Scan, Undo, Verdict};
use crate::gates::device::{CODE_KEPT_MS, CODES_MAX, DEVICES_MAX, Device, Offer};
use crate::gates::view::RecentRejection;
use crate::gates::zone::{Gate, Zone};
use crate::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, TagUid, TicketId, ZONES_MAX, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::status::{FestivalStatus, Policy, ScanAck};
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

    /// Whether [`Event::Expired`] would change anything here.
    pub(crate) fn any_due(&self, now: Timestamp) -> bool {
        self.offers.values().any(|offer| offer.until < now)
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

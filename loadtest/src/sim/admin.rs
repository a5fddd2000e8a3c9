//! The simulated office: changes what can be changed while people queue at the gates. Each command has an idempotency
//! key, and goes out again, the same, until it is answered.

use std::collections::BTreeMap;

use engine::cashless::command::CashlessAction;
use engine::command::{AdminAction, AdminAnswer, AdminCommand, IdempotencyKey};
use engine::gates::command::{ByHand, Details};
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, TagUid, TicketId, ZoneNo};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::{EntryPolicy, Policy, Role, ScanAck, TicketStatus, ZoneState};
use engine::model::time::{Calendar, Timestamp};

use super::bank::{TAGS, tag_of_number};
use super::dice::Dice;
use super::{Check, breach};

/// How many commands the office keeps under way at the gates, and how many about money.
const UNDER_WAY: (usize, usize) = (3, 6);
/// After so many steps without an answer it asks again.
const PATIENCE: u64 = 80;
/// So many steps after it was sent, what was put off goes out again.
const BUSY_FOR: u64 = 10;

/// The office and what it waits for.
#[derive(Default)]
pub(super) struct Admin {
    open: BTreeMap<u64, (AdminCommand, u64)>,
    next: u64,
    /// What each number came to.
    pub(super) told: BTreeMap<u64, (AdminCommand, AdminAnswer)>,
}

/// What the office, and whoever stands at the gates, knows of a festival.
pub(super) struct Site {
    pub(super) festival: FestivalId,
    pub(super) zones: u8,
    pub(super) tickets: Vec<TicketId>,
    pub(super) devices: Vec<DeviceId>,
    /// The newest version of the QR key that was heard of.
    pub(super) qr_version: u32,
}

/// Whose every command is that has an idempotency key.
pub(super) const WHO: Principal = Principal::ApiKey(1);

impl Admin {
    /// A new command, if it has not too many under way.
    pub(super) fn ask(&mut self, step: u64, made_at: Timestamp, action: AdminAction) -> Option<(u64, AdminCommand)> {
        let is_cashless = |action: &AdminAction| matches!(action, AdminAction::Cashless(_));
        let alike =
            self.open.values().filter(|(command, _)| is_cashless(&command.action) == is_cashless(&action)).count();
        if alike >= if is_cashless(&action) { UNDER_WAY.1 } else { UNDER_WAY.0 } {
            return None;
        }
        self.next += 1;
        let key = IdempotencyKey { id: u128::from(self.next), fingerprint: self.next, made_at: Some(made_at) };
        let command = AdminCommand { key: Some(key), by: WHO, action };
        self.open.insert(self.next, (command.clone(), step));
        Some((self.next, command))
    }

    /// What goes out again by now.
    pub(super) fn overdue(&mut self, step: u64) -> Vec<(u64, AdminCommand)> {
        let due = self.open.iter_mut().filter(|(_, (_, sent))| step > *sent + PATIENCE);
        due.map(|(number, (command, sent))| {
            *sent = step;
            (*number, command.clone())
        })
        .collect()
    }

    /// Everything goes out again at the next moment.
    pub(super) fn hurry(&mut self) {
        self.open.values_mut().for_each(|(_, sent)| *sent = 0);
    }

    /// Whether everything is answered.
    pub(super) fn is_content(&self) -> bool {
        self.open.is_empty()
    }

    /// An answer has arrived. `Some`: for the first time.
    pub(super) fn receive(&mut self, number: u64, answer: AdminAnswer) -> Check<Option<AdminCommand>> {
        if answer == AdminAnswer::Rejected(Rejection::Busy) {
            if let Some((_, sent)) = self.open.get_mut(&number) {
                *sent = sent.saturating_sub(PATIENCE - BUSY_FOR); // it asks again, soon
            }
            return Ok(None);
        }
        if answer == AdminAnswer::Rejected(Rejection::StillPending) {
            return Ok(None); // it asks again
        }
        if let Some((_, before)) = self.told.get(&number) {
            // What was forgotten by now is too old to be looked up; that answer and the outcome may overtake each other on
            // their way. Which of them left the node first was judged there.
            let expired = AdminAnswer::Rejected(Rejection::IdempotencyKeyExpired);
            if *before == answer || *before == expired || answer == expired {
                return Ok(None);
            }
            return breach("same id, same answer", format!("key {number}: {before:?}, then {answer:?}"));
        }
        let Some((command, _)) = self.open.remove(&number) else { return Ok(None) };
        self.told.insert(number, (command.clone(), answer));
        Ok(Some(command))
    }

    /// An answered command's key on another command: a client's mistake that has to be told from a repetition.
    pub(super) fn mistake(&self, dice: &mut Dice) -> Option<AdminCommand> {
        let answered: Vec<_> = self.told.values().rev().take(5).collect();
        let (command, _) = answered.get(dice.below(5) as usize)?;
        let key = command.key.map(|key| IdempotencyKey { fingerprint: key.fingerprint + 1_000_000, ..key });
        Some(AdminCommand { key, ..command.clone() })
    }
}

/// What the office has in mind at this festival.
pub(super) fn idea(site: &Site, dice: &mut Dice) -> AdminAction {
    let festival = site.festival;
    let ticket = dice.pick(&site.tickets);
    let zone = ZoneNo(dice.below(u64::from(site.zones)) as u8);
    match dice.below(33) {
        0..=2 => {
            let entry = dice.pick(EntryPolicy::ALL);
            let ack = dice.pick(ScanAck::ALL);
            AdminAction::SetPolicy { festival, policy: Policy { entry, ack, log_one_rejection_in: 1 } }
        }
        3..=4 => {
            let state = dice.pick(&[
                ZoneState::Open,
                ZoneState::Open,
                ZoneState::Open,
                ZoneState::Closed,
                ZoneState::Evacuating,
            ]);
            AdminAction::SetZoneState { festival, zone, state }
        }
        5..=6 => {
            let capacity = 1 + dice.below(5) as u32;
            AdminAction::PutZone { festival, zone: Some(zone), name: "area".into(), parent: None, capacity }
        }
        7 => AdminAction::BlockTicket { ticket, blocked: dice.one_in(2) },
        8 => AdminAction::BlockTicket { ticket, blocked: false },
        9 => AdminAction::SetTicketStatus { ticket, to: dice.pick(&[TicketStatus::Sold, TicketStatus::Cancelled]) },
        10..=13 => AdminAction::IssueTickets {
            festival,
            category: CategoryNo(dice.below(2) as u16),
            holders: vec![None; 1 + dice.below(3) as usize],
            paid: !dice.one_in(8),
            seed: dice.draw(),
        },
        14..=16 => AdminAction::UndoScan { ticket },
        17 => AdminAction::RotateQrKey { festival },
        18 if site.devices.len() > 3 && dice.one_in(2) => {
            AdminAction::RevokeDevice { device: dice.pick(&site.devices) }
        }
        19 if site.devices.len() < 12 => offer(festival, GateNo(u16::from(zone.0)), dice.draw()),
        20 | 22..=24 => AdminAction::BindTag { ticket: wearer(site, dice), tag: worn(dice) },
        25 if dice.one_in(2) => AdminAction::ReportTicketTagLost { ticket: wearer(site, dice) },
        25 | 31 | 32 => AdminAction::Cashless(CashlessAction::ReportTagLost { tag: worn(dice) }),
        21 => AdminAction::CreateApiKey {
            hash: hash_of(dice.draw()),
            role: Role::Staff,
            festivals: vec![festival],
            name: "a key".into(),
        },
        26 if !site.devices.is_empty() => {
            let (device, reason) = (dice.pick(&site.devices), "found again".into());
            AdminAction::ByHand(ByHand::ReadmitDevice { device, reason })
        }
        27 => AdminAction::ByHand(ByHand::RestoreTicket { ticket, reason: "the wrong row".into() }),
        // Gate n leads into zone n here.
        28 => {
            let (gate, reason) = (GateNo(u16::from(zone.0)), "she is on the list".into());
            AdminAction::ByHand(ByHand::Admit { ticket, gate, reason })
        }
        // Now it has begun long ago, now it begins in a far future: only then a reset is taken.
        29 => {
            let starts_at = Timestamp(if dice.one_in(2) { 0 } else { i64::MAX / 2 });
            let (name, ends_at) = ("another name".into(), Timestamp(i64::MAX));
            let (location, calendar) = ("here".into(), Calendar::default());
            let details = Details { name, starts_at, ends_at, location, max_capacity: None, calendar };
            AdminAction::ByHand(ByHand::Edit { festival, details })
        }
        30 if dice.one_in(3) => AdminAction::ByHand(ByHand::ResetScans { festival, reason: "a test".into() }),
        _ => AdminAction::RevokeApiKey { key: 1 + dice.below(3) as u32 },
    }
}

/// A wristband that a ticket may have: mostly one of few, so that it is lost, and held to a gate again, while it is worn.
pub(super) fn worn(dice: &mut Dice) -> TagUid {
    let one_of = if dice.one_in(4) { TAGS } else { 4 };
    tag_of_number(dice.below(one_of))
}

/// Whoever may wear a wristband: mostly one of few as well.
fn wearer(site: &Site, dice: &mut Dice) -> TicketId {
    match dice.one_in(4) {
        false => site.tickets[dice.below(4) as usize % site.tickets.len()],
        true => dice.pick(&site.tickets),
    }
}

/// A code for a device at this gate.
pub(super) fn offer(festival: FestivalId, gate: GateNo, code: u64) -> AdminAction {
    AdminAction::OfferEnrolment { festival, gate, code_hash: hash_of(code), name: "reader".into() }
}

/// 32 bytes that differ when `number` does.
pub(super) fn hash_of(number: u64) -> [u8; 32] {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

//! What has happened to a festival, written down.

use crate::cashless::event::CashlessEvent;
use crate::event::Event;
use crate::gates::admission;
use crate::gates::category::Category;
use crate::gates::command::{CONFLICT, Verdict};
use crate::gates::connections::{Connections, clock_off_ms};
use crate::gates::device::{Device, Offer};
use crate::gates::event::Scanned;
use crate::gates::festival::{DecidedSpan, Festival, RECENT_MAX};
use crate::gates::view::RecentRejection;
use crate::gates::zone::{Gate, Zone};
use crate::model::ids::{DeviceId, GateNo, TicketId, ZoneNo};
use crate::model::status::{ScanAck, TicketStatus};
use crate::model::time::Timestamp;
use crate::view::Terminal;

impl Festival {
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
    pub(super) fn set_ticket_status(&mut self, ticket: TicketId, to: TicketStatus) {
        self.categories[usize::from(ticket.category().0)].set_status(ticket, to);
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
}

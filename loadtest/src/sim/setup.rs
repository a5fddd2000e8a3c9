//! The simulated festivals as they are founded, before anything can go wrong.

use actors::pipeline::Work;
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::gates::command::CategoryValues;
use engine::model::ids::{CategoryNo, FestivalId, GateNo, ZoneNo};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::status::{CategoryKind, EntryPolicy, FestivalStatus, Policy, ScanAck};
use engine::model::time::{MINUTE_MS, Timestamp};

use super::admin::{Site, hash_of, offer};
use super::world::{Asker, DOORS_OPEN, World, shard_of_action};
use super::{Check, breach};

impl World {
    /// Sets a festival up: each zone with one gate and its readers, three categories, some tickets.
    pub(super) fn found(&mut self, slug: &str, zones: &[(Option<u8>, u32)]) -> Check {
        let festival = FestivalId::of_slug(slug);
        let ack = self.dice.pick(ScanAck::ALL);
        let entry = self.dice.pick(EntryPolicy::ALL);
        let policy = Policy { entry, ack, log_one_rejection_in: 1 };
        let (starts_at, ends_at) = (Timestamp(0), Timestamp(i64::MAX));
        self.order(AdminAction::CreateFestival {
            slug: slug.into(),
            name: slug.into(),
            starts_at,
            ends_at,
            policy,
            calendar: engine::model::time::Calendar::default(),
        })?;
        for (parent, capacity) in zones {
            let parent = parent.map(ZoneNo);
            self.order(AdminAction::PutZone {
                festival,
                zone: None,
                name: "area".into(),
                parent,
                capacity: *capacity,
            })?;
        }
        for zone in 0..zones.len() as u8 {
            self.order(AdminAction::AddGate { festival, zone: ZoneNo(zone), name: "gate".into() })?;
        }
        for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
            self.order(AdminAction::SetFestivalStatus { festival, to })?;
        }
        let everywhere = (1 << zones.len()) - 1;
        // The evening takes five minutes: one kind of ticket ends in the middle of it, one begins.
        let (ends, begins) = (DOORS_OPEN + 3 * MINUTE_MS, DOORS_OPEN + 2 * MINUTE_MS);
        let kinds = [(14, everywhere, 0, i64::MAX), (4, 1, 0, ends), (4, 1, begins, i64::MAX)];
        for (quota, zones, valid_from, valid_until) in kinds {
            let price = Money { minor: 0, currency: Currency::EUR };
            let values = CategoryValues {
                name: "ticket".into(),
                kind: CategoryKind::Standard,
                price,
                quota,
                zones,
                valid_from: Timestamp(valid_from),
                valid_until: Timestamp(valid_until),
            };
            self.order(AdminAction::PutCategory { festival, category: None, values })?;
        }
        self.sites.push(Site {
            festival,
            zones: zones.len() as u8,
            tickets: Vec::new(),
            devices: Vec::new(),
            qr_version: 1,
        });
        for (category, count, paid) in [(0, 4, true), (1, 2, true), (2, 2, true), (0, 2, true), (0, 1, false)] {
            let (category, holders, seed) = (CategoryNo(category), vec![None; count], self.dice.draw());
            self.order(AdminAction::IssueTickets { festival, category, holders, paid, seed })?;
        }
        for gate in (0..zones.len()).chain([0]) {
            let code = self.dice.draw();
            self.order(offer(festival, GateNo(gate as u16), code))?;
            let (code_hash, public_key) = (hash_of(code), hash_of(code));
            self.order(AdminAction::EnrolDevice { festival, code_hash, public_key })?;
        }
        Ok(())
    }

    /// One command of the office, from the question to the durable answer.
    pub(super) fn order(&mut self, action: AdminAction) -> Check {
        let shard = shard_of_action(&action);
        let command = AdminCommand { key: None, by: Principal::Installation, action: action.clone() };
        self.take(shard, Work::Admin(Box::new(command)), Asker::Setup);
        for _ in 0..20 {
            self.everything_moves()?;
            if self.set_up.is_some() {
                break;
            }
        }
        match self.set_up.take() {
            Some(AdminAnswer::Rejected(rejection)) => {
                breach("a festival can be set up", format!("{action:?}: {rejection:?}"))
            }
            Some(answer) => self.admin_knows(&action, answer),
            None => breach("a festival can be set up", format!("{action:?}: no answer")),
        }
    }
}

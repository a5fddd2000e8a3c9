//! What people do in the simulated world: they hold tickets to readers, make mistakes, change their minds in the office, and
//! look.

use actors::pipeline::Work;
use engine::command::AdminAction;
use engine::gates::command::{Credential, DeviceAction, DeviceCommand, Direction, Scan, Undo};
use engine::model::credential::{VerifiedTicket, text};
use engine::model::ids::{TicketId, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::view::Query;

use super::admin::{idea, worn};
use super::net::Packet;
use super::world::{Asker, World, shard_of, shard_of_action};

impl World {
    /// A reader reads something.
    pub(super) fn somebody_scans(&mut self) {
        let index = self.dice.below(self.readers.len() as u64) as usize;
        let mut commands = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            if !self.readers[index].has_room() {
                break;
            }
            let action = self.something_to_scan(index);
            let skip = self.dice.one_in(12);
            commands.push(self.readers[index].ask(self.step, action, skip));
            self.counts.commands += 1;
        }
        if !commands.is_empty() {
            self.send_commands(index, commands, false);
        }
    }

    fn something_to_scan(&mut self, index: usize) -> DeviceAction {
        let reader = &self.readers[index];
        if self.dice.one_in(6)
            && let Some(&(scan_seq, ticket)) = reader.scans.last()
        {
            return DeviceAction::Undo(Undo { ticket, scan_seq });
        }
        let (id, zone) = (reader.id, reader.zone);
        let site = self.sites.iter().find(|site| site.festival == id.festival()).expect("a reader is at a festival");
        // Mostly the first few: the same people again and again are what conflicts are made of.
        let few = if self.dice.one_in(4) { site.tickets.len() } else { site.tickets.len().min(7) };
        let mut ticket = site.tickets[self.dice.below(few as u64) as usize];
        let mut version = site.qr_version;
        let credential = match self.dice.below(30) {
            0 => Credential::Refused(Rejection::TamperedQr, self.dice.below(1 << 20) as u32),
            1 => Credential::Tag(worn(&mut self.dice)),
            // Whoever has found one that was lost here tries it.
            4 | 5 => {
                let page = self.ledgers[shard_of(id.festival())].books.festivals.get(&id.festival());
                let lost: Vec<_> = page.into_iter().flat_map(|page| page.lost_tags.iter().copied()).collect();
                Credential::Tag(if lost.is_empty() { worn(&mut self.dice) } else { self.dice.pick(&lost) })
            }
            special => {
                if special == 2 {
                    version = version.saturating_sub(self.dice.below(3) as u32).max(1);
                }
                if special == 3 {
                    ticket = self.dice.pick(&self.sites[0].tickets);
                }
                Credential::Ticket(self.verified(ticket, version))
            }
        };
        DeviceAction::Scan(Scan {
            zone: if self.dice.one_in(40) { ZoneNo(self.dice.below(6) as u8) } else { zone },
            direction: if self.dice.below(10) < 6 { Direction::Enter } else { Direction::Exit },
            credential,
            // Its clock is as right as the node's, but for a few.
            captured_at: if self.dice.one_in(8) { Timestamp(self.true_ms) } else { self.clock() },
            resent: false,
            shown: None,
        })
    }

    fn verified(&self, ticket: TicketId, version: u32) -> VerifiedTicket {
        let claim = self.secret.key(ticket.festival(), version).sign(ticket, version);
        self.secret.verify(text(&claim).as_bytes()).expect("signed just now")
    }

    /// A device, or whoever steals its number, asks something else under a number that was answered.
    pub(super) fn probe(&mut self) {
        let index = self.dice.below(self.readers.len() as u64) as usize;
        let id = self.readers[index].id;
        let books = &self.ledgers[shard_of(id.festival())].books;
        let Some(page) = books.device(id) else { return };
        let numbers: Vec<u64> = page.answers.range(page.floor..).map(|(seq, _)| *seq).collect();
        if numbers.is_empty() {
            if self.dice.one_in(2)
                && let Some(mistake) = self.admin.mistake(&mut self.dice)
            {
                let asker = Asker::Admin { number: 0, command: Box::new(mistake.clone()), probe: true };
                self.take(shard_of_action(&mistake.action), Work::Admin(Box::new(mistake)), asker);
            }
            return;
        }
        let seq = self.dice.pick(&numbers);
        let scan = Scan {
            zone: self.readers[index].zone,
            direction: Direction::Exit,
            credential: Credential::Refused(Rejection::InvalidQr, 0xFFFF_0000 | self.dice.below(1 << 16) as u32),
            captured_at: Timestamp(self.true_ms),
            resent: false,
            shown: None,
        };
        let command = DeviceCommand { device: id, seq, floor: 1, action: DeviceAction::Scan(scan) };
        self.send_commands(index, vec![command], true);
    }

    pub(super) fn admin_thinks(&mut self) {
        let site = &self.sites[usize::from(self.dice.one_in(6))];
        let action = idea(site, &mut self.dice);
        self.admin_asks(action);
    }

    pub(super) fn admin_asks(&mut self, action: AdminAction) {
        if let Some((number, command)) = self.admin.ask(self.step, Timestamp(self.true_ms), action) {
            self.counts.commands += 1;
            self.send(Packet::Ask { number, command: Box::new(command) });
        }
    }

    pub(super) fn somebody_looks(&mut self) {
        if self.dice.one_in(2) {
            return self.somebody_counts_money();
        }
        let site = &self.sites[usize::from(self.dice.one_in(6))];
        let festival = site.festival;
        let query = match self.dice.below(4) {
            0 => Query::Ticket(self.dice.pick(&site.tickets)),
            1 => {
                let zone = ZoneNo(self.dice.below(u64::from(site.zones)) as u8);
                Query::Inside { festival, zone, after: None, limit: 1_000 }
            }
            _ => Query::Live(festival),
        };
        self.send(Packet::Query(query));
    }
}

//! What a festival says of itself.

use crate::gates::category::Category;
use crate::gates::festival::Festival;
use crate::gates::view::brief::AboutView;
use crate::gates::view::{CODE_FOUND_MAX, CODE_SCAN_MAX, FestivalView, LiveView, TicketView};
use crate::gates::zone::{Gate, Zone};
use crate::model::ids::{CategoryNo, TicketId, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;

impl Festival {
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

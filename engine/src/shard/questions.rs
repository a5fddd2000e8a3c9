//! What a shard answers without changing anything.

use crate::cashless::directory::CashlessFestival;
use crate::gates::festival::Festival;
use crate::gates::view::DeviceView;
use crate::gates::view::brief::{StandView, StandingView};
use crate::model::ids::{FestivalId, ZoneNo};
use crate::model::rejection::Rejection;
use crate::model::status::ZoneState;
use crate::shard::Shard;
use crate::view::{Query, View};

impl Shard {
    /// Answers without changing anything.
    pub fn query(&self, query: &Query) -> View {
        let festival = |id: &FestivalId| self.festivals.get(id).ok_or(Rejection::UnknownFestival);
        let view = match query {
            Query::Festivals => Ok(View::Festivals(self.festivals.values().map(Festival::about).collect())),
            Query::Festival(id) => festival(id).map(|festival| View::Festival(Box::new(festival.view()))),
            Query::About(id) => festival(id).map(|festival| View::About(Box::new(festival.about()))),
            Query::Standing(id) => festival(&id.festival())
                .map_err(|_| Rejection::UnknownDevice)
                .and_then(|festival| {
                    let device = device_view(festival, id.number())?;
                    Ok(standing(festival, device, self.cashless.directory.get(id.festival()).ok()))
                })
                .map(|standing| View::Standing(Box::new(standing))),
            Query::NextSeq(id) => {
                let festival = self.cashless.directory.get(id.festival());
                festival.map(|festival| View::NextSeq(festival.next_seq(id.number())))
            }
            Query::Live(id) => festival(id).map(|festival| View::Live(Box::new(festival.live(self.now)))),
            Query::Ticket(id) => festival(&id.festival())
                .map_err(|_| Rejection::UnknownTicket)
                .and_then(|festival| festival.ticket_view(*id))
                .map(View::Ticket),
            Query::TicketsByCode { festival: id, code, from } => festival(id).map(|festival| {
                let (found, next) = festival.by_code(*code, *from);
                View::TicketsByCode(found, next)
            }),
            Query::Device(id) => festival(&id.festival())
                .map_err(|_| Rejection::UnknownDevice)
                .and_then(|festival| device_view(festival, id.number()))
                .map(View::Device),
            Query::EnrolmentCode(id, code_hash) => festival(id)
                .and_then(|festival| festival.code_used_by(code_hash, self.now))
                .map(|used_by| View::EnrolmentCode { used_by }),
            Query::Devices { festival: id, from, limit } => festival(id).map(|festival| {
                let devices = (*from..festival.devices.len() as u32).take(*limit as usize);
                View::Devices(devices.filter_map(|number| device_view(festival, number).ok()).collect())
            }),
            Query::Inside { festival: id, zone, after, limit } => festival(id)
                .and_then(|festival| festival.zone(*zone).map(|_| festival.inside(*zone, *after, *limit as usize)))
                .map(View::Inside),
            Query::ApiKey(hash) => self.operators.by_hash(hash).map(View::ApiKey).ok_or(Rejection::UnknownKey),
            Query::ApiKeys => Ok(View::ApiKeys(self.operators.all())),
            Query::Wallet(id) => self.cashless.wallets.view(*id).map(View::Wallet).ok_or(Rejection::UnknownWallet),
            Query::WalletsOf(account) => Ok(View::Wallets(self.cashless.wallets.of_account(*account).collect())),
            Query::Tag(tag) => self.cashless.tags.view(*tag).map(View::Tag).ok_or(Rejection::UnknownTag),
            Query::Payment(id) => {
                let found = self.cashless.refundable.find(*id, self.cashless.serial());
                found.map(|payment| View::Payment(payment.view()))
            }
            Query::CashOut(id) => self.cashless.payouts.find(*id).map(|lots| View::CashOut(Box::new(lots.clone()))),
            Query::CashlessPolicy(id) => {
                self.cashless.directory.get(*id).map(|festival| View::CashlessPolicy(festival.policy))
            }
            Query::Cashless(id) => {
                self.cashless.directory.get(*id).map(|festival| View::Cashless(Box::new(festival.view(*id))))
            }
            Query::Stand(id, vendor) => self.cashless.directory.get(*id).and_then(|festival| {
                let vendor = festival.vendor_view(*vendor)?;
                Ok(View::Stand(Box::new(StandView { policy: festival.policy, vendor })))
            }),
            Query::Ledger(id) => {
                let festival = self.cashless.directory.get(*id);
                festival.map(|festival| View::Ledger(Box::new(festival.ledger_view(*id))))
            }
        };
        view.unwrap_or_else(View::No)
    }
}

fn standing(festival: &Festival, device: DeviceView, cashless: Option<&CashlessFestival>) -> StandingView {
    let gate = festival.gates.get(usize::from(device.gate.0)).filter(|_| device.terminal.is_none());
    let vendor = device.terminal.and_then(|terminal| terminal.vendor);
    let vendor = cashless.zip(vendor).and_then(|(cashless, vendor)| cashless.vendor(vendor).ok());
    let not_open = festival.zones.iter().filter(|zone| zone.state != ZoneState::Open);
    StandingView {
        festival_name: festival.name.clone(),
        gate_name: gate.map_or(String::new(), |gate| gate.name.clone()),
        zone_name: gate.and_then(|gate| festival.zone(gate.zone).ok()).map_or(String::new(), |zone| zone.name.clone()),
        not_open: not_open.map(|zone| (zone.no, zone.state)).collect(),
        currency: cashless.map(|cashless| cashless.policy.currency),
        vendor_name: vendor.map_or(String::new(), |vendor| vendor.values.name.clone()),
        device,
    }
}

fn device_view(festival: &Festival, number: u32) -> Result<DeviceView, Rejection> {
    let device = festival.devices.get(number as usize).ok_or(Rejection::UnknownDevice)?;
    let zone = festival.gates.get(usize::from(device.gate.0)).map_or(ZoneNo(0), |gate| gate.zone);
    Ok(device.view(festival.id, number, zone, festival.policy.ack))
}

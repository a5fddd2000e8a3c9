//! The directory: what a shard needs to know of festivals, vendors and terminals to decide a payment by itself. The
//! festival's own shard writes it down as it decides; every other one as it is told, in order ([`crate::shard::outbox`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cashless::command::{CashlessPolicy, Line, ProductValues, TerminalAnswer, VendorValues};
use crate::cashless::event::SoldLine;
use crate::cashless::ledger::Ledger;
use crate::cashless::view::{CashlessView, LedgerView, TerminalSeen, VendorView};
use crate::gates::event::ByDevice;
use crate::model::ids::{DeviceId, FestivalId, ProductNo, VendorNo};
use crate::model::rejection::Rejection;
use crate::model::status::FestivalStatus;
use crate::model::time::{HOUR_MS, Timestamp};
use crate::plants::{Plant, planted};
use crate::shard::dedupe::Window;
use crate::shard::outbox::Entry;

/// The most vendors of one festival.
pub const VENDORS_MAX: usize = 1_024;
/// The most products of one vendor: 1,024 × 1,024 × about 60 B = 60 MB at worst, in every shard; a festival has some
/// thousand products.
pub const PRODUCTS_MAX: usize = 1_024;

/// Gifts lapse so long after their festival is over: whoever completed it by mistake can take that back until then.
pub const GIFT_KEPT_MS: i64 = 24 * HOUR_MS;

/// All festivals that take cashless payments, as far as this shard was told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Directory {
    festivals: BTreeMap<FestivalId, CashlessFestival>,
}

/// One of them, with this shard's part of its books.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CashlessFestival {
    /// Its limits.
    pub policy: CashlessPolicy,
    /// Where it is in its life.
    pub status: FestivalStatus,
    /// Since when it is over, if it is.
    over_since: Option<Timestamp>,
    /// Its currency is about to be another: nothing is booked until that is decided.
    pub(super) is_changing: bool,
    /// By number.
    vendors: Vec<Vendor>,
    /// By the device's number at the festival.
    terminals: BTreeMap<u32, Terminal>,
    /// What happened at this festival in this shard's wallets.
    pub ledger: Ledger,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vendor {
    pub values: VendorValues,
    /// By number.
    products: Vec<ProductValues>,
    /// How many payments it took in this shard.
    pub(super) payments: u32,
}

/// A terminal, with what this shard has answered it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Terminal {
    /// For whom it takes payments.
    pub vendor: Option<VendorNo>,
    /// Whether it tops up with cash.
    pub cashier: bool,
    /// Refused.
    pub revoked: bool,
    /// When it last asked something here that was recorded.
    pub last_seen_at: Timestamp,
    /// The answers it may ask for again.
    pub window: Window<TerminalAnswer>,
}

impl Directory {
    /// # Errors
    /// [`Rejection::NotCashless`].
    pub fn get(&self, id: FestivalId) -> Result<&CashlessFestival, Rejection> {
        self.festivals.get(&id).ok_or(Rejection::NotCashless)
    }
    pub(crate) fn get_mut(&mut self, id: FestivalId) -> Option<&mut CashlessFestival> {
        self.festivals.get_mut(&id)
    }
    pub fn festivals(&self) -> impl Iterator<Item = (FestivalId, &CashlessFestival)> {
        self.festivals.iter().map(|(id, festival)| (*id, festival))
    }
    /// The terminal's festival and the terminal.
    pub fn terminal(&self, id: DeviceId) -> Option<(&CashlessFestival, &Terminal)> {
        let festival = self.festivals.get(&id.festival())?;
        Some((festival, festival.terminals.get(&id.number())?))
    }

    /// Writes a line down.
    pub(crate) fn put(&mut self, entry: &Entry, at: Timestamp) {
        match entry {
            Entry::Festival { festival, policy, status } => match self.festivals.get_mut(festival) {
                Some(known) => {
                    (known.policy, known.status) = (*policy, *status);
                    known.over_since = is_over(*status).then(|| known.over_since.unwrap_or(at));
                }
                None => {
                    let made = CashlessFestival {
                        policy: *policy,
                        status: *status,
                        over_since: is_over(*status).then_some(at),
                        is_changing: false,
                        vendors: Vec::new(),
                        terminals: BTreeMap::new(),
                        ledger: Ledger::default(),
                    };
                    self.festivals.insert(*festival, made);
                }
            },
            Entry::Vendor { festival, vendor, values } => {
                let festival = self.festivals.get_mut(festival).expect("told before its vendors");
                match festival.vendors.get_mut(usize::from(vendor.0)) {
                    Some(known) => known.values = values.clone(),
                    None => {
                        let made = Vendor { values: values.clone(), products: Vec::new(), payments: 0 };
                        festival.vendors.push(made);
                    }
                }
            }
            Entry::Product { festival, vendor, product, values } => {
                let festival = self.festivals.get_mut(festival).expect("told before its vendors");
                let products = &mut festival.vendors[usize::from(vendor.0)].products;
                match products.get_mut(usize::from(product.0)) {
                    Some(known) => *known = values.clone(),
                    None => products.push(values.clone()),
                }
            }
            Entry::Terminal { device, vendor, cashier, revoked } => {
                let festival = self.festivals.get_mut(&device.festival()).expect("told before its terminals");
                let known = festival.terminals.entry(device.number()).or_insert_with(|| Terminal {
                    vendor: None,
                    cashier: false,
                    revoked: false,
                    last_seen_at: Timestamp(0),
                    window: Window::default(),
                });
                (known.vendor, known.cashier, known.revoked) = (*vendor, *cashier, *revoked);
            }
        }
    }
}

/// Whether nothing is sold at it any more.
fn is_over(status: FestivalStatus) -> bool {
    matches!(status, FestivalStatus::Completed | FestivalStatus::Cancelled)
}

impl CashlessFestival {
    /// Whether nothing is sold here any more.
    pub(super) fn is_over(&self) -> bool {
        is_over(self.status)
    }
    /// Whether gifts lapse: it has been over for [`GIFT_KEPT_MS`].
    pub(super) fn gifts_lapse(&self, now: Timestamp) -> bool {
        self.over_since.is_some_and(|since| now.since_ms(since) >= GIFT_KEPT_MS)
    }
    /// # Errors
    /// [`Rejection::UnknownVendor`].
    pub fn vendor(&self, vendor: VendorNo) -> Result<&Vendor, Rejection> {
        self.vendors.get(usize::from(vendor.0)).ok_or(Rejection::UnknownVendor)
    }
    pub(super) fn vendor_mut(&mut self, vendor: VendorNo) -> &mut Vendor {
        &mut self.vendors[usize::from(vendor.0)]
    }
    /// How many vendors there are: the number of the next.
    pub fn vendors_len(&self) -> usize {
        self.vendors.len()
    }
    /// The terminal with this number at the festival.
    pub fn terminal(&self, number: u32) -> Option<&Terminal> {
        self.terminals.get(&number)
    }

    /// Whether money may be spent and topped up: on sale or open.
    ///
    /// # Errors
    /// [`Rejection::FestivalNotActive`]; [`Rejection::Busy`] while its currency is about to be another.
    pub(super) fn is_active(&self) -> Result<(), Rejection> {
        self.is_settled()?;
        match self.status {
            FestivalStatus::Published | FestivalStatus::Ongoing => Ok(()),
            FestivalStatus::Draft | FestivalStatus::Completed | FestivalStatus::Cancelled => {
                Err(Rejection::FestivalNotActive)
            }
        }
    }

    /// Whether its currency is not about to be another. If it is, nothing is decided, and the same question may come again.
    ///
    /// # Errors
    /// [`Rejection::Busy`].
    pub(super) fn is_settled(&self) -> Result<(), Rejection> {
        if self.is_changing && !planted(Plant::CurrencyNotHeld) { Err(Rejection::Busy) } else { Ok(()) }
    }

    /// Prices in another currency have to be said anew.
    pub(super) fn take_off_sale(&mut self) {
        self.vendors.iter_mut().flat_map(|vendor| &mut vendor.products).for_each(|product| product.on_sale = false);
    }

    pub(super) fn answered(&mut self, by: ByDevice, answer: TerminalAnswer, at: Timestamp) {
        let terminal = self.terminals.get_mut(&by.device.number()).expect("decided");
        terminal.last_seen_at = at;
        if !planted(Plant::TerminalDedupeIgnored) {
            terminal.window.remember(by.seq, by.floor, by.fingerprint, answer);
        }
    }

    /// For the office.
    pub fn view(&self, festival: FestivalId) -> CashlessView {
        let vendors = self.vendors.iter().zip(0..).map(|(vendor, no)| vendor.view(VendorNo(no)));
        CashlessView { festival, policy: self.policy, status: self.status, vendors: vendors.collect() }
    }

    /// One of its vendors.
    ///
    /// # Errors
    /// [`Rejection::UnknownVendor`].
    pub fn vendor_view(&self, vendor: VendorNo) -> Result<VendorView, Rejection> {
        Ok(self.vendor(vendor)?.view(vendor))
    }

    /// The lowest number that this shard has not seen of a terminal; 0 if it has seen none.
    pub fn next_seq(&self, terminal: u32) -> u64 {
        self.terminals.get(&terminal).map_or(0, |terminal| terminal.window.next_seq())
    }

    /// This shard's part of the books, with the terminals as it has seen them.
    pub fn ledger_view(&self, festival: FestivalId) -> LedgerView {
        let terminals = self.terminals.iter().map(|(number, terminal)| TerminalSeen {
            device: DeviceId::new(festival, *number),
            vendor: terminal.vendor,
            cashier: terminal.cashier,
            revoked: terminal.revoked,
            last_seen_at: terminal.last_seen_at,
            next_seq: terminal.window.next_seq(),
        });
        LedgerView { terminals: terminals.collect(), ..self.ledger.view() }
    }
}

impl Vendor {
    fn view(&self, no: VendorNo) -> VendorView {
        let products = self.products.iter().zip(0..).map(|(values, no)| (ProductNo(no), values.clone()));
        VendorView { no, values: self.values.clone(), products: products.collect() }
    }

    /// # Errors
    /// [`Rejection::UnknownProduct`].
    pub fn product(&self, product: ProductNo) -> Result<&ProductValues, Rejection> {
        self.products.get(usize::from(product.0)).ok_or(Rejection::UnknownProduct)
    }
    /// How many products there are: the number of the next.
    pub fn products_len(&self) -> usize {
        self.products.len()
    }

    /// What was sold, if it is on sale here and adds up to the amount.
    ///
    /// # Errors
    /// [`Rejection::LinesMismatch`], [`Rejection::UnknownProduct`].
    pub(super) fn sell(&self, lines: &[Line], amount: i64) -> Result<Vec<SoldLine>, Rejection> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let positive = lines.iter().all(|line| line.count > 0 && line.price >= 0);
        let sum = lines.iter().map(|line| i128::from(line.price) * i128::from(line.count)).sum::<i128>();
        if lines.len() > crate::cashless::command::LINES_MAX || !positive || sum != i128::from(amount) {
            return Err(Rejection::LinesMismatch);
        }
        let sold = |line: &Line| {
            let product = self.product(line.product)?;
            if !product.on_sale {
                return Err(Rejection::UnknownProduct);
            }
            Ok(SoldLine { product: line.product, count: line.count, price: line.price, vat_bp: product.vat_bp })
        };
        lines.iter().map(sold).collect()
    }
}

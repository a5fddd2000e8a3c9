//! The cashless half of a picture: the books of all shards as a screen shows them, and what a second has brought at the
//! terminals. Amounts are exact here, and decimal strings on the wire.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use engine::cashless::event::TransactionKind;
use engine::cashless::view::{CashlessView, LedgerView, TerminalSeen};
use engine::model::ids::{DeviceId, VendorNo};
use engine::model::money::decimal;
use engine::model::money::decimal::{DECIMALS_MAX, Decimal};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::live::names::Names;
use crate::live::snapshot::{Reason, more};

/// A terminal of which nothing was recorded for so long is called silent. Looking up a balance is not recorded.
pub const SILENT_AFTER_S: u64 = 5 * 60;
/// How many silent terminals are named; all are counted.
pub const SILENT_MAX: usize = 32;

/// An amount in minor units; in JSON a decimal string such as `"1234.50"`, with its currency's decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    /// How many minor units.
    pub minor: i128,
    /// Its currency's.
    pub decimals: u8,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal { units: self.minor, decimals: self.decimals }.fmt(f)
    }
}

impl Amount {
    /// What [`fmt::Display`] has written: its decimals are the currency's.
    fn parse(text: &str) -> Option<Self> {
        let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let decimals = u8::try_from(decimals).ok().filter(|decimals| *decimals <= DECIMALS_MAX)?;
        Some(Self { minor: decimal::read_wide(text, decimals).ok()?, decimals })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a decimal string"))
    }
}

/// How it stands with a festival's money. Amounts are decimal strings of `currency`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveCash)]
pub struct Cashless {
    /// Of all amounts here.
    #[schema(example = "EUR")]
    pub(crate) currency: String,
    /// How many decimals these have: minor units over 10 to this are whole ones.
    #[schema(example = 2)]
    pub(crate) decimals: u8,
    /// False while a shard does not answer: these are the last figures that all of them gave.
    pub(crate) current: bool,
    /// What can be spent: the balances of all wallets.
    #[schema(value_type = String, example = "412380.50")]
    pub(crate) in_wallets: Amount,
    /// On its way from one wallet to another.
    #[schema(value_type = String, example = "0.00")]
    pub(crate) in_transit: Amount,
    /// What was paid to vendors since the festival was made.
    #[schema(value_type = String)]
    pub(crate) sold: Amount,
    /// Of this, what was given back.
    #[schema(value_type = String)]
    pub(crate) refunded: Amount,
    /// What came in: cash, cards, transfers from banks.
    #[schema(value_type = String)]
    pub(crate) topped_up: Amount,
    /// What is payable to vendors.
    #[schema(value_type = String)]
    pub(crate) payable: Amount,
    /// The organiser's part of sales.
    #[schema(value_type = String)]
    pub(crate) commission: Amount,
    /// How many payments.
    pub(crate) payments: u64,
    /// How many refunds.
    pub(crate) refunds: u64,
    /// How many top-ups.
    pub(crate) top_ups: u64,
    /// How many transfers have left a wallet.
    pub(crate) transfers: u64,
    /// All accounts of the books together. Always `"0.00"`; anything else is for whoever is on call.
    #[schema(value_type = String, example = "0.00")]
    pub(crate) trial_balance: Amount,
    /// By number.
    pub(crate) vendors: Vec<Vendor>,
    /// Since the festival was made.
    pub(crate) rejections: Vec<Reason>,
    /// The last refusals, newest first, at most 32.
    pub(crate) latest: Vec<RefusedCash>,
    /// Terminals that are not revoked.
    pub(crate) terminals: Terminals,
}

/// A vendor with its sales since the festival was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveVendor)]
pub struct Vendor {
    pub(crate) no: u16,
    pub(crate) name: String,
    /// Takes payments.
    pub(crate) open: bool,
    pub(crate) payments: u64,
    pub(crate) refunds: u64,
    #[schema(value_type = String)]
    pub(crate) sold: Amount,
    #[schema(value_type = String)]
    pub(crate) refunded: Amount,
    /// What the organiser owes it.
    #[schema(value_type = String)]
    pub(crate) payable: Amount,
    /// Its terminals that were heard of lately.
    pub(crate) heard: u32,
    /// All its terminals that are not revoked.
    pub(crate) terminals: u32,
}

/// One of the last refusals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveRefusedCash)]
pub struct RefusedCash {
    pub(crate) at: i64,
    /// By which terminal; null for the office.
    pub(crate) device: Option<String>,
    /// What that terminal is called.
    pub(crate) terminal: Option<String>,
    /// Whose it is; null for a cash desk and for the office.
    pub(crate) vendor: Option<u16>,
    /// What was asked: `PAYMENT`, `REFUND`, `TOPUP` and the like.
    pub(crate) kind: Cow<'static, str>,
    pub(crate) code: Cow<'static, str>,
    /// What to say to the person in front of you.
    pub(crate) say: Cow<'static, str>,
    pub(crate) wallet: String,
    #[schema(value_type = String)]
    pub(crate) amount: Amount,
}

/// Which terminals were heard of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveTerminals)]
pub struct Terminals {
    /// Heard of within `silentAfterS`.
    pub(crate) heard: u32,
    /// Heard of before, but not lately.
    pub(crate) silent: u32,
    /// Enrolled, and nothing was recorded of them so far.
    pub(crate) unused: u32,
    /// After how many seconds without anything recorded a terminal is called silent.
    pub(crate) silent_after_s: u64,
    /// The silent ones, those that fell silent last first, at most 32.
    pub(crate) silent_list: Vec<SilentTerminal>,
}

/// A terminal of which nothing is heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveSilentTerminal)]
pub struct SilentTerminal {
    pub(crate) device: String,
    pub(crate) name: String,
    /// Whose it is; null for a cash desk.
    pub(crate) vendor: Option<u16>,
    pub(crate) last_seen_at: i64,
}

/// What one second has brought at the terminals. Amounts are whole minor units here: they are for lines, not for books.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveCashPoint)]
pub struct CashPoint {
    pub(crate) payments: u32,
    pub(crate) refunds: u32,
    pub(crate) top_ups: u32,
    pub(crate) rejected: u32,
    /// What the payments came to.
    pub(crate) sold_minor: u64,
    /// What the top-ups came to.
    pub(crate) topped_up_minor: u64,
    /// `[payments, what they came to in minor units]` by vendor number; empty when older than two minutes.
    pub(crate) vendors: Vec<[u32; 2]>,
    /// Rejections by code.
    pub(crate) reasons: HashMap<Cow<'static, str>, u32>,
}

impl Cashless {
    /// From a festival's vendors, the books of all shards, and what its terminals are called.
    pub(super) fn of(about: &CashlessView, books: &LedgerView, names: &Names, at: i64) -> Self {
        let kind = |kind| books.kinds.iter().find(|(k, ..)| *k == kind).map_or((0, 0), |&(_, n, sum)| (n, sum));
        let (payments, sold) = kind(TransactionKind::Payment);
        let (refunds, refunded) = kind(TransactionKind::Refund);
        let (top_ups, topped_up) = kind(TransactionKind::TopUp);
        let payable = books.vendors.iter().map(|vendor| vendor.payable).sum::<i128>();
        let sources = books.sources.iter().map(|(_, sum)| sum).sum::<i128>();
        let terminals: Vec<&TerminalSeen> = books.terminals.iter().filter(|one| !one.revoked).collect();
        let name = |device: DeviceId| names.get(device).map(str::to_owned);
        let decimals = about.policy.currency.decimals();
        let amount = |minor: i128| Amount { minor, decimals };
        Self {
            currency: about.policy.currency.as_str().to_owned(),
            decimals,
            current: true,
            in_wallets: amount(books.wallets),
            in_transit: amount(books.in_transit),
            sold: amount(sold),
            refunded: amount(refunded),
            topped_up: amount(topped_up),
            payable: amount(payable),
            commission: amount(books.commission),
            payments,
            refunds,
            top_ups,
            transfers: kind(TransactionKind::TransferOut).0,
            trial_balance: amount(
                books.wallets + payable + books.commission + sources + books.corrections + books.in_transit,
            ),
            vendors: vendors(about, books, &terminals, at),
            rejections: books.rejections.iter().map(|&(reason, count)| Reason::of(reason, count)).collect(),
            latest: books
                .latest
                .iter()
                .map(|refused| RefusedCash {
                    at: refused.at.0,
                    device: refused.device.map(|device| device.to_string()),
                    terminal: refused.device.and_then(name),
                    vendor: refused
                        .device
                        .and_then(|device| books.terminals.iter().find(|one| one.device == device)?.vendor)
                        .map(|vendor| vendor.0),
                    kind: refused.kind.word().into(),
                    code: refused.reason.code().into(),
                    say: refused.reason.sentence().into(),
                    wallet: refused.wallet.to_string(),
                    amount: amount(refused.amount.into()),
                })
                .collect(),
            terminals: Terminals::of(&terminals, name, at),
        }
    }

    /// What has happened between `before` and this. Nothing, where nothing was known before.
    pub(super) fn since(&self, before: Option<&Self>) -> CashPoint {
        let Some(before) = before else { return CashPoint::default() };
        let minor = |now: Amount, then: Amount| (now.minor - then.minor).clamp(0, i128::from(u64::MAX)) as u64;
        let vendors = self.vendors.iter().enumerate().map(|(i, now)| {
            let (payments, sold) =
                before.vendors.get(i).map_or((0, Amount::default()), |then| (then.payments, then.sold));
            [more(now.payments, payments), u32::try_from(minor(now.sold, sold)).unwrap_or(u32::MAX)]
        });
        let reasons = Reason::since(&self.rejections, &before.rejections);
        CashPoint {
            payments: more(self.payments, before.payments),
            refunds: more(self.refunds, before.refunds),
            top_ups: more(self.top_ups, before.top_ups),
            rejected: reasons.values().fold(0, |sum: u32, n| sum.saturating_add(*n)),
            sold_minor: minor(self.sold, before.sold),
            topped_up_minor: minor(self.topped_up, before.topped_up),
            vendors: vendors.collect(),
            reasons,
        }
    }
}

fn is_heard(terminal: &TerminalSeen, at: i64) -> bool {
    at.saturating_sub(terminal.last_seen_at.0) <= SILENT_AFTER_S as i64 * 1_000
}

fn is_unused(terminal: &TerminalSeen) -> bool {
    terminal.last_seen_at.0 == 0
}

fn vendors(about: &CashlessView, books: &LedgerView, terminals: &[&TerminalSeen], at: i64) -> Vec<Vendor> {
    let mut heard_and_all = HashMap::<VendorNo, (u32, u32)>::new();
    for terminal in terminals {
        let Some(vendor) = terminal.vendor else { continue };
        let counted = heard_and_all.entry(vendor).or_default();
        *counted = (counted.0 + u32::from(is_heard(terminal, at)), counted.1 + 1);
    }
    let sums: HashMap<VendorNo, _> = books.vendors.iter().map(|sums| (sums.vendor, *sums)).collect();
    let decimals = about.policy.currency.decimals();
    let amount = |minor: i128| Amount { minor, decimals };
    let vendor = |vendor: &engine::cashless::view::VendorView| {
        let sums = sums.get(&vendor.no).copied().unwrap_or_default();
        let (heard, all) = heard_and_all.get(&vendor.no).copied().unwrap_or_default();
        Vendor {
            no: vendor.no.0,
            name: vendor.values.name.clone(),
            open: vendor.values.open,
            payments: sums.payments,
            refunds: sums.refunds,
            sold: amount(sums.sold),
            refunded: amount(sums.refunded),
            payable: amount(sums.payable),
            heard,
            terminals: all,
        }
    };
    about.vendors.iter().map(vendor).collect()
}

impl Terminals {
    fn of(terminals: &[&TerminalSeen], name: impl Fn(DeviceId) -> Option<String>, at: i64) -> Self {
        let (unused, used): (Vec<&TerminalSeen>, Vec<_>) = terminals.iter().copied().partition(|one| is_unused(one));
        let (heard, mut silent): (Vec<&TerminalSeen>, Vec<_>) = used.into_iter().partition(|one| is_heard(one, at));
        silent.sort_by_key(|one| (std::cmp::Reverse(one.last_seen_at), one.device));
        let shown = silent.iter().take(SILENT_MAX).map(|one| SilentTerminal {
            device: one.device.to_string(),
            name: name(one.device).unwrap_or_else(|| one.device.to_string()),
            vendor: one.vendor.map(|vendor| vendor.0),
            last_seen_at: one.last_seen_at.0,
        });
        Self {
            heard: heard.len() as u32,
            silent: silent.len() as u32,
            unused: unused.len() as u32,
            silent_after_s: SILENT_AFTER_S,
            silent_list: shown.collect(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use engine::cashless::command::{CashlessPolicy, ProductValues, Source, SourceKind, VendorValues};
    use engine::cashless::view::{RefusedCash, VendorSums, VendorView};
    use engine::model::ids::{FestivalId, ProductNo, WalletId};
    use engine::model::rejection::Rejection;
    use engine::model::status::FestivalStatus;
    use engine::model::time::Timestamp;

    const FESTIVAL: FestivalId = FestivalId(7);
    const NOW: i64 = 10_000_000;

    /// A beer stand and a crêperie.
    fn about() -> CashlessView {
        let vendor = |no, name: &str, open| VendorView {
            no: VendorNo(no),
            values: VendorValues {
                name: name.into(),
                commission_bp: 1_000,
                open,
                kind: engine::model::status::VendorKind::Bar,
            },
            products: vec![(
                ProductNo(0),
                ProductValues { name: "One".into(), price: 500, vat_bp: 1_900, on_sale: true },
            )],
        };
        CashlessView {
            festival: FESTIVAL,
            policy: CashlessPolicy::default(),
            status: FestivalStatus::Ongoing,
            vendors: vec![vendor(0, "Lake bar", true), vendor(1, "Crêpes", false)],
        }
    }

    /// So many payments of 5.00 at the first vendor, of which 10 % are commission, from what was topped up in cash.
    pub(in crate::live) fn books(payments: u64, topped_up: i128, refused: u64) -> LedgerView {
        let (n, source) = (i128::from(payments), Source::new(SourceKind::Terminal, FESTIVAL, 3));
        LedgerView {
            wallets: topped_up - 500 * n,
            vendors: vec![VendorSums {
                vendor: VendorNo(0),
                payable: 450 * n,
                sold: 500 * n,
                payments,
                ..VendorSums::default()
            }],
            commission: 50 * n,
            sources: vec![(source, -topped_up)],
            kinds: vec![(TransactionKind::TopUp, 1, topped_up), (TransactionKind::Payment, payments, 500 * n)],
            rejections: vec![(Rejection::InsufficientFunds, refused)].into_iter().filter(|(_, n)| *n > 0).collect(),
            ..LedgerView::default()
        }
    }

    pub(in crate::live) fn cash(books: &LedgerView) -> Cashless {
        Cashless::of(&about(), books, &Names::known(FESTIVAL, &[(3, "Lake bar 1")]), NOW)
    }

    fn seen(number: u32, vendor: Option<u16>, ago_s: i64) -> TerminalSeen {
        TerminalSeen {
            device: DeviceId::new(FESTIVAL, number),
            vendor: vendor.map(VendorNo),
            cashier: vendor.is_none(),
            revoked: false,
            last_seen_at: Timestamp(NOW - ago_s * 1_000),
            next_seq: 1,
        }
    }

    #[test]
    fn amounts_are_decimal_strings_there_and_back() {
        for (minor, decimals, text) in [
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (123_450, 2, "1234.50"),
            (-100, 2, "-1.00"),
            (1_250, 0, "1250"),
            (1_250, 3, "1.250"),
            (i128::from(i64::MAX) * 1_000, 2, "92233720368547758070.00"),
        ] {
            let amount = Amount { minor, decimals };
            assert_eq!(amount.to_string(), text);
            assert_eq!(Amount::parse(text), Some(amount));
        }
        for bad in ["", "x.00", "--1.00", "1.-5", "+1.00", ".00e", "1.0000000000", "1."] {
            assert_eq!(Amount::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn books_that_balance_come_to_nothing_and_a_missing_cent_shows() {
        let mut books = books(3, 10_000, 0);
        let shown = cash(&books);
        assert_eq!(shown.trial_balance.to_string(), "0.00");
        assert_eq!((shown.in_wallets.to_string(), shown.sold.to_string()), ("85.00".into(), "15.00".into()));
        assert_eq!((shown.payable.to_string(), shown.commission.to_string()), ("13.50".into(), "1.50".into()));
        books.commission -= 1;
        assert_eq!(cash(&books).trial_balance.to_string(), "-0.01");
    }

    #[test]
    fn every_vendor_is_shown_with_sales_or_without() {
        let mut books = books(3, 10_000, 0);
        books.terminals = vec![seen(3, Some(0), 10), seen(4, Some(0), 900), seen(5, None, 10)];
        let shown = cash(&books);
        let brief = |v: &Vendor| (v.name.clone(), v.open, v.sold.to_string(), v.heard, v.terminals);
        assert_eq!(
            shown.vendors.iter().map(brief).collect::<Vec<_>>(),
            [("Lake bar".into(), true, "15.00".into(), 1, 2), ("Crêpes".into(), false, "0.00".into(), 0, 0)]
        );
    }

    #[test]
    fn a_second_is_the_difference_of_two_pictures() {
        let (before, now) = (cash(&books(3, 10_000, 1)), cash(&books(7, 15_000, 3)));
        let point = now.since(Some(&before));
        assert_eq!((point.payments, point.sold_minor, point.topped_up_minor), (4, 2_000, 5_000));
        assert_eq!(point.vendors, [[4, 2_000], [0, 0]]);
        assert_eq!((point.rejected, point.reasons), (2, HashMap::from([("insufficient_funds".into(), 2)])));
        assert_eq!(now.since(None), CashPoint::default(), "a festival that begins to take money has no burst");
    }

    #[test]
    fn terminals_are_silent_after_five_minutes() {
        let mut books = books(0, 0, 0);
        let revoked = TerminalSeen { revoked: true, ..seen(9, None, 10) };
        let unused = TerminalSeen { last_seen_at: Timestamp(0), ..seen(6, Some(1), 0) };
        books.terminals =
            vec![seen(3, Some(0), 300), seen(4, Some(0), 900), seen(5, None, 301), revoked, unused, seen(2, None, -60)];
        let Terminals { heard, silent, unused, silent_list, .. } = cash(&books).terminals;
        assert_eq!((heard, silent, unused), (2, 2, 1), "a clock that is ahead is no silence");
        let named: Vec<_> = silent_list.iter().map(|one| (one.vendor, one.last_seen_at)).collect();
        assert_eq!(named, [(None, NOW - 301_000), (Some(0), NOW - 900_000)], "the newest silence first");
        books.terminals = (0..40).map(|number| seen(number, None, 1_000)).collect();
        let many = cash(&books).terminals;
        assert_eq!((many.silent, many.silent_list.len()), (40, SILENT_MAX));
    }

    #[test]
    fn a_refusal_says_where_and_what() {
        let mut books = books(0, 0, 1);
        books.terminals = vec![seen(3, Some(0), 10)];
        let refused = |device| RefusedCash {
            at: Timestamp(NOW),
            device,
            kind: TransactionKind::Payment,
            reason: Rejection::InsufficientFunds,
            wallet: WalletId(5),
            amount: 1_250,
        };
        books.latest = vec![refused(Some(DeviceId::new(FESTIVAL, 3))), refused(None)];
        let shown = cash(&books).latest;
        let brief = |r: &super::RefusedCash| (r.terminal.clone(), r.vendor, r.amount.to_string());
        assert_eq!(brief(&shown[0]), (Some("Lake bar 1".into()), Some(0), "12.50".into()));
        assert_eq!(brief(&shown[1]), (None, None, "12.50".into()), "the office");
        assert_eq!((&*shown[0].kind, &*shown[0].code), ("PAYMENT", "insufficient_funds"));
        assert_eq!(shown[0].say, "There is not enough money on this wristband.");
    }
}

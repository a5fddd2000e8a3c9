//! The operator's side of a bar: makes it, puts money into wallets, transfers, reads the books.

use anyhow::{Context as _, anyhow, ensure};
use engine::model::ids::{FestivalId, TagUid, WalletId};
use engine::model::money::Currency;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use crate::link::{Offer, Target};
use crate::workload::bar::PRICE;

/// The most wallets in one call.
const WALLETS_MAX: usize = 100_000;

/// A festival that was made for a load test, with its vendors and wallets. Nobody has any money yet.
pub struct BarPlace {
    /// Its name in addresses.
    pub slug: String,
    pub id: FestivalId,
    /// Each with its wristband, if it has one.
    pub wallets: Vec<(WalletId, Option<TagUid>)>,
}

/// What the server says of a festival's money, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    pub wallets: i64,
    /// Payable to the vendors, and the organiser's commission.
    pub turnover: i64,
    /// What came in at terminals.
    pub terminals: i64,
    /// Between two wallets.
    pub in_transit: i64,
    /// The trial balance is one.
    pub balanced: bool,
}

/// What the server says of one wallet, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// What can be spent.
    pub balance: i64,
    /// On its way to another wallet.
    pub reserved: i64,
}

/// As the API spells an amount.
pub fn euros(minor: i64) -> String {
    Currency::EUR.text(minor)
}

/// Reads an amount.
///
/// # Errors
/// It is none.
pub fn minor(text: &Value) -> anyhow::Result<i64> {
    let text = text.as_str().context("an amount is text")?;
    Currency::EUR.read(text).map_err(|why| anyhow!("{text} {why}"))
}

impl Admin {
    /// Makes a festival that takes cashless payments, with vendors that have one product each, and wallets, of which the
    /// first `tags` have a wristband.
    ///
    /// # Errors
    /// The server refuses, in its own words.
    pub fn make_bar(&self, vendors: u16, wallets: usize, tags: usize) -> anyhow::Result<BarPlace> {
        let slug = format!("bar-{:016x}", self.run);
        let (from, until) = ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
        self.post("/festivals", &json!({ "slug": slug, "name": "Load test", "startsAt": from, "endsAt": until }))?;
        let at = |what: &str| format!("/festivals/{slug}/{what}");
        let limits = json!({ "currency": "EUR", "maxTopup": "1000000000.00", "maxBalance": "5000000000.00" });
        self.send("PUT", &at("cashless"), &limits)?;
        for number in 0..vendors {
            let vendor = json!({ "name": format!("Bar {number}"), "commissionRate": "10.00" });
            let made = self.post(&at("vendors"), &vendor)?;
            ensure!(made["vendor"] == number, "vendors are numbered: {made}");
            let product = json!({ "name": "Beer", "price": euros(PRICE), "vatRate": "19.00" });
            self.post(&at(&format!("vendors/{number}/products")), &product)?;
        }
        for status in ["PUBLISHED", "ONGOING"] {
            self.post(&at("status"), &json!({ "status": status }))?;
        }
        let id = FestivalId::of_slug(&slug);
        let mut made = Vec::with_capacity(wallets);
        while made.len() < wallets {
            let first = made.len();
            let wanted = first..wallets.min(first + WALLETS_MAX);
            let tags: Vec<Option<TagUid>> = wanted.map(|nth| if nth < tags { self.tag(nth) } else { None }).collect();
            made.extend(self.make_wallets(&slug, &tags)?);
        }
        Ok(BarPlace { slug, id, wallets: made })
    }

    fn make_wallets(&self, slug: &str, tags: &[Option<TagUid>]) -> anyhow::Result<Vec<(WalletId, Option<TagUid>)>> {
        #[derive(Deserialize)]
        struct Line {
            wallet: Option<String>,
            error: Option<Value>,
        }
        let body: String = tags
            .iter()
            .map(|tag| tag.as_ref().map_or("{}\n".into(), |tag| format!("{{\"tag\":\"{}\"}}\n", hex(tag))))
            .collect();
        let path = format!("/api/v1/festivals/{slug}/wallets");
        let answer = self.call("POST", &path, Some("application/x-ndjson"), &body)?;
        let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let made: Vec<_> = lines
            .zip(tags)
            .map(|(line, tag)| {
                let Line { wallet, error } = serde_json::from_slice(line).context("a line of wallets")?;
                let wallet = wallet.with_context(|| format!("no wallet was made: {error:?}"))?;
                Ok((WalletId::parse(wallet.as_bytes()).with_context(|| format!("{wallet} is no wallet's id"))?, *tag))
            })
            .collect::<anyhow::Result<_>>()?;
        ensure!(made.len() == tags.len(), "{} wallets of {}", made.len(), tags.len());
        Ok(made)
    }

    /// The nth tag of this run: that of the nth wallet, where that has one.
    pub fn tag(&self, nth: usize) -> Option<TagUid> {
        tag(self.run, nth)
    }

    /// A place for one more terminal, and where to take it up.
    ///
    /// # Errors
    /// The server refuses, or shows itself elsewhere than on this machine.
    pub fn offer_terminal(&self, bar: &BarPlace, name: &str, vendor: u16) -> anyhow::Result<(Offer, Target)> {
        let path = format!("/festivals/{}/terminals/enrolment-codes", bar.slug);
        let made = self.post(&path, &json!({ "name": name, "vendor": vendor, "cashier": true }))?;
        self.read_offer(bar.id, &made)
    }

    /// Puts cash into a wallet.
    ///
    /// # Errors
    /// The server refuses.
    pub fn top_up(&self, bar: &BarPlace, wallet: WalletId, amount: i64) -> anyhow::Result<()> {
        let cash =
            json!({ "wallet": wallet.to_string(), "festival": bar.slug, "amount": euros(amount), "currency": "EUR" });
        self.post("/cashless/topup", &cash).map(drop)
    }

    /// Moves money; what is left in the first wallet then.
    ///
    /// # Errors
    /// The server refuses.
    pub fn transfer(&self, from: WalletId, to: WalletId, amount: i64) -> anyhow::Result<i64> {
        let transfer =
            json!({ "from": from.to_string(), "to": to.to_string(), "amount": euros(amount), "currency": "EUR" });
        minor(&self.post("/cashless/transfer", &transfer)?["balance"])
    }

    /// A wallet now.
    ///
    /// # Errors
    /// The server refuses.
    pub fn account(&self, wallet: WalletId) -> anyhow::Result<Account> {
        let body = self.call("GET", &format!("/api/v1/cashless/account?wallet={wallet}"), None, "")?;
        let account: Value = serde_json::from_slice(&body)?;
        Ok(Account { balance: minor(&account["balance"])?, reserved: minor(&account["reserved"])? })
    }

    /// The books now.
    ///
    /// # Errors
    /// The server refuses.
    pub fn books(&self, bar: &BarPlace) -> anyhow::Result<Books> {
        let get = |what: &str| -> anyhow::Result<Value> {
            let body = self.call("GET", &format!("/api/v1/ledger/{}/{what}", bar.slug), None, "")?;
            Ok(serde_json::from_slice(&body)?)
        };
        let accounts = get("accounts")?;
        let sum = |wanted: &dyn Fn(&str) -> bool| -> anyhow::Result<i64> {
            let all = accounts["accounts"].as_array().context("books have accounts")?;
            let named = all.iter().filter(|account| account["account"].as_str().is_some_and(wanted));
            named.map(|account| minor(&account["balance"])).sum()
        };
        Ok(Books {
            wallets: sum(&|name| name == "wallets")?,
            turnover: sum(&|name| name == "commission" || name.starts_with("vendor/"))?,
            terminals: -sum(&|name| name.starts_with("till/"))?,
            in_transit: sum(&|name| name == "in_transit")?,
            balanced: get("trial-balance")?["balanced"] == true,
        })
    }
}

/// A tag as the API spells it.
pub fn hex(tag: &TagUid) -> String {
    tag.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tags are one namespace for a whole server, so each
/// run brings its own: two runs share some by a chance of one in 2^24, and are told so.
fn tag(run: u64, nth: usize) -> Option<TagUid> {
    let (run, nth) = (run.to_be_bytes(), u32::try_from(nth).ok().filter(|nth| *nth < 1 << 24)?.to_be_bytes());
    TagUid::new(&[4, run[0], run[1], run[2], nth[1], nth[2], nth[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_brings_its_own_chips() {
        let of = |run: u64| -> std::collections::BTreeSet<_> {
            (0..1_000)
                .map(|nth| *tag(run, nth).expect("in bounds").as_bytes().first_chunk::<7>().expect("seven"))
                .collect()
        };
        assert_eq!((of(1 << 40).len(), of(1 << 40).intersection(&of(2 << 40)).count()), (1_000, 0));
        assert_eq!(tag(1, 1 << 24), None);
    }

    #[test]
    fn amounts_are_read_as_they_are_written() {
        for amount in [0, 1, 99, 100, 12_345, 100_000_000_000] {
            assert_eq!(minor(&euros(amount).into()).unwrap(), amount);
        }
        assert_eq!(minor(&"-12.50".into()).unwrap(), -1_250);
        for bad in ["", "1.", "1.505", "x.00"] {
            assert!(minor(&bad.into()).is_err(), "{bad}");
        }
    }
}

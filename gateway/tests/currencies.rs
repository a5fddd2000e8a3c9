//! The engine keeps a table of its own of what currencies there are. This holds it against a crate that follows ISO 4217.

use engine::model::money::Currency;
use iso_currency::{Currency as Iso, IntoEnumIterator as _};

/// ISO 4217 lists both bolívares, VED and VES; the crate takes one for the other's successor.
const STILL_THERE: [&str; 1] = ["VES"];

#[test]
fn every_currency_of_the_standard_is_known_with_its_decimals() {
    for iso in Iso::iter() {
        let ours = Currency::parse(iso.code()).map(|currency| u16::from(currency.decimals()));
        // Neither gold, test codes and units of account, nor what was withdrawn.
        let withdrawn = iso.is_superseded().is_some() && !STILL_THERE.contains(&iso.code());
        let is_money = !iso.is_special() && !withdrawn;
        assert_eq!(ours, iso.exponent().filter(|_| is_money), "{}", iso.code());
    }
}

#[test]
fn no_other_currency_is_known() {
    for ours in Currency::all() {
        let known = Iso::from_code(ours.as_str()).is_some();
        assert!(known, "{}", ours.as_str());
    }
}

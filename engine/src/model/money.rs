//! Money: an integer count of minor units with its currency. It never is a float; decimals exist only at the edges, and
//! are read and printed here for all of them ([`Currency::read`], [`Currency::text`]).

pub mod decimal;
mod iso;

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::model::rejection::Rejection;

use crate::model::money::decimal::{Decimal, Misread};

/// A currency by its ISO 4217 code, such as `EUR`. A minor unit is a cent, a whole yen, a fils: see
/// [`Currency::decimals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "[u8; 3]")]
pub struct Currency([u8; 3]);

impl TryFrom<[u8; 3]> for Currency {
    type Error = &'static str;
    fn try_from(code: [u8; 3]) -> Result<Self, Self::Error> {
        Self::from_bytes(code).ok_or("a currency has three capital letters")
    }
}

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(*b"EUR");
    /// The currency with this code; `None` for a code that ISO 4217 has not, or that is no money.
    pub fn parse(code: &str) -> Option<Self> {
        Self::from_bytes(code.as_bytes().try_into().ok()?).filter(|currency| currency.is_known())
    }
    /// As frames and records have it: any three capital letters. What is asked in a currency that there is not is
    /// `wrong_currency` everywhere, since no festival can have chosen it.
    pub fn from_bytes(code: [u8; 3]) -> Option<Self> {
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }
    /// Every currency of ISO 4217 that is money.
    pub fn all() -> impl Iterator<Item = Self> {
        iso::codes().filter_map(Self::parse)
    }
    /// Whether ISO 4217 has it.
    pub fn is_known(self) -> bool {
        iso::decimals(self.0).is_some()
    }
    /// How many decimals its amounts are written with: 2 for the euro, 0 for the yen, 3 for the Kuwaiti dinar.
    pub fn decimals(self) -> u8 {
        iso::decimals(self.0).unwrap_or(2)
    }
    /// How many minor units make one: 100 for the euro, 1 for the yen.
    pub fn unit(self) -> i64 {
        10_i64.pow(u32::from(self.decimals()))
    }
    /// An amount of it as decimal text, `12.50`, without its name.
    pub fn text(self, minor: impl Into<i128>) -> String {
        Decimal { units: minor.into(), decimals: self.decimals() }.to_string()
    }
    /// Reads an amount of it, in minor units.
    ///
    /// # Errors
    /// It is no decimal number, has more decimals than the currency, or does not fit.
    pub fn read(self, text: &str) -> Result<i64, Misread> {
        decimal::read(text, self.decimals())
    }
    /// The three letters as a number, for records.
    pub(crate) fn to_word(self) -> u32 {
        u32::from(self.0[0]) << 16 | u32::from(self.0[1]) << 8 | u32::from(self.0[2])
    }
    /// What [`Currency::to_word`] gave.
    pub(crate) fn from_word(word: u32) -> Option<Self> {
        let [zero, letters @ ..] = word.to_be_bytes();
        (zero == 0 && letters.iter().all(u8::is_ascii_uppercase)).then_some(Self(letters))
    }
    /// The three letters' bytes.
    pub fn as_bytes(self) -> [u8; 3] {
        self.0
    }
    /// The three letters.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("capital letters")
    }
}

/// An amount in minor units. Negative amounts exist (corrections, legs of postings).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// How many of the currency's smallest unit.
    pub minor: i64,
    pub currency: Currency,
}

/// The first amount that is refused, 10^12 minor units: far above any terminal, and far below what could overflow a sum.
pub const AMOUNT_LIMIT: i64 = 1_000_000_000_000;
/// A whole, in basis points.
pub const WHOLE_BP: u16 = 10_000;

/// An amount that may be asked for.
///
/// # Errors
/// [`Rejection::InvalidAmount`] for zero, less, or 10^12 and more.
pub fn check_amount(minor: i64) -> Result<(), Rejection> {
    if (1..AMOUNT_LIMIT).contains(&minor) { Ok(()) } else { Err(Rejection::InvalidAmount) }
}

/// What a vendor gets of an amount, of which the organiser takes `commission_bp`: rounded half-even to the minor unit;
/// the organiser gets the remainder. Exact, in 128-bit integers. `amount` is not negative, `commission_bp` at most a
/// whole.
pub fn vendor_share(amount: i64, commission_bp: u16) -> i64 {
    let whole = i128::from(WHOLE_BP);
    let exact = i128::from(amount) * (whole - i128::from(commission_bp));
    let (floor, rest) = (exact / whole, exact % whole);
    let up = rest * 2 > whole || (rest * 2 == whole && floor % 2 != 0);
    (floor + i128::from(up)) as i64 // not more than `amount`
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = Decimal { units: self.minor.into(), decimals: self.currency.decimals() };
        write!(f, "{amount} {}", self.currency.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_price_tag() {
        let eur = |minor| Money { minor, currency: Currency::EUR }.to_string();
        assert_eq!(
            [eur(1250), eur(5), eur(-5), eur(i64::MIN)],
            ["12.50 EUR", "0.05 EUR", "-0.05 EUR", "-92233720368547758.08 EUR"]
        );
    }

    #[test]
    fn each_currency_has_its_own_scale() {
        for (code, decimals, text) in
            [("JPY", 0, "1250"), ("EUR", 2, "12.50"), ("KWD", 3, "1.250"), ("CLF", 4, "0.1250")]
        {
            let currency = Currency::parse(code).expect(code);
            assert_eq!((currency.decimals(), currency.text(1_250)), (decimals, text.to_owned()));
            assert_eq!(currency.read(text), Ok(1_250));
            assert_eq!(currency.unit(), 10_i64.pow(u32::from(decimals)));
        }
        for code in ["eur", "EU", "EURO", "XXX", "XTS", "XAU", "ABC", ""] {
            assert_eq!(Currency::parse(code), None, "{code}");
        }
        assert_eq!(Currency::all().count(), 164);
    }

    #[test]
    fn commission_is_rounded_half_even_and_the_organiser_gets_the_rest() {
        for (amount, commission_bp, share) in [
            (1_000, 1_000, 900),
            (1_000, 0, 1_000),
            (1_000, WHOLE_BP, 0),
            (1, 5_000, 0),     // 0.5 → 0: the cent is the organiser's
            (3, 5_000, 2),     // 1.5 → 2
            (5, 5_000, 2),     // 2.5 → 2
            (999, 1_250, 874), // 874.125
            (333, 3_333, 222), // 222.0111
            (AMOUNT_LIMIT - 1, 1, 999_899_999_999),
        ] {
            assert_eq!(vendor_share(amount, commission_bp), share, "{amount} at {commission_bp} bp");
        }
    }

    #[test]
    fn amounts_that_can_be_asked_for() {
        for (minor, fine) in [
            (0, false),
            (-1, false),
            (1, true),
            (AMOUNT_LIMIT - 1, true),
            (AMOUNT_LIMIT, false),
            (i64::MAX, false),
            (i64::MIN, false),
        ] {
            assert_eq!(check_amount(minor).is_ok(), fine, "{minor}");
        }
    }
}

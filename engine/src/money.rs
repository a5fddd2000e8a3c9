//! Money: an integer count of minor units with its currency. It never is a float; decimals exist only at the edges.

use core::fmt;
use serde::{Deserialize, Serialize};

/// An ISO 4217 code of a currency with two decimals, such as `EUR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(*b"EUR");
    /// Three capital letters, or `None`.
    pub fn parse(code: &str) -> Option<Self> {
        let code: [u8; 3] = code.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }
    /// The three letters.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("capital letters")
    }
}

/// An amount in minor units (cents). Negative amounts exist (corrections, legs of postings).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Cents.
    pub minor: i64,
    /// Of what.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minor < 0 { "-" } else { "" };
        let minor = self.minor.unsigned_abs();
        write!(f, "{sign}{}.{:02} {}", minor / 100, minor % 100, self.currency.as_str())
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
        assert_eq!(Currency::parse("eur"), None);
    }
}

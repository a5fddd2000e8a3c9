//! Amounts and rates as JSON spells them: decimal text, read exactly or refused. Nothing is ever rounded here. What a
//! decimal is, and how many decimals a currency has, only `engine::model::money` knows.

use engine::model::money::decimal;
use engine::model::money::decimal::Decimal;
use engine::model::money::{AMOUNT_LIMIT, Currency, Money, WHOLE_BP, check_amount};
use engine::model::rejection::Rejection;

use crate::http::kit::problem::Problem;

/// A currency by its ISO 4217 code. `at` is its JSON pointer.
///
/// # Errors
/// `validation` for a code that is none, or that stands for no money, such as gold.
pub fn currency(text: &str, at: &str) -> Result<Currency, Problem> {
    let wrong = || Problem::field(at, "must be the code of a currency by ISO 4217, in capitals, such as \"EUR\"");
    Currency::parse(text).ok_or_else(wrong)
}

/// An amount to be moved, from the fields `amount` and `currency`.
///
/// # Errors
/// `invalid_amount` for what is no amount, for 0 and less, for more decimals than the currency has, and for 10^12 of its
/// smallest unit and more; `validation` for what is no currency.
pub fn money(amount: &str, of: &str) -> Result<Money, Problem> {
    read(amount, of, false)
}

/// The same for one that may be negative, but not 0.
///
/// # Errors
/// As [`money`].
pub fn signed_money(amount: &str, of: &str) -> Result<Money, Problem> {
    read(amount, of, true)
}

fn read(amount: &str, of: &str, signed: bool) -> Result<Money, Problem> {
    let currency = currency(of, "/currency")?;
    let no = |why: String| Problem::from(Rejection::InvalidAmount).at("/amount", why);
    // Read with its sign either way: what is wrong with "-1" is not its spelling.
    let minor = currency.read(amount).map_err(|why| no(why.to_string()))?;
    let size = if signed { minor.saturating_abs() } else { minor };
    check_amount(size).map_err(|_| match size {
        ..=0 => no("must be more than 0".into()),
        _ => no(format!("must be less than {}", currency.text(AMOUNT_LIMIT))),
    })?;
    Ok(Money { minor, currency })
}

/// A price, a limit: not to be moved, and checked by the engine. `at` is its JSON pointer.
///
/// # Errors
/// `validation`.
pub fn price(text: &str, of: Currency, at: &str) -> Result<i64, Problem> {
    let minor = of.read(text).map_err(|why| Problem::field(at, why.to_string()))?;
    if minor < 0 { Err(Problem::field(at, "must not be negative")) } else { Ok(minor) }
}

/// A rate in per cent of at most two places, in basis points. `at` is its JSON pointer.
///
/// # Errors
/// `validation`.
pub fn rate(text: &str, at: &str) -> Result<u16, Problem> {
    let bounds = "must be 0 to 100 per cent, of at most two places, as text, such as \"12.50\"";
    let bp = decimal::read(text, 2).ok().and_then(|bp| u16::try_from(bp).ok()).filter(|bp| *bp <= WHOLE_BP);
    bp.ok_or_else(|| Problem::field(at, bounds))
}

/// Basis points as per cent: `12.50`.
pub fn percent(bp: u16) -> String {
    Decimal { units: bp.into(), decimals: 2 }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_exact_or_refused() {
        let read = |amount: &str| money(amount, "EUR").map(|m| m.minor).map_err(|p| p.code());
        for (amount, minor) in [("12.50", 1_250), ("12", 1_200), ("0.01", 1), ("0.5", 50), ("7.500", 750)] {
            assert_eq!(read(amount), Ok(minor), "{amount}");
        }
        assert_eq!(read("9999999999.99"), Ok(999_999_999_999));
        for bad in [
            "0",
            "0.00",
            "-1",
            "0.001",
            "1000000000000",
            "10000000000",
            "NaN",
            "Infinity",
            "",
            " 5",
            "5 ",
            "+5",
            ".5",
            "5.",
            "1e3",
            "1_000",
            "5,00",
            "€5",
            "--5",
            "-",
            "٥",
            "99999999999999999999999999999999999999",
        ] {
            assert_eq!(read(bad), Err("invalid_amount"), "{bad}");
        }
        for bad in ["", "eur", "EURO", "€", "XXX", "ABC"] {
            assert_eq!(money("5", bad).unwrap_err().errors()[0].pointer, "/currency", "{bad}");
        }
    }

    #[test]
    fn each_currency_has_its_own_decimals() {
        let read =
            |amount: &str, of: &str| money(amount, of).map(|m| m.minor).map_err(|p| p.errors()[0].detail.clone());
        assert_eq!(read("1250", "JPY"), Ok(1_250));
        assert_eq!(read("1.250", "KWD"), Ok(1_250));
        assert!(read("12.50", "JPY").unwrap_err().contains("has no decimals"));
        assert!(read("1.2505", "KWD").unwrap_err().contains("more than 3 decimals"));
        assert_eq!(read("1000000000000", "JPY").unwrap_err(), "must be less than 1000000000000");
        assert_eq!(read("1000000000", "KWD").unwrap_err(), "must be less than 1000000000.000");
    }

    #[test]
    fn a_correction_may_go_down() {
        let read = |amount: &str| signed_money(amount, "EUR").map(|m| m.minor).map_err(|p| p.code());
        assert_eq!((read("-12.50"), read("12.50")), (Ok(-1_250), Ok(1_250)));
        for bad in ["0", "-0", "--1", "-0.001", "-10000000000"] {
            assert_eq!(read(bad), Err("invalid_amount"), "{bad}");
        }
    }

    #[test]
    fn rates_and_sums() {
        assert_eq!(
            (rate("12.5", "/r").ok(), rate("0", "/r").ok(), rate("100.00", "/r").ok()),
            (Some(1_250), Some(0), Some(10_000))
        );
        for bad in ["100.01", "-1", "1.005", "ten", ""] {
            assert_eq!(rate(bad, "/r").unwrap_err().code(), "validation", "{bad}");
        }
        assert_eq!([percent(1_250), percent(5), percent(0)], ["12.50", "0.05", "0.00"]);
        assert_eq!(
            (price("5.5", Currency::EUR, "/p").ok(), price("0", Currency::EUR, "/p").ok()),
            (Some(550), Some(0))
        );
        for bad in ["-1", "0.001", "x"] {
            assert_eq!(price(bad, Currency::EUR, "/p").unwrap_err().errors()[0].pointer, "/p", "{bad}");
        }
    }
}

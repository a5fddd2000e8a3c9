//! Amounts and rates as JSON spells them: decimal text, read exactly or refused. Nothing is ever rounded here.

use engine::money::{Currency, Money, WHOLE_BP, check_amount};
use engine::rejection::Rejection;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::http::problem::Problem;

/// What an amount has to look like.
const LOOKS: &str = "must be a decimal number of at most two places, as text, such as \"12.50\"";

/// In hundredths: digits, a point with digits behind it, a minus sign if it may have one.
fn hundredths(text: &str, signed: bool) -> Result<i64, &'static str> {
    let digits = text.strip_prefix('-').filter(|_| signed).unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = [whole, part].iter().all(|half| !half.is_empty() && half.bytes().all(|c| c.is_ascii_digit()));
    if !plain {
        return Err(LOOKS);
    }
    let exact = Decimal::from_str_exact(text).ok().and_then(|amount| amount.checked_mul(Decimal::ONE_HUNDRED));
    let exact = exact.ok_or("is out of bounds")?;
    if !exact.is_integer() {
        return Err("must not have more than two places");
    }
    exact.to_i64().ok_or("is out of bounds")
}

fn currency(text: &str) -> Result<Currency, Problem> {
    let wrong = || Problem::field("/currency", "must be three capital letters, such as \"EUR\"");
    Currency::parse(text).ok_or_else(wrong)
}

/// An amount to be moved, from the fields `amount` and `currency`.
///
/// # Errors
/// `invalid_amount` for what is no amount, for 0 and less, more than two places, and 10^10 and more; `validation` for
/// what is no currency.
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
    let currency = currency(of)?;
    let no = |why: &str| Problem::from(Rejection::InvalidAmount).at("/amount", why);
    // Read with its sign either way: what is wrong with "-1" is not its spelling.
    let minor = hundredths(amount, true).map_err(no)?;
    let size = if signed { minor.saturating_abs() } else { minor };
    check_amount(size)
        .map_err(|_| no(if size <= 0 { "must be more than 0" } else { "must be less than 10000000000" }))?;
    Ok(Money { minor, currency })
}

/// A price, a limit: not to be moved, and checked by the engine. `at` is its JSON pointer.
///
/// # Errors
/// `validation`.
pub fn price(text: &str, at: &str) -> Result<i64, Problem> {
    hundredths(text, false).map_err(|why| Problem::field(at, why))
}

/// A rate in per cent of at most two places, in basis points. `at` is its JSON pointer.
///
/// # Errors
/// `validation`.
pub fn rate(text: &str, at: &str) -> Result<u16, Problem> {
    let bounds = "must be 0 to 100 per cent, of at most two places, as text, such as \"12.50\"";
    let bp = hundredths(text, false).ok().and_then(|bp| u16::try_from(bp).ok()).filter(|bp| *bp <= WHOLE_BP);
    bp.ok_or_else(|| Problem::field(at, bounds))
}

/// Hundredths as text: `12.50`. Sums of books have 128 bits, more than a decimal.
pub fn text(minor: impl Into<i128>) -> String {
    let minor = minor.into();
    let sign = if minor < 0 { "-" } else { "" };
    let size = minor.unsigned_abs();
    format!("{sign}{}.{:02}", size / 100, size % 100)
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
        for bad in ["", "eur", "EURO", "€"] {
            assert_eq!(money("5", bad).unwrap_err().errors()[0].pointer, "/currency", "{bad}");
        }
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
        assert_eq!([text(1_250), text(-5), text(0)], ["12.50", "-0.05", "0.00"]);
        assert_eq!(text(i128::MIN), "-1701411834604692317316873037158841057.28");
    }
}

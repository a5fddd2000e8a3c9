//! Decimal text and the whole number behind it: the one place where amounts (and rates in per cent) are read and printed.
//! Exact in integers, never rounded.

use core::fmt;

/// Why a text is no amount. Said so that it can stand behind the name of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misread {
    /// Not digits, with a point and digits behind it if need be.
    NotDecimal,
    /// So many decimals are the most.
    TooManyDecimals(u8),
    /// More than an `i64` holds.
    OutOfBounds,
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDecimal => f.write_str("must be a decimal number as text, such as \"12.50\""),
            Self::TooManyDecimals(0) => f.write_str("must be a whole number: this currency has no decimals"),
            Self::TooManyDecimals(1) => f.write_str("must not have more than one decimal"),
            Self::TooManyDecimals(most) => write!(f, "must not have more than {most} decimals"),
            Self::OutOfBounds => f.write_str("is out of bounds"),
        }
    }
}

/// A whole number of 10^-`decimals`, written with its decimals: `12.50` for 1,250 at two, `1250` at none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// The whole number. Sums of books have 128 bits.
    pub units: i128,
    /// How many decimals, at most [`DECIMALS_MAX`].
    pub decimals: u8,
}

/// More decimals than any currency has.
pub const DECIMALS_MAX: u8 = 9;

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let (size, one) = (self.units.unsigned_abs(), 10_u128.pow(u32::from(self.decimals)));
        match usize::from(self.decimals) {
            0 => write!(f, "{sign}{size}"),
            width => write!(f, "{sign}{}.{:0width$}", size / one, size % one),
        }
    }
}

/// Reads what [`Decimal`] writes, with a minus sign if it is below zero, with fewer decimals, or with more if they are
/// zeros.
///
/// # Errors
/// It is something else, not exact, or too large.
pub fn read(text: &str, decimals: u8) -> Result<i64, Misread> {
    i64::try_from(read_wide(text, decimals)?).map_err(|_| Misread::OutOfBounds)
}

/// The same for a sum of books.
///
/// # Errors
/// As [`read`].
pub fn read_wide(text: &str, decimals: u8) -> Result<i128, Misread> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    if ![whole, part].iter().all(|half| !half.is_empty() && half.bytes().all(|c| c.is_ascii_digit())) {
        return Err(Misread::NotDecimal);
    }
    let width = usize::from(decimals);
    let part = part.trim_end_matches('0');
    if part.len() > width {
        return Err(Misread::TooManyDecimals(decimals));
    }
    let filled = core::iter::repeat_n(b'0', width - part.len());
    let mut units = 0_i128;
    for digit in whole.bytes().chain(part.bytes()).chain(filled) {
        let signed = sign * i128::from(digit - b'0');
        units = units.checked_mul(10).and_then(|units| units.checked_add(signed)).ok_or(Misread::OutOfBounds)?;
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_exact_or_refused() {
        for (text, decimals, units) in [
            ("12.50", 2, 1_250),
            ("12", 2, 1_200),
            ("-0.5", 2, -50),
            ("7.500", 2, 750),
            ("1250", 0, 1_250),
            ("1250.00", 0, 1_250),
            ("1.234", 3, 1_234),
            ("0.0001", 4, 1),
            ("-92233720368547758.08", 2, i64::MIN),
            ("92233720368547758.07", 2, i64::MAX),
        ] {
            assert_eq!(read(text, decimals), Ok(units), "{text}");
        }
        for text in ["", "-", ".5", "5.", "+5", "1e3", "1_000", "5,00", "€5", "--5", " 5", "5 ", "٥", "NaN", "1.2.3"]
        {
            assert_eq!(read(text, 2), Err(Misread::NotDecimal), "{text}");
        }
        assert_eq!(read("0.001", 2), Err(Misread::TooManyDecimals(2)));
        assert_eq!(read("0.5", 0), Err(Misread::TooManyDecimals(0)));
        assert_eq!(read("92233720368547758.08", 2), Err(Misread::OutOfBounds));
        let nines = "9".repeat(60);
        assert_eq!(read(&nines, 2), Err(Misread::OutOfBounds));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(units in any::<i64>(), decimals in 0..=DECIMALS_MAX) {
            let text = Decimal { units: units.into(), decimals }.to_string();
            prop_assert_eq!(read(&text, decimals), Ok(units));
        }
    }
}

//! The domain's words as JSON spells them: statuses by their word, moments as RFC 3339, money as a decimal string.

use std::borrow::Cow;
use std::str::FromStr;

use engine::gates::command::Direction;
use engine::model::money::{Currency, Money};
use engine::model::status;
use engine::model::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use storage::views::Span;

use crate::http::kit::problem::{Fault, Problem};

pub mod money;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $engine:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $engine);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.0.word())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = Cow::<'de, str>::deserialize(from)?;
                <$engine>::from_word(&word).map(Self).ok_or_else(|| {
                    let all: Vec<_> = <$engine>::ALL.iter().map(|one| one.word()).collect();
                    D::Error::custom(format!("must be one of {}", all.join(", ")))
                })
            }
        }
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = <$engine>::ALL.iter().map(|one| one.word());
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
            }
        }
        impl ToSchema for $name {}
    )*};
}

words! {
    /// Where a festival is in its life.
    FestivalStatus = status::FestivalStatus;
    /// Where a ticket is in its life.
    TicketStatus = status::TicketStatus;
    /// What kind of ticket a category sells.
    CategoryKind = status::CategoryKind;
    /// What a vendor mostly sells.
    VendorKind = status::VendorKind;
    /// Who may do what.
    Role = status::Role;
    /// Whether a zone lets people in.
    ZoneState = status::ZoneState;
    /// Whether a used ticket opens a perimeter again.
    EntryPolicy = status::EntryPolicy;
    /// When a scan's answer leaves.
    ScanAck = status::ScanAck;
}

/// The word for a direction.
pub fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Enter => "ENTER",
        Direction::Exit => "EXIT",
    }
}

/// A moment, RFC 3339, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Whatever lies outside the years −9999 to 9999 shows as their end.
        let end = if self.0.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        to.collect_str(&jiff::Timestamp::from_millisecond(self.0.0).unwrap_or(end))
    }
}
impl FromStr for Moment {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        Ok(Self(Timestamp(text.parse::<jiff::Timestamp>()?.as_millisecond())))
    }
}
impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom("must be an RFC 3339 moment with its offset, 2027-07-16T18:00:00Z"))
    }
}
impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2027-07-16T18:00:00Z"])
            .into()
    }
}
impl ToSchema for Moment {}

/// An amount of money. Decimals exist here, at the edge, only; inside it is a number of the currency's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// A decimal number of at most as many places as the currency has, as text: a JSON number could lose a cent on its
    /// way.
    #[schema(example = "89.00", pattern = r"^\d{1,16}(\.\d{1,4})?$")]
    pub amount: String,
    /// ISO 4217.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub currency: String,
}

impl From<Money> for Price {
    fn from(money: Money) -> Self {
        Self { amount: money.currency.text(money.minor), currency: money.currency.as_str().to_owned() }
    }
}

impl Price {
    /// In the smallest unit. `at` is the JSON pointer of this price.
    ///
    /// # Errors
    /// `validation`.
    pub fn money(&self, at: &str) -> Result<Money, Problem> {
        let amount_at = format!("{at}/amount");
        let currency = money::currency(&self.currency, &format!("{at}/currency")).map_err(|wrong| {
            // What is wrong with the amount in any currency is said together with it.
            match money::price(&self.amount, Currency::EUR, &amount_at) {
                Ok(_) => wrong,
                Err(too) => Problem::fields([too.errors(), wrong.errors()].concat()),
            }
        })?;
        Ok(Money { minor: money::price(&self.amount, currency, &amount_at)?, currency })
    }
}

/// From one moment until before another.
///
/// # Errors
/// `invalid_query`.
pub fn span(from: Option<Moment>, to: Option<Moment>) -> Result<Span, Problem> {
    let span = Span {
        from: from.map_or(Timestamp(i64::MIN), |from| from.0),
        until: to.map_or(Timestamp(i64::MAX), |to| to.0),
    };
    if span.from < span.until {
        return Ok(span);
    }
    Err(Problem::from(Fault::InvalidQuery).detail("from must be before to."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_exact_or_refused() {
        let minor = |amount: &str| {
            Price { amount: amount.into(), currency: "EUR".into() }
                .money("/price")
                .map(|m| m.minor)
                .map_err(|p| p.code())
        };
        for (amount, cents) in [("89.00", 8900), ("89", 8900), ("0.5", 50), ("0", 0), ("0.01", 1), ("89.000", 8900)] {
            assert_eq!(minor(amount), Ok(cents), "{amount}");
        }
        for bad in
            ["", "-1", "1.005", "1e3", "1_000", "92233720368547758.08", "€5", "5,00", " 5", "99999999999999999999999"]
        {
            assert_eq!(minor(bad), Err("validation"), "{bad}");
        }
        assert_eq!(Price::from(Money { minor: 8900, currency: Currency::EUR }).amount, "89.00");
        assert!(Price { amount: "1".into(), currency: "eur".into() }.money("").is_err());
        let yen = Price { amount: "8900".into(), currency: "JPY".into() };
        assert_eq!(Price::from(yen.money("").unwrap()).amount, "8900");
    }

    #[test]
    fn a_moment_reads_back() {
        let moment: Moment = serde_json::from_str("\"2027-07-16T20:00:00+02:00\"").unwrap();
        assert_eq!(serde_json::to_string(&moment).unwrap(), "\"2027-07-16T18:00:00Z\"");
        assert!(
            serde_json::from_str::<Moment>("\"2027-07-16T20:00:00\"").is_err(),
            "without an offset it is no moment"
        );
        assert!(serde_json::from_str::<Moment>("1784311200").is_err());
        assert_eq!(serde_json::to_string(&Moment(Timestamp(i64::MAX))).unwrap(), "\"9999-12-30T22:00:00.999999999Z\"");
    }
}

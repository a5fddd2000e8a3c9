//! Events as a table: each is declared once, with its number and those of its fields, and from there it is written, read,
//! and described in record.proto.

use crate::model::time::Timestamp;
use crate::record::RecordError;
use crate::record::wire::Fields;

/// Declares an enum of events, or of messages, as record.proto has them:
///
/// ```text
/// pub enum CashlessEvent of { Other(Table) } {
///     /// What has happened.
///     WalletCreated = 69 { wallet: WalletId = 1, issuer: FestivalId = 2, currency: Currency = 3 },
///     PolicySet = 64 as CashlessPolicySet { … },
/// }
/// ```
/// The number is that of the kind, `as` the message's name where it is not the variant's. A field has the first of its
/// numbers; how many it takes, and what they are called, its type says ([`crate::record::field::Field`]); `as fixed64` and
/// `as optional` are the words of record.proto. Fields are written by number, in whichever order they are declared. What is
/// `of` others has a table, or a codec by hand, of its own.
macro_rules! events {
    (
        $(#[$meta:meta])*
        pub enum $Enum:ident $(of { $($(#[$other_meta:meta])* $Other:ident($Inner:ty)),* $(,)? })? {
            $(
                $(#[doc = $doc:literal])*
                $Variant:ident = $number:literal $(as $Message:ident)? $({
                    $($(#[doc = $field_doc:literal])* $field:ident: $Type:ty $(as $form:ident)? = $at:literal),* $(,)?
                })?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        pub enum $Enum {
            $($($(#[$other_meta])* $Other($Inner),)*)?
            $($(#[doc = $doc])* $Variant $({ $($(#[doc = $field_doc])* $field: $Type),* })?,)*
        }

        #[allow(unused_variables)] // a kind without fields reads none, and few need the record's time
        impl $crate::record::table::Table for $Enum {
            fn number(&self) -> u32 {
                match self {
                    $($(Self::$Other(other) => other.number(),)*)?
                    $(Self::$Variant { .. } => $number,)*
                }
            }

            fn write_body(&self, at: $crate::model::time::Timestamp, out: &mut Vec<u8>) {
                use $crate::record::field::{Field, form};
                match self {
                    $($(Self::$Other(other) => other.write_body(at, out),)*)?
                    $(Self::$Variant $({ $($field),* })? => {
                        $(for number in 1..=$crate::record::table::last(&[$($at),*]) {
                            match number {
                                $($at => <$Type as Field<form!($($form)?)>>::write($field, $at, out),)*
                                _ => {}
                            }
                        })?
                    })*
                }
            }

            fn read_body(
                number: u32,
                body: &[u8],
                at: $crate::model::time::Timestamp,
            ) -> Result<Option<Self>, $crate::record::RecordError> {
                use $crate::record::{RecordError, field::{Field, form}, wire::Fields};
                $($(if let Some(other) = <$Inner>::read_body(number, body, at)? {
                    return Ok(Some(Self::$Other(other)));
                })*)?
                Ok(match number {
                    $($number => {
                        let from = Fields::of(body).ok_or(RecordError::Malformed(stringify!($Variant)))?;
                        Some(Self::$Variant $({
                            $($field: <$Type as Field<form!($($form)?)>>::read(from, $at)
                                .ok_or(RecordError::Malformed(stringify!($field)))?,)*
                        })?)
                    })*
                    _ => None,
                })
            }

            fn messages() -> Vec<$crate::record::table::MessageText> {
                use $crate::record::{field::{Field, form}, table::{MessageText, message_name}};
                vec![$({
                    #[allow(unused_mut)]
                    let mut fields = Vec::new();
                    $($({
                        let first = fields.len();
                        <$Type as Field<form!($($form)?)>>::describe(stringify!($field), $at, &mut fields);
                        fields[first].docs = &[$($field_doc),*];
                    })*)?
                    let name = message_name!($Variant $($Message)?);
                    MessageText { name, number: $number, docs: &[$($doc),*], fields }
                }),*]
            }
        }

        $($(const _: () = {
            use $crate::record::field::{Field, form};
            let taken: &[(u32, u32)] = &[$(($at, <$Type as Field<form!($($form)?)>>::NUMBERS)),*];
            assert!($crate::record::table::are_apart(taken), "a field takes another one's number");
        };)?)*
    };
}
pub(crate) use events;

macro_rules! message_name {
    ($Variant:ident) => {
        stringify!($Variant)
    };
    ($Variant:ident $Message:ident) => {
        stringify!($Message)
    };
}
pub(crate) use message_name;

/// What a `oneof` of record.proto can be. Times in a record are told by how long before its own they were.
pub(crate) trait Table: Sized {
    /// The number of its kind.
    fn number(&self) -> u32;
    /// Writes the message itself.
    fn write_body(&self, at: Timestamp, out: &mut Vec<u8>);
    /// `None` if no kind in here has that number.
    fn read_body(number: u32, body: &[u8], at: Timestamp) -> Result<Option<Self>, RecordError>;
    /// The messages of this table itself, for record.proto.
    fn messages() -> Vec<MessageText> {
        Vec::new()
    }

    /// Reads the `oneof` that is the only field of a message.
    fn read_oneof(message: Fields<'_>, at: Timestamp) -> Result<Option<Self>, RecordError> {
        match message.iter().last().and_then(|kind| Some((kind.number, kind.body()?))) {
            Some((number, body)) => Self::read_body(number, body, at),
            None => Ok(None),
        }
    }
}

/// Whether no two fields share a number; each with its first and how many it takes.
pub(crate) const fn are_apart(mut fields: &[(u32, u32)]) -> bool {
    while let [(first, taken), rest @ ..] = fields {
        let mut others = rest;
        while let [(other, by_other), behind @ ..] = others {
            if *first < *other + *by_other && *other < *first + *taken {
                return false;
            }
            others = behind;
        }
        fields = rest;
    }
    true
}

/// The highest of these numbers.
pub(crate) const fn last(mut numbers: &[u32]) -> u32 {
    let mut last = 0;
    while let [number, rest @ ..] = numbers {
        if *number > last {
            last = *number;
        }
        numbers = rest;
    }
    last
}

/// A message as record.proto has it.
#[derive(Debug)]
pub struct MessageText {
    pub name: &'static str,
    /// In its `oneof`; 0: it is no kind of event.
    pub number: u32,
    pub docs: &'static [&'static str],
    pub fields: Vec<FieldText>,
}

/// A field of it.
#[derive(Debug)]
pub struct FieldText {
    /// `optional uint32`.
    pub proto: String,
    pub name: String,
    pub number: u32,
    pub docs: &'static [&'static str],
}

impl FieldText {
    pub(crate) fn new(proto: &str, name: &str, number: u32) -> Self {
        Self { proto: proto.to_owned(), name: name.to_owned(), number, docs: &[] }
    }
}

//! What a field of an event can be: how record.proto calls it, how it is written, and how it is read back. A value of one
//! number is a [`Scalar`]; others take several numbers, one after the other, or a message of their own.

use prost::encoding::{self, DecodeContext, WireType};

use crate::cashless::command::{CashlessPolicy, ProductValues, VendorValues};
use crate::cashless::event::Lots;
use crate::event::{Already, Origin};
use crate::gates::command::{CategoryValues, Details};
use crate::gates::event::AdmittedByHand;
use crate::model::ids::{
    CategoryNo, DeviceId, FestivalId, GateNo, ProductNo, ShardId, TagUid, TicketId, VendorNo, WalletId, ZoneNo,
};
use crate::model::money::{Currency, Money};
use crate::model::principal::Principal;
use crate::model::rejection::Rejection;
use crate::model::status::{
    CategoryKind, EntryPolicy, FestivalStatus, Policy, Role, ScanAck, TicketStatus, VendorKind, ZoneState,
};
use crate::model::time::{Calendar, Timestamp};
use crate::record::decode;
use crate::record::table::{FieldText, MessageText, Table};
use crate::record::transaction::{lot_from_proto, lot_to_proto};
use crate::record::wire::{Fields, write_message};
use crate::shard::outbox::{Message, TagTarget};

/// As it is written for want of a word in the table. Whoever counts has small numbers, so `u64` is `uint64`.
pub(crate) enum Usual {}
/// `as fixed64`: a number that is as likely to be large as small.
pub(crate) enum Fixed64 {}
/// `as optional`: nothing and zero are two things.
pub(crate) enum Optional {}

/// The word behind a field's type.
macro_rules! form {
    () => {
        $crate::record::field::Usual
    };
    (fixed64) => {
        $crate::record::field::Fixed64
    };
    (optional) => {
        $crate::record::field::Optional
    };
}
pub(crate) use form;

/// A part of an event.
pub(crate) trait Field<As = Usual>: Sized {
    /// How many numbers it takes, one after the other.
    const NUMBERS: u32 = 1;
    /// Adds what record.proto says of it.
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>);
    fn write(&self, number: u32, out: &mut Vec<u8>);
    /// `None`: it cannot be that.
    fn read(from: Fields<'_>, number: u32) -> Option<Self>;
}

/// A value with one number and one of the types that Protocol Buffers have.
pub(crate) trait Scalar: Sized {
    /// The type's name.
    const PROTO: &'static str;
    /// Zero or empty: left out.
    fn is_default(&self) -> bool;
    fn write_always(&self, number: u32, out: &mut Vec<u8>);
    fn read_value(wire: WireType, value: &[u8]) -> Option<Self>;
    /// What it is if it was left out.
    fn read_default() -> Option<Self>;
}

impl<T: Scalar> Field for T {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        to.push(FieldText::new(T::PROTO, name, number));
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_default() {
            self.write_always(number, out);
        }
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        match from.get(number) {
            Some(field) => T::read_value(field.wire, field.value),
            None => T::read_default(),
        }
    }
}

impl<T: Scalar> Field<Optional> for Option<T> {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        to.push(FieldText::new(&format!("optional {}", T::PROTO), name, number));
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.write_always(number, out);
        }
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        from.get(number).map_or(Some(None), |field| T::read_value(field.wire, field.value).map(Some))
    }
}

/// By type of Protocol Buffers: what is written so, with the way there and the way back.
macro_rules! scalars {
    ($($proto:ident as $Raw:ty { $($Type:ty: $to:expr, $from:expr;)* })*) => {$($(
        impl Scalar for $Type {
            const PROTO: &'static str = stringify!($proto);
            fn is_default(&self) -> bool {
                let to: fn(&Self) -> $Raw = $to;
                to(self) == <$Raw>::default()
            }
            fn write_always(&self, number: u32, out: &mut Vec<u8>) {
                let to: fn(&Self) -> $Raw = $to;
                encoding::$proto::encode(number, &to(self), out);
            }
            fn read_value(wire: WireType, mut value: &[u8]) -> Option<Self> {
                let from: fn($Raw) -> Option<Self> = $from;
                let mut raw = <$Raw>::default();
                encoding::$proto::merge(wire, &mut raw, &mut value, DecodeContext::default()).ok()?;
                from(raw)
            }
            fn read_default() -> Option<Self> {
                let from: fn($Raw) -> Option<Self> = $from;
                from(<$Raw>::default())
            }
        }
    )*)*};
}

scalars! {
    bool as bool { bool: |yes| *yes, Some; }
    string as String { String: Clone::clone, Some; }
    uint64 as u64 { u64: |n| *n, Some; }
    sint64 as i64 {
        i64: |n| *n, Some;
        Timestamp: |at| at.0, |ms| Some(Timestamp(ms));
    }
    fixed32 as u32 { FestivalId: |id| id.0, |id| Some(FestivalId(id)); }
    fixed64 as u64 {
        Bits: |bits| bits.0, |bits| Some(Bits(bits));
        DeviceId: |id| id.0, |id| Some(DeviceId(id));
        WalletId: |id| id.0, |id| Some(WalletId(id));
    }
    uint32 as u32 {
        u16: |n| u32::from(*n), |n| n.try_into().ok();
        u32: |n| *n, Some;
        ShardId: |no| no.0.into(), |no| no.try_into().ok().map(ShardId);
        ZoneNo: |no| no.0.into(), |no| (no < 64).then_some(ZoneNo(no as u8));
        GateNo: |no| no.0.into(), |no| no.try_into().ok().map(GateNo);
        CategoryNo: |no| no.0.into(), |no| no.try_into().ok().map(CategoryNo);
        VendorNo: |no| no.0.into(), |no| no.try_into().ok().map(VendorNo);
        ProductNo: |no| no.0.into(), |no| no.try_into().ok().map(ProductNo);
        Currency: |currency| currency.to_word(), Currency::from_word;
        Rejection: |why| *why as u32, |number| Rejection::from_number(number.try_into().ok()?);
        Option<Rejection>: |why| why.map_or(0, |why| why as u32), |number| match number {
            0 => Some(None),
            number => Rejection::from_number(number.try_into().ok()?).map(Some),
        };
        FestivalStatus: |status| *status as u32, FestivalStatus::from_number;
        TicketStatus: |status| *status as u32, TicketStatus::from_number;
        ZoneState: |state| *state as u32, ZoneState::from_number;
        CategoryKind: |kind| *kind as u32, CategoryKind::from_number;
        VendorKind: |kind| *kind as u32, VendorKind::from_number;
        EntryPolicy: |entry| *entry as u32, EntryPolicy::from_number;
        ScanAck: |ack| *ack as u32, ScanAck::from_number;
        Role: |role| *role as u32, Role::from_number;
    }
    bytes as Vec<u8> {
        [u8; 32]: |bytes| bytes.to_vec(), |bytes| bytes.try_into().ok();
        // An account.
        u128: |id| id.to_be_bytes().to_vec(), |bytes| bytes.try_into().ok().map(u128::from_be_bytes);
        Option<u128>: |id| id.map_or(Vec::new(), |id| id.to_be_bytes().to_vec()), |bytes| match bytes.is_empty() {
            true => Some(None),
            false => bytes.try_into().ok().map(u128::from_be_bytes).map(Some),
        };
        TagUid: |tag| tag.as_bytes().to_vec(), |bytes| TagUid::new(&bytes);
        Option<TagUid>: |tag| tag.map_or(Vec::new(), |tag| tag.as_bytes().to_vec()), |bytes| match bytes.is_empty() {
            true => Some(None),
            false => TagUid::new(&bytes).map(Some),
        };
        // The accounts of tickets' holders: 16 bytes each, zeros for nobody.
        Vec<Option<u128>>: |all| all.iter().flat_map(|id| id.unwrap_or(0).to_be_bytes()).collect(), |bytes| {
            let (all, []) = bytes.as_chunks() else { return None };
            Some(all.iter().map(|id| Some(u128::from_be_bytes(*id)).filter(|id| *id != 0)).collect())
        };
    }
}

/// Any 64 bits.
struct Bits(u64);

impl Field<Fixed64> for u64 {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        Bits::describe(name, number, to);
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        Bits(*self).write(number, out);
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        Bits::read(from, number).map(|bits| bits.0)
    }
}

/// A struct whose fields take consecutive numbers, in this order: among those of the event that it is a part of, or, `as
/// message`, from 1 on in one of its own.
macro_rules! structs {
    ($($Type:ident $(as $message:ident)? { $($field:ident: $Field:ty $(as $form:ident)?),* $(,)? })*) => {$(
        impl Struct for $Type {
            const FIELDS: u32 = 0 $(+ <$Field as Field<form!($($form)?)>>::NUMBERS)*;
            fn describe_fields(next: &mut u32, to: &mut Vec<FieldText>) {
                $(<$Field as Field<form!($($form)?)>>::describe(
                    stringify!($field), take::<$Field, form!($($form)?)>(next), to);)*
            }
            fn write_fields(&self, next: &mut u32, out: &mut Vec<u8>) {
                $(<$Field as Field<form!($($form)?)>>::write(
                    &self.$field, take::<$Field, form!($($form)?)>(next), out);)*
            }
            fn read_fields(from: Fields<'_>, next: &mut u32) -> Option<Self> {
                Some(Self {
                    $($field: <$Field as Field<form!($($form)?)>>::read(from, take::<$Field, form!($($form)?)>(next))?,)*
                })
            }
        }
        impl Field for $Type { as_struct!($($message)? $Type); }
    )*};
}

/// The next number, and steps over what the field takes.
fn take<F: Field<As>, As>(next: &mut u32) -> u32 {
    core::mem::replace(next, *next + F::NUMBERS)
}

pub(crate) trait Struct: Sized {
    const FIELDS: u32;
    fn describe_fields(next: &mut u32, to: &mut Vec<FieldText>);
    fn write_fields(&self, next: &mut u32, out: &mut Vec<u8>);
    fn read_fields(from: Fields<'_>, next: &mut u32) -> Option<Self>;
}

macro_rules! as_struct {
    ($Type:ident) => {
        const NUMBERS: u32 = <Self as Struct>::FIELDS;
        fn describe(_: &str, mut number: u32, to: &mut Vec<FieldText>) {
            Self::describe_fields(&mut number, to);
        }
        fn write(&self, mut number: u32, out: &mut Vec<u8>) {
            self.write_fields(&mut number, out);
        }
        fn read(from: Fields<'_>, mut number: u32) -> Option<Self> {
            Self::read_fields(from, &mut number)
        }
    };
    (message $Type:ident) => {
        fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
            to.push(FieldText::new(stringify!($Type), name, number));
        }
        fn write(&self, number: u32, out: &mut Vec<u8>) {
            write_message([number], out, |out| self.write_fields(&mut 1, out));
        }
        fn read(from: Fields<'_>, number: u32) -> Option<Self> {
            Self::read_fields(from.message(number)?, &mut 1)
        }
    };
}

structs! {
    Policy as message { entry: EntryPolicy, ack: ScanAck, log_one_rejection_in: u32 }
    CashlessPolicy as message {
        currency: Currency, min_topup: i64, max_topup: i64, max_balance: i64, min_payment: i64, foreign_wallets: bool,
    }
    Calendar { time_zone: String, day_starts_min: u16 }
    CategoryValues {
        name: String, kind: CategoryKind, price: Money, quota: u32, zones: u64 as fixed64, valid_from: Timestamp,
        valid_until: Timestamp,
    }
    Details {
        name: String, starts_at: Timestamp, ends_at: Timestamp, location: String, max_capacity: Option<u32> as optional,
        calendar: Calendar,
    }
    AdmittedByHand {
        ticket: TicketId, gate: GateNo, zone: ZoneNo, instead_of: Option<Rejection>, first_entry: bool, occupancy: u32,
        reason: String,
    }
    Origin { by: Principal, key: Option<(u128, u64)>, rejection: Option<Rejection>, already: Option<Already> }
    VendorValues { name: String, commission_bp: u16, open: bool, kind: VendorKind }
    ProductValues { name: String, price: i64, vat_bp: u16, on_sale: bool }
}

/// The messages among them, for record.proto.
pub(crate) fn messages() -> Vec<MessageText> {
    fn text<T: Struct>(name: &'static str) -> MessageText {
        let mut fields = Vec::new();
        T::describe_fields(&mut 1, &mut fields);
        MessageText { name, number: 0, docs: &[], fields }
    }
    vec![text::<Policy>("Policy"), text::<CashlessPolicy>("CashlessPolicy")]
}

/// What takes two numbers: their names, or with an underscore in front (or nothing) what comes behind the field's own;
/// their types; the way there and the way back.
macro_rules! pairs {
    ($($Type:ty {
        $one:literal: $One:ty $(as $one_form:ident)?, $two:literal: $Two:ty $(as $two_form:ident)?
    } $to:expr, $from:expr;)*) => {$(
        impl Field for $Type {
            const NUMBERS: u32 = 2;
            fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
                let named = |of: &str| if of.is_empty() || of.starts_with('_') { name.to_owned() + of } else { of.to_owned() };
                <$One as Field<form!($($one_form)?)>>::describe(&named($one), number, to);
                <$Two as Field<form!($($two_form)?)>>::describe(&named($two), number + 1, to);
            }
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                let to: fn(&Self) -> ($One, $Two) = $to;
                let (one, two) = to(self);
                <$One as Field<form!($($one_form)?)>>::write(&one, number, out);
                <$Two as Field<form!($($two_form)?)>>::write(&two, number + 1, out);
            }
            fn read(from: Fields<'_>, number: u32) -> Option<Self> {
                let back: fn($One, $Two) -> Option<Self> = $from;
                let one = <$One as Field<form!($($one_form)?)>>::read(from, number)?;
                back(one, <$Two as Field<form!($($two_form)?)>>::read(from, number + 1)?)
            }
        }
    )*};
}

pairs! {
    TicketId { "_high": Bits, "_low": Bits }
        |ticket| (Bits((ticket.as_u128() >> 64) as u64), Bits(ticket.as_u128() as u64)),
        |high, low| TicketId::from_u128(u128::from(high.0) << 64 | u128::from(low.0));
    Money { "_minor": i64, "currency": Currency }
        |money| (money.minor, money.currency), |minor, currency| Some(Money { minor, currency });
    // The pins of a server's keys: the present one's, the next one's.
    [u64; 2] { "current": Bits, "next": Bits }
        |[current, next]| (Bits(*current), Bits(*next)), |current, next| Some([current.0, next.0]);
    // An operation of a shard.
    (ShardId, u64) { "shard": ShardId, "op": u64 }
        |operation| *operation, |shard, op| Some((shard, op));
    // The tag that takes another's place, and the operation at its shard that waits for what the other one names.
    Option<(TagUid, u64)> { "": Option<TagUid>, "op": u64 }
        |next| next.map_or((None, 0), |(tag, op)| (Some(tag), op)), |tag, op| Some(tag.map(|tag| (tag, op)));
    // An idempotency key.
    Option<(u128, u64)> { "": Option<u128>, "fingerprint": Bits }
        |key| key.map_or((None, Bits(0)), |(id, fingerprint)| (Some(id), Bits(fingerprint))),
        |id, fingerprint| Some(id.map(|id| (id, fingerprint.0)));
    Option<Already> { "": Option<Bits> as optional, "_wallet": Bits }
        |already| match already {
            None => (None, Bits(0)),
            Some(Already::Done) => (Some(Bits(0)), Bits(0)),
            Some(Already::Device(device)) => (Some(Bits(device.0)), Bits(0)),
            Some(Already::Wallet(wallet)) => (None, Bits(wallet.0)),
        },
        |device, wallet| Some(match (device, wallet) {
            (None, Bits(0)) => None,
            (None, Bits(wallet)) => Some(Already::Wallet(WalletId(wallet))),
            (Some(Bits(0)), _) => Some(Already::Done),
            (Some(Bits(device)), _) => Some(Already::Device(DeviceId(device))),
        });
}

/// Left out for the installation itself.
impl Field for Principal {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        to.push(FieldText::new("Principal", name, number));
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if *self != Self::Installation {
            let (kind, id) = self.to_parts();
            write_message([number], out, |out| {
                kind.write(1, out);
                Field::<Usual>::write(&(id as u64), 2, out);
                Field::<Fixed64>::write(&((id >> 64) as u64), 3, out);
            });
        }
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        if from.get(number).is_none() {
            return Some(Self::Installation);
        }
        let by = from.message(number)?;
        let (low, high) = (<u64 as Field<Usual>>::read(by, 2)?, <u64 as Field<Fixed64>>::read(by, 3)?);
        Some(Self::from_parts(u32::read(by, 1)?, u128::from(high) << 64 | u128::from(low)))
    }
}

impl Field for TagTarget {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        to.push(FieldText::new("TagTarget", name, number));
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message([number], out, |out| match self {
            Self::Wallet(wallet, version) => {
                wallet.write(1, out);
                version.write(2, out);
            }
            Self::Ticket(ticket) => ticket.write(3, out),
        });
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        let named = from.message(number)?;
        match WalletId::read(named, 1)? {
            WalletId(0) => TicketId::read(named, 3).map(Self::Ticket),
            wallet => Some(Self::Wallet(wallet, u32::read(named, 2)?)),
        }
    }
}

impl Field<Optional> for Option<TagTarget> {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        TagTarget::describe(name, number, to);
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(named) = self {
            named.write(number, out);
        }
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        from.get(number).map_or(Some(None), |_| TagTarget::read(from, number).map(Some))
    }
}

impl Field for Message {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        to.push(FieldText::new("Message", name, number));
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_message([number, self.number()], out, |out| self.write_body(Timestamp(0), out));
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        Self::read_oneof(from.message(number)?, Timestamp(0)).ok()?
    }
}

impl Field for Vec<FestivalId> {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        to.push(FieldText::new("repeated fixed32", name, number));
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        let ids: Vec<u32> = self.iter().map(|id| id.0).collect();
        encoding::fixed32::encode_packed(number, &ids, out);
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        let mut ids = Vec::new();
        for mut field in from.iter().filter(|field| field.number == number) {
            encoding::fixed32::merge_repeated(field.wire, &mut ids, &mut field.value, DecodeContext::default()).ok()?;
        }
        Some(ids.into_iter().map(FestivalId).collect())
    }
}

impl Field for Lots {
    fn describe(name: &str, number: u32, to: &mut Vec<FieldText>) {
        to.push(FieldText::new("repeated Lot", name, number));
    }
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|lot| encoding::message::encode(number, &lot_to_proto(lot), out));
    }
    fn read(from: Fields<'_>, number: u32) -> Option<Self> {
        let lots = from.iter().filter(|field| field.number == number);
        lots.map(|lot| lot_from_proto(decode(lot.body()?, "lot").ok()?).ok()).collect()
    }
}

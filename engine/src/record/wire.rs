//! Messages of Protocol Buffers without a type of their own: read where they lie, written from what they are about.

use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
    skip_field,
};

/// A message that is well formed.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a [u8]);

/// One field of a message, of whatever type.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) wire: WireType,
    /// With the length before it, where it has one.
    pub(crate) value: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `None` if it is not well formed.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            Field::take(&mut rest)?;
        }
        Some(Self(bytes))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Field<'a>> {
        let mut rest = self.0;
        core::iter::from_fn(move || if rest.is_empty() { None } else { Field::take(&mut rest) })
    }

    /// The field with this number; the last one, if there are several, as Protocol Buffers have it.
    pub(crate) fn get(self, number: u32) -> Option<Field<'a>> {
        self.iter().filter(|field| field.number == number).last()
    }

    /// Those in front of the first with this number or a higher one.
    pub(crate) fn before(self, number: u32) -> Self {
        let mut rest = self.0;
        let mut taken = 0;
        while Field::take(&mut rest).is_some_and(|field| field.number < number) {
            taken = self.0.len() - rest.len();
        }
        Self(&self.0[..taken])
    }

    /// The message under this number.
    pub(crate) fn message(self, number: u32) -> Option<Self> {
        Self::of(self.get(number)?.body()?)
    }
}

impl<'a> Field<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let (number, wire) = decode_key(rest).ok()?;
        let from = *rest;
        skip_field(wire, number, rest, DecodeContext::default()).ok()?;
        Some(Self { number, wire, value: &from[..from.len() - rest.len()] })
    }

    /// What stands behind the length.
    pub(crate) fn body(self) -> Option<&'a [u8]> {
        let mut body = self.value;
        (self.wire == WireType::LengthDelimited && decode_varint(&mut body).is_ok()).then_some(body)
    }
}

/// Writes a message that lies in these fields, the outermost first. What it takes is known once it is written: then it is
/// moved by the few bytes that say so.
pub(crate) fn write_message<const DEEP: usize>(
    numbers: [u32; DEEP],
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let begins = out.len();
    write(out);
    let ends = out.len();
    const { assert!(DEEP <= 2, "each takes up to 15 bytes of the head") };
    let mut head = [0; 30];
    let mut first = head.len();
    for number in numbers.into_iter().rev() {
        let len = (ends - begins + head.len() - first) as u64;
        first -= key_len(number) + encoded_len_varint(len);
        let mut free = &mut head[first..];
        encode_key(number, WireType::LengthDelimited, &mut free);
        encode_varint(len, &mut free);
    }
    let head = &head[first..];
    out.extend_from_slice(head);
    out.copy_within(begins..ends, begins + head.len());
    out[begins..begins + head.len()].copy_from_slice(head);
}

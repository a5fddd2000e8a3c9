//! Values of any type that can be decoded, made up: the type says what it is made of, and is given it. So what is added to a
//! command one day is among them without anybody writing it down here.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::value::{Error, U32Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, SeqAccess,
    VariantAccess, Visitor,
};

/// Makes them, always the same from one seed.
pub(super) struct Samples {
    random: u64,
    /// For each enum by its name and its variants, which of these have been made.
    kinds: BTreeMap<(&'static str, &'static [&'static str]), BTreeSet<u32>>,
    /// What the types called themselves and their parts.
    names: Vec<u8>,
}

impl Samples {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: seed, kinds: BTreeMap::new(), names: Vec::new() }
    }

    pub(super) fn next<T: DeserializeOwned>(&mut self) -> T {
        T::deserialize(self).expect("made of what it asks for")
    }

    /// What the types of the samples since the last call are called, and their fields and variants.
    pub(super) fn take_names(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.names)
    }

    fn note(&mut self, name: &str, parts: &[&str]) {
        for word in [name].iter().chain(parts) {
            self.names.extend_from_slice(word.as_bytes());
            self.names.push(0);
        }
    }

    /// Variants of enums met so far that were never made.
    pub(super) fn missing(&self) -> Vec<String> {
        let missing = self.kinds.iter().flat_map(|((name, variants), made)| {
            let not_made = variants.iter().zip(0..).filter(|(_, index)| !made.contains(index));
            not_made.map(move |(variant, _)| format!("{name}::{variant}"))
        });
        missing.collect()
    }

    /// SplitMix64.
    fn bits(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// Of any length in bits.
    fn number(&mut self) -> u64 {
        let shift = self.below(64);
        self.bits() >> shift
    }
}

/// How many more of a list's items are to come.
struct Items<'a>(&'a mut Samples, usize);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.1.checked_sub(1) else { return Ok(None) };
        self.1 = left;
        seed.deserialize(&mut *self.0).map(Some)
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = self.number();
            visitor.$visit(number as $type)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Samples {
    type Error = Error;

    numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    /// A capital letter: those of a currency are checked.
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let letter = b'A' + self.below(26) as u8;
        visitor.visit_u8(letter)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let (high, low) = (self.number(), self.bits());
        visitor.visit_u128(u128::from(high) << 64 | u128::from(low))
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let (high, low) = (self.number(), self.bits());
        visitor.visit_i128((u128::from(high) << 64 | u128::from(low)) as i128)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let yes = self.below(2) == 1;
        visitor.visit_bool(yes)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let words = ["", "a", "Grüße", "Zur letzten Schänke 🍺"];
        let word = self.below(words.len() as u64);
        visitor.visit_str(words[word as usize])
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.below(2) == 1 { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let length = self.below(4) as usize;
        visitor.visit_seq(Items(self, length))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items(self, length))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(Items(self, length))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(name, fields);
        visitor.visit_seq(Items(self, fields.len()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(name, variants);
        let chosen = self.below(variants.len() as u64) as u32;
        self.kinds.entry((name, variants)).or_default().insert(chosen);
        visitor.visit_enum(Variant(self, chosen))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a type that does not say what it is made of"))
    }

    serde::forward_to_deserialize_any! { f32 f64 char bytes byte_buf map identifier ignored_any }
}

struct Variant<'a>(&'a mut Samples, u32);

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = &'a mut Samples;
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), Error> {
        let index: U32Deserializer<Error> = self.1.into_deserializer();
        Ok((seed.deserialize(index)?, self.0))
    }
}

impl<'de> VariantAccess<'de> for &mut Samples {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items(self, length))
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.note("", fields);
        visitor.visit_seq(Items(self, fields.len()))
    }
}

//! Numbers in as few bytes as they need: seven bits a byte, the lowest first, the eighth bit where more follow.

use super::damaged;
use crate::views::ViewsError;

pub(in crate::views::embedded) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small ones of either sign take few bytes.
pub(in crate::views::embedded) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value << 1 ^ value >> 63) as u64);
}

/// Bytes to be read from the front. Each read fails with [`ViewsError::Damaged`] where they end too early.
#[derive(Clone, Copy, Debug)]
pub(in crate::views) struct Bytes<'b>(pub(in crate::views) &'b [u8]);

impl<'b> Bytes<'b> {
    pub(in crate::views::embedded) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::views::embedded) fn take(&mut self, len: usize) -> Result<&'b [u8], ViewsError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(in crate::views) fn array<const N: usize>(&mut self) -> Result<[u8; N], ViewsError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(in crate::views::embedded) fn byte(&mut self) -> Result<u8, ViewsError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(in crate::views::embedded) fn varint(&mut self) -> Result<u64, ViewsError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(cut())
    }

    /// One that must fit into fewer bits.
    pub(in crate::views::embedded) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, ViewsError> {
        T::try_from(self.varint()?).map_err(|_| cut())
    }

    pub(in crate::views::embedded) fn signed(&mut self) -> Result<i64, ViewsError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

fn cut() -> ViewsError {
    damaged("a row that ends too early")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(plain: u64, signed: i64, small in -70..70_i64) {
            let mut out = Vec::new();
            put(&mut out, plain);
            put_signed(&mut out, signed);
            put_signed(&mut out, small);
            let mut bytes = Bytes(&out);
            prop_assert_eq!((bytes.varint().unwrap(), bytes.signed().unwrap()), (plain, signed));
            prop_assert_eq!(bytes.0.len(), if (-64..64).contains(&small) { 1 } else { 2 });
            prop_assert_eq!(bytes.signed().unwrap(), small);
            prop_assert!(bytes.is_empty() && bytes.byte().is_err());
        }
    }
}

//! Bytes that sort as what they mean does: numbers big-endian, moments with their sign turned round.

use crate::views::ViewsError;

/// A key, or the beginning of some.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub(super) Vec<u8>);

impl Key {
    pub(super) fn u8(mut self, number: u8) -> Self {
        self.0.push(number);
        self
    }
    pub(super) fn u16(mut self, number: u16) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    pub(super) fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    pub(super) fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    pub(super) fn u128(mut self, number: u128) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    pub(super) fn moment(self, ms: i64) -> Self {
        self.u64(ms as u64 ^ 1 << 63)
    }

    /// The least one behind all that begin like this.
    pub(super) fn behind(mut self) -> Self {
        // Were all of them 255, nothing would be behind; no list has such keys.
        while let Some(last) = self.0.pop() {
            if let Some(next) = last.checked_add(1) {
                self.0.push(next);
                break;
            }
        }
        self
    }
}

/// A key to be read from the front.
pub(super) struct Parts<'k>(pub(super) &'k [u8]);

impl Parts<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ViewsError> {
        let (taken, rest) =
            self.0.split_first_chunk().ok_or_else(|| ViewsError::Damaged("a key that ends too early".into()))?;
        self.0 = rest;
        Ok(*taken)
    }
    pub(super) fn u8(&mut self) -> Result<u8, ViewsError> {
        self.array().map(u8::from_be_bytes)
    }
    pub(super) fn u16(&mut self) -> Result<u16, ViewsError> {
        self.array().map(u16::from_be_bytes)
    }
    pub(super) fn u32(&mut self) -> Result<u32, ViewsError> {
        self.array().map(u32::from_be_bytes)
    }
    pub(super) fn u64(&mut self) -> Result<u64, ViewsError> {
        self.array().map(u64::from_be_bytes)
    }
    pub(super) fn moment(&mut self) -> Result<i64, ViewsError> {
        Ok((self.u64()? ^ 1 << 63) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_as_what_they_mean_and_come_back(left: (i64, u16, u64), right: (i64, u16, u64)) {
            let key = |(at, shard, order): (i64, u16, u64)| Key::default().moment(at).u16(shard).u64(order);
            prop_assert_eq!(key(left).cmp(&key(right)), left.cmp(&right));
            let bytes = key(left).0;
            let mut parts = Parts(&bytes);
            let back = (parts.moment().unwrap(), parts.u16().unwrap(), parts.u64().unwrap());
            prop_assert_eq!(back, left);
            prop_assert!(parts.u8().is_err());
        }

        #[test]
        fn behind_is_behind_all_that_begin_alike_and_before_all_else(prefix in 0..=u32::MAX - 1, rest: u64) {
            let behind = Key::default().u32(prefix).behind();
            prop_assert!(Key::default().u32(prefix).u64(rest) < behind);
            prop_assert!(behind <= Key::default().u32(prefix + 1));
        }
    }
}

//! Wallets by their ids, for the audit: rows in the order in which they came, and an open-addressed index with a hash of
//! its own. A tree's way to one of a million wallets is twenty looks at memory, this is two.

use crate::model::ids::WalletId;

/// What is known of each wallet.
pub(super) struct Table<T> {
    rows: Vec<(WalletId, T)>,
    /// A power of two of places, at most half of them taken: a row's number and 1, or 0.
    index: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), index: vec![0; 16] }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WalletId, &T)> {
        self.rows.iter().map(|(id, row)| (*id, row))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.iter_mut().map(|(_, row)| row)
    }

    pub(super) fn get(&self, id: WalletId) -> Option<&T> {
        self.find(id).ok().map(|row| &self.rows[row].1)
    }

    pub(super) fn get_mut(&mut self, id: WalletId) -> Option<&mut T> {
        self.find(id).ok().map(|row| &mut self.rows[row].1)
    }

    /// Gives back what was known before.
    pub(super) fn insert(&mut self, id: WalletId, row: T) -> Option<T> {
        match self.find(id) {
            Ok(at) => Some(core::mem::replace(&mut self.rows[at].1, row)),
            Err(place) => {
                self.rows.push((id, row));
                self.index[place] = u32::try_from(self.rows.len()).expect("a shard has at most 2^28 wallets");
                if self.rows.len() * 2 > self.index.len() {
                    self.grow();
                }
                None
            }
        }
    }

    /// The wallet's row, or the place in the index for it.
    fn find(&self, id: WalletId) -> Result<usize, usize> {
        let mask = self.index.len() - 1;
        let mut place = spread(id) as usize & mask;
        loop {
            match self.index[place] {
                0 => return Err(place),
                row if self.rows[row as usize - 1].0 == id => return Ok(row as usize - 1),
                _ => place = (place + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.index = vec![0; self.index.len() * 2];
        for row in 0..self.rows.len() {
            let place = self.find(self.rows[row].0).expect_err("each is there once");
            self.index[place] = row as u32 + 1;
        }
    }
}

/// Ids are random, but for those that somebody has made up. Fibonacci hashing (Knuth), the high half folded down.
fn spread(id: WalletId) -> u64 {
    let product = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_says_what_a_tree_says() {
        for step in [1, 1 << 20, 0x9E37_79B9_7F4A_7C15, 1 << 48] {
            let (mut table, mut tree) = (Table::default(), BTreeMap::new());
            for n in 0_u64..5_000 {
                let id = WalletId((n % 3_000).wrapping_mul(step));
                assert_eq!(table.get(id), tree.get(&id));
                assert_eq!(table.insert(id, n), tree.insert(id, n));
                *table.get_mut(id).expect("just put") += 1;
                tree.entry(id).and_modify(|known| *known += 1);
            }
            assert_eq!(table.len(), tree.len());
            assert!(table.iter().all(|(id, row)| tree.get(&id) == Some(row)));
            assert_eq!(table.get(WalletId(u64::MAX)), None);
        }
    }
}

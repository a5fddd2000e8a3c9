//! What went to and came from another shard. Of all that was confirmed one hash is kept, so that a whole season's messages
//! take no more room than those under way.

use std::collections::{BTreeSet, VecDeque};

use crate::shard::outbox::Message;

/// Both directions between this shard and another.
#[derive(Default)]
pub(super) struct Peer {
    /// So many of those that were sent are confirmed.
    delivered: u64,
    /// What they amount to.
    delivered_hash: u64,
    /// What all amount to after each of those that are not.
    sent: VecDeque<u64>,
    /// So many have come, and what they amount to.
    received: u64,
    received_hash: u64,
    /// Operations of that shard that it was told are done, with the numbers of those messages, for as long as it may not
    /// have heard.
    credited: BTreeSet<u64>,
    credited_at: VecDeque<(u64, u64)>,
    /// Kept, so that a steady stream of messages allocates nothing.
    bytes: Vec<u8>,
}

impl Peer {
    pub(super) fn sent(&self) -> u64 {
        self.delivered + self.sent.len() as u64
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn send(&mut self, message: &Message) {
        let before = self.sent.back().copied().unwrap_or(self.delivered_hash);
        let hash = self.after(before, message);
        self.sent.push_back(hash);
        if let Message::Credited { op } = message
            && self.credited.insert(*op)
        {
            self.credited_at.push_back((self.sent(), *op));
        }
    }

    pub(super) fn receive(&mut self, message: &Message) {
        self.received += 1;
        self.received_hash = self.after(self.received_hash, message);
    }

    /// The other shard has everything up to this number; whether that can be.
    pub(super) fn confirmed(&mut self, through: u64) -> bool {
        if !(self.delivered + 1..=self.sent()).contains(&through) {
            return false;
        }
        let count = (through - self.delivered) as usize;
        self.delivered_hash = self.sent[count - 1];
        self.sent.drain(..count);
        self.delivered = through;
        while let Some((_, op)) = self.credited_at.pop_front_if(|(n, _)| *n <= through) {
            self.credited.remove(&op);
        }
        true
    }

    /// Whether what the other side has received is what this one has sent, as far as it goes.
    pub(super) fn has_sent(&self, receiver: &Self) -> bool {
        let sent = match receiver.received.checked_sub(self.delivered) {
            // Fewer than were confirmed.
            None => None,
            Some(0) => Some(&self.delivered_hash),
            Some(more) => self.sent.get(more as usize - 1),
        };
        sent == Some(&receiver.received_hash)
    }

    /// Whether an operation of that shard was done, and it may not have heard.
    pub(super) fn has_credited(&self, op: u64) -> bool {
        self.credited.contains(&op)
    }

    /// FNV-1a over the hash so far and the message as it is kept in snapshots: to compare two rows of them, nothing more.
    fn after(&mut self, before: u64, message: &Message) -> u64 {
        let mut bytes = core::mem::take(&mut self.bytes);
        bytes.clear();
        bytes.extend(before.to_le_bytes());
        self.bytes = postcard::to_extend(message, bytes).expect("plain data");
        self.bytes
            .iter()
            .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credited(op: u64) -> Message {
        Message::Credited { op }
    }

    #[test]
    fn a_row_of_messages_is_the_same_however_far_it_was_confirmed() {
        for confirmed in 0..=4_u64 {
            for received in 0..=6_u64 {
                for wrong in 0..=received {
                    let (mut sender, mut receiver) = (Peer::default(), Peer::default());
                    (1..=5).for_each(|op| sender.send(&credited(op)));
                    (1..=received).for_each(|op| receiver.receive(&credited(if op == wrong { 99 } else { op })));
                    assert!(confirmed == 0 || sender.confirmed(confirmed));
                    let holds = (confirmed..=5).contains(&received) && wrong == 0;
                    assert_eq!(sender.has_sent(&receiver), holds, "{confirmed} {received} {wrong}");
                }
            }
        }
    }

    #[test]
    fn what_was_confirmed_takes_no_room() {
        let mut sender = Peer::default();
        for op in 1..=1_000 {
            sender.send(&credited(op));
            assert!(sender.has_credited(op));
            if op > 3 {
                assert!(sender.confirmed(op - 3));
                assert!(!sender.has_credited(op - 3) && sender.has_credited(op - 2));
            }
        }
        assert_eq!((sender.sent(), sender.delivered(), sender.sent.len(), sender.credited.len()), (1_000, 997, 3, 3));
        assert!(!sender.confirmed(997) && !sender.confirmed(1_001) && sender.confirmed(1_000));
    }
}

//! Memory at addresses that direct disk access accepts, without `unsafe`: a longer vector, sliced at the boundary.

/// What every offset, length and address of a direct write is a multiple of, in bytes. 4 KiB is the block of every
/// disk in use; a disk with 512-byte sectors takes it as well.
pub const BLOCK: usize = 4096;

/// `bytes`, rounded up to whole blocks.
pub(crate) const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK)
}

/// Says whether all bytes are zero. Compares block by block, since that is one call of `memcmp` each.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    static ZERO: [u8; BLOCK] = [0; BLOCK];
    bytes.chunks(BLOCK).all(|chunk| *chunk == ZERO[..chunk.len()])
}

/// A fixed stretch of memory, aligned to [`BLOCK`].
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        // A zeroed vector comes from the system's zero pages: what is never used costs nothing.
        let memory = vec![0; len + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        assert!(start < BLOCK, "a byte pointer can always be aligned");
        Self { memory, start, len }
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// All of it, to write into.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// Makes room for at least `len` bytes and keeps what is there.
    pub fn grow(&mut self, len: usize) {
        if len > self.len {
            let mut larger = Self::zeroed(len);
            larger.bytes_mut()[..self.len].copy_from_slice(self.bytes());
            *self = larger;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_and_keeps_its_bytes_when_it_grows() {
        let mut buffer = AlignedBuffer::zeroed(BLOCK);
        buffer.bytes_mut().fill(7);
        buffer.grow(3 * BLOCK);
        assert_eq!(buffer.bytes().as_ptr().align_offset(BLOCK), 0);
        assert_eq!(buffer.bytes()[..BLOCK], [7; BLOCK]);
        assert!(is_zero(&buffer.bytes()[BLOCK..]));
        assert!(!is_zero(buffer.bytes()));
    }
}

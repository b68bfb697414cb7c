//! Which bytes have been written: a bit for each.

pub(super) struct Defined(Vec<u64>);

impl Defined {
    /// So many bytes, none of them written.
    pub fn new(bytes: usize) -> Self {
        Self(vec![0; bytes.div_ceil(64)])
    }

    /// The bits of an aligned access: set where the byte is undefined.
    pub fn undefined(&self, offset: usize, bytes: u32) -> u16 {
        (!self.0[offset / 64] >> (offset % 64)) as u16 & ones(bytes)
    }

    /// Marks the bytes of an aligned access written, except those whose bit is set.
    pub fn set(&mut self, offset: usize, bytes: u32, undefined: u16) {
        let (word, shift) = (&mut self.0[offset / 64], offset % 64);
        *word |= u64::from(ones(bytes)) << shift;
        *word &= !(u64::from(undefined & ones(bytes)) << shift);
    }

    pub fn set_range(&mut self, offset: usize, bytes: usize) {
        let (mut at, end) = (offset, offset + bytes);
        while at < end {
            let count = (64 - at % 64).min(end - at);
            self.0[at / 64] |= (u64::MAX >> (64 - count)) << (at % 64);
            at += count;
        }
    }

    /// One byte.
    pub fn get(&self, offset: usize) -> bool {
        self.0[offset / 64] >> (offset % 64) & 1 == 1
    }

    pub fn put(&mut self, offset: usize, defined: bool) {
        self.set(offset, 1, u16::from(!defined));
    }
}

fn ones(bytes: u32) -> u16 {
    u16::MAX >> (16 - bytes.min(16))
}

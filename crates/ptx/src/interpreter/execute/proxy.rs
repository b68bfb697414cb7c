//! The asynchronous proxy: what bulk copies and `wgmma` read in shared memory must not be written by plain
//! stores that no `fence.proxy.async` came after, of the writer or of the thread that starts the operation.

/// The plain writes to the shared memory of a block, and its threads' fences. One counter orders them.
pub(super) struct Proxy {
    /// By word: the thread that wrote it last, and when.
    writes: Vec<Option<(u32, u64)>>,
    /// By thread: its last fence.
    fences: Vec<u64>,
    now: u64,
}

/// Words that these bytes touch.
fn words(offset: u64, bytes: u32) -> std::ops::Range<usize> {
    let end = offset.saturating_add(u64::from(bytes)).div_ceil(4);
    (offset / 4) as usize..usize::try_from(end).unwrap_or(usize::MAX)
}

impl Proxy {
    pub fn new(bytes: u64, threads: u32) -> Self {
        let words = usize::try_from(bytes.div_ceil(4)).unwrap_or(usize::MAX);
        Self { writes: vec![None; words], fences: vec![0; threads as usize], now: 0 }
    }

    /// A thread of the block has written there.
    pub fn write(&mut self, thread: u32, offset: u64, bytes: u32) {
        let now = self.now;
        if let Some(words) = self.writes.get_mut(words(offset, bytes)) {
            words.fill(Some((thread, now)));
        }
    }

    /// An asynchronous operation, or somebody in another block, has.
    pub fn forget(&mut self, offset: u64, bytes: u32) {
        if let Some(words) = self.writes.get_mut(words(offset, bytes)) {
            words.fill(None);
        }
    }

    pub fn fence(&mut self, thread: u32) {
        self.now += 1;
        if let Some(last) = self.fences.get_mut(thread as usize) {
            *last = self.now;
        }
    }

    /// A word there that an operation of `thread` must not read yet, and who wrote it.
    pub fn unfenced(&self, thread: u32, offset: u64, bytes: u32) -> Option<(u64, u32)> {
        let fenced = |thread: u32| self.fences.get(thread as usize).copied().unwrap_or(0);
        let own = fenced(thread);
        let words = words(offset, bytes);
        let start = words.start as u64;
        let mut writes = self.writes.get(words)?.iter().zip(start..);
        writes.find_map(|(write, word)| {
            let (writer, time) = (*write)?;
            (own <= time && fenced(writer) <= time).then_some((word * 4, writer))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Proxy;

    #[test]
    fn a_fence_covers_what_its_thread_wrote_before() {
        let mut proxy = Proxy::new(64, 4);
        proxy.write(1, 16, 8);
        assert_eq!(proxy.unfenced(0, 0, 64), Some((16, 1)));
        assert_eq!(proxy.unfenced(0, 24, 40), None);
        proxy.fence(2);
        assert_eq!(proxy.unfenced(0, 20, 4), Some((20, 1)), "another thread's fence is no help");
        proxy.fence(1);
        assert_eq!(proxy.unfenced(0, 0, 64), None);
        proxy.write(1, 20, 1);
        assert_eq!(proxy.unfenced(0, 0, 64), Some((20, 1)));
        proxy.fence(0);
        assert_eq!(proxy.unfenced(0, 0, 64), None, "the thread that starts has fenced");
        proxy.write(1, 20, 1);
        proxy.forget(16, 16);
        assert_eq!(proxy.unfenced(0, 0, 64), None);
    }
}

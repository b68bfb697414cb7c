//! Memory of the process: who owns it, and who uses which bytes of it at the moment.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;

use crate::backend::Buffer;
use crate::{Error, Result};

/// Memory of the process: a vector that was handed over, or memory that somebody else owns.
///
/// Clones share the memory. Who reads and who writes which bytes is written down while a call
/// runs, so that safe code cannot read what another thread is writing: such a call ends in
/// [`Error::InUse`].
#[derive(Clone)]
pub struct HostBuffer {
    memory: Arc<Memory>,
}

struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    /// Keeps the memory alive; nothing for borrowed memory.
    owner: Option<Box<dyn Any + Send + Sync>>,
    /// The bytes in use at this moment.
    uses: Mutex<Vec<Use>>,
}

#[derive(Clone, PartialEq)]
struct Use {
    bytes: Range<usize>,
    writes: bool,
}

// SAFETY: `start` is reached only through `read` and `write`, which hand out shared access to
// bytes nobody writes, or exclusive access to bytes nobody else uses; the owner is Send and Sync.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl HostBuffer {
    /// Takes over a vector, without a copy.
    pub fn from_vec<T: Pod + Send + Sync>(mut values: Vec<T>) -> Self {
        let start = NonNull::from(values.as_mut_slice()).cast();
        let bytes = size_of_val(values.as_slice());
        Self::new(start, bytes, Some(Box::new(values)))
    }

    /// Wraps memory that somebody else owns, without a copy.
    ///
    /// # Safety
    ///
    /// 1. `start` points to `bytes` initialised bytes, valid for reads and writes until the last
    ///    clone of the buffer is dropped.
    /// 2. While an operation runs on the buffer, nobody else writes these bytes, nor reads those
    ///    that the operation writes.
    pub unsafe fn from_raw(start: NonNull<u8>, bytes: usize) -> Self {
        Self::new(start, bytes, None)
    }

    /// Zeroed memory, aligned to 16 bytes; `None` where there is not enough.
    pub(super) fn zeroed(bytes: u64) -> Option<Self> {
        let words = usize::try_from(bytes.div_ceil(size_of::<u128>() as u64)).ok()?;
        let layout = std::alloc::Layout::array::<u128>(words).ok()?;
        let mut memory: Vec<u128> = match words {
            0 => Vec::new(),
            // SAFETY: the layout is that of `words` elements, more than none; zeroed memory holds
            // valid elements, and comes from the global allocator that `Vec` uses.
            _ => unsafe {
                let start = std::alloc::alloc_zeroed(layout).cast::<u128>();
                NonNull::new(start)?;
                super::pages::large(Vec::from_raw_parts(start, words, words))
            },
        };
        let start = NonNull::from(memory.as_mut_slice()).cast();
        Some(Self::new(start, bytes as usize, Some(Box::new(memory))))
    }

    fn new(start: NonNull<u8>, bytes: usize, owner: Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self { memory: Arc::new(Memory { start, bytes, owner, uses: Mutex::default() }) }
    }

    /// The vector that the buffer was made from, without a copy; the buffer itself where it is
    /// shared, or was not made from a vector of this type.
    ///
    /// # Errors
    ///
    /// The buffer, unchanged.
    pub fn into_vec<T: Pod>(self) -> Result<Vec<T>, Self> {
        let mut memory = Arc::try_unwrap(self.memory).map_err(|memory| Self { memory })?;
        let keep = |memory| Self { memory: Arc::new(memory) };
        match memory.owner.take().map(<Box<dyn Any + Send + Sync>>::downcast::<Vec<T>>) {
            Some(Ok(values)) => Ok(*values),
            Some(Err(owner)) => Err(keep(Memory { owner: Some(owner), ..memory })),
            None => Err(keep(memory)),
        }
    }

    /// The address of the first byte.
    pub(crate) fn address(&self) -> usize {
        self.memory.start.as_ptr() as usize
    }

    /// Shared access to a range of bytes.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] while another call writes them; [`Error::Driver`] outside the buffer.
    pub fn read(&self, bytes: Range<usize>) -> Result<ReadGuard<'_>> {
        self.claim(Use { bytes, writes: false }).map(ReadGuard)
    }

    /// Exclusive access to a range of bytes.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] while another call uses them; [`Error::Driver`] outside the buffer.
    pub fn write(&self, bytes: Range<usize>) -> Result<WriteGuard<'_>> {
        self.claim(Use { bytes, writes: true }).map(WriteGuard)
    }

    fn claim(&self, wanted: Use) -> Result<Claim<'_>> {
        if wanted.bytes.start > wanted.bytes.end || wanted.bytes.end > self.memory.bytes {
            return Err(Error::Driver {
                device: "cpu".to_owned(),
                call: "access to a buffer",
                reason: format!("bytes {:?} lie outside its {}", wanted.bytes, self.memory.bytes),
            });
        }
        let mut uses = self.memory.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let clash =
            |held: &&Use| (held.writes || wanted.writes) && intersect(&held.bytes, &wanted.bytes);
        if let Some(held) = uses.iter().find(clash) {
            return Err(Error::InUse {
                device: "cpu".to_owned(),
                access: if held.writes { "written" } else { "read" },
            });
        }
        uses.push(wanted.clone());
        Ok(Claim { memory: &self.memory, held: wanted })
    }
}

/// A range of bytes that is in use until this is dropped.
struct Claim<'a> {
    memory: &'a Memory,
    held: Use,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut uses = self.memory.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = uses.iter().position(|held| *held == self.held) {
            uses.swap_remove(position);
        }
    }
}

impl Claim<'_> {
    fn start(&self) -> *mut u8 {
        // SAFETY: `claim` checked that the range lies inside the memory.
        unsafe { self.memory.start.add(self.held.bytes.start) }.as_ptr()
    }
}

/// Shared access to bytes of a [`HostBuffer`].
pub struct ReadGuard<'a>(Claim<'a>);

impl Deref for ReadGuard<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are inside the memory and initialised, and the claim keeps writers away.
        unsafe { std::slice::from_raw_parts(self.0.start(), self.0.held.bytes.len()) }
    }
}

/// Exclusive access to bytes of a [`HostBuffer`].
pub struct WriteGuard<'a>(Claim<'a>);

impl Deref for WriteGuard<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are inside the memory and initialised; the claim keeps others away.
        unsafe { std::slice::from_raw_parts(self.0.start(), self.0.held.bytes.len()) }
    }
}

impl DerefMut for WriteGuard<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the guard is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.0.start(), self.0.held.bytes.len()) }
    }
}

impl Buffer for HostBuffer {
    fn bytes(&self) -> u64 {
        self.memory.bytes as u64
    }

    fn overlaps(&self, bytes: Range<u64>, other: &Self, other_bytes: Range<u64>) -> bool {
        let absolute = |buffer: &Self, bytes: Range<u64>| {
            let start = buffer.address();
            start + bytes.start as usize..start + bytes.end as usize
        };
        intersect(&absolute(self, bytes), &absolute(other, other_bytes))
    }
}

impl fmt::Debug for HostBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostBuffer({} bytes at {:#x})", self.memory.bytes, self.address())
    }
}

/// Whether two ranges share anything.
pub(crate) fn intersect<T: Ord + Copy>(first: &Range<T>, second: &Range<T>) -> bool {
    first.start.max(second.start) < first.end.min(second.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Cpu};

    #[test]
    fn a_vector_comes_back_without_a_copy() {
        let values = vec![1.0f32, 2.0, 3.0];
        let address = values.as_ptr() as usize;
        let buffer = HostBuffer::from_vec(values);
        assert_eq!(buffer.bytes(), 12);
        let buffer = buffer.into_vec::<u8>().unwrap_err();
        let back = buffer.into_vec::<f32>().unwrap();
        assert_eq!(back, [1.0, 2.0, 3.0]);
        assert_eq!(back.as_ptr() as usize, address);
    }

    #[test]
    fn copies_are_whole_or_refused() {
        let from = Cpu.upload(&[3; 9]).unwrap();
        let to = Cpu.allocate(9).unwrap();
        Cpu.copy(&from, &to).unwrap();
        assert_eq!(*to.read(0..9).unwrap(), [3; 9]);
        for bytes in [5, 12] {
            let other = Cpu.allocate(bytes).unwrap();
            assert!(matches!(Cpu.copy(&from, &other), Err(Error::Shape { .. })));
        }
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let buffer = Cpu.upload(&[7; 16]).unwrap();
        let first = buffer.read(0..8).unwrap();
        let second = buffer.read(4..16).unwrap();
        assert!(matches!(buffer.write(7..9), Err(Error::InUse { access: "read", .. })));
        drop((first, second));
        let left = buffer.write(0..8).unwrap();
        let right = buffer.write(8..16).unwrap();
        assert!(matches!(buffer.read(0..1), Err(Error::InUse { access: "written", .. })));
        drop((left, right));
        buffer.read(0..16).unwrap();
        assert!(matches!(buffer.read(0..17), Err(Error::Driver { .. })));
    }
}

//! The shared memory of a block.

use std::collections::HashMap;
use std::sync::Arc;

use super::knowledge::Message;
use super::page::{Page, Write};
use super::view::View;
use super::{Access, Checks, Fault, Loaded, Site};

/// Static and dynamic shared memory of a block, from offset 0 on; at first all of it undefined. Threads of
/// other blocks of the cluster access it with a [`View`] of their own block.
pub(crate) struct Shared {
    bytes: Vec<u8>,
    page: Page,
    checks: Checks,
    /// Words that an asynchronous copy is under way to, and who started it.
    pending: HashMap<usize, Site>,
}

/// What memory holds that nobody has written: a NaN in every float format.
const FRESH: u8 = 0xFF;

impl Shared {
    pub fn new(bytes: usize, checks: Checks) -> Self {
        Self {
            bytes: vec![FRESH; bytes],
            page: Page::new(bytes, checks),
            checks,
            pending: HashMap::new(),
        }
    }

    #[inline]
    pub fn load(
        &mut self,
        view: &View,
        access: &Access,
        into: &mut [u8; 16],
    ) -> Result<Loaded, Fault> {
        let at = self.settled(access)?;
        let loaded = self.page.read(view, access, at)?;
        let bytes = access.bytes as usize;
        into[..bytes].copy_from_slice(&self.bytes[at..at + bytes]);
        Ok(loaded)
    }

    /// `undefined` has a bit for each byte whose value is undefined.
    #[inline]
    pub fn store(
        &mut self,
        view: &View,
        access: &Access,
        bytes: &[u8],
        undefined: u16,
        publish: Option<Arc<Message>>,
    ) -> Result<(), Fault> {
        let at = self.settled(access)?;
        self.put(view, access, at, bytes, Write { undefined, publish, atomic: false })
    }

    /// The update says what the old value becomes, or that it stays (a `cas` that fails). Gives the old value.
    pub fn atomic(
        &mut self,
        view: &View,
        access: &Access,
        publish: Option<Arc<Message>>,
        update: &mut dyn FnMut(u128) -> Option<u128>,
    ) -> Result<(u128, Loaded), Fault> {
        let at = self.settled(access)?;
        if self.page.undefined(access, at) != 0 {
            return Err(Fault::Undefined { address: access.address });
        }
        let bytes = access.bytes as usize;
        let mut old = [0; 16];
        old[..bytes].copy_from_slice(&self.bytes[at..at + bytes]);
        let old = u128::from_le_bytes(old);
        let Some(new) = update(old) else {
            return Ok((old, self.page.read(view, access, at)?));
        };
        let seen = self.page.seen(access, at, view);
        let write = Write { undefined: 0, publish, atomic: true };
        self.put(view, access, at, &new.to_le_bytes()[..bytes], write)?;
        Ok((old, Loaded { undefined: 0, seen }))
    }

    /// A `cp.async` to these bytes begins: until [`settle`](Self::settle) any access to them is a fault.
    pub fn poison(&mut self, view: &View, access: &Access, site: Site) -> Result<(), Fault> {
        let at = self.settled(access)?;
        let held = Write { undefined: 0xFFFF, publish: None, atomic: false };
        self.page.write(view, access, at, held, false)?;
        if self.checks.races {
            self.pending.extend(
                (at / 4..(at + access.bytes as usize).div_ceil(4)).map(|word| (word, site)),
            );
        }
        Ok(())
    }

    /// The thread has waited for its copy, which brought these bytes.
    pub fn settle(
        &mut self,
        view: &View,
        access: &Access,
        bytes: &[u8],
        undefined: u16,
    ) -> Result<(), Fault> {
        let at = self.place(access)?;
        for word in at / 4..(at + access.bytes as usize).div_ceil(4) {
            self.pending.remove(&word);
        }
        self.put(view, access, at, bytes, Write { undefined, publish: None, atomic: false })
    }

    fn put(
        &mut self,
        view: &View,
        access: &Access,
        at: usize,
        bytes: &[u8],
        write: Write,
    ) -> Result<(), Fault> {
        let place = &mut self.bytes[at..at + access.bytes as usize];
        self.page.write(view, access, at, write, place == bytes)?;
        place.copy_from_slice(bytes);
        Ok(())
    }

    /// Where the access lies, if it lies in the memory and nothing is under way to it.
    #[inline]
    fn settled(&self, access: &Access) -> Result<usize, Fault> {
        let at = self.place(access)?;
        if !self.pending.is_empty() {
            for word in at / 4..(at + access.bytes as usize).div_ceil(4) {
                if let Some(&other) = self.pending.get(&word) {
                    return Err(Fault::Pending { address: word as u64 * 4, other });
                }
            }
        }
        Ok(at)
    }

    #[inline]
    fn place(&self, access: &Access) -> Result<usize, Fault> {
        let (address, bytes) = (access.address, access.bytes);
        let len = self.bytes.len() as u64;
        if address.checked_add(u64::from(bytes)).is_none_or(|end| end > len) {
            let nearest = Some((0, len));
            return Err(Fault::OutOfBounds { address, bytes: u64::from(bytes), nearest });
        }
        if address & u64::from(bytes - 1) != 0 {
            return Err(Fault::Misaligned { address, bytes });
        }
        Ok(address as usize)
    }
}

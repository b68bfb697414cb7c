//! What is known of a stretch of memory beside its bytes: which are defined, who accessed them, what was
//! released there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::defined::Defined;
use super::knowledge::Message;
use super::shadow::{Conflict, Record, Shadow, WORD};
use super::view::View;
use super::{Access, Checks, Fault, Loaded};

pub(super) struct Page {
    bytes: usize,
    checks: Checks,
    pub defined: Defined,
    /// Empty until a thread touches the page.
    shadow: Shadow,
    /// By word.
    messages: HashMap<usize, Arc<Message>>,
}

/// What a write does beside changing bytes.
pub(super) struct Write {
    /// A bit for each byte whose new value is undefined.
    pub undefined: u16,
    pub publish: Option<Arc<Message>>,
    /// Atomics let earlier releases stand.
    pub atomic: bool,
}

impl Page {
    pub fn new(bytes: usize, checks: Checks) -> Self {
        let (defined, shadow) = (Defined::new(bytes), Shadow::default());
        Self { bytes, checks, defined, shadow, messages: HashMap::new() }
    }

    /// Forgets who did what, but not what is defined.
    pub fn begin(&mut self) {
        self.shadow.clear();
        self.messages.clear();
    }

    /// An access at an offset that lies in the page as a whole.
    #[inline]
    pub fn read(&mut self, view: &View, access: &Access, offset: usize) -> Result<Loaded, Fault> {
        if self.checks.races {
            let new = record(view, access, offset);
            let read = self.shadow().read(words(access, offset), new, view);
            read.map_err(|found| fault(access, offset, &found, view, false))?;
        }
        Ok(Loaded {
            undefined: self.undefined(access, offset),
            seen: self.seen(access, offset, view),
        })
    }

    /// `same_value`: the bytes stay as they are.
    #[inline]
    pub fn write(
        &mut self,
        view: &View,
        access: &Access,
        offset: usize,
        write: Write,
        same_value: bool,
    ) -> Result<(), Fault> {
        if self.checks.races {
            let mut new = record(view, access, offset);
            if write.atomic {
                new = new.atomic();
            }
            if let Some(message) = &write.publish {
                new.time = message.stamp;
            }
            let written = self.shadow().write(words(access, offset), new, view);
            written.map_err(|found| fault(access, offset, &found, view, same_value))?;
            self.post(access, offset, &write, view);
        }
        self.defined.set(offset, access.bytes, write.undefined);
        Ok(())
    }

    /// A bit for each byte of the access that is undefined.
    pub fn undefined(&self, access: &Access, offset: usize) -> u16 {
        if self.checks.uninitialised { self.defined.undefined(offset, access.bytes) } else { 0 }
    }

    fn shadow(&mut self) -> &mut Shadow {
        if self.shadow.is_empty() {
            self.shadow = Shadow::new(self.bytes.div_ceil(4));
        }
        &mut self.shadow
    }

    /// What the access sees of releases.
    pub fn seen(&self, access: &Access, offset: usize, view: &View) -> Option<Arc<Message>> {
        if self.messages.is_empty() {
            return None;
        }
        let mut seen: Option<Arc<Message>> = None;
        for message in words(access, offset).filter_map(|at| self.messages.get(&at)) {
            match &mut seen {
                None => seen = Some(Arc::clone(message)),
                Some(seen) if Arc::ptr_eq(seen, message) => {}
                Some(seen) => Arc::make_mut(seen).join(message, view.geometry()),
            }
        }
        seen
    }

    /// Leaves what a write releases; a write that is no atomic ends what was released before it.
    fn post(&mut self, access: &Access, offset: usize, write: &Write, view: &View) {
        if self.messages.is_empty() && write.publish.is_none() {
            return;
        }
        for at in words(access, offset) {
            match (&write.publish, self.messages.get_mut(&at)) {
                (Some(publish), Some(message)) if write.atomic => {
                    let mut joined = Message::clone(publish);
                    joined.follow(message, view.geometry());
                    *message = Arc::new(joined);
                }
                (Some(publish), _) => {
                    self.messages.insert(at, Arc::clone(publish));
                }
                (None, Some(_)) if !write.atomic => {
                    self.messages.remove(&at);
                }
                (None, _) => {}
            }
        }
    }
}

/// The words that an aligned access touches.
fn words(access: &Access, offset: usize) -> Range<usize> {
    offset / 4..(offset + access.bytes as usize).div_ceil(4)
}

fn record(view: &View, access: &Access, offset: usize) -> Record {
    let new = view.record(access.strength, access.pc);
    if access.bytes < 4 {
        new.with_bytes((WORD >> (4 - access.bytes)) << (offset % 4))
    } else {
        new
    }
}

#[cold]
fn fault(
    access: &Access,
    offset: usize,
    (word, conflict): &(usize, Conflict),
    view: &View,
    same_value: bool,
) -> Fault {
    let address = (access.address & !3) + (word - offset / 4) as u64 * 4;
    let (other, other_wrote) = (view.site(&conflict.record, conflict.lane), conflict.wrote);
    if conflict.read_only {
        Fault::ReadOnlyWritten { address, other, other_wrote }
    } else {
        Fault::Race { address, other, other_wrote, narrow: conflict.narrow, same_value }
    }
}

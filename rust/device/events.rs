// SPDX-License-Identifier: GPL-2.0

//! What programs are told of an enabled device: uevents of its disk, by the
//! [`keeper`](super::keeper). Which there are is decided in `crate::logic::tell`.
//!
//! Locks: `voice`, while one is told. That waits for memory, and for others who tell something.

use super::Device;
use crate::logic::{
    mirror::World,
    tell::{Event, Facts, Next, Teller},
};
use core::fmt::{self, Write};

/// Bytes of the words of one event; the longest has fewer.
const WORDS: usize = 512;

/// The words of one event, each with its NUL.
struct Words {
    text: [u8; WORDS],
    len: usize,
}

impl Words {
    fn of(event: &Event) -> Option<Self> {
        let mut words = Self {
            text: [0; WORDS],
            len: 0,
        };
        event.write(&mut words).ok()?;
        Some(words)
    }

    fn text(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

impl Write for Words {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len.checked_add(s.len()).ok_or(fmt::Error)?;
        let room = self.text.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Device {
    fn facts(&self) -> Facts {
        Facts::of(self.mirror.core(), self.name())
    }

    /// Who tells what happens from now on.
    pub(super) fn teller(&self) -> Teller {
        Teller::new(&self.facts(), self.events.get())
    }

    /// Tells what has happened. If there is more, but not yet, in how many milliseconds.
    pub(super) fn tell(&self, teller: &mut Teller) -> Option<u64> {
        let voice = self.voice.lock();
        // Without one its disk is not there yet.
        let disk = voice.as_ref()?;
        loop {
            match teller.next(&self.facts(), self.mirror.now_ms()) {
                Next::Nothing => return None,
                Next::Wait(ms) => return Some(ms),
                Next::Tell(event) => {
                    // Before: who is told finds at least this number in the status.
                    self.events.set(event.seq);
                    if let Some(words) = Words::of(&event) {
                        // One that is lost for want of memory is missed by its number.
                        let _ = disk.changed(words.text());
                    }
                    self.mirror.tidings.tell();
                }
            }
        }
    }
}

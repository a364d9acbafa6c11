// SPDX-License-Identifier: GPL-2.0

//! How many pages there are for the copies of writes, and who gets them.
//!
//! Each write's data is copied once, into pages that there are from the beginning, and all groups
//! are sent that copy ([`World::copy_once`](super::mirror::World::copy_once)). A page is
//!
//! ```text
//!           take                       give_back, Kept
//!   clean --------> a write has it --------------------> clean
//!     ^                    | give_back, Lent
//!     | regain             v
//!     +------------- lent: the network may have it still
//! ```
//!
//! The network may take the pages of a copy themselves ([`Lease::Lent`]), and has them for as long as
//! a connection hangs, perhaps for ever. So of the pages some, the *reserve*, are never lent: copies
//! that come to lie there are copied again by the network ([`Lease::Kept`]). When all writes have
//! ended there is at least the reserve, which is as large as the largest write; so a server that hangs
//! makes writes dearer, and none wait for it once its group is out of service.
//!
//! A large write must not wait for ever while small ones go past it: while one waits, others get
//! only what it does not need. That holds only as long as some write has pages: its end is what asks
//! again for those that wait.

/// How the pages of a copy may be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lease {
    /// The network may take them themselves.
    Lent,
    /// It has to copy them.
    Kept,
}

/// How many pages are where.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Pages that may be lent at once.
    lendable: u32,
    clean: u32,
    /// Pages that writes have, by lease.
    out_lent: u32,
    out_kept: u32,
    /// Pages that writes have given back, and the network may have.
    lent: u32,
    /// Pages that the largest of the writes that wait needs.
    wanted: u32,
}

impl Room {
    /// Room of `total` pages, of which `reserve`, as many as the largest write needs, are never lent.
    pub fn new(total: u32, reserve: u32) -> Self {
        Self {
            lendable: total.saturating_sub(reserve),
            clean: total,
            out_lent: 0,
            out_kept: 0,
            lent: 0,
            wanted: 0,
        }
    }

    /// Whether a write of so many pages may have them now.
    pub fn has(&self, pages: u32) -> bool {
        let Some(left) = self.clean.checked_sub(pages) else {
            return false;
        };
        pages >= self.wanted || left >= self.wanted || self.out() == 0
    }

    fn out(&self) -> u32 {
        self.out_lent.saturating_add(self.out_kept)
    }

    /// Takes so many pages. If there is no room now, the write has to ask again when another one has
    /// ended.
    pub fn take(&mut self, pages: u32) -> Option<Lease> {
        if !self.has(pages) {
            self.wanted = self.wanted.max(pages);
            return None;
        }
        if pages >= self.wanted {
            self.wanted = 0;
        }
        self.clean = self.clean.saturating_sub(pages);
        let lent = self.out_lent.saturating_add(self.lent);
        if lent.saturating_add(pages) <= self.lendable {
            self.out_lent = self.out_lent.saturating_add(pages);
            Some(Lease::Lent)
        } else {
            self.out_kept = self.out_kept.saturating_add(pages);
            Some(Lease::Kept)
        }
    }

    /// A write has ended, and gives its pages back.
    pub fn give_back(&mut self, lease: Lease, pages: u32) {
        match lease {
            Lease::Lent => {
                self.out_lent = self.out_lent.saturating_sub(pages);
                self.lent = self.lent.saturating_add(pages);
            }
            Lease::Kept => {
                self.out_kept = self.out_kept.saturating_sub(pages);
                self.clean = self.clean.saturating_add(pages);
            }
        }
    }

    /// A page that was lent is nobody else's any more.
    pub fn regain(&mut self) {
        if self.lent > 0 {
            self.lent -= 1;
            self.clean = self.clean.saturating_add(1);
        }
    }

    /// How many of the pages that were lent are to be looked at before so many are taken: a few more
    /// than that, so that they come back as fast as they go.
    pub fn worth_a_look(&self, pages: u32) -> u32 {
        pages
            .saturating_add(pages / 2)
            .saturating_add(2)
            .min(self.lent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_never_lent() {
        let mut room = Room::new(8, 4);
        assert_eq!(room.take(3), Some(Lease::Lent));
        assert_eq!(room.take(2), Some(Lease::Kept));
        assert_eq!(room.take(1), Some(Lease::Lent));
        room.give_back(Lease::Lent, 3);
        room.give_back(Lease::Lent, 1);
        room.give_back(Lease::Kept, 2);
        // The network has four for ever.
        assert_eq!(room.take(4), Some(Lease::Kept));
        assert_eq!(room.take(1), None);
        room.give_back(Lease::Kept, 4);
        assert_eq!(room.take(4), Some(Lease::Kept));
    }

    #[test]
    fn what_the_network_gives_up_is_lent_again() {
        let mut room = Room::new(4, 2);
        assert_eq!(room.take(2), Some(Lease::Lent));
        room.give_back(Lease::Lent, 2);
        assert_eq!(room.worth_a_look(1), 2);
        room.regain();
        room.regain();
        room.regain();
        assert_eq!(room.worth_a_look(1), 0);
        assert_eq!(room.take(2), Some(Lease::Lent));
        assert_eq!(room.take(2), Some(Lease::Kept));
        assert_eq!(room.take(1), None);
    }

    #[test]
    fn a_large_write_is_not_overtaken_for_ever() {
        let mut room = Room::new(8, 4);
        let small = [(); 5].map(|()| room.take(1).expect("room"));
        assert_eq!(room.take(4), None);
        // Small ones get what the large one does not need: nothing.
        assert_eq!(room.take(1), None);
        for lease in small {
            room.give_back(lease, 1);
        }
        // Four were lent, and the network has them.
        assert_eq!(room.take(4), Some(Lease::Kept));
        assert_eq!(room.take(1), None);
        room.give_back(Lease::Kept, 4);
        assert_eq!(room.take(1), Some(Lease::Kept));
    }

    #[test]
    fn nobody_waits_for_one_that_is_gone() {
        let mut room = Room::new(4, 4);
        assert_eq!(room.take(1), Some(Lease::Kept));
        assert_eq!(room.take(4), None);
        assert_eq!(room.take(1), None);
        room.give_back(Lease::Kept, 1);
        // The large one has failed for another reason: no end would ask again for this one.
        assert_eq!(room.take(1), Some(Lease::Kept));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Changes of a group's state.
//!
//! The view changes first, by compare-and-swap; what follows from it is done afterwards. Who works
//! under the old view either is found by that (transfers that wait in the table) or is waited for
//! (claims of older epochs).

use super::{HealthEvent, Losses, Memories, News, Outcomes, Route, World};
use crate::logic::{
    barrier::{Span, MAX_AGE},
    group::{GroupEvent, GroupFault, GroupState, Refusal, View},
    ids::GroupId,
    unflushed::REGIONS,
};

/// Who brings a group back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asker {
    /// The administrator, whose word counts.
    Administrator,
    /// The keeper, for a group that enbd itself has faulted.
    Keeper,
}

/// The changes of groups' states.
pub trait States: World {
    /// Adds a group: in sync while the device was never enabled, since then it is the
    /// administrator's word that all are equal; and faulty with everything marked afterwards.
    fn join(&self, group: GroupId) -> Result<(), Refusal> {
        let core = self.core();
        let stale =
            (core.last_sectors() > 0 && !core.view().readable().is_empty()) || self.has_memory();
        let event = if stale {
            GroupEvent::JoinStale
        } else {
            GroupEvent::JoinWhole
        };
        let g = core.group(group);
        if stale {
            self.mark_all(group);
        }
        // Whatever was lost in an earlier life, it is marked, or was before the first write.
        g.happened(HealthEvent::Joined);
        if let Some(unflushed) = self.unflushed(group) {
            unflushed.lose(|_, _| ());
        }
        g.set_fault(stale.then_some(GroupFault::Joined));
        if !stale {
            // What was remembered was that of groups that are gone.
            self.evidence().clear(core.last_sectors());
        }
        change(self, |view| view.after(group, event))?;
        Ok(())
    }

    /// Takes a group out of service. Writes mark its map from now on.
    fn fault(&self, group: GroupId, fault: GroupFault) -> Result<(), Refusal> {
        self.take_out(group, fault)?;
        self.return_waiting(group);
        Ok(())
    }

    /// The same; but what waits for a channel of the group is left to the caller.
    fn take_out(&self, group: GroupId, fault: GroupFault) -> Result<(), Refusal> {
        change(self, |view| view.after(group, GroupEvent::Fault))?;
        self.core().group(group).set_fault(Some(fault));
        self.tell(News::Faulty { group, fault });
        self.mark_unflushed(group);
        Ok(())
    }

    /// Takes a group out of service at the administrator's word. One that is out of service already
    /// is his from now on, whatever it was faulted for, and does not come back by itself.
    fn set_faulty(&self, group: GroupId) -> Result<(), Refusal> {
        let fault = GroupFault::Admin;
        let g = self.core().group(group);
        loop {
            let result = self.fault(group, fault);
            if result != Err(Refusal::AlreadyFaulty) {
                return result;
            }
            if g.fault() != Some(fault) {
                g.set_fault(Some(fault));
                self.tell(News::Faulty { group, fault });
            }
            // Whoever brings it back after this look sees the reason.
            if self.core().view().state(group) == GroupState::Faulty {
                return Ok(());
            }
        }
    }

    /// A group that is out of service shows that its server is not the one that was lost: only the
    /// administrator brings it back.
    fn doubt(&self, group: GroupId) {
        let fault = GroupFault::Differs;
        let g = self.core().group(group);
        if g.fault() != Some(fault) && g.fault() != Some(GroupFault::Admin) {
            g.set_fault(Some(fault));
            self.tell(News::Faulty { group, fault });
        }
    }

    /// Whether a write is held for so long that no group may be brought back before it has ended.
    fn holds_old_write(&self) -> bool {
        let epoch = self.core().view().epoch();
        self.claims().iter().any(|claim| claim.age(epoch) > MAX_AGE)
    }

    /// Starts to bring a faulty group back: from now on it gets new writes. The map may be read
    /// when [`States::is_settled`] says so of the epoch that this gives.
    fn hot_add(&self, group: GroupId, asker: Asker) -> Result<u32, Refusal> {
        let g = self.core().group(group);
        // Before the first write is sent to it. It is harmless to one that is resyncing already, but
        // that marks more than it misses.
        g.happened(HealthEvent::CheckBegan);
        let view = change(self, |view| view.after(group, GroupEvent::HotAdd))?;
        // Looked at under the new state: a channel that is lost from now on faults the group.
        let refusal = if g.is_suspect(self.now_ms()) {
            Refusal::Suspect
        } else if g.health().is_unmarked() {
            Refusal::Unmarked
        } else if self.core().named().has(group) {
            Refusal::Unrecorded
        } else if g.up().is_empty() {
            Refusal::NoChannel
        } else if asker == Asker::Keeper && g.fault().is_some_and(|fault| !fault.is_own()) {
            Refusal::KeptOut
        } else {
            return Ok(view.epoch());
        };
        // Nothing was copied, and the map is as it was.
        let fault = g.fault().unwrap_or(GroupFault::Resync);
        let _ = self.fault(group, fault);
        Err(refusal)
    }

    /// Says that somebody is going to wait, or waits no more, for [`States::is_settled`].
    fn settling(&self, waits: bool) {
        let change = if waits { 1 } else { u64::MAX };
        self.core().settling.fetch_add(change);
    }

    /// Whether no write goes on that was sent under another view than that of `epoch`. A change of
    /// another group's state meanwhile only makes this wait longer.
    fn is_settled(&self, epoch: u32) -> bool {
        self.claims().iter().all(|claim| claim.age(epoch) == 0)
    }

    /// Whether no write overlaps `span` any more. To be asked after the window was raised.
    fn is_clear(&self, span: Span) -> bool {
        !self.claims().iter().any(|claim| claim.blocks(span))
    }

    /// The resync of a group has ended: it is in sync.
    fn synced(&self, group: GroupId) -> Result<(), Refusal> {
        change(self, |view| view.after(group, GroupEvent::Synced))?;
        let g = self.core().group(group);
        g.set_fault(None);
        g.happened(HealthEvent::Synced);
        self.renew_doubted();
        Ok(())
    }

    /// The group's metadata says at the next start what it is: until then it is out of service.
    fn wait_for_start(&self, group: GroupId) {
        self.wait_for_start_as(group, GroupFault::Waiting);
    }

    /// The same, and why it stays out of service then.
    fn wait_for_start_as(&self, group: GroupId, fault: GroupFault) {
        // Refused if it is so already.
        let _ = change(self, |view| view.after(group, GroupEvent::Wait));
        self.core().group(group).set_fault(Some(fault));
    }

    /// The group's metadata says that it is in sync: the device is about to be enabled.
    fn assembled(&self, group: GroupId) -> Result<(), Refusal> {
        change(self, |view| view.after(group, GroupEvent::Assembled))?;
        let g = self.core().group(group);
        g.set_fault(None);
        g.happened(HealthEvent::Joined);
        Ok(())
    }

    /// Drops a faulty group.
    fn remove(&self, group: GroupId) -> Result<(), Refusal> {
        change(self, |view| view.after(group, GroupEvent::Remove))?;
        forget(self, group);
        Ok(())
    }

    /// Drops a group whatever its state: the device is being taken apart.
    fn clear(&self, group: GroupId) {
        // Never refused.
        let _ = change(self, |view| Ok(view.cleared(group)));
        self.return_waiting(group);
        forget(self, group);
    }

    /// Tells the size of the device that is being enabled; 0 when it is disabled.
    fn set_sectors(&self, sectors: u64) {
        let core = self.core();
        core.sectors.store(sectors);
        core.zeroes_refused.store(0);
        if sectors == 0 {
            return;
        }
        let before = core.last_sectors.swap(sectors);
        if before == sectors {
            return;
        }
        self.evidence().clear(sectors);
        if before == 0 {
            // What is noted, is by the start, which knew the size.
            return;
        }
        // What was noted before was in regions of another size.
        for unflushed in GroupId::all().filter_map(|group| self.unflushed(group)) {
            let mut noted = false;
            unflushed.lose(|_, _| noted = true);
            if noted {
                unflushed.note(0, REGIONS);
            }
        }
    }

    /// Lets requests that cannot be served fail (or wait again), and looks after those that wait.
    fn set_failing(&self, failing: bool) {
        // Full barrier: who lets a transfer wait looks at this afterwards.
        self.core().failing.swap(u64::from(failing));
        if failing {
            self.fail_waiting();
            if self.has_memory() {
                self.drop_kept();
                self.unpark();
            }
        }
    }
}

impl<W: World> States for W {}

fn change<W: World>(
    w: &W,
    change: impl Fn(View) -> Result<View, Refusal>,
) -> Result<View, Refusal> {
    let view = w.core().change_view(change)?;
    w.changed();
    w.wake_resyncs();
    Ok(view)
}

fn forget<W: World>(w: &W, group: GroupId) {
    let g = w.core().group(group);
    g.set_fault(None);
    g.note_up();
}

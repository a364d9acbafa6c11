// SPDX-License-Identifier: GPL-2.0

//! What channels report; what follows from it is decided in `crate::logic::mirror`.

use super::{Driver, Mirror};
use crate::channel::{Arrival, Channel, Home, Outcome, Probe, Table, Transfer};
use crate::logic::{
    channel::{ChannelState, DownReason},
    export::is_another,
    mirror::{Arrivals, Losses, Outcomes, World},
    wire::handshake::Export,
};
use kernel::sync::atomic::ordering::Relaxed;

impl Home for Mirror {
    type Ops = Driver;

    fn letter(&self) -> char {
        self.letter
    }

    fn channel(&self, index: u8) -> Option<&Channel<Driver>> {
        self.channels.get(usize::from(index))
    }

    fn table(&self, group: u8) -> Option<&Table<Driver>> {
        self.group(usize::from(group))?.table()
    }

    fn request_timeout_s(&self) -> u32 {
        self.settings.timeout.load(Relaxed)
    }

    fn patience_ms(&self, group: u8) -> u64 {
        Losses::patience_ms(self, usize::from(group))
    }

    fn connect_timeout_s(&self) -> u32 {
        self.settings.connect_timeout.load(Relaxed)
    }

    fn is_another(&self, group: u8, export: &Export) -> bool {
        let theirs = self.channels.iter().filter_map(|channel| {
            channel.with_link(|link| {
                let is_theirs = link.spec.as_ref().is_some_and(|spec| spec.group == group);
                link.export
                    .filter(|_| is_theirs && link.state == ChannelState::Up)
            })
        });
        is_another(export, theirs)
    }

    fn admit(&self, group: u8, export: &Export) -> Result<(), DownReason> {
        self.admit_export(usize::from(group), export)
    }

    fn came_up(&self, index: u8, group: u8, ended: &dyn Fn() -> bool, probe: Probe<'_>) -> Arrival {
        Arrivals::came_up(self, u32::from(index), usize::from(group), ended, probe)
    }

    fn leave(&self, index: u8, group: u8) {
        Losses::leave(self, u32::from(index), usize::from(group));
    }

    fn went_down(&self, index: u8, group: u8) {
        Losses::went_down(self, u32::from(index), usize::from(group));
    }

    fn give_up_group(&self, group: u8) -> bool {
        Losses::give_up_group(self, usize::from(group))
    }

    fn suspect(&self, group: u8, suspect: bool) {
        Losses::suspect(self, usize::from(group), suspect);
    }

    fn suspect_for(&self, group: u8, ms: u32) {
        Losses::suspect_for(self, usize::from(group), ms);
    }

    fn is_failing(&self) -> bool {
        self.core().is_failing()
    }

    fn done(&self, group: u8, number: u32, transfer: Transfer<Driver>, outcome: Outcome) {
        Outcomes::done(self, usize::from(group), number, transfer, outcome);
    }

    fn changed(&self) {
        self.wake();
    }

    fn sleep(&self, ms: u32, enough: &mut dyn FnMut() -> bool) -> bool {
        World::wait(self, ms, enough)
    }
}

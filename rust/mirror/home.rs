// SPDX-License-Identifier: GPL-2.0

//! What channels ask and tell; what follows from it is decided in `crate::logic::mirror`.

use super::{Driver, Mirror};
use crate::channel::{Channel, Home, Table};
use crate::kapi::iovec::Buffer;
use crate::logic::{
    export::is_another,
    ids::{ChannelId, GroupId, Lane},
    mirror::{Arrival, Arrivals, Hears, Losses, Probe, World},
    session::{ChannelState, DownReason, Event},
    wire::handshake::Export,
};
use kernel::sync::atomic::ordering::Relaxed;

impl Home for Mirror {
    type Ops = Driver;

    fn letter(&self) -> char {
        self.letter
    }

    fn channel(&self, id: ChannelId) -> &Channel<Driver> {
        Mirror::channel(self, id)
    }

    fn table(&self, group: GroupId) -> Option<&Table<Driver>> {
        self.group(group).table()
    }

    fn now_ms(&self) -> u64 {
        World::now_ms(self)
    }

    fn connect_timeout_s(&self) -> u32 {
        self.settings.connect_timeout.load(Relaxed)
    }

    fn timeout_ms(&self) -> u64 {
        World::timeout_ms(self)
    }

    fn patience_ms(&self, group: GroupId) -> u64 {
        Losses::patience_ms(self, group)
    }

    fn is_failing(&self) -> bool {
        self.core().is_failing()
    }

    fn admit(&self, lane: Lane, export: &Export, is_new: bool) -> Result<(), DownReason> {
        let theirs = self.channels.iter().filter_map(|channel| {
            channel.with_link(|link| {
                let spec = link.spec.as_ref();
                let is_theirs = spec.is_some_and(|spec| spec.group == lane.group);
                link.export
                    .filter(|_| is_theirs && link.state == ChannelState::Up)
            })
        });
        if is_new && is_another(export, theirs) {
            return Err(DownReason::OtherExport);
        }
        self.admit_export(lane, export)
    }

    fn came_up(&self, lane: Lane, ended: &dyn Fn() -> bool, probe: Probe<'_>) -> Arrival {
        Arrivals::came_up(self, lane, ended, probe)
    }

    fn give_up_group(&self, group: GroupId) -> bool {
        Losses::give_up_group(self, group)
    }

    fn tell(&self, lane: Lane, event: Event<Buffer<Driver>>) {
        self.hear(lane, event);
    }

    fn changed(&self) {
        World::changed(self);
    }

    fn sleep(&self, ms: u32, enough: &mut dyn FnMut() -> bool) -> bool {
        World::wait(self, ms, enough)
    }
}

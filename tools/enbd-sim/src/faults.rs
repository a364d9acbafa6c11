// SPDX-License-Identifier: GPL-2.0

//! What goes wrong, and what of it must be survived.
//!
//! | fault | what enbd has to keep |
//! |---|---|
//! | a connection is reset, closed, or talks nonsense | everything |
//! | a server is stopped, cut off, or killed and started again | everything |
//! | a server refuses a write | everything, or that one write fails |
//! | a server refuses a flush, and never makes durable what it was to cover | everything, or that flush fails |
//! | the administrator sets a group faulty and adds it again | everything |
//! | all servers are cut off, about as long as enbd takes a silent server for fenced | everything |
//! | a server's host crashes while another one has everything | everything |
//! | a server's host crashes and no other one has everything | what was flushed |
//! | the same, where the other one is taken out of service before the crash is seen | what was flushed |

use crate::channel::TIMEOUT_MS;
use crate::keeper::Control;
use crate::logic::mirror::World as _;
use crate::quiet::{self, Looked};
use crate::server::Power;
use crate::world::World;
use shuttle::rand::{thread_rng, Rng};
use std::sync::Arc;

/// Something that goes wrong with one server or its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    Reset,
    Close,
    Lie,
    Refuse,
    RefuseFlush,
    Stop,
    Cut,
    CutAll,
    Kill,
    Crash,
    SetFaulty,
    HotAdd,
    HotAddFull,
}

/// All of them.
pub const FAULTS: [Fault; 13] = [
    Fault::Reset,
    Fault::Close,
    Fault::Lie,
    Fault::Refuse,
    Fault::RefuseFlush,
    Fault::Stop,
    Fault::Cut,
    Fault::CutAll,
    Fault::Kill,
    Fault::Crash,
    Fault::SetFaulty,
    Fault::HotAdd,
    Fault::HotAddFull,
];

/// After one of so many faults the law is looked up.
const LOOKS: u32 = 2;

/// Who makes things go wrong.
pub struct Mischief {
    pub world: Arc<World>,
    pub control: Arc<Control>,
}

impl Mischief {
    /// Makes so many things go wrong, each for some time, up to two at once; in between looks
    /// whether the law holds.
    pub fn run(&self, times: usize) -> ([u64; FAULTS.len()], Looked) {
        let mut counts = [0; FAULTS.len()];
        let mut looked = Looked::default();
        for _ in 0..times {
            self.pause(1500);
            let which = thread_rng().gen_range(0..FAULTS.len());
            let group = thread_rng().gen_range(0..self.world.scale.groups);
            crate::trace!(self.world, "{:?} of group {group}", FAULTS[which]);
            counts[which] += 1;
            self.inject(FAULTS[which], group);
            if thread_rng().gen() {
                self.pause(4000);
            }
            if thread_rng().gen_ratio(3, 4) {
                self.heal(group);
            }
            if thread_rng().gen_ratio(1, LOOKS) {
                quiet::look(&self.world, &mut looked);
            }
        }
        for group in 0..self.world.scale.groups {
            self.heal(group);
        }
        (counts, looked)
    }

    fn pause(&self, most_ms: u64) {
        let ms = thread_rng().gen_range(0..most_ms);
        self.world.clock.wait(ms, || false);
    }

    fn inject(&self, fault: Fault, group: usize) {
        let server = &self.world.servers[group];
        match fault {
            Fault::Reset => server.reset_one(),
            Fault::Close => server.close_one(),
            Fault::Lie => server.lie_once(),
            Fault::Refuse => server.refuse_one(),
            Fault::RefuseFlush => server.refuse_flush(),
            Fault::Stop if server.power() == Power::On => server.set_power(Power::Stopped),
            Fault::Stop => {}
            Fault::Cut => server.set_cut(true),
            Fault::CutAll => self.cut_all(),
            Fault::Kill => server.kill(),
            Fault::Crash => self.crash(group),
            Fault::SetFaulty => self.control.set_faulty(group),
            Fault::HotAdd => self.control.hot_add(group, false),
            Fault::HotAddFull => self.control.hot_add(group, true),
        }
    }

    fn cut_all(&self) {
        let servers = &self.world.servers;
        servers.iter().for_each(|server| server.set_cut(true));
        self.pause(6 * TIMEOUT_MS);
        servers.iter().for_each(|server| server.set_cut(false));
    }

    fn crash(&self, group: usize) {
        let view = self.world.core().view();
        if self.world.servers[group].crash() {
            self.world.loses(group, view);
        }
    }

    fn heal(&self, group: usize) {
        let server = &self.world.servers[group];
        server.set_cut(false);
        server.set_power(Power::On);
        server.behave();
    }
}

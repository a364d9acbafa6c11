// SPDX-License-Identifier: GPL-2.0

//! The block driver: requests on their way into the mirror, and out of it.
//!
//! Context: process context. A request is counted by its [`Shared`] handles: one here while it is
//! sent out, one in each transfer.

use super::{attributes::ATTRIBUTES, Mirror};
use crate::kapi::block::mq::{self, Attribute, Operations, Released, Shared};
use crate::logic::mirror::{Op, Pdu, Request, Route};
use kernel::{prelude::*, sync::ArcBorrow};

/// The block driver.
pub(crate) struct Driver;

impl Operations for Driver {
    type Data = Mirror;
    type Pdu = Pdu;
    type Owner = crate::LocalModule;
    const ATTRIBUTES_DIR: &'static CStr = c"enbd";
    const ATTRIBUTES: &'static [Attribute<Mirror>] = ATTRIBUTES;

    fn queue_rq(mirror: ArcBorrow<'_, Mirror>, rq: Shared<Self>, last: bool) {
        rq.pdu().reset();
        mirror.load.enter();
        let used = mirror.route(rq);
        if last {
            mirror.kick_all(used.union(mirror.take_unkicked()));
        } else {
            mirror.add_unkicked(used);
        }
    }

    fn commit_rqs(mirror: ArcBorrow<'_, Mirror>) {
        mirror.kick_all(mirror.take_unkicked());
    }

    fn released(mirror: ArcBorrow<'_, Mirror>, mut rq: Released<'_, Self>) -> Result {
        let result = mirror.result(rq.pdu(), rq.tag());
        if let Some(bounce) = rq.take_bounce() {
            mirror.bounces.give_back(bounce);
        }
        if mirror.take_postponed() {
            // Not sent here: whoever drops the last handle may have locks.
            rq.kick_requeued();
        }
        mirror.load.leave();
        result.map_err(|errno| Error::from_errno(errno.saturating_neg()))
    }

    fn open(mirror: ArcBorrow<'_, Mirror>) -> Result {
        if mirror.is_sealed() {
            return Err(ENXIO);
        }
        Ok(())
    }
}

impl Request for Shared<Driver> {
    fn op(&self) -> Op {
        match Shared::op(self) {
            mq::Op::Read => Op::Read,
            mq::Op::Write => Op::Write,
            mq::Op::Flush => Op::Flush,
            mq::Op::Discard => Op::Discard,
            mq::Op::WriteZeroes => Op::WriteZeroes,
            mq::Op::Other => Op::Other,
        }
    }

    fn sector(&self) -> u64 {
        Shared::sector(self)
    }

    fn bytes(&self) -> u32 {
        Shared::bytes(self)
    }

    fn tag(&self) -> u32 {
        Shared::tag(self)
    }

    fn fua(&self) -> bool {
        Shared::fua(self)
    }

    fn no_unmap(&self) -> bool {
        Shared::no_unmap(self)
    }

    fn pdu(&self) -> &Pdu {
        Shared::pdu(self)
    }

    fn withdraw_zeroes(&self) {
        Shared::withdraw_zeroes(self);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Where a channel leads to.

use crate::kapi::net::{Endpoint, Net};
use crate::logic::command::{Address, Name, Zone};
use crate::logic::ids::GroupId;
use crate::logic::session::DownReason;
use crate::logic::target::Target;
use kernel::prelude::*;

/// Where a channel connects to, and for which group.
pub(crate) struct Spec {
    /// The group it belongs to.
    pub(crate) group: GroupId,
    /// The server's address as it is shown.
    addr: KVec<u8>,
    place: Place,
    /// The name of the export.
    pub(crate) export: KVec<u8>,
    /// The same as it is shown.
    export_text: KVec<u8>,
    pub(super) net: Net,
}

enum Place {
    Tcp4(core::net::Ipv4Addr, u16),
    Tcp6(core::net::Ipv6Addr, Option<Zone>, u16),
    Unix(KVec<u8>),
}

impl Spec {
    /// What a command asks for, in the network namespace of its writer, who calls this.
    pub(crate) fn here(group: GroupId, addr: Address<'_>, export: Name<'_>) -> Result<Self> {
        let mut text = KVec::new();
        let place = match addr {
            Address::Tcp4 { addr, port } => Place::Tcp4(addr, port),
            Address::Tcp6 { addr, zone, port } => Place::Tcp6(addr, zone, port),
            Address::Unix { path } => Place::Unix(collect(path.bytes())?),
        };
        text.extend_from_slice(addr.text().as_str().as_bytes(), GFP_KERNEL)?;
        Ok(Self {
            group,
            addr: text,
            place,
            export: collect(export.bytes())?,
            export_text: collect(export.spelled())?,
            net: Net::current().ok_or(ESRCH)?,
        })
    }

    /// Where to connect to now: an interface that comes back may have another number.
    pub(super) fn endpoint(&self) -> Result<Endpoint<'_>, DownReason> {
        Ok(match &self.place {
            Place::Tcp4(ip, port) => Endpoint::Tcp4(*ip, *port),
            Place::Tcp6(ip, None, port) => Endpoint::Tcp6(*ip, *port, 0),
            Place::Tcp6(ip, Some(zone), port) => {
                let scope = self.net.interface(zone.as_str().as_bytes());
                Endpoint::Tcp6(*ip, *port, scope.ok_or(DownReason::NoInterface)?)
            }
            Place::Unix(path) => Endpoint::Unix(path),
        })
    }

    /// `tcp` or `unix`.
    pub(crate) fn transport(&self) -> &'static str {
        self.address().transport()
    }

    /// The address as it is shown.
    pub(crate) fn addr_str(&self) -> &str {
        core::str::from_utf8(&self.addr).unwrap_or("?")
    }

    /// The export's name as it is shown.
    pub(crate) fn export_str(&self) -> &str {
        core::str::from_utf8(&self.export_text).unwrap_or("?")
    }

    /// Whether it leads to `addr`.
    pub(crate) fn leads_to(&self, addr: &Address<'_>) -> bool {
        self.address() == *addr
    }

    fn address(&self) -> Address<'_> {
        match self.place {
            Place::Tcp4(addr, port) => Address::Tcp4 { addr, port },
            Place::Tcp6(addr, zone, port) => Address::Tcp6 { addr, zone, port },
            Place::Unix(ref path) => Address::Unix {
                path: Name::plain(path),
            },
        }
    }

    /// What it leads to.
    pub(crate) fn target(&self) -> Target<'_, &Net> {
        Target {
            group: self.group,
            addr: self.address(),
            export: Name::plain(&self.export),
            net: &self.net,
        }
    }
}

fn collect(bytes: impl Iterator<Item = u8>) -> Result<KVec<u8>> {
    let mut all = KVec::new();
    for byte in bytes {
        all.push(byte, GFP_KERNEL)?;
    }
    Ok(all)
}

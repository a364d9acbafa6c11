// SPDX-License-Identifier: GPL-2.0

//! What a mirror keeps of itself at the end of each export: which mirror it is, which groups are its
//! members, and which of them hold all that was acknowledged. Documentation/metadata.rst has the
//! format, and the rules R1 to R9 by which it is decided who is current.
//!
//! | file | what |
//! |---|---|
//! | [`assemble`] | what was found on the groups, to who is current, or why nobody can know |
//! | [`beat`] | the block that shows that somebody has the mirror |
//! | [`bytes`] | numbers in a block of 4 KiB |
//! | [`intent`] | the page that says where writes may be on their way |
//! | [`ids`] | identities and generations |
//! | [`layout`] | where everything is, and how large |
//! | [`marks`] | where writes may be on their way, as the members know it |
//! | [`record`] | what all members are told, and how one record follows another |
//! | [`superblock`] | the block that holds a record on one member |

pub mod assemble;
pub mod beat;
pub mod bytes;
pub mod ids;
pub mod intent;
pub mod layout;
pub mod marks;
pub mod record;
pub mod superblock;

pub use assemble::{assemble, Ask, Found, Plan, Refusal};
pub use beat::Beat;
pub use ids::{Generation, Name, Uuid};
pub use intent::IntentPage;
pub use layout::{Layout, BLOCK};
pub use marks::Marks;
pub use record::{Cause, Change, Member, MemberState, Owner, Record};
pub use superblock::{encode, newest, Bad, Scan, Superblock};

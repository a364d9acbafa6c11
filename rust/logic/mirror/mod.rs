// SPDX-License-Identifier: GPL-2.0

//! The decisions of a mirror: where requests go, what their answers mean, and what a group misses.
//!
//! | file | what |
//! |---|---|
//! | [`world`] | what the decisions need around them: channels, tables, maps, a clock |
//! | [`words`] | the words that hold the state of a mirror and of its groups |
//! | [`pdu`] | the words that hold the state of a request |
//! | [`balance`] | which channel, and which group |
//! | [`route`] | a request's way to the groups |
//! | [`rescue`] | reads that no group in sync can serve |
//! | [`outcome`] | what the end of a transfer means |
//! | [`hear`] | what connections tell |
//! | [`step`] | what comes next for a transfer that did not go the ordinary way |
//! | [`arrive`] | a connection that was made, and is about to carry requests |
//! | [`greet`] | what a new connection asks the older ones |
//! | [`proof`] | whether a connection leads to the data of its group |
//! | [`loss`] | servers that are lost, and what they may have lost with them |
//! | [`member`] | the metadata of one group: reading and writing it |
//! | [`memory`] | what is known of the metadata |
//! | [`intent`] | where writes may be on their way, as the members know it |
//! | [`idle`] | marks that are taken back |
//! | [`record`] | what the members of the mirror are told, and when |
//! | [`decide`] | what the metadata says of a device that is to be enabled |
//! | [`settle`] | whether another client has the mirror, before a start |
//! | [`start`] | the start of a device with metadata, once it is recorded |
//! | [`adopt`] | a group that is brought back becomes a member again |
//! | [`owner`] | the beats of who has the mirror |
//! | [`health`] | what a group may have lost, and whether its server is the right one |
//! | [`state`] | changes of a group's state |
//! | [`copy`] | the transfers of a resync |
//! | [`twins`] | two groups that lead to one store |
//! | [`zeroes`] | servers that refuse to write zeroes |
//!
//! The states of all groups are one word, [`View`](super::group::View); a request takes one look at
//! it. How writes, state changes and resyncs keep out of each other's way is said in
//! [`super::barrier`].
//!
//! A transfer that finds no channel up waits in the table of its group, and goes on when a channel
//! comes up, or comes back when the group is faulted. So a request is held where it would be
//! served.
//!
//! All of it runs on many threads at once. It is written against [`World`], whose one
//! implementation is the driver and whose other one is `tools/enbd-sim`, which runs it under a
//! seeded schedule of threads, servers and faults.

pub mod adopt;
pub mod arrive;
pub mod balance;
pub mod copy;
pub mod decide;
pub mod greet;
pub mod health;
pub mod hear;
mod idle;
pub mod intent;
pub mod loss;
pub mod member;
pub mod memory;
pub mod outcome;
mod owner;
pub mod pdu;
pub mod proof;
pub mod record;
pub mod rescue;
pub mod route;
mod settle;
pub mod start;
pub mod state;
pub mod step;
pub mod twins;
pub mod words;
pub mod world;
pub mod zeroes;

pub use self::adopt::Adopts;
pub use self::arrive::{Arrival, Arrivals};
pub use self::balance::Balance;
pub use self::copy::{Copies, CopyOutcome, Copying};
pub use self::decide::{Decides, NotStarted, Starter};
pub use self::health::{Health, HealthEvent};
pub use self::hear::Hears;
pub use self::intent::Intents;
pub use self::loss::Losses;
pub use self::memory::Memory;
pub use self::outcome::Outcomes;
pub use self::pdu::Pdu;
pub use self::record::Memories;
pub use self::route::Route;
pub use self::start::{Start, Starts};
pub use self::state::{Asker, States};
pub use self::twins::{scout, Trial};
pub use self::words::{Core, GroupCore};
pub use self::world::{Carrier, News, Op, Place, Probe, Request, World};
pub use super::ids::{COPIES, COPIES_EACH, TAGS};
pub use super::session::{Fence, Outcome, Transfer};

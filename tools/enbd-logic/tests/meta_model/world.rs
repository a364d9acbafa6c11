// SPDX-License-Identifier: GPL-2.0

//! The steps of a mirror. What the run-time does is told here as it is to be built; which record
//! follows which, and who is of which line, is the real code.

use crate::{
    oracle::Oracle,
    search::{Next, World},
    start,
    state::{has, members, Client, Part, Recording, Set, State, Step, Store, HALF},
    told::{Told, BLANK},
    Rule,
};
use enbd_logic::logic::{
    group::GroupSet,
    ids::GroupId,
    meta::{Cause, Change, Generation, Layout, Name, Owner, Record, Uuid},
};

/// The group of a member.
pub fn group(member: usize) -> GroupId {
    GroupId::new(member).expect("a group")
}

/// Who has the device. It never matters who.
pub fn owner() -> Owner {
    Owner {
        nonce: [1, 1],
        name: Name::NONE,
        since: 0,
    }
}

fn uuid(member: usize, life: u64) -> Uuid {
    Uuid::new([member as u64, life])
}

/// A mirror that was made with all members in sync, and is started.
pub fn first(world: &mut World) -> State {
    let all = (1 << world.bounds.members) - 1;
    let ids = (uuid(9, 9), Generation::new(1));
    let members = std::array::from_fn(|member| has(all, member).then(|| uuid(member, 1)));
    let layout = Layout::of_device(62 << 20);
    let made = Record::create(ids, &members, GroupSet::from_bits(all), layout, 4096);
    let started = made.after(&Change {
        in_sync: made.all(),
        drawn: None,
        owner: Some(owner()),
    });
    let told = world.records.number(&started);
    let part = |member| match has(all, member) {
        true => Part::InSync,
        false => Part::Out,
    };
    State {
        stores: std::array::from_fn(|member| Store {
            data: 0,
            told: if has(all, member) { told } else { BLANK },
            seq: 0,
            is_kin: true,
        }),
        client: Some(Client {
            view: std::array::from_fn(part),
            unrecorded: 0,
            is_starting: false,
            is_ending: false,
            write: None,
            recording: None,
            base: told,
        }),
        oracle: Oracle::new(),
        writes: 0,
        generation: 1,
        lives: 0,
        kept: None,
        sure: 0,
    }
}

/// All that can happen next.
pub fn steps(world: &mut World, state: &State, nexts: &mut Vec<Next>) {
    exports(world, state, nexts);
    match &state.client {
        None => start::steps(world, state, nexts),
        Some(client) => {
            if let Some(law) = read_wrong(world, state, client) {
                nexts.push((step("read", 0), Err(law)));
                return;
            }
            let mut run = Run {
                world,
                state,
                client,
                nexts,
            };
            run.write();
            run.bring_back();
            run.fail();
            run.begin_record();
            run.record();
            run.end();
        }
    }
}

fn step(what: &'static str, who: Set) -> Step {
    Step { what, who, of: 0 }
}

fn one(member: usize) -> Set {
    1 << member
}

/// A member in sync, which may be read, has something that no read may return.
fn read_wrong(world: &World, state: &State, client: &Client) -> Option<String> {
    if client.is_starting {
        return None;
    }
    let line = Oracle::line(world.records.of(client.base));
    let wrong = members(client.all(&[Part::InSync]))
        .find(|&member| !state.oracle.allows(line, state.stores[member].data))?;
    let data = state.stores[wrong].data;
    let allowed = state.oracle.allowed(line);
    Some(format!("{wrong} is read and has {data}, not {allowed:?}"))
}

/// What happens to exports behind the client's back.
fn exports(world: &World, state: &State, nexts: &mut Vec<Next>) {
    let all = (0..world.bounds.members).filter(|&member| state.stores[member].told != BLANK);
    if world.bounds.set_back && state.kept.is_none() && state.sure == 0 {
        for member in all.clone() {
            let kept = Some((member as u8, state.stores[member]));
            nexts.push((
                step("keep a copy of", one(member)),
                Ok(State { kept, ..*state }),
            ));
        }
    }
    if state.client.is_some() || state.sure != 0 {
        return;
    }
    if let Some((member, store)) = state.kept {
        let member = usize::from(member);
        let sure = complete(world, state) & !one(member);
        if sure != 0 && store.seq < state.stores[member].seq {
            let mut next = State {
                kept: None,
                sure,
                ..*state
            };
            next.stores[member] = Store {
                is_kin: false,
                ..store
            };
            nexts.push((step("set back", one(member)), Ok(next)));
        }
    }
    for member in all.filter(|_| world.bounds.blank) {
        let sure = complete(world, state) & !one(member);
        if sure != 0 {
            let mut next = State { sure, ..*state };
            next.stores[member] = Store {
                data: HALF,
                told: BLANK,
                seq: 0,
                is_kin: false,
            };
            nexts.push((step("blank", one(member)), Ok(next)));
        }
    }
}

/// The members that have all, and whose superblocks know of all.
fn complete(world: &World, state: &State) -> Set {
    let record = |member: usize| world.records.get(state.stores[member].told);
    let is_complete = |&member: &usize| {
        let Some(ours) = record(member) else {
            return false;
        };
        let knows = |other: usize| {
            record(other).is_none_or(|theirs| {
                ours.has_line_of(group(other), theirs)
                    && (theirs.generation != ours.generation || theirs.event <= ours.event)
            })
        };
        let line = Oracle::line(ours);
        ours.in_sync().has(group(member))
            && state.oracle.allows(line, state.stores[member].data)
            && (0..world.bounds.members).all(knows)
    };
    let members = (0..world.bounds.members).filter(is_complete);
    members.fold(0, |set, member| set | one(member))
}

/// A device that is up.
struct Run<'a> {
    world: &'a mut World,
    state: &'a State,
    client: &'a Client,
    nexts: &'a mut Vec<Next>,
}

impl Run<'_> {
    fn push(&mut self, what: &'static str, who: Set, next: State) {
        self.nexts.push((step(what, who), Ok(next)));
    }

    fn base(&self) -> &Record {
        self.world.records.of(self.client.base)
    }

    fn sources(&self) -> Set {
        self.client.all(&[Part::InSync])
    }

    fn is_held(&self) -> bool {
        let is_unrecorded = self.client.unrecorded != 0;
        self.client.is_starting || is_unrecorded && !self.world.is_off(Rule::FaultRecorded)
    }

    /// The same, with another client.
    fn with(&self, client: Client) -> State {
        let client = Some(client);
        State {
            client,
            ..*self.state
        }
    }

    /// A write: to all in sync and joining, in any order, acknowledged when all have it.
    fn write(&mut self) {
        let (state, client) = (self.state, self.client);
        let line = Oracle::line(self.base());
        let to = client.all(&[Part::InSync, Part::Joining]);
        let Some((datum, done)) = client.write else {
            if state.writes < self.world.bounds.writes && !self.is_held() && !client.is_ending {
                let write = Some((state.writes + 1, 0));
                let mut next = self.with(Client { write, ..*client });
                next.writes += 1;
                next.oracle.write(line, next.writes);
                self.push("write", 0, next);
            }
            return;
        };
        for member in members(to & !done) {
            let write = Some((datum, done | one(member)));
            let mut next = self.with(Client { write, ..*client });
            if next.stores[member].data != HALF {
                next.stores[member].data = datum;
            }
            self.push("apply", one(member), next);
        }
        if to & !done == 0 && !self.is_held() {
            let mut next = self.with(Client {
                write: None,
                ..*client
            });
            next.oracle.settle(line, datum);
            self.push("acknowledge", 0, next);
        }
    }

    /// Brings a member back: FULL if need be, its own superblock, the copy.
    fn bring_back(&mut self) {
        let client = self.client;
        if client.write.is_some() || client.is_starting || client.is_ending {
            return;
        }
        if client.unrecorded == 0 && client.recording.is_none() {
            for member in (0..self.world.bounds.members).filter(|&m| client.view[m] == Part::Out) {
                self.adopt(member);
            }
        }
        let source = members(self.sources()).next().expect("a source");
        for member in members(client.all(&[Part::Copying])) {
            let mut next = self.with(*client);
            next.stores[member].data = self.state.stores[source].data;
            next.stores[member].is_kin = true;
            if next.sure != 0 {
                // From now on each one that counts has been seen.
                next.sure = Set::MAX;
            }
            let part = match self.world.is_off(Rule::Named) {
                true => Part::InSync,
                false => Part::Joining,
            };
            if let Some(client) = &mut next.client {
                client.view[member] = part;
            }
            self.push("copied", one(member), next);
        }
    }

    fn adopt(&mut self, member: usize) {
        let client = self.client;
        let store = self.state.stores[member];
        if let Some((record, is_word)) = self.full(member) {
            let told = self.world.records.number(&record);
            let mut next = self.record_of(told, self.sources(), 0, 0);
            let theirs = self.world.records.get(store.told).map(Oracle::line);
            if let Some(Client {
                recording: Some(recording),
                ..
            }) = &mut next.client
            {
                recording.overrides = theirs.filter(|_| is_word);
            }
            self.push("record as FULL", one(member), next);
        } else if store.told != client.base && !self.world.is_off(Rule::Adopted) {
            let theirs = self.world.records.get(store.told);
            let is_of_line =
                theirs.is_some_and(|theirs| self.base().has_line_of(group(member), theirs));
            let is_full = self.base().full().has(group(member));
            let mut next = self.with(*client);
            next.stores[member] = self.overwritten(member, client.base);
            next.stores[member].is_kin &= is_of_line && !is_full;
            self.push("tell", one(member), next);
        } else {
            let mut next = self.with(*client);
            next.stores[member].data = HALF;
            if let Some(client) = &mut next.client {
                client.view[member] = Part::Copying;
            }
            self.push("copy to", one(member), next);
        }
    }

    /// The record that has to be before a member's superblock is overwritten, if one has, and
    /// whether it takes the administrator's word.
    fn full(&self, member: usize) -> Option<(Record, bool)> {
        let (base, id) = (self.base(), group(member));
        let ours = base.member(id)?;
        let change = Change {
            in_sync: base.in_sync(),
            drawn: None,
            owner: base.owner,
        };
        let Some(theirs) = self.world.records.get(self.state.stores[member].told) else {
            let new = uuid(member, 2);
            let mut record = base.after(&change);
            record.drop_member(id);
            record.adopt(id, new, None);
            return (ours.uuid != new).then_some((record, false));
        };
        let is_set_back = u64::from(self.state.stores[member].seq) < ours.seen;
        let is_of_line = base.has_line_of(id, theirs);
        let is_done = ours.is_full() && is_of_line;
        if is_done || is_of_line && !is_set_back || self.world.is_off(Rule::Full) {
            return None;
        }
        let mut record = base.after(&change);
        record.adopt(id, ours.uuid, Some(theirs.generation));
        Some((record, !is_of_line))
    }

    /// A member's store with a superblock more.
    fn overwritten(&self, member: usize, told: Told) -> Store {
        let mut store = self.state.stores[member];
        store.told = told;
        if self.world.bounds.set_back {
            let record = self.world.records.of(told);
            let seen = record.members[member].map_or(0, |member| member.seen);
            store.seq = store.seq.max(seen as u8) + 1;
        }
        store
    }

    /// A member does not answer any more. The last one in sync is waited for.
    fn fail(&mut self) {
        let client = self.client;
        let is_last = self.sources().count_ones() == 1;
        for member in 0..self.world.bounds.members {
            let is_named = match client.view[member] {
                Part::InSync if !is_last => true,
                Part::Joining => !self.world.is_off(Rule::JoiningCounts),
                Part::Copying => false,
                _ => continue,
            };
            let mut after = *client;
            after.view[member] = Part::Out;
            if is_named {
                after.unrecorded |= one(member);
            }
            if let Some(recording) = &mut after.recording {
                recording.first &= !one(member);
                recording.then &= !one(member);
            }
            let next = self.with(after);
            self.push("fail", one(member), next);
        }
    }

    /// What has to be recorded next.
    fn begin_record(&mut self) {
        let client = self.client;
        if client.recording.is_some() {
            return;
        }
        let (sources, joining) = (self.sources(), client.all(&[Part::Joining]));
        let owner = if client.is_ending {
            None
        } else {
            self.base().owner
        };
        if client.unrecorded != 0 {
            let draws = !self.world.is_off(Rule::DrawnByFault);
            let generation = self.state.generation + u8::from(draws);
            if generation <= self.world.bounds.generations {
                let drawn = Generation::new(generation.into());
                let mut next = self.follow(
                    Change {
                        in_sync: GroupSet::from_bits(sources),
                        drawn: draws.then_some((drawn, Cause::Faulted)),
                        owner,
                    },
                    (sources, 0, client.unrecorded),
                );
                next.generation = generation;
                if let (true, Some(recording)) = (draws, next.client.and_then(|c| c.recording)) {
                    let record = self.world.records.of(recording.told);
                    next.oracle.drawn(record, self.base());
                }
                self.push("record the loss of", client.unrecorded, next);
            }
        } else if joining != 0 && !client.is_ending {
            let next = self.follow(
                Change {
                    in_sync: GroupSet::from_bits(sources | joining),
                    drawn: None,
                    owner,
                },
                (sources, joining, 0),
            );
            self.push("record in sync", joining, next);
        }
    }

    /// The record after the last one begins its way.
    fn follow(&mut self, change: Change, to: (Set, Set, Set)) -> State {
        let mut record = self.base().after(&change);
        if self.world.bounds.set_back {
            for member in members(self.client.all(&[Part::InSync, Part::Joining])) {
                if let Some(one) = &mut record.members[member] {
                    one.seen = self.state.stores[member].seq.into();
                }
            }
        }
        let told = self.world.records.number(&record);
        self.record_of(told, to.0, to.1, to.2)
    }

    fn record_of(&self, told: Told, first: Set, then: Set, faults: Set) -> State {
        let overrides = self
            .client
            .recording
            .and_then(|recording| recording.overrides);
        let recording = Some(Recording {
            told,
            first,
            then,
            faults,
            overrides,
        });
        self.with(Client {
            recording,
            ..*self.client
        })
    }

    /// A record reaches one member, or its end.
    fn record(&mut self) {
        let client = self.client;
        let Some(recording) = client.recording else {
            return;
        };
        let now = match recording.first {
            0 => recording.then,
            first if self.world.is_off(Rule::LastItself) => first | recording.then,
            first => first,
        };
        for member in members(now) {
            let mut next = self.record_of(
                recording.told,
                recording.first & !one(member),
                recording.then & !one(member),
                recording.faults,
            );
            next.stores[member] = self.overwritten(member, recording.told);
            if let Some(theirs) = recording.overrides {
                let line = Oracle::line(self.world.records.of(recording.told));
                next.oracle.override_line(line, theirs);
            }
            self.push("it reaches", one(member), next);
        }
        if now == 0 {
            let next = self.recorded(recording);
            self.push("recorded", 0, next);
        }
    }

    fn recorded(&self, recording: Recording) -> State {
        let record = self.world.records.of(recording.told);
        let in_sync = record.in_sync();
        let mut client = Client {
            recording: None,
            is_starting: false,
            base: recording.told,
            unrecorded: self.client.unrecorded & !recording.faults,
            ..*self.client
        };
        for (member, part) in client.view.iter_mut().enumerate() {
            if *part == Part::Joining && in_sync.has(group(member)) {
                *part = Part::InSync;
            }
        }
        let mut next = self.with(client);
        if self.client.is_starting {
            // From now on it is read.
            let source = members(self.sources()).next().expect("a source");
            let line = Oracle::line(record);
            next.oracle.settle(line, self.state.stores[source].data);
        }
        next
    }

    /// A crash, or an orderly end.
    fn end(&mut self) {
        if self.state.lives == self.world.bounds.lives {
            return;
        }
        let client = self.client;
        let next = self.ended();
        self.push("crash", 0, next);
        let is_idle = client.recording.is_none() && client.unrecorded == 0 && !client.is_starting;
        if !is_idle || client.all(&[Part::Joining]) != 0 {
            return;
        }
        if client.is_ending {
            let next = self.ended();
            self.push("ended", 0, next);
        } else if client.write.is_none() || self.world.is_off(Rule::Orderly) {
            let mut after = *client;
            for part in &mut after.view {
                if *part == Part::Copying {
                    *part = Part::Out;
                }
            }
            let sources = self.sources();
            let change = Change {
                in_sync: GroupSet::from_bits(sources),
                drawn: None,
                owner: None,
            };
            let recording = self
                .follow(change, (sources, 0, 0))
                .client
                .and_then(|c| c.recording);
            let is_ending = true;
            let next = self.with(Client {
                recording,
                is_ending,
                ..after
            });
            self.push("end", 0, next);
        }
    }

    fn ended(&self) -> State {
        let mut next = State {
            client: None,
            lives: self.state.lives + 1,
            ..*self.state
        };
        let records = &self.world.records;
        let stores = self.state.stores;
        let kept = self.state.kept.map(|(_, store)| store);
        next.oracle.forget_unused(|line| {
            let mut all = stores.iter().chain(&kept);
            all.any(|store| {
                let record = records.get(store.told);
                record.is_some_and(|record| Oracle::line(record) == line)
            })
        });
        next
    }
}

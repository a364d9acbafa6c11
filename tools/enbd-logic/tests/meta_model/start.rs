// SPDX-License-Identifier: GPL-2.0

//! Starts of the device: what the real `assemble` says of the superblocks that are there, and whether
//! it may.

use crate::{
    oracle::Oracle,
    search::{Next, World},
    state::{has, members, Client, Part, Recording, Set, State, Step, HALF, MOST},
    told::Told,
    world::{group, owner},
    Rule,
};
use enbd_logic::logic::{
    group::GroupSet,
    meta::{assemble, Ask, Cause, Found, Generation, Plan, Record, Refusal, Superblock},
};
use std::collections::HashMap;

/// What `assemble` said, with the record by number.
#[derive(Clone, Copy, Debug)]
struct Planned {
    told: Told,
    sources: Set,
    others: Set,
    set_back: Set,
    drawn: Option<Cause>,
}

/// What it depends on: superblocks and their numbers, who is there, what is asked, the generation,
/// who can make durable what it has.
type Asked = ([(Told, u8); MOST], Set, Word, u8, u8);

/// What `assemble` said before.
#[derive(Default)]
pub struct Starts {
    said: HashMap<Asked, Result<Planned, Refusal>>,
}

/// What the administrator asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Word {
    Certain,
    Degraded,
    Source(u8),
}

/// All starts that are possible now.
pub fn steps(world: &mut World, state: &State, nexts: &mut Vec<Next>) {
    for there in 1..1 << world.bounds.members {
        if members(there).any(|member| world.records.get(state.stores[member].told).is_none()) {
            // A blank is as good as nothing there.
            continue;
        }
        if let Err(refusal) = said(world, state, there, Word::Certain, 0) {
            if let Some(law) = refused_in_vain(world, state, there, refusal) {
                nexts.push((step("start", 0, there), Err(law)));
            }
            if world.is_off(Rule::Certain) && matches!(refusal, Refusal::Missing(_)) {
                start(world, state, there, (Word::Degraded, Word::Certain), nexts);
            } else {
                start(world, state, there, (Word::Degraded, Word::Degraded), nexts);
            }
        } else {
            start(world, state, there, (Word::Certain, Word::Certain), nexts);
        }
        for member in members(there).filter(|&member| state.stores[member].data != HALF) {
            let word = Word::Source(member as u8);
            start(world, state, there, (word, word), nexts);
        }
    }
}

/// A refusal with all members there, none of which has parted from another one or was set back.
fn refused_in_vain(world: &World, state: &State, there: Set, refusal: Refusal) -> Option<String> {
    if there.count_ones() as usize != world.bounds.members || state.sure != 0 {
        return None;
    }
    let record = |member: usize| world.records.of(state.stores[member].told);
    let knows_all =
        |one: usize| members(there).all(|other| state.oracle.follows(record(one), record(other)));
    members(there)
        .any(knows_all)
        .then(|| format!("all are there, none has parted, and it is refused: {refusal:?}"))
}

/// The starts of `there` with the words (asked, told to the oracle), by any source.
fn start(world: &mut World, state: &State, there: Set, words: (Word, Word), nexts: &mut Vec<Next>) {
    let (asked, word) = words;
    let mut seen = 0u64;
    for best in members(there) {
        let Ok(planned) = said(world, state, there, asked, best as u8) else {
            return;
        };
        if seen & 1 << planned.sources != 0 {
            continue;
        }
        seen |= 1 << planned.sources;
        begin(world, state, there, word, planned, nexts);
    }
}

/// What `assemble` says if only `best` can make durable what it has.
fn said(
    world: &mut World,
    state: &State,
    there: Set,
    word: Word,
    best: u8,
) -> Result<Planned, Refusal> {
    let blocks = std::array::from_fn(|member| match has(there, member) {
        true => (state.stores[member].told, state.stores[member].seq),
        false => (0, 0),
    });
    let key = (blocks, there, word, state.generation, best);
    if let Some(&said) = world.starts.said.get(&key) {
        return said;
    }
    let found: Found = std::array::from_fn(|member| {
        let (told, seq) = *blocks.get(member)?;
        let mut record = *world.records.get(told)?;
        if world.is_off(Rule::OneSource) {
            record.owner = None;
        }
        Some(Superblock {
            member: group(member),
            seq: seq.into(),
            export_bytes: 64 << 20,
            record,
        })
    });
    let ask = match word {
        Word::Certain => Ask::Certain,
        Word::Degraded => Ask::Degraded,
        Word::Source(member) => Ask::Source(group(member.into())),
    };
    let said = assemble(&found, GroupSet::from_bits(1 << best), ask);
    let said = said.map(|plan| planned(world, state, &found, plan));
    world.starts.said.insert(key, said);
    said
}

fn planned(world: &mut World, state: &State, found: &Found, plan: Plan) -> Planned {
    let fresh = Generation::new(u64::from(state.generation) + 1);
    let base = plan.base.pick(found).as_ref().expect("a base");
    let mut record = base.record;
    let nobody = (&Default::default(), GroupSet::default());
    plan.advance(&mut record, found, nobody, fresh, owner());
    let mut drawn = plan.drawn;
    let is_by_rule = matches!(drawn, Some(Cause::Degraded | Cause::Crashed));
    if world.is_off(Rule::DrawnByStart) && is_by_rule {
        if let Some((before, born)) = record.history[0] {
            (record.generation, record.born) = (before, born);
            record.history.rotate_left(1);
            *record.history.last_mut().expect("a history") = None;
            drawn = None;
        }
    }
    Planned {
        told: world.records.number(&record),
        sources: plan.sources.bits(),
        others: plan.others.bits(),
        set_back: plan.set_back.bits(),
        drawn,
    }
}

/// Carries a plan out up to its record, unless a law is broken by it.
fn begin(
    world: &mut World,
    state: &State,
    there: Set,
    word: Word,
    planned: Planned,
    nexts: &mut Vec<Next>,
) {
    let draws = u8::from(planned.drawn.is_some());
    if state.generation + draws > world.bounds.generations {
        return;
    }
    let what = match word {
        Word::Certain => "start",
        Word::Degraded => "start degraded",
        Word::Source(_) => "start by force",
    };
    let step = step(what, planned.sources, there);
    // What nobody could know is no fault: those that knew better are not there.
    let is_unknown = state.sure != 0 && state.sure & there == 0;
    let broken = match word {
        Word::Source(_) => None,
        _ if is_unknown => None,
        Word::Degraded => parted_together(world, state, there, &planned),
        Word::Certain => parted_together(world, state, there, &planned)
            .or_else(|| wrong_source(world, state, &planned))
            .or_else(|| match world.bounds.has_maps {
                true => unmarked(world, state, &planned),
                false => None,
            }),
    };
    if let Some(law) = broken {
        nexts.push((step, Err(law)));
        return;
    }
    let mut next = *state;
    next.generation += draws;
    let mut record = *world.records.of(planned.told);
    let base = Oracle::line(&record);
    let source = members(planned.sources).next().expect("a source");
    let data = state.stores[source].data;
    let line = match word {
        Word::Certain if is_unknown && !next.oracle.allows(base, data) => {
            next.oracle.part_unknown(data)
        }
        Word::Certain => next.oracle.go_on(base),
        Word::Degraded if !is_unknown => next.oracle.part_degraded(base, data),
        _ => next.oracle.part(base, data),
    };
    if matches!(word, Word::Source(_)) {
        for member in members(planned.others) {
            let theirs = Oracle::line(world.records.of(state.stores[member].told));
            next.oracle.override_line(line, theirs);
        }
    }
    if !matches!(word, Word::Certain) {
        // What it has is what counts from now on.
        next.stores[source].is_kin = true;
    }
    record.compat = line.into();
    if let (Some(_), Some((generation, _))) = (planned.drawn, record.history[0]) {
        let (mut from, event) = (record, record.event - 1);
        (from.generation, from.event) = (generation, event);
        next.oracle.drawn(&record, &from);
    }
    if world.bounds.set_back {
        for member in members(planned.sources) {
            if let Some(one) = &mut record.members[member] {
                one.seen = state.stores[member].seq.into();
            }
        }
    }
    let told = world.records.number(&record);
    let is_read_at_once = world.is_off(Rule::StartRecorded);
    if is_read_at_once {
        next.oracle.settle(line, data);
    }
    next.client = Some(Client {
        view: std::array::from_fn(|member| match has(planned.sources, member) {
            true => Part::InSync,
            false => Part::Out,
        }),
        unrecorded: 0,
        is_starting: !is_read_at_once,
        is_ending: false,
        write: None,
        recording: Some(Recording {
            told,
            first: planned.sources,
            then: 0,
            faults: 0,
            overrides: None,
        }),
        base: told,
    });
    nexts.push((step, Ok(next)));
}

/// A member that has gone on alone is one of those that start, or is overridden by them.
fn parted_together(world: &World, state: &State, there: Set, planned: &Planned) -> Option<String> {
    let record = world.records.of(planned.told);
    let line = Oracle::line(record);
    let parted = members(there).find(|&member| {
        let theirs = world.records.of(state.stores[member].told);
        let uuid = |record: &Record| Some(record.members[member]?.uuid);
        let (data, other) = (state.stores[member].data, Oracle::line(theirs));
        let is_loss = state.oracle.lacks(line, other) && state.oracle.allows(other, data);
        uuid(record) == uuid(theirs) && (is_loss || !state.oracle.knows(line, other))
    })?;
    Some(format!("{parted} has gone on alone, and is overridden"))
}

/// A source lacks what was acknowledged or read, or differs from another one.
fn wrong_source(world: &World, state: &State, planned: &Planned) -> Option<String> {
    let line = Oracle::line(world.records.of(planned.told));
    let data = |member: usize| state.stores[member].data;
    for source in members(planned.sources) {
        if !state.oracle.allows(line, data(source)) {
            let allowed = state.oracle.allowed(line);
            return Some(format!(
                "source {source} has {}, not {allowed:?}",
                data(source)
            ));
        }
        if members(planned.sources).any(|other| data(other) != data(source)) {
            return Some(format!("sources {:#b} differ", planned.sources));
        }
    }
    None
}

/// A member that is not known to get all, though its map could not know what it lacks.
fn unmarked(world: &World, state: &State, planned: &Planned) -> Option<String> {
    let record = world.records.of(planned.told);
    let is_unmarked = |&member: &usize| {
        !state.stores[member].is_kin
            && !has(record.full().bits(), member)
            && !has(planned.set_back, member)
    };
    let member = members(planned.others).find(is_unmarked)?;
    Some(format!(
        "{member} would pass for one that may be resynced by its map"
    ))
}

fn step(what: &'static str, who: Set, of: Set) -> Step {
    Step { what, who, of }
}

// SPDX-License-Identifier: GPL-2.0

//! The search itself: all states that can be reached, nearest first.

use crate::{
    start::Starts,
    state::{State, Step},
    told::Records,
    world, Bounds, Rule,
};
use std::collections::{hash_map::Entry, HashMap, VecDeque};

/// What a search is of.
pub struct World {
    pub bounds: Bounds,
    pub records: Records,
    pub starts: Starts,
}

impl World {
    /// Whether a rule is left out.
    pub fn is_off(&self, rule: Rule) -> bool {
        self.bounds.off == Some(rule)
    }
}

/// What follows from a state by one step, or the law that is broken by it.
pub type Next = (Step, Result<State, String>);

/// What a search has found.
pub struct Outcome {
    /// States whose steps were looked at.
    pub states: usize,
    /// The broken law, and the shortest way to it.
    pub broken: Option<(String, String)>,
    /// All states were looked at.
    pub is_complete: bool,
}

/// Looks at the states within the bounds, nearest first, until a law is broken.
pub fn search(bounds: Bounds) -> Outcome {
    let mut world = World {
        bounds,
        records: Records::default(),
        starts: Starts::default(),
    };
    let first = world::first(&mut world);
    let mut known: HashMap<State, u32> = HashMap::from([(first, 0)]);
    let mut ways: Vec<(u32, Option<Step>)> = vec![(0, None)];
    let mut queue = VecDeque::from([(first, 0)]);
    let mut nexts = Vec::new();
    let mut states = 0;
    while let Some((state, at)) = queue.pop_front() {
        if states == bounds.limit {
            return Outcome {
                states,
                broken: None,
                is_complete: false,
            };
        }
        states += 1;
        world::steps(&mut world, &state, &mut nexts);
        for (step, next) in nexts.drain(..) {
            let number = u32::try_from(ways.len()).expect("fewer than 2^32 states");
            match next {
                Err(law) => {
                    let way = way_to(&ways, at, step);
                    return Outcome {
                        states,
                        broken: Some((law, way)),
                        is_complete: false,
                    };
                }
                Ok(next) => {
                    if let Entry::Vacant(place) = known.entry(next) {
                        place.insert(number);
                        ways.push((at, Some(step)));
                        queue.push_back((next, number));
                    }
                }
            }
        }
    }
    Outcome {
        states,
        broken: None,
        is_complete: true,
    }
}

fn way_to(ways: &[(u32, Option<Step>)], mut at: u32, last: Step) -> String {
    let mut steps = vec![last.to_string()];
    while let (before, Some(step)) = ways[at as usize] {
        steps.push(step.to_string());
        at = before;
    }
    steps.reverse();
    steps.join("; ")
}

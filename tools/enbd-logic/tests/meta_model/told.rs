// SPDX-License-Identifier: GPL-2.0

//! Records by number, so that a state is small: two that are equal have one number.

use enbd_logic::logic::meta::{Record, Uuid};
use std::collections::HashMap;

/// A record by number. Number 0 is none: a blank.
pub type Told = u32;

/// No superblock.
pub const BLANK: Told = 0;

/// All records that a search has seen.
#[derive(Default)]
pub struct Records {
    list: Vec<Record>,
    numbers: HashMap<Vec<u64>, Told>,
}

impl Records {
    /// The number of a record.
    pub fn number(&mut self, record: &Record) -> Told {
        let key = key_of(record);
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        self.list.push(*record);
        let number = Told::try_from(self.list.len()).expect("fewer than 2^32 records");
        self.numbers.insert(key, number);
        number
    }

    /// The record of a number; none for a blank.
    pub fn get(&self, told: Told) -> Option<&Record> {
        self.list.get((told as usize).checked_sub(1)?)
    }

    /// The record of a number that is not a blank's.
    pub fn of(&self, told: Told) -> &Record {
        self.get(told).expect("a record")
    }
}

/// All that differs between the records of one search.
fn key_of(record: &Record) -> Vec<u64> {
    use enbd_logic::logic::meta::MemberState::{InSync, Stale};
    let mut key = vec![
        record.event,
        record.generation.bits(),
        record.born,
        u64::from(record.cause.to_bits()),
        u64::from(record.compat),
        u64::from(record.owner.is_some()),
    ];
    for (generation, born) in record.history.iter().flatten() {
        key.extend([generation.bits(), *born]);
    }
    for member in &record.members {
        key.push(u64::MAX);
        let Some(member) = member else { continue };
        key.extend([low_of(member.uuid), member.seen]);
        match member.state {
            InSync => key.push(u64::MAX - 1),
            Stale { since, left, full } => {
                let left = left.map_or(0, |left| left.bits());
                key.extend([since, left, u64::from(full)]);
            }
        }
    }
    key
}

fn low_of(uuid: Uuid) -> u64 {
    let bytes = uuid.bytes();
    u64::from_be_bytes(bytes[8..].try_into().expect("eight bytes"))
        ^ u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"))
}

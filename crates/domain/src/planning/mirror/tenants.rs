//! Tenants by number. Each has one record: what is kept of it, and its id. Records stand one after the other in pieces of
//! equal size, and the number is the record's place, so that no list of places is needed and a look at a tenant is one
//! look at memory. Memory grows by a piece at a time and is never copied.
//!
//! An id is found by a hash table whose chains go through the records: four bytes in each record, and one head for
//! [`USUAL_CHAIN`] of them. It grows by one head at a time (linear hashing), so no change waits for a table to be copied.
//! While a job's tenants are first loaded, it grows by half at once, in one walk over the records: memory is then read in
//! order.

use std::{collections::BinaryHeap, hash::BuildHasher};

use hashbrown::DefaultHashBuilder;

use super::{
    groups::{Link, Links, NONE},
    since::Since,
};
use crate::ids::TenantId;

/// Bytes of a piece of records.
const PIECE_BYTES: usize = 1 << 21;
/// Heads of chains in a piece.
const PIECE_HEADS: usize = 1 << 16;
/// Records begin at even bytes, so that numbers reach 8 GiB: 190 million tenants with ids of 16 characters.
const UNIT: usize = 2;
/// Tenants per chain.
const USUAL_CHAIN: usize = 2;
/// Heads that a first load begins with.
const FIRST_HEADS: usize = 64;

/// Where the fields of a record are. The id follows its length.
const GROUP: usize = 0;
const BEFORE: usize = 4;
const AFTER: usize = 8;
const SINCE: usize = 12;
const PARAMETERS: usize = 16;
/// The next record of the chain, or of the free ones.
const NEXT: usize = 20;
/// The length of the id less one, and the mark.
const LENGTH: usize = 24;
const ID: usize = 25;

/// The bit of the length that marks a tenant.
const MARK: u8 = 0x80;
/// How many sizes records have.
const SIZES: usize = size(128) / UNIT + 1;

/// What is kept of a tenant. Four bytes more cost forty megabytes with ten million tenants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) link: Link,
    pub(super) since: Since,
    pub(super) parameters: u32,
}

/// The tenants. A number is given when an id is first seen, and to another once the id has left.
#[derive(Debug)]
pub(super) struct Tenants {
    /// The records, those that are free included. A free one is in no group.
    pieces: Vec<Vec<u8>>,
    heads: Heads,
    hasher: DefaultHashBuilder,
    len: usize,
    /// The first free record of each size.
    free: [u32; SIZES],
    /// Whether the tenants are being loaded for the first time, so that no change waits.
    pub(super) is_loading: bool,
}

impl Default for Tenants {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            heads: Heads::default(),
            hasher: DefaultHashBuilder::default(),
            len: 0,
            free: [NONE; SIZES],
            is_loading: false,
        }
    }
}

impl Tenants {
    /// How many tenants there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The numbers of all tenants who are in a group, in the order of memory.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        let pieces = self.pieces.iter().enumerate();
        let numbers = pieces.flat_map(|(piece, records)| {
            let mut at = 0;
            std::iter::from_fn(move || {
                let length = *records.get(at + LENGTH)?;
                let number = number_of(piece, at);
                at += size(length_in(length));
                Some(number)
            })
        });
        numbers.filter(|number| self.field(*number, GROUP) != NONE)
    }

    /// The numbers of the first tenants, by id, whose ids begin with a text.
    pub(super) fn first_beginning(&self, begin: &str, most: usize) -> Vec<u32> {
        let mut first: BinaryHeap<(&[u8], u32)> = BinaryHeap::with_capacity(most + 1);
        for number in self.all() {
            let id = self.bytes(number);
            if id.starts_with(begin.as_bytes()) {
                first.push((id, number));
                if first.len() > most {
                    first.pop();
                }
            }
        }
        let first = first.into_sorted_vec().into_iter();
        first.map(|(_, number)| number).collect()
    }

    pub(super) fn find(&self, id: &TenantId) -> Option<u32> {
        let id = id.as_str().as_bytes();
        self.find_hashed(id, self.hasher.hash_one(id))
    }

    fn find_hashed(&self, id: &[u8], hash: u64) -> Option<u32> {
        self.chain(self.heads.get(self.heads.of(hash)?))
            .find(|number| self.bytes(*number) == id)
    }

    /// The records of a chain from this one on.
    fn chain(&self, first: u32) -> impl Iterator<Item = u32> {
        let some = |number: u32| (number != NONE).then_some(number);
        std::iter::successors(some(first), move |number| some(self.field(*number, NEXT)))
    }

    /// The id's number, a new one if it has none.
    pub(super) fn number(&mut self, id: &TenantId) -> u32 {
        let id = id.as_str().as_bytes();
        let hash = self.hasher.hash_one(id);
        if let Some(known) = self.find_hashed(id, hash) {
            return known;
        }
        self.len += 1;
        if self.len > self.heads.len * USUAL_CHAIN {
            if self.is_loading {
                self.grow_by_half();
            } else {
                self.split();
            }
        }
        let number = self.new_record(id);
        let head = self.heads.of(hash).expect("there is a head by now");
        self.set_field(number, NEXT, self.heads.get(head));
        self.heads.set(head, number);
        number
    }

    /// Adds half as many heads as there are, and makes all chains anew.
    fn grow_by_half(&mut self) {
        self.heads
            .clear(FIRST_HEADS.max(self.heads.len + self.heads.len / 2));
        for (piece, records) in self.pieces.iter_mut().enumerate() {
            let mut at = 0;
            while let Some(length) = records.get(at + LENGTH) {
                let id = length_in(*length);
                let size = size(id);
                if word(records, at + GROUP) != NONE {
                    let hash = self.hasher.hash_one(&records[at + ID..at + ID + id]);
                    let head = self.heads.of(hash).expect("there is a head");
                    let next = self.heads.get(head).to_le_bytes();
                    records[at + NEXT..at + NEXT + 4].copy_from_slice(&next);
                    self.heads.set(head, number_of(piece, at));
                }
                at += size;
            }
        }
    }

    /// Adds a head, with those of one chain that belong to it.
    fn split(&mut self) {
        let Some(split) = self.heads.add() else {
            return;
        };
        let mut next = self.heads.get(split);
        self.heads.set(split, NONE);
        while next != NONE {
            let number = next;
            next = self.field(number, NEXT);
            let hash = self.hasher.hash_one(self.bytes(number));
            let head = self.heads.of(hash).expect("there is a head");
            self.set_field(number, NEXT, self.heads.get(head));
            self.heads.set(head, number);
        }
    }

    /// A record for an id, in no group and in no chain.
    fn new_record(&mut self, id: &[u8]) -> u32 {
        let size = size(id.len());
        let free = self.free[size / UNIT];
        let number = if free == NONE {
            self.add_record(size)
        } else {
            self.free[size / UNIT] = self.field(free, NEXT);
            free
        };
        self.set_row(number, Row::EMPTY);
        let record = self.record_mut(number);
        record[LENGTH] = (id.len() - 1) as u8;
        record[ID..ID + id.len()].copy_from_slice(id);
        number
    }

    fn add_record(&mut self, size: usize) -> u32 {
        let fits = |piece: &Vec<u8>| piece.len() + size <= PIECE_BYTES;
        if !self.pieces.last().is_some_and(fits) {
            // The first piece grows as it fills: most jobs have few tenants.
            let room = if self.pieces.is_empty() {
                0
            } else {
                PIECE_BYTES
            };
            self.pieces.push(Vec::with_capacity(room));
        }
        let piece = self.pieces.len() - 1;
        assert!(
            piece < (1 << 32) / (PIECE_BYTES / UNIT),
            "the tenants of a job take more than 8 GiB"
        );
        let records = &mut self.pieces[piece];
        let at = records.len();
        records.resize(at + size, 0);
        number_of(piece, at)
    }

    /// Takes back the number of a tenant who is in no group; the id is forgotten.
    pub(super) fn remove(&mut self, number: u32) {
        let id = self.bytes(number);
        let size = size(id.len());
        let Some(head) = self.heads.of(self.hasher.hash_one(id)) else {
            return;
        };
        let next = self.field(number, NEXT);
        let first = self.heads.get(head);
        let before = self
            .chain(first)
            .find(|before| self.field(*before, NEXT) == number);
        if first == number {
            self.heads.set(head, next);
        } else if let Some(before) = before {
            self.set_field(before, NEXT, next);
        }
        self.set_row(number, Row::EMPTY);
        self.set_field(number, NEXT, self.free[size / UNIT]);
        self.free[size / UNIT] = number;
        self.len -= 1;
    }

    pub(super) fn id(&self, number: u32) -> TenantId {
        let text = std::str::from_utf8(self.bytes(number)).unwrap_or_default();
        TenantId::new(text).expect("only ids are kept")
    }

    pub(super) fn row(&self, number: u32) -> Row {
        Row {
            link: self.link(number),
            since: self.since(number),
            parameters: self.field(number, PARAMETERS),
        }
    }

    pub(super) fn group(&self, number: u32) -> u32 {
        self.field(number, GROUP)
    }

    pub(super) fn since(&self, number: u32) -> Since {
        Since::from_bits(self.field(number, SINCE))
    }

    pub(super) fn after(&self, number: u32) -> u32 {
        self.field(number, AFTER)
    }

    pub(super) fn set_since(&mut self, number: u32, since: Since) {
        self.set_field(number, SINCE, since.to_bits());
    }

    pub(super) fn set_parameters(&mut self, number: u32, parameters: u32) {
        self.set_field(number, PARAMETERS, parameters);
    }

    fn set_row(&mut self, number: u32, row: Row) {
        self.set_link(number, row.link);
        self.set_since(number, row.since);
        self.set_parameters(number, row.parameters);
    }

    /// Marks a tenant.
    pub(super) fn mark(&mut self, number: u32) {
        self.record_mut(number)[LENGTH] |= MARK;
    }

    /// Takes the marks of all tenants away. Returns the numbers of those who had none.
    pub(super) fn take_marks(&mut self) -> Vec<u32> {
        let mut unmarked = Vec::new();
        for (piece, records) in self.pieces.iter_mut().enumerate() {
            let mut at = 0;
            while let Some(length) = records.get_mut(at + LENGTH) {
                let was_marked = *length & MARK != 0;
                *length &= !MARK;
                let next = at + size(length_in(*length));
                if !was_marked && word(records, at + GROUP) != NONE {
                    unmarked.push(number_of(piece, at));
                }
                at = next;
            }
        }
        unmarked
    }

    fn bytes(&self, number: u32) -> &[u8] {
        let record = self.record(number);
        &record[ID..ID + length_in(record[LENGTH])]
    }

    /// A record, and all that stands behind it.
    fn record(&self, number: u32) -> &[u8] {
        let (piece, at) = place_of(number);
        &self.pieces[piece][at..]
    }

    fn record_mut(&mut self, number: u32) -> &mut [u8] {
        let (piece, at) = place_of(number);
        &mut self.pieces[piece][at..]
    }

    fn field(&self, number: u32, field: usize) -> u32 {
        word(self.record(number), field)
    }

    fn set_field(&mut self, number: u32, field: usize, value: u32) {
        self.record_mut(number)[field..field + 4].copy_from_slice(&value.to_le_bytes());
    }
}

impl Row {
    const EMPTY: Self = Self {
        link: Link::NOWHERE,
        since: Since::LONG_AGO,
        parameters: NONE,
    };
}

impl Links for Tenants {
    fn link(&self, number: u32) -> Link {
        Link {
            group: self.field(number, GROUP),
            before: self.field(number, BEFORE),
            after: self.field(number, AFTER),
        }
    }

    fn set_link(&mut self, number: u32, link: Link) {
        self.set_field(number, GROUP, link.group);
        self.set_before(number, link.before);
        self.set_after(number, link.after);
    }

    fn set_before(&mut self, number: u32, before: u32) {
        self.set_field(number, BEFORE, before);
    }

    fn set_after(&mut self, number: u32, after: u32) {
        self.set_field(number, AFTER, after);
    }
}

/// The first records of the chains.
#[derive(Debug, Default)]
struct Heads {
    pieces: Vec<Vec<u32>>,
    len: usize,
}

impl Heads {
    /// The head that a hash belongs to; `None` while there is none.
    fn of(&self, hash: u64) -> Option<usize> {
        let all = self.len.checked_next_power_of_two()?;
        let head = hash as usize & (all - 1);
        match self.len {
            0 => None,
            len if head < len => Some(head),
            _ => Some(head - all / 2),
        }
    }

    /// Adds a head. Returns the one whose chain it shares from now on.
    fn add(&mut self) -> Option<usize> {
        let new = self.len;
        if new.is_multiple_of(PIECE_HEADS) {
            let room = if new == 0 { 0 } else { PIECE_HEADS };
            self.pieces.push(Vec::with_capacity(room));
        }
        self.pieces[new / PIECE_HEADS].push(NONE);
        self.len += 1;
        Some(new - (1 << new.checked_ilog2()?))
    }

    /// Makes so many heads, all without a chain.
    fn clear(&mut self, heads: usize) {
        while self.len < heads {
            self.add();
        }
        self.pieces.iter_mut().for_each(|piece| piece.fill(NONE));
    }

    fn get(&self, head: usize) -> u32 {
        self.pieces[head / PIECE_HEADS][head % PIECE_HEADS]
    }

    fn set(&mut self, head: usize, number: u32) {
        self.pieces[head / PIECE_HEADS][head % PIECE_HEADS] = number;
    }
}

/// Bytes of a record whose id has so many.
const fn size(id: usize) -> usize {
    (ID + id).next_multiple_of(UNIT)
}

/// How long the id is.
fn length_in(length: u8) -> usize {
    usize::from(length & !MARK) + 1
}

fn number_of(piece: usize, at: usize) -> u32 {
    ((piece * PIECE_BYTES + at) / UNIT) as u32
}

fn place_of(number: u32) -> (usize, usize) {
    let at = number as usize * UNIT;
    (at / PIECE_BYTES, at % PIECE_BYTES)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes[at..].first_chunk().expect("a record is whole");
    u32::from_le_bytes(*word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn id(text: &str) -> TenantId {
        TenantId::new(text).unwrap()
    }

    /// A tenant who is in a group.
    fn add(tenants: &mut Tenants, id: &TenantId) -> u32 {
        let number = tenants.number(id);
        let link = Link {
            group: 7,
            ..Link::NOWHERE
        };
        tenants.set_link(number, link);
        number
    }

    #[test]
    fn the_first_by_id_are_found_however_they_came() {
        let mut tenants = Tenants::default();
        for name in ["b3", "a2", "b1", "c9", "b2", "b10"] {
            add(&mut tenants, &id(name));
        }
        let first = |begin: &str, most| {
            let found = tenants.first_beginning(begin, most).into_iter();
            found
                .map(|number| tenants.id(number).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(first("b", 3), ["b1", "b10", "b2"]);
        assert_eq!(first("b", 9), ["b1", "b10", "b2", "b3"]);
        assert_eq!(first("d", 3), [""; 0]);
    }

    #[test]
    fn who_leaves_makes_room_and_everybody_else_keeps_their_number() {
        let mut tenants = Tenants::default();
        let stays = add(&mut tenants, &id("stays"));
        for n in 10_000..30_000 {
            let comes = id(&format!("tenant{n}"));
            let number = add(&mut tenants, &comes);
            assert_eq!(tenants.id(number), comes);
            tenants.remove(number);
            assert_eq!(tenants.find(&comes), None);
        }
        assert_eq!(tenants.number(&id("stays")), stays);
        assert_eq!((tenants.id(stays), tenants.len()), (id("stays"), 1));
        let bytes: usize = tenants.pieces.iter().map(Vec::len).sum();
        assert_eq!(bytes, size(5) + size(11), "the place is used again");
    }

    #[test]
    fn ids_of_every_length_are_found_across_pieces_and_heads() {
        for is_loading in [false, true] {
            ids_are_found(is_loading);
        }
    }

    fn ids_are_found(is_loading: bool) {
        let mut tenants = Tenants {
            is_loading,
            ..Tenants::default()
        };
        let name = |n: usize| id(&format!("{n:0>width$}", width = 6 + n % 123));
        let mut numbers = BTreeMap::new();
        for n in 0..60_000 {
            numbers.insert(n, add(&mut tenants, &name(n)));
        }
        assert!(tenants.pieces.len() > 2 && tenants.heads.len > 20_000);
        for n in (0..60_000).step_by(3) {
            tenants.remove(numbers.remove(&n).unwrap());
        }
        for n in 0..60_000 {
            assert_eq!(tenants.find(&name(n)), numbers.get(&n).copied(), "{n}");
        }
        assert_eq!(tenants.len(), numbers.len());
        let all: Vec<u32> = tenants.all().collect();
        assert_eq!(all, Vec::from_iter(numbers.values().copied()));

        let marked: Vec<u32> = all.iter().copied().step_by(2).collect();
        marked.iter().for_each(|number| tenants.mark(*number));
        assert!(
            all.iter()
                .all(|number| tenants.find(&tenants.id(*number)) == Some(*number))
        );
        let unmarked: Vec<u32> = all.iter().copied().skip(1).step_by(2).collect();
        assert_eq!(tenants.take_marks(), unmarked);
        assert_eq!(tenants.take_marks(), all, "the marks are gone");
    }
}

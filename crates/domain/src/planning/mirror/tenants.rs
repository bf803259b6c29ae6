//! Tenants by number. Ids stand in one block of memory, and everything else about a tenant is found under a small
//! number, so that ten million of them cost what their letters cost and little more.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};

use crate::ids::TenantId;

/// What an id usually takes, its length included.
const USUAL_LENGTH: usize = 17;

/// Numbers for ids: given when an id is first seen, given to another once it has left.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    /// Every id, each after a byte with its length.
    letters: Vec<u8>,
    /// Where the id of each number begins.
    starts: Vec<u64>,
    by_id: HashTable<u32>,
    hasher: DefaultHashBuilder,
    free: Vec<u32>,
    /// Bytes of `letters` that no longer belong to anybody.
    garbage: usize,
}

impl Tenants {
    /// How many numbers have been given, those that are free included.
    pub(super) fn numbers(&self) -> usize {
        self.starts.len()
    }

    /// How many tenants there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.starts.reserve_exact(more);
        // Room that is not used costs no memory.
        self.letters.reserve(more * USUAL_LENGTH);
        let (letters, starts, hasher) = (&self.letters, &self.starts, &self.hasher);
        self.by_id.reserve(more, |number| {
            hasher.hash_one(bytes_at(letters, starts, *number))
        });
    }

    /// The numbers of all tenants, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        self.by_id.iter().copied()
    }

    pub(super) fn find(&self, id: &TenantId) -> Option<u32> {
        let id = id.as_str().as_bytes();
        self.by_id
            .find(self.hasher.hash_one(id), |number| self.bytes(*number) == id)
            .copied()
    }

    /// The id's number, a new one if it has none.
    pub(super) fn number(&mut self, id: &TenantId) -> u32 {
        let id = id.as_str().as_bytes();
        let (letters, starts, hasher) = (&self.letters, &self.starts, &self.hasher);
        let entry = self.by_id.entry(
            hasher.hash_one(id),
            |number| bytes_at(letters, starts, *number) == id,
            |number| hasher.hash_one(bytes_at(letters, starts, *number)),
        );
        let entry = match entry {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(entry) => entry,
        };
        let number = self.free.pop().unwrap_or_else(|| {
            u32::try_from(self.starts.len())
                .expect("four thousand million tenants do not fit into memory")
        });
        entry.insert(number);
        let start = self.letters.len() as u64;
        if number as usize == self.starts.len() {
            self.starts.push(start);
        } else {
            self.starts[number as usize] = start;
        }
        let length = u8::try_from(id.len()).expect("an id has 128 characters at most");
        self.letters.push(length);
        self.letters.extend_from_slice(id);
        number
    }

    /// Takes a number back; its id is forgotten.
    pub(super) fn remove(&mut self, number: u32) {
        let id = bytes_at(&self.letters, &self.starts, number);
        let entry = self
            .by_id
            .find_entry(self.hasher.hash_one(id), |known| *known == number);
        if let Ok(entry) = entry {
            self.garbage += id.len() + 1;
            entry.remove();
            self.free.push(number);
        }
        if self.garbage > 4096 && self.garbage > self.letters.len() / 2 {
            self.tidy();
        }
    }

    pub(super) fn id(&self, number: u32) -> TenantId {
        let text = std::str::from_utf8(self.bytes(number)).unwrap_or_default();
        TenantId::new(text).expect("only ids are kept")
    }

    fn bytes(&self, number: u32) -> &[u8] {
        bytes_at(&self.letters, &self.starts, number)
    }

    /// Drops the letters of those who have left.
    fn tidy(&mut self) {
        let mut letters = Vec::with_capacity(self.letters.len() - self.garbage);
        for number in &self.by_id {
            let id = bytes_at(&self.letters, &self.starts, *number);
            let start = letters.len() as u64;
            letters.push(id.len() as u8);
            letters.extend_from_slice(id);
            self.starts[*number as usize] = start;
        }
        self.letters = letters;
        self.garbage = 0;
    }
}

fn bytes_at<'l>(letters: &'l [u8], starts: &[u64], number: u32) -> &'l [u8] {
    let start = starts[number as usize] as usize;
    let length = usize::from(letters[start]);
    &letters[start + 1..start + 1 + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> TenantId {
        TenantId::new(format!("tenant{n}")).unwrap()
    }

    #[test]
    fn who_leaves_makes_room_and_everybody_else_keeps_their_number() {
        let mut tenants = Tenants::default();
        let stays = tenants.number(&id(0));
        for n in 1..20_000 {
            let number = tenants.number(&id(n));
            assert_eq!(tenants.id(number), id(n));
            tenants.remove(number);
            assert_eq!(tenants.find(&id(n)), None);
        }
        assert_eq!((tenants.number(&id(0)), tenants.id(stays)), (stays, id(0)));
        assert_eq!(tenants.numbers(), 2);
        assert!(
            tenants.letters.len() < 20_000,
            "{} bytes",
            tenants.letters.len()
        );
    }
}

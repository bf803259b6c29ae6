//! How a store that was restored from an older copy is recognised. The store counts a number up while it is in use, and the
//! number is remembered outside of it, too. A store that has counted less far than is remembered has lost what came after.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::input::words::words;

/// How far a store has come: everything that it had committed by `at` is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceMark {
    /// Id of the store, drawn once. A copy has the id of the original.
    pub store: Uuid,
    /// Grows with each mark of the store.
    pub number: u64,
    /// Time of the mark.
    pub at: DateTime<Utc>,
}

/// What a store has of its own marks about the newest one that is known outside of it. Nothing where it was made long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MarksMade {
    /// When it made the mark of the same number.
    pub same_number: Option<DateTime<Utc>>,
    /// When it made the last mark before the time of the known one.
    pub before: Option<DateTime<Utc>>,
}

/// The time of which a restored copy knows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreGap {
    /// Begin: the last mark in the copy.
    pub from: DateTime<Utc>,
    /// End: the last mark that is known outside of it.
    pub to: DateTime<Utc>,
}

/// What the marks that are remembered say about a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognition {
    /// It is the store that was used before, as far as is known.
    Same,
    /// It is an older copy.
    OlderCopy {
        /// What it does not know of.
        gap: RestoreGap,
        /// The number that the lost store had reached.
        number: u64,
    },
    /// It is another store than the one used last.
    Another {
        /// The newest mark of the one used last.
        last: FenceMark,
    },
}

/// The newest mark of each store that was used here, the store used last at the end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KnownMarks(Vec<FenceMark>);

impl KnownMarks {
    /// Number of stores that are remembered.
    pub const MAX_STORES: usize = 16;

    /// The newest mark that is known of a store.
    #[must_use]
    pub fn newest(&self, store: Uuid) -> Option<&FenceMark> {
        self.0.iter().find(|known| known.store == store)
    }

    /// What is known about a store that is at `stored`, and has `made` marks about the newest one that is known of it. Where other
    /// processes have counted a copy up since, the mark of the known number is another one, made at another time.
    #[must_use]
    pub fn recognise(&self, stored: &FenceMark, made: MarksMade) -> Recognition {
        let Some(known) = self.newest(stored.store) else {
            return match self.0.last() {
                Some(last) => Recognition::Another { last: *last },
                None => Recognition::Same,
            };
        };
        // Stores have no fractions of microseconds.
        let is_other = |at: DateTime<Utc>| at.timestamp_micros() != known.at.timestamp_micros();
        if stored.number >= known.number && !made.same_number.is_some_and(is_other) {
            return Recognition::Same;
        }
        let from = made.before.unwrap_or(stored.at);
        Recognition::OlderCopy {
            gap: RestoreGap {
                from,
                // A clock may have stepped.
                to: known.at.max(from),
            },
            number: known.number,
        }
    }

    /// Remembers a mark of the store that is used now. A smaller number than is known does not count.
    pub fn note(&mut self, mark: FenceMark) {
        let known = self.0.iter().position(|known| known.store == mark.store);
        let known = known.map(|place| self.0.remove(place));
        let newest = known
            .filter(|known| known.number > mark.number)
            .unwrap_or(mark);
        self.0.push(newest);
        let excess = self.0.len().saturating_sub(Self::MAX_STORES);
        self.0.drain(..excess);
    }
}

/// What is done when the store turns out to be an older copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterRestore {
    /// Nothing is planned or run until an operator decides.
    #[default]
    Ask,
    /// What fell due in the gap is skipped.
    Skip,
    /// What fell due in the gap is run again.
    Repeat,
}

words!(
    AfterRestore,
    "answer to a restored store",
    Ask = "ask",
    Skip = "skip",
    Repeat = "repeat",
);

impl AfterRestore {
    /// What has been decided beforehand; `None`: an operator decides.
    #[must_use]
    pub fn choice(self) -> Option<RestoreChoice> {
        match self {
            Self::Ask => None,
            Self::Skip => Some(RestoreChoice::Skip),
            Self::Repeat => Some(RestoreChoice::Repeat),
        }
    }
}

/// What becomes of the runs that a restored copy does not know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RestoreChoice {
    /// They are skipped, with what the copy still had queued: most of it was done before.
    Skip,
    /// They are made again, with the same idempotency keys.
    Repeat,
}

words!(RestoreChoice, "choice", Skip = "skip", Repeat = "repeat",);

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn mark(store: u128, number: u64) -> FenceMark {
        FenceMark {
            store: Uuid::from_u128(store),
            number,
            at: DateTime::UNIX_EPOCH + TimeDelta::minutes(number as i64),
        }
    }

    proptest! {
        #[test]
        fn a_store_is_an_older_copy_exactly_when_a_later_mark_of_it_is_known(
            noted in prop::collection::vec((0u128..4, 0u64..50), 0..30),
            (store, number) in (0u128..4, 0u64..50),
        ) {
            let mut known = KnownMarks::default();
            for (store, number) in &noted {
                known.note(mark(*store, *number));
            }
            let of_it = noted.iter().filter(|(other, _)| *other == store);
            let reached = of_it.map(|(_, number)| *number).max();
            let expected = match (reached, noted.last()) {
                (Some(reached), _) if number < reached => Recognition::OlderCopy {
                    gap: RestoreGap { from: mark(store, number).at, to: mark(store, reached).at },
                    number: reached,
                },
                (None, Some((last, _))) => {
                    let reached = noted.iter().filter(|(other, _)| other == last);
                    let reached = reached.map(|(_, number)| *number).max().unwrap();
                    Recognition::Another { last: mark(*last, reached) }
                }
                _ => Recognition::Same,
            };
            prop_assert_eq!(known.recognise(&mark(store, number), MarksMade::default()), expected);
        }

        #[test]
        fn a_store_that_is_used_on_is_never_taken_for_a_copy(
            steps in prop::collection::vec((0u128..3, any::<bool>()), 1..40),
        ) {
            // The process dies before it has remembered some of the marks, and uses several stores in turn.
            let (mut known, mut stores) = (KnownMarks::default(), [0; 3]);
            for (store, remembered) in steps {
                let number = &mut stores[store as usize];
                let before = known.recognise(&mark(store, *number), MarksMade::default());
                let is_copy = matches!(before, Recognition::OlderCopy { .. });
                prop_assert!(!is_copy);
                *number += 1;
                if remembered {
                    known.note(mark(store, *number));
                }
            }
        }
    }

    #[test]
    fn a_lost_mark_is_missed_also_where_others_have_counted_beyond_it() {
        let (mut known, stored) = (KnownMarks::default(), mark(1, 20));
        known.note(mark(1, 9));
        let recognise = |same_number, before| {
            known.recognise(
                &stored,
                MarksMade {
                    same_number,
                    before,
                },
            )
        };
        let kept = mark(1, 9).at + TimeDelta::nanoseconds(999);
        assert_eq!(recognise(Some(kept), None), Recognition::Same);
        assert_eq!(recognise(None, Some(mark(1, 7).at)), Recognition::Same);
        let made_anew = recognise(Some(mark(1, 12).at), Some(mark(1, 7).at));
        let expected = Recognition::OlderCopy {
            gap: RestoreGap {
                from: mark(1, 7).at,
                to: mark(1, 9).at,
            },
            number: 9,
        };
        assert_eq!(made_anew, expected);
    }

    #[test]
    fn the_stores_used_last_are_remembered_and_read_back() {
        let mut known = KnownMarks::default();
        for store in 0..100 {
            known.note(mark(store, 7));
        }
        known.note(mark(85, 8));
        let json = serde_json::to_string(&known).unwrap();
        let read: KnownMarks = serde_json::from_str(&json).unwrap();
        assert_eq!(read, known);
        assert_eq!(read.0.len(), KnownMarks::MAX_STORES);
        let older = read.recognise(&mark(85, 7), MarksMade::default());
        assert!(matches!(older, Recognition::OlderCopy { number: 8, .. }));
        let forgotten = read.recognise(&mark(1, 1), MarksMade::default());
        assert_eq!(forgotten, Recognition::Another { last: mark(85, 8) });
    }
}

//! The port `Fence`: how far the store has come, and the hold of one that was restored from an older copy. It stands in one
//! row, beside the times of its latest marks.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    crash_point,
    ports::{EndedHold, Fence, FenceState, Hold, StoreError},
};
use punctual_domain::{FenceMark, KnownMarks, MarksMade, Recognition, RestoreChoice, RestoreGap};
use uuid::Uuid;

use crate::{
    Store,
    batch_store::QUEUE_PARKED,
    driver::{Announcement, Connection, FromRow, Row, Value, values},
    errors::failed,
};

const DRAW: &str =
    "INSERT INTO @fence (one, store, number, at) VALUES (1, $1, 0, $2) ON CONFLICT DO NOTHING";

const READ: &str =
    "SELECT f.store, f.number, f.at, f.held_from, f.held_to, f.held_since FROM @fence f";

const LOCK: &str = "SELECT f.store, f.number, f.at, f.held_from, f.held_to, f.held_since FROM @fence f @for_update(f)";

const ADVANCE: &str = "UPDATE @fence SET number = number + 1, at = $1";

/// When the mark of a number was made, and the last mark before a time.
const MADE: &str = "SELECT (SELECT m.at FROM @fence_marks m WHERE m.number = $1),
            (SELECT max(m.at) FROM @fence_marks m WHERE m.at < $2)";

const REMEMBER: &str = "INSERT INTO @fence_marks (number, at) VALUES ($1, $2)
     ON CONFLICT (number) DO UPDATE SET at = excluded.at";

const FORGET: &str = "DELETE FROM @fence_marks WHERE at < $1";

/// It is decided about those that are missing.
const FORGET_ALL: &str = "DELETE FROM @fence_marks";

/// How long it is remembered when each mark was made. Processes that run look once a minute.
const REMEMBERED: TimeDelta = TimeDelta::hours(1);

/// Holds the store. What another process has known of it before makes the gap no shorter.
const HOLD: &str = "UPDATE @fence SET held_from = coalesce(held_from, $1), held_to = @greatest(coalesce(held_to, $2), $2),
         held_since = coalesce(held_since, $3), held_number = @greatest(coalesce(held_number, $4), $4)";

const END_HOLD: &str = "UPDATE @fence SET number = @greatest(number, coalesce(held_number, number)) + 1, at = $1,
         skipped_until = $2, held_from = NULL, held_to = NULL, held_since = NULL, held_number = NULL";

/// Chunks of batches that were due by `$1` of which only items that wait are left, locked in the order of their numbers.
const LOCK_PARKED: &str = "SELECT c.chunk_id FROM @chunks c WHERE c.done = 2 AND c.batch_id IN (
         SELECT b.batch_id FROM @batches b WHERE b.finished_at IS NULL AND b.scheduled_at <= $1)
     ORDER BY c.chunk @for_update(c)";

const CANCEL: &str = "UPDATE @batches SET status = 'cancelled', restored = 1 WHERE finished_at IS NULL AND scheduled_at <= $1";

const GIVE_UP: &str = "UPDATE @deliveries SET state = 'given_up', reason = $2, leased_until = NULL
     WHERE state = 'open' AND batch_id IN (SELECT b.batch_id FROM @batches b WHERE b.scheduled_at <= $1)";

/// Why a delivery was given up.
pub(crate) const GIVEN_UP: &str =
    "the store was restored from an older copy, and this was most likely delivered before";

/// The row of the fence.
struct FenceRow {
    mark: FenceMark,
    hold: Option<Hold>,
}

impl FromRow for FenceRow {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let mark = FenceMark {
            store: row.parse()?,
            number: row.next()?,
            at: row.next()?,
        };
        let (from, to, since) = (row.next()?, row.next()?, row.next()?);
        let hold = match (from, to, since) {
            (Some(from), Some(to), Some(since)) => Some(Hold {
                gap: RestoreGap { from, to },
                since,
            }),
            _ => None,
        };
        Ok(Self { mark, hold })
    }
}

#[async_trait]
impl Fence for Store {
    async fn mark(&self, known: &KnownMarks, now: DateTime<Utc>) -> Result<FenceState, StoreError> {
        let mut transaction = self.database.begin().await?;
        let mut found: Option<FenceRow> = transaction.fetch_optional(LOCK, values![]).await?;
        if found.is_none() {
            // Another process may be as quick: what is stored counts.
            let drawn = values![Uuid::new_v4(), now];
            transaction.execute(DRAW, drawn).await?;
            found = transaction.fetch_optional(LOCK, values![]).await?;
        }
        let row = found.ok_or_else(|| failed("the row of the fence is missing"))?;
        let mut state = match row.hold {
            Some(hold) => FenceState::Held(hold),
            None => FenceState::Marked(FenceMark {
                number: row.mark.number + 1,
                at: now,
                ..row.mark
            }),
        };
        let made = marks_made(&mut transaction, known, &row.mark).await?;
        if let Recognition::OlderCopy { gap, number } = known.recognise(&row.mark, made) {
            let hold = values![gap.from, gap.to, now, stored(number)];
            transaction.execute(HOLD, hold).await?;
            let held: FenceRow = transaction.fetch_one(READ, values![]).await?;
            let hold = held.hold.ok_or_else(|| failed("the fence holds nothing"))?;
            state = FenceState::Held(hold);
            crash_point!("hold-before-commit");
        } else if row.hold.is_none() {
            transaction.execute(ADVANCE, values![now]).await?;
            let made = values![stored(row.mark.number + 1), now];
            transaction.execute(REMEMBER, made).await?;
            let long_ago = values![now - REMEMBERED];
            transaction.execute(FORGET, long_ago).await?;
        }
        transaction.commit().await?;
        self.note_hold(matches!(state, FenceState::Held(_)));
        Ok(state)
    }

    async fn hold(&self) -> Result<Option<Hold>, StoreError> {
        let row: Option<FenceRow> = self.database.fetch_optional(READ, values![]).await?;
        Ok(row.and_then(|row| row.hold))
    }

    async fn end_hold(
        &self,
        choice: RestoreChoice,
        now: DateTime<Utc>,
    ) -> Result<Option<EndedHold>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let row: Option<FenceRow> = transaction.fetch_optional(LOCK, values![]).await?;
        let Some(Hold { gap, .. }) = row.and_then(|row| row.hold) else {
            return Ok(None);
        };
        let mut ended = EndedHold {
            gap,
            cancelled_batches: 0,
            given_up_deliveries: 0,
        };
        let mut skipped_until = None;
        if choice == RestoreChoice::Skip {
            // A clock that was ahead at the last mark has run nothing of what is still to come.
            let until = gap.to.min(now);
            skipped_until = Some(until);
            (ended.cancelled_batches, ended.given_up_deliveries) =
                skip(&mut transaction, until).await?;
        }
        transaction
            .execute(END_HOLD, values![now, skipped_until])
            .await?;
        transaction.execute(FORGET_ALL, values![]).await?;
        transaction.announce(Announcement::Chunks).await?;
        crash_point!("restore-before-commit");
        transaction.commit().await?;
        crash_point!("restore-after-commit");
        self.note_hold(false);
        Ok(Some(ended))
    }
}

impl Store {
    /// Whether this process has seen that the store is held. Others find out by their statements, or with their next mark.
    pub(crate) fn is_known_to_be_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Notes whether the store is held, and wakes who waits when it no longer is.
    fn note_hold(&self, is_held: bool) {
        let was_held = self.held.send_replace(is_held);
        if was_held && !is_held {
            self.arrivals.send_replace(());
            self.changes.send_replace(());
        }
    }
}

/// A number as the store has it.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What the store has of its own marks about the newest one that is known of it.
async fn marks_made(
    connection: &mut Connection<'_>,
    known: &KnownMarks,
    mark: &FenceMark,
) -> Result<MarksMade, StoreError> {
    let Some(newest) = known.newest(mark.store) else {
        return Ok(MarksMade::default());
    };
    let about = values![stored(newest.number), newest.at];
    let (same_number, before) = connection.fetch_one(MADE, about).await?;
    Ok(MarksMade {
        same_number,
        before,
    })
}

/// Cancels batches that were due by `until`, and queues their chunks of which only items that wait are left. Gives up what of
/// them is still to be delivered. Returns the numbers of both.
async fn skip(
    connection: &mut Connection<'_>,
    until: DateTime<Utc>,
) -> Result<(u64, u64), StoreError> {
    let parked: Vec<String> = connection.fetch(LOCK_PARKED, values![until]).await?;
    let cancelled = connection.execute(CANCEL, values![until]).await?;
    if !parked.is_empty() {
        let parked = values![Value::Texts(parked)];
        connection.execute(QUEUE_PARKED, parked).await?;
    }
    let given_up = connection
        .execute(GIVE_UP, values![until, GIVEN_UP])
        .await?;
    Ok((cancelled, given_up))
}

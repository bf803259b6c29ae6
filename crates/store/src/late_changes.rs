//! What a late change does not bring back: runs that were skipped at the same instant for a reason that settles them, such as a
//! cancellation. A preference that was stored shortly before a restart counts as late, whether it was planned with or not.

use std::collections::HashSet;

use punctual_application::ports::StoreError;
use punctual_domain::{Chunk, NewBatch, SkipReason, Trigger};

use crate::driver::{Connection, Value, values};

/// Those of the items `$1` whose run was skipped for one of these reasons in a batch that fell due at the same instant. That
/// instant is only compared: its batch has more items than are asked for.
pub(crate) const SETTLED: &str = "SELECT s.tenant_id FROM @skipped_items s
     JOIN @chunks c ON c.chunk = s.chunk JOIN @batches b ON b.batch_id = c.batch_id
     WHERE @in_texts(s.tenant_id, $1) AND s.job_id = $2 AND s.occurrence = $3 AND b.scheduled_at + 0 = $4
       AND @in_texts(s.reason, $5)";

/// Chunks, after one of them, that have not ended, of batches of a run that fell due at an instant and are cancelled: what has no
/// outcome of them is about to be skipped.
pub(crate) const CANCELLED: &str = "SELECT next.chunk, coalesce(m.message, '')
     FROM (SELECT c.chunk FROM @runs n CROSS JOIN @batches b CROSS JOIN @chunks c
           WHERE n.job_id = $1 AND n.occurrence = $2 AND b.run = n.run AND b.scheduled_at + 0 = $3
             AND b.status || '' = 'cancelled' AND b.finished_at IS NULL
             AND c.batch_id = b.batch_id AND c.done <> 1 AND c.chunk + 0 > $4
           ORDER BY c.chunk LIMIT $5) next
     LEFT JOIN @chunk_messages m ON m.chunk = next.chunk ORDER BY next.chunk";

/// Chunks that are read at once.
const CHUNKS_PER_QUERY: usize = 500;

/// Takes out of batches of late changes what was settled, and leaves out those of which nothing is left.
pub(crate) async fn leave_out_settled(
    connection: &mut Connection<'_>,
    batches: &mut Vec<NewBatch>,
) -> Result<(), StoreError> {
    for batch in batches.iter_mut().filter(|batch| is_late(batch)) {
        let Some(occurrence) = batch.chunks.first().map(|chunk| chunk.occurrence) else {
            continue;
        };
        let occurrence = occurrence.to_string();
        // First those that are to be skipped: what is skipped meanwhile is found after that.
        let mut settled = about_to_be_skipped(connection, batch, &occurrence).await?;
        for chunk in &batch.chunks {
            let reasons = SkipReason::SETTLING.map(|reason| reason.as_str().to_owned());
            let wanted = values![
                chunk.items.as_slice(),
                &batch.job_id,
                &*occurrence,
                batch.scheduled_at,
                Value::Texts(reasons.into())
            ];
            let found: Vec<String> = connection.fetch(SETTLED, wanted).await?;
            settled.extend(found);
        }
        for chunk in &mut batch.chunks {
            chunk.items.retain(|item| !settled.contains(item.as_str()));
        }
        batch.chunks.retain(|chunk| !chunk.items.is_empty());
    }
    batches.retain(|batch| !is_late(batch) || !batch.chunks.is_empty());
    Ok(())
}

fn is_late(batch: &NewBatch) -> bool {
    batch.trigger == Trigger::LateChange
}

/// The items of cancelled batches of the same run and instant, in chunks that have not ended.
async fn about_to_be_skipped(
    connection: &mut Connection<'_>,
    batch: &NewBatch,
    occurrence: &str,
) -> Result<HashSet<String>, StoreError> {
    let mut items = HashSet::new();
    let mut last = 0_i64;
    loop {
        let wanted = values![
            &batch.job_id,
            occurrence,
            batch.scheduled_at,
            last,
            CHUNKS_PER_QUERY
        ];
        let found: Vec<(i64, String)> = connection.fetch(CANCELLED, wanted).await?;
        let Some((number, _)) = found.last() else {
            return Ok(items);
        };
        last = *number;
        for (_, message) in &found {
            // One that cannot be read ends when it is claimed, and its items fail.
            if let Ok(chunk) = serde_json::from_str::<Chunk>(message) {
                items.extend(chunk.items.iter().map(ToString::to_string));
            }
        }
    }
}

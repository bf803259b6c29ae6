//! The order in which runs that make up for missed ones begin: those of one item one after the other, so that each knows the one
//! before it.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::config::JobConfig;
use crate::{
    ids::{ItemId, JobId},
    planning::catch_up::CatchUpPolicy,
    work::{batch::NewBatch, chunk::Chunk, job::Overlap, trigger::Trigger},
};

/// When the last batch of an item fell due, and its chunk.
type Last = (DateTime<Utc>, Arc<str>);

/// The last chunk of each item among the batches that are queued together, by job.
#[derive(Debug, Default)]
pub struct Succession(HashMap<JobId, HashMap<ItemId, Last>>);

impl Succession {
    /// Has the batches of each job that [makes up](Chunk::makes_up) for missed runs begin in the order of their due times, after
    /// those that were arranged before: each chunk [after](Chunk::after) those that have the earlier runs of its items. Batches of
    /// `jobs` whose runs may overlap stay as they are, and so do those of a schedule that makes up one run of each item.
    pub fn arrange(&mut self, batches: &mut [NewBatch], jobs: &[JobConfig]) {
        let stays = |batch: &NewBatch| {
            let is_asked_for = matches!(batch.trigger, Trigger::Backfill | Trigger::Replay);
            let makes_up_one = |job: &JobConfig| job.catch_up.policy != CatchUpPolicy::All;
            let mut jobs = jobs.iter().filter(|job| job.job_id == batch.job_id);
            batch.trigger == Trigger::Prepare
                || jobs.any(|job| {
                    job.overlap == Overlap::Allow || (makes_up_one(job) && !is_asked_for)
                })
        };
        let made_up = batches.iter().filter(|batch| {
            let first = batch.chunks.first();
            first.is_some_and(Chunk::makes_up) && !stays(batch)
        });
        let made_up: HashSet<JobId> = made_up.map(|batch| batch.job_id.clone()).collect();
        let mut in_order: Vec<&mut NewBatch> = batches
            .iter_mut()
            .filter(|batch| made_up.contains(&batch.job_id) && !stays(batch))
            .collect();
        in_order.sort_by_key(|batch| batch.scheduled_at);
        for batch in in_order {
            let of_job = self.0.entry(batch.job_id.clone()).or_default();
            append(of_job, batch);
        }
    }
}

fn append(of_job: &mut HashMap<ItemId, Last>, batch: &mut NewBatch) {
    let due = batch.scheduled_at;
    for chunk in &mut batch.chunks {
        let own: Arc<str> = chunk.chunk_id.as_str().into();
        let mut shared: HashMap<Arc<str>, usize> = HashMap::new();
        for item in &chunk.items {
            match of_job.get_mut(item) {
                None => {
                    of_job.insert(item.clone(), (due, Arc::clone(&own)));
                }
                Some((last, _)) if *last >= due => {}
                Some(last) => {
                    let (_, before) = mem::replace(last, (due, Arc::clone(&own)));
                    *shared.entry(before).or_default() += 1;
                }
            }
        }
        let mut shared: Vec<(Arc<str>, usize)> = shared.into_iter().collect();
        shared.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        chunk.after = shared.into_iter().map(|(id, _)| id.to_string()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{time::occurrence::Occurrence, work::priority::Priority};

    fn at(hour: u32) -> DateTime<Utc> {
        format!("2026-03-01T{hour:02}:00:00Z").parse().unwrap()
    }

    /// A batch of the job `name` that falls due at this hour and is planned at another one.
    fn batch(name: &str, due: u32, planned: u32, items: &[&str]) -> NewBatch {
        let items: Vec<_> = items.iter().map(|id| ItemId::new(id).unwrap()).collect();
        NewBatch::new(
            &JobId::new(name).unwrap(),
            Priority::Medium,
            "hourly".to_owned(),
            at(due),
            Occurrence::Instant(at(due)),
            Trigger::Schedule,
            at(planned),
            &items,
            2,
        )
    }

    #[test]
    fn each_chunk_begins_after_those_that_have_the_earlier_runs_of_its_items() {
        let mut batches = [
            batch("j", 3, 3, &["a", "b", "c"]),
            batch("j", 2, 3, &["new", "a", "b", "c"]),
            batch("j", 1, 3, &["a", "b", "c"]),
            batch("other", 1, 3, &["a"]),
        ];
        let mut succession = Succession::default();
        succession.arrange(&mut batches, &[]);
        let id = |batch: usize, chunk: usize| batches[batch].chunks[chunk].chunk_id.clone();
        let after = |batch: usize| -> Vec<Vec<String>> {
            let chunks = batches[batch].chunks.iter();
            chunks.map(|chunk| chunk.after.clone()).collect()
        };
        assert_eq!(after(2), [vec![], Vec::<String>::new()], "the first");
        let mut of_both = vec![id(2, 0), id(2, 1)];
        of_both.sort();
        assert_eq!(after(1), [vec![id(2, 0)], of_both]);
        // The last one is on time, and its items have missed runs.
        let mut of_both = vec![id(1, 0), id(1, 1)];
        of_both.sort();
        assert_eq!(after(0), [of_both, vec![id(1, 1)]]);
        assert_eq!(after(3), [Vec::<String>::new()], "a job of its own");

        // What is queued in a second portion comes after the first one, and what is earlier by then does not.
        let last = id(0, 1);
        let mut portion = [
            batch("j", 4, 8, &["c"]),
            batch("j", 2, 8, &["c"]),
            batch("j", 0, 8, &["a"]),
        ];
        succession.arrange(&mut portion, &[]);
        let after = portion.map(|batch| batch.chunks[0].after.clone());
        assert_eq!(after, [vec![last], vec![], vec![]]);
    }

    #[test]
    fn what_is_on_time_is_left_alone() {
        let mut batches = [batch("j", 1, 1, &["a"]), batch("j", 2, 2, &["a"])];
        let before = batches.clone();
        Succession::default().arrange(&mut batches, &[]);
        assert_eq!(batches, before);
    }
}

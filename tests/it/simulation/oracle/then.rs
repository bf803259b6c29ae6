//! What jobs with two purposes keep to, also when something fails between the two.

use std::collections::BTreeMap;

use punctual_domain::{Item, ItemStatus};

use super::{
    super::{agents::Call, faulty_store::Kept},
    Judge, Key, key,
};

fn key_of(item: &Item) -> Key {
    (item.job_id.clone(), item.item_id.clone(), item.occurrence)
}

impl Judge<'_> {
    /// What the first purpose has made is kept before the second is called, is what the second is called with, and is not made
    /// again. One process works at a time, so no delivery goes on after the next has begun.
    pub(super) fn two_purposes(&mut self) {
        let mut kept: BTreeMap<Key, &Kept> = BTreeMap::new();
        let mut wrong = Vec::new();
        for one in &self.record.kept {
            let key = (one.job_id.clone(), one.item_id.clone(), one.occurrence);
            if let Some(before) = kept.insert(key, one) {
                let what = format!(
                    "{} in {} for {} was kept at {} and again at {}",
                    one.item_id, one.job_id, one.occurrence, before.at, one.at
                );
                wrong.push((one.item_id.clone(), what));
            }
        }
        for Call { at, item } in &self.record.calls {
            if let Some(kept) = kept.get(&key_of(item)).filter(|kept| kept.at < *at) {
                let what = format!(
                    "{} was called in {} for {} at {at}, though its output was kept at {}",
                    item.item_id, item.job_id, item.occurrence, kept.at
                );
                wrong.push((item.item_id.clone(), what));
            }
        }
        for Call { at, item } in &self.record.sent {
            let kept = kept.get(&key_of(item)).filter(|kept| kept.at <= *at);
            let is_right = item.written.as_ref() == kept.map(|kept| &kept.output)
                && item.written.is_some()
                && item.idempotency_key().ends_with("/then");
            if !is_right {
                let what = format!(
                    "{} was called second in {} for {} at {at} with {:?}, and {kept:?} was kept",
                    item.item_id, item.job_id, item.occurrence, item.written
                );
                wrong.push((item.item_id.clone(), what));
            }
        }
        for commit in &self.record.commits {
            let two = kept.contains_key(&key(commit));
            let output = commit.result.output.as_ref();
            let has_both = output.is_some_and(|output| {
                output.get("written").is_some() && output.get("then").is_some()
            });
            if commit.result.status == ItemStatus::Succeeded && two != has_both {
                let (tenant, occurrence) = (&commit.result.item_id, commit.occurrence);
                let what = format!(
                    "{tenant} succeeded in {} for {occurrence} with {output:?}",
                    commit.job_id
                );
                wrong.push((tenant.clone(), what));
            }
        }
        wrong.into_iter().for_each(|(tenant, what)| {
            self.complain("what was kept is not made again", &tenant, what);
        });
    }
}

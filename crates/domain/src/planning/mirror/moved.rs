//! What an edit of the job file does to the tenants: those who were still to come run, even where the new time is past.

use std::{borrow::Borrow, collections::HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Mirror, packed::Packed, schedules::Schedules, since::Since};
use crate::{
    planning::{
        placement::{Placement, still_to_come},
        position::Position,
        spread::spread_minute,
    },
    preference::{change::PreferenceRecord, effective::MergedPreference, stored::Preference},
};

impl Mirror {
    /// Plans now what was still to come while the job placed its tenants as in `before`, and whose time, as the job places
    /// them now, lies behind the position. `records` are those the mirror has just been filled with.
    ///
    /// Until the position only the old placement was in effect: what a tenant chose late asks for what was to come by that.
    pub fn moved_from<R: Borrow<PreferenceRecord>>(
        &mut self,
        before: &Placement,
        records: impl IntoIterator<Item = R>,
    ) {
        let Some(until) = self.position().map(Position::planned_until) else {
            return;
        };
        let mut schedules = Schedules::default();
        let mut due: HashMap<(Packed, u16, u32, Since), Option<DateTime<Utc>>> = HashMap::new();
        for record in records {
            let record = record.borrow();
            let Some(number) = self.tenants.find(&record.tenant_id) else {
                continue;
            };
            let Some(old) = self.slot_before(before, record, &mut schedules) else {
                self.late.remove(&number);
                continue;
            };
            let old_minute = spread_minute(&record.tenant_id, before.spread_minutes);
            let old_spread = TimeDelta::minutes(old_minute.into());
            let row = self.tenants.row(number);
            let group = row.link.group;
            if let Some(late) = self.late.get_mut(&number)
                && let Some(chosen) = late.chosen
            {
                late.chosen = still_to_come(
                    (&self.groups.unpack(old), old_spread),
                    (&self.groups.slot(group), self.groups.spread(group)),
                    chosen - TimeDelta::seconds(1),
                    until,
                );
            }
            // Most count from long ago, and then it makes no difference since when.
            let since = match row.since.instant() {
                Some(since) if since > until => row.since,
                _ => Since::LONG_AGO,
            };
            let key = (old, old_minute, group, since);
            let due_at = *due.entry(key).or_insert_with(|| {
                let since = since.instant().map(|since| since - TimeDelta::seconds(1));
                still_to_come(
                    (&self.groups.unpack(old), old_spread),
                    (&self.groups.slot(group), self.groups.spread(group)),
                    until.max(since.unwrap_or(until)),
                    until,
                )
            });
            if due_at.is_some() {
                self.late.entry(number).or_default().moved = due_at;
            }
        }
        self.forget_slots();
    }

    /// The slot that a preference came to before; `None` when it was off or could not be used.
    fn slot_before(
        &mut self,
        before: &Placement,
        record: &PreferenceRecord,
        schedules: &mut Schedules,
    ) -> Option<Packed> {
        if let Some(known) = schedules.find(&record.preference) {
            return known;
        }
        let slot = Preference::parse(&record.preference)
            .and_then(|stored| {
                MergedPreference::merge(&stored, &before.defaults, &before.default_zone)
            })
            .ok()
            .filter(|merged| merged.enabled)
            .map(|merged| self.groups.pack(&merged.slot));
        schedules.remember(slot);
        slot
    }
}

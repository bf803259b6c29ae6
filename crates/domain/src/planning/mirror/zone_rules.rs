//! What other rules of time zones do to the tenants: those who were still to come run, even where the new time is past.

use chrono::TimeDelta;

use super::{Mirror, groups::NONE};
use crate::{
    planning::{placement::still_to_come, position::Position},
    time::{slot::Slot, zone::Zone, zone_differences::first_difference},
};

/// Where clocks agree for so long before and after the position, no run has moved across it: a spread is a day at most, and a date
/// begins and ends in one zone a day before or after another.
const NEAR: TimeDelta = TimeDelta::days(7);

impl Mirror {
    /// Has the slots follow these rules: pass what reads a zone by name. Until then they follow those with which they were taken
    /// up. What was still to come, and whose time lies behind the position by the new rules, is planned now. A zone that the rules
    /// lack stays as it is. Returns whether the rules of any zone differ from what they were.
    pub fn take_zone_rules(&mut self, rules: impl Fn(&str) -> Option<Zone>) -> bool {
        let mut before = self.groups.take_zone_rules(rules);
        if before.is_empty() {
            return false;
        }
        let Some(until) = self.position().map(Position::planned_until) else {
            return true;
        };
        // Most releases change what is long past, or months ahead.
        let near = until.checked_sub_signed(NEAR);
        if let Some((from, to)) = near.zip(until.checked_add_signed(NEAR)) {
            before.retain(|new, old| first_difference(old, new, from, to).is_some());
        }
        if before.is_empty() {
            return true;
        }
        for group in self.groups.numbers() {
            let Some(zone) = before.get(self.groups.zone(group)) else {
                continue;
            };
            let (new, spread) = (self.groups.slot(group), self.groups.spread(group));
            let old = Slot {
                zone: zone.clone(),
                ..new.clone()
            };
            let moved = still_to_come((&old, spread), (&new, spread), until, until);
            let Some(moved) = moved else {
                continue;
            };
            let mut tenant = self.groups.first_member(group);
            while tenant != NONE {
                // Whose schedule counts only from now on has nothing behind it.
                let since = self.tenants.since(tenant).instant();
                if since.is_none_or(|since| since <= until) {
                    self.late.entry(tenant).or_default().moved = Some(moved);
                }
                tenant = self.tenants.after(tenant);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, Utc};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        ids::TenantId,
        planning::{catch_up::CatchUp, mirror::update::Reading, planner::plan_mirror},
        preference::{change::PreferenceRecord, stored::Preference},
    };

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// A tenant in Berlin who runs daily at this time, on the dates that `bounds` count.
    fn berliner(time: &str, since: Option<&str>, bounds: &Value) -> PreferenceRecord {
        let mut preference = json!({"enabled": true, "frequency": "daily", "preferred_time": time,
            "timezone": "Europe/Berlin"});
        let fields = preference.as_object_mut().unwrap();
        fields.extend(bounds.as_object().unwrap().clone());
        PreferenceRecord {
            tenant_id: TenantId::new(format!("at-{time}")).unwrap(),
            preference: Arc::new(fields.clone()),
            updated_at: Some(at("2026-01-01T00:00:00Z")),
            schedule_since: since.map(at),
            organization: None,
        }
    }

    /// A mirror of tenants in Berlin who run daily at these times, planned until then.
    fn berliners(times: &[&str], planned_until: &str, since: Option<&str>) -> Mirror {
        let record = |time: &&str| berliner(time, since, &json!({}));
        let records: Vec<_> = times.iter().map(record).collect();
        let mut mirror = Mirror::new(Preference::default(), Zone::utc(), 0);
        mirror.replace(&records, Reading::first(at("2026-12-31T00:00:00Z")));
        mirror.set_planned_until(at(planned_until));
        mirror
    }

    /// Has Berlin follow the rules of another zone.
    fn as_in(mirror: &mut Mirror, other: &str) -> bool {
        mirror.take_zone_rules(|name| {
            let name = if name == "Europe/Berlin" { other } else { name };
            name.parse().ok()
        })
    }

    fn planned(mirror: &mut Mirror, to: &str) -> Vec<String> {
        let groups = plan_mirror(mirror, CatchUp::default(), at(to));
        mirror.set_planned_until(at(to));
        let line = |tenant: &TenantId, group: &crate::DueGroup| {
            let (date, due) = (group.occurrence, group.scheduled_at.format("%H:%M"));
            format!("{tenant} {date} {due}")
        };
        let lines = groups
            .iter()
            .flat_map(|group| group.tenants.iter().map(move |tenant| line(tenant, group)));
        lines.collect()
    }

    #[test]
    fn an_hour_that_comes_earlier_loses_no_run() {
        // It is 08:30 in Berlin, and from now on 09:30.
        let mut mirror = berliners(&["08:00", "09:00", "10:00"], "2026-02-02T07:30:00Z", None);
        assert!(as_in(&mut mirror, "Africa/Cairo"));
        assert_eq!(mirror.next_due(), Some(at("2026-02-02T08:00:00Z")));
        assert_eq!(
            planned(&mut mirror, "2026-02-02T07:30:01Z"),
            ["at-09:00 2026-02-02 07:00"]
        );
        assert_eq!(
            planned(&mut mirror, "2026-02-03T07:30:00Z"),
            [
                "at-10:00 2026-02-02 08:00",
                "at-08:00 2026-02-03 06:00",
                "at-09:00 2026-02-03 07:00"
            ]
        );
        assert!(!as_in(&mut mirror, "Africa/Cairo"), "they are in effect");
    }

    #[test]
    fn an_hour_that_comes_later_moves_what_was_still_to_come() {
        // It is 08:30 in Berlin, and from now on 07:30: what ran at 08:00 falls due again, for the same date.
        let mut mirror = berliners(&["08:00", "09:00"], "2026-02-02T07:30:00Z", None);
        assert!(as_in(&mut mirror, "Europe/London"));
        assert_eq!(
            planned(&mut mirror, "2026-02-02T09:00:00Z"),
            ["at-08:00 2026-02-02 08:00", "at-09:00 2026-02-02 09:00"]
        );
    }

    #[test]
    fn who_began_after_the_new_time_does_not_run_for_it() {
        let since = Some("2026-02-02T07:45:00Z");
        let mut mirror = berliners(&["09:00"], "2026-02-02T07:30:00Z", since);
        assert!(as_in(&mut mirror, "Africa/Cairo"));
        assert_eq!(
            planned(&mut mirror, "2026-02-03T06:59:59Z"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn rules_that_are_the_same_or_missing_change_nothing() {
        let mut mirror = berliners(&["09:00"], "2026-02-02T07:30:00Z", None);
        assert!(!as_in(&mut mirror, "Europe/Berlin"));
        assert!(!mirror.take_zone_rules(|_| None));
        assert_eq!(mirror.next_due(), Some(at("2026-02-02T08:00:00Z")));
        // Other zones stay where they are.
        let mut elsewhere = Mirror::new(Preference::default(), Zone::utc(), 0);
        assert!(!as_in(&mut elsewhere, "Africa/Cairo"));
    }

    #[test]
    fn all_in_a_zone_follow_the_same_rules_also_who_comes_later() {
        let mut mirror = berliners(&["08:00"], "2026-02-02T07:30:00Z", None);
        assert!(as_in(&mut mirror, "Africa/Cairo"));
        // The process still has other rules for Berlin. One of these tenants has a slot that is kept whole.
        let came = [
            berliner("11:00", None, &json!({})),
            berliner("12:00", None, &json!({"start_date": "2026-01-01"})),
        ];
        mirror.take_page(&came, Reading::first(at("2026-02-02T07:31:00Z")));
        let new = [
            "at-11:00 2026-02-02 09:00",
            "at-12:00 2026-02-02 10:00",
            "at-08:00 2026-02-03 06:00",
        ];
        assert_eq!(planned(&mut mirror, "2026-02-03T06:30:00Z"), new);
        assert!(as_in(&mut mirror, "Europe/Berlin"));
        let old = [
            "at-08:00 2026-02-03 07:00",
            "at-11:00 2026-02-03 10:00",
            "at-12:00 2026-02-03 11:00",
        ];
        assert_eq!(planned(&mut mirror, "2026-02-03T12:00:00Z"), old);
    }

    #[test]
    fn rules_that_differ_in_another_season_move_nothing_now() {
        let mut mirror = berliners(&["08:00", "09:00"], "2026-02-02T07:30:00Z", None);
        assert!(as_in(&mut mirror, "Africa/Algiers"));
        assert_eq!(
            planned(&mut mirror, "2026-02-02T09:00:00Z"),
            ["at-09:00 2026-02-02 08:00"]
        );
        assert!(as_in(&mut mirror, "Europe/Berlin"));
        mirror.set_planned_until(at("2026-07-01T05:30:00Z"));
        assert!(as_in(&mut mirror, "Africa/Algiers"));
        assert_eq!(
            planned(&mut mirror, "2026-07-01T08:00:00Z"),
            ["at-08:00 2026-07-01 07:00", "at-09:00 2026-07-01 08:00"]
        );
    }
}

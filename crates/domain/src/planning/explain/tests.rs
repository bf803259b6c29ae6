use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::ids::TenantId;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn choice(preference: Value, stored_at: &str) -> Choice {
    let record = PreferenceRecord {
        tenant_id: TenantId::new("a").unwrap(),
        preference: Arc::new(preference.as_object().unwrap().clone()),
        updated_at: Some(at(stored_at)),
        schedule_since: None,
        organization: None,
    };
    Choice::of(
        &record,
        &Preference::default(),
        &Zone::utc(),
        TimeDelta::zero(),
    )
}

fn daily() -> Choice {
    let daily = json!({"enabled": true, "frequency": "daily", "timezone": "Asia/Tokyo"});
    choice(daily, "2026-01-01T00:00:00Z")
}

fn facts(choice: Choice) -> Facts<'static> {
    Facts {
        choice,
        catch_up: CatchUp::default(),
        date: None,
        now: at("2026-03-02T12:00:00Z"),
        paused: false,
        paused_when_due: false,
        planned_until: Some(at("2026-03-02T12:00:00Z")),
        began: None,
        run: None,
        behind: None,
    }
}

#[test]
fn every_reason_reads_as_a_sentence() {
    let weekly = json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday"});
    let late = json!({"enabled": true, "frequency": "daily"});
    for (facts, sentence) in [
        (
            facts(Choice::Unknown),
            "unknown: the preference has not been read",
        ),
        (facts(Choice::Missing), "has never set this feature up"),
        (
            facts(choice(
                json!({"enabled": false, "frequency": "daily"}),
                "2026-01-01T00:00:00Z",
            )),
            "disabled",
        ),
        (
            facts(choice(json!({"enabled": true}), "2026-01-01T00:00:00Z")),
            "quarantined: the preference cannot be used: /frequency: is missing",
        ),
        (
            facts(choice(weekly, "2026-01-01T00:00:00Z")),
            "not due on that date; due next at 2026-03-06 09:00:00 UTC",
        ),
        (
            facts(choice(late, "2026-03-02T10:00:00Z")),
            "not run: the schedule was chosen at 2026-03-02 10:00:00 UTC, after the run was due \
             at 2026-03-02 09:00:00 \
             UTC; due next at 2026-03-03 09:00:00 UTC",
        ),
        (
            facts(daily()),
            "missed: the agent did not plan it at 2026-03-02 00:00:00 UTC, and this job's catch_up is latest; due next at 2026-03-03 \
             00:00:00 UTC",
        ),
        (
            Facts {
                paused: true,
                ..facts(daily())
            },
            "not run: the job is paused, and its run at 2026-03-02 00:00:00 UTC is skipped",
        ),
        (
            Facts {
                paused_when_due: true,
                ..facts(daily())
            },
            "not run: the job was paused at 2026-03-02 00:00:00 UTC; due next at 2026-03-03 00:00:00 UTC",
        ),
        (
            Facts {
                began: Some(at("2026-03-02T08:00:00Z")),
                ..facts(daily())
            },
            "not run: due at 2026-03-02 00:00:00 UTC, before the job began (or was last edited or paused) at \
             2026-03-02 08:00:00 UTC; due next at 2026-03-03 00:00:00 UTC",
        ),
        (
            Facts {
                planned_until: None,
                ..facts(daily())
            },
            "due at 2026-03-02 00:00:00 UTC and not planned yet",
        ),
        (
            Facts {
                date: Some("2026-03-03".parse().unwrap()),
                ..facts(daily())
            },
            "will run: due at 2026-03-03 00:00:00 UTC",
        ),
        (
            Facts {
                behind: Some(7),
                ..facts(daily())
            },
            "due at 2026-03-02 00:00:00 UTC, waiting in the queue behind 7 items",
        ),
    ] {
        let text = explain(&facts).to_string();
        assert!(text.starts_with(sentence), "{text}");
    }
}

#[test]
fn a_run_that_had_nothing_to_do_says_why() {
    let run = ItemResult {
        item_id: TenantId::new("a").unwrap().into(),
        status: ItemStatus::NothingToDo,
        failure_kind: None,
        attempts: 1,
        preference: None,
        output: None,
        error: Some("no new posts".into()),
        started_at: at("2026-03-02T00:00:01Z"),
        finished_at: Some(at("2026-03-02T00:00:02Z")),
        waiting: None,
    };
    let facts = Facts {
        run: Some(&run),
        ..facts(daily())
    };
    assert_eq!(
        explain(&facts).to_string(),
        "ran, nothing to do: no new posts; done at 2026-03-02 00:00:02 UTC"
    );
}

#[test]
fn a_run_that_waits_says_until_when_and_how_far_it_has_come() {
    let since = at("2026-03-02T00:00:02Z");
    let mut run = ItemResult {
        item_id: TenantId::new("a").unwrap().into(),
        status: ItemStatus::Waiting,
        failure_kind: None,
        attempts: 1,
        preference: None,
        output: None,
        error: None,
        started_at: at("2026-03-02T00:00:01Z"),
        finished_at: None,
        waiting: Some(WaitingStatus {
            since,
            until: at("2026-03-03T00:00:02Z"),
            progress: None,
        }),
    };
    let text = |run: &ItemResult| {
        let facts = Facts {
            run: Some(run),
            ..facts(daily())
        };
        explain(&facts).to_string()
    };
    let waits =
        "waits for a completion until 2026-03-03 00:00:02 UTC, since 2026-03-02 00:00:02 UTC";
    assert_eq!(text(&run), waits);
    let note = "3 of 7 videos".to_owned();
    let progress = Some(Progress { note, at: since });
    run.waiting = run.waiting.map(|waiting| WaitingStatus {
        progress,
        ..waiting
    });
    assert_eq!(
        text(&run),
        format!("{waits}; its worker says: 3 of 7 videos")
    );
}

#[test]
fn a_failure_says_what_did_not_work() {
    for (failure_kind, text) in [
        (None, "failed after 3 attempts: data: busy"),
        (
            Some(FailureKind::Handler),
            "failed after 3 attempts: data: busy",
        ),
        (
            Some(FailureKind::Data),
            "failed after 3 attempts to fetch its data: busy",
        ),
    ] {
        let run = ItemResult {
            item_id: TenantId::new("a").unwrap().into(),
            status: ItemStatus::Failed,
            failure_kind,
            attempts: 3,
            preference: None,
            output: None,
            error: Some("data: busy".into()),
            started_at: at("2026-03-02T00:00:01Z"),
            finished_at: Some(at("2026-03-02T00:00:02Z")),
            waiting: None,
        };
        let facts = Facts {
            run: Some(&run),
            ..facts(daily())
        };
        assert_eq!(explain(&facts).to_string(), text);
    }
}

#[test]
fn a_date_is_meant_where_the_tenant_is_and_the_last_of_several_that_passed() {
    // At noon in UTC it is the evening of the 2nd in Tokyo.
    let now = at("2026-03-02T12:00:00Z");
    let occasion = daily().occasion(None, now).unwrap();
    assert_eq!(occasion.due_at, at("2026-03-02T00:00:00Z"));
    assert_eq!(occasion.occurrence.to_string(), "2026-03-02");
    let evening = daily().occasion(None, at("2026-03-02T16:00:00Z")).unwrap();
    assert_eq!(evening.occurrence.to_string(), "2026-03-03");

    let hourly = json!({"enabled": true, "frequency": "hourly", "preferred_time": "00:30"});
    let hourly = choice(hourly, "2026-01-01T00:00:00Z");
    assert_eq!(
        hourly.occasion(None, now).unwrap().due_at,
        at("2026-03-02T11:30:00Z")
    );
    let tomorrow = hourly.occasion(Some("2026-03-03".parse().unwrap()), now);
    assert_eq!(tomorrow.unwrap().due_at, at("2026-03-03T00:30:00Z"));
}

#[test]
fn an_occurrence_is_missed_only_after_the_job_began() {
    let due_at = at("2026-03-02T00:00:00Z");
    for minutes in -90..90 {
        for planned_until in [None, Some(at("2026-03-02T12:00:00Z"))] {
            let began = due_at + TimeDelta::minutes(minutes);
            let facts = Facts {
                began: Some(began),
                planned_until,
                ..facts(daily())
            };
            match explain(&facts) {
                Verdict::JobNotBegun { due_at: due, .. } => assert!(due == due_at && due <= began),
                Verdict::Missed { .. } => assert!(due_at > began && planned_until.is_some()),
                Verdict::DueNow { .. } => assert!(due_at > began && planned_until.is_none()),
                other => panic!("{minutes}: {other}"),
            }
            let paused_when_due = Facts {
                paused_when_due: true,
                planned_until: Some(facts.now),
                ..facts
            };
            let verdict = explain(&paused_when_due);
            assert!(matches!(verdict, Verdict::JobWasPaused { .. }), "{verdict}");
        }
    }
}

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
        used: BTreeSet::new(),
    }
}

/// A run of `a` at midnight in UTC, which has ended.
fn ended(status: ItemStatus, error: Option<&str>) -> ItemResult {
    ItemResult {
        item_id: TenantId::new("a").unwrap().into(),
        status,
        failure_kind: None,
        attempts: 1,
        preference: None,
        output: None,
        error: error.map(str::to_owned),
        started_at: at("2026-03-02T00:00:01Z"),
        finished_at: Some(at("2026-03-02T00:00:02Z")),
        waiting: None,
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
        (facts(Choice::Missing), "has no preference for this feature"),
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
        (
            Facts {
                behind: Some(7),
                paused: true,
                ..facts(daily())
            },
            "due at 2026-03-02 00:00:00 UTC, waiting in the queue behind 7 items; the job is paused, and the run waits until \
             it is resumed",
        ),
    ] {
        let text = explain(&facts).to_string();
        assert!(text.starts_with(sentence), "{text}");
    }
}

#[test]
fn a_run_that_has_ended_says_when_the_next_one_is_due() {
    for (status, sentence) in [
        (
            ItemStatus::Succeeded,
            "ran, done at 2026-03-02 00:00:02 UTC",
        ),
        (
            ItemStatus::NothingToDo,
            "ran, nothing to do: why; done at 2026-03-02 00:00:02 UTC",
        ),
        (ItemStatus::Failed, "failed at the first attempt: why"),
        (ItemStatus::Skipped, "skipped: why"),
    ] {
        let run = ended(status, Some("why"));
        let of_run = |choice| Facts {
            run: Some(&run),
            ..facts(choice)
        };
        let verdict = explain(&of_run(daily())).to_string();
        assert_eq!(
            verdict,
            format!("{sentence}; due next at 2026-03-03 00:00:00 UTC")
        );
        let paused = Facts {
            paused: true,
            ..of_run(daily())
        };
        for (facts, held_back) in [
            (paused, "now the job is paused"),
            (
                of_run(Choice::Missing),
                "now has no preference for this feature",
            ),
            (
                of_run(Choice::Off),
                "now disabled: the preference is switched off",
            ),
        ] {
            let verdict = explain(&facts);
            assert_eq!(verdict.to_string(), sentence, "nothing is due next");
            assert_eq!(facts.held_back(&verdict).as_deref(), Some(held_back));
        }
    }
}

#[test]
fn what_holds_a_run_back_is_said_once() {
    for facts in [
        facts(Choice::Off),
        facts(daily()),
        Facts {
            paused: true,
            ..facts(daily())
        },
    ] {
        assert_eq!(facts.held_back(&explain(&facts)), None, "{facts:?}");
    }
}

#[test]
fn an_occurrence_that_was_used_is_not_due_next_at_another_time_of_its_date() {
    let later = json!({"enabled": true, "frequency": "daily", "preferred_time": "23:00"});
    let later = choice(later, "2026-03-02T11:00:00Z");
    let (used, now) = (["2026-03-02", "2026-03-03"], at("2026-03-02T12:00:00Z"));
    for (used, day) in [(&used[..0], 2), (&used[..1], 3), (&used[..], 4)] {
        let used: BTreeSet<Occurrence> = used.iter().map(|key| key.parse().unwrap()).collect();
        let next = at(&format!("2026-03-0{day}T23:00:00Z"));
        assert_eq!(later.next_run(now, &used), Some(next));
    }
    // Of two times on a date, only the first was used.
    let twice =
        json!({"enabled": true, "frequency": "daily", "preferred_time": ["10:00", "23:00"]});
    let twice = choice(twice, "2026-01-01T00:00:00Z");
    let used = BTreeSet::from(["2026-03-02".parse::<Occurrence>().unwrap()]);
    assert_eq!(twice.next_run(now, &used), Some(at("2026-03-02T23:00:00Z")));
    assert_eq!(Choice::Off.next_run(now, &used), None);
}

#[test]
fn a_run_that_had_nothing_to_do_says_why() {
    let run = ended(ItemStatus::NothingToDo, Some("no new posts"));
    let facts = Facts {
        run: Some(&run),
        ..facts(daily())
    };
    assert_eq!(
        explain(&facts).to_string(),
        "ran, nothing to do: no new posts; done at 2026-03-02 00:00:02 UTC; due next at 2026-03-03 00:00:00 UTC"
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
            failure_kind,
            attempts: 3,
            ..ended(ItemStatus::Failed, Some("data: busy"))
        };
        let facts = Facts {
            run: Some(&run),
            ..facts(daily())
        };
        let next = "due next at 2026-03-03 00:00:00 UTC";
        assert_eq!(explain(&facts).to_string(), format!("{text}; {next}"));
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

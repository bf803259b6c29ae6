//! The operator over fakes, on a clock that a test moves.

use chrono::TimeDelta;
use punctual_domain::{
    DeadLetterState, FeatureType, Firing, ItemStatus, Origin, PreferenceRecord, PurposeId,
    StoredPosition, TenantId, Verdict,
};
use serde_json::json;

use super::*;
use crate::{
    Binding, PurposeLimits,
    ports::{AuditFilter, MockPurposeHandler, Page, PauseCause},
    services::schedule_status::SchedulerStatus,
    testing::{self, FakeConfigDatabase, FakeStore, record},
};

mod acknowledgements;
mod cancelled;
mod edited;
mod fixed_jobs;
mod overdue;
mod past_runs;
mod preparation;
mod preview;
mod replays;
mod restored;
mod retention;
mod settled;

fn operator(store: &Arc<FakeStore>) -> Operator {
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
        "preference_based": true, "feature_type": "posts"}]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    testing::operator(store, jobs, "2026-03-01T09:00:00Z")
}

fn actor() -> Actor {
    Actor::from("a test")
}

fn posts() -> JobId {
    JobId::new("posts").unwrap()
}

fn of(tenant: &str) -> TriggerRequest {
    TriggerRequest {
        tenants: Some([TenantId::new(tenant).unwrap()].into()),
        all: false,
        allow_unknown: true,
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_is_the_same_run_for_a_day() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let key = IdempotencyKey::new("monday").unwrap();
    let trigger = async |tenant: &str, key: Option<&IdempotencyKey>| {
        operator
            .trigger(&actor(), key, &posts(), &of(tenant))
            .await
            .map(|triggered| triggered.batch_id)
    };
    let first = trigger("ann", Some(&key)).await.unwrap();
    assert_eq!(trigger("ann", Some(&key)).await.unwrap(), first);
    assert_ne!(trigger("ann", None).await.unwrap(), first);
    let other = trigger("bob", Some(&key)).await.unwrap_err();
    assert!(matches!(other, OperatorError::Refused(_)), "{other:?}");
    assert_eq!(store.pending().len(), 2);

    let a_day = TimeDelta::hours(24) + TimeDelta::seconds(1);
    tokio::time::sleep(a_day.to_std().unwrap()).await;
    assert_ne!(trigger("ann", Some(&key)).await.unwrap(), first);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_changes_nothing_and_may_be_corrected_under_its_key() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let key = IdempotencyKey::new("monday").unwrap();
    let no_tenants = TriggerRequest {
        tenants: Some(BTreeSet::new()),
        ..of("ann")
    };
    let mistyped = TriggerRequest {
        allow_unknown: false,
        ..of("ann")
    };
    for (request, invalid) in [(&no_tenants, true), (&mistyped, false)] {
        let refused = operator
            .trigger(&actor(), Some(&key), &posts(), request)
            .await
            .unwrap_err();
        assert_eq!(matches!(refused, OperatorError::Invalid(_)), invalid);
    }
    let missing = operator.pause(&actor(), &JobId::new("none").unwrap()).await;
    assert!(matches!(missing, Err(OperatorError::NotFound(_))));
    let (entries, _) = store
        .audit_log(&AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(entries, []);

    let corrected = operator
        .trigger(&actor(), Some(&key), &posts(), &of("ann"))
        .await;
    assert_eq!(corrected.unwrap().total, 1);
}

#[tokio::test(start_paused = true)]
async fn who_asked_is_written_down_before_it_is_done() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    operator.pause(&actor(), &posts()).await.unwrap();
    let tenant = TenantId::new("ann").unwrap();
    let explained = operator.explain(&tenant, &posts(), None).await.unwrap();
    assert_eq!(explained.verdict, Verdict::Unknown, "nothing is known yet");
    let triggered = operator.trigger(&actor(), None, &posts(), &of("ann")).await;
    let batch_id = triggered.unwrap().batch_id;
    operator.cancel(&actor(), batch_id).await.unwrap();

    let (entries, _) = store
        .audit_log(&AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["cancel", "trigger", "pause"]);
    assert!(entries.iter().all(|entry| entry.by == "a test"));
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// An operator of a job that serves Ann at 9:00 each day, cannot use what Bad has stored, and has not read what Unread has.
fn serving(store: &Arc<FakeStore>) -> Operator {
    let config_database = FakeConfigDatabase::default();
    config_database.put(record(
        "off",
        json!({"enabled": false, "frequency": "daily"}),
    ));
    config_database.put(record(
        "unread",
        json!({"enabled": true, "frequency": "daily"}),
    ));
    let operator = Operator {
        preferences: Arc::new(config_database),
        ..operator(store)
    };
    let daily = json!({"enabled": true, "frequency": "daily"});
    let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "nine"});
    let records = [record("ann", daily), record("bad", broken)];
    testing::schedule(&operator, &posts(), &records);
    operator
}

#[tokio::test(start_paused = true)]
async fn a_backfill_is_counted_then_queued_once_for_a_key() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let key = IdempotencyKey::new("february").unwrap();
    let request = |preview: bool, tenant: Option<&str>| BackfillRequest {
        from: "2026-02-26".parse().unwrap(),
        to: "2026-02-28".parse().unwrap(),
        tenants: tenant.map(|tenant| [TenantId::new(tenant).unwrap()].into()),
        all: false,
        allow_unknown: false,
        preview,
    };
    let backfill = async |request: &BackfillRequest| {
        operator
            .backfill(&actor(), Some(&key), &posts(), request)
            .await
    };
    let counted = backfill(&request(true, None)).await.unwrap().count;
    assert_eq!((counted.due, counted.to_run, counted.batches), (3, 3, 3));
    assert!(store.pending().is_empty(), "it was only counted");
    let queued = backfill(&request(false, None)).await.unwrap();
    let pending = store.pending().into_iter();
    let pending: Vec<_> = pending.map(|chunk| chunk.batch_id).collect();
    assert_eq!((pending.len(), queued.preview), (3, false));
    let ids = queued.count.batch_ids.iter();
    assert!(
        pending
            .iter()
            .all(|id| ids.clone().any(|queued| queued == id))
    );
    let again = backfill(&request(false, None)).await.unwrap();
    assert_eq!(again, queued);
    let count = BackfillCount {
        batch_ids: Vec::new(),
        ..queued.count
    };
    assert_eq!(count, counted);
    assert_eq!(store.pending().len(), 3);

    let named = backfill(&request(true, Some("ann"))).await.unwrap();
    assert_eq!(named.count.due, 3);
    let unknown = backfill(&request(true, Some("unknown"))).await;
    assert!(matches!(unknown, Err(OperatorError::Refused(_))));
    let allowed = BackfillRequest {
        allow_unknown: true,
        ..request(true, Some("unknown"))
    };
    assert_eq!(backfill(&allowed).await.unwrap().count.due, 3);
    let off = backfill(&request(true, Some("off"))).await.unwrap_err();
    assert!(
        off.to_string().contains("off is not scheduled in posts"),
        "{off}"
    );
    let to_come = BackfillRequest {
        from: "2026-03-02".parse().unwrap(),
        to: "2026-03-03".parse().unwrap(),
        ..request(true, None)
    };
    let to_come = backfill(&to_come).await;
    assert!(matches!(to_come, Err(OperatorError::Invalid(_))));

    operator.status.publish(SchedulerStatus::default());
    let unread = backfill(&request(true, None)).await;
    assert!(matches!(unread, Err(OperatorError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_run_for_all_tenants_waits_until_it_is_known_who_they_are() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let mut status = (*operator.status.get()).clone();
    let all = TriggerRequest {
        all: true,
        ..TriggerRequest::default()
    };
    let trigger = async || operator.trigger(&actor(), None, &posts(), &all).await;
    assert_eq!(trigger().await.unwrap().total, 1);
    operator.status.publish(SchedulerStatus::default());
    let unread = "the preferences of posts have not been read yet";
    let soon = trigger().await.unwrap_err();
    assert_eq!(
        soon.to_string(),
        format!("{unread}; try again in a few seconds")
    );
    let known = status.jobs.get_mut(&posts()).unwrap();
    (known.loaded, known.trouble) = (false, Some("crm.example:443 is down".to_owned()));
    operator.status.publish(status);
    let down = trigger().await.unwrap_err();
    assert!(matches!(down, OperatorError::Unavailable(_)), "{down:?}");
    assert_eq!(
        down.to_string(),
        format!("{unread}: crm.example:443 is down")
    );

    // None at all is something else.
    testing::schedule(&operator, &posts(), &[]);
    let nothing = trigger().await.unwrap_err();
    assert!(matches!(nothing, OperatorError::Invalid(_)), "{nothing:?}");
}

fn everything() -> DeadLetterSelection {
    DeadLetterSelection {
        all: true,
        ..DeadLetterSelection::default()
    }
}

/// Runs for a tenant, and has all that is queued fail for good.
async fn fail(operator: &Operator, store: &FakeStore, tenant: &str) {
    let now = operator.clock.now();
    operator
        .trigger(&actor(), None, &posts(), &of(tenant))
        .await
        .unwrap();
    store.end_all(ItemStatus::Failed, now).await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_replayed_or_discarded_and_refused_without_a_change() {
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = serving(&store);
    for tenant in ["ann", "bob"] {
        fail(&operator, &store, tenant).await;
    }
    let all = DeadLetterSelection {
        all: true,
        ..DeadLetterSelection::default()
    };
    let both = DeadLetterSelection {
        job_id: Some(posts()),
        ..all.clone()
    };
    let replay = async |operator: &Operator, selection: &DeadLetterSelection| {
        operator.replay(&actor(), None, selection).await
    };
    let unclear = replay(&operator, &both).await;
    assert!(matches!(unclear, Err(OperatorError::Invalid(_))));

    // Nothing runs them: named ones are refused, and of all they are left out.
    let one = replay(&operator, &DeadLetterSelection::one(1)).await;
    assert!(matches!(one, Err(OperatorError::Conflict(_))));
    let of_job = DeadLetterSelection {
        job_id: Some(posts()),
        ..DeadLetterSelection::default()
    };
    let of_job = replay(&operator, &of_job).await;
    assert!(matches!(of_job, Err(OperatorError::Conflict(_))));
    let report = replay(&operator, &all).await.unwrap();
    assert_eq!((report.replayed, report.left_out[0].dead_letters), (0, 2));

    let mut handlers = Handlers::default();
    let purpose = PurposeId::new("p").unwrap();
    let handler = Arc::new(MockPurposeHandler::new());
    handlers.bind(purpose, handler, Handlers::DEFAULT_TIMEOUT);
    operator.handlers = handlers;
    let two = DeadLetterSelection {
        ids: Some([1, 9].into()),
        ..DeadLetterSelection::default()
    };
    let report = replay(&operator, &two).await.unwrap();
    assert_eq!((report.replayed, report.batches.len()), (1, 1));
    assert_eq!(report.not_open, [9].into());
    let again = replay(&operator, &DeadLetterSelection::one(1)).await;
    assert!(matches!(again, Err(OperatorError::NotFound(_))));

    let tenant = DeadLetterSelection {
        tenant_id: Some(TenantId::new("bob").unwrap()),
        ..DeadLetterSelection::default()
    };
    let discarded = operator.discard(&actor(), None, &tenant).await.unwrap();
    assert_eq!((discarded.discarded, discarded.not_open.len()), (1, 0));
    let (entries, _) = store
        .audit_log(&AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    assert_eq!(entries[0].detail, "all of tenant bob that are open");
    assert_eq!(entries[1].detail, "2 of those that are open: 1, 9");
}

#[tokio::test(start_paused = true)]
async fn an_explanation_says_why_a_tenant_runs_or_does_not() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let explain = async |tenant: &str, date: Option<&str>| {
        let (tenant, date) = (TenantId::new(tenant).unwrap(), date.map(str::parse));
        operator
            .explain(&tenant, &posts(), date.map(Result::unwrap))
            .await
            .unwrap()
    };
    let tomorrow = Some("2026-03-02");
    let due_at = at("2026-03-02T09:00:00Z");
    let will_run = explain("ann", tomorrow).await;
    assert_eq!(will_run.verdict, Verdict::WillRun { due_at });
    assert_eq!(will_run.slot.as_deref(), Some("daily 09:00 UTC"));
    let missed = explain("ann", None).await.verdict;
    assert!(matches!(missed, Verdict::Missed { .. }), "{missed:?}");
    let unread = explain("unread", None).await.verdict;
    assert!(matches!(unread, Verdict::DueNow { .. }), "{unread:?}");
    let quarantined = explain("bad", None).await.verdict;
    assert!(matches!(quarantined, Verdict::Quarantined { .. }));
    assert_eq!(explain("off", None).await.verdict, Verdict::Disabled);
    assert_eq!(explain("unknown", None).await.verdict, Verdict::NeverSeen);
    operator.pause(&actor(), &posts()).await.unwrap();
    let paused = explain("ann", tomorrow).await.verdict;
    assert_eq!(paused, Verdict::JobPaused { due_at });
    operator.resume(&actor(), &posts()).await.unwrap();

    let (entries, count) = operator.quarantined(None, 0, 10);
    assert_eq!(
        (entries[0].tenant_id.as_ref().unwrap().as_str(), count),
        ("bad", 1)
    );
    let now = operator.clock.now();
    let due = operator.due_between(now, now + TimeDelta::days(2)).await;
    let first = DueItems {
        at: due_at,
        job_id: posts(),
        items: 1,
    };
    assert_eq!(due.into_iter().next(), Some(first));

    let began = operator.clock.now();
    let first_plan = StoredPosition {
        job_id: posts(),
        planned_until: began,
        high_water_mark: began,
        snapshot_at: None,
        began: Some(began),
        placement: None,
    };
    let first_plan = Firing {
        batches: Vec::new(),
        positions: vec![first_plan],
    };
    store.enqueue(first_plan, began).await.unwrap();
    let before_job = explain("ann", None).await.verdict;
    assert!(
        matches!(before_job, Verdict::JobNotBegun { .. }),
        "{before_job:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_effective_preference_says_where_it_comes_from_and_when_it_runs() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let job = operator.job(&posts()).unwrap();
    let effective = async |tenant: &str| {
        let tenant = TenantId::new(tenant).unwrap();
        operator.effective_preference(&job, &tenant, 2).await
    };
    let on = effective("unread").await.unwrap();
    assert_eq!(on.fields[1], ("frequency", json!("daily"), Origin::Tenant));
    let next = ["2026-03-02T09:00:00Z", "2026-03-03T09:00:00Z"].map(at);
    assert_eq!(on.next, next);
    assert!(effective("off").await.unwrap().next.is_empty());
    assert_eq!(effective("unknown").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_an_organization_gave_is_explained() {
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = operator(&store);
    let record = |tenant: &str, organization: Option<&str>| PreferenceRecord {
        organization: organization.map(|id| {
            let given = json!({"id": id, "fields": ["frequency"]});
            Arc::new(serde_json::from_value(given).unwrap())
        }),
        ..record(tenant, json!({"enabled": true, "frequency": "daily"}))
    };
    // The scheduler read two of them before they joined the organization that is stored.
    testing::schedule(
        &operator,
        &posts(),
        &[record("ann", Some("acme")), record("bob", None)],
    );
    let database = FakeConfigDatabase::default();
    for (tenant, organization) in [
        ("ann", "umbrella"),
        ("bob", "umbrella"),
        ("new", "umbrella"),
    ] {
        database.put(record(tenant, Some(organization)));
    }
    operator.preferences = Arc::new(database);
    let explained = async |tenant: &str| {
        let tenant = TenantId::new(tenant).unwrap();
        let explained = operator.explain(&tenant, &posts(), None).await.unwrap();
        explained.organization.map(|id| id.to_string())
    };
    assert_eq!(explained("ann").await.as_deref(), Some("acme"));
    assert_eq!(explained("bob").await, None);
    assert_eq!(explained("new").await.as_deref(), Some("umbrella"));
    assert_eq!(explained("unknown").await, None);

    let job = operator.job(&posts()).unwrap();
    let new = TenantId::new("new").unwrap();
    let effective = operator.effective_preference(&job, &new, 0).await.unwrap();
    assert_eq!(effective.organization.unwrap().as_str(), "umbrella");
    let origins: Vec<_> = effective
        .fields
        .iter()
        .map(|(name, _, origin)| (*name, *origin))
        .collect();
    assert_eq!(origins[0], ("enabled", Origin::Tenant));
    assert_eq!(origins[1], ("frequency", Origin::Organization));
    assert_eq!(origins[2], ("preferred_time", Origin::BuiltIn));
}

#[tokio::test(start_paused = true)]
async fn the_results_of_a_batch_are_summed_up_by_reason() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    fail(&operator, &store, "ann").await;
    let batch = operator.newest(None, 1).await.unwrap().remove(0);
    let results = async |batch_id, status| {
        let page = Page::default();
        operator.results(batch_id, status, &page).await
    };
    let failed = results(batch.batch_id, Some(ItemStatus::Failed)).await;
    let (failed, _) = failed.unwrap();
    let reason = failed[0].result.error.clone().unwrap();
    let reasons = operator.failure_reasons(&batch).await.unwrap();
    assert_eq!((failed.len(), reasons), (1, vec![(reason, 1)]));
    let unknown = results(uuid::Uuid::nil(), None).await;
    assert!(matches!(unknown, Err(OperatorError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn jobs_are_shown_with_what_is_known_of_them() {
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = serving(&store);
    let posts_only = operator.jobs().await.unwrap();
    let known = posts_only[0].preferences().unwrap();
    assert_eq!(
        (known.tenants, known.quarantined, known.loaded),
        (1, 1, true)
    );
    assert_eq!(known.slots[0].slot, "daily 09:00 UTC");
    assert_eq!(posts_only[0].next(), Some(at("2026-03-02T09:00:00Z")));
    assert_eq!(posts_only[0].schedule(), "as each tenant chose for posts");

    let jobs = json!({"jobs": [{"job_id": "report", "type": "object_batch", "purpose_id": "p",
        "schedule": {"frequency": "daily", "preferred_time": "06:00"}, "source": {"file": "products.csv"}}]});
    operator.jobs = Jobs::from(punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap());
    let report = JobId::new("report").unwrap();
    operator.pause(&actor(), &report).await.unwrap();
    let shown = operator.job_view(&report).await.unwrap();
    assert_eq!((shown.paused, shown.preferences()), (true, None));
    assert_eq!(shown.schedule(), "daily 06:00 UTC");
    assert_eq!(shown.next(), Some(at("2026-03-02T06:00:00Z")));
    let json = serde_json::to_value(&shown).unwrap();
    assert_eq!(serde_json::from_value::<JobView>(json).unwrap(), shown);
    assert!(operator.job_view(&posts()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_job_is_shown_with_its_limits_of_each_organization() {
    let mut operator = operator(&Arc::default());
    let limits = operator.job_view(&posts()).await.unwrap().limits;
    assert_eq!(limits.max_concurrent_items_per_organization, None);
    assert_eq!(limits.requests_per_minute_per_organization, None);

    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "write", "then": "send",
        "preference_based": true, "feature_type": "posts", "max_concurrent_items_per_organization": 5}]});
    operator.jobs = Jobs::from(punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap());
    let mut handlers = Handlers::default();
    for (purpose, requests, tokens) in [("write", 600, 9_000), ("send", 60, 100)] {
        let limits = PurposeLimits {
            requests_per_minute_per_organization: Some(requests),
            tokens_per_minute_per_organization: Some(tokens),
            ..PurposeLimits::default()
        };
        let binding = Binding {
            limits,
            ..Binding::default()
        };
        let handler = Arc::new(MockPurposeHandler::new());
        handlers.bind(PurposeId::new(purpose).unwrap(), handler, binding);
    }
    operator.handlers = handlers;
    let shown = operator.job_view(&posts()).await.unwrap().limits;
    let expected = JobLimits {
        max_concurrent_items_per_organization: Some(5),
        requests_per_minute_per_organization: Some(600),
        tokens_per_minute_per_organization: Some(9_000),
        then_requests_per_minute_per_organization: Some(60),
        then_tokens_per_minute_per_organization: Some(100),
        ..shown.clone()
    };
    assert_eq!(shown, expected);
}

/// What is wrong: what makes the process not ready, and the warnings.
async fn wrong(operator: &Operator) -> (Vec<String>, Vec<String>) {
    let findings = operator.findings().await.unwrap();
    let words = |list: &[Finding]| list.iter().map(ToString::to_string).collect();
    (words(&findings.not_ready), words(&findings.warnings))
}

const QUARANTINED: &str = "posts does not run for 1 tenant: the preference is invalid";

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_assembled_once() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    assert_eq!(
        wrong(&operator).await,
        (vec![], vec![QUARANTINED.to_owned()])
    );

    operator.pause(&actor(), &posts()).await.unwrap();
    fail(&operator, &store, "ann").await;
    let (not_ready, warnings) = wrong(&operator).await;
    assert_eq!(not_ready, [""; 0]);
    let paused = "posts is paused (since 2026-03-01T09:00:00Z)";
    assert_eq!(warnings[0], paused);
    assert!(
        warnings[1].starts_with("posts: 1 of 1 item failed: down (since "),
        "{warnings:?}"
    );

    // Nothing has been planned for minutes, and a preference cannot be read.
    let two_minutes = std::time::Duration::from_secs(121);
    tokio::time::sleep(two_minutes).await;
    let mut status = (*operator.status.get()).clone();
    status.jobs.get_mut(&posts()).unwrap().trouble = Some("down".to_owned());
    operator.status.publish(status.clone());
    let (not_ready, warnings) = wrong(&operator).await;
    let since = "(since 2026-03-01T09:00:00Z)";
    assert_eq!(not_ready, [format!("the scheduler does not plan {since}")]);
    assert!(
        warnings[0].contains("2m 1s old: ") && warnings[0].contains("down"),
        "{warnings:?}"
    );
    status.next_due = status.planned_until;
    operator.status.publish(status);
    let (not_ready, _) = wrong(&operator).await;
    assert_eq!(not_ready, [format!("due work is not planned {since}")]);
    operator.status.publish(SchedulerStatus::default());
    let (not_ready, _) = wrong(&operator).await;
    let planned = format!("the scheduler has not planned yet {since}");
    assert_eq!(not_ready, [planned]);
}

#[tokio::test(start_paused = true)]
async fn one_cause_is_one_finding_whatever_it_affects() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let mut status = (*operator.status.get()).clone();
    let known = status.jobs.get_mut(&posts()).unwrap();
    known.quarantined = 0;
    known.trouble = Some("crm.example:443 refused the connection".to_owned());
    let known = known.clone();
    for n in 0..6 {
        let job_id = JobId::new(format!("job_{n}")).unwrap();
        status.jobs.insert(job_id, known.clone());
    }
    operator.status.publish(status.clone());
    let (_, warnings) = wrong(&operator).await;
    assert_eq!(
        warnings,
        [
            "7 jobs run on preferences that are 0s old: crm.example:443 refused the connection \
          (job_0, job_1, job_2, job_3, job_4 and 2 more) (since 2026-03-01T09:00:00Z)"
        ]
    );
    // It names every reason.
    status.jobs.get_mut(&posts()).unwrap().trouble = Some("refused the key".to_owned());
    operator.status.publish(status.clone());
    let (_, warnings) = wrong(&operator).await;
    assert_eq!(
        warnings,
        [
            "7 jobs run on preferences that are 0s old: crm.example:443 refused the connection \
          (job_0, job_1, job_2, job_3, job_4 and 1 more), refused the key (posts) \
          (since 2026-03-01T09:00:00Z)"
        ]
    );
    // Jobs that do not run are worse than those that run on old preferences.
    for job_id in ["job_0", "job_1"] {
        let job_id = JobId::new(job_id).unwrap();
        let known = status.jobs.get_mut(&job_id).unwrap();
        (known.loaded, known.trouble, known.seen_until) = (false, None, None);
    }
    operator.status.publish(status);
    let (not_ready, warnings) = wrong(&operator).await;
    assert_eq!(
        not_ready,
        [
            "2 jobs do not run until preferences have been read: they have not been read yet \
          (job_0, job_1) (since 2026-03-01T09:00:00Z)"
        ]
    );
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("5 jobs run on"),
        "{warnings:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_pauses_itself_is_one_finding_with_the_error_and_what_waits() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    fail(&operator, &store, "ann").await;
    let now = operator.clock.now();
    let cause = PauseCause::Failures("1 of 1 items of batch x have failed".to_owned());
    store.set_paused(&posts(), Some(cause), now).await.unwrap();
    let findings = operator.findings().await.unwrap();
    let about = |kind: &FindingKind| matches!(kind, FindingKind::Paused(_));
    let of_job = findings
        .warnings
        .iter()
        .filter(|one| one.kind.concerns(&posts()));
    let of_job: Vec<&Finding> = of_job.collect();
    assert!(of_job.len() == 1 && about(&of_job[0].kind), "{of_job:?}");
    let what = "posts is paused and 0 items wait: 1 of 1 item failed: down";
    assert_eq!(
        (of_job[0].what.as_str(), of_job[0].severity),
        (what, Severity::Warning)
    );
}

#[tokio::test(start_paused = true)]
async fn a_finding_is_acknowledged_until_it_changes_and_heals_with_the_replay() {
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = operator(&store);
    let mut handlers = Handlers::default();
    let handler = Arc::new(MockPurposeHandler::new());
    handlers.bind(
        PurposeId::new("p").unwrap(),
        handler,
        Handlers::DEFAULT_TIMEOUT,
    );
    operator.handlers = handlers;
    fail(&operator, &store, "ann").await;
    let failing = async || {
        let findings = operator.findings().await.unwrap();
        let mut found = findings.warnings.into_iter();
        found.find(|one| one.kind.concerns(&posts()))
    };
    let found = failing().await.unwrap();
    assert_eq!(
        (found.id().as_str(), &found.acknowledged),
        ("job-failing/posts", &None)
    );
    let acknowledge = async |state, known| {
        operator
            .acknowledge(&actor(), "job-failing/posts", state, known)
            .await
    };
    let other = acknowledge(uuid::Uuid::nil(), true).await;
    assert!(
        matches!(other, Err(OperatorError::Conflict(_))),
        "{other:?}"
    );
    let none = operator
        .acknowledge(&actor(), "store", found.state(), true)
        .await;
    assert!(matches!(none, Err(OperatorError::NotFound(_))), "{none:?}");
    acknowledge(found.state(), true).await.unwrap();
    let known = failing().await.unwrap().acknowledged.unwrap();
    assert_eq!(known.by, "a test");

    // The acknowledgement holds for more of the same.
    fail(&operator, &store, "bob").await;
    assert!(failing().await.unwrap().acknowledged.is_some());
    acknowledge(found.state(), false).await.unwrap();
    assert_eq!(failing().await.unwrap().acknowledged, None);
    acknowledge(found.state(), true).await.unwrap();

    // It is over once everything has been replayed, and not acknowledged when it comes back.
    let all = everything();
    operator.replay(&actor(), None, &all).await.unwrap();
    assert_eq!(failing().await, None);
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    store
        .end_all(ItemStatus::Failed, operator.clock.now())
        .await;
    assert_eq!(failing().await.unwrap().acknowledged, None);
    let (entries, _) = store
        .audit_log(&AuditFilter::default(), &Page::default())
        .await
        .unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
    let expected = [
        "replay",
        "acknowledge",
        "unacknowledge",
        "trigger",
        "acknowledge",
        "trigger",
    ];
    assert_eq!(actions, expected);
}

#[tokio::test(start_paused = true)]
async fn what_was_discarded_is_reopened_within_30_days() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    for tenant in ["ann", "bob"] {
        fail(&operator, &store, tenant).await;
    }
    let all = everything();
    let open = DeadLetterState::Open;
    let (count, counted) = operator.count_letters(&all, open).await.unwrap();
    assert_eq!((count, counted.up_to), (2, Some(2)));
    // What fails after the question is not discarded with it.
    fail(&operator, &store, "eve").await;
    let discarded = operator.discard(&actor(), None, &counted).await.unwrap();
    assert_eq!(discarded.discarded, 2);
    assert_eq!(operator.count_letters(&all, open).await.unwrap().0, 1);
    let reopened = operator.reopen(&actor(), None, &all).await.unwrap();
    assert_eq!(reopened.reopened, 2);
    let none = operator.reopen(&actor(), None, &all).await;
    assert!(matches!(none, Err(OperatorError::NotFound(_))), "{none:?}");

    operator.discard(&actor(), None, &counted).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_hours(30 * 24)).await;
    let too_late = operator.reopen(&actor(), None, &all).await;
    assert!(
        matches!(too_late, Err(OperatorError::NotFound(_))),
        "{too_late:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_search_finds_jobs_batches_and_tenants() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let found = async |text: &str| operator.search(text).await.unwrap();
    assert_eq!(found(" ").await, Found::default());
    assert_eq!(found("POS").await.jobs, [posts()]);
    let tenants = async |text: &str| {
        let found = found(text).await.tenants;
        found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(tenants("an").await, "ann");
    assert_eq!(tenants("ba").await, "bad", "it is quarantined");
    assert_eq!(tenants("eve").await, "");
    fail(&operator, &store, "eve").await;
    assert_eq!(tenants("eve").await, "eve", "it has run");
    let batch = operator.newest(None, 1).await.unwrap().remove(0);
    assert_eq!(found(&batch.batch_id.to_string()).await.batch, Some(batch));
    assert_eq!(found("\0/").await, Found::default());
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_long_makes_it_not_ready() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let (job, gone) = (posts(), JobId::new("gone").unwrap());
    let feature = FeatureType::new("posts").unwrap();
    let operations = [
        Operation::AcquireLeadership,
        Operation::EnqueueDueBatches,
        Operation::ReadQueues,
        Operation::StoreResults(job.clone()),
        Operation::BeginChunks(job.clone()),
        Operation::PrepareChunks(job.clone()),
        Operation::PlanJob(job.clone()),
        Operation::FindSourceFile(job.clone()),
        Operation::ReloadJobs,
        Operation::TrackDeliveries,
        Operation::StoreRequest,
        Operation::WriteLastKnownGood(feature),
        // A job that is in the file no more.
        Operation::PlanJob(gone),
    ];
    let fail_all = || {
        for operation in &operations {
            let now = operator.clock.now();
            operator.failures.failed(operation.clone(), "broken", now);
        }
    };
    let failing = async || {
        let findings = operator.readiness().await;
        let fails = |finding: &&Finding| matches!(finding.kind, FindingKind::Failing(_));
        let count = |list: &[Finding]| list.iter().filter(fails).count();
        (count(&findings.not_ready), count(&findings.warnings))
    };
    fail_all();
    // Chunks that wait are reported later, and a missing source is the reason why its job cannot be planned.
    assert_eq!(failing().await, (0, 10));
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    fail_all();
    assert_eq!(failing().await, (5, 6));
    for operation in &operations {
        operator.failures.succeeded(operation);
    }
    assert_eq!(failing().await, (0, 0));
}

//! Items of organizations that may run so many at one time.

mod rates;

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{then::two, *};
use crate::{services::throttle::PurposeLimits, testing::membership};

/// A job that runs so many items of an organization at one time.
fn limited(most: u32) -> Value {
    let mut job = posts();
    job["max_concurrent_items_per_organization"] = json!(most);
    job
}

/// Notes when the items of each organization begin, how many run at one time, and fails as often as a test asks for.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    running: BTreeMap<String, u32>,
    most_running: BTreeMap<String, u32>,
    /// The seconds after the first call, by tenant.
    begun: BTreeMap<String, u64>,
    first: Option<Instant>,
    /// Attempts of each tenant that fail.
    failures: u32,
}

/// The name of an item's organization; empty: none.
fn name_of(item: &Item) -> String {
    let name = item.organization().map(ToString::to_string);
    name.unwrap_or_default()
}

#[async_trait]
impl PurposeHandler for Watch {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let name = name_of(item);
        let fails = {
            let seen = &mut *self.0.lock().unwrap();
            let first = *seen.first.get_or_insert_with(Instant::now);
            seen.begun
                .entry(item.item_id.to_string())
                .or_insert(first.elapsed().as_secs());
            let running = seen.running.entry(name.clone()).or_default();
            *running += 1;
            let most = seen.most_running.entry(name.clone()).or_default();
            *most = (*most).max(*running);
            item.attempt <= seen.failures
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        *self.0.lock().unwrap().running.get_mut(&name).unwrap() -= 1;
        if fails {
            return Err(HandlerError::retryable("busy"));
        }
        Ok(json!(name).into())
    }
}

impl Watch {
    fn most_running(&self, organization: &str) -> u32 {
        let seen = self.0.lock().unwrap();
        seen.most_running.get(organization).copied().unwrap_or(0)
    }

    /// When the last of these tenants began.
    fn last_begun<'t>(&self, tenants: impl IntoIterator<Item = &'t str>) -> u64 {
        let seen = self.0.lock().unwrap();
        let begun = tenants.into_iter().map(|tenant| seen.begun[tenant]);
        begun.max().unwrap()
    }
}

impl Bench {
    /// Gives tenants a preference that is on, and this organization.
    fn join(&self, organization: Option<&str>, tenants: &[&str]) {
        for tenant in tenants {
            self.config_database.put(PreferenceRecord {
                organization: organization.map(membership),
                ..preference(tenant, on("dry"))
            });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn items_of_other_organizations_pass_those_that_wait_for_their_turn() {
    let acme = ids(12);
    let acme: Vec<&str> = acme.iter().map(String::as_str).collect();
    let others = ["u0", "u1", "n0", "n1"];
    let tenants = [acme.as_slice(), others.as_slice()].concat();
    let watch = Watch::default();
    let bench = bench(limited(1), &tenants, watch.clone(), 0).await;
    bench.join(Some("acme"), &acme);
    bench.join(Some("umbrella"), &others[..2]);
    bench.join(None, &others[2..]);
    let began = Instant::now();
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 16);
    assert_eq!(
        (watch.most_running("acme"), watch.most_running("umbrella")),
        (1, 1)
    );
    assert_eq!(
        watch.last_begun(others),
        1,
        "two of the three at a time are others"
    );
    assert_eq!(watch.last_begun(acme.iter().copied()), 11, "one a second");
    assert_eq!(began.elapsed().as_secs(), 12);
    assert_eq!(bench.processor.organizations.count(), 0);
    let results = bench.results().await;
    let output = |tenant: &str| results[tenant].result.output.clone().unwrap();
    assert_eq!(
        (output("t0"), output("u1"), output("n0")),
        (json!("acme"), json!("umbrella"), json!(""))
    );
}

#[tokio::test(start_paused = true)]
async fn chunks_of_a_job_share_the_turns_and_other_jobs_have_their_own() {
    let ids = ids(9);
    let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
    for (job_of_second, most) in [("posts", 1), ("mails", 2)] {
        let watch = Watch::default();
        let mut bench = bench(limited(1), &tenants[..4], watch.clone(), 0).await;
        bench.join(Some("acme"), &tenants);
        let mut second = limited(1);
        second["job_id"] = json!(job_of_second);
        let mut jobs = (*config(limited(1))).clone();
        let second = config(second).jobs[0].clone();
        if second.job_id != jobs.jobs[0].job_id {
            jobs.jobs.push(second.clone());
        }
        bench.processor.jobs = Arc::new(jobs).into();
        let chunk = queued(&second, &bench.store, "daily 10:00 UTC", &tenants[4..]).await;
        let (first, other) = tokio::join!(
            bench.processor.process(&bench.chunk),
            bench.processor.process(&chunk)
        );
        assert_eq!(first.unwrap().succeeded, 4);
        let other = match other {
            // It keeps no other chunk from being claimed.
            Err(ProcessError::Waiting(_)) if most == 1 => bench.processor.process(&chunk).await,
            other if most == 2 => other,
            other => panic!("it waits for the first: {other:?}"),
        };
        assert_eq!(other.unwrap().succeeded, 5);
        assert_eq!(watch.most_running("acme"), most, "{job_of_second}");
        assert_eq!(bench.processor.organizations.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_keeps_its_turn_while_it_waits_for_its_next_attempt() {
    let watch = Watch::default();
    watch.0.lock().unwrap().failures = 1;
    let bench = bench(limited(1), &["a", "b", "c"], watch.clone(), 2).await;
    bench.join(Some("acme"), &["a", "b"]);
    bench.join(None, &["c"]);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 3);
    assert_eq!(watch.most_running("acme"), 1);
    assert_eq!(watch.last_begun(["c"]), 0);
    let results = bench.results().await;
    let ended = results["a"].result.finished_at;
    assert!(results["b"].result.started_at >= ended.unwrap());
    assert!(
        watch.last_begun(["b"]) >= 2,
        "two attempts of a second each came before"
    );
}

#[tokio::test(start_paused = true)]
async fn an_item_keeps_its_turn_over_both_purposes() {
    let mut job = limited(1);
    job["then"] = json!("send");
    let (write, send) = (Watch::default(), Watch::default());
    send.0.lock().unwrap().failures = 1;
    let bench = two(job, &["a", "b", "c"], write.clone(), send.clone(), 2).await;
    bench.join(Some("acme"), &["a", "b"]);
    bench.join(None, &["c"]);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 3);
    assert_eq!(
        (write.most_running("acme"), send.most_running("acme")),
        (1, 1)
    );
    assert_eq!(write.last_begun(["c"]), 0);
    assert!(
        write.last_begun(["b"]) >= 3,
        "a call of the first and two of the second came before, of a second each"
    );
    assert_eq!(bench.processor.organizations.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_turn_holds_no_place_of_its_purpose_and_ends_with_the_process() {
    let watch = Watch::default();
    let bench = bench(limited(1), &["a", "b", "c", "d"], watch.clone(), 0).await;
    bench.join(Some("acme"), &["a", "b", "c"]);
    bench.join(None, &["d"]);
    // Two calls at a time: one of acme and the other tenant's.
    let mut handlers = Handlers::default();
    let limits = PurposeLimits {
        concurrency: Some(2),
        ..PurposeLimits::default()
    };
    handlers.bind(
        PurposeId::new("write").unwrap(),
        Arc::new(watch.clone()),
        crate::Binding {
            limits,
            ..crate::Binding::default()
        },
    );
    bench.processor.base.handlers().replace(handlers);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(watch.last_begun(["d"]), 0);
        bench.stop.cancel();
    };
    let (outcome, ()) = tokio::join!(bench.processor.process(&bench.chunk), stop);
    assert!(
        matches!(outcome, Err(ProcessError::Interrupted)),
        "{outcome:?}"
    );
    assert_eq!(bench.results().await.len(), 2, "those that had begun");
    assert_eq!(bench.processor.organizations.count(), 0);
    let report = bench.next.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 2, "the rest");
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_waits_for_another_runs_what_it_can_and_goes_back() {
    let watch = Watch::default();
    let bench = bench(limited(1), &["a", "b", "c"], watch.clone(), 0).await;
    let others = ["d", "e", "n"];
    bench.join(Some("acme"), &["a", "b", "c", "d", "e"]);
    bench.join(None, &["n"]);
    let job = &config(limited(1)).jobs[0];
    let chunk = queued(job, &bench.store, "daily 10:00 UTC", &others).await;
    let (first, second) = tokio::join!(
        bench.processor.process(&bench.chunk),
        bench.processor.process(&chunk)
    );
    assert!(
        matches!(&second, Err(ProcessError::Waiting(ended)) if ended.succeeded == 1),
        "it does not stay until the first has ended, and says what has: {second:?}"
    );
    assert_eq!(watch.last_begun(["n"]), 0, "and it has run what it could");
    assert_eq!(first.unwrap().succeeded, 3);
    assert_eq!(bench.processor.process(&chunk).await.unwrap().succeeded, 2);
    assert_eq!(watch.most_running("acme"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_chunk_waits_for_no_turn() {
    let watch = Watch::default();
    let bench = bench(limited(1), &["a", "b", "c"], watch.clone(), 0).await;
    bench.join(Some("acme"), &["a", "b", "c", "d", "e"]);
    let job = &config(limited(1)).jobs[0];
    let other = queued(job, &bench.store, "daily 10:00 UTC", &["d", "e"]).await;
    assert!(bench.store.cancel(other.batch_id).await.unwrap());
    let (first, cancelled) = tokio::join!(
        bench.processor.process(&bench.chunk),
        bench.processor.process(&other)
    );
    assert_eq!(first.unwrap().succeeded, 3);
    assert_eq!(cancelled.unwrap().skipped, 2);
}

#[tokio::test(start_paused = true)]
async fn an_expired_chunk_waits_for_no_turn() {
    let watch = Watch::default();
    let bench = bench(limited(1), &["a", "b", "c"], watch.clone(), 0).await;
    bench.join(Some("acme"), &["a", "b", "c", "d", "e"]);
    let job = &config(limited(1)).jobs[0];
    let mut other = queued(job, &bench.store, "daily 10:00 UTC", &["d", "e"]).await;
    other.expires_at = Some(bench.processor.now());
    let (first, expired) = tokio::join!(
        bench.processor.process(&bench.chunk),
        bench.processor.process(&other)
    );
    assert_eq!(first.unwrap().succeeded, 3);
    assert_eq!(expired.unwrap().skipped, 2);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_held_up_while_all_it_has_left_waits_for_turns() {
    let watch = Watch::default();
    let bench = bench(limited(1), &["a", "b", "c"], watch.clone(), 0).await;
    bench.join(Some("acme"), &["a", "b", "d", "e"]);
    bench.join(None, &["c"]);
    let held_up = || bench.processor.held_up().into_values().collect::<Vec<_>>();
    let looks = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(held_up(), [1], "`b` waits for `a`");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(held_up().is_empty(), "`b` runs");
    };
    let (report, ()) = tokio::join!(bench.processor.process(&bench.chunk), looks);
    assert_eq!(report.unwrap().succeeded, 3);

    // Nor is one that is dropped.
    let job = &config(limited(1)).jobs[0];
    let other = queued(job, &bench.store, "daily 10:00 UTC", &["d", "e"]).await;
    let dropped = bench.processor.process(&other);
    let dropped = tokio::time::timeout(Duration::from_millis(500), dropped).await;
    assert!(dropped.is_err(), "it was running");
    assert!(held_up().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_who_leaves_while_the_item_waits_runs_without_the_organization() {
    let watch = Watch::default();
    let bench = bench(limited(1), &["a", "b", "c", "d"], watch.clone(), 0).await;
    bench.join(Some("acme"), &["a", "b", "c", "d"]);
    let leave = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        bench.join(None, &["d"]);
    };
    let (report, ()) = tokio::join!(bench.processor.process(&bench.chunk), leave);
    assert_eq!(report.unwrap().succeeded, 4);
    let results = bench.results().await;
    let output = |tenant: &str| results[tenant].result.output.clone().unwrap();
    assert_eq!((output("c"), output("d")), (json!("acme"), json!("")));
    assert_eq!(bench.processor.organizations.count(), 0);
}

/// Numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// With any organizations, limits, failures and interruptions, no organization has more items running than its job
/// allows, every item ends once all interruptions are over, and no turn is lost.
#[tokio::test(start_paused = true)]
async fn every_item_ends_within_the_limits_though_chunks_are_interrupted() {
    let names = [None, Some("acme"), Some("umbrella"), Some("globex")];
    for seed in 0..150_u64 {
        let mut numbers = Numbers(seed);
        let most = 1 + numbers.below(3) as u32;
        let (first, second) = (
            1 + numbers.below(12) as usize,
            1 + numbers.below(12) as usize,
        );
        let ids = ids(first + second);
        let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
        let watch = Watch::default();
        watch.0.lock().unwrap().failures = numbers.below(2) as u32;
        let bench = bench(limited(most), &tenants[..first], watch.clone(), 3).await;
        for tenant in &tenants {
            bench.join(names[numbers.below(4) as usize], &[*tenant]);
        }
        let job = &config(limited(most)).jobs[0];
        let other = queued(job, &bench.store, "daily 10:00 UTC", &tenants[first..]).await;
        // A delivery that is dropped at any moment, as by a process that goes on after it was declared dead.
        let wait = Duration::from_millis(numbers.below(4_000));
        let dropped = tokio::time::timeout(wait, bench.processor.process(&bench.chunk)).await;
        watch.0.lock().unwrap().running.clear();
        let to_its_end = async |chunk: &Chunk| loop {
            match bench.processor.process(chunk).await {
                Err(ProcessError::Waiting(_)) => tokio::time::sleep(Duration::from_secs(5)).await,
                ended => break ended,
            }
        };
        let calls = futures::future::join(to_its_end(&bench.chunk), to_its_end(&other));
        let ended = tokio::time::timeout(Duration::from_hours(1), calls).await;
        let (one, two) = ended.unwrap_or_else(|_| panic!("{seed}: nothing moves any more"));
        for ended in [one, two] {
            ended.unwrap_or_else(|error| panic!("{seed}: {error}, after {dropped:?}"));
        }
        let seen = watch.0.lock().unwrap();
        for name in ["acme", "umbrella", "globex"] {
            let running = seen.most_running.get(name).copied().unwrap_or(0);
            assert!(
                running <= most,
                "{seed}: {running} of {name}, and {most} may"
            );
        }
        assert_eq!(seen.begun.len(), tenants.len(), "{seed}");
        assert_eq!(bench.processor.organizations.count(), 0, "{seed}");
    }
}

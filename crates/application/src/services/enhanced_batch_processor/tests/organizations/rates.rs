//! Purposes that limit the calls and tokens of each organization.

use punctual_domain::OrganizationId;

use super::*;
use crate::Binding;

/// What a handler answers.
type Answer = Arc<dyn Fn(&Item) -> Result<Outcome, HandlerError> + Send + Sync>;

/// Notes when each call begins. A call takes a second.
#[derive(Clone)]
struct Calls {
    begin: Instant,
    made: Arc<Mutex<Vec<(Duration, Item)>>>,
    answer: Answer,
}

#[async_trait]
impl PurposeHandler for Calls {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let call = (self.begin.elapsed(), item.clone());
        self.made.lock().unwrap().push(call);
        tokio::time::sleep(Duration::from_secs(1)).await;
        (self.answer)(item)
    }
}

impl Calls {
    fn new(
        answer: impl Fn(&Item) -> Result<Outcome, HandlerError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            begin: Instant::now(),
            made: Arc::default(),
            answer: Arc::new(answer),
        }
    }

    fn succeeding() -> Self {
        Self::new(|item| Ok(json!(name_of(item)).into()))
    }

    /// So many attempts of each tenant fail.
    fn failing(attempts: u32) -> Self {
        Self::new(move |item| {
            if item.attempt <= attempts {
                return Err(HandlerError::retryable("busy"));
            }
            Ok(json!("done").into())
        })
    }

    /// The seconds at which these calls began.
    fn times(&self, which: impl Fn(&Item) -> bool) -> Vec<u64> {
        let made = self.made.lock().unwrap();
        let which = made.iter().filter(|(_, item)| which(item));
        which.map(|(at, _)| at.as_secs()).collect()
    }

    fn of_organization(&self, name: &str) -> Vec<u64> {
        self.times(|item| name_of(item) == name)
    }

    fn of_tenant(&self, tenant: &str) -> Vec<u64> {
        self.times(|item| item.item_id.as_str() == tenant)
    }
}

/// So many calls per minute for each organization.
fn calls_per_minute(requests: u32) -> PurposeLimits {
    PurposeLimits {
        requests_per_minute_per_organization: Some(requests),
        ..PurposeLimits::default()
    }
}

fn bind(bench: &Bench, purpose: &str, handler: &Calls, limits: PurposeLimits) {
    let mut handlers = bench.processor.base.handlers().clone();
    let binding = Binding {
        limits,
        ..Binding::default()
    };
    let purpose = PurposeId::new(purpose).unwrap();
    handlers.bind(purpose, Arc::new(handler.clone()), binding);
}

/// A bench whose purpose has these limits.
async fn rated(job: Value, tenants: &[&str], handler: &Calls, limits: PurposeLimits) -> Bench {
    let bench = bench(job, tenants, handler.clone(), 3).await;
    bind(&bench, "write", handler, limits);
    bench
}

/// Delivers a chunk until nothing of it waits any more.
async fn to_its_end(bench: &Bench, chunk: &Chunk) -> Result<ChunkReport, ProcessError> {
    loop {
        match bench.processor.process(chunk).await {
            Err(ProcessError::Waiting(_)) => tokio::time::sleep(Duration::from_secs(5)).await,
            ended => return ended,
        }
    }
}

#[track_caller]
fn nothing_is_left(bench: &Bench) {
    let organizations = &bench.processor.organizations;
    assert_eq!(
        (organizations.count(), organizations.awaited_calls()),
        (0, 0)
    );
    assert!(bench.processor.held_up().is_empty());
}

#[tokio::test(start_paused = true)]
async fn items_of_other_organizations_pass_those_whose_share_is_used() {
    let acme = ids(6);
    let acme: Vec<&str> = acme.iter().map(String::as_str).collect();
    let others = ["u0", "n0", "n1"];
    let tenants = [acme.as_slice(), others.as_slice()].concat();
    let calls = Calls::succeeding();
    let bench = rated(posts(), &tenants, &calls, calls_per_minute(20)).await;
    bench.join(Some("acme"), &acme);
    bench.join(Some("umbrella"), &others[..1]);
    bench.join(None, &others[1..]);
    let looks = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let held_up: Vec<usize> = bench.processor.held_up().into_values().collect();
        assert_eq!(held_up, [1], "others of the job are claimed beside it");
    };
    let (report, ()) = tokio::join!(bench.processor.process(&bench.chunk), looks);
    assert_eq!(report.unwrap().succeeded, 9);
    assert_eq!(calls.of_organization("acme"), [0, 3, 6, 9, 12, 15]);
    let others = calls.times(|item| name_of(item) != "acme");
    assert!(others.iter().all(|at| *at <= 1), "{others:?}");
    nothing_is_left(&bench);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_share_holds_no_place_and_goes_back_if_it_is_long() {
    let calls = Calls::succeeding();
    let limits = PurposeLimits {
        concurrency: Some(1),
        ..calls_per_minute(6)
    };
    let bench = rated(posts(), &["a", "b", "c", "d"], &calls, limits).await;
    bench.join(Some("acme"), &["a", "b"]);
    bench.join(None, &["c", "d"]);
    let first = bench.processor.process(&bench.chunk).await;
    assert!(
        matches!(&first, Err(ProcessError::Waiting(ended)) if ended.succeeded == 3),
        "{first:?}"
    );
    assert!(calls.begin.elapsed() < Duration::from_secs(4));
    let rest = to_its_end(&bench, &bench.chunk).await;
    assert_eq!(rest.unwrap().succeeded, 1);
    assert_eq!(calls.of_organization("acme"), [0, 10]);
    nothing_is_left(&bench);
}

#[tokio::test(start_paused = true)]
async fn one_chunk_waits_for_the_next_call_and_the_others_go_back() {
    let calls = Calls::succeeding();
    let bench = rated(posts(), &["a", "b", "c"], &calls, calls_per_minute(30)).await;
    bench.join(Some("acme"), &["a", "b", "c", "d", "e"]);
    bench.join(None, &["n"]);
    let job = &config(posts()).jobs[0];
    let others = ["d", "e", "n"];
    let other = queued(job, &bench.store, "daily 10:00 UTC", &others).await;
    let (first, second) = tokio::join!(
        bench.processor.process(&bench.chunk),
        bench.processor.process(&other)
    );
    assert_eq!(first.unwrap().succeeded, 3);
    assert!(
        matches!(&second, Err(ProcessError::Waiting(ended)) if ended.succeeded == 1),
        "{second:?}"
    );
    assert_eq!(calls.of_tenant("n"), [0]);
    assert_eq!(bench.processor.process(&other).await.unwrap().succeeded, 2);
    assert_eq!(calls.of_organization("acme"), [0, 2, 4, 6, 8]);
    nothing_is_left(&bench);
}

#[tokio::test(start_paused = true)]
async fn an_item_begins_by_its_share_beside_one_that_takes_long() {
    let calls = Calls::new(|item| {
        if item.item_id.as_str() == "a" && item.attempt == 1 {
            return Err(HandlerError::retryable("busy").with_retry_after(Duration::from_mins(1)));
        }
        Ok(json!("done").into())
    });
    let bench = rated(posts(), &["a", "b"], &calls, calls_per_minute(6)).await;
    bench.join(Some("acme"), &["a", "b"]);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 2);
    assert_eq!(calls.of_tenant("a"), [0, 61]);
    assert_eq!(calls.of_tenant("b"), [10]);
    nothing_is_left(&bench);
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_has_been_used_unless_limits_or_endpoint_change() {
    let purpose = PurposeId::new("write").unwrap();
    let loaded = |per_minute: u32, endpoint: &str| {
        let mut handlers = Handlers::default();
        let binding = Binding {
            limits: calls_per_minute(per_minute),
            handler: Some(endpoint.to_owned()),
            ..Binding::default()
        };
        handlers.bind(purpose.clone(), Arc::new(Calls::succeeding()), binding);
        handlers
    };
    let acme = OrganizationId::new("acme").unwrap();
    let handlers = loaded(20, "webhook https://a.example");
    for (per_minute, endpoint, is_kept) in [
        (20, "webhook https://a.example", true),
        (30, "webhook https://a.example", false),
        (30, "webhook https://b.example", false),
    ] {
        let before = handlers.of(&purpose).unwrap();
        before.throttle.organizations.begin(&acme);
        handlers.replace(loaded(per_minute, endpoint));
        let after = handlers.of(&purpose).unwrap();
        let opens_at = after.throttle.organizations.opens_at(&acme);
        assert_eq!(opens_at.is_some(), is_kept, "{per_minute} of {endpoint}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_no_share_and_counts() {
    let calls = Calls::failing(1);
    let bench = rated(posts(), &["a", "b", "n"], &calls, calls_per_minute(20)).await;
    bench.join(Some("acme"), &["a", "b"]);
    bench.join(None, &["n"]);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 3);
    assert_eq!(calls.of_tenant("a"), [0, 1]);
    assert_eq!(calls.of_tenant("b"), [6, 7]);
    assert_eq!(calls.of_tenant("n"), [0, 1], "it has no organization");
    nothing_is_left(&bench);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_paid_for_by_the_organization_that_used_them() {
    let calls = Calls::new(|_| Ok(json!({"usage": {"total_tokens": 450}}).into()));
    let limits = PurposeLimits {
        tokens_per_minute_per_organization: Some(6_000),
        ..PurposeLimits::default()
    };
    let bench = rated(limited(1), &["a", "b", "c", "n", "o"], &calls, limits).await;
    bench.join(Some("acme"), &["a", "b", "c"]);
    bench.join(None, &["n", "o"]);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 5);
    let acme = calls.of_organization("acme");
    assert_eq!(acme, [0, 5, 11], "450 tokens take 4.5 s");
    assert_eq!(calls.of_organization(""), [0, 0]);
    nothing_is_left(&bench);
}

#[tokio::test(start_paused = true)]
async fn the_second_purpose_has_shares_of_its_own_and_a_call_that_is_not_made_uses_none() {
    let write = Calls::new(|item| {
        if item.item_id.as_str() == "b" {
            return Ok(Outcome::nothing_to_do("no news"));
        }
        Ok(json!("written").into())
    });
    let send = Calls::succeeding();
    let mut job = posts();
    job["then"] = json!("send");
    let tenants = ["a", "b", "c", "n", "o"];
    let bench = two(job, &tenants, write.clone(), send.clone(), 0).await;
    bind(&bench, "send", &send, calls_per_minute(20));
    bench.join(Some("acme"), &["a", "b", "c"]);
    bench.join(None, &["n", "o"]);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.nothing_to_do), (4, 1));
    assert_eq!(write.of_organization("acme"), [0, 3, 4]);
    assert_eq!(send.of_organization("acme"), [1, 5]);
    assert_eq!(send.of_organization(""), [1, 1]);
    nothing_is_left(&bench);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_chunk_waits_for_no_share() {
    let calls = Calls::succeeding();
    let bench = rated(posts(), &["a", "b", "c", "d"], &calls, calls_per_minute(20)).await;
    bench.join(Some("acme"), &["a", "b", "c", "d", "e", "f"]);
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(bench.store.cancel(bench.chunk.batch_id).await.unwrap());
    };
    let (report, ()) = tokio::join!(bench.processor.process(&bench.chunk), cancel);
    let report = report.unwrap();
    assert_eq!((report.succeeded, report.skipped), (1, 3));
    assert!(calls.begin.elapsed() < Duration::from_secs(4));

    let job = &config(posts()).jobs[0];
    let mut other = queued(job, &bench.store, "daily 10:00 UTC", &["e", "f"]).await;
    other.expires_at = Some(bench.processor.now());
    let expired = bench.processor.process(&other).await.unwrap();
    assert_eq!(expired.skipped, 2, "nor does one that has expired");
    assert_eq!(calls.of_organization("acme"), [0]);
    nothing_is_left(&bench);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_share_ends_with_the_process() {
    let calls = Calls::succeeding();
    let bench = rated(posts(), &["a", "b"], &calls, calls_per_minute(20)).await;
    bench.join(Some("acme"), &["a", "b"]);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        bench.stop.cancel();
    };
    let (outcome, ()) = tokio::join!(bench.processor.process(&bench.chunk), stop);
    assert!(
        matches!(outcome, Err(ProcessError::Interrupted)),
        "{outcome:?}"
    );
    assert_eq!(bench.results().await.len(), 1);
    nothing_is_left(&bench);
    let report = bench.next.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 1);
}

/// With any organizations, shares and failures, no organization has more calls than its share, tenants without one wait for
/// none, and every item ends.
#[tokio::test(start_paused = true)]
async fn no_organization_has_more_calls_than_its_share_and_none_waits_for_another() {
    for seed in 0..60_u64 {
        let mut numbers = Numbers(seed);
        let per_minute = 1 + numbers.below(6) as u32;
        let failures = numbers.below(2) as u32;
        let companies = ["acme", "umbrella", "globex"];
        let ids = ids(2 + numbers.below(12) as usize);
        let tenants: Vec<&str> = ids.iter().map(String::as_str).collect();
        let first = 1 + numbers.below(tenants.len() as u64 - 1) as usize;
        let calls = Calls::failing(failures);
        let limits = calls_per_minute(per_minute);
        let bench = rated(posts(), &tenants[..first], &calls, limits).await;
        for tenant in &tenants {
            let name = companies.get(numbers.below(4) as usize).copied();
            bench.join(name, &[*tenant]);
        }
        let job = &config(posts()).jobs[0];
        let other = queued(job, &bench.store, "daily 10:00 UTC", &tenants[first..]).await;
        let both =
            futures::future::join(to_its_end(&bench, &bench.chunk), to_its_end(&bench, &other));
        let ended = tokio::time::timeout(Duration::from_hours(3), both).await;
        let (one, two) = ended.unwrap_or_else(|_| panic!("{seed}: nothing moves any more"));
        for ended in [one, two] {
            ended.unwrap_or_else(|error| panic!("{seed}: {error}"));
        }
        let all = tenants.len() * (1 + failures as usize);
        assert_eq!(calls.times(|_| true).len(), all, "{seed}");
        // An item that has begun by its share may still wait a few seconds for a place in the process, and its retry comes
        // before those of the share.
        let (interval, place) = (60 / u64::from(per_minute), 4);
        for company in companies {
            let times = calls.of_organization(company);
            for (n, from) in times.iter().enumerate() {
                for (more, to) in times[n..].iter().enumerate() {
                    let by_share = (more as u64).saturating_sub(failures.into());
                    let least = (by_share * interval).saturating_sub(place);
                    assert!(to - from >= least, "{seed}: {company} at {times:?}");
                }
            }
        }
        // Three run at one time, and half a second passes before a retry. Of each organization one item begins meanwhile.
        let free = calls.times(|item| item.organization().is_none() && item.attempt == 1);
        let rounds = (free.len() + companies.len()).div_ceil(3) as u64;
        let latest = rounds * (1 + 2 * u64::from(failures)) + 1;
        assert!(
            free.iter().all(|at| *at <= latest),
            "{seed}: {free:?}, and {latest} s would do"
        );
        nothing_is_left(&bench);
    }
}

//! Previews: what a run would send for a tenant, and nothing of a run beside it.

use std::sync::atomic::AtomicBool;

use super::{
    then::{digest, two},
    *,
};
use crate::{
    Binding, PurposeLimits,
    ports::{HandlerErrorKind, Rendered},
    testing::FakeTenantData,
};

/// Answers with the tone, the data and the earlier run of its item. It never ends once it is to hang.
#[derive(Clone, Default)]
struct Writer {
    runs: Arc<AtomicUsize>,
    dry_runs: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
}

fn text_of(item: &Item) -> String {
    let tone = item.overrides().map(|overrides| overrides["tone"].clone());
    let earlier = item.previous.map(|previous| previous.occurrence);
    json!([tone, item.data(), earlier]).to_string()
}

#[async_trait]
impl PurposeHandler for Writer {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        Ok(json!(text_of(item)).into())
    }

    async fn preview(&self, item: &Item, call: bool) -> Result<Option<Rendered>, HandlerError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if call {
            self.dry_runs.fetch_add(1, Ordering::SeqCst);
        }
        let answer = json!({"key": item.idempotency_key(), "usage": {"total_tokens": 500}});
        Ok(Some(Rendered {
            text: Some(text_of(item)),
            outcome: call.then(|| Ok(answer.into())),
            ..Rendered::default()
        }))
    }
}

async fn try_preview(
    bench: &Bench,
    job: &JobConfig,
    tenant: &str,
    call: bool,
) -> Result<Preview, PreviewError> {
    let item = ItemId::new(tenant).unwrap();
    let place = bench.processor.preview_place()?;
    bench.processor.preview(place, job, &item, call).await
}

async fn preview_of(bench: &Bench, job: &JobConfig, tenant: &str, call: bool) -> Preview {
    try_preview(bench, job, tenant, call).await.unwrap()
}

/// Binds the handler to a purpose with limits, and with room for one call at a time.
fn bind(bench: &Bench, purpose: &str, writer: &Writer, tokens_per_minute: u32) {
    let limits = PurposeLimits {
        tokens_per_minute: Some(tokens_per_minute),
        concurrency: Some(1),
        ..PurposeLimits::default()
    };
    let binding = Binding {
        limits,
        ..Binding::default()
    };
    let mut handlers = bench.processor.base.handlers().clone();
    let purpose = PurposeId::new(purpose).unwrap();
    handlers.bind(purpose, Arc::new(writer.clone()), binding);
}

#[tokio::test(start_paused = true)]
async fn a_preview_has_what_a_run_has_and_leaves_no_trace() {
    let mut job = posts();
    job["data"] = json!({"provider": "activity"});
    let (writer, data) = (Writer::default(), Arc::new(FakeTenantData::default()));
    let mut bench = bench(job.clone(), &["a", "quiet"], writer.clone(), 0).await;
    bench.switch_on(&["a", "quiet"]);
    bench.processor = bench.processor.with_tenant_data(data.clone());
    data.put("a", json!(["one order"]));
    let config = config(job);
    let job = &config.jobs[0];
    let earlier = queued_on(job, &bench.store, "daily 09:00 UTC", "2026-02-27", &["a"]).await;
    bench.processor.process(&earlier).await.unwrap();

    let before = bench.store.pending();
    let preview = preview_of(&bench, job, "a", false).await;
    let quiet = preview_of(&bench, job, "quiet", true).await;
    assert_eq!(bench.store.pending(), before, "nothing is queued");
    assert_eq!(bench.results().await.len(), 0, "nothing is stored");
    assert_eq!(writer.runs.load(Ordering::SeqCst), 1, "the earlier run");

    assert_eq!(quiet.status, PreviewStatus::NothingToDo);
    assert_eq!(quiet.reason.as_deref(), Some("no data"));
    assert_eq!(preview.status, PreviewStatus::Rendered);
    assert_eq!((preview.stored, preview.enabled), (Some(true), Some(true)));
    assert_eq!(preview.note(), None);
    assert_eq!(preview.data, Some(json!(["one order"])));
    let previous = preview.previous.map(|previous| previous.occurrence);
    assert_eq!(previous, Some("2026-02-27".parse().unwrap()));
    bench.processor.process(&bench.chunk).await.unwrap();
    let run = bench.results().await["a"].result.clone();
    let text = preview.content.unwrap().text.unwrap();
    assert_eq!(run.output, Some(json!(text)));
    assert_eq!(run.preference.as_deref(), preview.preference.as_ref());
}

#[tokio::test(start_paused = true)]
async fn a_preview_says_who_is_off_has_stored_nothing_or_has_an_invalid_preference() {
    let bench = bench(posts(), &["a"], Writer::default(), 0).await;
    let off = json!({"enabled": false, "template_overrides": {"tone": "dry"}});
    bench.config_database.put(preference("off", off));
    let broken = json!({"enabled": true, "preferred_time": "nine"});
    bench.config_database.put(preference("broken", broken));
    let config = config(posts());
    let job = &config.jobs[0];

    let off = preview_of(&bench, job, "off", false).await;
    assert_eq!(off.status, PreviewStatus::Rendered);
    assert_eq!((off.stored, off.enabled), (Some(true), Some(false)));
    assert!(off.note().unwrap().contains("off"));
    assert!(off.content.unwrap().text.unwrap().contains("dry"));

    let unknown = preview_of(&bench, job, "unknown", false).await;
    assert_eq!(unknown.status, PreviewStatus::Rendered);
    assert_eq!(
        (unknown.stored, unknown.enabled),
        (Some(false), Some(false))
    );
    assert!(unknown.note().unwrap().contains("stored no preference"));
    let text = unknown.content.unwrap().text.unwrap();
    assert!(text.contains("plain"), "the job's default: {text}");

    let broken = preview_of(&bench, job, "broken", false).await;
    assert_eq!(broken.status, PreviewStatus::Skipped);
    let reason = broken.reason.unwrap();
    assert!(
        reason.starts_with("the preference is not valid: ") && reason.contains("preferred_time"),
        "{reason}"
    );
    bench.config_database.set_down(true);
    let unread = try_preview(&bench, job, "off", false).await;
    assert!(matches!(
        unread,
        Err(PreviewError::Process(ProcessError::Preferences(_)))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_against_the_limits_and_has_a_key_of_its_own() {
    let writer = Writer::default();
    let bench = bench(posts(), &["a"], Writer::default(), 0).await;
    bench.switch_on(&["a"]);
    bind(&bench, "write", &writer, 6_000);
    let config = config(posts());
    let job = &config.jobs[0];

    let began = tokio::time::Instant::now();
    let mut keys = HashSet::new();
    for _ in 0..3 {
        let preview = preview_of(&bench, job, "a", true).await;
        assert_eq!(preview.status, PreviewStatus::Called);
        assert!(preview.content.is_some());
        let answer = preview.answer.unwrap();
        let key = answer["key"].as_str().unwrap().to_owned();
        assert!(key.starts_with("posts/a/run-"), "{key}");
        keys.insert(key);
    }
    assert_eq!((keys.len(), writer.dry_runs.load(Ordering::SeqCst)), (3, 3));
    assert_eq!(began.elapsed().as_secs(), 10, "500 tokens take 5 s");
    // What calls nothing waits for nothing.
    preview_of(&bench, job, "a", false).await;
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_preview_that_fails_counts_nowhere() {
    /// Panics.
    struct Broken;
    #[async_trait]
    impl PurposeHandler for Broken {
        async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
            Ok(json!("ran").into())
        }

        async fn preview(&self, _: &Item, _: bool) -> Result<Option<Rendered>, HandlerError> {
            panic!("a test")
        }
    }
    let mut job = posts();
    job["data"] = json!({"provider": "activity"});
    let data = Arc::new(FakeTenantData::default());
    let mut bench = bench(job.clone(), &["a"], Broken, 0).await;
    bench.switch_on(&["a"]);
    bench.processor = bench.processor.with_tenant_data(data.clone());
    data.put("a", json!(["one order"]));
    let config = config(job);
    let job = &config.jobs[0];
    for _ in 0..100 {
        let preview = preview_of(&bench, job, "a", false).await;
        assert_eq!(preview.status, PreviewStatus::Failed);
        assert_eq!(preview.error_kind, Some(HandlerErrorKind::Retryable));
        assert_eq!(
            preview.reason.as_deref(),
            Some("the handler panicked; see the log")
        );
        assert!(preview.preference.is_some() && preview.data.is_some());
    }
    data.fail_next(HandlerError::permanent("no such shop"));
    let preview = preview_of(&bench, job, "a", false).await;
    assert_eq!(preview.error_kind, Some(HandlerErrorKind::Permanent));
    assert_eq!(preview.reason.as_deref(), Some("data: no such shop"));
    assert_eq!(bench.processor.failures.pause_reason(&bench.chunk), None);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_a_preview_says_so() {
    let bench = bench(posts(), &["a"], Probe::default(), 0).await;
    bench.switch_on(&["a"]);
    let config = config(posts());
    let preview = preview_of(&bench, &config.jobs[0], "a", true).await;
    assert_eq!(preview.status, PreviewStatus::NotSupported);
    assert_eq!(
        preview.preference.unwrap()["template_overrides"]["tone"],
        "dry"
    );
}

#[tokio::test(start_paused = true)]
async fn few_previews_run_at_once_and_each_ends_in_time_or_with_the_process() {
    let writer = Writer::default();
    writer.hangs.store(true, Ordering::SeqCst);
    let bench = bench(posts(), &["a"], writer, 0).await;
    bench.switch_on(&["a"]);
    let config = config(posts());
    let job = &config.jobs[0];
    let preview = || try_preview(&bench, job, "a", false);
    let (one, two, more) = tokio::join!(preview(), preview(), preview());
    assert!(matches!(more, Err(PreviewError::Busy)), "{more:?}");
    for ended in [one, two] {
        let ended = ended.unwrap();
        let reason = ended.reason.unwrap();
        assert_eq!(reason, "no answer within 10000 ms");
    }
    let stops = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.stop.cancel();
    };
    let (stopped, ()) = tokio::join!(preview(), stops);
    assert!(
        matches!(stopped, Err(PreviewError::Stopping)),
        "{stopped:?}"
    );
}

/// Shows this, and answers a dry run with a text if it can be called for one.
struct Shows {
    shown: Rendered,
    answers: bool,
}

#[async_trait]
impl PurposeHandler for Shows {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        panic!("a preview runs nothing")
    }

    async fn preview(&self, _: &Item, call: bool) -> Result<Option<Rendered>, HandlerError> {
        let answer = (call && self.answers).then(|| Ok(json!({"text": "asked for"}).into()));
        Ok(Some(Rendered {
            outcome: answer.or(self.shown.outcome.clone()),
            ..self.shown.clone()
        }))
    }
}

/// A second purpose that shows the text that was written, and fails without one.
struct Sends;

#[async_trait]
impl PurposeHandler for Sends {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        panic!("a preview runs nothing")
    }

    async fn preview(&self, item: &Item, _: bool) -> Result<Option<Rendered>, HandlerError> {
        let written = item.written.as_ref().unwrap();
        let text = written["text"].as_str();
        let text = text.ok_or_else(|| HandlerError::permanent("no text"))?;
        assert_eq!(item.purpose_id.as_str(), "send");
        assert!(item.idempotency_key().ends_with("/then"));
        Ok(Some(Rendered {
            text: Some(text.to_owned()),
            ..Rendered::default()
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_purpose_is_shown_with_what_the_first_returns_where_that_is_known() {
    use PreviewStatus::{Called, Failed, NeedsCall, NotSupported, NothingToDo, Rendered as Shown};
    let shown = || Rendered {
        text: Some("Hello".to_owned()),
        ..Rendered::default()
    };
    let known = |output: Value| Rendered {
        output: Some(output),
        ..shown()
    };
    let broken = || Rendered {
        outcome: Some(Err(HandlerError::permanent("no model"))),
        ..shown()
    };
    let dry_run = "it is made from what purpose `write` returns, which only a dry run shows";
    let never = "it is made from what purpose `write` returns, which no preview shows";
    // What the first shows, whether it answers dry runs, whether one is asked for, how far it gets; then how far the second
    // gets, with which text or reason.
    for (shown, answers, call, first, second) in [
        (
            known(json!({"text": "Hello"})),
            false,
            false,
            Shown,
            Some((Shown, "Hello")),
        ),
        (
            known(json!({"text": "Hello"})),
            false,
            true,
            Shown,
            Some((Shown, "Hello")),
        ),
        (
            known(json!(3)),
            false,
            false,
            Shown,
            Some((Failed, "purpose `send`: no text")),
        ),
        (shown(), true, false, Shown, Some((NeedsCall, dry_run))),
        (shown(), true, true, Called, Some((Shown, "asked for"))),
        (shown(), false, true, Shown, Some((NotSupported, never))),
        (
            Rendered::nothing_to_do("no news"),
            false,
            false,
            NothingToDo,
            None,
        ),
        (broken(), false, false, Failed, None),
    ] {
        let case = format!("{shown:?} {answers} {call}");
        let bench = two(digest(), &["a"], Shows { shown, answers }, Sends, 0).await;
        let config = config(digest());
        let preview = preview_of(&bench, &config.jobs[0], "a", call).await;
        assert_eq!(preview.status, first, "{case}");
        if first == Failed {
            assert_eq!(preview.reason.as_deref(), Some("purpose `write`: no model"));
        }
        let then = preview.then.as_ref();
        assert_eq!(
            then.map(|then| then.status),
            second.map(|(status, _)| status),
            "{case}"
        );
        if let (Some(then), Some((_, expected))) = (then, second) {
            let text = then
                .content
                .as_ref()
                .and_then(|content| content.text.as_deref());
            assert_eq!(text.or(then.reason.as_deref()), Some(expected), "{case}");
            assert_eq!(then.purpose_id.as_str(), "send");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_purpose_without_a_preview_leaves_the_second_unknown() {
    let bench = two(digest(), &["a"], Probe::default(), Sends, 0).await;
    let config = config(digest());
    let preview = preview_of(&bench, &config.jobs[0], "a", false).await;
    assert_eq!(preview.status, PreviewStatus::NotSupported);
    assert_eq!(preview.then.unwrap().status, PreviewStatus::NotSupported);
    assert_eq!(bench.results().await.len(), 0, "nothing is stored");
}

#[tokio::test(start_paused = true)]
async fn a_preview_that_is_given_up_leaves_its_places_to_others() {
    let writer = Writer::default();
    let bench = bench(posts(), &["a"], Writer::default(), 0).await;
    bench.switch_on(&["a"]);
    bind(&bench, "write", &writer, 60_000);
    let config = config(posts());
    let job = &config.jobs[0];
    writer.hangs.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let preview = try_preview(&bench, job, "a", true);
        let given_up = tokio::time::timeout(Duration::from_secs(1), preview).await;
        assert!(given_up.is_err(), "{given_up:?}");
    }
    writer.hangs.store(false, Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    let preview = preview_of(&bench, job, "a", true).await;
    assert_eq!(preview.status, PreviewStatus::Called);
    assert_eq!(began.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_preview_that_waits_too_long_says_nothing_of_the_run() {
    let writer = Writer::default();
    let bench = bench(posts(), &["a"], Writer::default(), 0).await;
    bench.switch_on(&["a"]);
    // 500 tokens take five minutes.
    bind(&bench, "write", &writer, 100);
    let config = config(posts());
    let job = &config.jobs[0];
    preview_of(&bench, job, "a", true).await;
    let late = try_preview(&bench, job, "a", true).await.unwrap_err();
    let says = "the limits of the purpose left no place within 60 s; try again";
    assert_eq!(late.to_string(), says);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_the_second_purpose_counts_against_its_limits_and_waits_no_longer() {
    let writer = Writer::default();
    let shown = Rendered {
        output: Some(json!("Hello")),
        ..Rendered::default()
    };
    let answers = false;
    let first = Shows { shown, answers };
    let bench = two(digest(), &["a"], first, Sends, 0).await;
    // 500 tokens take five minutes.
    bind(&bench, "send", &writer, 100);
    let config = config(digest());
    let job = &config.jobs[0];
    let preview = preview_of(&bench, job, "a", true).await;
    assert_eq!(preview.then.unwrap().status, PreviewStatus::Called);
    let late = try_preview(&bench, job, "a", true).await.unwrap_err();
    assert!(matches!(late, PreviewError::Late(_)), "{late}");
    let preview = preview_of(&bench, job, "a", false).await;
    assert_eq!(preview.then.unwrap().status, PreviewStatus::Rendered);
    assert_eq!(writer.dry_runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_preview_is_of_one_state_of_its_job() {
    let bench = bench(posts(), &["a"], Writer::default(), 0).await;
    let mut other = posts();
    other["default_preferences"]["template_overrides"]["tone"] = json!("warm");
    let other = config(other);
    // The processor has another state of the job by now.
    let preview = preview_of(&bench, &other.jobs[0], "unknown", false).await;
    let text = preview.content.unwrap().text.unwrap();
    assert!(text.contains("warm"), "{text}");
}

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use punctual_application::{
    BatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{
        Completer, DueCalls, HandlerError, MockBatchReader, MockWaitingItems, MockWorkQueue,
        PurposeHandler, StoreErrorKind,
    },
    testing::{FakeConfigDatabase, FakeItemSource, FakeStore, ManualClock},
};
use punctual_domain::{BatchConfig, Item, Outcome, PurposeId, Zone};
use tokio::{sync::watch, time::sleep};

use super::*;

fn processor(handlers: Handlers, stop: &CancellationToken) -> EnhancedBatchProcessor {
    let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
    EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, Arc::new(FakeStore::default()), clock),
        Arc::new(FakeConfigDatabase::default()),
        Arc::new(FakeItemSource::default()),
        BatchConfig::default(),
        Zone::utc(),
        Limits {
            max_concurrent_items: 10,
            retry: RetryPolicy::new(0, || 0.0),
        },
        stop.clone(),
    )
}

/// Where nothing waits; counts the looks, of which the first ones fail.
fn nothing_waits(looks: &Arc<AtomicUsize>, failures: usize) -> MockWaitingItems {
    let mut waiting = MockWaitingItems::new();
    let (looks, all) = (Arc::clone(looks), AtomicUsize::new(0));
    waiting.expect_due().returning(move |_, _, _| {
        looks.fetch_add(1, Ordering::Relaxed);
        if all.fetch_add(1, Ordering::Relaxed) < failures {
            let error = StoreError::new(StoreErrorKind::Unavailable, "it is away");
            return Err(error);
        }
        Ok(DueCalls::default())
    });
    waiting
        .expect_waiting_counts()
        .returning(|| Ok(BTreeMap::new()));
    waiting
}

/// A store whose changes this sender announces.
fn reader(changes: &Arc<watch::Sender<()>>) -> MockBatchReader {
    let mut reader = MockBatchReader::new();
    let changes = Arc::clone(changes);
    reader
        .expect_changes()
        .returning(move || changes.subscribe());
    reader
}

#[tokio::test(start_paused = true)]
async fn it_looks_twice_a_minute_and_at_most_once_a_second() {
    let looks = Arc::new(AtomicUsize::new(0));
    let changes = Arc::new(watch::Sender::new(()));
    let stop = CancellationToken::new();
    let service = WaitingService::new(
        Arc::new(nothing_waits(&looks, 5)),
        Arc::new(reader(&changes)),
        Arc::new(MockWorkQueue::new()),
        processor(Handlers::default(), &stop),
    );
    let running = tokio::spawn(service.run(stop.clone()));
    sleep(Duration::from_millis(5_500)).await;
    assert_eq!(looks.swap(0, Ordering::Relaxed), 6, "after failures");
    sleep(Duration::from_mins(10)).await;
    assert_eq!(looks.swap(0, Ordering::Relaxed), 20, "with nothing to do");
    for _ in 0..10_000 {
        changes.send_replace(());
        sleep(Duration::from_millis(1)).await;
    }
    let busy = looks.swap(0, Ordering::Relaxed);
    assert!((10..=11).contains(&busy), "while something changes: {busy}");
    stop.cancel();
    running.await.unwrap();
}

/// Listens for ever, returns or panics, and says how many listen, and how many have begun.
#[derive(Clone, Default)]
struct Listener {
    ends: Option<Ends>,
    begun: Arc<AtomicUsize>,
    listening: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Ends {
    Returns,
    Panics,
}

struct Listening(Arc<AtomicUsize>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl PurposeHandler for Listener {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        Err(HandlerError::permanent("it only listens"))
    }

    async fn listen(&self, _: Arc<dyn Completer>) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.listening.fetch_add(1, Ordering::Relaxed);
        let _listening = Listening(Arc::clone(&self.listening));
        match self.ends {
            Some(Ends::Returns) => {}
            Some(Ends::Panics) => panic!("broken"),
            None => std::future::pending().await,
        }
    }
}

impl Listener {
    fn counts(&self) -> (usize, usize) {
        let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        (count(&self.begun), count(&self.listening))
    }

    fn that(ends: Ends) -> Self {
        Self {
            ends: Some(ends),
            ..Self::default()
        }
    }
}

fn bound(listeners: &[(&str, &Listener)]) -> Handlers {
    let mut handlers = Handlers::default();
    for (name, listener) in listeners {
        let purpose = PurposeId::new(name).unwrap();
        handlers.bind(
            purpose,
            Arc::new((*listener).clone()),
            Handlers::DEFAULT_TIMEOUT,
        );
    }
    handlers
}

#[tokio::test(start_paused = true)]
async fn handlers_listen_as_long_as_they_are_bound() {
    let looks = Arc::new(AtomicUsize::new(0));
    let changes = Arc::new(watch::Sender::new(()));
    let stop = CancellationToken::new();
    let (stays, goes) = (Listener::default(), Listener::default());
    let (returns, panics) = (Listener::that(Ends::Returns), Listener::that(Ends::Panics));
    let handlers = bound(&[
        ("stays", &stays),
        ("goes", &goes),
        ("returns", &returns),
        ("panics", &panics),
    ]);
    let service = WaitingService::new(
        Arc::new(nothing_waits(&looks, 0)),
        Arc::new(reader(&changes)),
        Arc::new(MockWorkQueue::new()),
        processor(handlers.clone(), &stop),
    );
    let running = tokio::spawn(service.run(stop.clone()));
    sleep(Duration::from_secs(14)).await;
    assert_eq!((stays.counts(), goes.counts()), ((1, 1), (1, 1)));
    assert_eq!(returns.counts(), (1, 0), "it has nothing to hear");
    assert_eq!(panics.counts(), (3, 0), "every five seconds");

    let comes = Listener::default();
    handlers.replace(bound(&[("stays", &stays), ("comes", &comes)]));
    sleep(Duration::from_secs(14)).await;
    assert_eq!((stays.counts(), comes.counts()), ((2, 1), (1, 1)));
    assert_eq!((goes.counts(), panics.counts()), ((1, 0), (3, 0)));

    stop.cancel();
    running.await.unwrap();
    assert_eq!((stays.counts().1, comes.counts().1), (0, 0));
}

//! What the port [`WaitingItems`] promises: items whose work goes on elsewhere have one outcome, whatever comes at one time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    AtDeadline, BatchStatus, Chunk, Fingerprint, ItemId, ItemResult, ItemStatus, NewBatch,
    Progress, PurposeId, Trigger, Waiting, WaitingStatus,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ELSEWHERE, HERE, Tested, asked_for, at, claim_by, claimed, commit, counts, firing, job,
    outcomes, prepared_outputs::preparing, result,
};
use crate::ports::{
    Attempts, BatchReader, BatchStore, ChunkQueue, ClaimLimits, ClaimedChunk, DeadLetterFilter,
    NewPrepared, Page, PauseCause, PreparedWork, ResultFilter, Settled, Settlement, Stage,
    TenantRuns, WaitingChange, WaitingFilter, WaitingItem, WaitingItems, WorkQueue,
};

/// What a store does for items that wait.
trait Store: WorkQueue + ChunkQueue + BatchStore + WaitingItems {}
impl<S: WorkQueue + ChunkQueue + BatchStore + WaitingItems> Store for S {}

/// Checks the port [`WaitingItems`] of an empty store, with the ports whose work it goes on with.
///
/// # Panics
/// It breaks a promise.
pub async fn waiting_items<S: WorkQueue + ChunkQueue + BatchStore + WaitingItems>(
    store: &S,
    reader: &dyn BatchReader,
) {
    let tested = &Tested { store, reader };
    the_key_is_drawn_once(tested).await;
    what_waits_holds_no_claim_and_ends_once(tested).await;
    what_waits_beside_items_in_work_ends_with_the_last_of_them(tested).await;
    what_is_called_again_waits_until_then_and_keeps_its_attempts(tested).await;
    what_is_resumed_during_a_claim_is_for_the_next(tested).await;
    the_second_purpose_is_called_with_the_output_of_the_first(tested).await;
    items_of_an_aggregate_end_together(tested).await;
    a_failure_is_a_dead_letter_and_its_replay_may_wait(tested).await;
    what_is_due_is_leased_and_a_change_moves_it(tested).await;
    what_waits_in_a_cancelled_batch_is_skipped(tested).await;
    another_batch_of_the_run_does_not_run_what_waits(tested).await;
    other_occurrences_know_who_waits(tested).await;
    a_run_is_being_prepared_while_its_call_waits(tested).await;
    what_a_call_has_prepared_is_kept_for_the_run(tested).await;
    calls_are_listed_from_the_longest_on(tested).await;
}

/// A process that crashes before the call waits leaves nothing behind that keeps the next one from it.
async fn a_run_is_being_prepared_while_its_call_waits<S: Store>(
    &Tested { store, .. }: &Tested<'_, S>,
) {
    let all = items(["ahead"]);
    let (token, call_id) = (Uuid::from_u128(590), call(990));
    let (new, _) = claimed(store, "2027-03-01", &all, token).await;
    let chunk = &new.chunks[0];
    let prepared = NewPrepared {
        fingerprint: Fingerprint::new([1; 16]),
        work: PreparedWork::Waits(call_id),
        at: since(),
    };
    let kept = store.keep_prepared(chunk, token, &all[0], &prepared);
    assert!(kept.await.expect("works"));
    let prepared = async || {
        let states = store.prepared(&job(), chunk.occurrence, &all).await;
        states.expect("works").len()
    };
    assert_eq!(prepared().await, 0, "it does not wait yet");
    let call_ahead = WaitingItem {
        stage: Stage::Prepare,
        ..waits(&all[0], call_id)
    };
    assert!(begin(store, chunk, token, &[call_ahead]).await);
    assert_eq!(prepared().await, 1);
    let ended = end(&all[0], ItemStatus::NothingToDo);
    assert_eq!(settle_one(store, call_id, ended).await, Settled::Taken);
    assert_eq!(prepared().await, 0, "it waits no more");
}

/// The output of the settlement that was taken, and of no other.
async fn what_a_call_has_prepared_is_kept_for_the_run<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = items(["ahead-later"]);
    let token = Uuid::from_u128(591);
    let planned_at = at("2027-03-01T21:00:00Z");
    let new = preparing(store, "2027-03-02", planned_at, &all, token).await;
    let (chunk, call_id) = (&new.chunks[0], call(991));
    let prepared = NewPrepared {
        fingerprint: Fingerprint::new([1; 16]),
        work: PreparedWork::Waits(call_id),
        at: since(),
    };
    let kept = store.keep_prepared(chunk, token, &all[0], &prepared);
    assert!(kept.await.expect("works"));
    let call_ahead = WaitingItem {
        stage: Stage::Prepare,
        ..waits(&all[0], call_id)
    };
    assert!(begin(store, chunk, token, &[call_ahead]).await);
    for (text, expected) in [("first", Settled::Taken), ("second", Settled::NotWaiting)] {
        let ended = Settlement::End(Box::new(ItemResult {
            output: Some(json!(text)),
            ..result(&all[0], ItemStatus::Succeeded)
        }));
        assert_eq!(settle_one(store, call_id, ended).await, expected);
    }
    let states = store.prepared(&job(), chunk.run_of_items(), &all).await;
    let state = states.expect("works")[&all[0]];
    assert!(state.is_ready);
    assert_eq!(state.since, until());
    let filter = ResultFilter {
        batch_id: new.batch_id,
        status: None,
    };
    let (results, _) = reader
        .results(&filter, &Page::default())
        .await
        .expect("works");
    assert_eq!(
        results[0].result.output, None,
        "it stands in one place alone"
    );
    let of_run = Uuid::from_u128(592);
    let (run, _) = claimed(store, "2027-03-02", &all, of_run).await;
    let taken = store.take_prepared(&run.chunks[0], of_run, &all).await;
    let taken = taken.expect("works");
    assert_eq!(taken[&all[0]].output, json!("first"));
}

fn items<const N: usize>(names: [&str; N]) -> [ItemId; N] {
    names.map(|name| ItemId::new(format!("wait-{name}")).expect("valid"))
}

fn call(number: u128) -> Uuid {
    Uuid::from_u128(0xCA11_0000 + number)
}

fn since() -> DateTime<Utc> {
    at("2026-03-01T09:00:05.000123Z")
}

fn until() -> DateTime<Utc> {
    at("2026-03-01T10:00:00Z")
}

fn purpose() -> PurposeId {
    PurposeId::new("render").expect("valid")
}

/// An item after its first attempt.
fn waits(item: &ItemId, call_id: Uuid) -> WaitingItem {
    WaitingItem {
        call_id,
        item_id: item.clone(),
        purpose_id: purpose(),
        stage: Stage::Only,
        attempts: Attempts {
            made: 1,
            ..Attempts::default()
        },
        preference: Some(Arc::new(json!({"enabled": true}))),
        started_at: at("2026-03-01T09:00:01Z"),
        since: since(),
        waiting: Waiting::until(until()),
    }
}

fn end(item: &ItemId, status: ItemStatus) -> Settlement {
    Settlement::End(Box::new(result(item, status)))
}

async fn settle<S: Store>(store: &S, settlements: &[(Uuid, Settlement)]) -> Vec<Settled> {
    let settled = store.settle_calls(settlements, until());
    settled.await.expect("works")
}

/// Settles one call.
async fn settle_one<S: Store>(store: &S, call_id: Uuid, settlement: Settlement) -> Settled {
    settle(store, &[(call_id, settlement)]).await.remove(0)
}

/// Has items wait, and says whether the claim has ended with them.
async fn begin<S: Store>(store: &S, chunk: &Chunk, token: Uuid, items: &[WaitingItem]) -> bool {
    let begun = store.begin_waiting(chunk, token, items).await;
    let begun = begun.expect("works");
    assert!(begun.claimed && begun.taken == items.len(), "{begun:?}");
    begun.finished
}

/// A batch of a date whose items all wait, each for the call of its place from `first` on.
async fn waiting<S: Store>(store: &S, date: &str, items: &[ItemId], first: u128) -> NewBatch {
    let token = Uuid::new_v4();
    let (new, claim) = claimed(store, date, items, token).await;
    assert_eq!(claim.items.len(), items.len());
    let begins = items.iter().zip(first..);
    let begins = begins.map(|(item, number)| waits(item, call(number)));
    let begins: Vec<WaitingItem> = begins.collect();
    assert!(begin(store, &new.chunks[0], token, &begins).await);
    new
}

/// The chunks that can be claimed.
async fn next<S: Store>(store: &S) -> Vec<ClaimedChunk> {
    let limits = ClaimLimits::new(8);
    store
        .claim_next(HERE, &limits, until())
        .await
        .expect("works")
}

/// The only chunk that can be claimed.
async fn next_one<S: Store>(store: &S) -> ClaimedChunk {
    let mut next = next(store).await;
    assert_eq!(next.len(), 1, "{next:?}");
    next.remove(0)
}

/// The items of a batch that wait, and whether it is over.
async fn left(reader: &dyn BatchReader, batch_id: Uuid) -> (u64, bool) {
    let batch = reader.batch(batch_id).await.expect("works");
    let batch = batch.expect("stored");
    (batch.waiting, batch.finished_at.is_some())
}

async fn the_key_is_drawn_once<S: Store>(&Tested { store, .. }: &Tested<'_, S>) {
    let key = store.completion_key().await.expect("works");
    assert_ne!(key, [0; 32]);
    assert_eq!(store.completion_key().await.expect("works"), key);
}

async fn what_waits_holds_no_claim_and_ends_once<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::{NothingToDo, Succeeded};
    let all = items(["ann", "bob", "eve"]);
    let [ann, bob, eve] = &all;
    let token = Uuid::from_u128(501);
    let (new, _) = claimed(store, "2027-01-01", &all, token).await;
    let chunk = &new.chunks[0];
    let of_bob = WaitingItem {
        waiting: Waiting::until(until())
            .at_deadline(AtDeadline::Fail)
            .polled_at(at("2026-03-01T09:30:00Z"))
            .with_state(json!({"id": "„7“ \u{1f600}"})),
        ..waits(bob, call(1))
    };
    assert!(!begin(store, chunk, token, std::slice::from_ref(&of_bob)).await);
    // A repetition, as after an answer that was lost.
    assert!(!begin(store, chunk, token, std::slice::from_ref(&of_bob)).await);
    assert_eq!(left(reader, new.batch_id).await, (1, false));
    assert!(!begin(store, chunk, token, &[waits(eve, call(2))]).await);
    let committed = store.commit(chunk, token, &[result(ann, Succeeded)]).await;
    assert!(committed.expect("works").finished, "all that is left waits");
    let waits_late = [waits(ann, call(3))];
    let late = store.begin_waiting(chunk, token, &waits_late);
    assert!(!late.await.expect("works").claimed);
    assert_eq!(next(store).await, []);
    assert_eq!(left(reader, new.batch_id).await, (2, false));
    assert_eq!(counts(reader, new.batch_id).await.1, 1);

    // Who claims it nevertheless gets nothing, and leaves it as it was.
    let second = Uuid::from_u128(502);
    let claim = claim_by(store, chunk, ELSEWHERE, second).await;
    assert_eq!((claim.items.len(), claim.waiting), (0, false));
    store.finish(chunk, second, until()).await.expect("works");
    assert_eq!(next(store).await, []);

    let found = store.waiting_call(call(1)).await.expect("works");
    let found = found.expect("it waits");
    assert_eq!(found.items, std::slice::from_ref(bob));
    assert_eq!((found.job_id, found.batch_id), (job(), new.batch_id));
    assert_eq!(found.chunk_id, chunk.chunk_id);
    assert_eq!(
        (found.occurrence, found.scheduled_at, found.key_form),
        (chunk.occurrence, chunk.scheduled_at, chunk.key_form)
    );
    assert_eq!(found.waiting, of_bob.waiting);
    assert_eq!(
        (found.purpose_id, found.stage, found.attempts),
        (of_bob.purpose_id, of_bob.stage, of_bob.attempts)
    );
    assert_eq!((found.preference, found.written), (of_bob.preference, None));
    assert_eq!(
        (found.started_at, found.since, found.progress),
        (of_bob.started_at, of_bob.since, None)
    );
    assert!(!found.is_cancelled);
    assert_eq!(store.waiting_call(call(9)).await.expect("works"), None);
    people_see_what_waits(&Tested { store, reader }, &new, &all).await;

    assert_eq!(
        settle_one(store, call(1), end(bob, Succeeded)).await,
        Settled::Taken
    );
    let counted = store.waiting_counts().await.expect("works");
    assert_eq!(counted, BTreeMap::from([(job(), 1)]));
    let settlements = [
        (call(1), end(bob, ItemStatus::Failed)),
        (call(2), end(ann, NothingToDo)),
        (call(2), end(ann, Succeeded)),
        (call(9), end(ann, Succeeded)),
    ];
    let answers = settle(store, &settlements);
    let expected = [
        Settled::NotWaiting,
        Settled::Taken,
        Settled::NotWaiting,
        Settled::NotWaiting,
    ];
    assert_eq!(answers.await, expected);
    assert_eq!(left(reader, new.batch_id).await, (0, true));
    let counted = counts(reader, new.batch_id).await;
    assert_eq!(counted, (BatchStatus::Completed, 2, 0, 0));
    let expected = [Succeeded, Succeeded, NothingToDo];
    let expected: Vec<_> = all.iter().cloned().zip(expected).collect();
    assert_eq!(outcomes(reader, new.batch_id).await, expected);
    for call_id in [call(1), call(2)] {
        assert_eq!(store.waiting_call(call_id).await.expect("works"), None);
        let nothing = WaitingChange::default();
        let kept = store.keep_waiting(call_id, &nothing);
        assert!(!kept.await.expect("works"));
    }
    assert_eq!(
        store.waiting_counts().await.expect("works"),
        BTreeMap::new()
    );
    let claim = claim_by(store, chunk, HERE, Uuid::from_u128(503)).await;
    assert!(claim.items.is_empty(), "an outcome is final");
}

/// Of the items, all but the first wait.
async fn people_see_what_waits<S: Store>(
    &Tested { store: _, reader }: &Tested<'_, S>,
    new: &NewBatch,
    all: &[ItemId],
) {
    let status = WaitingStatus {
        since: since(),
        until: until(),
        progress: None,
    };
    let results = async |status| {
        let filter = ResultFilter {
            batch_id: new.batch_id,
            status,
        };
        let found = reader.results(&filter, &Page::default()).await;
        found.expect("works").0
    };
    let found = results(Some(ItemStatus::Waiting)).await;
    let names: Vec<ItemId> = found.iter().map(|one| one.result.item_id.clone()).collect();
    assert_eq!(names, all[1..]);
    for one in &found {
        assert_eq!(one.result.status, ItemStatus::Waiting);
        assert_eq!(one.result.waiting.as_ref(), Some(&status));
        assert_eq!((one.result.attempts, one.result.finished_at), (1, None));
    }
    assert_eq!(results(None).await.len(), all.len());
    assert_eq!(results(Some(ItemStatus::Succeeded)).await.len(), 1);
    let runs = TenantRuns {
        item_id: all[1].clone(),
        job_id: Some(job()),
        since: None,
    };
    let (runs, _) = reader
        .tenant_runs(&runs, &Page::default())
        .await
        .expect("works");
    let runs: Vec<_> = runs.into_iter().map(|one| one.result.waiting).collect();
    assert_eq!(runs, [Some(status)]);
    let occurrence = new.chunks[0].occurrence;
    let started = reader.started_items(&job(), occurrence, all).await;
    assert_eq!(started.expect("works"), all.iter().cloned().collect());
}

async fn what_waits_beside_items_in_work_ends_with_the_last_of_them<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::Succeeded;
    let all = items(["joe", "kim"]);
    let [joe, kim] = &all;
    let (first, second) = (Uuid::from_u128(511), Uuid::from_u128(512));
    let (new, _) = claimed(store, "2027-01-02", &all, first).await;
    let chunk = &new.chunks[0];
    assert!(!begin(store, chunk, first, &[waits(joe, call(11))]).await);
    // A delivery that ends gives back what does not wait.
    store.release(chunk, first, None).await.expect("works");
    let claim = claim_by(store, chunk, HERE, second).await;
    assert_eq!(claim.items, std::slice::from_ref(kim));
    assert_eq!(
        settle_one(store, call(11), end(joe, Succeeded)).await,
        Settled::Taken
    );
    assert_eq!(left(reader, new.batch_id).await, (0, false));
    let committed = store.commit(chunk, second, &[result(kim, Succeeded)]).await;
    assert!(committed.expect("works").finished);
    let counted = counts(reader, new.batch_id).await;
    assert_eq!(counted, (BatchStatus::Completed, 2, 0, 0));
}

async fn what_is_called_again_waits_until_then_and_keeps_its_attempts<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = items(["lea"]);
    let [lea] = &all;
    let new = waiting(store, "2027-01-03", &all, 21).await;
    let again_at = at("2026-03-01T09:10:00Z");
    let again = Settlement::CallAgain {
        at: again_at,
        refused: 1,
    };
    assert_eq!(settle_one(store, call(21), again).await, Settled::Taken);
    assert_eq!(left(reader, new.batch_id).await, (1, false));
    // Its call is over.
    assert_eq!(store.waiting_call(call(21)).await.expect("works"), None);
    let late = end(lea, ItemStatus::Succeeded);
    assert_eq!(
        settle_one(store, call(21), late.clone()).await,
        Settled::NotWaiting
    );
    let minute = TimeDelta::minutes(1);
    let early = store.due(again_at - minute, minute, 10).await;
    let early = early.expect("works");
    assert_eq!((early.calls, early.next), (vec![], Some(again_at)));
    assert_eq!(next(store).await, []);

    let mut arrivals = store.arrivals();
    arrivals.mark_unchanged();
    let due = store.due(again_at, minute, 10).await.expect("works");
    assert_eq!((due.calls, due.next), (vec![], None));
    assert!(arrivals.has_changed().expect("works"));
    assert_eq!(left(reader, new.batch_id).await, (0, false));
    let attempts = Attempts {
        made: 1,
        refused: 1,
        of_first: 0,
    };
    let began = at("2026-03-01T09:00:01Z");
    let resumed = HashMap::from([(lea.clone(), (attempts, began))]);
    let claimed = next_one(store).await;
    assert_eq!(claimed.claim.items, all);
    assert_eq!(claimed.claim.resumed, resumed);
    // Also after a crash.
    let chunk = &claimed.chunk;
    let released = store.release(chunk, claimed.token, None);
    released.await.expect("works");
    let claimed = next_one(store).await;
    assert_eq!(claimed.claim.resumed, resumed);
    let second = WaitingItem {
        attempts: Attempts {
            made: 2,
            ..attempts
        },
        ..waits(lea, call(22))
    };
    assert!(begin(store, chunk, claimed.token, &[second]).await);
    assert_eq!(left(reader, new.batch_id).await, (1, false));
    assert_eq!(
        settle_one(store, call(21), late.clone()).await,
        Settled::NotWaiting
    );
    let again = Settlement::CallAgain {
        at: again_at,
        refused: 1,
    };
    assert_eq!(settle_one(store, call(22), again).await, Settled::Taken);
    store.due(again_at, minute, 10).await.expect("works");
    let claimed = next_one(store).await;
    let (attempts, _) = claimed.claim.resumed[lea];
    assert_eq!(attempts.made, 2);
    let last = [result(lea, ItemStatus::Succeeded)];
    let committed = store.commit(chunk, claimed.token, &last).await;
    assert!(committed.expect("works").finished);
    assert_eq!(left(reader, new.batch_id).await, (0, true));
    assert_eq!(settle_one(store, call(22), late).await, Settled::NotWaiting);
}

async fn what_is_resumed_during_a_claim_is_for_the_next<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = items(["max", "meg"]);
    let [max, meg] = &all;
    let token = Uuid::from_u128(521);
    let (new, _) = claimed(store, "2027-01-04", &all, token).await;
    let chunk = &new.chunks[0];
    assert!(!begin(store, chunk, token, &[waits(max, call(25))]).await);
    let again = Settlement::CallAgain {
        at: since(),
        refused: 0,
    };
    assert_eq!(settle_one(store, call(25), again).await, Settled::Taken);
    let minute = TimeDelta::minutes(1);
    store.due(since(), minute, 10).await.expect("works");
    assert_eq!(next(store).await, [], "the claim stands");
    let done = [result(meg, ItemStatus::Succeeded)];
    let committed = store.commit(chunk, token, &done).await.expect("works");
    assert!(committed.finished, "the claim has nothing left");
    let claimed = next_one(store).await;
    assert_eq!(claimed.claim.items, std::slice::from_ref(max));
    assert!(claimed.claim.resumed.contains_key(max));
    let done = [result(max, ItemStatus::Failed)];
    let committed = store.commit(chunk, claimed.token, &done).await;
    assert!(committed.expect("works").finished);
    let counted = counts(reader, new.batch_id).await;
    assert_eq!(counted, (BatchStatus::Completed, 1, 1, 0));
}

async fn the_second_purpose_is_called_with_the_output_of_the_first<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = items(["ned"]);
    let [ned] = &all;
    let token = Uuid::from_u128(531);
    let (new, _) = claimed(store, "2027-01-05", &all, token).await;
    let chunk = &new.chunks[0];
    let first = WaitingItem {
        stage: Stage::First,
        attempts: Attempts {
            made: 3,
            refused: 1,
            of_first: 0,
        },
        ..waits(ned, call(31))
    };
    assert!(begin(store, chunk, token, &[first]).await);
    let text = json!({"text": "Hello"});
    let second = Settlement::CallSecond(text.clone());
    assert_eq!(settle_one(store, call(31), second).await, Settled::Taken);
    assert_eq!(store.waiting_call(call(31)).await.expect("works"), None);
    let claimed = next_one(store).await;
    let attempts = Attempts {
        made: 0,
        refused: 0,
        of_first: 3,
    };
    assert_eq!(claimed.claim.resumed[ned].0, attempts);
    let purpose = purpose();
    let kept = store.kept_outputs(chunk, claimed.token, &purpose, &all);
    let kept = kept.await.expect("works");
    assert_eq!(kept, Some(HashMap::from([(ned.clone(), text.clone())])));
    let second = WaitingItem {
        stage: Stage::Second,
        purpose_id: PurposeId::new("send").expect("valid"),
        attempts: Attempts {
            made: 1,
            ..attempts
        },
        ..waits(ned, call(32))
    };
    assert!(begin(store, chunk, claimed.token, std::slice::from_ref(&second)).await);
    let found = store.waiting_call(call(32)).await.expect("works");
    let found = found.expect("it waits");
    assert_eq!(found.written, Some(text));
    assert_eq!(
        (found.stage, found.attempts),
        (second.stage, second.attempts)
    );
    let done = end(ned, ItemStatus::Succeeded);
    assert_eq!(settle_one(store, call(32), done).await, Settled::Taken);
    assert_eq!(left(reader, new.batch_id).await, (0, true));
}

async fn items_of_an_aggregate_end_together<S: Store>(&Tested { store, reader }: &Tested<'_, S>) {
    let all = items(["one", "three", "two"]);
    let token = Uuid::from_u128(541);
    let (new, _) = claimed(store, "2027-01-06", &all, token).await;
    let state = json!({"id": 7});
    let waiting = Waiting::until(until()).with_state(state.clone());
    let begins = all.iter().map(|item| WaitingItem {
        waiting: waiting.clone(),
        ..waits(item, call(41))
    });
    let begins: Vec<WaitingItem> = begins.collect();
    assert!(begin(store, &new.chunks[0], token, &begins).await);
    let found = async || {
        let found = store.waiting_call(call(41)).await.expect("works");
        let mut found = found.expect("it waits");
        found.items.sort();
        (found.items, found.waiting.state)
    };
    assert_eq!(found().await, (all.to_vec(), state));
    let change = WaitingChange {
        state: Some(json!(8)),
        ..WaitingChange::default()
    };
    let kept = store.keep_waiting(call(41), &change);
    assert!(kept.await.expect("works"));
    assert_eq!(found().await, (all.to_vec(), json!(8)));
    let due = store.due(until(), TimeDelta::minutes(1), 1).await;
    let due = due.expect("works").calls;
    assert_eq!((due.len(), due[0].items.len()), (1, 3));
    let done = end(&all[0], ItemStatus::Succeeded);
    assert_eq!(settle_one(store, call(41), done).await, Settled::Taken);
    let expected = all.iter().map(|item| (item.clone(), ItemStatus::Succeeded));
    let expected: Vec<_> = expected.collect();
    assert_eq!(outcomes(reader, new.batch_id).await, expected);
    assert_eq!(left(reader, new.batch_id).await, (0, true));
}

async fn a_failure_is_a_dead_letter_and_its_replay_may_wait<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = items(["pam"]);
    let [pam] = &all;
    waiting(store, "2027-01-07", &all, 51).await;
    let failed = end(pam, ItemStatus::Failed);
    assert_eq!(settle_one(store, call(51), failed).await, Settled::Taken);
    let of_pam = DeadLetterFilter {
        item_id: Some(pam.clone()),
        ..DeadLetterFilter::default()
    };
    let letters = reader.dead_letters(&of_pam, &Page::default()).await;
    let (letters, _) = letters.expect("works");
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!((letter.reason.as_str(), letter.attempts), ("because", 1));
    let replay = asked_for(Trigger::Replay, "2027-01-07", &all);
    let ids = [letter.id];
    let replayed = store.settle(&ids, vec![replay.clone()], until());
    assert_eq!(replayed.await.expect("works"), 1);
    let claimed = next_one(store).await;
    assert_eq!(claimed.claim.items, all);
    let chunk = &claimed.chunk;
    assert!(begin(store, chunk, claimed.token, &[waits(pam, call(52))]).await);
    assert_eq!(left(reader, replay.batch_id).await, (1, false));
    assert_eq!(next(store).await, []);
    let done = end(pam, ItemStatus::Succeeded);
    assert_eq!(settle_one(store, call(52), done).await, Settled::Taken);
    let counted = counts(reader, replay.batch_id).await;
    assert_eq!(counted, (BatchStatus::Completed, 1, 0, 0));
    let found = outcomes(reader, replay.batch_id).await;
    assert_eq!(found, [(pam.clone(), ItemStatus::Succeeded)]);
}

async fn what_is_due_is_leased_and_a_change_moves_it<S: Store>(
    &Tested { store, .. }: &Tested<'_, S>,
) {
    let all = items(["quinn", "ron"]);
    let [quinn, ron] = &all;
    let token = Uuid::from_u128(551);
    let (new, _) = claimed(store, "2027-01-08", &all, token).await;
    let poll_at = at("2026-03-01T09:20:00Z");
    let polled = WaitingItem {
        waiting: Waiting::until(until()).polled_at(poll_at),
        ..waits(quinn, call(61))
    };
    let begins = [polled, waits(ron, call(62))];
    assert!(begin(store, &new.chunks[0], token, &begins).await);
    let (second, lease) = (TimeDelta::seconds(1), TimeDelta::minutes(1));
    let due = async |now, limit| {
        let due = store.due(now, lease, limit).await.expect("works");
        let calls = due.calls.iter().map(|call| call.call_id);
        (calls.collect::<Vec<Uuid>>(), due.next)
    };
    assert_eq!(due(poll_at - second, 9).await, (vec![], Some(poll_at)));
    assert_eq!(due(poll_at, 9).await.0, [call(61)]);
    // As long as the lease lasts, no other process is given it.
    assert!(due(poll_at + lease - second, 9).await.0.is_empty());
    assert_eq!(due(poll_at + lease, 9).await.0, [call(61)]);

    let progress = Progress {
        note: "half of it, '; --".to_owned(),
        at: poll_at,
    };
    let change = WaitingChange {
        poll_at: Some(Some(poll_at + lease * 3)),
        state: Some(json!(["x"])),
        progress: Some(progress.clone()),
        ..WaitingChange::default()
    };
    let keep = async |call_id, change: &WaitingChange| {
        let kept = store.keep_waiting(call_id, change);
        assert!(kept.await.expect("works"));
        let call = store.waiting_call(call_id).await.expect("works");
        call.expect("it waits")
    };
    let changed = keep(call(61), &change).await;
    assert_eq!(changed.waiting.state, json!(["x"]));
    assert_eq!(changed.waiting.poll_at, change.poll_at.flatten());
    assert_eq!(changed.waiting.until, until(), "what is not changed stays");
    assert_eq!(changed.progress, Some(progress.clone()));
    assert!(due(poll_at + lease * 3 - second, 9).await.0.is_empty());
    assert_eq!(due(poll_at + lease * 3, 9).await.0, [call(61)]);
    let never = WaitingChange {
        poll_at: Some(None),
        ..WaitingChange::default()
    };
    let changed = keep(call(61), &never).await;
    assert_eq!(
        (changed.waiting.poll_at, changed.progress),
        (None, Some(progress))
    );
    assert_eq!(changed.waiting.state, json!(["x"]));

    // The earliest first, and no more than asked for.
    let earlier = WaitingChange {
        until: Some(until() - second),
        ..WaitingChange::default()
    };
    keep(call(62), &earlier).await;
    assert_eq!(due(until(), 1).await.0, [call(62)]);
    assert_eq!(due(until(), 1).await.0, [call(61)]);
    let extended = WaitingChange {
        until: Some(until() + lease * 60),
        ..WaitingChange::default()
    };
    keep(call(62), &extended).await;
    assert_eq!(due(until() + lease, 9).await.0, [call(61)]);
    let done = [quinn, ron].map(|item| end(item, ItemStatus::Succeeded));
    let done: Vec<(Uuid, Settlement)> = [call(61), call(62)].into_iter().zip(done).collect();
    assert_eq!(settle(store, &done).await, [Settled::Taken; 2]);
    assert_eq!(due(until() + lease * 60, 9).await, (vec![], None));
}

async fn what_waits_in_a_cancelled_batch_is_skipped<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = items(["sam", "tom", "uma"]);
    let [sam, tom, uma] = &all;
    let new = waiting(store, "2027-01-09", &all, 71).await;
    let again = Settlement::CallAgain {
        at: until() + TimeDelta::days(1),
        refused: 0,
    };
    assert_eq!(settle_one(store, call(73), again).await, Settled::Taken);
    assert_eq!(next(store).await, []);
    // Also while the job is paused.
    let paused = |cause| store.set_paused(&new.job_id, cause, since());
    let wait = PauseCause::Operator {
        name: "a test".into(),
        reason: None,
    };
    paused(Some(wait)).await.expect("works");
    assert!(store.cancel(new.batch_id).await.expect("works"));
    let late = end(sam, ItemStatus::Succeeded);
    assert_eq!(
        settle_one(store, call(71), late.clone()).await,
        Settled::Cancelled
    );
    let (status, succeeded, ..) = counts(reader, new.batch_id).await;
    assert_eq!((status, succeeded), (BatchStatus::Cancelled, 0));
    let given = next_one(store).await;
    assert!(given.claim.cancelled);
    let items: BTreeSet<&ItemId> = given.claim.items.iter().collect();
    assert_eq!(items, all.iter().collect());
    let chunk = &given.chunk;
    let skipped = [result(sam, ItemStatus::Skipped)];
    assert_eq!(commit(store, chunk, given.token, &skipped).await, 1);
    assert!(!left(reader, new.batch_id).await.1);
    let skipped = [tom, uma].map(|item| result(item, ItemStatus::Skipped));
    let committed = store.commit(chunk, given.token, &skipped).await;
    let committed = committed.expect("works");
    assert!(committed.finished && committed.claimed, "{committed:?}");
    assert_eq!(left(reader, new.batch_id).await, (0, true));
    assert_eq!(settle_one(store, call(71), late).await, Settled::NotWaiting);
    let counted = counts(reader, new.batch_id).await;
    assert_eq!(counted, (BatchStatus::Cancelled, 0, 0, 3));
    paused(None).await.expect("works");

    // What begins to wait after the cancellation does not stay.
    let token = Uuid::from_u128(561);
    let (new, _) = claimed(store, "2027-01-10", &all, token).await;
    let chunk = &new.chunks[0];
    assert!(store.cancel(new.batch_id).await.expect("works"));
    let begins = all.iter().zip(76..);
    let begins: Vec<_> = begins
        .map(|(item, number)| waits(item, call(number)))
        .collect();
    let begun = store.begin_waiting(chunk, token, &begins).await;
    assert!(begun.expect("works").cancelled);
    let claimed = next_one(store).await;
    assert_eq!(claimed.claim.items.len(), 3);
    let skipped: Vec<_> = all
        .iter()
        .map(|item| result(item, ItemStatus::Skipped))
        .collect();
    let committed = store.commit(chunk, claimed.token, &skipped).await;
    assert!(committed.expect("works").finished);
    assert_eq!(
        store.waiting_counts().await.expect("works"),
        BTreeMap::new()
    );
}

async fn another_batch_of_the_run_does_not_run_what_waits<S: Store>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = items(["vera"]);
    let [vera] = &all;
    let new = waiting(store, "2027-01-11", &all, 81).await;
    let backfill = asked_for(Trigger::Backfill, "2027-01-11", &all);
    store
        .enqueue(firing(&backfill), until())
        .await
        .expect("works");
    let claimed = next_one(store).await;
    assert_eq!(
        (claimed.claim.items, claimed.claim.waiting),
        (vec![], false)
    );
    let finished = store.finish(&claimed.chunk, claimed.token, until());
    finished.await.expect("works");
    let counted = counts(reader, backfill.batch_id).await;
    assert_eq!(counted, (BatchStatus::Completed, 0, 0, 1));
    let done = end(vera, ItemStatus::Succeeded);
    assert_eq!(settle_one(store, call(81), done).await, Settled::Taken);
    let counted = counts(reader, new.batch_id).await;
    assert_eq!(counted, (BatchStatus::Completed, 1, 0, 0));
}

async fn other_occurrences_know_who_waits<S: Store>(&Tested { store, .. }: &Tested<'_, S>) {
    let all = items(["will", "xena"]);
    let [will, xena] = &all;
    waiting(store, "2027-01-12", std::slice::from_ref(will), 91).await;
    let token = Uuid::from_u128(571);
    let (new, claim) = claimed(store, "2027-01-13", &all, token).await;
    assert_eq!(claim.overlapping, BTreeSet::from([will.clone()]));
    assert_eq!(claim.items, all);
    let done = end(will, ItemStatus::Succeeded);
    assert_eq!(settle_one(store, call(91), done).await, Settled::Taken);
    let token = Uuid::from_u128(572);
    let claim = claim_by(store, &new.chunks[0], HERE, token).await;
    assert_eq!(claim.overlapping, BTreeSet::new());
    let done = [will, xena].map(|item| result(item, ItemStatus::Succeeded));
    assert_eq!(commit(store, &new.chunks[0], token, &done).await, 2);
}

async fn calls_are_listed_from_the_longest_on<S: Store>(&Tested { store, .. }: &Tested<'_, S>) {
    let all = items(["yan", "zoe", "abe"]);
    let token = Uuid::from_u128(581);
    let (new, _) = claimed(store, "2027-01-14", &all, token).await;
    let begins = all.iter().zip(0_u32..).map(|(item, number)| WaitingItem {
        since: since() - TimeDelta::minutes(number.into()),
        waiting: Waiting::until(until()).with_state(json!("a secret of its handler")),
        ..waits(item, call(101 + u128::from(number)))
    });
    let begins: Vec<WaitingItem> = begins.collect();
    assert!(begin(store, &new.chunks[0], token, &begins).await);
    let other = waiting(store, "2027-01-15", &all[..1], 111).await;
    let list = async |filter: &WaitingFilter, limit| {
        let (mut page, mut found) = (
            Page {
                cursor: None,
                limit,
            },
            Vec::new(),
        );
        loop {
            let (calls, next) = store.waiting_calls(filter, &page).await.expect("works");
            assert!(calls.len() <= limit as usize);
            for one in calls {
                assert_eq!(one.waiting.state, Value::Null);
                found.push(one.call_id);
            }
            page.cursor = next;
            if page.cursor.is_none() {
                return found;
            }
        }
    };
    let of_first = [call(103), call(102), call(101)];
    let all_of_them = [&of_first[..], &[call(111)]].concat();
    let of_batch = |batch: &NewBatch| WaitingFilter {
        batch_id: Some(batch.batch_id),
        ..WaitingFilter::default()
    };
    let of_item = WaitingFilter {
        item_id: Some(all[0].clone()),
        ..WaitingFilter::default()
    };
    let of_job = |name: &str| WaitingFilter {
        job_id: Some(punctual_domain::JobId::new(name).expect("valid")),
        ..WaitingFilter::default()
    };
    for limit in [1, 2, 100] {
        for (filter, expected) in [
            (WaitingFilter::default(), all_of_them.clone()),
            (of_job("job"), all_of_them.clone()),
            (of_job("another"), vec![]),
            (of_batch(&new), of_first.to_vec()),
            (of_batch(&other), vec![call(111)]),
            (of_item.clone(), vec![call(101), call(111)]),
        ] {
            assert_eq!(list(&filter, limit).await, expected, "{filter:?}");
        }
    }
    let ends = all_of_them
        .iter()
        .map(|id| (*id, end(&all[0], ItemStatus::Succeeded)));
    let ends: Vec<(Uuid, Settlement)> = ends.collect();
    assert_eq!(settle(store, &ends).await, [Settled::Taken; 4]);
}

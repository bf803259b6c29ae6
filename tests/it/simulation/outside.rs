//! The world outside: work that goes on after its handler's call has ended, and workers that say what has become of it, to
//! whichever agent they reach. They say it at any time: before the store knows of the call, after the deadline, twice, at one
//! time, or never.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    EnhancedBatchProcessor,
    ports::{Clock, Completer, HandlerError, Settled, WaitingCall},
    testing::ManualClock,
};
use punctual_domain::{AtDeadline, Item, Outcome, Waiting};
use serde_json::Value;
use uuid::Uuid;

use super::faults::chance;

/// A worker asks so often again when its call does not wait, as it may be faster than the store.
const ASKS_AGAIN: u32 = 6;
const AFTER: Duration = Duration::from_secs(10);

/// What has come of work.
type Ended = Result<Outcome, HandlerError>;

/// Agents as workers see them, and what workers do.
pub struct Outside {
    time: Arc<ManualClock>,
    seed: u64,
    /// From then on, handlers do their work themselves.
    until: Option<DateTime<Utc>>,
    /// The processors of the agents that run, by their number.
    agents: Mutex<BTreeMap<usize, EnhancedBatchProcessor>>,
}

/// Tells an agent what has become of the work of a call.
struct Worker {
    outside: Arc<Outside>,
    call_id: Uuid,
    /// Of its item, as call ids differ in each run of a seed.
    seed: u64,
}

impl Outside {
    /// Work goes on outside until then; `None`: none does.
    pub fn new(time: Arc<ManualClock>, seed: u64, until: Option<DateTime<Utc>>) -> Self {
        Self {
            time,
            seed,
            until,
            agents: Mutex::default(),
        }
    }

    /// An agent answers from now on.
    pub fn open(&self, number: usize, processor: EnhancedBatchProcessor) {
        self.agents.lock().unwrap().insert(number, processor);
    }

    /// An agent has crashed.
    pub fn close(&self, number: usize) {
        self.agents.lock().unwrap().remove(&number);
    }

    /// What a handler returns of an item whose work comes to `output`, now or outside.
    pub fn later(self: &Arc<Self>, item: &Item, output: Value) -> Outcome {
        match self.take_on(item, &output) {
            Some(waiting) => Outcome::Waiting(waiting),
            None => output.into(),
        }
    }

    /// Takes some calls on, and lets them come to `output`; `None`: the handler does its work itself.
    fn take_on(self: &Arc<Self>, item: &Item, output: &Value) -> Option<Waiting> {
        let now = self.time.now();
        let completion = item.completion.as_ref()?;
        let what = (
            "outside",
            &item.job_id,
            &item.item_id,
            item.occurrence,
            item.purpose_id.as_str(),
        );
        let mut random = chance(self.seed, now, what);
        if self.until.is_none_or(|until| now >= until) || random.u8(..5) > 0 {
            return None;
        }
        let longest = if random.u8(..3) == 0 { 300 } else { 7_200 };
        let lasts = TimeDelta::milliseconds(random.i64(5_000..longest * 1_000));
        let mut waiting = Waiting::until(now + lasts).with_state(output.clone());
        if random.bool() {
            waiting = waiting.at_deadline(AtDeadline::Fail);
        }
        if random.u8(..3) == 0 {
            let polled = TimeDelta::milliseconds(random.i64(1_000..1_200_000));
            waiting = waiting.polled_at(now + polled);
        }
        let worker = |seed| Worker {
            outside: Arc::clone(self),
            call_id: completion.call_id,
            seed,
        };
        let takes = match random.u8(..8) {
            // The store has not heard of the call yet.
            0 => 0,
            1 => lasts.num_milliseconds() + random.i64(..600_000),
            _ => random.i64(..lasts.num_milliseconds() + 1_000),
        };
        let takes = Duration::from_millis(takes.unsigned_abs());
        let (first, second, workers) = (random.u64(..), random.u64(..), random.u8(..6));
        if workers > 0 {
            tokio::spawn(worker(first).work(takes, output.clone()));
        }
        // The work is done twice, and both say so at one time.
        if workers == 5 {
            tokio::spawn(worker(second).work(takes, output.clone()));
        }
        Some(waiting)
    }

    /// The answer to a handler that asks for work it has handed on.
    pub fn ask(&self, call: &WaitingCall) -> Ended {
        let now = self.time.now();
        let what = ("poll", &call.job_id, &call.items, call.occurrence);
        let mut random = chance(self.seed, now, what);
        match random.u8(..10) {
            0..4 => {
                let later = TimeDelta::milliseconds(random.i64(1_000..1_200_000));
                Ok(Outcome::Waiting(
                    call.waiting.clone().polled_at(now + later),
                ))
            }
            4 => Ok(Outcome::Waiting(Waiting {
                poll_at: None,
                ..call.waiting.clone()
            })),
            // The state is all that the handler knows.
            _ => ended(&mut random, &call.waiting.state),
        }
    }

    fn agent(&self, random: &mut fastrand::Rng) -> Option<EnhancedBatchProcessor> {
        let agents = self.agents.lock().unwrap();
        let place = random.usize(..agents.len().max(1));
        agents.values().nth(place).cloned()
    }
}

impl Worker {
    async fn work(self, takes: Duration, output: Value) {
        tokio::time::sleep(takes).await;
        let mut random = chance(self.seed, self.outside.time.now(), "worker");
        if random.u8(..6) == 0 {
            // It needs longer than it was given.
            let longer = TimeDelta::milliseconds(random.i64(10_000..1_800_000));
            let until = self.outside.time.now() + longer;
            let waiting = Waiting::until(until).with_state(output.clone());
            if !self.says(&mut random, &Ok(Outcome::Waiting(waiting))).await {
                return;
            }
            let more = longer.num_milliseconds() * 2;
            tokio::time::sleep(Duration::from_millis(random.u64(..more.unsigned_abs()))).await;
        }
        let end = ended(&mut random, &output);
        let is_taken = self.says(&mut random, &end).await;
        if is_taken && random.u8(..4) == 0 {
            // It has not heard the answer.
            let again = ended(&mut random, &output);
            self.says(&mut random, &again).await;
        }
    }

    /// Says what has come of the work until an agent has answered. Returns whether it was taken.
    async fn says(&self, random: &mut fastrand::Rng, ended: &Ended) -> bool {
        let mut not_waiting = 0;
        loop {
            let answer = match self.outside.agent(random) {
                Some(agent) => agent.complete(self.call_id, ended.clone()).await.ok(),
                None => None,
            };
            match answer {
                Some(Settled::Taken) => return true,
                Some(Settled::Cancelled) => return false,
                Some(Settled::NotWaiting) if not_waiting == ASKS_AGAIN => return false,
                Some(Settled::NotWaiting) => not_waiting += 1,
                // It was refused, or whether it was taken is not known.
                None => {}
            }
            tokio::time::sleep(AFTER).await;
        }
    }
}

fn ended(random: &mut fastrand::Rng, output: &Value) -> Ended {
    match random.u8(..20) {
        0 => Ok(Outcome::nothing_to_do("simulated")),
        1 => Err(HandlerError::permanent("simulated")),
        2..5 => Err(HandlerError::retryable("simulated")),
        5 => Err(HandlerError::throttled("simulated", None)),
        _ => Ok(Outcome::Done(output.clone())),
    }
}

//! An endpoint on loopback that takes its time, and counts how often it was called for which occurrence.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::HeaderMap, routing::post};

use crate::common::serve;

#[derive(Clone, Default)]
pub struct Counting {
    calls: Arc<Mutex<HashMap<String, u32>>>,
}

impl Counting {
    /// Starts it; returns its URL.
    pub async fn serve(&self, takes: Duration) -> String {
        let calls = Arc::clone(&self.calls);
        let answer = async move |headers: HeaderMap| {
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            *calls.lock().unwrap().entry(key).or_default() += 1;
            tokio::time::sleep(takes).await;
            "done"
        };
        serve(Router::new().route("/", post(answer))).await + "/"
    }

    /// Occurrences it was called for, and calls above one for each.
    pub fn counts(&self) -> (usize, u32) {
        self.counts_of(|_| true)
    }

    /// The same, of the occurrences whose idempotency keys are chosen.
    pub fn counts_of(&self, is_chosen: impl Fn(&str) -> bool) -> (usize, u32) {
        let calls = self.calls.lock().unwrap();
        let chosen: Vec<u32> = calls
            .iter()
            .filter(|(key, _)| is_chosen(key))
            .map(|(_, times)| *times)
            .collect();
        (chosen.len(), chosen.iter().map(|times| times - 1).sum())
    }
}

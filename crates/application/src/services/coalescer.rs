//! Requests that come at once share one statement or one transaction: while some are being answered, others gather, and the next
//! turn answers those together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::ports::StoreError;

/// Number of requests that are answered together at most.
const MAX_TOGETHER: usize = 256;

/// Answers requests to the store that come at one time together, and a single one at once.
#[derive(Debug)]
pub struct Coalescer<Q, A> {
    queued: Mutex<Vec<Queued<Q, A>>>,
    /// Held for as long as some are being answered.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A request, and where its answer goes.
type Queued<Q, A> = (Q, Asker<A>);
type Asker<A> = oneshot::Sender<Result<A, StoreError>>;

impl<Q, A> Default for Coalescer<Q, A> {
    fn default() -> Self {
        Self {
            queued: Mutex::default(),
            turn: Arc::default(),
        }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Coalescer<Q, A> {
    /// Answers a request by `answer`, which returns one answer for each request, in their order. For requests that are answered
    /// together, that of one of their callers is used: all callers pass the same.
    ///
    /// # Errors
    /// The store fails: then all requests that are answered together do.
    pub async fn ask<F>(
        self: &Arc<Self>,
        request: Q,
        answer: impl FnOnce(Vec<Q>) -> F + Clone + Send + 'static,
    ) -> Result<A, StoreError>
    where
        F: Future<Output = Result<Vec<A>, StoreError>> + Send + 'static,
    {
        let (asker, mut answered) = oneshot::channel();
        self.queued().push((request, asker));
        loop {
            let turn = tokio::select! {
                biased;
                answered = &mut answered => return answered.unwrap_or_else(|_panicked| {
                    let message = "the task that does this for several callers was interrupted";
                    Err(StoreError::unavailable(message))
                }),
                turn = Arc::clone(&self.turn).lock_owned() => turn,
            };
            let (this, answer) = (Arc::clone(self), answer.clone());
            // A caller that is dropped meanwhile takes nothing from the others. Those that come until the task begins take part.
            tokio::spawn(async move {
                let (requests, askers) = this.take();
                let answers = answer(requests).await;
                send(askers, answers);
                drop(turn);
            });
        }
    }

    fn take(&self) -> (Vec<Q>, Vec<Asker<A>>) {
        let mut queued = self.queued();
        let most = queued.len().min(MAX_TOGETHER);
        queued.drain(..most).unzip()
    }

    fn queued(&self) -> MutexGuard<'_, Vec<Queued<Q, A>>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each caller its answer. One that has been dropped meanwhile needs none.
fn send<A>(askers: Vec<Asker<A>>, answers: Result<Vec<A>, StoreError>) {
    match answers {
        Ok(answers) => {
            for (asker, answer) in askers.into_iter().zip(answers) {
                _ = asker.send(Ok(answer));
            }
        }
        Err(error) => {
            for asker in askers {
                _ = asker.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::ports::StoreErrorKind;

    /// Asks for each of the numbers at once. Returns what came of them, and how many were answered together each time.
    async fn asked(
        numbers: std::ops::Range<usize>,
        answer: fn(Vec<usize>) -> Result<Vec<usize>, StoreError>,
    ) -> (Vec<Result<usize, StoreError>>, Vec<usize>) {
        let coalescer: Arc<Coalescer<usize, usize>> = Arc::default();
        let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let answers = numbers.map(|number| {
            let sizes = Arc::clone(&sizes);
            let answer = move |numbers: Vec<usize>| async move {
                sizes.lock().unwrap().push(numbers.len());
                tokio::task::yield_now().await;
                answer(numbers)
            };
            let coalescer = Arc::clone(&coalescer);
            async move { coalescer.ask(number, answer).await }
        });
        let answers = join_all(answers).await;
        let sizes = sizes.lock().unwrap().clone();
        (answers, sizes)
    }

    #[tokio::test]
    async fn requests_that_come_at_once_are_answered_together_each_with_its_own() {
        let (answers, sizes) = asked(0..600, |numbers| {
            Ok(numbers.iter().map(|one| one * 2).collect())
        })
        .await;
        assert_eq!(sizes, [256, 256, 88]);
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), number * 2);
        }
        assert_eq!(asked(0..1, Ok).await.1, [1]);
    }

    #[tokio::test]
    async fn a_failure_is_that_of_each_request() {
        let (answers, sizes) =
            asked(0..3, |_| Err(StoreError::new(StoreErrorKind::Denied, "no"))).await;
        assert_eq!((answers.len(), sizes), (3, vec![3]));
        for answer in answers {
            assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::Denied);
        }
    }

    #[tokio::test]
    async fn a_panic_leaves_no_caller_waiting_and_ends_with_its_turn() {
        let (answers, sizes) = asked(0..300, |numbers| {
            assert_ne!(numbers[0], 0, "the first turn");
            Ok(numbers)
        })
        .await;
        assert_eq!(sizes, [256, 44]);
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) => assert!(number >= 256 && answer == number),
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                    assert!(number < 256, "{number}: {error}");
                }
            }
        }
    }
}

//! What open streams show, read once for all of them: when the store announces a change, and every now and then. While no
//! stream is open, nothing is read.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// The shortest time between two reads.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait for a change after that, for what is not announced: what is wrong depends on the time, and processes that
/// share a `SQLite` file do not notify each other.
const MAX_WAIT: Duration = Duration::from_secs(14);

/// What was read.
pub(crate) struct Read<T> {
    /// What the streams show; `None`: what they have shown before.
    pub(crate) value: Option<T>,
    /// Whether the store failed: then the next read is a second later.
    pub(crate) failed: bool,
}

/// The value that all open streams of one kind show; `None` until the store has answered.
pub(crate) struct Feed<T>(Mutex<Weak<watch::Sender<Option<T>>>>);

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Send + Sync + 'static> Feed<T> {
    /// Subscribes a stream. The first one starts a task that calls `read`; the task ends with the last one.
    pub(crate) fn subscribe<F>(
        self: &Arc<Self>,
        mut changes: watch::Receiver<()>,
        read: impl Fn() -> F + Send + Sync + 'static,
    ) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = Read<T>> + Send,
    {
        let mut shared = self.shared();
        if let Some(sender) = shared.upgrade() {
            let mut receiver = sender.subscribe();
            // A stream that begins has not seen what was read before.
            receiver.mark_changed();
            return receiver;
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        *shared = Arc::downgrade(&sender);
        let feed = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                changes.borrow_and_update();
                let Read { value, failed } = read().await;
                if failed {
                    changes.mark_changed();
                }
                if value.is_some() {
                    sender.send_replace(value);
                }
                let wait = async {
                    sleep(MIN_INTERVAL).await;
                    let _ = timeout(MAX_WAIT, changes.changed()).await;
                };
                tokio::select! {
                    () = wait => {}
                    () = sender.closed() => {
                        // A stream may have subscribed meanwhile.
                        let mut shared = feed.shared();
                        if sender.receiver_count() == 0 {
                            *shared = Weak::new();
                            return;
                        }
                    }
                }
            }
        });
        receiver
    }

    /// What the open streams show; `None`: no stream is open, or nothing has been read for them.
    pub(crate) fn latest(&self) -> Option<T>
    where
        T: Clone,
    {
        let sender = self.shared().upgrade()?;
        let latest = sender.borrow();
        latest.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Weak<watch::Sender<Option<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Marks how far the store has come, and remembers it outside of the store, so that a store that was restored from an older copy is
//! recognised: at the start, and while the process runs, as after a failover to a replica that lacks the last commits.
//!
//! Every process makes marks: once a minute, and while work is done a few seconds after it. So a copy is recognised unless the
//! process did nothing for longer than these seconds after it was taken. A mark is stored before it is remembered; a process that
//! dies in between remembers less than the store has, which does not look like a copy.

mod file;

use std::{path::PathBuf, time::Duration};

use punctual_application::{
    Actor, Operation, Operator, OperatorError,
    ports::{FenceState, Hold, StoreError},
};
use punctual_domain::{AfterRestore, FenceMark, KnownMarks, MarksMade, Recognition, RestoreGap};
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::file::FenceFile;

/// The longest time between two marks.
const IDLE_INTERVAL: Duration = Duration::from_mins(1);
/// How long after work was done the next mark is made.
const BUSY_INTERVAL: Duration = Duration::from_secs(5);

/// Makes the marks of a process.
pub struct FenceKeeper {
    operator: Operator,
    after_restore: AfterRestore,
    file: Option<FenceFile>,
    known: KnownMarks,
    is_held: bool,
}

impl FenceKeeper {
    /// A keeper for the store of `operator`, which does what `after_restore` says about a restored copy. In `folder` it remembers
    /// across restarts; without one, only a store that goes back while the process runs is recognised.
    #[must_use]
    pub fn new(operator: Operator, after_restore: AfterRestore, folder: Option<PathBuf>) -> Self {
        Self {
            operator,
            after_restore,
            file: folder.map(|folder| FenceFile::in_folder(&folder)),
            known: KnownMarks::default(),
            is_held: false,
        }
    }

    /// Makes the first mark, or finds that the store is an older copy. To be called before anything works on the store.
    ///
    /// # Errors
    /// The store fails. A file that cannot be read costs the memory, not the work.
    pub async fn begin(&mut self) -> Result<(), StoreError> {
        if let Some(file) = self.file.clone() {
            match on_disk(move || file.read()).await {
                Ok(known) => self.known = known,
                Err(problem) => error!(
                    %problem,
                    "Failed to read how far the store had come, an older copy of it is not recognised at this start: {problem}"
                ),
            }
        }
        self.mark().await
    }

    /// Makes marks until `stop` is cancelled, and a last one then.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.operator.reader.changes();
        while !stop.is_cancelled() {
            tokio::select! {
                Ok(()) = changes.changed() => {
                    let _ = stop.run_until_cancelled(sleep(BUSY_INTERVAL)).await;
                }
                () = sleep(IDLE_INTERVAL) => {}
                () = stop.cancelled() => {}
            }
            changes.borrow_and_update();
            if let Err(error) = self.mark().await {
                warn!(%error, "Failed to mark how far the store has come: {error}");
            }
        }
    }

    async fn mark(&mut self) -> Result<(), StoreError> {
        loop {
            let now = self.operator.clock.now();
            match self.operator.fence.mark(&self.known, now).await? {
                FenceState::Marked(mark) => {
                    self.is_held = false;
                    self.remember(mark).await;
                    return Ok(());
                }
                FenceState::Held(hold) => {
                    self.note_hold(hold);
                    let Some(choice) = self.after_restore.choice() else {
                        return Ok(());
                    };
                    let actor = Actor::new("the answer given at the start");
                    match self.operator.settle_restore(&actor, choice).await {
                        // Another process may have been as quick.
                        Ok(_) | Err(OperatorError::Conflict(_)) => {}
                        Err(OperatorError::Store(error)) => return Err(error),
                        Err(error) => {
                            error!(%error, "Failed to decide about the restored store: {error}");
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    fn note_hold(&mut self, hold: Hold) {
        let RestoreGap { from, to } = hold.gap;
        if !std::mem::replace(&mut self.is_held, true) {
            error!(%from, %to,
                "The store was restored from an older copy: it knows nothing of the time from {from} to {to}. Nothing is planned or \
                 run until it is decided whether what fell due in that time is skipped or repeated");
        }
    }

    /// Remembers a mark, in the file, too.
    async fn remember(&mut self, mark: FenceMark) {
        match self.known.recognise(&mark, MarksMade::default()) {
            Recognition::Another { last } if mark.number == 1 => warn!(
                store = %mark.store,
                "The store is new, and not the one that was used until {}: nothing is known of what has run. Check the URL of the \
                 store", last.at
            ),
            Recognition::Another { last } => info!(
                store = %mark.store,
                "The store is another one than that used until {}", last.at
            ),
            _ => {}
        }
        self.known.note(mark);
        let Some(file) = self.file.clone() else {
            return;
        };
        let (known, path) = (self.known.clone(), file.path().display().to_string());
        let written = on_disk(move || file.write(&known)).await;
        let now = self.operator.clock.now();
        let before = self.operator.failures.list(now);
        let is_new = before
            .iter()
            .all(|failure| failure.operation != Operation::WriteFence);
        self.operator
            .failures
            .note(Operation::WriteFence, &written, now);
        if let (Err(problem), true) = (written, is_new) {
            error!(path, %problem, "Failed to write {path}, an older copy of the store may not be recognised: {problem}");
        }
    }
}

/// Does something with a file, off the threads that everything else runs on.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    spawn_blocking(work).await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests;

//! Notifies systemd that a program has started, is alive, and is stopping. Without systemd, it does nothing.

use std::pin::pin;

use sd_notify::NotifyState;
use tracing::warn;

/// The program listens, and its parts run.
pub fn started() {
    notify(NotifyState::Ready);
}

/// The program has begun to stop.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

/// Shows a sign of life as often as the watchdog wants one, until `stop` ends. systemd then restarts a process that hangs; a
/// database that does not answer causes no restart.
pub async fn alive(stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let Some(within) = sd_notify::watchdog_enabled() else {
        return stop.await;
    };
    while tokio::time::timeout(within / 3, &mut stop).await.is_err() {
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "Failed to notify systemd: {error}");
    }
}

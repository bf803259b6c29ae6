//! Notifies systemd that the agent has started, is alive, and is stopping. Without systemd, it does nothing.

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The agent listens, and its parts run.
pub(crate) fn started() {
    notify(NotifyState::Ready);
}

/// The agent has begun to stop.
pub(crate) fn stopping() {
    notify(NotifyState::Stopping);
}

/// Shows a sign of life as often as the watchdog wants one, until `stop` is cancelled. systemd then restarts a process
/// that hangs; a store or a Config Database that does not answer causes no restart.
pub(crate) async fn alive(stop: CancellationToken) {
    let Some(within) = sd_notify::watchdog_enabled() else {
        return stop.cancelled().await;
    };
    while tokio::time::timeout(within / 3, stop.cancelled())
        .await
        .is_err()
    {
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "Failed to notify systemd: {error}");
    }
}

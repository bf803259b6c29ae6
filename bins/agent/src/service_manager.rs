//! What systemd is told: that the agent has started, that it is alive, that it stops. Run by hand, nobody is told.

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The agent listens, and its parts run.
pub(crate) fn started() {
    tell(NotifyState::Ready);
}

/// The agent has begun to stop.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Shows a sign of life as often as the watchdog wants one, until `stop` is cancelled. It tells of a process that hangs;
/// a store or a Config Database that does not answer is no reason to start the agent again.
pub(crate) async fn alive(stop: CancellationToken) {
    let Some(within) = sd_notify::watchdog_enabled() else {
        return stop.cancelled().await;
    };
    while tokio::time::timeout(within / 3, stop.cancelled())
        .await
        .is_err()
    {
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd cannot be told how the agent is: {error}");
    }
}

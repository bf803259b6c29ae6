//! `serve`: the service's life, from the first call to the last.

use std::{future::pending, pin::pin, time::Duration};

use anyhow::Context;
use punctual_config_database::Server;
use punctual_web::{
    process::{ReadyFile, Signals},
    service_manager,
};
use serde_json::json;
use tokio::sync::oneshot;

/// From the signal to the end of the process, whatever is still being answered.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// Serves until a signal; a second one, or the deadline, ends what is still being answered.
pub(crate) async fn serve(server: Server, ready_file: Option<ReadyFile>) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let address = json!({"config_database": format!("http://{}", server.addr())});
    let (stop, stopped) = oneshot::channel();
    let serving = server.serve(async {
        let _ = stopped.await;
    });
    let mut serving = pin!(serving);
    let alive = tokio::spawn(service_manager::alive(pending()));
    service_manager::started();
    if let Some(file) = &ready_file {
        file.write(&address).context("--ready-file")?;
    }
    tokio::select! {
        ended = &mut serving => return ended.context("the Config Database ended"),
        () = signals.recv() => {}
    }
    service_manager::stopping();
    alive.abort();
    let _ = stop.send(());
    tokio::select! {
        ended = &mut serving => ended.context("the Config Database ended"),
        () = signals.recv() => Ok(()),
        () = tokio::time::sleep(SHUTDOWN_DEADLINE) => Ok(()),
    }
}

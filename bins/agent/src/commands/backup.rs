//! `backup`: copies of the `SQLite` stores, while the agent runs.

use std::path::PathBuf;

use punctual_config_database::ConfigStore;
use punctual_web::process::NewFile;
use serde_json::json;

use super::Failure;
use crate::{
    cli::BackupOptions,
    output::{View, show},
    settings::Settings,
    wiring::store_error,
};

pub(crate) async fn backup(settings: &Settings, options: BackupOptions) -> Result<(), Failure> {
    if options.config_to.is_some() && settings.config_service_url.is_some() {
        return Err(Failure::bad_input(
            "--config-to copies the store of the embedded Config Database, and CONFIG_SERVICE_URL names another one; nothing was \
             copied: leave --config-to out, and run `punctual-config-service backup --to FILE` with the settings of that one",
        ));
    }
    let new = |option: &str, path: PathBuf| {
        NewFile::create(path).map_err(|error| Failure::bad_input(format!("{option}: {error}")))
    };
    let store = new("--to", options.to.clone())?;
    let config = options
        .config_to
        .clone()
        .map(|path| new("--config-to", path));
    let config = config.transpose()?;
    let copied = punctual_store::backup(&settings.batch_store_url, store.partial()).await;
    copied.map_err(|error| {
        let message = store_error(&error, "BATCH_STORE_URL");
        if error.is_callers() {
            Failure::BadInput(message)
        } else {
            Failure::Failed(message)
        }
    })?;
    let mut copies = vec![(options.to, store.finish().map_err(Failure::failed)?)];
    if let (Some(file), Some(path)) = (config, options.config_to) {
        let copied = ConfigStore::backup(&settings.config_store_url, file.partial()).await;
        copied.map_err(|error| Failure::failed(format!("{error}; check CONFIG_STORE_URL")))?;
        copies.push((path, file.finish().map_err(Failure::failed)?));
    }
    let copy = |(path, bytes): &(PathBuf, u64)| json!({"file": path.display().to_string(), "bytes": bytes});
    let document = json!({"copies": copies.iter().map(copy).collect::<Vec<_>>()});
    show(options.json, &document, |_| {
        let line = |view: View, (path, bytes): &(PathBuf, u64)| {
            view.line(format!(
                "Copied {bytes} bytes to {}, and checked them",
                path.display()
            ))
        };
        copies.iter().fold(View::default(), line)
    });
    Ok(())
}

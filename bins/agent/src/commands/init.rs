//! `init`: a first job, its purpose and its template, where the settings name them.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::Failure;
use crate::{
    output::{Table, View, cell, show},
    settings::Settings,
};

pub(crate) fn init(settings: &Settings, as_json: bool) -> Result<(), Failure> {
    let files = [
        (
            settings.batch_config_path.clone(),
            include_str!("../../init/batch_config.json"),
            "the job: each tenant is greeted every day at 9:00",
        ),
        (
            settings.batch_purposes_path.clone(),
            include_str!("../../init/purposes.json"),
            "its purpose: what runs for the job",
        ),
        (
            templates(settings).join("greeting.txt.j2"),
            include_str!("../../init/greeting.txt.j2"),
            "its template",
        ),
    ];
    if let Some((path, ..)) = files.iter().find(|(path, ..)| path.exists()) {
        return Err(Failure::BadInput(format!(
            "{} exists, and init overwrites nothing; run it in an empty folder, or set BATCH_CONFIG_PATH and \
             BATCH_PURPOSES_PATH to new files",
            path.display()
        )));
    }
    for (path, text, _) in &files {
        write_new(path, text).map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    let written: Vec<_> = files.iter().map(|(path, ..)| path).collect();
    show(as_json, &json!({ "written": written }), |_| {
        let mut table = Table::new(["written", "content"]);
        for (path, _, what) in &files {
            table.row([cell(path.display()), cell(what)]);
        }
        View::default()
            .table(&table)
            .heading("Run next")
            .line("  punctual-agent check")
            .line("  punctual-agent run")
            .line("  punctual-agent trigger greetings --tenant ann --allow-unknown --wait")
    });
    Ok(())
}

/// The folder of templates, without a detour through a folder that is not there yet.
fn templates(settings: &Settings) -> PathBuf {
    let folder = settings.batch_purposes_path.parent();
    let named = folder.filter(|folder| folder.file_name().is_some());
    let above = named.and_then(Path::parent);
    above.map_or_else(
        || settings.templates_path(),
        |above| above.join("templates"),
    )
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(path)?.write_all(text.as_bytes())
}

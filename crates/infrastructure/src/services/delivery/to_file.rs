//! Results on their way to a file: a line of JSON each.

use std::{
    io::{self, SeekFrom},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use punctual_application::ports::{ResultSink, SinkError, StoredResult};
use punctual_domain::Batch;
use serde_json::json;
use tokio::{
    fs::{File, OpenOptions, create_dir_all, metadata},
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};

/// Appends to this file.
pub(super) struct ToFile(pub(super) PathBuf);

#[async_trait]
impl ResultSink for ToFile {
    async fn take(
        &self,
        _: &Batch,
        results: &[StoredResult],
        _last: bool,
    ) -> Result<(), SinkError> {
        let lines: String = results
            .iter()
            .map(|result| format!("{}\n", json!(result)))
            .collect();
        append(&self.0, lines).await.map_err(|error| {
            SinkError::retryable(format!("{}: {error}", self.0.display())).with_source(error)
        })
    }
}

async fn append(path: &Path, mut lines: String) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        create_dir_all(folder).await?;
    }
    if ends_within_a_line(path).await? {
        lines.insert(0, '\n');
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .await?;
    file.write_all(lines.as_bytes()).await?;
    file.sync_all().await
}

/// Whether an earlier write was cut off, for example by a full disk. What comes next must not become part of that line.
async fn ends_within_a_line(path: &Path) -> io::Result<bool> {
    match metadata(path).await {
        Ok(known) if known.is_file() && known.len() > 0 => {
            let mut file = File::open(path).await?;
            file.seek(SeekFrom::End(-1)).await?;
            Ok(file.read_u8().await? != b'\n')
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use punctual_application::testing::contract::{self, Receiver};
    use punctual_domain::KeyForm;

    use super::*;

    #[async_trait]
    impl Receiver for ToFile {
        async fn received(&self) -> Vec<String> {
            let mut ids = Vec::new();
            for line in std::fs::read_to_string(&self.0).unwrap().lines() {
                // A call that was dropped may leave part of a line.
                let Ok(result) = serde_json::from_str::<StoredResult>(line) else {
                    continue;
                };
                let key_form = KeyForm::Slashes;
                let id = StoredResult { key_form, ..result }.delivery_id();
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            ids
        }

        async fn set_down(&self, down: bool) {
            let aside = self.0.with_extension("aside");
            if down {
                std::fs::rename(&self.0, &aside).unwrap();
                std::fs::create_dir(&self.0).unwrap();
            } else {
                std::fs::remove_dir(&self.0).unwrap();
                std::fs::rename(&aside, &self.0).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let file = ToFile(folder.path().join("results/out.ndjson"));
        contract::result_sink(&file, &file).await;
    }

    #[tokio::test]
    async fn a_line_that_was_cut_off_does_not_spoil_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.ndjson");
        std::fs::write(&path, "{}\n{\"job_id\": \"po").unwrap();
        append(&path, "{}\n".to_owned()).await.unwrap();
        append(&path, "{}\n".to_owned()).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{}\n{\"job_id\": \"po\n{}\n{}\n");
    }
}

//! Import of many configurations, one JSON object a line. Valid lines are kept, invalid ones are listed.

use std::{collections::HashSet, path::Path};

use chrono::{DateTime, Utc};
use punctual_domain::{FieldErrors, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use utoipa::ToSchema;

use crate::{
    store::{ConfigId, ConfigStore, Edit, StoreError, now},
    validate::FEATURE_PREFERENCES,
};

/// Lines stored in one transaction.
const LINES_AT_ONCE: usize = 5_000;
/// Rejected lines that are listed; further ones are only counted.
const LISTED: usize = 100_000;

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportReport {
    /// Lines that are stored now.
    pub imported: usize,
    /// How many of them were stored already.
    pub unchanged: usize,
    /// Lines that cannot be stored.
    pub rejected: usize,
    /// The first 100,000 of them, with the reasons.
    pub errors: Vec<RejectedLine>,
}

/// A line that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RejectedLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub errors: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    tenant_id: TenantId,
    config_key: Option<String>,
    config_value: Value,
    updated_at: Option<DateTime<Utc>>,
}

impl ConfigStore {
    /// Imports a file of lines.
    ///
    /// # Errors
    /// When the file cannot be read or the store fails; a wrong line is no error but in the report.
    pub async fn import_file(&self, path: &Path) -> Result<ImportReport, StoreError> {
        let unreadable = |error: std::io::Error| {
            StoreError::new(format!("cannot read {}: {error}", path.display()))
        };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut lines = BufReader::new(file).lines();
        let mut import = Import::new(self, "import");
        while let Some(line) = lines.next_line().await.map_err(unreadable)? {
            import.line(&line).await?;
        }
        import.finish().await
    }
}

/// An import under way, fed line by line.
pub(crate) struct Import<'a> {
    store: &'a ConfigStore,
    actor: &'a str,
    number: usize,
    waiting: Vec<Edit>,
    waiting_ids: HashSet<ConfigId>,
    report: ImportReport,
}

impl<'a> Import<'a> {
    pub(crate) fn new(store: &'a ConfigStore, actor: &'a str) -> Self {
        Self {
            store,
            actor,
            number: 0,
            waiting: Vec::new(),
            waiting_ids: HashSet::new(),
            report: ImportReport::default(),
        }
    }

    pub(crate) async fn line(&mut self, line: &str) -> Result<(), StoreError> {
        self.number += 1;
        if line.trim().is_empty() {
            return Ok(());
        }
        match parse(self.store, line) {
            Ok(edit) => {
                // Of two lines about the same, the later one counts: it comes after the other is stored.
                if !self.waiting_ids.insert(edit.id.clone()) {
                    self.flush().await?;
                    self.waiting_ids.insert(edit.id.clone());
                }
                self.waiting.push(edit);
            }
            Err(errors) => {
                self.report.rejected += 1;
                if self.report.errors.len() < LISTED {
                    self.report.errors.push(RejectedLine {
                        line: self.number,
                        errors,
                    });
                }
            }
        }
        if self.waiting.len() >= LINES_AT_ONCE {
            self.flush().await
        } else {
            Ok(())
        }
    }

    pub(crate) async fn finish(mut self) -> Result<ImportReport, StoreError> {
        self.flush().await?;
        if self.report.imported - self.report.unchanged >= LINES_AT_ONCE {
            self.store.analyze().await?;
        }
        Ok(self.report)
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let edits = std::mem::take(&mut self.waiting);
        self.waiting_ids.clear();
        let lines = edits.len();
        let changed = self.store.import(edits, self.actor).await?;
        self.report.imported += lines;
        self.report.unchanged += lines - changed;
        Ok(())
    }
}

fn parse(store: &ConfigStore, line: &str) -> Result<Edit, Vec<String>> {
    let line: Line = serde_json::from_str(line).map_err(|error| {
        vec![format!(
            "{error}; write {{\"tenant_id\": …, \"config_value\": {{feature: preference}}}}"
        )]
    })?;
    let config_key = line
        .config_key
        .unwrap_or_else(|| FEATURE_PREFERENCES.to_owned());
    let config = store
        .check(&config_key, &line.config_value)
        .map_err(|FieldErrors(errors)| {
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        })?;
    let id = ConfigId {
        tenant_id: line.tenant_id,
        config_key,
    };
    Ok(Edit {
        id,
        config: Some(config),
        updated_at: line.updated_at.unwrap_or_else(now),
    })
}

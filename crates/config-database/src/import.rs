//! Import of many configurations, one JSON object per line, of features, which have `feature_type` in place of a tenant, and of the
//! preferences of organizations, which have `organization_id` there. Valid lines are kept, invalid ones are listed; a line is wrong for
//! itself alone, whatever is wrong with it.

use std::{collections::HashSet, path::Path};

use chrono::{DateTime, Utc};
use punctual_domain::{
    FeatureType, FieldErrors, Fields, Invalid, OrganizationId, TenantId, from_rrule, values,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt;
use utoipa::ToSchema;

use crate::{
    json::read_as,
    layers::Layer,
    store::{
        AnyConfigId, ChangeError, ConfigId, ConfigStore, Edit, Expected, SchemaError, StoreError,
        now, read_feature,
    },
    validate::{FEATURE_PREFERENCES, PROFILE},
};

/// Lines stored in one transaction.
const LINES_PER_TRANSACTION: usize = 5_000;
/// Bytes of lines stored in one transaction.
const BYTES_PER_TRANSACTION: usize = 16 * 1024 * 1024;
/// The longest line.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Rejected lines that are listed; further ones are only counted.
const MAX_LISTED: usize = 100;
/// Reasons that are listed for one line.
const MAX_LISTED_PER_LINE: usize = 10;

/// Outcome of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportReport {
    /// Number of features stored.
    pub features: usize,
    /// Number of configurations stored.
    pub imported: usize,
    /// Number of those configurations that were stored already.
    pub unchanged: usize,
    /// Number of lines rejected.
    pub rejected: usize,
    /// The first 100 of them, with the reasons.
    pub errors: Vec<RejectedLine>,
}

/// A line that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RejectedLine {
    /// Line number, from 1.
    pub line: usize,
    /// Reasons for the rejection.
    pub errors: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    tenant_id: TenantId,
    config_key: Option<FeatureType>,
    config_value: Value,
    updated_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct OrganizationLine {
    organization_id: OrganizationId,
    config_key: Option<FeatureType>,
    config_value: Value,
}

/// Since when a schedule counts that an import brings and that was not stored before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewSchedules {
    /// Since it is stored: an import into a running system never runs the past.
    SinceNow,
    /// Since the line's `updated_at`: an import at the start brings along what has been so for long.
    SinceUpdatedAt,
}

impl ConfigStore {
    /// Imports a file of lines. A preference that is new here counts since its line's `updated_at`.
    ///
    /// # Errors
    /// When the file cannot be read or the store fails; the report lists invalid lines, which are not an error.
    pub async fn import_file(&self, path: &Path) -> Result<ImportReport, StoreError> {
        let unreadable = |error: std::io::Error| {
            StoreError::new(format!("cannot read {}: {error}", path.display()))
        };
        let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut import = Import::new(self, "import", NewSchedules::SinceUpdatedAt);
        let mut piece = vec![0; 64 * 1024];
        loop {
            match file.read(&mut piece).await.map_err(unreadable)? {
                0 => return import.finish().await,
                read => import.take(&piece[..read]).await?,
            }
        }
    }
}

/// An import under way, fed whatever pieces arrive.
pub(crate) struct Import<'a> {
    store: &'a ConfigStore,
    actor: &'a str,
    new_schedules: NewSchedules,
    /// The beginning of a line whose end has not arrived; of one that is too long, no more than that.
    rest: Vec<u8>,
    number: usize,
    waiting: Vec<Edit>,
    /// The numbers of their lines.
    waiting_lines: Vec<usize>,
    waiting_ids: HashSet<ConfigId>,
    waiting_bytes: usize,
    report: ImportReport,
}

impl<'a> Import<'a> {
    pub(crate) fn new(store: &'a ConfigStore, actor: &'a str, new_schedules: NewSchedules) -> Self {
        Self {
            store,
            actor,
            new_schedules,
            rest: Vec::new(),
            number: 0,
            waiting: Vec::new(),
            waiting_lines: Vec::new(),
            waiting_ids: HashSet::new(),
            waiting_bytes: 0,
            report: ImportReport::default(),
        }
    }

    pub(crate) async fn take(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        let mut lines = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            let room = (MAX_LINE_BYTES + 1).saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&part[..part.len().min(room)]);
            if lines.peek().is_some() {
                self.end_line().await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<ImportReport, StoreError> {
        self.end_line().await?;
        self.flush().await?;
        self.report.errors.sort_by_key(|rejected| rejected.line);
        if self.report.imported - self.report.unchanged >= LINES_PER_TRANSACTION {
            self.store.analyze().await?;
        }
        Ok(self.report)
    }

    async fn end_line(&mut self) -> Result<(), StoreError> {
        self.number += 1;
        let line = std::mem::take(&mut self.rest);
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match self.read(&line).await {
            Ok(None) => {}
            Ok(Some(edit)) => {
                // Of two lines about the same, the later one counts: it comes after the other is stored.
                if self.waiting_ids.contains(&edit.id) {
                    self.flush().await?;
                }
                self.waiting_ids.insert(edit.id.clone());
                self.waiting_bytes += line.len();
                self.waiting.push(edit);
                self.waiting_lines.push(self.number);
            }
            Err(LineError::Store(failure)) => return Err(failure),
            Err(LineError::Wrong(errors)) => self.reject(self.number, errors),
        }
        if self.waiting.len() >= LINES_PER_TRANSACTION
            || self.waiting_bytes >= BYTES_PER_TRANSACTION
        {
            self.flush().await?;
        }
        Ok(())
    }

    fn reject(&mut self, line: usize, errors: Vec<String>) {
        self.report.rejected += 1;
        if self.report.errors.len() < MAX_LISTED {
            self.report.errors.push(RejectedLine { line, errors });
        }
    }

    /// The edit that a line asks for; `None`: the line was a feature or an organization, which is stored.
    async fn read(&mut self, line: &[u8]) -> Result<Option<Edit>, LineError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(LineError::Wrong(vec![format!(
                "the line is longer than {MAX_LINE_BYTES} bytes; send one tenant per line"
            )]));
        }
        let document: Map<String, Value> = read_as(line).map_err(unreadable)?;
        if document.contains_key("feature_type") {
            self.store_feature(&document).await?;
            return Ok(None);
        }
        if document.contains_key("organization_id") && !document.contains_key("tenant_id") {
            self.store_organization(document).await?;
            return Ok(None);
        }
        let tenant = document.get("tenant_id").and_then(Value::as_str);
        let tenant = tenant.and_then(|tenant| TenantId::new(tenant).ok());
        let wrong = match self.parse(Value::Object(document), None).await {
            Ok(edit) => return Ok(Some(edit)),
            Err(wrong) => wrong,
        };
        // What a preference leaves out may be in the tenant's organization.
        let Some(layer) = self.layer_of(tenant).await? else {
            return Err(wrong.into());
        };
        let document: Map<String, Value> = read_as(line).map_err(unreadable)?;
        let edit = self.parse(Value::Object(document), Some(&layer)).await?;
        Ok(Some(edit))
    }

    /// The organization of a tenant, as the lines until now have it.
    async fn layer_of(&mut self, tenant: Option<TenantId>) -> Result<Option<Layer>, StoreError> {
        let Some(tenant_id) = tenant else {
            return Ok(None);
        };
        let profile = ConfigId {
            tenant_id,
            config_key: PROFILE.to_owned(),
        };
        if self.waiting_ids.contains(&profile) {
            self.flush().await?;
        }
        self.store.layer_of(&profile.tenant_id).await
    }

    /// Stores a feature at once: the lines after it are checked against it.
    async fn store_feature(&mut self, document: &Map<String, Value>) -> Result<(), LineError> {
        let mut fields = Fields::new(document, "");
        let name = fields.required("feature_type", "name the feature", |value| {
            FeatureType::new(values::text(value)?).map_err(Invalid::from)
        });
        let name = fields.finish(|| name).map_err(listed)?;
        let (feature, schema) = read_feature(document, &["feature_type"]).map_err(listed)?;
        let stored = self.store.set_feature(&name, feature, schema.as_ref());
        stored.await.map_err(|error| match error {
            SchemaError::Store(failure) => LineError::Store(failure),
            wrong @ SchemaError::Invalid(_) => LineError::Wrong(vec![wrong.to_string()]),
        })?;
        self.report.features += 1;
        Ok(())
    }

    /// Stores an organization's preferences at once.
    async fn store_organization(&mut self, document: Map<String, Value>) -> Result<(), LineError> {
        let OrganizationLine {
            organization_id: organization,
            config_key,
            mut config_value,
        } = serde_json::from_value(Value::Object(document)).map_err(|error| {
            let remedy = "write {\"organization_id\": …, \"config_value\": {feature: preference}}";
            vec![format!("{error}; {remedy}")]
        })?;
        if config_key.is_some_and(|config_key| config_key.as_str() != FEATURE_PREFERENCES) {
            let wrong = format!("an organization has the config_key {FEATURE_PREFERENCES} only");
            return Err(LineError::Wrong(vec![wrong]));
        }
        read_rules(&mut config_value).map_err(listed)?;
        let nothing = Map::new();
        let config = self.store.check_organization(config_value, &nothing);
        let config = config.await.map_err(listed)?;
        let before = self.store.config(&organization).await?;
        let anything = Expected::default();
        let stored = organization.change(self.store, &anything, self.actor, Some(config));
        let (after, _) = stored.await.map_err(|error| match error {
            ChangeError::Store(failure) => LineError::Store(failure),
            other => LineError::Wrong(vec![other.to_string()]),
        })?;
        self.report.imported += 1;
        self.report.unchanged += usize::from(after == before);
        Ok(())
    }

    async fn parse(&self, document: Value, layer: Option<&Layer>) -> Result<Edit, Vec<String>> {
        let Line {
            tenant_id,
            config_key,
            mut config_value,
            updated_at,
        } = serde_json::from_value(document).map_err(unreadable)?;
        let config_key = config_key.map_or_else(
            || FEATURE_PREFERENCES.to_owned(),
            |config_key| config_key.to_string(),
        );
        if config_key == FEATURE_PREFERENCES {
            read_rules(&mut config_value).map_err(listed)?;
        }
        let config = self.store.check(&config_key, config_value, layer).await;
        let config = config.map_err(listed)?;
        let updated_at = updated_at.unwrap_or_else(now);
        Ok(Edit {
            id: ConfigId {
                tenant_id,
                config_key,
            },
            config: Some(config),
            updated_at,
            new_schedules: self.new_schedules,
        })
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let edits = std::mem::take(&mut self.waiting);
        self.waiting_ids.clear();
        self.waiting_bytes = 0;
        let lines = std::mem::take(&mut self.waiting_lines);
        let (changed, refused) = self.store.import(edits, self.actor).await?;
        let imported = lines.len() - refused.len();
        self.report.imported += imported;
        self.report.unchanged += imported - changed;
        for (place, errors) in refused {
            self.reject(lines[place], listed(errors));
        }
        Ok(())
    }
}

/// What a rule says of itself, by leaving it out as well.
const SAID_BY_A_RULE: [&str; 6] = [
    "frequency",
    "interval",
    "preferred_day",
    "date",
    "start_date",
    "end_date",
];

/// Puts the fields that the `rrule` of a preference means in its place.
///
/// # Errors
/// No preference means it, or the preference says the same field.
fn read_rules(config_value: &mut Value) -> Result<(), FieldErrors> {
    let mut errors = Vec::new();
    for (feature, preference) in config_value.as_object_mut().into_iter().flatten() {
        let Some(preference) = preference.as_object_mut() else {
            continue;
        };
        let Some(rule) = preference.remove("rrule") else {
            continue;
        };
        let mut refuse = |wrong: Invalid| {
            let pointer = format!("/config_value/{feature}/rrule");
            errors.push(wrong.at(pointer, Some(&rule)));
        };
        let fields = match values::text(&rule).and_then(from_rrule) {
            Ok(fields) => fields,
            Err(wrong) => {
                refuse(wrong);
                continue;
            }
        };
        let said_twice = fields
            .keys()
            .map(String::as_str)
            .chain(SAID_BY_A_RULE)
            .find(|name| preference.contains_key(*name));
        if let Some(name) = said_twice {
            let problem = format!("stands beside {name}, which the rule says");
            refuse(Invalid::new(problem, "leave one of them out"));
        } else {
            preference.extend(fields);
        }
    }
    FieldErrors::unless_empty(errors)
}

/// Why a line is not imported.
enum LineError {
    /// What is wrong with it.
    Wrong(Vec<String>),
    Store(StoreError),
}

impl From<StoreError> for LineError {
    fn from(failure: StoreError) -> Self {
        Self::Store(failure)
    }
}

impl From<Vec<String>> for LineError {
    fn from(wrong: Vec<String>) -> Self {
        Self::Wrong(wrong)
    }
}

/// Why a line is not one that can be imported. The report says which line of the file it is: of the place in it that a message
/// may end with, the column counts.
fn unreadable(error: impl std::fmt::Display) -> Vec<String> {
    let error = error.to_string();
    let place = error.rsplit_once(" at line 1 column ");
    let place = place.filter(|(_, column)| column.bytes().all(|byte| byte.is_ascii_digit()));
    let problem = match place {
        Some((problem, column)) => format!("not a valid JSON object (column {column}: {problem})"),
        None => error,
    };
    vec![format!(
        "{problem}; write {{\"tenant_id\": …, \"config_value\": {{feature: preference}}}}"
    )]
}

fn listed(FieldErrors(errors): FieldErrors) -> Vec<String> {
    let more = errors.len().saturating_sub(MAX_LISTED_PER_LINE);
    errors
        .iter()
        .take(MAX_LISTED_PER_LINE)
        .map(ToString::to_string)
        .chain((more > 0).then(|| format!("and {more} more")))
        .collect()
}

//! Previews: what a manual run of a job for one tenant would send now. A preview goes the way of such a run up to the call of
//! the handler, and asks the handler what it [would send](crate::ports::PurposeHandler::preview). It stores, delivers and counts
//! nothing; a dry run of the remote endpoint keeps to the limits of the purpose and of the process.

mod then;

use std::{
    fmt::{self, Write},
    time::Duration,
};

use punctual_domain::{
    Chunk, Item, ItemId, JobConfig, JobId, KeyForm, Occurrence, Outcome, Previous, PurposeId,
    SkipReason, Trigger, Work,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::SemaphorePermit;
use uuid::Uuid;

pub use self::then::PreviewThen;
use super::{EnhancedBatchProcessor, data::ChunkData, prepare::Prepared, tokens_of};
use crate::{
    ports::{HandlerError, HandlerErrorKind, Rendered},
    services::{batch_processor::ProcessError, handlers::BoundHandler},
};

/// Previews at one time in a process; each may hold texts and data of some MiB.
pub(super) const MAX_PREVIEWS: usize = 2;
/// Bytes of each text of a preview, and of each JSON value as it is shown: the spaces before deep values are most of it.
const MAX_PART_BYTES: usize = 1024 * 1024;
/// How long a preview waits for the tenant's data, and for its place among the calls of a purpose.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// What a manual run of a job for one tenant would send now. Nothing of it was stored or delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preview {
    /// The tenant, or the item of a job with a schedule of its own.
    pub tenant_id: ItemId,
    /// The job.
    pub job_id: JobId,
    /// Purpose that the job runs; of two, the first.
    pub purpose_id: PurposeId,
    /// The handler of the purpose, without secrets; `null`: it has no description.
    pub handler: Option<String>,
    /// How far the run of this purpose would get.
    pub status: PreviewStatus,
    /// Why nothing would be sent: reason of a skip, why there is nothing to do, or what fails; or that the run would wait for a
    /// completion. `null`: it would be sent.
    pub reason: Option<String>,
    /// What could be done about a failure; `null`: nothing failed.
    pub error_kind: Option<HandlerErrorKind>,
    /// Whether the tenant has stored a preference. Without one, the job's defaults are in effect here, and no scheduled run
    /// includes the tenant. `null` in a job with a schedule of its own.
    pub stored: Option<bool>,
    /// Whether the tenant's preference is on: a run leaves out a tenant whose preference is off. `null` in a job with a
    /// schedule of its own.
    pub enabled: Option<bool>,
    /// The effective preference.
    pub preference: Option<Value>,
    /// The tenant's own data, fetched for this preview, or the record of the item.
    pub data: Option<Value>,
    /// The last run that succeeded, if the job or its handler looks at it.
    pub previous: Option<Previous>,
    /// What would be sent; `null`: nothing.
    pub content: Option<PreviewContent>,
    /// Result that the dry run came to, as a run would store it; `null`: there was none.
    pub answer: Option<Value>,
    /// What the second purpose would send; `null`: the job has one purpose, or the run ends before the second.
    pub then: Option<PreviewThen>,
    /// Whether texts, or values as indented JSON, are cut at 1 MiB each. A value that is cut is a text.
    pub truncated: bool,
}

/// What a run would send.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreviewContent {
    /// Where it would go: an address, or a URL without what may be secret of it.
    pub to: Option<String>,
    /// Subject of an e-mail.
    pub subject: Option<String>,
    /// Text, as the template gives it.
    pub text: Option<String>,
    /// HTML, as the template gives it. It may be written by a tenant: show it without scripts.
    pub html: Option<String>,
    /// Body of the request: the item of a webhook, or the messages for a language model.
    pub body: Option<Value>,
}

/// How far a run would get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PreviewStatus {
    /// The content would be sent. Nothing was called.
    Rendered,
    /// The remote endpoint was called with the content, marked as a dry run, and answered.
    Called,
    /// There is nothing to do, for the reason given.
    NothingToDo,
    /// It fails, for the reason given.
    Failed,
    /// It would not begin, for the reason given.
    Skipped,
    /// The handler has no preview. Preference, data and previous run are as they would be given to it.
    NotSupported,
    /// The content of a second purpose is known after a dry run of the first.
    NeedsCall,
}

impl PreviewStatus {
    /// The status as a word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rendered => "rendered",
            Self::Called => "called",
            Self::NothingToDo => "nothing_to_do",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::NotSupported => "not_supported",
            Self::NeedsCall => "needs_call",
        }
    }
}

/// Reason why a preview is not made.
#[derive(Debug, Error)]
pub(crate) enum PreviewError {
    /// Too many are being made.
    #[error("{} previews are running; try again when one has ended", MAX_PREVIEWS)]
    Busy,
    /// Something did not come in time. A run waits for longer.
    #[error("{0} within {seconds} s; try again", seconds = MAX_WAIT.as_secs())]
    Late(&'static str),
    /// The process stops.
    #[error("the process is stopping; try again when it has started")]
    Stopping,
    /// The item cannot be prepared.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl EnhancedBatchProcessor {
    /// A place for a preview, of which there are few.
    pub(crate) fn preview_place(&self) -> Result<SemaphorePermit<'_>, PreviewError> {
        let place = self.previews.try_acquire();
        place.map_err(|_full| PreviewError::Busy)
    }

    /// What a manual run of a job for an item would send now; with `call`, the remote endpoint is called for a dry run.
    pub(crate) async fn preview(
        &self,
        _place: SemaphorePermit<'_>,
        job: &JobConfig,
        item_id: &ItemId,
        call: bool,
    ) -> Result<Preview, PreviewError> {
        let preview = self.unless_stopping(self.unbounded_preview(job, item_id, call));
        let preview = preview.await.ok_or(PreviewError::Stopping)?;
        Ok(preview?.bounded())
    }

    async fn unbounded_preview(
        &self,
        job: &JobConfig,
        item_id: &ItemId,
        call: bool,
    ) -> Result<Preview, PreviewError> {
        // Both handlers of one state, also if others are loaded while the preview is made.
        let of = |purpose| self.base.handlers().of(purpose);
        let (first, second) = (of(&job.purpose_id), job.then.as_ref().and_then(of));
        let (first, second) = (first.as_deref(), second.as_deref());
        let mut preview = Preview::new(job, item_id, handler_of(first));
        let mut chunk = self.manual_chunk(job, item_id);
        let mut prepared = self.prepare_all(job, &chunk, &chunk.items, true).await?;
        if skip_reason(&prepared) == Some(SkipReason::Deleted.as_str()) {
            preview.stored = Some(false);
            chunk.allow_unknown = true;
            prepared = self.prepare_all(job, &chunk, &chunk.items, true).await?;
        }
        if let Some(reason) = skip_reason(&prepared) {
            return Ok(preview.skipped(reason));
        }
        self.add_previous(&chunk, Some(job), &mut prepared).await?;
        let data = job.data.as_ref();
        let data = data.map(|config| ChunkData::new(config, &chunk, &prepared));
        let item = prepared.into_iter().find_map(|prepared| match prepared {
            Prepared::Run(item) => Some(item),
            Prepared::Skip(_) => None,
        });
        let Some(mut item) = item else {
            return Ok(preview.skipped(SkipReason::ItemRemoved.as_str()));
        };
        preview.note_input(&item);
        if let Some(data) = data {
            let added = data.add_to(&mut item, &self.tenant_data);
            let added = within("the data did not come", added).await?;
            preview.data = item.data().cloned();
            if let Some(outcome) = added.transpose() {
                preview.ends(Ending::of_outcome(outcome));
                return Ok(preview);
            }
        }
        let rendered = self.rendered(job, first, &item, call).await?;
        let shown = rendered.as_ref().ok().and_then(Option::as_ref);
        let output = shown.and_then(then::output_of).cloned();
        let ending = Ending::of(rendered);
        preview.ends(match &job.then {
            Some(_) => ending.in_purpose(&job.purpose_id),
            None => ending,
        });
        let then = self.preview_of_second(job, second, item, preview.status, output, call);
        preview.then = then.await?;
        Ok(preview)
    }

    /// What the handler of an item's purpose would send.
    async fn rendered(
        &self,
        job: &JobConfig,
        bound: Option<&BoundHandler>,
        item: &Item,
        call: bool,
    ) -> Result<Result<Option<Rendered>, HandlerError>, PreviewError> {
        Ok(match bound {
            None => Err(HandlerError::permanent(format!(
                "purpose `{}` has no handler in this process",
                item.purpose_id
            ))),
            Some(bound) if call => self.dry_run(job, bound, item).await?,
            Some(bound) => bound.preview(item, false).await,
        })
    }

    /// The chunk of a manual run that begins now. Its occurrence is its own, so that no endpoint takes the key of a dry run for
    /// that of a run.
    fn manual_chunk(&self, job: &JobConfig, item_id: &ItemId) -> Chunk {
        let (now, batch_id) = (self.now(), Uuid::new_v4());
        Chunk {
            chunk_id: format!("{batch_id}/0"),
            batch_id,
            job_id: job.job_id.clone(),
            scheduled_at: now,
            occurrence: Occurrence::Run(batch_id),
            items: vec![item_id.clone()],
            traceparent: None,
            prepares: None,
            trigger: Trigger::Manual,
            planned_at: Some(now),
            expires_at: None,
            allow_unknown: false,
            key_form: KeyForm::Slashes,
            after: Vec::new(),
        }
    }

    /// Asks the handler to call its remote endpoint, within the limits that hold for runs.
    async fn dry_run(
        &self,
        job: &JobConfig,
        bound: &BoundHandler,
        item: &Item,
    ) -> Result<Result<Option<Rendered>, HandlerError>, PreviewError> {
        let has_others = self.jobs.current().jobs.len() > 1;
        let permits = async {
            let call_permit = bound.throttle.acquire().await;
            let permit = self
                .permits
                .acquire(&job.job_id, job.priority, has_others)
                .await;
            (call_permit, permit)
        };
        let permits = within("the limits of the purpose left no place", permits).await?;
        // An operator waits for the dry run, so it counts for the organization and does not wait for its share.
        let organization = item.organization();
        if let Some(organization) = organization {
            bound.throttle.organizations.begin(organization);
        }
        let rendered = bound.preview(item, true).await;
        let outcome = match &rendered {
            Ok(rendered) => rendered.as_ref().and_then(|sent| sent.outcome.as_ref()),
            Err(_) => None,
        };
        match outcome.map(Result::as_ref) {
            Some(Ok(outcome)) if !matches!(outcome, Outcome::NothingToDo(_)) => {
                bound.throttle.note(Ok(tokens_of(outcome)), organization);
            }
            Some(Err(error)) => bound.throttle.note(Err(error), organization),
            _ => {}
        }
        drop(permits);
        Ok(rendered)
    }
}

/// What `waits` comes to, if it does in time.
async fn within<T>(
    problem: &'static str,
    waits: impl Future<Output = T>,
) -> Result<T, PreviewError> {
    let waited = tokio::time::timeout(MAX_WAIT, waits).await;
    waited.map_err(|_elapsed| PreviewError::Late(problem))
}

/// The description of a handler.
fn handler_of(bound: Option<&BoundHandler>) -> Option<String> {
    bound.and_then(|bound| bound.binding.handler.clone())
}

/// How one purpose of a run would end.
struct Ending {
    status: PreviewStatus,
    reason: Option<String>,
    error_kind: Option<HandlerErrorKind>,
    content: Option<PreviewContent>,
    answer: Option<Value>,
}

impl Ending {
    fn new(status: PreviewStatus) -> Self {
        Self {
            status,
            reason: None,
            error_kind: None,
            content: None,
            answer: None,
        }
    }

    fn without_content(status: PreviewStatus, reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new(status)
        }
    }

    fn of_outcome(outcome: Result<Outcome, HandlerError>) -> Self {
        match outcome {
            Ok(Outcome::Done(answer)) => Self {
                answer: Some(answer),
                ..Self::new(PreviewStatus::Called)
            },
            Ok(Outcome::NothingToDo(reason)) => {
                Self::without_content(PreviewStatus::NothingToDo, reason)
            }
            Ok(Outcome::Waiting(waiting)) => Self::without_content(
                PreviewStatus::Called,
                format!(
                    "the work would go on elsewhere, and the run would wait for its completion until {}",
                    waiting.until.format("%Y-%m-%d %H:%M:%S UTC")
                ),
            ),
            Err(error) => Self {
                error_kind: Some(error.kind),
                ..Self::without_content(PreviewStatus::Failed, error.message)
            },
        }
    }

    /// With what the handler would send.
    fn of(rendered: Result<Option<Rendered>, HandlerError>) -> Self {
        let rendered = match rendered {
            Ok(Some(rendered)) => rendered,
            Ok(None) => {
                let reason = "the handler of this purpose has no preview".to_owned();
                return Self::without_content(PreviewStatus::NotSupported, reason);
            }
            Err(error) => return Self::of_outcome(Err(error)),
        };
        let content = PreviewContent {
            to: rendered.to,
            subject: rendered.subject,
            text: rendered.text,
            html: rendered.html,
            body: rendered.body,
        };
        let ending = match rendered.outcome {
            Some(outcome) => Self::of_outcome(outcome),
            None => Self::new(PreviewStatus::Rendered),
        };
        Self {
            content: Some(content).filter(|content| *content != PreviewContent::default()),
            ..ending
        }
    }
}

fn skip_reason(prepared: &[Prepared]) -> Option<&str> {
    prepared.iter().find_map(|one| match one {
        Prepared::Skip(result) => result.error.as_deref(),
        Prepared::Run(_) => None,
    })
}

impl Preview {
    fn new(job: &JobConfig, item_id: &ItemId, handler: Option<String>) -> Self {
        Self {
            tenant_id: item_id.clone(),
            job_id: job.job_id.clone(),
            purpose_id: job.purpose_id.clone(),
            handler,
            status: PreviewStatus::NotSupported,
            reason: None,
            error_kind: None,
            stored: matches!(job.work, Work::Preferences { .. }).then_some(true),
            enabled: None,
            preference: None,
            data: None,
            previous: None,
            content: None,
            answer: None,
            then: None,
            truncated: false,
        }
    }

    /// What is to be said of the tenant beside it: that no run includes them.
    #[must_use]
    pub fn note(&self) -> Option<&'static str> {
        match (self.stored, self.enabled) {
            (Some(false), _) => Some(
                "The tenant has stored no preference: the job's defaults are in effect here, and no scheduled run includes \
                 the tenant.",
            ),
            (_, Some(false)) => Some("The tenant's preference is off: no run includes the tenant."),
            _ => None,
        }
    }

    fn note_input(&mut self, item: &Item) {
        let enabled = item.preference().map(|effective| effective.enabled);
        self.enabled = enabled.map(|enabled| enabled && self.stored == Some(true));
        self.preference = item.preference_json().map(|json| (*json).clone());
        self.data = item.data().cloned();
        self.previous = item.previous;
    }

    /// The same, of a run that would not begin.
    fn skipped(mut self, reason: &str) -> Self {
        let is = |skip: SkipReason| reason == skip.as_str();
        let invalid = reason.strip_prefix(SkipReason::Invalid.as_str());
        self.status = PreviewStatus::Skipped;
        self.reason = Some(match invalid {
            Some(detail) => format!("the preference is not valid{detail}"),
            None if is(SkipReason::ItemRemoved) => {
                format!("{} has no item `{}`", self.job_id, self.tenant_id)
            }
            None if is(SkipReason::UnknownUser) => format!(
                "{} is not in the list of users of {}",
                self.tenant_id, self.job_id
            ),
            None => reason.to_owned(),
        });
        self
    }

    /// Notes how its first purpose would end.
    fn ends(&mut self, ending: Ending) {
        self.status = ending.status;
        self.reason = ending.reason;
        self.error_kind = ending.error_kind;
        self.content = ending.content;
        self.answer = ending.answer;
    }

    /// The same, with parts of limited size.
    fn bounded(mut self) -> Self {
        let mut texts = vec![&mut self.reason];
        let mut values = vec![&mut self.preference, &mut self.data, &mut self.answer];
        let mut contents = vec![&mut self.content];
        if let Some(then) = &mut self.then {
            texts.push(&mut then.reason);
            values.push(&mut then.answer);
            contents.push(&mut then.content);
        }
        for content in contents.into_iter().flatten() {
            texts.extend([&mut content.to, &mut content.subject]);
            texts.extend([&mut content.text, &mut content.html]);
            values.push(&mut content.body);
        }
        let mut truncated = false;
        for text in texts.into_iter().flatten() {
            if text.len() > MAX_PART_BYTES {
                text.truncate(text.floor_char_boundary(MAX_PART_BYTES));
                truncated = true;
            }
        }
        for value in values.into_iter().flatten() {
            let mut shown = Part::default();
            if write!(shown, "{value:#}").is_err() {
                *value = Value::String(shown.0);
                truncated = true;
            }
        }
        self.truncated = truncated;
        self
    }
}

/// The beginning of a text; writing fails once it is full.
#[derive(Default)]
struct Part(String);

impl fmt::Write for Part {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = text.floor_char_boundary(MAX_PART_BYTES - self.0.len());
        self.0.push_str(&text[..room]);
        if room < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Preview {
        let jobs = serde_json::json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
            "preference_based": true, "feature_type": "posts"}]});
        let jobs = punctual_project::parse_batch_config(&jobs, &punctual_domain::Zone::utc());
        let (jobs, ann) = (jobs.unwrap(), ItemId::new("ann").unwrap());
        Preview::new(&jobs.jobs[0], &ann, None)
    }

    #[test]
    fn a_preview_is_cut_part_by_part() {
        let preview = Preview {
            data: Some(Value::from("x".repeat(2 * MAX_PART_BYTES))),
            answer: Some(Value::from("short")),
            content: Some(PreviewContent {
                text: Some("é".repeat(MAX_PART_BYTES)),
                html: Some("<p>Hello</p>".to_owned()),
                ..PreviewContent::default()
            }),
            then: Some(PreviewThen {
                purpose_id: PurposeId::new("send").unwrap(),
                handler: None,
                status: PreviewStatus::Called,
                reason: Some("x".repeat(2 * MAX_PART_BYTES)),
                error_kind: None,
                content: Some(PreviewContent {
                    subject: Some("x".repeat(2 * MAX_PART_BYTES)),
                    ..PreviewContent::default()
                }),
                answer: Some(Value::from("x".repeat(2 * MAX_PART_BYTES))),
            }),
            ..empty()
        };
        let whole = Preview {
            data: None,
            content: None,
            then: None,
            ..preview.clone()
        };
        assert!(!whole.bounded().truncated);
        let cut = preview.bounded();
        assert!(cut.truncated);
        let content = cut.content.unwrap();
        assert_eq!(content.text.unwrap().len(), MAX_PART_BYTES);
        assert_eq!(content.html.as_deref(), Some("<p>Hello</p>"));
        assert_eq!(cut.answer, Some(Value::from("short")));
        let data = cut.data.unwrap();
        assert_eq!(data.as_str().unwrap().len(), MAX_PART_BYTES);
        let then = cut.then.unwrap();
        assert_eq!(then.reason.unwrap().len(), MAX_PART_BYTES);
        let subject = then.content.unwrap().subject.unwrap();
        assert_eq!(subject.len(), MAX_PART_BYTES);
        assert_eq!(then.answer.unwrap().as_str().unwrap().len(), MAX_PART_BYTES);
    }

    #[test]
    fn deep_values_and_long_reasons_are_cut_by_what_is_shown() {
        let deep = (0..60).fold(Value::from(vec![1; 50_000]), |inner, _| {
            Value::from(vec![inner])
        });
        assert!(deep.to_string().len() < MAX_PART_BYTES);
        let preview = Preview {
            data: Some(deep),
            reason: Some("x".repeat(2 * MAX_PART_BYTES)),
            ..empty()
        };
        let cut = preview.bounded();
        assert!(cut.truncated);
        assert_eq!(cut.reason.unwrap().len(), MAX_PART_BYTES);
        let data = cut.data.unwrap();
        assert_eq!(data.as_str().unwrap().len(), MAX_PART_BYTES);
    }
}

//! What failed for good: replay it, discard it, and open again what was discarded.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use askama::Template;
use axum::{
    extract::{Form, Query, State, rejection::FormRejection, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use chrono::DateTime;
use punctual_application::{
    Actor, DeadLetterSelection, IdempotencyKey, OperatorError, amount, noun, ports::OpenDeadLetters,
};
use punctual_domain::{DeadLetter, DeadLetterState, FailureKind, TenantId};
use punctual_web::Empty;
use serde::Deserialize;

use super::{
    App, Choice, Live, Pager, PagerQuery, ROWS_PER_PAGE, Visitor,
    answer::{Done, What, back_to},
    confirm::Confirm,
    job_of,
    jobs::is_refusal,
    render_wrong,
};
use crate::{audit::RequestActor, idempotency::IdempotencyHeader, problem::Problem};

const STATES: [&str; 3] = ["open", "replayed", "discarded"];

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    visitor: Visitor,
    letters: Vec<DeadLetter>,
    /// Number of all that match the filter.
    count: u64,
    /// The most frequent errors of open ones, by job.
    causes: Vec<OpenDeadLetters>,
    jobs: Vec<Choice>,
    states: Vec<Choice>,
    kinds: Vec<Choice>,
    which: LettersQuery,
    state: DeadLetterState,
    pager: Pager,
    key: IdempotencyKey,
}

impl DeadLettersPage {
    fn nothing(&self) -> String {
        let LettersQuery {
            job,
            tenant,
            failure_kind,
            ..
        } = &self.which;
        let all = [job, tenant, failure_kind].iter().all(|one| one.is_empty());
        let empty = match self.state {
            DeadLetterState::Open if all => Empty::of("No item has failed for good.")
                .good()
                .note("Items that have used up their retries appear here, to be replayed or discarded.")
                .link("?state=discarded", "See discarded ones"),
            _ => Empty::of("No dead letters match this filter.").link("?", "Show all open ones"),
        };
        empty.html()
    }
}

/// What is looked for; empty fields of a form mean nothing in particular.
#[derive(Clone, Default, Deserialize)]
pub(super) struct LettersQuery {
    #[serde(default)]
    job: String,
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    failure_kind: String,
    cursor: Option<String>,
    #[serde(default)]
    trail: String,
}

impl LettersQuery {
    fn tenant_id(&self) -> Result<Option<TenantId>, Problem> {
        let tenant = self.tenant.trim();
        Ok((!tenant.is_empty())
            .then(|| TenantId::new(tenant))
            .transpose()?)
    }

    fn state(&self) -> Result<DeadLetterState, Problem> {
        match self.state.as_str() {
            "" => Ok(DeadLetterState::Open),
            state => {
                let state = state.parse::<DeadLetterState>();
                state.map_err(|error| Problem::bad_request(error.to_string()))
            }
        }
    }

    fn failure_kind(&self) -> Result<Option<FailureKind>, Problem> {
        let kind = Some(&self.failure_kind).filter(|kind| !kind.is_empty());
        let kind = kind.map(|kind| kind.parse::<FailureKind>()).transpose();
        kind.map_err(|error| Problem::bad_request(error.to_string()))
    }

    fn filters(&self) -> [(&str, &str); 4] {
        [
            ("job", self.job.as_str()),
            ("tenant", self.tenant.as_str()),
            ("state", self.state.as_str()),
            ("failure_kind", self.failure_kind.as_str()),
        ]
    }

    /// All that a form sends, so that it leads back to this page of the list.
    fn fields(&self) -> [(&str, &str); 6] {
        let [job, tenant, state, kind] = self.filters();
        let cursor = self.cursor.as_deref().unwrap_or_default();
        [
            job,
            tenant,
            state,
            kind,
            ("cursor", cursor),
            ("trail", self.trail.as_str()),
        ]
    }

    /// The address of this page of the list.
    fn address(&self) -> String {
        let fields = self.fields().into_iter();
        let fields: Vec<_> = fields.filter(|(_, value)| !value.is_empty()).collect();
        let fields = serde_urlencoded::to_string(fields).unwrap_or_default();
        format!("/dead-letters?{fields}")
    }

    /// The first page of the list.
    fn first_page(self) -> Self {
        Self {
            cursor: None,
            trail: String::new(),
            ..self
        }
    }

    /// What it is of, in words.
    fn of(&self) -> String {
        let of = match (self.job.as_str(), self.tenant.as_str()) {
            ("", "") => "of all jobs".to_owned(),
            (job, "") => format!("of {job}"),
            ("", tenant) => format!("of tenant {tenant}"),
            (job, tenant) => format!("of tenant {tenant} in {job}"),
        };
        match self.failure_kind.as_str() {
            "" => of,
            kind => format!("{of} with failures of kind {kind}"),
        }
    }
}

/// Whether the reasons of that many open ones are those of the newest alone.
fn are_of_newest(count: u64) -> bool {
    count > u64::from(OpenDeadLetters::SEARCHED)
}

/// What the reasons are of, where it is not all.
fn newest_in_words() -> String {
    format!("of the newest {}", OpenDeadLetters::SEARCHED)
}

pub(super) async fn list(
    State(app): State<App>,
    Live(visitor): Live,
    query: Result<Query<LettersQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(which) = query?;
    app.letters_page(visitor, which).await
}

impl App {
    async fn letters_page(
        &self,
        visitor: Visitor,
        mut which: LettersQuery,
    ) -> Result<Response, Problem> {
        let (state, failure_kind) = (which.state()?, which.failure_kind()?);
        // What is wrong with a filter is said beside it, above a list without it.
        let (job_id, tenant) = (job_of(&which.job), which.tenant_id());
        let wrong = [job_id.as_ref().err(), tenant.as_ref().err()];
        let wrong = wrong.into_iter().flatten().next();
        let wrong = wrong.map(|problem| problem.detail().to_owned());
        let visitor = match wrong {
            Some(wrong) => visitor.refused(wrong),
            None => visitor,
        };
        let selection = DeadLetterSelection {
            job_id: job_id.unwrap_or_default(),
            tenant_id: tenant.unwrap_or_default(),
            failure_kind,
            ..DeadLetterSelection::default()
        };
        // Of discarded ones, those that can be reopened.
        let filter = selection.filter(state, self.operator.clock.now());
        let mut asked = PagerQuery::new(which.cursor.clone(), which.trail.clone());
        let mut page = asked.page(ROWS_PER_PAGE);
        let reader = &self.operator.reader;
        let (mut letters, mut next) = reader.dead_letters(&filter, &page).await?;
        if letters.is_empty() && page.cursor.is_some() {
            // All of a later page have been settled: the list begins anew.
            which = which.first_page();
            asked = PagerQuery::default();
            page.cursor = None;
            (letters, next) = reader.dead_letters(&filter, &page).await?;
        }
        let mut causes = Vec::new();
        if state == DeadLetterState::Open && filter.item_id.is_none() {
            causes = self.operator.operations.open_dead_letters().await?;
            let of_job = |cause: &OpenDeadLetters| filter.job_id.as_ref() == Some(&cause.job_id);
            causes.retain(|cause| filter.job_id.is_none() || of_job(cause));
        }
        let wrong = visitor.refused.is_some();
        let page = DeadLettersPage {
            visitor,
            letters,
            count: reader.dead_letter_count(&filter).await?,
            causes,
            jobs: self.job_choices(&which.job),
            states: Choice::among(STATES, state.as_str()),
            kinds: Choice::among(FailureKind::WORDS.iter().copied(), &which.failure_kind),
            state,
            pager: Pager::new(&which.filters(), &asked, next.as_deref()),
            which,
            key: IdempotencyKey::random(),
        };
        render_wrong(&page, wrong)
    }
}

#[derive(Deserialize)]
pub(super) struct ActionForm {
    /// `replay`, `discard` or `reopen`, and a number, `selected`, or `all` of what is looked for; or `undo`.
    action: String,
    #[serde(flatten)]
    which: LettersQuery,
    /// Set once it has been asked.
    #[serde(default)]
    confirmed: String,
    /// The newest one that the question was about.
    #[serde(default)]
    up_to: String,
    /// How many the question was about.
    #[serde(default)]
    count: String,
    /// Of an undo: when they were discarded, in microseconds since 1970.
    #[serde(default)]
    discarded_at: String,
    /// Of an undo: the page on which it stood.
    #[serde(default)]
    back: String,
    /// Drawn when the page was rendered: pressing a button twice is one replay.
    key: Option<String>,
    /// `tick-NUMBER` of those that are selected.
    #[serde(flatten)]
    ticks: BTreeMap<String, String>,
}

/// What can be done to dead letters.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    Replay,
    Discard,
    Reopen,
}

impl Action {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "replay" => Some(Self::Replay),
            "discard" => Some(Self::Discard),
            "reopen" => Some(Self::Reopen),
            _ => None,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Replay => "Replay",
            Self::Discard => "Discard",
            Self::Reopen => "Reopen",
        }
    }

    /// The state of those that it can be done to.
    fn state(self) -> DeadLetterState {
        match self {
            Self::Replay | Self::Discard => DeadLetterState::Open,
            Self::Reopen => DeadLetterState::Discarded,
        }
    }

    fn note(self) -> &'static str {
        match self {
            Self::Replay => {
                "They run again as the same occurrences, with the same idempotency keys."
            }
            Self::Discard => "They do not run again, unless you reopen them within 30 days.",
            Self::Reopen => "They can be replayed then.",
        }
    }
}

pub(super) async fn act(
    State(app): State<App>,
    visitor: Visitor,
    RequestActor(actor): RequestActor,
    form: Result<Form<ActionForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form?;
    if form.action == "undo" {
        return app.undo(&actor, form).await;
    }
    let (verb, what) = form.action.split_once(' ').ok_or_else(unknown)?;
    let action = Action::parse(verb).ok_or_else(unknown)?;
    let selection = match what {
        "all" => {
            let (job_id, tenant_id) = (job_of(&form.which.job)?, form.which.tenant_id()?);
            let failure_kind = form.which.failure_kind()?;
            DeadLetterSelection {
                all: job_id.is_none() && tenant_id.is_none() && failure_kind.is_none(),
                job_id,
                tenant_id,
                failure_kind,
                up_to: number(&form.up_to)?,
                ..DeadLetterSelection::default()
            }
        }
        "selected" => {
            let ids = form.ticks.keys();
            let ids = ids.filter_map(|name| name.strip_prefix("tick-"));
            let ids: Result<BTreeSet<i64>, _> = ids.map(str::parse).collect();
            let ids = ids.map_err(|_| unknown())?;
            if ids.is_empty() {
                let error = "Select at least one dead letter first.";
                return app.refused_letters(visitor, form.which, error).await;
            }
            DeadLetterSelection {
                ids: Some(ids),
                ..DeadLetterSelection::default()
            }
        }
        id => DeadLetterSelection::one(id.parse().map_err(|_| unknown())?),
    };
    let selection = DeadLetterSelection {
        count: number(&form.count)?,
        ..selection
    };
    let is_one = selection.ids.as_ref().is_some_and(|ids| ids.len() == 1);
    if is_one || !form.confirmed.is_empty() {
        app.settle(visitor, &actor, action, &selection, form).await
    } else {
        app.ask(visitor, action, &selection, form).await
    }
}

fn unknown() -> Problem {
    Problem::bad_request("unknown action; a dead letter can be replayed, discarded or reopened")
}

/// A number of a hidden field, which may be empty.
fn number<T: FromStr>(field: &str) -> Result<Option<T>, Problem> {
    match field {
        "" => Ok(None),
        field => field.parse().map(Some).map_err(|_| unknown()),
    }
}

impl App {
    /// The page of the list on which something was asked for, with why it is not done.
    async fn refused_letters(
        &self,
        visitor: Visitor,
        which: LettersQuery,
        why: impl Into<String>,
    ) -> Result<Response, Problem> {
        let page = which.address();
        let visitor = visitor.refused(why).on(page);
        self.letters_page(visitor, which).await
    }

    /// Asks before much is done, with how much.
    async fn ask(
        &self,
        visitor: Visitor,
        action: Action,
        selection: &DeadLetterSelection,
        form: ActionForm,
    ) -> Result<Response, Problem> {
        let counted = self.operator.count_letters(selection, action.state());
        let (count, selection) = counted.await?;
        if count == 0 {
            let state = action.state().as_str();
            let why = format!("No {state} dead letter matches the filter.");
            return self.refused_letters(visitor, form.which, why).await;
        }
        let (verb, of) = (action.verb(), form.which.of());
        let letters = noun(count, "dead letter");
        let question = match &selection.ids {
            Some(_) => format!("{verb} {count} selected {letters}?"),
            None => format!("{verb} {count} {letters} {of}?"),
        };
        let button = format!("{verb} {}", amount(count, "dead letter"));
        let mut ask = Confirm::new(visitor, question, button)
            .note(action.note())
            .sends("post", "/dead-letters")
            .back(form.which.address())
            .field("action", form.action)
            .field("confirmed", "yes")
            .field("count", count.to_string())
            .field("key", form.key.unwrap_or_default());
        if let Some(up_to) = selection.up_to {
            ask = ask.field("up_to", up_to.to_string());
        }
        for (name, value) in form.which.fields() {
            ask = ask.field(name, value);
        }
        for id in selection.ids.iter().flatten() {
            ask = ask.field(format!("tick-{id}"), "on");
        }
        Ok(ask.page()?.into_response())
    }

    async fn settle(
        &self,
        visitor: Visitor,
        actor: &Actor,
        action: Action,
        selection: &DeadLetterSelection,
        form: ActionForm,
    ) -> Result<Response, Problem> {
        let done = self.settled(actor, action, selection, form.key.clone());
        match done.await {
            Ok(done) => {
                // Of all of them nothing is left on the later pages.
                let which = match &selection.ids {
                    Some(_) => form.which,
                    None => form.which.first_page(),
                };
                Ok(done.then(&which.address()))
            }
            Err(OperatorError::Changed(_)) => self.ask(visitor, action, selection, form).await,
            Err(error) if is_refusal(&error) => {
                let why = error.to_string();
                self.refused_letters(visitor, form.which, why).await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn settled(
        &self,
        actor: &Actor,
        action: Action,
        selection: &DeadLetterSelection,
        key: Option<String>,
    ) -> Result<Done, OperatorError> {
        let IdempotencyHeader(key) = IdempotencyHeader::of_form(key, action.verb(), selection)?;
        let operator = &self.operator;
        Ok(match action {
            Action::Replay => {
                let report = operator.replay(actor, key.as_ref(), selection).await?;
                let left_out = report.left_out.iter().map(|left| left.dead_letters);
                let paused = operator.queue.paused().await;
                Done::new(What::Replayed)
                    .paused(paused.is_ok_and(|paused| !paused.is_empty()))
                    .count(report.replayed)
                    .batches(report.batches.len())
                    .batch(report.batches.first().copied())
                    .left(left_out.sum::<usize>() + report.not_open.len())
            }
            Action::Discard => {
                let report = operator.discard(actor, key.as_ref(), selection).await?;
                Done::new(What::Discarded)
                    .count(report.discarded)
                    .at(report.discarded_at)
            }
            Action::Reopen => {
                let report = operator.reopen(actor, key.as_ref(), selection).await?;
                Done::new(What::Reopened).count(report.reopened)
            }
        })
    }

    /// Opens again what one discard has settled.
    async fn undo(&self, actor: &Actor, form: ActionForm) -> Result<Response, Problem> {
        let at: Option<i64> = number(&form.discarded_at)?;
        let discarded_at = at.and_then(DateTime::from_timestamp_micros);
        let selection = DeadLetterSelection {
            discarded_at: Some(discarded_at.ok_or_else(unknown)?),
            ..DeadLetterSelection::default()
        };
        let IdempotencyHeader(key) = IdempotencyHeader::of_form(form.key, "undo", &selection)?;
        let reopened = self.operator.reopen(actor, key.as_ref(), &selection).await;
        let done = match reopened {
            Ok(report) => Done::new(What::Reopened).count(report.reopened),
            Err(OperatorError::NotFound(_)) => Done::new(What::NotReopened),
            Err(error) => return Err(error.into()),
        };
        let back = back_to(&form.back, &["/dead-letters"], "/dead-letters");
        Ok(done.then(&back))
    }
}

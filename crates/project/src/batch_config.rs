//! `batch_config.json`: the jobs, read strictly, every mistake reported at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use chrono::TimeDelta;
use punctual_domain::{
    BatchConfig, CatchUp, CatchUpPolicy, CronSchedule, Delivery, FailureLimit, FeatureType,
    FieldError, FieldErrors, Fields, Invalid, JobConfig, JobId, JobKind, KeepDays,
    MergedPreference, Overlap, Preference, Priority, PurposeId, Schedule, Source, TenantId, Work,
    Zone, below, object_at, parse_zone,
    values::{boolean, duration, parsed, text, whole_number},
};
use serde_json::Value;

use crate::{data::parse_data, source::parse_source};

/// Runs are prepared at most so long before they fall due.
const MAX_PREPARE_AHEAD: TimeDelta = TimeDelta::days(7);

/// Reads the content of `batch_config.json`: `{"jobs": […]}`, or the older `batch_processing_jobs`.
///
/// # Errors
/// Every mistake in it.
pub fn parse_batch_config(
    document: &Value,
    default_zone: &Zone,
) -> Result<BatchConfig, FieldErrors> {
    let mut fields = Fields::new(object_at(document, "")?, "");
    fields.raw("$schema");
    let older = fields.raw("batch_processing_jobs").is_some();
    let name = if older {
        "batch_processing_jobs"
    } else {
        "jobs"
    };
    if fields.raw("jobs").is_some() == older {
        fields.complain(
            "jobs",
            Invalid::new("is missing or given twice", "add \"jobs\": [ … ], once"),
        );
    }
    let jobs = fields.nested(name, |list, pointer| {
        parse_jobs(list, pointer, default_zone)
    });
    fields.deny_others();
    fields.finish(|| jobs.map(|jobs| BatchConfig { jobs }))
}

/// The jobs of a list that can be read, whatever is wrong with others, with their places in it: for checks beside those of
/// [`parse_batch_config`].
#[must_use]
pub fn readable_jobs(list: &Value, default_zone: &Zone) -> Vec<(usize, JobConfig)> {
    let jobs = list.as_array().into_iter().flatten().enumerate();
    let readable = jobs.filter_map(|(index, job)| {
        let job = parse_job(job, "", default_zone).ok()?;
        Some((index, job))
    });
    readable.collect()
}

fn parse_jobs(
    list: &Value,
    pointer: &str,
    default_zone: &Zone,
) -> Result<Vec<JobConfig>, FieldErrors> {
    let Some(list) = list.as_array() else {
        return Err(Invalid::wrong_type("a list, [ … ]")
            .at(pointer, Some(list))
            .into());
    };
    let mut jobs = Vec::new();
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    for (index, value) in list.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        match parse_job(value, &pointer, default_zone) {
            Ok(job) => jobs.push(job),
            Err(found) => errors.extend(found.0),
        }
        let name = value.get("job_id").filter(|name| name.is_string());
        if let Some(name) = name
            && !names.insert(name.to_string())
        {
            let invalid = Invalid::new(
                "is the name of an earlier job",
                "give every job its own name",
            );
            errors.push(invalid.at(format!("{pointer}/job_id"), Some(name)));
        }
    }
    FieldErrors::unless_empty(errors).map(|()| jobs)
}

fn parse_job(value: &Value, pointer: &str, default_zone: &Zone) -> Result<JobConfig, FieldErrors> {
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    let job_id = fields.required("job_id", "add a name for the job", parsed::<JobId>);
    let kind = fields.required("type", KINDS, parse_kind);
    let purpose_id = fields.required(
        "purpose_id",
        "add a purpose of purposes.json",
        parsed::<PurposeId>,
    );
    let then = fields.optional("then", |value| parse_then(value, purpose_id.as_ref(), kind));
    let description = fields.optional("description", text);
    let priority = fields
        .optional("priority", parse_priority)
        .unwrap_or_default();
    let retry_limit = fields.optional("retry_limit", |value| whole_number(value, 0..=100));
    let catch_up = fields
        .nested("catch_up", parse_catch_up)
        .unwrap_or_default();
    let failure_limit = fields
        .nested("failure_limit", parse_failure_limit)
        .unwrap_or_default();
    let expires_after = fields.optional("expires_after", duration);
    let overlap = fields.optional("overlap", parse_overlap);
    let keep = parse_keep(&mut fields, catch_up);
    let deliver = fields.nested("deliver", parse_deliver).unwrap_or_default();
    let is_email = |place: &Delivery| matches!(place, Delivery::Email(_));
    if kind == Some(JobKind::Individual) && deliver.iter().any(is_email) {
        let problem = "has an e-mail, which is for the result of all records of an object_batch or combined_batch";
        let remedy = "name the e-mail's purpose in \"then\" instead";
        fields.complain("deliver", Invalid::new(problem, remedy));
    }
    let preference_based = fields.optional("preference_based", boolean);
    let mut prepare_ahead = None;
    let (work, data, per_organization) = if preference_based.unwrap_or(false) {
        prepare_ahead = fields.optional("prepare_ahead", parse_prepare_ahead);
        let data = fields.nested("data", parse_data);
        let per_organization = fields.optional("max_concurrent_items_per_organization", |value| {
            whole_number(value, 1..=100_000)
        });
        (preference_work(&mut fields, kind), data, per_organization)
    } else {
        (fixed_work(&mut fields, kind, default_zone), None, None)
    };
    fields.deny_others();
    fields.finish(|| {
        Some(JobConfig {
            job_id: job_id?,
            kind: kind?,
            purpose_id: purpose_id?,
            then,
            description: description.map(str::to_owned),
            priority,
            retry_limit: retry_limit.map(|limit| limit as u32),
            catch_up,
            failure_limit,
            expires_after,
            prepare_ahead,
            overlap: overlap.unwrap_or_default(),
            keep,
            max_concurrent_items_per_organization: per_organization
                .and_then(|most| NonZeroU32::new(most as u32)),
            deliver,
            data,
            work: work?,
        })
    })
}

/// Reads how long what has run is kept. A missed occurrence that is made up must not be older: the store has to know whether it ran.
fn parse_keep(fields: &mut Fields<'_>, catch_up: CatchUp) -> KeepDays {
    let usual = KeepDays::default();
    let mut days =
        |name: &'static str| fields.optional(name, |value| whole_number(value, KeepDays::RANGE));
    let (results, failures) = (days("keep_results_days"), days("keep_failures_days"));
    let keep = KeepDays {
        results: results.map_or(usual.results, |days| days as u32),
        failures: failures.map_or(usual.failures, |days| days as u32),
    };
    let window = catch_up.window.unwrap_or_default();
    if catch_up.policy != CatchUpPolicy::Skip && window > keep.shortest() {
        let (name, kept) = if keep.results <= keep.failures {
            ("keep_results_days", keep.results)
        } else {
            ("keep_failures_days", keep.failures)
        };
        let problem = format!(
            "is less than the window of catch_up ({kept} days, and {} minutes)",
            window.num_minutes()
        );
        let remedy = format!(
            "use at least {} days, or a window_minutes of at most {}",
            (window.num_minutes() + 1_439) / 1_440,
            keep.shortest().num_minutes()
        );
        fields.complain(name, Invalid::new(problem, remedy));
    }
    keep
}

/// Reads how long ahead runs are prepared.
fn parse_prepare_ahead(value: &Value) -> Result<TimeDelta, Invalid> {
    let ahead = duration(value)?;
    if ahead > MAX_PREPARE_AHEAD {
        let remedy = "use a duration from `1m` to `7d`, such as `90m` or `12h`";
        return Err(Invalid::new("is too long", remedy));
    }
    Ok(ahead)
}

/// Reads the second purpose of a job.
fn parse_then(
    value: &Value,
    first: Option<&PurposeId>,
    kind: Option<JobKind>,
) -> Result<PurposeId, Invalid> {
    let then = parsed::<PurposeId>(value)?;
    if first == Some(&then) {
        let remedy = "name another purpose, or remove it";
        return Err(Invalid::new("is the job's first purpose", remedy));
    }
    // The result of an aggregate is that of all its recipients.
    if kind.is_some_and(|kind| kind != JobKind::Individual) {
        let problem = "cannot be combined with object_batch or combined_batch";
        return Err(Invalid::new(problem, "use individual_batch, or remove it"));
    }
    Ok(then)
}

fn preference_work(fields: &mut Fields<'_>, kind: Option<JobKind>) -> Option<Work> {
    if kind.is_some_and(|kind| kind != JobKind::Individual) {
        let remedy = "use individual_batch, or remove preference_based";
        fields.complain(
            "type",
            Invalid::new("cannot be combined with preference_based", remedy),
        );
    }
    let remedy = "add the feature whose preferences drive the job, such as instagram_posts";
    let feature_type = fields.required("feature_type", remedy, parsed::<FeatureType>);
    let defaults = fields
        .nested("default_preferences", Preference::parse_strictly)
        .unwrap_or_default();
    let spread_minutes = fields.optional("spread_minutes", |value| whole_number(value, 0..=1440));
    Some(Work::Preferences {
        feature_type: feature_type?,
        defaults: Box::new(defaults),
        spread_minutes: spread_minutes.unwrap_or(0) as u32,
    })
}

fn fixed_work(fields: &mut Fields<'_>, kind: Option<JobKind>, default_zone: &Zone) -> Option<Work> {
    if fields.raw("schedule").is_none() {
        let remedy =
            "add a schedule, or \"preference_based\": true for a job that follows preferences";
        fields.complain("schedule", Invalid::new("is missing", remedy));
    }
    let schedule = fields.nested("schedule", |value, pointer| {
        parse_schedule(value, pointer, default_zone)
    });
    let sources = if kind == Some(JobKind::Combined) {
        fields.required(
            "sources",
            "add the files by category, such as {\"orders\": {\"file\": \"orders.json\"}}",
            Ok,
        );
        fields.nested("sources", parse_sources)
    } else {
        fields.required(
            "source",
            "add the file of records, such as {\"file\": \"items.ndjson\"}",
            Ok,
        );
        let source = fields.nested("source", parse_source);
        source.map(|source| BTreeMap::from([("items".to_owned(), source)]))
    };
    let distribute_to = fields.optional("distribute_to", parse_tenants);
    if kind == Some(JobKind::Individual) && distribute_to.is_some() {
        let remedy = "use object_batch or combined_batch, or remove it";
        fields.complain(
            "distribute_to",
            Invalid::new("cannot be combined with individual_batch", remedy),
        );
    }
    let users = fields.nested("users", parse_source);
    Some(Work::Fixed {
        schedule: schedule?,
        sources: sources?,
        distribute_to: distribute_to.unwrap_or_default(),
        users,
    })
}

fn parse_tenants(value: &Value) -> Result<Vec<TenantId>, Invalid> {
    let list = value.as_array().filter(|list| !list.is_empty());
    let list =
        list.ok_or_else(|| Invalid::wrong_type("a list of tenants such as [\"ann\", \"bob\"]"))?;
    let mut tenants = list
        .iter()
        .map(parsed::<TenantId>)
        .collect::<Result<Vec<_>, _>>()?;
    tenants.sort();
    tenants.dedup();
    Ok(tenants)
}

fn parse_schedule(
    value: &Value,
    pointer: &str,
    default_zone: &Zone,
) -> Result<Schedule, FieldErrors> {
    if value.get("cron").is_some() {
        return parse_cron(value, pointer, default_zone);
    }
    let stored = Preference::parse_strictly(value, pointer)?;
    MergedPreference::merge(&stored, &Preference::default(), default_zone)
        .map(|merged| merged.slot.into())
        .map_err(|errors| {
            let below = |mut error: FieldError| {
                error.pointer = format!("{pointer}{}", error.pointer);
                error
            };
            FieldErrors(errors.0.into_iter().map(below).collect())
        })
}

fn parse_cron(value: &Value, pointer: &str, default_zone: &Zone) -> Result<Schedule, FieldErrors> {
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    let zone = fields.optional("timezone", parse_zone);
    let zone = zone.unwrap_or_else(|| default_zone.clone());
    let cron = fields.optional("cron", |value| {
        CronSchedule::new(text(value)?, zone).map_err(|error| {
            Invalid::new(
                format!("is not a cron expression: {error}"),
                "use five fields, minute hour day month weekday, such as \"30 9 * * 1-5\"",
            )
        })
    });
    fields.deny_others();
    fields.finish(|| cron.map(Schedule::Cron))
}

fn parse_sources(value: &Value, pointer: &str) -> Result<BTreeMap<String, Source>, FieldErrors> {
    let object = object_at(value, pointer)?;
    if object.is_empty() {
        let empty = Invalid::new("is empty", "name at least one category");
        return Err(empty.at(pointer, None).into());
    }
    let sources = object.iter().map(|(category, source)| {
        Ok((
            category.clone(),
            parse_source(source, &below(pointer, category))?,
        ))
    });
    Ok(FieldErrors::collect(sources)?.into_iter().collect())
}

fn parse_catch_up(value: &Value, pointer: &str) -> Result<CatchUp, FieldErrors> {
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    let policy = fields.optional("policy", |value| match text(value)? {
        "latest" => Ok(CatchUpPolicy::Latest),
        "all" => Ok(CatchUpPolicy::All),
        "skip" => Ok(CatchUpPolicy::Skip),
        _ => Err(Invalid::new(
            "is not a catch-up policy",
            "use one of latest, all, skip",
        )),
    });
    let window = fields.optional("window_minutes", |value| whole_number(value, 1..=527_040));
    fields.deny_others();
    fields.finish(|| {
        Some(CatchUp {
            policy: policy.unwrap_or_default(),
            window: window.map(|minutes| TimeDelta::minutes(minutes as i64)),
        })
    })
}

fn parse_deliver(value: &Value, pointer: &str) -> Result<Vec<Delivery>, FieldErrors> {
    let Some(list) = value.as_array() else {
        return Err(Invalid::wrong_type("a list, [ … ]")
            .at(pointer, Some(value))
            .into());
    };
    let places = list.iter().enumerate();
    FieldErrors::collect(
        places.map(|(index, value)| Delivery::parse(value, &format!("{pointer}/{index}"))),
    )
}

fn parse_failure_limit(value: &Value, pointer: &str) -> Result<FailureLimit, FieldErrors> {
    let usual = FailureLimit::default();
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    let percent = fields.optional("percent", |value| whole_number(value, 1..=100));
    let at_least = fields.optional("at_least", |value| whole_number(value, 1..=1_000_000_000));
    fields.deny_others();
    fields.finish(|| {
        Some(FailureLimit {
            percent: percent.map_or(usual.percent, |percent| percent as u32),
            at_least: at_least.unwrap_or(usual.at_least),
        })
    })
}

const KINDS: &str = "use one of individual_batch, object_batch, combined_batch";

fn parse_kind(value: &Value) -> Result<JobKind, Invalid> {
    match text(value)? {
        "individual_batch" | "individual" => Ok(JobKind::Individual),
        "object_batch" | "object" => Ok(JobKind::Object),
        "combined_batch" | "combined" => Ok(JobKind::Combined),
        _ => Err(Invalid::new("is not a job type", KINDS)),
    }
}

fn parse_overlap(value: &Value) -> Result<Overlap, Invalid> {
    match text(value)? {
        "skip" => Ok(Overlap::Skip),
        "wait" => Ok(Overlap::Wait),
        "allow" => Ok(Overlap::Allow),
        _ => Err(Invalid::new(
            "is not an overlap policy",
            "use one of skip, wait, allow",
        )),
    }
}

fn parse_priority(value: &Value) -> Result<Priority, Invalid> {
    let word = text(value)?;
    [
        Priority::Low,
        Priority::Medium,
        Priority::High,
        Priority::Critical,
    ]
    .into_iter()
    .find(|priority| priority.as_str() == word)
    .ok_or_else(|| {
        Invalid::new(
            "is not a priority",
            "use one of low, medium, high, critical",
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(document: Value) -> Vec<String> {
        let errors = parse_batch_config(&document, &Zone::utc()).unwrap_err();
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_readable_jobs_of_a_list_keep_their_places() {
        let job = |id: &str, priority: &str| {
            json!({"job_id": id, "type": "individual_batch", "purpose_id": "p", "priority": priority,
                "schedule": {"cron": "0 9 * * *"}, "source": {"ids": ["one"]}})
        };
        let list = json!([job("a", "urgent"), job("b", "high"), "c", job("d", "low")]);
        let readable = readable_jobs(&list, &Zone::utc());
        let places = readable.iter();
        let places: Vec<_> = places.map(|(at, job)| (*at, job.job_id.as_str())).collect();
        assert_eq!(places, [(1, "b"), (3, "d")]);
        assert!(readable_jobs(&json!("a"), &Zone::utc()).is_empty());
    }

    #[test]
    fn the_older_names_are_accepted() {
        let config = parse_batch_config(
            &json!({"batch_processing_jobs": [{
                "job_id": "a", "type": "individual", "purpose_id": "p", "preference_based": true, "feature_type": "f"
            }]}),
            &Zone::utc(),
        )
        .unwrap();
        assert_eq!(config.jobs[0].kind, JobKind::Individual);
    }

    #[test]
    fn every_mistake_in_every_job_is_reported_at_once() {
        let found = errors(json!({"jobs": [
            {"job_id": "a b", "type": "batch", "preference_based": true, "priority": "urgent", "retries": 3,
             "default_preferences": {"frequency": "weekly", "day": "monday"}},
            {"job_id": "b", "type": "object_batch", "purpose_id": "p", "schedule": {"preferred_time": "06:00"},
             "source": {"path": "x"}, "catch_up": {"policy": "never", "window_minutes": 0}},
            {"job_id": "b", "type": "individual_batch", "purpose_id": "p"}
        ]}));
        for expected in [
            "/jobs/0/job_id: \"a b\" is not a valid job_id",
            "/jobs/0/type: \"batch\" is not a job type; use one of individual_batch",
            "/jobs/0/purpose_id: is missing; add a purpose",
            "/jobs/0/priority: \"urgent\" is not a priority; use one of low, medium, high, critical",
            "/jobs/0/feature_type: is missing",
            "/jobs/0/default_preferences/day: \"monday\" is not a known field; remove it or use one of enabled",
            "/jobs/0/retries: 3 is not a known field",
            "/jobs/1/schedule/frequency: is missing; use one of hourly",
            "/jobs/1/source/file: is missing or given beside a url",
            "/jobs/1/source/path: \"x\" is not a known field",
            "/jobs/1/catch_up/policy: \"never\" is not a catch-up policy",
            "/jobs/1/catch_up/window_minutes: 0 is out of range",
            "/jobs/2/job_id: \"b\" is the name of an earlier job",
            "/jobs/2/schedule: is missing",
            "/jobs/2/source: is missing",
        ] {
            assert!(
                found.iter().any(|line| line.starts_with(expected)),
                "{expected}\nin {found:#?}"
            );
        }
        assert_eq!(found.len(), 15, "{found:#?}");
    }

    #[test]
    fn how_long_runs_are_kept_is_read_and_no_shorter_than_catch_up_reaches_back() {
        let job = |fields: Value| {
            let mut job = json!({"job_id": "a", "type": "individual", "purpose_id": "p",
                "preference_based": true, "feature_type": "f"});
            for (name, value) in fields.as_object().unwrap() {
                job[name] = value.clone();
            }
            json!({ "jobs": [job] })
        };
        let keep = |fields: Value| {
            let config = parse_batch_config(&job(fields), &Zone::utc()).unwrap();
            (config.jobs[0].keep.results, config.jobs[0].keep.failures)
        };
        assert_eq!(keep(json!({})), (90, 365));
        let both = json!({"keep_results_days": 1, "keep_failures_days": 3650});
        assert_eq!(keep(both), (1, 3650));
        let window = |policy: &str, minutes: i64, results: i64| json!({"catch_up": {"policy": policy, "window_minutes": minutes}, "keep_results_days": results});
        assert_eq!(keep(window("all", 14_400, 10)), (10, 365));
        assert_eq!(keep(window("skip", 14_401, 10)), (10, 365));
        for (fields, expected) in [
            (
                window("all", 14_401, 10),
                "/jobs/0/keep_results_days: 10 is less than the window of catch_up (10 days, and 14401 minutes); use at \
                 least 11 days, or a window_minutes of at most 14400",
            ),
            (
                json!({"catch_up": {"window_minutes": 200_000}}),
                "/jobs/0/keep_results_days: is less than the window of catch_up (90 days",
            ),
            (
                json!({"catch_up": {"window_minutes": 100_000}, "keep_failures_days": 2}),
                "/jobs/0/keep_failures_days: 2 is less than",
            ),
            (
                json!({"keep_results_days": 0}),
                "/jobs/0/keep_results_days: 0 is out of range; use a whole number from 1 to 3650",
            ),
            (
                json!({"keep_failures_days": "90"}),
                "/jobs/0/keep_failures_days: \"90\" is out of range",
            ),
        ] {
            let found = errors(job(fields));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(expected), "{found:?}");
        }
    }

    #[test]
    fn how_late_an_item_may_begin_and_what_overlaps_are_read_or_refused() {
        let job = |field: &str, value: Value| {
            let mut job = json!({"job_id": "a", "type": "individual", "purpose_id": "p",
                "preference_based": true, "feature_type": "f"});
            job[field] = value;
            parse_batch_config(&json!({ "jobs": [job] }), &Zone::utc())
        };
        for (text, minutes) in [
            ("1m", 1),
            ("90m", 90),
            ("1h30m", 90),
            ("2d", 2880),
            ("1w", 10080),
            ("60s", 1),
        ] {
            let config = job("expires_after", json!(text)).unwrap();
            assert_eq!(
                config.jobs[0].expires_after,
                Some(TimeDelta::minutes(minutes)),
                "{text}"
            );
        }
        for wrong in [
            json!(""),
            json!("5"),
            json!("h"),
            json!("-1h"),
            json!("1 h"),
            json!("59s"),
            json!("367d"),
            json!("99999999999999999999w"),
            json!("1y"),
            json!("1h30"),
            json!("1µ"),
        ] {
            let error = job("expires_after", wrong.clone()).unwrap_err().to_string();
            assert!(error.contains("/jobs/0/expires_after"), "{wrong}: {error}");
            assert!(error.contains("`90m`"), "{wrong}: {error}");
        }
        assert_eq!(
            job("overlap", json!("wait")).unwrap().jobs[0].overlap,
            Overlap::Wait
        );
        let error = job("overlap", json!("queue")).unwrap_err().to_string();
        assert!(error.contains("use one of skip, wait, allow"), "{error}");
    }

    #[test]
    fn runs_of_jobs_that_follow_preferences_are_prepared_at_most_a_week_ahead() {
        let follows = |ahead: Value| {
            let job = json!({"job_id": "a", "type": "individual", "purpose_id": "p",
                "preference_based": true, "feature_type": "f", "prepare_ahead": ahead});
            parse_batch_config(&json!({ "jobs": [job] }), &Zone::utc())
        };
        for (text, minutes) in [("1m", 1), ("12h", 720), ("7d", 10_080)] {
            let job = follows(json!(text)).unwrap().jobs.remove(0);
            assert_eq!(job.prepare_ahead, Some(TimeDelta::minutes(minutes)));
        }
        for (wrong, remedy) in [
            (json!("59s"), "such as `90m`"),
            (json!("8d"), "use a duration from `1m` to `7d`"),
            (json!(12), "/jobs/0/prepare_ahead"),
        ] {
            let error = follows(wrong.clone()).unwrap_err().to_string();
            assert!(error.contains("/jobs/0/prepare_ahead"), "{error}");
            assert!(error.contains(remedy), "{wrong}: {error}");
        }
        let plain = errors(
            json!({"jobs": [{"job_id": "a", "type": "individual", "purpose_id": "p",
            "schedule": {"frequency": "daily"}, "source": {"file": "x.json"}, "prepare_ahead": "1h"}]}),
        );
        assert!(
            plain[0].starts_with("/jobs/0/prepare_ahead: \"1h\" is not a known field"),
            "{plain:#?}"
        );
    }

    #[test]
    fn a_limit_for_each_organization_is_for_jobs_that_follow_preferences() {
        let name = "max_concurrent_items_per_organization";
        let follows = |most: Value| {
            let job = json!({"job_id": "a", "type": "individual", "purpose_id": "p",
                "preference_based": true, "feature_type": "f", name: most});
            parse_batch_config(&json!({ "jobs": [job] }), &Zone::utc())
        };
        for (most, expected) in [(json!(1), 1), (json!(100_000), 100_000)] {
            let job = follows(most).unwrap().jobs.remove(0);
            assert_eq!(
                job.max_concurrent_items_per_organization,
                NonZeroU32::new(expected)
            );
        }
        for wrong in [json!(0), json!(100_001), json!(-1), json!(1.5), json!("5")] {
            let error = follows(wrong).unwrap_err().to_string();
            let expected = format!("/jobs/0/{name}: ");
            assert!(error.contains(&expected), "{error}");
            assert!(error.contains("from 1 to 100000"), "{error}");
        }
        let plain = errors(
            json!({"jobs": [{"job_id": "a", "type": "individual", "purpose_id": "p",
            "schedule": {"frequency": "daily"}, "source": {"file": "x.json"}, name: 5}]}),
        );
        assert!(plain[0].starts_with(&format!("/jobs/0/{name}: 5 is not a known field")));
    }

    #[test]
    fn a_second_purpose_is_another_one_and_belongs_to_single_items() {
        let job = |kind: &str, then: Value| {
            json!({"jobs": [{"job_id": "a", "type": kind, "purpose_id": "write", "then": then,
                "schedule": {"frequency": "daily", "preferred_time": "06:00"}, "source": {"file": "x"}}]})
        };
        let config =
            parse_batch_config(&job("individual_batch", json!("send")), &Zone::utc()).unwrap();
        let purposes: Vec<&str> = config.jobs[0].purposes().map(PurposeId::as_str).collect();
        assert_eq!(purposes, ["write", "send"]);
        for (kind, then, expected) in [
            (
                "individual_batch",
                json!("write"),
                "/jobs/0/then: \"write\" is the job's first purpose; name another",
            ),
            (
                "object_batch",
                json!("send"),
                "/jobs/0/then: \"send\" cannot be combined with object_batch",
            ),
            (
                "individual_batch",
                json!("a b"),
                "/jobs/0/then: \"a b\" is not a valid purpose_id",
            ),
            (
                "individual_batch",
                json!(3),
                "/jobs/0/then: 3 has the wrong type",
            ),
        ] {
            let found = errors(job(kind, then));
            assert!(found[0].starts_with(expected), "{expected} in {found:#?}");
            assert_eq!(found.len(), 1, "{found:#?}");
        }
    }

    #[test]
    fn an_email_is_delivered_of_all_records_alone() {
        let job = |kind: &str| {
            json!({"jobs": [{"job_id": "a", "type": kind, "purpose_id": "write", "source": {"file": "x"},
                "schedule": {"frequency": "daily", "preferred_time": "06:00"}, "deliver": [{"email": "mail"}]}]})
        };
        let config = parse_batch_config(&job("object_batch"), &Zone::utc()).unwrap();
        let mail = PurposeId::new("mail").unwrap();
        assert_eq!(config.jobs[0].deliver, [Delivery::Email(mail)]);
        let found = errors(job("individual_batch"));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with("/jobs/0/deliver: "), "{found:#?}");
        assert!(
            found[0].ends_with("name the e-mail's purpose in \"then\" instead"),
            "{found:#?}"
        );
    }

    #[test]
    fn a_document_without_jobs_says_so() {
        assert!(errors(json!({}))[0].starts_with("/jobs: is missing or given twice"));
        assert!(errors(json!([]))[0].contains("use an object"));
        assert!(errors(json!({"jobs": {}}))[0].contains("use a list"));
    }
}

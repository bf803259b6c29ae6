#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

// Each may use those before it and none after: input, ids, time, preference, work, planning, jobs.
// `tests/it/architecture.rs` holds this order.
mod ids;
mod input;
mod jobs;
mod planning;
mod preference;
mod time;
mod work;

pub use ids::{FeatureType, InvalidId, ItemId, JobId, OrganizationId, PurposeId, TenantId};
pub use input::{
    errors::{FieldError, FieldErrorKind, FieldErrors, Invalid},
    fields::{Fields, below, object_at},
    limits::{MAX_DEPTH, MAX_PREFERENCE_BYTES, check_content, check_size},
    text::{visible, visible_lines},
    values,
    words::InvalidWord,
};
pub use jobs::{
    config::{BatchConfig, JobConfig, Work},
    data::{
        DataConfig, DataPer, DataRequest, DataSource, DataTenant, HttpData, OnEmpty, UrlTemplate,
        is_empty_data,
    },
    defaults::{JobDefaults, Run},
    keep::KeepDays,
    source::{Filter, Location, Source},
    succession::Succession,
};
pub use planning::{
    backfill::{BackfillGroup, Dates, InvalidDates},
    catch_up::{CatchUp, CatchUpPolicy, due_instants},
    explain::{Choice, Facts, Occasion, Verdict, explain},
    fence::{
        AfterRestore, FenceMark, KnownMarks, MarksMade, Recognition, RestoreChoice, RestoreGap,
    },
    mirror::{
        Mirror,
        update::{MirrorDifference, Reading},
    },
    placement::{Placement, fixed_placement, plan_edited},
    planner::{DueGroup, plan_fixed, plan_mirror},
    position::{Firing, Position, StoredPosition},
    prepare_ahead::plan_ahead,
    shard::{AssignmentError, InvalidShard, Shard, ShardAssignment, Sharding},
};
pub use preference::{
    change::{Change, ChangeKind, PreferenceRecord},
    effective::{MergedPreference, Origin, SharedPreference},
    feature::{Feature, FeatureTexts},
    language::{InvalidLanguageTag, LanguageTag},
    layers::merge_stored,
    organization::Membership,
    overrides::{MAX_OVERRIDES_BYTES, MAX_OVERRIDES_DEPTH, merge_objects, parse_overrides},
    rrule::from_rrule,
    stored::Preference,
    values::parse_zone,
    when::{same_schedule, says_when, schedule_text},
};
pub use time::{
    bounds::{Bounds, PauseEnd},
    cron::{CronSchedule, InvalidCron},
    occurrence::Occurrence,
    recurrence::{MonthDays, MonthWeekday, Recurrence, Weekdays},
    schedule::Schedule,
    slot::{ClockChange, Slot},
    times::{TimeOfDay, Times},
    zone::{InvalidZoneRules, TZDB_VERSION, UnknownZone, Zone, ZoneRules},
    zone_differences::{MovedRun, OffsetChange, ZoneDifference, first_moved_run, zone_differences},
};
pub use work::{
    batch::{Batch, BatchStatus, NewBatch},
    chunk::Chunk,
    dead_letter::{DeadLetter, DeadLetterState},
    delivery::{Delivery, without_secrets},
    email_address::{EmailAddress, InvalidEmailAddress},
    fingerprint::Fingerprint,
    item::{Completion, Item, ItemInput, KeyForm, Previous},
    job::{FailureLimit, JobKind, Overlap},
    outcome::{FailureKind, ItemResult, ItemStatus, Outcome, SkipReason},
    priority::Priority,
    trigger::Trigger,
    waiting::{
        AtDeadline, MAX_PROGRESS_CHARACTERS, MAX_WAIT, MAX_WAITING_STATE_BYTES, Progress, Waiting,
        WaitingStatus,
    },
    webhook::WebhookConfig,
};

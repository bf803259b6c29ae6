#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod backfill;
mod batch;
mod catch_up;
mod change;
mod dead_letter;
mod delivery;
mod explain;
mod horizon;
mod ids;
mod item;
mod job;
mod limits;
mod mirror;
mod occurrence;
mod overrides;
mod placement;
mod planner;
mod preference;
mod priority;
mod purpose;
mod recurrence;
mod schedule;
mod slot;
mod source;
mod spread;
mod text;
mod trigger;
mod validation;
mod zone;

pub use backfill::{BackfillGroup, Dates, InvalidDates};
pub use batch::{Batch, BatchStatus, Chunk, NewBatch};
pub use catch_up::{CatchUp, CatchUpPolicy, due_instants};
pub use change::{Change, ChangeKind, PreferenceRecord};
pub use dead_letter::{DeadLetter, DeadLetterState};
pub use delivery::Delivery;
pub use explain::{Choice, Facts, Occasion, Verdict, explain};
pub use horizon::{Firing, Horizon, Progress};
pub use ids::{FeatureType, InvalidId, JobId, PurposeId, TenantId};
pub use item::{Item, ItemResult, ItemStatus, KeyForm, SkipReason};
pub use job::{BatchConfig, FailureLimit, JobConfig, JobKind, Overlap, Work};
pub use limits::{MAX_DEPTH, MAX_PREFERENCE_BYTES, check_content, check_size};
pub use mirror::{Mirror, MirrorDifference, Reading};
pub use occurrence::Occurrence;
pub use overrides::{MAX_OVERRIDES_BYTES, MAX_OVERRIDES_DEPTH, merge_objects, parse_overrides};
pub use placement::Placement;
pub use planner::{DueGroup, plan_fixed, plan_mirror};
pub use preference::{
    MergedPreference, Origin, Preference, same_schedule, says_when, schedule_text,
};
pub use priority::Priority;
pub use purpose::{ChatConfig, HandlerConfig, PurposeConfig, WebhookConfig, parse_purposes};
pub use recurrence::{MonthDays, Recurrence, Weekdays};
pub use schedule::{CronSchedule, InvalidCron, Schedule};
pub use slot::{ClockChange, Slot, TimeOfDay};
pub use source::{Filter, Location, Source};
pub use text::{visible, visible_lines};
pub use trigger::Trigger;
pub use validation::{FieldError, FieldErrors, Fields, Invalid};
pub use zone::{TZDB_VERSION, UnknownZone, Zone};

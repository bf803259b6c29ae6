#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod backfill;
mod batch;
mod change;
mod dead_letter;
mod delivery;
mod explain;
mod horizon;
mod ids;
mod item;
mod job;
mod mirror;
mod occurrence;
mod overrides;
mod planner;
mod preference;
mod purpose;
mod recurrence;
mod schedule;
mod slot;
mod source;
mod validation;
mod zone;

pub use backfill::{BackfillGroup, Dates, InvalidDates};
pub use batch::{Batch, BatchStatus, Chunk, Firing, NewBatch, Progress, Trigger};
pub use change::{Change, ChangeKind, PreferenceRecord};
pub use dead_letter::{DeadLetter, DeadLetterState};
pub use delivery::Delivery;
pub use explain::{Choice, Facts, Occasion, Verdict, explain};
pub use horizon::Horizon;
pub use ids::{FeatureType, InvalidId, JobId, PurposeId, TenantId};
pub use item::{Item, ItemResult, ItemStatus, KeyForm, SkipReason};
pub use job::{BatchConfig, FailureLimit, JobConfig, JobKind, Overlap, Priority, Work};
pub use mirror::{Mirror, MirrorDifference};
pub use occurrence::Occurrence;
pub use overrides::{MAX_OVERRIDES_BYTES, MAX_OVERRIDES_DEPTH, merge_objects, parse_overrides};
pub use planner::{CatchUp, CatchUpPolicy, DueGroup, due_instants, plan_fixed, plan_mirror};
pub use preference::{MergedPreference, Origin, Preference};
pub use purpose::{ChatConfig, HandlerConfig, PurposeConfig, WebhookConfig, parse_purposes};
pub use recurrence::{MonthDays, Recurrence, Weekdays};
pub use schedule::{CronSchedule, InvalidCron, Schedule};
pub use slot::{ClockChange, Slot, TimeOfDay};
pub use source::{Filter, Location, Source};
pub use validation::{FieldError, FieldErrors, Fields, Invalid};
pub use zone::{TZDB_VERSION, UnknownZone, Zone};

//! Time: from a recurrence, a time of day and a zone to instants, and from an instant to the key of its run.
//!
//! [`zone`] is the only module on the time zone database, and [`zone_differences`] compares two releases of it. [`recurrence`] and
//! [`bounds`] are calendar arithmetic without time or zone, [`slot`] joins them with [`times`] of day, [`schedule`] is a slot or an expression of [`cron`], and [`occurrence`] is the key under which a run
//! happens at most once. Nothing here knows tenants or JSON.
//!
//! `tests/recurrence.sh` compares all of it with python-dateutil.
//!
//! To add a recurrence, add a variant to [`recurrence::Recurrence`]; the compiler then names what else must know it, such
//! as the packed form in the mirror. Give it a word in [`preference::day`](crate::preference::day), and a second, slower
//! definition in `tests/it/recurrence.rs`, against which it is tested.

pub(crate) mod bounds;
pub(crate) mod cron;
pub(crate) mod occurrence;
pub(crate) mod recurrence;
pub(crate) mod schedule;
pub(crate) mod slot;
pub(crate) mod times;
pub(crate) mod zone;
pub(crate) mod zone_differences;

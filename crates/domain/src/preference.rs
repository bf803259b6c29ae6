//! Preferences: what a tenant chose for a feature, as it is stored and as it is in effect.
//!
//! [`stored`] is the tenant's choice with whatever fields it has; [`values`] reads the value of each field and [`day`] joins
//! frequency and days; [`overrides`] are the template overrides. [`layers`] merges it over that of the tenant's organization,
//! and [`effective`] over the defaults of a job: only there is decided what is in effect, and whether it is on.
//! [`when`](mod@when) compares what preferences say about *when*, [`feature`] says what a preference may say, [`rrule`] reads
//! the rules of calendars, [`language`] names the languages of its texts, and [`change`] is how the Config Database tells of
//! them, with the tenant's [`organization`].
//!
//! To add a field, read it in [`stored::Preference`], merge it in [`effective::MergedPreference::merge`], and write it in
//! both types' JSON. If it says *when* a tenant is due, add it to [`when::WHEN`] and to what [`when::When`] compares, so
//! that an edit of it moves the run; every other field is *how*, and an edit of it moves nothing.

pub(crate) mod change;
pub(crate) mod day;
pub(crate) mod effective;
pub(crate) mod feature;
pub(crate) mod language;
pub(crate) mod layers;
pub(crate) mod organization;
pub(crate) mod overrides;
pub(crate) mod rrule;
pub(crate) mod stored;
pub(crate) mod values;
pub(crate) mod when;

//! Preferences: what a tenant chose for a feature, as it is stored and as it is in effect.
//!
//! [`stored`] is what a tenant stored and what is in effect, [`values`] reads its fields, [`overrides`] its template
//! overrides, and [`change`] is how the Config Database tells it.

pub(crate) mod change;
pub(crate) mod overrides;
pub(crate) mod stored;
pub(crate) mod values;

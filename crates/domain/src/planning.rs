//! Planning: which tenants are due, what of that is to be run, and why a tenant ran or did not.
//!
//! The [`mirror`] keeps every tenant of a job by when they fall due. The [`planner`] asks it what is due between the
//! [`position`] that a job has been planned to and now; [`catch_up`] says what is made up for of what was missed,
//! [`spread`] by how much a tenant falls due after the slot, [`placement`] what an edit of the job does to tenants who
//! were still to come, [`shard`] which agent runs what, and [`backfill`] what past dates would have run. [`prepare_ahead`] says
//! what falls due soon, to be prepared. [`explain`] tells it for one tenant. [`fence`] recognises a store that was restored from
//! an older copy.
//!
//! To add a way of catching up, add a variant to [`catch_up::CatchUpPolicy`] and what it leaves in
//! [`catch_up::due_after_edit`]. To add a verdict, add a variant to [`explain::Verdict`] with its sentence, and the fact it
//! rests on to [`explain::Facts`].

pub(crate) mod backfill;
pub(crate) mod catch_up;
pub(crate) mod explain;
pub(crate) mod fence;
pub(crate) mod mirror;
pub(crate) mod placement;
pub(crate) mod planner;
pub(crate) mod position;
pub(crate) mod prepare_ahead;
pub(crate) mod shard;
pub(crate) mod spread;

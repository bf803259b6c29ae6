//! Jobs: what is to run, for whom, when, and where the results go, as everything but the reader of their file sees them.
//!
//! [`config`] is a job, [`keep`] how long what it has run is kept, [`defaults`] what it makes of what a preference leaves out, [`data`] where each tenant's own data comes
//! from, and [`source`] where the records of a job with a schedule of its own do. A [`succession`] is the order in which missed runs begin. The rules of the other folders never ask for a job: they take what they need as arguments. The crate `punctual-project` reads jobs from
//! `batch_config.json`.

pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod defaults;
pub(crate) mod keep;
pub(crate) mod source;
pub(crate) mod succession;

//! The project's files: what `batch_config.json` and `purposes.json` may say, read strictly, every mistake reported at once.
//!
//! [`job`] is the file of jobs, with the [`source`]s of their records; [`purposes`] is the file of
//! purposes with the settings of the built-in handlers.
//!
//! To add a field of a job, add it to [`job::JobConfig`] and read it where a job is parsed. To add a setting of a handler,
//! add it to that handler's settings in [`purposes`]. Both are described in the JSON Schemas of `data/`, which a test
//! holds against what is read here.

pub(crate) mod job;
pub(crate) mod purposes;
pub(crate) mod source;

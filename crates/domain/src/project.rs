//! The project's files: what `batch_config.json` and `purposes.json` may say, read strictly, every mistake reported at
//! once.
//!
//! [`batch_config`] reads the file of jobs, [`job`] is a job as everything else sees it, and [`source`] is where its records
//! come from. [`purposes`] reads the file of purposes with the settings of the built-in handlers. The rules of the other
//! folders never ask the files: they take what they need as arguments.
//!
//! To add a field of a job, add it to [`job::JobConfig`] and read it in [`batch_config`]. To add a setting of a handler, add
//! it to that handler's settings in [`purposes`] and read it there. The schema `data/batch/batch_config.schema.json`
//! describes the file of jobs for editors; `tests/it/files.rs` holds it against what is read here.

pub(crate) mod batch_config;
pub(crate) mod job;
pub(crate) mod purposes;
pub(crate) mod source;

//! Input from outside: how JSON that people wrote is read, and what it may be at most.
//!
//! [`fields`] reads an object field by field and collects every mistake with its place, value and remedy. [`limits`] holds
//! the bounds of size, depth and content. [`text`] makes foreign text safe to show. Nothing here knows what a field
//! means, so everything else may be built on it.
//!
//! To read one more kind of value, add a function `&Value -> Result<T, Invalid>` at the end of [`fields`] if several
//! documents have such values, else beside the type it reads.

pub(crate) mod fields;
pub(crate) mod limits;
pub(crate) mod text;

//! Input from outside: how JSON that people wrote is read, and what it may be at most.
//!
//! [`fields`] reads an object field by field and collects every mistake, [`values`] reads the values of fields, and
//! [`errors`] is what they say: place, value, problem and remedy. [`limits`] holds the bounds of size, depth and content.
//! [`text`] makes foreign text safe to show, and [`words`] gives an enum its words. Nothing here knows what a field means, so everything else builds on it.
//!
//! To read one more kind of value, add a function `&Value -> Result<T, Invalid>` to [`values`] if several documents have
//! such values, else beside the type it reads. Its problem completes a sentence that begins with the value, and its remedy
//! says what to write instead.

pub(crate) mod errors;
pub(crate) mod fields;
pub(crate) mod limits;
pub(crate) mod text;
pub mod values;
pub(crate) mod words;

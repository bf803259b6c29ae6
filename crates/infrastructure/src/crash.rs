//! Named places where tests let the process die as if the power had gone: what is there after it must be whole.

/// Dies here when the feature `failpoints` is on and `FAILPOINTS` says `NAME=return`.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        if fail::eval($name, |_| ()).is_some() {
            std::process::abort();
        }
    };
}
pub(crate) use crash_point;

//! What an error of a port was caused by.

use std::{error::Error, sync::Arc};

/// The error beneath an error of a port. It is shared, so that errors of ports can be cloned.
pub(super) type Cause = Arc<dyn Error + Send + Sync>;

pub(super) fn shared(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Cause {
    Arc::from(cause.into())
}

/// The text of an error and of all that caused it. A cause whose text the error repeats, as many do, is not told twice.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn an_error_is_told_with_its_causes_and_each_of_them_once() {
        let refused = Link("connection refused", None);
        let send = Link("cannot send: connection refused", Some(Box::new(refused)));
        let error = Link("no answer", Some(Box::new(send)));
        assert_eq!(
            error_chain(&error),
            "no answer: cannot send: connection refused"
        );
    }
}

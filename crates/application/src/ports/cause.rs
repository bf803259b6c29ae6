//! What an error of a port was caused by.

use std::{error::Error, ops::Deref, sync::Arc};

/// The error beneath an error of a port. It is shared, so that errors of ports can be cloned.
#[derive(Debug, Clone)]
pub(super) struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    pub(super) fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }
}

/// `source()` of an error gives the cause itself, so that it can be downcast.
impl Deref for Cause {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// The text of an error and of all that caused it. A cause whose text is in it already, as with many errors, is not
/// repeated.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
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
    fn an_error_is_shown_with_each_of_its_causes_once() {
        let refused = Link("connection refused", None);
        let send = Link("cannot send: connection refused", Some(Box::new(refused)));
        let error = Link("no answer", Some(Box::new(send)));
        assert_eq!(
            error_chain(&error),
            "no answer: cannot send: connection refused"
        );
    }
}

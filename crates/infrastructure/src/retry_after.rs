//! `Retry-After`, as servers send it.

use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// How long the server asked to wait, in seconds or as a date; at most `longest`.
pub(crate) fn retry_after(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let header = |name| headers.get(name)?.to_str().ok();
    let asked = header(RETRY_AFTER)?;
    let wait = if let Ok(seconds) = asked.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let until = DateTime::parse_from_rfc2822(asked).ok()?;
        let now = DateTime::parse_from_rfc2822(header(DATE)?).ok()?;
        (until - now).to_std().unwrap_or_default()
    };
    Some(wait.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_taken_up_to_a_bound() {
        let wait = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            headers.insert(DATE, "Sun, 01 Mar 2026 09:00:00 GMT".parse().unwrap());
            retry_after(&headers, Duration::from_hours(1)).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("7"), Some(7));
        assert_eq!(wait("Sun, 01 Mar 2026 09:01:30 GMT"), Some(90));
        assert_eq!((wait("999999"), wait("soon")), (Some(3600), None));
    }
}

//! Why someone makes a call, as its header `Punctual-Reason` says: the same at all servers.

use axum::http::HeaderMap;

use crate::Problem;

/// The header that says why.
const HEADER: &str = "punctual-reason";

/// What the header says; `None`: the call has none.
///
/// # Errors
/// The header is not UTF-8, or is given twice.
pub fn of(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::bad_request(
            "the header Punctual-Reason is given twice; send it once",
        ));
    }
    let reason = std::str::from_utf8(value.as_bytes()).map_err(|_| {
        Problem::bad_request("the header Punctual-Reason is not UTF-8; send the reason as UTF-8")
    })?;
    Ok(Some(reason))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_reason_is_given_once_as_utf_8() {
        assert_eq!(of(&headers(&[])).unwrap(), None);
        let umzug = headers(&["für den Umzug".as_bytes()]);
        assert_eq!(of(&umzug).unwrap(), Some("für den Umzug"));
        assert_eq!(of(&headers(&[b""])).unwrap(), Some(""));
        for wrong in [headers(&[b"a", b"a"]), headers(&[b"\xff"])] {
            let refused = of(&wrong).unwrap_err();
            let text = format!("{refused:?}");
            assert!(text.contains("Punctual-Reason"), "{text}");
        }
    }
}

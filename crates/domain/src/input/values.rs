//! Reading single values that several documents have. Each reader says what is wrong; [`Fields`](super::fields::Fields)
//! adds where.

use std::str::FromStr;

use chrono::TimeDelta;
use serde_json::Value;

use super::errors::{FieldErrorKind, Invalid};

/// The value as text.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn text(value: &Value) -> Result<&str, Invalid> {
    value
        .as_str()
        .ok_or_else(|| Invalid::wrong_type("text in quotes"))
}

/// The value as `true` or `false`.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn boolean(value: &Value) -> Result<bool, Invalid> {
    value
        .as_bool()
        .ok_or_else(|| Invalid::wrong_type("true or false"))
}

/// The value as a whole number within `range`.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn whole_number(value: &Value, range: std::ops::RangeInclusive<u64>) -> Result<u64, Invalid> {
    // 3.0 is 3.
    let whole = |number: f64| (number.fract() == 0.0 && number >= 0.0).then_some(number as u64);
    value
        .as_u64()
        .or_else(|| value.as_f64().and_then(whole))
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = (*range.start(), *range.end());
            let remedy = format!("use a whole number from {least} to {most}");
            Invalid::new("is out of range", remedy)
                .of_kind(FieldErrorKind::OutOfRange { least, most })
        })
}

/// The value as a length of time from a minute to a year: numbers with a unit, such as `90m`, `1h30m` or `2d`.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn duration(value: &Value) -> Result<TimeDelta, Invalid> {
    duration_between(value, "1m", "366d")
}

/// The value as a length of time within these bounds, which are written in the same way.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn duration_between(value: &Value, least: &str, most: &str) -> Result<TimeDelta, Invalid> {
    let given = seconds(text(value)?);
    let given = given.filter(|_| seconds(least) <= given && given <= seconds(most));
    given.map(TimeDelta::seconds).ok_or_else(|| {
        let remedy = format!(
            "use a duration from `{least}` to `{most}` in the units s, m, h, d, w, such as `90m`, `12h` or `2d`"
        );
        Invalid::new("is not a valid duration", remedy)
    })
}

/// The seconds of a length of time.
fn seconds(text: &str) -> Option<i64> {
    let mut seconds = 0_i64;
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let (number, unit) = part.split_at_checked(part.len() - 1)?;
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        let part = number.parse::<i64>().ok()?.checked_mul(unit)?;
        seconds = seconds.checked_add(part)?;
    }
    Some(seconds)
}

/// The value as a text that parses, such as an id.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn parsed<T: FromStr>(value: &Value) -> Result<T, Invalid>
where
    Invalid: From<T::Err>,
{
    Ok(text(value)?.parse()?)
}

/// A URL without user and password: those would stand in logs.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn http_url(value: &Value) -> Result<&str, Invalid> {
    let url = text(value)?;
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    match authority {
        Some(authority) if authority.contains('@') => Err(Invalid::new(
            "contains a user or password",
            "remove it from the URL, and name an environment variable instead",
        )),
        Some(authority) if !authority.is_empty() => Ok(url),
        _ => Err(Invalid::new(
            "is not a URL",
            "use one that begins with https:// or http://",
        )),
    }
}

/// A URL that paths are put behind: without user, password, query and fragment.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn base_url(value: &Value) -> Result<&str, Invalid> {
    let url = http_url(value)?;
    if url.contains(['?', '#']) {
        return Err(Invalid::new(
            "has a query or a fragment",
            "leave out what follows the path",
        ));
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Invalid::new(
            "contains characters that no URL can have",
            "write others than the letters A-Z, digits and marks as `%` and two digits",
        ));
    }
    Ok(url)
}

/// The name of an environment variable.
///
/// # Errors
/// [`Invalid`] says what is wrong and what to write instead.
pub fn variable(value: &Value) -> Result<&str, Invalid> {
    let name = text(value)?;
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if !name.is_empty() && name.chars().all(allowed) {
        return Ok(name);
    }
    Err(Invalid::new(
        "is not a valid name of an environment variable",
        "use a name with the characters A-Z 0-9 _, and set the secret in that variable",
    ))
}

//! Conditional requests (RFC 9110, section 13). What cannot be used is refused and never ignored: a condition that is
//! ignored overwrites what it was to save.

use axum::http::{
    HeaderMap, StatusCode,
    header::{self, HeaderName},
};
use punctual_web::Problem;
use serde::Serialize;

use crate::store::{Expected, Versions};

/// The `ETag` of a version.
pub(super) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// A number for an answer that has no version of its own, to be compared as one.
pub(super) fn fingerprint(answer: &impl Serialize) -> i64 {
    let bytes = serde_json::to_vec(answer).unwrap_or_default();
    let hash = blake3::hash(&bytes);
    let start = hash.as_bytes().first_chunk();
    start.map_or(0, |start| i64::from_be_bytes(*start))
}

/// The conditions in `If-Match` and `If-None-Match`.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    Ok(Expected {
        // A weak tag says that two versions will do for each other, which is not enough to overwrite one.
        one_of: versions(headers, &header::IF_MATCH, |tag| !tag.weak)?,
        none_of: versions(headers, &header::IF_NONE_MATCH, |_| true)?,
        same_organization: false,
    })
}

fn versions(
    headers: &HeaderMap,
    name: &HeaderName,
    counts: impl Fn(&Tag) -> bool,
) -> Result<Option<Versions>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse);
    let (Some(parsed), None) = (parsed, values.next()) else {
        let detail = format!(
            "invalid {name}; send it once, as * or as a list of ETags in quotes such as \"3\""
        );
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    };
    Ok(Some(match parsed {
        Tags::Any => Versions::Any,
        Tags::Listed(tags) => {
            let version = |tag: &Tag| {
                let version = tag.text.parse::<i64>().ok()?;
                // A tag is compared as text: "03" is not "3".
                (counts(tag) && version.to_string() == tag.text).then_some(version)
            };
            Versions::Listed(tags.iter().filter_map(version).collect())
        }
    }))
}

#[derive(Debug, PartialEq)]
enum Tags<'h> {
    Any,
    Listed(Vec<Tag<'h>>),
}

#[derive(Debug, PartialEq)]
struct Tag<'h> {
    weak: bool,
    text: &'h str,
}

fn parse(value: &str) -> Option<Tags<'_>> {
    const BLANK: [char; 2] = [' ', '\t'];
    let mut rest = value.trim_matches(BLANK);
    if rest == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    loop {
        // Empty elements of a list are allowed.
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return (!tags.is_empty()).then_some(Tags::Listed(tags));
        }
        let strong = rest.strip_prefix("W/");
        let (text, after) = strong.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        tags.push(Tag {
            weak: strong.is_some(),
            text,
        });
        rest = after.trim_start_matches(BLANK);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_weak_tags_and_the_star_are_read_as_the_standard_has_them() {
        let tag = |weak, text| Tag { weak, text };
        assert_eq!(parse(" * "), Some(Tags::Any));
        for (value, tags) in [
            ("\"3\"", vec![tag(false, "3")]),
            ("W/\"3\"", vec![tag(true, "3")]),
            ("\"\"", vec![tag(false, "")]),
            (
                "\"a,b\" ,\t W/\"c\"",
                vec![tag(false, "a,b"), tag(true, "c")],
            ),
            (", ,\"1\",,\"2\",", vec![tag(false, "1"), tag(false, "2")]),
        ] {
            assert_eq!(parse(value), Some(Tags::Listed(tags)), "{value}");
        }
        for value in [
            "",
            " ",
            ",",
            "3",
            "\"3",
            "3\"",
            "w/\"3\"",
            "W/3",
            "W/",
            "\"1\" \"2\"",
            "\"1\"x",
            "\"1\", 2",
            "*, \"1\"",
            "\"1\", *",
            "**",
            "\"a b\"",
            "W/ \"1\"",
            "\"1\";",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
    }
}

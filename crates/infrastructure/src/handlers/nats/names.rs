//! What the streams and subjects of a purpose are called. Purposes may have `.` in their names, which separates the parts of a
//! subject: what NATS does not allow there, or reads as something else, becomes `=` and two hexadecimal digits.

use punctual_domain::{Fields, Invalid, values::text};
use serde_json::Value;

/// Characters that a stream's name may have, at most.
const MAX_STREAM: usize = 200;
/// Characters that a subject may have, at most.
const MAX_SUBJECT: usize = 500;

/// The names of one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The purpose, as `purposes.json` has it.
    pub(super) purpose: String,
    /// Stream of the items.
    pub(super) stream: String,
    /// Subject of the items.
    pub(super) subject: String,
    /// Stream of the answers.
    pub(super) completions_stream: String,
    /// Subject of the answers.
    pub(super) completions_subject: String,
    /// Stream of messages that are not answers.
    pub(super) dead_stream: String,
    /// Subject of messages that are not answers.
    pub(super) dead_subject: String,
}

impl Names {
    /// The names where the options have none.
    pub(super) fn of(purpose: &str) -> Self {
        let token = token(purpose);
        Self {
            purpose: purpose.to_owned(),
            stream: format!("PUNCTUAL_ITEMS_{token}"),
            subject: format!("punctual.items.{token}"),
            completions_stream: format!("PUNCTUAL_COMPLETIONS_{token}"),
            completions_subject: format!("punctual.completions.{token}"),
            dead_stream: format!("PUNCTUAL_DEAD_{token}"),
            dead_subject: format!("punctual.dead.{token}"),
        }
    }

    /// The same, with what the options `stream` and `subject` name.
    pub(super) fn read(mut self, fields: &mut Fields<'_>) -> Self {
        if let Some(stream) = fields.optional("stream", stream) {
            stream.clone_into(&mut self.stream);
        }
        if let Some(subject) = fields.optional("subject", subject) {
            subject.clone_into(&mut self.subject);
        }
        self
    }
}

/// A name as one part of a subject.
fn token(name: &str) -> String {
    let mut token = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            token += &format!("={byte:02X}");
        }
    }
    token
}

fn stream(value: &Value) -> Result<&str, Invalid> {
    let name = text(value)?;
    let allowed = |c: char| c.is_ascii_graphic() && !".*>/\\".contains(c);
    if (1..=MAX_STREAM).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(name);
    }
    Err(Invalid::new(
        "is not a valid name of a stream",
        "use a name such as \"ITEMS\", without spaces and without the characters . * > / \\",
    ))
}

fn subject(value: &Value) -> Result<&str, Invalid> {
    let name = text(value)?;
    let allowed = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_graphic() && !"*>".contains(c))
    };
    if name.len() <= MAX_SUBJECT && !name.starts_with('$') && name.split('.').all(allowed) {
        return Ok(name);
    }
    Err(Invalid::new(
        "is not a subject to publish to",
        "use parts with dots between, such as \"shop.reports\", without spaces, `*` and `>`",
    ))
}

/// Whether a stream's subject, which may have wildcards, covers a subject.
pub(super) fn covers(pattern: &str, subject: &str) -> bool {
    let mut parts = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, parts.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_purpose_has_subjects_of_its_own(one in "[A-Za-z0-9._:@-]{1,20}", other in "[A-Za-z0-9._:@-]{1,20}") {
            let names = Names::of(&one);
            for subject in [&names.subject, &names.completions_subject, &names.dead_subject] {
                prop_assert_eq!(subject.split('.').count(), 3);
            }
            for stream in [&names.stream, &names.completions_stream, &names.dead_stream] {
                let valid = |c: char| c.is_ascii_alphanumeric() || "-_=".contains(c);
                prop_assert!(stream.chars().all(valid), "{}", stream);
            }
            prop_assert_eq!(one == other, names.subject == Names::of(&other).subject);
            prop_assert_eq!(one == other, names.stream == Names::of(&other).stream);
        }
    }

    #[test]
    fn a_name_keeps_what_nats_allows() {
        let names = Names::of("write.digest@eu");
        assert_eq!(names.subject, "punctual.items.write=2Edigest=40eu");
        assert_eq!(names.stream, "PUNCTUAL_ITEMS_write=2Edigest=40eu");
    }

    #[test]
    fn a_stream_covers_the_subjects_that_its_patterns_match() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
        ] {
            assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}

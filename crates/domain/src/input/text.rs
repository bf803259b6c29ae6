//! Text from elsewhere, made safe to show on a terminal and in a log.

use std::{borrow::Cow, fmt::Write};

/// The text with every character escaped that a terminal would act upon instead of showing it, or that changes where the
/// characters around it are shown: control characters, ends of lines, and those that set the direction of writing.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden)
}

/// The same, with ends of lines left as they are.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && is_hidden(c))
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Directions of writing.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Ends of lines and paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Nothing at all: joiners, fillers, tags, the mark of a byte order.
            | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn escape(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !hidden(c) => escaped.push(c),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            // As in JSON, so that JSON that is escaped stays the same document.
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_upon_is_shown_instead() {
        let hostile = "a\x1b[2J\x1b]0;title\x07\r\nb\t\u{9b}31m\u{202e}c\u{2066}d\u{2028}\u{7f}\u{0}\u{e0041}";
        let shown = visible(hostile);
        assert_eq!(
            shown,
            "a\\u001b[2J\\u001b]0;title\\u0007\\r\\nb\\t\\u009b31m\\u202ec\\u2066d\\u2028\\u007f\\u0000\\udb40\\udc41"
        );
        assert!(!shown.chars().any(is_hidden));
        assert_eq!(visible_lines("a\nb\rc"), "a\nb\\rc");
        for plain in ["", "Grüße", "日本語", "👩🏽", "שלום", "a b\u{a0}c"] {
            assert!(matches!(visible(plain), Cow::Borrowed(same) if same == plain));
        }
    }

    #[test]
    fn json_that_is_escaped_is_the_same_document() {
        let value = serde_json::json!({"a": "\x1b[2J\u{202e}\u{7f}\n\u{9b}\u{e0041}"});
        let shown = visible(&value.to_string()).into_owned();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }
}

//! The words of the layout and of the pages that every server has, in a language.

use std::sync::LazyLock;

use crate::{Problem, problem::title};

/// The words of the layout, of the sign-in page and of pages that say what went wrong, in one language.
#[derive(Debug, Clone)]
pub struct PageWords {
    /// Language of the words, as an IETF tag such as `de`.
    pub language: String,
    /// Whether the language is written from right to left.
    pub right_to_left: bool,
    /// Link over the navigation to the content.
    pub skip: String,
    /// Link to the first page, of a page that says what went wrong.
    pub start: String,
    /// Word before the version of the software.
    pub version: String,
    /// Words before the release of the time zone database.
    pub time_zone_rules: String,
    /// Link to the description of the API.
    pub api: String,
    /// Label of the list of languages.
    pub languages_label: String,
    /// Languages that the visitor may choose at `/language`; empty: none, and the page has no list.
    pub languages: Vec<OwnName>,
    /// Title of the sign-in page, and its button.
    pub sign_in: String,
    /// Label of the key on the sign-in page.
    pub key: String,
    /// Words for a key that was refused.
    pub key_refused: String,
    /// Words for a [`Problem`], by status. For any other status, the page has the status in words and the problem's detail.
    pub problems: Vec<ProblemWords>,
}

/// A language as those who speak it call it.
#[derive(Debug, Clone)]
pub struct OwnName {
    /// IETF tag, such as `de`.
    pub tag: String,
    /// Name, such as `Deutsch`.
    pub name: String,
}

/// Words for problems with one status.
#[derive(Debug, Clone)]
pub struct ProblemWords {
    /// Status of the answer.
    pub status: u16,
    /// Title of the page.
    pub title: String,
    /// What the page says where the problem has no [words of its own](Problem::worded).
    pub text: String,
}

static ENGLISH: LazyLock<PageWords> = LazyLock::new(|| PageWords {
    language: "en".to_owned(),
    right_to_left: false,
    skip: "Skip to the content".to_owned(),
    start: "Back to the start".to_owned(),
    version: "Version".to_owned(),
    time_zone_rules: "Time zone rules".to_owned(),
    api: "API".to_owned(),
    languages_label: "Language".to_owned(),
    languages: Vec::new(),
    sign_in: "Sign in".to_owned(),
    key: "Key".to_owned(),
    key_refused: "That key isn't valid or has been revoked.".to_owned(),
    problems: Vec::new(),
});

impl PageWords {
    /// English words, with the details of problems as the API has them.
    #[must_use]
    pub fn english() -> &'static Self {
        &ENGLISH
    }

    /// Title and text of the page of a problem.
    pub(crate) fn of<'w>(&'w self, problem: &'w Problem) -> (&'w str, &'w str) {
        let status = problem.status();
        let known = self
            .problems
            .iter()
            .find(|known| known.status == status.as_u16());
        match known {
            Some(known) => {
                let text = problem.words().unwrap_or(known.text.as_str());
                (known.title.as_str(), text)
            }
            None => (title(status), problem.detail()),
        }
    }

    /// The direction of the text, as HTML names it.
    pub(crate) fn direction(&self) -> &'static str {
        if self.right_to_left { "rtl" } else { "ltr" }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn a_problem_has_its_own_words_or_those_of_its_status() {
        let mut words = PageWords::english().clone();
        let forbidden = Problem::forbidden("the detail");
        assert_eq!(words.of(&forbidden), ("Forbidden", "the detail"));
        words.problems.push(ProblemWords {
            status: StatusCode::FORBIDDEN.as_u16(),
            title: "Verboten".to_owned(),
            text: "Das geht nicht.".to_owned(),
        });
        assert_eq!(words.of(&forbidden), ("Verboten", "Das geht nicht."));
        let own = forbidden.worded("Nur lesen.");
        assert_eq!(PageWords::english().of(&own), ("Forbidden", "the detail"));
        assert_eq!(words.of(&own), ("Verboten", "Nur lesen."));
        assert_eq!(words.of(&Problem::bad_request("x")), ("Bad Request", "x"));
    }
}

//! What a list says in place of its rows.

use std::fmt::Write;

use crate::{format::escape, page::at};

/// A list without rows: what it means that there are none, and what to do next. Every list and table of every page says it so.
///
/// ```
/// use punctual_web::Empty;
///
/// let empty = Empty::of("Nothing has run yet.").link("/jobs", "See when each job is due");
/// assert_eq!(
///     empty.html(),
///     "<div class=\"empty\"><p>Nothing has run yet.</p>\
///      <p class=\"hint\"><a href=\"/jobs\">See when each job is due</a></p></div>"
/// );
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Empty {
    means: String,
    good: bool,
    /// As HTML.
    next: String,
}

impl Empty {
    /// A list without rows, which means this.
    pub fn of(means: impl AsRef<str>) -> Self {
        Self {
            means: escape(means.as_ref()),
            good: false,
            next: String::new(),
        }
    }

    /// The same, which is as it should be.
    pub fn good(self) -> Self {
        Self { good: true, ..self }
    }

    /// The same, with a sentence more.
    pub fn note(mut self, sentence: impl AsRef<str>) -> Self {
        self.next.push(' ');
        self.next.push_str(&escape(sentence.as_ref()));
        self
    }

    /// The same, with a link: to a page of the server, such as `/jobs`, or to a part or another query of the page itself.
    pub fn link(mut self, to: impl AsRef<str>, text: impl AsRef<str>) -> Self {
        let to = to.as_ref();
        let href = if to.starts_with('/') {
            at(to)
        } else {
            to.to_owned()
        };
        let (href, text) = (escape(&href), escape(text.as_ref()));
        let between = if self.next.ends_with("</a>") {
            " · "
        } else {
            " "
        };
        // Writing to a string does not fail.
        let _ = write!(self.next, "{between}<a href=\"{href}\">{text}</a>");
        self
    }

    /// It as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let Self { means, good, next } = self;
        let class = if *good { " class=\"success\"" } else { "" };
        let next = match next.trim_start() {
            "" => String::new(),
            next => format!("<p class=\"hint\">{next}</p>"),
        };
        format!("<div class=\"empty\"><p{class}>{means}</p>{next}</div>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::with_root;

    #[test]
    fn it_says_what_it_means_and_leads_on_below_the_root_and_shows_values_as_text() {
        let empty = || {
            let empty = Empty::of("No <b>batch</b>.").good().note("Wait & see.");
            empty.link("/jobs", "Jobs").link("?a=\"b\"", "All").html()
        };
        let html = with_root("/ops".to_owned(), empty);
        for part in [
            "<p class=\"success\">No &#60;b&#62;batch&#60;/b&#62;.</p>",
            "<p class=\"hint\">Wait &#38; see. <a href=\"/ops/jobs\">Jobs</a>",
            ">Jobs</a> · <a href=\"?a=&#34;b&#34;\">All</a>",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        let plain = Empty::of("Nothing.").html();
        assert_eq!(plain, "<div class=\"empty\"><p>Nothing.</p></div>");
    }
}

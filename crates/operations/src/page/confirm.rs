//! A question before an action that affects much, with how much: a page with a button, so that it needs no script.

use askama::Template;
use axum::response::Html;

use super::{Problem, Visitor, render};

/// A question, and what its button sends.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirm {
    visitor: Visitor,
    /// Title of the page, a question.
    question: String,
    /// What follows from it, a sentence each.
    notes: Vec<String>,
    /// `get` or `post`.
    method: &'static str,
    /// Address that the form is sent to, below the root.
    action: String,
    /// Hidden fields of the form.
    fields: Vec<(String, String)>,
    button: String,
    /// Address of the page that it began on, below the root.
    back: String,
}

impl Confirm {
    pub(super) fn new(visitor: Visitor, question: String, button: String) -> Self {
        Self {
            visitor,
            question,
            notes: Vec::new(),
            method: "post",
            action: String::new(),
            fields: Vec::new(),
            button,
            back: "/".to_owned(),
        }
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Where it is sent, and how.
    pub(super) fn sends(self, method: &'static str, action: impl Into<String>) -> Self {
        Self {
            method,
            action: action.into(),
            ..self
        }
    }

    pub(super) fn field(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    pub(super) fn back(self, back: impl Into<String>) -> Self {
        Self {
            back: back.into(),
            ..self
        }
    }

    pub(super) fn page(self) -> Result<Html<String>, Problem> {
        render(&self)
    }
}

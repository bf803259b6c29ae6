//! What commands print, and what they ask: lines and tables for people, JSON for programs. Text from elsewhere is escaped, so
//! that a terminal shows it and does not act upon it. Colours only mark what stands in the words already.

mod table;

use std::{
    fmt::{self, Display},
    io::{self, Write},
    time::Duration,
};

use chrono::{DateTime, Utc};
use console::{Style, Term};
use punctual_domain::{visible, visible_lines};
use punctual_web::question;
use serde::Serialize;
use serde_json::json;

pub(crate) use self::table::{Cell, Table, cell};
use self::table::{item, prose};
use crate::commands::Failure;

/// How often a state is looked at that a command keeps showing.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// How a text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Heading,
    Good,
    Warning,
    Bad,
}

impl Tone {
    /// The text in this tone, where standard output shows colours.
    pub(crate) fn paint(self, text: impl Display) -> String {
        let style = match self {
            Self::Plain => return text.to_string(),
            Self::Heading => Style::new().bold(),
            Self::Good => Style::new().green(),
            Self::Warning => Style::new().yellow(),
            Self::Bad => Style::new().red(),
        };
        style.apply_to(text).to_string()
    }
}

/// Lines and tables for people, in the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View(String);

impl View {
    /// Adds a line.
    pub(crate) fn line(self, text: impl Display) -> Self {
        self.toned(Tone::Plain, text)
    }

    /// Adds a line in a tone.
    pub(crate) fn toned(mut self, tone: Tone, text: impl Display) -> Self {
        let text = tone.paint(visible_lines(&text.to_string()));
        self.0.push_str(&text);
        self.0.push('\n');
        self
    }

    /// Adds a sentence, which is broken between words.
    pub(crate) fn prose(mut self, text: impl Display) -> Self {
        self.0.push_str(&prose(&text.to_string()));
        self.0.push('\n');
        self
    }

    /// Adds a heading, with an empty line before it.
    pub(crate) fn heading(mut self, text: impl Display) -> Self {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.toned(Tone::Heading, text)
    }

    /// Adds a text with a sign before it.
    pub(crate) fn item(mut self, sign: &str, tone: Tone, text: &str) -> Self {
        self.0.push_str(&item(sign, tone, text));
        self.0.push('\n');
        self
    }

    /// Adds a table.
    pub(crate) fn table(mut self, table: &Table) -> Self {
        self.0.push_str(&table.to_string());
        self.0.push('\n');
        self
    }

    pub(crate) fn print(&self) {
        write(&self.0);
    }
}

impl Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prints a document as JSON, or for people.
pub(crate) fn show<T: Serialize>(as_json: bool, document: &T, view: impl FnOnce(&T) -> View) {
    rendered(as_json, document, view).print();
}

/// The same, to be printed later.
pub(crate) fn rendered<T: Serialize>(
    as_json: bool,
    document: &T,
    view: impl FnOnce(&T) -> View,
) -> View {
    if as_json {
        View::default().line(visible(&json!(document).to_string()))
    } else {
        view(document)
    }
}

/// Prints what `look` sees whenever it has changed, until the process is interrupted: in place of what was printed before,
/// where standard output is a terminal. A failure to look is shown, too.
pub(crate) async fn watch(look: impl AsyncFn() -> Result<View, Failure>) -> Result<(), Failure> {
    let (screen, mut before) = (Term::stdout(), None);
    loop {
        let now = match look().await {
            Ok(view) => view,
            Err(failure @ Failure::Failed(_)) => View::default().toned(Tone::Bad, failure),
            Err(failure) => return Err(failure),
        };
        if before.as_ref() != Some(&now) {
            if screen.is_term() {
                screen.clear_screen().map_err(Failure::failed)?;
            }
            now.print();
            before = Some(now);
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Asks the person at the terminal before something is done that cannot be undone, or touches many.
///
/// # Errors
/// The answer is not yes; without a terminal there is none.
pub(crate) fn confirm(question: impl Display) -> Result<(), Failure> {
    match ask(question, "[y/N]")?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was done")),
    }
}

/// Asks for a name to be typed before what it stands for is erased.
///
/// # Errors
/// Another text is typed; without a terminal there is none.
pub(crate) fn confirm_by_typing(question: impl Display, name: &str) -> Result<(), Failure> {
    if ask(question, &format!("Type {name} to go on:"))? == name {
        return Ok(());
    }
    Err(Failure::failed("nothing was done"))
}

/// What is typed as the answer to a question.
fn ask(text: impl Display, how: &str) -> Result<String, Failure> {
    let text = visible(&text.to_string()).into_owned();
    let answer = question::ask(&text, how).map_err(Failure::failed)?;
    answer.ok_or_else(|| Failure::BadInput(question::unanswered(&text)))
}

/// Prints a line for a person.
pub(crate) fn print_line(text: impl Display) {
    View::default().line(text).print();
}

/// The same, on standard error.
pub(crate) fn print_error(text: impl Display) {
    let text = text.to_string();
    let text = visible_lines(&text);
    // What reads standard error may be gone.
    let _ = match text.strip_prefix("error: ") {
        Some(rest) => {
            let error = Style::new().for_stderr().red().bold().apply_to("error:");
            writeln!(io::stderr(), "{error} {rest}")
        }
        None => writeln!(io::stderr(), "{text}"),
    };
}

/// Prints a document for a program, in a form that a terminal shows as it is.
pub(crate) fn say_json(document: &impl Serialize) {
    show(true, document, |_| View::default());
}

/// Writes to standard output. A reader that has seen enough, such as `head`, ends the process.
pub(crate) fn write(text: &str) {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            print_error(format!("error: cannot write to standard output: {error}"));
            std::process::exit(1);
        }
    }
}

/// Columns of the terminal; without one, what `COLUMNS` says, and else as many as are needed.
pub(crate) fn width() -> Option<usize> {
    let columns = Term::stdout().size_checked();
    let columns = columns.map(|(_, columns)| usize::from(columns));
    columns.or_else(|| std::env::var("COLUMNS").ok()?.parse().ok())
}

/// An instant, to the second, as commands show it.
pub(crate) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// An instant, to the minute, as commands show it.
pub(crate) fn minute(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

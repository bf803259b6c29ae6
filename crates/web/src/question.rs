//! Questions to the person at the terminal, before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal};

/// What is typed as the answer to a question, after which `how` says what may be; `None`: standard input is not a terminal.
///
/// # Errors
/// Standard input cannot be read.
pub fn ask(question: &str, how: &str) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    eprint!("{question} {how} ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(Some(answer.trim().to_owned()))
}

/// Why nothing was done where no terminal answers `question`.
#[must_use]
pub fn unanswered(question: &str) -> String {
    format!(
        "{question} Nothing was done: standard input is not a terminal; repeat the command with --yes"
    )
}

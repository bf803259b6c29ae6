//! `completions` and `man`: what a shell and `man` know of the commands.

use std::path::Path;

use clap::CommandFactory;
use punctual_web::shell::{self, Shell};

use super::Failure;
use crate::{cli::Cli, output::write};

/// Prints a script that completes commands and options.
pub(crate) fn completions(shell: Shell) {
    write(&shell::completions(Cli::command(), shell));
}

/// Prints the manual page, or writes a page for each command into a folder.
pub(crate) fn man(to: Option<&Path>) -> Result<(), Failure> {
    write(&shell::manual(Cli::command(), to).map_err(Failure::failed)?);
    Ok(())
}

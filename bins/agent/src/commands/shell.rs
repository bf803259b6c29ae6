//! `completions` and `man`: what a shell and `man` know of the commands.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Failure;
use crate::{
    cli::Cli,
    output::{print_line, write},
};

const NAME: &str = "punctual-agent";

/// Prints a script that completes commands and options.
pub(crate) fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    write(&String::from_utf8_lossy(&script));
}

/// Prints the manual page, or writes a page for each command into a folder.
pub(crate) fn man(to: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = to else {
        let mut page = Vec::new();
        let rendered = Man::new(Cli::command()).render(&mut page);
        rendered.map_err(Failure::failed)?;
        write(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    let pages = write_pages(folder).map_err(|error| {
        Failure::failed(format!(
            "cannot write manual pages to {}: {error}",
            folder.display()
        ))
    })?;
    print_line(format!(
        "Wrote {pages} manual pages to {}",
        folder.display()
    ));
    Ok(())
}

/// Writes the pages for all users to read, and returns their number.
fn write_pages(folder: &Path) -> io::Result<usize> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)?;
    let mut pages = 0;
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(NAME) {
            fs::set_permissions(file.path(), Permissions::from_mode(0o644))?;
            pages += 1;
        }
    }
    Ok(pages)
}

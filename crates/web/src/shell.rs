//! What a shell and `man` know of the commands of a program.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use clap::Command;
pub use clap_complete::Shell;
use clap_mangen::Man;
use punctual_domain::visible;

/// A script that completes the commands and options of the program.
#[must_use]
pub fn completions(mut program: Command, shell: Shell) -> String {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of the program; with a folder, writes a page for each command into it and returns a line that says so.
///
/// # Errors
/// The pages cannot be written.
pub fn manual(program: Command, to: Option<&Path>) -> io::Result<String> {
    let Some(folder) = to else {
        let mut page = Vec::new();
        Man::new(program).render(&mut page)?;
        return Ok(String::from_utf8_lossy(&page).into_owned());
    };
    let shown = folder.display().to_string();
    let shown = visible(&shown);
    let pages = write_pages(program, folder).map_err(|error| {
        let text = format!("cannot write manual pages to {shown}: {error}");
        io::Error::new(error.kind(), text)
    })?;
    Ok(format!("Wrote {pages} manual pages to {shown}\n"))
}

/// Writes the pages for all users to read, and returns their number.
fn write_pages(program: Command, folder: &Path) -> io::Result<usize> {
    let name = program.get_name().to_owned();
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(program, folder)?;
    let mut pages = 0;
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(&name) {
            fs::set_permissions(file.path(), Permissions::from_mode(0o644))?;
            pages += 1;
        }
    }
    Ok(pages)
}

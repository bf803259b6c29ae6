//! Reads in pages that never come to an end are noticed and given up: a cursor or a page that comes twice, pages that
//! bring nothing, more pages, tenants or time than any Config Database needs.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

/// Pages one after the other that may bring nothing.
const MAX_EMPTY_PAGES: usize = 100;
/// Tenants of one feature.
const MAX_TENANTS: usize = 150_000_000;
/// Pages of one read.
const MAX_PAGES: usize = 1_000_000;
/// Time for one read.
const MAX_READ_TIME: Duration = Duration::from_hours(1);
/// Bytes of a cursor; a longer one fits into no URL.
const MAX_CURSOR_BYTES: usize = 4096;

pub(super) struct Pages {
    began: Instant,
    read: usize,
    empty: usize,
    cursors: HashSet<blake3::Hash>,
    contents: HashSet<blake3::Hash>,
}

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            read: 0,
            empty: 0,
            cursors: HashSet::new(),
            contents: HashSet::new(),
        }
    }

    /// Whether the next page may be read.
    ///
    /// # Errors
    /// The reason why the pages do not come to an end.
    pub(super) fn check_next(
        &mut self,
        next: &str,
        content: Option<blake3::Hash>,
        tenants: usize,
    ) -> Result<(), String> {
        self.read += 1;
        self.empty = if content.is_some() { 0 } else { self.empty + 1 };
        if next.len() > MAX_CURSOR_BYTES {
            return Err(format!("a cursor has {} bytes", next.len()));
        }
        if !self.cursors.insert(blake3::hash(next.as_bytes())) {
            return Err("a cursor comes twice".to_owned());
        }
        if content.is_some_and(|content| !self.contents.insert(content)) {
            return Err("a page comes twice".to_owned());
        }
        if self.empty > MAX_EMPTY_PAGES {
            return Err(format!("{} pages in a row bring nothing", self.empty));
        }
        if tenants > MAX_TENANTS {
            return Err(format!("there are more than {MAX_TENANTS} tenants"));
        }
        if self.read > MAX_PAGES || self.began.elapsed() > MAX_READ_TIME {
            let seconds = self.began.elapsed().as_secs();
            return Err(format!(
                "{} pages in {seconds} s are not the whole list",
                self.read
            ));
        }
        Ok(())
    }
}

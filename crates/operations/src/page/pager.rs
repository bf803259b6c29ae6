//! Links from a page of a list to the older and the newer entries, with the filters kept.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use punctual_application::ports::Page;
use serde::Deserialize;

use super::Problem;

/// The longest way back, in characters; beyond it the way back is to the newest entries.
const MAX_TRAIL: usize = 1_500;
/// Stands between cursors, none of which contains it.
const SEPARATOR: char = '~';

/// Which page of a list is asked for, as the address says.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct PagerQuery {
    pub(super) cursor: Option<String>,
    /// The cursors of the pages before, from the first one on; that of the first one is empty.
    #[serde(default)]
    trail: String,
}

impl PagerQuery {
    pub(super) fn new(cursor: Option<String>, trail: String) -> Self {
        let cursor = cursor.filter(|cursor| !cursor.is_empty());
        Self { cursor, trail }
    }

    /// What the store is asked for: so many rows from there on.
    pub(super) fn page(&self, limit: u32) -> Page {
        Page {
            cursor: self.cursor.clone(),
            limit,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for PagerQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(Self { cursor, trail }) = Query::try_from_uri(&parts.uri)?;
        Ok(Self::new(cursor, trail))
    }
}

/// The addresses of the pages beside one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pager {
    pub(super) newer: Option<String>,
    pub(super) older: Option<String>,
}

impl Pager {
    /// Beside the page that was asked for, whose next one begins at `next`. `filters` are kept, but for empty ones.
    pub(super) fn new(filters: &[(&str, &str)], asked: &PagerQuery, next: Option<&str>) -> Self {
        let address = |cursor: &str, trail: &str| {
            let own = [("cursor", cursor), ("trail", trail)];
            let fields = filters.iter().copied().chain(own);
            let fields: Vec<(&str, &str)> = fields.filter(|(_, value)| !value.is_empty()).collect();
            let fields = serde_urlencoded::to_string(fields).unwrap_or_default();
            format!("?{fields}")
        };
        let newer = asked
            .cursor
            .as_ref()
            .map(|_| match asked.trail.rsplit_once(SEPARATOR) {
                Some((trail, cursor)) => address(cursor, trail),
                None => address("", ""),
            });
        let older = next.map(|next| match &asked.cursor {
            None => address(next, ""),
            Some(cursor) if asked.trail.len() > MAX_TRAIL => {
                address(next, &format!("{SEPARATOR}{cursor}"))
            }
            Some(cursor) => address(next, &format!("{}{SEPARATOR}{cursor}", asked.trail)),
        });
        Self { newer, older }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_leads_through_the_pages_that_one_came_by() {
        let filters = [("job", "posts"), ("state", "")];
        let mut asked = PagerQuery::default();
        let mut came_by = vec!["?job=posts".to_owned()];
        for next in ["9", "8.a", "7"] {
            let pager = Pager::new(&filters, &asked, Some(next));
            let newer = came_by.iter().rev().nth(1).cloned();
            assert_eq!(pager.newer, newer);
            let older = pager.older.unwrap();
            asked = serde_urlencoded::from_str(&older[1..]).unwrap();
            assert_eq!(asked.cursor.as_deref(), Some(next));
            came_by.push(older);
        }
        let last = Pager::new(&filters, &asked, None);
        assert_eq!((last.older, last.newer.as_ref()), (None, came_by.get(2)));
    }
}

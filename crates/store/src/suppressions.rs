//! The port `Suppressions`: addresses that no e-mail is sent to.

use async_trait::async_trait;
use punctual_application::ports::{Page, Paged, StoreError, Suppression, Suppressions};
use punctual_domain::EmailAddress;

use crate::{
    Store,
    driver::{FromRow, Row, values},
    reader::{before, paged},
};

const SUPPRESS: &str =
    "INSERT INTO @suppressions (key, address, reason, at, by) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (key) DO NOTHING";

const SUPPRESSED: &str = "SELECT id, address, reason, at, by FROM @suppressions WHERE key = $1";

const UNSUPPRESS: &str = "DELETE FROM @suppressions WHERE key = $1";

const SUPPRESSIONS: &str =
    "SELECT id, address, reason, at, by FROM @suppressions WHERE id < $1 ORDER BY id DESC LIMIT $2";

/// An entry, and its number.
struct Numbered(i64, Suppression);

impl FromRow for Numbered {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let number = row.next()?;
        let entry = Suppression {
            address: row.parse()?,
            reason: row.next()?,
            at: row.next()?,
            by: row.next()?,
        };
        Ok(Self(number, entry))
    }
}

#[async_trait]
impl Suppressions for Store {
    async fn suppress(&self, suppressions: &[Suppression]) -> Result<u64, StoreError> {
        let mut transaction = self.database.begin().await?;
        let mut added = 0;
        for Suppression {
            address,
            reason,
            at,
            by,
        } in suppressions
        {
            let entry = values![address.key(), address.as_str(), &**reason, *at, &**by];
            added += transaction.execute(SUPPRESS, entry).await?;
        }
        transaction.commit().await?;
        Ok(added)
    }

    async fn suppressed(&self, address: &EmailAddress) -> Result<Option<Suppression>, StoreError> {
        let key = values![address.key()];
        let found: Option<Numbered> = self.database.fetch_optional(SUPPRESSED, key).await?;
        Ok(found.map(|found| found.1))
    }

    async fn unsuppress(&self, address: &EmailAddress) -> Result<bool, StoreError> {
        let key = values![address.key()];
        Ok(self.database.execute(UNSUPPRESS, key).await? > 0)
    }

    async fn suppressions(&self, page: &Page) -> Result<Paged<Suppression>, StoreError> {
        let wanted = values![before(page)?, page.limit + 1];
        let found: Vec<Numbered> = self.database.fetch(SUPPRESSIONS, wanted).await?;
        let (found, next) = paged(found, page, |entry| entry.0.to_string());
        Ok((found.into_iter().map(|entry| entry.1).collect(), next))
    }
}

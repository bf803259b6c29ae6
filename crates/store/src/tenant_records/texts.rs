//! Takes the name of a tenant out of texts that are kept: the audit log, the reasons of deliveries and pauses, the answers to requests
//! under idempotency keys, and alerts, which quote the reasons of failures.

use punctual_application::ports::StoreError;
use punctual_domain::ItemId;
use serde_json::Value as Json;

use super::{Erasure, ROWS_PER_PORTION, chunks::position};
use crate::driver::{Connection, values};

/// What stands in place of the name.
const ERASED: &str = "erased tenant";

const AUDIT_LOG: &str = "SELECT id, subject, detail, reason FROM @audit_log
     WHERE id > $1 AND (subject LIKE $2 OR detail LIKE $2 OR reason LIKE $2) ORDER BY id LIMIT $3";

const KEEP_AUDIT: &str =
    "UPDATE @audit_log SET subject = $2, detail = $3, reason = $4 WHERE id = $1";

const DELIVERIES: &str = "SELECT id, coalesce(reason, ''), coalesce(position, '') FROM @deliveries
     WHERE id > $1 AND (reason LIKE $2 OR position LIKE $3) ORDER BY id LIMIT $4";

const KEEP_DELIVERY: &str = "UPDATE @deliveries SET reason = $2 WHERE id = $1";

const MESSAGE: &str = "SELECT m.message FROM @chunk_messages m WHERE m.chunk = $1";

const MOVE_DELIVERY: &str = "UPDATE @deliveries SET position = $3 WHERE id = $1 AND position = $2";

const PAUSES: &str = "SELECT job_id, reason FROM @paused_jobs WHERE reason LIKE $1";

const KEEP_PAUSE: &str = "UPDATE @paused_jobs SET reason = $2 WHERE job_id = $1";

const REQUESTS: &str = "SELECT id, scope, key, coalesce(answer, '') FROM @requests
     WHERE scope LIKE $1 OR key LIKE $1 OR answer LIKE $1";

const KEEP_ANSWER: &str = "UPDATE @requests SET answer = $2 WHERE id = $1";

const REMOVE_REQUEST: &str = "DELETE FROM @requests WHERE id = $1";

const ALERTS: &str = "SELECT finding, body FROM @alerts WHERE body LIKE $1";

const KEEP_ALERT: &str = "UPDATE @alerts SET body = $2 WHERE finding = $1";

const ALERT_MESSAGES: &str = "SELECT id, body FROM @alert_messages WHERE body LIKE $1";

const KEEP_ALERT_MESSAGE: &str = "UPDATE @alert_messages SET body = $2 WHERE id = $1";

/// Who has read the alerts before reads them again, and does not write the name back.
const REVISE_ALERTS: &str = "UPDATE @alert_revision SET revision = revision + 1";

/// A text with `erased tenant` in place of the id, where it stands as a word: neither within another id nor as a part of one.
/// `None`: it does not name the tenant.
pub(super) fn without(text: &str, tenant: &ItemId) -> Option<String> {
    let is_of_id = |c: char| c.is_ascii_alphanumeric() || "._:@-".contains(c);
    // What ends a sentence, or a part of one, ends an id.
    let goes_on = |rest: &str| rest.trim_start_matches(['.', ':']).starts_with(is_of_id);
    let name = tenant.as_str();
    let (mut left, mut place, mut is_changed) = (String::new(), 0, false);
    while let Some(found) = text[place..].find(name) {
        let (begins, ends) = (place + found, place + found + name.len());
        let is_word = !text[..begins].ends_with(is_of_id) && !goes_on(&text[ends..]);
        left.push_str(&text[place..begins]);
        left.push_str(if is_word { ERASED } else { name });
        is_changed |= is_word;
        place = ends;
    }
    left.push_str(&text[place..]);
    is_changed.then_some(left)
}

/// A JSON document with `erased tenant` in place of the id in its texts. `None`: it does not name the tenant, or cannot be read.
fn without_in_json(document: &str, tenant: &ItemId) -> Option<String> {
    let mut document: Json = serde_json::from_str(document).ok()?;
    replace(&mut document, tenant).then(|| document.to_string())
}

/// Whether anything is replaced.
fn replace(json: &mut Json, tenant: &ItemId) -> bool {
    match json {
        Json::String(text) => {
            let left = without(text, tenant);
            left.map(|left| *text = left).is_some()
        }
        Json::Array(all) => all
            .iter_mut()
            .fold(false, |is_changed, one| replace(one, tenant) | is_changed),
        Json::Object(fields) => fields
            .values_mut()
            .fold(false, |is_changed, one| replace(one, tenant) | is_changed),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

impl Erasure<'_> {
    pub(super) async fn texts(&mut self) -> Result<(), StoreError> {
        self.audit_log().await?;
        self.deliveries().await?;
        self.alerts().await?;
        let (store, tenant) = (self.store, self.tenant.clone());
        let (database, named) = (&store.database, self.named());
        let pauses: Vec<(String, String)> = database.fetch(PAUSES, values![&*named]).await?;
        for (job_id, reason) in pauses {
            if let Some(reason) = without(&reason, &tenant) {
                let kept = values![job_id, reason];
                self.erased.others += database.execute(KEEP_PAUSE, kept).await?;
            }
        }
        let requests: Vec<(String, String, String, String)> =
            database.fetch(REQUESTS, values![&*named]).await?;
        for (id, scope, key, answer) in requests {
            let names = |text: &String| without(text, &tenant).is_some();
            if names(&scope) || names(&key) {
                self.erased.others += database.execute(REMOVE_REQUEST, values![id]).await?;
            } else if let Some(answer) = without(&answer, &tenant) {
                let kept = values![id, answer];
                self.erased.others += database.execute(KEEP_ANSWER, kept).await?;
            }
        }
        Ok(())
    }

    /// What texts are like that may name the tenant.
    fn named(&self) -> String {
        format!("%{}%", self.tenant)
    }

    async fn audit_log(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let mut from = 0;
        loop {
            let some = values![from, self.named(), ROWS_PER_PORTION];
            let found: Vec<(i64, String, String, Option<String>)> =
                store.database.fetch(AUDIT_LOG, some).await?;
            let Some((last, ..)) = found.last() else {
                return Ok(());
            };
            from = *last;
            let mut transaction = store.database.begin().await?;
            for (id, subject, detail, reason) in found {
                let texts = [&subject, &detail].map(|text| without(text, &self.tenant));
                let [new_subject, new_detail] = texts;
                let new_reason = reason
                    .as_deref()
                    .and_then(|text| without(text, &self.tenant));
                if new_subject.is_some() || new_detail.is_some() || new_reason.is_some() {
                    let subject = new_subject.unwrap_or(subject);
                    let detail = new_detail.unwrap_or(detail);
                    let kept = values![id, subject, detail, new_reason.or(reason)];
                    self.erased.others += transaction.execute(KEEP_AUDIT, kept).await?;
                }
            }
            transaction.commit().await?;
        }
    }

    /// At most those of 30 days.
    async fn alerts(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        for (named, keep) in [(ALERTS, KEEP_ALERT), (ALERT_MESSAGES, KEEP_ALERT_MESSAGE)] {
            let mut transaction = store.database.begin().await?;
            transaction.execute(REVISE_ALERTS, values![]).await?;
            let found: Vec<(String, String)> =
                transaction.fetch(named, values![self.named()]).await?;
            let mut kept = 0;
            for (id, body) in found {
                if let Some(body) = without_in_json(&body, &self.tenant) {
                    kept += transaction.execute(keep, values![id, body]).await?;
                }
            }
            if kept > 0 {
                transaction.commit().await?;
            }
            self.erased.others += kept;
        }
        Ok(())
    }

    async fn deliveries(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let mut from = 0;
        loop {
            let ends = format!("%.{}", self.tenant);
            let some = values![from, self.named(), ends, ROWS_PER_PORTION];
            let found: Vec<(i64, String, String)> = store.database.fetch(DELIVERIES, some).await?;
            let Some((last, ..)) = found.last() else {
                return Ok(());
            };
            from = *last;
            let mut transaction = store.database.begin().await?;
            for (id, reason, place) in found {
                if let Some(reason) = without(&reason, &self.tenant) {
                    let kept = values![id, reason];
                    self.erased.others += transaction.execute(KEEP_DELIVERY, kept).await?;
                }
                let moved = self.move_on(&mut transaction, id, &place).await?;
                self.erased.others += moved;
            }
            transaction.commit().await?;
        }
    }

    /// Has a delivery that was under way while its chunk lost the tenant, and has come as far as the tenant, go on from another place that
    /// means the same.
    async fn move_on(
        &self,
        connection: &mut Connection<'_>,
        id: i64,
        place: &str,
    ) -> Result<u64, StoreError> {
        let parts = place.split_once('.');
        let of_tenant = parts.filter(|(_, item)| *item == self.tenant.as_str());
        let chunk: Option<i64> = of_tenant.and_then(|(chunk, _)| chunk.parse().ok());
        let Some(chunk) = chunk else {
            return Ok(0);
        };
        let message: Option<String> = connection.fetch_optional(MESSAGE, values![chunk]).await?;
        let message: Option<Json> = message.and_then(|text| serde_json::from_str(&text).ok());
        let left = message
            .as_ref()
            .and_then(|message| message["items"].as_array());
        let left: &[Json] = left.map(Vec::as_slice).unwrap_or_default();
        let moved = values![id, place, position(chunk, left, self.tenant.as_str())];
        connection.execute(MOVE_DELIVERY, moved).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_replaced_in_a_document_also_at_the_beginning_of_a_line() {
        let ann = ItemId::new("ann").unwrap();
        let document = r#"{"n":1,"of":["anna",{"detail":"failed for:\nann"}]}"#;
        let left = r#"{"n":1,"of":["anna",{"detail":"failed for:\nerased tenant"}]}"#;
        assert_eq!(without_in_json(document, &ann).as_deref(), Some(left));
        for document in [r#"{"of":"anna"}"#, "ann"] {
            assert_eq!(without_in_json(document, &ann), None);
        }
    }

    #[test]
    fn only_the_name_itself_is_replaced() {
        let ann = ItemId::new("ann").unwrap();
        for (text, left) in [
            ("ann", Some("erased tenant")),
            (
                "3 dead letters of ann, bob",
                Some("3 dead letters of erased tenant, bob"),
            ),
            (
                "sent to ann. Then ann: done",
                Some("sent to erased tenant. Then erased tenant: done"),
            ),
            (r#"["ann","anna"]"#, Some(r#"["erased tenant","anna"]"#)),
            ("planning, joann and ann.smith", None),
            ("ann@shop.example, eve:ann", None),
            ("", None),
        ] {
            assert_eq!(without(text, &ann).as_deref(), left, "{text}");
        }
    }
}

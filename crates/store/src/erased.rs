//! Runs of tenants who were erased. The store knows them by keyed hashes: no claim gives them, and what an item brings whose run was
//! erased meanwhile is not stored.

use std::collections::{HashMap, HashSet};

use punctual_application::ports::StoreError;
use punctual_domain::{Chunk, ItemId, JobId, Occurrence};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Store,
    batch_store::{VALID_CLAIM, ValidClaim},
    driver::{Connection, Value, values},
    errors::failed,
};

/// The name of the key of the hashes among the secrets.
const KEY: &str = "erasure_key";

const SECRET: &str = "SELECT value FROM @secrets WHERE name = $1";

const KEEP_SECRET: &str =
    "INSERT INTO @secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";

pub(crate) const KNOWN: &str = "SELECT e.hash FROM @erased_runs e WHERE @in_texts(e.hash, $1)";

/// Hexadecimal digits of a hash of a run: half of the BLAKE3 hash.
const DIGITS: usize = 32;

/// Makes the hashes of runs, and of tenants.
pub(crate) struct RunHashes([u8; 32]);

impl RunHashes {
    /// The hash of a tenant's run of a job, which only a holder of the store's key can make.
    pub(crate) fn hash(&self, job_id: &str, occurrence: &str, tenant: &str) -> String {
        // No two runs are written alike.
        self.hash_of(&json!([job_id, occurrence, tenant]))
    }

    /// The hash of a tenant, which is that of no run.
    pub(crate) fn hash_of_tenant(&self, tenant: &str) -> String {
        self.hash_of(&json!([tenant]))
    }

    fn hash_of(&self, what: &serde_json::Value) -> String {
        let hash = blake3::keyed_hash(&self.0, what.to_string().as_bytes()).to_hex();
        hash.as_str()[..DIGITS].to_owned()
    }
}

/// Items of chunks whose runs were erased.
#[derive(Debug, Default)]
pub(crate) struct Erased(HashMap<String, HashSet<ItemId>>);

impl Erased {
    /// Those of some items of chunks.
    pub(crate) async fn of(
        connection: &mut Connection<'_>,
        items: &[(&Chunk, &ItemId)],
    ) -> Result<Self, StoreError> {
        if items.is_empty() {
            return Ok(Self::default());
        }
        let key: Option<String> = connection.fetch_optional(SECRET, values![KEY]).await?;
        let Some(key) = key else {
            return Ok(Self::default());
        };
        let hashes = RunHashes(key_of(KEY, &key)?);
        let hash = |chunk: &Chunk, item: &ItemId| {
            let occurrence = chunk.occurrence.to_string();
            hashes.hash(chunk.job_id.as_str(), &occurrence, item.as_str())
        };
        let wanted = items.iter().map(|&(chunk, item)| hash(chunk, item));
        let wanted: Vec<String> = wanted.collect();
        let known = values![Value::Texts(wanted.clone())];
        let known: Vec<String> = connection.fetch(KNOWN, known).await?;
        let known: HashSet<String> = known.into_iter().collect();
        let mut erased = Self::default();
        for (&(chunk, item), hash) in items.iter().zip(&wanted) {
            if known.contains(hash) {
                let of_chunk = erased.0.entry(chunk.chunk_id.clone()).or_default();
                of_chunk.insert(item.clone());
            }
        }
        Ok(erased)
    }

    /// Those of some items of a chunk that has `total` items now: only where it has fewer than when it was claimed, any were erased.
    pub(crate) async fn since_claim(
        connection: &mut Connection<'_>,
        chunk: &Chunk,
        total: i64,
        items: Vec<&ItemId>,
    ) -> Result<Self, StoreError> {
        if total >= chunk.items.len() as i64 {
            return Ok(Self::default());
        }
        let items: Vec<(&Chunk, &ItemId)> = items.into_iter().map(|item| (chunk, item)).collect();
        Self::of(connection, &items).await
    }

    pub(crate) fn contains(&self, chunk: &Chunk, item: &ItemId) -> bool {
        let of_chunk = self.0.get(&chunk.chunk_id);
        of_chunk.is_some_and(|items| items.contains(item))
    }

    /// Number of items.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }
}

/// A stored key, from its text.
fn key_of(name: &str, text: &str) -> Result<[u8; 32], StoreError> {
    let key = blake3::Hash::from_hex(text);
    let key = key.map_err(|_| failed(format!("the stored secret `{name}` is damaged")))?;
    Ok(*key.as_bytes())
}

/// A key that no one can guess: what it is made of has 366 random bits.
fn drawn_key() -> blake3::Hash {
    let drawn = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    let bytes: Vec<u8> = drawn.iter().flat_map(|one| *one.as_bytes()).collect();
    blake3::hash(&bytes)
}

impl Store {
    /// The secret of this name, which is drawn when it is first asked for and the same for all processes.
    pub(crate) async fn drawn_secret(&self, name: &str) -> Result<[u8; 32], StoreError> {
        let mut stored: Option<String> =
            self.database.fetch_optional(SECRET, values![name]).await?;
        if stored.is_none() {
            let drawn = values![name, drawn_key().to_hex().to_string()];
            self.database.execute(KEEP_SECRET, drawn).await?;
            // Another process may have been as quick: what is stored counts.
            stored = self.database.fetch_optional(SECRET, values![name]).await?;
        }
        key_of(name, &stored.unwrap_or_default())
    }

    /// What makes the hashes of runs.
    pub(crate) async fn run_hashes(&self) -> Result<RunHashes, StoreError> {
        Ok(RunHashes(self.drawn_secret(KEY).await?))
    }

    /// Those of some items whose run of a job was erased.
    pub(crate) async fn erased_items(
        &self,
        job_id: &JobId,
        occurrence: Occurrence,
        items: &[&ItemId],
    ) -> Result<HashSet<ItemId>, StoreError> {
        let key: Option<String> = match items {
            [] => None,
            _ => self.database.fetch_optional(SECRET, values![KEY]).await?,
        };
        let Some(key) = key else {
            return Ok(HashSet::new());
        };
        let (hashes, occurrence) = (RunHashes(key_of(KEY, &key)?), occurrence.to_string());
        let hash = |item: &ItemId| hashes.hash(job_id.as_str(), &occurrence, item.as_str());
        let by_hash: HashMap<String, &ItemId> =
            items.iter().map(|item| (hash(item), *item)).collect();
        let wanted = values![Value::Texts(by_hash.keys().cloned().collect())];
        let known: Vec<String> = self.database.fetch(KNOWN, wanted).await?;
        let erased = known.iter().filter_map(|hash| by_hash.get(hash));
        Ok(erased.map(|item| (*item).clone()).collect())
    }

    /// Runs a statement that keeps something of an item, of a chunk some items of which were erased after it was claimed. Of an item
    /// that was erased itself nothing is kept. `false`: the claim does not stand.
    pub(crate) async fn keep_unless_erased(
        &self,
        chunk: &Chunk,
        token: Uuid,
        item: &ItemId,
        sql: &str,
        kept: Vec<Value>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin().await?;
        let claim = values![&*chunk.chunk_id, token];
        let claim = transaction.fetch_optional(VALID_CLAIM, claim).await?;
        let claim: Option<ValidClaim> = claim;
        let Some((_, _, _, _, _, total)) = claim else {
            return Ok(false);
        };
        let erased = Erased::since_claim(&mut transaction, chunk, total, vec![item]).await?;
        if erased.contains(chunk, item) {
            return Ok(true);
        }
        let kept = transaction.execute(sql, kept).await? > 0;
        transaction.commit().await?;
        Ok(kept)
    }
}

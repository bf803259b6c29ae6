-- A result uses its occurrence up. What was skipped does not, and stands apart, for each chunk that skipped it.
CREATE TABLE @skipped_items (
    chunk      INTEGER NOT NULL,
    tenant_id  TEXT NOT NULL,
    job_id     TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    reason     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (chunk, tenant_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX @skipped_items_of_tenant ON @skipped_items (tenant_id, job_id, occurrence);

INSERT INTO @skipped_items
SELECT chunk, tenant_id, job_id, occurrence, coalesce(error, ''), coalesce(finished_at, started_at)
FROM @item_results WHERE status = 'skipped';

DELETE FROM @item_results WHERE status = 'skipped';

-- The chunk that is to run a failed item again. Until it has, the failed result stays.
ALTER TABLE @item_results ADD COLUMN again INTEGER;

UPDATE @item_results SET status = 'failed', again = chunk
WHERE status = 'running' AND EXISTS (SELECT 1 FROM @dead_letters d WHERE d.tenant_id = @item_results.tenant_id
    AND d.job_id = @item_results.job_id AND d.occurrence = @item_results.occurrence);

DELETE FROM @item_results WHERE status = 'running';

-- How the idempotency keys of the batch's items are written: those of earlier batches as they were.
ALTER TABLE @batches ADD COLUMN key_form TEXT NOT NULL DEFAULT 'colons';

-- How long after the end of the batch it is retried, in microseconds; null: a fixed number of times.
ALTER TABLE @deliveries ADD COLUMN within INTEGER;

-- Items that have been running for a while, as long as the claim of their chunk stands.
CREATE TABLE @running_items (
    job_id     TEXT NOT NULL,
    tenant_id  TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    chunk      INTEGER NOT NULL,
    token      TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, tenant_id, chunk)
) STRICT, WITHOUT ROWID;

CREATE INDEX @running_items_of_chunk ON @running_items (chunk);
CREATE INDEX @running_items_of_tenant ON @running_items (tenant_id);

-- What operators have asked for under idempotency keys, and what they were answered.
CREATE TABLE @requests (
    id          TEXT PRIMARY KEY,
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at          INTEGER NOT NULL,
    answer      TEXT,
    UNIQUE (scope, key)
) STRICT;

-- A chunk is claimed as a whole, and a result is written once, when it is there. Before, every item had a row from the
-- moment it was claimed.

-- token, process, claimed_at, items: the claim that stands; items are what it gave.
-- lost: deliveries that ended with their process. suspect: the item that ran alone, and how often.
-- job_id, occurrence, total: as the first claim found them.
CREATE TABLE @claimed_chunks (
    chunk      INTEGER PRIMARY KEY,
    chunk_id   TEXT NOT NULL UNIQUE,
    batch_id   TEXT NOT NULL REFERENCES @batches (batch_id),
    job_id     TEXT,
    occurrence TEXT,
    total      INTEGER,
    succeeded  INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0,
    skipped    INTEGER NOT NULL DEFAULT 0,
    superseded INTEGER NOT NULL DEFAULT 0,
    done       INTEGER NOT NULL DEFAULT 0,
    token      TEXT,
    process    TEXT,
    claimed_at INTEGER,
    items      TEXT,
    lost       INTEGER NOT NULL DEFAULT 0,
    suspect    TEXT,
    suspected  INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO @claimed_chunks (chunk_id, batch_id, superseded, done)
SELECT chunk_id, batch_id, superseded, done FROM @chunks ORDER BY rowid;

-- A row that is 'running' is to run again, by the chunk it names.
CREATE TABLE @ended_items (
    tenant_id   TEXT NOT NULL,
    job_id      TEXT NOT NULL,
    occurrence  TEXT NOT NULL,
    chunk       INTEGER NOT NULL,
    status      TEXT NOT NULL,
    attempts    INTEGER NOT NULL,
    preference  TEXT,
    output      TEXT,
    error       TEXT,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    PRIMARY KEY (tenant_id, job_id, occurrence)
) STRICT, WITHOUT ROWID;

INSERT INTO @ended_items
SELECT r.tenant_id, r.job_id, r.occurrence, c.chunk, r.status, r.attempts, r.preference, r.output, r.error,
       r.started_at, r.finished_at
FROM @item_results r JOIN @claimed_chunks c ON c.chunk_id = r.chunk_id;

DROP TABLE @item_results;
DROP TABLE @chunks;
ALTER TABLE @claimed_chunks RENAME TO @chunks;
ALTER TABLE @ended_items RENAME TO @item_results;

CREATE INDEX @item_results_of_chunk ON @item_results (chunk, tenant_id);
CREATE INDEX @chunks_of_batch ON @chunks (batch_id, done);
CREATE INDEX @chunks_in_work ON @chunks (job_id, occurrence) WHERE token IS NOT NULL;

UPDATE @chunks SET
    succeeded = (SELECT count(*) FROM @item_results r WHERE r.chunk = @chunks.chunk AND r.status = 'succeeded'),
    failed = (SELECT count(*) FROM @item_results r WHERE r.chunk = @chunks.chunk AND r.status = 'failed'),
    skipped = (SELECT count(*) FROM @item_results r WHERE r.chunk = @chunks.chunk AND r.status = 'skipped');

-- Once a batch has ended, its own counts hold.
UPDATE @batches SET skipped = skipped + (SELECT coalesce(sum(superseded), 0) FROM @chunks c
                                        WHERE c.batch_id = @batches.batch_id)
WHERE finished_at IS NOT NULL;

CREATE TABLE @dead_letters (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id       TEXT NOT NULL,
    tenant_id    TEXT NOT NULL,
    occurrence   TEXT NOT NULL,
    batch_id     TEXT NOT NULL,
    scheduled_at INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    failed_at    INTEGER NOT NULL,
    state        TEXT NOT NULL DEFAULT 'open',
    settled_at   INTEGER
) STRICT;

CREATE INDEX @dead_letters_by_state ON @dead_letters (state, id);
CREATE INDEX @dead_letters_of_tenant ON @dead_letters (tenant_id, job_id, occurrence);

INSERT INTO @dead_letters (job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, reason, failed_at)
SELECT r.job_id, r.tenant_id, r.occurrence, b.batch_id, b.scheduled_at, r.attempts, coalesce(r.error, ''),
       coalesce(r.finished_at, r.started_at)
FROM @item_results r JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id
WHERE r.status = 'failed' ORDER BY r.finished_at;

ALTER TABLE @paused_jobs ADD COLUMN reason TEXT NOT NULL DEFAULT 'paused by hand';

-- Where the results of a batch go beside this database, once it is over, and how far they have come.
CREATE TABLE @deliveries (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id   TEXT NOT NULL,
    target     TEXT NOT NULL,
    position   TEXT,
    state      TEXT NOT NULL DEFAULT 'open',
    tries      INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    reason     TEXT
) STRICT;

CREATE INDEX @deliveries_open ON @deliveries (not_before) WHERE state = 'open';

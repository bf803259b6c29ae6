-- Instants are microseconds since 1970-01-01 UTC. The queue's own tables belong to apalis.

CREATE TABLE @schedule_progress (
    job_id          TEXT PRIMARY KEY,
    scheduled_until INTEGER NOT NULL,
    seen_until      INTEGER
) STRICT;

CREATE TABLE @batches (
    batch_id     TEXT PRIMARY KEY,
    job_id       TEXT NOT NULL,
    slot         TEXT NOT NULL,
    scheduled_at INTEGER NOT NULL,
    trigger      TEXT NOT NULL,
    status       TEXT NOT NULL,
    total        INTEGER NOT NULL,
    succeeded    INTEGER NOT NULL DEFAULT 0,
    failed       INTEGER NOT NULL DEFAULT 0,
    skipped      INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    finished_at  INTEGER
) STRICT;

CREATE INDEX @batches_newest ON @batches (scheduled_at, batch_id);

-- superseded: items that another batch ran for the same occurrence.
CREATE TABLE @chunks (
    chunk_id   TEXT PRIMARY KEY,
    batch_id   TEXT NOT NULL REFERENCES @batches (batch_id),
    superseded INTEGER NOT NULL DEFAULT 0,
    done       INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX @chunks_of_batch ON @chunks (batch_id, done);

-- The primary key is the promise: one run per job, tenant and occurrence. A row appears when an item is
-- claimed; only the holder of its token may end it.
CREATE TABLE @item_results (
    job_id       TEXT NOT NULL,
    tenant_id    TEXT NOT NULL,
    occurrence   TEXT NOT NULL,
    batch_id     TEXT NOT NULL,
    chunk_id     TEXT NOT NULL,
    scheduled_at INTEGER NOT NULL,
    token        TEXT NOT NULL,
    status       TEXT NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    preference   TEXT,
    output       TEXT,
    error        TEXT,
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER,
    PRIMARY KEY (job_id, tenant_id, occurrence)
) STRICT, WITHOUT ROWID;

CREATE INDEX @item_results_of_batch ON @item_results (batch_id, tenant_id);
CREATE INDEX @item_results_of_tenant ON @item_results (tenant_id, scheduled_at);
CREATE INDEX @item_results_running ON @item_results (chunk_id) WHERE status = 'running';

-- Instants are microseconds since 1970-01-01 UTC. The queue's own tables are apalis', in the schema apalis.

-- The one agent that fires.
CREATE TABLE leader (
    one     BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    process TEXT NOT NULL,
    until   TIMESTAMPTZ NOT NULL
);

CREATE TABLE schedule_progress (
    job_id          TEXT PRIMARY KEY,
    scheduled_until BIGINT NOT NULL,
    furthest_until  BIGINT NOT NULL,
    seen_until      BIGINT
);

CREATE TABLE paused_jobs (
    job_id    TEXT PRIMARY KEY,
    paused_at BIGINT NOT NULL,
    reason    TEXT NOT NULL
);

CREATE TABLE batches (
    batch_id     TEXT PRIMARY KEY,
    job_id       TEXT NOT NULL,
    slot         TEXT NOT NULL,
    scheduled_at BIGINT NOT NULL,
    trigger      TEXT NOT NULL,
    status       TEXT NOT NULL,
    total        BIGINT NOT NULL,
    succeeded    BIGINT NOT NULL DEFAULT 0,
    failed       BIGINT NOT NULL DEFAULT 0,
    skipped      BIGINT NOT NULL DEFAULT 0,
    created_at   BIGINT NOT NULL,
    finished_at  BIGINT
);

CREATE INDEX batches_newest ON batches (scheduled_at, batch_id);

-- token, process, claimed_at, items: the claim that stands; items are what it gave, a JSON array.
-- lost: deliveries that ended with their process. suspect: the item that ran alone, and how often.
-- job_id, occurrence, total: as the first claim found them.
CREATE TABLE chunks (
    chunk      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chunk_id   TEXT NOT NULL UNIQUE,
    batch_id   TEXT NOT NULL REFERENCES batches (batch_id),
    job_id     TEXT,
    occurrence TEXT,
    total      BIGINT,
    succeeded  BIGINT NOT NULL DEFAULT 0,
    failed     BIGINT NOT NULL DEFAULT 0,
    skipped    BIGINT NOT NULL DEFAULT 0,
    superseded BIGINT NOT NULL DEFAULT 0,
    done       BIGINT NOT NULL DEFAULT 0,
    token      TEXT,
    process    TEXT,
    claimed_at BIGINT,
    items      TEXT,
    lost       BIGINT NOT NULL DEFAULT 0,
    suspect    TEXT,
    suspected  BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX chunks_of_batch ON chunks (batch_id, done);
CREATE INDEX chunks_in_work ON chunks (job_id, occurrence) WHERE token IS NOT NULL;

-- The primary key is the promise: one outcome per job, tenant and occurrence. A row that is 'running' is to run
-- again, by the chunk it names.
CREATE TABLE item_results (
    tenant_id   TEXT NOT NULL,
    job_id      TEXT NOT NULL,
    occurrence  TEXT NOT NULL,
    chunk       BIGINT NOT NULL,
    status      TEXT NOT NULL,
    attempts    BIGINT NOT NULL,
    preference  TEXT,
    output      TEXT,
    error       TEXT,
    started_at  BIGINT NOT NULL,
    finished_at BIGINT,
    PRIMARY KEY (tenant_id, job_id, occurrence)
);

CREATE INDEX item_results_of_chunk ON item_results (chunk);

CREATE TABLE dead_letters (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id       TEXT NOT NULL,
    tenant_id    TEXT NOT NULL,
    occurrence   TEXT NOT NULL,
    batch_id     TEXT NOT NULL,
    scheduled_at BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    reason       TEXT NOT NULL,
    failed_at    BIGINT NOT NULL,
    state        TEXT NOT NULL DEFAULT 'open',
    settled_at   BIGINT
);

CREATE INDEX dead_letters_by_state ON dead_letters (state, id);
CREATE INDEX dead_letters_of_tenant ON dead_letters (tenant_id, job_id, occurrence);

-- Where the results of a batch go beside this database, once it is over, and how far they have come.
CREATE TABLE deliveries (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id   TEXT NOT NULL,
    target     TEXT NOT NULL,
    position   TEXT,
    state      TEXT NOT NULL DEFAULT 'open',
    tries      BIGINT NOT NULL DEFAULT 0,
    not_before BIGINT NOT NULL DEFAULT 0,
    reason     TEXT
);

CREATE INDEX deliveries_open ON deliveries (not_before) WHERE state = 'open';

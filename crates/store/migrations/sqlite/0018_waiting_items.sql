-- Items whose work goes on elsewhere. phase: 1 waits for its call, 2 is called again at due_at, 3 is called again by the next claim
-- of its chunk. stage: 1 of one purpose, 2 the first of two, 3 the second. state: of one item of a call. due_at: when somebody must
-- look at it.
CREATE TABLE @waiting_items (
    run         INTEGER NOT NULL,
    tenant_id   TEXT NOT NULL,
    chunk       INTEGER NOT NULL,
    job_id      TEXT NOT NULL,
    call_id     TEXT NOT NULL,
    phase       INTEGER NOT NULL,
    purpose_id  TEXT NOT NULL,
    stage       INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    of_first    INTEGER NOT NULL,
    preference  BLOB,
    started_at  INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    until       INTEGER NOT NULL,
    at_deadline TEXT NOT NULL,
    poll_at     INTEGER,
    due_at      INTEGER NOT NULL,
    state       TEXT,
    note        TEXT,
    noted_at    INTEGER,
    PRIMARY KEY (run, tenant_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX @waiting_items_of_call ON @waiting_items (call_id);
CREATE INDEX @waiting_items_due ON @waiting_items (phase, due_at, call_id);
CREATE INDEX @waiting_items_of_tenant ON @waiting_items (tenant_id, job_id);
CREATE INDEX @waiting_items_of_job ON @waiting_items (job_id, since, call_id);

-- Of its items: waiting: in phase 1 or 2. resumed: in phase 3, and not given to the claim that stands. called: in phase 3, and given.
-- A chunk that has nothing left but items that wait is parked: done = 2.
ALTER TABLE @chunks ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE @chunks ADD COLUMN resumed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE @chunks ADD COLUMN called INTEGER NOT NULL DEFAULT 0;
CREATE INDEX @chunks_with_waiting ON @chunks (job_id) WHERE waiting > 0;

-- What is drawn once for all processes on the store.
CREATE TABLE @secrets (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

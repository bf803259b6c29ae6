-- The chunks are the queue: what waits, who has claimed it, and how it ended. A claim is the lease; its process says that it is
-- alive. Before, messages and workers of another queue stood beside them.

-- Zero: it has signed off.
CREATE TABLE @processes (
    process   TEXT PRIMARY KEY,
    last_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- message: the chunk as JSON, until it is done. place: of the chunk in its batch. not_before: until when it rests.
CREATE TABLE @queued_chunks (
    chunk      INTEGER PRIMARY KEY,
    chunk_id   TEXT NOT NULL UNIQUE,
    batch_id   TEXT NOT NULL REFERENCES @batches (batch_id),
    job_id     TEXT,
    occurrence TEXT,
    total      INTEGER,
    message    TEXT NOT NULL,
    place      INTEGER NOT NULL,
    not_before INTEGER NOT NULL DEFAULT 0,
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

-- What is not done waits for its message, which is taken over when the store is opened.
INSERT INTO @queued_chunks (chunk, chunk_id, batch_id, job_id, occurrence, total, message, place, succeeded, failed, skipped,
    superseded, done, token, lost, suspect, suspected)
SELECT chunk, chunk_id, batch_id, job_id, occurrence, total, '', 0, succeeded, failed, skipped,
    superseded, done, CASE done WHEN 0 THEN 'earlier queue' END, lost + (token IS NOT NULL), suspect, suspected
FROM @chunks;

DROP TABLE @chunks;
ALTER TABLE @queued_chunks RENAME TO @chunks;

CREATE INDEX @chunks_of_batch ON @chunks (batch_id, done);
CREATE INDEX @chunks_in_work ON @chunks (job_id, occurrence) WHERE token IS NOT NULL;
CREATE INDEX @chunks_waiting ON @chunks (job_id, place, chunk) WHERE done = 0 AND token IS NULL;

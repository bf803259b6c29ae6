-- Results are narrow: a number stands for job and occurrence, a hash for the preference, and one tree holds them, in the order in
-- which they are written. What a chunk consists of is written once, apart from its counts and its claim.

-- A job's occurrence.
CREATE TABLE @runs (
    run        INTEGER PRIMARY KEY,
    job_id     TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    UNIQUE (job_id, occurrence)
) STRICT;

INSERT INTO @runs (job_id, occurrence)
SELECT job_id, occurrence FROM @chunks WHERE job_id IS NOT NULL AND occurrence IS NOT NULL
UNION SELECT job_id, occurrence FROM @item_results;

-- The chunk as JSON. Of one that was done before there was this table, its items that have a result.
CREATE TABLE @chunk_messages (
    chunk   INTEGER PRIMARY KEY,
    message TEXT NOT NULL
) STRICT;

INSERT INTO @chunk_messages
SELECT chunk, message FROM @chunks WHERE done = 0 AND message <> '';

INSERT INTO @chunk_messages
SELECT r.chunk, json_object('items', json_group_array(r.tenant_id))
FROM @item_results r JOIN @chunks c ON c.chunk = r.chunk
WHERE c.done = 1 GROUP BY r.chunk;

ALTER TABLE @chunks ADD COLUMN run INTEGER;
UPDATE @chunks AS c SET run = (SELECT n.run FROM @runs n WHERE n.job_id = c.job_id AND n.occurrence = c.occurrence);
-- Of those that were done before chunks had these columns, by what they brought.
UPDATE @chunks AS c SET run = (SELECT n.run FROM @item_results r JOIN @runs n ON n.job_id = r.job_id AND n.occurrence = r.occurrence
                               WHERE r.chunk = c.chunk LIMIT 1)
WHERE run IS NULL;
ALTER TABLE @chunks DROP COLUMN message;

DROP INDEX @chunks_in_work;
CREATE INDEX @chunks_in_work ON @chunks (run) WHERE token IS NOT NULL;

ALTER TABLE @batches ADD COLUMN run INTEGER;
UPDATE @batches AS b SET run = (SELECT min(c.run) FROM @chunks c WHERE c.batch_id = b.batch_id);
CREATE INDEX @batches_of_run ON @batches (run);
CREATE INDEX @batches_of_job ON @batches (job_id, scheduled_at, batch_id);

-- The primary key is the promise: one outcome for each job, occurrence and tenant.
-- status: 1 succeeded, 2 failed. duration: in microseconds. again: the chunk that is to run a failed item once more.
CREATE TABLE @results (
    run        INTEGER NOT NULL,
    tenant_id  TEXT NOT NULL,
    chunk      INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    preference BLOB,
    output     TEXT,
    error      TEXT,
    started_at INTEGER NOT NULL,
    duration   INTEGER,
    again      INTEGER,
    PRIMARY KEY (run, tenant_id)
) STRICT, WITHOUT ROWID;

-- What items were run with, by the first 16 bytes of its BLAKE3 hash.
CREATE TABLE @preferences (
    hash    BLOB PRIMARY KEY,
    content TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The results of earlier versions move when the store is opened, in portions; then this table goes.
DROP INDEX @item_results_of_chunk;

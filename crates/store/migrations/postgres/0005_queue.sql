-- The chunks are the queue: what waits, who has claimed it, and how it ended. A claim is the lease; its process says that it is
-- alive. Before, messages and workers of another queue stood beside them.

-- Zero: it has signed off.
CREATE TABLE processes (
    process   TEXT PRIMARY KEY,
    last_seen BIGINT NOT NULL
);

-- message: the chunk as JSON, until it is done. place: of the chunk in its batch. not_before: until when it rests.
-- Without defaults, so that agents of earlier versions, which would leave them out, store nothing that never runs.
ALTER TABLE chunks ADD COLUMN message TEXT NOT NULL DEFAULT '';
ALTER TABLE chunks ADD COLUMN place BIGINT NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN not_before BIGINT NOT NULL DEFAULT 0;
ALTER TABLE chunks ALTER COLUMN message DROP DEFAULT;
ALTER TABLE chunks ALTER COLUMN place DROP DEFAULT;

-- What is not done waits for its message, which is taken over when the store is opened.
UPDATE chunks SET lost = lost + CASE WHEN token IS NULL THEN 0 ELSE 1 END, token = 'earlier queue', process = NULL, items = NULL
WHERE done = 0;

CREATE INDEX chunks_waiting ON chunks (job_id, place, chunk) WHERE done = 0 AND token IS NULL;

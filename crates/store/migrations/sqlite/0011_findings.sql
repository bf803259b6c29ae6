-- What operators read every second: the open dead letters by job, and how many of a batch were replayed. The state stands in front,
-- so that these indexes are preferred to that of all states.
CREATE INDEX @dead_letters_open ON @dead_letters (state, job_id, id, failed_at) WHERE state = 'open';
CREATE INDEX @dead_letters_discarded ON @dead_letters (state, settled_at) WHERE state = 'discarded';
CREATE INDEX @dead_letters_discarded_of_job ON @dead_letters (state, job_id, id, settled_at) WHERE state = 'discarded';
CREATE INDEX @dead_letters_of_batch ON @dead_letters (batch_id, state);
CREATE INDEX @deliveries_of_batch ON @deliveries (batch_id);
CREATE INDEX @audit_log_of_action ON @audit_log (action, id);
CREATE INDEX @audit_log_of_subject ON @audit_log (subject, id);

-- leased_until: until when a process delivers it; null: none does. retried_from: when an operator had it delivered again, from
-- which on the period of its retries counts; null: the end of its batch.
ALTER TABLE @deliveries ADD COLUMN leased_until INTEGER;
ALTER TABLE @deliveries ADD COLUMN retried_from INTEGER;

-- The operator who has paused the job. Null: it has paused itself.
ALTER TABLE @paused_jobs ADD COLUMN paused_by TEXT;
UPDATE @paused_jobs SET paused_by = substr(reason, 11) WHERE reason LIKE 'paused by %';

-- Findings that operators know of. state: of the finding; in any other it is news again. covers: what it was about.
CREATE TABLE @acknowledgements (
    finding TEXT PRIMARY KEY,
    state   TEXT NOT NULL,
    covers  TEXT NOT NULL,
    at      INTEGER NOT NULL,
    by      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

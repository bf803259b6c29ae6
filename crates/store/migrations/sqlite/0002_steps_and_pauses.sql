-- How far a job has ever been scheduled, for when the clock steps back. Null: as far as scheduled_until says.
ALTER TABLE @schedule_progress ADD COLUMN furthest_until INTEGER;

-- Jobs that an operator has paused.
CREATE TABLE @paused_jobs (
    job_id    TEXT PRIMARY KEY,
    paused_at INTEGER NOT NULL
) STRICT;

-- last_due: when the last of a run's batches fell due. By it, a job's runs are looked through from the newest back.
ALTER TABLE runs ADD COLUMN last_due BIGINT NOT NULL DEFAULT 0;
UPDATE runs AS n SET last_due = coalesce((SELECT max(b.scheduled_at) FROM batches b WHERE b.run = n.run), 0);
CREATE INDEX runs_of_job ON runs (job_id, last_due);

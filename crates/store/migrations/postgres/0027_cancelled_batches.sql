-- Batches that were cancelled and are not over: their chunks are claimed to be skipped, also while their job is paused. Mostly there
-- are none.
CREATE INDEX batches_cancelled ON batches (job_id, batch_id) WHERE status = 'cancelled' AND finished_at IS NULL;

-- What has been prepared for runs to come, until they have taken it: output, or NULL while the work of the call call_id goes on.
-- occurrence: of the run. chunk: the one of the run that has taken it, with whose end it goes. due_at: when the run falls due; what
-- was not taken is removed a day later.
CREATE TABLE @prepared_outputs (
    job_id      TEXT NOT NULL,
    occurrence  TEXT NOT NULL,
    tenant_id   TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    output      TEXT,
    call_id     TEXT,
    prepared_at INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    chunk       INTEGER,
    PRIMARY KEY (job_id, occurrence, tenant_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX @prepared_outputs_due ON @prepared_outputs (due_at);
CREATE INDEX @prepared_outputs_of_call ON @prepared_outputs (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX @prepared_outputs_of_chunk ON @prepared_outputs (chunk) WHERE chunk IS NOT NULL;

CREATE TRIGGER @chunk_took_prepared AFTER UPDATE OF done ON @chunks WHEN NEW.done = 1 AND OLD.done <> 1 BEGIN
    DELETE FROM @prepared_outputs WHERE chunk = NEW.chunk;
END;

-- What prepares a run is not a run: its items count with the run.
DROP TRIGGER @batch_ended;
CREATE TRIGGER @batch_ended AFTER UPDATE OF finished_at ON @batches
WHEN OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL AND NEW.trigger <> 'prepare' BEGIN
    INSERT INTO @outcomes_by_hour (hour, job_id, succeeded, failed, lateness)
    VALUES (NEW.finished_at / 3600000000, NEW.job_id, NEW.succeeded + NEW.nothing_to_do, NEW.failed,
            CASE WHEN NEW.trigger = 'schedule' THEN max(NEW.created_at - NEW.scheduled_at, 0) ELSE 0 END)
    ON CONFLICT (hour, job_id) DO UPDATE SET succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
        lateness = max(lateness, excluded.lateness);
    DELETE FROM @outcomes_by_hour WHERE hour < NEW.finished_at / 3600000000 - 744;
END;

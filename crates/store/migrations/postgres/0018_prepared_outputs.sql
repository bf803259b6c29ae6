-- What has been prepared for runs to come, until they have taken it: output, or NULL while the work of the call call_id goes on.
-- occurrence: of the run. chunk: the one of the run that has taken it, with whose end it goes. due_at: when the run falls due; what
-- was not taken is removed a day later.
CREATE TABLE prepared_outputs (
    prepared_at BIGINT NOT NULL,
    due_at      BIGINT NOT NULL,
    chunk       BIGINT,
    job_id      TEXT NOT NULL,
    occurrence  TEXT NOT NULL,
    tenant_id   TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    output      TEXT,
    call_id     TEXT,
    PRIMARY KEY (job_id, occurrence, tenant_id)
);

CREATE INDEX prepared_outputs_due ON prepared_outputs (due_at);
CREATE INDEX prepared_outputs_of_call ON prepared_outputs (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX prepared_outputs_of_chunk ON prepared_outputs (chunk) WHERE chunk IS NOT NULL;

CREATE FUNCTION punctual_remove_prepared() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM %I.prepared_outputs WHERE chunk = $1', TG_TABLE_SCHEMA) USING NEW.chunk;
    RETURN NULL;
END
$$;

CREATE TRIGGER chunk_took_prepared AFTER UPDATE OF done ON chunks
    FOR EACH ROW WHEN (NEW.done = 1 AND OLD.done <> 1) EXECUTE FUNCTION punctual_remove_prepared();

-- What prepares a run is not a run: its items count with the run. The trigger is made anew, too: where the tables have moved, its
-- function has stayed.
DROP TRIGGER batches_ended ON batches;
CREATE OR REPLACE FUNCTION punctual_count_outcomes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM added a JOIN removed r ON r.batch_id = a.batch_id
               WHERE a.finished_at IS NOT NULL AND r.finished_at IS NULL AND a.trigger <> 'prepare') THEN
        EXECUTE format(
            'INSERT INTO %I.outcomes_by_hour AS h (hour, job_id, succeeded, failed, lateness)
             SELECT a.finished_at / 3600000000, a.job_id, sum(a.succeeded + a.nothing_to_do), sum(a.failed),
                    max(CASE WHEN a.trigger = ''schedule'' THEN greatest(a.created_at - a.scheduled_at, 0) ELSE 0 END)
             FROM added a JOIN removed r ON r.batch_id = a.batch_id
             WHERE a.finished_at IS NOT NULL AND r.finished_at IS NULL AND a.trigger <> ''prepare''
             GROUP BY 1, 2 ORDER BY 1, 2
             ON CONFLICT (hour, job_id) DO UPDATE SET succeeded = h.succeeded + excluded.succeeded,
                 failed = h.failed + excluded.failed, lateness = greatest(h.lateness, excluded.lateness)', TG_TABLE_SCHEMA);
        EXECUTE format(
            'DELETE FROM %I.outcomes_by_hour WHERE hour < (SELECT max(finished_at) FROM added) / 3600000000 - 744', TG_TABLE_SCHEMA);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER batches_ended AFTER UPDATE ON batches REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION punctual_count_outcomes();

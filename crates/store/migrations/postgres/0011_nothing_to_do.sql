-- Items whose handler had nothing to do. Of results, status 3; the reason stands in the column error.
ALTER TABLE batches ADD COLUMN nothing_to_do BIGINT NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN nothing_to_do BIGINT NOT NULL DEFAULT 0;

-- What had nothing to do is done: it counts among what succeeded in its hour. The trigger is made anew, too: where the tables have
-- moved, its function has stayed.
DROP TRIGGER batches_ended ON batches;
CREATE OR REPLACE FUNCTION punctual_count_outcomes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM added a JOIN removed r ON r.batch_id = a.batch_id
               WHERE a.finished_at IS NOT NULL AND r.finished_at IS NULL) THEN
        EXECUTE format(
            'INSERT INTO %I.outcomes_by_hour AS h (hour, job_id, succeeded, failed, lateness)
             SELECT a.finished_at / 3600000000, a.job_id, sum(a.succeeded + a.nothing_to_do), sum(a.failed),
                    max(CASE WHEN a.trigger = ''schedule'' THEN greatest(a.created_at - a.scheduled_at, 0) ELSE 0 END)
             FROM added a JOIN removed r ON r.batch_id = a.batch_id
             WHERE a.finished_at IS NOT NULL AND r.finished_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2
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

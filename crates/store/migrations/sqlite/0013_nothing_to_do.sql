-- Items whose handler had nothing to do. Of results, status 3; the reason stands in the column error.
ALTER TABLE @batches ADD COLUMN nothing_to_do INTEGER NOT NULL DEFAULT 0;
ALTER TABLE @chunks ADD COLUMN nothing_to_do INTEGER NOT NULL DEFAULT 0;

-- What had nothing to do is done: it counts among what succeeded in its hour.
DROP TRIGGER @batch_ended;
CREATE TRIGGER @batch_ended AFTER UPDATE OF finished_at ON @batches WHEN OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL BEGIN
    INSERT INTO @outcomes_by_hour (hour, job_id, succeeded, failed, lateness)
    VALUES (NEW.finished_at / 3600000000, NEW.job_id, NEW.succeeded + NEW.nothing_to_do, NEW.failed,
            CASE WHEN NEW.trigger = 'schedule' THEN max(NEW.created_at - NEW.scheduled_at, 0) ELSE 0 END)
    ON CONFLICT (hour, job_id) DO UPDATE SET succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
        lateness = max(lateness, excluded.lateness);
    DELETE FROM @outcomes_by_hour WHERE hour < NEW.finished_at / 3600000000 - 744;
END;

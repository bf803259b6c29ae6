-- What operators read every second is counted as it is written. The database counts, so that agents of earlier versions on the same
-- store count, too. Hours are those since 1970; what is older than 31 days is removed. The functions name the schema of the table
-- that has changed: they do not move with it, and connections may look elsewhere. All rows are locked in one order.

-- Agents of the version before write meanwhile: what they write is counted here, or by a trigger.
LOCK TABLE skipped_items, dead_letters, batches IN SHARE ROW EXCLUSIVE MODE;

-- Items that were skipped because they had not begun in time, by the hour in which they were skipped.
CREATE TABLE expired_items (
    hour     BIGINT NOT NULL,
    job_id   TEXT NOT NULL,
    items    BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    PRIMARY KEY (hour, job_id)
);

INSERT INTO expired_items
SELECT at / 3600000000, job_id, count(*), min(at) FROM skipped_items WHERE reason = 'expired' GROUP BY 1, 2;

CREATE FUNCTION punctual_count_expired() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM added WHERE reason = 'expired') THEN
        EXECUTE format(
            'INSERT INTO %1$I.expired_items AS e (hour, job_id, items, first_at)
             SELECT at / 3600000000, job_id, count(*), min(at) FROM added WHERE reason = ''expired''
             GROUP BY 1, 2 ORDER BY 1, 2
             ON CONFLICT (hour, job_id) DO UPDATE SET items = e.items + excluded.items,
                 first_at = least(e.first_at, excluded.first_at)', TG_TABLE_SCHEMA);
        EXECUTE format(
            'DELETE FROM %I.expired_items WHERE hour < (SELECT max(at) FROM added) / 3600000000 - 744', TG_TABLE_SCHEMA);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER items_expired AFTER INSERT ON skipped_items REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION punctual_count_expired();

-- Open dead letters, by job.
CREATE TABLE open_letters (
    job_id  TEXT PRIMARY KEY,
    letters BIGINT NOT NULL
);

INSERT INTO open_letters SELECT job_id, count(*) FROM dead_letters WHERE state = 'open' GROUP BY job_id;

-- Dead letters that were replayed, by the batch that they are of.
CREATE TABLE replayed_letters (
    batch_id TEXT PRIMARY KEY,
    letters  BIGINT NOT NULL
);

INSERT INTO replayed_letters SELECT batch_id, count(*) FROM dead_letters WHERE state = 'replayed' GROUP BY batch_id;

CREATE FUNCTION punctual_count_letters() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed TEXT := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT job_id, batch_id, state, 1 AS n FROM added'
        WHEN 'DELETE' THEN 'SELECT job_id, batch_id, state, -1 AS n FROM removed'
        ELSE 'SELECT job_id, batch_id, state, 1 AS n FROM added UNION ALL SELECT job_id, batch_id, state, -1 FROM removed'
    END;
BEGIN
    EXECUTE format(
        'INSERT INTO %I.open_letters AS o (job_id, letters)
         SELECT job_id, sum(n) FROM (%s) c WHERE state = ''open'' GROUP BY job_id HAVING sum(n) <> 0 ORDER BY job_id
         ON CONFLICT (job_id) DO UPDATE SET letters = o.letters + excluded.letters', TG_TABLE_SCHEMA, changed);
    EXECUTE format(
        'INSERT INTO %I.replayed_letters AS r (batch_id, letters)
         SELECT batch_id, sum(n) FROM (%s) c WHERE state = ''replayed'' GROUP BY batch_id HAVING sum(n) <> 0 ORDER BY batch_id
         ON CONFLICT (batch_id) DO UPDATE SET letters = r.letters + excluded.letters', TG_TABLE_SCHEMA, changed);
    RETURN NULL;
END
$$;

CREATE TRIGGER letters_added AFTER INSERT ON dead_letters REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION punctual_count_letters();
CREATE TRIGGER letters_settled AFTER UPDATE ON dead_letters REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION punctual_count_letters();
CREATE TRIGGER letters_removed AFTER DELETE ON dead_letters REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION punctual_count_letters();

-- Items of batches that have ended, by the hour in which their batch ended. lateness: the longest that one whose slot fell due came
-- into the queue after it, in microseconds.
CREATE TABLE outcomes_by_hour (
    hour      BIGINT NOT NULL,
    job_id    TEXT NOT NULL,
    succeeded BIGINT NOT NULL,
    failed    BIGINT NOT NULL,
    lateness  BIGINT NOT NULL,
    PRIMARY KEY (hour, job_id)
);

INSERT INTO outcomes_by_hour
SELECT finished_at / 3600000000, job_id, sum(succeeded), sum(failed),
       max(CASE WHEN trigger = 'schedule' THEN greatest(created_at - scheduled_at, 0) ELSE 0 END)
FROM batches WHERE finished_at IS NOT NULL GROUP BY 1, 2;

CREATE FUNCTION punctual_count_outcomes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM added a JOIN removed r ON r.batch_id = a.batch_id
               WHERE a.finished_at IS NOT NULL AND r.finished_at IS NULL) THEN
        EXECUTE format(
            'INSERT INTO %I.outcomes_by_hour AS h (hour, job_id, succeeded, failed, lateness)
             SELECT a.finished_at / 3600000000, a.job_id, sum(a.succeeded), sum(a.failed),
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

-- Marks of what a request has done, which is counted when it is repeated: when a dead letter was last opened again, and a delivery made
-- again.
ALTER TABLE dead_letters ADD COLUMN reopened_at BIGINT;
CREATE INDEX dead_letters_reopened ON dead_letters (reopened_at) WHERE reopened_at IS NOT NULL;
CREATE INDEX deliveries_retried ON deliveries (retried_from) WHERE retried_from IS NOT NULL;

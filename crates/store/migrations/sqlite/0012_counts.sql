-- What operators read every second is counted as it is written. The database counts, so that agents of earlier versions on the same
-- store count, too. Hours are those since 1970; what is older than 31 days is removed.

-- Items that were skipped because they had not begun in time, by the hour in which they were skipped.
CREATE TABLE @expired_items (
    hour     INTEGER NOT NULL,
    job_id   TEXT NOT NULL,
    items    INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    PRIMARY KEY (hour, job_id)
) STRICT, WITHOUT ROWID;

INSERT INTO @expired_items
SELECT at / 3600000000, job_id, count(*), min(at) FROM @skipped_items WHERE reason = 'expired' GROUP BY 1, 2;

CREATE TRIGGER @items_expired AFTER INSERT ON @skipped_items WHEN NEW.reason = 'expired' BEGIN
    INSERT INTO @expired_items (hour, job_id, items, first_at) VALUES (NEW.at / 3600000000, NEW.job_id, 1, NEW.at)
    ON CONFLICT (hour, job_id) DO UPDATE SET items = items + 1, first_at = min(first_at, excluded.first_at);
    DELETE FROM @expired_items WHERE hour < NEW.at / 3600000000 - 744;
END;

-- Open dead letters, by job.
CREATE TABLE @open_letters (
    job_id  TEXT PRIMARY KEY,
    letters INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO @open_letters SELECT job_id, count(*) FROM @dead_letters WHERE state = 'open' GROUP BY job_id;

-- Dead letters that were replayed, by the batch that they are of.
CREATE TABLE @replayed_letters (
    batch_id TEXT PRIMARY KEY,
    letters  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO @replayed_letters SELECT batch_id, count(*) FROM @dead_letters WHERE state = 'replayed' GROUP BY batch_id;

CREATE TRIGGER @letter_added AFTER INSERT ON @dead_letters BEGIN
    INSERT INTO @open_letters (job_id, letters) SELECT NEW.job_id, 1 WHERE NEW.state = 'open'
    ON CONFLICT (job_id) DO UPDATE SET letters = letters + 1;
    INSERT INTO @replayed_letters (batch_id, letters) SELECT NEW.batch_id, 1 WHERE NEW.state = 'replayed'
    ON CONFLICT (batch_id) DO UPDATE SET letters = letters + 1;
END;

CREATE TRIGGER @letter_settled AFTER UPDATE OF state ON @dead_letters WHEN OLD.state <> NEW.state BEGIN
    UPDATE @open_letters SET letters = letters - 1 WHERE job_id = OLD.job_id AND OLD.state = 'open';
    INSERT INTO @open_letters (job_id, letters) SELECT NEW.job_id, 1 WHERE NEW.state = 'open'
    ON CONFLICT (job_id) DO UPDATE SET letters = letters + 1;
    UPDATE @replayed_letters SET letters = letters - 1 WHERE batch_id = OLD.batch_id AND OLD.state = 'replayed';
    INSERT INTO @replayed_letters (batch_id, letters) SELECT NEW.batch_id, 1 WHERE NEW.state = 'replayed'
    ON CONFLICT (batch_id) DO UPDATE SET letters = letters + 1;
END;

CREATE TRIGGER @letter_removed AFTER DELETE ON @dead_letters BEGIN
    UPDATE @open_letters SET letters = letters - 1 WHERE job_id = OLD.job_id AND OLD.state = 'open';
    UPDATE @replayed_letters SET letters = letters - 1 WHERE batch_id = OLD.batch_id AND OLD.state = 'replayed';
END;

-- Items of batches that have ended, by the hour in which their batch ended. lateness: the longest that one whose slot fell due came
-- into the queue after it, in microseconds.
CREATE TABLE @outcomes_by_hour (
    hour      INTEGER NOT NULL,
    job_id    TEXT NOT NULL,
    succeeded INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    lateness  INTEGER NOT NULL,
    PRIMARY KEY (hour, job_id)
) STRICT, WITHOUT ROWID;

INSERT INTO @outcomes_by_hour
SELECT finished_at / 3600000000, job_id, sum(succeeded), sum(failed),
       max(CASE WHEN trigger = 'schedule' THEN max(created_at - scheduled_at, 0) ELSE 0 END)
FROM @batches WHERE finished_at IS NOT NULL GROUP BY 1, 2;

CREATE TRIGGER @batch_ended AFTER UPDATE OF finished_at ON @batches WHEN OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL BEGIN
    INSERT INTO @outcomes_by_hour (hour, job_id, succeeded, failed, lateness)
    VALUES (NEW.finished_at / 3600000000, NEW.job_id, NEW.succeeded, NEW.failed,
            CASE WHEN NEW.trigger = 'schedule' THEN max(NEW.created_at - NEW.scheduled_at, 0) ELSE 0 END)
    ON CONFLICT (hour, job_id) DO UPDATE SET succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
        lateness = max(lateness, excluded.lateness);
    DELETE FROM @outcomes_by_hour WHERE hour < NEW.finished_at / 3600000000 - 744;
END;

-- Marks of what a request has done, which is counted when it is repeated: when a dead letter was last opened again, and a delivery made
-- again.
ALTER TABLE @dead_letters ADD COLUMN reopened_at INTEGER;
CREATE INDEX @dead_letters_reopened ON @dead_letters (reopened_at) WHERE reopened_at IS NOT NULL;
CREATE INDEX @deliveries_retried ON @deliveries (retried_from) WHERE retried_from IS NOT NULL;

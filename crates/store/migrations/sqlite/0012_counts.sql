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

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

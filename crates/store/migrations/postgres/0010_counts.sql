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

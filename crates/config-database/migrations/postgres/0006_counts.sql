-- What pages show of all tenants, counted with each write, so that none of them reads everything. Triggers count, so that a process of an
-- earlier version counts as well. They do not see data that is restored with triggers off, or beside counts that are
-- restored, too. The runbook says how to count anew.

-- `enabled` of `preferences` that are not switched off, and `invalid` of `invalid_preferences`, by feature.
CREATE TABLE feature_counts (
    feature_type TEXT COLLATE "C" PRIMARY KEY,
    enabled      BIGINT NOT NULL DEFAULT 0,
    invalid      BIGINT NOT NULL DEFAULT 0
);

-- Tenants of each group that has any.
CREATE TABLE group_counts (
    feature_type TEXT COLLATE "C" NOT NULL,
    slot         TEXT COLLATE "C" NOT NULL,
    tenants      BIGINT NOT NULL,
    PRIMARY KEY (feature_type, slot)
);

CREATE INDEX group_counts_by_size ON group_counts (feature_type, tenants DESC, slot);

-- No write may come between counting what is there and counting what comes. Writers lock this row first.
SELECT head FROM feed FOR UPDATE;
LOCK TABLE invalid_preferences, preferences IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO group_counts (feature_type, slot, tenants)
SELECT feature_type, slot, count(*) FROM preferences WHERE enabled = 1 GROUP BY feature_type, slot;

INSERT INTO feature_counts (feature_type, enabled)
SELECT feature_type, sum(tenants) FROM group_counts GROUP BY feature_type;

INSERT INTO feature_counts (feature_type, invalid)
SELECT feature_type, count(*) FROM invalid_preferences GROUP BY feature_type
ON CONFLICT (feature_type) DO UPDATE SET invalid = excluded.invalid;

-- `came` and `went` are the rows of the statement after and before it. Nothing is written where they count the same, and all rows are
-- locked in one order.
CREATE FUNCTION count_preferences() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    changed TEXT := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT feature_type, slot, enabled, 1 AS n FROM came'
        WHEN 'DELETE' THEN 'SELECT feature_type, slot, enabled, -1 AS n FROM went'
        ELSE 'SELECT feature_type, slot, enabled, 1 AS n FROM came
              UNION ALL SELECT feature_type, slot, enabled, -1 FROM went'
    END;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM group_counts;
        UPDATE feature_counts SET enabled = 0;
        DELETE FROM feature_counts WHERE invalid = 0;
        RETURN NULL;
    END IF;
    EXECUTE format(
        'INSERT INTO group_counts AS g (feature_type, slot, tenants)
         SELECT feature_type, slot, sum(n) FROM (%s) c WHERE enabled = 1
         GROUP BY feature_type, slot HAVING sum(n) <> 0 ORDER BY feature_type, slot
         ON CONFLICT (feature_type, slot) DO UPDATE SET tenants = g.tenants + excluded.tenants', changed);
    EXECUTE format(
        'INSERT INTO feature_counts AS f (feature_type, enabled)
         SELECT feature_type, sum(n) FROM (%s) c WHERE enabled = 1
         GROUP BY feature_type HAVING sum(n) <> 0 ORDER BY feature_type
         ON CONFLICT (feature_type) DO UPDATE SET enabled = f.enabled + excluded.enabled', changed);
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM group_counts USING went
        WHERE group_counts.feature_type = went.feature_type AND group_counts.slot = went.slot
          AND group_counts.tenants <= 0;
        DELETE FROM feature_counts USING went
        WHERE feature_counts.feature_type = went.feature_type
          AND feature_counts.enabled = 0 AND feature_counts.invalid = 0;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_added_preferences AFTER INSERT ON preferences
REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION count_preferences();

CREATE TRIGGER count_changed_preferences AFTER UPDATE ON preferences
REFERENCING OLD TABLE AS went NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION count_preferences();

CREATE TRIGGER count_removed_preferences AFTER DELETE ON preferences
REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION count_preferences();

CREATE TRIGGER count_truncated_preferences AFTER TRUNCATE ON preferences
FOR EACH STATEMENT EXECUTE FUNCTION count_preferences();

CREATE FUNCTION count_problems() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    changed TEXT := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT feature_type, 1 AS n FROM came'
        WHEN 'DELETE' THEN 'SELECT feature_type, -1 AS n FROM went'
        ELSE 'SELECT feature_type, 1 AS n FROM came UNION ALL SELECT feature_type, -1 FROM went'
    END;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE feature_counts SET invalid = 0;
        DELETE FROM feature_counts WHERE enabled = 0;
        RETURN NULL;
    END IF;
    EXECUTE format(
        'INSERT INTO feature_counts AS f (feature_type, invalid)
         SELECT feature_type, sum(n) FROM (%s) c
         GROUP BY feature_type HAVING sum(n) <> 0 ORDER BY feature_type
         ON CONFLICT (feature_type) DO UPDATE SET invalid = f.invalid + excluded.invalid', changed);
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM feature_counts USING went
        WHERE feature_counts.feature_type = went.feature_type
          AND feature_counts.enabled = 0 AND feature_counts.invalid = 0;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_added_problems AFTER INSERT ON invalid_preferences
REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION count_problems();

CREATE TRIGGER count_changed_problems AFTER UPDATE ON invalid_preferences
REFERENCING OLD TABLE AS went NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION count_problems();

CREATE TRIGGER count_removed_problems AFTER DELETE ON invalid_preferences
REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION count_problems();

CREATE TRIGGER count_truncated_problems AFTER TRUNCATE ON invalid_preferences
FOR EACH STATEMENT EXECUTE FUNCTION count_problems();

-- What pages show of all tenants, counted with each write, so that none of them reads everything. Triggers count: whatever writes, a process
-- of an earlier version as well, the counts are true.

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

-- No write may come between counting what is there and counting what comes.
LOCK TABLE preferences, invalid_preferences IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO group_counts (feature_type, slot, tenants)
SELECT feature_type, slot, count(*) FROM preferences WHERE enabled = 1 GROUP BY feature_type, slot;

INSERT INTO feature_counts (feature_type, enabled)
SELECT feature_type, sum(tenants) FROM group_counts GROUP BY feature_type;

INSERT INTO feature_counts (feature_type, invalid)
SELECT feature_type, count(*) FROM invalid_preferences GROUP BY feature_type
ON CONFLICT (feature_type) DO UPDATE SET invalid = excluded.invalid;

-- `came` and `went` are the rows of the statement after and before it.
CREATE FUNCTION count_preferences() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO group_counts (feature_type, slot, tenants)
        SELECT came.feature_type, came.slot, count(*) FROM came WHERE came.enabled = 1
        GROUP BY came.feature_type, came.slot
        ON CONFLICT (feature_type, slot) DO UPDATE SET tenants = group_counts.tenants + excluded.tenants;
        INSERT INTO feature_counts (feature_type, enabled)
        SELECT came.feature_type, count(*) FROM came WHERE came.enabled = 1 GROUP BY came.feature_type
        ON CONFLICT (feature_type) DO UPDATE SET enabled = feature_counts.enabled + excluded.enabled;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        UPDATE group_counts SET tenants = group_counts.tenants - less.tenants
        FROM (SELECT went.feature_type, went.slot, count(*) AS tenants FROM went WHERE went.enabled = 1
              GROUP BY went.feature_type, went.slot) AS less
        WHERE group_counts.feature_type = less.feature_type AND group_counts.slot = less.slot;
        DELETE FROM group_counts USING went
        WHERE group_counts.feature_type = went.feature_type AND group_counts.slot = went.slot
          AND group_counts.tenants <= 0;
        UPDATE feature_counts SET enabled = feature_counts.enabled - less.tenants
        FROM (SELECT went.feature_type, count(*) AS tenants FROM went WHERE went.enabled = 1
              GROUP BY went.feature_type) AS less
        WHERE feature_counts.feature_type = less.feature_type;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_added_preferences AFTER INSERT ON preferences
REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION count_preferences();

CREATE TRIGGER count_changed_preferences AFTER UPDATE ON preferences
REFERENCING OLD TABLE AS went NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION count_preferences();

CREATE TRIGGER count_removed_preferences AFTER DELETE ON preferences
REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION count_preferences();

CREATE FUNCTION count_problems() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO feature_counts (feature_type, invalid)
        SELECT came.feature_type, count(*) FROM came GROUP BY came.feature_type
        ON CONFLICT (feature_type) DO UPDATE SET invalid = feature_counts.invalid + excluded.invalid;
    ELSE
        UPDATE feature_counts SET invalid = feature_counts.invalid - less.invalid
        FROM (SELECT went.feature_type, count(*) AS invalid FROM went GROUP BY went.feature_type) AS less
        WHERE feature_counts.feature_type = less.feature_type;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_added_problems AFTER INSERT ON invalid_preferences
REFERENCING NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION count_problems();

CREATE TRIGGER count_removed_problems AFTER DELETE ON invalid_preferences
REFERENCING OLD TABLE AS went FOR EACH STATEMENT EXECUTE FUNCTION count_problems();

-- What pages show of all tenants, counted with each write, so that none of them reads everything. Triggers count, so that a process of an
-- earlier version counts as well. They do not see what REPLACE removes, which SQLite hides from triggers. The
-- runbook says how to count anew.

-- `enabled` of `preferences` that are not switched off, and `invalid` of `invalid_preferences`, by feature.
CREATE TABLE feature_counts (
    feature_type TEXT PRIMARY KEY,
    enabled      INTEGER NOT NULL DEFAULT 0,
    invalid      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Tenants of each group that has any.
CREATE TABLE group_counts (
    feature_type TEXT NOT NULL,
    slot         TEXT NOT NULL,
    tenants      INTEGER NOT NULL,
    PRIMARY KEY (feature_type, slot)
) STRICT, WITHOUT ROWID;

CREATE INDEX group_counts_by_size ON group_counts (feature_type, tenants DESC, slot);

INSERT INTO group_counts (feature_type, slot, tenants)
SELECT feature_type, slot, count(*) FROM preferences WHERE enabled = 1 GROUP BY feature_type, slot;

INSERT INTO feature_counts (feature_type, enabled)
SELECT feature_type, sum(tenants) FROM group_counts GROUP BY feature_type;

INSERT INTO feature_counts (feature_type, invalid)
SELECT feature_type, count(*) FROM invalid_preferences WHERE true GROUP BY feature_type
ON CONFLICT (feature_type) DO UPDATE SET invalid = excluded.invalid;

CREATE TRIGGER count_added_preference AFTER INSERT ON preferences WHEN new.enabled = 1
BEGIN
    INSERT INTO group_counts (feature_type, slot, tenants) VALUES (new.feature_type, new.slot, 1)
    ON CONFLICT (feature_type, slot) DO UPDATE SET tenants = tenants + 1;
    INSERT INTO feature_counts (feature_type, enabled) VALUES (new.feature_type, 1)
    ON CONFLICT (feature_type) DO UPDATE SET enabled = enabled + 1;
END;

CREATE TRIGGER count_removed_preference AFTER DELETE ON preferences WHEN old.enabled = 1
BEGIN
    UPDATE group_counts SET tenants = tenants - 1 WHERE feature_type = old.feature_type AND slot = old.slot;
    DELETE FROM group_counts WHERE feature_type = old.feature_type AND slot = old.slot AND tenants <= 0;
    UPDATE feature_counts SET enabled = enabled - 1 WHERE feature_type = old.feature_type;
    DELETE FROM feature_counts WHERE feature_type = old.feature_type AND enabled = 0 AND invalid = 0;
END;

CREATE TRIGGER count_new_group AFTER UPDATE ON preferences
WHEN new.enabled = 1 AND (old.enabled <> 1 OR old.slot <> new.slot OR old.feature_type <> new.feature_type)
BEGIN
    INSERT INTO group_counts (feature_type, slot, tenants) VALUES (new.feature_type, new.slot, 1)
    ON CONFLICT (feature_type, slot) DO UPDATE SET tenants = tenants + 1;
    INSERT INTO feature_counts (feature_type, enabled) VALUES (new.feature_type, 1)
    ON CONFLICT (feature_type) DO UPDATE SET enabled = enabled + 1;
END;

CREATE TRIGGER count_old_group AFTER UPDATE ON preferences
WHEN old.enabled = 1 AND (new.enabled <> 1 OR old.slot <> new.slot OR old.feature_type <> new.feature_type)
BEGIN
    UPDATE group_counts SET tenants = tenants - 1 WHERE feature_type = old.feature_type AND slot = old.slot;
    DELETE FROM group_counts WHERE feature_type = old.feature_type AND slot = old.slot AND tenants <= 0;
    UPDATE feature_counts SET enabled = enabled - 1 WHERE feature_type = old.feature_type;
    DELETE FROM feature_counts WHERE feature_type = old.feature_type AND enabled = 0 AND invalid = 0;
END;

CREATE TRIGGER count_added_problem AFTER INSERT ON invalid_preferences
BEGIN
    INSERT INTO feature_counts (feature_type, invalid) VALUES (new.feature_type, 1)
    ON CONFLICT (feature_type) DO UPDATE SET invalid = invalid + 1;
END;

CREATE TRIGGER count_removed_problem AFTER DELETE ON invalid_preferences
BEGIN
    UPDATE feature_counts SET invalid = invalid - 1 WHERE feature_type = old.feature_type;
    DELETE FROM feature_counts WHERE feature_type = old.feature_type AND enabled = 0 AND invalid = 0;
END;

CREATE TRIGGER count_moved_problem AFTER UPDATE ON invalid_preferences WHEN old.feature_type <> new.feature_type
BEGIN
    INSERT INTO feature_counts (feature_type, invalid) VALUES (new.feature_type, 1)
    ON CONFLICT (feature_type) DO UPDATE SET invalid = invalid + 1;
    UPDATE feature_counts SET invalid = invalid - 1 WHERE feature_type = old.feature_type;
    DELETE FROM feature_counts WHERE feature_type = old.feature_type AND enabled = 0 AND invalid = 0;
END;

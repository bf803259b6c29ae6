-- Since when the fields that say when a preference falls due have been as they are. A change of anything else leaves it.
ALTER TABLE preferences ADD COLUMN schedule_since BIGINT NOT NULL DEFAULT 0;
UPDATE preferences SET schedule_since = updated_at;

-- Null where a preference was removed. From now on `changed_at` is when the change was recorded here, also of what was
-- imported.
ALTER TABLE changes ADD COLUMN schedule_since BIGINT;
UPDATE changes SET schedule_since = changed_at WHERE preference IS NOT NULL;

-- What one tenant has made the feed grow by.
CREATE INDEX changes_by_tenant ON changes (tenant_id, id);

-- `.` and `..` are no names any more: no URL reaches them.
DELETE FROM preferences WHERE tenant_id IN ('.', '..') OR feature_type IN ('.', '..');
DELETE FROM feature_schemas WHERE feature_type IN ('.', '..');
DELETE FROM configs WHERE tenant_id IN ('.', '..');
DELETE FROM config_history WHERE tenant_id IN ('.', '..');
DELETE FROM api_keys WHERE tenant_id IN ('.', '..');

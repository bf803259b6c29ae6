-- Instants are microseconds since 1970-01-01 UTC; JSON is kept as text, as it was stored.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A new database is another database: readers that followed the old one must read everything again.
INSERT INTO meta (name, value) VALUES ('epoch', lower(hex(randomblob(16)))), ('purged_until', '0');

CREATE TABLE configs (
    tenant_id    TEXT NOT NULL,
    config_key   TEXT NOT NULL,
    config_value TEXT NOT NULL,
    version      INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, config_key)
) STRICT, WITHOUT ROWID;

-- Every version there has been; `config_value` is null where it was removed. Versions of a configuration never
-- come again, so a version also serves as its ETag.
CREATE TABLE config_history (
    tenant_id    TEXT NOT NULL,
    config_key   TEXT NOT NULL,
    version      INTEGER NOT NULL,
    config_value TEXT,
    changed_at   INTEGER NOT NULL,
    actor        TEXT NOT NULL,
    PRIMARY KEY (tenant_id, config_key, version)
) STRICT, WITHOUT ROWID;

-- The entries of every `feature_preferences`, one row a feature.
CREATE TABLE preferences (
    feature_type TEXT NOT NULL,
    tenant_id    TEXT NOT NULL,
    enabled      INTEGER NOT NULL,
    preference   TEXT NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (feature_type, tenant_id)
) STRICT, WITHOUT ROWID;

-- SQLite has one writer at a time, so ids become visible in their order. `changed_at` is when the preference
-- was stored in the system it comes from, `recorded_at` when it came here.
CREATE TABLE changes (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id    TEXT NOT NULL,
    config_key   TEXT NOT NULL,
    feature_type TEXT NOT NULL,
    change       TEXT NOT NULL,
    preference   TEXT,
    changed_at   INTEGER NOT NULL,
    recorded_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX changes_by_age ON changes (recorded_at);

CREATE TABLE api_keys (
    hash       TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    scope      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the template_overrides of a feature may be.
CREATE TABLE feature_schemas (
    feature_type TEXT PRIMARY KEY,
    schema       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

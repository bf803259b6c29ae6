-- Instants are microseconds since 1970-01-01 UTC; JSON is kept as text, as it was stored. The twin of this file for
-- PostgreSQL has the same tables and columns.

-- One row. A new database is another database: readers that followed the old one, under another epoch, must read
-- everything again. `head` is the newest change there has ever been, `purged_until` the newest that is forgotten.
CREATE TABLE feed (
    epoch        TEXT NOT NULL,
    head         INTEGER NOT NULL,
    purged_until INTEGER NOT NULL
) STRICT;

INSERT INTO feed (epoch, head, purged_until) VALUES (lower(hex(randomblob(16))), 0, 0);

-- A configuration that was removed keeps its row, without a value: its versions never come again, so a version also
-- serves as ETag.
CREATE TABLE configs (
    tenant_id    TEXT NOT NULL,
    config_key   TEXT NOT NULL,
    config_value TEXT,
    version      INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, config_key)
) STRICT, WITHOUT ROWID;

-- Every version there has been; `config_value` is null where it was removed.
CREATE TABLE config_history (
    tenant_id    TEXT NOT NULL,
    config_key   TEXT NOT NULL,
    version      INTEGER NOT NULL,
    config_value TEXT,
    changed_at   INTEGER NOT NULL,
    actor        TEXT NOT NULL,
    PRIMARY KEY (tenant_id, config_key, version)
) STRICT, WITHOUT ROWID;

-- The entries of every `feature_preferences`, one row a feature. `slot` is what groups are made by.
CREATE TABLE preferences (
    feature_type TEXT NOT NULL,
    tenant_id    TEXT NOT NULL,
    enabled      INTEGER NOT NULL,
    slot         TEXT NOT NULL,
    preference   TEXT NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (feature_type, tenant_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX preferences_by_slot ON preferences (feature_type, enabled, slot);

-- Ids are counted in `feed.head` under the lock that every writer holds to its end, so they become visible in their
-- order. `changed_at` is when the preference was stored in the system it comes from, `recorded_at` when it came here.
CREATE TABLE changes (
    id           INTEGER PRIMARY KEY,
    tenant_id    TEXT NOT NULL,
    config_key   TEXT NOT NULL,
    feature_type TEXT NOT NULL,
    change       TEXT NOT NULL,
    preference   TEXT,
    changed_at   INTEGER NOT NULL,
    recorded_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX changes_by_age ON changes (recorded_at);

-- Who has read how far, for those who ask whether a change has arrived.
CREATE TABLE readers (
    reader       TEXT NOT NULL,
    feature_type TEXT NOT NULL,
    since_id     INTEGER NOT NULL,
    seen_at      INTEGER NOT NULL,
    PRIMARY KEY (reader, feature_type)
) STRICT, WITHOUT ROWID;

-- Two keys of one name are a key and the one that takes its place.
CREATE TABLE api_keys (
    hash       TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    scope      TEXT NOT NULL,
    tenant_id  TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_by_name ON api_keys (name);

-- Who is signed in on the page, and with which key: a key that is taken back ends its sessions.
CREATE TABLE sessions (
    token_hash TEXT PRIMARY KEY,
    key_hash   TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the template_overrides of a feature may be.
CREATE TABLE feature_schemas (
    feature_type TEXT PRIMARY KEY,
    schema       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

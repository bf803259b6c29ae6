-- Runs of tenants who were erased, by a keyed hash of job, occurrence and tenant (the key is a secret of the store): none runs again.
CREATE TABLE @erased_runs (
    hash      TEXT PRIMARY KEY,
    erased_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Preferences that rows referred to which were erased, until it is known whether others refer to them.
CREATE TABLE @erased_preferences (
    hash BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

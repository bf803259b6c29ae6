-- What is known of a feature beside its schema. `description` is what people call it and what a preference for it may say, `jobs` what
-- the jobs of the agent that published last make of what a preference leaves out, both as JSON; `checked` is a hash of the rules
-- that its stored preferences were last checked against.
CREATE TABLE features (
    feature_type TEXT PRIMARY KEY,
    description  TEXT NOT NULL DEFAULT '{}',
    jobs         TEXT NOT NULL DEFAULT '{}',
    checked      TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

-- Stored preferences that cannot run under the rules of today, and why.
CREATE TABLE invalid_preferences (
    feature_type TEXT NOT NULL,
    tenant_id    TEXT NOT NULL,
    reason       TEXT NOT NULL,
    PRIMARY KEY (feature_type, tenant_id)
) STRICT, WITHOUT ROWID;

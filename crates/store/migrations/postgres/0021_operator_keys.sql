-- API keys of operators. hash: that of the key, in hexadecimal digits; last_used: a day, as YYYY-MM-DD.
CREATE TABLE operator_keys (
    hash       TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    role       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    created_by TEXT NOT NULL,
    last_used  TEXT
);

-- Why operators did what they did, in their words.
ALTER TABLE audit_log ADD COLUMN reason TEXT;

-- cleared: 1 once results of the run that are kept the shorter time have been removed; the rest stays longer.
ALTER TABLE runs ADD COLUMN cleared BIGINT NOT NULL DEFAULT 0;
CREATE INDEX runs_to_clear ON runs (job_id, cleared, last_due, run);

-- The last date of a job's runs of which results have been removed: what has run until then is not known any more.
CREATE TABLE removed_results (
    job_id  TEXT PRIMARY KEY,
    to_date TEXT NOT NULL
);

-- The last success of an item among the results that have been removed.
CREATE TABLE last_successes (
    job_id       TEXT NOT NULL,
    tenant_id    TEXT NOT NULL,
    occurrence   TEXT NOT NULL,
    scheduled_at BIGINT NOT NULL,
    finished_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, job_id)
);

CREATE INDEX last_successes_by_time ON last_successes (scheduled_at);

-- used_at: no later result than a month after it refers to this content. Zero: of a version that did not note it.
ALTER TABLE preferences ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX preferences_by_use ON preferences (used_at);

CREATE INDEX audit_log_by_time ON audit_log (at);
CREATE INDEX requests_by_time ON requests (at);

-- begins_at: nothing is removed before. A store that has been in use gets a day in which to keep more.
CREATE TABLE retention_state (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO retention_state (name, value)
SELECT 'begins_at', CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) + 86400000000
WHERE EXISTS (SELECT 1 FROM batches);

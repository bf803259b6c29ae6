-- Days for which the last leader that had a job kept its runs. They are kept so while the job is not in effect.
CREATE TABLE job_retention (
    job_id        TEXT PRIMARY KEY,
    results_days  BIGINT NOT NULL,
    failures_days BIGINT NOT NULL
);

-- Erasures of the Config Database that were carried out, which it names again for 30 days. tenant: a keyed hash of the id (the key is a
-- secret of the store). erased_at: as the Config Database says. chunk, chunk_id: the last chunk that was looked at; a later one may have
-- the tenant.
CREATE TABLE done_erasures (
    erased_at BIGINT NOT NULL,
    done_at   BIGINT NOT NULL,
    chunk     BIGINT NOT NULL,
    tenant    TEXT PRIMARY KEY,
    chunk_id  TEXT NOT NULL
);

CREATE INDEX done_erasures_by_time ON done_erasures (done_at);

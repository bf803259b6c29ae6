-- What the first of two purposes has made of items, until they have succeeded or had nothing to do. chunk: the one that has kept or
-- read it last, which removes it when it ends.
CREATE TABLE @kept_outputs (
    run        INTEGER NOT NULL,
    tenant_id  TEXT NOT NULL,
    chunk      INTEGER NOT NULL,
    purpose_id TEXT NOT NULL,
    output     TEXT NOT NULL,
    PRIMARY KEY (run, tenant_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX @kept_outputs_of_chunk ON @kept_outputs (chunk);

-- What the first of two purposes has made of items, until they have succeeded or had nothing to do. chunk: the one that has kept or
-- read it last, which removes it when it ends.
CREATE TABLE kept_outputs (
    run        BIGINT NOT NULL,
    chunk      BIGINT NOT NULL,
    tenant_id  TEXT NOT NULL,
    purpose_id TEXT NOT NULL,
    output     TEXT NOT NULL,
    PRIMARY KEY (run, tenant_id)
);

CREATE INDEX kept_outputs_of_chunk ON kept_outputs (chunk);

-- How far the store has come. store: drawn once, and the same in each copy. number: grows with each mark, and is remembered outside of
-- the store, too: a store with a smaller one is an older copy. held_from, held_to: what the copy does not know of; null: it is not
-- held. held_number: the largest that is known. skipped_until: what was due by then and is planned later is skipped.
CREATE TABLE fence (
    one           BIGINT PRIMARY KEY CHECK (one = 1),
    store         TEXT NOT NULL,
    number        BIGINT NOT NULL,
    at            BIGINT NOT NULL,
    held_from     BIGINT,
    held_to       BIGINT,
    held_since    BIGINT,
    held_number   BIGINT,
    skipped_until BIGINT
);

-- When the marks of the last hour were made: of a mark that is remembered outside of the store, and was lost, the number is that of
-- another one.
CREATE TABLE fence_marks (
    number BIGINT PRIMARY KEY,
    at     BIGINT NOT NULL
);

-- Whether it was cancelled because the store was restored from an older copy.
ALTER TABLE batches ADD COLUMN restored BIGINT NOT NULL DEFAULT 0;

-- How far the store has come. store: drawn once, and the same in each copy. number: grows with each mark, and is remembered outside of
-- the store, too: a store with a smaller one is an older copy. held_from, held_to: what the copy does not know of; null: it is not
-- held. held_number: the largest that is known. skipped_until: what was due by then and is planned later is skipped.
CREATE TABLE @fence (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    store         TEXT NOT NULL,
    number        INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    held_from     INTEGER,
    held_to       INTEGER,
    held_since    INTEGER,
    held_number   INTEGER,
    skipped_until INTEGER
) STRICT;

-- When the marks of the last hour were made: of a mark that is remembered outside of the store, and was lost, the number is that of
-- another one.
CREATE TABLE @fence_marks (
    number INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT;

-- Whether it was cancelled because the store was restored from an older copy.
ALTER TABLE @batches ADD COLUMN restored INTEGER NOT NULL DEFAULT 0;

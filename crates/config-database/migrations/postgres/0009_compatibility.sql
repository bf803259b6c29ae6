-- One row: which programs may open these tables. It is written before each migration that follows. An agent may have a table
-- `compatibility` in the same database.
CREATE TABLE config_compatibility (
    id             BIGINT PRIMARY KEY,
    -- Number of the last migration that has been made, or is being made.
    last_migration BIGINT NOT NULL,
    -- Last migration of the oldest program that works on these tables.
    oldest_program BIGINT NOT NULL,
    -- Version of the program that made the last migration.
    written_by     TEXT NOT NULL
);

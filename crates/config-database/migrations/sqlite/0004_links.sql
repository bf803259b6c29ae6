-- One row at most: the key that signs links, where none is configured.
CREATE TABLE link_key (
    id     INTEGER PRIMARY KEY,
    secret TEXT NOT NULL
) STRICT;

-- Links that open once and have been opened, until they expire.
CREATE TABLE used_links (
    link_hash  TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_links_by_expiry ON used_links (expires_at);

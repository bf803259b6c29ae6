-- What of the tenants this store serves: a division and the first date of the occurrences that it counts for. The first one
-- counts from the beginning. Empty: all of them.
CREATE TABLE shards (
    from_date TEXT PRIMARY KEY,
    shard     TEXT NOT NULL
);

-- Addresses that no e-mail is sent to. key: the address in lower case, by which addresses are compared.
CREATE TABLE @suppressions (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    key     TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    reason  TEXT NOT NULL,
    at      INTEGER NOT NULL,
    by      TEXT NOT NULL
) STRICT;

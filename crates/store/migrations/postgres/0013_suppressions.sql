-- Addresses that no e-mail is sent to. key: the address in lower case, by which addresses are compared.
CREATE TABLE suppressions (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key     TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    reason  TEXT NOT NULL,
    at      BIGINT NOT NULL,
    by      TEXT NOT NULL
);

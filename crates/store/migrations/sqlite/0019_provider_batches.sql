-- Provider batches: calls of one purpose that wait and are sent to a provider together. due_at: when it is looked at next; who works on
-- it moves it ahead, as a lease. looks: in a row without anything new. file_id, remote_id: the provider's. others: batches at the provider
-- that are not this one, a JSON array.
CREATE TABLE @provider_batches (
    id            TEXT PRIMARY KEY,
    purpose_id    TEXT NOT NULL,
    state         TEXT NOT NULL,
    calls         INTEGER NOT NULL,
    first_since   INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    looks         INTEGER NOT NULL,
    file_id       TEXT,
    remote_id     TEXT,
    others        TEXT NOT NULL,
    ended_at      INTEGER,
    answered      INTEGER,
    input_tokens  INTEGER,
    output_tokens INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX @provider_batches_due ON @provider_batches (purpose_id, due_at) WHERE ended_at IS NULL;
CREATE INDEX @provider_batches_ended ON @provider_batches (ended_at) WHERE ended_at IS NOT NULL;

-- Which calls are in a provider batch, until it ends.
CREATE TABLE @provider_batch_calls (
    call_id        TEXT PRIMARY KEY,
    provider_batch TEXT NOT NULL,
    answered       INTEGER NOT NULL,
    input_tokens   INTEGER NOT NULL,
    output_tokens  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX @provider_batch_calls_of_batch ON @provider_batch_calls (provider_batch, call_id);

CREATE INDEX @waiting_items_of_purpose ON @waiting_items (purpose_id, since) WHERE phase = 1;

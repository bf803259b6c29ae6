-- Findings that alerts are about, until they are over. body: the finding, in JSON. state: its severity and cause, as they were sent.
CREATE TABLE @alerts (
    finding       TEXT PRIMARY KEY,
    body          TEXT NOT NULL,
    seen_at       INTEGER NOT NULL,
    state         TEXT,
    severity      TEXT,
    first_sent_at INTEGER,
    last_sent_at  INTEGER,
    changed_at    INTEGER,
    gone_at       INTEGER
) STRICT, WITHOUT ROWID;

-- Messages about findings. body and deliveries are JSON. pending: whether a channel has still to send it.
CREATE TABLE @alert_messages (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    at         INTEGER NOT NULL,
    pending    INTEGER NOT NULL,
    body       TEXT NOT NULL,
    deliveries TEXT NOT NULL
) STRICT;

CREATE INDEX @alert_messages_at ON @alert_messages (at);
CREATE INDEX @alert_messages_pending ON @alert_messages (number) WHERE pending = 1;

-- One row. revision: grows with each change, so that of two processes that decide at once one does.
CREATE TABLE @alert_revision (
    revision INTEGER NOT NULL
) STRICT;

INSERT INTO @alert_revision (revision) VALUES (0);

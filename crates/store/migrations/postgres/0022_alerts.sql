-- Findings that alerts are about, until they are over. body: the finding, in JSON. state: its severity and cause, as they were sent.
CREATE TABLE alerts (
    finding       TEXT PRIMARY KEY,
    body          TEXT NOT NULL,
    seen_at       BIGINT NOT NULL,
    state         TEXT,
    severity      TEXT,
    first_sent_at BIGINT,
    last_sent_at  BIGINT,
    changed_at    BIGINT,
    gone_at       BIGINT
);

-- Messages about findings. body and deliveries are JSON. pending: whether a channel has still to send it.
CREATE TABLE alert_messages (
    number     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    at         BIGINT NOT NULL,
    pending    BIGINT NOT NULL,
    body       TEXT NOT NULL,
    deliveries TEXT NOT NULL
);

CREATE INDEX alert_messages_at ON alert_messages (at);
CREATE INDEX alert_messages_pending ON alert_messages (number) WHERE pending = 1;

-- One row. revision: grows with each change, so that of two processes that decide at once one does.
CREATE TABLE alert_revision (
    revision BIGINT NOT NULL
);

INSERT INTO alert_revision (revision) VALUES (0);

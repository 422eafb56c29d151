-- The spool's tables in SQLite. Times are seconds; keys are Envelope.key.
-- A mail that goes straight through touches these two trees and no index.

CREATE TABLE mail (
    key INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL,
    sender TEXT NOT NULL,
    received_at REAL NOT NULL,
    size INTEGER NOT NULL,
    eight_bit INTEGER NOT NULL,
    report INTEGER NOT NULL,
    ret TEXT NOT NULL,
    envid TEXT NOT NULL,
    client TEXT NOT NULL,
    head BLOB NOT NULL,
    body_size INTEGER NOT NULL,
    body_crc INTEGER NOT NULL,  -- CRC-32 of the body, wherever it stands
    checksum INTEGER NOT NULL,  -- CRC-32 of all above and of every recipient
    body BLOB                   -- last, so that the rest is read without it; NULL: bodies/<uuid>
);

CREATE TABLE recipient (
    mail INTEGER NOT NULL,
    number INTEGER NOT NULL,
    address TEXT NOT NULL,
    notify TEXT,
    orcpt TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    provider TEXT NOT NULL DEFAULT '',
    pinned INTEGER NOT NULL DEFAULT 0,
    uncertain INTEGER NOT NULL DEFAULT 0,
    warned INTEGER NOT NULL DEFAULT 0,
    reply TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (mail, number)
) WITHOUT ROWID;

CREATE INDEX recipient_due ON recipient (due) WHERE state = 1;
CREATE INDEX recipient_held ON recipient (reply, mail) WHERE state = 2;

-- What is to be known after a restart beside the mail: see Settlement.notes.
CREATE TABLE note (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;

-- Changed by each probe: whether the disk still takes a commit.
CREATE TABLE pulse (beat INTEGER NOT NULL);
INSERT INTO pulse VALUES (0);

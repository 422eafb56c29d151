-- The spool's tables in PostgreSQL. Times without a zone are seconds on the spool's scale; keys are Envelope.key.
-- What the docstrings call a turn is mail.state, due, owner, generation, crashes and taken_at: all else never changes.

CREATE TABLE version (number integer NOT NULL);

CREATE TABLE mail (
    key bigint PRIMARY KEY,
    uuid text NOT NULL,
    sender text NOT NULL,
    received_at double precision NOT NULL,
    size bigint NOT NULL,
    eight_bit boolean NOT NULL,
    report boolean NOT NULL,
    ret text NOT NULL,
    envid text NOT NULL,
    client text NOT NULL,
    head bytea NOT NULL,
    body_size bigint NOT NULL,
    body_crc bigint NOT NULL,  -- CRC-32 of the body
    checksum bigint NOT NULL,  -- CRC-32 of all above and of every recipient
    body bigint NOT NULL,      -- piece.body: the key itself for a small one
    state smallint NOT NULL,   -- the first of READY, DEFERRED, HELD that a recipient is in
    due double precision,      -- 0: READY (1: and taken over from one that is gone); NULL: none is to be tried
    owner bigint,              -- process.id, in whose memory it is
    generation integer NOT NULL,
    crashes smallint NOT NULL DEFAULT 0,
    taken_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX mail_waiting ON mail (due, key) WHERE owner IS NULL AND due IS NOT NULL;
CREATE INDEX mail_suspect ON mail (due, key) WHERE owner IS NULL AND due IS NOT NULL AND crashes > 1;
CREATE INDEX mail_owner ON mail (owner) WHERE owner IS NOT NULL;

CREATE TABLE recipient (
    mail bigint NOT NULL,
    number integer NOT NULL,
    address text NOT NULL,
    notify text,
    orcpt text NOT NULL,
    state smallint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due double precision NOT NULL DEFAULT 0,
    provider text NOT NULL DEFAULT '',
    pinned boolean NOT NULL DEFAULT false,
    uncertain integer NOT NULL DEFAULT 0,
    warned boolean NOT NULL DEFAULT false,
    reply text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (mail, number)
);

CREATE INDEX recipient_due ON recipient (due) WHERE state = 1;
CREATE INDEX recipient_held ON recipient (mail) WHERE state = 2;

CREATE TABLE piece (
    body bigint NOT NULL,
    number integer NOT NULL,
    octets bytea NOT NULL,
    PRIMARY KEY (body, number)
);

-- A body of a few KiB stands in its row, and none is compressed: mail is, or is read once.
ALTER TABLE piece ALTER COLUMN octets SET STORAGE EXTERNAL;
ALTER TABLE piece SET (toast_tuple_target = 8160);

CREATE TABLE upload (body bigint PRIMARY KEY, process bigint NOT NULL);

CREATE TABLE note (name text COLLATE "C" PRIMARY KEY, text text NOT NULL);

CREATE TABLE quota (address text PRIMARY KEY, began double precision NOT NULL, sent integer NOT NULL);

CREATE TABLE process (
    id bigint PRIMARY KEY,
    slot integer NOT NULL UNIQUE,
    name text NOT NULL,
    beat_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    delivered_at timestamptz,          -- when a provider last took a mail of it
    ready bigint NOT NULL DEFAULT 0,   -- by how much what it shows differs from what is written of its mail
    active bigint NOT NULL DEFAULT 0,
    deferred bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE tally (
    process bigint PRIMARY KEY,
    commits bigint NOT NULL DEFAULT 0,
    ready bigint NOT NULL DEFAULT 0,
    deferred bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

INSERT INTO tally (process) VALUES (0);
INSERT INTO version VALUES (1);

-- Rows come and go all the time: dead ones are cleared away often, and a little at a time.
ALTER TABLE mail SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
ALTER TABLE recipient SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
ALTER TABLE piece SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

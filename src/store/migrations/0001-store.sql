-- What was done to this file, step by step.
CREATE TABLE migrations (
    number     INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL,      -- of the text that was run
    applied_at INTEGER NOT NULL
);

-- The journal. Numbers have no gaps: there is one writer, rows are never deleted, and a number that was
-- rolled back is given again.
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    time     INTEGER NOT NULL,
    type     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    project  TEXT,
    actor    TEXT NOT NULL,
    data     TEXT NOT NULL
);
CREATE INDEX events_by_subject ON events (subject, sequence);
CREATE INDEX events_by_project ON events (project, sequence);

-- The vault's content. A row is inserted after its file is durable.
CREATE TABLE blobs (
    digest      TEXT PRIMARY KEY,
    size        INTEGER NOT NULL,
    stored_size INTEGER NOT NULL,
    encoding    TEXT NOT NULL CHECK (encoding IN ('raw', 'zstd')),
    created_at  INTEGER NOT NULL    -- of the newest put: the grace period counts from here
) WITHOUT ROWID;
CREATE INDEX blobs_by_time ON blobs (created_at);

-- Who needs a blob in memory.
CREATE TABLE pins (
    owner      TEXT NOT NULL,
    digest     TEXT NOT NULL REFERENCES blobs (digest),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (owner, digest)
) WITHOUT ROWID;
CREATE INDEX pins_by_digest ON pins (digest);

-- Single values of the daemon.
CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

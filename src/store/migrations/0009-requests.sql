-- Logged requests of endpoints: blobs of JSON lines, each a closed segment of a gateway's log.
CREATE TABLE request_segments (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint     INTEGER NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
    digest       TEXT NOT NULL UNIQUE,          -- taking the same segment again changes nothing
    lines        INTEGER NOT NULL,
    first_at     INTEGER NOT NULL,              -- arrival of the requests of its first and last line, ms
    last_at      INTEGER NOT NULL,
    bytes        INTEGER NOT NULL
) STRICT;
CREATE INDEX request_segments_endpoint ON request_segments (endpoint, id);

CREATE TABLE projects (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO projects (name, description, created_at) VALUES ('default', '', 0);

-- Bearer tokens. The secret itself is never stored.
CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    hash         TEXT NOT NULL UNIQUE,                    -- SHA-256 of the secret, hex
    scopes       TEXT NOT NULL,                           -- 'develop predict:digits'
    project      TEXT REFERENCES projects (name),         -- NULL: all
    run_id       TEXT,                                    -- of a run: touches that run only
    client_id    TEXT,                                    -- issued in exchange for this token (OAuth2)
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    expires_at   INTEGER NOT NULL DEFAULT 0,              -- 0: never
    revoked_at   INTEGER NOT NULL DEFAULT 0,              -- 0: valid
    last_used_at INTEGER NOT NULL DEFAULT 0               -- coarse: minutes
) WITHOUT ROWID;
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE revoked_at = 0 AND run_id IS NULL AND client_id IS NULL;
CREATE INDEX tokens_by_run ON tokens (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX tokens_by_client ON tokens (client_id) WHERE client_id IS NOT NULL;
CREATE INDEX tokens_by_project ON tokens (project);

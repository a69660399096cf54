-- Versions that share the traffic of an endpoint: canaries get a part of it, shadows copies of it.
--
-- Two tables are built anew because their CHECKs grow. Weights are per cent of the requests now: of a version that
-- gets none they are 0.

CREATE TABLE endpoint_routes_new (
    endpoint     INTEGER NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
    version      INTEGER NOT NULL REFERENCES model_versions(id),
    role         TEXT NOT NULL CHECK (role IN ('live', 'standby', 'next', 'canary', 'shadow')),
    weight       REAL NOT NULL DEFAULT 0,       -- share of the requests, per cent
    PRIMARY KEY (endpoint, version)
) STRICT;
INSERT INTO endpoint_routes_new
    SELECT endpoint, version, role, CASE role WHEN 'live' THEN 100 ELSE 0 END FROM endpoint_routes;
DROP TABLE endpoint_routes;
ALTER TABLE endpoint_routes_new RENAME TO endpoint_routes;
CREATE INDEX endpoint_routes_version ON endpoint_routes (version);

CREATE TABLE deployments_new (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint     INTEGER NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
    kind         TEXT NOT NULL,                 -- 'deploy', 'rollback', 'follow', 'canary', 'shadow', 'traffic',
                                                -- 'promote', 'abort'
    version      INTEGER NOT NULL,              -- number of the version
    previous     INTEGER,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'live', 'running', 'promoted', 'aborted', 'failed',
                                                'superseded')),
    message      TEXT,
    actor        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    ready_at     INTEGER,
    switched_at  INTEGER,
    switch_us    INTEGER,                       -- new route table sent → in force, microseconds
    ended_at     INTEGER,                       -- of a canary or shadow
    options      TEXT,                          -- JSON of struct trial_options (core/endpoint.h); NULL: no trial
    was          TEXT,                          -- role that the version of a trial had before; NULL: none
    base         TEXT,                          -- JSON: the gateway's counters when the trial began
    decision     TEXT,                          -- JSON: which rule ended it, and what it saw
    problem      TEXT                           -- why a rule could not be evaluated the last time; NULL: it could
) STRICT;
INSERT INTO deployments_new (id, endpoint, kind, version, previous, state, message, actor, created_at, ready_at,
                             switched_at, switch_us)
    SELECT id, endpoint, kind, version, previous, state, message, actor, created_at, ready_at, switched_at, switch_us
    FROM deployments;
-- Numbers are given once, also those of rows that are gone.
DELETE FROM sqlite_sequence WHERE name = 'deployments_new';
INSERT INTO sqlite_sequence (name, seq) SELECT 'deployments_new', seq FROM sqlite_sequence WHERE name = 'deployments';
DROP TABLE deployments;
ALTER TABLE deployments_new RENAME TO deployments;
CREATE INDEX deployments_endpoint ON deployments (endpoint, id);
CREATE INDEX deployments_pending ON deployments (state) WHERE state = 'pending';
CREATE INDEX deployments_running ON deployments (endpoint) WHERE state = 'running';

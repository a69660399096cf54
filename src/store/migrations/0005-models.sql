-- Models, their versions, the chain of release records, gates, endpoints.
--
-- A model has two series of parts, code versions and weights generations, both numbered from 1 and never
-- reused; a version is a numbered pair of them. What was removed keeps its row in `models` (removed_at), so
-- that an address never means two things.

CREATE TABLE models (
    id           INTEGER PRIMARY KEY,
    project      TEXT NOT NULL,
    name         TEXT NOT NULL,                 -- 'type/name'
    last_code    INTEGER NOT NULL DEFAULT 0,    -- the highest number given so far
    last_weights INTEGER NOT NULL DEFAULT 0,
    last_version INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    removed_at   INTEGER,
    UNIQUE (project, name)
) STRICT;

CREATE TABLE model_code (
    model        INTEGER NOT NULL REFERENCES models(id),
    number       INTEGER NOT NULL,
    digest       TEXT NOT NULL,                 -- zip of the code or package
    size         INTEGER NOT NULL,
    package      TEXT,                          -- JSON of package_inspect(); NULL: not looked at yet
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (model, number),
    UNIQUE (model, digest)
) STRICT;
CREATE INDEX model_code_digest ON model_code (digest);

CREATE TABLE model_weights (
    model        INTEGER NOT NULL REFERENCES models(id),
    number       INTEGER NOT NULL,
    digest       TEXT NOT NULL,
    size         INTEGER NOT NULL,
    name         TEXT,                          -- file name that the program gave
    run          TEXT,                          -- NULL: pushed by hand
    generation   INTEGER,                       -- of the run, from 1
    step         INTEGER,                       -- newest step when it was saved
    metrics      TEXT NOT NULL DEFAULT '{}',    -- newest value of each metric when it was saved
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (model, number),
    UNIQUE (model, run, generation)
) STRICT;
CREATE INDEX model_weights_digest ON model_weights (digest);
CREATE INDEX model_weights_run ON model_weights (run, generation);

CREATE TABLE model_versions (
    id           INTEGER PRIMARY KEY,
    model        INTEGER NOT NULL REFERENCES models(id),
    number       INTEGER NOT NULL,
    code         INTEGER NOT NULL,
    weights      INTEGER,                       -- NULL: the package needs none
    run          TEXT,
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    UNIQUE (model, number),
    FOREIGN KEY (model, code) REFERENCES model_code (model, number),
    FOREIGN KEY (model, weights) REFERENCES model_weights (model, number)
) STRICT;
CREATE UNIQUE INDEX model_versions_pair ON model_versions (model, code, ifnull(weights, 0));
CREATE INDEX model_versions_run ON model_versions (run);

CREATE TABLE model_aliases (
    model        INTEGER NOT NULL REFERENCES models(id),
    alias        TEXT NOT NULL,
    version      INTEGER NOT NULL REFERENCES model_versions(id),
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (model, alias)
) STRICT;

-- Every move of an alias, in order. version NULL: the alias was removed.
CREATE TABLE model_alias_moves (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    model        INTEGER NOT NULL REFERENCES models(id),
    alias        TEXT NOT NULL,
    version      INTEGER,                       -- number of the version
    previous     INTEGER,
    reason       TEXT NOT NULL,                 -- 'promoted', 'gate_accepted', 'rollback', 'removed'
    actor        TEXT NOT NULL,
    time         INTEGER NOT NULL
) STRICT;
CREATE INDEX model_alias_moves_of ON model_alias_moves (model, alias, id);

-- The chain: hash = SHA-256(previous ‖ record), previous = '' for the first of a model. Rows are only added.
CREATE TABLE releases (
    project      TEXT NOT NULL,
    model        TEXT NOT NULL,
    sequence     INTEGER NOT NULL,              -- 1, 2, … per model
    version      INTEGER NOT NULL,
    kind         TEXT NOT NULL,                 -- 'version', 'result', 'gate', 'removed'
    record       TEXT NOT NULL,                 -- canonical JSON
    previous     TEXT NOT NULL,
    hash         TEXT NOT NULL,
    PRIMARY KEY (project, model, sequence)
) STRICT;
CREATE INDEX releases_version ON releases (project, model, version);

CREATE TABLE gates (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    run          TEXT NOT NULL UNIQUE,
    project      TEXT NOT NULL,
    model        TEXT NOT NULL,
    version      INTEGER,                       -- number, once evaluated
    rule         TEXT NOT NULL,                 -- as written
    alias        TEXT,                          -- moved on acceptance; NULL: none
    state        TEXT NOT NULL CHECK (state IN ('pending', 'accepted', 'rejected', 'failed')),
    reason       TEXT,
    seen         TEXT,                          -- the document that the rule saw, less the history
    champion     INTEGER,                       -- version that held the alias
    created_at   INTEGER NOT NULL,
    decided_at   INTEGER
) STRICT;
CREATE INDEX gates_pending ON gates (state) WHERE state = 'pending';
CREATE INDEX gates_model ON gates (project, model, version);

CREATE TABLE endpoints (
    id           INTEGER PRIMARY KEY,
    project      TEXT NOT NULL,
    name         TEXT NOT NULL UNIQUE,          -- part of a URL, therefore one name space for all projects
    model        INTEGER NOT NULL REFERENCES models(id),
    follow       TEXT,                          -- alias whose moves are followed; NULL: deployed by hand
    options      TEXT NOT NULL,                 -- JSON: timeout_ms, queue, public, replicas, cpus, memory
    desired      TEXT NOT NULL CHECK (desired IN ('serving', 'removed')),
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL
) STRICT;

-- What is to be served. One live row an endpoint; a standby row is kept warm for the rollback.
CREATE TABLE endpoint_routes (
    endpoint     INTEGER NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
    version      INTEGER NOT NULL REFERENCES model_versions(id),
    role         TEXT NOT NULL CHECK (role IN ('live', 'standby', 'shadow', 'next')),
    weight       INTEGER NOT NULL DEFAULT 100,  -- share of the traffic, per cent
    PRIMARY KEY (endpoint, version)
) STRICT;
CREATE INDEX endpoint_routes_version ON endpoint_routes (version);

CREATE TABLE deployments (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint     INTEGER NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
    kind         TEXT NOT NULL,                 -- 'deploy', 'rollback', 'follow'
    version      INTEGER NOT NULL,              -- number of the version
    previous     INTEGER,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'live', 'failed', 'superseded')),
    message      TEXT,
    actor        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    ready_at     INTEGER,
    switched_at  INTEGER,
    switch_us    INTEGER                        -- new route table sent → in force, microseconds
) STRICT;
CREATE INDEX deployments_endpoint ON deployments (endpoint, id);
CREATE INDEX deployments_pending ON deployments (state) WHERE state = 'pending';

CREATE TABLE replicas (
    id           TEXT PRIMARY KEY,              -- 32 hex digits
    endpoint     INTEGER NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
    version      INTEGER NOT NULL REFERENCES model_versions(id),
    secret       TEXT NOT NULL,                 -- what the worker shows to the gateway
    state        TEXT NOT NULL,
    reason       TEXT,
    message      TEXT,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX replicas_endpoint ON replicas (endpoint, version);
CREATE INDEX replicas_version ON replicas (version);

-- Environments, jobs, runs, their nodes, metrics and weights generations.

-- An environment is immutable: creating one of an existing name with other content makes a new version.
CREATE TABLE environments (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,               -- python
    requirements_cpu TEXT NOT NULL,   -- text of the requirements file
    requirements_gpu TEXT NOT NULL,
    digest_cpu TEXT NOT NULL,         -- 64 hex digits: directory of the build, see environment_builds
    digest_gpu TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (project, name, version)
) STRICT;

-- A build on this machine, shared by all environments of equal content.
CREATE TABLE environment_builds (
    digest TEXT PRIMARY KEY,
    state INTEGER NOT NULL,           -- enum build_state
    reason TEXT NOT NULL,
    message TEXT,
    requirements TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,         -- JSON: the defaults of its runs
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (project, name)
) STRICT;

CREATE TABLE job_code (
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    note TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (job_id, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_code_digest ON job_code (digest);

CREATE TABLE runs (
    id TEXT PRIMARY KEY,              -- 32 hex digits, sort by time of creation
    project TEXT NOT NULL,
    name TEXT,
    job TEXT,                         -- name; the job may be gone
    job_code INTEGER,                 -- number of the job's code version
    code TEXT,                        -- digest of the code archive
    model TEXT,
    state INTEGER NOT NULL,           -- enum run_state
    reason TEXT NOT NULL,             -- why it is in that state, a snake_case word
    message TEXT,                     -- the same for people
    attempt INTEGER NOT NULL DEFAULT 1,
    failures INTEGER NOT NULL DEFAULT 0, -- attempts that failed; at most `retries` of them are repeated
    retries INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL DEFAULT 0,
    nodes INTEGER NOT NULL DEFAULT 1,
    cpus REAL NOT NULL,               -- per node, as the three below
    memory INTEGER NOT NULL,
    gpus INTEGER NOT NULL,
    gpu_memory INTEGER NOT NULL,
    timeout_ms INTEGER NOT NULL,
    stop_requested INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,   -- queued for a new attempt: no earlier than this; 0: at once
    exit_code INTEGER,
    spec TEXT NOT NULL,               -- JSON: everything that was decided at submission
    labels TEXT,                      -- JSON object of strings
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    started_at INTEGER NOT NULL DEFAULT 0,  -- of the newest attempt
    ended_at INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_project ON runs (project, id);
CREATE INDEX runs_live ON runs (state, id) WHERE state IN (0, 1, 2);
CREATE INDEX runs_job ON runs (project, job, id);
CREATE INDEX runs_code ON runs (code);

CREATE TABLE run_nodes (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    node INTEGER NOT NULL,
    role TEXT NOT NULL,
    state INTEGER NOT NULL,           -- enum node_state
    gpus TEXT,                        -- devices: "0,1"
    intake_offset INTEGER NOT NULL DEFAULT 0,   -- bytes of intake.jsonl that are stored
    intake_sequence INTEGER NOT NULL DEFAULT 0, -- number of the last line of them
    warnings INTEGER NOT NULL DEFAULT 0,
    last_step REAL,
    exit TEXT,                        -- JSON: the exit record
    stats TEXT,                       -- JSON: newest resource use
    launched_at INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, attempt, node)
) STRICT, WITHOUT ROWID;

-- One series for each name, node and attempt; a point is about 25 bytes.
CREATE TABLE metric_series (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    node INTEGER NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (run_id, name, attempt, node)
) STRICT;

CREATE TABLE metric_points (
    series_id INTEGER NOT NULL REFERENCES metric_series (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,        -- number of the intake line: order and identity of the point
    step REAL,                        -- NULL: the line had none
    time INTEGER NOT NULL,
    value REAL,                       -- NULL: not a finite number
    PRIMARY KEY (series_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_weights (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,      -- of the run, from 1, over all attempts and nodes
    attempt INTEGER NOT NULL,
    node INTEGER NOT NULL,
    node_generation INTEGER NOT NULL, -- as the monitor numbered it
    name TEXT NOT NULL,               -- as the program called the file
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    step REAL,                        -- of the newest metric before it
    created_at INTEGER NOT NULL,
    PRIMARY KEY (run_id, generation),
    UNIQUE (run_id, attempt, node, node_generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_weights_digest ON run_weights (digest);

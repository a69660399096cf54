-- How many replicas a version that follows its load is to have, and why. Written with each decision, so that the next
-- daemon goes on with it.
CREATE TABLE endpoint_scaling (
    endpoint       INTEGER NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
    version        INTEGER NOT NULL REFERENCES model_versions(id) ON DELETE CASCADE,
    wished         INTEGER NOT NULL,            -- replicas
    decision       TEXT,                        -- JSON: the last one, with what it saw; NULL: none yet
    cold_starts    INTEGER NOT NULL DEFAULT 0,  -- from no replica to one, because a request came
    cold_start_ms  INTEGER,                     -- of the last: from the request to the replica
    cold_total_ms  INTEGER NOT NULL DEFAULT 0,  -- of all of them
    PRIMARY KEY (endpoint, version)
) STRICT, WITHOUT ROWID;

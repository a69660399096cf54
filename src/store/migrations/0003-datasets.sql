-- Datasets, their immutable versions, the files of each, and who uses them.
CREATE TABLE datasets (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name),
    name TEXT NOT NULL,
    last_version INTEGER NOT NULL DEFAULT 0, -- numbers are never used twice
    created_at INTEGER NOT NULL,
    UNIQUE (project, name)
) STRICT;

CREATE TABLE dataset_versions (
    id INTEGER PRIMARY KEY,
    dataset INTEGER NOT NULL REFERENCES datasets (id),
    version INTEGER NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    size INTEGER NOT NULL, -- bytes of all files
    row_count INTEGER,     -- NULL: unknown
    schema TEXT,           -- JSON: columns, statistics; NULL: none
    lineage TEXT,          -- JSON: sources, options, run, parents
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (dataset, version)
) STRICT;

CREATE TABLE dataset_files (
    version_id INTEGER NOT NULL REFERENCES dataset_versions (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (version_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX dataset_files_digest ON dataset_files (digest);

CREATE TABLE dataset_uses (
    version_id INTEGER NOT NULL REFERENCES dataset_versions (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,    -- run, model, endpoint
    address TEXT NOT NULL,
    active INTEGER NOT NULL,
    PRIMARY KEY (version_id, kind, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX dataset_uses_user ON dataset_uses (kind, address);

CREATE TABLE dataset_parents (
    version_id INTEGER NOT NULL REFERENCES dataset_versions (id) ON DELETE CASCADE,
    parent TEXT NOT NULL,  -- "project:digits@1"
    PRIMARY KEY (version_id, parent)
) STRICT, WITHOUT ROWID;
CREATE INDEX dataset_parents_parent ON dataset_parents (parent);

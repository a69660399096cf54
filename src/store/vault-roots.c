#include "store/vault-roots.h"
#include "util/cleanup.h"

/* "project:name", without the prefix for the project that is meant where none is named. */
#define ADDRESS(table)                                                                                                 \
    "CASE " table ".project WHEN 'default' THEN '' ELSE " table ".project || ':' END || " table ".name"

const struct vault_root vault_roots[] = {
    {"pin", "SELECT digest, owner AS address FROM pins"},
    {"dataset", "SELECT f.digest AS digest, " ADDRESS(
                    "d") " || '@' || v.version AS address FROM dataset_files f "
                         "JOIN dataset_versions v ON v.id = f.version_id JOIN datasets d ON d.id = v.dataset"},
    {"job", "SELECT c.digest AS digest, " ADDRESS("j") " || '@' || c.version AS address FROM job_code c "
                                                       "JOIN jobs j ON j.id = c.job_id"},
    {"run", "SELECT code AS digest, id AS address FROM runs WHERE code IS NOT NULL"},
    {"weights", "SELECT digest, run_id || ' generation ' || generation AS address FROM run_weights"},
    {"model", "SELECT c.digest AS digest, " ADDRESS("m") " || '@' || c.number || '.*' AS address FROM model_code c "
                                                         "JOIN models m ON m.id = c.model"},
    {"model", "SELECT w.digest AS digest, " ADDRESS("m") " || '@*.' || w.number AS address FROM model_weights w "
                                                         "JOIN models m ON m.id = w.model"},
    {"requests", "SELECT s.digest AS digest, e.name || ' segment ' || s.id AS address FROM request_segments s "
                 "JOIN endpoints e ON e.id = s.endpoint"},
};
const size_t vault_roots_count = ARRAY_SIZE(vault_roots);

#include "store/migrations.h"
#include "store/migrations-stamp.h"
#include "util/embed.h"

EMBED(migration_0001, "src/store/migrations/0001-store.sql");
EMBED(migration_0002, "src/store/migrations/0002-access.sql");
EMBED(migration_0003, "src/store/migrations/0003-datasets.sql");
EMBED(migration_0004, "src/store/migrations/0004-runs.sql");
EMBED(migration_0005, "src/store/migrations/0005-models.sql");
EMBED(migration_0006, "src/store/migrations/0006-traffic.sql");
EMBED(migration_0007, "src/store/migrations/0007-scaling.sql");
EMBED(migration_0008, "src/store/migrations/0008-quotas.sql");
EMBED(migration_0009, "src/store/migrations/0009-requests.sql");

const struct migration migrations[] = {
    {1, "store", embedded_migration_0001},    {2, "access", embedded_migration_0002},
    {3, "datasets", embedded_migration_0003}, {4, "runs", embedded_migration_0004},
    {5, "models", embedded_migration_0005},   {6, "traffic", embedded_migration_0006},
    {7, "scaling", embedded_migration_0007},  {8, "quotas", embedded_migration_0008},
    {9, "requests", embedded_migration_0009},
};
const size_t migrations_count = ARRAY_SIZE(migrations);

#include "store/migrations.h"
#include "store/migrations-stamp.h"
#include "util/embed.h"

EMBED(migration_0001, "src/store/migrations/0001-store.sql");
EMBED(migration_0002, "src/store/migrations/0002-access.sql");

const struct migration migrations[] = {
    {1, "store", embedded_migration_0001},
    {2, "access", embedded_migration_0002},
};
const size_t migrations_count = ARRAY_SIZE(migrations);

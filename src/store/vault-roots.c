#include "store/vault-roots.h"
#include "util/cleanup.h"

const struct vault_root vault_roots[] = {
    {"pin", "SELECT digest, owner AS address FROM pins"},
};
const size_t vault_roots_count = ARRAY_SIZE(vault_roots);

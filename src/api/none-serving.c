#include "schedule/serving.h"

int serving_new(struct store *store, struct orchestrator *orchestrator, const struct serving_options *options,
                struct serving **ret_serving, struct error *error)
{
    *ret_serving = NULL;
    return 0;
}

struct serving *serving_free(struct serving *serving)
{
    return NULL;
}

const char *serving_url(const struct serving *serving)
{
    return NULL;
}

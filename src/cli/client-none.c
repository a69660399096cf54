#include "cli/client.h"
#include "util/xalloc.h"

struct client {
    int none;
};

struct client *client_new(const struct client_options *options)
{
    return xnew0(struct client);
}

struct client *client_free(struct client *client)
{
    free(client);
    return NULL;
}

static int fail(struct error *error)
{
    return error_set(error, ERROR_UNSUPPORTED, "there is no HTTP client in this build");
}

int client_get(struct client *client, const char *path, json_t *query, json_t **ret_reply, struct error *error)
{
    return fail(error);
}

int client_list(struct client *client, const char *path, json_t *query, size_t max, json_t **ret_items,
                struct error *error)
{
    return fail(error);
}

const char *client_hint(const struct client *client)
{
    return NULL;
}

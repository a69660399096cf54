#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "cli/client.h"
#include "cli/command.h"
#include "util/xalloc.h"

#define SHOWN_DEFAULT   50
#define RECONNECT_TRIES 60 /* half a second apart: as long as a daemon may take to come back */

static const struct table_column event_columns[] = {
    {"NUMBER", "sequence", TABLE_NUMBER},
    {"TIME", "time", TABLE_TIME},
    {"TYPE", "type"},
    {"SUBJECT", "subject"},
    {"ACTOR", "actor"},
    {},
};

static json_t *filter_query(const struct invocation *invocation)
{
    json_t *query = json_object();
    static const char *const names[] = {"type", "subject"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (option_value(invocation, names[i]))
            json_set_string(query, names[i], option_value(invocation, names[i]));
    return query;
}

static int list_events(struct invocation *invocation, int64_t after, int64_t limit, struct error *error)
{
    json_t *query = filter_query(invocation);
    cleanup_json json_t *page = NULL, *items = NULL;

    if (option_value(invocation, "after")) {
        cleanup_free char *cursor = xasprintf("%" PRId64, after);

        json_set_string(query, "after", cursor);
        if (client_list(invocation->client, "/api/v1/events", query, (size_t)limit, &items, error) < 0)
            return -1;
        print_items(invocation, event_columns, items, "nothing happened since");
        return 0;
    }
    json_set_bool(query, "newest", true);
    json_set_int(query, "limit", limit);
    if (client_get(invocation->client, "/api/v1/events", query, &page, error) < 0)
        return -1;
    print_items(invocation, event_columns, json_object_get(page, "items"), "nothing has happened yet");
    return 0;
}

/* -- following -- */

struct following {
    const struct invocation *invocation;
    int64_t after; /* -1: from now on */
    bool received;
};

static int on_event(void *userdata, json_t *event)
{
    struct following *following = userdata;

    following->after = json_get_int(event, "sequence", following->after);
    following->received = true;
    if (following->invocation->json) {
        print_json_line(event);
        return 0;
    }
    for (size_t i = 0; event_columns[i].title; i++) {
        cleanup_free char *cell = table_cell(&event_columns[i], event);
        static const int widths[] = {7, 19, 34, 40, 0};

        printf("%*s%s", i == 0 ? widths[i] : -widths[i], cell ? cell : "-", event_columns[i + 1].title ? "  " : "\n");
    }
    fflush(stdout);
    return 0;
}

/* A daemon that is restarted meanwhile loses us nothing: we go on behind the last number. */
static int follow_events(struct invocation *invocation, int64_t after, struct error *error)
{
    struct following following = {invocation, after, false};
    const struct timespec pause = {0, 500000000};

    for (int tries = 0;; tries++) {
        cleanup_error struct error local = ERROR_INIT;
        json_t *query = filter_query(invocation);

        if (following.after >= 0)
            json_set_int(query, "after", following.after);
        following.received = false;
        if (client_follow(invocation->client, "/api/v1/events/follow", query, on_event, &following, &local) == 0)
            return 0;
        if (following.received)
            tries = 0;
        if (local.code != ERROR_UNAVAILABLE || tries >= RECONNECT_TRIES ||
            (tries == 0 && following.after < 0 && !following.received)) {
            error_move(error, &local);
            return -1;
        }
        nanosleep(&pause, NULL);
    }
}

static int run_events(struct invocation *invocation, struct error *error)
{
    int64_t after = -1, limit = SHOWN_DEFAULT;

    if (option_int(invocation, "after", 0, INT64_MAX, &after, error) < 0 ||
        option_int(invocation, "limit", 1, 1000000, &limit, error) < 0)
        return -1;
    if (option_flag(invocation, "follow"))
        return follow_events(invocation, after, error);
    return list_events(invocation, after, limit, error);
}

static const struct option events_options[] = {
    {"follow", 'f', NULL, "go on with what happens from now on"},
    {"after", 'a', "NUMBER", "begin behind this event"},
    {"limit", 'n', "COUNT", "how many (50)"},
    {"type", 't', "PREFIX", "only these, e.g. slipway.run."},
    {"subject", 's', "SUBJECT", "only of this object, e.g. dataset/digits@3"},
    {},
};

const struct command events_commands[] = {
    {"events", NULL, "show what happened: the newest events, or all behind a number", events_options, run_events,
     .details = "Events have numbers without gaps. With --follow --after NUMBER nothing is lost or repeated, also "
                "when the daemon restarts meanwhile.",
     .examples = "slipway events --follow --type slipway.run.\nslipway events --after 100 --json"},
    {},
};

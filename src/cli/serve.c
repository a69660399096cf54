/*
 * slipway serve: the daemon.
 */
#include "api/daemon.h"
#include "cli/command.h"
#include "config.h"
#include <string.h>
#include "util/log.h"
#include "util/parse.h"
#include "util/xalloc.h"

#define DEFAULT_LISTEN "127.0.0.1:8470"
#define DEFAULT_SERVE  "127.0.0.1:8480"

static const struct option serve_options[] = {
    {"listen", 'l', "ADDRESS", "address of the control port (" DEFAULT_LISTEN "); none: the Unix socket only", true},
    {"serve", 's', "ADDRESS", "address of the serving port (" DEFAULT_SERVE "); none: no endpoints"},
    {"tls-cert", 0, "FILE", "certificate chain of both ports (PEM)"},
    {"tls-key", 0, "FILE", "its private key (PEM)"},
    {"insecure", 0, NULL, "allow ports that other machines reach without TLS"},
    {"hot", 0, "DIR", "directory in memory for data in use (a private one under /dev/shm)"},
    {"hot-size", 0, "BYTES", "how much of it to use (half of what is free)"},
    {"engine", 0, "NAME", "where runs run: auto, local, process, fake, disabled (auto)"},
    {"python", 0, "FILE", "base interpreter of Python environments"},
    {"long-run", 0, "TIME", "running time after which a run gives way to others (5h)"},
    {"verbose", 'v', NULL, "log every step"},
    {0},
};

static bool is_none(const char *address)
{
    return strcmp(address, "none") == 0;
}

static void choose_listeners(const struct invocation *invocation, struct strvec *into)
{
    const struct strvec *given = option_values(invocation, "listen");

    if (!given || given->count == 0)
        strvec_push(into, DEFAULT_LISTEN);
    for (size_t i = 0; given && i < given->count; i++)
        if (!is_none(given->items[i]))
            strvec_push(into, given->items[i]);
}

/* People read it, and scripts wait for its last line. */
static void announce(const struct invocation *invocation, const struct daemon *daemon)
{
    if (invocation->json) {
        cleanup_json json_t *ready = json_build("{s:s, s:[]}", "status", "ready", "listening");

        for (size_t i = 0; i < daemon->urls.count; i++)
            json_array_append_new(json_object_get(ready, "listening"), json_string(daemon->urls.items[i]));
        json_set_string(ready, "serving", daemon->serve_url);
        json_set_string(ready, "data", daemon->store->directory);
        print_json_line(ready);
        return;
    }
    printf("slipway %s\n", SLIPWAY_VERSION);
    printf("data       %s\n", daemon->store->directory);
    for (size_t i = 0; i < daemon->urls.count; i++)
        printf("listening  %s\n", daemon->urls.items[i]);
    if (daemon->serve_url)
        printf("serving    %s\n", daemon->serve_url);
    puts("ready");
    fflush(stdout);
}

static int serve(struct invocation *invocation, struct error *error)
{
    cleanup_free char *data = invocation_data_directory(invocation);
    cleanup_strvec struct strvec listen = STRVEC_INIT;
    cleanup_daemon struct daemon *daemon = NULL;
    const char *serve_address = option_value(invocation, "serve") ?: DEFAULT_SERVE;
    const char *hot_size = option_value(invocation, "hot-size");
    struct daemon_options options = {
        .data_directory = data,
        .hot_directory = option_value(invocation, "hot"),
        .listen = &listen,
        .serve = is_none(serve_address) ? NULL : serve_address,
        .certificate = option_value(invocation, "tls-cert"),
        .key = option_value(invocation, "tls-key"),
        .engine = option_value(invocation, "engine"),
        .python = option_value(invocation, "python"),
        .insecure = option_flag(invocation, "insecure"),
    };

    if (hot_size && parse_bytes(hot_size, &options.hot_budget, error) < 0)
        return error_wrap(error, "--hot-size");
    if (option_duration_ms(invocation, "long-run", &options.long_run_ms, error) < 0)
        return -1;
    if (option_flag(invocation, "verbose"))
        log_set_level(LOG_DEBUG);
    choose_listeners(invocation, &listen);
    if (daemon_new(&options, &daemon, error) < 0)
        return -1;
    announce(invocation, daemon);
    daemon_run(daemon);
    return 0;
}

const struct command serve_commands[] = {
    {"serve", NULL, "run the daemon", serve_options, serve, .offline = true,
     .details =
         "Keeps everything in one data directory (--data) and answers on the Unix socket in it, which needs no token "
         "for root and its own user, and on the control port, which always needs one. Runs go on when the daemon "
         "stops. The last line it prints once it answers is 'ready'.",
     .examples =
         "slipway serve\n"
         "slipway serve --data /srv/slipway --listen '*:8470' --serve '*:8480' --tls-cert c.pem --tls-key k.pem"},
    {0},
};

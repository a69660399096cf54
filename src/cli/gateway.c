#include "cli/gateway.h"
#include "gateway/gateway.h"
#include "util/parse.h"

static const struct option gateway_options[] = {
    {"directory", 'd', "DIR", "where control.sock and worker.sock are made", false},
    {"listen", 'l', "ADDRESS", "serve here, e.g. 127.0.0.1:8480", true},
    {"unix", 0, "PATH", "also serve on a Unix socket", false},
    {"certificate", 0, "FILE", "TLS certificate, PEM", false},
    {"key", 0, "FILE", "TLS key, PEM", false},
    {"introspect", 0, "URL", "introspection server: unix:PATH (with --user relative to DIR) or an http URL", false},
    {"introspect-token", 0, "TOKEN", "bearer token for the introspection server", false},
    {"token-ttl", 0, "TIME", "most time that a good token is remembered (60s)", false},
    {"user", 0, "UID", "become this user when the sockets are open", false},
    {"grace", 0, "TIME", "for running requests at SIGTERM (30s)", false},
    {},
};

static int run_gateway(struct invocation *invocation, struct error *error)
{
    struct gateway_options options = GATEWAY_OPTIONS_INIT;

    options.directory = option_value(invocation, "directory");
    if (!options.directory)
        return error_set(error, ERROR_INVALID, "--directory is needed");
    options.listen = (const char *const *)option_values(invocation, "listen")->items;
    options.unix_path = option_value(invocation, "unix");
    options.certificate = option_value(invocation, "certificate");
    options.key = option_value(invocation, "key");
    options.introspect = option_value(invocation, "introspect");
    options.introspect_token = option_value(invocation, "introspect-token");
    if (option_value(invocation, "user")) {
        int64_t user;

        if (parse_int(option_value(invocation, "user"), 1, UINT32_MAX - 1, &user, error) < 0)
            return error_wrap(error, "--user");
        options.user = (uid_t)user;
    }
    if (option_duration_ms(invocation, "token-ttl", &options.token_ttl_ms, error) < 0 ||
        option_duration_ms(invocation, "grace", &options.grace_ms, error) < 0)
        return -1;
    return gateway_run(&options, error);
}

const struct command gateway_commands[] = {
    {"gateway", NULL, "serve models; started by the daemon", gateway_options, run_gateway, .offline = true,
     .hidden = true},
    {},
};

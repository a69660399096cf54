/*
 * The gateway with all of its parts but workers: up to the first NUL the input is lines of the control socket,
 * what follows is one client's bytes. A configuration is taken whole or not at all, and requests that no replica
 * answers end when their client leaves.
 */
#include "fuzz-socket.h"
#include "gateway/gateway.h"
#include "gateway/listener.h"
#include "util/log.h"

struct fixture {
    struct gateway gateway;
    struct gateway_options options;
    char *control, *http;
};

static const char configuration[] =
    "{\"op\":\"configure\",\"endpoints\":[{\"name\":\"digits\",\"model\":\"vision/digits\",\"public\":true,"
    "\"routes\":[{\"version\":\"7\",\"code_weights\":\"3.5\",\"scale\":{\"queue_time_ms\":1,\"to_zero\":true},"
    "\"replicas\":[]},{\"version\":\"8\",\"weight\":0,"
    "\"replicas\":[{\"id\":\"0123456789abcdef0123456789abcdef\",\"key\":\"k\"}]}]},"
    "{\"name\":\"private\",\"sticky\":\"X\",\"routes\":[{\"version\":\"1\",\"replicas\":[]},{\"version\":\"2\","
    "\"shadow\":true,\"sample\":0.5,\"tolerance\":0.1,\"against\":\"1\",\"replicas\":[]}]}]}\n";

static struct fixture *start(void)
{
    struct fixture *fixture = xnew0(struct fixture);
    struct gateway *gateway = &fixture->gateway;

    log_set_level(LOG_ERROR);
    fixture->control = fs_join(fuzz_directory(), "control.sock");
    fixture->http = fs_join(fuzz_directory(), "http.sock");
    fixture->options = (struct gateway_options)GATEWAY_OPTIONS_INIT;
    fixture->options.directory = fuzz_directory();
    fixture->options.unix_path = fixture->http;
    gateway->options = &fixture->options;
    gateway->loop = loop_new();
    routes_init(&gateway->routes);
    list_init(&gateway->copies);
    if (bearer_new(gateway, &gateway->auth, NULL) < 0 || listener_open(gateway, NULL) < 0 ||
        control_open(gateway, fixture->control, &gateway->control, NULL) < 0)
        abort();
    return fixture;
}

static void send_control(struct fixture *fixture, const uint8_t *lines, size_t length)
{
    static const uint8_t status[] = "{\"op\":\"status\"}\n";
    struct loop *loop = fixture->gateway.loop;
    int fd = fuzz_connect(fixture->control);

    loop_run_once(loop, 0);
    if (fuzz_send(loop, fd, lines, length) && fuzz_send(loop, fd, (const uint8_t *)"\n", 1))
        fuzz_send(loop, fd, status, sizeof(status) - 1);
    loop_run_once(loop, 0);
    fuzz_drain(fd);
    close(fd);
    loop_run_once(loop, 0);
}

static void send_http(struct fixture *fixture, const uint8_t *data, size_t length)
{
    struct loop *loop = fixture->gateway.loop;
    int fd = fuzz_connect(fixture->http);

    if (fuzz_send(loop, fd, data, length))
        loop_run_once(loop, 0);
    close(fd);
    for (int i = 0; i < 20 && loop_server_connections(fixture->gateway.server); i++)
        loop_run_once(loop, 0);
    if (loop_server_connections(fixture->gateway.server) || loop_server_pending(fixture->gateway.server))
        abort();
}

static void check_idle(const struct gateway *gateway)
{
    struct map_iterator it = {0};

    while (map_next(&gateway->routes.endpoints, &it)) {
        const struct endpoint *endpoint = it.value;
        const struct route *route;

        list_for_each(route, &endpoint->routes, link) {
            if (route->queue.count || route->queue.occupied || route->n_running)
                abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fixture *fixture;
    size_t lines = size ? strnlen((const char *)data, size) : 0;

    if (!fixture)
        fixture = start();
    send_control(fixture, (const uint8_t *)configuration, sizeof(configuration) - 1);
    if (map_count(&fixture->gateway.routes.endpoints) != 2)
        abort();
    if (lines)
        send_control(fixture, data, lines);
    if (lines < size)
        send_http(fixture, data + lines + 1, size - lines - 1);
    check_idle(&fixture->gateway);
    routes_release(&fixture->gateway.routes);
    routes_init(&fixture->gateway.routes);
    return 0;
}

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include "load/generator.h"
#include "util/clock.h"
#include "util/test.h"

/* A server of its own kind: a thread a connection; the path chooses the behaviour. */
struct server {
    int fd;
    char port[8];
    pthread_t thread;
};

static const char *answer_for(const char *path)
{
    if (strncmp(path, "/chunked", 8) == 0)
        return "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    if (strncmp(path, "/close", 6) == 0)
        return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    if (strncmp(path, "/garbage", 8) == 0)
        return "SMTP ready, at your service\r\n\r\n";
    if (strncmp(path, "/hang", 5) == 0)
        return "";
    return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
}

static void *serve_connection(void *userdata)
{
    int fd = (int)(intptr_t)userdata;
    char buffer[4096];
    ssize_t n;

    while ((n = recv(fd, buffer, sizeof(buffer) - 1, 0)) > 0) {
        const char *answer;

        buffer[n] = '\0';
        answer = answer_for(strchr(buffer, ' ') ? strchr(buffer, ' ') + 1 : "");
        if (strlen(answer) && send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
            break;
        if (strstr(answer, "close"))
            break;
    }
    close(fd);
    return NULL;
}

static void *accept_connections(void *userdata)
{
    struct server *server = userdata;
    int fd;

    while ((fd = accept(server->fd, NULL, NULL)) >= 0) {
        pthread_t thread;

        pthread_create(&thread, NULL, serve_connection, (void *)(intptr_t)fd);
        pthread_detach(thread);
    }
    return NULL;
}

static int setup(void **state)
{
    struct server *server = xnew0(struct server);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(server->fd, 100), 0);
    getsockname(server->fd, (struct sockaddr *)&address, &length);
    snprintf(server->port, sizeof(server->port), "%d", ntohs(address.sin_port));
    pthread_create(&server->thread, NULL, accept_connections, server);
    *state = server;
    return 0;
}

static int teardown(void **state)
{
    struct server *server = *state;

    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->fd);
    free(server);
    return 0;
}

static struct load_request get(void *userdata, int64_t when)
{
    const char *text = userdata;

    return (struct load_request){text, strlen(text)};
}

static struct load_options options_for(struct server *server, const char *request)
{
    return (struct load_options){.host = "127.0.0.1",
                                 .port = server->port,
                                 .connections = 4,
                                 .count = 500,
                                 .rate = 5000,
                                 .timeout_ns = 60 * NS_PER_SEC,
                                 .next = get,
                                 .userdata = (void *)request};
}

static void run(struct load_options options, struct load_result *ret_result)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_ok(load_run(&options, ret_result, &error), &error);
    assert_int_equal(ret_result->arrivals, options.count);
    assert_int_equal(ret_result->answered + load_result_errors(ret_result), options.count);
}

static void test_each_kind_of_arrivals(void **state)
{
    static const enum load_arrivals kinds[] = {LOAD_POISSON, LOAD_CONSTANT, LOAD_CLOSED};

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct load_options options = options_for(*state, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        struct load_result result;

        options.arrivals = kinds[i];
        run(options, &result);
        assert_int_equal(result.statuses[200], 500);
        assert_int_equal(histogram_count(result.latency), 500);
        assert_int_equal(load_result_errors(&result), 0);
        assert_int_equal(histogram_count(result.late), kinds[i] == LOAD_CLOSED ? 0 : 500);
        load_result_release(&result);
    }
}

static void test_chunked_refusals_are_counted_apart(void **state)
{
    struct load_options options = options_for(*state, "GET /chunked HTTP/1.1\r\n\r\n");
    struct load_result result;

    run(options, &result);
    assert_int_equal(result.statuses[401], 500);
    assert_int_equal(histogram_count(result.latency), 0);
    assert_int_equal(histogram_count(result.refused), 500);
    load_result_release(&result);
}

static void test_reconnects_after_each_answer(void **state)
{
    struct load_options options = options_for(*state, "GET /close HTTP/1.1\r\n\r\n");
    struct load_result result;

    options.count = 20;
    run(options, &result);
    assert_int_equal(result.statuses[200], 20);
    load_result_release(&result);
}

static void test_garbage_and_silence_are_errors(void **state)
{
    struct load_options options = options_for(*state, "GET /garbage HTTP/1.1\r\n\r\n");
    struct load_result result;

    options.count = 20;
    run(options, &result);
    assert_int_equal(result.errors_protocol, 20);
    load_result_release(&result);

    options = options_for(*state, "GET /hang HTTP/1.1\r\n\r\n");
    options.count = 8;
    options.timeout_ns = 100 * NS_PER_MS;
    run(options, &result);
    assert_int_equal(result.errors_timeout, 8);
    load_result_release(&result);
}

/* Keeps the generator from its work for longer than the load lasts. */
static struct load_request stall(void *userdata, int64_t when)
{
    struct timespec pause = {.tv_nsec = 150 * NS_PER_MS};
    static const char text[] = "GET / HTTP/1.1\r\n\r\n";

    if (when == 0)
        nanosleep(&pause, NULL);
    return (struct load_request){text, strlen(text)};
}

static void test_late_arrivals_are_not_left_out(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct load_options options = options_for(*state, NULL);
    struct load_result result;

    options.arrivals = LOAD_CONSTANT;
    options.rate = 1000;
    options.count = 0;
    options.duration_ns = 100 * NS_PER_MS;
    options.next = stall;
    assert_ok(load_run(&options, &result, &error), &error);
    assert_int_equal(result.arrivals, 100);
    assert_int_equal(result.answered, 100);
    assert_true(histogram_max(result.latency) >= 140 * NS_PER_MS); /* from when it was meant to be sent */
    assert_true(histogram_max(result.late) >= 140 * NS_PER_MS); /* and whose fault it was is told */
    load_result_release(&result);
}

static int stop_at_once(void *userdata, int64_t elapsed_ns)
{
    return 1;
}

static void test_tick_ends_the_load(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct load_options options = options_for(*state, "GET / HTTP/1.1\r\n\r\n");
    struct load_result result;

    options.count = 0;
    options.tick = stop_at_once;
    options.tick_ns = 10 * NS_PER_MS;
    assert_ok(load_run(&options, &result, &error), &error);
    assert_true(result.arrivals < 5000);
    load_result_release(&result);
}

static void test_nobody_listens(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    struct load_options options = options_for(*state, "GET / HTTP/1.1\r\n\r\n");
    struct load_result result;

    options.port = "1";
    assert_error(load_run(&options, &result, &error), &error, ERROR_UNAVAILABLE, "no connection to 127.0.0.1");
    load_result_release(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind_of_arrivals),
        cmocka_unit_test(test_chunked_refusals_are_counted_apart),
        cmocka_unit_test(test_reconnects_after_each_answer),
        cmocka_unit_test(test_garbage_and_silence_are_errors),
        cmocka_unit_test(test_late_arrivals_are_not_left_out),
        cmocka_unit_test(test_tick_ends_the_load),
        cmocka_unit_test(test_nobody_listens),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

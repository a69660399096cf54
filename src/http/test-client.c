#include "util/test.h"
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include "http/client.h"
#include "http/server.h"
#include "http/websocket.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/net.h"
#include "util/strbuf.h"

static int echo(struct http_request *request, struct http_response *response, struct error *error)
{
    http_reply_json(response, 200,
                    json_build("{s:s, s:s, s:O}", "method", request->method, "name", http_path_param(request, "name"),
                               "body", request->json ? request->json : json_null()));
    return 0;
}

static int refuse(struct http_request *request, struct http_response *response, struct error *error)
{
    return error_set(error, ERROR_CONFLICT, "dataset %s is in use", http_path_param(request, "name"));
}

static int keep(struct http_request *request, struct http_response *response, struct error *error)
{
    http_reply_fd(response, 200, "application/octet-stream", steal_fd(&request->body_fd), request->body_size);
    return 0;
}

static int size(struct http_request *request, struct http_response *response, struct error *error)
{
    http_reply_json(response, 201, json_build("{s:I}", "size", (json_int_t)request->body_size));
    return 0;
}

static int blob(struct http_request *request, struct http_response *response, struct error *error)
{
    FILE *f = tmpfile();

    assert_int_equal(ftruncate(fileno(f), 3 * MIB), 0);
    http_reply_fd(response, 200, "application/octet-stream", dup(fileno(f)), 3 * MIB);
    fclose(f);
    return 0;
}

static int nothing(struct http_request *request, struct http_response *response, struct error *error)
{
    return 0;
}

struct stream {
    int64_t next, end;
    int mode;
};

static int pump(struct websocket *ws, void *userdata, struct error *error)
{
    struct stream *stream = userdata;

    if (stream->next > stream->end && stream->mode == 0)
        websocket_close(ws, WEBSOCKET_NORMAL, "end");
    if (stream->next > stream->end)
        return stream->mode == 1 ? error_set(error, ERROR_IO, "the disk is gone") : 0;
    for (int i = 0; i < 100 && stream->next <= stream->end; i++)
        websocket_send_json(ws,
                            json_build("{s:I, s:s}", "sequence", (json_int_t)stream->next++, "text", "some payload"));
    return 1;
}

static void message(struct websocket *ws, void *userdata, const char *text, size_t length)
{
    websocket_close(ws, WEBSOCKET_POLICY, text);
}

static const struct websocket_handler handler = {.pump = pump, .message = message, .close = free};

static int follow(struct http_request *request, struct http_response *response, struct error *error)
{
    struct stream *stream = xnew0(struct stream);

    stream->next = http_query_int(request, "after", 0) + 1;
    stream->end = http_query_int(request, "end", 10);
    stream->mode = (int)http_query_int(request, "mode", 0);
    return http_websocket_accept(request, response, &handler, stream, error);
}

static const struct http_query_row follow_query[] = {
    {"after", SCHEMA_INTEGER, NULL, "position"},
    {"end", SCHEMA_INTEGER, NULL, "last"},
    {"mode", SCHEMA_INTEGER, NULL, "0: ends normally; 1: fails; 2: stays"},
    {0},
};
static const struct schema any = {"Any", (const struct schema_field[]){{0}}, NULL, true};

static const struct http_route routes[] = {
    {"GET", "/echo/{name}", SCOPE_VIEW, echo, "echo"},
    {"DELETE", "/echo/{name}", SCOPE_VIEW, refuse, "refuse"},
    {"POST", "/echo/{name}", SCOPE_VIEW, echo, "echo", .request = &any},
    {"PUT", "/file", SCOPE_VIEW, keep, "file", .body = HTTP_BODY_FILE, .body_limit = 16 * MIB},
    {"POST", "/size", SCOPE_VIEW, size, "size", .body = HTTP_BODY_FILE, .body_limit = 16 * MIB},
    {"GET", "/blob", SCOPE_VIEW, blob, "blob"},
    {"POST", "/nothing", SCOPE_VIEW, nothing, "nothing"},
    {"GET", "/follow", SCOPE_VIEW, follow, "follow", .query = follow_query, .websocket = true},
    {0},
};
static const struct http_route *const tables[] = {routes, NULL};

static int authenticate(void *context, const char *token, const struct http_peer *peer, struct http_principal *ret,
                        struct error *error)
{
    if (!peer->is_local && (!token || strcmp(token, "good") != 0))
        return error_set(error, ERROR_UNAUTHENTICATED, "no good token");
    ret->name = xstrdup("test");
    ret->scope = SCOPE_VIEW;
    return 0;
}

struct fixture {
    char *directory, *tcp_url, *unix_url;
    struct http_server *server;
    struct http_client *client;
};

static int set_up(void **state)
{
    struct fixture *fixture = xnew0(struct fixture);
    struct error error = ERROR_INIT;
    cleanup_free char *deep = NULL, *socket = NULL;
    struct http_server_options options = {.routes = tables, .authenticate = authenticate};

    fixture->directory = test_directory_new();
    /* a socket's address holds 107 characters, a data directory's path may be longer */
    deep = xasprintf("%s/%0100d/%0100d", fixture->directory, 1, 2);
    assert_ok(fs_mkdir_all(deep, 0700, &error), &error);
    socket = fs_join(deep, "slipway.sock");
    options.spool_directory = fixture->directory;
    assert_ok(http_server_new(&options, &fixture->server, &error), &error);
    assert_ok(
        http_server_listen(fixture->server, &(struct http_listen){.unix_path = socket}, &fixture->unix_url, &error),
        &error);
    assert_ok(
        http_server_listen(fixture->server, &(struct http_listen){.address = "127.0.0.1:0"}, &fixture->tcp_url, &error),
        &error);
    assert_ok(http_server_start(fixture->server, &error), &error);
    assert_ok(http_client_new(&(struct http_client_options){.url = fixture->unix_url}, &fixture->client, &error),
              &error);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    http_client_free(fixture->client);
    http_server_free(fixture->server);
    free(fixture->unix_url);
    free(fixture->tcp_url);
    test_directory_remove(fixture->directory);
    free(fixture);
    return 0;
}

static void test_path(void **state)
{
    cleanup_free char *path = http_path("/a/%s/%p?limit=%d&x=%%", "b c/d", "e/\xc3\xbc", (int64_t)-5);

    assert_string_equal(path, "/a/b%20c%2Fd/e/%C3%BC?limit=-5&x=%");
}

static void test_json(void **state)
{
    struct fixture *fixture = *state;
    cleanup_json json_t *reply = NULL, *body = json_build("{s:[i, i]}", "a", 1, 2);
    cleanup_free char *path = http_path("/echo/%s", "x/y"), *text = NULL;
    struct error error = ERROR_INIT;

    assert_ok(http_client_request(fixture->client, "POST", path, body, &reply, &error), &error);
    text = json_text(reply);
    assert_string_equal(text, "{\"method\":\"POST\",\"name\":\"x/y\",\"body\":{\"a\":[1,2]}}");
}

static void test_empty_answer(void **state)
{
    struct fixture *fixture = *state;
    json_t *reply = json_true();
    struct error error = ERROR_INIT;

    assert_ok(http_client_request(fixture->client, "POST", "/nothing", NULL, &reply, &error), &error);
    assert_null(reply);
}

static void test_errors_travel(void **state)
{
    struct fixture *fixture = *state;
    struct http_client *client = NULL;
    struct error error = ERROR_INIT;

    assert_error(http_client_request(fixture->client, "DELETE", "/echo/d@3", NULL, NULL, &error), &error,
                 ERROR_CONFLICT, "dataset d@3 is in use");
    assert_error(http_client_request(fixture->client, "GET", "/none", NULL, NULL, &error), &error, ERROR_NOT_FOUND,
                 "nothing at /none");
    assert_ok(http_client_new(&(struct http_client_options){.url = fixture->tcp_url}, &client, &error), &error);
    assert_error(http_client_request(client, "GET", "/echo/a", NULL, NULL, &error), &error, ERROR_UNAUTHENTICATED,
                 "no good token");
    assert_error(http_client_follow(client, "/follow", NULL, NULL, &error), &error, ERROR_UNAUTHENTICATED,
                 "no good token");
    http_client_free(client);
    assert_ok(http_client_new(&(struct http_client_options){.url = fixture->tcp_url, .token = "good"}, &client, &error),
              &error);
    assert_ok(http_client_request(client, "GET", "/echo/a", NULL, NULL, &error), &error);
    http_client_free(client);
    assert_error(http_client_new(&(struct http_client_options){.url = "ftp://x"}, &client, &error), &error,
                 ERROR_INVALID, "'ftp://x' is no URL");
}

static void test_nobody_listens(void **state)
{
    struct http_client *client = NULL;
    struct error error = ERROR_INIT;

    assert_ok(http_client_new(&(struct http_client_options){.url = "unix:/nowhere/slipway.sock"}, &client, &error),
              &error);
    assert_error(http_client_request(client, "GET", "/", NULL, NULL, &error), &error, ERROR_UNAVAILABLE,
                 "/nowhere/slipway.sock");
    http_client_free(client);
    assert_ok(http_client_new(&(struct http_client_options){.url = "http://127.0.0.1:1"}, &client, &error), &error);
    assert_error(http_client_request(client, "GET", "/", NULL, NULL, &error), &error, ERROR_UNAVAILABLE,
                 "http://127.0.0.1:1");
    http_client_free(client);
}

static void on_progress(void *userdata, uint64_t done, uint64_t total)
{
    uint64_t *last = userdata;

    assert_true(done >= last[0]);
    last[0] = done;
    last[1] = total;
}

static void test_upload_and_download(void **state)
{
    struct fixture *fixture = *state;
    cleanup_fclose FILE *in = tmpfile(), *out = tmpfile();
    uint64_t last[2] = {0, 0}, bytes = 0;
    cleanup_json json_t *reply = NULL;
    struct error error = ERROR_INIT;

    assert_int_equal(ftruncate(fileno(in), 5 * MIB), 0);
    assert_ok(
        http_client_upload(fixture->client, "POST", "/size", fileno(in), 5 * MIB, on_progress, last, &reply, &error),
        &error);
    assert_int_equal(json_get_int(reply, "size", 0), 5 * MIB);
    assert_int_equal(last[0], 5 * MIB);
    assert_int_equal(last[1], 5 * MIB);

    last[0] = 0;
    assert_ok(http_client_download(fixture->client, "/blob", fileno(out), on_progress, last, &bytes, &error), &error);
    assert_int_equal(bytes, 3 * MIB);
    assert_int_equal(lseek(fileno(out), 0, SEEK_END), 3 * MIB);
}

static void test_upload_of_unknown_size(void **state)
{
    struct fixture *fixture = *state;
    cleanup_fclose FILE *in = tmpfile();
    cleanup_json json_t *reply = NULL;
    struct error error = ERROR_INIT;

    assert_int_equal(ftruncate(fileno(in), 2 * MIB + 7), 0);
    assert_ok(http_client_upload(fixture->client, "POST", "/size", fileno(in), UINT64_MAX, NULL, NULL, &reply, &error),
              &error);
    assert_int_equal(json_get_int(reply, "size", 0), 2 * MIB + 7);
}

static void test_upload_over_the_limit(void **state)
{
    struct fixture *fixture = *state;
    cleanup_fclose FILE *in = tmpfile();
    struct error error = ERROR_INIT;

    assert_int_equal(ftruncate(fileno(in), 40 * MIB), 0);
    assert_error(http_client_upload(fixture->client, "POST", "/size", fileno(in), 40 * MIB, NULL, NULL, NULL, &error),
                 &error, ERROR_TOO_LARGE, "larger than 16777216 bytes");
    assert_error(http_client_upload(fixture->client, "POST", "/size", fileno(in), UINT64_MAX, NULL, NULL, NULL, &error),
                 &error, ERROR_TOO_LARGE, "larger than 16777216 bytes");
}

static void test_file_that_shrinks(void **state)
{
    struct fixture *fixture = *state;
    cleanup_fclose FILE *in = tmpfile();
    struct error error = ERROR_INIT;

    assert_int_equal(ftruncate(fileno(in), 1000), 0);
    assert_error(http_client_upload(fixture->client, "POST", "/size", fileno(in), 2000, NULL, NULL, NULL, &error),
                 &error, ERROR_CONFLICT, "became shorter");
}

/* -- following -- */

struct seen {
    int64_t first, last, count, stop_at;
};

static int on_message(void *userdata, const char *text, size_t length)
{
    struct seen *seen = userdata;
    cleanup_json json_t *event = json_parse(text, length, NULL);
    int64_t sequence = json_get_int(event, "sequence", -1);

    if (seen->count && sequence != seen->last + 1)
        fail_msg("%lld follows %lld", (long long)sequence, (long long)seen->last);
    if (seen->count == 0)
        seen->first = sequence;
    seen->last = sequence;
    seen->count++;
    return seen->stop_at == sequence;
}

static void test_follow_to_the_end(void **state)
{
    struct fixture *fixture = *state;
    struct seen seen = {0};
    struct error error = ERROR_INIT;

    /* more than the backlog: the pump must wait for us */
    assert_ok(http_client_follow(fixture->client, "/follow?after=5&end=200000", on_message, &seen, &error), &error);
    assert_int_equal(seen.first, 6);
    assert_int_equal(seen.last, 200000);
    assert_int_equal(seen.count, 199995);
}

static void test_follow_stops_and_resumes(void **state)
{
    struct fixture *fixture = *state;
    struct seen seen = {.stop_at = 7};
    struct error error = ERROR_INIT;

    assert_ok(http_client_follow(fixture->client, "/follow?end=10", on_message, &seen, &error), &error);
    assert_int_equal(seen.count, 7);
    assert_ok(http_client_follow(fixture->client, "/follow?after=7&end=10", on_message, &seen, &error), &error);
    assert_int_equal(seen.count, 10);
}

static void test_follow_that_fails(void **state)
{
    struct fixture *fixture = *state;
    struct seen seen = {0};
    struct error error = ERROR_INIT;

    assert_error(http_client_follow(fixture->client, "/follow?end=3&mode=1", on_message, &seen, &error), &error,
                 ERROR_INTERNAL, "the disk is gone");
    assert_int_equal(seen.count, 3);
}

static void *cancel_soon(void *userdata)
{
    struct timespec pause = {0, 100 * NS_PER_MS};

    nanosleep(&pause, NULL);
    http_client_cancel(userdata);
    return NULL;
}

static void test_cancel(void **state)
{
    struct fixture *fixture = *state;
    struct http_client *client = NULL;
    struct seen seen = {0};
    struct error error = ERROR_INIT;
    pthread_t thread;

    assert_ok(http_client_new(&(struct http_client_options){.url = fixture->unix_url}, &client, &error), &error);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, client), 0);
    assert_error(http_client_follow(client, "/follow?end=3&mode=2", on_message, &seen, &error), &error, ERROR_CANCELLED,
                 "cancelled");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(seen.count, 3);
    assert_error(http_client_request(client, "GET", "/echo/a", NULL, NULL, &error), &error, ERROR_CANCELLED,
                 "cancelled");
    http_client_free(client);
}

static void *stop_server(void *userdata)
{
    struct fixture *fixture = userdata;
    struct timespec pause = {0, 100 * NS_PER_MS};

    nanosleep(&pause, NULL);
    fixture->server = http_server_free(fixture->server);
    return NULL;
}

/* Last: the server is gone afterwards. */
static void test_server_goes_away(void **state)
{
    struct fixture *fixture = *state;
    struct seen seen = {0};
    struct error error = ERROR_INIT;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, stop_server, fixture), 0);
    assert_error(http_client_follow(fixture->client, "/follow?end=3&mode=2", on_message, &seen, &error), &error,
                 ERROR_UNAVAILABLE, "broke");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(seen.count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_empty_answer),
        cmocka_unit_test(test_errors_travel),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_upload_and_download),
        cmocka_unit_test(test_upload_of_unknown_size),
        cmocka_unit_test(test_upload_over_the_limit),
        cmocka_unit_test(test_file_that_shrinks),
        cmocka_unit_test(test_follow_to_the_end),
        cmocka_unit_test(test_follow_stops_and_resumes),
        cmocka_unit_test(test_follow_that_fails),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_server_goes_away),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}

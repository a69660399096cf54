#include "util/test.h"
#include <sys/socket.h>
#include <time.h>
#include "http/server.h"
#include "http/websocket.h"
#include "util/limits.h"
#include "util/net.h"
#include "util/strbuf.h"

static int show(struct http_request *request, struct http_response *response, struct error *error)
{
    http_reply_json(
        response, 200,
        json_build("{s:s*, s:s}", "name", http_path_param(request, "name"), "who", request->principal->name));
    return 0;
}

static int make(struct http_request *request, struct http_response *response, struct error *error)
{
    http_reply_json(response, 201, json_incref(request->json));
    return 0;
}

static int count(struct http_request *request, struct http_response *response, struct error *error)
{
    cleanup_free char *data = NULL;
    size_t length;

    if (fs_read_fd(request->body_fd, "body", 16 * MIB, &data, &length, error) < 0)
        return -1;
    http_reply_json(response, 200,
                    json_build("{s:I, s:I}", "size", (json_int_t)request->body_size, "read", (json_int_t)length));
    return 0;
}

static int file(struct http_request *request, struct http_response *response, struct error *error)
{
    FILE *f = tmpfile();

    fputs("0123456789", f);
    fflush(f);
    http_reply_fd(response, 200, "text/plain", dup(fileno(f)), 10);
    fclose(f);
    return 0;
}

static int broken(struct http_request *request, struct http_response *response, struct error *error)
{
    return error_set(error, ERROR_CONFLICT, "thing is in use");
}

struct counter {
    int next, end;
};

static int pump(struct websocket *ws, void *userdata, struct error *error)
{
    struct counter *counter = userdata;

    if (counter->next > counter->end) {
        websocket_close(ws, WEBSOCKET_NORMAL, "end");
        return 0;
    }
    websocket_send_json(ws, json_build("{s:i}", "sequence", counter->next++));
    return 1;
}

static const struct websocket_handler counting = {.pump = pump, .close = free};

static int follow(struct http_request *request, struct http_response *response, struct error *error)
{
    struct counter *counter = xnew0(struct counter);

    counter->next = (int)http_query_int(request, "after", 0) + 1;
    counter->end = 3;
    return http_websocket_accept(request, response, &counting, counter, error);
}

static const struct schema_field thing_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .max = 10},
    {0},
};
static const struct schema thing_schema = {"Thing", thing_fields};
static const struct http_query_row after_query[] = {{"after", SCHEMA_INTEGER, NULL, "position"}, {0}};

static const struct http_route routes[] = {
    {"GET", "/open/{name}", SCOPE_NONE, show, "show"},
    {"GET", "/things/{name}", SCOPE_VIEW, show, "show"},
    {"DELETE", "/things/{name}", SCOPE_ADMIN, broken, "remove"},
    {"POST", "/things", SCOPE_DEVELOP, make, "make", .request = &thing_schema},
    {"POST", "/forms", SCOPE_DEVELOP, make, "make", .request = &thing_schema, .body = HTTP_BODY_FORM},
    {"POST", "/files", SCOPE_DEVELOP, count, "upload", .body = HTTP_BODY_FILE, .body_limit = 8 * MIB},
    {"GET", "/file", SCOPE_VIEW, file, "download"},
    {"GET", "/slow", SCOPE_VIEW, file, "download", .slow = true},
    {"GET", "/api/v1/runs/{id}/x", SCOPE_VIEW, show, "of a run"},
    {"GET", "/follow", SCOPE_VIEW, follow, "follow", .query = after_query, .websocket = true},
    {0},
};
static const struct http_route *const tables[] = {routes, NULL};

static int authenticate(void *context, const char *token, const struct http_peer *peer, struct http_principal *ret,
                        struct error *error)
{
    if (!token && !(peer->is_local && peer->uid == getuid()))
        return error_set(error, ERROR_UNAUTHENTICATED, "no token");
    if (token && strcmp(token, "viewer") != 0 && strcmp(token, "runner") != 0)
        return error_set(error, ERROR_UNAUTHENTICATED, "the token is not known");
    ret->name = xstrdup(token ?: "local");
    ret->scope = token ? SCOPE_VIEW : SCOPE_ADMIN;
    if (token && strcmp(token, "runner") == 0)
        ret->run_id = xstrdup("r1");
    return 0;
}

struct fixture {
    char directory[32];
    char *socket;
    struct http_server *server;
};

static int set_up(void **state)
{
    struct fixture *fixture = xnew0(struct fixture);
    cleanup_error struct error error = ERROR_INIT;
    struct http_server_options options = {
        .routes = tables, .authenticate = authenticate, .header_seconds = 1, .body_seconds = 1};

    memcpy(fixture->directory, "/tmp/test-server-XXXXXX", 24);
    options.spool_directory = mkdtemp(fixture->directory);
    fixture->socket = fs_join(fixture->directory, "socket");
    if (http_server_new(&options, &fixture->server, &error) < 0 ||
        http_server_listen(fixture->server, &(struct http_listen){.unix_path = fixture->socket}, NULL, &error) < 0 ||
        http_server_start(fixture->server, &error) < 0)
        fail_msg("%s", error.message);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    http_server_free(fixture->server);
    fs_remove_all(fixture->directory, NULL);
    free(fixture->socket);
    free(fixture);
    return 0;
}

/* Sends bytes, reads until the server closes or `enough` is seen. */
static char *talk(struct fixture *fixture, const char *bytes, size_t length, const char *enough)
{
    cleanup_error struct error error = ERROR_INIT;
    struct strbuf answer = STRBUF_INIT(4 * MIB);
    cleanup_close int fd = -1;
    char piece[4096];
    ssize_t n;

    if (net_connect_unix(fixture->socket, &fd, &error) < 0)
        fail_msg("%s", error.message);
    while (length > 0 && (n = send(fd, bytes, length, MSG_NOSIGNAL)) > 0) {
        bytes += n;
        length -= (size_t)n;
    }
    while ((n = read(fd, piece, sizeof(piece))) > 0) {
        strbuf_add(&answer, piece, (size_t)n);
        if (enough && strstr(answer.data, enough))
            break;
    }
    return strbuf_detach(&answer, NULL);
}

struct exchange_row {
    const char *request; /* with "Connection: close" so that the answer ends */
    const char *status;
    const char *holds;
};

#define HEAD(line) line " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

static const struct exchange_row rows[] = {
    {HEAD("GET /open/a") "\r\n", "200", "{\"name\":\"a\",\"who\":\"anonymous\"}"},
    {HEAD("GET /things/b%2fc") "\r\n", "200", "{\"name\":\"b/c\",\"who\":\"local\"}"},
    {HEAD("GET /things/b") "Authorization: bearer viewer\r\n\r\n", "200", "\"who\":\"viewer\""},
    {HEAD("GET /things/b") "Authorization: Bearer wrong\r\n\r\n", "401", "WWW-Authenticate: Bearer realm=\"slipway\""},
    {HEAD("GET /things/b") "Authorization: Basic eDp5\r\n\r\n", "401", "must be 'Bearer TOKEN'"},
    {HEAD("POST /things") "Authorization: Bearer viewer\r\nContent-Length: 2\r\n\r\n{}", "403",
     "needs the scope 'develop'"},
    {HEAD("GET /things/b") "Authorization: Bearer runner\r\n\r\n", "403", "the token of run r1"},
    {HEAD("GET /api/v1/runs/r2/x") "Authorization: Bearer runner\r\n\r\n", "403", "the token of run r1"},
    {HEAD("GET /api/v1/runs/r1/x") "Authorization: Bearer runner\r\n\r\n", "200", "\"who\":\"runner\""},
    {HEAD("GET /nowhere") "\r\n", "404", "{\"error\":{\"code\":\"not_found\""},
    {HEAD("PUT /things") "Content-Length: 0\r\n\r\n", "405", "Allow: POST"},
    {HEAD("DELETE /things/b") "\r\n", "409", "thing is in use"},
    {HEAD("POST /things") "Content-Length: 12\r\n\r\n{\"name\":\"x\"}", "201", "{\"name\":\"x\"}"},
    {HEAD("POST /things") "Content-Length: 12\r\n\r\n{\"nome\":\"x\"}", "400", "unknown field 'nome'"},
    {HEAD("POST /things") "Content-Length: 10\r\n\r\n{\"name\":1}", "400", "field 'name' must be a string"},
    {HEAD("POST /things") "Content-Length: 5\r\n\r\n{\"nam", "400", "not JSON"},
    {HEAD("POST /things") "\r\n", "400", "field 'name' is missing"},
    {HEAD("POST /things") "Content-Length: 9000000000\r\n\r\n", "413", "larger than 1048576 bytes"},
    {HEAD("POST /things") "Transfer-Encoding: chunked\r\n\r\nc\r\n{\"name\":\"y\"}\r\n0\r\n\r\n", "201",
     "{\"name\":\"y\"}"},
    {HEAD("POST /forms") "Content-Length: 8\r\n\r\nname=a+b", "201", "{\"name\":\"a b\"}"},
    {HEAD("POST /forms") "Content-Length: 8\r\n\r\nname=%zz", "400", "hexadecimal"},
    {HEAD("GET /things/b") "Content-Length: 2\r\n\r\n{}", "400", "takes no body"},
    {HEAD("GET /things/b?x=1") "\r\n", "400", "unknown query parameter 'x'"},
    {HEAD("GET /file") "\r\n", "200", "\r\n\r\n0123456789"},
    {HEAD("GET /slow") "\r\n", "200", "\r\n\r\n0123456789"},
    {HEAD("GET /file") "Range: bytes=2-4\r\n\r\n", "206", "\r\n\r\n234"},
    {HEAD("GET /file") "Range: bytes=-3\r\n\r\n", "206", "Content-Range: bytes 7-9/10"},
    {HEAD("GET /file") "Range: bytes=8-\r\n\r\n", "206", "\r\n\r\n89"},
    {HEAD("GET /file") "Range: bytes=10-\r\n\r\n", "416", "Content-Range: bytes */10"},
    {HEAD("GET /file") "Range: lines=1-2\r\n\r\n", "200", "0123456789"},
    {HEAD("HEAD /file") "\r\n", "200", "Content-Length: 10"},
    {HEAD("GET /follow") "\r\n", "400", "Upgrade: websocket"},
    {HEAD("POST /files") "Content-Length: 3\r\n\r\nabc", "200", "{\"size\":3,\"read\":3}"},
};

static void test_requests(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_free char *answer = talk(*state, rows[i].request, strlen(rows[i].request), NULL);

        if (strlen(answer) < 12 || strncmp(answer + 9, rows[i].status, 3) != 0 || !strstr(answer, rows[i].holds))
            fail_msg("%s\n---> expected %s and '%s', got\n%s", rows[i].request, rows[i].status, rows[i].holds, answer);
    }
}

static void test_head_has_no_body(void **state)
{
    const char request[] = HEAD("HEAD /file") "\r\n";
    cleanup_free char *answer = talk(*state, request, strlen(request), NULL);

    assert_null(strstr(answer, "0123456789"));
}

static void test_long_header(void **state)
{
    cleanup_strbuf struct strbuf request = STRBUF_INIT(1 * MIB);
    cleanup_free char *answer = NULL;

    strbuf_adds(&request, HEAD("GET /open/a") "X-Long: ");
    for (int i = 0; i < 40000; i++)
        strbuf_addc(&request, 'x');
    strbuf_adds(&request, "\r\n\r\n");
    answer = talk(*state, request.data, request.length, NULL);
    if (strncmp(answer + 9, "431", 3) != 0 || !strstr(answer, "\"too_large\""))
        fail_msg("%s", answer);
}

/* The answer comes while the body is still being sent, and arrives although it is not read to its end. */
static void test_chunked_body_over_the_limit(void **state)
{
    cleanup_strbuf struct strbuf request = STRBUF_INIT(64 * MIB);
    cleanup_free char *answer = NULL, *chunk = xcalloc(1, 64 * KIB);

    strbuf_adds(&request, HEAD("POST /things") "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 64; i++) {
        strbuf_adds(&request, "10000\r\n");
        strbuf_add(&request, chunk, 64 * KIB);
        strbuf_adds(&request, "\r\n");
    }
    answer = talk(*state, request.data, request.length, "}}");
    if (strncmp(answer + 9, "413", 3) != 0 || !strstr(answer, "larger than 1048576"))
        fail_msg("%s", answer);
}

static void test_large_file(void **state)
{
    cleanup_strbuf struct strbuf request = STRBUF_INIT(64 * MIB);
    cleanup_free char *answer = NULL, *data = xcalloc(1, 5 * MIB);

    strbuf_adds(&request, HEAD("POST /files") "Content-Length: 5242880\r\n\r\n");
    strbuf_add(&request, data, 5 * MIB);
    answer = talk(*state, request.data, request.length, NULL);
    if (!strstr(answer, "{\"size\":5242880,\"read\":5242880}"))
        fail_msg("%s", answer);
}

static void test_websocket(void **state)
{
    const char request[] =
        "GET /follow?after=1 HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        "\x88\x80mask"; /* our own close, masked and empty, right behind the handshake */
    cleanup_free char *answer = talk(*state, request, sizeof(request) - 1, NULL);

    if (strncmp(answer + 9, "101", 3) != 0 || !strstr(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        fail_msg("%s", answer);
}

/* Sends a byte now and then; every one of them would restart a time-out that counts from the last byte. */
static void trickle(struct fixture *fixture, const char *begin, const char *bytes)
{
    cleanup_error struct error error = ERROR_INIT;
    struct timespec pause = {0, 200000000};
    cleanup_close int fd = -1;
    char answer[4096];
    int sent;

    if (net_connect_unix(fixture->socket, &fd, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(send(fd, begin, strlen(begin), MSG_NOSIGNAL), strlen(begin));
    for (sent = 0; sent < 50 && send(fd, bytes, 1, MSG_NOSIGNAL) == 1; sent++)
        nanosleep(&pause, NULL);
    assert_in_range(sent, 3, 25); /* between 1 s and the sweeper's next turn after it */
    assert_true(read(fd, answer, sizeof(answer)) <= 0);
}

static void test_slow_header(void **state)
{
    trickle(*state, "GET /open/a HTTP/1.1\r\nX-Slow: ", "x");
}

static void test_slow_body(void **state)
{
    trickle(*state, "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", " ");
}

/* The client is done with sending; it still gets its answer. */
static void test_half_closed(void **state)
{
    struct fixture *fixture = *state;
    cleanup_error struct error error = ERROR_INIT;
    const char request[] = "GET /open/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct strbuf answer = STRBUF_INIT(64 * KIB);
    cleanup_close int fd = -1;
    char piece[512];
    ssize_t n;

    if (net_connect_unix(fixture->socket, &fd, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    shutdown(fd, SHUT_WR);
    while ((n = read(fd, piece, sizeof(piece))) > 0)
        strbuf_add(&answer, piece, (size_t)n);
    if (!strstr(answer.data, "\"name\":\"a\""))
        fail_msg("%s", answer.data);
    strbuf_release(&answer);
}

static void test_statistics(void **state)
{
    struct fixture *fixture = *state;
    struct http_server_stats stats;

    http_server_stats(fixture->server, &stats);
    assert_true(stats.unrouted >= 1);
    assert_true(stats.received_bytes > 5 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),    cmocka_unit_test(test_head_has_no_body),
        cmocka_unit_test(test_long_header), cmocka_unit_test(test_chunked_body_over_the_limit),
        cmocka_unit_test(test_large_file),  cmocka_unit_test(test_websocket),
        cmocka_unit_test(test_slow_header), cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_half_closed), cmocka_unit_test(test_statistics),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/*
 * What people write in one line: quantities, names, times, addresses, splits, rules, paths and queries of URLs; and
 * what the terminal is shown of strange text.
 */
#include <stdlib.h>
#include <string.h>
#include "cli/terminal.h"
#include "core/gate.h"
#include "core/ref.h"
#include "format/split.h"
#include "http/exchange.h"
#include "util/clock.h"
#include "util/net.h"
#include "util/parse.h"
#include "util/xalloc.h"

/* An address says the same again. */
static void check_ref(const char *text)
{
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_free char *again = NULL;

    if (ref_parse(text, "dataset", &ref, NULL) < 0)
        return;
    again = xasprintf("%s%s%s%s%s", ref.project ?: "", ref.project ? ":" : "", ref.name, ref.version ? "@" : "",
                      ref.version ?: "");
    if (strcmp(again, text) || (ref.version && !*ref.version))
        abort();
}

/* Every row of a data set goes into one part. */
static void check_split(const char *text)
{
    cleanup_split_plan struct split_plan plan = {.count = 0};
    cleanup_split_draw struct split_draw *draw = NULL;
    uint64_t rows[2] = {7, 3}, sum = 0;

    if (split_parse(text, &plan, NULL) < 0)
        return;
    draw = split_draw_new(&plan, 1, 2, rows);
    for (size_t i = 0; i < plan.count; i++)
        sum += split_size(draw, i);
    if (!plan.count || sum != 10)
        abort();
    for (size_t i = 0; i < 10; i++) {
        if (split_next(draw, i >= 7) >= plan.count)
            abort();
    }
}

/* A rule in short form becomes a program, another stays as it is. */
static void check_rule(const char *text)
{
    cleanup_free char *program = gate_translate(text);

    if (strcmp(program, text) && strncmp(program, "{verdict: (", 11))
        abort();
}

static int handle(struct http_request *request, struct http_response *response, struct error *error)
{
    return 0;
}

static const struct http_query_row query[] = {{"n", SCHEMA_INTEGER, NULL, ""},
                                              {"x", SCHEMA_NUMBER, NULL, ""},
                                              {"b", SCHEMA_BOOLEAN, NULL, ""},
                                              {"v", SCHEMA_STRING, (const char *const[]){"a", "b", NULL}, ""},
                                              {0}};
static const struct http_route routes[] = {{"GET", "/a/{name}", SCOPE_VIEW, handle, "", .query = query, .paged = true},
                                           {"POST", "/a/{name}/b", SCOPE_VIEW, handle, ""},
                                           {"GET", "/a/x", SCOPE_NONE, handle, "", .query = query},
                                           {"GET", "/b/{rest...}", SCOPE_NONE, handle, ""},
                                           {0}};

/* Path and query of a URL: no empty parameter, no way up, numbers that are numbers. */
static void check_url(const char *text)
{
    static struct router *router;
    cleanup_exchange struct exchange *exchange = exchange_new("GET", text);
    struct map_iterator it = {0};

    if (!router)
        router = router_new((const struct http_route *const[]){routes, NULL});
    if (router_find(router, exchange, NULL) < 0 || exchange_check_query(exchange, NULL) < 0)
        return;
    while (map_next(&exchange->params, &it)) {
        const char *value = it.value;

        if (!*value || !strcmp(value, "..") || !strncmp(value, "../", 3) || (*it.key == 'r' && strstr(value, "/../")))
            abort();
    }
    if (http_page_limit(&exchange->request) < 1)
        abort();
    http_query_int(&exchange->request, "n", 0);
    http_query_bool(&exchange->request, "b");
}

static void check_address(const char *text)
{
    struct net_address address, again;
    char shown[NET_TEXT_SIZE];

    if (net_parse(text, &address, NULL) == 0 && net_parse(net_format(&address, shown), &again, NULL) < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_free char *text = xstrndup((const char *)data, size), *printable = NULL;
    uint64_t bytes;
    int64_t value;
    double number;

    parse_bytes(text, &bytes, NULL);
    if (parse_duration_ms(text, &value, NULL) == 0 && value < 0)
        abort();
    if (parse_int(text, -10, 10, &value, NULL) == 0 && (value < -10 || value > 10))
        abort();
    if (parse_number(text, -1, 1, &number, NULL) == 0 && !(number >= -1 && number <= 1))
        abort();
    parse_name(text, "name", NULL);
    clock_parse_ms(text, &value);
    check_ref(text);
    check_split(text);
    check_rule(text);
    check_url(text);
    check_address(text);
    printable = text_printable(text);
    for (const unsigned char *p = (const unsigned char *)printable; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            abort();
    if (text_fit(printable, text_width(printable)) != strlen(printable))
        abort();
    return 0;
}

/* POST /predict/{endpoint}: text in, text out. */
#include <string.h>
#include <strings.h>
#include "gateway/call.h"
#include "gateway/codec.h"
#include "format/wire.h"
#include "util/json.h"

static int decode(struct call *call, const char *body, size_t length, struct error *error)
{
    call->kind = WIRE_PREDICT;
    return 0;
}

/* The answer is of the kind that the request was; forms are what clients send when they were told nothing. */
static const char *content_type(const struct loop_request *request)
{
    const char *type = loop_request_content_type(request);

    if (!type || !strncasecmp(type, "application/x-www-form-urlencoded", 33))
        return "text/plain; charset=utf-8";
    return type;
}

static int encode(struct call *call, const char *body, size_t length, struct error *error)
{
    loop_request_reply(call->request, 200, content_type(call->request), body, length);
    return 0;
}

static void fail(struct loop_request *request, int status, enum error_code code, const char *message)
{
    cleanup_json json_t *reply = json_build("{s:{s:s, s:o}}", "error", "code", error_code_name(code), "message",
                                            json_string_lossy(message));
    char *text = json_text(reply);

    loop_request_reply_take(request, status, "application/json", text, strlen(text));
}

const struct codec predict_codec = {.name = "predict", .decode = decode, .encode = encode, .fail = fail};

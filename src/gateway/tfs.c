/*
 * TensorFlow Serving's REST protocol (and KServe's v1, which is the same for predictions):
 *
 *     POST /v1/models/{m}[/versions/{v}]:predict   {"instances": rows}   → {"predictions": rows}
 *                                                  {"inputs": columns}   → {"outputs": columns}
 *     GET  /v1/models/{m}[/versions/{v}]           → {"model_version_status": […]}
 *
 * Source: tensorflow.org/tfx/serving/api_rest. instances.h says what rows and columns are to which model. The one
 * signature that there is is called serving_default. Failures are {"error": text}.
 */
#include <string.h>
#include "gateway/codec.h"
#include "gateway/content.h"
#include "gateway/instances.h"
#include "gateway/oip.h"
#include "util/xalloc.h"

#define SIGNATURE "serving_default"

/* codec_state is set for the column form. */
static void release(struct call *call)
{
    free(call->codec_state);
}

static int check_fields(const json_t *request, struct error *error)
{
    static const char *const known[] = {"instances", "inputs", "signature_name"};
    const json_t *signature = json_object_get(request, "signature_name");
    const char *name;
    json_t *value;

    if (!json_is_object(request))
        return error_set(error, ERROR_INVALID, "the body must be an object with 'instances' or 'inputs'");
    json_object_foreach((json_t *)request, name, value) {
        size_t i = 0;

        while (i < ARRAY_SIZE(known) && strcmp(known[i], name) != 0)
            i++;
        if (i == ARRAY_SIZE(known))
            return error_set(error, ERROR_INVALID,
                             "there is no field '%.80s'; there are instances, inputs and "
                             "signature_name",
                             name);
    }
    if (!json_object_get(request, "instances") == !json_object_get(request, "inputs"))
        return error_set(error, ERROR_INVALID, "the body needs either 'instances' or 'inputs'");
    if (signature && (!json_is_string(signature) ||
                      (*json_string_value(signature) && strcmp(json_string_value(signature), SIGNATURE) != 0)))
        return error_set(error, ERROR_INVALID, "the model has one signature, " SIGNATURE);
    return 0;
}

static int decode(struct call *call, const char *body, size_t length, struct error *error)
{
    cleanup_json json_t *request = NULL;
    cleanup_free char *owned = NULL;
    const json_t *instances;

    if (content_unpack(call, body, length, &owned, &body, &length, error) < 0)
        return -1;
    request = json_parse(body, length, error);
    if (!request || check_fields(request, error) < 0)
        return -1;
    instances = json_object_get(request, "instances");
    if (instances)
        return instances_decode_rows(call, instances, "instances", error);
    call->codec_state = xmalloc(1);
    return instances_decode_columns(call, json_object_get(request, "inputs"), "inputs", error);
}

static int encode(struct call *call, const char *body, size_t length, struct error *error)
{
    bool columns = call->codec_state;
    json_t *value = instances_encode(call, body, length, columns ? INSTANCES_COLUMNS : INSTANCES_ROWS, error);

    if (!value)
        return -1;
    oip_reply(call->request, 200, json_build("{s:o}", columns ? "outputs" : "predictions", value));
    return 0;
}

static void status(struct call *call)
{
    json_t *list = json_array();
    const struct route *route;

    list_for_each(route, &call->endpoint->routes, link) {
        bool ready = route_is_ready(route);

        if (call->version && route != call->route)
            continue;
        json_array_append_new(list, json_build("{s:s, s:s, s:{s:s, s:s}}", "version", route->version, "state",
                                               ready ? "AVAILABLE" : "LOADING", "status", "error_code",
                                               ready ? "OK" : "UNAVAILABLE", "error_message",
                                               ready ? "" : "no replica is ready"));
    }
    oip_reply(call->request, 200, json_build("{s:o}", "model_version_status", list));
}

const struct codec tfs_codec = {
    .name = "tfs", .decode = decode, .encode = encode, .fail = oip_fail, .release = release};
const struct codec tfs_status_codec = {.name = "tfs_status", .local = status, .fail = oip_fail};

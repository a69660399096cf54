#include "api/api.h"
#include "api/daemon.h"
#include "util/limits.h"

static const struct schema_field blob_fields[] = {
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "sha256:… of the content: its name"},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes"},
    {},
};
static const struct schema blob_schema = {"Blob", blob_fields, "immutable content, named by its digest"};

static const struct schema_field reason_fields[] = {
    {"kind", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "pin, dataset, job, run, weights, model"},
    {"address", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "of the object that names the blob"},
    {},
};
static const struct schema reason_schema = {"BlobReason", reason_fields};
static const struct schema_field why_fields[] = {
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes"},
    {"reasons", SCHEMA_ARRAY, SCHEMA_REQUIRED, .item = SCHEMA_OBJECT, .object = &reason_schema,
     .doc = "empty: the next collection removes it, unless it was stored within the grace period"},
    {},
};
static const struct schema why_schema = {"BlobWhy", why_fields, "what keeps a blob alive"};

static int post_blob(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *expected = http_query_param(request, "digest");
    char text[DIGEST_TEXT_SIZE];
    struct digest digest;
    uint64_t size;

    if (expected) {
        if (digest_parse(expected, &digest, error) < 0 ||
            vault_put_expected(daemon->store->vault, request->body_fd, &digest, &size, error) < 0)
            return -1;
    } else if (vault_put_fd(daemon->store->vault, request->body_fd, &digest, &size, error) < 0) {
        return -1;
    }
    http_reply_json(response, 201,
                    json_build("{s:s, s:I}", "digest", digest_format(&digest, text), "size", (json_int_t)size));
    return 0;
}

static int get_blob(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *text = http_path_param(request, "digest");
    struct digest digest;
    uint64_t size;
    int fd;

    if (digest_parse(text, &digest, error) < 0 || vault_size(daemon->store->vault, &digest, &size, error) < 0 ||
        vault_get(daemon->store->vault, &digest, &fd, error) < 0)
        return -1;
    http_reply_fd(response, 200, "application/octet-stream", fd, size);
    http_reply_header(response, "Cache-Control", "private, max-age=31536000, immutable");
    http_reply_header(response, "Docker-Content-Digest", text);
    return 0;
}

static int why_blob(struct http_request *request, struct http_response *response, struct error *error)
{
    struct daemon *daemon = request->context;
    const char *text = http_path_param(request, "digest");
    struct digest digest;
    json_t *reasons;
    uint64_t size;

    if (digest_parse(text, &digest, error) < 0 || vault_size(daemon->store->vault, &digest, &size, error) < 0)
        return -1;
    reasons = vault_why(daemon->store->vault, &digest, error);
    if (!reasons)
        return -1;
    http_reply_json(response, 200,
                    json_build("{s:s, s:I, s:o}", "digest", text, "size", (json_int_t)size, "reasons", reasons));
    return 0;
}

static const struct http_query_row post_query[] = {
    {"digest", SCHEMA_STRING, .doc = "what the content must have; else nothing is stored"},
    {},
};

const struct http_route blob_routes[] = {
    {"POST", "/api/v1/blobs", SCOPE_DEVELOP, post_blob, "store a blob", .query = post_query, .response = &blob_schema,
     .body = HTTP_BODY_FILE, .body_limit = LIMIT_UPLOAD, .status = 201, .tag = "blobs"},
    {"GET", "/api/v1/blobs/{digest}", SCOPE_VIEW, get_blob, "read a blob", .content_type = "application/octet-stream",
     .slow = true, .tag = "blobs"},
    {"GET", "/api/v1/blobs/{digest}/why", SCOPE_ADMIN, why_blob, "say what keeps a blob alive", .response = &why_schema,
     .tag = "blobs"},
    {},
};

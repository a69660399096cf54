/*
 * The protocols that carry tensors, in both directions. The input is a request's body (its first byte: whether and
 * where a binary part begins; then its length, whether it is packed and the answer may be, and which protocol it is)
 * and behind it what a worker answers; without an answer the worker gives back what it was given, which must then be
 * sound.
 */
#include "fuzz-socket.h"
#include "format/frame.h"
#include "gateway/call.h"
#include "gateway/codec.h"
#include "gateway/parts.h"
#include "util/limits.h"
#include "util/strbuf.h"

struct fixture {
    struct loop *loop;
    struct loop_server *server;
    char *path;
    const uint8_t *answer;
    size_t answer_length;
    struct endpoint endpoint;
    struct route routes[2]; /* without and with a signature */
};

/* Everything that frame_check() promises can be read. */
static void walk(const char *frame, size_t length)
{
    for (uint32_t i = 0; i < frame_count(frame); i++) {
        const struct frame_entry *entry = &frame_entries(frame)[i];
        int64_t elements = frame_elements(entry->shape, entry->rank);

        if (elements < 0 || !frame_type_name(entry->type) || strlen(entry->name) >= FRAME_NAME ||
            entry->offset + entry->length > length)
            abort();
        if (frame_type_size(entry->type) && frame_type_size(entry->type) * (uint64_t)elements != entry->length)
            abort();
    }
}

static uint64_t on_head(void *context, struct loop_request *request)
{
    return MIB;
}

static void on_request(void *context, struct loop_request *request)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *echo = NULL;
    struct fixture *fixture = context;
    const char *protocol = loop_request_header(request, "Protocol");
    const struct codec *codec = !protocol ? &oip_codec : !strcmp(protocol, "tfs") ? &tfs_codec : &mlflow_codec;
    struct call call = {.request = request, .codec = codec, .endpoint = &fixture->endpoint};
    const char *body;
    size_t length;
    int r;

    call.route = &fixture->routes[!strcmp(loop_request_path(request), "/signature")];
    body = loop_request_body(request, &length);
    r = codec->decode(&call, body, length, &error);
    if (r == 0 && call.parts) {
        r = error_set(&error, ERROR_UNAVAILABLE, "nobody runs the parts");
    } else if (r == 0) {
        if (frame_check(call.encoded, call.encoded_length, NULL) < 0)
            abort();
        walk(call.encoded, call.encoded_length);
        if (!fixture->answer_length)
            r = codec->encode(&call, call.encoded, call.encoded_length, &error);
        else
            r = codec->encode(&call, (const char *)fixture->answer, fixture->answer_length, &error);
    }
    if (r < 0)
        codec->fail(request, 400, error.code, error.message);
    if (codec->release)
        codec->release(&call);
    parts_free(call.parts);
    free(call.encoded);
}

static void on_gone(void *context, struct loop_request *request)
{
    abort();
}

static void on_oversize(void *context, struct loop_request *request, uint64_t limit)
{
    abort();
}

static const char *on_malformed(void *context, const char *message, char *text, size_t size)
{
    abort();
}

static struct fixture *start(void)
{
    static const struct loop_server_handlers handlers = {on_head, on_request, on_gone, on_oversize, on_malformed};
    struct fixture *fixture = xnew0(struct fixture);

    fixture->loop = loop_new();
    fixture->server = loop_server_new(fixture->loop, &handlers, fixture, 10);
    fixture->path = fs_join(fuzz_directory(), "http.sock");
    fixture->endpoint.name = xstrdup("digits");
    fixture->endpoint.body_limit = MIB;
    for (int i = 0; i < 2; i++) {
        fixture->routes[i].endpoint = &fixture->endpoint;
        fixture->routes[i].version = xstrdup("7");
    }
    fixture->routes[1].inputs = json_build("[{s:s, s:s, s:[i]}]", "name", "x", "datatype", "FP32", "shape", -1);
    if (loop_server_listen(fixture->server, &(struct loop_listen){.unix_path = fixture->path}, NULL, NULL) < 0)
        abort();
    return fixture;
}

static void send_request(struct fixture *fixture, unsigned mode, const uint8_t *body, size_t length)
{
    cleanup_strbuf struct strbuf text = STRBUF_INIT(MIB);
    int fd = fuzz_connect(fixture->path);

    strbuf_addf(&text, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n", mode & 1 ? "/signature" : "/text",
                length);
    if (mode & 2)
        strbuf_addf(&text, "Inference-Header-Content-Length: %zu\r\n", (mode >> 2 & 63) * length / 63);
    strbuf_adds(&text, mode & 0x1000 ? "Content-Encoding: gzip\r\n" : "");
    strbuf_adds(&text, mode & 0x8000 ? "Protocol: mlflow\r\n" : mode & 0x4000 ? "Protocol: tfs\r\n" : "");
    strbuf_adds(&text, (mode & 0xc000) == 0xc000 ? "Content-Type: text/csv\r\n" : "");
    strbuf_adds(&text, mode & 0x2000 ? "Accept-Encoding: deflate, gzip;q=0\r\n\r\n" : "\r\n");
    strbuf_add(&text, body, length);
    fuzz_send(fixture->loop, fd, (const uint8_t *)text.data, text.length);
    loop_run_once(fixture->loop, 0);
    close(fd);
    for (int i = 0; i < 20 && loop_server_connections(fixture->server); i++)
        loop_run_once(fixture->loop, 0);
    if (loop_server_connections(fixture->server))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fixture *fixture;
    cleanup_free char *frame = NULL;
    size_t length;

    if (size < 3)
        return 0;
    if (!fixture)
        fixture = start();
    length = data[1] | (data[2] & 15u) << 8;
    length = length < size - 3 ? length : size - 3;
    fixture->answer = data + 3 + length;
    fixture->answer_length = size - 3 - length;
    frame = xmemdup(fixture->answer, fixture->answer_length); /* aligned, as shared memory is */
    if (frame_check(frame, fixture->answer_length, NULL) == 0)
        walk(frame, fixture->answer_length);
    send_request(fixture, data[0] | (unsigned)data[2] << 8, data + 3, length);
    return 0;
}

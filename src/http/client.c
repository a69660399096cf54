#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include "config.h"
#include "http/client-private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/net.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define CONNECT_TIMEOUT_MS 10000L
#define TIMEOUT_MS         600000
#define PROGRESS_NS        (100 * NS_PER_MS)

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
}

/* -- life -- */

static int check_url(const char *url, struct error *error)
{
    if (strncmp(url, "unix:/", 6) == 0 || strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0)
        return 0;
    return error_set(error, ERROR_INVALID,
                     "'%.200s' is no URL of a daemon; write http://HOST:PORT, https://HOST:PORT "
                     "or unix:/PATH",
                     url);
}

int http_client_new(const struct http_client_options *options, struct http_client **ret_client, struct error *error)
{
    cleanup_http_client struct http_client *client = NULL;
    size_t length;

    if (check_url(options->url, error) < 0)
        return -1;
    pthread_once(&once, init_curl);
    client = xnew0(struct http_client);
    client->shown = xstrdup(options->url);
    client->unix_path = strncmp(options->url, "unix:", 5) == 0 ? xstrdup(options->url + 5) : NULL;
    client->base = xstrdup(client->unix_path ? "http://localhost" : options->url);
    for (length = strlen(client->base); client->base[length - 1] == '/'; length--)
        client->base[length - 1] = '\0';
    client->token = xstrdup_null(options->token);
    client->ca_file = xstrdup_null(options->ca_file);
    client->insecure = options->insecure;
    client->timeout_ms = options->timeout_ms ?: TIMEOUT_MS;
    client->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    client->curl = curl_easy_init();
    if (!client->curl || client->cancel_fd < 0)
        abort();
    client->directory_fd = -1;
    if (client->unix_path && net_unix_name(client->unix_path, client->unix_name, &client->directory_fd, NULL) < 0)
        return error_set(error, ERROR_UNAVAILABLE, "nobody listens on %s", client->unix_path);
    *ret_client = steal_ptr(client);
    return 0;
}

struct http_client *http_client_free(struct http_client *client)
{
    if (!client)
        return NULL;
    curl_easy_cleanup(client->curl);
    close(client->cancel_fd);
    if (client->directory_fd >= 0)
        close(client->directory_fd);
    free(client->base);
    free(client->shown);
    free(client->unix_path);
    free(client->token);
    free(client->ca_file);
    free(client);
    return NULL;
}

void http_client_cancel(struct http_client *client)
{
    uint64_t one = 1;
    ssize_t unused;

    atomic_store(&client->cancelled, true);
    unused = write(client->cancel_fd, &one, sizeof(one));
    (void)unused;
}

/* -- connection -- */

static int check_cancel(void *userdata, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct http_client *client = userdata;

    return atomic_load(&client->cancelled);
}

static bool is_loopback(const char *base)
{
    const char *host = strstr(base, "://") + 3;

    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 || strncmp(host, "[::1]", 5) == 0;
}

void client_prepare(struct http_client *client, CURL *curl, const char *path)
{
    cleanup_free char *url = xasprintf("%s%s", client->base, path);

    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_SSL_ENABLE_ALPN, 0L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "slipway/" SLIPWAY_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, check_cancel);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, client);
    if (client->unix_path) {
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->unix_name);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
    }
    if (!client->unix_path && is_loopback(client->base))
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
    if (client->ca_file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
    if (client->insecure) {
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

int client_failed(struct http_client *client, CURLcode code, const char *detail, struct error *error)
{
    if (atomic_load(&client->cancelled))
        return error_set(error, ERROR_CANCELLED, "the request was cancelled");
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return error_set(error, ERROR_UNAVAILABLE, "nobody listens on %s", client->unix_path ?: client->shown);
    case CURLE_OPERATION_TIMEDOUT: return error_set(error, ERROR_TIMEOUT, "no answer from %s in time", client->shown);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return error_set(error, ERROR_UNAVAILABLE, "the certificate of %s is not trusted: %s", client->shown, detail);
    default:
        return error_set(error, ERROR_UNAVAILABLE, "cannot reach %s: %s", client->shown,
                         *detail ? detail : curl_easy_strerror(code));
    }
}

/* For an answer that is not ours: from a proxy, or from another program on that port. */
static enum error_code code_of_status(long status)
{
    switch (status) {
    case 401: return ERROR_UNAUTHENTICATED;
    case 403: return ERROR_FORBIDDEN;
    case 404: return ERROR_NOT_FOUND;
    case 409: return ERROR_CONFLICT;
    case 413:
    case 431: return ERROR_TOO_LARGE;
    case 429: return ERROR_RATE_LIMITED;
    case 502:
    case 503: return ERROR_UNAVAILABLE;
    case 504: return ERROR_TIMEOUT;
    default: return status < 500 ? ERROR_INVALID : ERROR_INTERNAL;
    }
}

int client_refused(long status, const char *body, size_t length, struct error *error)
{
    cleanup_json json_t *answer = json_parse(body, length, NULL);
    json_t *object = json_object_get(answer, "error");
    const char *code = json_get_string(object, "code", NULL), *message = json_get_string(object, "message", NULL);

    if (json_is_object(object) && code && message)
        return error_set(error, error_code_parse(code), "%s", message);
    return error_set(error, code_of_status(status), "the server answered with status %ld", status);
}

/* -- requests -- */

struct transfer {
    struct http_client *client;
    struct strbuf reply;   /* the answer, or the error instead of a file */
    int out_fd;            /* answer goes here; -1: into reply */
    int in_fd;             /* body comes from here; -1: none */
    const char *send;      /* body in memory */
    const char *send_type; /* its media type; NULL: JSON */
    http_progress_fn progress;
    void *progress_userdata;
    uint64_t total, done;
    int64_t last_progress_ns;
    struct error error;    /* of reading or writing here */
};

static void report(struct transfer *transfer, size_t n)
{
    int64_t now = clock_monotonic_ns();

    transfer->done += n;
    if (!transfer->progress || (n && now - transfer->last_progress_ns < PROGRESS_NS))
        return;
    transfer->last_progress_ns = now;
    transfer->progress(transfer->progress_userdata, transfer->done, transfer->total);
}

static size_t take_reply(char *data, size_t size, size_t count, void *userdata)
{
    struct transfer *transfer = userdata;
    size_t n = size * count;
    long status = 0;

    curl_easy_getinfo(transfer->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (transfer->out_fd >= 0 && status < 400) {
        curl_off_t length = -1;

        curl_easy_getinfo(transfer->client->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        transfer->total = length > 0 ? (uint64_t)length : 0;
        if (fs_write_all(transfer->out_fd, data, n, &transfer->error) < 0)
            return 0;
        report(transfer, n);
        return n;
    }
    strbuf_add(&transfer->reply, data, n);
    if (!transfer->reply.overflowed)
        return n;
    error_set(&transfer->error, ERROR_TOO_LARGE, "the answer is larger than %llu bytes",
              (unsigned long long)LIMIT_HTTP_REPLY);
    return 0;
}

static size_t give_body(char *buffer, size_t size, size_t count, void *userdata)
{
    struct transfer *transfer = userdata;
    size_t wanted = size * count;
    ssize_t n;

    if (transfer->total && transfer->total - transfer->done < wanted)
        wanted = transfer->total - transfer->done;
    do
        n = read(transfer->in_fd, buffer, wanted);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        error_set_errno(&transfer->error, errno, "cannot read what is to be sent");
        return CURL_READFUNC_ABORT;
    }
    if (n == 0 && transfer->total && transfer->done < transfer->total) {
        error_set(&transfer->error, ERROR_CONFLICT, "the file became shorter while it was sent");
        return CURL_READFUNC_ABORT;
    }
    report(transfer, (size_t)n);
    return (size_t)n;
}

/* When the connection has to be made again. */
static int rewind_body(void *userdata, curl_off_t offset, int origin)
{
    struct transfer *transfer = userdata;

    if (offset != 0 || origin != SEEK_SET || lseek(transfer->in_fd, -(off_t)transfer->done, SEEK_CUR) < 0)
        return CURL_SEEKFUNC_CANTSEEK;
    transfer->done = 0;
    return CURL_SEEKFUNC_OK;
}

static void set_body(struct transfer *transfer, CURL *curl, const char *method)
{
    if (transfer->in_fd >= 0) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, (long)(512 * KIB));
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, transfer);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, rewind_body);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, transfer);
        if (transfer->total != UINT64_MAX)
            curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)transfer->total);
        else
            transfer->total = 0;
    } else if (transfer->send) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, transfer->send);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(transfer->send));
    } else if (strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, 0L);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

static struct curl_slist *make_headers(const struct transfer *transfer)
{
    struct curl_slist *headers = NULL;

    if (transfer->client->token) {
        cleanup_free char *line = xasprintf("Authorization: Bearer %s", transfer->client->token);

        headers = curl_slist_append(headers, line);
    }
    if (transfer->in_fd >= 0)
        headers = curl_slist_append(headers, "Content-Type: application/octet-stream");
    else if (transfer->send)
        headers = curl_slist_append(headers,
                                    transfer->send_type ? transfer->send_type : "Content-Type: application/json");
    return headers;
}

static int perform(struct transfer *transfer, const char *method, const char *path, struct error *error)
{
    struct http_client *client = transfer->client;
    CURL *curl = client->curl;
    struct curl_slist *headers = make_headers(transfer);
    char detail[CURL_ERROR_SIZE] = "";
    CURLcode code;
    long status = 0;

    client_prepare(client, curl, path);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)(client->timeout_ms + 999) / 1000);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_reply);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    set_body(transfer, curl, method);
    code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);

    if (error_is_set(&transfer->error)) {
        cleanup_error struct error own = transfer->error;

        transfer->error = (struct error)ERROR_INIT;
        return error_set(error, own.code, "%s", own.message);
    }
    /* A server that refuses a body may close before it has read it all; its answer counts then. */
    if (status >= 400 && transfer->reply.length)
        return client_refused(status, transfer->reply.data, transfer->reply.length, error);
    if (code != CURLE_OK)
        return client_failed(client, code, detail, error);
    if (status >= 400)
        return client_refused(status, "", 0, error);
    if (transfer->in_fd >= 0 || transfer->out_fd >= 0)
        report(transfer, 0);
    return 0;
}

static int parse_reply(struct transfer *transfer, json_t **ret_reply, struct error *error)
{
    json_t *reply;

    if (!ret_reply)
        return 0;
    if (transfer->reply.length == 0) {
        *ret_reply = NULL;
        return 0;
    }
    reply = json_parse(transfer->reply.data, transfer->reply.length, error);
    if (!reply)
        return error_wrap(error, "the answer of %s is not JSON", transfer->client->shown);
    *ret_reply = reply;
    return 0;
}

#define TRANSFER_INIT(client_) {.client = (client_), .reply = STRBUF_INIT(LIMIT_HTTP_REPLY), .out_fd = -1, .in_fd = -1}

static void transfer_release(struct transfer *transfer)
{
    strbuf_release(&transfer->reply);
    error_clear(&transfer->error);
}
#define cleanup_transfer CLEANUP(transfer_release)

int http_client_request(struct http_client *client, const char *method, const char *path, const json_t *body,
                        json_t **ret_reply, struct error *error)
{
    cleanup_transfer struct transfer transfer = TRANSFER_INIT(client);
    cleanup_free char *text = body ? json_text(body) : NULL;

    transfer.send = text;
    if (perform(&transfer, method, path, error) < 0)
        return -1;
    return parse_reply(&transfer, ret_reply, error);
}

int http_client_form(struct http_client *client, const char *path, const char *form, json_t **ret_reply,
                     struct error *error)
{
    cleanup_transfer struct transfer transfer = TRANSFER_INIT(client);

    transfer.send = form;
    transfer.send_type = "Content-Type: application/x-www-form-urlencoded";
    if (perform(&transfer, "POST", path, error) < 0)
        return -1;
    return parse_reply(&transfer, ret_reply, error);
}

int http_client_text(struct http_client *client, const char *method, const char *path, char **ret_text,
                     size_t *ret_length, struct error *error)
{
    cleanup_transfer struct transfer transfer = TRANSFER_INIT(client);

    if (perform(&transfer, method, path, error) < 0)
        return -1;
    *ret_text = strbuf_detach(&transfer.reply, ret_length);
    return 0;
}

int http_client_upload(struct http_client *client, const char *method, const char *path, int fd, uint64_t size,
                       http_progress_fn progress, void *userdata, json_t **ret_reply, struct error *error)
{
    cleanup_transfer struct transfer transfer = TRANSFER_INIT(client);

    transfer.in_fd = fd;
    transfer.total = size;
    transfer.progress = progress;
    transfer.progress_userdata = userdata;
    if (perform(&transfer, method, path, error) < 0)
        return -1;
    return parse_reply(&transfer, ret_reply, error);
}

int http_client_download(struct http_client *client, const char *path, int fd, http_progress_fn progress,
                         void *userdata, uint64_t *ret_size, struct error *error)
{
    cleanup_transfer struct transfer transfer = TRANSFER_INIT(client);

    transfer.out_fd = fd;
    transfer.progress = progress;
    transfer.progress_userdata = userdata;
    if (perform(&transfer, "GET", path, error) < 0)
        return -1;
    if (ret_size)
        *ret_size = transfer.done;
    return 0;
}

/* -- paths -- */

static void add_encoded(struct strbuf *sb, const char *text, bool keep_slash)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z');

        if (plain || strchr("-._~:@", *p) || (keep_slash && *p == '/'))
            strbuf_addc(sb, (char)*p);
        else
            strbuf_addf(sb, "%%%02X", *p);
    }
}

char *http_path(const char *format, ...)
{
    struct strbuf path = STRBUF_INIT(LIMIT_HTTP_HEADER);
    va_list args;

    va_start(args, format);
    for (const char *p = format; *p; p++) {
        if (*p != '%') {
            strbuf_addc(&path, *p);
            continue;
        }
        switch (*++p) {
        case 's': add_encoded(&path, va_arg(args, const char *), false); break;
        case 'p': add_encoded(&path, va_arg(args, const char *), true); break;
        case 'd': strbuf_addf(&path, "%lld", (long long)va_arg(args, int64_t)); break;
        case '%': strbuf_addc(&path, '%'); break;
        default: abort();
        }
    }
    va_end(args);
    return strbuf_detach(&path, NULL);
}

#include <curl/curl.h>
#include <string.h>
#include "http/client-async.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

struct fetcher {
    struct loop *loop;
    CURLM *multi;
    struct loop_source *timer;
    struct list fetches;
};

struct fetch {
    struct list link;
    struct fetcher *fetcher;
    CURL *easy;
    struct curl_slist *headers;
    struct strbuf reply;
    char message[CURL_ERROR_SIZE];
    fetch_fn fn;
    void *userdata;
};

struct watch {
    struct fetcher *fetcher;
    struct loop_source *source;
    curl_socket_t socket;
};

static void fetch_free(struct fetch *fetch)
{
    list_unlink(&fetch->link);
    curl_multi_remove_handle(fetch->fetcher->multi, fetch->easy);
    curl_easy_cleanup(fetch->easy);
    curl_slist_free_all(fetch->headers);
    strbuf_release(&fetch->reply);
    free(fetch);
}

static void finish(struct fetch *fetch, CURLcode result)
{
    long status = 0;

    curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    if (result == CURLE_OK && !fetch->reply.overflowed)
        fetch->fn(fetch->userdata, (int)status, fetch->reply.data, fetch->reply.length);
    else if (fetch->reply.overflowed)
        fetch->fn(fetch->userdata, 0, "the answer is too long", 22);
    else {
        const char *why = *fetch->message ? fetch->message : curl_easy_strerror(result);

        fetch->fn(fetch->userdata, 0, why, strlen(why));
    }
    fetch_free(fetch);
}

static void collect(struct fetcher *fetcher)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(fetcher->multi, &left))) {
        void *fetch = NULL;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &fetch);
        finish(fetch, message->data.result);
    }
}

static void on_socket_ready(void *userdata, uint32_t events)
{
    struct watch *watch = userdata;
    struct fetcher *fetcher = watch->fetcher;
    int running, mask = 0;

    if (events & (EPOLLIN | EPOLLHUP))
        mask |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        mask |= CURL_CSELECT_OUT;
    if (events & EPOLLERR)
        mask |= CURL_CSELECT_ERR;
    curl_multi_socket_action(fetcher->multi, watch->socket, mask, &running);
    collect(fetcher);
}

static int on_curl_socket(CURL *easy, curl_socket_t socket, int what, void *userdata, void *socket_data)
{
    struct fetcher *fetcher = userdata;
    struct watch *watch = socket_data;
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            loop_remove(watch->source);
            curl_multi_assign(fetcher->multi, socket, NULL);
            free(watch);
        }
        return 0;
    }
    if (watch) {
        loop_update_fd(watch->source, events);
        return 0;
    }
    watch = xnew0(struct watch);
    watch->fetcher = fetcher;
    watch->socket = socket;
    watch->source = loop_add_fd(fetcher->loop, socket, events, on_socket_ready, watch);
    curl_multi_assign(fetcher->multi, socket, watch);
    return 0;
}

static void on_timer(void *userdata)
{
    struct fetcher *fetcher = userdata;
    int running;

    fetcher->timer = NULL;
    curl_multi_socket_action(fetcher->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(fetcher);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *userdata)
{
    struct fetcher *fetcher = userdata;

    fetcher->timer = loop_remove(fetcher->timer);
    if (timeout_ms >= 0)
        fetcher->timer = loop_add_timer(fetcher->loop, timeout_ms * NS_PER_MS, on_timer, fetcher);
    return 0;
}

static size_t on_data(char *data, size_t size, size_t n, void *userdata)
{
    struct fetch *fetch = userdata;

    strbuf_add(&fetch->reply, data, size * n);
    return fetch->reply.overflowed ? 0 : size * n;
}

struct fetcher *fetcher_new(struct loop *loop)
{
    struct fetcher *fetcher = xnew0(struct fetcher);

    curl_global_init(CURL_GLOBAL_DEFAULT);
    fetcher->loop = loop;
    list_init(&fetcher->fetches);
    fetcher->multi = curl_multi_init();
    if (!fetcher->multi)
        abort();
    curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
    curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
    curl_multi_setopt(fetcher->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, 16L);
    return fetcher;
}

struct fetcher *fetcher_free(struct fetcher *fetcher)
{
    struct fetch *fetch, *next;

    if (!fetcher)
        return NULL;
    list_for_each_safe(fetch, next, &fetcher->fetches, link)
        fetch_free(fetch);
    curl_multi_cleanup(fetcher->multi);
    loop_remove(fetcher->timer);
    free(fetcher);
    return NULL;
}

static void add_header(struct fetch *fetch, const char *name, const char *prefix, const char *value)
{
    cleanup_free char *line = xasprintf("%s: %s%s", name, prefix, value);

    fetch->headers = curl_slist_append(fetch->headers, line);
}

void fetcher_post(struct fetcher *fetcher, const struct fetch_request *request, fetch_fn fn, void *userdata)
{
    struct fetch *fetch = xnew0(struct fetch);

    fetch->fetcher = fetcher;
    fetch->fn = fn;
    fetch->userdata = userdata;
    strbuf_init(&fetch->reply, request->reply_max);
    list_append(&fetcher->fetches, &fetch->link);
    fetch->easy = curl_easy_init();
    if (!fetch->easy)
        abort();
    add_header(fetch, "Content-Type", "", request->content_type);
    add_header(fetch, "Accept", "", "application/json");
    add_header(fetch, "Expect", "", "");
    if (request->token)
        add_header(fetch, "Authorization", "Bearer ", request->token);
    curl_easy_setopt(fetch->easy, CURLOPT_PRIVATE, fetch);
    curl_easy_setopt(fetch->easy, CURLOPT_URL, request->url);
    if (request->unix_path)
        curl_easy_setopt(fetch->easy, CURLOPT_UNIX_SOCKET_PATH, request->unix_path);
    curl_easy_setopt(fetch->easy, CURLOPT_HTTPHEADER, fetch->headers);
    curl_easy_setopt(fetch->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->length);
    curl_easy_setopt(fetch->easy, CURLOPT_COPYPOSTFIELDS, request->body);
    curl_easy_setopt(fetch->easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(fetch->easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(fetch->easy, CURLOPT_ERRORBUFFER, fetch->message);
    curl_easy_setopt(fetch->easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(fetch->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(fetch->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_multi_add_handle(fetcher->multi, fetch->easy);
}

#include <string.h>
#include "format/frame.h"
#include "format/wire.h"
#include "gateway/balance.h"
#include "gateway/gateway.h"
#include "gateway/shadow.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/strbuf.h"
#include "util/utf8.h"
#include "util/xalloc.h"

/* What a copy has beside its call: the answer to compare with. codec_state of the call. */
struct copy {
    struct list link; /* in gateway->copies */
    struct call *call;
    char *answer;
    size_t length;
};

static const struct codec shadow_codec;

const char *shadow_drop_name(enum shadow_drop drop)
{
    static const char *const names[] = {
        [SHADOW_DROP_FULL] = "queue_full",
        [SHADOW_DROP_LARGE] = "too_large",
        [SHADOW_DROP_UNREADY] = "not_ready",
    };
    _Static_assert(ARRAY_SIZE(names) == SHADOW_DROP_COUNT_, "a name for each reason");

    return names[drop];
}

/* -- configuration -- */

static void sample_release(struct shadow_sample *sample)
{
    free(sample->request);
    free(sample->live);
    free(sample->shadow);
    *sample = (struct shadow_sample){0};
}

void shadow_free(struct shadow *shadow)
{
    if (!shadow)
        return;
    for (size_t i = 0; i < shadow->n_samples; i++)
        sample_release(&shadow->samples[i]);
    free(shadow->against);
    free(shadow);
}

/* Ends the copies of a route; NULL: all. */
static void cancel_copies(struct gateway *gateway, const struct route *route)
{
    struct copy *copy, *next;

    list_for_each_safe(copy, next, &gateway->copies, link) {
        if (!route || copy->call->route == route)
            call_cancel(copy->call);
    }
}

void shadow_end(struct gateway *gateway, struct route *route)
{
    if (!route->shadow)
        return;
    cancel_copies(gateway, route);
    shadow_free(steal_ptr(route->shadow));
}

void shadows_close(struct gateway *gateway)
{
    cancel_copies(gateway, NULL);
}

void shadow_configure(struct gateway *gateway, struct route *route, const json_t *wish)
{
    bool is_shadow = json_get_bool(wish, "shadow", false);
    double sample = json_get_number(wish, "sample", is_shadow ? 1 : 0);

    if (!is_shadow && sample <= 0) {
        shadow_end(gateway, route);
        return;
    }
    if (!route->shadow)
        route->shadow = xnew0(struct shadow);
    route->shadow->sample = sample;
    route->shadow->tolerance = json_get_number(wish, "tolerance", 0);
    free(route->shadow->against);
    route->shadow->against = xstrdup_null(json_get_string(wish, "against", NULL));
}

/* -- a copy begins -- */

static bool is_sampled(struct shadow *shadow)
{
    /* Fractions of the golden ratio, as in route.c: an even spread. */
    return (double)(++shadow->turn * UINT64_C(11400714819323198485) >> 11) * 0x1p-53 < shadow->sample;
}

/* The route that gets a copy of this request; NULL: none does. */
static struct route *choose_shadow(const struct call *call)
{
    struct route *route;

    list_for_each(route, &call->endpoint->routes, link) {
        if (route->shadow && route != call->route &&
            (!route->shadow->against || strcmp(route->shadow->against, call->route->version) == 0) &&
            is_sampled(route->shadow))
            return route;
    }
    return NULL;
}

/* Whether there is room for a copy of so many bytes. */
static bool has_room(const struct gateway *gateway, struct route *route, size_t size)
{
    enum shadow_drop why;

    if (size > LIMIT_SHADOW_REQUEST)
        why = SHADOW_DROP_LARGE;
    else if (!route_is_ready(route))
        why = SHADOW_DROP_UNREADY;
    else if (route->weight > 0 && (route->queue.count || route->n_running))
        why = SHADOW_DROP_FULL; /* its own requests come first */
    else if (route->queue.count >= LIMIT_SHADOW_QUEUE || gateway->copied_bytes + size > LIMIT_SHADOW_MEMORY)
        why = SHADOW_DROP_FULL;
    else
        return true;
    route->shadow->dropped[why]++;
    return false;
}

void shadow_plan(struct call *call, struct shadow_plan *ret)
{
    const struct call *whole = call->whole ? call->whole : call;
    struct route *route = whole->request && !whole->version && !call->parts ? choose_shadow(call) : NULL;
    const char *body;

    *ret = (struct shadow_plan){0};
    if (!route)
        return;
    if (call->encoded) {
        ret->length = call->encoded_length;
    } else {
        body = loop_request_body(call->request, &ret->length);
        if (has_room(call->gateway, route, ret->length))
            ret->body = xmemdup(ret->length ? body : "", ret->length ? ret->length : 1);
        else
            return;
    }
    if (call->encoded && !has_room(call->gateway, route, ret->length))
        return;
    ret->route = route;
    route_ref(route);
}

void shadow_discard(struct shadow_plan *plan)
{
    free(plan->body);
    if (plan->route)
        route_unref(plan->route);
    *plan = (struct shadow_plan){0};
}

void shadow_begin(struct call *call, struct shadow_plan *plan, const char *answer, size_t length)
{
    struct gateway *gateway = call->gateway;
    struct copy *copy;

    if (plan->route && plan->route->shadow && length > LIMIT_SHADOW_ANSWER)
        plan->route->shadow->dropped[SHADOW_DROP_LARGE]++;
    if (!plan->route || !plan->route->shadow || length > LIMIT_SHADOW_ANSWER) {
        shadow_discard(plan);
        return;
    }
    copy = xnew0(struct copy);
    copy->answer = xmalloc(length + 1);
    copy->length = length;
    memcpy(copy->answer, answer, length);
    copy->call = call_copy(call, plan->route, &shadow_codec);
    copy->call->encoded_length = plan->length;
    copy->call->encoded = plan->body ? steal_ptr(plan->body) : steal_ptr(call->encoded);
    copy->call->codec_state = copy;
    list_init(&copy->link);
    list_append(&gateway->copies, &copy->link);
    gateway->copied_bytes += copy->call->encoded_length + copy->length;
    shadow_discard(plan);
    balance_enqueue(gateway, copy->call);
}

static void release(struct call *call)
{
    struct copy *copy = call->codec_state;

    if (!copy)
        return;
    call->gateway->copied_bytes -= call->encoded_length + copy->length;
    list_unlink(&copy->link);
    free(copy->answer);
    free(copy);
}

/* -- and ends -- */

/* Tensors for people: "pixels FP32 [1,64]: 0 1 …" a line. */
static char *frame_text(const char *frame)
{
    cleanup_strbuf struct strbuf text = STRBUF_INIT(LIMIT_SHADOW_EXCERPT);

    for (uint32_t i = 0; i < frame_count(frame); i++) {
        const struct frame_entry *entry = &frame_entries(frame)[i];

        strbuf_addf(&text, "%s%s %s [", i ? "\n" : "", entry->name, frame_type_name(entry->type));
        for (uint32_t k = 0; k < entry->rank; k++)
            strbuf_addf(&text, "%s%lld", k ? "," : "", (long long)entry->shape[k]);
        strbuf_adds(&text, "]");
        difference_print(&text, frame, entry);
    }
    return xstrdup(text.data);
}

static char *excerpt(uint32_t kind, const char *data, size_t length)
{
    if (kind == WIRE_TENSORS && frame_check(data, length, NULL) == 0)
        return frame_text(data);
    return utf8_repair(xstrndup(data, length < LIMIT_SHADOW_EXCERPT ? length : LIMIT_SHADOW_EXCERPT));
}

/* Every one has the same chance to be kept (algorithm R, J. S. Vitter). */
static struct shadow_sample *place_for_sample(struct shadow *shadow)
{
    uint64_t place = shadow->noted++;

    if (place >= LIMIT_SHADOW_SAMPLES) {
        random_bytes(&place, sizeof(place));
        place %= shadow->noted;
    }
    if (place >= LIMIT_SHADOW_SAMPLES)
        return NULL;
    if (place == shadow->n_samples)
        shadow->n_samples++;
    sample_release(&shadow->samples[place]);
    return &shadow->samples[place];
}

/* Steals `answer`; NULL difference: it failed. */
static void note(const struct call *call, char *answer, const struct difference *difference)
{
    const struct copy *copy = call->codec_state;
    struct shadow_sample *sample = place_for_sample(call->route->shadow);

    if (!sample) {
        free(answer);
        return;
    }
    sample->wall_ms = clock_wall_ms();
    sample->request = excerpt(call->kind, call->encoded, call->encoded_length);
    sample->live = excerpt(call->kind, copy->answer, copy->length);
    sample->shadow = answer;
    sample->failed = !difference;
    if (difference)
        sample->difference = *difference;
}

static void compare(const struct call *call, const char *answer, size_t length, struct difference *ret)
{
    const struct copy *copy = call->codec_state;
    double tolerance = call->route->shadow->tolerance;
    bool is_small = length <= LIMIT_SHADOW_JSON && copy->length <= LIMIT_SHADOW_JSON;

    if (call->kind == WIRE_TENSORS && frame_check(answer, length, NULL) == 0 &&
        frame_check(copy->answer, copy->length, NULL) == 0)
        difference_of_frames(copy->answer, answer, tolerance, ret);
    else if (call->kind != WIRE_TENSORS && is_small)
        difference_of_text(copy->answer, copy->length, answer, length, tolerance, ret);
    else
        *ret = (struct difference){.agree = length == copy->length && memcmp(answer, copy->answer, length) == 0};
}

/* The shadow's answer. */
static int encode(struct call *call, const char *body, size_t length, struct error *error)
{
    struct shadow *shadow = call->route->shadow;
    cleanup_free char *answer = NULL;
    struct difference difference;

    if (!shadow)
        return 0;
    if (length > LIMIT_SHADOW_ANSWER) {
        shadow->dropped[SHADOW_DROP_LARGE]++;
        return 0;
    }
    answer = xmalloc(length + 1); /* a copy: the worker could change it under our hands */
    memcpy(answer, body, length);
    answer[length] = 0;
    compare(call, answer, length, &difference);
    if (difference.max_abs > shadow->max_abs)
        shadow->max_abs = difference.max_abs;
    if (difference.max_rel > shadow->max_rel)
        shadow->max_rel = difference.max_rel;
    if (difference.agree) {
        shadow->agreed++;
        return 0;
    }
    shadow->disagreed++;
    note(call, excerpt(call->kind, answer, length), &difference);
    return 0;
}

void shadow_failed(struct call *call, enum outcome outcome, const char *message)
{
    struct shadow *shadow = call->codec == &shadow_codec ? call->route->shadow : NULL;

    if (!shadow)
        return;
    if (outcome == OUTCOME_QUEUE_FULL) {
        shadow->dropped[SHADOW_DROP_FULL]++;
        return;
    }
    shadow->failed++;
    note(call, xstrndup(message, LIMIT_SHADOW_EXCERPT), NULL);
}

static const struct codec shadow_codec = {.name = "shadow", .encode = encode, .release = release};

/* -- for people -- */

json_t *shadow_describe(const struct route *route)
{
    const struct shadow *shadow = route->shadow;
    json_t *value, *dropped;

    if (!shadow)
        return json_null();
    dropped = json_object();
    for (int i = 0; i < SHADOW_DROP_COUNT_; i++)
        json_set_int(dropped, shadow_drop_name(i), (int64_t)shadow->dropped[i]);
    value = json_build("{s:f, s:f, s:s?, s:I, s:I, s:I, s:I, s:o}", "sample", shadow->sample, "tolerance",
                       shadow->tolerance, "against", shadow->against, "copies",
                       (json_int_t)(shadow->agreed + shadow->disagreed + shadow->failed), "agreed",
                       (json_int_t)shadow->agreed, "disagreed", (json_int_t)shadow->disagreed, "failed",
                       (json_int_t)shadow->failed, "dropped", dropped);
    json_set_number(value, "max_abs", shadow->max_abs);
    json_set_number(value, "max_rel", shadow->max_rel);
    return value;
}

json_t *shadow_samples(const struct route *route)
{
    json_t *list = json_array();

    for (size_t i = 0; route->shadow && i < route->shadow->n_samples; i++) {
        const struct shadow_sample *sample = &route->shadow->samples[i];
        json_t *value = json_build("{s:o, s:o, s:o, s:b, s:b}", "request", json_string_lossy(sample->request), "live",
                                   json_string_lossy(sample->live), "shadow", json_string_lossy(sample->shadow),
                                   "failed", sample->failed, "numeric", sample->difference.is_numeric);

        json_set_time_ms(value, "time", sample->wall_ms);
        json_set_number(value, "max_abs", sample->difference.max_abs);
        json_set_number(value, "max_rel", sample->difference.max_rel);
        json_array_append_new(list, value);
    }
    return list;
}

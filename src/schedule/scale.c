#include "schedule/scale.h"

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static struct scale_decision change(int64_t wished, const char *reason)
{
    return (struct scale_decision){wished, reason, SCALE_NEVER};
}

/* Waiting twice as long as it may is answered with twice as many replicas, waiting a little too long with one more. */
static int64_t step_up(const struct scale_rule *rule, const struct scale_view *v)
{
    int64_t target = rule->queue_time_us > 0 ? rule->queue_time_us : 1;
    int64_t excess = v->window.queue_time_us - target;
    int64_t step = excess >= target ? v->wished : v->wished * excess / target;

    return step < 1 ? 1 : step;
}

struct scale_decision scale_decide(const struct scale_rule *rule, const struct scale_view *v)
{
    struct scale_decision stay = {v->wished, NULL, SCALE_NEVER};

    if (v->wished < rule->min)
        return change(rule->min, "minimum");
    if (v->wished > rule->max)
        return change(rule->max, "maximum");
    if (!v->is_known)
        return stay;
    if (v->wished == 0)
        return v->window.queued > 0 ? change(1, "request") : stay;
    if (v->window.level == LOAD_OVER) {
        if (v->wished == rule->max || v->ready < v->wished || v->window.ready < v->wished)
            return stay;
        return change(least(rule->max, v->wished + step_up(rule, v)), "queue_time");
    }
    if (v->window.level == LOAD_IDLE && rule->min == 0) {
        if (v->idle_ns >= rule->idle_after_ns)
            return change(0, "idle");
        stay.again_ns = rule->idle_after_ns - v->idle_ns;
    }
    if (v->window.level <= LOAD_SLACK && v->wished > (rule->min > 1 ? rule->min : 1)) {
        if (v->calm_ns >= rule->down_after_ns)
            return change(v->wished - 1, "slack");
        stay.again_ns = least(stay.again_ns, rule->down_after_ns - v->calm_ns);
    }
    return stay;
}

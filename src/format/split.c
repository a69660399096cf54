#include "format/split.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include "util/parse.h"
#include "util/strvec.h"
#include "util/xalloc.h"

struct split_draw {
    size_t parts, classes;
    uint64_t *left;  /* [class][part]: places not given away */
    uint64_t *rows;  /* [class]: rows to come */
    uint64_t *sizes; /* [part] */
    uint64_t state[4];
};

int split_parse(const char *text, struct split_plan *ret_plan, struct error *error)
{
    cleanup_split_plan struct split_plan plan = {.count = 0};
    cleanup_strvec struct strvec items = STRVEC_INIT;
    double sum = 0;

    strvec_split(&items, text, ',');
    if (items.count > SPLIT_MAX)
        return error_set(error, ERROR_TOO_LARGE, "a split has at most %d parts", SPLIT_MAX);
    for (size_t i = 0; i < items.count; i++) {
        char *item = items.items[i], *equals = strchr(item, '=');
        struct split_part *part = &plan.parts[plan.count];

        if (!equals)
            return error_set(error, ERROR_INVALID, "'%s' is not NAME=SHARE, e.g. train=0.8,test=0.2", text);
        *equals = '\0';
        if (parse_name(item, "split", error) < 0)
            return -1;
        for (size_t k = 0; k < plan.count; k++)
            if (strcmp(plan.parts[k].name, item) == 0)
                return error_set(error, ERROR_INVALID, "two parts of the split are called '%s'", item);
        if (parse_number(equals + 1, 0, 1, &part->share, error) < 0)
            return error_wrap(error, "share of %s", item);
        if (part->share <= 0)
            return error_set(error, ERROR_INVALID, "the share of %s must be greater than 0", item);
        part->name = xstrdup(item);
        plan.count++;
        sum += part->share;
    }
    if (fabs(sum - 1) > 1e-9)
        return error_set(error, ERROR_INVALID, "the shares of '%s' add up to %g, not to 1", text, sum);
    *ret_plan = plan;
    plan.count = 0;
    return 0;
}

void split_plan_release(struct split_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++)
        free(plan->parts[i].name);
    plan->count = 0;
}

/* splitmix64 spreads the seed, xoshiro256** draws (Blackman and Vigna 2018). */
static uint64_t spread(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static uint64_t draw_u64(uint64_t s[4])
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* Uniform below n > 0, without bias: multiply and reject (Lemire 2019). */
static uint64_t draw_below(uint64_t s[4], uint64_t n)
{
    unsigned __int128 product = (unsigned __int128)draw_u64(s) * n;

    if ((uint64_t)product < n) {
        uint64_t threshold = -n % n;

        while ((uint64_t)product < threshold)
            product = (unsigned __int128)draw_u64(s) * n;
    }
    return product >> 64;
}

/* Whole numbers that add up to `rows`, each part's share but for less than one. `debt` carries what earlier
 * classes were rounded by, so that the sums over all classes are right as well. */
static void apportion(const struct split_plan *plan, uint64_t rows, double *debt, uint64_t *sizes)
{
    uint64_t given = 0;
    double rest[SPLIT_MAX];

    for (size_t i = 0; i < plan->count; i++) {
        double exact = plan->parts[i].share * rows;

        sizes[i] = (uint64_t)floor(exact + 1e-9);
        rest[i] = exact - sizes[i] + debt[i];
        given += sizes[i];
    }
    while (given < rows) {
        size_t most = 0;

        for (size_t i = 1; i < plan->count; i++)
            if (rest[i] > rest[most] + 1e-9)
                most = i;
        sizes[most]++;
        rest[most] -= 1;
        given++;
    }
    memcpy(debt, rest, plan->count * sizeof(*debt));
}

struct split_draw *split_draw_new(const struct split_plan *plan, uint64_t seed, size_t classes, const uint64_t *rows)
{
    struct split_draw *draw = xnew0(struct split_draw);
    double debt[SPLIT_MAX] = {0};

    assert(plan->count > 0);
    draw->parts = plan->count;
    draw->classes = classes;
    draw->left = xcalloc(classes * plan->count + 1, sizeof(*draw->left));
    draw->sizes = xcalloc(plan->count, sizeof(*draw->sizes));
    draw->rows = xcalloc(classes + 1, sizeof(*draw->rows));
    for (size_t c = 0; c < classes; c++) {
        uint64_t *left = draw->left + c * plan->count;

        draw->rows[c] = rows[c];
        apportion(plan, rows[c], debt, left);
        for (size_t i = 0; i < plan->count; i++)
            draw->sizes[i] += left[i];
    }
    for (int i = 0; i < 4; i++)
        draw->state[i] = spread(&seed);
    return draw;
}

struct split_draw *split_draw_free(struct split_draw *draw)
{
    if (!draw)
        return NULL;
    free(draw->left);
    free(draw->rows);
    free(draw->sizes);
    free(draw);
    return NULL;
}

uint64_t split_size(const struct split_draw *draw, size_t part)
{
    return draw->sizes[part];
}

json_t *split_describe(const struct split_plan *plan, const struct split_draw *draw)
{
    json_t *parts = json_array();

    for (size_t i = 0; i < plan->count; i++)
        json_array_append_new(
            parts, json_build("{s:s, s:I}", "name", plan->parts[i].name, "rows", (json_int_t)draw->sizes[i]));
    return parts;
}

size_t split_next(struct split_draw *draw, size_t class)
{
    uint64_t *left = draw->left + class * draw->parts, at;

    assert(class < draw->classes && draw->rows[class] > 0);
    at = draw_below(draw->state, draw->rows[class]--);
    for (size_t i = 0;; i++) {
        assert(i < draw->parts);
        if (at < left[i]) {
            left[i]--;
            return i;
        }
        at -= left[i];
    }
}

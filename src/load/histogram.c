#include <math.h>
#include "load/histogram.h"
#include "util/xalloc.h"

#define SUB_BITS   10
#define SUB_COUNT  (1u << SUB_BITS)
#define MAX_BITS   62
#define SLOT_COUNT ((MAX_BITS - SUB_BITS + 1) * SUB_COUNT)

struct histogram {
    uint64_t count;
    double sum;
    int64_t max;
    uint64_t slots[SLOT_COUNT];
};

struct histogram *histogram_new(void)
{
    return xnew0(struct histogram);
}

struct histogram *histogram_free(struct histogram *histogram)
{
    free(histogram);
    return NULL;
}

/*
 * Values below SUB_COUNT have a slot each. Above, the exponent chooses a group of SUB_COUNT slots and the
 * next SUB_BITS bits below the leading one choose the slot:
 *
 *     value  1 b b b b b b b b b b x x x x      exponent = position of the leading one
 *              `------ slot -----'
 */
static unsigned slot_of(int64_t ns)
{
    uint64_t v = ns < 0 ? 0 : (uint64_t)ns;
    unsigned exponent;

    if (v < SUB_COUNT)
        return (unsigned)v;
    if (v >> MAX_BITS)
        v = (UINT64_C(1) << MAX_BITS) - 1;
    exponent = 63 - (unsigned)__builtin_clzll(v);
    return (exponent - SUB_BITS + 1) * SUB_COUNT + (unsigned)(v >> (exponent - SUB_BITS)) - SUB_COUNT;
}

/* The greatest value of a slot. */
static int64_t slot_top(unsigned slot)
{
    unsigned group = slot / SUB_COUNT, part = slot % SUB_COUNT;

    if (group == 0)
        return part;
    return (int64_t)(((uint64_t)(SUB_COUNT + part + 1) << (group - 1)) - 1);
}

void histogram_record(struct histogram *histogram, int64_t ns)
{
    histogram->slots[slot_of(ns)]++;
    histogram->count++;
    histogram->sum += (double)ns;
    if (ns > histogram->max)
        histogram->max = ns;
}

void histogram_add(struct histogram *to, const struct histogram *from)
{
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        to->slots[i] += from->slots[i];
    to->count += from->count;
    to->sum += from->sum;
    if (from->max > to->max)
        to->max = from->max;
}

uint64_t histogram_count(const struct histogram *histogram)
{
    return histogram->count;
}

int64_t histogram_quantile(const struct histogram *histogram, double q)
{
    uint64_t want = (uint64_t)ceil(q * (double)histogram->count), seen = 0;

    if (want == 0)
        want = 1;
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        seen += histogram->slots[i];
        if (seen >= want) {
            int64_t top = slot_top(i);

            return top < histogram->max ? top : histogram->max;
        }
    }
    return histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->count ? histogram->sum / (double)histogram->count : 0;
}

int64_t histogram_max(const struct histogram *histogram)
{
    return histogram->max;
}

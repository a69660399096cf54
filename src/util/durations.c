#include <math.h>
#include "util/clock.h"
#include "util/durations.h"

#define PART_BITS 4
_Static_assert(1 << PART_BITS == DURATIONS_PARTS, "parts are bits");

/*
 * Below 16 µs a slot is a microsecond. Above, the position of the leading one chooses a group of 16 slots, and the four
 * bits behind it the slot.
 */
static unsigned slot_of(int64_t ns)
{
    uint64_t us = ns > 0 ? (uint64_t)ns / NS_PER_US : 0;
    unsigned exponent, slot;

    if (us < DURATIONS_PARTS)
        return (unsigned)us;
    exponent = 63 - (unsigned)__builtin_clzll(us);
    slot = (exponent - PART_BITS) * DURATIONS_PARTS + (unsigned)(us >> (exponent - PART_BITS));
    return slot < DURATIONS_SLOTS ? slot : DURATIONS_SLOTS - 1;
}

/* The least duration of a slot, µs. */
static double slot_begin(unsigned slot)
{
    unsigned group = slot / DURATIONS_PARTS, part = slot % DURATIONS_PARTS;

    return group == 0 ? part : ldexp(DURATIONS_PARTS + part, (int)group - 1);
}

void durations_add(struct durations *durations, int64_t ns)
{
    durations->slots[slot_of(ns)]++;
}

uint64_t durations_count(const struct durations *durations)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < DURATIONS_SLOTS; i++)
        count += durations->slots[i];
    return count;
}

double durations_quantile_ms(const struct durations *durations, double q)
{
    double wanted = q * (double)durations_count(durations), seen = 0;

    for (unsigned i = 0; i < DURATIONS_SLOTS; i++) {
        double here = (double)durations->slots[i];

        /* Within a slot they are taken to be spread evenly. */
        if (here > 0 && seen + here >= wanted)
            return (slot_begin(i) + (slot_begin(i + 1) - slot_begin(i)) * (wanted - seen) / here) / 1000;
        seen += here;
    }
    return NAN;
}

json_t *durations_to_json(const struct durations *durations)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < DURATIONS_SLOTS; i++) {
        if (durations->slots[i])
            json_array_append_new(list, json_build("[i, I]", (int)i, (json_int_t)durations->slots[i]));
    }
    return list;
}

void durations_add_json(struct durations *durations, const json_t *json)
{
    json_t *pair;
    size_t i;

    json_array_foreach(json, i, pair) {
        json_int_t slot = json_integer_value(json_array_get(pair, 0)),
                   count = json_integer_value(json_array_get(pair, 1));

        if (slot >= 0 && slot < DURATIONS_SLOTS && count > 0)
            durations->slots[slot] += (uint64_t)count;
    }
}

void durations_subtract(struct durations *durations, const struct durations *earlier)
{
    for (unsigned i = 0; i < DURATIONS_SLOTS; i++)
        durations->slots[i] -= earlier->slots[i] < durations->slots[i] ? earlier->slots[i] : durations->slots[i];
}

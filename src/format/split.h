/*
 * Which row goes to which split: exact sizes, one pass, the same for the same seed on every machine.
 *
 * Sizes are the shares of the rows by the largest remainder. Rows are drawn by selection sampling (Knuth,
 * TAOCP vol. 2, algorithm S): with r rows and k places left in a split, the next row gets one of them with
 * probability k / r. Stratified, each class is drawn like that for itself.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "util/error.h"
#include "util/json.h"

#define SPLIT_MAX 16

struct split_part {
    char *name;
    double share;
};

struct split_plan {
    struct split_part parts[SPLIT_MAX];
    size_t count; /* 0: no split */
};

/* "train=0.8,test=0.2": names as parse_name() takes them, shares above 0 that add up to 1. */
int split_parse(const char *text, struct split_plan *ret_plan, struct error *error);
void split_plan_release(struct split_plan *plan);
#define cleanup_split_plan CLEANUP(split_plan_release)

/* Draws for `classes` classes of `rows[class]` rows each (1 class: not stratified). */
struct split_draw;
struct split_draw *split_draw_new(const struct split_plan *plan, uint64_t seed, size_t classes, const uint64_t *rows);
struct split_draw *split_draw_free(struct split_draw *draw);
DEFINE_CLEANUP(struct split_draw *, split_draw_free)
#define cleanup_split_draw CLEANUP(split_draw_free_cleanup)

/* Rows of a part over all classes. */
uint64_t split_size(const struct split_draw *draw, size_t part);
/* [{"name":"train","rows":1438}…] */
json_t *split_describe(const struct split_plan *plan, const struct split_draw *draw);
/* The part of the next row, whose class this is. */
size_t split_next(struct split_draw *draw, size_t class);

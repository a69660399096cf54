/*
 * Writes intake.jsonl: numbered lines, in groups, each group synced before readers are told.
 *
 * A line is in memory until its group is written; a group that cannot be written (disk full) stays in memory
 * and is tried again every second, and what a failed write left in the file is cut off: the file only ever
 * grows by whole lines. Producers that can wait (metrics) ask intake_has_room() first, so memory is bounded.
 * The notification is a change of the file's time stamps after the sync (IN_ATTRIB).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "util/json.h"
#include "util/loop.h"

struct intake;

/* Creates the file; it must not exist. */
int intake_open(const char *path, struct loop *loop, struct intake **ret_intake, struct error *error);
struct intake *intake_close(struct intake *intake);
DEFINE_CLEANUP(struct intake *, intake_close)
#define cleanup_intake CLEANUP(intake_close_cleanup)

/* True if a bulk producer may add more now. */
bool intake_has_room(const struct intake *intake);
/* Adds a line of this type with the object's fields (steals; NULL: none). It is written within 50 ms. */
void intake_add(struct intake *intake, const char *type, json_t *fields);
/* A line of type warning. Beyond 1,000 of a code they are only counted. */
void intake_warn(struct intake *intake, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Adds lines for the warnings that were only counted. */
void intake_add_dropped(struct intake *intake);
/* Writes and syncs what is in memory. On failure it stays there, and a timer is set. */
int intake_flush(struct intake *intake, struct error *error);

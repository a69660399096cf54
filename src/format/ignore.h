/*
 * Which files of a directory do not belong into a package: lines of glob patterns as in .gitignore.
 *
 *     # comment          nothing
 *     *.log              any file or directory of that name, at any depth
 *     data/              directories only
 *     /notes.txt, a/b    relative to the root, because of the '/' before the end
 *     **\/tmp            "**" also crosses '/' ("*", "?" and "[a-z]" do not)
 *     !keep.log          takes back what an earlier line said; the last match counts
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "util/cleanup.h"

struct ignore_rule;

struct ignore {
    struct ignore_rule *rules;
    size_t count, capacity;
};

#define IGNORE_INIT {NULL, 0, 0}

void ignore_add(struct ignore *ignore, const char *line, size_t length);
/* All lines of a file's text. */
void ignore_add_lines(struct ignore *ignore, const char *text);
/* `name` is relative to the root, without "./". */
bool ignore_matches(const struct ignore *ignore, const char *name, bool is_directory);
void ignore_release(struct ignore *ignore);
#define cleanup_ignore CLEANUP(ignore_release)

/* The glob alone. */
bool glob_matches(const char *pattern, const char *text);

/*
 * The directories of a node: what the program sees as /slipway, and its working directory.
 *
 *     view/                  root of the tree; belongs to us, so that the program cannot exchange what is in
 * it metrics.jsonl      the program's weights/ out/      the program's params.json        read-only code
 * data/… resume/…   mount points (container) or links (process) work/                  removed when the node
 * ends tree/              process, or without overlay: a copy of the code; the working directory upper/ work/
 * overlay: what differs from the code
 */
#pragma once

#include <stdint.h>
#include "monitor/intake.h"
#include "monitor/spec.h"

/* Once, before the first start. */
int view_create(const char *directory, const struct monitor_spec *spec, struct error *error);
/* Before each start: a fresh working directory. */
int view_create_work(const char *directory, const struct monitor_spec *spec, struct error *error);
/* After the last end: removes work/. */
void view_remove_work(const char *directory);

/* After the last end: moves view/out to out/, removes what is neither file nor directory and what passes the
 * limit (with a warning), and lists the rest: {"artifacts":[{"path","size"}…],"artifacts_total":n}. */
json_t *view_collect_output(const char *directory, const struct monitor_spec *spec, struct intake *intake);

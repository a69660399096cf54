/*
 * A monitor that was started before there is a node for it: the dynamic linker's work is done when the node comes.
 *
 *     spare_prepare ──► slipway monitor --wait DATA   reads a line from its standard input
 *     spare_take    ──► "DATA/runs/…/0\n"             from now on it is that node's monitor
 *     spare_free    ──► end of file                   it ends; so it does when we are killed
 */
#pragma once

#include <sys/types.h>

struct spare;

/* `program` is borrowed; `data_directory` is what people recognise the process by. */
struct spare *spare_new(const char *program, const char *data_directory);
/* Accepts NULL; returns NULL. */
struct spare *spare_free(struct spare *spare);

/* Starts one unless there is one. A failure is no error: there is none then. */
void spare_prepare(struct spare *spare);
/* Makes it the monitor of the node; its pid, or 0 if there is none. It is the caller's child from now on. */
pid_t spare_take(struct spare *spare, const char *directory);

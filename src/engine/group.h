/*
 * A network of its own for the nodes of one run: a namespace with nothing but a loopback interface, which
 * they share, so that they reach each other at 127.0.0.1 and nothing else.
 *
 * The namespace is held by a file that it is mounted on, so it outlives the daemon as its nodes do.
 */
#pragma once

#include "util/error.h"

/* Does nothing if it is there already. Needs CAP_SYS_ADMIN. */
int group_network_create(const char *path, struct error *error);
/* Nodes that still run keep it until they end. Absent is fine. */
void group_network_remove(const char *path);

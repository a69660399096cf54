/*
 * The daemon's numbers in the text format of Prometheus (version 0.0.4).
 */
#pragma once

#include "api/daemon.h"
#include "util/strbuf.h"

int metrics_write(struct daemon *daemon, struct strbuf *into, struct error *error);

/*
 * The HTTP surface of the gateway: which call a request is.
 */
#pragma once

#include "util/error.h"

struct gateway;

/* Opens gateway->server and its addresses. */
int listener_open(struct gateway *gateway, struct error *error);

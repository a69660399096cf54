/*
 * The drivers, for the table in engine.c.
 */
#pragma once

#include "engine/engine.h"

extern const struct engine_driver local_driver, process_driver, fake_driver, disabled_driver;

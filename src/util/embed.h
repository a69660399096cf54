/*
 * Files of the source tree inside of the binary.
 *
 *     EMBED(migration_0001, "src/store/migrations/0001-store.sql");
 *     use(embedded_migration_0001, EMBED_LENGTH(migration_0001));
 *
 * The content is followed by a NUL, so that text can be used as a string; the length does not count it.
 * The path is relative to the root of the source tree. The compiler does not tell the build of such
 * files: a meson.build that embeds them adds a stamp of them (see store/meson.build), which the source
 * includes.
 */
#pragma once

#include <stddef.h>
#include "config.h"

#define EMBED(symbol, path)                                                                                            \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".balign 16\n"                                                                                             \
            ".globl embedded_" #symbol "\n"                                                                            \
            "embedded_" #symbol ":\n"                                                                                  \
            ".incbin \"" SLIPWAY_SOURCE_ROOT "/" path "\"\n"                                                           \
            ".globl embedded_end_" #symbol "\n"                                                                        \
            "embedded_end_" #symbol ":\n"                                                                              \
            ".byte 0\n"                                                                                                \
            ".popsection\n");                                                                                          \
    extern const char embedded_##symbol[];                                                                             \
    extern const char embedded_end_##symbol[]

#define EMBED_LENGTH(symbol) ((size_t)(embedded_end_##symbol - embedded_##symbol))

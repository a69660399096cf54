/*
 * What every unit test includes: cmocka with its prerequisites, and assertions whose failures print
 * values. Tests stand beside the object they test, as test-<object>.c.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "util/error.h"
#include "util/fs.h"
#include "util/xalloc.h"

/* The call succeeded; prints the error's message if not. `error` is the object that was given to it. */
#define assert_ok(call, error)                                                                                         \
    do {                                                                                                               \
        if ((call) < 0)                                                                                                \
            fail_msg("%s failed: %s", #call, (error)->message ? (error)->message : "(no message)");                    \
    } while (0)

/* The call failed with this code, and the message holds the text. Clears the error. */
#define assert_error(call, error, expected_code, text)                                                                 \
    do {                                                                                                               \
        if ((call) >= 0)                                                                                               \
            fail_msg("%s succeeded, expected %s", #call, error_code_name(expected_code));                              \
        if ((error)->code != (expected_code) || !strstr((error)->message, (text)))                                     \
            fail_msg("%s: got %s: '%s', expected %s with '%s'", #call, error_code_name((error)->code),                 \
                     (error)->message, error_code_name(expected_code), (text));                                        \
        error_clear(error);                                                                                            \
    } while (0)

static inline char *test_directory_below(const char *parent)
{
    char *path = xasprintf("%s/slipway-test-XXXXXX", parent);

    if (!mkdtemp(path))
        fail_msg("cannot make %s", path);
    return path;
}

/* A fresh directory for one test; test_directory_remove() ends it. To be freed. */
static inline char *test_directory_new(void)
{
    return test_directory_below("/tmp");
}

/* The same where a disk is meant: /tmp is memory on many machines. */
static inline char *test_directory_on_disk_new(void)
{
    return test_directory_below("/var/tmp");
}

static inline void test_directory_remove(char *path)
{
    fs_remove_all(path, NULL);
    free(path);
}

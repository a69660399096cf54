/*
 * Scope-bound resources.
 *
 * A local declared with one of the cleanup_* attributes is released when its scope ends, on every
 * path. To hand it out, steal it:
 *
 *     cleanup_free char *path = NULL;
 *     ...
 *     *ret_path = steal_ptr(path);
 *
 * Each object defines its own attribute beside its destructor with DEFINE_CLEANUP; the ones here
 * are for resources of the C library.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A variable that only holds on to something counts as used. */
#define CLEANUP(f) __attribute__((cleanup(f), unused))

/* Defines f_cleanup(type **) that calls f(*p); f must accept NULL. */
#define DEFINE_CLEANUP(type, f)                                                                                        \
    static inline void f##_cleanup(type *p)                                                                            \
    {                                                                                                                  \
        if (*p)                                                                                                        \
            f(*p);                                                                                                     \
    }

/* Evaluates to the pointer and leaves NULL in its place. */
#define steal_ptr(p)                                                                                                   \
    ({                                                                                                                 \
        __typeof__(p) *p_ = &(p);                                                                                      \
        __typeof__(p) v_ = *p_;                                                                                        \
        *p_ = NULL;                                                                                                    \
        v_;                                                                                                            \
    })

/* Evaluates to the file descriptor and leaves -1 in its place. */
static inline int steal_fd(int *fd)
{
    int v = *fd;

    *fd = -1;
    return v;
}

static inline void cleanup_free_(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close_(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_fclose_(FILE **f)
{
    if (*f)
        fclose(*f);
}

static inline void cleanup_closedir_(DIR **d)
{
    if (*d)
        closedir(*d);
}

#define cleanup_free     CLEANUP(cleanup_free_)
#define cleanup_close    CLEANUP(cleanup_close_)
#define cleanup_fclose   CLEANUP(cleanup_fclose_)
#define cleanup_closedir CLEANUP(cleanup_closedir_)

#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

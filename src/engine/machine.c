#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "engine/machine.h"
#include "util/fs.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define FILE_MAX (1 << 20)

double machine_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return (double)sysconf(_SC_NPROCESSORS_ONLN);
    return CPU_COUNT(&set);
}

/* A limit from a control file; UINT64_MAX where there is none. */
static uint64_t read_limit(const char *root, const char *path, const char *file)
{
    cleanup_free char *name = xasprintf("%s%s/%s", root, strcmp(path, "/") == 0 ? "" : path, file), *text = NULL;
    char *end;
    unsigned long long value;

    if (fs_read(name, FILE_MAX, &text, NULL, NULL) < 0)
        return UINT64_MAX;
    value = strtoull(text, &end, 10);
    return end == text ? UINT64_MAX : value;
}

/* "4:memory:/path" or "0::/path" of /proc/self/cgroup. */
static uint64_t group_limit(const char *line)
{
    const char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

    if (!path)
        return UINT64_MAX;
    path++;
    if (strncmp(controllers, "::", 2) == 0)
        return read_limit("/sys/fs/cgroup", path, "memory.max");
    if (strncmp(controllers, ":memory:", 8) == 0)
        return read_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes");
    return UINT64_MAX;
}

uint64_t machine_memory(void)
{
    uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    cleanup_strvec struct strvec lines = STRVEC_INIT;
    cleanup_free char *text = NULL;

    if (fs_read("/proc/self/cgroup", FILE_MAX, &text, NULL, NULL) < 0)
        return least;
    strvec_split(&lines, text, '\n');
    for (size_t i = 0; i < lines.count; i++) {
        uint64_t limit = group_limit(lines.items[i]);

        if (limit < least)
            least = limit;
    }
    return least;
}

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>
#include "monitor/monitor.h"
#include "util/cleanup.h"
#include "util/fs.h"
#include "util/xalloc.h"

static int read_line(char *line, size_t size, size_t *ret_length, struct error *error)
{
    size_t length = 0;

    while (length == 0 || line[length - 1] != '\n') {
        ssize_t n = read(STDIN_FILENO, line + length, size - length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot read the name of a directory");
        if (n == 0) {
            *ret_length = 0;
            return 0;
        }
        length += (size_t)n;
        if (length == size && line[length - 1] != '\n')
            return error_set(error, ERROR_TOO_LARGE, "the name of the directory is too long");
    }
    *ret_length = length - 1;
    return 0;
}

int monitor_wait(char **ret_directory, struct error *error)
{
    char line[PATH_MAX + 1];
    cleanup_free char *directory = NULL, *log = NULL;
    cleanup_close int input = -1, output = -1;
    size_t length = 0;

    if (read_line(line, sizeof(line), &length, error) < 0)
        return -1;
    if (length == 0) {
        *ret_directory = NULL;
        return 0;
    }
    directory = xstrndup(line, length);
    log = fs_join(directory, "monitor.log");
    input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (input < 0 || output < 0 || dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0)
        return error_set_errno(error, errno, "cannot use %s", log);
    *ret_directory = steal_ptr(directory);
    return 0;
}

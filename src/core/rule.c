#include <errno.h>
#include <jq.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "core/rule.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/proc.h"
#include "util/sanitizer.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

/* -- the child -- */

struct jq_scope {
    jq_state *jq;
    struct strbuf messages; /* of the compiler, one a line */
};

static void jq_scope_release(struct jq_scope *scope)
{
    if (scope->jq)
        jq_teardown(&scope->jq);
    strbuf_release(&scope->messages);
}
#define cleanup_jq_scope CLEANUP(jq_scope_release)

static void on_message(void *userdata, jv message)
{
    struct jq_scope *scope = userdata;

    message = jq_format_error(message);
    if (jv_get_kind(message) == JV_KIND_STRING && scope->messages.length < LIMIT_DESCRIPTION / 2)
        strbuf_addf(&scope->messages, "%s%s", scope->messages.length ? "\n" : "", jv_string_value(message));
    jv_free(message);
}

/* The program can open nothing (a module is a file), start nothing, and grow only so far. */
static int confine(struct error *error)
{
    static const struct {
        int resource;
        rlim_t value;
    } limits[] = {
        {RLIMIT_NOFILE, 3},
        {RLIMIT_NPROC, 0},
        {RLIMIT_CORE, 0},
        {RLIMIT_FSIZE, 4 * LIMIT_RULE_OUTPUT},
        {RLIMIT_CPU, LIMIT_RULE_TIME_MS / 1000 + 1},
        {RLIMIT_AS, SANITIZER ? RLIM_INFINITY : LIMIT_RULE_MEMORY},
    };

    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        const struct rlimit limit = {limits[i].value, limits[i].value};

        if (setrlimit(limits[i].resource, &limit) < 0)
            return error_set_errno(error, errno, "cannot limit a rule's process");
    }
    return 0;
}

/* "jq: error: syntax error, …" → "syntax error, …", and only the first paragraph of it. */
static const char *tidy(struct strbuf *messages)
{
    static const char *const prefixes[] = {"jq: error: ", "jq: error (at <unknown>): ", "error: "};
    char *text = messages->data, *end = strstr(text, "\njq: ");

    if (end)
        *end = 0;
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0)
            text += strlen(prefixes[i]);
    for (char *p = text; *p; p++)
        if (*p == '\n')
            *p = ' ';
    return text;
}

static int add_value(json_t *values, size_t *total, jv value, struct error *error)
{
    jv text = jv_dump_string(value, 0);
    size_t length = (size_t)jv_string_length_bytes(jv_copy(text));
    json_t *parsed = NULL;

    *total += length;
    if (*total > LIMIT_RULE_OUTPUT)
        error_set(error, ERROR_TOO_LARGE, "the rule gives more than %llu bytes", (unsigned long long)LIMIT_RULE_OUTPUT);
    else
        parsed = json_parse(jv_string_value(text), length, error);
    jv_free(text);
    if (!parsed)
        return -1;
    json_array_append_new(values, parsed);
    return 0;
}

static int run_program(struct jq_scope *scope, const char *document, size_t length, json_t *values, struct error *error)
{
    jv input = jv_parse_sized(document, (int)length), value;
    size_t total = 0;

    if (!jv_is_valid(input)) {
        jv_free(input);
        return error_set(error, ERROR_INVALID, "the document of the rule is not JSON that jq takes");
    }
    jq_start(scope->jq, input, 0);
    for (value = jq_next(scope->jq); jv_is_valid(value); value = jq_next(scope->jq))
        if (add_value(values, &total, value, error) < 0)
            return -1;
    if (jq_halted(scope->jq)) {
        jv_free(value);
        return error_set(error, ERROR_INVALID, "the rule halts itself");
    }
    if (jv_invalid_has_msg(jv_copy(value))) {
        jv message = jv_invalid_get_msg(value);
        jv text = jv_get_kind(message) == JV_KIND_STRING ? jv_copy(message) : jv_dump_string(jv_copy(message), 0);

        error_set(error, ERROR_INVALID, "the rule raises an error: %.500s", jv_string_value(text));
        jv_free(text);
        jv_free(message);
        return -1;
    }
    jv_free(value);
    return 0;
}

static json_t *child_work(struct error *error)
{
    cleanup_jq_scope struct jq_scope scope = {NULL, STRBUF_INIT(LIMIT_DESCRIPTION)};
    cleanup_json json_t *request = NULL, *values = json_array();
    cleanup_free char *text = NULL, *document = NULL;
    size_t length;
    const json_t *input;

    if (confine(error) < 0 ||
        fs_read_fd(STDIN_FILENO, "standard input", LIMIT_RULE_DOCUMENT + 8 * LIMIT_RULE, &text, &length, error) < 0)
        return NULL;
    request = json_parse(text, length, error);
    if (!request)
        return NULL;
    scope.jq = jq_init();
    if (!scope.jq) {
        error_set(error, ERROR_INTERNAL, "jq cannot be started");
        return NULL;
    }
    jq_set_error_cb(scope.jq, on_message, &scope);
    jq_set_attr(scope.jq, jv_string("JQ_LIBRARY_PATH"), jv_array());
    if (!jq_compile(scope.jq, json_get_string(request, "program", ""))) {
        error_set(error, ERROR_INVALID, "the rule does not compile: %s", tidy(&scope.messages));
        return NULL;
    }
    input = json_object_get(request, "document");
    if (input) {
        document = json_text(input);
        if (run_program(&scope, document, strlen(document), values, error) < 0)
            return NULL;
    }
    return json_build("{s:O}", "values", values);
}

int rule_child(void)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *reply = child_work(&error);
    cleanup_free char *text = NULL;

    if (!reply)
        reply = json_build("{s:{s:s, s:s}}", "error", "code", error_code_name(error.code), "message", error.message);
    text = json_text(reply);
    return fs_write_all(STDOUT_FILENO, text, strlen(text), NULL) < 0;
}

/* -- the parent -- */

/* A file in memory with the text, at its start. */
static int memory_file(const char *text, size_t length, int *ret_fd, struct error *error)
{
    cleanup_close int fd = memfd_create("rule", MFD_CLOEXEC);

    if (fd < 0)
        return error_set_errno(error, errno, "cannot create a file in memory");
    if (length && (fs_write_all(fd, text, length, error) < 0 || lseek(fd, 0, SEEK_SET) < 0))
        return -1;
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* Waits for the child, and kills it at the deadline. */
static int wait_for(pid_t pid, int *ret_status, struct error *error)
{
    cleanup_close int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int64_t deadline = clock_monotonic_ns() + LIMIT_RULE_TIME_MS * NS_PER_MS;
    int r = 1;

    while (fd >= 0) {
        struct pollfd p = {fd, POLLIN, 0};
        int64_t left = deadline - clock_monotonic_ns();

        r = left > 0 ? poll(&p, 1, (int)(left / NS_PER_MS) + 1) : 0;
        if (r >= 0 || errno != EINTR)
            break;
    }
    if (fd < 0 || r <= 0)
        kill(pid, SIGKILL);
    if (proc_wait(pid, ret_status, error) < 0)
        return -1;
    if (fd < 0 || r < 0)
        return error_set(error, ERROR_INTERNAL, "the process of a rule cannot be watched");
    return r;
}

static json_t *read_reply(int fd, int status, struct error *error)
{
    cleanup_json json_t *reply = NULL;
    cleanup_free char *text = NULL;
    const json_t *failure;
    size_t length = 0;

    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) {
        error_set(error, ERROR_TIMEOUT, "the rule takes more than %d ms", LIMIT_RULE_TIME_MS);
        return NULL;
    }
    if (!WIFEXITED(status)) {
        error_set(error, ERROR_TOO_LARGE, "the rule needs more than %llu MiB of memory, or crashes jq (signal %d)",
                  (unsigned long long)(LIMIT_RULE_MEMORY / MIB), WTERMSIG(status));
        return NULL;
    }
    if (lseek(fd, 0, SEEK_SET) < 0 ||
        fs_read_fd(fd, "answer of a rule", 4 * LIMIT_RULE_OUTPUT, &text, &length, error) < 0)
        return NULL;
    reply = json_parse(text, length, NULL);
    if (WEXITSTATUS(status) == 2 || !reply) {
        /* jq says "error: cannot allocate memory" and exits with 2 */
        error_set(error, ERROR_TOO_LARGE, "the rule needs more than %llu MiB of memory",
                  (unsigned long long)(LIMIT_RULE_MEMORY / MIB));
        return NULL;
    }
    failure = json_object_get(reply, "error");
    if (failure) {
        error_set(error, error_code_parse(json_get_string(failure, "code", "")), "%s",
                  json_get_string(failure, "message", "the rule failed"));
        return NULL;
    }
    return json_incref(json_object_get(reply, "values"));
}

/* document NULL: compile only. */
static json_t *run_child(const char *program, const json_t *document, struct error *error)
{
    cleanup_json json_t *request = json_build("{s:s}", "program", program);
    cleanup_free char *text = NULL, *self = proc_self_path();
    cleanup_close int in = -1, out = -1;
    const char *const argv[] = {self, "rule", NULL}, *const environment[] = {NULL};
    int status, r;
    pid_t pid;

    if (document)
        json_object_set(request, "document", (json_t *)document);
    text = json_text(request);
    if (strlen(text) > LIMIT_RULE_DOCUMENT) {
        error_set(error, ERROR_TOO_LARGE, "the document of the rule has more than %llu bytes",
                  (unsigned long long)LIMIT_RULE_DOCUMENT);
        return NULL;
    }
    if (memory_file(text, strlen(text), &in, error) < 0 || memory_file(NULL, 0, &out, error) < 0)
        return NULL;
    const struct proc_spawn spawn = {
        .argv = argv, .environment = environment, .directory = "/", .stdin_fd = in, .stdout_fd = out, .stderr_fd = -1};
    if (proc_spawn(&spawn, &pid, error) < 0)
        return NULL;
    r = wait_for(pid, &status, error);
    if (r < 0)
        return NULL;
    if (r == 0) {
        error_set(error, ERROR_TIMEOUT, "the rule takes more than %d ms", LIMIT_RULE_TIME_MS);
        return NULL;
    }
    return read_reply(out, status, error);
}

static int check_text(const char *program, struct error *error)
{
    if (!program || !program[strspn(program, " \t\r\n")])
        return error_set(error, ERROR_INVALID, "the rule is empty");
    if (strlen(program) > LIMIT_RULE)
        return error_set(error, ERROR_TOO_LARGE, "the rule has more than %llu bytes", (unsigned long long)LIMIT_RULE);
    return 0;
}

int rule_check(const char *program, struct error *error)
{
    cleanup_json json_t *values = NULL;

    if (check_text(program, error) < 0)
        return -1;
    values = run_child(program, NULL, error);
    return values ? 0 : -1;
}

json_t *rule_run(const char *program, const json_t *document, struct error *error)
{
    if (check_text(program, error) < 0)
        return NULL;
    return run_child(program, document, error);
}

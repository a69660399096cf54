#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "monitor/program.h"
#include "util/fs.h"
#include "util/init-report.h"
#include "util/limits.h"
#include "util/xalloc.h"

#define EARLY_MAX        8   /* children that ended before we knew which is init */
#define KILL_ROUNDS      200 /* of LEFTOVER_WAIT: how long the end of what was killed is waited for */
#define LEFTOVER_WAIT_US 5000
#define RUNTIME_LOG_MAX  (256 * KIB)
#define INIT_REPORT_FD   3

struct program {
    char *directory;
    const struct monitor_spec *spec;
    struct loop *loop;
    const struct program_callbacks *callbacks;
    void *userdata;

    pid_t runtime; /* running OCI runtime; 0: none */
    pid_t init;    /* 0: not known yet, or gone */
    int report_fd; /* -1: closed */
    struct loop_source *report_source;
    bool running;       /* between start and end */
    bool started_early; /* init reported before we knew its pid */
    int pending_signal; /* asked for while init was not known */
    bool has_status;
    int status; /* of the program, from init's report */
    int init_status;
    char *failure;
    struct {
        pid_t pid;
        int status;
    } early[EARLY_MAX];
    size_t n_early;
};

/* The runtime is a while before it moves the container into its group; the wait for that passes meanwhile. */
static void prepare_moves(void)
{
    if (fork() == 0) { /* this program has one thread */
        cgroup_await_moves(cgroups_open(NULL));
        _exit(0);
    }
}

struct program *program_new(const char *directory, const struct monitor_spec *spec, struct loop *loop,
                            const struct program_callbacks *callbacks, void *userdata)
{
    struct program *program = xnew0(struct program);

    program->directory = xstrdup(directory);
    program->spec = spec;
    program->loop = loop;
    program->callbacks = callbacks;
    program->userdata = userdata;
    program->report_fd = -1;
    if (spec->kind == MONITOR_OCI && spec->cgroup)
        prepare_moves();
    return program;
}

static void close_report(struct program *program)
{
    program->report_source = loop_remove(program->report_source);
    if (program->report_fd >= 0)
        close(steal_fd(&program->report_fd));
}

struct program *program_free(struct program *program)
{
    if (!program)
        return NULL;
    if (program->init)
        kill(program->init, SIGKILL);
    close_report(program);
    free(program->failure);
    free(program->directory);
    free(program);
    return NULL;
}

/* -- the end -- */

/* Kills what the program left behind: everything in its group, and children that came to us because init was
 * killed. In a container there is nothing: its PID namespace ended with init. */
static void kill_leftovers(struct program *program)
{
    struct cgroups *cgroups = program->spec->cgroup ? cgroups_open(NULL) : NULL;

    for (int round = 0; round < KILL_ROUNDS; round++) {
        cleanup_free char *children = NULL;
        int left = cgroups ? cgroup_kill(cgroups, program->spec->cgroup) : 0;
        char *p;

        if (fs_read("/proc/thread-self/children", MIB, &children, NULL, NULL) == 0) {
            for (p = children; *p;) {
                long pid = strtol(p, &p, 10);

                if (pid <= 0)
                    break;
                /* A child that syncs weights is ours and not the program's; it is in our session. */
                if (getsid((pid_t)pid) == getsid(0))
                    continue;
                kill((pid_t)pid, SIGKILL);
                left++;
                waitpid((pid_t)pid, NULL, WNOHANG);
            }
        }
        if (!left)
            break;
        usleep(LEFTOVER_WAIT_US);
    }
    cgroups_close(cgroups);
}

static void set_failure(struct program *program, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void set_failure(struct program *program, const char *format, ...)
{
    va_list args;

    if (program->failure)
        return;
    va_start(args, format);
    program->failure = xvasprintf(format, args);
    va_end(args);
}

static void finish(struct program *program)
{
    struct program_end end;

    kill_leftovers(program);
    close_report(program);
    program->running = false;
    program->init = 0;
    end = (struct program_end){
        .failure = steal_ptr(program->failure),
        .status = program->has_status ? program->status : program->init_status,
    };
    program->callbacks->on_ended(program->userdata, &end);
    free(end.failure);
}

/* -- reports of init -- */

static void take_report(struct program *program, const struct report *report)
{
    switch (report->type) {
    case REPORT_STARTED:
        if (program->init)
            program->callbacks->on_started(program->userdata, program->init);
        else
            program->started_early = true;
        break;
    case REPORT_FAILED:
        set_failure(program, "cannot execute %s: %s",
                    program->spec->argv.count ? program->spec->argv.items[0] : "the program", strerror(report->value));
        break;
    case REPORT_ENDED:
        program->has_status = true;
        program->status = report->value;
        break;
    }
}

static void read_reports(struct program *program)
{
    struct report report;

    while (program->report_fd >= 0) {
        ssize_t n = read(program->report_fd, &report, sizeof(report));

        if (n == sizeof(report)) {
            take_report(program, &report);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            program->report_source = loop_remove(program->report_source);
        return;
    }
}

static void on_report(void *userdata, uint32_t events)
{
    read_reports(userdata);
}

/* -- children -- */

static void init_ended(struct program *program, int status)
{
    program->init_status = status;
    read_reports(program);
    finish(program);
}

static void init_known(struct program *program, pid_t pid)
{
    program->init = pid;
    if (program->started_early)
        program->callbacks->on_started(program->userdata, pid);
    program->started_early = false;
    for (size_t i = 0; i < program->n_early; i++) {
        if (program->early[i].pid == pid) {
            init_ended(program, program->early[i].status);
            return;
        }
    }
    if (program->pending_signal)
        program_signal(program, program->pending_signal);
}

/* What the runtime tells us. Not in the node's directory: a program that fills the disk at once would be taken for one
 * that was not started, because the runtime writes its pid last. */
static char *runtime_file(const struct program *program, const char *suffix)
{
    return xasprintf("%s/%s.%s", program->spec->runtime_root, program->spec->container, suffix);
}

/* The message of the last line of the runtime's log that has one. */
static char *runtime_message(const char *path)
{
    cleanup_free char *text = NULL;
    cleanup_strvec struct strvec lines = STRVEC_INIT;

    if (fs_read(path, RUNTIME_LOG_MAX, &text, NULL, NULL) < 0)
        return NULL;
    strvec_split(&lines, text, '\n');
    for (size_t i = lines.count; i > 0; i--) {
        cleanup_json json_t *line = json_parse(lines.items[i - 1], strlen(lines.items[i - 1]), NULL);
        const char *message = json_get_string(line, "msg", NULL);

        if (message)
            return xstrdup(message);
    }
    return NULL;
}

static void runtime_ended(struct program *program, int status)
{
    cleanup_free char *pid_file = runtime_file(program, "pid"), *log = runtime_file(program, "log"), *text = NULL,
                      *message = NULL;
    int pid = 0;

    program->runtime = 0;
    if (status == 0 && fs_read(pid_file, 64, &text, NULL, NULL) == 0)
        pid = (int)strtol(text, NULL, 10);
    if (pid <= 0)
        message = runtime_message(log);
    unlink(pid_file);
    unlink(log);
    if (pid > 0) {
        init_known(program, pid);
        return;
    }
    set_failure(program, "%s could not start the container: %s", fs_basename(program->spec->runtime),
                message ? message : "it said nothing");
    finish(program);
}

void program_child(struct program *program, pid_t pid, int status)
{
    if (!program->running)
        return;
    if (pid == program->runtime)
        runtime_ended(program, status);
    else if (pid == program->init)
        init_ended(program, status);
    else if (program->runtime && program->n_early < EARLY_MAX) {
        program->early[program->n_early].pid = pid;
        program->early[program->n_early++].status = status;
    }
}

void program_signal(struct program *program, int signal)
{
    if (!program->running)
        return;
    if (!program->init) {
        program->pending_signal = signal;
        /* A runtime that hangs: without it, what it made is killed as left over. */
        if (signal == SIGKILL && program->runtime)
            kill(program->runtime, SIGKILL);
        return;
    }
    /* Not reaped yet, so the pid is its own. Killing process 1 of a namespace kills the namespace; as a
     * process init's children come to us and are killed when it has ended. */
    kill(program->init, signal);
}

/* -- the start -- */

static void limit(int resource, rlim_t value)
{
    struct rlimit r = {value, value};

    setrlimit(resource, &r);
}

/* Without control groups: what can be had per process. */
static void apply_limits(const struct monitor_spec *spec)
{
    cpu_set_t allowed, few;
    int wanted = (int)spec->limits.cpus + (spec->limits.cpus > (int)spec->limits.cpus), n = 0;

    limit(RLIMIT_CORE, 0);
    if (spec->cgroup)
        return;
    if (spec->limits.memory)
        limit(RLIMIT_DATA, spec->limits.memory);
    if (wanted > 0 && sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
        CPU_ZERO(&few);
        /* Which ones: neighbours start at different places. */
        for (int i = 0, at = getpid(); i < CPU_SETSIZE && n < wanted; i++) {
            int cpu = (at + i) % CPU_SETSIZE;

            if (CPU_ISSET(cpu, &allowed)) {
                CPU_SET(cpu, &few);
                n++;
            }
        }
        sched_setaffinity(0, sizeof(few), &few);
    }
}

/* In the child: descriptors 0 to 3, then exec. Everything else is close-on-exec. */
static void exec_child(const struct program *program, const char *const *argv, char *const *environment,
                       const int output_fds[2], int report_fd)
{
    const struct monitor_spec *spec = program->spec;
    cleanup_free char *work = fs_join(program->directory, "work/tree");
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* Out of the way of the numbers that they shall have. */
    int fds[4] = {fcntl(null_fd, F_DUPFD_CLOEXEC, 10), fcntl(output_fds[0], F_DUPFD_CLOEXEC, 10),
                  fcntl(output_fds[1], F_DUPFD_CLOEXEC, 10), fcntl(report_fd, F_DUPFD_CLOEXEC, 10)};
    sigset_t none;

    for (int i = 0; i < 4; i++)
        if (fds[i] < 0 || dup2(fds[i], i) < 0)
            _exit(126);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (spec->kind == MONITOR_PROCESS) {
        setsid();
        if (chdir(work) < 0)
            _exit(126);
        apply_limits(spec);
        if (spec->cgroup) {
            struct cgroups *cgroups = cgroups_open(NULL);

            if (cgroup_enter(cgroups, spec->cgroup, 0, NULL) < 0)
                _exit(126);
        }
        execve(argv[0], (char *const *)argv, environment);
    } else {
        execv(argv[0], (char *const *)argv);
    }
    _exit(127);
}

static void runtime_argv(const struct program *program, struct strvec *argv)
{
    cleanup_free char *pid_file = runtime_file(program, "pid"), *log = runtime_file(program, "log");
    const struct monitor_spec *spec = program->spec;

    strvec_push(argv, spec->runtime);
    strvec_push(argv, "--root");
    strvec_push(argv, spec->runtime_root);
    strvec_push(argv, "--log");
    strvec_push(argv, log);
    strvec_push(argv, "--log-format");
    strvec_push(argv, "json");
    strvec_push(argv, "run");
    strvec_push(argv, "--detach");
    strvec_push(argv, "--pid-file");
    strvec_push(argv, pid_file);
    strvec_push(argv, "--bundle");
    strvec_push(argv, program->directory);
    strvec_push(argv, "--preserve-fds");
    strvec_push(argv, "1");
    strvec_push(argv, spec->container);
}

static void process_argv(const struct program *program, struct strvec *argv)
{
    strvec_push(argv, program->spec->init);
    strvec_push(argv, "process");
    for (size_t i = 0; i < program->spec->argv.count; i++)
        strvec_push(argv, program->spec->argv.items[i]);
}

/* A control group that an earlier start left is taken over empty. */
static int prepare_cgroup(const struct program *program, struct error *error)
{
    const struct monitor_spec *spec = program->spec;
    cleanup_cgroups struct cgroups *cgroups = NULL;

    if (!spec->cgroup || spec->kind == MONITOR_OCI)
        return 0;
    cgroups = cgroups_open(NULL);
    return cgroup_create(cgroups, spec->cgroup, &spec->limits, error);
}

int program_start(struct program *program, const int output_fds[2], struct error *error)
{
    const struct monitor_spec *spec = program->spec;
    cleanup_strvec struct strvec argv = STRVEC_INIT;
    char *empty[] = {NULL};
    int fds[2];
    pid_t pid;

    if (prepare_cgroup(program, error) < 0)
        return -1;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "cannot make a pipe");
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    for (int i = 0; spec->owned && i < 2; i++)
        if (fchown(output_fds[i], spec->uid, spec->gid) < 0) {
            /* It can still write to them, only not open them anew by name. */
        }
    if (spec->kind == MONITOR_OCI) {
        mkdir(spec->runtime_root, 0700); /* a daemon that stopped took it away if nothing was in it */
        runtime_argv(program, &argv);
    } else {
        process_argv(program, &argv);
    }

    pid = fork(); /* this program has one thread */
    if (pid == 0)
        exec_child(program, (const char *const *)argv.items, spec->environment.count ? spec->environment.items : empty,
                   output_fds, fds[1]);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return error_set_errno(error, errno, "cannot start a process");
    }
    program->report_fd = fds[0];
    program->report_source = loop_add_fd(program->loop, fds[0], EPOLLIN, on_report, program);
    program->running = true;
    program->has_status = program->started_early = false;
    program->pending_signal = 0;
    program->n_early = 0;
    program->init = spec->kind == MONITOR_PROCESS ? pid : 0;
    program->runtime = spec->kind == MONITOR_OCI ? pid : 0;
    return 0;
}

/*
 * slipway doctor: what this machine can do, what is missing, and the command that mends it.
 *
 * A check is a row: it looks, and leaves a verdict with a sentence and, where something is missing, what to do.
 * Nothing is changed on the machine, and a daemon that runs is not disturbed.
 */
#include <errno.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/timex.h>
#include <time.h>
#include "cli/client.h"
#include "cli/command.h"
#include "cli/error.h"
#include "cli/terminal.h"
#include "engine/engine.h"
#include "engine/gpu.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/net.h"
#include "util/parse.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define FREE_DISK_LOW (1 * GIB)
#define HOT_LOW       (256 * MIB)
#define DESCRIPTORS   4096
#define PROBE_MS      10000

enum verdict {
    VERDICT_OK,      /* nothing to do */
    VERDICT_NOTE,    /* works, with something to know */
    VERDICT_MISSING, /* a part of slipway does not work */
    VERDICT_BROKEN,  /* slipway does not work */
};

static const struct {
    const char *name;
    enum terminal_colour colour;
} verdicts[] = {
    [VERDICT_OK] = {"ok", COLOUR_GREEN},
    [VERDICT_NOTE] = {"note", COLOUR_BLUE},
    [VERDICT_MISSING] = {"missing", COLOUR_YELLOW},
    [VERDICT_BROKEN] = {"broken", COLOUR_RED},
};

struct doctor {
    const struct invocation *invocation;
    char *data;    /* the data directory */
    json_t *daemon; /* what /api/v1/status says; NULL: none answers */
};

struct finding {
    enum verdict verdict;
    char *text;
    const char *mend; /* NULL: nothing to mend */
};

static void find(struct finding *finding, enum verdict verdict, const char *mend, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void find(struct finding *finding, enum verdict verdict, const char *mend, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    finding->text = xvasprintf(format, args);
    va_end(args);
    finding->verdict = verdict;
    finding->mend = mend;
}

/* -- the daemon and its directory -- */

static void check_daemon(struct doctor *doctor, struct finding *finding)
{
    if (doctor->daemon)
        find(finding, VERDICT_OK, NULL, "version %s answers, pid %lld", json_get_string(doctor->daemon, "version", "?"),
             (long long)json_get_int(doctor->daemon, "pid", 0));
    else
        find(finding, VERDICT_NOTE, "slipway serve", "none answers for %s", doctor->data);
}

/* The nearest directory that exists, upwards. */
static char *existing_parent(const char *path)
{
    char *parent = xstrdup(path);

    while (!fs_exists(parent)) {
        char *slash = strrchr(parent, '/');

        if (!slash || slash == parent) {
            free(parent);
            return xstrdup("/");
        }
        *slash = '\0';
    }
    return parent;
}

static void check_directory(struct doctor *doctor, struct finding *finding)
{
    cleanup_free char *parent = existing_parent(doctor->data);
    struct stat st;

    if (access(parent, W_OK | X_OK) < 0)
        find(finding, VERDICT_BROKEN, "choose a directory of your own: slipway --data DIR …",
             "%s: this user cannot write to %s", doctor->data, parent);
    else if (strcmp(parent, doctor->data) != 0)
        find(finding, VERDICT_OK, NULL, "%s will be made", doctor->data);
    else if (stat(doctor->data, &st) == 0 && (st.st_mode & 022))
        find(finding, VERDICT_BROKEN, "chmod go-w on that directory", "%s can be written by other users", doctor->data);
    else
        find(finding, VERDICT_OK, NULL, "%s", doctor->data);
}

static void check_disk(struct doctor *doctor, struct finding *finding)
{
    cleanup_free char *parent = existing_parent(doctor->data);
    char available[FORMAT_SIZE], total[FORMAT_SIZE];
    uint64_t left;
    struct statfs fs;

    if (statfs(parent, &fs) < 0) {
        find(finding, VERDICT_BROKEN, NULL, "%s: %s", parent, strerrordesc_np(errno));
        return;
    }
    left = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    format_bytes(left, available);
    format_bytes((uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize, total);
    if (fs.f_type == NFS_SUPER_MAGIC)
        find(finding, VERDICT_BROKEN, "choose a local disk: slipway --data DIR …",
             "the database cannot be on a network file system");
    else if (left < FREE_DISK_LOW)
        find(finding, VERDICT_MISSING, "slipway gc", "only %s of %s are free", available, total);
    else
        find(finding, VERDICT_OK, NULL, "%s of %s are free", available, total);
}

static void check_memory_tier(struct doctor *doctor, struct finding *finding)
{
    char available[FORMAT_SIZE];
    struct statfs fs;
    uint64_t left;

    if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC) {
        find(finding, VERDICT_MISSING, "mount -t tmpfs tmpfs /dev/shm, or slipway serve --hot DIR",
             "/dev/shm is no memory file system: data in use is kept on disk");
        return;
    }
    left = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    format_bytes(left, available);
    if (access("/dev/shm", W_OK) < 0 || left < HOT_LOW)
        find(finding, VERDICT_MISSING, "mount -o remount,size=50% /dev/shm",
             "%s are free in /dev/shm: larger datasets are read from disk", available);
    else
        find(finding, VERDICT_OK, NULL, "%s are free in /dev/shm; half of it is used at most", available);
}

/* -- running things -- */

static void on_nothing(void *userdata, const char *key, const char *directory, enum engine_event event)
{
}

/* Opens the engine as the daemon would, on a directory of our own. */
static void check_engine(struct doctor *doctor, struct finding *finding)
{
    char directory[] = "/tmp/slipway-doctor-XXXXXX";
    cleanup_error struct error error = ERROR_INIT;
    cleanup_loop struct loop *loop = loop_new();
    struct engine_capacity capacity = {0};
    struct engine *engine = NULL;
    char memory[FORMAT_SIZE];

    if (!mkdtemp(directory)) {
        find(finding, VERDICT_BROKEN, NULL, "cannot make a directory in /tmp: %s", strerrordesc_np(errno));
        return;
    }
    if (engine_open("auto", NULL, loop, directory, on_nothing, NULL, &engine, &error) < 0 ||
        engine_probe(engine, &capacity, &error) < 0)
        find(finding, VERDICT_BROKEN, "apt-get install -y runc", "nothing can be run here: %s", error.message);
    else if (strcmp(engine->driver->name, "process") == 0)
        find(finding, VERDICT_MISSING, "apt-get install -y runc, and start slipway as root",
             "runs are processes without a container%s%s", capacity.note ? ": " : "",
             capacity.note ? capacity.note : "");
    else
        find(finding, capacity.note ? VERDICT_NOTE : VERDICT_OK, NULL, "%s (%s), %.4g CPUs, %s%s%s", capacity.runtime,
             engine->driver->name, capacity.cpus, format_bytes(capacity.memory, memory), capacity.note ? "; " : "",
             capacity.note ? capacity.note : "");
    engine_close(engine);
    fs_remove_all(directory, NULL);
}

static void check_cgroups(struct doctor *doctor, struct finding *finding)
{
    struct statfs fs;
    bool writable = access("/sys/fs/cgroup", W_OK) == 0 || geteuid() == 0;

    if (statfs("/sys/fs/cgroup", &fs) < 0 || (fs.f_type != CGROUP2_SUPER_MAGIC && fs.f_type != TMPFS_MAGIC))
        find(finding, VERDICT_MISSING, NULL,
             "none are mounted: memory is limited per process only, and CPUs not at all");
    else if (fs.f_type == CGROUP2_SUPER_MAGIC)
        find(finding, writable ? VERDICT_OK : VERDICT_NOTE, NULL, "version 2%s",
             writable ? "" : ", not writable by this user");
    else
        find(finding, fs_exists("/sys/fs/cgroup/memory") ? VERDICT_OK : VERDICT_MISSING, NULL, "version 1%s%s",
             fs_exists("/sys/fs/cgroup/unified") ? " (hybrid)" : "",
             fs_exists("/sys/fs/cgroup/memory") ? "" : ", without the memory controller");
}

static bool file_has_word(const char *path, const char *word)
{
    cleanup_free char *text = NULL;

    return fs_read(path, LIMIT_CONFIG_FILE, &text, NULL, NULL) == 0 && strstr(text, word);
}

static void check_overlay(struct doctor *doctor, struct finding *finding)
{
    if (file_has_word("/proc/filesystems", "\toverlay\n"))
        find(finding, VERDICT_OK, NULL, "the kernel has it");
    else
        find(finding, VERDICT_MISSING, "modprobe overlay",
             "the kernel does not have it, or has not loaded it: working directories are copied");
}

static void check_user_namespaces(struct doctor *doctor, struct finding *finding)
{
    cleanup_free char *text = NULL;
    bool allowed = fs_read("/proc/sys/user/max_user_namespaces", 64, &text, NULL, NULL) == 0 &&
                   (int)strtol(text, NULL, 10) > 0;

    if (allowed)
        find(finding, VERDICT_OK, NULL, "allowed, %d at most", (int)strtol(text, NULL, 10));
    else
        find(finding, geteuid() == 0 ? VERDICT_NOTE : VERDICT_MISSING, "sysctl user.max_user_namespaces=10000",
             "not allowed%s", geteuid() == 0 ? "; root does not need them" : ": containers need root here");
}

static void check_gpus(struct doctor *doctor, struct finding *finding)
{
    struct gpus *gpus = gpus_open(NULL);
    const uint64_t *memory = gpus_memory(gpus);
    char text[FORMAT_SIZE];

    if (gpus_count(gpus) > 0)
        find(finding, VERDICT_OK, NULL, "%d, the first with %s", gpus_count(gpus), format_bytes(memory[0], text));
    else
        find(finding, VERDICT_NOTE, NULL, "none: %s", gpus_note(gpus) ? gpus_note(gpus) : "the driver names none");
    gpus_close(gpus);
}

/* -- programs -- */

static char *first_line(char *text)
{
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* Where programs of the host's environment would find it, whatever this shell's PATH says. NULL: nowhere. */
static char *find_program(const char *name)
{
    cleanup_free char *path = xstrdup(ENGINE_PATH);
    char *rest = path, *directory;

    while ((directory = strsep(&rest, ":"))) {
        cleanup_free char *program = fs_join(directory, name);

        if (access(program, X_OK) == 0)
            return steal_ptr(program);
    }
    return NULL;
}

static void check_python(struct doctor *doctor, struct finding *finding)
{
    cleanup_free char *python = find_program("python3"), *output = NULL, *array = NULL;
    const char *const version[] = {python, "--version", NULL};
    const char *const modules[] = {python, "-c", "import venv, ensurepip", NULL};
    const char *const numpy[] = {python, "-c", "import numpy; print(numpy.__version__)", NULL};

    if (!python || proc_run(version, 64 * KIB, PROBE_MS, &output, NULL) != 0)
        find(finding, VERDICT_MISSING, "apt-get install -y python3 python3-venv python3-numpy",
             "no python3 in " ENGINE_PATH ": Python programs and models cannot run");
    else if (proc_run(modules, 64 * KIB, PROBE_MS, NULL, NULL) != 0)
        find(finding, VERDICT_MISSING, "apt-get install -y python3-venv",
             "%s, %s, without venv: environments cannot be built", python, first_line(output));
    else if (proc_run(numpy, 64 * KIB, PROBE_MS, &array, NULL) != 0)
        find(finding, VERDICT_NOTE, "apt-get install -y python3-numpy",
             "%s, %s, without numpy in the host's environment", python, first_line(output));
    else
        find(finding, VERDICT_OK, NULL, "%s, %s with numpy %s", python, first_line(output), first_line(array));
}

/* -- the system -- */

/* Where the daemon listens, as it says itself; the Unix socket, the first of its URLs, is no port. */
static void tell_ports(const struct doctor *doctor, struct finding *finding)
{
    const char *serve = json_get_string(doctor->daemon, "serve_url", NULL);
    cleanup_strbuf struct strbuf text = STRBUF_INIT(LIMIT_DESCRIPTION);
    json_t *url;
    size_t i;

    json_array_foreach(json_object_get(doctor->daemon, "urls"), i, url) {
        if (strncmp(json_string_value(url), "unix:", 5) != 0)
            strbuf_addf(&text, "%s%s", text.length ? ", " : "the daemon answers on ", json_string_value(url));
    }
    if (text.length == 0)
        strbuf_adds(&text, "the daemon has no control port");
    if (serve)
        strbuf_addf(&text, ", endpoints on %s", serve);
    else
        strbuf_adds(&text, ", and serves no endpoints");
    find(finding, VERDICT_OK, NULL, "%s", text.data);
}

static void check_ports(struct doctor *doctor, struct finding *finding)
{
    static const char *const ports[] = {"127.0.0.1:8470", "127.0.0.1:8480"};

    if (doctor->daemon) {
        tell_ports(doctor, finding);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
        cleanup_close int fd = -1;
        struct net_address address;

        if (net_parse(ports[i], &address, NULL) < 0 || net_listen(&address, 1, &fd, NULL, NULL) < 0) {
            find(finding, VERDICT_NOTE, "slipway serve --listen ADDRESS --serve ADDRESS", "somebody else listens on %s",
                 ports[i]);
            return;
        }
    }
    find(finding, VERDICT_OK, NULL, "%s and %s are free", ports[0], ports[1]);
}

static void check_clock(struct doctor *doctor, struct finding *finding)
{
    struct timex timex = {0};
    int state = adjtimex(&timex);

    if (time(NULL) < INT64_C(1735689600)) /* 2025 */
        find(finding, VERDICT_BROKEN, "timedatectl set-ntp true",
             "the clock is years behind: tokens and certificates are judged by it");
    else if (state == TIME_ERROR || (timex.status & STA_UNSYNC))
        find(finding, VERDICT_NOTE, "timedatectl set-ntp true", "not synchronised with any other clock");
    else
        find(finding, VERDICT_OK, NULL, "synchronised");
}

static void check_descriptors(struct doctor *doctor, struct finding *finding)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < DESCRIPTORS)
        find(finding, VERDICT_MISSING, "ulimit -Hn 65536, or LimitNOFILE= in the service",
             "at most %llu files may be open: connections will be refused", (unsigned long long)limit.rlim_max);
    else
        find(finding, VERDICT_OK, NULL, "up to %llu open files", (unsigned long long)limit.rlim_max);
}

static const struct {
    const char *name;
    void (*check)(struct doctor *doctor, struct finding *finding);
} checks[] = {
    {"daemon", check_daemon},
    {"data directory", check_directory},
    {"disk", check_disk},
    {"memory tier", check_memory_tier},
    {"containers", check_engine},
    {"control groups", check_cgroups},
    {"overlayfs", check_overlay},
    {"user namespaces", check_user_namespaces},
    {"GPUs", check_gpus},
    {"Python", check_python},
    {"ports", check_ports},
    {"clock", check_clock},
    {"open files", check_descriptors},
};

static void print_finding(const char *name, const struct finding *finding)
{
    bool colours = terminal_has_colours(stdout);

    printf("%s%-8s%s%-16s %s\n", colours ? terminal_colour(verdicts[finding->verdict].colour) : "",
           verdicts[finding->verdict].name, colours ? terminal_colour_off : "", name, finding->text);
    if (finding->mend)
        printf("%24s → %s\n", "", finding->mend);
}

static json_t *ask_daemon(const struct doctor *doctor)
{
    struct client_options options = {.data_directory = doctor->data};
    cleanup_client struct client *client = client_new(&options);
    json_t *status = NULL;

    return client_get(client, "/api/v1/status", NULL, &status, NULL) < 0 ? NULL : status;
}

/* Fails only where slipway would not work at all: scripts may ask it before they start a daemon. */
static int run_doctor(struct invocation *invocation, struct error *error)
{
    cleanup_free char *data = invocation_data_directory(invocation);
    cleanup_json json_t *findings = json_array(), *daemon = NULL;
    struct doctor doctor = {invocation, data, NULL};
    int broken = 0;

    doctor.daemon = daemon = ask_daemon(&doctor);
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        struct finding finding = {0};
        json_t *entry = json_object();

        checks[i].check(&doctor, &finding);
        broken += finding.verdict == VERDICT_BROKEN;
        json_set_string(entry, "check", checks[i].name);
        json_set_string(entry, "verdict", verdicts[finding.verdict].name);
        json_set_string(entry, "message", finding.text);
        json_set_string(entry, "mend", finding.mend);
        json_array_append_new(findings, entry);
        if (!invocation->json)
            print_finding(checks[i].name, &finding);
        free(finding.text);
    }
    if (invocation->json)
        print_json(findings);
    return broken ? EXIT_FAILED : 0;
}

const struct command doctor_commands[] = {
    {"doctor", NULL, "say what this machine can do, what is missing, and the command that mends it", NULL, run_doctor,
     .offline = true,
     .details = "Verdicts: ok; note: works, with something to know; missing: a part of slipway does not work; "
                "broken: slipway does not work, and the exit status is 1. Nothing is changed."},
    {},
};

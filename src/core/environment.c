#include <ctype.h>
#include <string.h>
#include "core/environment.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/strvec.h"
#include "util/xalloc.h"

static const struct state_row build_rows[] = {
    [BUILD_BUILDING] = {"building", STATE_BIT(BUILD_READY) | STATE_BIT(BUILD_FAILED)},
    [BUILD_READY] = {"ready", STATE_BIT(BUILD_BUILDING)}, /* its files were lost */
    [BUILD_FAILED] = {"failed", STATE_BIT(BUILD_BUILDING)},
};
const struct state_machine build_states = {"environment build", build_rows, ARRAY_SIZE(build_rows)};
_Static_assert(ARRAY_SIZE(build_rows) == BUILD_STATE_COUNT_, "every build state has a row");

static const struct schema_field create_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED, .min = 1, .max = LIMIT_NAME, .doc = "name of the environment"},
    {"requirements", SCHEMA_STRING, SCHEMA_REQUIRED, .max = LIMIT_REQUIREMENTS,
     .doc = "text of a pip requirements file"},
    {"requirements_gpu", SCHEMA_STRING, SCHEMA_NULLABLE, .max = LIMIT_REQUIREMENTS,
     .doc = "the same for runs with GPUs (as requirements)"},
    {},
};
const struct schema environment_create_schema = {"EnvironmentCreate", create_fields, "a new environment version"};

static const struct schema_field variant_fields[] = {
    {"digest", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "identity of the build: requirements, interpreter, machine"},
    {"requirements", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"state", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE, .doc = "building, ready, failed; null: not asked for"},
    {"reason", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"message", SCHEMA_STRING, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"size", SCHEMA_INTEGER, SCHEMA_REQUIRED, .doc = "bytes on disk"},
    {"started_at", SCHEMA_TIME, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {"ended_at", SCHEMA_TIME, SCHEMA_REQUIRED | SCHEMA_NULLABLE},
    {},
};
static const struct schema variant_schema = {"EnvironmentVariant", variant_fields, "cpu or gpu variant"};

static const struct schema_field environment_fields[] = {
    {"name", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"version", SCHEMA_INTEGER, SCHEMA_REQUIRED},
    {"project", SCHEMA_STRING, SCHEMA_REQUIRED},
    {"kind", SCHEMA_STRING, SCHEMA_REQUIRED, .doc = "python"},
    {"cpu", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &variant_schema},
    {"gpu", SCHEMA_OBJECT, SCHEMA_REQUIRED, .object = &variant_schema},
    {"created_at", SCHEMA_TIME, SCHEMA_REQUIRED},
    {"created_by", SCHEMA_STRING, SCHEMA_REQUIRED},
    {},
};
const struct schema environment_schema = {"Environment", environment_fields, "what code runs in"};

void environment_release(struct environment *environment)
{
    free(environment->name);
    free(environment->requirements[0]);
    free(environment->requirements[1]);
    *environment = (struct environment){0};
}

void build_release(struct build *build)
{
    free(build->reason);
    free(build->message);
    free(build->requirements);
    *build = (struct build){0};
}

/* Lines without comments and blanks at the ends, in their order: pip options (-i, --find-links) depend on it.
 */
static void normalise(const char *requirements, struct strbuf *text)
{
    cleanup_strvec struct strvec lines = STRVEC_INIT;

    strvec_split(&lines, requirements, '\n');
    for (size_t i = 0; i < lines.count; i++) {
        char *line = lines.items[i], *end;

        while (isspace((unsigned char)*line))
            line++;
        if (*line == '#')
            continue;
        end = strstr(line, " #");
        end = end ? end : line + strlen(line);
        while (end > line && isspace((unsigned char)end[-1]))
            end--;
        if (end == line)
            continue;
        strbuf_add(text, line, (size_t)(end - line));
        strbuf_addc(text, '\n');
    }
}

void environment_digest(const char *requirements, const char *python, char ret_digest[ENVIRONMENT_DIGEST_SIZE])
{
    cleanup_strbuf struct strbuf text = STRBUF_INIT(2 * LIMIT_REQUIREMENTS);
    struct digest digest;

    strbuf_addf(&text, "python-venv 1\n%s\n", python);
    normalise(requirements, &text);
    digest_of(text.data, text.length, &digest);
    hex_encode(digest.bytes, sizeof(digest.bytes), ret_digest);
}

static int append_event(struct db_tx *tx, const char *project, const char *subject_name, const char *what,
                        const char *actor, json_t *data, struct error *error)
{
    cleanup_free char *type = xasprintf("slipway.environment.%s", what);
    cleanup_free char *subject = xasprintf("environment/%s", subject_name);
    struct journal_event event = {.type = type, .subject = subject, .project = project, .actor = actor, .data = data};

    return journal_append(tx, &event, NULL, error);
}

static int newest(struct db_tx *tx, const char *project, const char *name, int *ret_version, char cpu[], char gpu[],
                  struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT version, digest_cpu, digest_gpu FROM environments WHERE project = ? AND name = ? "
                 "ORDER BY version DESC LIMIT 1",
                 "ss", project, name) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r < 0)
        return -1;
    *ret_version = r ? (int)db_int(&rows, 0) : 0;
    snprintf(cpu, ENVIRONMENT_DIGEST_SIZE, "%s", r ? db_text(&rows, 1) : "");
    snprintf(gpu, ENVIRONMENT_DIGEST_SIZE, "%s", r ? db_text(&rows, 2) : "");
    return 0;
}

int environment_create(struct db_tx *tx, const char *project, const char *actor, const char *name,
                       const char *requirements_cpu, const char *requirements_gpu, const char *python, int *ret_version,
                       struct error *error)
{
    char cpu[ENVIRONMENT_DIGEST_SIZE], gpu[ENVIRONMENT_DIGEST_SIZE];
    char old_cpu[ENVIRONMENT_DIGEST_SIZE], old_gpu[ENVIRONMENT_DIGEST_SIZE];
    cleanup_json json_t *data = NULL;
    cleanup_free char *address = NULL;
    int version;

    if (parse_name(name, "environment", error) < 0)
        return -1;
    if (strcmp(name, "host") == 0)
        return error_set(error, ERROR_INVALID, "the name 'host' stands for the machine's own programs");
    if (!requirements_gpu)
        requirements_gpu = requirements_cpu;
    if (strlen(requirements_cpu) > LIMIT_REQUIREMENTS || strlen(requirements_gpu) > LIMIT_REQUIREMENTS)
        return error_set(error, ERROR_TOO_LARGE, "requirements are over %d bytes", (int)LIMIT_REQUIREMENTS);
    environment_digest(requirements_cpu, python, cpu);
    environment_digest(requirements_gpu, python, gpu);
    if (newest(tx, project, name, &version, old_cpu, old_gpu, error) < 0)
        return -1;
    if (version && strcmp(cpu, old_cpu) == 0 && strcmp(gpu, old_gpu) == 0) {
        *ret_version = version;
        return 0;
    }

    version++;
    if (db_exec(tx, error,
                "INSERT INTO environments (project, name, version, kind, requirements_cpu, requirements_gpu, "
                "digest_cpu, digest_gpu, created_at, created_by) VALUES (?, ?, ?, 'python', ?, ?, ?, ?, ?, ?)",
                "ssissssis", project, name, (int64_t)version, requirements_cpu, requirements_gpu, cpu, gpu,
                clock_wall_ms(), actor ? actor : "system") < 0)
        return -1;
    address = xasprintf("%s@%d", name, version);
    data = json_build("{s:s, s:s}", "cpu", cpu, "gpu", gpu);
    if (append_event(tx, project, address, "created", actor, data, error) < 0)
        return -1;
    *ret_version = version;
    return 0;
}

/* "NAME" gives version 0. */
static int split_address(const char *address, char **ret_name, int64_t *ret_version, struct error *error)
{
    const char *at = strchr(address, '@');
    cleanup_free char *name = at ? xstrndup(address, (size_t)(at - address)) : xstrdup(address);

    *ret_version = 0;
    if (parse_name(name, "environment", error) < 0)
        return -1;
    if (at && parse_int(at + 1, 1, INT32_MAX, ret_version, error) < 0)
        return error_wrap(error, "version of environment %s", name);
    *ret_name = steal_ptr(name);
    return 0;
}

int environment_load(struct db_tx *tx, const char *project, const char *address, struct environment *ret_environment,
                     struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_free char *name = NULL;
    int64_t version;
    int r;

    if (split_address(address, &name, &version, error) < 0)
        return -1;
    if (db_query(tx, &rows, error,
                 "SELECT version, digest_cpu, digest_gpu, requirements_cpu, requirements_gpu FROM environments "
                 "WHERE project = ?1 AND name = ?2 AND (?3 = 0 OR version = ?3) ORDER BY version DESC LIMIT 1",
                 "ssi", project, name, version) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "environment %.80s does not exist", address);
    ret_environment->version = (int)db_int(&rows, 0);
    for (int i = 0; i < 2; i++) {
        snprintf(ret_environment->digest[i], ENVIRONMENT_DIGEST_SIZE, "%s", db_text(&rows, 1 + i));
        ret_environment->requirements[i] = xstrdup(db_text(&rows, 3 + i));
    }
    ret_environment->name = steal_ptr(name);
    return 0;
}

int environment_delete(struct db_tx *tx, const char *project, const char *address, const char *actor,
                       struct error *error)
{
    cleanup_environment struct environment e = {0};
    cleanup_free char *full = NULL;
    int64_t users;

    if (environment_load(tx, project, address, &e, error) < 0)
        return -1;
    full = xasprintf("%s@%d", e.name, e.version);
    if (db_query_int(tx, &users, error,
                     "SELECT count(*) FROM runs WHERE project = ? AND state IN (0, 1, 2) "
                     "AND json_extract(spec, '$.environment.name') = ?",
                     "ss", project, full) < 0)
        return -1;
    if (users)
        return error_set(error, ERROR_CONFLICT, "environment %s is in use by %d runs", full, (int)users);
    if (db_exec(tx, error, "DELETE FROM environments WHERE project = ? AND name = ? AND version = ?", "ssi", project,
                e.name, (int64_t)e.version) < 0)
        return -1;
    return append_event(tx, project, full, "deleted", actor, NULL, error);
}

/* -- views -- */

static json_t *variant_json(struct db_tx *tx, const char *digest, const char *requirements, struct error *error)
{
    cleanup_build struct build build = {0};
    cleanup_error struct error missing = ERROR_INIT;
    bool known = build_load(tx, digest, &build, &missing) == 0;
    json_t *o;

    if (!known && missing.code != ERROR_NOT_FOUND) {
        error_move(error, &missing);
        return NULL;
    }
    o = json_object();
    json_set_string(o, "digest", digest);
    json_set_string(o, "requirements", requirements);
    json_set_string(o, "state", known ? state_name(&build_states, (int)build.state) : NULL);
    json_set_string(o, "reason", build.reason);
    json_set_string(o, "message", build.message);
    json_set_int(o, "size", (int64_t)build.size);
    json_set_time_ms(o, "started_at", build.started_at);
    json_set_time_ms(o, "ended_at", build.ended_at);
    return o;
}

static json_t *row_json(struct db_tx *tx, const char *project, struct db_rows *rows, struct error *error)
{
    cleanup_json json_t *o = json_object();
    json_t *cpu, *gpu;

    json_set_string(o, "name", db_text(rows, 0));
    json_set_int(o, "version", db_int(rows, 1));
    json_set_string(o, "project", project);
    json_set_string(o, "kind", db_text(rows, 2));
    cpu = variant_json(tx, db_text(rows, 5), db_text(rows, 3), error);
    if (!cpu)
        return NULL;
    json_object_set_new(o, "cpu", cpu);
    gpu = variant_json(tx, db_text(rows, 6), db_text(rows, 4), error);
    if (!gpu)
        return NULL;
    json_object_set_new(o, "gpu", gpu);
    json_set_time_ms(o, "created_at", db_int(rows, 7));
    json_set_string(o, "created_by", db_text(rows, 8));
    return steal_ptr(o);
}

static json_t *select_json(struct db_tx *tx, const char *project, const char *name, int64_t version,
                           struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_json json_t *items = json_array();
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT name, version, kind, requirements_cpu, requirements_gpu, digest_cpu, digest_gpu, "
                 "created_at, "
                 "created_by FROM environments WHERE project = ?1 AND (?2 IS NULL OR (name = ?2 AND version "
                 "= ?3)) "
                 "ORDER BY name, version DESC",
                 "ssi", project, name, version) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0) {
        json_t *item = row_json(tx, project, &rows, error);

        if (!item)
            return NULL;
        json_array_append_new(items, item);
    }
    return r < 0 ? NULL : steal_ptr(items);
}

json_t *environment_list(struct db_tx *tx, const char *project, struct error *error)
{
    return select_json(tx, project, NULL, 0, error);
}

json_t *environment_to_json(struct db_tx *tx, const char *project, const char *address, struct error *error)
{
    cleanup_environment struct environment e = {0};
    cleanup_json json_t *items = NULL;

    if (environment_load(tx, project, address, &e, error) < 0)
        return NULL;
    items = select_json(tx, project, e.name, e.version, error);
    return items ? json_incref(json_array_get(items, 0)) : NULL;
}

/* -- builds -- */

int build_load(struct db_tx *tx, const char *digest, struct build *ret_build, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error,
                 "SELECT state, reason, message, requirements, size, started_at, ended_at FROM environment_builds "
                 "WHERE digest = ?",
                 "s", digest) < 0)
        return -1;
    r = db_next(&rows, error);
    if (r <= 0)
        return r < 0 ? -1 : error_set(error, ERROR_NOT_FOUND, "there is no environment build %s", digest);
    *ret_build = (struct build){.state = (enum build_state)db_int(&rows, 0),
                                .reason = xstrdup(db_text(&rows, 1)),
                                .message = xstrdup_null(db_text(&rows, 2)),
                                .requirements = xstrdup(db_text(&rows, 3)),
                                .size = (uint64_t)db_int(&rows, 4),
                                .started_at = db_int(&rows, 5),
                                .ended_at = db_int(&rows, 6)};
    return 0;
}

int build_set_state(struct db_tx *tx, const char *digest, const char *requirements, enum build_state state,
                    const char *reason, const char *message, uint64_t size, struct error *error)
{
    cleanup_build struct build old = {0};
    cleanup_error struct error missing = ERROR_INIT;
    cleanup_json json_t *data = json_build("{s:s}", "reason", reason);
    int64_t now = clock_wall_ms();

    if (build_load(tx, digest, &old, &missing) < 0) {
        if (missing.code != ERROR_NOT_FOUND) {
            error_move(error, &missing);
            return -1;
        }
        if (db_exec(tx, error,
                    "INSERT INTO environment_builds (digest, state, reason, requirements, started_at) "
                    "VALUES (?, ?, ?, ?, ?)",
                    "sissi", digest, (int64_t)state, reason, requirements, now) < 0)
            return -1;
    } else {
        if (state_check(&build_states, (int)old.state, (int)state, error) < 0)
            return -1;
        if (db_exec(tx, error,
                    "UPDATE environment_builds SET state = ?, reason = ?, message = ?, size = ?, "
                    "started_at = CASE WHEN ?5 THEN ?6 ELSE started_at END, ended_at = CASE WHEN ?5 THEN 0 "
                    "ELSE ?6 END "
                    "WHERE digest = ?7",
                    "issiiis", (int64_t)state, reason, message, (int64_t)size, (int64_t)(state == BUILD_BUILDING), now,
                    digest) < 0)
            return -1;
    }
    if (message)
        json_set_string(data, "message", message);
    return append_event(tx, NULL, digest, state_name(&build_states, (int)state), NULL, data, error);
}

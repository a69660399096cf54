#include <ctype.h>
#include <string.h>
#include "core/model.h"
#include "core/release.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/parse.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

int model_check_name(const char *name, struct error *error)
{
    const char *slash = name ? strchr(name, '/') : NULL;
    cleanup_free char *type = NULL;

    if (!slash || slash == name || !slash[1])
        return error_set(error, ERROR_INVALID,
                         "'%.80s' is not the name of a model; it must be TYPE/NAME, e.g. "
                         "vision/digits",
                         name ? name : "");
    type = xstrndup(name, (size_t)(slash - name));
    if (parse_name(type, "model type", error) < 0)
        return -1;
    return parse_name(slash + 1, "model", error);
}

int model_check_alias(const char *alias, struct error *error)
{
    if (parse_name(alias, "alias", error) < 0)
        return -1;
    if (strcmp(alias, "newest") == 0 || strcmp(alias, "latest") == 0)
        return error_set(error, ERROR_INVALID, "'%s' always means the newest version and cannot be an alias", alias);
    if (isdigit((unsigned char)alias[0]))
        return error_set(error, ERROR_INVALID,
                         "alias '%s' begins with a digit; it must begin with a letter, to "
                         "differ from a version number",
                         alias);
    return 0;
}

void model_version_clear(struct model_version *version)
{
    free(version->project);
    free(version->model);
    free(version->code_digest);
    free(version->weights_digest);
    free(version->weights_name);
    free(version->run_id);
    free(version->alias);
    *version = (struct model_version)MODEL_VERSION_INIT;
}

int model_find(struct db_tx *tx, const char *project, const char *model, int64_t *ret_id, struct error *error)
{
    cleanup_error struct error why = ERROR_INIT;

    if (model_check_name(model, error) < 0)
        return -1;
    if (db_query_int(tx, ret_id, &why, "SELECT id FROM models WHERE project = ? AND name = ? AND removed_at IS NULL",
                     "ss", project, model) == 0)
        return 0;
    if (why.code == ERROR_NOT_FOUND)
        return error_set(error, ERROR_NOT_FOUND, "there is no model %s in project %s", model, project);
    error_move(error, &why);
    return -1;
}

/* -- additions -- */

static int event(struct db_tx *tx, const char *type, const char *project, const char *model, int64_t version,
                 const char *actor, json_t *data, struct error *error)
{
    cleanup_json json_t *owned = data;
    cleanup_free char *subject = version ? xasprintf("model/%s@%lld", model, (long long)version)
                                         : xasprintf("model/%s", model);
    const struct journal_event what = {
        .type = type, .subject = subject, .project = project, .actor = actor, .data = data};

    return journal_append(tx, &what, NULL, error);
}

/* The row of the model, made or brought back if needed. */
static int ensure_model(struct db_tx *tx, const struct model_addition *a, int64_t *ret_id, struct error *error)
{
    cleanup_error struct error why = ERROR_INIT;

    if (model_find(tx, a->project, a->model, ret_id, &why) == 0)
        return 0;
    if (why.code != ERROR_NOT_FOUND) {
        error_move(error, &why);
        return -1;
    }
    if (db_exec(tx, error,
                "INSERT INTO models (project, name, created_at) VALUES (?, ?, ?) "
                "ON CONFLICT (project, name) DO UPDATE SET removed_at = NULL",
                "ssi", a->project, a->model, clock_wall_ms()) < 0 ||
        model_find(tx, a->project, a->model, ret_id, error) < 0)
        return -1;
    return event(tx, "slipway.model.created", a->project, a->model, 0, a->actor, NULL, error);
}

/* The next number of one of the three series. */
static int next_number(struct db_tx *tx, int64_t model, const char *update, const char *select, int64_t *ret_number,
                       struct error *error)
{
    if (db_exec(tx, error, update, "i", model) < 0)
        return -1;
    return db_query_int(tx, ret_number, error, select, "i", model);
}

static int find_or_zero(struct db_tx *tx, int64_t *ret_value, int r, struct error *why, struct error *error)
{
    if (r == 0)
        return 0;
    if (why->code != ERROR_NOT_FOUND) {
        error_move(error, why);
        return -1;
    }
    *ret_value = 0;
    return 0;
}

static int ensure_code(struct db_tx *tx, int64_t model, const struct model_addition *a, int64_t *ret_number,
                       struct error *error)
{
    cleanup_error struct error why = ERROR_INIT;
    int64_t number = 0;
    int r;

    r = db_query_int(tx, &number, &why, "SELECT number FROM model_code WHERE model = ? AND digest = ?", "is", model,
                     a->code);
    if (find_or_zero(tx, &number, r, &why, error) < 0)
        return -1;
    if (!number) {
        if (next_number(tx, model, "UPDATE models SET last_code = last_code + 1 WHERE id = ?",
                        "SELECT last_code FROM models WHERE id = ?", &number, error) < 0 ||
            db_exec(tx, error,
                    "INSERT INTO model_code (model, number, digest, size, package, created_at) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    "iisiji", model, number, a->code, (int64_t)a->code_size, a->package, clock_wall_ms()) < 0)
            return -1;
    }
    *ret_number = number;
    return 0;
}

/* Weights that were pushed by hand keep their number when the same file is pushed again; what runs made is
 * counted, equal or not. */
static int ensure_weights(struct db_tx *tx, int64_t model, const struct model_addition *a, int64_t *ret_number,
                          struct error *error)
{
    cleanup_error struct error why = ERROR_INIT;
    cleanup_json json_t *empty = json_object();
    int64_t number = 0;
    int r = -1;

    if (a->run_id)
        r = db_query_int(tx, &number, &why,
                         "SELECT number FROM model_weights WHERE model = ? AND run = ? AND generation = ?", "isi",
                         model, a->run_id, a->generation);
    else
        r = db_query_int(tx, &number, &why,
                         "SELECT number FROM model_weights WHERE model = ? AND digest = ? "
                         "ORDER BY number DESC LIMIT 1",
                         "is", model, a->weights);
    if (find_or_zero(tx, &number, r, &why, error) < 0)
        return -1;
    if (!number) {
        if (next_number(tx, model, "UPDATE models SET last_weights = last_weights + 1 WHERE id = ?",
                        "SELECT last_weights FROM models WHERE id = ?", &number, error) < 0 ||
            db_exec(tx, error,
                    "INSERT INTO model_weights (model, number, digest, size, name, run, generation, step, metrics, "
                    "created_at) VALUES (?, ?, ?, ?, ?, ?, nullif(?, 0), nullif(?, -1), ?, ?)",
                    "iisissiiji", model, number, a->weights, (int64_t)a->weights_size, a->weights_name, a->run_id,
                    a->generation, a->step, a->metrics ? a->metrics : empty, clock_wall_ms()) < 0)
            return -1;
    }
    *ret_number = number;
    return 0;
}

/* The facts of the caller and the parts: the `version` record of the chain. */
static json_t *version_facts(const struct model_addition *a, int64_t code, int64_t weights)
{
    json_t *facts = a->facts ? json_copy((json_t *)a->facts) : json_object();
    cleanup_free char *pair = weights ? xasprintf("%lld.%lld", (long long)code, (long long)weights)
                                      : xasprintf("%lld", (long long)code);

    json_object_set_new(
        facts, "code",
        json_build("{s:I, s:s, s:I}", "number", (json_int_t)code, "digest", a->code, "size", (json_int_t)a->code_size));
    json_object_set_new(facts, "weights",
                        weights ? json_build("{s:I, s:s, s:I, s:s?}", "number", (json_int_t)weights, "digest",
                                             a->weights, "size", (json_int_t)a->weights_size, "name", a->weights_name)
                                : json_null());
    json_set_string(facts, "code_weights", pair);
    json_set_string(facts, "run", a->run_id);
    json_object_set_new(facts, "generation", a->generation ? json_integer(a->generation) : json_null());
    json_object_set_new(facts, "step", a->step >= 0 ? json_integer(a->step) : json_null());
    json_object_set_new(facts, "metrics", a->metrics ? json_incref((json_t *)a->metrics) : json_object());
    return facts;
}

static int insert_version(struct db_tx *tx, int64_t model, const struct model_addition *a, int64_t code,
                          int64_t weights, int64_t *ret_number, struct error *error)
{
    cleanup_json json_t *facts = version_facts(a, code, weights);
    int64_t number;

    if (next_number(tx, model, "UPDATE models SET last_version = last_version + 1 WHERE id = ?",
                    "SELECT last_version FROM models WHERE id = ?", &number, error) < 0 ||
        db_exec(tx, error,
                "INSERT INTO model_versions (model, number, code, weights, run, created_at, created_by) "
                "VALUES (?, ?, ?, nullif(?, 0), ?, ?, ?)",
                "iiiisis", model, number, code, weights, a->run_id, clock_wall_ms(),
                a->actor ? a->actor : "system") < 0 ||
        release_append(tx, a->project, a->model, number, "version", facts, a->actor, error) < 0 ||
        event(tx, "slipway.model.version_created", a->project, a->model, number, a->actor,
              json_build("{s:I, s:O, s:s?, s:O}", "version", (json_int_t)number, "code_weights",
                         json_object_get(facts, "code_weights"), "run", a->run_id, "metrics",
                         json_object_get(facts, "metrics")),
              error) < 0)
        return -1;
    *ret_number = number;
    return 0;
}

int model_add(struct db_tx *tx, const struct model_addition *a, int64_t *ret_version, struct error *error)
{
    cleanup_error struct error why = ERROR_INIT;
    int64_t model, code, weights = 0, number = 0;
    int r;

    if (model_check_name(a->model, error) < 0 || ensure_model(tx, a, &model, error) < 0 ||
        ensure_code(tx, model, a, &code, error) < 0 ||
        (a->weights && ensure_weights(tx, model, a, &weights, error) < 0))
        return -1;

    r = db_query_int(tx, &number, &why,
                     "SELECT number FROM model_versions WHERE model = ? AND code = ? AND ifnull(weights, 0) = ?", "iii",
                     model, code, weights);
    if (find_or_zero(tx, &number, r, &why, error) < 0)
        return -1;
    if (!number && insert_version(tx, model, a, code, weights, &number, error) < 0)
        return -1;
    if (ret_version)
        *ret_version = number;
    return 0;
}

int model_add_weights(struct db_tx *tx, const struct model_addition *addition, int64_t *ret_version,
                      struct error *error)
{
    return model_add(tx, addition, ret_version, error);
}

int model_set_package(struct db_tx *tx, const struct model_version *version, const json_t *package, struct error *error)
{
    return db_exec(tx, error, "UPDATE model_code SET package = ? WHERE model = ? AND number = ?", "jii", package,
                   version->model_id, version->code);
}

/* -- looking up -- */

#define VERSION_SELECT                                                                                                 \
    "SELECT v.id, v.model, m.project, m.name, v.number, v.code, v.weights, c.digest, w.digest, w.name, w.size, "       \
    "v.run FROM model_versions v JOIN models m ON m.id = v.model "                                                     \
    "JOIN model_code c ON c.model = v.model AND c.number = v.code "                                                    \
    "LEFT JOIN model_weights w ON w.model = v.model AND w.number = v.weights "

/* 1: a version; 0: none. */
static int read_version(struct db_rows *rows, struct model_version *ret, struct error *error)
{
    int r = db_next(rows, error);

    if (r <= 0)
        return r;
    *ret = (struct model_version){
        .id = db_int(rows, 0),
        .model_id = db_int(rows, 1),
        .project = xstrdup(db_text(rows, 2)),
        .model = xstrdup(db_text(rows, 3)),
        .number = db_int(rows, 4),
        .code = db_int(rows, 5),
        .weights = db_is_null(rows, 6) ? 0 : db_int(rows, 6),
        .code_digest = xstrdup(db_text(rows, 7)),
        .weights_digest = xstrdup_null(db_text(rows, 8)),
        .weights_name = xstrdup_null(db_text(rows, 9)),
        .weights_size = db_is_null(rows, 10) ? 0 : (uint64_t)db_int(rows, 10),
        .run_id = xstrdup_null(db_text(rows, 11)),
    };
    if (ret->weights)
        snprintf(ret->code_weights, sizeof(ret->code_weights), "%lld.%lld", (long long)ret->code,
                 (long long)ret->weights);
    else
        snprintf(ret->code_weights, sizeof(ret->code_weights), "%lld", (long long)ret->code);
    return 1;
}

/* The text behind '@', taken apart. */
struct version_text {
    enum { VERSION_NEWEST, VERSION_NUMBER, VERSION_PAIR, VERSION_ALIAS } kind;
    int64_t number, weights;
};

static int parse_version_text(const char *text, struct version_text *ret, struct error *error)
{
    const char *dot = strchr(text, '.');
    cleanup_free char *first = NULL;

    if (!*text) {
        *ret = (struct version_text){VERSION_NEWEST, 0, 0};
        return 0;
    }
    if (!isdigit((unsigned char)*text)) {
        *ret = (struct version_text){VERSION_ALIAS, 0, 0};
        return model_check_alias(text, error);
    }
    first = xstrndup(text, dot ? (size_t)(dot - text) : strlen(text));
    ret->kind = dot ? VERSION_PAIR : VERSION_NUMBER;
    ret->weights = 0;
    if (parse_int(first, 1, INT64_MAX, &ret->number, NULL) < 0 ||
        (dot && parse_int(dot + 1, 1, INT64_MAX, &ret->weights, NULL) < 0))
        return error_set(error, ERROR_INVALID,
                         "'%.80s' is not a version; it must be a number (7), "
                         "code.weights (3.5) or an alias (production)",
                         text);
    return 0;
}

static int query_version(struct db_tx *tx, struct db_rows *rows, int64_t model, const char *text,
                         const struct version_text *v, struct error *error)
{
    switch (v->kind) {
    case VERSION_NEWEST:
        return db_query(tx, rows, error, VERSION_SELECT "WHERE v.model = ? ORDER BY v.number DESC LIMIT 1", "i", model);
    case VERSION_NUMBER:
        return db_query(tx, rows, error, VERSION_SELECT "WHERE v.model = ? AND v.number = ?", "ii", model, v->number);
    case VERSION_PAIR:
        return db_query(tx, rows, error, VERSION_SELECT "WHERE v.model = ? AND v.code = ? AND v.weights = ?", "iii",
                        model, v->number, v->weights);
    case VERSION_ALIAS:
        return db_query(tx, rows, error,
                        VERSION_SELECT "JOIN model_aliases a ON a.version = v.id WHERE v.model = ? AND a.alias = ?",
                        "is", model, text);
    }
    return -1;
}

/* "vision/digits has no version 9; the newest is vision/digits@7" */
static int no_such_version(struct db_tx *tx, int64_t model, const char *name, const char *text, bool is_alias,
                           struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_strbuf struct strbuf known = STRBUF_INIT(LIMIT_DESCRIPTION);
    int64_t newest = 0;
    int r;

    if (db_query_int(tx, &newest, error, "SELECT ifnull(max(number), 0) FROM model_versions WHERE model = ?", "i",
                     model) < 0)
        return -1;
    if (!newest)
        return error_set(error, ERROR_NOT_FOUND, "model %s has no versions", name);
    if (!is_alias)
        return error_set(error, ERROR_NOT_FOUND, "%s@%s does not exist; the newest is %s@%lld", name, text, name,
                         (long long)newest);
    if (db_query(tx, &rows, error, "SELECT alias FROM model_aliases WHERE model = ? ORDER BY alias LIMIT 20", "i",
                 model) < 0)
        return -1;
    while ((r = db_next(&rows, error)) > 0)
        strbuf_addf(&known, "%s%s", known.length ? ", " : "", db_text(&rows, 0));
    if (r < 0)
        return -1;
    return error_set(error, ERROR_NOT_FOUND, "%s has no alias '%s'; it has %s%s; the newest version is %s@%lld", name,
                     text, known.length ? "" : "none", known.data, name, (long long)newest);
}

int model_resolve(struct db_tx *tx, const char *project, const char *model, const char *text,
                  struct model_version *ret_version, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    struct version_text v;
    int64_t id;
    int r;

    text = text ? text : "";
    if (parse_version_text(text, &v, error) < 0 || model_find(tx, project, model, &id, error) < 0 ||
        query_version(tx, &rows, id, text, &v, error) < 0)
        return -1;
    r = read_version(&rows, ret_version, error);
    if (r < 0)
        return -1;
    if (r == 0)
        return no_such_version(tx, id, model, text, v.kind == VERSION_ALIAS, error);
    if (v.kind == VERSION_ALIAS)
        ret_version->alias = xstrdup(text);
    return 0;
}

int model_resolve_run(struct db_tx *tx, const char *run_id, struct model_version *ret_version, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, VERSION_SELECT "WHERE v.run = ? ORDER BY v.number DESC LIMIT 1", "s", run_id) < 0)
        return -1;
    r = read_version(&rows, ret_version, error);
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "run %s made no model version: it saved no weights", run_id);
    return r < 0 ? -1 : 0;
}

int model_resolve_id(struct db_tx *tx, int64_t id, struct model_version *ret_version, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    int r;

    if (db_query(tx, &rows, error, VERSION_SELECT "WHERE v.id = ?", "i", id) < 0)
        return -1;
    r = read_version(&rows, ret_version, error);
    if (r == 0)
        return error_set(error, ERROR_NOT_FOUND, "the model version does not exist any more");
    return r < 0 ? -1 : 0;
}

/* -- removal -- */

/* One text column of all rows, joined by commas. NULL on failure. */
static char *list_names(struct db_tx *tx, const char *sql, int64_t id, struct error *error)
{
    cleanup_rows struct db_rows rows = DB_ROWS_INIT;
    cleanup_strbuf struct strbuf names = STRBUF_INIT(LIMIT_DESCRIPTION);
    int r;

    if (db_query(tx, &rows, error, sql, "i", id) < 0)
        return NULL;
    while ((r = db_next(&rows, error)) > 0)
        strbuf_addf(&names, "%s%s", names.length ? ", " : "", db_text(&rows, 0));
    return r < 0 ? NULL : strbuf_detach(&names, NULL);
}

static int refuse_if_served(struct db_tx *tx, int64_t version, const char *address, struct error *error)
{
    cleanup_free char *endpoints = list_names(
        tx,
        "SELECT name FROM endpoints WHERE id IN (SELECT endpoint FROM endpoint_routes WHERE version = ?1 "
        "UNION SELECT endpoint FROM replicas WHERE version = ?1) ORDER BY name",
        version, error);

    if (!endpoints)
        return -1;
    if (*endpoints)
        return error_set(error, ERROR_CONFLICT, "%s is served by endpoint %s (also kept warm for a rollback)", address,
                         endpoints);
    return 0;
}

/* The version's row and the parts that no other version has. */
static int delete_version(struct db_tx *tx, const struct model_version *version, const char *actor, struct error *error)
{
    cleanup_json json_t *facts = json_build("{s:s, s:s?}", "code", version->code_digest, "weights",
                                            version->weights_digest);

    if (db_exec(tx, error, "DELETE FROM model_versions WHERE id = ?", "i", version->id) < 0 ||
        db_exec(tx, error,
                "DELETE FROM model_weights WHERE model = ?1 AND number = ?2 AND NOT EXISTS "
                "(SELECT 1 FROM model_versions WHERE model = ?1 AND weights = ?2)",
                "ii", version->model_id, version->weights) < 0 ||
        db_exec(tx, error,
                "DELETE FROM model_code WHERE model = ?1 AND number = ?2 AND NOT EXISTS "
                "(SELECT 1 FROM model_versions WHERE model = ?1 AND code = ?2)",
                "ii", version->model_id, version->code) < 0 ||
        release_append(tx, version->project, version->model, version->number, "removed", facts, actor, error) < 0)
        return -1;
    return event(tx, "slipway.model.version_removed", version->project, version->model, version->number, actor, NULL,
                 error);
}

int model_remove_version(struct db_tx *tx, const struct model_version *version, const char *actor, struct error *error)
{
    cleanup_free char *address = xasprintf("%s@%lld", version->model, (long long)version->number), *aliases = NULL;

    if (refuse_if_served(tx, version->id, address, error) < 0)
        return -1;
    aliases = list_names(tx, "SELECT alias FROM model_aliases WHERE version = ? ORDER BY alias", version->id, error);
    if (!aliases)
        return -1;
    if (*aliases)
        return error_set(error, ERROR_CONFLICT, "%s is what the alias %s points to; move or remove the alias first",
                         address, aliases);
    return delete_version(tx, version, actor, error);
}

int model_remove(struct db_tx *tx, const char *project, const char *model, const char *actor, struct error *error)
{
    cleanup_free char *endpoints = NULL;
    int64_t id;

    if (model_find(tx, project, model, &id, error) < 0)
        return -1;
    endpoints = list_names(tx, "SELECT name FROM endpoints WHERE model = ? ORDER BY name", id, error);
    if (!endpoints)
        return -1;
    if (*endpoints)
        return error_set(error, ERROR_CONFLICT, "model %s is served by endpoint %s", model, endpoints);
    if (db_exec(tx, error, "DELETE FROM model_aliases WHERE model = ?", "i", id) < 0)
        return -1;
    for (;;) {
        cleanup_model_version struct model_version version = MODEL_VERSION_INIT;
        cleanup_error struct error why = ERROR_INIT;

        if (model_resolve(tx, project, model, NULL, &version, &why) < 0) {
            if (why.code == ERROR_NOT_FOUND)
                break;
            error_move(error, &why);
            return -1;
        }
        if (delete_version(tx, &version, actor, error) < 0)
            return -1;
    }
    if (db_exec(tx, error, "UPDATE models SET removed_at = ? WHERE id = ?", "ii", clock_wall_ms(), id) < 0)
        return -1;
    return event(tx, "slipway.model.removed", project, model, 0, actor, NULL, error);
}

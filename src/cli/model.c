/*
 * slipway model: the registry.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include "cli/client.h"
#include "cli/draft.h"
#include "cli/command.h"
#include "cli/error.h"
#include "cli/package.h"
#include "cli/progress.h"
#include "core/ref.h"
#include "core/rule.h"
#include "format/archive.h"
#include "http/client.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

/* -- addresses -- */

/* "/api/v1/models/vision/digits" and, with `version`, "/versions/7"; to be freed. `query` gets the project. */
static char *model_path(const struct ref *ref, bool version)
{
    return version ? http_path("/api/v1/models/%p/versions/%s", ref->name, ref->version ? ref->version : "newest")
                   : http_path("/api/v1/models/%p", ref->name);
}

static json_t *project_query(const struct ref *ref)
{
    json_t *query = json_object();

    if (ref->project)
        json_set_string(query, "project", ref->project);
    return query;
}

static int parse_address(const char *text, struct ref *ret, struct error *error)
{
    if (ref_parse(text, "model", ret, error) < 0)
        return -1;
    if (!strchr(ret->name, '/'))
        return error_set(error, ERROR_INVALID, "'%s' is not the name of a model; it is TYPE/NAME, e.g. vision/digits",
                         text);
    return 0;
}

static int get_version(struct invocation *invocation, const struct ref *ref, json_t **ret, struct error *error)
{
    cleanup_free char *path = model_path(ref, true);

    return client_get(invocation->client, path, project_query(ref), ret, error);
}

/* {"accuracy":0.97,"loss":0.1} → "accuracy 0.97, loss 0.1" */
static char *metrics_text_of(const json_t *metrics)
{
    struct strbuf text = STRBUF_INIT(LIMIT_DESCRIPTION);
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)metrics, name, value)
        if (json_is_number(value))
            strbuf_addf(&text, "%s%s %.4g", text.length ? ", " : "", name, json_number_value(value));
    return text.length ? strbuf_detach(&text, NULL) : NULL;
}

static char *metrics_text(const json_t *version)
{
    return metrics_text_of(json_object_get(version, "metrics"));
}

static char *gate_text(const json_t *version)
{
    return xstrdup_null(json_get_string(json_object_get(version, "gate"), "verdict", NULL));
}

/* -- ls, tree -- */

static char *aliases_text(const json_t *model)
{
    struct strbuf text = STRBUF_INIT(LIMIT_DESCRIPTION);
    const char *alias;
    json_t *version;

    json_object_foreach(json_object_get(model, "aliases"), alias, version)
        strbuf_addf(&text, "%s%s → %lld", text.length ? ", " : "", alias, (long long)json_integer_value(version));
    return text.length ? strbuf_detach(&text, NULL) : NULL;
}

static const struct table_column model_columns[] = {
    {"MODEL", "name"},
    {"NEWEST", "newest", TABLE_NUMBER},
    {"VERSIONS", "versions", TABLE_NUMBER},
    {"ALIASES", .text = aliases_text, .shrink = true},
    {"AGE", "created_at", TABLE_AGE},
    {},
};

static const struct table_column version_columns[] = {
    {"VERSION", "version", TABLE_NUMBER},
    {"CODE.WEIGHTS", "code_weights"},
    {"ALIASES", "aliases"},
    {"GATE", .text = gate_text},
    {"METRICS", .text = metrics_text, .shrink = true},
    {"RUN", "run", .shrink = true},
    {"SERVED BY", "served_by"},
    {"AGE", "created_at", TABLE_AGE},
    {},
};

static int model_ls(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *items = NULL;
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_free char *path = NULL;

    if (invocation->n_arguments == 0) {
        if (client_list(invocation->client, "/api/v1/models", NULL, 0, &items, error) < 0)
            return -1;
        print_items(invocation, model_columns, items, "there are no models yet");
        return 0;
    }
    if (parse_address(invocation->arguments[0], &ref, error) < 0)
        return -1;
    path = http_path("/api/v1/models/%p/versions", ref.name);
    if (client_list(invocation->client, path, project_query(&ref), 0, &items, error) < 0)
        return -1;
    print_items(invocation, version_columns, items, "the model has no versions");
    return 0;
}

static char *joined(const json_t *array, const char *prefix)
{
    struct strbuf text = STRBUF_INIT(LIMIT_DESCRIPTION);
    json_t *item;
    size_t i;

    json_array_foreach(array, i, item)
        strbuf_addf(&text, " %s%s", prefix, json_string_value(item));
    return strbuf_detach(&text, NULL);
}

static void draw_version(const json_t *version, const char *indent, bool is_last)
{
    cleanup_free char *aliases = joined(json_object_get(version, "aliases"), "@");
    cleanup_free char *served = joined(json_object_get(version, "served_by"), "▶ ");
    cleanup_free char *metrics = metrics_text(version);
    const char *verdict = json_get_string(json_object_get(version, "gate"), "verdict", NULL);

    printf("%s%s @%lld  (%s)%s%s%s%s%s%s\n", indent, is_last ? "└─" : "├─",
           (long long)json_get_int(version, "version", 0), json_get_string(version, "code_weights", ""),
           metrics ? "  " : "", metrics ? metrics : "", verdict ? "  gate: " : "", verdict ? verdict : "",
           *aliases ? " " : "", aliases);
    if (*served)
        printf("%s%s     serves%s\n", indent, is_last ? "  " : "│ ", served);
}

static int draw_model(struct invocation *invocation, json_t *model, bool is_last, struct error *error)
{
    const char *name = json_get_string(model, "name", ""), *indent = is_last ? "   " : "│  ";
    int64_t shown = 8, total = json_get_int(model, "versions", 0);
    cleanup_free char *path = http_path("/api/v1/models/%p/versions", name);
    cleanup_json json_t *versions = NULL;
    json_t *version;
    size_t i;

    if (option_flag(invocation, "all"))
        shown = total;
    if (client_list(invocation->client, path,
                    json_build("{s:s}", "project", json_get_string(model, "project", "default")), (size_t)shown,
                    &versions, error) < 0)
        return -1;
    json_object_set(model, "tree", versions);
    if (invocation->json)
        return 0;
    printf("%s %s\n", is_last ? "└─" : "├─", strchr(name, '/') ? strchr(name, '/') + 1 : name);
    json_array_foreach(versions, i, version)
        draw_version(version, indent, i + 1 == json_array_size(versions) && total <= shown);
    if (total > shown)
        printf("%s└─ … %lld older (--all)\n", indent, (long long)(total - shown));
    return 0;
}

static int model_tree(struct invocation *invocation, struct error *error)
{
    cleanup_json json_t *models = NULL;
    const char *type = "";
    json_t *model;
    size_t i;

    if (client_list(invocation->client, "/api/v1/models", NULL, 0, &models, error) < 0)
        return -1;
    if (json_array_size(models) == 0 && !invocation->json)
        print_done(invocation, NULL, "there are no models yet");
    json_array_foreach(models, i, model) {
        const json_t *next = json_array_get(models, i + 1);
        const char *mine = json_get_string(model, "type", ""), *after = next ? json_get_string(next, "type", "") : "";

        if (!invocation->json && strcmp(mine, type) != 0)
            printf("%s\n", mine);
        type = mine;
        if (draw_model(invocation, model, strcmp(after, mine) != 0, error) < 0)
            return -1;
    }
    if (invocation->json)
        print_json(models);
    return 0;
}

/* -- show -- */

static char *release_metrics(const json_t *version)
{
    const json_t *release = json_object_get(version, "release");
    const json_t *final = json_object_get(release, "metrics_final");

    return metrics_text_of(final ? final : json_object_get(release, "metrics"));
}

static char *release_json(const json_t *version, const char *key)
{
    const json_t *value = json_object_get(json_object_get(version, "release"), key);

    if (!value || json_is_null(value))
        return NULL;
    return json_is_string(value) ? xstrdup(json_string_value(value)) : json_text(value);
}

static char *entry_text(const json_t *version)
{
    return release_json(version, "entry");
}

static char *parameters_text(const json_t *version)
{
    return release_json(version, "parameters");
}

static char *resources_text(const json_t *version)
{
    return release_json(version, "resources");
}

static char *environment_text(const json_t *version)
{
    return release_json(version, "environment");
}

static char *data_text(const json_t *version)
{
    struct strbuf text = STRBUF_INIT(LIMIT_DESCRIPTION);
    json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(json_object_get(version, "release"), "data"), i, entry)
        strbuf_addf(&text, "%s%s %.19s", text.length ? ", " : "", json_get_string(entry, "address", ""),
                    json_get_string(entry, "digest", ""));
    return text.length ? strbuf_detach(&text, NULL) : NULL;
}

static char *verdict_text(const json_t *version)
{
    const json_t *gate = json_object_get(version, "gate");
    const char *verdict = json_get_string(gate, "verdict", NULL);

    return verdict ? xasprintf("%s: %s", verdict, json_get_string(gate, "reason", "")) : NULL;
}

static char *rule_text(const json_t *version)
{
    return xstrdup_null(json_get_string(json_object_get(json_object_get(version, "release"), "gate"), "rule", NULL));
}

static char *hash_text(const json_t *version)
{
    return release_json(version, "hash");
}

static const struct table_column show_columns[] = {
    {"Version", "address"},
    {"Code.weights", "code_weights"},
    {"Aliases", "aliases"},
    {"Served by", "served_by"},
    {"Code", "code_digest"},
    {"Weights", "weights_digest"},
    {"Weights size", "weights_size", TABLE_BYTES},
    {"Run", "run"},
    {"Generation", "generation", TABLE_NUMBER},
    {"Step", "step", TABLE_NUMBER},
    {"Entry", .text = entry_text},
    {"Environment", .text = environment_text},
    {"Data", .text = data_text},
    {"Parameters", .text = parameters_text},
    {"Resources", .text = resources_text},
    {"Metrics", .text = release_metrics},
    {"Rule", .text = rule_text},
    {"Gate", .text = verdict_text},
    {"Runtime", "package.runtime"},
    {"Created", "created_at", TABLE_TIME},
    {"By", "created_by"},
    {"Record hash", .text = hash_text},
    {},
};

static int model_show(struct invocation *invocation, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_json json_t *version = NULL;

    if (parse_address(invocation->arguments[0], &ref, error) < 0 || get_version(invocation, &ref, &version, error) < 0)
        return -1;
    print_object(invocation, show_columns, version);
    return 0;
}

/* -- aliases -- */

static int model_promote(struct invocation *invocation, struct error *error)
{
    const char *alias = option_value(invocation, "alias") ? option_value(invocation, "alias") : "production";
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_json json_t *version = NULL;
    cleanup_free char *path = NULL;

    if (parse_address(invocation->arguments[0], &ref, error) < 0)
        return -1;
    path = http_path("/api/v1/models/%p/aliases/%s", ref.name, alias);
    if (client_put(invocation->client, path, project_query(&ref),
                   json_build("{s:s}", "version", ref.version ? ref.version : "newest"), &version, error) < 0)
        return -1;
    print_done(invocation, version, "%s@%s is now %s", ref.name, alias, json_get_string(version, "address", ""));
    return 0;
}

static int model_rollback(struct invocation *invocation, struct error *error)
{
    const char *alias = option_value(invocation, "alias") ? option_value(invocation, "alias") : "production";
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_json json_t *version = NULL;
    cleanup_free char *path = NULL;

    if (parse_address(invocation->arguments[0], &ref, error) < 0)
        return -1;
    if (ref.version)
        alias = ref.version;
    path = http_path("/api/v1/models/%p/aliases/%s/rollback", ref.name, alias);
    if (client_post(invocation->client, path, project_query(&ref), NULL, &version, error) < 0)
        return -1;
    print_done(invocation, version, "%s@%s is %s again", ref.name, alias, json_get_string(version, "address", ""));
    return 0;
}

static const struct table_column move_columns[] = {
    {"TIME", "time", TABLE_TIME},
    {"ALIAS", "alias"},
    {"VERSION", "version", TABLE_NUMBER},
    {"BEFORE", "previous", TABLE_NUMBER},
    {"REASON", "reason"},
    {"BY", "actor"},
    {},
};

static int model_history(struct invocation *invocation, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_json json_t *moves = NULL;
    cleanup_free char *path = NULL;

    if (parse_address(invocation->arguments[0], &ref, error) < 0)
        return -1;
    path = http_path("/api/v1/models/%p/aliases", ref.name);
    if (client_list(invocation->client, path, project_query(&ref), 0, &moves, error) < 0)
        return -1;
    print_items(invocation, move_columns, moves, "no alias was ever set");
    return 0;
}

/* -- verify -- */

static int model_verify(struct invocation *invocation, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_json json_t *report = NULL;
    cleanup_free char *path = NULL;
    const json_t *broken;

    if (parse_address(invocation->arguments[0], &ref, error) < 0)
        return -1;
    path = http_path("/api/v1/models/%p/verify", ref.name);
    if (client_post(invocation->client, path, project_query(&ref), NULL, &report, error) < 0)
        return -1;
    broken = json_object_get(report, "broken");
    if (json_get_bool(report, "ok", false)) {
        print_done(invocation, report, "%s: %lld records unbroken, %lld blobs as recorded; head %s", ref.name,
                   (long long)json_get_int(report, "records", 0), (long long)json_get_int(report, "blobs", 0),
                   json_get_string(report, "head", ""));
        return 0;
    }
    print_done(invocation, report, "%s: BROKEN at %s %lld (%s): %s", ref.name,
               json_object_get(broken, "sequence") ? "record" : "version",
               (long long)json_get_int(broken, "sequence", json_get_int(broken, "version", 0)),
               json_get_string(broken, "what", ""), json_get_string(broken, "message", ""));
    return EXIT_FAILED;
}

/* -- diff -- */

static char *shape_text(const json_t *tensor)
{
    const char *a = json_get_string(tensor, "dtype", NULL), *b = json_get_string(tensor, "dtype_base", NULL);
    const json_t *shape = json_object_get(tensor, "shape");
    struct strbuf text = STRBUF_INIT(LIMIT_DESCRIPTION);
    json_t *number;
    size_t i;

    if (json_is_null(shape))
        shape = json_object_get(tensor, "shape_base");
    json_array_foreach(shape, i, number)
        strbuf_addf(&text, "%s%lld", i ? "×" : "", (long long)json_integer_value(number));
    strbuf_addf(&text, "%s%s", text.length ? " " : "", a ? a : b);
    if (a && b && strcmp(a, b) != 0)
        strbuf_addf(&text, " (was %s)", b);
    return strbuf_detach(&text, NULL);
}

static const struct table_column diff_columns[] = {
    {"TENSOR", "name", .shrink = true}, {"STATUS", "status"},
    {"SHAPE", .text = shape_text},      {"REL L2", "relative_l2", TABLE_NUMBER},
    {"COSINE", "cosine", TABLE_NUMBER}, {"MAX |A-B|", "max_abs", TABLE_NUMBER},
    {"NAN", "nan", TABLE_NUMBER},       {},
};

static int model_diff(struct invocation *invocation, struct error *error)
{
    cleanup_ref struct ref a = REF_INIT, b = REF_INIT;
    cleanup_json json_t *diff = NULL;
    cleanup_free char *path = NULL;
    const json_t *total;
    json_t *query;

    if (parse_address(invocation->arguments[0], &a, error) < 0)
        return -1;
    if (strchr(invocation->arguments[1], '/')) {
        if (parse_address(invocation->arguments[1], &b, error) < 0)
            return -1;
        if (strcmp(a.name, b.name) != 0)
            return error_set(error, ERROR_INVALID, "%s and %s are different models", a.name, b.name);
    } else {
        b.version = xstrdup(invocation->arguments[1]);
    }
    path = http_path("/api/v1/models/%p/versions/%s/diff", a.name, a.version ? a.version : "newest");
    query = project_query(&a);
    json_set_string(query, "base", b.version ? b.version : "newest");
    if (client_get(invocation->client, path, query, &diff, error) < 0)
        return -1;
    if (invocation->json) {
        print_json(diff);
        return 0;
    }
    total = json_object_get(diff, "total");
    printf("%s against %s\n\n", json_get_string(diff, "a", ""), json_get_string(diff, "b", ""));
    table_print(stdout, diff_columns, json_object_get(diff, "tensors"));
    printf("\nall: relative L2 %.6g, cosine %.6g, max |a-b| %.6g; %lld of %lld tensors changed\n",
           json_get_number(total, "relative_l2", 0), json_get_number(total, "cosine", 0),
           json_get_number(total, "max_abs", 0), (long long)json_get_int(total, "changed", 0),
           (long long)json_get_int(total, "tensors", 0));
    return 0;
}

/* -- rm -- */

static int model_rm(struct invocation *invocation, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_free char *path = NULL;

    if (parse_address(invocation->arguments[0], &ref, error) < 0)
        return -1;
    if (option_value(invocation, "alias"))
        path = http_path("/api/v1/models/%p/aliases/%s", ref.name, option_value(invocation, "alias"));
    else
        path = model_path(&ref, ref.version != NULL);
    if (!option_value(invocation, "alias") && !ref.version && !option_flag(invocation, "all"))
        return error_set(error, ERROR_INVALID,
                         "name a version (%s@N), or give --all to remove the model with all of "
                         "its versions",
                         ref.name);
    if (client_delete(invocation->client, path, project_query(&ref), NULL, error) < 0)
        return -1;
    print_done(invocation, NULL, "removed %s%s%s", invocation->arguments[0],
               option_value(invocation, "alias") ? " alias " : "",
               option_value(invocation, "alias") ? option_value(invocation, "alias") : "");
    return 0;
}

/* -- push, pull -- */

/* A package of one file. A model of ONNX or XGBoost gets the name that says what it is. */
static int zip_model(const char *path, int fd, const char *environment, struct error *error)
{
    static const char *const suffixes[] = {".onnx", ".json", ".ubj", ".py", ".R"};
    cleanup_close int file = open(path, O_RDONLY | O_CLOEXEC);
    cleanup_zip struct zip *zip = NULL;
    cleanup_free char *name = NULL, *manifest = NULL;
    size_t length = strlen(path);

    if (file < 0)
        return error_set_errno(error, errno, "%s", path);
    for (size_t i = 0; i < ARRAY_SIZE(suffixes) && !name; i++)
        if (length > strlen(suffixes[i]) && strcmp(path + length - strlen(suffixes[i]), suffixes[i]) == 0)
            name = xasprintf("model%s", suffixes[i]);
    if (!name)
        return error_set(error, ERROR_INVALID,
                         "%s is neither a directory, a zip, nor a model (.py, .R, .onnx, .json, .ubj)", path);
    zip = zip_new(fd);
    if (zip_add_fd(zip, name, file, false, error) < 0)
        return -1;
    manifest = environment ? xasprintf("environment: %s\n", environment) : NULL;
    if (manifest && zip_add(zip, "slipway.yaml", manifest, strlen(manifest), false, error) < 0)
        return -1;
    return zip_finish(steal_ptr(zip), error);
}

/* The zip of a directory or a single file, or the zip itself: a descriptor at its start. */
static int open_package(const char *path, const char *environment, int *ret_fd, struct error *error)
{
    cleanup_close int fd = -1;
    struct stat st;
    size_t length = strlen(path);
    int r;

    if (stat(path, &st) < 0)
        return error_set_errno(error, errno, "%s", path);
    if (environment &&
        (S_ISDIR(st.st_mode) || strcmp(fs_basename(path) + strcspn(fs_basename(path), "."), ".zip") == 0))
        return error_set(error, ERROR_INVALID, "--environment is for single files; a package names it in slipway.yaml");
    if (S_ISREG(st.st_mode) && length > 4 && strcmp(path + length - 4, ".zip") == 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(error, errno, "%s", path);
    } else {
        fd = memfd_create("package", MFD_CLOEXEC);
        if (fd < 0)
            return error_set_errno(error, errno, "cannot create a file in memory");
        r = S_ISDIR(st.st_mode) ? zip_from_directory(path, fd, NULL, error) : zip_model(path, fd, environment, error);
        if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
            return -1;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* The digest, to be freed; NULL on failure. */
static char *upload(struct invocation *invocation, int fd, const char *label, struct error *error)
{
    cleanup_progress struct progress *progress = NULL;
    cleanup_json json_t *reply = NULL;
    struct stat st;

    progress = progress_new(label, PROGRESS_BYTES, fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0);
    if (client_upload(invocation->client, "/api/v1/blobs", NULL, fd, progress, &reply, error) < 0)
        return NULL;
    progress_finish(progress);
    return xstrdup(json_get_string(reply, "digest", ""));
}

static int upload_weights(struct invocation *invocation, const char *path, json_t *body, struct error *error)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    cleanup_free char *digest = NULL;

    if (fd < 0)
        return error_set_errno(error, errno, "%s", path);
    digest = upload(invocation, fd, path, error);
    if (!digest)
        return -1;
    json_set_string(body, "weights", digest);
    json_set_string(body, "weights_name", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    return 0;
}

static int model_push(struct invocation *invocation, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    const char *weights = option_value(invocation, "weights");
    cleanup_json json_t *body = json_object(), *version = NULL;
    cleanup_free char *path = NULL;

    if (parse_address(invocation->arguments[0], &ref, error) < 0)
        return -1;
    if (ref.version)
        return error_set(error, ERROR_INVALID, "a push makes a new version; leave out @%s", ref.version);
    if (invocation->n_arguments < 2 && !weights)
        return error_set(error, ERROR_INVALID, "give a package, --weights, or both");
    if (invocation->n_arguments > 1) {
        cleanup_free char *digest = NULL;
        cleanup_close int fd = -1;

        if (open_package(invocation->arguments[1], option_value(invocation, "environment"), &fd, error) < 0)
            return -1;
        digest = upload(invocation, fd, invocation->arguments[1], error);
        if (!digest)
            return -1;
        json_set_string(body, "code", digest);
    }
    if (weights && upload_weights(invocation, weights, body, error) < 0)
        return -1;
    path = http_path("/api/v1/models/%p/versions", ref.name);
    if (client_post(invocation->client, path, project_query(&ref), json_incref(body), &version, error) < 0)
        return -1;
    print_done(invocation, version, "%s (%s)", json_get_string(version, "address", ""),
               json_get_string(version, "code_weights", ""));
    return 0;
}

static int download(struct invocation *invocation, const struct ref *ref, const char *what, const char *path,
                    struct error *error)
{
    cleanup_free char *url = http_path("/api/v1/models/%p/versions/%s/%s", ref->name,
                                       ref->version ? ref->version : "newest", what);
    cleanup_draft struct draft draft = DRAFT_INIT;
    cleanup_progress struct progress *progress = progress_new(path, PROGRESS_BYTES, 0);

    if (draft_begin(&draft, path, 0666, error) < 0 ||
        client_download(invocation->client, url, project_query(ref), draft.fd, progress, error) < 0 ||
        draft_finish(&draft, error) < 0)
        return -1;
    progress_finish(progress);
    return 0;
}

static int model_pull(struct invocation *invocation, struct error *error)
{
    const char *directory = option_value(invocation, "output") ? option_value(invocation, "output") : ".";
    cleanup_free char *code = xasprintf("%s/package.zip", directory);
    cleanup_free char *weights = xasprintf("%s/weights.safetensors", directory);
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_json json_t *version = NULL;
    bool has_weights;

    if (parse_address(invocation->arguments[0], &ref, error) < 0 || get_version(invocation, &ref, &version, error) < 0)
        return -1;
    if (mkdir(directory, 0777) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "%s", directory);
    has_weights = json_get_string(version, "weights_digest", NULL) != NULL;
    if (download(invocation, &ref, "code", code, error) < 0 ||
        (has_weights && download(invocation, &ref, "weights", weights, error) < 0))
        return -1;
    print_done(invocation, version, "%s: %s%s%s", json_get_string(version, "address", ""), code,
               has_weights ? " and " : "", has_weights ? weights : "");
    return 0;
}

/* -- package: an image -- */

static int package_in(struct invocation *invocation, const char *scratch, const char *output, struct error *error)
{
    cleanup_free char *code = fs_join(scratch, "package.zip"), *weights = fs_join(scratch, "weights.safetensors");
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_json json_t *version = NULL, *result = NULL;
    char digest_text[DIGEST_TEXT_SIZE];
    struct digest digest;
    bool has_weights;
    struct stat st;

    if (parse_address(invocation->arguments[0], &ref, error) < 0 || get_version(invocation, &ref, &version, error) < 0)
        return -1;
    has_weights = json_get_string(version, "weights_digest", NULL) != NULL;
    if (download(invocation, &ref, "code", code, error) < 0 ||
        (has_weights && download(invocation, &ref, "weights", weights, error) < 0) ||
        package_image(invocation, version, scratch, has_weights, output, &digest, error) < 0)
        return -1;
    digest_format(&digest, digest_text);
    result = json_build("{s:s, s:s, s:s, s:I}", "address", json_get_string(version, "address", ""), "output", output,
                        "digest", digest_text, "size", stat(output, &st) == 0 ? (json_int_t)st.st_size : 0);
    print_done(invocation, result, "%s: %s, image %s", json_get_string(version, "address", ""), output, digest_text);
    return 0;
}

static int model_package(struct invocation *invocation, struct error *error)
{
    const char *output = option_value(invocation, "output") ?: "model.tar", *temporary = getenv("TMPDIR") ?: "/tmp";
    cleanup_free char *scratch = xasprintf("%s/slipway-package-XXXXXX", temporary);
    int r;

    if (!mkdtemp(scratch))
        return error_set_errno(error, errno, "%s", scratch);
    r = package_in(invocation, scratch, output, error);
    fs_remove_all(scratch, NULL);
    return r;
}

/* -- reproduce -- */

static bool has_ended(const char *state)
{
    return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "stopped") == 0 ||
           strcmp(state, "lost") == 0;
}

static int wait_for_run(struct invocation *invocation, const struct ref *ref, const char *run, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s", run);

    for (int64_t pause_ms = 20;; pause_ms = pause_ms < 500 ? pause_ms * 3 / 2 : 500) {
        const struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * NS_PER_MS};
        cleanup_json json_t *reply = NULL;
        const char *state;

        if (client_get(invocation->client, path, project_query(ref), &reply, error) < 0)
            return -1;
        state = json_get_string(reply, "state", "");
        if (strcmp(state, "succeeded") == 0)
            return 0;
        if (has_ended(state))
            return error_set(error, ERROR_CONFLICT, "run %s ended as %s (%s): slipway runs logs %s", run, state,
                             json_get_string(reply, "message", json_get_string(reply, "reason", "")), run);
        nanosleep(&pause, NULL);
    }
}

/* The digest of a generation of the run; to be freed; NULL: it has none. */
static char *find_digest(struct invocation *invocation, const struct ref *ref, const char *run, int64_t generation,
                         struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/runs/%s/weights", run);
    cleanup_json json_t *items = NULL;
    json_t *item;
    size_t i;

    if (client_list(invocation->client, path, project_query(ref), 0, &items, error) < 0)
        return NULL;
    json_array_foreach(items, i, item)
        if (json_get_int(item, "generation", 0) == generation)
            return xstrdup(json_get_string(item, "digest", ""));
    error_set(error, ERROR_CONFLICT, "run %s has no weights generation %lld", run, (long long)generation);
    return NULL;
}

static int model_reproduce(struct invocation *invocation, struct error *error)
{
    cleanup_ref struct ref ref = REF_INIT;
    cleanup_json json_t *started = NULL, *result = NULL;
    cleanup_free char *path = NULL, *digest = NULL;
    const char *run, *expected;
    bool same;

    if (parse_address(invocation->arguments[0], &ref, error) < 0)
        return -1;
    path = http_path("/api/v1/models/%p/versions/%s/reproduce", ref.name, ref.version ? ref.version : "newest");
    if (client_post(invocation->client, path, project_query(&ref), NULL, &started, error) < 0)
        return -1;
    run = json_get_string(started, "run", "");
    expected = json_get_string(started, "weights_digest", "");
    if (!invocation->json)
        fprintf(stderr, "run %s repeats run %s\n", run, json_get_string(started, "original", ""));
    if (wait_for_run(invocation, &ref, run, error) < 0)
        return -1;
    digest = find_digest(invocation, &ref, run, json_get_int(started, "generation", 1), error);
    if (!digest)
        return -1;
    same = strcmp(digest, expected) == 0;
    result = json_build("{s:b, s:s, s:s, s:s}", "identical", same, "run", run, "recorded", expected, "weights", digest);
    if (same)
        print_done(invocation, result, "%s: bit-identical weights, %s", invocation->arguments[0], digest);
    else
        print_done(invocation, result, "%s: DIFFERENT weights: recorded %s, now %s", invocation->arguments[0], expected,
                   digest);
    return same ? 0 : EXIT_FAILED;
}

/* -- the child of core/rule.h -- */

static int run_rule(struct invocation *invocation, struct error *error)
{
    return rule_child();
}

static const struct option tree_options[] = {
    {"all", 'a', NULL, "all versions, not only the newest eight"},
    {},
};
static const struct option alias_options[] = {
    {"alias", 0, "NAME", "which alias (production)"},
    {},
};
static const struct option rm_options[] = {
    {"all", 0, NULL, "the model with all of its versions"},
    {"alias", 0, "NAME", "only this alias"},
    {},
};
static const struct option push_options[] = {
    {"weights", 'w', "FILE", "weights in safetensors"},
    {"environment", 0, "NAME", "of a single file; a package names it in slipway.yaml"},
    {},
};
static const struct option pull_options[] = {
    {"output", 'o', "DIR", "where to (the current directory)"},
    {},
};

static const struct option package_options[] = {
    {"output", 'o', "FILE", "the image, a tar (model.tar)"},
    {},
};

#define VERSIONS                                                                                                       \
    "A version is written vision/digits@7 (number), @3.5 (code.weights) or @production (alias); without any it is "    \
    "the newest."

const struct command model_commands[] = {
    {"model ls", "[MODEL]", "list models, or the versions of one", NULL, model_ls},
    {"model tree", NULL, "draw models with their newest versions", tree_options, model_tree},
    {"model show", "MODEL", "show the fact sheet of a version", NULL, model_show, .details = VERSIONS,
     .examples = "slipway model show vision/digits@production"},
    {"model promote", "MODEL", "point an alias to a version", alias_options, model_promote, .details = VERSIONS,
     .examples = "slipway model promote vision/digits@7\nslipway model promote vision/digits --alias candidate"},
    {"model rollback", "MODEL", "point an alias to where it was before", alias_options, model_rollback,
     .details = "Endpoints that follow the alias go back too; see also `endpoint rollback`.",
     .examples = "slipway model rollback vision/digits"},
    {"model history", "MODEL", "list the moves of aliases", NULL, model_history},
    {"model verify", "MODEL", "check the chain of release records and every blob", NULL, model_verify,
     .details = "Names the first broken link and exits with 1 if there is one."},
    {"model diff", "MODEL MODEL", "compare the weights of two versions, per tensor", NULL, model_diff,
     .details = "Relative L2 is |a-b|/|b|: the first version against the second. The second may be only what stands "
                "behind @.",
     .examples = "slipway model diff vision/digits@8 vision/digits@production\nslipway model diff vision/digits@8 7"},
    {"model push", "MODEL [PACKAGE]", "make a version from a package, without a run", push_options, model_push,
     .details =
         "PACKAGE is a directory, a zip, or a single file: model.py, model.R, a model of ONNX (.onnx) or of XGBoost "
         "(.json, .ubj). Weights alone make a new version with the newest "
         "package.",
     .examples = "slipway model push vision/digits examples/digits --weights digits.safetensors"},
    {"model pull", "MODEL", "download the package and weights of a version", pull_options, model_pull,
     .details = VERSIONS},
    {"model package", "MODEL", "make a container image that serves a version by itself", package_options, model_package,
     .details = "The image holds this program, the model, the weights, and of this machine the Python with what the "
                "model imports. It serves what the endpoint serves on port 8480 and needs no daemon. Run it with "
                "SLIPWAY_INTROSPECT=URL (and SLIPWAY_INTROSPECT_TOKEN), where tokens are checked, or SLIPWAY_PUBLIC=1. "
                "The same version gives the same digest.",
     .examples = "slipway model package vision/digits@production --output digits.tar\ndocker load -i digits.tar"},
    {"model rm", "MODEL", "remove a version that nothing uses", rm_options, model_rm},
    {"model reproduce", "MODEL", "run again what made a version, and compare the weights", NULL, model_reproduce,
     .details = "Same code, environment, data, parameters, resources and entry. Exits with 0 if the weights are "
                "bit-identical, with 1 if not."},
    {"rule", NULL, "runs a rule that comes on standard input; started by the daemon", NULL, run_rule, .offline = true,
     .hidden = true},
    {},
};

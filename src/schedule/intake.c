#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "core/metric.h"
#include "core/model.h"
#include "core/run.h"
#include "schedule/intake.h"
#include "store/journal.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define CHUNK        (4 * MIB)
#define MAX_WARNINGS 200 /* events of one node; further ones are counted only */

/* A batch of lines on its way from the file into one transaction. */
struct batch {
    struct store *store;
    const struct intake_node *node;
    struct run_node row; /* as it was when the batch was read */
    struct run *run;
    json_t *lines;  /* weights lines carry "digest" and "bytes", added by store_weights() */
    int64_t *ends;  /* of each line, byte offset behind it */
    int64_t offset; /* behind the batch */
    size_t taken;   /* lines that the transaction took */
    char *corrupt;  /* what is wrong with the line behind the batch; NULL: nothing */
    struct metric_writer metrics;
    int64_t sequence, warnings;
    bool more;
};

static void batch_release(struct batch *batch)
{
    run_free(batch->run);
    json_decref(batch->lines);
    free(batch->ends);
    free(batch->corrupt);
    metric_writer_release(&batch->metrics);
}
#define cleanup_batch CLEANUP(batch_release)

static int load_rows(struct batch *batch, struct error *error)
{
    const struct intake_node *node = batch->node;
    cleanup_tx struct db_tx tx = DB_TX_INIT;

    if (db_begin_read(batch->store->db, &tx, error) < 0 || run_load(&tx, NULL, node->run_id, &batch->run, error) < 0)
        return -1;
    return run_load_node(&tx, node->run_id, node->attempt, node->node, &batch->row, error);
}

static void set_corrupt(struct batch *batch, const char *what)
{
    if (!batch->corrupt)
        batch->corrupt = xasprintf("intake.jsonl is unreadable from byte %lld on: %s", (long long)batch->offset, what);
    batch->more = false;
}

/* False: the line is none, or not the one that comes next. */
static bool add_line(struct batch *batch, const char *line, const char *end)
{
    int64_t expected = batch->row.intake_sequence + (int64_t)json_array_size(batch->lines) + 1;
    cleanup_error struct error cause = ERROR_INIT;
    cleanup_json json_t *value = json_parse(line, (size_t)(end - line), &cause);
    cleanup_free char *what = NULL;
    int64_t sequence = json_get_int(value, "seq", -1);
    size_t n = json_array_size(batch->lines);

    if (!json_is_object(value) || sequence != expected) {
        what = !value ? xstrdup(cause.message)
               : !json_is_object(value)
                   ? xstrdup("a line is no object")
                   : xasprintf("line %lld comes where %lld should be", (long long)sequence, (long long)expected);
        set_corrupt(batch, what);
        return false;
    }
    json_array_append(batch->lines, value);
    batch->offset += end + 1 - line;
    batch->ends = xrealloc(batch->ends, (n + 1) * sizeof(*batch->ends));
    batch->ends[n] = batch->offset;
    return true;
}

/* Complete lines only: the last one may still be on its way. A line longer than the chunk grows it. */
static int read_lines(struct batch *batch, struct error *error)
{
    cleanup_free char *path = fs_join(batch->node->directory, "intake.jsonl");
    cleanup_strbuf struct strbuf text = STRBUF_INIT(LIMIT_HTTP_REPLY);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *line, *end;

    batch->offset = batch->row.intake_offset;
    if (fd < 0)
        return errno == ENOENT ? 0 : error_set_errno(error, errno, "cannot open %s", path);
    do {
        char *to = strbuf_reserve(&text, CHUNK);
        ssize_t n = to ? pread(fd, to, CHUNK, batch->row.intake_offset + (off_t)text.length) : 0;

        if (!to) {
            set_corrupt(batch, "a line has no end");
            return 0;
        }
        if (n < 0)
            return error_set_errno(error, errno, "cannot read %s", path);
        if (n == 0)
            break;
        strbuf_commit(&text, (size_t)n);
        batch->more = n == (ssize_t)CHUNK;
    } while (!memchr(text.data, '\n', text.length));

    for (line = text.data; (end = memchr(line, '\n', text.length - (size_t)(line - text.data))) != NULL; line = end + 1)
        if (!add_line(batch, line, end))
            break;
    return 0;
}

static bool is_type(const json_t *line, const char *type)
{
    return strcmp(json_get_string(line, "type", ""), type) == 0;
}

/* A generation whose file is gone or unreadable is told as a warning: the run goes on without it. */
static int store_weights(struct batch *batch, json_t *line, struct error *error)
{
    const char *file = json_get_string(line, "file", "");
    cleanup_error struct error cause = ERROR_INIT;
    cleanup_free char *path = NULL;
    char text[DIGEST_TEXT_SIZE];
    struct digest digest;
    uint64_t size;

    if (!fs_is_safe_name(file)) {
        json_set_string(line, "lost", "the intake names a file outside of the node's directory");
        return 0;
    }
    path = fs_join(batch->node->directory, file);
    if (vault_put_path(batch->store->vault, path, &digest, &size, &cause) < 0) {
        if (cause.code != ERROR_NOT_FOUND) {
            error_move(error, &cause);
            return error_wrap(error, "cannot store weights of run %s", batch->node->run_id);
        }
        json_set_string(line, "lost", cause.message);
        return 0;
    }
    json_set_string(line, "digest", digest_format(&digest, text));
    json_set_int(line, "bytes", (int64_t)size);
    return 0;
}

static int store_blobs(struct batch *batch, struct error *error)
{
    json_t *line;
    size_t i;

    json_array_foreach(batch->lines, i, line)
        if (is_type(line, "weights") && store_weights(batch, line, error) < 0)
            return -1;
    return 0;
}

/* -- lines into the transaction -- */

static int add_warning(struct db_tx *tx, struct batch *batch, const char *code, const char *message,
                       struct error *error)
{
    cleanup_free char *subject = xasprintf("run/%s", batch->run->id);
    cleanup_json json_t *data = json_build("{s:s, s:s, s:i, s:i}", "code", code, "message", message, "attempt",
                                           batch->node->attempt, "node", batch->node->node);
    struct journal_event event = {
        .type = "slipway.run.warning", .subject = subject, .project = batch->run->project, .data = data};

    if (++batch->warnings > MAX_WARNINGS)
        return 0;
    return journal_append(tx, &event, NULL, error);
}

static int64_t line_time_ms(const json_t *line)
{
    int64_t time;

    return clock_parse_ms(json_get_string(line, "time", ""), &time) == 0 ? time : clock_wall_ms();
}

static int take_started(struct db_tx *tx, struct batch *batch, const json_t *line, struct error *error)
{
    struct run_change change = {.state = RUN_RUNNING, .reason = "started"};
    const struct intake_node *node = batch->node;
    int64_t state;

    if (batch->row.state != NODE_LAUNCHING)
        return 0;
    batch->row.state = NODE_RUNNING;
    if (run_set_node_state(tx, node->run_id, node->attempt, node->node, NODE_RUNNING, NULL, error) < 0)
        return -1;
    /* Another node's intake may have said it a moment ago. */
    if (db_query_int(tx, &state, error, "SELECT state FROM runs WHERE id = ?", "s", node->run_id) < 0)
        return -1;
    return state == RUN_STARTING ? run_set_state(tx, batch->run, &change, error) : 0;
}

static int take_metric(struct db_tx *tx, struct batch *batch, const json_t *line, struct error *error)
{
    cleanup_error struct error cause = ERROR_INIT;

    if (metric_write(tx, &batch->metrics, batch->sequence, line_time_ms(line), json_object_get(line, "values"),
                     &cause) == 0)
        return 0;
    if (cause.code == ERROR_TOO_LARGE)
        return add_warning(tx, batch, "metrics_too_many", cause.message, error);
    error_move(error, &cause);
    return -1;
}

static int set_last_step(struct db_tx *tx, struct batch *batch, struct error *error)
{
    const struct intake_node *node = batch->node;

    if (!batch->metrics.has_step)
        return 0;
    return db_exec(tx, error, "UPDATE run_nodes SET last_step = ? WHERE run_id = ? AND attempt = ? AND node = ?",
                   "dsii", batch->metrics.last_step, node->run_id, (int64_t)node->attempt, (int64_t)node->node);
}

/* What the release record of a model version keeps of the run. */
static json_t *run_facts(const struct run *run)
{
    static const char *const keys[] = {"entry", "parameters", "resources", "environment", "nodes", "gate"};
    const json_t *seed = json_object_get(json_object_get(run->spec, "parameters"), "seed");
    json_t *facts = json_object(), *data = json_array(), *dataset, *file;
    size_t i, k;

    for (i = 0; i < ARRAY_SIZE(keys); i++) {
        json_t *value = json_object_get(run->spec, keys[i]);

        if (value && !json_is_null(value))
            json_object_set(facts, keys[i], value);
    }
    json_array_foreach(json_object_get(run->spec, "datasets"), i, dataset) {
        json_array_foreach(json_object_get(dataset, "files"), k, file)
            json_array_append_new(
                data, json_build("{s:s, s:s, s:s}", "address", json_get_string(dataset, "address", ""), "file",
                                 json_get_string(file, "name", ""), "digest", json_get_string(file, "digest", "")));
    }
    json_object_set_new(facts, "data", data);
    json_set_string(facts, "job", run->job);
    json_set_int(facts, "attempt", run->attempt);
    if (seed)
        json_object_set(facts, "seed", (json_t *)seed);
    return facts;
}

static int add_to_model(struct db_tx *tx, struct batch *batch, const char *digest, const json_t *line, int generation,
                        struct error *error)
{
    const struct run *run = batch->run;
    cleanup_json json_t *facts = run_facts(run);
    cleanup_json json_t *metrics = metric_last(tx, run->id, error);
    struct model_addition addition;
    struct digest code;
    uint64_t code_size;
    int64_t version;

    if (!metrics || digest_parse(run->code, &code, error) < 0 ||
        vault_size(batch->store->vault, &code, &code_size, error) < 0)
        return -1;
    addition = (struct model_addition){
        .project = run->project,
        .model = run->model,
        .code = run->code,
        .code_size = code_size,
        .weights = digest,
        .weights_size = (uint64_t)json_get_int(line, "bytes", 0),
        .weights_name = json_get_string(line, "name", NULL),
        .run_id = run->id,
        .generation = generation,
        .step = batch->metrics.has_step ? (int64_t)batch->metrics.last_step : -1,
        .metrics = metrics,
        .facts = facts,
        .actor = run->created_by,
    };
    return model_add_weights(tx, &addition, &version, error);
}

static int take_weights(struct db_tx *tx, struct batch *batch, const json_t *line, struct error *error)
{
    const char *digest = json_get_string(line, "digest", NULL);
    const struct intake_node *node = batch->node;
    struct run_weights weights = {.attempt = node->attempt,
                                  .node = node->node,
                                  .node_generation = (int)json_get_int(line, "generation", 0),
                                  .name = json_get_string(line, "name", ""),
                                  .size = (uint64_t)json_get_int(line, "bytes", 0),
                                  .created_at = line_time_ms(line)};
    int generation;

    if (!digest)
        return add_warning(tx, batch, "weights_lost", json_get_string(line, "lost", ""), error);
    if (digest_parse(digest, &weights.digest, error) < 0 || set_last_step(tx, batch, error) < 0 ||
        run_add_weights(tx, batch->run, &weights, &generation, NULL, error) < 0)
        return -1;
    return batch->run->model ? add_to_model(tx, batch, digest, line, generation, error) : 0;
}

static int take_warning(struct db_tx *tx, struct batch *batch, const json_t *line, struct error *error)
{
    return add_warning(tx, batch, json_get_string(line, "code", "unknown"), json_get_string(line, "message", ""),
                       error);
}

static int take_stats(struct db_tx *tx, struct batch *batch, const json_t *line, struct error *error)
{
    const struct intake_node *node = batch->node;

    return db_exec(tx, error, "UPDATE run_nodes SET stats = ? WHERE run_id = ? AND attempt = ? AND node = ?", "jsii",
                   line, node->run_id, (int64_t)node->attempt, (int64_t)node->node);
}

static int take_exited(struct db_tx *tx, struct batch *batch, const json_t *line, struct error *error)
{
    const struct intake_node *node = batch->node;
    cleanup_json json_t *record = json_copy((json_t *)line);

    json_object_del(record, "seq");
    json_object_del(record, "time");
    json_object_del(record, "type");
    batch->row.state = NODE_EXITED;
    return run_set_node_state(tx, node->run_id, node->attempt, node->node, NODE_EXITED, record, error);
}

/* Other types are for other readers. */
static const struct {
    const char *type;
    int (*take)(struct db_tx *tx, struct batch *batch, const json_t *line, struct error *error);
} kinds[] = {
    {"started", take_started}, {"metric", take_metric}, {"weights", take_weights},
    {"warning", take_warning}, {"stats", take_stats},   {"exited", take_exited},
};

static int take_line(struct db_tx *tx, struct batch *batch, const json_t *line, struct error *error)
{
    batch->sequence = json_get_int(line, "seq", -1);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (is_type(line, kinds[i].type))
            return kinds[i].take(tx, batch, line, error);
    return 0;
}

static int commit_batch(struct batch *batch, struct error *error)
{
    const struct intake_node *node = batch->node;
    struct metric_source source = {node->run_id, node->attempt, node->node};
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    json_t *line;
    size_t i;

    metric_writer_init(&batch->metrics, &source);
    batch->sequence = batch->row.intake_sequence;
    batch->warnings = 0;
    if (db_begin_write(batch->store->db, &tx, error) < 0)
        return -1;
    json_array_foreach(batch->lines, i, line) {
        batch->taken = i;
        if (take_line(&tx, batch, line, error) < 0)
            return -1;
    }
    batch->taken = json_array_size(batch->lines);
    if (set_last_step(&tx, batch, error) < 0)
        return -1;
    if (db_exec(&tx, error,
                "UPDATE run_nodes SET intake_offset = ?, intake_sequence = ?, warnings = warnings + ? "
                "WHERE run_id = ? AND attempt = ? AND node = ? AND intake_offset = ?",
                "iiisiii", batch->offset, batch->sequence, batch->warnings, node->run_id, (int64_t)node->attempt,
                (int64_t)node->node, batch->row.intake_offset) < 0)
        return -1;
    if (db_changes(&tx) != 1)
        return error_set(error, ERROR_CONFLICT, "somebody else takes the intake of run %s", node->run_id);
    return db_commit(&tx, error);
}

/* What a line says that cannot be: trying again would not help. */
static bool is_fault_of_line(const struct error *error)
{
    return error->code == ERROR_CORRUPT || error->code == ERROR_INVALID || error->code == ERROR_CONFLICT ||
           error->code == ERROR_TOO_LARGE;
}

/* The lines before the one that cannot be taken become the batch. */
static void cut_batch(struct batch *batch, const char *what)
{
    while (json_array_size(batch->lines) > batch->taken)
        json_array_remove(batch->lines, json_array_size(batch->lines) - 1);
    batch->offset = batch->taken ? batch->ends[batch->taken - 1] : batch->row.intake_offset;
    metric_writer_release(&batch->metrics);
    set_corrupt(batch, what);
}

static int reload(struct batch *batch, struct error *error)
{
    batch->run = run_free(batch->run);
    return load_rows(batch, error);
}

static int store_batch(struct batch *batch, struct error *error)
{
    size_t all = json_array_size(batch->lines);
    cleanup_error struct error cause = ERROR_INIT;

    if (store_blobs(batch, error) < 0)
        return -1;
    if (commit_batch(batch, &cause) == 0)
        return 0;
    if (batch->taken == all || !is_fault_of_line(&cause)) {
        error_move(error, &cause);
        return -1;
    }
    cut_batch(batch, cause.message);
    if (reload(batch, error) < 0)
        return -1;
    return json_array_size(batch->lines) > 0 ? commit_batch(batch, error) : 0;
}

/* The vault has them now. */
static void remove_stored_weights(const struct batch *batch)
{
    json_t *line;
    size_t i;

    json_array_foreach(batch->lines, i, line) {
        if (json_get_string(line, "digest", NULL)) {
            cleanup_free char *path = fs_join(batch->node->directory, json_get_string(line, "file", ""));

            unlink(path);
        }
    }
}

/* After a power loss the record may be there without the last line. */
static int take_exit_file(struct batch *batch, bool *ret_ended, struct error *error)
{
    cleanup_free char *path = fs_join(batch->node->directory, "exit.json");
    cleanup_tx struct db_tx tx = DB_TX_INIT;
    cleanup_json json_t *record = NULL;

    if (!fs_exists(path))
        return 0;
    record = json_parse_file(path, LIMIT_HTTP_REPLY, error);
    if (!record || db_begin_write(batch->store->db, &tx, error) < 0 || take_exited(&tx, batch, record, error) < 0 ||
        db_commit(&tx, error) < 0)
        return -1;
    *ret_ended = true;
    return 0;
}

int intake_take(struct store *store, const struct intake_node *node, bool final, struct intake_result *ret_result,
                struct error *error)
{
    cleanup_batch struct batch batch = {.store = store, .node = node, .lines = json_array()};
    struct intake_result result = {0};

    if (load_rows(&batch, error) < 0 || read_lines(&batch, error) < 0)
        return -1;
    if (json_array_size(batch.lines) > 0) {
        if (store_batch(&batch, error) < 0)
            return -1;
        remove_stored_weights(&batch);
        result.progress = true;
    }
    result.more = batch.more;
    result.started = batch.row.state != NODE_LAUNCHING;
    result.ended = batch.row.state == NODE_EXITED;
    result.corrupt = steal_ptr(batch.corrupt);
    if (final && !result.corrupt && !result.more && !result.ended && take_exit_file(&batch, &result.ended, error) < 0)
        return -1;
    *ret_result = result;
    return 0;
}

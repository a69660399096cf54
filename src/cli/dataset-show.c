/* `slipway dataset show`: a dataset drawn for people. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cli/client.h"
#include "cli/dataset.h"
#include "cli/terminal.h"
#include "http/client.h"
#include "util/strbuf.h"
#include "util/xalloc.h"

#define BAR_WIDTH 30
#define CLASSES   20 /* drawn of a label */

static char *rows_text(const json_t *dataset)
{
    const json_t *splits = json_object_get(json_object_get(dataset, "schema"), "splits"), *part;
    int64_t rows = json_get_int(dataset, "rows", -1);
    struct strbuf sb = STRBUF_INIT(4096);
    size_t i;

    if (rows < 0)
        return NULL;
    strbuf_addf(&sb, "%" PRId64, rows);
    json_array_foreach(splits, i, part)
        strbuf_addf(&sb, "%s%s %" PRId64, i ? ", " : " (", json_get_string(part, "name", ""),
                    json_get_int(part, "rows", 0));
    if (json_array_size(splits))
        strbuf_adds(&sb, ")");
    return strbuf_detach(&sb, NULL);
}

static const struct table_column head_columns[] = {
    {"Dataset", "address"},
    {"Description", "description"},
    {"Rows", .text = rows_text},
    {"Size", "size", TABLE_BYTES},
    {"Made", "created_at", TABLE_TIME},
    {"By", "created_by"},
    {},
};

/* Sixteen counts as a line of bars. */
static char *histogram_text(const json_t *column)
{
    static const char *const bars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    const json_t *bins = json_object_get(column, "histogram"), *bin;
    struct strbuf sb = STRBUF_INIT(256);
    json_int_t most = 0;
    size_t i;

    if (!json_array_size(bins))
        return NULL;
    json_array_foreach(bins, i, bin)
        most = json_integer_value(bin) > most ? json_integer_value(bin) : most;
    json_array_foreach(bins, i, bin) {
        json_int_t count = json_integer_value(bin);

        strbuf_adds(&sb, bars[count ? 1 + (int)(7 * (double)count / (double)most) : 0]);
    }
    return strbuf_detach(&sb, NULL);
}

static char *kind_text(const json_t *column)
{
    const char *role = json_get_string(column, "role", ""), *kind = json_get_string(column, "kind", "");

    if (strcmp(role, "feature") == 0)
        return xstrdup(kind);
    return *kind ? xasprintf("%s, %s", kind, role) : xstrdup(role);
}

static char *number_text(const json_t *column, const char *key)
{
    return json_is_number(json_object_get(column, key)) ? xasprintf("%.6g", json_get_number(column, key, 0)) : NULL;
}

static char *range_text(const json_t *column)
{
    const json_t *categories = json_object_get(column, "categories");
    cleanup_free char *min = number_text(column, "min"), *max = number_text(column, "max");
    struct strbuf sb = STRBUF_INIT(1024);

    if (min && max)
        return xasprintf("%s … %s", min, max);
    if (!categories)
        return NULL;
    strbuf_addf(&sb, "%zu: ", json_array_size(categories));
    for (size_t i = 0; i < json_array_size(categories) && i < 3; i++)
        strbuf_addf(&sb, "%s%.20s", i ? ", " : "", json_get_string(json_array_get(categories, i), "value", ""));
    if (json_array_size(categories) > 3)
        strbuf_adds(&sb, ", …");
    return strbuf_detach(&sb, NULL);
}

static char *mean_text(const json_t *column)
{
    return number_text(column, "mean");
}

static char *std_text(const json_t *column)
{
    return number_text(column, "std");
}

static char *missing_text(const json_t *column)
{
    int64_t missing = json_get_int(column, "missing", 0);

    return missing ? xasprintf("%" PRId64, missing) : NULL;
}

static const struct table_column column_columns[] = {
    {"COLUMN", "name"},
    {"KIND", .text = kind_text},
    {"TENSOR", "tensor"},
    {"MISSING", .text = missing_text},
    {"RANGE", .text = range_text},
    {"MEAN", .text = mean_text},
    {"STD", .text = std_text},
    {"DISTRIBUTION", .text = histogram_text},
    {},
};

static char *shape_text(const json_t *tensor)
{
    const json_t *shape = json_object_get(tensor, "shape");
    cleanup_free char *text = json_is_array(shape) ? json_text(shape) : NULL;

    return steal_ptr(text);
}

static const struct table_column tensor_columns[] = {
    {"TENSOR", "name"}, {"DTYPE", "dtype"}, {"SHAPE", .text = shape_text}, {"SIZE", "size", TABLE_BYTES}, {},
};

static const struct table_column file_columns[] = {
    {"FILE", "name"},
    {"SIZE", "size", TABLE_BYTES},
    {"DIGEST", "digest", TABLE_DIGEST},
    {},
};

static void print_tensors(const json_t *schema)
{
    cleanup_json json_t *list = json_array();
    const char *name;
    json_t *tensor;

    json_object_foreach(json_object_get(schema, "tensors"), name, tensor) {
        json_t *item = json_copy(tensor);

        json_set_string(item, "name", name);
        json_array_append_new(list, item);
    }
    if (!json_array_size(list))
        return;
    printf("\n");
    table_print(stdout, tensor_columns, list);
}

/* How the label's classes are balanced, as bars. */
static void print_classes(const json_t *column)
{
    const json_t *classes = json_object_get(column, "classes"), *class;
    json_int_t most = 1;
    int width = 1;
    size_t i;

    if (!classes)
        classes = json_object_get(column, "categories");
    if (!json_array_size(classes))
        return;
    json_array_foreach(classes, i, class) {
        cleanup_free char *value = json_text(json_object_get(class, "value"));
        json_int_t count = json_get_int(class, "count", 0);

        most = count > most ? count : most;
        width = i < CLASSES && text_width(value) > width ? text_width(value) : width;
    }
    printf("\nClasses of %s\n", json_get_string(column, "name", "label"));
    json_array_foreach(classes, i, class) {
        const json_t *value = json_object_get(class, "value");
        cleanup_free char *raw = json_is_string(value) ? xstrdup(json_string_value(value)) : json_text(value);
        cleanup_free char *text = text_printable(raw);
        json_int_t count = json_get_int(class, "count", 0);
        int bar = (int)lround((double)BAR_WIDTH * (double)count / (double)most);

        if (i == CLASSES) {
            printf("  … and %zu more\n", json_array_size(classes) - CLASSES);
            break;
        }
        printf("  %*s%s  ", width > text_width(text) ? width - text_width(text) : 0, "", text);
        for (int k = 0; k < bar; k++)
            printf("█");
        printf(" %" JSON_INTEGER_FORMAT "\n", count);
    }
}

static void print_columns(const json_t *schema, int64_t limit)
{
    const json_t *columns = json_object_get(schema, "columns"), *column;
    cleanup_json json_t *some = json_array();
    size_t i;

    if (!json_array_size(columns))
        return;
    /* The label, wherever it stands, and the first others. */
    json_array_foreach(columns, i, column)
        if (!limit || (int64_t)json_array_size(some) < limit ||
            strcmp(json_get_string(column, "role", ""), "label") == 0)
            json_array_append(some, (json_t *)column);
    printf("\n");
    table_print(stdout, column_columns, some);
    if (json_array_size(some) < json_array_size(columns))
        printf("… and %zu more columns (--columns 0)\n", json_array_size(columns) - json_array_size(some));
    json_array_foreach(columns, i, column)
        if (strcmp(json_get_string(column, "role", ""), "label") == 0)
            print_classes(column);
}

/* The first rows as a table whose columns are those of the data. */
static void print_table_rows(const json_t *rows, int64_t limit)
{
    const json_t *names = json_object_get(rows, "columns"), *row, *cell;
    size_t count = json_array_size(names), i, k;
    cleanup_json json_t *items = json_array();
    cleanup_free struct table_column *columns = NULL;
    cleanup_strvec struct strvec keys = STRVEC_INIT;

    count = limit && count > (size_t)limit ? (size_t)limit : count;
    columns = xcalloc(count + 1, sizeof(*columns));
    for (i = 0; i < count; i++)
        strvec_pushf(&keys, "c%zu", i);
    for (i = 0; i < count; i++)
        columns[i] = (struct table_column){json_string_value(json_array_get(names, i)), keys.items[i], TABLE_TEXT};
    json_array_foreach(json_object_get(rows, "rows"), i, row) {
        json_t *item = json_object();

        json_array_foreach(row, k, cell)
            if (k < count)
                json_object_set(item, keys.items[k], (json_t *)cell);
        json_array_append_new(items, item);
    }
    if (!json_array_size(items) || !count)
        return;
    printf("\n");
    table_print(stdout, columns, items);
}

static char *values_text(const json_t *tensor)
{
    cleanup_free char *text = json_text(json_object_get(tensor, "values"));

    return steal_ptr(text);
}

static const struct table_column value_columns[] = {
    {"TENSOR", "name"},
    {"FIRST VALUES", .text = values_text, .shrink = true},
    {},
};

int dataset_show(struct invocation *invocation, struct error *error)
{
    cleanup_free char *path = http_path("/api/v1/datasets/%s", invocation->arguments[0]);
    cleanup_free char *rows_path = http_path("/api/v1/datasets/%s/rows", invocation->arguments[0]);
    cleanup_json json_t *dataset = NULL, *rows = NULL;
    int64_t n_rows = 5, n_columns = 40;
    const json_t *schema;

    if (option_int(invocation, "rows", 0, 1000, &n_rows, error) < 0 ||
        option_int(invocation, "columns", 0, 100000, &n_columns, error) < 0 ||
        client_get(invocation->client, path, NULL, &dataset, error) < 0)
        return -1;
    schema = json_object_get(dataset, "schema");
    if (json_is_object(schema) &&
        client_get(invocation->client, rows_path, json_build("{s:I}", "rows", (json_int_t)n_rows), &rows, error) < 0)
        return -1;
    if (invocation->json) {
        if (rows)
            json_object_set(dataset, "first_rows", rows);
        print_json(dataset);
        return 0;
    }
    print_object(invocation, head_columns, dataset);
    if (!json_is_object(schema)) {
        printf("\n");
        table_print(stdout, file_columns, json_object_get(dataset, "files"));
        return 0;
    }
    print_tensors(schema);
    print_columns(schema, n_columns);
    if (json_object_get(rows, "rows"))
        print_table_rows(rows, n_columns ? 12 : 0);
    else if (json_array_size(json_object_get(rows, "tensors"))) {
        printf("\n");
        table_print(stdout, value_columns, json_object_get(rows, "tensors"));
    }
    return 0;
}

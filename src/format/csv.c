#include "format/csv.h"

#include <inttypes.h>
#include <string.h>
#include "format/number.h"
#include "util/limits.h"
#include "util/strvec.h"
#include "util/xalloc.h"

#define SAMPLE (64 * KIB) /* looked at to find the separator */

struct csv {
    struct reader *reader;
    char separator;
    bool is_end[256]; /* characters that may end an unquoted field */
    struct cell *cells;
    size_t count, capacity;
    size_t columns; /* of the first row; 0 before it */
    bool *text;     /* columns that are not to be seen as numbers */
    size_t n_text;
    struct strvec missing;
    uint64_t line, next_line;
    bool has_escapes; /* some cell of the row holds doubled quotes */
};

/* How often c stands outside of quotes in each line of the sample: the same number everywhere, or 0. */
static size_t even_count(const char *p, size_t length, bool complete, char c)
{
    size_t count = 0, first = 0, lines = 0;
    bool quoted = false;

    for (size_t i = 0; i < length; i++) {
        if (p[i] == '"') {
            quoted = !quoted;
        } else if (p[i] == c && !quoted) {
            count++;
        } else if (p[i] == '\n' && !quoted) {
            if (lines && count != first && !(count == 0 && i && (p[i - 1] == '\n' || p[i - 1] == '\r')))
                return 0;
            if (!lines++)
                first = count;
            count = 0;
        }
    }
    if (!lines)
        return count;
    return complete && count && count != first ? 0 : first;
}

static char find_separator(const char *data, size_t length, bool complete)
{
    static const char candidates[] = {',', '\t', ';', '|'};
    size_t most = 0;
    char best = ',';

    for (size_t i = 0; i < sizeof(candidates); i++) {
        size_t count = even_count(data, length, complete, candidates[i]);

        if (count > most) {
            most = count;
            best = candidates[i];
        }
    }
    return best;
}

int csv_open(struct reader *reader, char separator, struct csv **ret_csv, struct error *error)
{
    cleanup_csv struct csv *csv = xnew0(struct csv);
    const char *data;
    size_t length;
    bool end;

    if (reader_peek(reader, SAMPLE, &data, &length, &end, error) < 0)
        return -1;
    if (length >= 2 && (memcmp(data, "\xff\xfe", 2) == 0 || memcmp(data, "\xfe\xff", 2) == 0))
        return error_set(error, ERROR_INVALID, "%s is UTF-16; convert it to UTF-8 first (iconv -f UTF-16 -t UTF-8)",
                         reader_name(reader));
    if (length >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) {
        reader_consume(reader, 3);
        data += 3;
        length -= 3;
    }
    csv->reader = reader;
    csv->next_line = 1;
    csv->separator = separator ? separator : find_separator(data, length < SAMPLE ? length : SAMPLE, end);
    csv->is_end[(uint8_t)csv->separator] = csv->is_end['\n'] = csv->is_end['\r'] = csv->is_end[0] = true;
    *ret_csv = steal_ptr(csv);
    return 0;
}

struct csv *csv_free(struct csv *csv)
{
    if (!csv)
        return NULL;
    strvec_release(&csv->missing);
    free(csv->cells);
    free(csv->text);
    free(csv);
    return NULL;
}

void csv_add_missing(struct csv *csv, const char *word)
{
    strvec_push(&csv->missing, word);
}

void csv_set_text(struct csv *csv, size_t column)
{
    if (column >= csv->n_text) {
        csv->text = xreallocarray(csv->text, column + 1, sizeof(*csv->text));
        memset(csv->text + csv->n_text, 0, column + 1 - csv->n_text);
        csv->n_text = column + 1;
    }
    csv->text[column] = true;
}

static bool equals(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static bool is_missing(const struct csv *csv, const char *text, size_t length)
{
    static const char *const words[] = {"NA", "N/A", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "?"};

    while (length && (*text == ' ' || *text == '\t')) {
        text++;
        length--;
    }
    while (length && (text[length - 1] == ' ' || text[length - 1] == '\t'))
        length--;
    if (length == 0)
        return true;
    if (length <= 4 && memchr("Nn?", *text, 3))
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
            if (equals(text, length, words[i]))
                return true;
    for (size_t i = 0; i < csv->missing.count; i++)
        if (equals(text, length, csv->missing.items[i]))
            return true;
    return false;
}

static struct cell *add_cell(struct csv *csv)
{
    if (csv->count == csv->capacity) {
        csv->capacity = csv->capacity ? 2 * csv->capacity : 32;
        csv->cells = xreallocarray(csv->cells, csv->capacity, sizeof(*csv->cells));
    }
    return &csv->cells[csv->count++];
}

/* What a field's text is, when the quick way did not tell. */
static void classify(const struct csv *csv, struct cell *cell, bool as_text)
{
    struct number number = {{0}};
    enum number_kind kind = NUMBER_NONE;

    if (is_missing(csv, cell->text, cell->length)) {
        cell->kind = CELL_MISSING;
        return;
    }
    cell->kind = CELL_TEXT;
    if (!as_text)
        kind = number_parse(cell->text, cell->length, &number);
    if (kind == NUMBER_INTEGER) {
        cell->kind = CELL_INTEGER;
        cell->integer = number.integer;
    } else if (kind == NUMBER_REAL) {
        cell->kind = CELL_REAL;
        cell->real = number.real;
    }
}

enum step {
    STEP_FIELD, /* a separator follows: more fields */
    STEP_ROW,   /* the row is complete */
    STEP_MORE,  /* the buffer ended first */
    STEP_ERROR,
};

/* Behind a field: *p is at what ended it. */
static enum step end_field(struct csv *csv, const char **p, const char *end, bool at_end)
{
    const char *q = *p;

    if (q == end)
        return at_end ? STEP_ROW : STEP_MORE;
    if (*q == csv->separator) {
        *p = q + 1;
        return STEP_FIELD;
    }
    if (*q == '\r') {
        if (q + 1 == end && !at_end)
            return STEP_MORE;
        if (q + 1 < end && q[1] == '\n')
            q++;
    }
    *p = q + 1;
    csv->next_line++;
    return STEP_ROW;
}

static enum step quoted_field(struct csv *csv, const char **p, const char *end, bool at_end, struct error *error)
{
    size_t column = csv->count;
    struct cell *cell = add_cell(csv);
    const char *q = *p + 1;
    bool escapes = false;

    cell->text = q;
    for (;;) {
        const char *quote = memchr(q, '"', end - q);

        if (!quote && at_end) {
            error_set(error, ERROR_INVALID, "%s: a quote that opens in the row of line %" PRIu64 " is never closed",
                      reader_name(csv->reader), csv->line);
            return STEP_ERROR;
        }
        if (!quote || (quote + 1 == end && !at_end))
            return STEP_MORE;
        q = quote + 1;
        if (q == end || *q != '"')
            break;
        escapes = true;
        q++;
    }
    cell->length = q - 1 - cell->text;
    for (const char *n = cell->text; (n = memchr(n, '\n', q - n)); n++)
        csv->next_line++;
    if (q != end && !(csv->is_end[(uint8_t)*q] && *q)) {
        error_set(error, ERROR_INVALID, "%s: in the row of line %" PRIu64 ", something follows a closing quote",
                  reader_name(csv->reader), csv->line);
        return STEP_ERROR;
    }
    if (escapes)
        csv->has_escapes = true;
    classify(csv, cell, escapes || (column < csv->n_text && csv->text[column]));
    if (cell->kind == CELL_MISSING && escapes)
        cell->kind = CELL_TEXT;
    *p = q;
    return end_field(csv, p, end, at_end);
}

static enum step plain_field(struct csv *csv, const char **p, const char *end, bool at_end, struct error *error)
{
    size_t column = csv->count;
    bool as_text = column < csv->n_text && csv->text[column];
    struct cell *cell = add_cell(csv);
    const char *begin = *p, *q;
    struct number number;

    cell->text = begin;
    if (!as_text && (uint8_t)(*begin - '+') <= '9' - '+') { /* + , - . / and digits */
        enum number_kind kind = number_scan(begin, end, &q, &number);

        if (kind != NUMBER_NONE && (q == end || csv->is_end[(uint8_t)*q]) && (q == end || *q)) {
            cell->kind = kind == NUMBER_INTEGER ? CELL_INTEGER : CELL_REAL;
            cell->integer = number.integer; /* or the same eight bytes as a real */
            cell->length = q - begin;
            *p = q;
            return end_field(csv, p, end, at_end);
        }
    }
    for (q = begin; !csv->is_end[(uint8_t)*q]; q++)
        ;
    if (!*q && q < end) {
        error_set(error, ERROR_INVALID, "%s: line %" PRIu64 " holds a NUL byte; is it a text file?",
                  reader_name(csv->reader), csv->line);
        return STEP_ERROR;
    }
    if (q == end && !at_end)
        return STEP_MORE;
    cell->length = q - begin;
    classify(csv, cell, as_text);
    *p = q;
    return end_field(csv, p, end, at_end);
}

/* Cells of one row from p on; *p is behind it if STEP_ROW. */
static enum step parse_row(struct csv *csv, const char **p, const char *end, bool at_end, struct error *error)
{
    enum step step;

    csv->count = 0;
    csv->has_escapes = false;
    csv->line = csv->next_line;
    do {
        if (csv->count > LIMIT_CSV_COLUMNS) {
            error_set(error, ERROR_TOO_LARGE, "%s: line %" PRIu64 " has more than %d fields", reader_name(csv->reader),
                      csv->line, LIMIT_CSV_COLUMNS);
            return STEP_ERROR;
        }
        step = **p == '"' && *p < end ? quoted_field(csv, p, end, at_end, error)
                                      : plain_field(csv, p, end, at_end, error);
    } while (step == STEP_FIELD);
    if (step == STEP_MORE)
        csv->next_line = csv->line;
    return step;
}

/* Doubled quotes become one, in place: the row, which begins at `row`, is in the reader's own buffer and is not
 * parsed again. */
static void resolve_escapes(struct csv *csv, const char *row)
{
    for (size_t i = 0; i < csv->count; i++) {
        struct cell *cell = &csv->cells[i];
        char *text = (char *)cell->text, *out;
        size_t length = cell->length;

        if (length < 2 || text == row || text[-1] != '"' || !memmem(text, length, "\"\"", 2))
            continue;
        out = text;
        for (size_t k = 0; k < length; k++) {
            *out++ = text[k];
            if (text[k] == '"' && k + 1 < length && text[k + 1] == '"')
                k++;
        }
        cell->length = out - text;
    }
}

static int check_row(struct csv *csv, struct error *error)
{
    for (size_t i = 0; i < csv->count; i++)
        if (csv->cells[i].length > LIMIT_CSV_FIELD)
            return error_set(error, ERROR_TOO_LARGE, "%s: a field in line %" PRIu64 " has more than %" PRIu64 " bytes",
                             reader_name(csv->reader), csv->line, (uint64_t)LIMIT_CSV_FIELD);
    if (!csv->columns)
        csv->columns = csv->count;
    if (csv->count != csv->columns)
        return error_set(error, ERROR_INVALID, "%s: line %" PRIu64 " has %zu fields, the first row has %zu",
                         reader_name(csv->reader), csv->line, csv->count, csv->columns);
    return 0;
}

int csv_next(struct csv *csv, const struct cell **ret_cells, size_t *ret_count, struct error *error)
{
    size_t want = 1;

    for (;;) {
        const char *data, *p;
        size_t length;
        bool at_end;
        enum step step;

        if (reader_peek(csv->reader, want, &data, &length, &at_end, error) < 0)
            return -1;
        if (!length)
            return 0;
        p = data;
        step = parse_row(csv, &p, data + length, at_end, error);
        if (step == STEP_ERROR)
            return -1;
        if (step == STEP_MORE) {
            if (length > LIMIT_LINE)
                return error_set(error, ERROR_TOO_LARGE,
                                 "%s: the row of line %" PRIu64 " has more than %" PRIu64
                                 " bytes; is a quote not closed?",
                                 reader_name(csv->reader), csv->line, (uint64_t)LIMIT_LINE);
            want = length + 1;
            continue;
        }
        reader_consume(csv->reader, p - data);
        want = 1;
        if (csv->count == 1 && csv->cells[0].length == 0 && csv->cells[0].text[-(csv->cells[0].text > data)] != '"')
            continue; /* a blank line */
        if (csv->has_escapes)
            resolve_escapes(csv, data);
        if (check_row(csv, error) < 0)
            return -1;
        *ret_cells = csv->cells;
        *ret_count = csv->count;
        return 1;
    }
}

uint64_t csv_line(const struct csv *csv)
{
    return csv->line;
}

char csv_separator(const struct csv *csv)
{
    return csv->separator;
}

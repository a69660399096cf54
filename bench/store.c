/*
 * How fast the store is by itself: point reads, appended events one a transaction and in groups, blobs.
 * Prints "what<TAB>value<TAB>unit" lines.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "store/store.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/xalloc.h"

static void check(int r, const struct error *error)
{
    if (r < 0) {
        fprintf(stderr, "bench-store: %s\n", error->message);
        exit(1);
    }
}

static void append(struct db_tx *tx, int number)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *data = json_build("{s:i, s:s}", "number", number, "state", "running");
    const struct journal_event event = {
        .type = "slipway.bench.appended", .subject = "bench/1", .project = "default", .data = data};

    check(journal_append(tx, &event, NULL, &error), &error);
}

static void bench_appends(struct db *db, const char *what, int count, int group)
{
    cleanup_error struct error error = ERROR_INIT;
    int64_t begin = clock_monotonic_ns();

    for (int i = 0; i < count; i += group) {
        cleanup_tx struct db_tx tx = DB_TX_INIT;

        check(db_begin_write(db, &tx, &error), &error);
        for (int k = 0; k < group; k++)
            append(&tx, i + k);
        check(db_commit(&tx, &error), &error);
    }
    printf("%s\t%.0f\t/s\n", what, count / ((double)(clock_monotonic_ns() - begin) / (double)NS_PER_SEC));
}

static void bench_reads(struct db *db, int count)
{
    cleanup_error struct error error = ERROR_INIT;
    int64_t begin = clock_monotonic_ns(), sum = 0;

    for (int i = 0; i < count; i++) {
        cleanup_tx struct db_tx tx = DB_TX_INIT;
        int64_t value;

        check(db_begin_read(db, &tx, &error), &error);
        check(db_query_int(&tx, &value, &error, "SELECT sequence FROM events WHERE sequence = ?", "i",
                           (int64_t)(1 + i % 1000)),
              &error);
        sum += value;
    }
    if (sum <= 0)
        exit(1);
    printf("point reads, one transaction each\t%.0f\t/s\n",
           count / ((double)(clock_monotonic_ns() - begin) / (double)NS_PER_SEC));
}

static void bench_vault(struct vault *vault)
{
    cleanup_error struct error error = ERROR_INIT;
    size_t size = 64 * MIB;
    cleanup_free char *data = xmalloc(size);
    struct digest digest;
    int64_t begin;

    random_bytes(data, size);
    begin = clock_monotonic_ns();
    check(vault_put_bytes(vault, data, size, &digest, &error), &error);
    printf("vault put, 64 MiB that do not compress, durable\t%.0f\tMiB/s\n",
           64 / ((double)(clock_monotonic_ns() - begin) / (double)NS_PER_SEC));

    begin = clock_monotonic_ns();
    for (int i = 0; i < 1000; i++) {
        int fd;

        check(vault_get(vault, &digest, &fd, &error), &error);
        close(fd);
    }
    printf("vault get of a hot blob\t%.2f\tus\n", (double)(clock_monotonic_ns() - begin) / 1000 / 1000);
}

int main(int argc, char **argv)
{
    cleanup_error struct error error = ERROR_INIT;
    char directory[] = "/var/tmp/slipway-bench-XXXXXX";
    struct store_options options = {.directory = directory};
    struct store *store = NULL;

    if (!mkdtemp(directory))
        return 1;
    check(store_open(&options, &store, &error), &error);
    bench_appends(store->db, "appended events, one transaction each", 500, 1);
    bench_appends(store->db, "appended events, 1,000 a transaction", 100000, 1000);
    bench_reads(store->db, 100000);
    bench_vault(store->vault);
    store_close(store);
    fs_remove_all(directory, NULL);
    return 0;
}

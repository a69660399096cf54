#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include "store/vault.h"
#include "util/hash.h"
#include "util/limits.h"
#include "util/test.h"

struct fixture {
    char *directory, *hot, *cold;
    struct db *db;
    struct vault *vault;
};

#define BUDGET (1 * MIB)

static void open_vault(struct fixture *f)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(f->directory, "test.db");
    struct vault_options options = {f->cold, f->hot, BUDGET};

    assert_ok(db_open(path, &f->db, &error), &error);
    assert_ok(vault_open(f->db, &options, &f->vault, &error), &error);
}

static void close_vault(struct fixture *f)
{
    f->vault = vault_close(f->vault);
    f->db = db_close(f->db);
}

static int setup(void **state)
{
    struct fixture *f = xnew0(struct fixture);

    f->directory = test_directory_on_disk_new();
    f->cold = fs_join(f->directory, "vault");
    f->hot = fs_join(f->directory, "hot");
    open_vault(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close_vault(f);
    test_directory_remove(f->directory);
    free(f->cold);
    free(f->hot);
    free(f);
    return 0;
}

static char *noise(size_t length)
{
    char *data = xmalloc(length + 1);

    random_bytes(data, length);
    return data;
}

static void assert_content(struct vault *vault, const struct digest *digest, const void *data, size_t length)
{
    cleanup_error struct error error = ERROR_INIT;
    const void *mapped;
    size_t mapped_length;

    assert_ok(vault_map(vault, digest, &mapped, &mapped_length, &error), &error);
    assert_int_equal(mapped_length, length);
    if (memcmp(mapped, data, length) != 0)
        fail_msg("the content differs");
    if (length)
        munmap((void *)mapped, mapped_length);
}

static int64_t stat_of(struct vault *vault, const char *key)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_json json_t *stats = vault_stats(vault, &error);

    assert_non_null(stats);
    return json_get_int(stats, key, -1);
}

static char *cold_path(struct fixture *f, const struct digest *digest, const char *suffix)
{
    char text[DIGEST_TEXT_SIZE];

    digest_format(digest, text);
    return xasprintf("%s/%.2s/%s%s", f->cold, text + 7, text + 7, suffix);
}

static void test_put_and_get(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 300000, MIB - 1, MIB, MIB + 1, 3 * MIB + 17};
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (int compressible = 0; compressible < 2; compressible++) {
            cleanup_free char *data = noise(sizes[i]);
            struct digest digest, expected;
            uint64_t size = 1;

            if (compressible)
                memset(data, 'a' + (int)i, sizes[i]);
            digest_of(data, sizes[i], &expected);
            assert_ok(vault_put_bytes(f->vault, data, sizes[i], &digest, &error), &error);
            assert_true(digest_equal(&digest, &expected));
            assert_true(vault_has(f->vault, &digest));
            assert_ok(vault_size(f->vault, &digest, &size, &error), &error);
            assert_int_equal(size, sizes[i]);
            assert_content(f->vault, &digest, data, sizes[i]);
            assert_ok(vault_verify(f->vault, &digest, &error), &error);
        }
    }
}

static void test_unknown(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct digest digest = {{0}};
    char *path;
    uint64_t size;
    int fd;

    assert_false(vault_has(f->vault, &digest));
    assert_error(vault_get(f->vault, &digest, &fd, &error), &error, ERROR_NOT_FOUND, "sha256:0000");
    assert_error(vault_size(f->vault, &digest, &size, &error), &error, ERROR_NOT_FOUND, "sha256:0000");
    assert_error(vault_pin(f->vault, &digest, "run:1", &path, &error), &error, ERROR_NOT_FOUND, "sha256:0000");
    assert_error(vault_verify(f->vault, &digest, &error), &error, ERROR_NOT_FOUND, "sha256:0000");
    assert_null(vault_why(f->vault, &digest, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
}

static void test_same_content_once(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *incoming = fs_join(f->cold, "incoming");
    cleanup_free char *data = noise(100000);
    struct digest a, b;
    uint64_t before;

    assert_ok(vault_put_bytes(f->vault, data, 100000, &a, &error), &error);
    before = fs_tree_size(f->cold);
    assert_ok(vault_put_bytes(f->vault, data, 100000, &b, &error), &error);
    assert_true(digest_equal(&a, &b));
    assert_int_equal(fs_tree_size(f->cold), before);
    assert_int_equal(stat_of(f->vault, "blobs"), 1);
    assert_int_equal(fs_tree_size(incoming), 0);
}

static void test_compresses_where_it_pays(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    size_t length = 4 * MIB;
    cleanup_free char *data = xcalloc(1, length);
    cleanup_free char *raw = NULL, *zst = NULL, *mixed = NULL;
    struct digest digest;

    assert_ok(vault_put_bytes(f->vault, data, length, &digest, &error), &error);
    zst = cold_path(f, &digest, ".zst");
    assert_true(fs_exists(zst));
    assert_true(fs_tree_size(zst) < length / 100);

    random_bytes(data, length);
    assert_ok(vault_put_bytes(f->vault, data, length, &digest, &error), &error);
    raw = cold_path(f, &digest, "");
    assert_int_equal(fs_tree_size(raw), length);

    /* A head that compresses and a rest that does not: stored raw after all. */
    memset(data, 0, 100 * KIB);
    memset(data + MIB / 2, 0, 200 * KIB);
    assert_ok(vault_put_bytes(f->vault, data, length, &digest, &error), &error);
    mixed = cold_path(f, &digest, "");
    assert_int_equal(fs_tree_size(mixed), length);
    assert_content(f->vault, &digest, data, length);
}

static void test_expected_digest(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct digest wrong = {{7}}, digest;
    struct vault_put *put = NULL;

    assert_ok(vault_put_begin(f->vault, &put, &error), &error);
    assert_ok(vault_put_write(put, "abc", 3, &error), &error);
    assert_error(vault_put_finish(put, &wrong, &digest, NULL, &error), &error, ERROR_CORRUPT, "sha256:07");
    assert_int_equal(stat_of(f->vault, "blobs"), 0);
    assert_int_equal(fs_tree_size(f->cold), 0);
}

static void test_abort_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct vault_put *put = NULL;

    assert_ok(vault_put_begin(f->vault, &put, &error), &error);
    assert_ok(vault_put_write(put, "abc", 3, &error), &error);
    vault_put_abort(put);
    assert_int_equal(fs_tree_size(f->cold), 0);
}

static void test_descriptor_and_path(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = fs_join(f->directory, "file");
    cleanup_free char *text = NULL;
    cleanup_close int fd = -1;
    struct digest a, b;
    uint64_t size;
    size_t length;

    assert_ok(fs_write_atomic(path, "0123456789", 10, 0600, &error), &error);
    assert_ok(vault_put_path(f->vault, path, &a, &size, &error), &error);
    assert_int_equal(size, 10);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    lseek(fd, 4, SEEK_SET);
    assert_ok(vault_put_fd(f->vault, fd, &b, &size, &error), &error);
    assert_int_equal(size, 6);
    assert_ok(vault_read(f->vault, &b, 100, &text, &length, &error), &error);
    assert_string_equal(text, "456789");
    free(steal_ptr(text));
    assert_error(vault_read(f->vault, &a, 9, &text, &length, &error), &error, ERROR_TOO_LARGE, "10 bytes");
    free(steal_ptr(path));
    path = fs_join(f->directory, "nothing");
    assert_error(vault_put_path(f->vault, path, &a, &size, &error), &error, ERROR_NOT_FOUND, "nothing");
}

static void test_descriptors_are_read_only(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = -1;
    cleanup_free char *path = NULL;
    struct digest digest;
    struct stat st;

    assert_ok(vault_put_bytes(f->vault, "abc", 3, &digest, &error), &error);
    assert_ok(vault_get(f->vault, &digest, &fd, &error), &error);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_ok(vault_pin(f->vault, &digest, "run:1", &path, &error), &error);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
}

/* Changes one byte in the middle of a file that is read-only. */
static void damage(const char *path)
{
    cleanup_close int fd = -1;
    struct stat st;
    char byte;

    assert_int_equal(chmod(path, 0600), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
    byte = (char)~byte;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
}

static void test_damage_is_found_and_mended(void **state)
{
    struct fixture *f = *state;

    for (int compressible = 0; compressible < 2; compressible++) {
        cleanup_error struct error error = ERROR_INIT;
        cleanup_free char *data = noise(50000);
        cleanup_free char *path = NULL;
        struct digest digest, again;
        int fd;

        if (compressible)
            memset(data + 100, 'x', 40000);
        assert_ok(vault_put_bytes(f->vault, data, 50000, &digest, &error), &error);
        path = cold_path(f, &digest, compressible ? ".zst" : "");
        damage(path);
        assert_error(vault_get(f->vault, &digest, &fd, &error), &error, ERROR_CORRUPT, "damaged");
        assert_error(vault_get(f->vault, &digest, &fd, &error), &error, ERROR_CORRUPT, "missing");
        assert_error(vault_verify(f->vault, &digest, &error), &error, ERROR_CORRUPT, "missing");
        assert_ok(vault_put_bytes(f->vault, data, 50000, &again, &error), &error);
        assert_content(f->vault, &digest, data, 50000);
    }
}

static void test_cut_short_is_found(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *data = xcalloc(1, 2 * MIB);
    cleanup_free char *path = NULL;
    struct digest digest;
    struct stat st;
    int fd;

    random_bytes(data, MIB);
    memcpy(data + MIB, data, MIB); /* packs, but to more than a few bytes */
    memset(data, 0, MIB / 2);
    assert_ok(vault_put_bytes(f->vault, data, 2 * MIB, &digest, &error), &error);
    path = cold_path(f, &digest, ".zst");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 100), 0);
    assert_error(vault_get(f->vault, &digest, &fd, &error), &error, ERROR_CORRUPT, "");
}

/* -- the hot tier -- */

static struct digest put_noise(struct fixture *f, size_t length)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *data = noise(length);
    struct digest digest;

    assert_ok(vault_put_bytes(f->vault, data, length, &digest, &error), &error);
    return digest;
}

static void load(struct fixture *f, const struct digest *digest)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = -1;

    assert_ok(vault_get(f->vault, digest, &fd, &error), &error);
}

static bool is_hot(struct fixture *f, const struct digest *digest)
{
    char text[DIGEST_TEXT_SIZE];
    cleanup_free char *path = NULL;

    digest_format(digest, text);
    path = fs_join(f->hot, text + 7);
    return fs_exists(path);
}

static void test_least_recently_used_goes(void **state)
{
    struct fixture *f = *state;
    struct digest a = put_noise(f, 400 * KIB), b = put_noise(f, 400 * KIB), c = put_noise(f, 400 * KIB);

    load(f, &a);
    load(f, &b);
    load(f, &a); /* now b is the oldest */
    assert_int_equal(stat_of(f->vault, "hot_bytes"), 800 * KIB);
    load(f, &c);
    assert_true(is_hot(f, &a));
    assert_false(is_hot(f, &b));
    assert_true(is_hot(f, &c));
    assert_int_equal(stat_of(f->vault, "hot_bytes"), 800 * KIB);
}

static void test_pins_hold(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct digest a = put_noise(f, 400 * KIB), b = put_noise(f, 400 * KIB), c = put_noise(f, 400 * KIB);
    cleanup_free char *path = NULL, *same = NULL, *spilled = NULL;
    struct stat st;

    assert_ok(vault_pin(f->vault, &a, "run:1", &path, &error), &error);
    assert_ok(vault_pin(f->vault, &a, "run:1", &same, &error), &error);
    assert_string_equal(path, same);
    free(steal_ptr(same));
    assert_ok(vault_pin(f->vault, &a, "endpoint:x", &same, &error), &error);
    free(steal_ptr(same));
    assert_ok(vault_pin(f->vault, &b, "run:1", &same, &error), &error);
    assert_int_equal(stat_of(f->vault, "pinned_bytes"), 800 * KIB);

    /* Nothing can go: a third one is read from disk, and pinned there. */
    load(f, &c);
    assert_false(is_hot(f, &c));
    assert_ok(vault_pin(f->vault, &c, "run:2", &spilled, &error), &error);
    assert_int_equal(stat(spilled, &st), 0);
    assert_int_equal(st.st_size, 400 * KIB);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_ok(vault_unpin(f->vault, "run:2", &error), &error);
    assert_false(fs_exists(spilled));

    assert_ok(vault_unpin(f->vault, "run:1", &error), &error);
    assert_int_equal(stat_of(f->vault, "pinned_bytes"), 400 * KIB);
    load(f, &c);
    assert_true(is_hot(f, &a));
    assert_false(is_hot(f, &b));
    assert_true(is_hot(f, &c));
    assert_ok(vault_unpin(f->vault, "nobody", &error), &error);
}

static void test_too_big_for_memory(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *data = xcalloc(1, 2 * MIB);
    cleanup_free char *path = NULL, *again = NULL, *read = NULL;
    struct digest digest;
    size_t length;

    assert_ok(vault_put_bytes(f->vault, data, 2 * MIB, &digest, &error), &error);
    assert_content(f->vault, &digest, data, 2 * MIB);
    assert_ok(vault_pin(f->vault, &digest, "run:1", &path, &error), &error);
    assert_ok(fs_read(path, 4 * MIB, &read, &length, &error), &error);
    assert_int_equal(length, 2 * MIB);
    assert_memory_equal(read, data, length);

    close_vault(f);
    open_vault(f);
    assert_true(fs_exists(path));
    assert_ok(vault_pin(f->vault, &digest, "run:1", &again, &error), &error);
    assert_string_equal(path, again);
    assert_ok(vault_unpin(f->vault, "run:1", &error), &error);
    assert_false(fs_exists(path));
}

static void test_pins_survive_a_restart(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct digest a = put_noise(f, 400 * KIB), b = put_noise(f, 400 * KIB), c = put_noise(f, 400 * KIB);
    cleanup_free char *path = NULL, *same = NULL;

    assert_ok(vault_pin(f->vault, &a, "run:1", &path, &error), &error);
    close_vault(f);
    open_vault(f);
    assert_true(fs_exists(path));
    load(f, &b);
    load(f, &c);
    assert_true(is_hot(f, &a));
    assert_false(is_hot(f, &b));
    assert_ok(vault_pin(f->vault, &a, "run:1", &same, &error), &error);
    assert_string_equal(path, same);
    /* Was counted once, although pinned before and after. */
    assert_ok(vault_unpin(f->vault, "run:1", &error), &error);
    assert_int_equal(stat_of(f->vault, "pinned_bytes"), 0);
}

static void test_adopted_files_are_checked(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *data = noise(1000);
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *path = NULL, *stranger = fs_join(f->hot, "stranger"), *half = NULL;
    struct digest digest;

    assert_ok(vault_put_bytes(f->vault, data, 1000, &digest, &error), &error);
    assert_ok(vault_pin(f->vault, &digest, "run:1", &path, &error), &error);
    close_vault(f);
    damage(path);
    half = xasprintf("%s.loading", path);
    assert_ok(fs_write_atomic(stranger, "x", 1, 0600, &error), &error);
    assert_ok(fs_write_atomic(half, "x", 1, 0600, &error), &error);
    open_vault(f);
    assert_false(fs_exists(stranger));
    assert_false(fs_exists(half));
    /* The test's directory is on a disk, where a power loss may have damaged it. */
    assert_content(f->vault, &digest, data, 1000);
}

static void test_private_directory(void **state)
{
    struct fixture *f = *state;
    cleanup_error struct error error = ERROR_INIT;
    struct vault_options options = {f->cold, NULL, BUDGET};
    cleanup_free char *path = NULL, *directory = NULL;
    struct vault *vault = NULL;
    struct digest digest;
    struct stat st;

    assert_ok(vault_open(f->db, &options, &vault, &error), &error);
    assert_ok(vault_put_bytes(vault, "abc", 3, &digest, &error), &error);
    assert_ok(vault_pin(vault, &digest, "run:1", &path, &error), &error);
    directory = xstrndup(path, (size_t)(fs_basename(path) - path - 1));
    assert_int_equal(stat(directory, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    vault_close(vault);
    assert_true(fs_exists(path)); /* pinned */

    assert_ok(vault_open(f->db, &options, &vault, &error), &error);
    assert_ok(vault_unpin(vault, "run:1", &error), &error);
    vault_close(vault);
    assert_false(fs_exists(directory));

    /* Anybody may have made that name in /dev/shm first. */
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_int_equal(chmod(directory, 0777), 0);
    vault = NULL;
    assert_error(vault_open(f->db, &options, &vault, &error), &error, ERROR_FORBIDDEN, "/dev/shm/slipway-");
    assert_int_equal(rmdir(directory), 0);
}

/* -- many threads -- */

#define THREADS 8

struct job {
    struct fixture *f;
    char *data; /* shared by all: the same blobs are put, loaded and evicted at once */
    pthread_t thread;
};

static void *put_and_get(void *userdata)
{
    struct job *job = userdata;

    for (int i = 0; i < 30; i++) {
        cleanup_error struct error error = ERROR_INIT;
        size_t offset = (size_t)(i % 7) * 1000;
        struct digest digest;

        assert_ok(vault_put_bytes(job->f->vault, job->data + offset, 300 * KIB, &digest, &error), &error);
        assert_content(job->f->vault, &digest, job->data + offset, 300 * KIB);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *data = noise(400 * KIB);
    struct job jobs[THREADS];

    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){f, data, 0};
        assert_int_equal(pthread_create(&jobs[i].thread, NULL, put_and_get, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(jobs[i].thread, NULL);
    assert_int_equal(stat_of(f->vault, "blobs"), 7);
    assert_true(stat_of(f->vault, "hot_bytes") <= (int64_t)BUDGET);
    assert_int_equal(stat_of(f->vault, "hot_bytes"), fs_tree_size(f->hot));
}

/* -- a full disk -- */

/* In a mount namespace of its own, with the data directory on a file system of 4 MiB. Exit status: 0 fine,
 * 77 no permission to try, else the step that failed. */
static int fill_the_disk(const char *directory)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *db_path = fs_join(directory, "test.db");
    cleanup_free char *cold = fs_join(directory, "vault");
    cleanup_free char *hot = fs_join(directory, "hot");
    cleanup_free char *incoming = fs_join(cold, "incoming");
    cleanup_free char *data = noise(8 * MIB);
    struct vault_options options = {cold, hot, 256 * KIB};
    struct vault *vault = NULL;
    struct db *db = NULL;
    struct digest digest, small;
    int before;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", directory, "tmpfs", 0, "size=4m") < 0)
        return 77;
    if (db_open(db_path, &db, &error) < 0 || vault_open(db, &options, &vault, &error) < 0 ||
        vault_put_bytes(vault, data, 100 * KIB, &small, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    before = (int)fs_tree_size(cold);
    if (vault_put_bytes(vault, data, 8 * MIB, &digest, &error) == 0 || error.code != ERROR_NO_SPACE) {
        fprintf(stderr, "got %s: %s\n", error_code_name(error.code), error.message ? error.message : "-");
        return 2;
    }
    error_clear(&error);
    if ((int)fs_tree_size(cold) != before || fs_tree_size(incoming) != 0)
        return 3;
    /* What is there can still be read, and there is room for what is small. */
    if (vault_verify(vault, &small, &error) < 0 || vault_put_bytes(vault, "x", 1, &digest, &error) < 0 ||
        !vault_has(vault, &digest))
        return 4;
    vault_close(vault);
    db_close(db);
    return 0;
}

static void test_disk_full(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *directory = fs_join(f->directory, "small");
    int status;
    pid_t pid;

    assert_int_equal(mkdir(directory, 0700), 0);
    pid = fork(); /* the test has one thread here */
    if (pid == 0)
        _exit(fill_the_disk(directory));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("no permission to mount: a full disk is not tried\n");
        skip();
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_and_get, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_content_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compresses_where_it_pays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expected_digest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_abort_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptor_and_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptors_are_read_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_found_and_mended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_short_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_least_recently_used_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pins_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_big_for_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pins_survive_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_adopted_files_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_private_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

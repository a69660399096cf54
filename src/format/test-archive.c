#include "format/archive.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "util/limits.h"
#include "util/proc.h"
#include "util/strbuf.h"
#include "util/test.h"

static int memory_fd(const void *data, size_t length)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    if (write(fd, data, length) != (ssize_t)length)
        fail_msg("cannot write to a memfd");
    return fd;
}

/* One tar entry by hand. */
static void tar_add(struct strbuf *tar, const char *name, char type, const char *link, const char *content)
{
    char header[512] = {0};
    unsigned sum = 0;
    size_t length = content ? strlen(content) : 0;

    snprintf(header, 100, "%s", name);
    memcpy(header + 100, "0000644", 8);
    memcpy(header + 108, "0000000", 8);
    memcpy(header + 116, "0000000", 8);
    snprintf(header + 124, 12, "%011o", (unsigned)length & 0xfffffff);
    memcpy(header + 136, "00000000000", 12);
    memset(header + 148, ' ', 8);
    header[156] = type;
    if (link)
        snprintf(header + 157, 100, "%s", link);
    memcpy(header + 257,
           "ustar\0"
           "00",
           8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    strbuf_add(tar, header, 512);
    if (length) {
        strbuf_add(tar, content, length);
        for (size_t i = length; i % 512; i++)
            strbuf_addc(tar, '\0');
    }
}

static void tar_end(struct strbuf *tar)
{
    char zeros[1024] = {0};

    strbuf_add(tar, zeros, sizeof(zeros));
}

static char *read_below(const char *directory, const char *name)
{
    cleanup_free char *path = fs_join(directory, name);
    char *text;

    if (fs_read(path, 1000000, &text, NULL, NULL) < 0)
        return NULL;
    return text;
}

static void write_below(const char *directory, const char *name, const char *text, mode_t mode)
{
    cleanup_free char *path = fs_join(directory, name);
    cleanup_free char *parent = xstrndup(path, strrchr(path, '/') - path);

    assert_int_equal(fs_mkdir_all(parent, 0755, NULL), 0);
    assert_int_equal(fs_write_atomic(path, text, strlen(text), mode, NULL), 0);
}

static void test_unpack_tar(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_strbuf struct strbuf tar = STRBUF_INIT(MIB);
    cleanup_free char *a = NULL, *b = NULL;
    char *directory = test_directory_new();
    struct archive_summary summary;
    int fd;

    tar_add(&tar, "./", '5', NULL, NULL);
    tar_add(&tar, "./sub/", '5', NULL, NULL);
    tar_add(&tar, "./sub/a.txt", '0', NULL, "alpha");
    tar_add(&tar, "deep/er/b.txt", '0', NULL, "beta");
    tar_end(&tar);
    fd = memory_fd(tar.data, tar.length);
    assert_ok(archive_unpack(fd, "x.tar", directory, &summary, &error), &error);
    assert_int_equal(summary.files, 2);
    assert_int_equal(summary.bytes, 9);
    a = read_below(directory, "sub/a.txt");
    b = read_below(directory, "deep/er/b.txt");
    assert_string_equal(a, "alpha");
    assert_string_equal(b, "beta");
    /* Nothing is overwritten. */
    assert_error(archive_unpack(fd, "x.tar", directory, NULL, &error), &error, ERROR_EXISTS, "");
    close(fd);
    test_directory_remove(directory);
}

static void test_hostile_tar(void **state)
{
    static const struct {
        const char *name;
        char type;
        const char *link, *message;
    } rows[] = {
        {"../evil", '0', NULL, "leads upwards"},
        {"a/../../evil", '0', NULL, "leads upwards"},
        {"/tmp/evil", '0', NULL, "absolute"},
        {"a/./b", '0', NULL, "malformed"},
        {"a//b", '0', NULL, "malformed"},
        {"..", '5', NULL, "leads upwards"},
        {"/", '5', NULL, "absolute"},
        {"link", '2', "/etc/passwd", "is a link"},
        {"link", '2', "harmless", "is a link"},
        {"hard", '1', "/etc/passwd", "is a link"},
        {"device", '3', NULL, "neither a file"},
        {"block", '4', NULL, "neither a file"},
        {"fifo", '6', NULL, "neither a file"},
        {"new\nline", '0', NULL, "control characters"},
        {"\xff\xfe", '0', NULL, "refused"},
    };
    cleanup_error struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        cleanup_strbuf struct strbuf tar = STRBUF_INIT(MIB);
        cleanup_strvec struct strvec names = STRVEC_INIT;
        char *directory = test_directory_new();
        int fd;

        tar_add(&tar, rows[i].name, rows[i].type, rows[i].link, NULL);
        tar_end(&tar);
        fd = memory_fd(tar.data, tar.length);
        assert_error(archive_unpack(fd, "x.tar", directory, NULL, &error), &error, ERROR_INVALID, rows[i].message);
        assert_error(archive_list(fd, "x.tar", &names, &error), &error, ERROR_INVALID, rows[i].message);
        assert_int_equal(fs_tree_size(directory), 0);
        close(fd);
        test_directory_remove(directory);
    }
}

static void test_twice(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_strbuf struct strbuf tar = STRBUF_INIT(MIB);
    cleanup_strvec struct strvec names = STRVEC_INIT;
    int fd;

    tar_add(&tar, "a", '0', NULL, "1");
    tar_add(&tar, "./a", '0', NULL, "2");
    tar_end(&tar);
    fd = memory_fd(tar.data, tar.length);
    assert_error(archive_list(fd, "x.tar", &names, &error), &error, ERROR_INVALID, "there twice");
    close(fd);
}

/* A link that was in the directory before does not lead the unpacking out of it. */
static void test_link_in_directory(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_strbuf struct strbuf tar = STRBUF_INIT(MIB);
    char *directory = test_directory_new(), *outside = test_directory_new();
    cleanup_free char *link = fs_join(directory, "sub");
    int fd;

    assert_int_equal(symlink(outside, link), 0);
    tar_add(&tar, "sub/evil", '0', NULL, "1");
    tar_end(&tar);
    fd = memory_fd(tar.data, tar.length);
    if (archive_unpack(fd, "x.tar", directory, NULL, &error) == 0)
        fail_msg("unpacked through a link");
    assert_int_equal(fs_tree_size(outside), 0);
    close(fd);
    test_directory_remove(directory);
    test_directory_remove(outside);
}

static void test_bomb(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    char *directory = test_directory_new();
    cleanup_free char *path = fs_join(directory, "bomb.tar.gz"), *out = fs_join(directory, "out");
    cleanup_free char *script = xasprintf(
        "cd %s && head -c 200000000 /dev/zero > zeros && tar czf bomb.tar.gz zeros && rm zeros", directory);
    const char *argv[] = {"sh", "-c", script, NULL};
    cleanup_free char *content = NULL;
    size_t length;
    int fd;

    assert_int_equal(proc_run(argv, 1000, 60000, NULL, &error), 0);
    assert_int_equal(mkdir(out, 0755), 0);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_error(archive_unpack(fd, "bomb", out, NULL, &error), &error, ERROR_TOO_LARGE, "200 times its size");
    assert_true(fs_tree_size(out) < 100 * MIB);
    assert_error(archive_read_file(fd, "bomb", "zeros", 5 * MIB, &content, &length, &error), &error, ERROR_TOO_LARGE,
                 "more than");
    close(fd);
    test_directory_remove(directory);
}

static void test_not_an_archive(void **state)
{
    static const char *const texts[] = {"", "x", "hello world, this is no archive at all", "PK\3\4", "PK\5\6"};
    cleanup_error struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        cleanup_strvec struct strvec names = STRVEC_INIT;
        cleanup_close int fd = memory_fd(texts[i], strlen(texts[i]));

        /* An empty file is an empty archive to libarchive; nothing comes of it. */
        if (archive_list(fd, "x", &names, &error) == 0)
            assert_int_equal(names.count, 0);
        error_clear(&error);
    }
}

static void make_package(const char *directory)
{
    write_below(directory, "train.py", "print(1)\n", 0644);
    write_below(directory, "run.sh", "#!/bin/sh\n", 0755);
    write_below(directory, "lib/a.py", "a = 1\n", 0644);
    write_below(directory, "lib/__pycache__/a.pyc", "x", 0644);
    write_below(directory, ".git/config", "x", 0644);
    write_below(directory, "data/big.csv", "x", 0644);
    write_below(directory, "notes.txt", "x", 0644);
    write_below(directory, "lib/notes.txt", "kept", 0644);
    write_below(directory, "keep.log", "kept", 0644);
    write_below(directory, "drop.log", "x", 0644);
    write_below(directory, "empty", "", 0644);
    write_below(directory, "\xc3\xa4.txt", "kept", 0644);
    write_below(directory, ".slipwayignore", "# comment\ndata/\n/notes.txt\n*.log\n!keep.log\n", 0644);
}

static void test_zip_directory(void **state)
{
    static const char *const expected[] = {".slipwayignore", "empty",  "keep.log", "lib/a.py",
                                           "lib/notes.txt",  "run.sh", "train.py", "\xc3\xa4.txt"};
    cleanup_error struct error error = ERROR_INIT;
    char *one = test_directory_new(), *two = test_directory_new(), *out = test_directory_new();
    cleanup_close int first = memfd_create("a", MFD_CLOEXEC), second = memfd_create("b", MFD_CLOEXEC);
    cleanup_strvec struct strvec names = STRVEC_INIT;
    cleanup_free char *bytes_first = NULL, *bytes_second = NULL, *content = NULL, *tool = NULL;
    cleanup_free char *link = fs_join(two, "link.py"), *script = NULL;
    struct archive_summary summary;
    size_t length_first, length_second;
    struct stat st;

    make_package(one);
    make_package(two);
    assert_ok(zip_from_directory(one, first, &summary, &error), &error);
    assert_ok(zip_from_directory(two, second, NULL, &error), &error);
    assert_int_equal(summary.files, 8);
    lseek(first, 0, SEEK_SET);
    lseek(second, 0, SEEK_SET);
    assert_ok(fs_read_fd(first, "first", MIB, &bytes_first, &length_first, &error), &error);
    assert_ok(fs_read_fd(second, "second", MIB, &bytes_second, &length_second, &error), &error);
    assert_int_equal(length_first, length_second);
    assert_memory_equal(bytes_first, bytes_second, length_first);

    assert_ok(archive_list(first, "code.zip", &names, &error), &error);
    assert_int_equal(names.count, ARRAY_SIZE(expected));
    for (size_t i = 0; i < names.count; i++)
        assert_string_equal(names.items[i], expected[i]);
    assert_ok(archive_unpack(first, "code.zip", out, NULL, &error), &error);
    content = read_below(out, "lib/a.py");
    assert_string_equal(content, "a = 1\n");
    tool = fs_join(out, "run.sh");
    assert_int_equal(stat(tool, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);

    /* Links: inside is followed, outside refused. */
    assert_int_equal(symlink("train.py", link), 0);
    lseek(second, 0, SEEK_SET);
    assert_ok(zip_from_directory(two, second, &summary, &error), &error);
    assert_int_equal(summary.files, 9);
    unlink(link);
    assert_int_equal(symlink("/etc/hostname", link), 0);
    assert_error(zip_from_directory(two, second, NULL, &error), &error, ERROR_INVALID, "out of the directory");

    /* Another implementation agrees that it is a sound zip. */
    script = xasprintf("import sys, zipfile; z = zipfile.ZipFile('/proc/%d/fd/%d'); "
                       "sys.exit(z.testzip() is not None or z.read('lib/notes.txt') != b'kept')",
                       (int)getpid(), first);
    const char *argv[] = {"python3", "-c", script, NULL};
    cleanup_free char *output = NULL;

    if (proc_run(argv, 10000, 30000, &output, &error) != 0)
        fail_msg("python3 does not read the zip: %s", output);
    test_directory_remove(one);
    test_directory_remove(two);
    test_directory_remove(out);
}

static void test_hostile_zip(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_close int fd = memfd_create("zip", MFD_CLOEXEC);
    cleanup_free char *bytes = NULL, *content = NULL;
    cleanup_strvec struct strvec names = STRVEC_INIT;
    struct zip *zip = zip_new(fd);
    size_t length;

    assert_error(zip_add(zip, "../evil", "x", 1, false, &error), &error, ERROR_INVALID, "not a name");
    assert_ok(zip_add(zip, "xx/evil", "content", 7, false, &error), &error);
    assert_ok(zip_finish(zip, &error), &error);
    assert_ok(archive_read_file(fd, "x.zip", "xx/evil", 100, &content, &length, &error), &error);
    assert_int_equal(length, 7);
    assert_error(archive_read_file(fd, "x.zip", "nothing", 100, &content, NULL, &error), &error, ERROR_NOT_FOUND,
                 "no file nothing");
    assert_error(archive_read_file(fd, "x.zip", "xx/evil", 6, &content, NULL, &error), &error, ERROR_TOO_LARGE,
                 "more than 6");
    lseek(fd, 0, SEEK_SET);
    assert_ok(fs_read_fd(fd, "zip", MIB, &bytes, &length, &error), &error);
    for (char *p = bytes; (p = memmem(p, length - (p - bytes), "xx/", 3));)
        memcpy(p, "../", 3);
    cleanup_close int evil = memory_fd(bytes, length);
    assert_error(archive_list(evil, "x.zip", &names, &error), &error, ERROR_INVALID, "leads upwards");

    /* Cut anywhere, it is an error or an archive with nothing in it, never a crash. */
    for (size_t cut = 1; cut < length; cut++) {
        cleanup_strvec struct strvec some = STRVEC_INIT;
        cleanup_close int part = memory_fd(bytes, cut);

        if (archive_list(part, "x.zip", &some, &error) == 0)
            assert_int_equal(some.count, 0);
        error_clear(&error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unpack_tar),    cmocka_unit_test(test_hostile_tar),
        cmocka_unit_test(test_twice),         cmocka_unit_test(test_link_in_directory),
        cmocka_unit_test(test_bomb),          cmocka_unit_test(test_not_an_archive),
        cmocka_unit_test(test_zip_directory), cmocka_unit_test(test_hostile_zip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

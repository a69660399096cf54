#include <fcntl.h>
#include "format/archive.h"
#include "format/oci.h"
#include "util/limits.h"
#include "util/test.h"

static int setup(void **state)
{
    *state = test_directory_new();
    return 0;
}

static int teardown(void **state)
{
    test_directory_remove(*state);
    return 0;
}

static bool skip_pyc(const char *relative)
{
    size_t n = strlen(relative);

    return n > 4 && strcmp(relative + n - 4, ".pyc") == 0;
}

static char *write_file(const char *directory, const char *name, const char *text)
{
    cleanup_error struct error error = ERROR_INIT;
    char *path = fs_join(directory, name);

    assert_ok(fs_write_atomic(path, text, strlen(text), 0644, &error), &error);
    return path;
}

static struct digest build(const char *directory, const char *file, const char *tar_name)
{
    cleanup_error struct error error = ERROR_INIT;
    static const char *const entrypoint[] = {"/usr/bin/slipway", "gateway", NULL};
    const struct oci_settings settings = {
        .name = "slipway/test:1", .architecture = "amd64", .entrypoint = entrypoint, .port = "8480/tcp"};
    cleanup_free char *tree = fs_join(directory, "tree"), *tar_path = fs_join(directory, tar_name);
    cleanup_close int fd = open(tar_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cleanup_oci struct oci_image *image = oci_new(directory, &error);
    struct digest digest;

    assert_non_null(image);
    assert_ok(oci_layer_begin(image, "base", &error), &error);
    assert_ok(oci_add_file(image, "usr/bin/slipway", 0755, file, &error), &error);
    assert_ok(oci_add_tree(image, "opt/tree", tree, skip_pyc, &error), &error);
    assert_true(oci_has(image, "opt/tree/sub/b.txt"));
    assert_false(oci_has(image, "opt/tree/a.pyc"));
    assert_error(oci_add_bytes(image, "usr/bin/slipway", 0644, "x", 1, &error), &error, ERROR_EXISTS, "already");
    assert_error(oci_add_bytes(image, "../x", 0644, "x", 1, &error), &error, ERROR_INVALID, "relative name");
    assert_ok(oci_layer_end(image, &error), &error);
    assert_ok(oci_layer_begin(image, "model", &error), &error);
    assert_ok(oci_add_bytes(image, "model/weights", 0644, "w", 1, &error), &error);
    assert_ok(oci_layer_end(image, &error), &error);
    assert_ok(oci_finish(steal_ptr(image), &settings, fd, &digest, &error), &error);
    return digest;
}

static void test_image_is_reproducible_and_complete(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *sub = fs_join(*state, "tree/sub");
    cleanup_free char *tar_path = fs_join(*state, "1.tar");
    cleanup_free char *manifest_name = NULL, *index_text = NULL, *manifest_text = NULL, *layer = NULL;
    cleanup_free char *file = NULL, *a = NULL, *b = NULL, *pyc = NULL;
    cleanup_json json_t *manifest = NULL;
    char text[DIGEST_TEXT_SIZE];
    struct digest first, second, layer_digest, wanted;
    cleanup_close int fd = -1;
    size_t length;
    const char *layer_name;
    cleanup_free char *blob = NULL;

    assert_ok(fs_mkdir_all(sub, 0755, &error), &error);
    file = write_file(*state, "program", "#!/bin/sh\n");
    a = write_file(*state, "tree/a.txt", "a");
    pyc = write_file(*state, "tree/a.pyc", "compiled");
    b = write_file(*state, "tree/sub/b.txt", "b");

    first = build(*state, file, "1.tar");
    second = build(*state, file, "2.tar");
    assert_true(digest_equal(&first, &second));

    /* The digest is that of the manifest inside, and a layer's content has the digest that the manifest says. */
    fd = open(tar_path, O_RDONLY | O_CLOEXEC);
    manifest_name = xasprintf("blobs/sha256/%s", digest_format(&first, text) + 7);
    assert_ok(archive_read_file(fd, "image", manifest_name, MIB, &manifest_text, &length, &error), &error);
    digest_of(manifest_text, length, &wanted);
    assert_true(digest_equal(&first, &wanted));
    manifest = json_parse(manifest_text, length, &error);
    assert_int_equal(json_array_size(json_object_get(manifest, "layers")), 2);
    layer_name = json_get_string(json_array_get(json_object_get(manifest, "layers"), 0), "digest", "");
    assert_ok(digest_parse(layer_name, &wanted, &error), &error);
    blob = xasprintf("blobs/sha256/%s", layer_name + 7);
    assert_ok(archive_read_file(fd, "image", blob, MIB, &layer, &length, &error), &error);
    digest_of(layer, length, &layer_digest);
    assert_true(digest_equal(&layer_digest, &wanted));
}

static void test_one_changed_byte_changes_the_digest(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *sub = fs_join(*state, "tree/sub");
    cleanup_free char *one = NULL, *two = NULL, *b = NULL;
    struct digest first, second;

    assert_ok(fs_mkdir_all(sub, 0755, &error), &error);
    b = write_file(*state, "tree/sub/b.txt", "b");
    one = write_file(*state, "one", "1");
    two = write_file(*state, "two", "2");
    first = build(*state, one, "1.tar");
    second = build(*state, two, "2.tar");
    assert_false(digest_equal(&first, &second));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_image_is_reproducible_and_complete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_changed_byte_changes_the_digest, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

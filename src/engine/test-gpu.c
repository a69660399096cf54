#include "engine/gpu.h"
#include "util/proc.h"
#include "util/test.h"

/* A stand-in for the driver's library: two devices, the second of which is /dev/nvidia5. */
static const char source[] =
    "#include <string.h>\n"
    "int nvmlInit_v2(void) { return 0; }\n"
    "int nvmlShutdown(void) { return 0; }\n"
    "int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }\n"
    "int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(unsigned long)(i + 1); return "
    "0; }\n"
    "int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *m) { m[0] = (unsigned long)d << 30; return 0; "
    "}\n"
    "int nvmlDeviceGetUUID(void *d, char *u, unsigned n) { strcpy(u, d == (void *)1 ? \"GPU-a\" : "
    "\"GPU-b\"); return 0; }\n"
    "int nvmlDeviceGetMinorNumber(void *d, unsigned *m) { *m = d == (void *)1 ? 0 : 5; return 0; }\n";

static char *build(const char *directory)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *c = fs_join(directory, "nvml.c");
    char *library = fs_join(directory, "libnvidia-ml.so");

    assert_ok(fs_write_atomic(c, source, strlen(source), 0644, &error), &error);
    assert_int_equal(
        proc_run((const char *[]){"cc", "-shared", "-fPIC", "-o", library, c, NULL}, 1000, 60000, NULL, &error), 0);
    return library;
}

static void test_two_devices(void **state)
{
    char *directory = test_directory_new();
    cleanup_free char *library = build(directory);
    struct gpus *gpus = gpus_open(library);
    cleanup_strvec struct strvec paths = STRVEC_INIT;

    assert_null(gpus_note(gpus));
    assert_int_equal(gpus_count(gpus), 2);
    assert_int_equal(gpus_memory(gpus)[1], UINT64_C(2) << 30);
    assert_string_equal(gpus_uuid(gpus, 0), "GPU-a");
    assert_null(gpus_uuid(gpus, 2));
    gpus_devices(gpus, "1,7", &paths);
    assert_true(strvec_contains(&paths, "/dev/nvidia5"));
    assert_false(strvec_contains(&paths, "/dev/nvidia0"));
    gpus_close(gpus);
    test_directory_remove(directory);
}

static void test_no_driver(void **state)
{
    struct gpus *gpus = gpus_open("/nonexistent/libnvidia-ml.so.1");
    cleanup_strvec struct strvec paths = STRVEC_INIT;

    assert_int_equal(gpus_count(gpus), 0);
    assert_null(gpus_memory(gpus));
    assert_non_null(strstr(gpus_note(gpus), "/nonexistent"));
    gpus_devices(gpus, "", &paths);
    gpus_devices(gpus, NULL, &paths);
    assert_int_equal(paths.count, 0);
    gpus_close(gpus);
}

static void test_not_that_library(void **state)
{
    struct gpus *gpus = gpus_open("libm.so.6");

    assert_int_equal(gpus_count(gpus), 0);
    assert_non_null(strstr(gpus_note(gpus), "lacks nvmlInit_v2"));
    gpus_close(gpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_devices),
        cmocka_unit_test(test_no_driver),
        cmocka_unit_test(test_not_that_library),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <signal.h>
#include <sys/wait.h>
#include "util/proc.h"
#include "util/test.h"

static void test_run_collects_output_and_status(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *output = NULL;

    assert_int_equal(
        proc_run((const char *[]){"sh", "-c", "echo out; echo err >&2; exit 3", NULL}, 100, 5000, &output, &error), 3);
    assert_string_equal(output, "out\nerr\n");
    assert_int_equal(proc_run((const char *[]){"sh", "-c", "kill -9 $$", NULL}, 100, 5000, NULL, &error), 137);
}

static void test_run_caps_output(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    cleanup_free char *output = NULL;

    assert_int_equal(proc_run((const char *[]){"sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x", NULL}, 10, 5000,
                              &output, &error),
                     0);
    assert_string_equal(output, "xxxxxxxxxx");
}

static void test_run_time_out(void **state)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_error(proc_run((const char *[]){"sleep", "60", NULL}, 10, 100, NULL, &error), &error, ERROR_TIMEOUT,
                 "sleep did not finish");
}

static void test_missing_program(void **state)
{
    cleanup_error struct error error = ERROR_INIT;

    assert_error(proc_run((const char *[]){"/nowhere/program", NULL}, 10, 100, NULL, &error), &error, ERROR_NOT_FOUND,
                 "/nowhere/program");
}

static void test_identity_and_signal(void **state)
{
    cleanup_error struct error error = ERROR_INIT;
    const char *const argv[] = {"sleep", "60", NULL};
    struct proc_spawn spawn = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .new_session = true};
    struct proc_id id, wrong;
    pid_t pid;
    int status;

    assert_ok(proc_spawn(&spawn, &pid, &error), &error);
    assert_ok(proc_identify(pid, &id, &error), &error);
    assert_true(proc_is_alive(&id));
    assert_int_equal(getsid(pid), pid);

    wrong = id;
    wrong.start_time++;
    assert_false(proc_is_alive(&wrong));
    assert_ok(proc_signal(&wrong, SIGKILL, &error), &error); /* of another process: nothing happens */
    assert_true(proc_is_alive(&id));

    assert_ok(proc_signal(&id, SIGTERM, &error), &error);
    assert_ok(proc_wait(pid, &status, &error), &error);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    assert_false(proc_is_alive(&id));
    assert_error(proc_identify(pid, &id, &error), &error, ERROR_NOT_FOUND, "no process");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_collects_output_and_status),
        cmocka_unit_test(test_run_caps_output),
        cmocka_unit_test(test_run_time_out),
        cmocka_unit_test(test_missing_program),
        cmocka_unit_test(test_identity_and_signal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

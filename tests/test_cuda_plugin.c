/* tests/test_cuda_plugin.c: the plug-in that nvcc built, on the machine at hand, with or without a GPU. */
#include "device/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Claim: a machine without a GPU gives a reason, not a crash. Method: opens "cuda" and closes it again if that works;
 * the reason is not that the plug-in itself could not be opened. */
static void cuda_opens_or_says_why(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_backend *b = NULL;
    t5_device_options options = {.device = "cuda", .compute_type = "auto"};
    t5_status status = t5_device_open(&options, &b, &err);
    if (status == T5_OK) {
        printf("opened %s\n", b->device);
        b->ops->destroy(b);
        return;
    }
    printf("no GPU: %s\n", err.text);
    assert_int_equal(status, T5_ERR_DEVICE);
    assert_null(strstr(err.text, "libt5cuda.so"));
    assert_null(b);
}

/* Claim: "auto" works on every machine. */
static void auto_opens(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_backend *b = NULL;
    t5_device_options options = {.device = "auto", .compute_type = "auto", .n_threads = 1};
    assert_int_equal(t5_device_open(&options, &b, &err), T5_OK);
    assert_non_null(b);
    b->ops->destroy(b);
}

/* Claim: a device that does not exist is refused. */
static void missing_device_is_refused(void **state)
{
    (void)state;
    t5_error err = {0};
    t5_backend *b = NULL;
    t5_device_options options = {.device = "cuda:200", .compute_type = "float16"};
    assert_int_equal(t5_device_open(&options, &b, &err), T5_ERR_DEVICE);
    assert_true(strlen(err.text) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuda_opens_or_says_why),
        cmocka_unit_test(auto_opens),
        cmocka_unit_test(missing_device_is_refused),
    };
    return cmocka_run_group_tests_name("cuda plug-in", tests, NULL, NULL);
}

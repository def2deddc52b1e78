/* tests/test_device.c: which backend a name gives, with and without a plug-in. T5_FAKE_PLUGIN and
 * T5_FAKE_PLUGIN_OLD are shared objects made of fake_cuda_plugin.c; the second claims another version. */
#include "base/limits.h"
#include "device/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static t5_status open_device(const char *device, const char *compute_type, t5_backend **out, t5_error *err)
{
    const t5_device_options options = {.device = device, .compute_type = compute_type, .n_threads = 1};
    *out = NULL;
    t5_error_clear(err);
    return t5_device_open(&options, out, err);
}

static void assert_opens(const char *device, const char *compute_type, const char *backend_name)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    if (open_device(device, compute_type, &backend, &err) != T5_OK) fail_msg("%s: %s", device, err.text);
    assert_string_equal(backend->ops->name, backend_name);
    backend->ops->destroy(backend);
}

static void assert_refused(const char *device, const char *compute_type, t5_status expected, const char *words)
{
    t5_error err = {0};
    t5_backend *backend = NULL;
    assert_int_equal(open_device(device, compute_type, &backend, &err), expected);
    assert_null(backend);
    if (strstr(err.text, words) == NULL) fail_msg("%s: \"%s\" lacks \"%s\"", device, err.text, words);
}

/* Claim: each CPU name gives its backend; what is unknown is named. Method: names, good and bad. */
static void names(void **state)
{
    (void)state;
    unsetenv("T5_CUDA_PLUGIN");
    assert_opens("cpu", "auto", "cpu");
    assert_opens("cpu", "float32", "cpu");
    assert_opens("cpu-ref", "auto", "cpu-ref");
    assert_refused("cpu-ref", "int8", T5_ERR_ARG, "float32");
    assert_refused("cpu", "float8", T5_ERR_ARG, "\"float8\"");
    static const char *const bad[] = {"",        "gpu",     "CUDA",     "cuda:",     "cuda:x",
                                      "cuda:1x", "cuda:-1", "cuda:256", "cuda:1000", "cpu\n"};
    for (size_t i = 0; i < T5_COUNT(bad); i++)
        assert_refused(bad[i], "auto", T5_ERR_ARG, "is not one of auto, cpu, cuda, cuda:N");
}

static void assert_list_refused(const char *device, t5_status expected, const char *words)
{
    t5_error err = {0};
    int32_t n = -1;
    t5_backend *backends[T5_DEVICES_MAX] = {0};
    const t5_device_options options = {.device = device, .compute_type = "auto", .n_threads = 1};
    assert_int_equal(t5_devices_open(&options, backends, &n, &err), expected);
    assert_int_equal(n, 0);
    if (strstr(err.text, words) == NULL) fail_msg("%s: \"%s\" lacks \"%s\"", device, err.text, words);
    t5_error_clear(&err);
    assert_int_equal(t5_devices_check(device, &err), expected == T5_ERR_DEVICE ? T5_OK : expected);
}

/* Claim: a list opens a backend for each name, in order, or none at all; one name is a list too; a GPU that is there
 * twice under whatever name, a name that is no GPU, an empty one and too many are refused and named. Method: lists,
 * good and bad; leaks are the sanitizer's to find. */
static void lists(void **state)
{
    (void)state;
    t5_error err = {0};
    int32_t n = 0;
    t5_backend *backends[T5_DEVICES_MAX] = {0};
    setenv("T5_CUDA_PLUGIN", T5_FAKE_PLUGIN, 1);
    static const char *const good[] = {"cpu", "cpu-ref,cuda:0,cpu-ref", "cuda"};
    static const int32_t n_good[] = {1, 3, 1};
    for (size_t i = 0; i < T5_COUNT(good); i++) {
        const t5_device_options options = {.device = good[i], .compute_type = "auto", .n_threads = 1};
        if (t5_devices_open(&options, backends, &n, &err) != T5_OK) fail_msg("%s: %s", good[i], err.text);
        assert_int_equal(n, n_good[i]);
        assert_int_equal(t5_devices_check(good[i], &err), T5_OK);
        if (i == 1) assert_string_equal(backends[1]->ops->name, "cuda");
        for (int32_t k = 0; k < n; k++)
            backends[k]->ops->destroy(backends[k]);
    }
    assert_list_refused("cuda:0,cuda:0", T5_ERR_ARG, "device: cuda:0 is in the list twice");
    assert_list_refused("cuda,cuda:00", T5_ERR_ARG, "device: cuda:00 is in the list twice");
    assert_list_refused("cuda:0,cuda:3", T5_ERR_DEVICE, "device cuda:3: no usable GPU");
    assert_list_refused("cuda:0,cpu", T5_ERR_ARG, "device: a list is of cuda:N, not of \"cpu\"");
    assert_list_refused("auto,cuda:1", T5_ERR_ARG, "not of \"auto\"");
    assert_list_refused("cuda:0,", T5_ERR_ARG, "not of \"\"");
    assert_list_refused(",", T5_ERR_ARG, "not of \"\"");
    assert_list_refused("cuda:0, cuda:1", T5_ERR_ARG, "not of \" cuda:1\"");
    assert_list_refused("cuda:00000000000000000000000000000000000000001,cuda:0", T5_ERR_ARG, "device: a list is of");
    assert_list_refused("gpu", T5_ERR_ARG, "device: \"gpu\" is not one of");
    char many[512] = "cuda:0";
    for (int i = 1; i <= T5_DEVICES_MAX; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ",cuda:%d", i);
    assert_list_refused(many, T5_ERR_ARG, "device: more than 16 in the list");
}

/* Claim: without a usable plug-in "auto" takes the CPU and a GPU by name is a device error with the reason. Method: no
 * plug-in, a missing file, a file that is no library, one of another version. */
static void no_plugin(void **state)
{
    (void)state;
    unsetenv("T5_CUDA_PLUGIN");
    assert_opens("auto", "auto", "cpu");
    assert_refused("cuda", "auto", T5_ERR_DEVICE, "libt5cuda.so");
    assert_refused("cuda", "auto", T5_ERR_DEVICE, "device cuda: no usable GPU (");
    assert_refused("cuda:7", "auto", T5_ERR_DEVICE, "device cuda:7: no usable GPU (");
    assert_refused("cuda", "auto", T5_ERR_DEVICE, "; --device cpu needs none");
    setenv("T5_CUDA_PLUGIN", "/nonexistent/plugin.so", 1);
    assert_opens("auto", "auto", "cpu");
    assert_refused("cuda:0", "auto", T5_ERR_DEVICE, "/nonexistent/plugin.so");
    setenv("T5_CUDA_PLUGIN", T5_SOURCE_DIR "/CMakeLists.txt", 1);
    assert_refused("cuda", "auto", T5_ERR_DEVICE, "CMakeLists.txt");
    setenv("T5_CUDA_PLUGIN", T5_FAKE_PLUGIN_OLD, 1);
    assert_opens("auto", "auto", "cpu");
    assert_refused("cuda", "auto", T5_ERR_DEVICE, "version");
}

/* Claim: a plug-in's device is used by name and by "auto"; one that it lacks is its own error. Method: the fake one. */
static void with_plugin(void **state)
{
    (void)state;
    setenv("T5_CUDA_PLUGIN", T5_FAKE_PLUGIN, 1);
    assert_opens("auto", "auto", "cuda");
    assert_opens("cuda", "float16", "cuda");
    assert_opens("cuda:0", "auto", "cuda");
    assert_opens("cpu", "auto", "cpu");
    assert_refused("cuda:3", "auto", T5_ERR_DEVICE, "no usable GPU (there is no such device)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(no_plugin),
        cmocka_unit_test(with_plugin),
        cmocka_unit_test(lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

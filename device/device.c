/* device/device.c: see device.h and plugin.h.
 *
 * A GPU can be missing in many ways: no plug-in in this install, another version, no driver, no device, no cuBLAS. Each
 * is one T5_ERR_DEVICE with its reason. A device asked for by name fails with it; "auto" logs it and takes the CPU. */
#include "device/device.h"

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "cpu/cpu.h"
#include "device/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define CUDA_DEVICE_MAX 255
#define NAME_BYTES 32 /* of a device that may stand in a list */

static const struct {
    const char *name;
    t5_compute_type type;
} compute_types[] = {{"auto", T5_COMPUTE_AUTO},     {"float32", T5_COMPUTE_F32}, {"float16", T5_COMPUTE_F16},
                     {"bfloat16", T5_COMPUTE_BF16}, {"int8", T5_COMPUTE_INT8},   {"int4", T5_COMPUTE_INT4}};

static t5_status parse_compute_type(const char *name, t5_compute_type *out, t5_error *err)
{
    for (size_t i = 0; i < T5_COUNT(compute_types); i++) {
        if (strcmp(name, compute_types[i].name) != 0) continue;
        *out = compute_types[i].type;
        return T5_OK;
    }
    char quoted[64];
    return T5_FAIL(err, T5_ERR_ARG, "compute type %s is not one of auto, float32, float16, bfloat16, int8, int4",
                   t5_log_quote(quoted, sizeof quoted, name));
}

/* "cuda" or "cuda:N". False for anything else. */
static bool parse_cuda(const char *device, int *out_number)
{
    *out_number = 0;
    if (strcmp(device, "cuda") == 0) return true;
    if (strncmp(device, "cuda:", 5) != 0) return false;
    const char *digits = device + 5;
    const size_t n_digits = strspn(digits, "0123456789");
    if (n_digits < 1 || n_digits > 3 || digits[n_digits] != '\0') return false;
    *out_number = (int)strtol(digits, NULL, 10);
    return *out_number <= CUDA_DEVICE_MAX;
}

/* T5_CUDA_PLUGIN, else the plug-in beside the executable. A program with raised rights ignores the environment. */
static t5_status find_plugin(char *path, size_t path_bytes, t5_error *err)
{
    const char *chosen = secure_getenv("T5_CUDA_PLUGIN");
    if (chosen != NULL && chosen[0] != '\0') {
        if (!t5_file_exists(chosen)) return T5_FAIL(err, T5_ERR_DEVICE, "T5_CUDA_PLUGIN: %s: no such file", chosen);
        const int n = snprintf(path, path_bytes, "%s", chosen);
        if (n < 0 || (size_t)n >= path_bytes)
            return T5_FAIL(err, T5_ERR_DEVICE, "T5_CUDA_PLUGIN: the path is too long");
        return T5_OK;
    }
    char exe[PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0) return T5_FAIL(err, T5_ERR_DEVICE, "/proc/self/exe: %s", strerror(errno));
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash == NULL) return T5_FAIL(err, T5_ERR_DEVICE, "/proc/self/exe: not a path");
    *slash = '\0';
    const t5_status status = t5_path_join(path, path_bytes, exe, T5_CUDA_PLUGIN_FILE, err);
    if (status != T5_OK) return status;
    if (!t5_file_exists(path)) return T5_FAIL(err, T5_ERR_DEVICE, "this install has no %s", T5_CUDA_PLUGIN_FILE);
    return T5_OK;
}

/* dlerror() is one line already. */
static t5_status load_symbols(void *lib, const char *path, t5_cuda_plugin_create_fn *out_create, t5_error *err)
{
    const int32_t *abi = dlsym(lib, T5_CUDA_PLUGIN_ABI_SYMBOL);
    if (abi == NULL) return T5_FAIL(err, T5_ERR_DEVICE, "%s: not a plug-in of this program", path);
    if (*abi != T5_CUDA_PLUGIN_ABI)
        return T5_FAIL(err, T5_ERR_DEVICE, "%s: version %d, this program needs %d", path, *abi, T5_CUDA_PLUGIN_ABI);
    /* POSIX lets dlsym return functions; ISO C has no cast for it. */
    *(void **)out_create = dlsym(lib, T5_CUDA_PLUGIN_CREATE_SYMBOL);
    if (*out_create == NULL) return T5_FAIL(err, T5_ERR_DEVICE, "%s: no %s", path, T5_CUDA_PLUGIN_CREATE_SYMBOL);
    return T5_OK;
}

static t5_status open_cuda(int number, const char *compute_type, t5_backend **out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cuda_plugin_create_fn create = NULL;
    void *lib = NULL;
    char path[PATH_BYTES];
    T5_TRY(find_plugin(path, sizeof path, err));
    lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) {
        status = T5_FAIL(err, T5_ERR_DEVICE, "%s", dlerror());
        goto out;
    }
    T5_TRY(load_symbols(lib, path, &create, err));
    T5_TRY(create(number, compute_type, out, err));
    lib = NULL; /* the backend's code: open for good */
out:
    if (lib != NULL) dlclose(lib);
    return status;
}

static t5_status open_cpu(const t5_device_options *options, t5_compute_type type, t5_backend **out, t5_error *err)
{
    const t5_cpu_options cpu = {.n_threads = options->n_threads, .compute_type = type};
    return t5_cpu_create(&cpu, out, err);
}

static t5_status open_cpu_ref(t5_compute_type type, t5_backend **out, t5_error *err)
{
    if (type != T5_COMPUTE_AUTO && type != T5_COMPUTE_F32)
        return T5_FAIL(err, T5_ERR_ARG, "device cpu-ref knows only the compute type float32");
    return t5_cpu_ref_create(out, err);
}

/* For who asked for a GPU: the reason alone, in the words of the driver or the loader, does not say what to do. */
static t5_status open_cuda_by_name(const t5_device_options *options, int number, t5_backend **out, t5_error *err)
{
    t5_error reason = {0};
    t5_status status = open_cuda(number, options->compute_type, out, &reason);
    if (status == T5_OK) return T5_OK;
    if (status != T5_ERR_DEVICE) return T5_FAIL(err, status, "%s", reason.text);
    return T5_FAIL(err, status, "device %s: no usable GPU (%.400s); --device cpu needs none", options->device,
                   reason.text);
}

static t5_status open_auto(const t5_device_options *options, t5_compute_type type, t5_backend **out, t5_error *err)
{
    t5_error reason = {0};
    char text[T5_ERROR_TEXT_MAX + 32], quoted[2 * sizeof text];
    if (open_cuda(0, options->compute_type, out, &reason) == T5_OK) return T5_OK;
    snprintf(text, sizeof text, "no GPU: %s, using the CPU", reason.text);
    t5_log(T5_LOG_INFO, "no_gpu text=%s", t5_log_quote(quoted, sizeof quoted, text));
    return open_cpu(options, type, out, err);
}

static t5_status unknown_device(const char *device, t5_error *err)
{
    char quoted[64];
    return T5_FAIL(err, T5_ERR_ARG, "device: %s is not one of auto, cpu, cuda, cuda:N",
                   t5_log_quote(quoted, sizeof quoted, device));
}

t5_status t5_device_open(const t5_device_options *options, t5_backend **out, t5_error *err)
{
    const char *device = options->device;
    t5_compute_type type = T5_COMPUTE_AUTO;
    int number = 0;
    t5_status status = parse_compute_type(options->compute_type, &type, err);
    if (status != T5_OK) return status;

    if (strcmp(device, "auto") == 0)
        status = open_auto(options, type, out, err);
    else if (strcmp(device, "cpu") == 0)
        status = open_cpu(options, type, out, err);
    else if (strcmp(device, "cpu-ref") == 0)
        status = open_cpu_ref(type, out, err);
    else if (parse_cuda(device, &number))
        status = open_cuda_by_name(options, number, out, err);
    else
        return unknown_device(device, err);
    char quoted[512];
    if (status == T5_OK) t5_log(T5_LOG_INFO, "device name=%s", t5_log_quote(quoted, sizeof quoted, (*out)->device));
    return status;
}

/* ---- lists ---- */

typedef struct {
    char names[T5_DEVICES_MAX][NAME_BYTES];
    int32_t n_names;
} device_list;

/* The same GPU under another name counts. A CPU twice only makes sense to tests, which use "cpu-ref" for it. */
static bool is_same_gpu(const char *a, const char *b)
{
    int number_a = 0, number_b = 0;
    return parse_cuda(a, &number_a) && parse_cuda(b, &number_b) && number_a == number_b;
}

static t5_status add_name(device_list *list, const char *name, size_t n_bytes, t5_error *err)
{
    int number = 0;
    if (list->n_names == T5_DEVICES_MAX)
        return T5_FAIL(err, T5_ERR_ARG, "device: more than %d in the list", T5_DEVICES_MAX);
    char *copy = list->names[list->n_names];
    if (n_bytes < NAME_BYTES) memcpy(copy, name, n_bytes);
    if (n_bytes >= NAME_BYTES || (strcmp(copy, "cpu-ref") != 0 && !parse_cuda(copy, &number))) {
        char quoted[64];
        return T5_FAIL(err, T5_ERR_ARG, "device: a list is of cuda:N, not of %s",
                       t5_log_quote(quoted, sizeof quoted, copy));
    }
    for (int32_t i = 0; i < list->n_names; i++)
        if (is_same_gpu(list->names[i], copy)) return T5_FAIL(err, T5_ERR_ARG, "device: %s is in the list twice", copy);
    list->n_names++;
    return T5_OK;
}

static t5_status parse_list(const char *device, device_list *out, t5_error *err)
{
    *out = (device_list){0};
    for (const char *name = device;; name++) {
        const size_t n_bytes = strcspn(name, ",");
        const t5_status status = add_name(out, name, n_bytes, err);
        if (status != T5_OK) return status;
        name += n_bytes;
        if (*name == '\0') return T5_OK;
    }
}

t5_status t5_devices_check(const char *device, t5_error *err)
{
    device_list list;
    int number = 0;
    if (strchr(device, ',') != NULL) return parse_list(device, &list, err);
    if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0 || strcmp(device, "cpu-ref") == 0) return T5_OK;
    return parse_cuda(device, &number) ? T5_OK : unknown_device(device, err);
}

t5_status t5_devices_open(const t5_device_options *options, t5_backend **out, int32_t *out_n, t5_error *err)
{
    t5_status status = T5_OK;
    device_list list;
    t5_device_options one = *options;
    *out_n = 0;
    if (strchr(options->device, ',') == NULL) {
        status = t5_device_open(options, out, err);
        *out_n = status == T5_OK;
        return status;
    }
    T5_TRY(parse_list(options->device, &list, err));
    for (; *out_n < list.n_names; (*out_n)++) {
        one.device = list.names[*out_n];
        T5_TRY(t5_device_open(&one, &out[*out_n], err));
    }
out:
    for (; status != T5_OK && *out_n > 0; (*out_n)--)
        out[*out_n - 1]->ops->destroy(out[*out_n - 1]);
    return status;
}

int32_t t5_device_panel(void)
{
    return t5_cpu_panel();
}

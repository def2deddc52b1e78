/* device/device.c: see device.h and plugin.h.
 *
 * A GPU can be missing in many ways: no plug-in in this install, another version, no driver, no device, no cuBLAS. Each
 * is one T5_ERR_DEVICE with its reason. A device asked for by name fails with it; "auto" logs it and takes the CPU. */
#include "device/device.h"

#include "base/file.h"
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

static const struct {
    const char *name;
    t5_compute_type type;
} compute_types[] = {{"auto", T5_COMPUTE_AUTO},
                     {"float32", T5_COMPUTE_F32},
                     {"float16", T5_COMPUTE_F16},
                     {"bfloat16", T5_COMPUTE_BF16},
                     {"int8", T5_COMPUTE_INT8}};

static t5_status parse_compute_type(const char *name, t5_compute_type *out, t5_error *err)
{
    for (size_t i = 0; i < T5_COUNT(compute_types); i++) {
        if (strcmp(name, compute_types[i].name) != 0) continue;
        *out = compute_types[i].type;
        return T5_OK;
    }
    char quoted[64];
    return T5_FAIL(err, T5_ERR_ARG, "compute type %s is not one of auto, float32, float16, bfloat16, int8",
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
    if (open_cuda(0, options->compute_type, out, &reason) == T5_OK) return T5_OK;
    t5_log(T5_LOG_INFO, "no GPU: %s, using the CPU", reason.text);
    return open_cpu(options, type, out, err);
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
    else {
        char quoted[64];
        return T5_FAIL(err, T5_ERR_ARG, "device %s is not one of auto, cpu, cuda, cuda:N",
                       t5_log_quote(quoted, sizeof quoted, device));
    }
    if (status == T5_OK) t5_log(T5_LOG_INFO, "device: %s", (*out)->device);
    return status;
}

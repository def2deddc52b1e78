/* cuda/cublas.c: opens cuBLAS at run time. The library that the dynamic linker finds is taken, newest version first. */
#include "cuda/cublas.h"

#include <dlfcn.h>
#include <string.h>

static const char *const library_names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};

static t5_status find(void *library, const char *name, void *out_function, t5_error *err)
{
    void *symbol = dlsym(library, name);
    if (symbol == NULL) return T5_FAIL(err, T5_ERR_DEVICE, "cuBLAS has no %s", name);
    memcpy(out_function, &symbol, sizeof symbol); /* C has no cast from data to function pointers */
    return T5_OK;
}

t5_status t5_cublas_open(t5_cublas *out, t5_error *err)
{
    t5_status status = T5_OK;
    t5_cublas cublas = {0};
    for (size_t i = 0; i < T5_COUNT(library_names) && cublas.library == NULL; i++)
        cublas.library = dlopen(library_names[i], RTLD_NOW | RTLD_LOCAL);
    if (cublas.library == NULL) return T5_FAIL(err, T5_ERR_DEVICE, "cuBLAS is not installed: %s", dlerror());
    T5_TRY(find(cublas.library, "cublasCreate_v2", &cublas.create, err));
    T5_TRY(find(cublas.library, "cublasDestroy_v2", &cublas.destroy, err));
    T5_TRY(find(cublas.library, "cublasSetStream_v2", &cublas.set_stream, err));
    T5_TRY(find(cublas.library, "cublasSetWorkspace_v2", &cublas.set_workspace, err));
    T5_TRY(find(cublas.library, "cublasGemmEx", &cublas.gemm_ex, err));
    *out = cublas;
    return T5_OK;
out:
    t5_cublas_close(&cublas);
    return status;
}

void t5_cublas_close(t5_cublas *cublas)
{
    if (cublas->library != NULL) dlclose(cublas->library);
    memset(cublas, 0, sizeof *cublas);
}

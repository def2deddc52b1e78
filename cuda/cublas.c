/* cuda/cublas.c: opens cuBLAS and cuBLASLt at run time. The library that the dynamic linker finds is taken, newest
 * version first. */
#include "cuda/cublas.h"

#include <dlfcn.h>
#include <string.h>

static void *open_first(const char *const *names, size_t n)
{
    void *library = NULL;
    for (size_t i = 0; i < n && library == NULL; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

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
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    t5_cublas cublas = {.library = open_first(names, T5_COUNT(names))};
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

t5_status t5_cublas_lt_open(t5_cublas_lt *out, t5_error *err)
{
    t5_status status = T5_OK;
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    t5_cublas_lt lt = {.library = open_first(names, T5_COUNT(names))};
    if (lt.library == NULL) return T5_FAIL(err, T5_ERR_DEVICE, "cuBLASLt is not installed: %s", dlerror());
    T5_TRY(find(lt.library, "cublasLtCreate", &lt.create, err));
    T5_TRY(find(lt.library, "cublasLtDestroy", &lt.destroy, err));
    T5_TRY(find(lt.library, "cublasLtMatmulDescInit_internal", &lt.desc_init, err));
    T5_TRY(find(lt.library, "cublasLtMatmulDescSetAttribute", &lt.desc_set, err));
    T5_TRY(find(lt.library, "cublasLtMatrixLayoutInit_internal", &lt.layout_init, err));
    T5_TRY(find(lt.library, "cublasLtMatmulPreferenceInit_internal", &lt.preference_init, err));
    T5_TRY(find(lt.library, "cublasLtMatmulPreferenceSetAttribute", &lt.preference_set, err));
    T5_TRY(find(lt.library, "cublasLtMatmulAlgoGetHeuristic", &lt.heuristic, err));
    T5_TRY(find(lt.library, "cublasLtMatmul", &lt.matmul, err));
    *out = lt;
    return T5_OK;
out:
    t5_cublas_lt_close(&lt);
    return status;
}

void t5_cublas_lt_close(t5_cublas_lt *lt)
{
    if (lt->library != NULL) dlclose(lt->library);
    memset(lt, 0, sizeof *lt);
}

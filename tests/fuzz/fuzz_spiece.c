/* tests/fuzz/fuzz_spiece.c: any bytes as a SentencePiece model. What t5_spm_check() lets through must open, encode and
 * decode without a crash. The library is not instrumented; the checks are. */
#include "tokenizer/spm_wrapper.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n_bytes);

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n_bytes)
{
    static const char text[] = "abc \xC3\xA9 </s> <extra_id_0> \xF0\x9F\x99\x82 ab";
    t5_status status = T5_OK;
    t5_error err = {0};
    t5_spm *spm = NULL;
    void *guarded = NULL;
    size_t guarded_bytes = 0, n_ids = 0, out_bytes = 0;
    int32_t *ids = NULL;
    char *out_text = NULL;

    T5_TRY(t5_spm_check(bytes, n_bytes, "fuzz.model", &err));
    T5_TRY(t5_spm_guard(bytes, n_bytes, &guarded, &guarded_bytes, &err));
    T5_TRY(t5_spm_open(guarded, guarded_bytes, "fuzz.model", &spm, &err));
    T5_TRY(t5_spm_encode(spm, text, sizeof text - 1, 1, &ids, &n_ids, &err));
    T5_TRY(t5_spm_decode(spm, ids, n_ids, &out_text, &out_bytes, &err));
out:
    free(out_text);
    free(ids);
    t5_spm_close(spm);
    free(guarded);
    return 0;
}

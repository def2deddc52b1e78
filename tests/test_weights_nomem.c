/* tests/test_weights_nomem.c: memory runs out while a model folder is read. */
#include "failing_alloc.h"
#include "model/decoding.h"
#include "model/hparams.h"
#include "model/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

static t5_status read_folder(const char *dir, t5_error *err)
{
    t5_hparams hp;
    t5_decoding decoding;
    t5_weights *w = NULL;
    t5_status status = T5_OK;
    t5_error_clear(err);
    t5_decoding_init(&decoding);
    T5_TRY(t5_hparams_load(dir, &hp, err));
    T5_TRY(t5_decoding_load(dir, &decoding, err));
    T5_TRY(t5_weights_open(dir, &w, err));
out:
    t5_weights_close(w);
    return status;
}

/* Claim: when the n-th allocation fails, for every n, reading ends with T5_ERR_NOMEM and nothing leaks. Method: our
 * allocations only, for jansson 2.14 does not survive a failure of its own; a folder of each kind of file;
 * LeakSanitizer counts. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const folders[] = {"byt5", "umt5", "t5-v1.1"};
    for (size_t i = 0; i < T5_COUNT(folders); i++) {
        char dir[512];
        t5_error err;
        snprintf(dir, sizeof dir, "%s/tests/fixtures/%s", T5_SOURCE_DIR, folders[i]);
        int n = 0;
        for (;; n++) {
            failing_alloc_begin(n);
            t5_status status = read_folder(dir, &err);
            bool was_reached = failing_alloc_end();
            if (!was_reached) {
                assert_int_equal(status, T5_OK);
                break;
            }
            if (status != T5_ERR_NOMEM || err.status != status) fail_msg("n = %d: status %d", n, (int)status);
        }
        assert_true(n > 50); /* the shim is in place */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

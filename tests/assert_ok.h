/* tests/assert_ok.h: what each C test does with a status that must be T5_OK. */
#pragma once
#include "base/error.h"

/* Fails the running cmocka test with the error's text and place unless `status` is T5_OK. */
void assert_ok(t5_status status, const t5_error *err);

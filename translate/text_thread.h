/* translate/text_thread.h: one thread for work with text that comes up on a device's thread and is too long for it.
 * Jobs run one after another, in the order in which they came. */
#pragma once
#include "base/error.h"

typedef struct t5_text_thread t5_text_thread;

/* Owned by who pushes it; may be freed, or pushed again, once `run` was called. */
typedef struct t5_text_job t5_text_job;
struct t5_text_job {
    void (*run)(t5_text_job *job);
    t5_text_job *next; /* the thread's own */
};

t5_status t5_text_thread_create(t5_text_thread **out, t5_error *err);
/* Runs what was pushed, then joins the thread. Accepts NULL. Nothing may be pushed any more. */
void t5_text_thread_destroy(t5_text_thread *t);
/* Any thread; allocates nothing, waits for nothing. */
void t5_text_thread_push(t5_text_thread *t, t5_text_job *job);

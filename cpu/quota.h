/* cpu/quota.h: how much of the machine's processors control groups leave to this process. */
#pragma once
#include "base/error.h"
#include <stdint.h>

T5_C_BEGIN

/* Cores that the smallest quota is worth, rounded up, of the process's groups and of those around them: a container, a
 * service with CPUQuota=, a slice of them. T5_THREADS_MAX when there is none. Version 1 or 2 of control groups, mounted
 * at `mounted_at`; the file `groups` names the process's own, as /proc/self/cgroup does. Which cores it may use,
 * another matter of theirs, the kernel itself puts into the affinity. */
int32_t t5_quota_cores(const char *mounted_at, const char *groups);

T5_C_END

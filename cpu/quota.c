/* cpu/quota.c: see quota.h.
 *
 * In a container a process's group is most often the top of what is mounted, whatever /proc/self/cgroup calls it: then
 * the path that stands there leads nowhere, and only the top has files. */
#include "cpu/quota.h"

#include "base/limits.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES 4096 /* the kernel's longest */

/* Reads up to two integers of the file `name` in `folder`. Returns how many. */
static int read_in(const char *folder, const char *name, long long out[2])
{
    char path[PATH_BYTES + 64];
    const int n_bytes = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = n_bytes < (int)sizeof path ? fopen(path, "re") : NULL;
    if (file == NULL) return 0;
    const int n = fscanf(file, "%lld %lld", &out[0], &out[1]);
    fclose(file);
    return n < 0 ? 0 : n;
}

static int32_t cores_of_group(const char *folder)
{
    long long quota[2];
    if (read_in(folder, "cpu.max", quota) != 2) { /* version 2: "200000 100000", or "max 100000" */
        long long period[2];
        if (read_in(folder, "cpu.cfs_quota_us", quota) != 1) return T5_THREADS_MAX;
        if (read_in(folder, "cpu.cfs_period_us", period) != 1) return T5_THREADS_MAX;
        quota[1] = period[0];
    }
    if (quota[0] <= 0 || quota[1] <= 0 || quota[0] / quota[1] >= T5_THREADS_MAX) return T5_THREADS_MAX;
    return (int32_t)((quota[0] + quota[1] - 1) / quota[1]);
}

/* The least of a group and of all groups around it, up to the top. Takes `path` apart. */
static int32_t cores_up_from(const char *top, char *path)
{
    char folder[PATH_BYTES + 256];
    int32_t n_least = T5_THREADS_MAX;
    for (char *end = path; end != NULL;) {
        const int n_bytes = snprintf(folder, sizeof folder, "%s%s", top, path);
        const int32_t n = n_bytes < (int)sizeof folder ? cores_of_group(folder) : T5_THREADS_MAX;
        if (n < n_least) n_least = n;
        end = strrchr(path, '/');
        if (end != NULL) *end = '\0';
    }
    return n_least;
}

/* `controllers` are names between commas. */
static bool has_cpu(const char *controllers)
{
    for (const char *name = controllers; name != NULL; name = strchr(name, ',')) {
        if (*name == ',') name++;
        if (strncmp(name, "cpu", 3) == 0 && (name[3] == ',' || name[3] == '\0')) return true;
    }
    return false;
}

/* A line "number:controllers:path"; version 2 has no controllers there. Takes it apart. */
static int32_t cores_of_line(const char *mounted_at, char *line)
{
    char top[256];
    char *const controllers = strchr(line, ':');
    char *const path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (path == NULL) return T5_THREADS_MAX;
    *path = '\0';
    path[1 + strcspn(path + 1, "\n")] = '\0';
    const bool is_version_2 = controllers[1] == '\0';
    if (!is_version_2 && !has_cpu(controllers + 1)) return T5_THREADS_MAX;
    const int n_bytes = snprintf(top, sizeof top, "%s%s", mounted_at, is_version_2 ? "" : "/cpu");
    return n_bytes < (int)sizeof top ? cores_up_from(top, path + 1) : T5_THREADS_MAX;
}

int32_t t5_quota_cores(const char *mounted_at, const char *groups)
{
    char line[PATH_BYTES + 256], top_2[] = "0::", top_1[] = "0:cpu:"; /* there whatever the file says */
    int32_t n_least = cores_of_line(mounted_at, top_2), n = cores_of_line(mounted_at, top_1);
    if (n < n_least) n_least = n;
    FILE *file = fopen(groups, "re");
    if (file == NULL) return n_least;
    while (fgets(line, sizeof line, file) != NULL) {
        n = cores_of_line(mounted_at, line);
        if (n < n_least) n_least = n;
    }
    fclose(file);
    return n_least;
}

/* server/metrics_process.c: the metrics of the process, under the names that Prometheus' own clients use. What /proc
 * does not tell is left out. */
#include "server/metrics_internal.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    long long n_threads, virtual_bytes, n_resident_pages;
} proc_stat;

/* Fields 20, 23 and 24 of /proc/self/stat (man 5 proc). They are counted behind the program's name, the second field,
 * which stands in parentheses and may contain anything. */
static bool read_proc_stat(proc_stat *out)
{
    char text[1024];
    FILE *file = fopen("/proc/self/stat", "re");
    if (file == NULL) return false;
    const size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end != NULL &&
           sscanf(name_end + 1,
                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %lld %*d %*u %lld %lld",
                  &out->n_threads, &out->virtual_bytes, &out->n_resident_pages) == 3;
}

/* -1 when they cannot be counted. The descriptor that counts is not counted. */
static int64_t count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) return -1;
    int64_t n = -1;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void put_gauge(FILE *file, const char *name, const char *help, double value)
{
    t5_metrics_put_value(file, name, "gauge", help, value);
}

void t5_metrics_put_process(FILE *file, int64_t start_s)
{
    proc_stat stat;
    struct rlimit fds_max;
    struct timespec cpu;
    put_gauge(file, "process_start_time_seconds", "Since 1970, when the server started.", (double)start_s);
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
        t5_metrics_put_value(file, "process_cpu_seconds_total", "counter", "User and system time of all threads.",
                             (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    if (read_proc_stat(&stat)) {
        const double resident_bytes = (double)stat.n_resident_pages * (double)sysconf(_SC_PAGESIZE);
        put_gauge(file, "process_resident_memory_bytes", "Memory in use, mapped files included.", resident_bytes);
        put_gauge(file, "process_virtual_memory_bytes", "Address space.", (double)stat.virtual_bytes);
        put_gauge(file, "process_threads", "Threads.", (double)stat.n_threads);
    }
    const int64_t n_fds = count_fds();
    if (n_fds >= 0) put_gauge(file, "process_open_fds", "Open file descriptors.", (double)n_fds);
    if (getrlimit(RLIMIT_NOFILE, &fds_max) == 0)
        put_gauge(file, "process_max_fds", "Most file descriptors that may be open.", (double)fds_max.rlim_cur);
}

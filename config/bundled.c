/* config/bundled.c: finds the model that ships with us, so that t5serve runs without a single setting. */
#include "base/file.h"
#include "config/config.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#define BUNDLED_NAME "t5-tatoeba"
#define LEVELS_MAX 6 /* directories above the executable that are looked at: build/release/server is three */

static bool is_model(const char *dir)
{
    char path[PATH_MAX];
    t5_error ignored = {0};
    return t5_path_join(path, sizeof path, dir, "config.json", &ignored) == T5_OK && t5_file_exists(path);
}

static bool try_folder(char *out, size_t out_bytes, const char *base, const char *below)
{
    int n = snprintf(out, out_bytes, "%s%s/" BUNDLED_NAME, base, below);
    return n > 0 && (size_t)n < out_bytes && is_model(out);
}

t5_status t5_config_bundled_model(char *out, size_t out_bytes, t5_error *err)
{
    char dir[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", dir, sizeof dir - 1);
    dir[n < 0 ? 0 : n] = '\0';
    for (int level = 0; level < LEVELS_MAX; level++) {
        char *slash = strrchr(dir, '/');
        if (slash == NULL) break;
        *slash = '\0'; /* the executable's folder, then its parents */
        if (try_folder(out, out_bytes, dir, "/models")) return T5_OK;
        if (try_folder(out, out_bytes, dir, "/share/t5serve/models")) return T5_OK;
    }
    if (try_folder(out, out_bytes, T5_MODELS_DIR, "")) return T5_OK;
    return T5_FAIL(err, T5_ERR_IO, "no model: " BUNDLED_NAME " is not beside the program; name a folder with --model");
}

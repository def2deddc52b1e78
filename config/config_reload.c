/* config/config_reload.c: what of newly read settings a running server can take over. */
#include "config/config_set.h"

#include <stddef.h>
#include <string.h>

static const struct {
    size_t offset, n_bytes;
    bool is_text;
} fields[] = {
#define FIELD(name, is_text) {offsetof(t5_config, name), sizeof((t5_config *)0)->name, is_text},
#define T5_KEY_TEXT(name, value, choices, help) FIELD(name, true)
#define T5_KEY_INT(name, value, min, max, help) FIELD(name, false)
#define T5_KEY_BYTES(name, value, min, max, help) FIELD(name, false)
#define T5_KEY_BOOL(name, value, help) FIELD(name, false)
#define T5_KEY_LIST(name, help) FIELD(name, false)
#include "config/keys.def"
#undef T5_KEY_TEXT
#undef T5_KEY_INT
#undef T5_KEY_BYTES
#undef T5_KEY_BOOL
#undef T5_KEY_LIST
#undef FIELD
};

static bool differs(const t5_config *a, const t5_config *b, t5_config_key key)
{
    const char *x = (const char *)a + fields[key].offset, *y = (const char *)b + fields[key].offset;
    return fields[key].is_text ? strcmp(x, y) != 0 : memcmp(x, y, fields[key].n_bytes) != 0;
}

static void add_name(char *list, size_t list_bytes, t5_config_key key)
{
    size_t n = strlen(list);
    snprintf(list + n, list_bytes - n, "%s%s", n > 0 ? "," : "", t5_config_key_name(key));
}

void t5_config_take(t5_config *running, const t5_config *fresh, const t5_config_key *keys, int32_t n_keys,
                    t5_config_change *out)
{
    memset(out, 0, sizeof *out);
    for (int32_t i = 0; i < T5_KEYS_COUNT; i++) {
        const t5_config_key key = (t5_config_key)i;
        bool can_change = false;
        for (int32_t k = 0; k < n_keys; k++)
            can_change = can_change || keys[k] == key;
        if (!differs(running, fresh, key)) continue;
        add_name(can_change ? out->taken : out->needs_restart, T5_CONFIG_NAMES_MAX, key);
        if (!can_change) continue;
        memcpy((char *)running + fields[key].offset, (const char *)fresh + fields[key].offset, fields[key].n_bytes);
        memcpy(running->origins[key], fresh->origins[key], sizeof running->origins[key]);
    }
}

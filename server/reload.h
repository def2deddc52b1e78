/* server/reload.h: settings that may change while the server runs, and reading them again at SIGHUP. Main thread. */
#pragma once
#include "config/config.h"
#include "server/routes.h"

typedef struct {
    t5_config *config; /* in force */
    t5_server *server;
    t5_http *http;
    int argc; /* what the process was started with */
    char *const *argv, *const *env;
} t5_reload;

/* Level and format of the log, from the settings. */
void t5_reload_log(const t5_config *config);
/* What may change, from the settings; also before the server starts. */
void t5_reload_apply(const t5_config *config, t5_server *server);
/* Reads the settings, and the file of API keys, again. Says in the log what changed and what needs a restart. When
 * anything is wrong all stays as it was, and one line says why. */
void t5_reload_run(const t5_reload *r);

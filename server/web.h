/* server/web.h: the pages at / and /docs and their parts, which the program carries (folder web/, cmake/embed.cmake).
 * HTTP threads. */
#pragma once
#include "server/http.h"

typedef struct {
    const char *name; /* NULL: the end of the table */
    const unsigned char *bytes;
    size_t n_bytes;
} t5_embedded_file;

extern const t5_embedded_file t5_web_files[];

/* NULL when there is none of that name. */
const t5_embedded_file *t5_web_find(const char *name);
/* Answers with a file of the pages; 404 when they are switched off (t5_server.has_web_ui). */
void t5_web_handle_page(t5_exchange *x, void *server);
void t5_web_handle_docs(t5_exchange *x, void *server);
/* /docs/, where LibreTranslate has its page: leads to /docs, whose parts are named from there. */
void t5_web_handle_docs_folder(t5_exchange *x, void *server);
void t5_web_handle_docs_script(t5_exchange *x, void *server);
void t5_web_handle_style(t5_exchange *x, void *server);
void t5_web_handle_script(t5_exchange *x, void *server);
void t5_web_handle_icon(t5_exchange *x, void *server);

/* server/web.c: see web.h. The pages load nothing from elsewhere and run no inline script, and their policy says so to
 * the browser: what somebody else's text puts into a page stays text. */
#include "server/web.h"
#include "server/routes.h"

#include <stdlib.h>
#include <string.h>

static const char *const page_headers[] = {
    "Content-Security-Policy",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy",
    "no-referrer",
    "Cache-Control",
    "no-cache",
    NULL,
};

const t5_embedded_file *t5_web_find(const char *name)
{
    for (const t5_embedded_file *f = t5_web_files; f->name != NULL; f++)
        if (strcmp(f->name, name) == 0) return f;
    return NULL;
}

static void reply_file(t5_exchange *x, const t5_server *s, const char *name, const char *content_type)
{
    const t5_embedded_file *file = t5_web_find(name);
    if (!s->has_web_ui || file == NULL) {
        t5_exchange_fail_status(x, 404, "not found");
        return;
    }
    char *copy = malloc(file->n_bytes);
    if (copy != NULL) memcpy(copy, file->bytes, file->n_bytes);
    t5_exchange_set_headers(x, page_headers);
    t5_exchange_reply(x, copy != NULL ? 200 : 503, content_type, copy, copy != NULL ? file->n_bytes : 0);
}

void t5_web_handle_page(t5_exchange *x, void *server)
{
    reply_file(x, server, "index.html", "text/html; charset=utf-8");
}

void t5_web_handle_docs(t5_exchange *x, void *server)
{
    reply_file(x, server, "docs.html", "text/html; charset=utf-8");
}

void t5_web_handle_docs_folder(t5_exchange *x, void *server)
{
    /* Relative, so that it holds behind any prefix, also one that a proxy takes away. */
    static const char *const location[] = {"Location", "../docs", NULL};
    const t5_server *s = server;
    if (!s->has_web_ui) {
        t5_exchange_fail_status(x, 404, "not found");
        return;
    }
    t5_exchange_set_headers(x, location);
    t5_exchange_reply(x, 308, NULL, NULL, 0);
}

void t5_web_handle_docs_script(t5_exchange *x, void *server)
{
    reply_file(x, server, "docs.js", "text/javascript; charset=utf-8");
}

void t5_web_handle_style(t5_exchange *x, void *server)
{
    reply_file(x, server, "style.css", "text/css; charset=utf-8");
}

void t5_web_handle_script(t5_exchange *x, void *server)
{
    reply_file(x, server, "app.js", "text/javascript; charset=utf-8");
}

void t5_web_handle_icon(t5_exchange *x, void *server)
{
    reply_file(x, server, "icon.svg", "image/svg+xml");
}

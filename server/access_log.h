/* server/access_log.h: one line for each request that ended. It has no text of a client's: no query string, no path but
 * our routes', no field. Any thread. */
#pragma once
#include "server/http.h"

/* `request id="..." method=POST route=/translate status=200 ms=1.234 bytes_in=60 bytes_out=30 texts=1 source_tokens=4
 * target_tokens=5 client=127.0.0.1` at level info; without what is not known, and without the client unless asked. */
void t5_access_log(const t5_http_summary *summary, bool has_client);

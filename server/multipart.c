/* server/multipart.c: see multipart.h. A body is
 *   [anything CRLF] --boundary CRLF head CRLF CRLF content CRLF --boundary CRLF ... CRLF --boundary-- [anything]
 * and the CRLF before a boundary belongs to it. Each byte is looked at a few times at most, whatever the body holds. */
#include "server/multipart.h"
#include "server/fields.h"

#include <string.h>
#include <strings.h>

#define BOUNDARY_MAX 70 /* RFC 2046 */

typedef struct {
    const char *text; /* NULL: there is none */
    size_t n_bytes;
} piece;

typedef struct {
    char delimiter[BOUNDARY_MAX + 5]; /* CRLF, two dashes, the boundary */
    size_t n_delimiter;
    const char *at, *end; /* what is not read yet */
} reader;

/* --- parameters of a header: form-data; name="q"; filename=a.txt --- */

/* Where the value ends that begins at `p`: behind its closing quotation mark, or before the next semicolon. */
static const char *value_end(const char *p, const char *end)
{
    if (p == end || *p != '"') {
        while (p < end && *p != ';')
            p++;
        return p;
    }
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && p + 1 < end) p++;
    return p < end ? p + 1 : end;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Without the white space and the quotation marks around it. */
static piece trim(const char *begin, const char *end)
{
    while (begin < end && is_blank(*begin))
        begin++;
    while (end > begin && is_blank(end[-1]))
        end--;
    const bool is_quoted = end - begin >= 2 && *begin == '"' && end[-1] == '"';
    return is_quoted ? (piece){begin + 1, (size_t)(end - begin) - 2} : (piece){begin, (size_t)(end - begin)};
}

static bool is_word(piece p, const char *word)
{
    return p.n_bytes == strlen(word) && strncasecmp(p.text, word, p.n_bytes) == 0;
}

/* The first parameter of that name behind what a header says first. */
static piece find_parameter(const char *p, const char *end, const char *name)
{
    p = value_end(p, end);
    while (p < end) {
        const char *begin = p + 1, *equals = begin; /* behind the semicolon */
        while (equals < end && *equals != '=' && *equals != ';')
            equals++;
        const char *value = equals < end && *equals == '=' ? equals + 1 : equals;
        while (value < end && is_blank(*value))
            value++;
        p = value_end(value, end);
        if (is_word(trim(begin, equals), name)) return trim(value, p);
        while (p < end && *p != ';')
            p++;
    }
    return (piece){NULL, 0};
}

/* --- the body --- */

static bool read_boundary(reader *r, const char *content_type)
{
    const piece boundary = find_parameter(content_type, content_type + strlen(content_type), "boundary");
    if (boundary.text == NULL || boundary.n_bytes == 0 || boundary.n_bytes > BOUNDARY_MAX) return false;
    memcpy(r->delimiter, "\r\n--", 4);
    memcpy(r->delimiter + 4, boundary.text, boundary.n_bytes);
    r->n_delimiter = 4 + boundary.n_bytes;
    return true;
}

/* Where the body goes on behind a boundary that ends at `p`; NULL when it is the beginning of other text. */
static const char *skip_delimiter(const reader *r, const char *p, bool *out_is_last)
{
    *out_is_last = r->end - p >= 2 && memcmp(p, "--", 2) == 0;
    if (*out_is_last) return p + 2;
    while (p < r->end && is_blank(*p))
        p++;
    return r->end - p >= 2 && memcmp(p, "\r\n", 2) == 0 ? p + 2 : NULL;
}

/* Moves behind the next boundary. What stands before it ends at *out_end. */
static bool find_delimiter(reader *r, const char **out_end, bool *out_is_last)
{
    for (const char *p = r->at;; p++) {
        p = memmem(p, (size_t)(r->end - p), r->delimiter, r->n_delimiter);
        if (p == NULL) return false;
        const char *rest = skip_delimiter(r, p + r->n_delimiter, out_is_last);
        if (rest == NULL) continue;
        *out_end = p;
        r->at = rest;
        return true;
    }
}

/* The first one may begin the body, without a line end before it. */
static bool find_first_delimiter(reader *r, bool *out_is_last)
{
    const char *end = NULL, *rest = NULL;
    const size_t n_first = r->n_delimiter - 2;
    if ((size_t)(r->end - r->at) >= n_first && memcmp(r->at, r->delimiter + 2, n_first) == 0)
        rest = skip_delimiter(r, r->at + n_first, out_is_last);
    if (rest != NULL) r->at = rest;
    return rest != NULL || find_delimiter(r, &end, out_is_last);
}

/* The lines of a part's head, up to the empty one, before which it stops: its line end may be the next boundary's. */
static bool read_head(reader *r, piece *out_name)
{
    static const char disposition[] = "Content-Disposition:";
    const size_t n_disposition = sizeof disposition - 1;
    *out_name = (piece){NULL, 0};
    for (;;) {
        const char *line_end = memmem(r->at, (size_t)(r->end - r->at), "\r\n", 2);
        if (line_end == NULL) return false;
        if (line_end == r->at) return true;
        const bool is_disposition = (size_t)(line_end - r->at) > n_disposition && out_name->text == NULL &&
                                    strncasecmp(r->at, disposition, n_disposition) == 0;
        if (is_disposition) *out_name = find_parameter(r->at + n_disposition, line_end, "name");
        r->at = line_end + 2;
    }
}

t5_status t5_fields_add_multipart(json_t *fields, const char *content_type, const char *body, size_t n_bytes,
                                  t5_error *err)
{
    reader r = {.at = body, .end = body + n_bytes};
    bool is_last = false;
    if (!read_boundary(&r, content_type) || !find_first_delimiter(&r, &is_last))
        return T5_FAIL(err, T5_ERR_ARG, T5_TEXT_BAD_REQUEST);
    while (!is_last) {
        piece name;
        const char *end = NULL;
        if (!read_head(&r, &name)) return T5_FAIL(err, T5_ERR_ARG, T5_TEXT_BAD_REQUEST);
        const char *content = r.at + 2; /* behind the empty line */
        if (!find_delimiter(&r, &end, &is_last)) return T5_FAIL(err, T5_ERR_ARG, T5_TEXT_BAD_REQUEST);
        if (name.text == NULL) return T5_FAIL(err, T5_ERR_ARG, "Invalid request: a form field has no name");
        const size_t n_content = end > content ? (size_t)(end - content) : 0;
        if (t5_fields_add(fields, name.text, name.n_bytes, content, n_content, err) != T5_OK) return err->status;
    }
    return T5_OK;
}

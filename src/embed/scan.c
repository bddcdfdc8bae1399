/* The cursor of scan.h: bytes in, small decisions out. Control characters inside strings are
 * refused, as RFC 8259 wants it; whether the bytes are UTF-8 is the caller's question.
 */
#include "embed/scan.h"

struct mly_scan mly_scan_of(struct mly_str text)
{
    return (struct mly_scan){text.data, text.data + text.bytes};
}

static void skip_space(struct mly_scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r')) {
        scan->at++;
    }
}

bool mly_scan_sees(struct mly_scan *scan, char mark)
{
    skip_space(scan);
    return scan->at < scan->end && *scan->at == mark;
}

bool mly_scan_mark(struct mly_scan *scan, char mark)
{
    if (!mly_scan_sees(scan, mark)) return false;
    scan->at++;
    return true;
}

bool mly_scan_string(struct mly_scan *scan, struct mly_str *out)
{
    if (!mly_scan_mark(scan, '"')) return false;
    const char *start = scan->at;
    for (; scan->at < scan->end; scan->at++) {
        const unsigned char byte = (unsigned char)*scan->at;
        if (byte == '"') {
            *out = (struct mly_str){start, (size_t)(scan->at - start)};
            scan->at++;
            return true;
        }
        if (byte < 0x20) return false;
        if (byte == '\\' && ++scan->at == scan->end) return false;
    }
    return false;
}

bool mly_scan_plain(struct mly_scan *scan, struct mly_str *out)
{
    return mly_scan_string(scan, out) && memchr(out->data, '\\', out->bytes) == NULL;
}

bool mly_scan_number(struct mly_scan *scan, uint64_t *out)
{
    skip_space(scan);
    const char *start = scan->at;
    uint64_t value = 0;
    for (; scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9'; scan->at++) {
        const uint64_t digit = (uint64_t)(*scan->at - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    const size_t digits = (size_t)(scan->at - start);
    if (digits == 0 || (digits > 1 && *start == '0')) return false;
    if (scan->at < scan->end && memchr(".eE+-", *scan->at, 5) != NULL) return false;
    *out = value;
    return true;
}

bool mly_scan_done(struct mly_scan *scan)
{
    skip_space(scan);
    return scan->at == scan->end;
}

bool mly_scan_unescape(struct mly_str raw, char *out, size_t out_bytes, size_t *written)
{
    static const char codes[] = "\"\\/nt", meant[] = "\"\\/\n\t";
    size_t n = 0;
    for (size_t i = 0; i < raw.bytes; i++) {
        char byte = raw.data[i];
        if (byte == '\\') {
            if (++i == raw.bytes) return false;
            const char *code = memchr(codes, raw.data[i], sizeof(codes) - 1);
            if (code == NULL) return false;
            byte = meant[code - codes];
        }
        if (n == out_bytes) return false;
        out[n++] = byte;
    }
    *written = n;
    return true;
}

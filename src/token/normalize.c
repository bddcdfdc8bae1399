/* In: a window of text. Out: the same, normalised, in the steps of the tokenizer.
 *
 * Most text is ASCII and most steps leave ASCII alone or exchange one character for another. So
 * each step first goes over the bytes with a table; what can be done in place is, and only what is
 * left is written anew, character by character, with its places in the text. */
#include "token/property.h"
#include "token/token_int.h"

#include "base/utf8.h"

/* Unicode's own forms make 11 bytes of one at most, maps of characters 33 of 3: what grows a text
 * much more than that is a tokenizer made to harm. */
#define GROWTH_MAX 128
#define GROWTH_BYTES ((size_t)1 << 16)

struct reader {
    const struct mly_window *from;
    size_t at;
    uint32_t code_point, start, end;
};

static bool next_char(struct reader *reader)
{
    const struct mly_window *from = reader->from;
    if (reader->at >= from->count) return false;
    size_t taken = 0;
    reader->code_point =
        mly_window_decode(from->bytes + reader->at, from->count - reader->at, &taken);
    reader->start = mly_window_start(from, reader->at);
    reader->end = mly_window_end(from, reader->at + taken - 1);
    reader->at += taken;
    return true;
}

/* What the last character that was put covers goes on to end. */
static void stretch(struct mly_window *window, uint32_t end)
{
    for (size_t i = window->count; i > 0; i--) {
        window->ends[i - 1] = end;
        if (mly_utf8_is_start((char)window->bytes[i - 1])) return;
    }
}

static void put_mapping(struct mly_window *out, uint32_t mapping, const struct reader *reader)
{
    if (mapping == 0) {
        mly_window_put(out, reader->code_point, reader->start, reader->end);
    } else if ((mapping & MLY_PROPERTY_SEQUENCE) == 0) {
        mly_window_put(out, mapping, reader->start, reader->end);
    } else {
        const uint32_t *parts = mly_property_sequences + (mapping & ~MLY_PROPERTY_SEQUENCE);
        for (uint32_t i = 1; i <= parts[0]; i++) {
            mly_window_put(out, parts[i], reader->start, reader->end);
        }
    }
}

static bool nmt_drops(uint32_t c)
{
    return (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
           c == 0x9F;
}

static bool nmt_blanks(uint32_t c)
{
    return c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == MLY_MARK_POINT ||
           c == 0xFEFF || c == 0xFFFD;
}

static void map_char(enum mly_step_kind kind, const struct reader *reader, struct mly_window *out)
{
    const uint32_t c = reader->code_point;
    const struct mly_property *property = mly_property(c);
    switch (kind) {
    case MLY_STEP_CLEAN:
        if (property->bits & MLY_IS_CONTROL) return;
        mly_window_put(out, property->bits & MLY_IS_SPACE ? ' ' : c, reader->start, reader->end);
        return;
    case MLY_STEP_CJK:
        if (property->bits & MLY_IS_CJK) {
            mly_window_put(out, ' ', reader->start, reader->end);
            mly_window_put(out, c, reader->start, reader->end);
            mly_window_put(out, ' ', reader->start, reader->end);
            return;
        }
        break;
    case MLY_STEP_STRIP_NONSPACING:
    case MLY_STEP_STRIP_ACCENTS:
        if (property->bits &
            (kind == MLY_STEP_STRIP_ACCENTS ? MLY_IS_COMBINING : MLY_IS_NONSPACING)) {
            stretch(out, reader->end);
            return;
        }
        break;
    case MLY_STEP_LOWERCASE:
        put_mapping(out, property->lower, reader);
        return;
    case MLY_STEP_NMT:
        if (nmt_drops(c)) return;
        mly_window_put(out, nmt_blanks(c) ? ' ' : c, reader->start, reader->end);
        return;
    default:
        break;
    }
    mly_window_put(out, c, reader->start, reader->end);
}

static enum mly_err map_chars(enum mly_step_kind kind, const struct mly_window *from,
                              struct mly_window *out, struct mly_error *err)
{
    struct reader reader = {.from = from};
    while (next_char(&reader)) {
        if (out->capacity - out->count < 64) MLY_TRY(mly_window_reserve(out, 64, err));
        map_char(kind, &reader, out);
    }
    return MLY_OK;
}

static enum mly_err put_text(struct mly_window *out, struct mly_str text, uint32_t start,
                             uint32_t end, struct mly_error *err)
{
    MLY_TRY(mly_window_reserve(out, text.bytes, err));
    for (size_t i = 0; i < text.bytes; i++) {
        const uint8_t byte = (uint8_t)text.data[i];
        out->bytes[out->count] = byte == 0 ? (uint8_t)MLY_BYTE_NUL : byte;
        out->starts[out->count] = start;
        out->ends[out->count++] = end;
    }
    return MLY_OK;
}

/* Byte for byte: what steps put in may be no UTF-8, and written anew it would be longer. */
static enum mly_err copy(const struct mly_window *from, size_t start, size_t end,
                         struct mly_window *out, struct mly_error *err)
{
    MLY_TRY(mly_window_reserve(out, end - start, err));
    struct reader reader = {.from = from, .at = start};
    for (size_t at = start; at < end && next_char(&reader);) {
        for (; at < reader.at && at < end; at++, out->count++) {
            out->bytes[out->count] = from->bytes[at];
            out->starts[out->count] = reader.start;
            out->ends[out->count] = reader.end;
        }
    }
    return MLY_OK;
}

static enum mly_err strip(const struct mly_window *from, bool left, bool right,
                          struct mly_window *out, struct mly_error *err)
{
    struct reader reader = {.from = from};
    size_t start = 0, end = 0;
    bool inside = !left;
    while (next_char(&reader)) {
        const bool space = mly_property(reader.code_point)->bits & MLY_IS_SPACE;
        if (!inside && space) {
            start = reader.at;
        } else {
            inside = true;
        }
        if (!space || !right) end = reader.at;
    }
    return start < end ? copy(from, start, end, out, err) : MLY_OK;
}

static enum mly_err prepend(const struct mly_window *from, struct mly_str text,
                            struct mly_window *out, struct mly_error *err)
{
    struct reader reader = {.from = from};
    if (!next_char(&reader)) return MLY_OK;
    MLY_TRY(put_text(out, text, reader.start, reader.end, err));
    return copy(from, 0, from->count, out, err);
}

/* What stands for something replaced that ends at end comes from the last character of it. */
static enum mly_err put_instead(struct mly_window *out, struct mly_str text,
                                const struct mly_window *from, size_t end, struct mly_error *err)
{
    size_t last = end - 1;
    while (last > 0 && !mly_utf8_is_start((char)from->bytes[last])) {
        last--;
    }
    return put_text(out, text, mly_window_start(from, last), mly_window_end(from, end - 1), err);
}

static enum mly_err replace(const struct mly_window *from, struct mly_str a, struct mly_str b,
                            struct mly_window *out, struct mly_error *err)
{
    size_t done = 0;
    for (size_t at = 0; at + a.bytes <= from->count;) {
        const uint8_t *next = memchr(from->bytes + at, (uint8_t)a.data[0], from->count - at);
        if (next == NULL) break;
        at = (size_t)(next - from->bytes);
        if (at + a.bytes > from->count) break;
        if (memcmp(next, a.data, a.bytes) != 0) {
            at++;
            continue;
        }
        MLY_TRY(copy(from, done, at, out, err));
        at += a.bytes;
        MLY_TRY(put_instead(out, b, from, at, err));
        done = at;
    }
    return copy(from, done, from->count, out, err);
}

static enum mly_err replace_runs(const struct mly_window *from, const struct mly_step *step,
                                 struct mly_str a, struct mly_str b, struct mly_window *out,
                                 struct mly_error *err)
{
    size_t taken = 0;
    const uint32_t wanted =
        a.bytes > 0 ? mly_window_decode((const uint8_t *)a.data, a.bytes, &taken) : 0;
    struct reader reader = {.from = from};
    size_t run = 0, run_start = 0, done = 0;
    for (;;) {
        const size_t at = reader.at;
        const bool more = next_char(&reader);
        const bool hit =
            more && (a.bytes > 0 ? reader.code_point == wanted
                                 : (mly_property(reader.code_point)->bits & MLY_IS_GAP) != 0);
        if (hit) {
            if (run++ == 0) run_start = at;
            continue;
        }
        if (run >= step->flags && run > 0) {
            MLY_TRY(copy(from, done, run_start, out, err));
            MLY_TRY(put_instead(out, b, from, at, err));
            done = at;
        }
        run = 0;
        if (!more) break;
    }
    return copy(from, done, from->count, out, err);
}

/* Does a step on ASCII where it stands; false where that is not all. */
static bool run_in_place(const struct mly_ascii *ascii, struct mly_window *window)
{
    uint8_t *bytes = window->bytes, high = 0;
    for (size_t i = 0; i < window->count; i++) {
        high |= bytes[i];
    }
    if (high >= 0x80) return false;
    if (ascii->same) return true;
    for (size_t i = 0; i < window->count; i++) {
        high |= ascii->map[bytes[i]];
    }
    if (high >= MLY_ASCII_CARE) return false;
    for (size_t i = 0; i < window->count; i++) {
        bytes[i] = ascii->map[bytes[i]];
    }
    return true;
}

static enum mly_err run_step(const struct mly_tokenizer *t, const struct mly_step *step,
                             const struct mly_ascii *ascii, struct mly_scratch *scratch, bool first,
                             bool last, struct mly_error *err)
{
    const struct mly_window *from = &scratch->window;
    struct mly_window *out = &scratch->spare;
    const struct mly_str a = mly_compiled_text(&t->compiled, step->a);
    const struct mly_str b = mly_compiled_text(&t->compiled, step->b);
    switch ((enum mly_step_kind)step->kind) {
    case MLY_STEP_NFC:
    case MLY_STEP_NFD:
    case MLY_STEP_NFKC:
    case MLY_STEP_NFKD:
        return mly_compose(scratch, step->kind == MLY_STEP_NFKC || step->kind == MLY_STEP_NFKD,
                           step->kind == MLY_STEP_NFC || step->kind == MLY_STEP_NFKC, err);
    case MLY_STEP_CHARSMAP:
        return mly_charsmap_run(&t->compiled, step, ascii, scratch, err);
    case MLY_STEP_STRIP:
        return strip(from, first && (step->flags & 1), last && (step->flags & 2), out, err);
    case MLY_STEP_PREPEND:
        return first ? prepend(from, a, out, err) : copy(from, 0, from->count, out, err);
    case MLY_STEP_REPLACE:
        return replace(from, a, b, out, err);
    case MLY_STEP_REPLACE_RUN:
        return replace_runs(from, step, a, b, out, err);
    default:
        return map_chars((enum mly_step_kind)step->kind, from, out, err);
    }
}

/* True where a step that replaces a has nothing to do in this window. */
static bool is_idle_text(const struct mly_step *step, struct mly_str a,
                         const struct mly_window *window)
{
    const uint8_t *at = window->bytes;
    const uint8_t *end = at + window->count;
    while (at < end && (at = memchr(at, (uint8_t)a.data[0], (size_t)(end - at))) != NULL) {
        if (step->kind == MLY_STEP_REPLACE) {
            if ((size_t)(end - at) >= a.bytes && memcmp(at, a.data, a.bytes) == 0) return false;
        } else if (a.bytes > 1 || step->flags < 2 || (end - at > 1 && at[1] == at[0])) {
            return false;
        }
        at++;
    }
    return true;
}

static bool is_idle(const struct mly_tokenizer *t, const struct mly_step *step,
                    const struct mly_window *window, bool first, bool last)
{
    const struct mly_str a = mly_compiled_text(&t->compiled, step->a);
    if (step->kind == MLY_STEP_STRIP) {
        return !(first && (step->flags & 1)) && !(last && (step->flags & 2));
    }
    if (step->kind == MLY_STEP_PREPEND) return !first;
    if (step->kind != MLY_STEP_REPLACE && step->kind != MLY_STEP_REPLACE_RUN) return false;
    return a.bytes > 0 && is_idle_text(step, a, window);
}

static void exchange(struct mly_scratch *scratch)
{
    const struct mly_window swap = scratch->window;
    scratch->window = scratch->spare;
    scratch->spare = swap;
}

/* U+2581 in the text itself is one byte from here on, as the space that stands for it will be. */
static enum mly_err mark_window(struct mly_scratch *scratch, struct mly_error *err)
{
    const struct mly_step step = {.kind = MLY_STEP_REPLACE};
    const struct mly_str mark = MLY_STR("\xe2\x96\x81");
    const char byte = (char)MLY_BYTE_MARK;
    if (is_idle_text(&step, mark, &scratch->window)) return MLY_OK;
    scratch->spare.count = 0;
    scratch->spare.same = false;
    MLY_TRY(replace(&scratch->window, mark, (struct mly_str){&byte, 1}, &scratch->spare, err));
    exchange(scratch);
    return MLY_OK;
}

enum mly_err mly_normalize(const struct mly_tokenizer *t, struct mly_scratch *scratch, bool first,
                           bool last, struct mly_error *err)
{
    const size_t most = scratch->window.count * GROWTH_MAX + GROWTH_BYTES;
    for (size_t i = 0; i < t->compiled.settings->normalizer_count; i++) {
        const struct mly_step *step = &t->compiled.steps[i];
        struct mly_window *window = &scratch->window, *spare = &scratch->spare;
        if (is_idle(t, step, window, first, last)) continue;
        if (step->kind < MLY_STEP_STRIP && run_in_place(&t->ascii[i], window)) continue;
        spare->count = 0;
        spare->same = false;
        MLY_TRY(mly_window_reserve(spare, window->count + 64, err));
        MLY_TRY(run_step(t, step, &t->ascii[i], scratch, first, last, err));
        if (spare->count > most) {
            return mly_fail(err, MLY_ERR_LIMIT, "normalizing makes %zu bytes of a part of a text",
                            spare->count);
        }
        if (window->same && spare->count == window->count &&
            memcmp(spare->bytes, window->bytes, window->count) == 0) {
            continue; /* nothing happened: places are still simple */
        }
        exchange(scratch);
    }
    return t->compiled.settings->flags & MLY_MODEL_SPACES ? mark_window(scratch, err) : MLY_OK;
}

static uint8_t ascii_of(const struct mly_tokenizer *t, const struct mly_step *step, uint8_t byte)
{
    const uint32_t bits = mly_property(byte)->bits;
    switch ((enum mly_step_kind)step->kind) {
    case MLY_STEP_CLEAN:
        if (bits & MLY_IS_CONTROL) return MLY_ASCII_CARE;
        return bits & MLY_IS_SPACE ? ' ' : byte;
    case MLY_STEP_LOWERCASE:
        return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
    case MLY_STEP_NMT:
        if (nmt_drops(byte)) return MLY_ASCII_CARE;
        return nmt_blanks(byte) ? ' ' : byte;
    case MLY_STEP_CHARSMAP: {
        const struct mly_str text = mly_charsmap_find(&t->compiled, step, &byte, 1);
        if (byte == '\r' || (text.data != NULL && text.bytes != 1)) return MLY_ASCII_CARE;
        return text.data != NULL ? (uint8_t)text.data[0] : byte;
    }
    default:
        return byte;
    }
}

void mly_normalize_prepare(struct mly_tokenizer *t)
{
    for (size_t i = 0; i < t->compiled.settings->normalizer_count; i++) {
        struct mly_ascii *ascii = &t->ascii[i];
        ascii->same = true;
        for (unsigned byte = 0; byte < 128; byte++) {
            ascii->map[byte] = ascii_of(t, &t->compiled.steps[i], (uint8_t)byte);
            ascii->same = ascii->same && ascii->map[byte] == byte;
        }
    }
}

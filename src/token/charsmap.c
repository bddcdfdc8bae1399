/* In: a window of text. Out: the same through the map of characters that SentencePiece's models
 * carry: a double array (Darts) from byte strings to places of NUL-ended texts.
 *
 * As HF does it: a cluster of characters that a reader takes for one (UAX 29), if it has less than
 * six bytes, becomes what its shortest beginning in the map becomes, and what follows in it is
 * lost; else each of its characters is mapped by itself. */
#include "token/property.h"
#include "token/token_int.h"

#include "base/utf8.h"

#define WHOLE_BYTES 6

struct mly_str mly_charsmap_find(const struct mly_compiled *compiled, const struct mly_step *step,
                                 const uint8_t *bytes, size_t count)
{
    const uint32_t *units = compiled->charsmap;
    const size_t unit_count = compiled->charsmap_count;
    if (unit_count == 0) return MLY_STR_NULL;
    size_t at = (size_t)(units[0] >> 10) << ((units[0] & 1u << 9) >> 6);
    for (size_t i = 0; i < count && bytes[i] != MLY_BYTE_NUL && bytes[i] != 0; i++) {
        at ^= bytes[i];
        if (at >= unit_count) return MLY_STR_NULL;
        const uint32_t unit = units[at];
        if ((unit & (1u << 31 | 0xFFu)) != bytes[i]) return MLY_STR_NULL;
        at ^= (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
        if (at >= unit_count) return MLY_STR_NULL;
        if ((unit >> 8 & 1u) == 0) continue;
        const size_t place = units[at] & ~(1u << 31);
        const struct mly_str texts = mly_compiled_text(compiled, step->a);
        if (place >= texts.bytes) return MLY_STR(""); /* behind the last NUL */
        const size_t left = texts.bytes - place;
        const size_t most = left < MLY_PIECE_BYTES_MAX ? left : MLY_PIECE_BYTES_MAX;
        const char *end = memchr(texts.data + place, 0, most);
        return mly_str_slice(texts, place, end != NULL ? (size_t)(end - texts.data) : place + most);
    }
    return MLY_STR_NULL;
}

enum hangul { NO_HANGUL, HANGUL_L, HANGUL_V, HANGUL_T, HANGUL_LV, HANGUL_LVT };

static enum hangul hangul_of(uint32_t c)
{
    if (c < 0x1100) return NO_HANGUL;
    if (c < 0x1160 || (c >= 0xA960 && c <= 0xA97C)) return HANGUL_L;
    if (c < 0x11A8 || (c >= 0xD7B0 && c <= 0xD7C6)) return HANGUL_V;
    if (c < 0x1200 || (c >= 0xD7CB && c <= 0xD7FB)) return HANGUL_T;
    if (c < 0xAC00 || c >= 0xD7A4) return NO_HANGUL;
    return (c - 0xAC00) % 28 == 0 ? HANGUL_LV : HANGUL_LVT;
}

static bool hangul_joins(enum hangul before, enum hangul after)
{
    switch (before) {
    case HANGUL_L:
        return after == HANGUL_L || after == HANGUL_V || after == HANGUL_LV || after == HANGUL_LVT;
    case HANGUL_V:
    case HANGUL_LV:
        return after == HANGUL_V || after == HANGUL_T;
    case HANGUL_T:
    case HANGUL_LVT:
        return after == HANGUL_T;
    default:
        return false;
    }
}

static bool is_regional(uint32_t c)
{
    return c >= 0x1F1E6 && c <= 0x1F1FF;
}

static enum mly_cluster cluster_of(uint32_t c)
{
    return (enum mly_cluster)(mly_property(c)->bits >> 24 & 0xFu);
}

/* Behind the cluster that begins at at. */
static size_t cluster_end(const struct mly_window *window, size_t at)
{
    size_t taken = 0;
    uint32_t before = mly_window_decode(window->bytes + at, window->count - at, &taken);
    enum mly_cluster kind = cluster_of(before);
    /* A picture, and what may stand between it and a joiner. */
    bool picture = kind == MLY_CLUSTER_PICTURE, joiner = false, alone = is_regional(before);
    at += taken;
    if (kind == MLY_CLUSTER_CONTROL) {
        return before == '\r' && at < window->count && window->bytes[at] == '\n' ? at + 1 : at;
    }
    while (at < window->count) {
        const uint32_t next = mly_window_decode(window->bytes + at, window->count - at, &taken);
        const enum mly_cluster next_kind = cluster_of(next);
        const bool mark = next_kind == MLY_CLUSTER_EXTEND || next_kind == MLY_CLUSTER_SPACING ||
                          next_kind == MLY_CLUSTER_ZWJ;
        const bool joins =
            mark ||
            (next_kind != MLY_CLUSTER_CONTROL &&
             (kind == MLY_CLUSTER_PREPEND || hangul_joins(hangul_of(before), hangul_of(next)) ||
              (joiner && next_kind == MLY_CLUSTER_PICTURE) || (alone && is_regional(next))));
        if (!joins) break;
        joiner = picture && next_kind == MLY_CLUSTER_ZWJ;
        if (next_kind != MLY_CLUSTER_EXTEND && next_kind != MLY_CLUSTER_ZWJ) {
            picture = next_kind == MLY_CLUSTER_PICTURE;
        }
        alone = !mark && is_regional(next) && !is_regional(before);
        before = next;
        kind = next_kind;
        at += taken;
    }
    return at;
}

static enum mly_err put_text(struct mly_window *out, struct mly_str text, uint32_t start,
                             uint32_t end, struct mly_error *err)
{
    MLY_TRY(mly_window_reserve(out, text.bytes + 4, err));
    memcpy(out->bytes + out->count, text.data, text.bytes);
    for (size_t i = 0; i < text.bytes; i++) {
        out->starts[out->count] = start;
        out->ends[out->count++] = end;
    }
    return MLY_OK;
}

/* Characters of from[at:end], each by itself. */
static enum mly_err map_each(const struct mly_compiled *compiled, const struct mly_step *step,
                             const struct mly_window *from, size_t at, size_t end,
                             struct mly_window *out, struct mly_error *err)
{
    while (at < end) {
        size_t taken = 0;
        const uint32_t c = mly_window_decode(from->bytes + at, end - at, &taken);
        const struct mly_str text = mly_charsmap_find(compiled, step, from->bytes + at, taken);
        const uint32_t start = mly_window_start(from, at);
        const uint32_t stop = mly_window_end(from, at + taken - 1);
        if (text.data != NULL) {
            MLY_TRY(put_text(out, text, start, stop, err));
        } else {
            MLY_TRY(mly_window_reserve(out, 4, err));
            mly_window_put(out, c, start, stop);
        }
        at += taken;
    }
    return MLY_OK;
}

enum mly_err mly_charsmap_run(const struct mly_compiled *compiled, const struct mly_step *step,
                              const struct mly_ascii *ascii, struct mly_scratch *scratch,
                              struct mly_error *err)
{
    const struct mly_window *from = &scratch->window;
    struct mly_window *out = &scratch->spare;
    for (size_t at = 0; at < from->count;) {
        const uint8_t byte = from->bytes[at];
        if (byte < 0x80 && ascii->map[byte] < MLY_ASCII_CARE &&
            (at + 1 == from->count || from->bytes[at + 1] < 0x80)) {
            MLY_TRY(mly_window_reserve(out, 1, err));
            out->bytes[out->count] = ascii->map[byte];
            out->starts[out->count] = mly_window_start(from, at);
            out->ends[out->count++] = mly_window_end(from, at);
            at++;
            continue;
        }
        const size_t end = cluster_end(from, at);
        struct mly_str text = MLY_STR_NULL;
        if (end - at < WHOLE_BYTES) {
            text = mly_charsmap_find(compiled, step, from->bytes + at, end - at);
        }
        if (text.data != NULL) {
            MLY_TRY(put_text(out, text, mly_window_start(from, at), mly_window_end(from, end - 1),
                             err));
        } else {
            MLY_TRY(map_each(compiled, step, from, at, end, out, err));
        }
        at = end;
    }
    /* What vanished before the first character belongs to it, as in HF: a text that begins so still
     * begins at its first byte. */
    if (out->count > 0 && from->count > 0) {
        const uint32_t start = out->starts[0];
        for (size_t i = 0; i < out->count && out->starts[i] == start; i++) {
            out->starts[i] = mly_window_start(from, 0);
        }
    }
    return MLY_OK;
}

/* Counts word pieces between two places of a text through the meter. The text is measured in
 * windows of 256 KiB that begin where a chunk begins, so memory stays at a few MB for any text; the
 * counts inside a window are exact for cuts behind white space, and what is cut elsewhere is
 * measured again by itself. */
#include "chunk/chunk_int.h"

#define RULER_WINDOW_BYTES ((size_t)256 << 10)
/* How far back white space is looked for to end a window at. */
#define RULER_BACK_BYTES ((size_t)4096)

void mly_ruler_init(struct mly_ruler *ruler, struct mly_mem *mem, const struct mly_meter *meter,
                    struct mly_str text)
{
    *ruler = (struct mly_ruler){.meter = meter, .text = text};
    ruler->tokens.mem = mem;
    ruler->check.mem = mem;
}

void mly_ruler_deinit(struct mly_ruler *ruler)
{
    mly_mem_free(ruler->tokens.mem, ruler->tokens.items);
    mly_mem_free(ruler->check.mem, ruler->check.items);
    ruler->tokens.items = NULL;
    ruler->check.items = NULL;
}

/* Only what every tokenizer takes for white space: some drop other control characters and join
 * what stands on both sides of them. */
static bool is_plain_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static enum mly_err measure(struct mly_ruler *ruler, size_t from, size_t to, struct mly_tokens *out,
                            struct mly_error *err)
{
    struct mly_str part = mly_str_slice(ruler->text, from, to);
    int rc = ruler->meter->measure(ruler->meter->context, part, out, err);
    return (enum mly_err)rc;
}

enum mly_err mly_ruler_cover(struct mly_ruler *ruler, size_t from, size_t need_bytes,
                             struct mly_error *err)
{
    size_t left = ruler->text.bytes - from;
    size_t need_end = left > need_bytes ? from + need_bytes : ruler->text.bytes;
    if (from >= ruler->start && need_end <= ruler->end) return MLY_OK;
    size_t window = need_bytes > RULER_WINDOW_BYTES / 2 ? need_bytes * 2 : RULER_WINDOW_BYTES;
    size_t end = ruler->text.bytes;
    if (left > window) {
        end = mly_border_floor(ruler->text, from + window);
        size_t low = end - RULER_BACK_BYTES > need_end ? end - RULER_BACK_BYTES : need_end;
        for (size_t at = end; at > low; at--) {
            if (is_plain_space(ruler->text.data[at - 1])) {
                end = at;
                break;
            }
        }
    }
    ruler->start = from;
    ruler->end = from;
    ruler->tokens.count = 0;
    MLY_TRY(measure(ruler, from, end, &ruler->tokens, err));
    ruler->end = end;
    return MLY_OK;
}

size_t mly_ruler_index(const struct mly_ruler *ruler, size_t at)
{
    size_t low = 0;
    size_t high = ruler->tokens.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ruler->start + ruler->tokens.items[middle].byte_start < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t mly_ruler_position(const struct mly_ruler *ruler, size_t index)
{
    if (index >= ruler->tokens.count) return ruler->end;
    size_t at = ruler->start + ruler->tokens.items[index].byte_start;
    return mly_border_floor(ruler->text, at < ruler->end ? at : ruler->end);
}

bool mly_ruler_is_safe(const struct mly_ruler *ruler, size_t from, size_t to)
{
    if (ruler->meter->blanks_count) return false;
    return (from == 0 || is_plain_space(ruler->text.data[from - 1])) &&
           (to == ruler->text.bytes || is_plain_space(ruler->text.data[to - 1]));
}

enum mly_err mly_ruler_measure(struct mly_ruler *ruler, size_t from, size_t to, size_t limit,
                               size_t *out_count, size_t *cut, struct mly_error *err)
{
    MLY_TRY(measure(ruler, from, to, &ruler->check, err));
    *out_count = ruler->check.count;
    *cut = to;
    if (ruler->check.count > limit) {
        size_t at = from + ruler->check.items[limit].byte_start;
        *cut = mly_border_floor(ruler->text, at < to ? at : to);
    }
    return MLY_OK;
}

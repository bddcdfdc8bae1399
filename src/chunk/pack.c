/* Packs borders into chunks. For each chunk: how far the limits let it reach, then the border to
 * cut at.
 *
 * heading: of the borders in the second half of that reach the best kind, and among its places the
 * one whose 48 bytes around have the highest hash. Two packings of the same text that begin at
 * different places thus meet again soon, so an edit changes a few chunks and not all behind it.
 * sentence, token: the last good border. fixed: the reach itself. A cut that is not behind white
 * space may change word pieces, so such a chunk is measured by itself and cut shorter if it is too
 * long. */
#include "chunk/chunk_int.h"

#include "base/hash.h"

#define HASH_SIDE_BYTES ((size_t)24)
/* How far back a scan begins to know the stop and the white space before a place. */
#define CONTEXT_BYTES ((size_t)64)

struct cut {
    size_t place; /* 0: none */
    enum mly_border border;
};

static uint64_t hash_around(struct mly_str text, size_t at)
{
    size_t from = at > HASH_SIDE_BYTES ? at - HASH_SIDE_BYTES : 0;
    size_t to = text.bytes - at > HASH_SIDE_BYTES ? at + HASH_SIDE_BYTES : text.bytes;
    return mly_hash_quick(mly_str_slice(text, from, to));
}

/* Where the ASCII white space from from on ends: no good border stands before that. */
static size_t skip_space(struct mly_str text, size_t from, size_t to)
{
    size_t at = from;
    while (at < to) {
        char c = text.data[at];
        if (c != ' ' && (c < '\t' || c > '\r')) return at;
        at++;
    }
    return at;
}

/* ---- the reach */

static size_t points_reach(const struct mly_packer *packer, size_t start, size_t end)
{
    if (packer->points_max >= end - start) return end;
    size_t at = start;
    for (size_t i = 0; i < packer->points_max && at < end; i++) {
        at = mly_border_after(packer->text, at);
    }
    return at;
}

/* The farthest place that keeps text[start:place] within all limits. */
static enum mly_err find_reach(struct mly_packer *packer, size_t start, size_t end, size_t *out,
                               struct mly_error *err)
{
    size_t reach = points_reach(packer, start, end);
    if (reach - start > packer->bytes_max) {
        reach = mly_border_floor(packer->text, start + packer->bytes_max);
    }
    if (packer->ruler != NULL) {
        /* Twice: the packer looks beyond the reach to see whether a tail would be left. */
        MLY_TRY(mly_ruler_cover(packer->ruler, start, packer->bytes_max * 2, err));
        size_t first = mly_ruler_index(packer->ruler, start);
        if (mly_ruler_index(packer->ruler, reach) - first > packer->pieces_max) {
            reach = mly_ruler_position(packer->ruler, first + packer->pieces_max);
        }
    }
    *out = reach;
    return MLY_OK;
}

/* ---- heading: cuts by content */

struct span {
    size_t low, high;
};

/* Where heading may cut: from half of the limits to the reach; where little more than one chunk is
 * left, earlier, so that no tail of a few words remains. */
static struct span heading_span(const struct mly_packer *packer, size_t start, size_t reach,
                                size_t end)
{
    const struct mly_ruler *ruler = packer->ruler;
    size_t first = mly_ruler_index(ruler, start);
    size_t half = mly_ruler_position(ruler, first + packer->pieces_max / 2);
    struct span span = {half, reach};
    if (span.low > start + packer->bytes_max / 2) span.low = start + packer->bytes_max / 2;
    if (end <= ruler->end) {
        size_t left = mly_ruler_index(ruler, end) - first;
        size_t tail = packer->pieces_max / 4;
        if (left > tail && left - tail < packer->pieces_max) {
            size_t high = mly_ruler_position(ruler, first + left - tail);
            if (high < span.high) span.high = high;
        }
    }
    if (span.low > span.high) span.low = span.high;
    return span;
}

static struct cut pick_by_content(const struct mly_packer *packer, size_t start, size_t fresh,
                                  size_t reach, size_t end)
{
    struct span span = heading_span(packer, start, reach, end);
    size_t ink = skip_space(packer->text, start, reach);
    struct cut best = {0, MLY_BORDER_POINT};
    struct cut outside = {0, MLY_BORDER_POINT}; /* the last behind a word */
    uint64_t best_hash = 0;
    struct mly_border_scan scan;
    mly_border_start(&scan, packer->text, start);
    while (scan.at < reach) {
        enum mly_border border = mly_border_next(&scan);
        if (scan.at <= fresh || scan.at > reach) continue;
        if (scan.at <= ink && border > MLY_BORDER_GRAPHEME) border = MLY_BORDER_GRAPHEME;
        if (scan.at < span.low || scan.at > span.high) {
            if (border >= MLY_BORDER_WORD) outside = (struct cut){scan.at, border};
            continue;
        }
        if (best.border > border) continue;
        uint64_t hash = hash_around(packer->text, scan.at);
        if (border > best.border || hash >= best_hash) {
            best = (struct cut){scan.at, border};
            best_hash = hash;
        }
    }
    return best.border < MLY_BORDER_SPLIT && outside.place > 0 ? outside : best;
}

/* ---- the others: the last good border */

static struct cut pick_last(const struct mly_packer *packer, size_t start, size_t fresh,
                            size_t reach)
{
    static const struct {
        enum mly_border least;
        bool sentence_only, second_half;
    } wishes[] = {
        {MLY_BORDER_SENTENCE, true, false},  {MLY_BORDER_LINE, true, true},
        {MLY_BORDER_WORD, false, true},      {MLY_BORDER_SPLIT, false, true},
        {MLY_BORDER_WORD, false, false},     {MLY_BORDER_SPLIT, false, false},
        {MLY_BORDER_GRAPHEME, false, false},
    };
    size_t last[MLY_BORDER_COUNT];
    for (size_t i = 0; i < MLY_BORDER_COUNT; i++) {
        last[i] = 0;
    }
    size_t ink = skip_space(packer->text, start, reach);
    struct mly_border_scan scan;
    mly_border_start(&scan, packer->text, start);
    while (scan.at < reach) {
        enum mly_border border = mly_border_next(&scan);
        if (scan.at > reach) break;
        if (scan.at <= ink && border > MLY_BORDER_GRAPHEME) border = MLY_BORDER_GRAPHEME;
        if (scan.at > fresh) last[border] = scan.at;
    }
    size_t half = start + (reach - start) / 2;
    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
        if (wishes[i].sentence_only && packer->kind != MEMALLOY_CHUNKING_SENTENCE) continue;
        struct cut cut = {0, MLY_BORDER_POINT};
        for (size_t border = wishes[i].least; border < MLY_BORDER_COUNT; border++) {
            if (last[border] > cut.place) cut = (struct cut){last[border], (enum mly_border)border};
        }
        if (cut.place > (wishes[i].second_half ? half : 0)) return cut;
    }
    return (struct cut){last[MLY_BORDER_POINT], MLY_BORDER_POINT};
}

/* The reach, or a little before, where it would divide a user-perceived character. */
static struct cut pick_fixed(const struct mly_packer *packer, size_t start, size_t fresh,
                             size_t reach)
{
    struct cut cut = {0, MLY_BORDER_POINT};
    struct mly_border_scan scan;
    mly_border_start(&scan, packer->text, start);
    while (scan.at < reach) {
        enum mly_border border = mly_border_next(&scan);
        if (scan.at > fresh && scan.at <= reach && border > MLY_BORDER_POINT) {
            cut = (struct cut){scan.at, border};
        }
    }
    return cut;
}

/* A cut in (fresh, reach]; reach is above fresh. */
static struct cut pick(const struct mly_packer *packer, size_t start, size_t fresh, size_t reach,
                       size_t end)
{
    if (reach == end) return (struct cut){end, MLY_BORDER_PARAGRAPH};
    struct cut cut;
    if (packer->kind == MEMALLOY_CHUNKING_HEADING) {
        cut = pick_by_content(packer, start, fresh, reach, end);
    } else if (packer->kind == MEMALLOY_CHUNKING_FIXED) {
        cut = pick_fixed(packer, start, fresh, reach);
    } else {
        cut = pick_last(packer, start, fresh, reach);
    }
    return cut.place > fresh && cut.place <= reach ? cut : (struct cut){reach, MLY_BORDER_POINT};
}

/* ---- one chunk */

/* Cuts as pick does, but so that the meter agrees. out->place is 0 where nothing beyond fresh fits.
 */
static enum mly_err find_cut(struct mly_packer *packer, size_t start, size_t fresh, size_t end,
                             struct cut *out, struct mly_error *err)
{
    size_t reach;
    MLY_TRY(find_reach(packer, start, end, &reach, err));
    /* One code point, even if it has more pieces than the limit: nothing shorter can be had. */
    size_t least = mly_border_after(packer->text, fresh);
    *out = (struct cut){start < fresh ? 0 : least, MLY_BORDER_POINT};
    if (reach < least) return MLY_OK;
    for (;;) {
        struct cut cut = pick(packer, start, fresh, reach, end);
        size_t place = cut.place;
        size_t count = 0;
        size_t shorter = place;
        if (packer->ruler != NULL && !mly_ruler_is_safe(packer->ruler, start, place)) {
            MLY_TRY(mly_ruler_measure(packer->ruler, start, place, packer->pieces_max, &count,
                                      &shorter, err));
        }
        if (count <= packer->pieces_max) {
            *out = cut;
            return MLY_OK;
        }
        if (shorter >= place || shorter < least) {
            shorter = mly_border_floor(packer->text, fresh + (place - fresh) / 2);
        }
        if (shorter < least) return MLY_OK;
        reach = shorter;
    }
}

/* The lowest place that the overlap lets the next chunk begin at. */
static enum mly_err overlap_low(struct mly_packer *packer, size_t last_start, size_t end,
                                size_t *out, struct mly_error *err)
{
    size_t low = end;
    if (packer->points_max != SIZE_MAX) {
        for (size_t i = 0; i < packer->overlap && low > last_start; i++) {
            low = mly_border_floor(packer->text, low - 1);
        }
        *out = low;
        return MLY_OK;
    }
    struct mly_ruler *ruler = packer->ruler;
    MLY_TRY(mly_ruler_cover(ruler, last_start, end - last_start, err));
    size_t index = mly_ruler_index(ruler, end);
    size_t first = mly_ruler_index(ruler, last_start);
    low = last_start;
    if (index - first > packer->overlap) low = mly_ruler_position(ruler, index - packer->overlap);
    /* Pieces may be long: the new part needs room. */
    size_t bytes = packer->bytes_max / 4;
    if (end - low > bytes) low = mly_border_floor(packer->text, end - bytes);
    *out = low;
    return MLY_OK;
}

/* Where the next chunk begins: at most overlap before the end of the last, at the best place. */
static enum mly_err find_start(struct mly_packer *packer, size_t last_start, size_t end,
                               size_t *out, struct mly_error *err)
{
    *out = end;
    if (packer->overlap == 0) return MLY_OK;
    size_t low;
    MLY_TRY(overlap_low(packer, last_start, end, &low, err));
    size_t place[MLY_BORDER_COUNT]; /* the first of at least that kind */
    for (size_t i = 0; i < MLY_BORDER_COUNT; i++) {
        place[i] = end;
    }
    size_t from = last_start;
    if (low > from + CONTEXT_BYTES) from = mly_border_floor(packer->text, low - CONTEXT_BYTES);
    struct mly_border_scan scan;
    mly_border_start(&scan, packer->text, from);
    while (scan.at < end) {
        enum mly_border border = mly_border_next(&scan);
        if (scan.at < low || scan.at >= end) continue;
        for (size_t i = 0; i <= (size_t)border; i++) {
            if (place[i] == end) place[i] = scan.at;
        }
    }
    bool pieces = packer->points_max == SIZE_MAX;
    if (packer->kind == MEMALLOY_CHUNKING_FIXED) {
        *out = place[MLY_BORDER_GRAPHEME];
    } else if (packer->kind != MEMALLOY_CHUNKING_TOKEN && place[MLY_BORDER_SENTENCE] < end) {
        *out = place[MLY_BORDER_SENTENCE];
    } else if (place[MLY_BORDER_WORD] < end) {
        *out = place[MLY_BORDER_WORD];
    } else if (place[MLY_BORDER_SPLIT] < end || pieces) {
        *out = place[MLY_BORDER_SPLIT]; /* Inside a word the number of pieces is not known. */
    } else {
        *out = place[MLY_BORDER_GRAPHEME];
    }
    return MLY_OK;
}

static size_t count_lines(struct mly_str text, size_t from, size_t to)
{
    size_t count = 0;
    for (size_t i = from; i < to; i++) {
        count += text.data[i] == '\n';
    }
    return count;
}

static enum mly_err push(struct mly_packer *packer, size_t start, size_t fresh, size_t end,
                         struct mly_str heading, struct mly_error *err)
{
    struct mly_chunks *out = packer->out;
    if (out->count == out->capacity) {
        size_t capacity = out->capacity == 0 ? 8 : out->capacity * 2;
        struct mly_chunk *items =
            mly_mem_realloc(packer->mem, out->items, capacity * sizeof(items[0]));
        if (items == NULL) return mly_fail_nomem(err, capacity * sizeof(items[0]));
        out->items = items;
        out->capacity = capacity;
    }
    struct mly_str text = packer->text;
    packer->line += count_lines(text, packer->line_at, fresh);
    packer->line_at = fresh;
    size_t line_start = packer->line - count_lines(text, start, fresh);
    size_t ink_end = end;
    while (ink_end > start && skip_space(text, ink_end - 1, ink_end) == ink_end) {
        ink_end--;
    }
    if (ink_end == start) ink_end = end;
    out->items[out->count] =
        (struct mly_chunk){.byte_start = start,
                           .byte_end = end,
                           .line_start = line_start,
                           .line_end = line_start + count_lines(text, start, ink_end - 1),
                           .heading = heading};
    out->count++;
    return MLY_OK;
}

/* With an overlap a sentence or word may not fit that fits without: then there is none. */
static enum mly_err find_cut_or_drop(struct mly_packer *packer, size_t *start, size_t fresh,
                                     size_t end, size_t *out, struct mly_error *err)
{
    enum mly_border enough = MLY_BORDER_SENTENCE;
    if (packer->kind == MEMALLOY_CHUNKING_TOKEN) enough = MLY_BORDER_SPLIT;
    if (packer->kind == MEMALLOY_CHUNKING_FIXED) enough = MLY_BORDER_POINT;
    struct cut cut;
    MLY_TRY(find_cut(packer, *start, fresh, end, &cut, err));
    if (*start < fresh && (cut.place == 0 || cut.border < enough)) {
        struct cut other;
        MLY_TRY(find_cut(packer, fresh, fresh, end, &other, err));
        if (cut.place == 0 || other.border > cut.border) {
            *start = fresh;
            cut = other;
        }
    }
    *out = cut.place;
    return MLY_OK;
}

enum mly_err mly_packer_run(struct mly_packer *packer, size_t start, size_t end,
                            struct mly_str heading, struct mly_error *err)
{
    size_t fresh = start;
    while (fresh < end) {
        size_t place;
        MLY_TRY(find_cut_or_drop(packer, &start, fresh, end, &place, err));
        MLY_TRY(push(packer, start, fresh, place, heading, err));
        size_t last_start = start;
        fresh = place;
        if (fresh < end) MLY_TRY(find_start(packer, last_start, fresh, &start, err));
    }
    return MLY_OK;
}

/* In: a window of text. Out: the same in one of Unicode's normal forms (UAX 15).
 *
 * Characters are taken apart one by one and gathered from one starter to the next; the marks
 * between are put into canonical order (counted by class: a run of a million marks is as cheap as
 * many short ones) and, for the composed forms, put together with the starter where they may be. */
#include "token/property.h"
#include "token/token_int.h"

#define HANGUL_S 0xAC00u
#define HANGUL_L 0x1100u
#define HANGUL_V 0x1161u
#define HANGUL_T 0x11A7u
#define HANGUL_COUNT 11172u

/* Letters since the last starter, which is the first of them (but at the very beginning). */
struct run {
    struct mly_scratch *scratch;
    size_t count;
    bool compose;
};

/* The one character that two are together, or 0. */
static uint32_t composed(uint32_t first, uint32_t second)
{
    if (first - HANGUL_L < 19 && second - HANGUL_V < 21) {
        return HANGUL_S + ((first - HANGUL_L) * 21 + (second - HANGUL_V)) * 28;
    }
    if (first - HANGUL_S < HANGUL_COUNT && (first - HANGUL_S) % 28 == 0 &&
        second - HANGUL_T - 1 < 27) {
        return first + (second - HANGUL_T);
    }
    if ((mly_property(second)->bits & MLY_IS_SECOND) == 0) return 0;
    size_t low = 0, high = mly_property_pair_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct mly_property_pair *pair = &mly_property_pairs[middle];
        if (pair->first == first && pair->second == second) return pair->composed;
        if (pair->first < first || (pair->first == first && pair->second < second)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return 0;
}

/* Stable, by class. Beyond a few the letters are counted into the room behind them. */
static enum mly_err sort_marks(struct run *run, size_t from, struct mly_error *err)
{
    struct mly_scratch *scratch = run->scratch;
    const size_t count = run->count - from;
    bool sorted = true;
    for (size_t i = from + 1; i < run->count; i++) {
        sorted = sorted && scratch->letters[i - 1].order <= scratch->letters[i].order;
    }
    if (sorted) return MLY_OK;
    MLY_TRY(mly_scratch_grow(scratch, (void **)&scratch->letters, &scratch->letter_capacity,
                             run->count + count, sizeof(scratch->letters[0]), err));
    struct mly_letter *marks = scratch->letters + from, *copy = marks + count;
    size_t places[256] = {0}, place = 0;
    for (size_t i = 0; i < count; i++) {
        places[marks[i].order]++;
    }
    for (size_t order = 0; order < 256; order++) {
        const size_t here = places[order];
        places[order] = place;
        place += here;
    }
    for (size_t i = 0; i < count; i++) {
        copy[places[marks[i].order]++] = marks[i];
    }
    /* Marks that change places share the bytes of all of them. */
    uint32_t start = marks[0].start, end = marks[count - 1].end;
    for (size_t i = 0; i < count; i++) {
        copy[i].start = start;
        copy[i].end = end;
    }
    memcpy(marks, copy, count * sizeof(marks[0]));
    return MLY_OK;
}

static bool begins_with_starter(const struct run *run)
{
    return run->count > 0 && run->scratch->letters[0].order == 0;
}

/* Puts the marks in order and, if wanted, together with their starter. */
static enum mly_err settle(struct run *run, struct mly_error *err)
{
    const bool starter = begins_with_starter(run);
    if (run->count <= (starter ? 1u : 0u)) return MLY_OK;
    MLY_TRY(sort_marks(run, starter ? 1 : 0, err));
    if (!run->compose || !starter) return MLY_OK;
    struct mly_letter *letters = run->scratch->letters;
    size_t kept = 1;
    uint32_t before = 0;
    for (size_t i = 1; i < run->count; i++) {
        const bool blocked = kept > 1 && before >= letters[i].order;
        const uint32_t one = blocked ? 0 : composed(letters[0].code_point, letters[i].code_point);
        if (one != 0) {
            letters[0].code_point = one;
            if (letters[i].end > letters[0].end) letters[0].end = letters[i].end;
        } else {
            before = letters[i].order;
            letters[kept++] = letters[i];
        }
    }
    run->count = kept;
    return MLY_OK;
}

static enum mly_err flush(struct run *run, struct mly_error *err)
{
    struct mly_window *out = &run->scratch->spare;
    MLY_TRY(mly_window_reserve(out, 4 * run->count, err));
    for (size_t i = 0; i < run->count; i++) {
        const struct mly_letter *letter = &run->scratch->letters[i];
        mly_window_put(out, letter->code_point, letter->start, letter->end);
    }
    run->count = 0;
    return MLY_OK;
}

static enum mly_err add(struct run *run, uint32_t code_point, uint32_t start, uint32_t end,
                        struct mly_error *err)
{
    struct mly_scratch *scratch = run->scratch;
    const uint32_t order = mly_property_order(mly_property(code_point));
    if (order == 0 && run->count > 0) {
        MLY_TRY(settle(run, err));
        const uint32_t one = run->compose && run->count == 1 && begins_with_starter(run)
                                 ? composed(scratch->letters[0].code_point, code_point)
                                 : 0;
        if (one != 0) {
            scratch->letters[0].code_point = one;
            scratch->letters[0].end = end;
            return MLY_OK;
        }
        MLY_TRY(flush(run, err));
    }
    MLY_TRY(mly_scratch_grow(scratch, (void **)&scratch->letters, &scratch->letter_capacity,
                             run->count + 1, sizeof(scratch->letters[0]), err));
    scratch->letters[run->count++] = (struct mly_letter){code_point, start, end, order};
    return MLY_OK;
}

static enum mly_err add_apart(struct run *run, uint32_t c, bool compatible, uint32_t start,
                              uint32_t end, struct mly_error *err)
{
    const uint32_t syllable = c - HANGUL_S;
    if (syllable < HANGUL_COUNT && !run->compose) {
        MLY_TRY(add(run, HANGUL_L + syllable / 588, start, end, err));
        MLY_TRY(add(run, HANGUL_V + syllable % 588 / 28, start, end, err));
        if (syllable % 28 == 0) return MLY_OK;
        return add(run, HANGUL_T + syllable % 28, start, end, err);
    }
    const struct mly_property *property = mly_property(c);
    const uint32_t mapping = compatible ? property->nfkd : property->nfd;
    if (mapping == 0) return add(run, c, start, end, err);
    if ((mapping & MLY_PROPERTY_SEQUENCE) == 0) return add(run, mapping, start, end, err);
    const uint32_t *parts = mly_property_sequences + (mapping & ~MLY_PROPERTY_SEQUENCE);
    for (uint32_t i = 1; i <= parts[0]; i++) {
        MLY_TRY(add(run, parts[i], start, end, err));
    }
    return MLY_OK;
}

enum mly_err mly_compose(struct mly_scratch *scratch, bool compatible, bool compose,
                         struct mly_error *err)
{
    const struct mly_window *from = &scratch->window;
    struct run run = {.scratch = scratch, .compose = compose};
    for (size_t at = 0; at < from->count;) {
        size_t taken = 0;
        const uint32_t c = mly_window_decode(from->bytes + at, from->count - at, &taken);
        MLY_TRY(add_apart(&run, c, compatible, mly_window_start(from, at),
                          mly_window_end(from, at + taken - 1), err));
        at += taken;
    }
    MLY_TRY(settle(&run, err));
    return flush(&run, err);
}

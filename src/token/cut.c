/* In: a normalised window. Out: its words, given to the model one by one.
 *
 * Each step of the pre-tokenizer cuts what it is given and hands every part on to the next step,
 * the last one to the model; so the words come in the order of the text and nothing is gathered. A
 * space that has to stand before a word is written over the byte before it, which nobody needs by
 * then, and which is put back. */
#include "token/property.h"
#include "token/token_int.h"

struct cutter {
    const struct mly_tokenizer *tokenizer;
    struct mly_scratch *scratch;
    struct mly_tokens *out;
    struct mly_error *err;
};

static enum mly_err cut(const struct cutter *cutter, size_t step_i, size_t from, size_t to,
                        bool lead);

static uint32_t char_at(const struct cutter *cutter, size_t at, size_t to, size_t *taken)
{
    return mly_window_decode(cutter->scratch->window.bytes + at, to - at, taken);
}

static uint32_t bits_at(const struct cutter *cutter, size_t at, size_t to, size_t *taken)
{
    return mly_property(char_at(cutter, at, to, taken))->bits;
}

/* A part of what a step was given, for the next one. lead: the step's own first byte is a space
 * that was put there. */
static enum mly_err pass(const struct cutter *cutter, size_t step_i, size_t first, bool lead,
                         size_t from, size_t to)
{
    if (from >= to) return MLY_OK;
    return cut(cutter, step_i + 1, from, to, lead && from == first);
}

/* Classes of characters for the steps that cut between classes. */
static unsigned class_of(enum mly_step_kind kind, uint32_t bits)
{
    switch (kind) {
    case MLY_STEP_BERT_WORDS: /* 0 nothing, 1 part of a word, 2 alone */
        return bits & MLY_IS_SPACE ? 0 : bits & MLY_IS_PUNCT ? 2 : 1;
    case MLY_STEP_WHITESPACE: /* 3: another kind of word */
        return bits & MLY_IS_WORD ? 1 : bits & MLY_IS_SPACE ? 0 : 3;
    case MLY_STEP_SPACE_SPLIT:
        return bits & MLY_IS_SPACE ? 0 : 1;
    default:
        return 1;
    }
}

static unsigned split_class(enum mly_split split)
{
    return split == MLY_SPLIT_REMOVED ? 0 : split == MLY_SPLIT_ISOLATED ? 2 : 3;
}

static enum mly_err cut_classes(const struct cutter *cutter, size_t step_i, size_t first, size_t to,
                                bool lead)
{
    const struct mly_compiled *c = &cutter->tokenizer->compiled;
    const struct mly_step *step = &c->steps[c->settings->normalizer_count + step_i];
    const enum mly_step_kind kind = (enum mly_step_kind)step->kind;
    size_t from = first, taken = 0;
    unsigned before = 0;
    for (size_t at = first; at < to; at += taken) {
        const uint32_t bits = bits_at(cutter, at, to, &taken);
        unsigned class = class_of(kind, bits);
        if ((kind == MLY_STEP_PUNCTUATION && (bits & MLY_IS_PUNCT)) ||
            (kind == MLY_STEP_DIGITS && (bits & MLY_IS_NUMERIC))) {
            class = split_class((enum mly_split)step->flags);
        }
        if (class != before || class == 2) {
            if (before != 0) MLY_TRY(pass(cutter, step_i, first, lead, from, at));
            from = at;
        }
        before = class;
    }
    return before != 0 ? pass(cutter, step_i, first, lead, from, to) : MLY_OK;
}

/* ---- the patterns of GPT-2 and of cl100k ---- */

static size_t run_of(const struct cutter *cutter, size_t at, size_t to, uint32_t wanted,
                     uint32_t not_wanted, size_t most)
{
    size_t taken = 0;
    for (size_t i = 0; i < most && at < to; i++, at += taken) {
        const uint32_t bits = bits_at(cutter, at, to, &taken);
        if ((bits & not_wanted) != 0 || (wanted != 0 && (bits & wanted) == 0)) break;
    }
    return at;
}

#define NOT_OTHER (MLY_IS_GAP | MLY_IS_LETTER | MLY_IS_NUMBER)

/* Behind 's 't 're 've 'm 'll 'd, or at. */
static size_t contraction(const struct cutter *cutter, size_t at, size_t to, bool any_case)
{
    const uint8_t *bytes = cutter->scratch->window.bytes;
    if (bytes[at] != '\'' || at + 1 >= to) return at;
    const uint8_t flip = any_case ? 0x20 : 0;
    const uint8_t a = bytes[at + 1] | flip, b = at + 2 < to ? bytes[at + 2] | flip : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if (any_case && bytes[at + 1] == 0xC5 && at + 2 < to && bytes[at + 2] == 0xBF) {
        return at + 3; /* U+017F is an s, whatever the case */
    }
    const bool two = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
    return two ? at + 3 : at;
}

/* \s+(?!\S)|\s+ */
static size_t blank_end(const struct cutter *cutter, size_t at, size_t to)
{
    size_t taken = 0, last = at, end = at;
    while (end < to && (bits_at(cutter, end, to, &taken) & MLY_IS_GAP) != 0) {
        last = end;
        end += taken;
    }
    return end < to && last > at ? last : end;
}

static size_t gpt2_end(const struct cutter *cutter, size_t at, size_t to)
{
    const uint8_t *bytes = cutter->scratch->window.bytes;
    size_t end = contraction(cutter, at, to, false);
    if (end > at) return end;
    const size_t from = bytes[at] == ' ' && at + 1 < to ? at + 1 : at;
    end = run_of(cutter, from, to, MLY_IS_LETTER, 0, SIZE_MAX);
    if (end > from) return end;
    end = run_of(cutter, from, to, MLY_IS_NUMBER, 0, SIZE_MAX);
    if (end > from) return end;
    end = run_of(cutter, from, to, 0, NOT_OTHER, SIZE_MAX);
    if (end > from) return end;
    return blank_end(cutter, at, to);
}

static bool is_break(uint8_t byte)
{
    return byte == '\r' || byte == '\n';
}

/* \s*[\r\n]+: behind the last line end of the blanks, or at. */
static size_t lines_end(const struct cutter *cutter, size_t at, size_t to)
{
    size_t taken = 0, end = at;
    while (at < to && (bits_at(cutter, at, to, &taken) & MLY_IS_GAP) != 0) {
        if (is_break(cutter->scratch->window.bytes[at])) end = at + 1;
        at += taken;
    }
    return end;
}

static size_t cl100k_end(const struct cutter *cutter, size_t at, size_t to, size_t digits)
{
    const uint8_t *bytes = cutter->scratch->window.bytes;
    size_t taken = 0, end = contraction(cutter, at, to, true);
    if (end > at) return end;
    const uint32_t bits = bits_at(cutter, at, to, &taken);
    size_t from = at;
    if ((bits & (MLY_IS_LETTER | MLY_IS_NUMBER)) == 0 && !is_break(bytes[at])) from = at + taken;
    end = run_of(cutter, from, to, MLY_IS_LETTER, 0, SIZE_MAX);
    if (end > from) return end;
    end = run_of(cutter, at, to, MLY_IS_NUMBER, 0, digits);
    if (end > at) return end;
    from = bytes[at] == ' ' ? at + 1 : at;
    end = run_of(cutter, from, to, 0, NOT_OTHER, SIZE_MAX);
    if (end > from) {
        while (end < to && is_break(bytes[end])) {
            end++;
        }
        return end;
    }
    end = lines_end(cutter, at, to);
    return end > at ? end : blank_end(cutter, at, to);
}

static enum mly_err cut_pattern(const struct cutter *cutter, size_t step_i,
                                const struct mly_step *step, size_t first, size_t to, bool lead)
{
    for (size_t at = first; at < to;) {
        const size_t end = step->kind == MLY_STEP_GPT2 ? gpt2_end(cutter, at, to)
                                                       : cl100k_end(cutter, at, to, step->flags);
        if (end <= at) {
            return mly_fail(cutter->err, MLY_ERR_INTERNAL, "a pattern does not match a text");
        }
        MLY_TRY(pass(cutter, step_i, first, lead, at, end));
        at = end;
    }
    return MLY_OK;
}

/* ---- spaces that are put in front ---- */

static enum mly_err cut_at_spaces(const struct cutter *cutter, size_t step_i, size_t first,
                                  size_t to, bool lead)
{
    const uint8_t *bytes = cutter->scratch->window.bytes;
    size_t from = first;
    while (from < to) {
        const uint8_t *next = memchr(bytes + from + 1, ' ', to - from - 1);
        const size_t end = next != NULL ? (size_t)(next - bytes) : to;
        MLY_TRY(pass(cutter, step_i, first, lead, from, end));
        from = end;
    }
    return MLY_OK;
}

static enum mly_err cut_spaced(const struct cutter *cutter, size_t step_i,
                               const struct mly_step *step, size_t from, size_t to, bool lead)
{
    struct mly_window *window = &cutter->scratch->window;
    const bool meta = step->kind == MLY_STEP_METASPACE;
    if (meta) {
        uint8_t *mark = window->bytes + from;
        while ((mark = memchr(mark, MLY_BYTE_MARK, (size_t)(window->bytes + to - mark))) != NULL) {
            *mark++ = ' ';
        }
    }
    bool put = window->bytes[from] != ' ';
    if (meta && (step->flags & MLY_METASPACE_ALWAYS) == 0) {
        put = put && (step->flags & MLY_METASPACE_FIRST) && mly_window_start(window, from) == 0;
    }
    uint8_t *before = window->bytes + from - 1;
    const uint8_t saved = *before;
    if (put) {
        *before = ' ';
        from--;
        lead = true;
    }
    const enum mly_err rc = meta && (step->flags & MLY_METASPACE_CUT)
                                ? cut_at_spaces(cutter, step_i, from, to, lead)
                                : pass(cutter, step_i, from, lead, from, to);
    *before = saved;
    return rc;
}

static enum mly_err give_word(const struct cutter *cutter, size_t from, size_t to, bool lead)
{
    const struct mly_word word = {from, to, lead};
    switch ((enum mly_model_kind)cutter->tokenizer->compiled.settings->model) {
    case MLY_MODEL_WORDPIECE:
        return mly_wordpiece_encode(cutter->tokenizer, cutter->scratch, &word, cutter->out,
                                    cutter->err);
    case MLY_MODEL_UNIGRAM:
        return mly_unigram_encode(cutter->tokenizer, cutter->scratch, &word, cutter->out,
                                  cutter->err);
    default:
        return mly_bpe_encode(cutter->tokenizer, cutter->scratch, &word, cutter->out, cutter->err);
    }
}

static enum mly_err cut(const struct cutter *cutter, size_t step_i, size_t from, size_t to,
                        bool lead)
{
    const struct mly_compiled *c = &cutter->tokenizer->compiled;
    if (step_i == c->settings->pre_tokenizer_count) return give_word(cutter, from, to, lead);
    const struct mly_step *step = &c->steps[c->settings->normalizer_count + step_i];
    switch ((enum mly_step_kind)step->kind) {
    case MLY_STEP_GPT2:
    case MLY_STEP_CL100K:
        return cut_pattern(cutter, step_i, step, from, to, lead);
    case MLY_STEP_METASPACE:
    case MLY_STEP_PREFIX_SPACE:
        return cut_spaced(cutter, step_i, step, from, to, lead);
    default:
        return cut_classes(cutter, step_i, from, to, lead);
    }
}

/* One item before the window's first, so that a space can be put there. */
static void shift(struct mly_window *window, bool forth)
{
    const ptrdiff_t by = forth ? -1 : 1;
    window->bytes += by;
    window->starts += by;
    window->ends += by;
    window->base += (size_t)by;
    window->count -= (size_t)by;
}

enum mly_err mly_cut(const struct mly_tokenizer *tokenizer, struct mly_scratch *scratch,
                     size_t from, size_t to, struct mly_tokens *out, struct mly_error *err)
{
    const struct cutter cutter = {tokenizer, scratch, out, err};
    if (from >= to) return MLY_OK;
    shift(&scratch->window, true);
    const enum mly_err rc = cut(&cutter, 0, from + 1, to + 1, false);
    shift(&scratch->window, false);
    return rc;
}

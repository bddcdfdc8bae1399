/* In: bytes that claim to be a compiled tokenizer. Out: its tables, or what is wrong with it.
 *
 * What becomes a place is looked at: offsets, bases of cells, ids that count scores or added
 * tokens; and ids that are given out are below their count. What is only compared is not. */
#include "token/compiled.h"

#include "token/token_int.h"

#include <stdbool.h>

static enum mly_err corrupt(struct mly_error *err, const char *what)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "compiled tokenizer: %s", what);
}

static const void *section(struct mly_str bytes, enum mly_section_kind kind, size_t item_bytes,
                           size_t *count)
{
    const struct mly_compiled_header *header = (const void *)bytes.data;
    const struct mly_section *found = &header->sections[kind];
    *count = (size_t)found->bytes / item_bytes;
    return found->bytes > 0 ? bytes.data + found->offset : NULL;
}

static enum mly_err check_header(struct mly_str bytes, struct mly_error *err)
{
    const struct mly_compiled_header *header = (const void *)bytes.data;
    if (bytes.bytes < sizeof(*header) || memcmp(bytes.data, MLY_COMPILED_MAGIC, 8) != 0) {
        return corrupt(err, "these bytes are none");
    }
    if (header->version != MLY_COMPILED_VERSION || header->section_count != MLY_SECTION_COUNT) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "compiled tokenizer: version %u, %u is expected; make it again",
                        header->version, MLY_COMPILED_VERSION);
    }
    if (header->bytes != bytes.bytes) return corrupt(err, "the length is not what it says");
    for (size_t i = 0; i < MLY_SECTION_COUNT; i++) {
        const struct mly_section *found = &header->sections[i];
        if (found->offset % 8 != 0 || found->offset > bytes.bytes ||
            found->bytes > bytes.bytes - found->offset) {
            return corrupt(err, "a section lies outside");
        }
    }
    return MLY_OK;
}

/* No base may lead behind the last cell: an XOR with a byte stays within its block of 256. */
static enum mly_err take_cells(struct mly_str bytes, enum mly_section_kind kind, uint32_t root_base,
                               uint32_t id_count, uint32_t id_mask, struct mly_trie *out,
                               struct mly_error *err)
{
    size_t count = 0;
    const struct mly_trie_cell *cells = section(bytes, kind, sizeof(cells[0]), &count);
    if (count % 256 != 0 || count > (size_t)1 << 24) return corrupt(err, "cells are not in blocks");
    if (count == 0) return MLY_OK;
    uint32_t worst = root_base, worst_id = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t base = cells[i].base_label >> 8;
        const uint32_t id = cells[i].id < 0 ? 0 : (uint32_t)cells[i].id & id_mask;
        worst = base > worst ? base : worst;
        worst_id = id > worst_id ? id : worst_id;
    }
    if (worst >= count) return corrupt(err, "a cell leads outside");
    if (worst_id > 0 && worst_id >= id_count) return corrupt(err, "an id is too large");
    /* Borrowed; nobody frees or writes the cells of a compiled tokenizer. */
    *out = (struct mly_trie){(struct mly_trie_cell *)(uintptr_t)cells, count, root_base};
    return MLY_OK;
}

static bool text_fits(const struct mly_compiled *c, struct mly_text_ref ref)
{
    return ref.offset <= c->texts.bytes && ref.bytes <= c->texts.bytes - ref.offset;
}

static enum mly_err check_steps(const struct mly_compiled *c, size_t count, struct mly_error *err)
{
    const struct mly_settings *s = c->settings;
    if (s->normalizer_count > MLY_STEPS_MAX || s->pre_tokenizer_count > MLY_STEPS_MAX ||
        count != s->normalizer_count + s->pre_tokenizer_count) {
        return corrupt(err, "the number of steps");
    }
    for (size_t i = 0; i < count; i++) {
        const struct mly_step *step = &c->steps[i];
        const bool normalizer = i < s->normalizer_count;
        if (step->kind >= MLY_STEP_KINDS || step->kind == MLY_STEP_NORMALIZERS ||
            (step->kind < MLY_STEP_NORMALIZERS) != normalizer || !text_fits(c, step->a) ||
            !text_fits(c, step->b)) {
            return corrupt(err, "a step that is not known");
        }
        if (step->kind == MLY_STEP_REPLACE && step->a.bytes == 0) {
            return corrupt(err, "a step that replaces nothing");
        }
        if (step->kind == MLY_STEP_CL100K && step->flags == 0) {
            return corrupt(err, "a pattern that takes no digits");
        }
        if (step->b.bytes > MLY_PIECE_BYTES_MAX ||
            (step->kind == MLY_STEP_PREPEND && step->a.bytes > MLY_PIECE_BYTES_MAX)) {
            return corrupt(err, "a step that puts too much in place of something");
        }
        if ((step->kind == MLY_STEP_PUNCTUATION || step->kind == MLY_STEP_DIGITS) &&
            step->flags >= MLY_SPLITS) {
            return corrupt(err, "a step that cuts in a way that is not known");
        }
    }
    return MLY_OK;
}

static enum mly_err check_settings(const struct mly_compiled *c, struct mly_error *err)
{
    const struct mly_settings *s = c->settings;
    const struct mly_tokenizer_frame *frame = &s->frame;
    if (s->model > MLY_MODEL_BPE || (s->flags & ~(uint32_t)MLY_MODEL_FLAGS) != 0) {
        return corrupt(err, "a model that is not known");
    }
    if (frame->prefix_count > MLY_FRAME_MAX || frame->suffix_count > MLY_FRAME_MAX ||
        frame->id_count == 0 || frame->id_count > MLY_IDS_MAX) {
        return corrupt(err, "the frame");
    }
    bool fit = frame->pad_id >= 0 && (uint32_t)frame->pad_id < frame->id_count && s->unk_id >= -1 &&
               s->unk_id < (int32_t)frame->id_count;
    for (size_t i = 0; i < MLY_FRAME_MAX; i++) {
        fit = fit && frame->prefix[i] >= 0 && (uint32_t)frame->prefix[i] < frame->id_count;
        fit = fit && frame->suffix[i] >= 0 && (uint32_t)frame->suffix[i] < frame->id_count;
    }
    if (!fit) return corrupt(err, "an id of the frame");
    if (!text_fits(c, s->tail_prefix)) return corrupt(err, "the prefix");
    return MLY_OK;
}

static enum mly_err check_added(const struct mly_compiled *c, struct mly_error *err)
{
    if (c->added_count > MLY_ADDED_MAX) return corrupt(err, "too many added tokens");
    for (size_t i = 0; i < c->added_count; i++) {
        const struct mly_added *added = &c->added[i];
        const bool fits = added->id >= 0 && (uint32_t)added->id < c->settings->frame.id_count &&
                          added->text.bytes > 0 && text_fits(c, added->text);
        if (!fits) return corrupt(err, "an added token");
    }
    return MLY_OK;
}

/* What bytes and pairs become. */
static enum mly_err check_symbols(const struct mly_compiled *c, size_t symbol_count,
                                  size_t merge_count, struct mly_error *err)
{
    const uint32_t ids = c->settings->frame.id_count;
    for (size_t i = 0; i < symbol_count; i++) {
        if (c->symbols[i] >= 0 && (uint32_t)c->symbols[i] >= ids) {
            return corrupt(err, "the symbol of a byte is too large");
        }
    }
    for (size_t i = 0; i < merge_count; i++) {
        const struct mly_merge *merge = &c->merges[i];
        if (merge->right != MLY_MERGE_EMPTY && merge->id >= ids) {
            return corrupt(err, "the id of a merge is too large");
        }
    }
    return MLY_OK;
}

static enum mly_err check_model(const struct mly_compiled *c, size_t symbol_count,
                                struct mly_error *err)
{
    const struct mly_settings *s = c->settings;
    if (c->cells.cell_count == 0) return corrupt(err, "there are no pieces");
    if (symbol_count != 0 && symbol_count != 256) return corrupt(err, "the symbols of bytes");
    const bool bytes = (s->flags & (MLY_MODEL_BYTE_FALLBACK | MLY_MODEL_BYTE_LEVEL)) != 0;
    if (bytes && symbol_count == 0) return corrupt(err, "the symbols of bytes are missing");
    if (s->model == MLY_MODEL_UNIGRAM && (c->score_count == 0 || s->unk_id < 0)) {
        return corrupt(err, "there are no scores");
    }
    for (size_t i = 0; i < symbol_count; i++) {
        if (c->symbols[i] < MLY_NO_SYMBOL || c->symbols[i] >= (int32_t)s->frame.id_count) {
            return corrupt(err, "the symbol of a byte");
        }
    }
    uint32_t worst = 0;
    for (size_t i = 0; c->merges != NULL && i <= c->merge_mask; i++) {
        const uint32_t id = c->merges[i].right == MLY_MERGE_EMPTY ? 0 : c->merges[i].id;
        worst = id > worst ? id : worst;
    }
    if (worst >= s->frame.id_count) return corrupt(err, "a merge makes no piece");
    if (s->model == MLY_MODEL_WORDPIECE && s->unk_id < 0) return corrupt(err, "no unknown piece");
    return MLY_OK;
}

enum mly_err mly_compiled_open(struct mly_str bytes, struct mly_compiled *out,
                               struct mly_error *err)
{
    struct mly_compiled c = {0};
    size_t count = 0, step_count = 0, symbol_count = 0, merge_count = 0, text_bytes = 0;
    MLY_TRY(check_header(bytes, err));
    c.settings = section(bytes, MLY_SECTION_SETTINGS, sizeof(*c.settings), &count);
    if (count != 1) return corrupt(err, "the settings are missing");
    c.texts.data = section(bytes, MLY_SECTION_TEXTS, 1, &text_bytes);
    c.texts.bytes = text_bytes;
    if (c.texts.data == NULL) c.texts.data = "";
    c.steps = section(bytes, MLY_SECTION_STEPS, sizeof(c.steps[0]), &step_count);
    c.scores = section(bytes, MLY_SECTION_SCORES, sizeof(c.scores[0]), &c.score_count);
    c.symbols = section(bytes, MLY_SECTION_SYMBOLS, sizeof(c.symbols[0]), &symbol_count);
    c.added = section(bytes, MLY_SECTION_ADDED, sizeof(c.added[0]), &c.added_count);
    c.charsmap = section(bytes, MLY_SECTION_CHARSMAP, sizeof(c.charsmap[0]), &c.charsmap_count);
    c.merges = section(bytes, MLY_SECTION_MERGES, sizeof(c.merges[0]), &merge_count);
    if ((merge_count & (merge_count - 1)) != 0) return corrupt(err, "the number of merges");
    c.merge_mask = merge_count > 0 ? merge_count - 1 : 0;
    MLY_TRY(check_settings(&c, err));
    MLY_TRY(check_steps(&c, step_count, err));
    const struct mly_settings *s = c.settings;
    MLY_TRY(check_added(&c, err));
    const uint32_t added = (uint32_t)c.added_count;
    uint32_t ids = s->frame.id_count;
    if (s->model == MLY_MODEL_UNIGRAM && c.score_count < ids) ids = (uint32_t)c.score_count;
    MLY_TRY(take_cells(bytes, MLY_SECTION_CELLS, s->root_base, ids,
                       s->model == MLY_MODEL_BPE ? (uint32_t)MLY_CELL_WHOLE - 1 : UINT32_MAX,
                       &c.cells, err));
    MLY_TRY(take_cells(bytes, MLY_SECTION_RAW, s->raw_base, added, UINT32_MAX, &c.raw, err));
    MLY_TRY(
        take_cells(bytes, MLY_SECTION_NORMAL, s->normal_base, added, UINT32_MAX, &c.normal, err));
    if (added == 0 && (c.raw.cell_count > 0 || c.normal.cell_count > 0)) {
        return corrupt(err, "added tokens are missing");
    }
    MLY_TRY(check_model(&c, symbol_count, err));
    MLY_TRY(check_symbols(&c, symbol_count, merge_count, err));
    *out = c;
    return MLY_OK;
}

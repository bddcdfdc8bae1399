/* In: the merges of a BPE. Out: a hash table of pairs, and a mark on each piece that its own bytes
 * merge into. */
#include "token/compile_int.h"

#define MERGES_MAX ((size_t)1 << 24)
#define PROBES_MAX 64 /* as bpe.c looks */
/* At half its slots taken nearly every table does; merges that collide in far larger ones were made
 * to. */
#define GROWTH_MAX 16

static bool put_merge(struct mly_draft *draft, const struct mly_merge *merge)
{
    const size_t mask = draft->merge_slots - 1;
    size_t slot = mly_merge_slot(merge->left, merge->right);
    for (int i = 0; i < PROBES_MAX; i++, slot++) {
        struct mly_merge *here = &draft->merges[slot & mask];
        const bool same = here->left == merge->left && here->right == merge->right;
        if (here->right != MLY_MERGE_EMPTY && !same) continue;
        *here = *merge; /* of a pair that stands twice, the last one counts */
        return true;
    }
    return false;
}

/* False where the table is too small. */
static bool fill_table(struct mly_draft *draft, const struct mly_merge *list, size_t count)
{
    for (size_t i = 0; i < draft->merge_slots; i++) {
        draft->merges[i] = (struct mly_merge){.right = MLY_MERGE_EMPTY};
    }
    for (size_t i = 0; i < count; i++) {
        if (!put_merge(draft, &list[i])) return false;
    }
    return true;
}

static enum mly_err build_table(struct mly_draft *draft, const struct mly_merge *list, size_t count,
                                struct mly_error *err)
{
    for (draft->merge_slots = 256; draft->merge_slots < 2 * count;) {
        draft->merge_slots *= 2;
    }
    const size_t most = draft->merge_slots * GROWTH_MAX;
    for (;; draft->merge_slots *= 2) {
        mly_mem_free(draft->mem, draft->merges);
        draft->merges = mly_mem_array(draft->mem, draft->merge_slots, sizeof(draft->merges[0]));
        if (draft->merges == NULL) {
            return mly_fail_nomem(err, draft->merge_slots * sizeof(draft->merges[0]));
        }
        if (fill_table(draft, list, count)) return MLY_OK;
        if (draft->merge_slots >= most) {
            return mly_fail(err, MLY_ERR_LIMIT, "tokenizer.json: merges fit no table");
        }
    }
}

/* "a b", or ["a", "b"]. */
static bool read_pair(const json_t *item, struct mly_str *left, struct mly_str *right)
{
    if (json_is_array(item) && json_array_size(item) == 2) {
        *left = mly_str_of(json_string_value(json_array_get(item, 0)));
        *right = mly_str_of(json_string_value(json_array_get(item, 1)));
        return left->data != NULL && right->data != NULL;
    }
    const char *text = json_string_value(item);
    const char *space = text != NULL ? strchr(text, ' ') : NULL;
    if (space == NULL || strchr(space + 1, ' ') != NULL) return false;
    *left = (struct mly_str){text, (size_t)(space - text)};
    *right = mly_str_of(space + 1);
    return true;
}

static enum mly_err find_ids(const struct mly_draft *draft, struct mly_str left,
                             struct mly_str right, struct mly_bytes *text, struct mly_merge *out,
                             struct mly_error *err)
{
    int64_t ids[3];
    const struct mly_str parts[3][2] = {{left, MLY_STR("")}, {right, MLY_STR("")}, {left, right}};
    for (size_t i = 0; i < 3; i++) {
        text->bytes = 0;
        MLY_TRY(mly_bytes_append(text, parts[i][0].data, parts[i][0].bytes, err));
        MLY_TRY(mly_bytes_append(text, parts[i][1].data, parts[i][1].bytes, err));
        MLY_TRY(mly_bytes_append(text, "", 1, err));
        ids[i] = mly_compile_id(draft, (const char *)text->data);
        if (ids[i] < 0) {
            return mly_fail(err, MLY_ERR_CORRUPT,
                            "tokenizer.json: merges has \"%.40s\", which is no piece",
                            (const char *)text->data);
        }
    }
    out->left = (uint32_t)ids[0];
    out->right = (uint32_t)ids[1];
    out->id = (uint32_t)ids[2];
    return MLY_OK;
}

static enum mly_err read_merges(struct mly_draft *draft, const json_t *list,
                                struct mly_merge *merges, struct mly_error *err)
{
    struct mly_bytes text;
    mly_bytes_init(&text, draft->mem, UINT32_MAX / 2);
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < json_array_size(list) && rc == MLY_OK; i++) {
        struct mly_str left, right;
        if (!read_pair(json_array_get(list, i), &left, &right)) {
            rc = mly_fail(err, MLY_ERR_CORRUPT, "tokenizer.json: model.merges[%zu] is no pair", i);
            break;
        }
        merges[i].rank = (uint32_t)i;
        rc = find_ids(draft, left, right, &text, &merges[i], err);
    }
    mly_bytes_deinit(&text);
    return rc;
}

/* ---- pieces that are what their bytes merge into ---- */

struct walk {
    struct mly_draft *draft;
    struct mly_compiled view;
    struct mly_scratch scratch;
    uint8_t *bytes; /* of the node at hand */
    size_t capacity;
};

static enum mly_err mark_node(struct walk *walk, uint32_t base, size_t depth, struct mly_error *err)
{
    if (depth >= walk->capacity || base == 0) return MLY_OK;
    for (unsigned byte = 1; byte < 256; byte++) {
        struct mly_trie_cell *cell = &walk->draft->cells.cells[base ^ byte];
        if ((cell->base_label & 0xFFu) != byte) continue;
        walk->bytes[depth] = (uint8_t)byte;
        if (cell->id >= 0) {
            size_t count = 0, left = 0;
            int32_t id = -1;
            MLY_TRY(
                mly_bpe_merge(&walk->view, &walk->scratch, walk->bytes, depth + 1, &count, err));
            for (size_t i = 0; i < count; i++) {
                if (walk->scratch.symbols[i].bytes == 0) continue;
                left++;
                id = walk->scratch.symbols[i].id;
            }
            if (left == 1 && id == cell->id) cell->id |= MLY_CELL_WHOLE;
        }
        MLY_TRY(mark_node(walk, cell->base_label >> 8, depth + 1, err));
    }
    return MLY_OK;
}

/* Longer ones are merged when they come. */
#define MARKED_BYTES 64

static enum mly_err mark_whole(struct mly_draft *draft, struct mly_error *err)
{
    uint8_t bytes[MARKED_BYTES];
    struct walk walk = {.draft = draft,
                        .view = mly_compile_view(draft),
                        .scratch = {.mem = draft->mem},
                        .bytes = bytes,
                        .capacity = MARKED_BYTES};
    const enum mly_err rc = mark_node(&walk, draft->cells.root_base, 0, err);
    mly_mem_free(draft->mem, walk.scratch.symbols);
    mly_mem_free(draft->mem, walk.scratch.heap);
    return rc;
}

enum mly_err mly_compile_merges(struct mly_draft *draft, const json_t *model, struct mly_error *err)
{
    const json_t *list = json_object_get(model, "merges");
    const size_t count = json_array_size(list);
    if (!json_is_array(list) || count > MERGES_MAX) {
        return mly_compile_refuse("model", "merges", list, err);
    }
    struct mly_merge *merges = mly_mem_array(draft->mem, count + 1, sizeof(merges[0]));
    if (merges == NULL) return mly_fail_nomem(err, count * sizeof(merges[0]));
    enum mly_err rc = read_merges(draft, list, merges, err);
    if (rc == MLY_OK) rc = build_table(draft, merges, count, err);
    if (rc == MLY_OK) rc = mark_whole(draft, err);
    mly_mem_free(draft->mem, merges);
    return rc;
}

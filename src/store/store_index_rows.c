/* Vectors for whoever makes an index of them.
 *
 * In: parts of a view. Out: rows as they lie in the data files, and which of them have none. */
#include "store/store_index_int.h"

#include <string.h>

/* Rows without vectors that are given at once. */
#define EMPTY_ROWS ((size_t)64)

enum mly_err mly_store_vectors_init(struct mly_store_vectors *vectors, struct mly_store *store,
                                    const struct mly_store_view *view, struct mly_error *err)
{
    *vectors = (struct mly_store_vectors){.env = store->env, .mem = store->mem, .view = view};
    vectors->parts = mly_mem_array(store->mem, view->part_count + 1, sizeof(vectors->parts[0]));
    if (vectors->parts == NULL) {
        return mly_fail_nomem(err, view->part_count * sizeof(vectors->parts[0]));
    }
    return MLY_OK;
}

void mly_store_vectors_deinit(struct mly_store_vectors *vectors)
{
    if (vectors->mem == NULL) return;
    mly_mem_free(vectors->mem, vectors->parts);
    mly_mem_free(vectors->mem, vectors->none);
    mly_mem_free(vectors->mem, vectors->zeros);
}

static enum mly_err give_nothing(struct mly_store_vectors *vectors, size_t count,
                                 struct mly_vindex_rows *out, struct mly_error *err)
{
    if (vectors->zeros == NULL) {
        vectors->zeros =
            mly_mem_array(vectors->mem, EMPTY_ROWS * vectors->view->dim, sizeof(float));
        if (vectors->zeros == NULL) {
            return mly_fail_nomem(err, EMPTY_ROWS * vectors->view->dim * sizeof(float));
        }
    }
    static const uint8_t all[EMPTY_ROWS / 8] = {255, 255, 255, 255, 255, 255, 255, 255};
    *out = (struct mly_vindex_rows){vectors->zeros, all, count < EMPTY_ROWS ? count : EMPTY_ROWS};
    return MLY_OK;
}

/* The bits of rows without a vector, the first of them row i of the page. dead: NULL, or of the
 * part. */
static enum mly_err give_none(struct mly_store_vectors *vectors,
                              const struct mly_lance_vectors *page, size_t i,
                              const struct mly_lance_deletions *dead, const uint8_t **out,
                              struct mly_error *err)
{
    size_t count = page->row_count - i;
    size_t bytes = count / 8 + 1;
    if (bytes > vectors->none_bytes) {
        mly_mem_free(vectors->mem, vectors->none);
        vectors->none_bytes = 0;
        vectors->none = mly_mem_alloc(vectors->mem, bytes);
        if (vectors->none == NULL) return mly_fail_nomem(err, bytes);
        vectors->none_bytes = bytes;
    }
    memset(vectors->none, 0, bytes);
    for (size_t row = 0; row < count; row++) {
        const size_t at = i + row;
        bool is_none = page->valid != NULL && (page->valid[at >> 3] >> (at & 7) & 1) == 0;
        is_none = is_none || (dead != NULL && mly_lance_deletions_has(dead, page->first_row + at));
        vectors->none[row >> 3] = (uint8_t)(vectors->none[row >> 3] | is_none << (row & 7));
    }
    *out = vectors->none;
    return MLY_OK;
}

enum mly_err mly_store_vectors_give(void *context, size_t file_i, uint32_t row_first,
                                    struct mly_vindex_rows *out, struct mly_error *err)
{
    struct mly_store_vectors *vectors = context;
    const struct mly_store_part *part = vectors->parts[file_i];
    const struct mly_lance_fragment *data = part->fragment->data;
    const size_t field = vectors->view->fields[MLY_CHUNK_VECTOR];
    const struct mly_lance_deletions *dead =
        vectors->without_dead && part->dead != NULL ? &part->dead->set : NULL;
    struct mly_lance_vectors page;
    mly_maps_trim(vectors->env->maps);
    MLY_TRY(mly_lance_get_vectors(data, field, row_first, &page, err));
    size_t i = (size_t)(row_first - page.first_row);
    size_t count = page.row_count - i;
    if (page.values == NULL) return give_nothing(vectors, count, out, err);
    MLY_TRY(mly_lance_check_vectors(data, field, row_first, count, err));
    *out = (struct mly_vindex_rows){page.values + i * page.dim, NULL, count};
    if (page.valid == NULL && dead == NULL) return MLY_OK;
    return give_none(vectors, &page, i, dead, &out->none, err);
}

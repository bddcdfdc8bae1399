/* Selections: searches among some of the rows.
 *
 * In: for each part the rows that are allowed and those that are dead. Out: one bitmap of the rows
 * that pass, and how many they are. Few of them all go into the pool, and no cell is looked at. */
#include "index/vindex_room.h"

#include <math.h>
#include <string.h>

/* Nanoseconds, measured (a million vectors of 384, AVX-512; the ratios matter): for a row by its
 * record, for the row numbers of a block of codes, for its codes, for a cell besides. */
#define RECORD_COST 55.0f
#define NUMBERS_COST 12.0f
#define CODES_COST 80.0f
#define CELL_COST 60.0f
/* So few rows are never worth a look at cells, which may miss some. */
#define FEW_ROWS 4096
/* Ten times fewer rows: 2.4 times as many cells until the nearest are found. */
#define CELLS_EXPONENT (-0.38f)

static uint64_t word_at(const uint8_t *bits, size_t bytes, size_t at, uint64_t none)
{
    uint64_t word = 0;
    if (bits == NULL) return none;
    memcpy(&word, bits + at, bytes - at < sizeof(word) ? bytes - at : sizeof(word));
    return word;
}

/* The allowed rows of a view that are not dead, as bits; returns how many they are. */
static uint64_t pass(const struct vindex_view *view, uint32_t row_count, uint8_t *out)
{
    size_t bytes = (row_count + 7) / 8;
    uint64_t count = 0;
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        if (view->part != NULL) {
            word =
                word_at(view->allowed, bytes, at, UINT64_MAX) & ~word_at(view->dead, bytes, at, 0);
        }
        if (row_count - 8 * at < 64) word &= (UINT64_C(1) << (row_count % 64)) - 1;
        memcpy(out + at, &word, sizeof(word));
        count += vindex_count_bits(word);
    }
    return count;
}

static uint32_t rows_of(const struct mly_vindex *segment, const struct vindex_view *view)
{
    uint32_t left = segment->files[view->file_i].row_count - view->first_row;
    return left < VINDEX_BLOCK_ROWS ? left : VINDEX_BLOCK_ROWS;
}

static size_t words_of(const struct mly_vindex *segment, const struct vindex_view *view)
{
    return (rows_of(segment, view) + 63) / 64;
}

/* What the caller counted and has no dead rows is taken as it is. */
static bool is_ready(const struct vindex_view *view)
{
    return view->part != NULL && view->allowed != NULL && view->dead == NULL &&
           view->part->allowed_count > 0;
}

enum mly_err mly_vindex_select(struct mly_vindex_room *room, struct mly_error *err)
{
    size_t words = 0, used = 0, count = 0;
    room->pass_count = 0;
    room->passed = room->pairs = room->pairs_most = 0;
    room->sifted_i = SIZE_MAX;
    for (size_t i = 0; i < room->source_count; i++) {
        const struct mly_vindex *segment = room->sources[i].segment;
        const struct vindex_view *views = &room->views[room->first_views[i]];
        for (size_t b = 0; b < segment->head.block_count; b++)
            words += is_ready(&views[b]) ? 0 : words_of(segment, &views[b]);
        count += segment->head.block_count;
    }
    void *passing = room->passing, *bits = room->bits;
    MLY_TRY(mly_vindex_grow(room, &bits, &room->bits_room, count, sizeof(room->bits[0]), err));
    room->bits = bits;
    MLY_TRY(
        mly_vindex_grow(room, &passing, &room->passing_room, words, sizeof(room->passing[0]), err));
    room->passing = passing;
    for (size_t i = 0; i < room->source_count; i++) {
        const struct mly_vindex *segment = room->sources[i].segment;
        for (size_t b = 0; b < segment->head.block_count; b++) {
            struct vindex_view *view = &room->views[room->first_views[i] + b];
            if (is_ready(view)) {
                view->passing = view->allowed;
                if (view->first_row == 0) room->pass_count += view->part->allowed_count;
            } else {
                uint8_t *made = (uint8_t *)(room->passing + used);
                view->passing = made;
                room->pass_count += pass(view, rows_of(segment, view), made);
                used += words_of(segment, view);
            }
            room->bits[room->first_views[i] + b] = view->passing;
        }
    }
    return MLY_OK;
}

/* ---- few rows ---- */

static uint64_t postings_of(const struct mly_vindex_room *room)
{
    uint64_t count = 0;
    for (size_t i = 0; i < room->source_count; i++)
        count += room->sources[i].segment->head.posting_count;
    return count;
}

float mly_vindex_cells_until(const struct mly_vindex_room *room, const struct vindex_effort *effort,
                             size_t cell_count)
{
    return fminf((float)effort->probes * powf(vindex_share(room), CELLS_EXPONENT),
                 (float)cell_count);
}

bool mly_vindex_is_few(const struct mly_vindex_room *room, const struct vindex_effort *effort,
                       size_t cell_count)
{
    if (room->pass_count <= FEW_ROWS || room->pass_count <= effort->pool) return true;
    float block_count = (float)postings_of(room) / MLY_KERN_BLOCK_CODES / (float)cell_count;
    float read = fminf(1, vindex_share(room) * MLY_KERN_BLOCK_CODES);
    float scan = mly_vindex_cells_until(room, effort, cell_count) *
                 (block_count * (NUMBERS_COST + read * CODES_COST) + CELL_COST);
    return (float)room->pass_count * RECORD_COST <= scan;
}

static enum mly_err take_rows(struct mly_vindex_room *room, uint32_t source_i, uint32_t block_i,
                              struct mly_error *err)
{
    const struct mly_vindex *segment = room->sources[source_i].segment;
    const struct vindex_view *view = &room->views[room->first_views[source_i] + block_i];
    uint32_t rows = rows_of(segment, view);
    for (uint32_t row = 0; row < rows; row += 64) {
        uint64_t word = word_at(view->passing, (rows + 7) / 8, row / 8, 0);
        for (; word != 0; word &= word - 1) {
            uint32_t at = row + (uint32_t)__builtin_ctzll(word);
            if (at >= rows) break;
            if (room->pool_count == room->pool_room) {
                return mly_fail(err, MLY_ERR_INVAL, "more rows are allowed than were counted");
            }
            room->pool[room->pool_count++] =
                (struct vindex_candidate){0, source_i, block_i << 16 | at};
        }
    }
    return MLY_OK;
}

enum mly_err mly_vindex_take_all(struct mly_vindex_room *room, struct mly_error *err)
{
    void *pool = room->pool;
    MLY_TRY(mly_vindex_grow(room, &pool, &room->pool_room, (size_t)room->pass_count,
                            sizeof(room->pool[0]), err));
    room->pool = pool;
    for (uint32_t i = 0; i < room->source_count; i++) {
        for (uint32_t b = 0; b < room->sources[i].segment->head.block_count; b++)
            MLY_TRY(take_rows(room, i, b, err));
    }
    return MLY_OK;
}

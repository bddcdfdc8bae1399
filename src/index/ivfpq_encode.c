/* Codes, partition by partition.
 *
 * In: a trained index and its rows once more. Out: rows and codes of each partition. As many
 * partitions at a time as fit into a bounded buffer; for each lot the rows are walked through, and
 * those that are in it are coded where they lie. */
#include "index/ivfpq_int.h"

#include <string.h>

#define LOT_BYTES ((uint64_t)64 << 20)

struct lot {
    struct mly_ivfpq *ivfpq;
    struct ivfpq_ranker ranker;
    size_t first, end; /* partitions */
    uint64_t *next;    /* [end - first]: the place of its next row */
    uint64_t *rows;    /* by place */
    uint8_t *codes;    /* u8[places][sub_count] */
    uint8_t *turned;   /* u8[sub_count][rows of one partition] */
    float *residuals;  /* f32[workers][IVFPQ_PART_ROWS][dim] */
    /* the tile: rows of it that are in the lot */
    const struct ivfpq_tile *tile;
    size_t count;
    uint32_t wanted[IVFPQ_TILE_ROWS];
    uint64_t places[IVFPQ_TILE_ROWS];
};

static uint64_t row_bytes(const struct mly_ivfpq *ivfpq)
{
    return sizeof(uint64_t) + 2 * ivfpq->sub_count;
}

static size_t residual_floats(const struct mly_ivfpq *ivfpq)
{
    return IVFPQ_PART_ROWS * ivfpq->dim;
}

static void code_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct lot *lot = context;
    const struct mly_ivfpq *ivfpq = lot->ivfpq;
    const size_t first = part_i * IVFPQ_PART_ROWS, left = lot->count - first;
    const size_t count = left < IVFPQ_PART_ROWS ? left : IVFPQ_PART_ROWS;
    float *residuals = lot->residuals + worker_i * residual_floats(ivfpq);
    uint8_t nearest[IVFPQ_PART_ROWS];
    for (size_t i = 0; i < count; i++) {
        const size_t row = lot->wanted[first + i];
        const uint32_t partition = ivfpq->partitions[lot->tile->index + row];
        const float *centroid = ivfpq->centroids + partition * ivfpq->dim;
        float *residual = residuals + i * ivfpq->dim;
        (void)mly_ivfpq_unit(ivfpq, lot->tile, row,
                             residual); /* it has one: it is in a partition */
        for (size_t d = 0; d < ivfpq->dim; d++)
            residual[d] -= centroid[d];
    }
    for (size_t sub_i = 0; sub_i < ivfpq->sub_count; sub_i++) {
        mly_ivfpq_nearest(&lot->ranker, ivfpq, sub_i, residuals, count, nearest);
        for (size_t i = 0; i < count; i++)
            lot->codes[lot->places[first + i] * ivfpq->sub_count + sub_i] = nearest[i];
    }
}

static enum mly_err code_tile(void *context, const struct ivfpq_tile *tile, struct mly_error *err)
{
    struct lot *lot = context;
    const struct mly_ivfpq *ivfpq = lot->ivfpq;
    (void)err;
    lot->tile = tile;
    lot->count = 0;
    for (size_t i = 0; i < tile->count; i++) {
        const uint32_t partition = ivfpq->partitions[tile->index + i];
        if (partition == IVFPQ_NONE || partition < lot->first || partition >= lot->end) continue;
        const uint64_t place = lot->next[partition - lot->first]++;
        lot->rows[place] = (uint64_t)tile->file_i << 32 | (tile->row + i);
        lot->wanted[lot->count] = (uint32_t)i;
        lot->places[lot->count++] = place;
    }
    mly_ivfpq_run(ivfpq, (lot->count + IVFPQ_PART_ROWS - 1) / IVFPQ_PART_ROWS, code_part, lot);
    return MLY_OK;
}

/* The rows, and the bytes of the largest partition's codes. */
static uint64_t measure(const struct lot *lot, uint64_t *largest)
{
    uint64_t count = 0;
    *largest = 0;
    for (size_t p = lot->first; p < lot->end; p++) {
        const uint64_t rows = lot->ivfpq->partition_rows[p];
        count += rows;
        if (rows > *largest) *largest = rows;
    }
    return count;
}

static enum mly_err put_lot(const struct lot *lot, mly_ivfpq_put_fn put, void *context,
                            struct mly_error *err)
{
    const struct mly_ivfpq *ivfpq = lot->ivfpq;
    uint64_t at = 0;
    for (size_t p = lot->first; p < lot->end; p++) {
        const size_t count = (size_t)ivfpq->partition_rows[p];
        const uint8_t *codes = lot->codes + at * ivfpq->sub_count;
        for (size_t i = 0; i < count; i++) {
            for (size_t sub_i = 0; sub_i < ivfpq->sub_count; sub_i++)
                lot->turned[sub_i * count + i] = codes[i * ivfpq->sub_count + sub_i];
        }
        MLY_TRY(put(context, p, lot->rows + at, lot->turned, count, err));
        at += count;
    }
    return MLY_OK;
}

static enum mly_err encode_lot(struct lot *lot, double done_from, double done_to,
                               mly_ivfpq_put_fn put, void *context, struct mly_error *err)
{
    struct mly_ivfpq *ivfpq = lot->ivfpq;
    struct mly_mem *mem = ivfpq->mem;
    uint64_t largest, at = 0;
    const uint64_t count = measure(lot, &largest);
    enum mly_err rc = MLY_OK;
    lot->next = mly_mem_array(mem, lot->end - lot->first, sizeof(lot->next[0]));
    lot->rows = mly_mem_array(mem, (size_t)count + 1, sizeof(lot->rows[0]));
    lot->codes = mly_mem_array(mem, (size_t)count + 1, ivfpq->sub_count);
    lot->turned = mly_mem_array(mem, (size_t)largest + 1, ivfpq->sub_count);
    if (lot->next == NULL || lot->rows == NULL || lot->codes == NULL || lot->turned == NULL) {
        rc = mly_fail_nomem(err, (size_t)(count * row_bytes(ivfpq)));
        goto done;
    }
    for (size_t p = lot->first; p < lot->end; p++) {
        lot->next[p - lot->first] = at;
        at += ivfpq->partition_rows[p];
    }
    rc = mly_ivfpq_each_tile(ivfpq, done_from, done_to, code_tile, lot, err);
    if (rc == MLY_OK) rc = put_lot(lot, put, context, err);
done:
    mly_mem_free(mem, lot->next);
    mly_mem_free(mem, lot->rows);
    mly_mem_free(mem, lot->codes);
    mly_mem_free(mem, lot->turned);
    return rc;
}

static enum mly_err encode_lots(struct lot *lot, mly_ivfpq_put_fn put, void *context,
                                struct mly_error *err)
{
    const struct mly_ivfpq *ivfpq = lot->ivfpq;
    const double whole = 1 - IVFPQ_DONE_CODEBOOK;
    uint64_t done_rows = 0;
    while (lot->end < ivfpq->partition_count) {
        uint64_t rows = 0;
        lot->first = lot->end;
        do {
            rows += ivfpq->partition_rows[lot->end++];
        } while (lot->end < ivfpq->partition_count &&
                 (rows + ivfpq->partition_rows[lot->end]) * row_bytes(ivfpq) <= LOT_BYTES);
        const double from =
            IVFPQ_DONE_CODEBOOK + whole * (double)done_rows / (double)ivfpq->row_count;
        done_rows += rows;
        const double to =
            IVFPQ_DONE_CODEBOOK + whole * (double)done_rows / (double)ivfpq->row_count;
        MLY_TRY(encode_lot(lot, from, to, put, context, err));
    }
    return MLY_OK;
}

enum mly_err mly_ivfpq_encode(struct mly_ivfpq *ivfpq, mly_ivfpq_put_fn put, void *context,
                              struct mly_error *err)
{
    struct mly_mem *mem = ivfpq->mem;
    const size_t floats = ivfpq_workers(ivfpq) * residual_floats(ivfpq);
    struct lot *lot = mly_mem_array(mem, 1, sizeof(*lot));
    if (lot == NULL) return mly_fail_nomem(err, sizeof(*lot));
    lot->ivfpq = ivfpq;
    enum mly_err rc = mly_ivfpq_ranker_init(&lot->ranker, ivfpq, err);
    if (rc == MLY_OK) {
        lot->residuals = mly_mem_array(mem, floats, sizeof(float));
        if (lot->residuals == NULL) rc = mly_fail_nomem(err, floats * sizeof(float));
    }
    for (size_t sub_i = 0; rc == MLY_OK && sub_i < ivfpq->sub_count; sub_i++)
        mly_ivfpq_ranker_set(&lot->ranker, ivfpq, sub_i);
    if (rc == MLY_OK) rc = encode_lots(lot, put, context, err);
    mly_ivfpq_ranker_deinit(&lot->ranker);
    mly_mem_free(mem, lot->residuals);
    mly_mem_free(mem, lot);
    return rc;
}

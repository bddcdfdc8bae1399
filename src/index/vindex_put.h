/* Putting rows into the cells of a draft, and their records into files: what building and folding
 * share. */
#ifndef MLY_INDEX_VINDEX_PUT_H
#define MLY_INDEX_VINDEX_PUT_H

#include "index/vindex_draft.h"

struct vindex_tile_row {
    uint32_t places[2];
    bool has_record, is_in;
};

struct vindex_put {
    const struct mly_vindex_maker *maker;
    struct vindex_draft *draft;
    struct mly_kern_rotation rotation;
    struct mly_assigner *assigner;
    float *centroids; /* f32[cell_count][width]: what the codes count from */
    mly_crc32c_fn crc;
    struct vindex_records_maker records;
    double done_from, done_to; /* of the pulse */
    uint64_t rows_done, rows_all;
    /* the tile */
    const float *values;
    const uint8_t *none, *covered;
    size_t none_first, covered_first, row_count;
    struct vindex_tile_row *rows;
    uint32_t (*cells)[2];
    float *turned;         /* f32[tile rows][width] */
    uint8_t *tile_records; /* u8[tile rows][record bytes] */
};

/* draft has its centroids and cells. deinit is safe after a failure, and twice. */
MLY_MUST_USE enum mly_err mly_vindex_put_init(struct vindex_put *put,
                                              const struct mly_vindex_maker *maker,
                                              struct vindex_draft *draft, struct mly_error *err);
void mly_vindex_put_deinit(struct vindex_put *put);
/* Puts the rows of a file that covered (a bitmap, or NULL) does not have, and makes its records
 * where there are none. */
MLY_MUST_USE enum mly_err mly_vindex_put_file(struct vindex_put *put, size_t file_i,
                                              const uint8_t *covered, struct mly_error *err);
/* The record of a row, with its sum, and the row turned; zeros and false where x is NULL, or has
 * numbers that are not finite. */
bool mly_vindex_make_record(const struct mly_kern *kern, const struct mly_kern_rotation *rotation,
                            mly_crc32c_fn crc, const float *x, float *turned, uint8_t *record);
/* The code of x f32[width] beside a cell's centroid, into its place there. */
void mly_vindex_put_code(const struct vindex_put *put, const float *x, uint32_t cell_i,
                         uint32_t place);

/* Rows of a file from row on, as many as the caller gives; checked. */
MLY_MUST_USE enum mly_err mly_vindex_get_rows(const struct mly_vindex_maker *maker, size_t file_i,
                                              const struct mly_vindex_file *file, uint32_t row,
                                              struct mly_vindex_rows *out, struct mly_error *err);
/* The folders below maker->folder. */
MLY_MUST_USE enum mly_err mly_vindex_make_folders(const struct mly_vindex_maker *maker,
                                                  struct mly_error *err);

static inline bool vindex_is_set(const uint8_t *bits, size_t i)
{
    return bits != NULL && (bits[i / 8] >> (i % 8) & 1) != 0;
}

#endif

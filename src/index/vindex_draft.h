/* A segment that is being made: files, centroids, and the postings of each cell in memory.
 *
 * Owns     everything in it; deinit frees it, also one that is half made.
 */
#ifndef MLY_INDEX_VINDEX_DRAFT_H
#define MLY_INDEX_VINDEX_DRAFT_H

#include "index/vindex_int.h"

/* blocks: as the file has them. */
struct vindex_draft_cell {
    uint8_t *blocks;
    uint32_t count, capacity; /* capacity: a multiple of MLY_KERN_BLOCK_CODES */
};

struct vindex_draft {
    struct mly_mem *mem;
    enum mly_vindex_metric metric;
    size_t dim, width;
    const struct mly_vindex_file *files; /* borrowed */
    size_t file_count;
    uint32_t *first_blocks; /* u32[file_count]: its first block */
    uint32_t block_count;
    struct vindex_draft_cell *cells;
    size_t cell_count; /* places of centroids, whole panels */
    struct mly_cells centroids;
    float unit; /* as the head's */
    uint64_t row_count, vector_count, posting_count;
};

/* Checks the files. centroids and then cells come with mly_vindex_draft_cells. */
MLY_MUST_USE enum mly_err mly_vindex_draft_init(struct vindex_draft *draft, struct mly_mem *mem,
                                                const struct mly_vindex_maker *maker,
                                                const struct mly_vindex_file *files,
                                                size_t file_count, struct mly_error *err);
void mly_vindex_draft_deinit(struct vindex_draft *draft);
/* Cells for all places of draft->centroids; those that are there stay. */
MLY_MUST_USE enum mly_err mly_vindex_draft_cells(struct vindex_draft *draft, struct mly_error *err);

static inline uint32_t vindex_draft_slot(const struct vindex_draft *draft, size_t file_i,
                                         uint32_t row)
{
    return (draft->first_blocks[file_i] + (row >> 16)) << 16 | (row & 0xFFFF);
}

/* Makes a place for one more code in a cell: *place is where; the code itself is still none. */
MLY_MUST_USE enum mly_err mly_vindex_draft_add(struct vindex_draft *draft, uint32_t cell_i,
                                               uint32_t slot, uint32_t *place,
                                               struct mly_error *err);

uint32_t mly_vindex_draft_slot_at(const struct vindex_draft *draft, uint32_t cell_i,
                                  uint32_t place);
/* Copies the code at from (a block of a cell of this width) into a place of a cell. */
void mly_vindex_draft_copy(struct vindex_draft *draft, uint32_t cell_i, uint32_t place,
                           const uint8_t *from_block, uint32_t from_place);
/* Leaves the first count codes of a cell. */
void mly_vindex_draft_cut(struct vindex_draft *draft, uint32_t cell_i, uint32_t count);
/* Moves the code and the slot of place from to place to, in one cell. */
void mly_vindex_draft_shift(struct vindex_draft *draft, uint32_t cell_i, uint32_t from,
                            uint32_t to);

/* Writes the segment; name_out is its name. */
MLY_MUST_USE enum mly_err mly_vindex_draft_write(const struct vindex_draft *draft,
                                                 const struct mly_env *env, const char *folder,
                                                 char name_out[MLY_VINDEX_SEGMENT_NAME_BYTES],
                                                 struct mly_error *err);

/* ---- records ---- */

/* A file of records on its way; file.fd -1: none is open. */
struct vindex_records_maker {
    const struct mly_env *env;
    const char *folder;
    struct mly_vindex_file of;
    struct mly_file file;
    uint64_t at;
    char temporary[MLY_PATH_BYTES_MAX];
};
/* file is what the records are of; file.fd stays -1 where there are right ones already. */
MLY_MUST_USE enum mly_err mly_vindex_records_begin(struct vindex_records_maker *maker,
                                                   const struct mly_env *env, const char *folder,
                                                   struct mly_vindex_file of, uint32_t dim,
                                                   struct mly_error *err);
/* Records with their sums, one row after the other. */
MLY_MUST_USE enum mly_err mly_vindex_records_add(struct vindex_records_maker *maker,
                                                 const uint8_t *records, size_t bytes,
                                                 struct mly_error *err);
/* Gives it its name. */
MLY_MUST_USE enum mly_err mly_vindex_records_end(struct vindex_records_maker *maker,
                                                 struct mly_error *err);
/* Throws away what was not ended; may be called at any time. */
void mly_vindex_records_drop(struct vindex_records_maker *maker);

#endif

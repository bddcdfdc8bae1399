/* What the two halves of folding share: taking over (vindex_fold.c), mending cells
 * (vindex_mend.c). */
#ifndef MLY_INDEX_VINDEX_FOLD_H
#define MLY_INDEX_VINDEX_FOLD_H

#include "index/vindex_put.h"

/* Where the rows of a file of the old segment are now; to_i SIZE_MAX: nowhere. */
struct vindex_route {
    size_t to_i;
    uint32_t to_first;
    const uint8_t *gone;
    uint32_t *gone_before; /* u32[rows / VINDEX_ROUTE_ROWS + 1]: of gone; NULL where gone is */
};
#define VINDEX_ROUTE_ROWS 512

struct vindex_folding {
    const struct mly_vindex_maker *maker;
    const struct mly_vindex_fold *job;
    struct mly_vindex *base; /* the segment whose cells are taken over */
    struct vindex_draft draft;
    struct vindex_put put;
    struct vindex_route *routes;   /* [files of base] */
    uint8_t **covered;             /* bitmap of each file: rows that have codes already */
    struct mly_vindex_move *found; /* moves beside the job's: vindex_moves.c */
    size_t found_count;
    uint64_t *block_rows; /* u64[block_count]: rows of all blocks before it */
};

/* Looks for rows of files that are gone in files that base does not have. */
MLY_MUST_USE enum mly_err mly_vindex_find_moves(struct vindex_folding *folding,
                                                struct mly_error *err);
void mly_vindex_drop_moves(struct vindex_folding *folding);

/* Cuts cells that are much too large, dissolves those that are much too small, and moves rows near
 * them to the cells that are the nearest now. Records of all files are there. */
MLY_MUST_USE enum mly_err mly_vindex_mend(struct vindex_folding *folding, struct mly_error *err);

#endif

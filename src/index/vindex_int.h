/* What the files of index/ share: where things stand in a segment and in a file of records, and an
 * open segment. Numbers are little-endian and read in place, as both of our processors do. */
#ifndef MLY_INDEX_VINDEX_INT_H
#define MLY_INDEX_VINDEX_INT_H

#include "base/limits.h"
#include "index/cells.h"
#include "index/vindex.h"
#include "kern/codes.h"
#include "kern/crc32c.h"

#include <stdatomic.h>

#define VINDEX_MAGIC "MLY-VEC\n"
#define VINDEX_RECORDS_MAGIC "MLY-REC\n"
#define VINDEX_FORMAT 1u
#define VINDEX_HEAD_BYTES ((size_t)4096)
#define VINDEX_RECORDS_HEAD_BYTES ((size_t)512)
/* Places of rows in a segment: block << 16 | row in block. */
#define VINDEX_BLOCK_ROWS ((uint32_t)65536)
#define VINDEX_BLOCKS_MAX ((uint64_t)65535)
#define VINDEX_NO_SLOT UINT32_MAX
#define VINDEX_CELLS_MAX ((uint32_t)1 << 20)
#define VINDEX_NO_CELL UINT32_MAX
/* Cells and tables begin at a multiple of it. */
#define VINDEX_ALIGN ((uint64_t)64)

/* The first bytes of a segment; zeros up to VINDEX_HEAD_BYTES, the last 4 of which are the sum of
 * what is before them. The tables follow it at once: files, names, blocks, cells, centroids. */
struct vindex_head {
    char magic[8];
    uint32_t format, metric, dim, width;
    uint32_t file_count, block_count, cell_count, name_bytes; /* cell_count: whole panels */
    uint64_t row_count, vector_count, posting_count;
    uint64_t files_at, names_at, blocks_at, cells_at, centroids_at, tables_end;
    uint64_t segment_bytes;
    uint32_t tables_sum;
    float unit; /* a power of two: factors are divided by it, offsets by its square */
};

struct vindex_file {
    uint32_t name_at, name_bytes; /* in the names */
    uint32_t row_count, reserved;
};

/* Rows of file file_i from first_row on, VINDEX_BLOCK_ROWS of them or to the file's end. */
struct vindex_block {
    uint32_t file_i, first_row;
};

/* A cell's bytes: blocks of 16 codes (kern/codes.h), u32 slots[16] behind each. Places without a
 * code have VINDEX_NO_SLOT. */
struct vindex_cell {
    uint64_t at;
    uint32_t count, sum;
};

/* The first bytes of a file of records; the last 4 of its head are its sum. Record i follows at
 * VINDEX_RECORDS_HEAD_BYTES + i * (width + 8): s8[width], f32 scale, u32 sum. A row without a
 * vector has scale 0 and zeros. */
struct vindex_records_head {
    char magic[8];
    uint32_t format, dim, width, row_count;
    uint32_t name_bytes;
    char name[MLY_VINDEX_NAME_BYTES_MAX + 1];
};

struct vindex_records {
    struct mly_map map; /* data NULL: there is no such file */
    uint64_t first_bit; /* of its row 0 in the segment's checked_records */
};

struct mly_vindex {
    const struct mly_env *env;
    struct mly_mem *mem;
    const struct mly_kern *kern;
    mly_crc32c_fn crc;
    struct mly_map map;
    struct vindex_head head;
    /* in the map */
    const struct vindex_file *files;
    const char *names;
    const struct vindex_block *blocks;
    const struct vindex_cell *cells;
    struct mly_cells centroids;
    struct vindex_records *records; /* [file_count] */
    _Atomic uint8_t *checked;       /* u8[cell_count]: its sum was right when it was read first */
    _Atomic uint64_t *checked_records; /* bits, for all files: as for cells */
    size_t used_count;                 /* cells that are not empty */
    /* what was measured; samples 0: nothing. Set while others search. */
    _Atomic uint32_t guard_samples, guard_steps[MLY_VINDEX_LEVELS];
    _Atomic uint64_t guard_rows;
    _Atomic float guard_recalls[MLY_VINDEX_LEVELS], guard_measured[MLY_VINDEX_LEVELS];
};

static inline uint64_t vindex_round(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

static inline size_t vindex_record_bytes(size_t width)
{
    return width + 8;
}

/* From one block to the next. */
static inline size_t vindex_stride(size_t width)
{
    return MLY_KERN_BLOCK_BYTES(width) + MLY_KERN_BLOCK_CODES * sizeof(uint32_t);
}

static inline uint64_t vindex_cell_bytes(size_t width, uint64_t count)
{
    return (count + MLY_KERN_BLOCK_CODES - 1) / MLY_KERN_BLOCK_CODES * vindex_stride(width);
}

static inline uint32_t vindex_blocks_of(uint32_t rows)
{
    return (uint32_t)(((uint64_t)rows + VINDEX_BLOCK_ROWS - 1) / VINDEX_BLOCK_ROWS);
}

/* folder/sub/name suffix, or folder/sub where name is NULL. */
MLY_MUST_USE enum mly_err mly_vindex_path(char out[MLY_PATH_BYTES_MAX], const char *folder,
                                          const char *sub, struct mly_str name, const char *suffix,
                                          struct mly_error *err);

/* Opens the records of a file; out stays empty where there are none. CORRUPT where they are not
 * this file's. */
MLY_MUST_USE enum mly_err mly_vindex_records_open(const struct mly_env *env, const char *folder,
                                                  struct mly_vindex_file file, uint32_t dim,
                                                  struct vindex_records *out,
                                                  struct mly_error *err);
/* One whose sum was right when it was read first; NULL where it is wrong, or there are no records.
 */
const uint8_t *mly_vindex_record(const struct mly_vindex *segment, uint32_t file_i, uint32_t row);

/* How many cells so many rows are put into. */
size_t mly_vindex_cells_for(uint64_t row_count);

/* The bytes of a cell, after its sum was compared if it was not yet. */
MLY_MUST_USE enum mly_err mly_vindex_cell(struct mly_vindex *segment, uint32_t cell_i,
                                          const uint8_t **out, struct mly_error *err);

#endif

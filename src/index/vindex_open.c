/* Segments and records, read in place.
 *
 * In: files that we wrote, or what became of them. Out: a handle whose tables are right. A cell's
 * sum is compared when it is read first, and so is a record's. */
#include "index/vindex_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Files of less than this are read: a mapping costs more. */
#define COPY_BELOW_BYTES ((size_t)64 << 10)

enum mly_err mly_vindex_path(char out[MLY_PATH_BYTES_MAX], const char *folder, const char *sub,
                             struct mly_str name, const char *suffix, struct mly_error *err)
{
    int length = name.data == NULL ? snprintf(out, MLY_PATH_BYTES_MAX, "%s/%s", folder, sub)
                                   : snprintf(out, MLY_PATH_BYTES_MAX, "%s/%s/%.*s%s", folder, sub,
                                              (int)name.bytes, name.data, suffix);
    if (length >= 0 && (size_t)length < MLY_PATH_BYTES_MAX) return MLY_OK;
    return mly_fail(err, MLY_ERR_LIMIT, "path of %d bytes, the limit is %zu", length,
                    MLY_PATH_BYTES_MAX - 1);
}

static enum mly_err fail_damaged(const char *what, struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "vector index: %s", what);
}

/* ---- records ---- */

/* Maps the records of a file and asks the disk for their head; an empty map where there are none.
 */
static enum mly_err map_records(const struct mly_env *env, const char *folder, struct mly_str name,
                                struct mly_map *out, struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    struct mly_error missing;
    MLY_TRY(
        mly_vindex_path(path, folder, MLY_VINDEX_RECORDS, name, MLY_VINDEX_RECORDS_SUFFIX, err));
    enum mly_err rc = mly_file_map_or_copy(env, MLY_AT_CWD, path, COPY_BELOW_BYTES, out, &missing);
    if (rc == MLY_ERR_NOTFOUND) return MLY_OK;
    if (rc != MLY_OK) {
        if (err != NULL) *err = missing;
        return rc;
    }
    /* Else looking at the head would read some megabytes behind it. */
    mly_map_advise(out, 0, out->bytes, MLY_ADVICE_RANDOM);
    mly_map_advise(out, 0, VINDEX_RECORDS_HEAD_BYTES, MLY_ADVICE_SOON);
    return MLY_OK;
}

static enum mly_err check_records(const struct mly_map *map, struct mly_vindex_file file,
                                  uint32_t dim, struct mly_error *err)
{
    struct vindex_records_head head;
    uint32_t width = (uint32_t)MLY_KERN_CODE_WIDTH(dim), sum = 0;
    uint64_t bytes = VINDEX_RECORDS_HEAD_BYTES + file.row_count * (uint64_t)(width + 8);
    if (map->bytes != bytes) return fail_damaged("records of another size than their rows", err);
    memcpy(&head, map->data, sizeof(head));
    memcpy(&sum, map->data + VINDEX_RECORDS_HEAD_BYTES - 4, 4);
    if (memcmp(head.magic, VINDEX_RECORDS_MAGIC, 8) != 0 || head.format != VINDEX_FORMAT ||
        head.dim != dim || head.width != width || head.row_count != file.row_count ||
        head.name_bytes != file.name.bytes ||
        memcmp(head.name, file.name.data, file.name.bytes) != 0 ||
        mly_crc32c_pick()(0, map->data, VINDEX_RECORDS_HEAD_BYTES - 4) != sum) {
        return fail_damaged("records of another file", err);
    }
    return MLY_OK;
}

enum mly_err mly_vindex_records_open(const struct mly_env *env, const char *folder,
                                     struct mly_vindex_file file, uint32_t dim,
                                     struct vindex_records *out, struct mly_error *err)
{
    struct mly_map map = {0};
    MLY_TRY(map_records(env, folder, file.name, &map, err));
    enum mly_err rc = map.data == NULL ? MLY_OK : check_records(&map, file, dim, err);
    if (rc != MLY_OK) {
        mly_map_close(&map);
        return rc;
    }
    out->map = map;
    return MLY_OK;
}

static bool record_is_right(const struct mly_vindex *segment, const uint8_t *record)
{
    size_t bytes = vindex_record_bytes(segment->head.width);
    uint32_t sum;
    memcpy(&sum, record + bytes - 4, 4);
    return segment->crc(0, record, bytes - 4) == sum;
}

const uint8_t *mly_vindex_record(const struct mly_vindex *segment, uint32_t file_i, uint32_t row)
{
    const struct vindex_records *records = &segment->records[file_i];
    if (records->map.data == NULL) return NULL;
    const uint8_t *record = records->map.data + VINDEX_RECORDS_HEAD_BYTES +
                            row * vindex_record_bytes(segment->head.width);
    const uint64_t at = records->first_bit + row, bit = UINT64_C(1) << at % 64;
    _Atomic uint64_t *checked = &segment->checked_records[at / 64];
    if ((atomic_load_explicit(checked, memory_order_relaxed) & bit) != 0) return record;
    if (!record_is_right(segment, record)) return NULL;
    atomic_fetch_or_explicit(checked, bit, memory_order_relaxed);
    return record;
}

/* ---- a segment ---- */

/* bytes of count items at at, behind the head and inside the tables? */
static bool is_inside(const struct vindex_head *head, uint64_t at, uint64_t count, uint64_t bytes)
{
    return at >= VINDEX_HEAD_BYTES && at % VINDEX_ALIGN == 0 && at <= head->tables_end &&
           count * bytes <= head->tables_end - at;
}

static enum mly_err read_head(struct mly_vindex *segment, struct mly_error *err)
{
    const struct mly_map *map = &segment->map;
    struct vindex_head *head = &segment->head;
    uint32_t sum;
    if (map->bytes < VINDEX_HEAD_BYTES) return fail_damaged("it has no header", err);
    mly_map_advise(map, 0, map->bytes, MLY_ADVICE_RANDOM);
    memcpy(head, map->data, sizeof(*head));
    memcpy(&sum, map->data + VINDEX_HEAD_BYTES - 4, 4);
    if (memcmp(head->magic, VINDEX_MAGIC, 8) != 0 ||
        segment->crc(0, map->data, VINDEX_HEAD_BYTES - 4) != sum) {
        return fail_damaged("its header is none", err);
    }
    if (head->format != VINDEX_FORMAT || head->metric > MLY_VINDEX_L2 ||
        head->dim < MLY_VINDEX_DIM_MIN || head->dim > MLY_VINDEX_DIM_MAX ||
        head->width != MLY_KERN_CODE_WIDTH(head->dim) ||
        !(head->unit > 0 && isfinite(head->unit))) {
        return fail_damaged("it is of another kind", err);
    }
    if (head->segment_bytes != map->bytes || head->tables_end < VINDEX_HEAD_BYTES ||
        head->tables_end > map->bytes || head->cell_count > VINDEX_CELLS_MAX ||
        head->cell_count % MLY_CELLS_PANEL != 0 || head->block_count > VINDEX_BLOCKS_MAX ||
        head->file_count > head->block_count ||
        !is_inside(head, head->files_at, head->file_count, sizeof(struct vindex_file)) ||
        !is_inside(head, head->names_at, head->name_bytes, 1) ||
        !is_inside(head, head->blocks_at, head->block_count, sizeof(struct vindex_block)) ||
        !is_inside(head, head->cells_at, head->cell_count, sizeof(struct vindex_cell)) ||
        !is_inside(head, head->centroids_at, 1,
                   mly_cells_bytes(head->width, head->cell_count / MLY_CELLS_PANEL))) {
        return fail_damaged("its tables are not inside it", err);
    }
    /* The tables are read as one, not page after page. */
    mly_map_advise(map, 0, (size_t)head->tables_end, MLY_ADVICE_SOON);
    sum = segment->crc(0, map->data + VINDEX_HEAD_BYTES,
                       (size_t)head->tables_end - VINDEX_HEAD_BYTES);
    if (sum != head->tables_sum) return fail_damaged("its tables do not pass their sum", err);
    segment->files = (const void *)(map->data + head->files_at);
    segment->names = (const void *)(map->data + head->names_at);
    segment->blocks = (const void *)(map->data + head->blocks_at);
    segment->cells = (const void *)(map->data + head->cells_at);
    /* A table that is only read: the map is not written through it. */
    mly_cells_view((void *)(uintptr_t)(map->data + head->centroids_at), head->width,
                   head->cell_count / MLY_CELLS_PANEL, head->metric == MLY_VINDEX_COSINE,
                   &segment->centroids);
    return MLY_OK;
}

/* A sum finds what changed; this finds what was never right, so that nothing can lead outside. */
static enum mly_err check_tables(const struct mly_vindex *segment, struct mly_error *err)
{
    const struct vindex_head *head = &segment->head;
    uint32_t block_i = 0;
    uint64_t rows = 0;
    for (uint32_t i = 0; i < head->file_count; i++) {
        const struct vindex_file *file = &segment->files[i];
        if (file->name_at > head->name_bytes ||
            file->name_bytes > head->name_bytes - file->name_at || file->name_bytes == 0 ||
            file->name_bytes > MLY_VINDEX_NAME_BYTES_MAX) {
            return fail_damaged("a file has no name", err);
        }
        for (uint32_t b = 0; b < vindex_blocks_of(file->row_count); b++, block_i++) {
            if (block_i >= head->block_count || segment->blocks[block_i].file_i != i ||
                segment->blocks[block_i].first_row != b * VINDEX_BLOCK_ROWS) {
                return fail_damaged("its blocks are not those of its files", err);
            }
        }
        rows += file->row_count;
    }
    if (block_i != head->block_count || rows != head->row_count) {
        return fail_damaged("its files do not sum up", err);
    }
    uint64_t postings = 0;
    for (uint32_t i = 0; i < head->cell_count; i++) {
        const struct vindex_cell *cell = &segment->cells[i];
        uint64_t bytes = vindex_cell_bytes(head->width, cell->count);
        if (cell->at % VINDEX_ALIGN != 0 || cell->at < head->tables_end ||
            cell->at > head->segment_bytes || bytes > head->segment_bytes - cell->at) {
            return fail_damaged("a cell is not inside it", err);
        }
        postings += cell->count;
    }
    if (postings != head->posting_count) return fail_damaged("its cells do not sum up", err);
    return MLY_OK;
}

/* All heads are asked for before the first is looked at: the disk gives them together. */
static enum mly_err open_records(struct mly_vindex *segment, const char *folder,
                                 struct mly_error *err)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < segment->head.file_count; i++) {
        segment->records[i].first_bit = rows;
        rows += segment->files[i].row_count;
        MLY_TRY(map_records(segment->env, folder, mly_vindex_file(segment, i).name,
                            &segment->records[i].map, err));
    }
    segment->checked_records =
        mly_mem_array(segment->mem, (size_t)(rows / 64 + 1), sizeof(segment->checked_records[0]));
    if (segment->checked_records == NULL) return mly_fail_nomem(err, (size_t)(rows / 8));
    for (uint32_t i = 0; i < segment->head.file_count; i++) {
        const struct mly_map *map = &segment->records[i].map;
        if (map->data == NULL) continue;
        MLY_TRY(check_records(map, mly_vindex_file(segment, i), segment->head.dim, err));
    }
    return MLY_OK;
}

enum mly_err mly_vindex_open(const struct mly_env *env, const struct mly_kern *kern,
                             const char *folder, const char *name, struct mly_vindex **out,
                             struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    MLY_TRY(mly_vindex_path(path, folder, MLY_VINDEX_SEGMENTS, mly_str_of(name), "", err));
    struct mly_vindex *segment = mly_mem_array(env->mem, 1, sizeof(*segment));
    if (segment == NULL) return mly_fail_nomem(err, sizeof(*segment));
    segment->env = env;
    segment->mem = env->mem;
    segment->kern = kern;
    segment->crc = mly_crc32c_pick();
    enum mly_err rc = mly_file_map(env, MLY_AT_CWD, path, &segment->map, err);
    if (rc != MLY_OK) goto done;
    rc = read_head(segment, err);
    if (rc == MLY_OK) rc = check_tables(segment, err);
    if (rc != MLY_OK) {
        rc = mly_fail_in(err, rc, "%s", path);
        goto done;
    }
    size_t cells = segment->head.cell_count, files = segment->head.file_count;
    segment->checked = mly_mem_array(env->mem, cells + 1, sizeof(segment->checked[0]));
    segment->records = mly_mem_array(env->mem, files + 1, sizeof(segment->records[0]));
    if (segment->checked == NULL || segment->records == NULL) {
        rc = mly_fail_nomem(err, cells + files * sizeof(segment->records[0]));
        goto done;
    }
    for (size_t i = 0; i < cells; i++)
        segment->used_count += segment->cells[i].count > 0 ? 1 : 0;
    rc = open_records(segment, folder, err);
    if (rc != MLY_OK) goto done;
    mly_vindex_guard_read(segment, folder, name);
    *out = segment;
    segment = NULL;
done:
    mly_vindex_close(segment);
    return rc;
}

void mly_vindex_close(struct mly_vindex *segment)
{
    if (segment == NULL) return;
    for (size_t i = 0; segment->records != NULL && i < segment->head.file_count; i++)
        mly_map_close(&segment->records[i].map);
    mly_map_close(&segment->map);
    mly_mem_free(segment->mem, segment->records);
    mly_mem_free(segment->mem, (void *)segment->checked);
    mly_mem_free(segment->mem, (void *)segment->checked_records);
    mly_mem_free(segment->mem, segment);
}

struct mly_vindex_file mly_vindex_file(const struct mly_vindex *segment, size_t file_i)
{
    const struct vindex_file *file = &segment->files[file_i];
    struct mly_str name = {segment->names + file->name_at, file->name_bytes};
    return (struct mly_vindex_file){name, file->row_count};
}

void mly_vindex_get_info(const struct mly_vindex *segment, struct mly_vindex_info *out)
{
    const struct vindex_head *head = &segment->head;
    *out = (struct mly_vindex_info){
        .metric = (enum mly_vindex_metric)head->metric,
        .dim = head->dim,
        .file_count = head->file_count,
        .row_count = head->row_count,
        .vector_count = head->vector_count,
        .posting_count = head->posting_count,
        .segment_bytes = head->segment_bytes,
        .cell_count = segment->used_count,
    };
    for (size_t i = 0; i < head->file_count; i++)
        out->record_bytes += segment->records[i].map.bytes;
}

/* Slots must lead to rows that there are: sums do not say that they were right when written. */
static bool slots_are_right(const struct mly_vindex *segment, const struct vindex_cell *cell,
                            const uint8_t *bytes)
{
    size_t stride = vindex_stride(segment->head.width);
    const uint8_t *slots = bytes + MLY_KERN_BLOCK_BYTES(segment->head.width);
    for (uint64_t i = 0; i < vindex_round(cell->count, MLY_KERN_BLOCK_CODES); i++) {
        uint32_t slot;
        memcpy(&slot, slots + i / 16 * stride + i % 16 * 4, 4);
        if (i >= cell->count) {
            if (slot != VINDEX_NO_SLOT) return false;
            continue;
        }
        if (slot >> 16 >= segment->head.block_count) return false;
        const struct vindex_block *block = &segment->blocks[slot >> 16];
        if (block->first_row + (slot & 0xFFFF) >= segment->files[block->file_i].row_count) {
            return false;
        }
    }
    return true;
}

enum mly_err mly_vindex_cell(struct mly_vindex *segment, uint32_t cell_i, const uint8_t **out,
                             struct mly_error *err)
{
    const struct vindex_cell *cell = &segment->cells[cell_i];
    const uint8_t *bytes = segment->map.data + cell->at;
    *out = bytes;
    /* Relaxed is enough: what is guarded is the file, which no thread writes. */
    if (atomic_load_explicit(&segment->checked[cell_i], memory_order_relaxed) != 0) return MLY_OK;
    size_t count = (size_t)vindex_cell_bytes(segment->head.width, cell->count);
    if (segment->crc(0, bytes, count) != cell->sum) {
        return fail_damaged("a cell does not pass its sum", err);
    }
    if (!slots_are_right(segment, cell, bytes)) {
        return fail_damaged("a cell names rows that are not there", err);
    }
    atomic_store_explicit(&segment->checked[cell_i], 1, memory_order_relaxed);
    return MLY_OK;
}

enum mly_err mly_vindex_verify(struct mly_vindex *segment, struct mly_error *err)
{
    const struct vindex_head *head = &segment->head;
    struct mly_vindex fresh = *segment; /* others may be searching */
    MLY_TRY(read_head(&fresh, err));
    MLY_TRY(check_tables(&fresh, err));
    for (uint32_t i = 0; i < head->cell_count; i++) {
        const uint8_t *bytes;
        mly_map_advise(&segment->map, (size_t)segment->cells[i].at,
                       (size_t)vindex_cell_bytes(head->width, segment->cells[i].count),
                       MLY_ADVICE_SOON);
        atomic_store_explicit(&segment->checked[i], 0, memory_order_relaxed);
        MLY_TRY(mly_vindex_cell(segment, i, &bytes, err));
    }
    for (uint32_t i = 0; i < head->file_count; i++) {
        const struct mly_map *map = &segment->records[i].map;
        if (map->data == NULL) continue;
        mly_map_advise(map, 0, map->bytes, MLY_ADVICE_SOON);
        const uint8_t *record = map->data + VINDEX_RECORDS_HEAD_BYTES;
        for (uint32_t row = 0; row < segment->files[i].row_count; row++) {
            if (!record_is_right(segment, record)) {
                return fail_damaged("a record does not pass its sum", err);
            }
            record += vindex_record_bytes(head->width);
        }
    }
    return MLY_OK;
}

/* Putting a segment together.
 *
 * In: codes, cell by cell, in any order. Out: a file that has its name only when it is whole. It is
 * not synced: what a power cut leaves of it does not pass its sums. */
#include "index/vindex_draft.h"

#include <string.h>

#define BUFFER_BYTES ((size_t)1 << 20)

enum mly_err mly_vindex_draft_init(struct vindex_draft *draft, struct mly_mem *mem,
                                   const struct mly_vindex_maker *maker,
                                   const struct mly_vindex_file *files, size_t file_count,
                                   struct mly_error *err)
{
    *draft = (struct vindex_draft){.mem = mem,
                                   .metric = maker->metric,
                                   .dim = maker->dim,
                                   .width = MLY_KERN_CODE_WIDTH(maker->dim),
                                   .files = files,
                                   .file_count = file_count};
    if (maker->dim < MLY_VINDEX_DIM_MIN || maker->dim > MLY_VINDEX_DIM_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "index of vectors of %zu numbers, it takes %zu to %zu",
                        maker->dim, MLY_VINDEX_DIM_MIN, MLY_VINDEX_DIM_MAX);
    }
    uint64_t blocks = 0;
    for (size_t i = 0; i < file_count; i++) {
        if (files[i].name.bytes == 0 || files[i].name.bytes > MLY_VINDEX_NAME_BYTES_MAX ||
            files[i].row_count == 0) {
            return mly_fail(err, MLY_ERR_INVAL, "index of a file without a name, or without rows");
        }
        blocks += vindex_blocks_of(files[i].row_count);
        draft->row_count += files[i].row_count;
    }
    if (blocks > VINDEX_BLOCKS_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "index of %llu blocks of rows, the limit is %llu",
                        (unsigned long long)blocks, (unsigned long long)VINDEX_BLOCKS_MAX);
    }
    draft->first_blocks = mly_mem_array(mem, file_count + 1, sizeof(draft->first_blocks[0]));
    if (draft->first_blocks == NULL) return mly_fail_nomem(err, file_count * 4);
    for (size_t i = 0; i < file_count; i++) {
        draft->first_blocks[i] = draft->block_count;
        draft->block_count += vindex_blocks_of(files[i].row_count);
    }
    return MLY_OK;
}

void mly_vindex_draft_deinit(struct vindex_draft *draft)
{
    for (size_t i = 0; draft->cells != NULL && i < draft->cell_count; i++) {
        mly_mem_free(draft->mem, draft->cells[i].blocks);
    }
    mly_mem_free(draft->mem, draft->cells);
    mly_cells_deinit(&draft->centroids);
    mly_mem_free(draft->mem, draft->first_blocks);
    *draft = (struct vindex_draft){.mem = draft->mem};
}

enum mly_err mly_vindex_draft_cells(struct vindex_draft *draft, struct mly_error *err)
{
    size_t count = draft->centroids.cells.panel_count * MLY_CELLS_PANEL;
    size_t bytes = count * sizeof(draft->cells[0]);
    struct vindex_draft_cell *cells = mly_mem_realloc(draft->mem, draft->cells, bytes);
    if (cells == NULL) return mly_fail_nomem(err, bytes);
    for (size_t i = draft->cell_count; i < count; i++)
        cells[i] = (struct vindex_draft_cell){0};
    draft->cells = cells;
    draft->cell_count = count;
    return MLY_OK;
}

static enum mly_err grow(struct vindex_draft *draft, struct vindex_draft_cell *cell,
                         struct mly_error *err)
{
    uint32_t capacity = cell->capacity + cell->capacity / 2 + MLY_KERN_BLOCK_CODES;
    capacity = capacity / MLY_KERN_BLOCK_CODES * MLY_KERN_BLOCK_CODES;
    size_t stride = vindex_stride(draft->width);
    size_t bytes = capacity / MLY_KERN_BLOCK_CODES * stride;
    uint8_t *blocks = mly_mem_realloc(draft->mem, cell->blocks, bytes);
    if (blocks == NULL) return mly_fail_nomem(err, bytes);
    cell->blocks = blocks;
    for (size_t at = cell->capacity / MLY_KERN_BLOCK_CODES * stride; at < bytes; at += stride) {
        mly_kern_block_clear(blocks + at, draft->width);
        /* VINDEX_NO_SLOT is all ones. */
        memset(blocks + at + MLY_KERN_BLOCK_BYTES(draft->width), 0xFF,
               stride - MLY_KERN_BLOCK_BYTES(draft->width));
    }
    cell->capacity = capacity;
    return MLY_OK;
}

static uint8_t *block_of(const struct vindex_draft *draft, uint32_t cell_i, uint32_t place)
{
    return draft->cells[cell_i].blocks + place / MLY_KERN_BLOCK_CODES * vindex_stride(draft->width);
}

static uint8_t *slot_of(const struct vindex_draft *draft, uint32_t cell_i, uint32_t place)
{
    return block_of(draft, cell_i, place) + MLY_KERN_BLOCK_BYTES(draft->width) +
           place % MLY_KERN_BLOCK_CODES * sizeof(uint32_t);
}

enum mly_err mly_vindex_draft_add(struct vindex_draft *draft, uint32_t cell_i, uint32_t slot,
                                  uint32_t *place, struct mly_error *err)
{
    struct vindex_draft_cell *cell = &draft->cells[cell_i];
    if (cell->count == cell->capacity) MLY_TRY(grow(draft, cell, err));
    *place = cell->count;
    memcpy(slot_of(draft, cell_i, cell->count), &slot, sizeof(slot));
    cell->count++;
    draft->posting_count++;
    return MLY_OK;
}

uint32_t mly_vindex_draft_slot_at(const struct vindex_draft *draft, uint32_t cell_i, uint32_t place)
{
    uint32_t slot;
    memcpy(&slot, slot_of(draft, cell_i, place), sizeof(slot));
    return slot;
}

void mly_vindex_draft_copy(struct vindex_draft *draft, uint32_t cell_i, uint32_t place,
                           const uint8_t *from_block, uint32_t from_place)
{
    uint8_t code[MLY_KERN_CODE_DIM_MAX / 8];
    struct mly_kern_code_numbers numbers =
        mly_kern_block_get(from_block, draft->width, from_place, code);
    mly_kern_block_put(block_of(draft, cell_i, place), draft->width, place % MLY_KERN_BLOCK_CODES,
                       code, numbers);
}

void mly_vindex_draft_shift(struct vindex_draft *draft, uint32_t cell_i, uint32_t from, uint32_t to)
{
    if (from == to) return;
    mly_vindex_draft_copy(draft, cell_i, to, block_of(draft, cell_i, from),
                          from % MLY_KERN_BLOCK_CODES);
    memcpy(slot_of(draft, cell_i, to), slot_of(draft, cell_i, from), sizeof(uint32_t));
}

void mly_vindex_draft_cut(struct vindex_draft *draft, uint32_t cell_i, uint32_t count)
{
    static const uint8_t no_code[MLY_KERN_CODE_DIM_MAX / 8] = {0};
    static const struct mly_kern_code_numbers no_numbers = MLY_KERN_NO_CODE;
    struct vindex_draft_cell *cell = &draft->cells[cell_i];
    for (uint32_t place = count; place < cell->count; place++) {
        mly_kern_block_put(block_of(draft, cell_i, place), draft->width,
                           place % MLY_KERN_BLOCK_CODES, no_code, no_numbers);
        memset(slot_of(draft, cell_i, place), 0xFF, sizeof(uint32_t));
    }
    draft->posting_count -= cell->count - count;
    cell->count = count;
}

/* ---- the file ---- */

static void lay_out(const struct vindex_draft *draft, struct vindex_head *head)
{
    uint64_t names = 0;
    for (size_t i = 0; i < draft->file_count; i++)
        names += draft->files[i].name.bytes;
    *head = (struct vindex_head){
        .format = VINDEX_FORMAT,
        .metric = (uint32_t)draft->metric,
        .dim = (uint32_t)draft->dim,
        .width = (uint32_t)draft->width,
        .file_count = (uint32_t)draft->file_count,
        .block_count = draft->block_count,
        .cell_count = (uint32_t)draft->cell_count,
        .name_bytes = (uint32_t)names,
        .row_count = draft->row_count,
        .vector_count = draft->vector_count,
        .posting_count = draft->posting_count,
        .files_at = VINDEX_HEAD_BYTES,
        .unit = draft->unit,
    };
    memcpy(head->magic, VINDEX_MAGIC, 8);
    head->names_at =
        vindex_round(head->files_at + head->file_count * sizeof(struct vindex_file), VINDEX_ALIGN);
    head->blocks_at = vindex_round(head->names_at + names, VINDEX_ALIGN);
    head->cells_at = vindex_round(head->blocks_at + head->block_count * sizeof(struct vindex_block),
                                  VINDEX_ALIGN);
    head->centroids_at =
        vindex_round(head->cells_at + head->cell_count * sizeof(struct vindex_cell), VINDEX_ALIGN);
    head->tables_end = vindex_round(
        head->centroids_at + mly_cells_bytes(draft->width, draft->centroids.cells.panel_count),
        VINDEX_ALIGN);
    head->segment_bytes = head->tables_end;
    for (size_t i = 0; i < draft->cell_count; i++)
        head->segment_bytes +=
            vindex_round(vindex_cell_bytes(draft->width, draft->cells[i].count), VINDEX_ALIGN);
}

/* Fills the tables (what is behind the header), but for the sums of the cells. */
static void fill_tables(const struct vindex_draft *draft, const struct vindex_head *head,
                        uint8_t *tables)
{
    struct vindex_file *files = (void *)(tables + head->files_at - VINDEX_HEAD_BYTES);
    char *names = (char *)tables + head->names_at - VINDEX_HEAD_BYTES;
    struct vindex_block *blocks = (void *)(tables + head->blocks_at - VINDEX_HEAD_BYTES);
    struct vindex_cell *cells = (void *)(tables + head->cells_at - VINDEX_HEAD_BYTES);
    uint32_t name_at = 0;
    for (size_t i = 0; i < draft->file_count; i++) {
        struct mly_str name = draft->files[i].name;
        files[i] =
            (struct vindex_file){name_at, (uint32_t)name.bytes, draft->files[i].row_count, 0};
        memcpy(names + name_at, name.data, name.bytes);
        name_at += (uint32_t)name.bytes;
        for (uint32_t b = 0; b < vindex_blocks_of(draft->files[i].row_count); b++)
            *blocks++ = (struct vindex_block){(uint32_t)i, b * VINDEX_BLOCK_ROWS};
    }
    uint64_t at = head->tables_end;
    for (size_t i = 0; i < draft->cell_count; i++) {
        cells[i] = (struct vindex_cell){.at = at, .count = draft->cells[i].count};
        at += vindex_round(vindex_cell_bytes(draft->width, cells[i].count), VINDEX_ALIGN);
    }
    memcpy(tables + head->centroids_at - VINDEX_HEAD_BYTES, draft->centroids.bytes,
           mly_cells_bytes(draft->width, draft->centroids.cells.panel_count));
}

static enum mly_err write_cells(const struct vindex_draft *draft, const struct mly_file *file,
                                const struct vindex_head *head, uint8_t *tables,
                                struct mly_error *err)
{
    struct vindex_cell *cells = (void *)(tables + head->cells_at - VINDEX_HEAD_BYTES);
    mly_crc32c_fn crc = mly_crc32c_pick();
    size_t largest = BUFFER_BYTES, used = 0;
    for (size_t i = 0; i < draft->cell_count; i++) {
        size_t bytes = (size_t)vindex_cell_bytes(draft->width, cells[i].count);
        if (bytes + VINDEX_ALIGN > largest) largest = bytes + VINDEX_ALIGN;
    }
    uint8_t *buffer = mly_mem_alloc(draft->mem, largest);
    if (buffer == NULL) return mly_fail_nomem(err, largest);
    uint64_t at = head->tables_end;
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < draft->cell_count && rc == MLY_OK; i++) {
        size_t room =
            (size_t)vindex_round(vindex_cell_bytes(draft->width, cells[i].count), VINDEX_ALIGN);
        if (used + room > largest) {
            rc = mly_file_write(file, buffer, used, at, err);
            at += used;
            used = 0;
        }
        size_t bytes = (size_t)vindex_cell_bytes(draft->width, cells[i].count);
        if (bytes > 0) memcpy(buffer + used, draft->cells[i].blocks, bytes);
        cells[i].sum = crc(0, buffer + used, bytes);
        memset(buffer + used + bytes, 0, room - bytes);
        used += room;
    }
    if (rc == MLY_OK && used > 0) rc = mly_file_write(file, buffer, used, at, err);
    mly_mem_free(draft->mem, buffer);
    return rc;
}

static enum mly_err write_all(const struct vindex_draft *draft, const struct mly_file *file,
                              struct mly_error *err)
{
    struct vindex_head head;
    lay_out(draft, &head);
    uint8_t block[VINDEX_HEAD_BYTES] = {0};
    size_t bytes = (size_t)(head.tables_end - VINDEX_HEAD_BYTES);
    uint8_t *tables = mly_mem_array(draft->mem, bytes + 1, 1);
    if (tables == NULL) return mly_fail_nomem(err, bytes);
    fill_tables(draft, &head, tables);
    enum mly_err rc = write_cells(draft, file, &head, tables, err);
    mly_crc32c_fn crc = mly_crc32c_pick();
    head.tables_sum = crc(0, tables, bytes);
    if (rc == MLY_OK) rc = mly_file_write(file, tables, bytes, VINDEX_HEAD_BYTES, err);
    memcpy(block, &head, sizeof(head));
    uint32_t sum = crc(0, block, VINDEX_HEAD_BYTES - 4);
    memcpy(block + VINDEX_HEAD_BYTES - 4, &sum, 4);
    if (rc == MLY_OK) rc = mly_file_write(file, block, VINDEX_HEAD_BYTES, 0, err);
    mly_mem_free(draft->mem, tables);
    return rc;
}

enum mly_err mly_vindex_draft_write(const struct vindex_draft *draft, const struct mly_env *env,
                                    const char *folder,
                                    char name_out[MLY_VINDEX_SEGMENT_NAME_BYTES],
                                    struct mly_error *err)
{
    char temporary[MLY_PATH_BYTES_MAX], path[MLY_PATH_BYTES_MAX], id[37];
    struct mly_file file = MLY_FILE_CLOSED;
    MLY_TRY(mly_uuid4(env, id, err));
    memcpy(name_out, id, 36);
    memcpy(name_out + 36, ".vec", 5);
    MLY_TRY(mly_vindex_path(path, folder, MLY_VINDEX_SEGMENTS, mly_str_of(name_out), "", err));
    MLY_TRY(
        mly_vindex_path(temporary, folder, MLY_VINDEX_SEGMENTS, mly_str_of(name_out), ".tmp", err));
    MLY_TRY(mly_file_open(env, MLY_AT_CWD, temporary,
                          MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL, &file, err));
    enum mly_err rc = write_all(draft, &file, err);
    mly_file_close(&file);
    if (rc == MLY_OK) rc = mly_file_rename(env, MLY_AT_CWD, temporary, path, err);
    if (rc != MLY_OK) (void)env->unlink(env->context, MLY_AT_CWD, temporary);
    return rc;
}

/* Rows on their way into cells.
 *
 * In: rows of data files. Out: records, and codes in a draft. Tiles of rows: each row is turned,
 * gets its record and its cells (by all threads), then its places in them (by one, so that the
 * bytes do not depend on the threads), then its codes (by all). */
#include "index/vindex_put.h"

#include <math.h>
#include <string.h>

#define TILE_ROWS ((size_t)2048)
#define PART_ROWS ((size_t)128)

enum mly_err mly_vindex_put_init(struct vindex_put *put, const struct mly_vindex_maker *maker,
                                 struct vindex_draft *draft, struct mly_error *err)
{
    struct mly_mem *mem = maker->env->mem;
    size_t width = draft->width, count = draft->cell_count;
    size_t workers = maker->pool == NULL ? 1 : mly_pool_thread_count(maker->pool);
    *put =
        (struct vindex_put){.maker = maker, .draft = draft, .crc = mly_crc32c_pick(), .done_to = 1};
    mly_kern_rotation_init(&put->rotation, draft->dim);
    put->records.file.fd = -1;
    MLY_TRY(mly_assigner_create(mem, maker->kern, &draft->centroids, workers, &put->assigner, err));
    put->centroids = mly_mem_array(mem, count * width, sizeof(float));
    put->rows = mly_mem_array(mem, TILE_ROWS, sizeof(put->rows[0]));
    put->cells = mly_mem_array(mem, TILE_ROWS, sizeof(put->cells[0]));
    put->turned = mly_mem_array(mem, TILE_ROWS * width, sizeof(float));
    put->tile_records = mly_mem_array(mem, TILE_ROWS, vindex_record_bytes(width));
    if (put->centroids == NULL || put->rows == NULL || put->cells == NULL || put->turned == NULL ||
        put->tile_records == NULL) {
        return mly_fail_nomem(err, (TILE_ROWS + count) * width * sizeof(float));
    }
    for (size_t c = 0; c < count; c++)
        mly_cells_get(&draft->centroids, c, put->centroids + c * width);
    return MLY_OK;
}

void mly_vindex_put_deinit(struct vindex_put *put)
{
    if (put->maker == NULL) return;
    struct mly_mem *mem = put->maker->env->mem;
    mly_vindex_records_drop(&put->records);
    mly_assigner_destroy(put->assigner);
    mly_mem_free(mem, put->centroids);
    mly_mem_free(mem, put->rows);
    mly_mem_free(mem, put->cells);
    mly_mem_free(mem, put->turned);
    mly_mem_free(mem, put->tile_records);
    *put = (struct vindex_put){0};
}

enum mly_err mly_vindex_get_rows(const struct mly_vindex_maker *maker, size_t file_i,
                                 const struct mly_vindex_file *file, uint32_t row,
                                 struct mly_vindex_rows *out, struct mly_error *err)
{
    *out = (struct mly_vindex_rows){0};
    MLY_TRY(maker->rows(maker->rows_context, file_i, row, out, err));
    if (out->row_count > file->row_count - row) out->row_count = file->row_count - row;
    if (out->row_count > 0) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "index: no rows from row %u on", row);
}

bool mly_vindex_make_record(const struct mly_kern *kern, const struct mly_kern_rotation *rotation,
                            mly_crc32c_fn crc, const float *x, float *turned, uint8_t *record)
{
    const size_t width = rotation->width;
    const bool is_there = x != NULL && isfinite(kern->dot_f32(x, x, rotation->dim));
    memset(record, 0, vindex_record_bytes(width));
    if (is_there) {
        float scale;
        mly_kern_rotate(rotation, x, turned);
        mly_kern_quantize_f32_s8(turned, width, (int8_t *)record, &scale);
        memcpy(record + width, &scale, 4);
    } else {
        memset(turned, 0, width * sizeof(float));
    }
    uint32_t sum = crc(0, record, width + 4);
    memcpy(record + width + 4, &sum, 4);
    return is_there;
}

static void prepare_row(struct vindex_put *put, size_t i)
{
    size_t dim = put->draft->dim, width = put->draft->width;
    const float *x = put->values + i * dim;
    struct vindex_tile_row *row = &put->rows[i];
    bool is_covered = vindex_is_set(put->covered, put->covered_first + i);
    /* Rows that have everything already are not even read. */
    bool is_wanted = (!is_covered || put->records.file.fd >= 0) &&
                     !vindex_is_set(put->none, put->none_first + i);
    row->has_record = mly_vindex_make_record(put->maker->kern, &put->rotation, put->crc,
                                             is_wanted ? x : NULL, put->turned + i * width,
                                             put->tile_records + i * vindex_record_bytes(width));
    row->is_in = row->has_record && !is_covered;
}

static void prepare_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct vindex_put *put = context;
    size_t first = part_i * PART_ROWS, count = put->row_count - first;
    bool is_any = false;
    if (count > PART_ROWS) count = PART_ROWS;
    for (size_t i = first; i < first + count; i++) {
        prepare_row(put, i);
        is_any = is_any || put->rows[i].is_in;
    }
    if (!is_any) return;
    mly_assign(put->assigner, worker_i, put->turned + first * put->draft->width, count,
               put->cells + first);
}

void mly_vindex_put_code(const struct vindex_put *put, const float *x, uint32_t cell_i,
                         uint32_t place)
{
    const struct vindex_draft *draft = put->draft;
    size_t width = draft->width;
    uint8_t code[MLY_KERN_CODE_DIM_MAX / 8];
    float factor, offset;
    mly_kern_code_make(x, put->centroids + cell_i * width, width, code, &factor, &offset);
    /* The estimate is of x . q, or of x . q - |x|^2 / 2: as near as minus the distance. */
    if (draft->metric == MLY_VINDEX_L2) {
        offset -= 0.5f * put->maker->kern->dot_f32(x, x, width);
    }
    struct mly_kern_code_numbers numbers = {
        mly_kern_half_from_f32(factor / draft->unit),
        mly_kern_half_from_f32(offset / draft->unit / draft->unit)};
    uint8_t *block =
        draft->cells[cell_i].blocks + place / MLY_KERN_BLOCK_CODES * vindex_stride(width);
    mly_kern_block_put(block, width, place % MLY_KERN_BLOCK_CODES, code, numbers);
}

/* Places of one block may be filled by two threads: they share no byte. */
static void encode_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct vindex_put *put = context;
    (void)worker_i;
    for (size_t i = part_i * PART_ROWS; i < (part_i + 1) * PART_ROWS; i++) {
        if (i >= put->row_count || !put->rows[i].is_in) continue;
        const float *x = put->turned + i * put->draft->width;
        for (size_t c = 0; c < 2; c++) {
            if (put->cells[i][c] == MLY_CELLS_NONE) continue;
            mly_vindex_put_code(put, x, put->cells[i][c], put->rows[i].places[c]);
        }
    }
}

static void run_parts(struct vindex_put *put, mly_pool_part_fn part)
{
    size_t part_count = (put->row_count + PART_ROWS - 1) / PART_ROWS;
    if (put->maker->pool != NULL) {
        mly_pool_run(put->maker->pool, part_count, part, put);
        return;
    }
    for (size_t i = 0; i < part_count; i++)
        part(put, i, 0);
}

static enum mly_err put_tile(struct vindex_put *put, size_t file_i, uint32_t first_row,
                             struct mly_error *err)
{
    struct vindex_draft *draft = put->draft;
    run_parts(put, prepare_part);
    for (size_t i = 0; i < put->row_count; i++) {
        if (!put->rows[i].is_in) continue;
        uint32_t slot = vindex_draft_slot(draft, file_i, first_row + (uint32_t)i);
        for (size_t c = 0; c < 2; c++) {
            uint32_t cell_i = put->cells[i][c];
            if (cell_i == MLY_CELLS_NONE) continue;
            MLY_TRY(mly_vindex_draft_add(draft, cell_i, slot, &put->rows[i].places[c], err));
        }
        draft->vector_count++;
    }
    run_parts(put, encode_part);
    size_t bytes = put->row_count * vindex_record_bytes(draft->width);
    MLY_TRY(mly_vindex_records_add(&put->records, put->tile_records, bytes, err));
    put->rows_done += put->row_count;
    if (put->maker->pulse == NULL) return MLY_OK;
    double part = put->rows_all == 0 ? 1 : (double)put->rows_done / (double)put->rows_all;
    double done = put->done_from + (put->done_to - put->done_from) * part;
    return put->maker->pulse(put->maker->pulse_context, done, err);
}

static bool is_covered(const uint8_t *covered, uint32_t row_count)
{
    for (uint32_t row = 0; row < row_count; row++) {
        if (!vindex_is_set(covered, row)) return false;
    }
    return true;
}

enum mly_err mly_vindex_put_file(struct vindex_put *put, size_t file_i, const uint8_t *covered,
                                 struct mly_error *err)
{
    const struct mly_vindex_file *file = &put->draft->files[file_i];
    struct mly_vindex_rows rows;
    MLY_TRY(mly_vindex_records_begin(&put->records, put->maker->env, put->maker->folder, *file,
                                     (uint32_t)put->draft->dim, err));
    if (put->records.file.fd < 0 && is_covered(covered, file->row_count)) return MLY_OK;
    for (uint32_t row = 0; row < file->row_count; row += (uint32_t)rows.row_count) {
        MLY_TRY(mly_vindex_get_rows(put->maker, file_i, file, row, &rows, err));
        for (size_t at = 0; at < rows.row_count; at += TILE_ROWS) {
            put->values = rows.values + at * put->draft->dim;
            put->none = rows.none;
            put->none_first = at;
            put->covered = covered;
            put->covered_first = row + at;
            put->row_count = rows.row_count - at < TILE_ROWS ? rows.row_count - at : TILE_ROWS;
            MLY_TRY(put_tile(put, file_i, row + (uint32_t)at, err));
        }
    }
    return mly_vindex_records_end(&put->records, err);
}

enum mly_err mly_vindex_make_folders(const struct mly_vindex_maker *maker, struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    static const char *const names[] = {MLY_VINDEX_SEGMENTS, MLY_VINDEX_RECORDS};
    for (size_t i = 0; i < 2; i++) {
        MLY_TRY(mly_vindex_path(path, maker->folder, names[i], MLY_STR_NULL, "", err));
        MLY_TRY(mly_dir_make(maker->env, MLY_AT_CWD, path, err));
    }
    return MLY_OK;
}

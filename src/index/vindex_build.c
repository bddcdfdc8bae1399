/* Building a segment from rows.
 *
 * In: rows of data files, asked for twice. Out: records of each file, and a segment. A first pass
 * takes a sample, which gives the centroids; the second takes tiles of rows: each row is turned,
 * gets its record and its cells (by all threads), then its places in them (by one, so that the
 * bytes do not depend on the threads), then its codes (by all). */
#include "index/vindex_cells.h"
#include "index/vindex_draft.h"

#include <math.h>
#include <string.h>

#define TILE_ROWS ((size_t)512)
#define PART_ROWS ((size_t)16)

struct tile_row {
    uint32_t cells[2], places[2];
    bool is_in;
};

struct build {
    const struct mly_vindex_maker *maker;
    struct vindex_draft draft;
    struct vindex_centroids centroids;
    float *turned_centroids; /* f32[cell_count][width]: what the codes count from */
    mly_crc32c_fn crc;
    struct vindex_records_maker records;
    uint64_t rows_done;
    /* the tile */
    const float *values;
    const uint8_t *none;
    size_t none_first, row_count;
    struct tile_row *rows; /* [TILE_ROWS] */
    float *turned;         /* f32[TILE_ROWS][width] */
    uint8_t *tile_records; /* u8[TILE_ROWS][record bytes] */
    float *scores;         /* f32[workers][cell_count] */
    struct mly_kern_rotation rotation;
};

static void build_deinit(struct build *build)
{
    struct mly_mem *mem = build->maker->env->mem;
    mly_vindex_records_drop(&build->records);
    mly_vindex_draft_deinit(&build->draft);
    mly_vindex_centroids_deinit(&build->centroids);
    mly_mem_free(mem, build->turned_centroids);
    mly_mem_free(mem, build->rows);
    mly_mem_free(mem, build->turned);
    mly_mem_free(mem, build->tile_records);
    mly_mem_free(mem, build->scores);
}

static bool is_set(const uint8_t *bits, size_t i)
{
    return bits != NULL && (bits[i / 8] >> (i % 8) & 1) != 0;
}

static enum mly_err get_rows(const struct mly_vindex_maker *maker, size_t file_i,
                             const struct mly_vindex_file *file, uint32_t row,
                             struct mly_vindex_rows *out, struct mly_error *err)
{
    *out = (struct mly_vindex_rows){0};
    MLY_TRY(maker->rows(maker->rows_context, file_i, row, out, err));
    if (out->row_count > file->row_count - row) out->row_count = file->row_count - row;
    if (out->row_count > 0) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "index: no rows from row %u on", row);
}

/* ---- the sample ---- */

static enum mly_err take_sample(struct build *build, float *sample, size_t wanted, size_t *taken,
                                struct mly_error *err)
{
    size_t dim = build->draft.dim;
    uint64_t row_i = 0;
    for (size_t file_i = 0; file_i < build->draft.file_count; file_i++) {
        const struct mly_vindex_file *file = &build->draft.files[file_i];
        struct mly_vindex_rows rows;
        for (uint32_t row = 0; row < file->row_count; row += (uint32_t)rows.row_count) {
            MLY_TRY(get_rows(build->maker, file_i, file, row, &rows, err));
            for (size_t i = 0; i < rows.row_count; i++, row_i++) {
                uint64_t at = row_i * wanted / build->draft.row_count;
                if ((row_i + 1) * wanted / build->draft.row_count == at) continue;
                if (is_set(rows.none, i)) continue;
                const float *value = rows.values + i * dim;
                if (!isfinite(build->maker->kern->dot_f32(value, value, dim))) continue;
                memcpy(sample + *taken * dim, value, dim * sizeof(float));
                ++*taken;
            }
        }
    }
    return MLY_OK;
}

/* Factors and offsets are half floats: they must be neither too large nor too small for them. */
static void set_unit(struct build *build, const float *sample, size_t count)
{
    float most = 0;
    for (size_t i = 0; i < count; i++) {
        const float *x = sample + i * build->draft.dim;
        float square = build->maker->kern->dot_f32(x, x, build->draft.dim);
        if (square > most) most = square;
    }
    int exponent = 0;
    if (most > 0) (void)frexpf(sqrtf(most), &exponent);
    build->draft.unit = ldexpf(1.0f, exponent - 1);
}

static enum mly_err find_centroids(struct build *build, struct mly_error *err)
{
    struct mly_mem *mem = build->maker->env->mem;
    size_t dim = build->draft.dim, taken = 0;
    size_t count = mly_vindex_cell_count(build->draft.row_count);
    size_t wanted = mly_vindex_sample_count(build->draft.row_count, count, dim);
    float *sample = mly_mem_array(mem, wanted + 1, dim * sizeof(float));
    if (sample == NULL) return mly_fail_nomem(err, wanted * dim * sizeof(float));
    enum mly_err rc = take_sample(build, sample, wanted, &taken, err);
    if (rc == MLY_OK) set_unit(build, sample, taken);
    if (rc == MLY_OK && count > taken) count = taken == 0 ? 1 : taken;
    if (rc == MLY_OK) {
        rc = mly_vindex_centroids_find(&build->centroids, build->maker, sample, taken, count, err);
    }
    mly_mem_free(mem, sample);
    return rc;
}

/* The centroids as the segment has them: turned, in 8 bits. */
static enum mly_err set_cells(struct build *build, struct mly_error *err)
{
    size_t width = build->draft.width, count = build->centroids.count;
    MLY_TRY(mly_vindex_draft_cells(&build->draft, count, err));
    build->turned_centroids = mly_mem_array(build->maker->env->mem, count * width, sizeof(float));
    if (build->turned_centroids == NULL) return mly_fail_nomem(err, count * width * sizeof(float));
    for (size_t c = 0; c < count; c++) {
        float *turned = build->turned_centroids + c * width;
        int8_t *centroid = build->draft.centroids + c * width;
        float scale;
        mly_kern_rotate(&build->rotation, build->centroids.values + c * build->draft.dim, turned);
        mly_kern_quantize_f32_s8(turned, width, centroid, &scale);
        build->draft.cells[c].scale = scale;
        for (size_t i = 0; i < width; i++)
            turned[i] = scale * (float)centroid[i];
    }
    return MLY_OK;
}

/* ---- tiles ---- */

static enum mly_err make_tile(struct build *build, struct mly_error *err)
{
    struct mly_mem *mem = build->maker->env->mem;
    size_t width = build->draft.width, cells = build->draft.cell_count;
    size_t workers = build->maker->pool == NULL ? 1 : mly_pool_thread_count(build->maker->pool);
    build->rows = mly_mem_array(mem, TILE_ROWS, sizeof(build->rows[0]));
    build->turned = mly_mem_array(mem, TILE_ROWS * width, sizeof(float));
    build->tile_records = mly_mem_array(mem, TILE_ROWS, vindex_record_bytes(width));
    build->scores = mly_mem_array(mem, workers * cells, sizeof(float));
    if (build->rows == NULL || build->turned == NULL || build->tile_records == NULL ||
        build->scores == NULL) {
        return mly_fail_nomem(err, TILE_ROWS * width * 5);
    }
    return MLY_OK;
}

static void prepare_row(struct build *build, size_t i, uint32_t worker_i)
{
    size_t dim = build->draft.dim, width = build->draft.width;
    const struct mly_kern *kern = build->maker->kern;
    const float *x = build->values + i * dim;
    uint8_t *record = build->tile_records + i * vindex_record_bytes(width);
    struct tile_row *row = &build->rows[i];
    row->is_in = !is_set(build->none, build->none_first + i) && isfinite(kern->dot_f32(x, x, dim));
    memset(record, 0, vindex_record_bytes(width));
    if (row->is_in) {
        float *turned = build->turned + i * width, scale;
        mly_kern_rotate(&build->rotation, x, turned);
        mly_kern_quantize_f32_s8(turned, width, (int8_t *)record, &scale);
        memcpy(record + width, &scale, 4);
        mly_vindex_assign(&build->centroids, x, build->scores + worker_i * build->draft.cell_count,
                          row->cells);
    }
    uint32_t sum = build->crc(0, record, width + 4);
    memcpy(record + width + 4, &sum, 4);
}

static void prepare_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct build *build = context;
    for (size_t i = part_i * PART_ROWS; i < (part_i + 1) * PART_ROWS; i++) {
        if (i < build->row_count) prepare_row(build, i, worker_i);
    }
}

static void encode(const struct build *build, const float *x, uint32_t cell_i, uint32_t place)
{
    const struct vindex_draft *draft = &build->draft;
    size_t width = draft->width;
    uint8_t code[MLY_KERN_CODE_DIM_MAX / 8];
    float factor, offset;
    mly_kern_code_make(x, build->turned_centroids + cell_i * width, width, code, &factor, &offset);
    /* The estimate is of x . q, or of x . q - |x|^2 / 2: as near as minus the distance. */
    if (draft->metric == MLY_VINDEX_L2) {
        offset -= 0.5f * build->maker->kern->dot_f32(x, x, width);
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
    struct build *build = context;
    (void)worker_i;
    for (size_t i = part_i * PART_ROWS; i < (part_i + 1) * PART_ROWS; i++) {
        if (i >= build->row_count || !build->rows[i].is_in) continue;
        const float *x = build->turned + i * build->draft.width;
        for (size_t c = 0; c < 2; c++) {
            if (build->rows[i].cells[c] == VINDEX_NO_CELL) continue;
            encode(build, x, build->rows[i].cells[c], build->rows[i].places[c]);
        }
    }
}

static void run_parts(struct build *build, mly_pool_part_fn part)
{
    size_t part_count = (build->row_count + PART_ROWS - 1) / PART_ROWS;
    if (build->maker->pool != NULL) {
        mly_pool_run(build->maker->pool, part_count, part, build);
        return;
    }
    for (size_t i = 0; i < part_count; i++)
        part(build, i, 0);
}

static enum mly_err put_tile(struct build *build, size_t file_i, uint32_t first_row,
                             struct mly_error *err)
{
    struct vindex_draft *draft = &build->draft;
    run_parts(build, prepare_part);
    for (size_t i = 0; i < build->row_count; i++) {
        struct tile_row *row = &build->rows[i];
        if (!row->is_in) continue;
        uint32_t slot = vindex_draft_slot(draft, file_i, first_row + (uint32_t)i);
        for (size_t c = 0; c < 2; c++) {
            if (row->cells[c] == VINDEX_NO_CELL) continue;
            MLY_TRY(mly_vindex_draft_add(draft, row->cells[c], slot, &row->places[c], err));
        }
        draft->vector_count++;
    }
    run_parts(build, encode_part);
    size_t bytes = build->row_count * vindex_record_bytes(draft->width);
    MLY_TRY(mly_vindex_records_add(&build->records, build->tile_records, bytes, err));
    build->rows_done += build->row_count;
    if (build->maker->pulse == NULL) return MLY_OK;
    double done = 0.3 + 0.65 * (double)build->rows_done / (double)draft->row_count;
    return build->maker->pulse(build->maker->pulse_context, done, err);
}

static enum mly_err put_file(struct build *build, size_t file_i, struct mly_error *err)
{
    const struct mly_vindex_file *file = &build->draft.files[file_i];
    struct mly_vindex_rows rows;
    MLY_TRY(mly_vindex_records_begin(&build->records, build->maker->env, build->maker->folder,
                                     *file, (uint32_t)build->draft.dim, err));
    for (uint32_t row = 0; row < file->row_count; row += (uint32_t)rows.row_count) {
        MLY_TRY(get_rows(build->maker, file_i, file, row, &rows, err));
        for (size_t at = 0; at < rows.row_count; at += TILE_ROWS) {
            build->values = rows.values + at * build->draft.dim;
            build->none = rows.none;
            build->none_first = at;
            build->row_count = rows.row_count - at < TILE_ROWS ? rows.row_count - at : TILE_ROWS;
            MLY_TRY(put_tile(build, file_i, row + (uint32_t)at, err));
        }
    }
    return mly_vindex_records_end(&build->records, err);
}

static enum mly_err make_folders(const struct mly_vindex_maker *maker, struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    static const char *const names[] = {MLY_VINDEX_SEGMENTS, MLY_VINDEX_RECORDS};
    for (size_t i = 0; i < 2; i++) {
        MLY_TRY(mly_vindex_path(path, maker->folder, names[i], MLY_STR_NULL, "", err));
        MLY_TRY(mly_dir_make(maker->env, MLY_AT_CWD, path, err));
    }
    return MLY_OK;
}

enum mly_err mly_vindex_build(const struct mly_vindex_maker *maker,
                              const struct mly_vindex_file *files, size_t file_count,
                              char name_out[MLY_VINDEX_SEGMENT_NAME_BYTES], struct mly_error *err)
{
    struct build build = {.maker = maker, .crc = mly_crc32c_pick()};
    build.draft.mem = maker->env->mem;
    build.centroids.mem = maker->env->mem;
    enum mly_err rc =
        mly_vindex_draft_init(&build.draft, maker->env->mem, maker, files, file_count, err);
    if (rc == MLY_OK) rc = make_folders(maker, err);
    if (rc == MLY_OK) mly_kern_rotation_init(&build.rotation, maker->dim);
    if (rc == MLY_OK) rc = find_centroids(&build, err);
    if (rc == MLY_OK) rc = set_cells(&build, err);
    if (rc == MLY_OK) rc = make_tile(&build, err);
    for (size_t i = 0; i < file_count && rc == MLY_OK; i++)
        rc = put_file(&build, i, err);
    if (rc == MLY_OK) {
        rc = mly_vindex_draft_write(&build.draft, maker->env, maker->folder, name_out, err);
    }
    build_deinit(&build);
    return rc;
}

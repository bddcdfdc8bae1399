/* A segment or a file of records. Input: a byte that picks which, and its bytes; the others are as
 * our writers made them. The sums of a segment are put right first, so that what stands behind them
 * is reached. It is then opened, verified and searched. */
#include "fuzz.h"

#include "index/vindex_int.h"
#include "temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 220
#define DIM 8

static float values[ROWS][DIM];
static char name[MLY_VINDEX_SEGMENT_NAME_BYTES], paths[2][64];
static struct fuzz_input good[2];
static const struct mly_vindex_file file = {{"rows.lance", 10}, ROWS};

static enum mly_err give_rows(void *context, size_t file_i, uint32_t row_first,
                              struct mly_vindex_rows *out, struct mly_error *err)
{
    (void)context;
    (void)file_i;
    (void)err;
    *out = (struct mly_vindex_rows){values[row_first], NULL, ROWS - row_first};
    return MLY_OK;
}

static enum mly_err give_vector(void *context, const struct mly_vindex_part *part, uint32_t row,
                                const float **out, struct mly_error *err)
{
    (void)context;
    (void)part;
    (void)err;
    fuzz_check(row < ROWS, "only rows that there are are asked for");
    *out = values[row];
    return MLY_OK;
}

static void make_index(void)
{
    struct mly_error err = {0};
    uint32_t seed = 1;
    if (name[0] != '\0') return;
    for (size_t i = 0; i < ROWS * DIM; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i / DIM][i % DIM] = (float)(seed >> 8) * 0x1p-24F - 0.5F;
    }
    struct mly_vindex_maker maker = {.env = mly_env_system(),
                                     .kern = mly_kern_pick("scalar"),
                                     .folder = fuzz_dir(),
                                     .metric = MLY_VINDEX_DOT,
                                     .dim = DIM,
                                     .rows = give_rows};
    fuzz_check(mly_vindex_build(&maker, &file, 1, name, &err) == MLY_OK, "a segment can be built");
    snprintf(paths[0], sizeof(paths[0]), "%s/%s", MLY_VINDEX_SEGMENTS, name);
    snprintf(paths[1], sizeof(paths[1]), "%s/rows.lance%s", MLY_VINDEX_RECORDS,
             MLY_VINDEX_RECORDS_SUFFIX);
    for (size_t i = 0; i < 2; i++) {
        char path[TEMP_DIR_BYTES + 80];
        snprintf(path, sizeof(path), "%s/%s", fuzz_dir(), paths[i]);
        FILE *from = fopen(path, "rb");
        fuzz_check(from != NULL, "what was built can be read");
        good[i].count = fread(good[i].bytes, 1, FUZZ_INPUT_MAX, from);
        fclose(from);
    }
}

static void put_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

/* Sums that are right for whatever the bytes are now. */
static void mend_sums(uint8_t *bytes, size_t count)
{
    struct vindex_head head;
    if (count < VINDEX_HEAD_BYTES) return;
    memcpy(&head, bytes, sizeof(head));
    uint64_t cells_end = head.cells_at + (uint64_t)head.cell_count * sizeof(struct vindex_cell);
    bool has_cells = head.cells_at >= VINDEX_HEAD_BYTES && head.cells_at < count &&
                     head.cell_count <= VINDEX_CELLS_MAX && cells_end <= count &&
                     head.cells_at % 8 == 0;
    for (uint32_t i = 0; has_cells && i < head.cell_count; i++) {
        struct vindex_cell cell;
        uint8_t *at = bytes + head.cells_at + i * sizeof(cell);
        memcpy(&cell, at, sizeof(cell));
        uint64_t cell_bytes = vindex_cell_bytes(64, cell.count);
        if (cell.at > count || cell_bytes > count - cell.at) continue;
        cell.sum = mly_crc32c_scalar(0, bytes + cell.at, (size_t)cell_bytes);
        memcpy(at, &cell, sizeof(cell));
    }
    if (head.tables_end >= VINDEX_HEAD_BYTES && head.tables_end <= count) {
        head.tables_sum = mly_crc32c_scalar(0, bytes + VINDEX_HEAD_BYTES,
                                            (size_t)head.tables_end - VINDEX_HEAD_BYTES);
        memcpy(bytes, &head, sizeof(head));
    }
    put_u32(bytes + VINDEX_HEAD_BYTES - 4, mly_crc32c_scalar(0, bytes, VINDEX_HEAD_BYTES - 4));
}

static enum mly_err search(const struct mly_env *env, struct mly_vindex *segment,
                           struct mly_error *err)
{
    struct mly_vindex_room *room = NULL;
    struct mly_vindex_part parts[FUZZ_INPUT_MAX / sizeof(struct vindex_file)];
    struct mly_vindex_info info;
    const struct mly_match *found;
    size_t count;
    mly_vindex_get_info(segment, &info);
    fuzz_check(info.file_count <= sizeof(parts) / sizeof(parts[0]), "files have entries");
    for (size_t i = 0; i < info.file_count; i++) {
        parts[i] = (struct mly_vindex_part){
            .is_present = mly_str_equal(mly_vindex_file(segment, i).name, file.name) &&
                          mly_vindex_file(segment, i).row_count == ROWS};
    }
    struct mly_vindex_source source = {segment, parts};
    struct mly_vindex_ask ask = {
        .query = values[3], .dim = info.dim, .k = 5, .recall = 1, .vector = give_vector};
    if (info.dim != DIM) return MLY_OK;
    enum mly_err rc = mly_vindex_room_create(env, &room, err);
    if (rc == MLY_OK) {
        rc = mly_vindex_search(room, &source, 1, &ask, &found, &count, NULL, err);
    }
    mly_vindex_room_destroy(room);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fault_env fault;
    struct mly_error err = {0};
    struct mly_vindex *segment = NULL;
    static uint8_t mended[FUZZ_INPUT_MAX];
    make_index();
    if (bytes < 1 || bytes > FUZZ_INPUT_MAX) return 0;
    const size_t which = data[0] % 2;
    memcpy(mended, data + 1, bytes - 1);
    if (which == 0) mend_sums(mended, bytes - 1);
    temp_dir_write(fuzz_dir(), paths[which], mended, bytes - 1);
    fault_env_init(&fault);
    const struct mly_kern *kern = mly_kern_pick("scalar");
    enum mly_err rc = mly_vindex_open(&fault.env, kern, fuzz_dir(), name, &segment, &err);
    if (rc == MLY_OK) {
        struct mly_error worse = {0};
        fuzz_check_result(mly_vindex_verify(segment, &worse), &worse);
        rc = search(&fault.env, segment, &err);
    }
    fuzz_check_result(rc, &err);
    mly_vindex_close(segment);
    fuzz_check_clean(&fault);
    temp_dir_write(fuzz_dir(), paths[which], good[which].bytes, good[which].count);
    return 0;
}

bool fuzz_seed(size_t i, struct fuzz_input *out)
{
    make_index();
    if (i >= 2) return false;
    fuzz_put_byte(out, (uint8_t)i);
    fuzz_put(out, good[i].bytes, good[i].count);
    return true;
}

/* Where rows of data files that are gone went: compactions, our own and other programs', copy what
 * lives of some files into a new one, in its order.
 *
 * In: a segment with files that are gone, and files that it does not have. Out: moves. A row is
 * known by its record, which its vector alone decides, so that nothing need be known of who moved
 * it; where two vectors have one record, either's codes are as good as the other's. */
#include "index/vindex_fold.h"

#include <string.h>

/* Rows with the same sum that are compared, at most. */
#define ALIKE_MAX 32

/* A file of the segment. */
struct gone_file {
    bool is_gone;
    uint64_t first;    /* number of its row 0 among rows of files that are gone */
    uint32_t last_row; /* that was found */
    uint32_t to_next;  /* where the one behind it must be */
    struct mly_vindex_move move;
    uint8_t *bits; /* move.gone */
};

struct search {
    struct vindex_folding *folding;
    const struct mly_vindex *base;
    struct gone_file *files;
    size_t last_file; /* in which the last row was found, or SIZE_MAX */
    uint32_t *table;  /* by sums: number of a row + 1; 0: none */
    size_t mask;
    uint64_t row_count; /* of files that are gone */
    float *turned;
    uint8_t *record;
    struct mly_kern_rotation rotation;
    mly_crc32c_fn crc;
};

static uint32_t sum_of(const struct search *search, const uint8_t *record)
{
    uint32_t sum;
    memcpy(&sum, record + vindex_record_bytes(search->base->head.width) - 4, 4);
    return sum;
}

static bool has_vector(const struct search *search, const uint8_t *record)
{
    float scale;
    memcpy(&scale, record + search->base->head.width, 4);
    return scale > 0;
}

/* Files that are not gone have no numbers: the one behind them begins with theirs. */
static size_t file_of(const struct search *search, uint64_t number)
{
    size_t low = 0;
    for (size_t high = search->base->head.file_count; high - low > 1;) {
        size_t middle = low + (high - low) / 2;
        if (search->files[middle].first <= number) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_listed(const struct mly_vindex_fold *job, struct mly_str name)
{
    for (size_t i = 0; i < job->file_count; i++) {
        if (mly_str_equal(job->files[i].name, name)) return true;
    }
    return false;
}

static enum mly_err list_gone(struct search *search, struct mly_error *err)
{
    struct mly_mem *mem = search->folding->draft.mem;
    const size_t count = search->base->head.file_count;
    for (size_t i = 0; i < count; i++) {
        struct gone_file *file = &search->files[i];
        const struct mly_vindex_file of = mly_vindex_file(search->base, i);
        file->first = search->row_count;
        file->is_gone =
            search->base->records[i].map.data != NULL && !is_listed(search->folding->job, of.name);
        if (!file->is_gone) continue;
        search->row_count += of.row_count;
        file->bits = mly_mem_array(mem, of.row_count / 8 + 1, 1);
        if (file->bits == NULL) return mly_fail_nomem(err, of.row_count / 8 + 1);
        memset(file->bits, 0xFF, of.row_count / 8 + 1);
        file->move = (struct mly_vindex_move){.from = of.name, .gone = file->bits};
        file->move.to_i = SIZE_MAX;
    }
    return MLY_OK;
}

static enum mly_err fill_table(struct search *search, struct mly_error *err)
{
    struct mly_mem *mem = search->folding->draft.mem;
    size_t places = 64;
    while (places / 2 < search->row_count)
        places *= 2;
    search->table = mly_mem_array(mem, places, sizeof(search->table[0]));
    if (search->table == NULL) return mly_fail_nomem(err, places * sizeof(search->table[0]));
    search->mask = places - 1;
    for (size_t i = 0; i < search->base->head.file_count; i++) {
        const struct gone_file *file = &search->files[i];
        if (!file->is_gone) continue;
        for (uint32_t row = 0; row < search->base->files[i].row_count; row++) {
            const uint8_t *record = mly_vindex_record(search->base, (uint32_t)i, row);
            if (record == NULL || !has_vector(search, record)) continue;
            size_t at = sum_of(search, record) & search->mask;
            while (search->table[at] != 0)
                at = (at + 1) & search->mask;
            search->table[at] = (uint32_t)(file->first + row + 1);
        }
    }
    return MLY_OK;
}

/* Is it this row of the file, and may the file's rows go on there? */
static bool is_row(const struct search *search, size_t file_i, uint32_t row, size_t to_i,
                   uint32_t to_row)
{
    const struct gone_file *file = &search->files[file_i];
    if (row >= search->base->files[file_i].row_count) return false;
    if (file->move.to_i != SIZE_MAX &&
        (file->move.to_i != to_i || file->to_next != to_row || row <= file->last_row)) {
        return false;
    }
    const uint8_t *record = mly_vindex_record(search->base, (uint32_t)file_i, row);
    return record != NULL &&
           memcmp(record, search->record, vindex_record_bytes(search->base->head.width)) == 0;
}

static void take_row(struct search *search, size_t file_i, uint32_t row, size_t to_i,
                     uint32_t to_row)
{
    struct gone_file *file = &search->files[file_i];
    if (file->move.to_i == SIZE_MAX) {
        file->move.to_i = to_i;
        file->move.to_first = to_row;
    }
    file->bits[row / 8] = (uint8_t)(file->bits[row / 8] & ~(1u << row % 8));
    file->last_row = row;
    file->to_next = to_row + 1;
    search->last_file = file_i;
}

/* The row behind the last one, or the first with its sum that there is. */
static void find_row(struct search *search, size_t to_i, uint32_t to_row)
{
    size_t best_file = SIZE_MAX, last = search->last_file;
    uint32_t best_row = 0;
    if (last != SIZE_MAX && is_row(search, last, search->files[last].last_row + 1, to_i, to_row)) {
        take_row(search, last, search->files[last].last_row + 1, to_i, to_row);
        return;
    }
    if (!has_vector(search, search->record)) return;
    const uint32_t sum = sum_of(search, search->record);
    size_t at = sum & search->mask;
    for (int tried = 0; search->table[at] != 0 && tried < ALIKE_MAX; at = (at + 1) & search->mask) {
        const uint64_t number = search->table[at] - 1;
        const size_t file_i = file_of(search, number);
        const uint32_t row = (uint32_t)(number - search->files[file_i].first);
        tried++;
        if (!is_row(search, file_i, row, to_i, to_row)) continue;
        if (best_file < file_i || (best_file == file_i && best_row < row)) continue;
        best_file = file_i;
        best_row = row;
    }
    if (best_file != SIZE_MAX) take_row(search, best_file, best_row, to_i, to_row);
}

static enum mly_err search_file(struct search *search, size_t to_i, struct mly_error *err)
{
    const struct mly_vindex_maker *maker = search->folding->maker;
    const struct mly_vindex_file *file = &search->folding->job->files[to_i];
    struct mly_vindex_rows rows;
    search->last_file = SIZE_MAX;
    for (uint32_t row = 0; row < file->row_count; row += (uint32_t)rows.row_count) {
        MLY_TRY(mly_vindex_get_rows(maker, to_i, file, row, &rows, err));
        for (size_t i = 0; i < rows.row_count; i++) {
            const float *x = vindex_is_set(rows.none, i) ? NULL : rows.values + i * maker->dim;
            (void)mly_vindex_make_record(maker->kern, &search->rotation, search->crc, x,
                                         search->turned, search->record);
            find_row(search, to_i, row + (uint32_t)i);
            if (maker->pulse != NULL && i % 1024 == 0) {
                MLY_TRY(maker->pulse(maker->pulse_context, 0, err));
            }
        }
    }
    return MLY_OK;
}

static enum mly_err search_all(struct search *search, struct mly_error *err)
{
    struct mly_mem *mem = search->folding->draft.mem;
    const size_t width = search->base->head.width;
    MLY_TRY(list_gone(search, err));
    if (search->row_count == 0 || search->row_count >= UINT32_MAX) return MLY_OK;
    search->turned = mly_mem_array(mem, width, sizeof(float));
    search->record = mly_mem_array(mem, 1, vindex_record_bytes(width));
    if (search->turned == NULL || search->record == NULL) return mly_fail_nomem(err, 5 * width);
    mly_kern_rotation_init(&search->rotation, search->base->head.dim);
    search->crc = mly_crc32c_pick();
    MLY_TRY(fill_table(search, err));
    for (size_t i = 0; i < search->folding->job->file_count; i++) {
        const struct mly_str name = search->folding->job->files[i].name;
        bool is_known = false;
        for (size_t f = 0; f < search->base->head.file_count && !is_known; f++)
            is_known = mly_str_equal(mly_vindex_file(search->base, f).name, name);
        if (!is_known) MLY_TRY(search_file(search, i, err));
    }
    return MLY_OK;
}

enum mly_err mly_vindex_find_moves(struct vindex_folding *folding, struct mly_error *err)
{
    struct mly_mem *mem = folding->draft.mem;
    const size_t count = folding->base->head.file_count;
    struct search search = {.folding = folding, .base = folding->base, .last_file = SIZE_MAX};
    search.files = mly_mem_array(mem, count + 1, sizeof(search.files[0]));
    folding->found = mly_mem_array(mem, count + 1, sizeof(folding->found[0]));
    enum mly_err rc = MLY_OK;
    if (search.files == NULL || folding->found == NULL) rc = mly_fail_nomem(err, count);
    if (rc == MLY_OK) rc = search_all(&search, err);
    for (size_t i = 0; search.files != NULL && i < count; i++) {
        struct gone_file *file = &search.files[i];
        if (rc == MLY_OK && file->is_gone && file->move.to_i != SIZE_MAX) {
            folding->found[folding->found_count++] = file->move;
        } else {
            mly_mem_free(mem, file->bits);
        }
    }
    mly_mem_free(mem, search.files);
    mly_mem_free(mem, search.table);
    mly_mem_free(mem, search.turned);
    mly_mem_free(mem, search.record);
    return rc;
}

void mly_vindex_drop_moves(struct vindex_folding *folding)
{
    for (size_t i = 0; folding->found != NULL && i < folding->found_count; i++)
        mly_mem_free(folding->draft.mem, (void *)(uintptr_t)folding->found[i].gone);
    mly_mem_free(folding->draft.mem, folding->found);
    folding->found = NULL;
    folding->found_count = 0;
}

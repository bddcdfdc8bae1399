/* In: word pieces of many texts. Out: a unit vector for each.
 *
 * ONNX Runtime wants rectangles: texts of like lengths go together, padded to the longest, and a
 * batch ends where its pieces or its attention's cells reach what keeps memory bounded. */
#include "embed/onnx/onnx_int.h"

#include <math.h>
#include <stdlib.h>

/* With pieces alone, long texts would take many times the memory of short ones. At these, a model
 * of 12 heads and 3,072 inner numbers holds 6 and 12 MB in its widest places, of which there are a
 * handful at a time. Larger batches are slower as well: their numbers leave the caches. */
#define BATCH_PIECES_MAX ((size_t)1024)
#define BATCH_CELLS_MAX ((size_t)128 << 10)
/* Numbers that are summed side by side. */
#define MEAN_STEP ((size_t)64)

struct place {
    size_t pieces, sequence;
};

struct batch {
    const struct mly_onnx *onnx;
    const int32_t *ids;
    const size_t *starts;
    const struct place *places;
    size_t count, width; /* texts, and pieces of the longest */
    int64_t *numbers;    /* room for MLY_ONNX_INPUTS_MAX inputs of count * width */
    struct mly_ort_value *inputs[MLY_ONNX_INPUTS_MAX];
    struct mly_ort_value *output;
};

/* Longest first, so that the first batch shows what memory it takes; then as they stood. */
static int compare_places(const void *a, const void *b)
{
    const struct place *one = a, *two = b;
    if (one->pieces != two->pieces) return one->pieces < two->pieces ? 1 : -1;
    return (one->sequence > two->sequence) - (one->sequence < two->sequence);
}

/* Lays the pieces out: ids, then the mask, then the types, which are 0. */
static void fill_numbers(struct batch *batch)
{
    const size_t cells = batch->count * batch->width;
    int64_t *ids = batch->numbers, *mask = ids + cells, *types = mask + cells;
    for (size_t i = 0; i < batch->count; i++) {
        const struct place *place = &batch->places[i];
        const int32_t *from = batch->ids + batch->starts[place->sequence];
        for (size_t k = 0; k < batch->width; k++) {
            const bool real = k < place->pieces;
            *ids++ = real ? from[k] : batch->onnx->folder.pad_id;
            *mask++ = real;
            *types++ = 0;
        }
    }
}

static enum mly_err run(struct batch *batch, struct mly_error *err)
{
    const struct mly_onnx_session *s = &batch->onnx->session;
    const struct mly_ort_api *api = s->api;
    const size_t cells = batch->count * batch->width;
    const int64_t shape[2] = {(int64_t)batch->count, (int64_t)batch->width};
    const char *names[MLY_ONNX_INPUTS_MAX];
    const struct mly_ort_value *inputs[MLY_ONNX_INPUTS_MAX];
    for (size_t i = 0; i < s->input_count; i++) {
        names[i] = mly_onnx_input_names[s->inputs[i]];
        MLY_TRY(mly_ort_check(api,
                              api->create_tensor(s->memory, batch->numbers + s->inputs[i] * cells,
                                                 cells * sizeof(int64_t), shape, 2,
                                                 MLY_ORT_TYPE_INT64, &batch->inputs[i]),
                              "take the word pieces", err));
        inputs[i] = batch->inputs[i];
    }
    const char *const output = s->output_name;
    return mly_ort_check(
        api, api->run(s->session, NULL, names, inputs, s->input_count, &output, 1, &batch->output),
        "run the model", err);
}

static void drop_values(struct batch *batch)
{
    const struct mly_ort_api *api = batch->onnx->session.api;
    for (size_t i = 0; i < MLY_ONNX_INPUTS_MAX; i++) {
        if (batch->inputs[i] != NULL) api->release_value(batch->inputs[i]);
        batch->inputs[i] = NULL;
    }
    if (batch->output != NULL) api->release_value(batch->output);
    batch->output = NULL;
}

/* The output's numbers, borrowed, and how many make a vector: what the model said of its shape is
 * held against what it gave. */
static enum mly_err take_output(const struct batch *batch, const float **numbers, size_t *dim,
                                struct mly_error *err)
{
    const struct mly_onnx_session *s = &batch->onnx->session;
    const struct mly_ort_api *api = s->api;
    const char what[] = "give the model's output";
    struct mly_ort_shape *shape = NULL;
    int element = 0;
    size_t rank = 0;
    int64_t sides[3] = {0};
    MLY_TRY(mly_ort_check(api, api->value_shape(batch->output, &shape), what, err));
    enum mly_err rc = mly_ort_check(api, api->element_type(shape, &element), what, err);
    if (rc == MLY_OK) rc = mly_ort_check(api, api->rank(shape, &rank), what, err);
    if (rc == MLY_OK && rank == s->output_rank) {
        rc = mly_ort_check(api, api->dimensions(shape, sides, rank), what, err);
    }
    api->release_shape(shape);
    if (rc != MLY_OK) return rc;
    const int64_t last = sides[s->output_rank - 1];
    if (element != MLY_ORT_TYPE_FLOAT || rank != s->output_rank ||
        sides[0] != (int64_t)batch->count || (rank == 3 && sides[1] != (int64_t)batch->width) ||
        last < 1 || last > (int64_t)MLY_DIM_MAX) {
        return mly_fail(
            err, MLY_ERR_MODEL,
            "the model's output %.60s has the shape [%lld][%lld][%lld] for %zu texts of "
            "%zu word pieces",
            s->output_name, (long long)sides[0], (long long)sides[1], (long long)sides[2],
            batch->count, batch->width);
    }
    *dim = (size_t)last;
    void *data = NULL;
    MLY_TRY(mly_ort_check(api, api->tensor_data(batch->output, &data), what, err));
    *numbers = data;
    return MLY_OK;
}

/* Adds up rows f32[row_count][stride] for count numbers. */
static void mean_rows(const float *rows, size_t row_count, size_t stride, size_t count, float *out)
{
    double sums[MEAN_STEP] = {0};
    for (size_t row = 0; row < row_count; row++) {
        for (size_t i = 0; i < count; i++) {
            sums[i] += (double)rows[row * stride + i];
        }
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = (float)(sums[i] / (double)row_count);
    }
}

/* Sum or pick, then unit length; sums in double and one order. False: no direction. */
static bool pool(const float *rows, size_t row_count, size_t dim, float *out)
{
    double square = 0.0;
    for (size_t d = 0; d < dim; d += MEAN_STEP) {
        mean_rows(rows + d, row_count, dim, dim - d < MEAN_STEP ? dim - d : MEAN_STEP, out + d);
    }
    for (size_t d = 0; d < dim; d++) {
        square += (double)out[d] * (double)out[d];
    }
    if (!(square > 0.0) || !isfinite(square)) return false;
    const double factor = 1.0 / sqrt(square);
    for (size_t d = 0; d < dim; d++) {
        out[d] = (float)((double)out[d] * factor);
    }
    return true;
}

static enum mly_err pool_batch(const struct batch *batch, float *out, struct mly_error *err)
{
    const struct mly_onnx *onnx = batch->onnx;
    const float *numbers = NULL;
    size_t dim = 0;
    MLY_TRY(take_output(batch, &numbers, &dim, err));
    if (dim != onnx->card.dim) {
        return mly_fail(err, MLY_ERR_MODEL, "the model gives %zu numbers, it gave %u before", dim,
                        onnx->card.dim);
    }
    const bool by_piece = onnx->session.output_rank == 3;
    const size_t step = by_piece ? batch->width * dim : dim;
    const bool mean = by_piece && onnx->folder.pooling == MLY_ONNX_MEAN;
    for (size_t i = 0; i < batch->count; i++) {
        const struct place *place = &batch->places[i];
        if (!pool(numbers + i * step, mean ? place->pieces : 1, dim, out + place->sequence * dim)) {
            return mly_fail(err, MLY_ERR_CORRUPT,
                            "the model gives numbers that are not finite, or nothing but zeros");
        }
    }
    return MLY_OK;
}

/* How many of the places, the longest first, make one batch. */
static size_t cut_batch(const struct place *places, size_t count, bool alone)
{
    const size_t width = places[0].pieces;
    size_t n = 1;
    while (!alone && n < count && (n + 1) * width <= BATCH_PIECES_MAX &&
           (n + 1) * width * width <= BATCH_CELLS_MAX) {
        n++;
    }
    return n;
}

static enum mly_err check_sequence(const struct mly_onnx *onnx, const int32_t *ids, size_t start,
                                   size_t end, size_t sequence, struct mly_error *err)
{
    if (end < start || end - start < 2) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "sequence %zu has %zu word pieces, it needs at least [CLS] and [SEP]",
                        sequence, end < start ? (size_t)0 : end - start);
    }
    if (end - start > onnx->card.pieces_max) {
        return mly_fail(err, MLY_ERR_LIMIT, "sequence %zu has %zu word pieces, limit is %u",
                        sequence, end - start, onnx->card.pieces_max);
    }
    for (size_t i = start; i < end; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= onnx->folder.id_count) {
            return mly_fail(err, MLY_ERR_INVAL,
                            "word piece %d of sequence %zu is outside the vocabulary of %u",
                            (int)ids[i], sequence, onnx->folder.id_count);
        }
    }
    return MLY_OK;
}

static enum mly_err encode_batches(struct batch *batch, const struct place *places, size_t count,
                                   float *out, struct mly_error *err)
{
    for (size_t i = 0; i < count; i += batch->count) {
        batch->places = places + i;
        batch->width = places[i].pieces;
        batch->count = cut_batch(places + i, count - i, batch->onnx->session.alone);
        fill_numbers(batch);
        enum mly_err rc = run(batch, err);
        if (rc == MLY_OK) rc = pool_batch(batch, out, err);
        drop_values(batch);
        if (rc != MLY_OK) return rc;
    }
    return MLY_OK;
}

enum mly_err mly_onnx_encode(const struct mly_onnx *onnx, const int32_t *ids, const size_t *starts,
                             size_t count, float *out, struct mly_error *err)
{
    if (count == 0) return MLY_OK;
    for (size_t s = 0; s < count; s++) {
        MLY_TRY(check_sequence(onnx, ids, starts[s], starts[s + 1], s, err));
    }
    struct mly_mem *mem = onnx->env->mem;
    const size_t room = MLY_ONNX_INPUTS_MAX * BATCH_PIECES_MAX;
    struct batch batch = {.onnx = onnx, .ids = ids, .starts = starts};
    batch.numbers = mly_mem_array(mem, room, sizeof(batch.numbers[0]));
    struct place *places = mly_mem_array(mem, count, sizeof(places[0]));
    enum mly_err rc = MLY_OK;
    if (batch.numbers == NULL || places == NULL) {
        rc = mly_fail_nomem(err, room * sizeof(batch.numbers[0]) + count * sizeof(places[0]));
        goto done;
    }
    for (size_t s = 0; s < count; s++) {
        places[s] = (struct place){starts[s + 1] - starts[s], s};
    }
    qsort(places, count, sizeof(places[0]), compare_places);
    rc = encode_batches(&batch, places, count, out, err);
done:
    mly_mem_free(mem, places);
    mly_mem_free(mem, batch.numbers);
    return rc;
}

enum mly_err mly_onnx_probe(const struct mly_onnx *onnx, uint32_t *dim, struct mly_error *err)
{
    const int32_t ids[2] = {(int32_t)onnx->folder.pad_id, (int32_t)onnx->folder.pad_id};
    const size_t starts[2] = {0, 2};
    const struct place place = {2, 0};
    int64_t numbers[MLY_ONNX_INPUTS_MAX * 2];
    struct batch batch = {.onnx = onnx,
                          .ids = ids,
                          .starts = starts,
                          .places = &place,
                          .count = 1,
                          .width = 2,
                          .numbers = numbers};
    const float *ignored = NULL;
    size_t width = 0;
    fill_numbers(&batch);
    enum mly_err rc = run(&batch, err);
    if (rc == MLY_OK) rc = take_output(&batch, &ignored, &width, err);
    drop_values(&batch);
    if (rc == MLY_OK) *dim = (uint32_t)width;
    return rc;
}

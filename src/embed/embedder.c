/* The embedder: a mapped model, a kernel set, and a room for each worker of the pool.
 *
 * A batch is cut into blocks of whole sequences; each block is encoded by one worker in that
 * worker's room. One batch at a time: the mutex keeps the rooms and the list of blocks to itself.
 */
#include "embed/embed_int.h"

#include "base/hash.h"
#include "embed/onnx/onnx.h"

#include <string.h>

/* A small batch is cut finer, so that all workers get some of it, but never finer than this: below,
 * each block's way through the weights costs more than the other worker saves. */
#define BLOCK_ROWS_MIN 48
/* A block of so many rows is worth being encoded by several workers together. Measured with two:
 * even 8 rows take 0.6 of the time; but where the other core is busy, they take longer. */
#define TEAM_ROWS_MIN 12
/* Workers that an estimate of their shares looks at. */
#define SHARES_MAX 64

struct mly_embedder {
    struct mly_onnx *onnx; /* NULL, or the engine in charge: only env beside it is set then */
    const struct mly_env *env;
    const struct mly_kern *kern;
    struct mly_pool *pool;
    struct mly_model model;
    struct mly_mutex mutex; /* guards what follows; held for a whole batch, no other lock within */
    struct mly_encoder_room *rooms; /* one for each of the pool's workers */
    size_t room_count, room_ready;
    size_t *blocks; /* block i has the sequences blocks[i] .. blocks[i + 1] */
    size_t block_capacity;
};

struct batch {
    struct mly_embedder *embedder;
    const int32_t *ids;
    const size_t *starts;
    float *out;
    _Atomic bool failed;
};

enum mly_err mly_embedder_open(const struct mly_env *env, const struct mly_kern *kern,
                               struct mly_pool *pool, const char *path, struct mly_embedder **out,
                               struct mly_error *err)
{
    struct mly_embedder *embedder = mly_mem_array(env->mem, 1, sizeof(*embedder));
    if (embedder == NULL) return mly_fail_nomem(err, sizeof(*embedder));
    embedder->env = env;
    embedder->kern = kern;
    embedder->pool = pool;
    embedder->model.mem = env->mem;
    mly_mutex_init(&embedder->mutex);
    enum mly_err rc = mly_model_map(env, path, &embedder->model, err);
    if (rc != MLY_OK) goto done;
    embedder->room_count = mly_pool_thread_count(pool);
    embedder->rooms = mly_mem_array(env->mem, embedder->room_count, sizeof(embedder->rooms[0]));
    if (embedder->rooms == NULL) {
        rc = mly_fail_nomem(err, embedder->room_count * sizeof(embedder->rooms[0]));
        goto done;
    }
    *out = embedder; /* Moved. */
    embedder = NULL;
done:
    mly_embedder_close(embedder);
    return rc;
}

enum mly_err mly_embedder_open_folder(const struct mly_env *env, struct mly_pool *pool,
                                      const char *path, const char *library,
                                      struct mly_embedder **out, struct mly_error *err)
{
    struct mly_embedder *embedder = mly_mem_array(env->mem, 1, sizeof(*embedder));
    if (embedder == NULL) return mly_fail_nomem(err, sizeof(*embedder));
    embedder->env = env;
    enum mly_err rc =
        mly_onnx_open(env, mly_pool_thread_count(pool), path, library, &embedder->onnx, err);
    if (rc != MLY_OK) {
        mly_mem_free(env->mem, embedder);
        return rc;
    }
    *out = embedder;
    return MLY_OK;
}

void mly_embedder_close(struct mly_embedder *embedder)
{
    if (embedder == NULL) return;
    struct mly_mem *mem = embedder->env->mem;
    if (embedder->onnx != NULL) {
        mly_onnx_close(embedder->onnx);
        mly_mem_free(mem, embedder);
        return;
    }
    for (size_t i = 0; i < embedder->room_ready; i++) {
        mly_encoder_room_deinit(&embedder->rooms[i], mem);
    }
    mly_mem_free(mem, embedder->rooms);
    mly_mem_free(mem, embedder->blocks);
    mly_model_close(&embedder->model);
    mly_mutex_deinit(&embedder->mutex);
    mly_mem_free(mem, embedder);
}

const struct mly_model_card *mly_embedder_card(const struct mly_embedder *embedder)
{
    if (embedder->onnx != NULL) return mly_onnx_card(embedder->onnx);
    return &embedder->model.card;
}

enum mly_err mly_embedder_verify(const struct mly_embedder *embedder, struct mly_error *err)
{
    if (embedder->onnx != NULL) return mly_onnx_verify(embedder->onnx, err);
    const struct mly_model *model = &embedder->model;
    const struct mly_hash hash = mly_hash_bytes(model->data);
    char hex[2 * MLY_HASH_BYTES + 1];
    mly_hash_to_hex(&hash, hex);
    if (!mly_str_equal(mly_str_of(hex), model->data_sum)) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "the model's data have the checksum %s, its header says %.*s", hex,
                        (int)model->data_sum.bytes, model->data_sum.data);
    }
    return MLY_OK;
}

static enum mly_err check_sequence(const struct mly_model_config *config, const int32_t *ids,
                                   size_t start, size_t end, size_t sequence, struct mly_error *err)
{
    if (end < start || end - start < 2) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "sequence %zu has %zu word pieces, it needs at least [CLS] and [SEP]",
                        sequence, end < start ? (size_t)0 : end - start);
    }
    if (end - start > config->pieces_max) {
        return mly_fail(err, MLY_ERR_LIMIT, "sequence %zu has %zu word pieces, limit is %zu",
                        sequence, end - start, config->pieces_max);
    }
    for (size_t i = start; i < end; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= config->vocabulary) {
            return mly_fail(err, MLY_ERR_INVAL,
                            "word piece %d of sequence %zu is outside the vocabulary of %zu",
                            (int)ids[i], sequence, config->vocabulary);
        }
    }
    return MLY_OK;
}

/* Room for count blocks' ends and, where several workers will work, for all of them. */
static enum mly_err make_room(struct mly_embedder *embedder, size_t count, size_t rooms,
                              struct mly_error *err)
{
    struct mly_mem *mem = embedder->env->mem;
    if (count + 1 > embedder->block_capacity) {
        size_t bytes;
        const size_t capacity = count + 1 + count / 2; /* count is below 2^62: it has starts */
        if (!mly_size_mul(capacity, sizeof(size_t), &bytes)) return mly_fail_nomem(err, SIZE_MAX);
        size_t *blocks = mly_mem_realloc(mem, embedder->blocks, bytes);
        if (blocks == NULL) return mly_fail_nomem(err, bytes);
        embedder->blocks = blocks;
        embedder->block_capacity = capacity;
    }
    while (embedder->room_ready < rooms) {
        MLY_TRY(mly_encoder_room_init(&embedder->rooms[embedder->room_ready], mem,
                                      &embedder->model.config, err));
        embedder->room_ready++;
    }
    return MLY_OK;
}

/* Whole sequences until a block would pass rows_max; one alone may. Returns how many blocks. */
static size_t cut_blocks(size_t *blocks, const size_t *starts, size_t count, size_t rows_max)
{
    size_t block_count = 0;
    for (size_t s = 0; s < count;) {
        const size_t first = s++;
        while (s < count && starts[s + 1] - starts[first] <= rows_max) {
            s++;
        }
        blocks[block_count++] = first;
    }
    blocks[block_count] = count;
    return block_count;
}

static size_t choose_rows(const struct mly_embedder *embedder, size_t pieces)
{
    size_t rows = (pieces + embedder->room_count - 1) / embedder->room_count;
    if (rows < BLOCK_ROWS_MIN) rows = BLOCK_ROWS_MIN;
    return rows < MLY_ENCODER_ROWS ? rows : MLY_ENCODER_ROWS;
}

/* What the busiest of the workers gets, in rows, if each takes the next block when it is done. */
static size_t longest_share(const struct mly_embedder *embedder, const size_t *starts,
                            size_t block_count)
{
    size_t loads[SHARES_MAX] = {0}, most = 0;
    const size_t workers =
        embedder->room_count < SHARES_MAX ? embedder->room_count : (size_t)SHARES_MAX;
    for (size_t i = 0; i < block_count; i++) {
        size_t least = 0;
        for (size_t w = 1; w < workers; w++) {
            if (loads[w] < loads[least]) least = w;
        }
        const size_t *blocks = embedder->blocks;
        loads[least] += starts[blocks[i + 1]] - starts[blocks[i]];
        if (loads[least] > most) most = loads[least];
    }
    return most;
}

/* Blocks for one worker each leave some without work at the end, or all of the time: do all workers
 * on one block after the other finish sooner? */
static bool team_pays(const struct mly_embedder *embedder, const size_t *starts, size_t count,
                      size_t block_count)
{
    const size_t rows = starts[count] - starts[0], workers = embedder->room_count;
    if (workers == 1 || rows < TEAM_ROWS_MIN) return false;
    const size_t share = longest_share(embedder, starts, block_count);
    return share * workers * 10 > rows * 12;
}

static struct mly_encoder_block block_of(const struct batch *batch, size_t part_i,
                                         struct mly_encoder_room *room)
{
    const struct mly_embedder *embedder = batch->embedder;
    const size_t first = embedder->blocks[part_i], end = embedder->blocks[part_i + 1];
    const size_t *starts = batch->starts + first;
    return (struct mly_encoder_block){
        .model = &embedder->model,
        .kern = embedder->kern,
        .room = room,
        .ids = batch->ids,
        .starts = starts,
        .count = end - first,
        .rows = starts[end - first] - starts[0],
    };
}

static float *out_of(const struct batch *batch, size_t part_i)
{
    const struct mly_embedder *embedder = batch->embedder;
    return batch->out + embedder->blocks[part_i] * embedder->model.config.hidden;
}

static void run_block(void *context, size_t part_i, uint32_t worker_i)
{
    struct batch *batch = context;
    const struct mly_encoder_block block =
        block_of(batch, part_i, &batch->embedder->rooms[worker_i]);
    if (!mly_encoder_run(&block, out_of(batch, part_i))) atomic_store(&batch->failed, true);
}

/* One block after the other, each by all workers. */
static void run_together(struct batch *batch, size_t block_count)
{
    struct mly_embedder *embedder = batch->embedder;
    for (size_t i = 0; i < block_count; i++) {
        const struct mly_encoder_block block = block_of(batch, i, &embedder->rooms[0]);
        if (!mly_encoder_run_team(&block, embedder->pool, embedder->rooms, out_of(batch, i))) {
            atomic_store(&batch->failed, true);
        }
    }
}

/* With the mutex held. */
static enum mly_err run_batch(struct batch *batch, size_t count, struct mly_error *err)
{
    struct mly_embedder *embedder = batch->embedder;
    const size_t *starts = batch->starts;
    MLY_TRY(make_room(embedder, count, 1, err));
    const size_t rows = choose_rows(embedder, starts[count] - starts[0]);
    size_t block_count = cut_blocks(embedder->blocks, starts, count, rows);
    const bool team = team_pays(embedder, starts, count, block_count);
    if (block_count == 1 && !team) {
        run_block(batch, 0, 0); /* The rooms are ours while we hold the mutex: no need to wake
                                   anybody. */
        return MLY_OK;
    }
    MLY_TRY(make_room(embedder, count, embedder->room_count, err));
    if (team) {
        block_count = cut_blocks(embedder->blocks, starts, count, MLY_ENCODER_ROWS);
        run_together(batch, block_count);
    } else {
        mly_pool_run(embedder->pool, block_count, run_block, batch);
    }
    return MLY_OK;
}

enum mly_err mly_embedder_encode(struct mly_embedder *embedder, const int32_t *ids,
                                 const size_t *starts, size_t count, float *out,
                                 struct mly_error *err)
{
    if (count == 0) return MLY_OK;
    if (embedder->onnx != NULL) {
        return mly_onnx_encode(embedder->onnx, ids, starts, count, out, err);
    }
    for (size_t s = 0; s < count; s++) {
        MLY_TRY(check_sequence(&embedder->model.config, ids, starts[s], starts[s + 1], s, err));
    }
    struct batch batch = {embedder, ids, starts, out, false};
    mly_mutex_lock(&embedder->mutex);
    enum mly_err rc = run_batch(&batch, count, err);
    if (rc == MLY_OK && atomic_load(&batch.failed)) {
        rc = mly_fail(err, MLY_ERR_CORRUPT,
                      "the model gives numbers that are not finite: its file is damaged");
    }
    mly_mutex_unlock(&embedder->mutex);
    return rc;
}

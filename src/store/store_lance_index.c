/* The index of the table's own format: made from the table as it is, then put into a version of it.
 *
 * In: the newest manifest of the chunks. Out: a version with one more index. While it is made
 * others write on; rows of theirs are not in it, and fragments that went meanwhile stay named in
 * it, as in every index that was there before its rows went: who searches leaves them out. */
#include "store/store_index_int.h"

#include "base/limits.h"
#include "index/ivfpq.h"

#include <inttypes.h>

/* It is made anew when so much is outside of it. */
#define PENDING_PARTS ((uint64_t)16)
/* As the programs that search in it call one of this column. */
#define DEFAULT_NAME MLY_STR("vector_idx")
/* Lost races against other programs. */
#define COMMIT_TRIES 20
/* Times that it is made anew, because what it was made of was rewritten meanwhile. */
#define MAKE_TRIES 3

/* What the newest snapshot has of indices of its vectors. */
struct standing {
    struct mly_snapshot *snapshot;
    struct mly_store_view *view, *base;
    struct mly_lance_indices *indices; /* NULL: there is no table */
    int32_t field_id;                  /* -1: no vectors */
    struct mly_store_lance_index state;
    char name[128]; /* under which one is to be made */
    bool is_free;   /* of that name there is none, or one that may be replaced */
};

static void standing_deinit(struct standing *standing)
{
    mly_lance_indices_destroy(standing->indices);
    if (standing->snapshot != NULL) mly_snapshot_release(standing->snapshot);
}

static bool is_of_vectors(const struct standing *standing, size_t index_i)
{
    struct mly_lance_index_info info;
    mly_lance_indices_get(standing->indices, index_i, &info);
    return info.is_vector && info.field_id == standing->field_id;
}

static void set_name(struct standing *standing, struct mly_str name)
{
    const size_t bytes =
        name.bytes < sizeof(standing->name) ? name.bytes : sizeof(standing->name) - 1;
    memcpy(standing->name, name.data, bytes);
    standing->name[bytes] = '\0';
}

/* The name of the one that is there, or the usual one. */
static void find_name(struct standing *standing)
{
    struct mly_lance_index_info info;
    set_name(standing, DEFAULT_NAME);
    for (size_t i = 0; i < mly_lance_indices_count(standing->indices); i++) {
        mly_lance_indices_get(standing->indices, i, &info);
        if (!is_of_vectors(standing, i)) continue;
        standing->state.is_there = true;
        standing->state.bytes += info.bytes;
        if (!info.is_ivf_pq || info.name.bytes >= sizeof(standing->name)) continue;
        standing->state.is_ivf_pq = true;
        set_name(standing, info.name);
    }
    standing->is_free = true;
    for (size_t i = 0; i < mly_lance_indices_count(standing->indices); i++) {
        mly_lance_indices_get(standing->indices, i, &info);
        if (!mly_str_equal(info.name, mly_str_of(standing->name))) continue;
        if (!is_of_vectors(standing, i) || !info.is_ivf_pq) standing->is_free = false;
    }
}

static bool is_covered(const struct standing *standing, uint64_t fragment_id)
{
    for (size_t i = 0; i < mly_lance_indices_count(standing->indices); i++) {
        if (is_of_vectors(standing, i) &&
            mly_lance_indices_cover(standing->indices, i, fragment_id)) {
            return true;
        }
    }
    return false;
}

static void count_rows(struct standing *standing)
{
    const struct mly_store_view *view = standing->view;
    for (size_t i = 0; i < view->base_count; i++) {
        const struct mly_store_part *part = &view->parts[i];
        if (!is_covered(standing, part->fragment->id)) continue;
        standing->state.rows +=
            part->row_count - (part->dead == NULL ? 0 : part->dead->set.deleted_count);
    }
    standing->state.pending = view->live_count - standing->state.rows;
}

static enum mly_err look(struct mly_store *store, struct standing *standing, struct mly_error *err)
{
    struct mly_lance_field field;
    *standing = (struct standing){.field_id = -1};
    MLY_TRY(mly_store_pin(store, &standing->snapshot, err));
    standing->view = standing->snapshot->views[MLY_STORE_CHUNKS];
    standing->base = mly_store_view_base(standing->view);
    const size_t field_i = standing->base->fields[MLY_CHUNK_VECTOR];
    if (standing->base->manifest == NULL || field_i == MLY_LANCE_NO_FIELD) return MLY_OK;
    mly_lance_manifest_get_field(standing->base->manifest, field_i, &field);
    standing->field_id = field.id;
    MLY_TRY(mly_lance_indices_read(standing->base->manifest, &standing->indices, err));
    find_name(standing);
    count_rows(standing);
    return MLY_OK;
}

enum mly_err mly_store_get_lance_index(struct mly_store *store, struct mly_store_lance_index *out,
                                       struct mly_error *err)
{
    struct standing standing;
    *out = (struct mly_store_lance_index){.is_there = false};
    if (store->in_memory) return MLY_OK;
    enum mly_err rc = look(store, &standing, err);
    *out = standing.state;
    standing_deinit(&standing);
    return rc;
}

/* ---- what is due ---- */

static enum mly_err is_due(const struct standing *standing, bool check, bool *out,
                           struct mly_error *err)
{
    const struct mly_store_lance_index *state = &standing->state;
    struct mly_error damage;
    *out = false;
    if (standing->indices == NULL) return MLY_OK;
    if (state->rows + state->pending < MLY_IVFPQ_ROWS_MIN) return MLY_OK;
    *out = !state->is_there || state->pending > state->rows / PENDING_PARTS;
    if (!*out && check) {
        enum mly_err rc = mly_lance_indices_check(standing->base->table->lance,
                                                  standing->base->manifest, &damage);
        if (rc != MLY_OK && rc != MLY_ERR_CORRUPT) return mly_fail(err, rc, "%s", damage.message);
        *out = rc == MLY_ERR_CORRUPT;
    }
    if (!*out || (standing->is_free && (!state->is_there || state->is_ivf_pq))) return MLY_OK;
    return mly_fail(
        err, MLY_ERR_UNSUPPORTED,
        "%s: its index of vectors is of another kind than IVF_PQ, and %" PRIu64
        " rows are not in it; who made it brings it up (optimize of lancedb), or drop it",
        mly_lance_table_path(standing->base->table->lance), state->pending);
}

/* ---- making ---- */

struct making {
    struct mly_store *store;
    struct standing standing;
    struct mly_store_vectors vectors;
    struct mly_vindex_file *files;
    uint64_t *fragments; /* their ids */
    uint64_t *addresses; /* of one partition */
    size_t file_count, address_room;
    struct mly_lance_index_writer *writer;
    mly_vindex_pulse_fn pulse;
    void *pulse_context;
};

static enum mly_err list_parts(struct making *making, struct mly_error *err)
{
    const struct mly_store_view *base = making->standing.base;
    struct mly_mem *mem = making->store->mem;
    MLY_TRY(mly_store_vectors_init(&making->vectors, making->store, base, err));
    making->vectors.without_dead = true;
    making->files = mly_mem_array(mem, base->part_count + 1, sizeof(making->files[0]));
    making->fragments = mly_mem_array(mem, base->part_count + 1, sizeof(making->fragments[0]));
    if (making->files == NULL || making->fragments == NULL) {
        return mly_fail_nomem(err, base->part_count * sizeof(making->files[0]));
    }
    for (size_t i = 0; i < base->part_count; i++) {
        const struct mly_store_part *part = &base->parts[i];
        making->vectors.parts[i] = part;
        making->fragments[i] = part->fragment->id;
        making->files[i] = (struct mly_vindex_file){MLY_STR(""), (uint32_t)part->row_count};
    }
    making->file_count = base->part_count;
    return MLY_OK;
}

static enum mly_err put_partition(void *context, size_t partition_i, const uint64_t *rows,
                                  const uint8_t *codes, size_t count, struct mly_error *err)
{
    struct making *making = context;
    (void)partition_i;
    if (count > making->address_room) {
        mly_mem_free(making->store->mem, making->addresses);
        making->address_room = 0;
        making->addresses = mly_mem_array(making->store->mem, count, sizeof(uint64_t));
        if (making->addresses == NULL) return mly_fail_nomem(err, count * sizeof(uint64_t));
        making->address_room = count;
    }
    for (size_t i = 0; i < count; i++) {
        making->addresses[i] = making->fragments[rows[i] >> 32] << 32 | (rows[i] & UINT32_MAX);
    }
    return mly_lance_index_put(making->writer, making->addresses, codes, count, err);
}

static enum mly_err write_index(struct making *making, struct mly_ivfpq *ivfpq,
                                struct mly_lance_index *out, struct mly_error *err)
{
    struct mly_ivfpq_info info;
    mly_ivfpq_get_info(ivfpq, &info);
    const struct mly_lance_index_shape shape = {
        .dim = info.dim,
        .partition_count = info.partition_count,
        .sub_count = info.sub_count,
        .partition_rows = info.partition_rows,
        .centroids = info.centroids,
        .codebook = info.codebook,
    };
    const struct mly_lance_table *lance = making->standing.base->table->lance;
    enum mly_err rc = mly_lance_index_writer_open(lance, &shape, &making->writer, err);
    if (rc == MLY_OK) rc = mly_ivfpq_encode(ivfpq, put_partition, making, err);
    if (rc == MLY_OK) rc = mly_lance_index_writer_finish(making->writer, out, err);
    mly_lance_index_writer_close(making->writer);
    making->writer = NULL;
    return rc;
}

static enum mly_err beat(void *context, double done, struct mly_error *err)
{
    const struct making *making = context;
    return making->pulse == NULL ? MLY_OK : making->pulse(making->pulse_context, done, err);
}

/* out->row_count 0: no row has a vector, and nothing was written. */
static enum mly_err make_files(struct making *making, struct mly_pool *pool,
                               struct mly_lance_index *out, struct mly_error *err)
{
    struct mly_ivfpq *ivfpq = NULL;
    struct mly_ivfpq_info info;
    const struct mly_vindex_maker maker = {
        .env = making->store->env,
        .kern = making->store->index->kern,
        .pool = pool,
        .dim = making->standing.base->dim,
        .rows = mly_store_vectors_give,
        .rows_context = &making->vectors,
        .pulse = beat,
        .pulse_context = making,
    };
    *out = (struct mly_lance_index){.row_count = 0};
    MLY_TRY(list_parts(making, err));
    MLY_TRY(mly_ivfpq_train(&maker, making->files, making->file_count, &ivfpq, err));
    mly_ivfpq_get_info(ivfpq, &info);
    enum mly_err rc = info.row_count == 0 ? MLY_OK : write_index(making, ivfpq, out, err);
    mly_ivfpq_destroy(ivfpq);
    return rc;
}

/* ---- the version ---- */

/* Are the rows still where they were? Those of fragments that are gone need not be. */
static bool is_right_for(const struct making *making, const struct mly_lance_manifest *newest)
{
    const struct mly_lance_manifest *made_of = making->standing.base->manifest;
    for (size_t i = 0; i < making->file_count; i++) {
        const uint64_t id = making->fragments[i];
        if (mly_lance_manifest_find_fragment(newest, id) != SIZE_MAX &&
            !mly_lance_manifest_same_data(made_of, newest, id)) {
            return false;
        }
    }
    return true;
}

/* *fits false: it has to be made anew. */
static enum mly_err commit_on(struct making *making, struct mly_store_view *base,
                              const struct mly_lance_index *index, bool *visible, bool *fits,
                              struct mly_error *err)
{
    const struct standing *standing = &making->standing;
    const struct mly_lance_index_change wanted = {
        .index = index,
        .name = mly_str_of(standing->name),
        .field_id = standing->field_id,
        .version = mly_lance_manifest_version(standing->base->manifest),
        .fragments = making->fragments,
        .fragment_count = making->file_count,
    };
    struct mly_lance_change change = {.index = &wanted};
    *fits = base->manifest != NULL && is_right_for(making, base->manifest);
    if (!*fits) return MLY_OK;
    return mly_store_commit_table(making->store, base, &change, base->lsn, base->dim, visible, err);
}

static enum mly_err commit_index(struct making *making, const struct mly_lance_index *index,
                                 bool *visible, bool *fits, struct mly_error *err)
{
    struct mly_store *store = making->store;
    enum mly_err rc = MLY_OK;
    for (int attempt = 0; attempt < COMMIT_TRIES; attempt++) {
        struct mly_store_view *base = NULL;
        mly_mutex_lock(&store->mutex);
        rc = mly_store_renew(store, err);
        if (rc == MLY_OK) {
            base =
                mly_store_view_retain(mly_store_view_base(store->current->views[MLY_STORE_CHUNKS]));
        }
        mly_mutex_unlock(&store->mutex);
        if (rc != MLY_OK) return rc;
        rc = commit_on(making, base, index, visible, fits, err);
        mly_store_view_release(base);
        if (rc != MLY_ERR_CONFLICT) return rc;
    }
    return rc;
}

static enum mly_err ask(void *context, struct mly_error *err)
{
    return beat(context, 1, err);
}

static enum mly_err publish(struct making *making, const struct mly_lance_index *index, bool *fits,
                            struct mly_error *err)
{
    struct mly_store *store = making->store;
    const struct mly_lance_table *lance = making->standing.base->table->lance;
    bool visible = false;
    enum mly_err rc = mly_store_begin_pulsed(store, ask, making, err);
    if (rc == MLY_OK) {
        rc = commit_index(making, index, &visible, fits, err);
        enum mly_err end = mly_store_end(store, rc == MLY_OK ? err : NULL);
        if (rc == MLY_OK) rc = end;
    }
    if (!visible) mly_lance_index_discard(lance, index);
    return rc;
}

/* With the lock of those who make indices. */
static enum mly_err make_once(struct making *making, struct mly_pool *pool, bool check, bool *made,
                              bool *fits, struct mly_error *err)
{
    struct mly_lance_index index;
    bool due = false;
    *fits = true;
    enum mly_err rc = look(making->store, &making->standing, err);
    if (rc == MLY_OK) rc = is_due(&making->standing, check, &due, err);
    if (rc == MLY_OK && due) {
        rc = make_files(making, pool, &index, err);
        if (rc == MLY_OK && index.row_count > 0) {
            rc = publish(making, &index, fits, err);
            *made = rc == MLY_OK && *fits;
        }
    }
    standing_deinit(&making->standing);
    mly_store_vectors_deinit(&making->vectors);
    mly_mem_free(making->store->mem, making->files);
    mly_mem_free(making->store->mem, making->fragments);
    mly_mem_free(making->store->mem, making->addresses);
    return rc;
}

static enum mly_err make_locked(struct mly_store *store, struct mly_pool *pool, bool check,
                                mly_vindex_pulse_fn pulse, void *context, bool *made,
                                struct mly_error *err)
{
    for (int attempt = 0; attempt < MAKE_TRIES; attempt++) {
        struct making making = {.store = store, .pulse = pulse, .pulse_context = context};
        bool fits = true;
        MLY_TRY(make_once(&making, pool, check, made, &fits, err));
        if (fits) return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_CONFLICT,
                    "%s: its chunks were rewritten %d times while an index of them was made",
                    store->path, MAKE_TRIES);
}

enum mly_err mly_store_make_lance_index(struct mly_store *store, struct mly_pool *pool, bool check,
                                        mly_vindex_pulse_fn pulse, void *context, bool *made,
                                        struct mly_error *err)
{
    struct mly_lock_file lock = MLY_LOCK_FILE_CLOSED;
    bool taken = false;
    *made = false;
    if (store->index == NULL) return MLY_OK;
    if (store->read_only) {
        return mly_fail(err, MLY_ERR_READONLY, "store %s is open for reading only", store->path);
    }
    atomic_fetch_add(&store->index->callers, 1);
    enum mly_err rc = mly_store_index_lock(store, true, pulse, context, &lock, &taken, err);
    if (rc == MLY_OK) rc = make_locked(store, pool, check, pulse, context, made, err);
    mly_lock_file_close(&lock);
    atomic_fetch_sub(&store->index->callers, 1);
    return rc;
}

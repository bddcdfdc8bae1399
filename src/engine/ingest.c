/* Texts come in one by one, are cut and named at once, and wait; what must be embedded is embedded
 * together, packed to keep every thread busy; then everything is committed as one. Vectors of
 * chunks that did not change are taken from the rows that are there. */
#include "engine/engine_int.h"

#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

/* A commit at the latest then: what is waiting is held in memory. */
#define INGEST_ROWS_MAX ((size_t)2048)
#define INGEST_TEXT_BYTES_MAX ((size_t)8 << 20)
/* A commit about every three seconds, however fast the machine embeds: an interruption loses no
 * more, and each commit costs some milliseconds. */
#define INGEST_BATCH_S 3.0
#define INGEST_PIECES_MIN ((size_t)4096)
#define INGEST_ITEMS_MAX ((size_t)4096)           /* empty files and removals have neither */
#define INGEST_ARENA_BYTES_MAX ((size_t)64 << 20) /* metadata, paths, rows */
/* Others may change what a commit rests on while it is prepared; after that many surprises the rest
 * is embedded with the writer's lock held. */
#define COMMIT_TRIES 3

void mly_ingest_init(struct mly_ingest *ingest, memalloy_kernel *kernel,
                     struct mly_snapshot *snapshot)
{
    struct mly_mem *mem = kernel->env->mem;
    *ingest = (struct mly_ingest){
        .kernel = kernel, .snapshot = snapshot, .durability = MLY_DURABILITY_DEFAULT};
    ingest->chunking = mly_kernel_get_chunking(kernel);
    ingest->pieces_max = INGEST_PIECES_MIN; /* until the first batch has been timed */
    ingest->batch_pieces = MLY_WATCHED_PIECES_MIN;
    mly_arena_init(&ingest->arena, mem, SIZE_MAX);
    mly_bytes_init(&ingest->ids, mem, SIZE_MAX / 2);
    mly_bytes_init(&ingest->starts, mem, SIZE_MAX / 2);
    mly_bytes_init(&ingest->targets, mem, SIZE_MAX / 2);
    mly_framing_init(&ingest->framing, mem);
}

/* Empties it, keeping buffers for the next round. */
static void reset(struct mly_ingest *ingest)
{
    for (size_t i = 0; i < ingest->count; i++) {
        mly_chunks_deinit(&ingest->items[i].chunks);
        mly_text_deinit(&ingest->items[i].text);
    }
    ingest->count = 0;
    ingest->row_count = 0;
    ingest->text_bytes = 0;
    ingest->ids.bytes = 0;
    ingest->starts.bytes = 0;
    ingest->targets.bytes = 0;
    mly_arena_reset(&ingest->arena);
}

void mly_ingest_deinit(struct mly_ingest *ingest)
{
    struct mly_mem *mem = ingest->kernel->env->mem;
    reset(ingest);
    mly_mem_free(mem, ingest->items);
    mly_arena_deinit(&ingest->arena);
    mly_bytes_deinit(&ingest->ids);
    mly_bytes_deinit(&ingest->starts);
    mly_bytes_deinit(&ingest->targets);
    mly_framing_deinit(&ingest->framing);
}

bool mly_ingest_is_full(const struct mly_ingest *ingest)
{
    return ingest->row_count >= INGEST_ROWS_MAX || ingest->text_bytes >= INGEST_TEXT_BYTES_MAX ||
           ingest->count >= INGEST_ITEMS_MAX ||
           ingest->ids.bytes / sizeof(int32_t) >= ingest->pieces_max ||
           ingest->arena.bytes >= INGEST_ARENA_BYTES_MAX;
}

static enum mly_err ask(const struct mly_ingest *ingest, struct mly_error *err)
{
    return ingest->pulse == NULL ? MLY_OK : ingest->pulse(ingest->pulse_context, err);
}

/* The model's meter; who watches is asked for each part that is measured. */
static int measure(void *context, struct mly_str text, struct mly_tokens *out,
                   struct mly_error *err)
{
    const struct mly_ingest *ingest = context;
    const struct mly_meter meter = mly_model_meter(ingest->model);
    enum mly_err rc = ask(ingest, err);
    return rc != MLY_OK ? (int)rc : meter.measure(meter.context, text, out, err);
}

/* Cuts the item's text and fills its rows, without ids and vectors. */
static enum mly_err make_rows(struct mly_ingest *ingest, struct mly_ingest_item *item,
                              struct mly_error *err)
{
    double start = mly_clock_seconds(ingest->kernel->env);
    struct mly_meter meter = mly_model_meter(ingest->model);
    meter.context = ingest;
    meter.measure = measure;
    struct mly_str text = item->text.text;
    MLY_TRY(mly_chunk_split(ingest->kernel->env->mem, text, &ingest->chunking, &meter,
                            &item->chunks, err));
    size_t count = item->chunks.count;
    struct mly_chunk_row *rows = mly_arena_array(&ingest->arena, count, sizeof(rows[0]));
    if (rows == NULL) return mly_fail_nomem(err, count * sizeof(rows[0]));
    for (size_t i = 0; i < count; i++) {
        const struct mly_chunk *chunk = &item->chunks.items[i];
        rows[i] = (struct mly_chunk_row){
            .document_id = item->document.id,
            .content = mly_str_slice(text, chunk->byte_start, chunk->byte_end),
            .metadata = item->document.metadata,
            .heading = chunk->heading,
            .ordinal = (int64_t)i,
            .byte_start = (int64_t)(chunk->byte_start + item->text.bytes_before),
            .byte_end = (int64_t)(chunk->byte_end + item->text.bytes_before),
            .line_start = (int64_t)chunk->line_start,
            .line_end = (int64_t)chunk->line_end,
            .page_start = -1,
            .page_end = -1,
            .created_at_us = item->document.updated_at_us,
        };
    }
    item->rows = rows;
    item->row_count = count;
    ingest->times.chunk_s += mly_clock_seconds(ingest->kernel->env) - start;
    return mly_make_chunk_ids(ingest->kernel->env->mem, item->document.id, rows, count, err);
}

static int compare_row_ids(const void *a, const void *b)
{
    const struct mly_chunk_row *row_a = a;
    const struct mly_chunk_row *row_b = b;
    return memcmp(row_a->id, row_b->id, sizeof(row_a->id));
}

/* Gives rows the vectors that chunks of the same id have in the store. */
static enum mly_err reuse_vectors(struct mly_ingest *ingest, struct mly_ingest_item *item,
                                  struct mly_str document_id, struct mly_error *err)
{
    struct mly_chunk_row *old = NULL;
    size_t old_count = 0;
    MLY_TRY(mly_snapshot_document_chunks(ingest->snapshot, document_id, &ingest->arena, &old,
                                         &old_count, err));
    if (old_count == 0) return MLY_OK;
    qsort(old, old_count, sizeof(old[0]), compare_row_ids);
    for (size_t i = 0; i < item->row_count; i++) {
        if (item->rows[i].vector != NULL) continue;
        const struct mly_chunk_row *row =
            bsearch(&item->rows[i], old, old_count, sizeof(old[0]), compare_row_ids);
        if (row != NULL) item->rows[i].vector = row->vector;
    }
    return MLY_OK;
}

/* The same from another document: rows get the ids for a moment that they would have there. */
static enum mly_err reuse_donor(struct mly_ingest *ingest, struct mly_ingest_item *item,
                                struct mly_error *err)
{
    struct mly_mem *mem = ingest->kernel->env->mem;
    if (item->donor_id.data == NULL) return MLY_OK;
    MLY_TRY(mly_make_chunk_ids(mem, item->donor_id, item->rows, item->row_count, err));
    MLY_TRY(reuse_vectors(ingest, item, item->donor_id, err));
    return mly_make_chunk_ids(mem, item->document.id, item->rows, item->row_count, err);
}

/* Queues a row's word pieces for the embedder. */
static enum mly_err queue_row(struct mly_ingest *ingest, struct mly_chunk_row *row,
                              struct mly_error *err)
{
    bool cut = false;
    MLY_TRY(mly_model_frame_text(ingest->model, MEMALLOY_EMBED_PASSAGE, row->content,
                                 &ingest->framing, &ingest->ids, &ingest->starts, &cut, err));
    if (cut) {
        return mly_fail(err, MLY_ERR_INTERNAL,
                        "a chunk of more word pieces than the model reads, %zu",
                        mly_model_room(ingest->model, MEMALLOY_EMBED_PASSAGE));
    }
    return mly_bytes_append(&ingest->targets, &row, sizeof(row), err);
}

static enum mly_err queue_rows(struct mly_ingest *ingest, struct mly_ingest_item *item,
                               struct mly_error *err)
{
    double start = mly_clock_seconds(ingest->kernel->env);
    if (ingest->starts.bytes == 0) {
        size_t zero = 0;
        MLY_TRY(mly_bytes_append(&ingest->starts, &zero, sizeof(zero), err));
    }
    for (size_t i = 0; i < item->row_count; i++) {
        if (item->rows[i].vector != NULL) continue;
        MLY_TRY(queue_row(ingest, &item->rows[i], err));
        MLY_TRY(ask(ingest, err));
    }
    ingest->times.token_s += mly_clock_seconds(ingest->kernel->env) - start;
    return MLY_OK;
}

/* The first heading is the title. */
static struct mly_str title_of(const struct mly_ingest_item *item)
{
    for (size_t i = 0; i < item->row_count; i++) {
        struct mly_str heading = item->rows[i].heading;
        if (heading.data == NULL) continue;
        for (size_t at = 0; at + 3 <= heading.bytes; at++) {
            if (memcmp(heading.data + at, " > ", 3) == 0) return mly_str_slice(heading, 0, at);
        }
        return heading;
    }
    return MLY_STR_NULL;
}

static enum mly_err grow_items(struct mly_ingest *ingest, size_t more, struct mly_error *err)
{
    if (more <= ingest->capacity - ingest->count) return MLY_OK;
    size_t capacity = ingest->capacity == 0 ? 16 : ingest->capacity * 2;
    size_t bytes;
    if (capacity - ingest->count < more) capacity = ingest->count + more;
    if (!mly_size_mul(capacity, sizeof(ingest->items[0]), &bytes)) {
        return mly_fail_nomem(err, SIZE_MAX);
    }
    struct mly_ingest_item *items = mly_mem_realloc(ingest->kernel->env->mem, ingest->items, bytes);
    if (items == NULL) return mly_fail_nomem(err, bytes);
    ingest->items = items;
    ingest->capacity = capacity;
    return MLY_OK;
}

/* Rows that came without vectors of the caller's. */
static enum mly_err prepare_text(struct mly_ingest *ingest, struct mly_ingest_item *item,
                                 struct mly_error *err)
{
    if (ingest->model == NULL) {
        MLY_TRY(mly_kernel_get_model(ingest->kernel, &ingest->model, err));
    }
    MLY_TRY(make_rows(ingest, item, err));
    if (item->replaces) MLY_TRY(reuse_vectors(ingest, item, item->document.id, err));
    MLY_TRY(reuse_donor(ingest, item, err));
    MLY_TRY(queue_rows(ingest, item, err));
    item->document.title = title_of(item);
    item->document.chunk_count = (int64_t)item->row_count;
    return MLY_OK;
}

enum mly_err mly_ingest_add(struct mly_ingest *ingest, struct mly_ingest_item *item,
                            struct mly_error *err)
{
    MLY_TRY(grow_items(ingest, 1, err));
    size_t ids_bytes = ingest->ids.bytes;
    size_t starts_bytes = ingest->starts.bytes;
    size_t targets_bytes = ingest->targets.bytes;
    item->chunks.mem = ingest->kernel->env->mem;
    if (item->kind == MLY_CHANGE_PUT && item->rows == NULL && item->text.text.bytes > 0) {
        enum mly_err rc = prepare_text(ingest, item, err);
        if (rc != MLY_OK) {
            /* As before the call: what was queued for it is taken back. */
            ingest->ids.bytes = ids_bytes;
            ingest->starts.bytes = starts_bytes;
            ingest->targets.bytes = targets_bytes;
            mly_chunks_deinit(&item->chunks);
            item->rows = NULL;
            item->row_count = 0;
            return rc;
        }
    }
    ingest->items[ingest->count++] = *item;
    ingest->row_count += item->row_count;
    ingest->text_bytes += item->text.text.bytes;
    return MLY_OK;
}

enum mly_err mly_ingest_room(struct mly_ingest *ingest, size_t count, struct mly_ingest_item **out,
                             struct mly_error *err)
{
    MLY_TRY(grow_items(ingest, count, err));
    *out = ingest->items + ingest->count;
    memset(*out, 0, count * sizeof((*out)[0]));
    return MLY_OK;
}

void mly_ingest_fill_room(struct mly_ingest *ingest, size_t count)
{
    for (size_t end = ingest->count + count; ingest->count < end; ingest->count++) {
        struct mly_ingest_item *item = &ingest->items[ingest->count];
        item->chunks.mem = ingest->kernel->env->mem;
        ingest->row_count += item->row_count;
        ingest->text_bytes += item->text.text.bytes;
    }
}

/* Embeds everything that is queued, a batch at a time, and hands the vectors to their rows. */
static enum mly_err embed_queue(struct mly_ingest *ingest, struct mly_error *err)
{
    size_t count = ingest->targets.bytes / sizeof(struct mly_chunk_row *);
    if (count == 0) return MLY_OK;
    const struct mly_env *env = ingest->kernel->env;
    double start = mly_clock_seconds(env);
    size_t dim = mly_embedder_card(ingest->model->embedder)->dim;
    size_t batch_pieces = mly_model_batch_pieces(ingest->model);
    const size_t *starts = (const size_t *)(const void *)ingest->starts.data;
    const int32_t *ids = (const int32_t *)(const void *)ingest->ids.data;
    struct mly_chunk_row **targets = (struct mly_chunk_row **)(void *)ingest->targets.data;
    float *vectors = mly_arena_array(&ingest->arena, count, dim * sizeof(float));
    if (vectors == NULL) return mly_fail_nomem(err, count * dim * sizeof(float));
    for (size_t first_i = 0; first_i < count;) {
        size_t end_i = first_i + 1;
        if (ingest->pulse != NULL) batch_pieces = ingest->batch_pieces;
        while (end_i < count && starts[end_i + 1] - starts[first_i] <= batch_pieces) {
            end_i++;
        }
        const double batch_start = mly_clock_seconds(env);
        MLY_TRY(mly_model_encode(ingest->model, ids, starts + first_i, end_i - first_i, false,
                                 vectors + first_i * dim, err));
        for (size_t i = first_i; i < end_i; i++) {
            targets[i]->vector = vectors + i * dim;
        }
        ingest->chunks_embedded += end_i - first_i;
        ingest->tokens_embedded += starts[end_i] - starts[first_i];
        ingest->batch_pieces = mly_model_fit_batch(ingest->model, starts[end_i] - starts[first_i],
                                                   mly_clock_seconds(env) - batch_start);
        first_i = end_i;
        MLY_TRY(ask(ingest, err));
    }
    double seconds = mly_clock_seconds(env) - start;
    ingest->times.embed_s += seconds;
    if (seconds > 0.0) {
        double pieces = (double)starts[count] / seconds * INGEST_BATCH_S;
        ingest->pieces_max =
            pieces > (double)INGEST_PIECES_MIN ? (size_t)pieces : INGEST_PIECES_MIN;
    }
    ingest->ids.bytes = 0;
    ingest->starts.bytes = 0;
    ingest->targets.bytes = 0;
    return MLY_OK;
}

/* A document id may have been given to the same path by another process since the snapshot: rows
 * follow it. */
static enum mly_err follow_path(struct mly_ingest *ingest, const struct mly_snapshot *newest,
                                struct mly_ingest_item *item, struct mly_error *err)
{
    struct mly_str path =
        item->document.path_raw.data != NULL ? item->document.path_raw : item->document.path;
    if (path.data == NULL || item->kind == MLY_CHANGE_REMOVE) return MLY_OK;
    struct mly_document other;
    bool found = false;
    MLY_TRY(mly_snapshot_find_path(newest, path, &ingest->arena, &other, &found, err));
    if (!found || mly_str_equal(other.id, item->document.id)) return MLY_OK;
    item->moved_from = item->moved_from_shown = MLY_STR_NULL;
    item->document.id = other.id;
    item->document.created_at_us = other.created_at_us;
    for (size_t i = 0; i < item->row_count; i++) {
        item->rows[i].document_id = other.id;
    }
    return mly_make_chunk_ids(ingest->kernel->env->mem, other.id, item->rows, item->row_count, err);
}

static bool is_ok(const struct mly_document *document)
{
    return mly_str_equal(document->status, MLY_STR("ok"));
}

static struct mly_str file_of(const struct mly_document *document)
{
    return document->path_raw.data != NULL ? document->path_raw : document->path;
}

/* What is not said anew is kept: as it stands now, not as it stood before the text was embedded. */
static void inherit(struct mly_ingest_item *item, const struct mly_document *current)
{
    struct mly_document *document = &item->document;
    if (current != NULL && current->created_at_us > 0) {
        document->created_at_us = current->created_at_us;
    }
    if (!item->keeps_metadata) return;
    bool has_metadata = current != NULL && current->metadata.data != NULL;
    document->metadata = has_metadata ? current->metadata : MLY_STR("{}");
    for (size_t i = 0; i < item->row_count; i++) {
        item->rows[i].metadata = document->metadata;
    }
}

/* A row that was only to be renewed needs its text after all where the document is not what it was
 * taken for. *again: its chunks were queued and must be embedded. */
static enum mly_err revise_touch(struct mly_ingest *ingest, struct mly_ingest_item *item,
                                 const struct mly_document *current, bool *again,
                                 struct mly_error *err)
{
    if (!is_ok(&item->document)) {
        if (current != NULL && is_ok(current)) item->kind = MLY_CHANGE_PUT; /* its chunks go */
        return MLY_OK;
    }
    if (current != NULL && is_ok(current) && current->has_content_hash &&
        memcmp(&current->content_hash, &item->document.content_hash, MLY_HASH_BYTES) == 0) {
        return MLY_OK;
    }
    item->kind = MLY_CHANGE_PUT;
    if (item->text.text.bytes == 0) return MLY_OK;
    MLY_TRY(prepare_text(ingest, item, err));
    *again = ingest->targets.bytes > 0;
    return MLY_OK;
}

/* The document that an item was for has another file now: the item becomes one of its own. */
static enum mly_err start_anew(struct mly_ingest *ingest, struct mly_ingest_item *item,
                               struct mly_error *err)
{
    struct mly_document *document = &item->document;
    item->moved_from = item->moved_from_shown = MLY_STR_NULL;
    MLY_TRY(mly_choose_document_id(ingest->kernel->env, MLY_STR_NULL, &ingest->arena, &document->id,
                                   err));
    document->created_at_us = document->updated_at_us;
    for (size_t i = 0; i < item->row_count; i++)
        item->rows[i].document_id = document->id;
    if (item->row_count == 0) return MLY_OK;
    return mly_make_chunk_ids(ingest->kernel->env->mem, document->id, item->rows, item->row_count,
                              err);
}

/* Compares an item with what the store holds now, under the writer's lock. */
static enum mly_err revise(struct mly_ingest *ingest, const struct mly_snapshot *newest,
                           struct mly_ingest_item *item, bool *again, struct mly_error *err)
{
    if (item->kind == MLY_CHANGE_REMOVE || item->is_new) return MLY_OK;
    struct mly_document current;
    bool found = false;
    MLY_TRY(follow_path(ingest, newest, item, err));
    MLY_TRY(mly_snapshot_find_document(newest, item->document.id, &ingest->arena, &current, &found,
                                       err));
    struct mly_str file = file_of(&item->document);
    bool is_other = found && !mly_str_equal(file_of(&current), file) &&
                    !mly_str_equal(file_of(&current), item->moved_from);
    if ((item->moved_from.data != NULL && !found) || (is_other && item->is_of_path)) {
        MLY_TRY(start_anew(ingest, item, err));
        found = false;
    } else if (is_other) {
        return mly_fail(err, MLY_ERR_INVAL, "document id %.64s is taken by %.300s",
                        item->document.id.data,
                        current.path.data != NULL ? current.path.data : "a text");
    }
    item->replaces = found && is_ok(&current);
    inherit(item, found ? &current : NULL);
    if (item->kind != MLY_CHANGE_TOUCH) return MLY_OK;
    return revise_touch(ingest, item, found ? &current : NULL, again, err);
}

static enum mly_err revise_all(struct mly_ingest *ingest, bool *again, struct mly_error *err)
{
    struct mly_snapshot *newest = NULL;
    *again = false;
    MLY_TRY(mly_store_pin(ingest->kernel->store, &newest, err));
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < ingest->count && rc == MLY_OK; i++) {
        rc = revise(ingest, newest, &ingest->items[i], again, err);
    }
    mly_snapshot_release(newest);
    return rc;
}

static enum mly_err commit_items(struct mly_ingest *ingest, struct mly_error *err)
{
    struct mly_change *changes = mly_arena_take(&ingest->arena, ingest->count * sizeof(changes[0]));
    if (changes == NULL) return mly_fail_nomem(err, ingest->count * sizeof(changes[0]));
    for (size_t i = 0; i < ingest->count; i++) {
        const struct mly_ingest_item *item = &ingest->items[i];
        changes[i] = (struct mly_change){.kind = item->kind,
                                         .document = item->document,
                                         .rows = item->rows,
                                         .row_count = item->row_count,
                                         .dim = ingest->dim,
                                         .is_new = item->is_new};
    }
    return mly_store_commit(ingest->kernel->store, changes, ingest->count, ingest->durability, err);
}

/* *again: something must be embedded first, and nothing was committed. */
static enum mly_err commit_as_writer(struct mly_ingest *ingest, bool last_try, bool *again,
                                     struct mly_error *err)
{
    const struct mly_env *env = ingest->kernel->env;
    double start = mly_clock_seconds(env);
    double embed_s = ingest->times.embed_s;
    MLY_TRY(
        mly_store_begin_pulsed(ingest->kernel->store, ingest->pulse, ingest->pulse_context, err));
    enum mly_err rc = revise_all(ingest, again, err);
    if (rc == MLY_OK && *again && last_try) {
        rc = embed_queue(ingest, err);
        *again = false;
    }
    /* Who has said no since gets nothing that was not there by then. */
    if (ingest->pulse_last_s != NULL) *ingest->pulse_last_s = 0;
    if (rc == MLY_OK && !*again) rc = ask(ingest, err);
    if (rc == MLY_OK && !*again) rc = commit_items(ingest, err);
    enum mly_err end = mly_store_end(ingest->kernel->store, rc == MLY_OK ? err : NULL);
    if (rc == MLY_OK) rc = end;
    embed_s = ingest->times.embed_s - embed_s;
    ingest->times.store_s += mly_clock_seconds(env) - start - embed_s;
    return rc;
}

enum mly_err mly_ingest_commit(struct mly_ingest *ingest, struct mly_error *err)
{
    bool again = ingest->count > 0;
    for (int attempt = 1; again; attempt++) {
        MLY_TRY(embed_queue(ingest, err));
        MLY_TRY(commit_as_writer(ingest, attempt == COMMIT_TRIES, &again, err));
    }
    for (size_t i = 0; i < ingest->count && ingest->done != NULL; i++)
        ingest->done(ingest->pulse_context, &ingest->items[i]);
    reset(ingest);
    return MLY_OK;
}

/* A model is a pool of threads, a mapped encoder and the tokenizer of its vocabulary. */
#include "engine/engine_int.h"

#include "base/limits.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

/* Per thread: some milliseconds of work for each of its blocks. */
#define PIECES_PER_THREAD ((size_t)2048)

struct memalloy_tokens {
    struct mly_mem *mem;
    int32_t *ids;
    uint64_t *spans;
    size_t count;
};

struct memalloy_chunks {
    struct mly_mem *mem;
    struct mly_chunks chunks;
    char *text;
};

enum mly_err mly_choose_kern(const struct mly_env *env, const char *wanted,
                             const struct mly_kern **out, struct mly_error *err)
{
    const char *variable = env->variable(env->context, "MEMALLOY_KERNELS");
    if (wanted == NULL && variable != NULL && variable[0] != '\0') wanted = variable;
    *out = mly_kern_pick(wanted);
    if (*out != NULL) return MLY_OK;
    const struct mly_kern *sets[8];
    size_t count = mly_kern_list(sets, 8);
    char names[128] = "";
    for (size_t i = 0; i < count && i < 8; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof(names) - used, "%s%s", i > 0 ? ", " : "", sets[i]->name);
    }
    return mly_fail(err, MLY_ERR_INVAL, "kernel set %s is none of this machine's: %s",
                    wanted == NULL ? "(none)" : wanted, names);
}

/* A file is a model of ours, a folder one for ONNX Runtime. */
static enum mly_err open_embedder(memalloy_model *model,
                                  const struct memalloy_model_options *options,
                                  struct mly_error *err)
{
    const struct mly_env *env = model->env;
    struct mly_file_info info;
    MLY_TRY(mly_file_info_at(env, MLY_AT_CWD, model->path, true, &info, err));
    model->file_bytes = info.kind == MLY_KIND_FILE ? info.bytes : 0;
    if (info.kind == MLY_KIND_DIR) {
        return mly_embedder_open_folder(env, model->pool, model->path, options->onnxruntime_path,
                                        &model->embedder, err);
    }
    if (info.kind != MLY_KIND_FILE) { /* opening a pipe would wait for whoever writes to it */
        return mly_fail(err, MLY_ERR_MODEL, "%s is neither a file nor a folder", model->path);
    }
    return mly_embedder_open(env, model->kern, model->pool, model->path, &model->embedder, err);
}

static enum mly_err fill_model(memalloy_model *model, const struct memalloy_model_options *options,
                               struct mly_error *err)
{
    const struct mly_env *env = model->env;
    char path[MLY_PATH_BYTES_MAX];
    MLY_TRY(mly_choose_kern(env, options->kernels, &model->kern, err));
    MLY_TRY(mly_models_find(env, options->path, path, err));
    model->path = mly_mem_alloc(env->mem, strlen(path) + 1);
    if (model->path == NULL) return mly_fail_nomem(err, strlen(path) + 1);
    memcpy(model->path, path, strlen(path) + 1);
    MLY_TRY(mly_pool_create(env, options->threads, &model->pool, err));
    MLY_TRY(open_embedder(model, options, err));
    const struct mly_model_card *card = mly_embedder_card(model->embedder);
    struct mly_error inner = {0};
    enum mly_err rc = mly_tokenizer_create(env->mem, card->tokenizer_form, card->tokenizer,
                                           &model->tokenizer, &inner);
    if (rc == MLY_ERR_CORRUPT) return mly_fail(err, rc, "%s: %s", model->path, inner.message);
    if (rc != MLY_OK) {
        if (err != NULL) *err = inner;
        return rc;
    }
    const struct mly_tokenizer_frame *frame = mly_tokenizer_frame(model->tokenizer);
    if (frame->id_count > card->vocabulary) {
        return mly_fail(err, MLY_ERR_MODEL, "the tokenizer gives ids up to %u, the model has %u",
                        frame->id_count - 1, card->vocabulary);
    }
    if (card->pieces_max <= frame->prefix_count + frame->suffix_count) {
        return mly_fail(err, MLY_ERR_MODEL, "the model reads %u word pieces: no room for a text",
                        card->pieces_max);
    }
    return mly_model_init_prefixes(model, err);
}

size_t mly_model_text_pieces_max(const memalloy_model *model)
{
    const struct mly_tokenizer_frame *frame = mly_tokenizer_frame(model->tokenizer);
    return mly_embedder_card(model->embedder)->pieces_max - frame->prefix_count -
           frame->suffix_count;
}

enum mly_err mly_engine_model_open(const struct mly_env *env,
                                   const struct memalloy_model_options *options,
                                   memalloy_model **out, struct mly_error *err)
{
    struct memalloy_model_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_model_options", err));
    memalloy_model *model = mly_mem_array(env->mem, 1, sizeof(*model));
    if (model == NULL) return mly_fail_nomem(err, sizeof(*model));
    model->env = env;
    for (size_t i = 0; i < 2; i++) {
        mly_tokens_init(&model->prefixes[i].tokens, env->mem);
    }
    model->pid = env->pid(env->context);
    mly_mutex_init(&model->gate.mutex);
    mly_cond_init(&model->gate.free);
    enum mly_err rc = fill_model(model, &local, err);
    if (rc != MLY_OK) {
        mly_engine_model_close(model);
        return rc;
    }
    *out = model;
    return MLY_OK;
}

void mly_engine_model_close(memalloy_model *model)
{
    if (model == NULL) return;
    mly_model_deinit_prefixes(model);
    mly_tokenizer_destroy(model->tokenizer);
    mly_embedder_close(model->embedder);
    mly_pool_destroy(model->pool);
    if (model->pid == model->env->pid(model->env->context)) {
        mly_cond_deinit(&model->gate.free);
        mly_mutex_deinit(&model->gate.mutex);
    }
    mly_mem_free(model->env->mem, model->path);
    mly_mem_free(model->env->mem, model);
}

enum mly_err mly_model_check(const memalloy_model *model, struct mly_error *err)
{
    if (model->pid == model->env->pid(model->env->context)) return MLY_OK;
    return mly_fail(err, MLY_ERR_FORKED,
                    "this model was opened before fork(); open it again in the child");
}

enum mly_err mly_engine_model_info(const memalloy_model *model, struct memalloy_model_info *out,
                                   struct mly_error *err)
{
    MLY_TRY(mly_model_check(model, err));
    const struct mly_model_card *card = mly_embedder_card(model->embedder);
    struct memalloy_model_info info = {
        .id = mly_str_out(card->id),
        .hash = mly_str_out(card->hash),
        .quantisation = mly_str_out(card->quantisation),
        .kernels =
            mly_str_out(card->kernels.data != NULL ? card->kernels : mly_str_of(model->kern->name)),
        .path = mly_str_out(mly_str_of(model->path)),
        .dim = card->dim,
        .pieces_max = card->pieces_max,
        .threads = mly_pool_thread_count(model->pool),
        .pooling = mly_str_out(card->pooling),
        .query_prefix = mly_str_out(model->prefixes[MEMALLOY_EMBED_QUERY].text),
        .passage_prefix = mly_str_out(model->prefixes[MEMALLOY_EMBED_PASSAGE].text),
        .tokenizer = mly_str_out(mly_str_of(mly_tokenizer_kind(model->tokenizer))),
        .license = mly_str_out(card->license),
        .source = mly_str_out(card->source),
        .layers = card->layers,
        .vocabulary = card->vocabulary,
        .file_bytes = model->file_bytes,
    };
    mly_options_give(out, &info, sizeof(info));
    return MLY_OK;
}

enum mly_err mly_engine_model_verify(const memalloy_model *model, struct mly_error *err)
{
    MLY_TRY(mly_model_check(model, err));
    enum mly_err rc = mly_embedder_verify(model->embedder, err);
    return rc == MLY_OK ? rc : mly_fail_in(err, rc, "%s", model->path);
}

enum mly_err mly_model_frame(const memalloy_model *model, const struct mly_tokens *tokens,
                             size_t count, struct mly_bytes *ids, struct mly_bytes *starts,
                             struct mly_error *err)
{
    const struct mly_tokenizer_frame *frame = mly_tokenizer_frame(model->tokenizer);
    MLY_TRY(mly_bytes_reserve(ids, (count + 2 * (size_t)MLY_FRAME_MAX) * sizeof(int32_t), err));
    MLY_TRY(mly_bytes_append(ids, frame->prefix, frame->prefix_count * sizeof(int32_t), err));
    for (size_t i = 0; i < count; i++) {
        MLY_TRY(mly_bytes_append(ids, &tokens->items[i].id, sizeof(int32_t), err));
    }
    MLY_TRY(mly_bytes_append(ids, frame->suffix, frame->suffix_count * sizeof(int32_t), err));
    size_t end = ids->bytes / sizeof(int32_t);
    return mly_bytes_append(starts, &end, sizeof(end), err);
}

size_t mly_model_batch_pieces(const memalloy_model *model)
{
    return PIECES_PER_THREAD * mly_pool_thread_count(model->pool);
}

static void enter_gate(struct mly_gate *gate, bool urgent)
{
    mly_mutex_lock(&gate->mutex);
    if (urgent) gate->urgent++;
    while (gate->busy || (!urgent && gate->urgent > 0)) {
        mly_cond_wait(&gate->free, &gate->mutex);
    }
    if (urgent) gate->urgent--;
    gate->busy = true;
    mly_mutex_unlock(&gate->mutex);
}

static void leave_gate(struct mly_gate *gate)
{
    mly_mutex_lock(&gate->mutex);
    gate->busy = false;
    mly_cond_wake_all(&gate->free);
    mly_mutex_unlock(&gate->mutex);
}

enum mly_err mly_model_encode(memalloy_model *model, const int32_t *ids, const size_t *starts,
                              size_t count, bool urgent, float *out, struct mly_error *err)
{
    enter_gate(&model->gate, urgent);
    mly_pool_set_urgent(model->pool, urgent);
    enum mly_err rc = mly_embedder_encode(model->embedder, ids, starts, count, out, err);
    leave_gate(&model->gate);
    return rc;
}

static int measure(void *context, struct mly_str text, struct mly_tokens *out,
                   struct mly_error *err)
{
    const memalloy_model *model = context;
    return (int)mly_tokenizer_encode(model->tokenizer, text, out, err);
}

struct mly_meter mly_model_meter(memalloy_model *model)
{
    return (struct mly_meter){.context = model,
                              .measure = measure,
                              .pieces_max = mly_model_room(model, MEMALLOY_EMBED_PASSAGE),
                              .blanks_count = !mly_tokenizer_is_additive(model->tokenizer)};
}

enum mly_err mly_model_check_text(struct mly_str text, const char *what, size_t text_i,
                                  struct mly_error *err)
{
    if (text.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "%s %zu is NULL", what, text_i);
    size_t bad = mly_utf8_check(text);
    if (bad < text.bytes) {
        return mly_fail(err, MLY_ERR_INVAL, "%s %zu is not UTF-8: byte 0x%02x at offset %zu", what,
                        text_i, (unsigned char)text.data[bad], bad);
    }
    if (text.bytes > MLY_DOCUMENT_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%s %zu has %zu bytes, limit is %zu", what, text_i,
                        text.bytes, (size_t)MLY_DOCUMENT_BYTES_MAX);
    }
    return MLY_OK;
}

static enum mly_err fill_tokens(const memalloy_model *model, const struct mly_tokens *pieces,
                                size_t text_bytes, bool special_tokens, memalloy_tokens *out,
                                struct mly_error *err)
{
    const struct mly_tokenizer_frame *frame = mly_tokenizer_frame(model->tokenizer);
    const size_t before = special_tokens ? frame->prefix_count : 0;
    const size_t behind = special_tokens ? frame->suffix_count : 0;
    out->count = before + pieces->count + behind;
    out->ids = mly_mem_array(out->mem, out->count, sizeof(out->ids[0]));
    out->spans = mly_mem_array(out->mem, out->count, 2 * sizeof(out->spans[0]));
    if (out->ids == NULL || out->spans == NULL) return mly_fail_nomem(err, out->count * 20);
    for (size_t i = 0; i < before; i++) {
        out->ids[i] = frame->prefix[i];
    }
    for (size_t i = 0; i < pieces->count; i++) {
        const size_t at = before + i;
        out->ids[at] = pieces->items[i].id;
        out->spans[2 * at] = pieces->items[i].byte_start;
        out->spans[2 * at + 1] = pieces->items[i].byte_end;
    }
    for (size_t i = 0; i < behind; i++) {
        const size_t at = before + pieces->count + i;
        out->ids[at] = frame->suffix[i];
        out->spans[2 * at] = out->spans[2 * at + 1] = text_bytes;
    }
    return MLY_OK;
}

enum mly_err mly_engine_tokenize(memalloy_model *model, struct mly_str text, bool special_tokens,
                                 memalloy_tokens **out, struct mly_error *err)
{
    MLY_TRY(mly_model_check(model, err));
    MLY_TRY(mly_model_check_text(text, "text", 0, err));
    struct mly_mem *mem = model->env->mem;
    struct mly_tokens pieces;
    mly_tokens_init(&pieces, mem);
    memalloy_tokens *tokens = mly_mem_array(mem, 1, sizeof(*tokens));
    enum mly_err rc = MLY_OK;
    if (tokens == NULL) {
        rc = mly_fail_nomem(err, sizeof(*tokens));
        goto done;
    }
    tokens->mem = mem;
    rc = mly_tokenizer_encode(model->tokenizer, text, &pieces, err);
    if (rc != MLY_OK) goto done;
    rc = fill_tokens(model, &pieces, text.bytes, special_tokens, tokens, err);
    if (rc != MLY_OK) goto done;
    *out = tokens;
    tokens = NULL;
done:
    memalloy_tokens_destroy(tokens);
    mly_tokens_deinit(&pieces);
    return rc;
}

size_t memalloy_tokens_count(const memalloy_tokens *tokens)
{
    return tokens != NULL ? tokens->count : 0;
}

const int32_t *memalloy_tokens_ids(const memalloy_tokens *tokens)
{
    return tokens->ids;
}

const uint64_t *memalloy_tokens_spans(const memalloy_tokens *tokens)
{
    return tokens->spans;
}

void memalloy_tokens_destroy(memalloy_tokens *tokens)
{
    if (tokens == NULL) return;
    mly_mem_free(tokens->mem, tokens->ids);
    mly_mem_free(tokens->mem, tokens->spans);
    mly_mem_free(tokens->mem, tokens);
}

enum mly_err mly_engine_chunk(const struct mly_env *env, memalloy_model *model,
                              const struct memalloy_chunking *chunking, struct mly_str text,
                              memalloy_chunks **out, struct mly_error *err)
{
    if (model != NULL) MLY_TRY(mly_model_check(model, err));
    MLY_TRY(mly_model_check_text(text, "text", 0, err));
    struct mly_chunking resolved;
    MLY_TRY(mly_options_chunking(chunking, &resolved, err));
    memalloy_chunks *chunks = mly_mem_array(env->mem, 1, sizeof(*chunks));
    if (chunks == NULL) return mly_fail_nomem(err, sizeof(*chunks));
    chunks->mem = env->mem;
    chunks->chunks.mem = env->mem;
    enum mly_err rc = MLY_OK;
    chunks->text =
        mly_mem_copy(env->mem, text.data, text.bytes); /* contents outlive the caller's text */
    if (chunks->text == NULL) {
        rc = mly_fail_nomem(err, text.bytes + 1);
        goto done;
    }
    text.data = chunks->text;
    struct mly_meter meter = {0};
    if (model != NULL) meter = mly_model_meter(model);
    rc = mly_chunk_split(env->mem, text, &resolved, model != NULL ? &meter : NULL, &chunks->chunks,
                         err);
    if (rc != MLY_OK) goto done;
    *out = chunks;
    chunks = NULL;
done:
    memalloy_chunks_destroy(chunks);
    return rc;
}

size_t memalloy_chunks_count(const memalloy_chunks *chunks)
{
    return chunks != NULL ? chunks->chunks.count : 0;
}

void memalloy_chunks_get(const memalloy_chunks *chunks, size_t index, struct memalloy_chunk *out)
{
    const struct mly_chunk *chunk = &chunks->chunks.items[index];
    struct memalloy_chunk local = {
        .content = {chunks->text + chunk->byte_start, chunk->byte_end - chunk->byte_start},
        .heading = mly_str_out(chunk->heading),
        .byte_start = chunk->byte_start,
        .byte_end = chunk->byte_end,
        .line_start = chunk->line_start,
        .line_end = chunk->line_end,
    };
    mly_options_give(out, &local, sizeof(local));
}

void memalloy_chunks_destroy(memalloy_chunks *chunks)
{
    if (chunks == NULL) return;
    mly_chunks_deinit(&chunks->chunks);
    mly_mem_free(chunks->mem, chunks->text);
    mly_mem_free(chunks->mem, chunks);
}

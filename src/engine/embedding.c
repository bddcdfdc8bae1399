/* Texts become sequences of word pieces, each with the prefix of its kind in front; sequences go to
 * the embedder in batches that keep every thread busy. Who watches is asked between batches, which
 * are then so small that nobody waits for a tenth of a second. */
#include "engine/engine_int.h"

#include "base/limits.h"
#include "engine/report.h"

#include <string.h>

/* What one batch may take where somebody watches, and how small it may get: below, the threads
 * would wait for each other more than they work. */
#define WATCHED_BATCH_S 0.04
#define WATCHED_EVERY_S 0.05

/* ---- prefixes ---- */

static enum mly_err init_prefix(memalloy_model *model, struct mly_str text,
                                struct mly_prefix *prefix, struct mly_error *err)
{
    prefix->text = text.data != NULL ? text : MLY_STR("");
    if (text.bytes == 0) return MLY_OK;
    MLY_TRY(mly_tokenizer_encode(model->tokenizer, text, &prefix->tokens, err));
    if (prefix->tokens.count < mly_model_text_pieces_max(model)) return MLY_OK;
    return mly_fail(err, MLY_ERR_MODEL,
                    "the model's prefix \"%.*s\" takes %zu word pieces of the %zu that it reads",
                    (int)(text.bytes < 80 ? text.bytes : 80), text.data, prefix->tokens.count,
                    mly_model_text_pieces_max(model));
}

enum mly_err mly_model_init_prefixes(memalloy_model *model, struct mly_error *err)
{
    const struct mly_model_card *card = mly_embedder_card(model->embedder);
    MLY_TRY(
        init_prefix(model, card->passage_prefix, &model->prefixes[MEMALLOY_EMBED_PASSAGE], err));
    return init_prefix(model, card->query_prefix, &model->prefixes[MEMALLOY_EMBED_QUERY], err);
}

void mly_model_deinit_prefixes(memalloy_model *model)
{
    for (size_t i = 0; i < 2; i++) {
        mly_tokens_deinit(&model->prefixes[i].tokens);
    }
}

size_t mly_model_room(const memalloy_model *model, enum memalloy_embed_kind kind)
{
    return mly_model_text_pieces_max(model) - model->prefixes[kind].tokens.count;
}

/* ---- one text ---- */

void mly_framing_init(struct mly_framing *framing, struct mly_mem *mem)
{
    mly_tokens_init(&framing->tokens, mem);
    mly_bytes_init(&framing->joined, mem, SIZE_MAX / 2);
}

void mly_framing_deinit(struct mly_framing *framing)
{
    mly_tokens_deinit(&framing->tokens);
    mly_bytes_deinit(&framing->joined);
}

/* The pieces of prefix and text, each taken alone: where the joined text is too long, so that what
 * is cut off is the text's end, and where pieces grow together differently, so that a text which
 * was measured alone still fits. */
static enum mly_err frame_apart(const memalloy_model *model, enum memalloy_embed_kind kind,
                                struct mly_str text, struct mly_framing *framing,
                                struct mly_bytes *ids, struct mly_bytes *starts, bool *cut,
                                struct mly_error *err)
{
    const struct mly_tokens *before = &model->prefixes[kind].tokens;
    const size_t item_bytes = sizeof(before->items[0]), room = mly_model_room(model, kind);
    MLY_TRY(mly_tokenizer_encode(model->tokenizer, text, &framing->tokens, err));
    const size_t count = framing->tokens.count < room ? framing->tokens.count : room;
    *cut = count < framing->tokens.count;
    framing->joined.bytes = 0;
    MLY_TRY(mly_bytes_append(&framing->joined, before->items, before->count * item_bytes, err));
    if (count > 0) {
        MLY_TRY(mly_bytes_append(&framing->joined, framing->tokens.items, count * item_bytes, err));
    }
    const struct mly_tokens all = {.items = (struct mly_token *)(void *)framing->joined.data,
                                   .count = before->count + count};
    return mly_model_frame(model, &all, all.count, ids, starts, err);
}

enum mly_err mly_model_frame_text(const memalloy_model *model, enum memalloy_embed_kind kind,
                                  struct mly_str text, struct mly_framing *framing,
                                  struct mly_bytes *ids, struct mly_bytes *starts, bool *cut,
                                  struct mly_error *err)
{
    const struct mly_str prefix = model->prefixes[kind].text;
    const size_t room = mly_model_text_pieces_max(model);
    *cut = false;
    if (prefix.bytes == 0) {
        MLY_TRY(mly_tokenizer_encode(model->tokenizer, text, &framing->tokens, err));
        size_t count = framing->tokens.count;
        *cut = count > room;
        return mly_model_frame(model, &framing->tokens, *cut ? room : count, ids, starts, err);
    }
    framing->joined.bytes = 0;
    MLY_TRY(mly_bytes_append(&framing->joined, prefix.data, prefix.bytes, err));
    if (text.bytes > 0) MLY_TRY(mly_bytes_append(&framing->joined, text.data, text.bytes, err));
    MLY_TRY(mly_tokenizer_encode(model->tokenizer, mly_bytes_view(&framing->joined),
                                 &framing->tokens, err));
    if (framing->tokens.count > room) {
        return frame_apart(model, kind, text, framing, ids, starts, cut, err);
    }
    return mly_model_frame(model, &framing->tokens, framing->tokens.count, ids, starts, err);
}

/* ---- many texts ---- */

/* One call of embed. */
struct embed_work {
    memalloy_model *model;
    const struct memalloy_str *texts;
    size_t count;
    enum memalloy_embed_kind kind;
    unsigned char *truncated; /* NULL, or one for each text */
    float *out;
    size_t truncated_count;
    struct mly_framing framing;
    struct mly_bytes ids, starts; /* i32, size_t */
    size_t batch_pieces;          /* of the next batch */
    struct mly_watcher watcher;
};

static enum mly_err append_text(struct embed_work *work, size_t text_i, struct mly_error *err)
{
    const struct mly_str text = mly_str_in(work->texts[text_i]);
    bool cut = false;
    if (work->starts.bytes == 0) {
        const size_t zero = 0;
        MLY_TRY(mly_bytes_append(&work->starts, &zero, sizeof(zero), err));
    }
    MLY_TRY(mly_model_check_text(text, "text", text_i, err));
    MLY_TRY(mly_model_frame_text(work->model, work->kind, text, &work->framing, &work->ids,
                                 &work->starts, &cut, err));
    work->truncated_count += cut;
    if (work->truncated != NULL) work->truncated[text_i] = cut;
    work->watcher.progress.bytes_done += text.bytes;
    return MLY_OK;
}

size_t mly_model_fit_batch(const memalloy_model *model, size_t pieces, double seconds)
{
    const size_t most = mly_model_batch_pieces(model);
    const double fit = seconds > 0.0 ? (double)pieces / seconds * WATCHED_BATCH_S : (double)most;
    const size_t wanted = fit < (double)most ? (size_t)fit : most;
    return wanted < MLY_WATCHED_PIECES_MIN ? MLY_WATCHED_PIECES_MIN : wanted;
}

/* Embeds what waits: the texts from first_i to before end_i. */
static enum mly_err embed_batch(struct embed_work *work, size_t first_i, size_t end_i,
                                struct mly_error *err)
{
    const struct mly_env *env = work->model->env;
    const size_t dim = mly_embedder_card(work->model->embedder)->dim;
    const bool watched = work->watcher.fn != NULL;
    const double start = watched ? mly_clock_seconds(env) : 0.0;
    MLY_TRY(mly_model_encode(work->model, (const int32_t *)(const void *)work->ids.data,
                             (const size_t *)(const void *)work->starts.data, end_i - first_i,
                             work->count == 1, work->out + first_i * dim, err));
    if (watched) {
        work->batch_pieces = mly_model_fit_batch(work->model, work->ids.bytes / sizeof(int32_t),
                                                 mly_clock_seconds(env) - start);
        work->watcher.progress.items_done = end_i;
        MLY_TRY(mly_watcher_tell(&work->watcher, false, err));
    }
    work->ids.bytes = 0;
    work->starts.bytes = 0;
    return MLY_OK;
}

static enum mly_err embed_texts(struct embed_work *work, struct mly_error *err)
{
    size_t first_i = 0;
    for (size_t i = 0; i < work->count; i++) {
        MLY_TRY(append_text(work, i, err));
        if (work->ids.bytes / sizeof(int32_t) < work->batch_pieces && i + 1 < work->count) continue;
        MLY_TRY(embed_batch(work, first_i, i + 1, err));
        first_i = i + 1;
    }
    work->watcher.progress.stage = MEMALLOY_STAGE_DONE;
    return mly_watcher_tell(&work->watcher, true, err);
}

static enum mly_err take_options(const struct memalloy_embed_options *given,
                                 struct memalloy_embed_options *out, struct mly_error *err)
{
    *out = (struct memalloy_embed_options){.struct_bytes = sizeof(*out)};
    MLY_TRY(mly_options_take(out, sizeof(*out), given, "memalloy_embed_options", err));
    if (out->kind == MEMALLOY_EMBED_PASSAGE || out->kind == MEMALLOY_EMBED_QUERY) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "kind %d of an embed is none of 0 (passage) and 1 (query)",
                    out->kind);
}

enum mly_err mly_engine_embed(memalloy_model *model, const struct memalloy_str *texts, size_t count,
                              const struct memalloy_embed_options *options, float *out,
                              size_t *truncated_count, struct mly_error *err)
{
    struct memalloy_embed_options local;
    MLY_TRY(mly_model_check(model, err));
    MLY_TRY(take_options(options, &local, err));
    struct mly_mem *mem = model->env->mem;
    struct embed_work work = {.model = model,
                              .texts = texts,
                              .count = count,
                              .kind = (enum memalloy_embed_kind)local.kind,
                              .truncated = local.truncated,
                              .out = out,
                              .batch_pieces = mly_model_batch_pieces(model)};
    mly_watcher_init(&work.watcher, model->env, local.progress, local.progress_context);
    work.watcher.every_s = WATCHED_EVERY_S;
    work.watcher.progress.stage = MEMALLOY_STAGE_EMBED;
    work.watcher.progress.items_total = count;
    if (local.progress != NULL) {
        work.batch_pieces = MLY_WATCHED_PIECES_MIN; /* until the first one was timed */
        for (size_t i = 0; i < count; i++) {
            work.watcher.progress.bytes_total += texts[i].bytes;
        }
    }
    mly_framing_init(&work.framing, mem);
    mly_bytes_init(&work.ids, mem, SIZE_MAX / 2);
    mly_bytes_init(&work.starts, mem, SIZE_MAX / 2);
    enum mly_err rc = embed_texts(&work, err);
    if (rc == MLY_OK && truncated_count != NULL) *truncated_count = work.truncated_count;
    mly_bytes_deinit(&work.starts);
    mly_bytes_deinit(&work.ids);
    mly_framing_deinit(&work.framing);
    return rc;
}

/* A conversion from its first byte to its last: room, plan, table of words, layer after layer,
 * tokenizer, name.
 */
#include "embed/quantise/quantise_int.h"

#include <stdio.h>

static bool take_room(struct mly_conversion *work)
{
    struct mly_mem *mem = work->mem;
    struct mly_product_room *room = &work->room;
    const size_t hidden = work->card->hidden, inner = work->card->intermediate;
    const size_t outs = inner > 3 * hidden ? inner : 3 * hidden;
    const bool rounded = work->job->precision == MLY_QUANTISE_INT8;
    room->weights = mly_gptq_floats(mem, outs, hidden);
    room->panels = mly_gptq_floats(mem, outs, hidden);
    room->bias = mly_gptq_floats(mem, outs, 1);
    work->positions = mly_gptq_floats(mem, work->card->positions, hidden);
    work->words = mly_gptq_floats(mem, MLY_CONVERT_WORDS, hidden);
    work->stored_words = mly_mem_array(mem, MLY_CONVERT_WORDS * hidden, 2);
    work->word_scale = mly_gptq_floats(mem, work->job->vocabulary, 1);
    work->second_panels = mly_gptq_floats(mem, inner, hidden);
    work->second_bias = mly_gptq_floats(mem, hidden, 1);
    work->norms = mly_gptq_floats(mem, hidden, 11);
    bool ok = room->weights != NULL && room->panels != NULL && room->bias != NULL &&
              work->positions != NULL && work->words != NULL && work->stored_words != NULL &&
              work->word_scale != NULL && work->second_panels != NULL &&
              work->second_bias != NULL && work->norms != NULL;
    if (ok && rounded) {
        room->stored = mly_mem_array(mem, outs, hidden);
        room->packed = mly_mem_alloc_aligned(mem, outs * hidden);
        room->scale = mly_gptq_floats(mem, outs, 3);
        ok = room->stored != NULL && room->packed != NULL && room->scale != NULL;
    }
    if (!ok) return false;
    room->sum = rounded ? room->scale + outs : NULL;
    room->new_bias = rounded ? room->scale + 2 * outs : NULL;
    for (size_t i = 0; i < 4; i++) {
        work->norm[i] = work->norms + i * hidden;
    }
    work->factor = work->norms + 4 * hidden;
    work->fold = work->norms + 7 * hidden;
    work->wide = work->norms + 8 * hidden;
    work->word_norm[0] = work->norms + 5 * hidden;
    work->word_norm[1] = work->norms + 6 * hidden;
    return true;
}

static void drop_room(struct mly_conversion *work)
{
    struct mly_mem *mem = work->mem;
    mly_stream_deinit(&work->calibration);
    mly_stream_deinit(&work->samples);
    mly_mem_free(mem, work->room.weights);
    mly_mem_free(mem, work->room.panels);
    mly_mem_free(mem, work->room.bias);
    mly_mem_free(mem, work->room.stored);
    mly_mem_free(mem, work->room.packed);
    mly_mem_free(mem, work->room.scale);
    mly_mem_free(mem, work->positions);
    mly_mem_free(mem, work->words);
    mly_mem_free(mem, work->stored_words);
    mly_mem_free(mem, work->word_scale);
    mly_mem_free(mem, work->second_panels);
    mly_mem_free(mem, work->second_bias);
    mly_mem_free(mem, work->norms);
}

static enum mly_err open_streams(struct mly_conversion *work, struct mly_error *err)
{
    const struct mly_quantise_job *job = work->job;
    const struct mly_stream_shape shape = {work->card->hidden, work->card->intermediate,
                                           work->card->heads, work->card->pieces_max,
                                           (float)((double)work->card->epsilon_femto * 1e-15)};
    if (job->precision == MLY_QUANTISE_INT8) {
        if (job->calibration.count == 0) {
            return mly_fail(err, MLY_ERR_INVAL, "there is no text to calibrate with");
        }
        MLY_TRY(mly_stream_init(&work->calibration, &job->workshop, &shape, &job->calibration, true,
                                err));
    }
    if (job->samples.count == 0) return MLY_OK;
    return mly_stream_init(&work->samples, &job->workshop, &shape, &job->samples, false, err);
}

enum mly_err mly_convert_tell(struct mly_conversion *work, const char *step, double share,
                              struct mly_error *err)
{
    const struct mly_quantise_job *job = work->job;
    if (job->progress == NULL) return MLY_OK;
    if (job->progress(job->progress_context, step, share) == 0) return MLY_OK;
    return mly_fail(err, MLY_ERR_CANCELLED, "the conversion was cancelled");
}

static enum mly_err convert_embeddings(struct mly_conversion *work, struct mly_error *err)
{
    const size_t hidden = work->card->hidden;
    const struct mly_stream_norm norm = {work->word_norm[0], work->word_norm[1]};
    MLY_TRY(mly_snapshot_positions(work->snapshot, work->positions, err));
    MLY_TRY(mly_snapshot_word_norm(work->snapshot, work->word_norm[0], work->word_norm[1], err));
    MLY_TRY(mly_convert_words(work, err));
    if (work->calibration.rows > 0) mly_stream_place(&work->calibration, work->positions, &norm);
    if (work->samples.rows > 0) mly_stream_place(&work->samples, work->positions, &norm);
    MLY_TRY(mly_model_writer_put(&work->writer, work->positions,
                                 work->card->positions * hidden * sizeof(float), err));
    MLY_TRY(mly_model_writer_put(&work->writer, norm.weight, hidden * sizeof(float), err));
    return mly_model_writer_put(&work->writer, norm.bias, hidden * sizeof(float), err);
}

static enum mly_err convert_layer(struct mly_conversion *work, size_t layer, struct mly_error *err)
{
    static const enum mly_snapshot_part norms[] = {MLY_PART_ATTENTION_NORM, MLY_PART_FFN_NORM};
    for (size_t i = 0; i < 2; i++) {
        MLY_TRY(mly_snapshot_weights(work->snapshot, layer, norms[i], work->norm[2 * i], err));
        MLY_TRY(mly_snapshot_bias(work->snapshot, layer, norms[i], work->norm[2 * i + 1], err));
    }
    MLY_TRY(mly_convert_tell(work, "layer", (double)layer / (double)work->card->layers, err));
    MLY_TRY(mly_convert_reference(work, layer, err));
    return work->job->precision == MLY_QUANTISE_INT8 ? mly_convert_layer_int8(work, layer, err)
                                                     : mly_convert_layer_floats(work, layer, err);
}

static enum mly_err convert_all(struct mly_conversion *work, float *reference,
                                struct mly_error *err)
{
    const struct mly_quantise_job *job = work->job;
    MLY_TRY(mly_model_writer_open(job->workshop.env, job->out_path, job->overwrite, &work->writer,
                                  err));
    if (!take_room(work)) {
        return mly_fail_nomem(err, work->card->hidden * work->card->intermediate * 16);
    }
    MLY_TRY(open_streams(work, err));
    MLY_TRY(mly_convert_plan(work, err));
    MLY_TRY(mly_model_writer_begin(&work->writer, err));
    MLY_TRY(convert_embeddings(work, err));
    for (size_t i = 0; i < work->card->layers; i++) {
        MLY_TRY(convert_layer(work, i, err));
    }
    if (job->precision == MLY_QUANTISE_INT8) {
        MLY_TRY(mly_model_writer_put(&work->writer, work->word_scale,
                                     job->vocabulary * sizeof(float), err));
    }
    MLY_TRY(mly_model_writer_put(&work->writer, job->tokenizer.data, job->tokenizer.bytes, err));
    MLY_TRY(mly_model_writer_finish(&work->writer, err));
    if (work->samples.rows > 0) {
        mly_stream_pool(&work->samples, work->card->pooling.data[0] == 'm', reference);
    }
    if (job->check != NULL) {
        MLY_TRY(job->check(job->check_context, work->writer.part_path, err));
    }
    return mly_model_writer_name(&work->writer, err);
}

enum mly_err mly_quantise(const struct mly_snapshot *snapshot, const struct mly_quantise_job *job,
                          float *reference, struct mly_error *err)
{
    struct mly_mem *mem = job->workshop.env->mem;
    const struct mly_snapshot_card *card = mly_snapshot_card(snapshot);
    struct mly_conversion *work = mly_mem_array(mem, 1, sizeof(*work));
    if (work == NULL) return mly_fail_nomem(err, sizeof(*work));
    work->snapshot = snapshot;
    work->card = card;
    work->job = job;
    work->mem = mem;
    const enum mly_err rc = convert_all(work, reference, err);
    mly_model_writer_close(&work->writer);
    drop_room(work);
    mly_mem_free(mem, work);
    return rc;
}

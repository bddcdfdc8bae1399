/* A published model becomes a file of ours: the snapshot is opened and checked, its tokenizer
 * compiled, text turned into word pieces, and the quantiser does the rest.
 */
#include "engine/convert_int.h"

#include <stdio.h>
#include <string.h>

#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)
#define CALIBRATION_BYTES_MAX ((size_t)4 << 20)

struct conversion {
    const struct mly_env *env;
    struct memalloy_convert_options options;
    struct memalloy_convert_report report;
    struct mly_workshop workshop;
    enum mly_quantise_precision precision;
    struct mly_snapshot *snapshot;
    const struct mly_snapshot_card *card;
    struct mly_bytes compiled; /* the tokenizer, where it is no list */
    struct mly_tokenizer *tokenizer;
    struct mly_convert_texts calibration, samples;
    size_t passages; /* of the samples; the rest are queries */
    float *reference;
};

static enum mly_err take_precision(struct conversion *work, struct mly_error *err)
{
    static const char *const names[] = {"int8", "bf16", "f32"};
    const char *wanted = work->options.quantisation == NULL ? "int8" : work->options.quantisation;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(wanted, names[i]) != 0) continue;
        work->precision = (enum mly_quantise_precision)i;
        (void)snprintf(work->report.quantisation, sizeof(work->report.quantisation), "%s", wanted);
        return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_INVAL, "quantisation %.40s is none of int8, bf16 and f32", wanted);
}

static enum mly_err open_tokenizer(struct conversion *work, struct mly_error *err)
{
    struct mly_mem *mem = work->env->mem;
    enum mly_tokenizer_form form = MLY_TOKENIZER_VOCABULARY;
    struct mly_str bytes = work->card->tokenizer;
    if (!work->card->tokenizer_is_list) {
        enum mly_err rc = mly_tokenizer_compile(mem, bytes, &work->compiled, err);
        if (rc != MLY_OK) {
            return mly_fail_in(err, rc, "%s", work->options.source_path);
        }
        form = MLY_TOKENIZER_COMPILED;
        bytes = mly_bytes_view(&work->compiled);
    }
    MLY_TRY(mly_tokenizer_create(mem, form, bytes, &work->tokenizer, err));
    const struct mly_tokenizer_frame *frame = mly_tokenizer_frame(work->tokenizer);
    if (frame->id_count > work->card->vocabulary) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "%s: the tokenizer has ids up to %u, the model embeddings for %zu",
                        work->options.source_path, frame->id_count - 1, work->card->vocabulary);
    }
    if (frame->prefix_count + frame->suffix_count < 2) { /* the least that the encoder takes */
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "%s: the tokenizer's post_processor puts %u word pieces around a text; at "
                        "least 2 are needed",
                        work->options.source_path, frame->prefix_count + frame->suffix_count);
    }
    if (work->card->pieces_max < frame->prefix_count + frame->suffix_count + 2) {
        return mly_fail(err, MLY_ERR_INVAL, "%zu word pieces are too few for the tokenizer's own",
                        work->card->pieces_max);
    }
    return MLY_OK;
}

static enum mly_err read_calibration(struct conversion *work, struct mly_error *err)
{
    const struct mly_env *env = work->env;
    const char *path = work->options.calibration_path;
    struct mly_str text = {(const char *)mly_convert_calibration, mly_convert_calibration_bytes};
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_bytes read;
    if (work->precision != MLY_QUANTISE_INT8) return MLY_OK;
    mly_bytes_init(&read, env->mem, CALIBRATION_BYTES_MAX);
    enum mly_err rc = MLY_OK;
    if (path != NULL) {
        rc = mly_file_open(env, MLY_AT_CWD, path, MLY_OPEN_READ | MLY_OPEN_FOLLOW, &file, err);
        if (rc == MLY_OK) rc = mly_file_read_all(&file, &read, err);
        text = mly_bytes_view(&read);
    }
    if (rc == MLY_OK) rc = mly_convert_add_passages(&work->calibration, text, true, err);
    if (rc == MLY_OK && work->calibration.count == 0) {
        rc = mly_fail(err, MLY_ERR_INVAL, "there is no text to calibrate with");
    }
    if (rc != MLY_OK && path != NULL) (void)mly_fail_in(err, rc, "%s", path);
    mly_file_close(&file);
    mly_bytes_deinit(&read);
    return rc;
}

static enum mly_err read_texts(struct conversion *work, struct mly_error *err)
{
    struct mly_mem *mem = work->env->mem;
    const struct mly_str passages = {(const char *)mly_convert_passages,
                                     mly_convert_passages_bytes};
    const struct mly_str queries = {(const char *)mly_convert_queries, mly_convert_queries_bytes};
    MLY_TRY(mly_convert_texts_init(&work->calibration, mem, work->tokenizer, work->card, err));
    MLY_TRY(mly_convert_texts_init(&work->samples, mem, work->tokenizer, work->card, err));
    MLY_TRY(read_calibration(work, err));
    if (work->options.no_quality != 0) return MLY_OK;
    MLY_TRY(mly_convert_add_passages(&work->samples, passages, false, err));
    work->passages = work->samples.count;
    MLY_TRY(mly_convert_add_queries(&work->samples, queries, err));
    work->reference = mly_mem_array(mem, work->samples.count, work->card->hidden * sizeof(float));
    if (work->reference == NULL) {
        return mly_fail_nomem(err, work->samples.count * work->card->hidden * sizeof(float));
    }
    return MLY_OK;
}

#define COPY(to, from) mly_options_copy_text((to), sizeof(to), mly_str_of(from))

static void describe(struct conversion *work)
{
    struct memalloy_convert_report *report = &work->report;
    const struct mly_snapshot_card *card = work->card;
    COPY(report->id, card->id.data);
    COPY(report->architecture, card->architecture.data);
    COPY(report->pooling, card->pooling.data);
    COPY(report->pooling_from, card->pooling_from);
    COPY(report->query_prefix, card->query_prefix.data);
    COPY(report->passage_prefix, card->passage_prefix.data);
    COPY(report->prefix_from, card->prefix_from);
    COPY(report->pieces_from, card->pieces_from);
    report->dim = (uint32_t)card->hidden;
    report->layers = (uint32_t)card->layers;
    report->pieces_max = (uint32_t)card->pieces_max;
    report->vocabulary = (uint32_t)card->vocabulary;
    report->tensors_ignored = (uint32_t)card->tensors_ignored;
}

static enum mly_err open_source(struct conversion *work, struct mly_error *err)
{
    const struct memalloy_convert_options *options = &work->options;
    const struct mly_snapshot_options snapshot = {
        .id = options->id,
        .pooling = options->pooling,
        .query_prefix = options->query_prefix,
        .passage_prefix = options->passage_prefix,
        .pieces_max = options->pieces_max,
    };
    if (options->source_path == NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "source_path is NULL");
    }
    MLY_TRY(take_precision(work, err));
    MLY_TRY(mly_snapshot_open(work->env, options->source_path, &snapshot, &work->snapshot, err));
    work->card = mly_snapshot_card(work->snapshot);
    describe(work);
    MLY_TRY(open_tokenizer(work, err));
    /* Rows that no id names are left out. */
    work->report.vocabulary = mly_tokenizer_frame(work->tokenizer)->id_count;
    return MLY_OK;
}

/* The file before it has its name, so that one that cannot be used never has. */
static enum mly_err measure(void *context, const char *path, struct mly_error *err)
{
    struct conversion *work = context;
    const struct mly_sequences samples = mly_convert_sequences(&work->samples);
    struct mly_file_info info;
    MLY_TRY(mly_convert_measure(&work->workshop, path, &samples, work->passages, work->reference,
                                &work->report, err));
    MLY_TRY(mly_file_info_at(work->env, MLY_AT_CWD, path, true, &info, err));
    work->report.file_bytes = info.bytes;
    return MLY_OK;
}

static enum mly_err write_file(struct conversion *work, struct mly_error *err)
{
    const struct memalloy_convert_options *options = &work->options;
    char source[160];
    (void)snprintf(source, sizeof(source), "folder:%s", work->card->id.data);
    const struct mly_quantise_job job = {
        .workshop = work->workshop,
        .precision = work->precision,
        .out_path = options->out_path,
        .overwrite = options->overwrite != 0,
        .tokenizer =
            work->card->tokenizer_is_list ? work->card->tokenizer : mly_bytes_view(&work->compiled),
        .tokenizer_is_list = work->card->tokenizer_is_list,
        .vocabulary = work->report.vocabulary,
        .source = mly_str_of(options->source != NULL ? options->source : source),
        .license = mly_str_of(options->license != NULL ? options->license : "as the source's"),
        .calibration = mly_convert_sequences(&work->calibration),
        .samples = mly_convert_sequences(&work->samples),
        .progress = options->progress,
        .progress_context = options->progress_context,
        .check = measure,
        .check_context = work,
    };
    return mly_quantise(work->snapshot, &job, work->reference, err);
}

static enum mly_err convert(struct conversion *work, struct mly_error *err)
{
    const int64_t start = work->env->monotonic_ns(work->env->context);
    MLY_TRY(open_source(work, err));
    if (work->options.out_path != NULL) {
        MLY_TRY(mly_choose_kern(work->env, work->options.kernels, &work->workshop.kern, err));
        MLY_TRY(mly_pool_create(work->env, work->options.threads, &work->workshop.pool, err));
        MLY_TRY(read_texts(work, err));
        MLY_TRY(write_file(work, err));
    }
    work->report.seconds = (double)(work->env->monotonic_ns(work->env->context) - start) * 1e-9;
    return MLY_OK;
}

enum mly_err mly_engine_convert(const struct mly_env *env,
                                const struct memalloy_convert_options *options,
                                struct memalloy_convert_report *out, struct mly_error *err)
{
    struct memalloy_convert_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_convert_options", err));
    struct conversion *work = mly_mem_array(env->mem, 1, sizeof(*work));
    if (work == NULL) return mly_fail_nomem(err, sizeof(*work));
    work->env = env;
    work->options = local;
    work->workshop.env = env;
    mly_bytes_init(&work->compiled, env->mem, TOKENIZER_BYTES_MAX);
    const enum mly_err rc = convert(work, err);
    if (rc == MLY_OK && out != NULL) mly_options_give(out, &work->report, sizeof(work->report));
    mly_mem_free(env->mem, work->reference);
    mly_convert_texts_deinit(&work->samples);
    mly_convert_texts_deinit(&work->calibration);
    mly_tokenizer_destroy(work->tokenizer);
    mly_bytes_deinit(&work->compiled);
    mly_snapshot_close(work->snapshot);
    mly_pool_destroy(work->workshop.pool);
    mly_mem_free(env->mem, work);
    return rc;
}

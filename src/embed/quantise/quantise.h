/* Makes a model file of ours from a snapshot: weights packed as the engine wants them, in floats or
 * rounded; at int8 for the inputs that calibration text gives them, layer after layer.
 *
 * Shapes   reference: f32[samples.count][hidden], the vectors of the published model in floats.
 * Same     the same bytes on every machine, for any kernel set and number of threads.
 * Owns     borrows all that a job points to.
 * Errors   CONFLICT where the file exists; CANCELLED; CORRUPT numbers that are not finite; MODEL
 *          inputs that calibration can do nothing with; IO, LIMIT, NOMEM.
 * Cost     at int8 some seconds for each ten million weights; memory for the calibration's rows
 *          (some 30 KB for each word piece in a base size), and four squares of the widest layer.
 * Source   GPTQ: gptq.h. Smoothing: Xiao et al. 2022, SmoothQuant.
 */
#ifndef MLY_EMBED_QUANTISE_QUANTISE_H
#define MLY_EMBED_QUANTISE_QUANTISE_H

#include "embed/quantise/gptq.h"
#include "embed/quantise/snapshot.h"
#include "embed/quantise/stream.h"

/* What the weights become. */
enum mly_quantise_precision { MLY_QUANTISE_INT8, MLY_QUANTISE_BF16, MLY_QUANTISE_F32 };

/* Looks at the file, which is whole, before it gets its name: other than MLY_OK, it gets none. */
typedef enum mly_err (*mly_quantise_check_fn)(void *context, const char *path,
                                              struct mly_error *err);

/* Told how far it is, from 0 to 1; a result other than 0 cancels. */
typedef int (*mly_quantise_progress_fn)(void *context, const char *step, double share);

struct mly_quantise_job {
    struct mly_workshop workshop;
    enum mly_quantise_precision precision;
    const char *out_path;
    bool overwrite;
    struct mly_str tokenizer; /* compiled, or a list of word pieces */
    bool tokenizer_is_list;
    size_t vocabulary; /* ids are below it; rows of the embeddings beyond it are left out */
    struct mly_str source, license;   /* for the file's metadata */
    struct mly_sequences calibration; /* int8 only */
    struct mly_sequences samples;     /* count 0: no reference is wanted */
    mly_quantise_progress_fn progress;
    void *progress_context;
    mly_quantise_check_fn check; /* NULL: none */
    void *check_context;
};

/* reference is filled in where there are samples, before the check. */
MLY_MUST_USE enum mly_err mly_quantise(const struct mly_snapshot *snapshot,
                                       const struct mly_quantise_job *job, float *reference,
                                       struct mly_error *err);

#endif

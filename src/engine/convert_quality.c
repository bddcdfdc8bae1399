/* How far the vectors of a new model file are from those of the published model in floats. */
#include "engine/convert_int.h"

#include <string.h>

static void note(double cosine, uint32_t *count, double *mean, double *least)
{
    *least = *count == 0 || cosine < *least ? cosine : *least;
    *mean = (*mean * *count + cosine) / (*count + 1.0);
    (*count)++;
}

enum mly_err mly_convert_measure(const struct mly_workshop *workshop, const char *path,
                                 const struct mly_sequences *sequences, size_t passages,
                                 const float *reference, struct memalloy_convert_report *report,
                                 struct mly_error *err)
{
    const struct mly_env *env = workshop->env;
    struct mly_embedder *embedder = NULL;
    float *vectors = mly_mem_array(env->mem, sequences->count + 1, report->dim * sizeof(float));
    enum mly_err rc = MLY_OK;
    if (vectors == NULL) {
        rc = mly_fail_nomem(err, sequences->count * report->dim * sizeof(float));
        goto done;
    }
    rc = mly_embedder_open(env, workshop->kern, workshop->pool, path, &embedder, err);
    if (rc != MLY_OK) goto done;
    const struct mly_str hash = mly_embedder_card(embedder)->hash;
    memcpy(report->hash, hash.data,
           hash.bytes < sizeof(report->hash) ? hash.bytes : sizeof(report->hash) - 1);
    rc = mly_embedder_encode(embedder, sequences->ids, sequences->starts, sequences->count, vectors,
                             err);
    if (rc != MLY_OK) goto done;
    for (size_t i = 0; i < sequences->count; i++) {
        double cosine = 0.0;
        for (size_t d = 0; d < report->dim; d++) {
            cosine += (double)vectors[i * report->dim + d] * (double)reference[i * report->dim + d];
        }
        if (i < passages) {
            note(cosine, &report->passages, &report->passages_mean, &report->passages_min);
        } else {
            note(cosine, &report->queries, &report->queries_mean, &report->queries_min);
        }
    }
done:
    mly_embedder_close(embedder);
    mly_mem_free(env->mem, vectors);
    return rc;
}

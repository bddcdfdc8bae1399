/* embed: one vector per text, as JSON lines. */
#include "cli.h"

#include <string.h>

struct embedding {
    const struct cli_args *args;
    memalloy_model *model;
    struct memalloy_model_info info;
    uint64_t truncated;
};

static json_t *vector_json(const float *vector, size_t dim)
{
    json_t *numbers = cli_list();
    for (size_t i = 0; i < dim; i++) {
        cli_push(numbers, json_real((double)vector[i]));
    }
    return numbers;
}

/* A cli_texts_fn. Nine digits give every float32 back as it was. */
static int embed_batch(void *context, const struct memalloy_str *texts, size_t count,
                       uint64_t first_i)
{
    struct embedding *embedding = context;
    struct memalloy_error err = {0};
    size_t dim = embedding->info.dim, truncated = 0;
    float *vectors = cli_array(count * dim, sizeof(*vectors));
    if (memalloy_embed(embedding->model, texts, count, NULL, vectors, &truncated, &err) !=
        MEMALLOY_OK) {
        cli_free(vectors);
        struct cli_args plain = *embedding->args;
        plain.json = false; /* lines that were given stay the only ones */
        return cli_fail(&plain, &err);
    }
    embedding->truncated += truncated;
    for (size_t i = 0; i < count; i++) {
        json_t *line = vector_json(vectors + i * dim, dim);
        if (embedding->args->json) {
            json_t *object = cli_object();
            cli_put(object, "index", cli_json_int(first_i + i));
            cli_put(object, "text", cli_json_str(texts[i]));
            cli_put(object, "vector", line);
            line = object;
        }
        cli_json_line(line, 9);
    }
    cli_free(vectors);
    return CLI_OK;
}

int cli_verb_embed(struct cli_args *args)
{
    struct embedding embedding = {.args = args, .info.struct_bytes = sizeof(embedding.info)};
    int result = cli_open_model(args, &embedding.model);
    if (result != CLI_OK) {
        return result;
    }
    struct memalloy_error err = {0};
    if (memalloy_model_get_info(embedding.model, &embedding.info, &err) != MEMALLOY_OK) {
        result = cli_fail(args, &err);
    } else {
        result = cli_texts_each(args, embed_batch, &embedding);
    }
    if (embedding.truncated > 0 && !args->quiet) {
        fprintf(stderr,
                "cut off after %u word pieces, which is what the model reads: %llu of the texts\n",
                embedding.info.pieces_max, (unsigned long long)embedding.truncated);
    }
    memalloy_model_close(embedding.model);
    return result;
}

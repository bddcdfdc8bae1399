/* tokenize: the ids of a text's word pieces, one line per text. */
#include "cli.h"

struct tokenizing {
    const struct cli_args *args;
    memalloy_model *model;
    uint64_t count;
};

static void write_ids(const memalloy_tokens *tokens)
{
    const int32_t *ids = memalloy_tokens_ids(tokens);
    size_t count = memalloy_tokens_count(tokens);
    for (size_t i = 0; i < count; i++) {
        printf("%s%ld", i > 0 ? " " : "", (long)ids[i]);
    }
    putchar('\n');
}

static void write_json(const memalloy_tokens *tokens, struct memalloy_str text, uint64_t index)
{
    const int32_t *ids = memalloy_tokens_ids(tokens);
    const uint64_t *spans = memalloy_tokens_spans(tokens);
    json_t *id_list = cli_list(), *span_list = cli_list();
    for (size_t i = 0; i < memalloy_tokens_count(tokens); i++) {
        json_t *span = cli_list();
        cli_push(span, cli_json_int(spans[2 * i]));
        cli_push(span, cli_json_int(spans[2 * i + 1]));
        cli_push(span_list, span);
        cli_push(id_list, json_integer(ids[i]));
    }
    json_t *object = cli_object();
    cli_put(object, "index", cli_json_int(index));
    cli_put(object, "text", cli_json_str(text));
    cli_put(object, "ids", id_list);
    cli_put(object, "spans", span_list);
    cli_json_line(object, 17);
}

/* A cli_lines_fn. */
static int tokenize_batch(void *context, const struct cli_lines *lines)
{
    struct tokenizing *tokenizing = context;
    for (size_t i = 0; i < lines->count; i++) {
        const struct memalloy_str text = lines->items[i];
        struct memalloy_error err = {0};
        memalloy_tokens *tokens = NULL;
        char place[CLI_PLACE_BYTES];
        if (text.data == NULL || !cli_utf8_ok(text.data, text.bytes)) {
            cli_say("%s %s", cli_place(place, lines, i),
                    text.data == NULL ? "is far longer than a text" : "is not UTF-8");
            return CLI_USAGE;
        }
        if (memalloy_tokenize(tokenizing->model, text.data, text.bytes, tokenizing->args->special,
                              &tokens, &err) != MEMALLOY_OK) {
            struct cli_args plain = *tokenizing->args;
            plain.json = false; /* lines that were given stay the only ones */
            return cli_fail(&plain, &err);
        }
        if (tokenizing->args->json) {
            write_json(tokens, text, tokenizing->count);
        } else {
            write_ids(tokens);
        }
        tokenizing->count++;
        memalloy_tokens_destroy(tokens);
    }
    return CLI_OK;
}

int cli_verb_tokenize(struct cli_args *args)
{
    struct tokenizing tokenizing = {.args = args};
    int result = cli_open_model(args, &tokenizing.model);
    if (result == CLI_OK) {
        result = cli_lines_each(args, tokenize_batch, &tokenizing);
    }
    memalloy_model_close(tokenizing.model);
    return result;
}

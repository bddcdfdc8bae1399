/* Vectors as JSON lines: an array, or with --json an object that also names the record. */
#include "cli.h"

static json_t *vector_json(const float *vector, size_t dim)
{
    json_t *numbers = cli_list();
    for (size_t i = 0; i < dim; i++) {
        cli_push(numbers, json_real((double)vector[i]));
    }
    return numbers;
}

/* Nine digits give every float32 back as it was. */
static void put(struct cli_writer *writer, const struct cli_record *records, const float *vectors,
                size_t count)
{
    const size_t dim = writer->info->dim;
    for (size_t i = 0; i < count; i++) {
        json_t *line = vector_json(vectors + i * dim, dim);
        if (writer->args->json || writer->args->id_field != NULL) {
            json_t *object = cli_object();
            cli_put(object, "index", cli_json_int(records[i].index));
            if (writer->args->id_field != NULL) {
                cli_put(object, "id",
                        records[i].id_is_integer ? json_integer(records[i].id_integer)
                                                 : cli_json_str(records[i].id));
            }
            cli_put(object, "text", cli_json_str(records[i].text));
            cli_put(object, "truncated", json_boolean(records[i].truncated));
            cli_put(object, "vector", line);
            line = object;
        }
        cli_json_line(line, 9);
    }
    writer->rows += count;
}

static int finish(struct cli_writer *writer)
{
    (void)writer;
    return CLI_OK;
}

void cli_writer_jsonl(struct cli_writer *writer)
{
    writer->put = put;
    writer->close = finish;
}

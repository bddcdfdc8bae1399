/* embed: lines become records, records become vectors, vectors go out in the order of the records.
 * One batch is in hand at a time, so that input of any length needs the same memory, and whoever
 * writes it waits for whoever reads the vectors. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <fcntl.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct embedding {
    const struct cli_args *args;
    memalloy_model *model;
    struct memalloy_model_info info;
    struct cli_writer writer;
    struct cli_progress progress;
    const struct cli_lines *lines; /* in hand */
    double start_s;
    uint64_t records, truncated, skipped;
};

/* The records of one batch; texts and ids point into the lines or into documents. */
struct batch {
    struct cli_record *records;
    struct memalloy_str *texts;
    json_t **documents;
    unsigned char *truncated;
    float *vectors;
    size_t count;
};

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- records ---- */

/* A record that cannot be embedded: named in either case, and the end of it all unless it is to be
 * skipped. */
static int refuse(struct embedding *embedding, size_t i, const char *why)
{
    char place[CLI_PLACE_BYTES];
    cli_progress_end(&embedding->progress);
    cli_say("%s %s", cli_place(place, embedding->lines, i), why);
    embedding->skipped++;
    return embedding->args->on_error == 1 ? CLI_OK : CLI_USAGE;
}

/* A string, or an integer, which is noted; what else there is gives no id. */
static struct memalloy_str id_of(json_t *document, const char *field, struct cli_record *record)
{
    json_t *id = json_object_get(document, field);
    record->id_is_integer = json_is_integer(id);
    if (record->id_is_integer) {
        record->id_integer = json_integer_value(id);
        char digits[24];
        snprintf(digits, sizeof(digits), "%lld", (long long)json_integer_value(id));
        json_t *text = json_string(digits);
        if (text == NULL || json_object_set_new(document, field, text) != 0) {
            cli_out_of_memory();
        }
        id = json_object_get(document, field);
    }
    if (!json_is_string(id)) {
        return (struct memalloy_str){NULL, 0};
    }
    return (struct memalloy_str){json_string_value(id), json_string_length(id)};
}

/* The text of a line of JSON into the record; NULL, or what is wrong. */
static const char *read_json(const struct embedding *embedding, struct memalloy_str line,
                             struct batch *batch, struct cli_record *record, char why[200])
{
    const struct cli_args *args = embedding->args;
    const char *field = args->field != NULL ? args->field : "text";
    json_error_t fault;
    json_t *document = json_loadb(line.data, line.bytes, JSON_ALLOW_NUL | JSON_DECODE_ANY, &fault);
    if (document == NULL) {
        snprintf(why, 200, "is no JSON: %.120s", fault.text);
        return why;
    }
    json_t *text = json_is_object(document) ? json_object_get(document, field) : NULL;
    if (!json_is_string(text)) {
        snprintf(why, 200, "%s \"%.80s\"",
                 !json_is_object(document) ? "is no JSON object with a text"
                 : text == NULL            ? "has no field"
                                           : "has no text in its field",
                 field);
        json_decref(document);
        return why;
    }
    record->text = (struct memalloy_str){json_string_value(text), json_string_length(text)};
    if (args->id_field != NULL) {
        record->id = id_of(document, args->id_field, record);
    }
    batch->documents[batch->count] = document;
    return NULL;
}

static bool is_blank(struct memalloy_str line)
{
    size_t i = 0;
    while (i < line.bytes && strchr(" \t\r", line.data[i]) != NULL && line.data[i] != '\0') {
        i++;
    }
    return i == line.bytes;
}

static int take_line(struct embedding *embedding, struct batch *batch, size_t i)
{
    const struct cli_args *args = embedding->args;
    const struct memalloy_str line = embedding->lines->items[i];
    const bool is_json = args->field != NULL || args->id_field != NULL;
    if (is_json && line.data != NULL && is_blank(line)) {
        return CLI_OK; /* between records of JSON, and often behind the last, it means nothing */
    }
    struct cli_record record = {.text = line, .index = embedding->records++};
    char why[200];
    const char *wrong = NULL;
    if (line.data == NULL) {
        snprintf(why, sizeof(why), "has %zu bytes, far more than a text", line.bytes);
        wrong = why;
    } else if (!cli_utf8_ok(line.data, line.bytes)) {
        wrong = "is not UTF-8";
    } else if (is_json) {
        wrong = read_json(embedding, line, batch, &record, why);
    }
    if (wrong != NULL) {
        return refuse(embedding, i, wrong);
    }
    batch->texts[batch->count] = record.text;
    batch->records[batch->count++] = record;
    return CLI_OK;
}

/* ---- vectors ---- */

/* A memalloy_progress_fn: of a batch, told as a part of the whole. */
static int tell(void *context, const struct memalloy_progress *batch)
{
    struct embedding *embedding = context;
    struct memalloy_progress all = {
        .struct_bytes = sizeof(all),
        .stage = MEMALLOY_STAGE_EMBED,
        .items_done = embedding->writer.rows + batch->items_done,
        .bytes_done = embedding->lines->bytes_done,
        .bytes_total = embedding->lines->bytes_total,
        .elapsed_s = seconds() - embedding->start_s,
        .remaining_s = -1,
    };
    if (all.bytes_total > all.bytes_done && all.bytes_done > 0) {
        all.remaining_s =
            all.elapsed_s * (double)(all.bytes_total - all.bytes_done) / (double)all.bytes_done;
    }
    return cli_progress_report(&embedding->progress, &all);
}

static int embed_records(struct embedding *embedding, struct batch *batch)
{
    struct memalloy_error err = {0};
    const struct memalloy_embed_options options = {
        .struct_bytes = sizeof(options),
        .kind = embedding->args->kind,
        .progress = tell,
        .progress_context = embedding,
        .truncated = batch->truncated,
    };
    size_t truncated = 0;
    if (memalloy_embed(embedding->model, batch->texts, batch->count, &options, batch->vectors,
                       &truncated, &err) != MEMALLOY_OK) {
        if (err.code == MEMALLOY_ERR_CANCELLED && cli_signal() != 0) {
            return 128 + cli_signal();
        }
        cli_progress_end(&embedding->progress);
        struct cli_args plain = *embedding->args;
        plain.json = false; /* what was given stays the only output */
        return cli_fail(&plain, &err);
    }
    embedding->truncated += truncated;
    for (size_t i = 0; i < batch->count; i++) {
        batch->records[i].truncated = batch->truncated[i] != 0;
    }
    embedding->writer.put(&embedding->writer, batch->records, batch->vectors, batch->count);
    return CLI_OK;
}

/* A cli_lines_fn. What stands before a record that ends it all is embedded first. */
static int take_lines(void *context, const struct cli_lines *lines)
{
    struct embedding *embedding = context;
    struct batch batch = {
        .records = cli_array(lines->count, sizeof(*batch.records)),
        .texts = cli_array(lines->count, sizeof(*batch.texts)),
        .documents = cli_array(lines->count, sizeof(json_t *)),
        .truncated = cli_array(lines->count, 1),
        .vectors = cli_array(lines->count * embedding->info.dim, sizeof(float)),
    };
    embedding->lines = lines;
    int refused = CLI_OK;
    for (size_t i = 0; i < lines->count && refused == CLI_OK; i++) {
        refused = take_line(embedding, &batch, i);
    }
    int result = batch.count > 0 ? embed_records(embedding, &batch) : CLI_OK;
    for (size_t i = 0; i < batch.count; i++) {
        json_decref(batch.documents[i]);
    }
    cli_free(batch.records);
    cli_free(batch.texts);
    cli_free(batch.documents);
    cli_free(batch.truncated);
    cli_free(batch.vectors);
    return result == CLI_OK ? refused : result;
}

/* ---- output ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

/* The format that a file's name asks for, where none is named. */
static void choose_format(struct cli_args *args)
{
    static const struct {
        const char *end;
        int format;
    } ends[] = {{".npy", CLI_NPY}, {".arrows", CLI_ARROW}, {".arrow", CLI_ARROW_FILE}};
    for (size_t i = 0; i < 3 && !args->has_format && args->output != NULL; i++) {
        if (ends_with(args->output, ends[i].end)) {
            args->format = ends[i].format;
        }
    }
}

/* Truncating what is to be read would lose it. */
static bool is_input(const struct cli_args *args)
{
    struct stat output, input;
    if (stat(args->output, &output) != 0 || !S_ISREG(output.st_mode)) {
        return false;
    }
    bool same = fstat(STDIN_FILENO, &input) == 0 && input.st_ino == output.st_ino &&
                input.st_dev == output.st_dev;
    for (size_t i = 0; i < args->files.count && !same; i++) {
        same = stat(args->files.items[i], &input) == 0 && input.st_ino == output.st_ino &&
               input.st_dev == output.st_dev;
    }
    return same;
}

/* stdout becomes the file: whoever writes need not know. */
static int open_output(const struct cli_args *args)
{
    if (args->output == NULL || strcmp(args->output, "-") == 0) {
        if (args->format != CLI_JSONL && cli_is_tty(stdout)) {
            return cli_usage(args, "bytes of %s are not for a terminal: give --output, or a pipe",
                             args->format == CLI_NPY ? "npy" : "Arrow");
        }
        return CLI_OK;
    }
    if (is_input(args)) {
        return cli_usage(args, "--output %s is also the input", args->output);
    }
    int fd = open(args->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0) {
        cli_say("cannot write to %s: %s", args->output, strerror(errno));
        return CLI_FAILED;
    }
    close(fd);
    return CLI_OK;
}

static int open_writer(struct embedding *embedding)
{
    embedding->writer.args = embedding->args;
    embedding->writer.info = &embedding->info;
    switch (embedding->args->format) {
    case CLI_NPY:
        return cli_writer_npy(&embedding->writer);
    case CLI_JSONL:
        cli_writer_jsonl(&embedding->writer);
        return CLI_OK;
    default:
        cli_writer_arrow(&embedding->writer, embedding->args->format == CLI_ARROW_FILE);
        return CLI_OK;
    }
}

/* A name that is wrong must not cost the output of an earlier run. */
static int check_files(const struct cli_args *args)
{
    for (size_t i = 0; i < args->files.count; i++) {
        const char *path = args->files.items[i];
        struct stat info;
        if (strcmp(path, "-") == 0) {
            continue;
        }
        int code = access(path, R_OK) != 0 || stat(path, &info) != 0 ? errno : 0;
        if (code == 0 && S_ISDIR(info.st_mode)) {
            code = EISDIR;
        }
        if (code != 0) {
            cli_say("cannot read %s: %s", path, strerror(code));
            return CLI_FAILED;
        }
    }
    return CLI_OK;
}

static int check(const struct cli_args *args)
{
    if (args->id_field != NULL && args->format == CLI_NPY) {
        return cli_usage(args, "npy has no place for ids: take --id-field away, or another format");
    }
    const bool texts =
        args->rest_count > 1 || (args->rest_count == 1 && strcmp(args->rest[0], "-") != 0);
    if ((args->field != NULL || args->id_field != NULL) && texts) {
        return cli_usage(args, "--field and --id-field are for lines, not for texts as arguments");
    }
    if (args->files.count > 0 && args->rest_count > 0) {
        return cli_usage(args, "texts come from --file or from the arguments, not from both");
    }
    return check_files(args);
}

static void say_end(const struct embedding *embedding)
{
    if (embedding->args->quiet) {
        return;
    }
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES];
    if (embedding->truncated > 0) {
        fprintf(stderr,
                "cut off after %u word pieces, which is what the model reads: %s of %s texts\n",
                embedding->info.pieces_max, cli_count_text(a, embedding->truncated),
                cli_count_text(b, embedding->writer.rows));
    }
    if (embedding->args->on_error == 1 && embedding->skipped > 0) {
        fprintf(stderr, "skipped %s of %s records\n", cli_count_text(a, embedding->skipped),
                cli_count_text(b, embedding->records));
    }
    if (cli_signal() != 0) {
        fprintf(stderr, "interrupted after %s text%s; what was embedded is written\n",
                cli_count_text(a, embedding->writer.rows), embedding->writer.rows == 1 ? "" : "s");
    }
}

static int embed_all(struct embedding *embedding)
{
    struct memalloy_error err = {0};
    if (memalloy_model_get_info(embedding->model, &embedding->info, &err) != MEMALLOY_OK) {
        return cli_fail(embedding->args, &err);
    }
    int result = open_output(embedding->args);
    if (result == CLI_OK) {
        result = open_writer(embedding);
    }
    if (result != CLI_OK) {
        return result;
    }
    cli_progress_init(&embedding->progress, embedding->args);
    embedding->progress.shown =
        embedding->progress.shown && (embedding->progress.redraw || embedding->args->progress);
    embedding->start_s = seconds();
    result = cli_lines_each(embedding->args, take_lines, embedding);
    cli_progress_end(&embedding->progress);
    int closed = embedding->writer.close(&embedding->writer);
    say_end(embedding);
    if (result == CLI_OK) {
        result = closed;
    }
    return result == CLI_OK && embedding->skipped > 0 ? CLI_PARTIAL : result;
}

int cli_verb_embed(struct cli_args *args)
{
    struct embedding embedding = {.args = args, .info.struct_bytes = sizeof(embedding.info)};
    choose_format(args);
    int result = check(args);
    if (result != CLI_OK) {
        return result;
    }
    cli_signals_catch();
    result = cli_open_model(args, &embedding.model);
    if (result == CLI_OK) {
        result = embed_all(&embedding);
    }
    memalloy_model_close(embedding.model);
    return result;
}

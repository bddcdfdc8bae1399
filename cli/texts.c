/* Texts for embed and tokenize: the arguments, or the lines of stdin. Lines are handed on as they
 * come in, as many as one read gave: a program at the other end that waits for each answer gets it,
 * and one that writes without waiting gets batches. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES ((size_t)1 << 16)
#define BATCH_MAX ((size_t)256)
/* A text above it is a mistake: models read a few hundred words. */
#define LINE_BYTES_MAX ((size_t)64 << 20)

struct lines {
    const struct cli_args *args;
    cli_texts_fn take;
    void *context;
    struct memalloy_str *batch;
    uint64_t first_i;
};

static int check_utf8(const struct memalloy_str *texts, size_t count, uint64_t first_i)
{
    for (size_t i = 0; i < count; i++) {
        if (!cli_utf8_ok(texts[i].data, texts[i].bytes)) {
            cli_say("text %llu is not UTF-8", (unsigned long long)(first_i + i + 1));
            return CLI_USAGE;
        }
    }
    return CLI_OK;
}

static int hand_on(struct lines *lines, size_t count)
{
    if (count == 0) {
        return CLI_OK;
    }
    int result = check_utf8(lines->batch, count, lines->first_i);
    if (result == CLI_OK) {
        result = lines->take(lines->context, lines->batch, count, lines->first_i);
    }
    lines->first_i += count;
    return result;
}

/* Hands on the whole lines of input (at the end of it also the last one without a line end) and
 * drops them. searched: bytes known to hold no line end. */
static int take_lines(struct lines *lines, struct cli_buf *input, size_t searched, bool end)
{
    size_t at = 0, count = 0;
    int result = CLI_OK;
    while (at < input->bytes && result == CLI_OK) {
        size_t from = at > searched ? at : searched;
        char *newline =
            from < input->bytes ? memchr(input->data + from, '\n', input->bytes - from) : NULL;
        if (newline == NULL && !end) {
            break;
        }
        size_t stop = newline == NULL ? input->bytes : (size_t)(newline - input->data);
        size_t bytes = stop - at;
        if (bytes > 0 && input->data[stop - 1] == '\r') {
            bytes--;
        }
        lines->batch[count++] = (struct memalloy_str){input->data + at, bytes};
        at = newline == NULL ? input->bytes : stop + 1;
        if (count == BATCH_MAX) {
            result = hand_on(lines, count);
            count = 0;
            if (cli_stdout_gone()) {
                return result;
            }
        }
    }
    if (result == CLI_OK) {
        result = hand_on(lines, count);
    }
    cli_buf_drop(input, at);
    return result;
}

static int read_lines(struct lines *lines)
{
    struct cli_buf input = {0};
    int result = CLI_OK;
    bool end = false;
    while (!end && result == CLI_OK && !cli_stdout_gone()) {
        size_t searched = input.bytes;
        cli_buf_reserve(&input, READ_BYTES);
        ssize_t got = read(STDIN_FILENO, input.data + input.bytes, READ_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            cli_say("cannot read stdin: %s", strerror(errno));
            result = CLI_FAILED;
            break;
        }
        end = got == 0;
        input.bytes += (size_t)got;
        result = take_lines(lines, &input, searched, end);
        if (result == CLI_OK && input.bytes > LINE_BYTES_MAX) {
            cli_say("line %llu has more than %zu bytes", (unsigned long long)(lines->first_i + 1),
                    LINE_BYTES_MAX);
            result = CLI_USAGE;
        }
    }
    cli_buf_free(&input);
    return result;
}

int cli_texts_each(const struct cli_args *args, cli_texts_fn take, void *context)
{
    struct lines lines = {.args = args, .take = take, .context = context};
    size_t count = args->rest_count;
    int result = CLI_OK;
    lines.batch = cli_array(BATCH_MAX, sizeof(*lines.batch));
    if (count == 0 || (count == 1 && strcmp(args->rest[0], "-") == 0)) {
        result = read_lines(&lines);
        count = 0;
    }
    for (size_t at = 0; at < count && result == CLI_OK && !cli_stdout_gone();) {
        size_t batch = count - at < BATCH_MAX ? count - at : BATCH_MAX;
        for (size_t i = 0; i < batch; i++) {
            lines.batch[i] = cli_str(args->rest[at + i]);
        }
        result = hand_on(&lines, batch);
        at += batch;
    }
    cli_free(lines.batch);
    return result;
}

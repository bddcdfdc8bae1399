/* Texts for embed and tokenize: the arguments, or the lines of files and stdin. Lines are handed on
 * as they come in, as many as one read gave: a program at the other end that waits for each answer
 * gets it, one that writes without waiting gets batches, and nobody can write faster than lines are
 * taken. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)1 << 16)
#define BATCH_MAX ((size_t)256)
/* A text above it is a mistake: models read a few hundred words. */
#define LINE_BYTES_MAX ((size_t)64 << 20)

struct reader {
    const struct cli_args *args;
    cli_lines_fn take;
    void *context;
    struct memalloy_str *batch;
    struct cli_lines lines; /* items is batch */
    struct cli_buf input;
    size_t dropped; /* bytes of a line that is too long, 0: none is under way */
};

const char *cli_place(char out[CLI_PLACE_BYTES], const struct cli_lines *lines, size_t i)
{
    const unsigned long long number = lines->first + i;
    if (lines->source == NULL) {
        snprintf(out, CLI_PLACE_BYTES, "text %llu", number);
    } else {
        snprintf(out, CLI_PLACE_BYTES, "%.300s:%llu", lines->source, number);
    }
    return out;
}

static int hand_on(struct reader *reader, size_t count)
{
    if (count == 0) {
        return CLI_OK;
    }
    reader->lines.count = count;
    int result = reader->take(reader->context, &reader->lines);
    reader->lines.first += count;
    return result;
}

/* The line that ends at stop goes into the batch. */
static void add_line(struct reader *reader, size_t at, size_t stop, size_t count)
{
    const char *data = reader->input.data;
    size_t bytes = stop - at;
    if (reader->dropped > 0) {
        reader->batch[count] = (struct memalloy_str){NULL, reader->dropped + bytes};
        reader->dropped = 0;
        return;
    }
    if (bytes > 0 && data[stop - 1] == '\r') {
        bytes--;
    }
    reader->batch[count] = (struct memalloy_str){data + at, bytes};
}

/* Hands on the whole lines of the input (at its end also the last one without a line end) and
 * drops them. searched: bytes known to hold no line end. */
static int take_lines(struct reader *reader, size_t searched, bool end)
{
    struct cli_buf *input = &reader->input;
    size_t at = 0, count = 0;
    int result = CLI_OK;
    while ((at < input->bytes || (end && reader->dropped > 0)) && result == CLI_OK) {
        size_t from = at > searched ? at : searched;
        char *newline =
            from < input->bytes ? memchr(input->data + from, '\n', input->bytes - from) : NULL;
        if (newline == NULL && !end) {
            break;
        }
        size_t stop = newline == NULL ? input->bytes : (size_t)(newline - input->data);
        add_line(reader, at, stop, count++);
        at = newline == NULL ? input->bytes : stop + 1;
        if (count == BATCH_MAX) {
            result = hand_on(reader, count);
            count = 0;
            if (cli_stdout_gone() || cli_signal() != 0) {
                return result;
            }
        }
    }
    if (result == CLI_OK) {
        result = hand_on(reader, count);
    }
    cli_buf_drop(input, at);
    if (result == CLI_OK && input->bytes > LINE_BYTES_MAX) {
        reader->dropped += input->bytes; /* counted on until it ends */
        cli_buf_drop(input, input->bytes);
    }
    return result;
}

/* Waits until there is something to read; false: a signal came first. read() alone would go on
 * waiting after one. */
static bool wait_for(int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    while (cli_signal() == 0) {
        int ready = poll(&wanted, 1, 100);
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return true;
        }
    }
    return false;
}

static int read_all(struct reader *reader, int fd)
{
    bool end = false;
    int result = CLI_OK;
    reader->lines.first = 1;
    reader->input.bytes = 0;
    reader->dropped = 0;
    while (!end && result == CLI_OK && !cli_stdout_gone() && wait_for(fd)) {
        size_t searched = reader->input.bytes;
        cli_buf_reserve(&reader->input, READ_BYTES);
        ssize_t got = read(fd, reader->input.data + reader->input.bytes, READ_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            cli_say("cannot read %s: %s", reader->lines.source, strerror(errno));
            return CLI_FAILED;
        }
        end = got == 0;
        reader->input.bytes += (size_t)got;
        reader->lines.bytes_done += (uint64_t)got;
        result = take_lines(reader, searched, end);
    }
    return result;
}

static int read_file(struct reader *reader, const char *path)
{
    if (strcmp(path, "-") == 0) {
        reader->lines.source = "stdin";
        return read_all(reader, STDIN_FILENO);
    }
    reader->lines.source = path;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        cli_say("cannot read %s: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    int result = read_all(reader, fd);
    close(fd);
    return result;
}

/* How much there is to read, where all of it lies in files. */
static uint64_t bytes_of_files(const struct cli_list *files)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < files->count; i++) {
        struct stat info;
        if (stat(files->items[i], &info) != 0 || !S_ISREG(info.st_mode)) {
            return 0;
        }
        bytes += (uint64_t)info.st_size;
    }
    return bytes;
}

static int hand_on_arguments(struct reader *reader)
{
    const struct cli_args *args = reader->args;
    int result = CLI_OK;
    for (size_t at = 0; at < args->rest_count && result == CLI_OK && !cli_stdout_gone();) {
        size_t batch = args->rest_count - at < BATCH_MAX ? args->rest_count - at : BATCH_MAX;
        for (size_t i = 0; i < batch; i++) {
            reader->batch[i] = cli_str(args->rest[at + i]);
        }
        result = hand_on(reader, batch);
        at += batch;
    }
    return result;
}

int cli_lines_each(const struct cli_args *args, cli_lines_fn take, void *context)
{
    struct reader reader = {.args = args, .take = take, .context = context};
    const bool piped =
        args->rest_count == 0 || (args->rest_count == 1 && strcmp(args->rest[0], "-") == 0);
    int result = CLI_OK;
    if (args->files.count > 0 && args->rest_count > 0) {
        return cli_usage(args, "texts come from --file or from the arguments, not from both");
    }
    reader.batch = cli_array(BATCH_MAX, sizeof(*reader.batch));
    reader.lines.items = reader.batch;
    reader.lines.first = 1;
    reader.lines.bytes_total = bytes_of_files(&args->files);
    for (size_t i = 0; i < args->files.count && result == CLI_OK && cli_signal() == 0; i++) {
        result = read_file(&reader, args->files.items[i]);
    }
    if (args->files.count == 0) {
        result = piped ? read_file(&reader, "-") : hand_on_arguments(&reader);
    }
    cli_free(reader.batch);
    cli_buf_free(&reader.input);
    return result == CLI_OK && cli_signal() != 0 ? 128 + cli_signal() : result;
}

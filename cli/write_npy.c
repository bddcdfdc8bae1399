/* Vectors as one .npy file: float32, shape (count, dim). The count stands in the header, in front
 * of everything: where stdout can be written to at a place, it is put in at the end; where it
 * cannot (a pipe, a file that is appended to), the rows wait in a temporary file without a name. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_BYTES 128
#define COPY_BYTES ((size_t)1 << 16)

struct npy {
    FILE *rows;  /* stdout, or the temporary file */
    off_t start; /* of the header in stdout; -1: it comes before the copied rows */
};

/* Version 1.0: magic, length of the text that follows, the text padded with blanks. */
static void make_header(char out[HEADER_BYTES], uint64_t rows, uint32_t dim)
{
    const size_t text_bytes = HEADER_BYTES - 10;
    char text[HEADER_BYTES];
    int used = snprintf(text, sizeof(text),
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %u), }",
                        (unsigned long long)rows, dim);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)text_bytes;
    out[9] = 0;
    memset(out + 10, ' ', text_bytes);
    memcpy(out + 10, text, (size_t)used);
    out[HEADER_BYTES - 1] = '\n';
}

static void put(struct cli_writer *writer, const struct cli_record *records, const float *vectors,
                size_t count)
{
    struct npy *npy = writer->state;
    (void)records;
    const size_t bytes = count * writer->info->dim * sizeof(*vectors);
    if (npy->start >= 0) {
        cli_write(vectors, bytes);
    } else {
        fwrite(vectors, 1, bytes, npy->rows); /* failures show when it is flushed */
    }
    writer->rows += count;
}

static int copy_rows(FILE *from)
{
    char *buffer = cli_array(COPY_BYTES, 1);
    size_t got = 1;
    rewind(from);
    while (got > 0 && !cli_stdout_gone()) {
        got = fread(buffer, 1, COPY_BYTES, from);
        cli_write(buffer, got);
    }
    const bool failed = ferror(from) != 0;
    cli_free(buffer);
    if (failed) {
        cli_say("cannot read the temporary file: %s", strerror(errno));
    }
    return failed ? CLI_FAILED : CLI_OK;
}

static int finish(struct cli_writer *writer)
{
    struct npy *npy = writer->state;
    char header[HEADER_BYTES];
    int result = CLI_OK;
    make_header(header, writer->rows, writer->info->dim);
    if (npy->start >= 0) {
        if (fflush(stdout) == 0 &&
            pwrite(STDOUT_FILENO, header, HEADER_BYTES, npy->start) != HEADER_BYTES) {
            cli_say("cannot complete the header: %s", strerror(errno));
            result = CLI_FAILED;
        }
    } else {
        if (fflush(npy->rows) != 0 || ferror(npy->rows)) {
            cli_say("cannot write to the temporary file: %s", strerror(errno));
            result = CLI_FAILED;
        } else {
            cli_write(header, HEADER_BYTES);
            result = copy_rows(npy->rows);
        }
        fclose(npy->rows);
    }
    cli_free(npy);
    return result;
}

/* Where the header will stand, or -1 where it could not be put in later. */
static off_t place_of_header(void)
{
    struct stat info;
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    if (fstat(STDOUT_FILENO, &info) != 0 || !S_ISREG(info.st_mode) || flags < 0 ||
        (flags & O_APPEND) != 0) {
        return -1;
    }
    return lseek(STDOUT_FILENO, 0, SEEK_CUR);
}

static FILE *open_temporary(void)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    int bytes = snprintf(path, sizeof(path), "%s/memalloy-XXXXXX",
                         folder != NULL && folder[0] != '\0' ? folder : "/tmp");
    if (bytes < 0 || (size_t)bytes >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    int fd = mkstemp(path);
    if (fd < 0) {
        return NULL;
    }
    unlink(path);
    FILE *file = fdopen(fd, "w+b");
    if (file == NULL) {
        close(fd);
    }
    return file;
}

int cli_writer_npy(struct cli_writer *writer)
{
    struct npy *npy = cli_array(1, sizeof(*npy));
    npy->start = place_of_header();
    if (npy->start >= 0) {
        char header[HEADER_BYTES];
        make_header(header, 0, writer->info->dim); /* readable from the first byte on */
        cli_write(header, HEADER_BYTES);
    } else {
        npy->rows = open_temporary();
        if (npy->rows == NULL) {
            cli_say("cannot make a temporary file: %s", strerror(errno));
            cli_free(npy);
            return CLI_FAILED;
        }
    }
    writer->state = npy;
    writer->put = put;
    writer->close = finish;
    return CLI_OK;
}

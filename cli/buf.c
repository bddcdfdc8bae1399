/* The one place where the command asks for memory. A command that cannot have it says so and ends:
 * the store needs no farewell, what was acknowledged is on disk. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

void cli_out_of_memory(void)
{
    fputs("memalloy: out of memory\n", stderr);
    _Exit(CLI_FAILED);
}

void *cli_array(size_t count, size_t item_bytes)
{
    void *memory = calloc(count == 0 ? 1 : count, item_bytes);
    if (memory == NULL) {
        cli_out_of_memory();
    }
    return memory;
}

void cli_free(void *memory)
{
    free(memory);
}

void cli_buf_reserve(struct cli_buf *buf, size_t more_bytes)
{
    if (more_bytes >= SIZE_MAX / 2 - buf->bytes) {
        cli_out_of_memory();
    }
    size_t wanted = buf->bytes + more_bytes + 1;
    if (wanted <= buf->capacity) {
        return;
    }
    size_t capacity = buf->capacity < 256 ? 256 : buf->capacity;
    while (capacity < wanted) {
        capacity *= 2;
    }
    char *data = realloc(buf->data, capacity);
    if (data == NULL) {
        cli_out_of_memory();
    }
    buf->data = data;
    buf->capacity = capacity;
}

void cli_buf_add(struct cli_buf *buf, const char *data, size_t bytes)
{
    cli_buf_reserve(buf, bytes);
    if (bytes > 0) {
        memcpy(buf->data + buf->bytes, data, bytes);
    }
    buf->bytes += bytes;
    buf->data[buf->bytes] = '\0';
}

void cli_buf_add_text(struct cli_buf *buf, const char *text)
{
    cli_buf_add(buf, text, strlen(text));
}

void cli_buf_drop(struct cli_buf *buf, size_t bytes)
{
    if (bytes == 0) {
        return;
    }
    memmove(buf->data, buf->data + bytes, buf->bytes - bytes);
    buf->bytes -= bytes;
    buf->data[buf->bytes] = '\0';
}

void cli_buf_free(struct cli_buf *buf)
{
    free(buf->data);
    *buf = (struct cli_buf){0};
}

#include "fuzz.h"

#include "temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fuzz_check(bool holds, const char *promise)
{
    if (holds) return;
    fprintf(stderr, "broken: %s\n", promise);
    abort();
}

size_t fuzz_accepted;

void fuzz_put(struct fuzz_input *input, const void *bytes, size_t count)
{
    fuzz_check(count <= FUZZ_INPUT_MAX - input->count, "a seed fits");
    if (count != 0) memcpy(input->bytes + input->count, bytes, count);
    input->count += count;
}

void fuzz_put_byte(struct fuzz_input *input, uint8_t byte)
{
    fuzz_put(input, &byte, 1);
}

void fuzz_check_result(enum mly_err rc, const struct mly_error *err)
{
    if (rc == MLY_OK) {
        fuzz_accepted++;
        return;
    }
    if (rc != MLY_ERR_CORRUPT && rc != MLY_ERR_MODEL && rc != MLY_ERR_UNSUPPORTED &&
        rc != MLY_ERR_LIMIT && rc != MLY_ERR_INVAL && rc != MLY_ERR_NOTFOUND) {
        fprintf(stderr, "result %d: %s\n", (int)rc, err->message);
        fuzz_check(false, "bad bytes give an error that they explain");
    }
    fuzz_check(err->message[0] != '\0', "an error has a message");
    if (getenv("MLY_TEST_VERBOSE") != NULL) fprintf(stderr, "%s\n", err->message);
}

void fuzz_check_clean(struct fault_env *fault)
{
    fuzz_check(fault->mem.live == 0, "no memory stays allocated");
    fuzz_check(fault->open_count == 0, "nothing stays open");
}

static char dir[TEMP_DIR_BYTES];

static void remove_dir(void)
{
    temp_dir_remove(dir);
}

const char *fuzz_dir(void)
{
    if (dir[0] == '\0') {
        temp_dir_make(dir);
        atexit(remove_dir);
    }
    return dir;
}

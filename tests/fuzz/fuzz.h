/* What a fuzz target is: one function that takes any bytes, and the bytes to begin with.
 *
 * The same target is built twice: with libFuzzer, which looks for inputs that reach new code
 * (make fuzz), and with replay_main.c, which any compiler builds and the suite runs.
 */
#ifndef MLY_TEST_FUZZ_FUZZ_H
#define MLY_TEST_FUZZ_FUZZ_H

#include "base/err.h"
#include "fault_env.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MAX 65536

struct fuzz_input {
    uint8_t bytes[FUZZ_INPUT_MAX];
    size_t count;
};

/* libFuzzer's name. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
/* Good input number i, made by our own writers so that it follows the formats; false: no more. */
bool fuzz_seed(size_t i, struct fuzz_input *out);

/* Appends; what does not fit stops the program. */
void fuzz_put(struct fuzz_input *input, const void *bytes, size_t count);
void fuzz_put_byte(struct fuzz_input *input, uint8_t byte);
/* Stops the program where a promise is broken. */
void fuzz_check(bool holds, const char *promise);
/* How many results were OK so far: seeds must reach what stands behind the first checks. */
extern size_t fuzz_accepted;
/* A result that callers can work with: OK, or an error that bad bytes explain, with a message. */
void fuzz_check_result(enum mly_err rc, const struct mly_error *err);
/* Nothing is left open or allocated. */
void fuzz_check_clean(struct fault_env *fault);
/* A folder that goes when the program ends. */
const char *fuzz_dir(void);

#endif

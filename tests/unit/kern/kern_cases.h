/* What the parity tests of the kernels share: sets, numbers from a seed, comparison by bits. */
#ifndef MLY_KERN_KERN_CASES_H
#define MLY_KERN_KERN_CASES_H

#include "kern/kern.h"

#include <stdint.h>

#define SETS_MAX 8

/* The sets that this machine runs, best first, and what is built for these tests alone: AVX-VNNI's
 * arithmetic in the encoding of AVX-512. Returns how many there are. */
size_t list_sets(const struct mly_kern *sets[SETS_MAX]);

/* xorshift64*: the same numbers everywhere. */
struct numbers {
    uint64_t state;
};
uint64_t next_bits(struct numbers *numbers);
/* From -size to size. */
float next_float(struct numbers *numbers, float size);
void fill_floats(struct numbers *numbers, float *out, size_t n, float size);
void fill_bytes(struct numbers *numbers, void *out, size_t n);
/* Aligned to 64, zeroed, freed with free(). */
void *room(size_t bytes);
/* Fails the test with the first difference and the seed. */
void same_floats(const char *what, const char *set, uint64_t seed, const float *wanted,
                 const float *got, size_t n);

#endif

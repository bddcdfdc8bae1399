/* Which kernel sets there are and which of them this machine can run.
 *
 * In: a wanted name or none. Out: a constant table. The tables are built here, from functions that
 * each live in a file of their own with the flags of their set; this file has the floor's flags, so
 * it runs anywhere.
 */
#include "kern/kern_int.h"

#include <string.h>

static const struct mly_kern set_scalar = KERN_SET(scalar);
#if defined(__x86_64__)
static const struct mly_kern set_avx2 = KERN_SET(avx2);
static const struct mly_kern set_avxvnni =
    KERN_SET_OF("avxvnni", avx2, avx2, avxvnni, avx2, avx2, avx2, avx2, avx2);
static const struct mly_kern set_avx512vnni = KERN_SET(avx512vnni);
static const struct mly_kern set_avx512bf16 =
    KERN_SET_OF("avx512bf16", avx512vnni, avx512vnni, avx512vnni, avx512vnni, avx512vnni,
                avx512vnni, avx512bf16, avx512vnni);
#elif defined(__aarch64__)
static const struct mly_kern set_neon =
    KERN_SET_OF("neon", neon, neon, neon, neon, neon, scalar, scalar, neon);
#endif

#define SETS_MAX 5

size_t mly_kern_list(const struct mly_kern **out, size_t out_max)
{
    const struct mly_kern *sets[SETS_MAX];
    size_t count = 0;
#if defined(__x86_64__)
    if (mly_kern_cpu_has_avx512bf16()) sets[count++] = &set_avx512bf16;
    if (mly_kern_cpu_has_avx512vnni()) sets[count++] = &set_avx512vnni;
    if (mly_kern_cpu_has_avxvnni()) sets[count++] = &set_avxvnni;
    if (mly_kern_cpu_has_avx2()) sets[count++] = &set_avx2;
#elif defined(__aarch64__)
    if (mly_kern_cpu_has_dotprod()) sets[count++] = &set_neon;
#endif
    sets[count++] = &set_scalar;
    for (size_t i = 0; i < count && i < out_max; i++) {
        out[i] = sets[i];
    }
    return count;
}

const struct mly_kern *mly_kern_pick(const char *wanted)
{
    const struct mly_kern *sets[SETS_MAX];
    size_t count = mly_kern_list(sets, SETS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (wanted == NULL || strcmp(wanted, sets[i]->name) == 0) return sets[i];
    }
    return NULL;
}

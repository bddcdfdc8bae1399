#include "kern_cases.h"

#include "kern/kern_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#if defined(__x86_64__)
KERN_DECLARE_LINEAR(evexvnni)
static const struct mly_kern set_evexvnni =
    KERN_SET_OF("evexvnni", avx2, avx2, evexvnni, avx2, avx2, avx2, avx2, avx2);
#endif

size_t list_sets(const struct mly_kern *sets[SETS_MAX])
{
    size_t count = mly_kern_list(sets, SETS_MAX);
    assert_in_range(count, 1, SETS_MAX - 1);
#if defined(__x86_64__)
    if (mly_kern_pick("avx512vnni") != NULL) sets[count++] = &set_evexvnni;
#endif
    return count;
}

uint64_t next_bits(struct numbers *numbers)
{
    uint64_t x = numbers->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    numbers->state = x;
    return x * 0x2545f4914f6cdd1dULL;
}

float next_float(struct numbers *numbers, float size)
{
    const int32_t value = (int32_t)(next_bits(numbers) >> 40) - (1 << 23);
    return (float)value / (float)(1 << 23) * size;
}

void fill_floats(struct numbers *numbers, float *out, size_t n, float size)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = next_float(numbers, size);
    }
}

void fill_bytes(struct numbers *numbers, void *out, size_t n)
{
    uint8_t *bytes = out;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(next_bits(numbers) >> 33);
    }
}

void *room(size_t bytes)
{
    const size_t rounded = (bytes + 64) / 64 * 64;
    void *block = aligned_alloc(64, rounded);
    assert_non_null(block);
    memset(block, 0, rounded);
    return block;
}

void same_floats(const char *what, const char *set, uint64_t seed, const float *wanted,
                 const float *got, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&wanted[i], &got[i], sizeof(float)) != 0) {
            fail_msg("%s, set %s, seed %llu: number %zu of %zu is %a, the definition gives %a",
                     what, set, (unsigned long long)seed, i, n, (double)got[i], (double)wanted[i]);
        }
    }
}

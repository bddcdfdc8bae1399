/* Asks the processor, and the registers the system saves, for what a set needs.
 *
 * cpuid and xgetbv by hand: clang 14's __builtin_cpu_supports does not know every name that gcc 12
 * knows, and neither looks at what we could not tell from its answer. Intel SDM volume 1, 14.3 and
 * 15.2 to 15.4 give the bits.
 */
#include "kern/kern_int.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* The low half of XCR0: which register files the system saves. */
static uint32_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Leaf 7: which extensions there are, all zero where the system does not save the register files
 * named by the bits of saved. */
struct extensions {
    uint32_t b, c;
};

static struct extensions extensions_with(uint32_t saved)
{
    const struct extensions none = {0, 0};
    const uint32_t osxsave = 1u << 27, avx = 1u << 28; /* leaf 1, ECX */
    struct extensions found;
    uint32_t a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0) return none;
    if ((c & osxsave) == 0 || (c & avx) == 0) return none;
    if ((saved_registers() & saved) != saved) return none;
    if (__get_cpuid_count(7, 0, &a, &found.b, &found.c, &d) == 0) return none;
    return found;
}

bool mly_kern_cpu_has_avx2(void)
{
    const uint32_t f16c = 1u << 29, avx2 = 1u << 5; /* leaf 1, ECX; leaf 7, EBX */
    uint32_t a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & f16c) == 0) return false;
    return (extensions_with(0x06).b & avx2) != 0; /* SSE, AVX */
}

bool mly_kern_cpu_has_avxvnni(void)
{
    const uint32_t avxvnni =
        1u << 4; /* leaf 7, subleaf 1, EAX; its VEX encoding needs no AVX-512 */
    uint32_t a, b, c, d;
    if (!mly_kern_cpu_has_avx2()) return false;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || a < 1) return false; /* the last subleaf */
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0) return false;
    return (a & avxvnni) != 0;
}

bool mly_kern_cpu_has_avx512vnni(void)
{
    const uint32_t f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31; /* EBX */
    const uint32_t all = f | dq | bw | vl, vnni = 1u << 11;                   /* ECX */
    /* SSE, AVX, mask, upper halves of 0-15, 16-31 */
    const struct extensions found = extensions_with(0xe6);
    return (found.b & all) == all && (found.c & vnni) != 0;
}

bool mly_kern_cpu_has_avx512bf16(void)
{
    uint32_t a, b, c, d;
    if (!mly_kern_cpu_has_avx512vnni()) return false;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0) return false;
    return (a & 1u << 5) != 0;
}
#else
typedef int mly_kern_cpu_x86_is_empty; /* C11 wants a declaration in every file. */
#endif

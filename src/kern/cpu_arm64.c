/* Asks the system what the processor has: user programs may not read arm64's own registers for it.
 *
 * In: the bits that the kernel gave this program at its start (Linux, documentation of elf_hwcaps).
 * Out: whether a set can run.
 */
#include "kern/kern_int.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

bool mly_kern_cpu_has_dotprod(void)
{
    const unsigned long asimd = 1ul << 1, dot_product = 1ul << 20;
    const unsigned long both = asimd | dot_product;
    return (getauxval(AT_HWCAP) & both) == both;
}
#elif defined(__aarch64__)
bool mly_kern_cpu_has_dotprod(void)
{
    return false;
}
#else
typedef int mly_kern_cpu_arm64_is_empty; /* C11 wants a declaration in every file. */
#endif

/* Holds a library to AVX2: answers its CPUID instructions as a processor without AVX-512, VNNI and
 * AMX would. Preloaded by bench_embed.py for a private copy of ONNX Runtime.
 *
 * In that copy (hold_to_avx2.py) every `cpuid` (0f a2) stands as 06 a2, which no x86-64 processor
 * knows; the SIGILL that follows is answered here with the true CPUID, those bits masked. That
 * happens while the library loads; afterwards it runs as it would on such a processor, at full
 * speed and without anything watching.
 */
#define _GNU_SOURCE

#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* Bits of leaf 7: AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL in ebx; VBMI, VBMI2, VNNI, BITALG,
 * VPOPCNTDQ in ecx; 4VNNIW, 4FMAPS, VP2INTERSECT, AMX, FP16 in edx. */
#define LEAF7_EBX (1u << 16 | 1u << 17 | 1u << 21 | 0xfu << 26 | 1u << 30 | 1u << 31)
#define LEAF7_ECX (1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14)
#define LEAF7_EDX (1u << 2 | 1u << 3 | 1u << 8 | 0xfu << 22)
/* Leaf 7.1: AVX-VNNI, AVX512 BF16, AMX FP16, AVX-IFMA in eax; AVX-VNNI-INT8 and -INT16, AVX-NE in
 * edx. */
#define LEAF71_EAX (1u << 4 | 1u << 5 | 1u << 21 | 1u << 23)
#define LEAF71_EDX (1u << 4 | 1u << 5 | 1u << 10)

static void answer(int signal_number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)info->si_addr;
    if (instruction[0] != 0x06 || instruction[1] != 0xa2) {
        (void)signal(signal_number, SIG_DFL); /* Somebody else's: it happens again, and ends. */
        return;
    }
    const uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX];
    uint32_t eax, ebx, ecx, edx;
    __cpuid_count(leaf, part, eax, ebx, ecx, edx);
    if (leaf == 7 && part == 0) {
        ebx &= ~LEAF7_EBX;
        ecx &= ~LEAF7_ECX;
        edx &= ~LEAF7_EDX;
    } else if (leaf == 7 && part == 1) {
        eax &= ~LEAF71_EAX;
        edx &= ~LEAF71_EDX;
    }
    registers[REG_RAX] = (greg_t)eax;
    registers[REG_RBX] = (greg_t)ebx;
    registers[REG_RCX] = (greg_t)ecx;
    registers[REG_RDX] = (greg_t)edx;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void)
{
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO};
    (void)sigaction(SIGILL, &action, NULL);
}

/* What this processor can multiply at most: the roof that an embedding engine works under.
 *
 *   roofline [THREADS [MILLISECONDS]]     one line of JSON: G multiply-adds per CPU second
 *
 * Each kind is one loop in assembly over independent accumulators that never leave their registers:
 * nothing is loaded, stored or waited for. It stands in one asm statement because compilers spill
 * accumulators of intrinsics, and a roof measured that way comes out at half its height. Each
 * thread counts its own CPU time, rates are summed, the best of several runs counts.
 */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS_MAX = 64, RUNS = 7 };

#if defined(__x86_64__)

/* Registers 0 to 23 accumulate, 30 and 31 hold the factors. */
#define ALL_24 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23"
/* Without EVEX there are 16 registers: 0 to 11 accumulate, 13 is between, 14 and 15 are factors. */
#define ALL_12 "0,1,2,3,4,5,6,7,8,9,10,11"

#define CLOBBERS_16                                                                                \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc"
/* The clobbered names are xmm's so that no -m flag is needed; they stand for the whole register.
 * Registers 16 to 31 cannot be named without such a flag, and are not the compiler's either. */
#define LOOP_32(name, step, width)                                                                 \
    static void run_##name(uint64_t rounds, const void *factors)                                   \
    {                                                                                              \
        __asm__ volatile("vmovdqu32 (%1), %%" width "30\n\t"                                       \
                         "vmovdqu32 64(%1), %%" width "31\n\t"                                     \
                         ".irp r," ALL_24 "\n\t"                                                   \
                         "vpxord %%" width "\\r, %%" width "\\r, %%" width "\\r\n\t"               \
                         ".endr\n\t"                                                               \
                         ".p2align 6\n\t"                                                          \
                         "1:\n\t"                                                                  \
                         ".irp r," ALL_24 "\n\t" step "\n\t"                                       \
                         ".endr\n\t"                                                               \
                         "dec %0\n\t"                                                              \
                         "jnz 1b\n\t"                                                              \
                         "vzeroupper"                                                              \
                         : "+r"(rounds)                                                            \
                         : "r"(factors)                                                            \
                         : CLOBBERS_16, "memory");                                                 \
    }
#define LOOP_16(name, step)                                                                        \
    static void run_##name(uint64_t rounds, const void *factors)                                   \
    {                                                                                              \
        __asm__ volatile("vmovdqu (%1), %%ymm14\n\t"                                               \
                         "vmovdqu 64(%1), %%ymm15\n\t"                                             \
                         ".irp r," ALL_12 "\n\t"                                                   \
                         "vpxor %%ymm\\r, %%ymm\\r, %%ymm\\r\n\t"                                  \
                         ".endr\n\t"                                                               \
                         ".p2align 6\n\t"                                                          \
                         "1:\n\t"                                                                  \
                         ".irp r," ALL_12 "\n\t" step "\n\t"                                       \
                         ".endr\n\t"                                                               \
                         "dec %0\n\t"                                                              \
                         "jnz 1b\n\t"                                                              \
                         "vzeroupper"                                                              \
                         : "+r"(rounds)                                                            \
                         : "r"(factors)                                                            \
                         : CLOBBERS_16, "memory");                                                 \
    }

LOOP_32(int8_512, "vpdpbusd %%zmm31, %%zmm30, %%zmm\\r", "zmm")
LOOP_32(int8_256, "vpdpbusd %%ymm31, %%ymm30, %%ymm\\r", "ymm")
LOOP_32(bf16_512, "vdpbf16ps %%zmm31, %%zmm30, %%zmm\\r", "zmm")
LOOP_32(fma_512, "vfmadd231ps %%zmm31, %%zmm30, %%zmm\\r", "zmm")
LOOP_16(int16_256, "vpmaddwd %%ymm15, %%ymm14, %%ymm13\n\tvpaddd %%ymm13, %%ymm\\r, %%ymm\\r")
LOOP_16(saturating_256, "vpmaddubsw %%ymm15, %%ymm14, %%ymm13\n\t"
                        "vpmaddwd %%ymm14, %%ymm13, %%ymm13\n\t"
                        "vpaddd %%ymm13, %%ymm\\r, %%ymm\\r")
LOOP_16(fma_256, "vfmadd231ps %%ymm15, %%ymm14, %%ymm\\r")

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}
static bool has_vnni(void)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl");
}
static bool has_bf16(void)
{
    return __builtin_cpu_supports("avx512bf16");
}

static const struct kind {
    const char *name;
    bool (*is_there)(void);
    void (*run)(uint64_t rounds, const void *factors);
    double products; /* of one round */
    bool is_float, is_bf16;
} kinds[] = {
    {"int8_vpdpbusd_512", has_vnni, run_int8_512, 24 * 64, false, false},
    {"int8_vpdpbusd_256", has_vnni, run_int8_256, 24 * 32, false, false},
    {"bf16_vdpbf16ps_512", has_bf16, run_bf16_512, 24 * 32, true, true},
    {"f32_fma_512", has_avx512, run_fma_512, 24 * 16, true, false},
    {"int16_vpmaddwd_256", has_avx2, run_int16_256, 12 * 16, false, false},
    {"int8_vpmaddubsw_256", has_avx2, run_saturating_256, 12 * 32, false, false},
    {"f32_fma_256", has_avx2, run_fma_256, 12 * 8, true, false},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static double thread_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

struct part {
    const struct kind *kind;
    double seconds;
    double rate;
};

/* 128 bytes: two factors. Numbers of ordinary size, for zeros may draw less power. */
static void fill_factors(const struct kind *kind, unsigned char *factors)
{
    const float f32[2] = {0.75f, 1.25e-6f};
    for (size_t half = 0; half < 2; half++) {
        for (size_t i = 0; i < 64; i++) {
            factors[half * 64 + i] = (unsigned char)(kind->is_float ? 0 : 7 * i % 97 + 1);
        }
        for (size_t i = 0; kind->is_float && i < 16; i++) {
            uint32_t bits;
            memcpy(&bits, &f32[half], sizeof(bits));
            if (kind->is_bf16) bits = (bits & 0xffff0000u) | bits >> 16;
            memcpy(factors + half * 64 + 4 * i, &bits, sizeof(bits));
        }
    }
}

static void *run_part(void *context)
{
    struct part *part = context;
    unsigned char factors[128];
    fill_factors(part->kind, factors);
    uint64_t rounds = 10000;
    double took = 0.0;
    for (;;) { /* Until a run is as long as asked for. */
        const double start = thread_s();
        part->kind->run(rounds, factors);
        took = thread_s() - start;
        if (took >= part->seconds) break;
        rounds *= 2;
    }
    for (int run = 0; run < RUNS; run++) {
        const double start = thread_s();
        part->kind->run(rounds, factors);
        const double again = thread_s() - start;
        took = again < took ? again : took;
    }
    part->rate = (double)rounds * part->kind->products / took;
    return NULL;
}

static double measure(const struct kind *kind, int threads, double seconds)
{
    pthread_t started[THREADS_MAX];
    struct part parts[THREADS_MAX];
    double sum = 0.0;
    for (int i = 0; i < threads; i++) {
        parts[i] = (struct part){kind, seconds, 0.0};
        if (pthread_create(&started[i], NULL, run_part, &parts[i]) != 0) {
            fprintf(stderr, "roofline: no thread %d\n", i);
            exit(1);
        }
    }
    for (int i = 0; i < threads; i++) {
        (void)pthread_join(started[i], NULL);
        sum += parts[i].rate;
    }
    return sum;
}

static void measure_all(int threads, double seconds)
{
    const char *comma = "";
    for (size_t i = 0; i < KINDS; i++) {
        if (!kinds[i].is_there()) continue;
        printf("%s\"%s\": %.2f", comma, kinds[i].name, measure(&kinds[i], threads, seconds) * 1e-9);
        comma = ", ";
    }
}

#else

static void measure_all(int threads, double seconds)
{
    (void)threads;
    (void)seconds;
}

#endif

int main(int argc, char **argv)
{
    const long threads = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
    const double seconds = 1e-3 * (argc > 2 ? strtod(argv[2], NULL) : 10.0);
    if (threads < 1 || threads > THREADS_MAX || !(seconds > 0.0 && seconds <= 10.0)) {
        fprintf(stderr, "usage: roofline [THREADS [MILLISECONDS]], threads 1 to %d\n", THREADS_MAX);
        return 2;
    }
    printf("{\"threads\": %ld", threads);
    printf(", \"giga_products_per_cpu_s\": {");
    measure_all((int)threads, seconds);
    printf("}}\n");
    return 0;
}

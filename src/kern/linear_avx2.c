/* Linear layers on quantised rows with AVX2: tiles of 6 rows by 16 outputs.
 *
 * vpmaddubsw would saturate, so bytes become words of 16 bits first and vpmaddwd sums pairs of
 * exact products. Of the four bytes of an output in one step, the even ones and the odd ones are
 * taken apart by shifts: each product then lands on its own output, and no sum goes across lanes.
 * A chunk of weights is widened once for all the rows of a block and stays in the first cache; the
 * tile holds 12 sums, 2 registers of weights, 1 broadcast pair of inputs and 1 product: all 16
 * registers. The sums go to the float formula of linear_scalar.c.
 */
#include "kern/kern_int.h"

#if !defined(__AVX2__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>
#include <stdalign.h>
#include <string.h>

#define CHUNK 128 /* inputs; their widened weights are 16 KB */
#define ROWS 48   /* share one widened chunk; their sums are 12 KB */
#define TILE_ROWS 6
#define TILE_OUTPUTS 16
#define HALF 8 /* numbers of 32 bits in one register */
#define TILES (MLY_KERN_PANEL / TILE_OUTPUTS)
#define STEPS (CHUNK / MLY_KERN_STEP)
_Static_assert(ROWS % TILE_ROWS == 0, "the last tile of a block has its six rows of sums");
_Static_assert(CHUNK == 128 && MLY_KERN_PANEL == 64 && MLY_KERN_STEP == 4, "numbers in assembly");

/* One step of one tile: the weights of inputs 0 and 2 of its four, then those of 1 and 3. */
struct step_weights {
    int16_t even[2 * TILE_OUTPUTS], odd[2 * TILE_OUTPUTS];
};

struct work {
    alignas(64) struct step_weights weights[TILES][STEPS];
    alignas(64) int32_t sums[ROWS][MLY_KERN_PANEL];
    /* A tile's inputs: those of even number of each row, then the odd ones. */
    alignas(64) int16_t inputs[TILE_ROWS][2][CHUNK / 2];
};

static inline __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

static inline void store(void *to, __m256i value)
{
    _mm256_store_si256((__m256i *)to, value);
}

static void widen_weights(const int8_t *chunk, size_t steps, struct work *work)
{
    for (size_t step = 0; step < steps; step++) {
        for (size_t o = 0; o < MLY_KERN_PANEL; o += HALF) {
            struct step_weights *to = &work->weights[o / TILE_OUTPUTS][step];
            const __m256i bytes = load(chunk + (step * MLY_KERN_PANEL + o) * MLY_KERN_STEP);
            const size_t at = o % TILE_OUTPUTS * 2;
            store(to->even + at, _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8));
            store(to->odd + at, _mm256_srai_epi16(bytes, 8));
        }
    }
}

/* n is a multiple of 64, as every number of inputs is. */
static inline void widen_inputs(const uint8_t *const rows[TILE_ROWS], size_t first, size_t n,
                                struct work *work)
{
    const __m256i low = _mm256_set1_epi16(0xff);
    for (size_t r = 0; r < TILE_ROWS; r++) {
        for (size_t i = 0; i < n; i += 32) {
            const __m256i bytes = load(rows[r] + first + i);
            store(work->inputs[r][0] + i / 2, _mm256_and_si256(bytes, low));
            store(work->inputs[r][1] + i / 2, _mm256_srli_epi16(bytes, 8));
        }
    }
}

#define TEXT(what) #what
#define NUMBER(value) TEXT(value)
/* Two products of a pair of inputs: sums a and b of one row. */
#define PAIR(at, a, b)                                                                             \
    "vpbroadcastd " NUMBER(at) "(%[inputs]), %%ymm14\n\t"                                          \
                               "vpmaddwd %%ymm12, %%ymm14, %%ymm15\n\t"                            \
                               "vpmaddwd %%ymm13, %%ymm14, %%ymm14\n\t"                            \
                               "vpaddd %%ymm15, %%ymm" #a ", %%ymm" #a "\n\t"                      \
                               "vpaddd %%ymm14, %%ymm" #b ", %%ymm" #b "\n\t"
/* Row r of the inputs is 256 bytes after row r - 1, its odd ones are 128 after its even ones. */
#define PAIRS(odd)                                                                                 \
    PAIR(odd * 128, 0, 1)                                                                          \
    PAIR(odd * 128 + 256, 2, 3)                                                                    \
    PAIR(odd * 128 + 512, 4, 5)                                                                    \
    PAIR(odd * 128 + 768, 6, 7)                                                                    \
    PAIR(odd * 128 + 1024, 8, 9)                                                                   \
    PAIR(odd * 128 + 1280, 10, 11)
#define WEIGHTS(at)                                                                                \
    "vmovdqa " #at "(%[weights]), %%ymm12\n\t"                                                     \
    "vmovdqa " #at "+32(%[weights]), %%ymm13\n\t"
#define LOAD(at, a, b)                                                                             \
    "vmovdqa " #at "(%[sums]), %%ymm" #a "\n\t"                                                    \
    "vmovdqa " #at "+32(%[sums]), %%ymm" #b "\n\t"
#define STORE(at, a, b)                                                                            \
    "vmovdqa %%ymm" #a ", " #at "(%[sums])\n\t"                                                    \
    "vmovdqa %%ymm" #b ", " #at "+32(%[sums])\n\t"
#define SUMS(move)                                                                                 \
    move(0, 0, 1) move(256, 2, 3) move(512, 4, 5) move(768, 6, 7) move(1024, 8, 9)                 \
        move(1280, 10, 11)
#define ADD_STEPS                                                                                  \
    SUMS(LOAD)                                                                                     \
    ".p2align 5\n"                                                                                 \
    "1:\n\t" WEIGHTS(0) PAIRS(0) WEIGHTS(64) PAIRS(1) "add $128, %[weights]\n\t"                   \
                                                      "add $4, %[inputs]\n\t"                      \
                                                      "cmp %[end], %[weights]\n\t"                 \
                                                      "jb 1b\n\t" SUMS(STORE)

/* Adds one chunk to sums: s32[6][stride MLY_KERN_PANEL], 32, 16 of each row; steps is above 0. In
 * assembly because gcc 12 spills nearly all sums when it is given intrinsics. */
static inline void add_tile(const struct work *work, const struct step_weights *weights,
                            size_t steps, int32_t *sums)
{
    const struct step_weights *const end = weights + steps;
    const int16_t *inputs = work->inputs[0][0];
    __asm__ volatile(ADD_STEPS
                     : [weights] "+r"(weights), [inputs] "+r"(inputs)
                     : [end] "r"(end), [sums] "r"(sums)
                     : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15");
}

/* The sums of one panel for up to ROWS rows from row on; rows beyond count hold copies. */
static void panel_sums(const struct mly_kern_rows *rows, size_t row, size_t count,
                       const int8_t *panel, size_t in, struct work *work)
{
    memset(work->sums, 0, sizeof(work->sums));
    for (size_t i = 0; i < in; i += CHUNK) {
        const size_t n = in - i < CHUNK ? in - i : CHUNK, steps = n / MLY_KERN_STEP;
        widen_weights(panel + i * MLY_KERN_PANEL, steps, work);
        for (size_t first = 0; first < count; first += TILE_ROWS) {
            const uint8_t *q[TILE_ROWS];
            for (size_t r = 0; r < TILE_ROWS; r++) { /* A short tile repeats its last row. */
                const size_t at = first + r < count ? first + r : count - 1;
                q[r] = rows->q + (row + at) * rows->stride;
            }
            widen_inputs(q, i, n, work);
            for (size_t t = 0; t < TILES; t++) {
                add_tile(work, work->weights[t], steps, work->sums[first] + t * TILE_OUTPUTS);
            }
        }
    }
}

/* Eight outputs of one row. */
static inline __m256 finish(const int32_t *sums, __m256 scale, __m256 sum, __m256 bias,
                            float row_scale, float row_low)
{
    const __m256 value = _mm256_cvtepi32_ps(load(sums));
    const __m256 product = _mm256_mul_ps(_mm256_mul_ps(value, scale), _mm256_set1_ps(row_scale));
    const __m256 base = _mm256_add_ps(_mm256_mul_ps(sum, _mm256_set1_ps(row_low)), bias);
    return _mm256_add_ps(product, base);
}

static inline __m256 gelu(__m256 x)
{
    static const float c[] = KERN_GELU_COEFFICIENTS;
    const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    const __m256 a = _mm256_min_ps(size, _mm256_set1_ps(KERN_GELU_END));
    __m256 p = _mm256_set1_ps(c[4]);
    p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[3]));
    p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[2]));
    p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[1]));
    p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[0]));
    return _mm256_add_ps(_mm256_max_ps(x, _mm256_setzero_ps()), p);
}

enum finish_kind { FINISH_STORE, FINISH_ADD, FINISH_GELU };

/* The rows of one block through the float formula; kind is a constant in each caller. */
static inline __attribute__((always_inline)) void
finish_rows(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear, size_t row,
            size_t count, size_t first, const struct work *work, float *out, size_t out_stride,
            enum finish_kind kind)
{
    for (size_t v = 0; v < MLY_KERN_PANEL; v += HALF) {
        const __m256 scale = _mm256_loadu_ps(linear->scale + first + v);
        const __m256 sum = _mm256_loadu_ps(linear->sum + first + v);
        const __m256 bias = _mm256_loadu_ps(linear->bias + first + v);
        for (size_t r = 0; r < count; r++) {
            float *target = out + (row + r) * out_stride + first + v;
            __m256 y = finish(work->sums[r] + v, scale, sum, bias, rows->scale[row + r],
                              rows->low[row + r]);
            if (kind == FINISH_ADD) y = _mm256_add_ps(_mm256_loadu_ps(target), y);
            if (kind == FINISH_GELU) y = gelu(y);
            _mm256_storeu_ps(target, y);
        }
    }
}

static inline __attribute__((always_inline)) void
linear_blocks(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear, float *out,
              size_t out_stride, enum finish_kind kind)
{
    struct work work;
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const int8_t *panel = linear->panels + first * linear->in;
        for (size_t row = 0; row < rows->count; row += ROWS) {
            const size_t left = rows->count - row, count = left < ROWS ? left : ROWS;
            panel_sums(rows, row, count, panel, linear->in, &work);
            finish_rows(rows, linear, row, count, first, &work, out, out_stride, kind);
        }
    }
}

void mly_kern_linear_u8s8_f32_avx2(const struct mly_kern_rows *rows,
                                   const struct mly_kern_linear *linear, float *out,
                                   size_t out_stride)
{
    linear_blocks(rows, linear, out, out_stride, FINISH_STORE);
}

void mly_kern_linear_add_u8s8_f32_avx2(const struct mly_kern_rows *rows,
                                       const struct mly_kern_linear *linear, float *out,
                                       size_t out_stride)
{
    linear_blocks(rows, linear, out, out_stride, FINISH_ADD);
}

void mly_kern_linear_gelu_u8s8_f32_avx2(const struct mly_kern_rows *rows,
                                        const struct mly_kern_linear *linear, float *out,
                                        size_t out_stride)
{
    linear_blocks(rows, linear, out, out_stride, FINISH_GELU);
}

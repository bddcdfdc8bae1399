/* Dot products of floats with NEON: the sixteen lanes of the definition are four registers.
 *
 * Products and sums stay apart (vmulq, vaddq): vmlaq may be fused, which rounds once instead of
 * twice. Several rows go side by side, because a single chain of additions waits for itself; that
 * changes no row's order.
 */
#include "kern/kern_int.h"

#if !defined(__ARM_FEATURE_DOTPROD)
#error "this file needs the flags of its set"
#endif

#include <arm_neon.h>
#include <string.h>

#define QUARTER 4 /* lanes in one register */

struct lanes {
    float32x4_t a, b, c, d;
};

static inline struct lanes no_lanes(void)
{
    const float32x4_t zero = vdupq_n_f32(0.0f);
    return (struct lanes){zero, zero, zero, zero};
}

static inline float fold(struct lanes lanes)
{
    const float32x4_t four = vaddq_f32(vaddq_f32(lanes.a, lanes.c), vaddq_f32(lanes.b, lanes.d));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static inline float32x4_t term(float32x4_t sum, const float *a, const float *b)
{
    return vaddq_f32(sum, vmulq_f32(vld1q_f32(a), vld1q_f32(b)));
}

static inline struct lanes step(struct lanes lanes, const float *a, const float *b)
{
    return (struct lanes){
        term(lanes.a, a, b),
        term(lanes.b, a + QUARTER, b + QUARTER),
        term(lanes.c, a + 2 * QUARTER, b + 2 * QUARTER),
        term(lanes.d, a + 3 * QUARTER, b + 3 * QUARTER),
    };
}

/* Lanes beyond the end get 0 added to them: a lane is never -0 (it starts at 0), so that is as good
 * as leaving it. */
static inline struct lanes last(struct lanes lanes, const float *a, const float *b, size_t rest)
{
    if (rest == 0) return lanes;
    float a_part[KERN_LANES] = {0}, b_part[KERN_LANES] = {0};
    memcpy(a_part, a, rest * sizeof(a[0]));
    memcpy(b_part, b, rest * sizeof(b[0]));
    return step(lanes, a_part, b_part);
}

float mly_kern_dot_f32_neon(const float *a, const float *b, size_t n)
{
    const size_t rest = n % KERN_LANES, whole = n - rest;
    struct lanes lanes = no_lanes();
    for (size_t i = 0; i < whole; i += KERN_LANES) {
        lanes = step(lanes, a + i, b + i);
    }
    return fold(last(lanes, a + whole, b + whole, rest));
}

void mly_kern_scores_f32_neon(const float *query, const float *rows, size_t row_count, size_t dim,
                              float *scores)
{
    const size_t rest = dim % KERN_LANES, whole = dim - rest;
    size_t row = 0;
    for (; row + 4 <= row_count; row += 4) {
        const float *a = rows + row * dim, *b = a + dim, *c = b + dim, *d = c + dim;
        struct lanes la = no_lanes(), lb = la, lc = la, ld = la;
        for (size_t i = 0; i < whole; i += KERN_LANES) {
            la = step(la, query + i, a + i);
            lb = step(lb, query + i, b + i);
            lc = step(lc, query + i, c + i);
            ld = step(ld, query + i, d + i);
        }
        scores[row] = fold(last(la, query + whole, a + whole, rest));
        scores[row + 1] = fold(last(lb, query + whole, b + whole, rest));
        scores[row + 2] = fold(last(lc, query + whole, c + whole, rest));
        scores[row + 3] = fold(last(ld, query + whole, d + whole, rest));
    }
    for (; row < row_count; row++) {
        scores[row] = mly_kern_dot_f32_neon(query, rows + row * dim, dim);
    }
}

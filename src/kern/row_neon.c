/* What happens to one row of floats between the products, with NEON. The definition is
 * row_scalar.c; n is a multiple of 16, so four registers are the sixteen lanes.
 */
#include "kern/kern_int.h"

#if !defined(__ARM_FEATURE_DOTPROD)
#error "this file needs the flags of its set"
#endif

#include <arm_neon.h>

#define QUARTER 4 /* lanes in one register */
#define QUARTERS (KERN_LANES / QUARTER)

static inline float fold(const float32x4_t lanes[QUARTERS])
{
    const float32x4_t four =
        vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/* 1.0f / sqrtf in the instructions of one float: library calls are not for this file. */
static inline float inverse_root(float x)
{
    return 1.0f / vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0);
}

void mly_kern_dequantize_s8_f32_neon(const int8_t *row, float scale, const float *base, size_t n,
                                     float *out)
{
    for (size_t i = 0; i < n; i += 2 * QUARTER) {
        const int16x8_t words = vmovl_s8(vld1_s8(row + i));
        const float32x4_t a = vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
        const float32x4_t b = vcvtq_f32_s32(vmovl_s16(vget_high_s16(words)));
        vst1q_f32(out + i, vaddq_f32(vmulq_n_f32(a, scale), vld1q_f32(base + i)));
        vst1q_f32(out + i + QUARTER,
                  vaddq_f32(vmulq_n_f32(b, scale), vld1q_f32(base + i + QUARTER)));
    }
}

static void layer_norm(float *x, const float *weight, const float *bias, size_t n, float epsilon)
{
    const float32x4_t zero = vdupq_n_f32(0.0f);
    float32x4_t lanes[QUARTERS] = {zero, zero, zero, zero};
    for (size_t i = 0; i < n; i += KERN_LANES) {
        for (size_t j = 0; j < QUARTERS; j++) {
            lanes[j] = vaddq_f32(lanes[j], vld1q_f32(x + i + j * QUARTER));
        }
    }
    const float32x4_t mean = vdupq_n_f32(fold(lanes) / (float)n);
    for (size_t j = 0; j < QUARTERS; j++) {
        lanes[j] = zero;
    }
    for (size_t i = 0; i < n; i += KERN_LANES) {
        for (size_t j = 0; j < QUARTERS; j++) {
            const float32x4_t difference = vsubq_f32(vld1q_f32(x + i + j * QUARTER), mean);
            lanes[j] = vaddq_f32(lanes[j], vmulq_f32(difference, difference));
        }
    }
    const float factor = inverse_root(fold(lanes) / (float)n + epsilon);
    for (size_t i = 0; i < n; i += QUARTER) {
        const float32x4_t unit = vmulq_n_f32(vsubq_f32(vld1q_f32(x + i), mean), factor);
        const float32x4_t product = vmulq_f32(unit, vld1q_f32(weight + i));
        vst1q_f32(x + i, vaddq_f32(product, vld1q_f32(bias + i)));
    }
}

void mly_kern_layer_norm_f32_neon(float *x, size_t count, const float *weight, const float *bias,
                                  size_t n, float epsilon)
{
    for (size_t row = 0; row < count; row++) {
        layer_norm(x + row * n, weight, bias, n, epsilon);
    }
}

/* Four bytes as integers of 16 bits. vmaxnmq takes the other operand for not-a-number. */
static inline uint16x4_t to_bytes(float32x4_t x, float32x4_t low, float factor)
{
    const float32x4_t value = vmulq_n_f32(vsubq_f32(x, low), factor);
    const float32x4_t at_least_0 = vmaxnmq_f32(value, vdupq_n_f32(0.0f));
    return vmovn_u32(vcvtnq_u32_f32(vminq_f32(at_least_0, vdupq_n_f32(255.0f)))); /* to even */
}

static inline float32x4_t times(const float *x, const float *factor, size_t i)
{
    const float32x4_t value = vld1q_f32(x + i);
    return factor == NULL ? value : vmulq_f32(value, vld1q_f32(factor + i));
}

static inline void quantize(const float *x, const float *by, size_t n, float low, float high,
                            uint8_t *q, float *scale)
{
    *scale = (high - low) / 255.0f + KERN_SCALE_MIN;
    const float factor = 1.0f / *scale;
    const float32x4_t start = vdupq_n_f32(low);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const uint16x8_t a = vcombine_u16(to_bytes(times(x, by, i), start, factor),
                                          to_bytes(times(x, by, i + QUARTER), start, factor));
        const uint16x8_t b = vcombine_u16(to_bytes(times(x, by, i + 2 * QUARTER), start, factor),
                                          to_bytes(times(x, by, i + 3 * QUARTER), start, factor));
        vst1q_u8(q + i, vcombine_u8(vmovn_u16(a), vmovn_u16(b)));
    }
}

void mly_kern_quantize_f32_u8_neon(const float *x, const float *factor, size_t n, uint8_t *q,
                                   float *scale, float *low)
{
    float32x4_t least = times(x, factor, 0), most = least;
    for (size_t i = QUARTER; i < n; i += QUARTER) {
        const float32x4_t value = times(x, factor, i);
        least = vminq_f32(value, least);
        most = vmaxq_f32(value, most);
    }
    *low = vminvq_f32(least) + 0.0f; /* As the definition: -0 becomes 0. */
    quantize(x, factor, n, *low, vmaxvq_f32(most), q, scale);
}

void mly_kern_quantize_from_f32_u8_neon(const float *x, size_t n, float low, uint8_t *q,
                                        float *scale)
{
    float32x4_t most = vdupq_n_f32(low);
    for (size_t i = 0; i < n; i += QUARTER) {
        most = vmaxq_f32(vld1q_f32(x + i), most);
    }
    quantize(x, NULL, n, low, vmaxvq_f32(most), q, scale);
}

void mly_kern_add_f32_neon(const float *x, size_t n, float *sum)
{
    for (size_t i = 0; i < n; i += QUARTER) {
        vst1q_f32(sum + i, vaddq_f32(vld1q_f32(sum + i), vld1q_f32(x + i)));
    }
}

void mly_kern_scale_f32_neon(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i += QUARTER) {
        vst1q_f32(x + i, vmulq_n_f32(vld1q_f32(x + i), factor));
    }
}

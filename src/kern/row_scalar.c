/* What happens to one row of floats between the products: normalising, quantising, adding. The
 * definition; kern.h says what each computes.
 */
#include "kern/kern_int.h"

#include <math.h>
#include <string.h>

static float fold(float lanes[KERN_LANES])
{
    for (size_t half = KERN_LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

void mly_kern_dequantize_s8_f32_scalar(const int8_t *row, float scale, const float *base, size_t n,
                                       float *out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)row[i] * scale + base[i];
    }
}

static void layer_norm(float *x, const float *weight, const float *bias, size_t n, float epsilon)
{
    float lanes[KERN_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i % KERN_LANES] += x[i];
    }
    const float mean = fold(lanes) / (float)n;
    memset(lanes, 0, sizeof(lanes));
    for (size_t i = 0; i < n; i++) {
        x[i] = x[i] - mean;
        lanes[i % KERN_LANES] += x[i] * x[i];
    }
    const float variance = fold(lanes) / (float)n;
    const float factor = 1.0f / sqrtf(variance + epsilon);
    for (size_t i = 0; i < n; i++) {
        x[i] = x[i] * factor * weight[i] + bias[i];
    }
}

void mly_kern_layer_norm_f32_scalar(float *x, size_t count, const float *weight, const float *bias,
                                    size_t n, float epsilon)
{
    for (size_t row = 0; row < count; row++) {
        layer_norm(x + row * n, weight, bias, n, epsilon);
    }
}

/* Not-a-number becomes 0: the comparison is false. */
static uint8_t to_byte(float value)
{
    float at_least_0 = value > 0.0f ? value : 0.0f;
    float in_range = at_least_0 < 255.0f ? at_least_0 : 255.0f;
    float rounded = in_range + KERN_ROUND;
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof(bits));
    return (uint8_t)(bits & 0xff);
}

static float times(const float *x, const float *factor, size_t i)
{
    return factor == NULL ? x[i] : x[i] * factor[i];
}

static void quantize(const float *x, const float *by, size_t n, float low, float high, uint8_t *q,
                     float *scale)
{
    *scale = (high - low) / 255.0f + KERN_SCALE_MIN;
    const float factor = 1.0f / *scale;
    for (size_t i = 0; i < n; i++) {
        q[i] = to_byte((times(x, by, i) - low) * factor);
    }
}

void mly_kern_quantize_f32_u8_scalar(const float *x, const float *factor, size_t n, uint8_t *q,
                                     float *scale, float *low)
{
    float least = times(x, factor, 0), most = least;
    for (size_t i = 1; i < n; i++) {
        const float value = times(x, factor, i);
        least = value < least ? value : least;
        most = value > most ? value : most;
    }
    *low = least + 0.0f; /* -0 becomes 0: which of them came first is nobody's business. */
    quantize(x, factor, n, *low, most, q, scale);
}

void mly_kern_quantize_from_f32_u8_scalar(const float *x, size_t n, float low, uint8_t *q,
                                          float *scale)
{
    float most = low;
    for (size_t i = 0; i < n; i++) {
        most = x[i] > most ? x[i] : most;
    }
    quantize(x, NULL, n, low, most, q, scale);
}

void mly_kern_add_f32_scalar(const float *x, size_t n, float *sum)
{
    for (size_t i = 0; i < n; i++) {
        sum[i] = sum[i] + x[i];
    }
}

void mly_kern_scale_f32_scalar(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = x[i] * factor;
    }
}

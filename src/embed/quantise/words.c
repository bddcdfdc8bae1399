/* The table of words: a part of it at a time is read, rounded and written, and the rows that the
 * streams need are taken from it.
 */
#include "embed/quantise/quantise_int.h"

#include <math.h>

#define WORDS MLY_CONVERT_WORDS
#define STORED_MAX 127.0f
#define ROUND 12582912.0f /* 1.5 * 2^23: rounds to the nearest integer, ties to even */
#define CLIPS 12
#define ROWS 32

static float round_to_byte(float x)
{
    const float low = x > -STORED_MAX ? x : -STORED_MAX;
    return ((low < STORED_MAX ? low : STORED_MAX) + ROUND) - ROUND;
}

/* To nearest, symmetric; of twelve ranges the one with the least squared error. */
static float round_word(const float *row, size_t hidden, int8_t *stored)
{
    float most = 0.0f, best_scale = 1.0f;
    double best = INFINITY;
    for (size_t i = 0; i < hidden; i++) {
        most = fabsf(row[i]) > most ? fabsf(row[i]) : most;
    }
    for (int clip = 0; clip < CLIPS && most > 0.0f; clip++) {
        const float scale = most * ((1.0f - 0.03f * (float)clip) / STORED_MAX);
        double lanes[8] = {0};
        for (size_t i = 0; i < hidden; i++) {
            const float off = round_to_byte(row[i] / scale) * scale - row[i];
            lanes[i % 8] += (double)off * (double)off;
        }
        const double error = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
                             ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
        if (error < best) {
            best = error;
            best_scale = scale;
        }
    }
    for (size_t i = 0; i < hidden; i++) {
        stored[i] = (int8_t)round_to_byte(row[i] / best_scale);
    }
    return best_scale;
}

struct words_part {
    struct mly_conversion *work;
    size_t first, count;
};

static void round_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct words_part *part = context;
    struct mly_conversion *work = part->work;
    const size_t hidden = work->card->hidden;
    (void)worker_i;
    for (size_t r = part_i * ROWS; r < part->count && r < (part_i + 1) * ROWS; r++) {
        work->word_scale[part->first + r] =
            round_word(work->words + r * hidden, hidden, work->stored_words + r * hidden);
    }
}

/* Gives the streams' rows their words. The calibration has them as the engine will: in 8 bits. */
static void fill_stream(const struct words_part *part, struct mly_stream *stream, bool rounded)
{
    const struct mly_conversion *work = part->work;
    const size_t hidden = work->card->hidden;
    const int32_t *ids = stream->sequences.ids;
    for (size_t row = 0; row < stream->rows; row++) {
        const size_t id = (size_t)ids[stream->sequences.starts[0] + row];
        if (id < part->first || id >= part->first + part->count) continue;
        float *x = stream->x + row * hidden;
        const size_t at = (id - part->first) * hidden;
        for (size_t i = 0; i < hidden; i++) {
            x[i] = rounded ? (float)work->stored_words[at + i] * work->word_scale[id]
                           : work->words[at + i];
        }
    }
}

uint16_t mly_convert_bf16(float value)
{
    uint32_t bits;
    if (fabsf(value) < MLY_KERN_BF16_MIN) return 0; /* as kern.h asks for */
    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static enum mly_err put_part(const struct words_part *part, struct mly_error *err)
{
    struct mly_conversion *work = part->work;
    const size_t count = part->count * work->card->hidden;
    switch (work->job->precision) {
    case MLY_QUANTISE_INT8:
        return mly_model_writer_put(&work->writer, work->stored_words, count, err);
    case MLY_QUANTISE_BF16:
        for (size_t i = 0; i < count; i++) {
            const uint16_t half = mly_convert_bf16(work->words[i]);
            memcpy(work->stored_words + 2 * i, &half, sizeof(half));
        }
        return mly_model_writer_put(&work->writer, work->stored_words, 2 * count, err);
    case MLY_QUANTISE_F32:
        break;
    }
    return mly_model_writer_put(&work->writer, work->words, count * sizeof(float), err);
}

enum mly_err mly_convert_words(struct mly_conversion *work, struct mly_error *err)
{
    const size_t vocabulary = work->job->vocabulary;
    for (size_t first = 0; first < vocabulary; first += WORDS) {
        const size_t left = vocabulary - first;
        struct words_part part = {work, first, left < WORDS ? left : WORDS};
        MLY_TRY(mly_snapshot_words(work->snapshot, first, part.count, work->words, err));
        if (work->job->precision == MLY_QUANTISE_INT8) {
            mly_pool_run(work->job->workshop.pool, (part.count + ROWS - 1) / ROWS, round_rows,
                         &part);
            fill_stream(&part, &work->calibration, true);
        }
        fill_stream(&part, &work->samples, false);
        MLY_TRY(put_part(&part, err));
        MLY_TRY(mly_convert_tell(work, "words", 0.0, err));
    }
    return MLY_OK;
}

/* A stand-in for libonnxruntime with the table of embed/onnx/ort.h: counts its calls and what it
 * gave out, fails on request, and computes numbers that a test can compute too. A place of the
 * table that we do not declare is NULL in it.
 */
#ifndef MLY_EMBED_FAKE_ORT_H
#define MLY_EMBED_FAKE_ORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_ORT_STATE "fake_ort_state" /* the symbol that gives the struct below */
#define FAKE_DIM 8
#define FAKE_PORTS 4

struct fake_port {
    const char *name; /* NULL: the end of the list */
    int element;
    size_t rank; /* 0: no tensor */
};

struct fake_ort {
    _Atomic uint64_t calls;   /* that may fail */
    _Atomic uint64_t fail_at; /* 0: never */
    _Atomic int64_t live;     /* handles, statuses and names not given back */
    const char *fail_text;
    bool no_api; /* an old library */
    struct fake_port inputs[FAKE_PORTS], outputs[FAKE_PORTS];
    size_t extra_rows; /* more texts in the output than were asked for */
    bool not_a_number;
    /* what it was told */
    bool arena_off, pattern_off, spinning_off;
    int intra_threads, inter_threads, log_level;
    _Atomic size_t texts_most, cells_most; /* of a batch: texts, texts * pieces */
};
typedef struct fake_ort *(*fake_ort_get)(void);

/* Number d of the row that word piece id gives. */
static inline float fake_number(int64_t id, size_t d)
{
    return (float)((id * 37 + (int64_t)d * 101 + 13) % 97) / 97.0f + 0.01f * (float)(d + 1);
}

#endif

/* Writes model files with random weights, so that the tests need no real model: the same container
 * that the quantiser writes, in any shape, whole or damaged.
 */
#ifndef MLY_EMBED_TINY_MODEL_H
#define MLY_EMBED_TINY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tiny_shape {
    size_t hidden, intermediate, heads, layers, positions, pieces_max, vocabulary;
};

/* 64 wide, 2 layers of 4 heads, 96 pieces: small enough to be built many times over. */
extern const struct tiny_shape tiny_small;
/* The shape of all-MiniLM-L6-v2 with a small vocabulary. */
extern const struct tiny_shape tiny_minilm;

/* What a model file is besides its shape. */
struct tiny_kind {
    const char *quantisation, *pooling, *query_prefix, *passage_prefix;
    bool factors;  /* int8: rows are multiplied by factors before they are quantised */
    bool compiled; /* a tokenizer of some bytes instead of a list of pieces */
};
extern const struct tiny_kind tiny_int8, tiny_bf16, tiny_f32;

/* A whole model file in memory, freed with free(). */
struct tiny_file {
    char *bytes;
    size_t count;
    size_t header_bytes; /* of the JSON behind the first eight */
};
struct tiny_file tiny_make(const struct tiny_shape *shape, uint64_t seed); /* tiny_int8 */
struct tiny_file tiny_make_as(const struct tiny_shape *shape, const struct tiny_kind *kind,
                              uint64_t seed);
/* Replaces the first occurrence of from in the header by to, which is as long; fails the test where
 * there is none. */
void tiny_replace(struct tiny_file *file, const char *from, const char *to);
/* Writes it to dir/name and gives the path, which lives until the next call. */
const char *tiny_write(const struct tiny_file *file, const char *dir, const char *name);
/* A path of a whole model of that shape in dir. */
const char *tiny_model(const char *dir, const struct tiny_shape *shape, uint64_t seed);
const char *tiny_model_as(const char *dir, const struct tiny_shape *shape,
                          const struct tiny_kind *kind, uint64_t seed);

#endif

/* What HF tokenizers knows of each code point: a two-stage table, 210 KB, generated.
 *
 * A mapping is 0 where the character stays, a code point, or, with the highest bit set, the place
 * in mly_property_sequences where the number of parts stands, and then the parts. Hangul syllables
 * are taken apart and put together by arithmetic.
 *
 * Source   tools/make_property_tables.py, which asks HF tokenizers 0.23.3.
 */
#ifndef MLY_TOKEN_PROPERTY_H
#define MLY_TOKEN_PROPERTY_H

#include <stddef.h>
#include <stdint.h>

enum mly_property_flag {
    MLY_IS_SPACE = 1 << 0, /* white space, as Rust has it */
    MLY_IS_WORD = 1 << 1,  /* \w of the regex crate */
    MLY_IS_PUNCT = 1 << 2, /* punctuation of BERT */
    MLY_IS_NUMERIC = 1 << 3,
    MLY_IS_LETTER = 1 << 4, /* \p{L} of Oniguruma, as the next two */
    MLY_IS_NUMBER = 1 << 5,
    MLY_IS_GAP = 1 << 6,     /* \s */
    MLY_IS_CONTROL = 1 << 7, /* what BERT's cleaning drops */
    MLY_IS_NONSPACING = 1 << 8,
    MLY_IS_COMBINING = 1 << 9,
    MLY_IS_CJK = 1 << 10,
    MLY_IS_SECOND = 1 << 11,   /* composes with a character before it */
    MLY_IS_UNSTABLE = 1 << 12, /* NFC changes it */
};

enum mly_cluster {
    MLY_CLUSTER_OTHER,
    MLY_CLUSTER_CONTROL,
    MLY_CLUSTER_EXTEND,
    MLY_CLUSTER_SPACING,
    MLY_CLUSTER_ZWJ,
    MLY_CLUSTER_PREPEND,
    MLY_CLUSTER_PICTURE,
};

#define MLY_PROPERTY_SEQUENCE 0x80000000u

struct mly_property {
    uint32_t bits; /* cluster << 24 | canonical combining class << 16 | flags */
    uint32_t lower, nfd, nfkd;
};

struct mly_property_pair {
    uint32_t first, second, composed;
};

extern const uint16_t mly_property_stage1[8704];
extern const uint16_t mly_property_stage2[];
extern const uint32_t mly_property_sequences[];
extern const struct mly_property mly_property_records[];
extern const struct mly_property_pair mly_property_pairs[]; /* sorted by first, second */
extern const size_t mly_property_pair_count;

/* code_point must be at most 0x10FFFF. */
static inline const struct mly_property *mly_property(uint32_t code_point)
{
    uint32_t block = mly_property_stage1[code_point >> 7];
    return &mly_property_records[mly_property_stage2[block << 7 | (code_point & 0x7Fu)]];
}

static inline uint8_t mly_property_order(const struct mly_property *property)
{
    return (uint8_t)(property->bits >> 16);
}

#endif

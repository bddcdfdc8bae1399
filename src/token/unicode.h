/* What BERT's uncased normalizer makes of each code point: a two-stage table, 60 KB, generated.
 *
 * A record is kind << 29 | order << 21 | payload. order is the canonical combining class of a mark
 * that is kept (0: a starter, which no mark moves across; a dropped MARK has 0 or 1). payload is
 * the folded code point (0: the character stays as it is); of a SEQUENCE the place in
 * mly_fold_sequences where the number of parts stands, and then the parts.
 *
 * Source   tools/make_unicode_tables.py, which asks HF tokenizers 0.23.3.
 */
#ifndef MLY_TOKEN_UNICODE_H
#define MLY_TOKEN_UNICODE_H

#include <stdint.h>

enum mly_fold_kind {
    MLY_FOLD_WORD = 0,
    MLY_FOLD_PUNCT = 1,    /* a word of its own */
    MLY_FOLD_SPACE = 2,    /* ends a word */
    MLY_FOLD_CONTROL = 3,  /* dropped as if it had never been there */
    MLY_FOLD_MARK = 4,     /* an accent: dropped after decomposition */
    MLY_FOLD_CJK = 5,      /* a word of its own */
    MLY_FOLD_SEQUENCE = 6, /* falls into several word characters that are kept */
    MLY_FOLD_HANGUL = 7,   /* a syllable: falls into jamo, by arithmetic */
};

extern const uint8_t mly_fold_stage1[8704];
extern const uint16_t mly_fold_stage2[];
extern const uint32_t mly_fold_records[];
extern const uint32_t mly_fold_sequences[];

/* code_point must be at most 0x10FFFF. */
static inline uint32_t mly_fold_record(uint32_t code_point)
{
    uint32_t block = mly_fold_stage1[code_point >> 7];
    return mly_fold_records[mly_fold_stage2[block << 7 | (code_point & 0x7Fu)]];
}

static inline enum mly_fold_kind mly_fold_record_kind(uint32_t record)
{
    return (enum mly_fold_kind)(record >> 29);
}

static inline uint8_t mly_fold_record_order(uint32_t record)
{
    return (uint8_t)(record >> 21 & 0xFFu);
}

static inline uint32_t mly_fold_record_payload(uint32_t record)
{
    return record & 0x1FFFFFu;
}

#endif

/* A tokenizer as bytes: tables that are used where they lie, in a mapped file.
 *
 * Layout   a header, then sections, each beginning at a multiple of 8; offsets count from the
 *          start, numbers are little-endian. No pointers. Texts are bytes of the section TEXTS.
 * Checked  mly_compiled_open looks at every number that is used as a place, so that whatever the
 *          bytes are, nothing outside them is read; wrong bytes give wrong pieces at most.
 * Bytes    in cells, NUL is 0xFF, and where MLY_MODEL_SPACES is set, U+2581 is a space.
 * Threads  read-only.
 */
#ifndef MLY_TOKEN_COMPILED_H
#define MLY_TOKEN_COMPILED_H

#include "base/bytes.h"
#include "base/err.h"
#include "token/token.h"
#include "token/trie.h"

#define MLY_COMPILED_MAGIC "mly-toks"
#define MLY_COMPILED_VERSION 1u
#define MLY_STEPS_MAX 16
#define MLY_ADDED_MAX 65536
/* A piece of a unigram, and what a step puts in place of something, at most. */
#define MLY_PIECE_BYTES_MAX 1024
/* Ids in cells share their number with a flag. */
#define MLY_IDS_MAX (1 << 24)
/* In a BPE's cells: the piece as a word of its own becomes this one piece. */
#define MLY_CELL_WHOLE (1 << 30)
/* What the section SYMBOLS has where a byte has no piece. */
#define MLY_NO_SYMBOL (-1)

enum mly_section_kind {
    MLY_SECTION_SETTINGS, /* struct mly_settings */
    MLY_SECTION_STEPS,    /* struct mly_step[]: normalizers, then pre-tokenizers */
    MLY_SECTION_CELLS,    /* the model's pieces */
    MLY_SECTION_SCORES,   /* unigram: f64[score_count], by id */
    MLY_SECTION_MERGES,   /* BPE: struct mly_merge[], a hash table */
    MLY_SECTION_SYMBOLS,  /* i32[256]: the id of a byte (byte-level), or of its fallback */
    MLY_SECTION_ADDED,    /* struct mly_added[] */
    MLY_SECTION_RAW,      /* cells: added tokens as they stand; ids count struct mly_added */
    MLY_SECTION_NORMAL,   /* the same, normalised */
    MLY_SECTION_CHARSMAP, /* u32[]: SentencePiece's double array */
    MLY_SECTION_TEXTS,
    MLY_SECTION_COUNT
};

struct mly_section {
    uint64_t offset, bytes;
};

struct mly_compiled_header {
    char magic[8];
    uint32_t version, section_count;
    uint64_t bytes;
    struct mly_section sections[MLY_SECTION_COUNT];
};

enum mly_model_kind { MLY_MODEL_WORDPIECE, MLY_MODEL_UNIGRAM, MLY_MODEL_BPE };

/* Flags of struct mly_settings. */
enum {
    MLY_MODEL_BYTE_FALLBACK = 1,
    MLY_MODEL_FUSE_UNK = 2,
    MLY_MODEL_IGNORE_MERGES = 4,
    MLY_MODEL_BYTE_LEVEL = 8, /* pieces are bytes, not the characters that stand for them */
    MLY_MODEL_SPACES = 16,    /* U+2581 is kept as a space */
    MLY_MODEL_FLAGS = 31,
};

/* A text of the section TEXTS. */
struct mly_text_ref {
    uint32_t offset, bytes;
};

struct mly_settings {
    uint32_t model, flags;
    uint32_t root_base, raw_base, normal_base;
    uint32_t word_chars_max;
    int32_t unk_id; /* -1: there is none */
    uint32_t normalizer_count, pre_tokenizer_count;
    uint32_t reserved;
    double unk_score;
    struct mly_text_ref tail_prefix; /* before pieces that do not begin a word */
    struct mly_tokenizer_frame frame;
};

/* One step of normalising or of cutting; the comment says what its arguments mean. */
enum mly_step_kind {
    MLY_STEP_CLEAN, /* BERT: controls dropped, white space made plain */
    MLY_STEP_CJK,
    MLY_STEP_STRIP_NONSPACING,
    MLY_STEP_STRIP_ACCENTS,
    MLY_STEP_NFC,
    MLY_STEP_NFD,
    MLY_STEP_NFKC,
    MLY_STEP_NFKD,
    MLY_STEP_LOWERCASE,
    MLY_STEP_NMT,
    MLY_STEP_CHARSMAP,     /* a: what its values point into */
    MLY_STEP_STRIP,        /* flags 1: left, 2: right */
    MLY_STEP_PREPEND,      /* a */
    MLY_STEP_REPLACE,      /* a, by b */
    MLY_STEP_REPLACE_RUN,  /* the character a (none: any \s), flags or more times, by b */
    MLY_STEP_NORMALIZERS,  /* those below cut */
    MLY_STEP_BERT_WORDS,   /* white space removed, punctuation alone */
    MLY_STEP_WHITESPACE,   /* \w+ | [^\w\s]+ */
    MLY_STEP_SPACE_SPLIT,  /* white space removed */
    MLY_STEP_PUNCTUATION,  /* flags: enum mly_split */
    MLY_STEP_DIGITS,       /* flags: enum mly_split */
    MLY_STEP_METASPACE,    /* flags: MLY_METASPACE_* */
    MLY_STEP_PREFIX_SPACE, /* byte-level */
    MLY_STEP_GPT2,         /* its pattern, isolated */
    MLY_STEP_CL100K,       /* its pattern, isolated; flags: most digits in a row */
    MLY_STEP_KINDS
};

/* HF's SplitDelimiterBehavior. */
enum mly_split { MLY_SPLIT_REMOVED, MLY_SPLIT_ISOLATED, MLY_SPLIT_CONTIGUOUS, MLY_SPLITS };

enum { MLY_METASPACE_ALWAYS = 1, MLY_METASPACE_FIRST = 2, MLY_METASPACE_CUT = 4 };

struct mly_step {
    uint32_t kind, flags;
    struct mly_text_ref a, b;
};

struct mly_merge {
    uint32_t left, right; /* right 0xFFFFFFFF: an empty slot */
    uint32_t rank, id;
};
#define MLY_MERGE_EMPTY 0xFFFFFFFFu

/* Flags of struct mly_added. */
enum { MLY_ADDED_LSTRIP = 1, MLY_ADDED_RSTRIP = 2, MLY_ADDED_WORD = 4, MLY_ADDED_FLAGS = 7 };

struct mly_added {
    int32_t id;
    uint32_t flags;
    struct mly_text_ref text;
};

/* The sections with their types. All of it points into the bytes. */
struct mly_compiled {
    const struct mly_settings *settings;
    const struct mly_step *steps;
    struct mly_trie cells, raw, normal;
    const double *scores;
    size_t score_count;
    const struct mly_merge *merges;
    size_t merge_mask;      /* slots - 1; slots are a power of two */
    const int32_t *symbols; /* 256, or NULL */
    const struct mly_added *added;
    size_t added_count;
    const uint32_t *charsmap;
    size_t charsmap_count;
    struct mly_str texts;
};

/* bytes must begin at a multiple of 8. CORRUPT, with what is wrong. */
MLY_MUST_USE enum mly_err mly_compiled_open(struct mly_str bytes, struct mly_compiled *out,
                                            struct mly_error *err);

static inline struct mly_str mly_compiled_text(const struct mly_compiled *compiled,
                                               struct mly_text_ref ref)
{
    return mly_str_slice(compiled->texts, ref.offset, (size_t)ref.offset + ref.bytes);
}

static inline uint32_t mly_merge_slot(uint32_t left, uint32_t right)
{
    uint64_t mixed = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(mixed >> 32);
}

#endif

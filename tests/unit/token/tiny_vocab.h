/* A vocabulary small enough to read, for tests of rules rather than of words. */
#ifndef MLY_TEST_TINY_VOCAB_H
#define MLY_TEST_TINY_VOCAB_H

#include "token/token.h"

/* One line is one id, counted from 0. */
enum tiny_id {
    TINY_PAD,
    TINY_UNK,
    TINY_CLS,
    TINY_SEP,
    TINY_MASK,
    TINY_A,
    TINY_TAIL_A,
    TINY_CAFE,
    TINY_CA,
    TINY_TAIL_FE,
    TINY_TAIL_ING,
    TINY_COMMA,
    TINY_HASH,
    TINY_BRACKET,
    TINY_ZHONG, /* U+4E2D */
    TINY_JAMO_HIEUH,
    TINY_TAIL_JAMO_A,
    TINY_TAIL_JAMO_NIEUN,
    TINY_TAIL_302E, /* kept marks: Hangul tone mark, class 224 */
    TINY_TAIL_1B44, /* Balinese adeg adeg, class 9 */
    TINY_OMEGA,
    TINY_EURO,
    TINY_LONG,
};

#define TINY_VOCABULARY                                                                            \
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\ncafe\nca\n##fe\n##ing\n,\n#\n[\n\xe4\xb8\xad\n"   \
    "\xe1\x84\x92\n##\xe1\x85\xa1\n##\xe1\x86\xab\n##\xe3\x80\xae\n##\xe1\xad\x84\n"               \
    "\xcf\x89\n\xe2\x82\xac\naaaaaaaaaa\n"

static inline struct mly_tokenizer *tiny_tokenizer(struct mly_mem *mem)
{
    struct mly_tokenizer *tokenizer = NULL;
    struct mly_error err = {0};
    enum mly_err rc = mly_tokenizer_create(mem, MLY_TOKENIZER_VOCABULARY, MLY_STR(TINY_VOCABULARY),
                                           &tokenizer, &err);
    return rc == MLY_OK ? tokenizer : NULL;
}

#endif

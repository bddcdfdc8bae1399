/* Private to engine/: converting a published model, its texts and its report.
 */
#ifndef MLY_ENGINE_CONVERT_INT_H
#define MLY_ENGINE_CONVERT_INT_H

#include "engine/engine_int.h"

#include "embed/quantise/quantise.h"

/* The texts of data/, built in. */
extern const unsigned char mly_convert_calibration[], mly_convert_passages[], mly_convert_queries[];
extern const size_t mly_convert_calibration_bytes, mly_convert_passages_bytes,
    mly_convert_queries_bytes;

/* Word pieces of some texts, framed and cut. */
struct mly_convert_texts {
    const struct mly_tokenizer *tokenizer;
    const struct mly_snapshot_card *card;
    struct mly_tokens tokens;
    struct mly_bytes text;        /* a prefix and a text */
    struct mly_bytes ids, starts; /* i32, size_t */
    size_t count;
};

MLY_MUST_USE enum mly_err mly_convert_texts_init(struct mly_convert_texts *texts,
                                                 struct mly_mem *mem,
                                                 const struct mly_tokenizer *tokenizer,
                                                 const struct mly_snapshot_card *card,
                                                 struct mly_error *err);
void mly_convert_texts_deinit(struct mly_convert_texts *texts);
/* Every passage of a text as a passage, and, where brief, its first words as a query. */
MLY_MUST_USE enum mly_err mly_convert_add_passages(struct mly_convert_texts *texts,
                                                   struct mly_str text, bool brief,
                                                   struct mly_error *err);
/* Every line of a text as a query. */
MLY_MUST_USE enum mly_err mly_convert_add_queries(struct mly_convert_texts *texts,
                                                  struct mly_str text, struct mly_error *err);
/* Borrowed until more is added. */
struct mly_sequences mly_convert_sequences(const struct mly_convert_texts *texts);

/* Compares the file's vectors with reference f32[sequences.count][hidden], the first of them
 * passages, and fills in the report. */
MLY_MUST_USE enum mly_err mly_convert_measure(const struct mly_workshop *workshop, const char *path,
                                              const struct mly_sequences *sequences,
                                              size_t passages, const float *reference,
                                              struct memalloy_convert_report *report,
                                              struct mly_error *err);

#endif

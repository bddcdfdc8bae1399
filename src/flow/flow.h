/* The goods that go from room to room. Read this file first. Plain structs, no functions.
 *
 *  file, str - source -> mly_text -> chunk -> mly_chunk[] -> token -> mly_token[]
 *            -> embed -> f32[n][dim] -> store -> rows -> search -> mly_match[] -> hits
 *
 * Units    bytes count from 0 and spans are half open; lines and pages count from 1, inclusive;
 *          ordinals from 0.
 * Owns     a struct with a mem or arena owns its arrays, all others borrow.
 */
#ifndef MLY_FLOW_FLOW_H
#define MLY_FLOW_FLOW_H

#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

/* What source makes of a file or string: well-formed UTF-8 and where it came from. */
struct mly_text {
    struct mly_mem *mem;  /* owner of buffer */
    void *buffer;         /* NULL where text borrows from the caller */
    struct mly_str text;  /* without the byte order mark */
    size_t bytes_before;  /* of the file, in front of text: 3 where a BOM was skipped, else 0 */
    struct mly_hash hash; /* of text, mly_hash_bytes */
};

/* What the system says of a file: enough to see that it has not changed. */
struct mly_file_stamp {
    int64_t device, inode;
    int64_t byte_count;
    int64_t modified_ns, changed_ns; /* mtime and ctime since 1970 */
};

/* One word piece and the bytes of the text it came from. Special tokens have empty spans. */
struct mly_token {
    int32_t id;
    uint32_t byte_start, byte_end;
};

/* Tokens of one text, in order. */
struct mly_tokens {
    struct mly_mem *mem;
    struct mly_token *items;
    size_t count, capacity;
};

/* What the bytes of a tokenizer are (token/token.h). */
enum mly_tokenizer_form {
    MLY_TOKENIZER_VOCABULARY, /* the pieces of BERT uncased, one a line, as vocab.txt has them */
    MLY_TOKENIZER_COMPILED,   /* made by mly_tokenizer_compile */
    MLY_TOKENIZER_JSON,       /* a tokenizer.json of HF tokenizers */
};

/* Counts word pieces for those who must not know the tokenizer: fills out (reused, cleared first)
 * with the pieces of text, no special tokens. Spans are offsets into text. Errors NOMEM, LIMIT. */
struct mly_error;
struct mly_meter {
    void *context;
    int (*measure)(void *context, struct mly_str text, struct mly_tokens *out,
                   struct mly_error *err); /* returns enum mly_err */
    size_t pieces_max; /* the model reads that many, special tokens not counted */
    /* False: what stands on both sides of white space has the pieces that it has alone. */
    bool blanks_count;
};

/* One chunk: content is text[byte_start:byte_end]. The chunks of a text cover it without a gap. */
struct mly_chunk {
    uint64_t byte_start, byte_end;
    uint64_t line_start, line_end;
    struct mly_str heading; /* path of headings, "A > B"; null where there is none */
};

struct mly_chunks {
    struct mly_mem *mem;
    struct mly_chunk *items;
    size_t count, capacity;
    char *headings; /* what the heading strings point into */
    size_t heading_bytes, heading_capacity;
};

/* A document as the store keeps it. Null strings and negative numbers are nulls of the table. */
struct mly_document {
    struct mly_str id;
    struct mly_str path;     /* absolute; bytes that are not UTF-8 are shown as \xNN */
    struct mly_str path_raw; /* the name's own bytes, null where path is it */
    struct mly_file_stamp stamp;
    bool has_stamp;
    struct mly_str title;
    struct mly_str metadata; /* a JSON object */
    struct mly_hash content_hash;
    bool has_content_hash;
    int64_t byte_count, chunk_count;
    struct mly_str status; /* "ok" or "skipped" */
    struct mly_str reason; /* why it was skipped, null where it was not */
    int64_t created_at_us, updated_at_us;
};

/* A chunk as the store keeps it. -1 where a number is null. */
struct mly_chunk_row {
    char id[37]; /* UUID text, lower case */
    struct mly_str document_id, content, metadata, heading;
    int64_t ordinal, byte_start, byte_end, line_start, line_end, page_start, page_end;
    int64_t created_at_us;
    const float *vector; /* dim floats */
};

/* A found chunk: where it stands and how near. Best first; ties by document id, then ordinal. */
struct mly_match {
    uint64_t row_address; /* fragment << 32 | offset, of the chunks table */
    float score;
};

#endif

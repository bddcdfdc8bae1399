/* A document operation as a log record's payload, and back.
 *
 * The bytes, little-endian: u32 format (1), u32 kind, u32 dim, u32 rows, u32 flags, u32 vectors;
 * the document's numbers, 8 bytes each; its strings; of each row its numbers and strings; zeros to
 * a multiple of 64; the vectors of the rows that have one, f32[vectors][dim]. A string is u32 bytes
 * and the bytes; 0xffffffff is a null, 0xfffffffe the document's own (its metadata, in a row).
 * Nothing stands behind.
 *
 * Owns     what decode gives borrows strings and vectors from the payload and has its rows in the
 *          arena. Vectors are copied into it where the payload does not begin at a multiple of 4.
 * Errors   CORRUPT for bytes that no encode wrote; UNSUPPORTED another format; LIMIT; NOMEM.
 */
#ifndef MLY_LOG_OPERATION_H
#define MLY_LOG_OPERATION_H

#include "base/arena.h"
#include "base/bytes.h"
#include "flow/flow.h"

enum mly_operation_kind {
    MLY_OPERATION_PUT = 1,  /* document and all its rows; replaces the document of that id */
    MLY_OPERATION_TOUCH,    /* the document's row only */
    MLY_OPERATION_REMOVE,   /* document and rows; only the id is kept */
    MLY_OPERATION_METADATA, /* metadata of document and rows; id, metadata and updated_at_us */
};

/* One record. The rows belong to the document: their document_id is its id. */
struct mly_operation {
    enum mly_operation_kind kind;
    struct mly_document document;
    const struct mly_chunk_row *rows; /* PUT */
    size_t row_count;
    uint32_t dim; /* of the rows' vectors */
    bool is_new;  /* PUT: there is nothing to replace; not encoded */
};

/* Appends the payload to out; LIMIT where out's ceiling would be passed. */
MLY_MUST_USE enum mly_err mly_operation_encode(const struct mly_operation *operation,
                                               struct mly_bytes *out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_operation_decode(struct mly_str payload, struct mly_arena *arena,
                                               struct mly_operation *out, struct mly_error *err);

#endif

/* Private to the writer: what its two files share. */
#ifndef MLY_LANCE_LANCE_WRITER_INT_H
#define MLY_LANCE_LANCE_WRITER_INT_H

#include "lance/lance_int.h"

/* A page that is in the file. Offsets are the file's. */
struct lance_page_record {
    uint64_t first_row, row_count, null_count;
    uint64_t valid_offset, valid_bytes; /* 0 bytes: none */
    uint64_t values_offset, values_bytes;
    uint64_t text_offset, text_bytes;
};

struct lance_column_writer {
    struct mly_lance_field field; /* name: in the writer's arena */
    /* The page that is being gathered. */
    struct mly_bytes values; /* fixed width, or for text the u64 end of each row */
    struct mly_bytes bytes;  /* text */
    struct mly_bytes valid;  /* bit set: not null */
    uint64_t page_rows, page_nulls;
    uint64_t rows;          /* of all pages and this one */
    struct mly_bytes pages; /* struct lance_page_record[] */
};

/* Pages that a thread of their own writes while the caller sums them and gathers others. Until it
 * is joined the file is the thread's. */
struct lance_ahead {
    struct lance_ahead_page {
        const uint8_t *data;
        uint64_t bytes, offset;
    } *pages;
    size_t count;
    uint64_t thread;
    bool running;
    enum mly_err rc;
    struct mly_error err;
};

/* What a file of an index has beside its columns. */
struct lance_writer_extra {
    const MlyPb__Pair *pairs; /* of the schema */
    size_t pair_count;
    const struct lance_global {
        uint64_t offset, bytes;
    } *globals; /* buffers behind the schema's, number 1 the first */
    size_t global_count;
};

struct mly_lance_writer {
    const struct mly_lance_table *table;
    const char *folder;                     /* of the table: "data", or an index's; borrowed */
    const struct lance_writer_extra *extra; /* NULL: it is a data file */
    struct mly_arena arena;
    struct mly_file file;
    char temp_name[LANCE_TEMP_NAME_BYTES];
    uint64_t file_bytes, hinted_bytes; /* hinted: on the way to the disk */
    struct lance_column_writer *columns;
    size_t column_count;
    bool is_complete, is_named;  /* all bytes are written; and the file has its name */
    struct mly_sums_maker maker; /* of what was written so far; idle where there are no sums */
    struct lance_ahead ahead;
};

static inline bool lance_is_text(enum mly_lance_type type)
{
    return type == MLY_LANCE_STRING || type == MLY_LANCE_BINARY;
}

static inline size_t lance_value_bytes(const struct mly_lance_field *field)
{
    if (field->type == MLY_LANCE_VECTOR) return field->dim * sizeof(float);
    if (field->type == MLY_LANCE_CODES) return field->dim;
    return field->type == MLY_LANCE_FLOAT32 ? 4 : 8;
}

/* A file of any folder, for columns of any type that can be written; extra may come later. */
MLY_MUST_USE enum mly_err
mly_lance_writer_open_in(const struct mly_lance_table *table, const char *folder,
                         const struct mly_lance_field *fields, size_t field_count,
                         struct mly_lance_writer **out, struct mly_error *err);
/* Rows of a column of UINT64 or CODES, as the file has them. lance_put.c */
MLY_MUST_USE enum mly_err mly_lance_put_raw(struct mly_lance_writer *writer, size_t column_i,
                                            const void *values, size_t row_count,
                                            struct mly_error *err);
/* A buffer of its own, at once; *out says where it stands. */
MLY_MUST_USE enum mly_err mly_lance_put_global(struct mly_lance_writer *writer, const void *data,
                                               size_t bytes, struct lance_global *out,
                                               struct mly_error *err);
/* Writes the rest, syncs, gives the file that name, and its sums that other one. */
MLY_MUST_USE enum mly_err mly_lance_writer_finish_as(struct mly_lance_writer *writer,
                                                     const char *name, const char *sums_name,
                                                     struct mly_error *err);
/* The gathered page goes to the file; nothing where it is empty. */
MLY_MUST_USE enum mly_err mly_lance_flush_page(struct mly_lance_writer *writer,
                                               struct lance_column_writer *column,
                                               struct mly_error *err);
/* Pages of their own, rows_max rows each, of values as they stand, which stay where they are until
 * the writer is complete; none of fixed width is null, and no page is being gathered. */
MLY_MUST_USE enum mly_err mly_lance_write_run(struct mly_lance_writer *writer,
                                              struct lance_column_writer *column,
                                              const void *values, size_t row_count, size_t rows_max,
                                              struct mly_error *err);
/* One part of the file, summed or not, and the disk begins with what was written. */
#define LANCE_WRITE_BYTES ((size_t)512 << 10)
MLY_MUST_USE enum mly_err mly_lance_write_at(struct mly_lance_writer *writer, const void *data,
                                             size_t bytes, uint64_t offset, struct mly_error *err);
/* ---- lance_ahead.c ---- */

/* Begins with the pages that were put into ahead, or writes them where no thread can be had. */
void mly_lance_ahead_start(struct mly_lance_writer *writer);
/* Waits for them; what went wrong with them. Nothing where there are none. */
MLY_MUST_USE enum mly_err mly_lance_ahead_join(struct mly_lance_writer *writer,
                                               struct mly_error *err);
/* All that follows the pages: global buffer, column metadata, tables, footer. The tail begins at
 * file offset `at`, a multiple of 64. */
MLY_MUST_USE enum mly_err mly_lance_encode_tail(const struct mly_lance_writer *writer, uint64_t at,
                                                struct mly_bytes *out, struct mly_error *err);

#endif

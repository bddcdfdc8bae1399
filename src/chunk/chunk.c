/* The door: checks sizes, turns them into limits for the packer, and hands it the text, section by
 * section for heading, as one for the others. */
#include "chunk/chunk.h"

#include "base/limits.h"
#include "chunk/chunk_int.h"

#include <inttypes.h>

struct kind_sizes {
    int64_t size, overlap;
};
/* By enum memalloy_chunking_kind; the model reads 256 word pieces, two of them special. */
static const struct kind_sizes own_sizes[] = {{254, 0}, {500, 50}, {500, 50}, {254, 32}};
#define KIND_COUNT (sizeof(own_sizes) / sizeof(own_sizes[0]))

/* A chunk in characters that a model has to read whole: 254 words of 100 characters are below it,
 * and measuring never has to look further. */
#define METERED_BYTES_MAX ((size_t)32 << 10)

static bool counts_pieces(enum memalloy_chunking_kind kind)
{
    return kind == MEMALLOY_CHUNKING_HEADING || kind == MEMALLOY_CHUNKING_TOKEN;
}

enum mly_err mly_chunking_resolve(struct mly_chunking *chunking, struct mly_error *err)
{
    if ((unsigned)chunking->kind >= KIND_COUNT) {
        return mly_fail(err, MLY_ERR_INVAL, "chunking kind %d is none of 0 to %d",
                        (int)chunking->kind, (int)KIND_COUNT - 1);
    }
    struct kind_sizes own = own_sizes[chunking->kind];
    int64_t size = chunking->size == MEMALLOY_SIZE_DEFAULT ? own.size : chunking->size;
    int64_t overlap = chunking->overlap;
    if (overlap == MEMALLOY_SIZE_DEFAULT) {
        overlap = own.overlap;
        /* Chunks smaller than usual overlap in proportion. */
        if (size > 0 && size < own.size) overlap = own.overlap * size / own.size;
    }
    if (size <= 0) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "chunk size %" PRId64 " (with overlap %" PRId64 ") must be above 0", size,
                        overlap);
    }
    if (overlap < 0) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "chunk overlap %" PRId64 " (with size %" PRId64 ") must not be below 0",
                        overlap, size);
    }
    if (overlap >= size) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "chunk overlap %" PRId64 " must be below chunk size %" PRId64, overlap,
                        size);
    }
    chunking->size = size;
    chunking->overlap = overlap;
    return MLY_OK;
}

static void set_limits(struct mly_packer *packer, const struct mly_chunking *chunking,
                       const struct mly_meter *meter)
{
    int64_t size = chunking->size;
    int64_t overlap = chunking->overlap;
    packer->kind = chunking->kind;
    packer->pieces_max = SIZE_MAX;
    packer->points_max = SIZE_MAX;
    packer->bytes_max = SIZE_MAX;
    if (meter != NULL) {
        packer->pieces_max = meter->pieces_max > 0 ? meter->pieces_max : 1;
        packer->bytes_max = METERED_BYTES_MAX;
    }
    if (counts_pieces(chunking->kind)) {
        packer->bytes_max = MLY_CHUNK_BYTES_MAX;
        if ((uint64_t)size > packer->pieces_max) {
            /* What was asked for in proportion, and always below the size. */
            double part = (double)overlap / (double)size;
            overlap = (int64_t)(part * (double)(packer->pieces_max - 1));
        } else {
            packer->pieces_max = (size_t)size;
        }
    } else {
        packer->points_max = (size_t)size;
    }
    packer->overlap = (size_t)overlap;
}

static enum mly_err split_sections(struct mly_packer *packer, struct mly_chunks *chunks,
                                   struct mly_error *err)
{
    struct mly_outline outline;
    enum mly_err rc = mly_outline_read(packer->mem, packer->text, &outline, err);
    if (rc != MLY_OK) goto done;
    for (size_t i = 0; i < outline.count; i++) {
        const struct mly_section *section = &outline.items[i];
        size_t end = i + 1 < outline.count ? outline.items[i + 1].start : packer->text.bytes;
        struct mly_str heading = MLY_STR_NULL;
        if (section->heading_bytes > 0) {
            heading = (struct mly_str){outline.headings + section->heading_offset,
                                       section->heading_bytes};
        }
        rc = mly_packer_run(packer, section->start, end, heading, err);
        if (rc != MLY_OK) goto done;
    }
    chunks->headings = outline.headings;
    chunks->heading_bytes = outline.heading_bytes;
    chunks->heading_capacity = outline.heading_capacity;
    outline.headings = NULL; /* Moved: the chunks point into it. */
done:
    mly_outline_deinit(&outline);
    return rc;
}

enum mly_err mly_chunk_split(struct mly_mem *mem, struct mly_str text,
                             const struct mly_chunking *chunking, const struct mly_meter *meter,
                             struct mly_chunks *out, struct mly_error *err)
{
    struct mly_chunking sizes = *chunking;
    MLY_TRY(mly_chunking_resolve(&sizes, err));
    if (counts_pieces(sizes.kind) && meter == NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "%s chunking counts word pieces and needs a model",
                        sizes.kind == MEMALLOY_CHUNKING_HEADING ? "heading" : "token");
    }
    struct mly_chunks chunks = {.mem = mem};
    struct mly_ruler ruler;
    mly_ruler_init(&ruler, mem, meter, text);
    enum mly_err rc = MLY_OK;
    if (text.bytes > 0) {
        struct mly_packer packer = {.mem = mem,
                                    .text = text,
                                    .ruler = meter == NULL ? NULL : &ruler,
                                    .out = &chunks,
                                    .line = 1};
        set_limits(&packer, &sizes, meter);
        if (sizes.kind == MEMALLOY_CHUNKING_HEADING) {
            rc = split_sections(&packer, &chunks, err);
        } else {
            rc = mly_packer_run(&packer, 0, text.bytes, MLY_STR_NULL, err);
        }
    }
    if (rc != MLY_OK) goto done;
    *out = chunks; /* Moved to the caller. */
    chunks = (struct mly_chunks){.mem = mem};
done:
    mly_chunks_deinit(&chunks);
    mly_ruler_deinit(&ruler);
    return rc;
}

void mly_chunks_deinit(struct mly_chunks *chunks)
{
    if (chunks->mem != NULL) {
        mly_mem_free(chunks->mem, chunks->items);
        mly_mem_free(chunks->mem, chunks->headings);
    }
    *chunks = (struct mly_chunks){.mem = chunks->mem};
}

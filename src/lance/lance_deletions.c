/* The dead rows of a fragment: a bitmap in memory, because a scan asks for every row; on disk a
 * Roaring bitmap as we write it, or a small Arrow file as the official writer may. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void mly_lance_deletions_init(struct mly_lance_deletions *set, struct mly_mem *mem,
                              uint64_t row_count)
{
    *set = (struct mly_lance_deletions){.mem = mem, .row_count = row_count};
}

void mly_lance_deletions_deinit(struct mly_lance_deletions *set)
{
    if (set->bits != NULL) mly_mem_free(set->mem, set->bits);
    set->bits = NULL;
    set->deleted_count = 0;
}

static size_t bitmap_bytes(const struct mly_lance_deletions *set)
{
    return (size_t)((set->row_count + 7) / 8);
}

enum mly_err mly_lance_deletions_copy(const struct mly_lance_deletions *set,
                                      struct mly_lance_deletions *out, struct mly_error *err)
{
    struct mly_lance_deletions copy;
    mly_lance_deletions_init(&copy, set->mem, set->row_count);
    if (set->bits != NULL) {
        copy.bits = mly_mem_alloc(copy.mem, bitmap_bytes(set));
        if (copy.bits == NULL) return mly_fail_nomem(err, bitmap_bytes(set));
        memcpy(copy.bits, set->bits, bitmap_bytes(set));
        copy.deleted_count = set->deleted_count;
    }
    *out = copy;
    return MLY_OK;
}

enum mly_err mly_lance_deletions_add(struct mly_lance_deletions *set, uint64_t row,
                                     struct mly_error *err)
{
    if (row >= set->row_count) {
        return mly_fail(err, MLY_ERR_INVAL, "row %" PRIu64 " of a fragment of %" PRIu64, row,
                        set->row_count);
    }
    if (set->bits == NULL) {
        set->bits = mly_mem_array(set->mem, bitmap_bytes(set), 1);
        if (set->bits == NULL) return mly_fail_nomem(err, bitmap_bytes(set));
    }
    uint8_t mask = (uint8_t)(1u << (row & 7));
    if ((set->bits[row >> 3] & mask) == 0) {
        set->bits[row >> 3] |= mask;
        set->deleted_count++;
    }
    return MLY_OK;
}

void mly_lance_deletion_name(uint64_t fragment_id, const MlyPb__DeletionFile *file, char *out)
{
    (void)snprintf(out, LANCE_DELETION_NAME_BYTES, "%" PRIu64 "-%" PRIu64 "-%" PRIu64 ".%s",
                   fragment_id, file->read_version, file->id,
                   file->type == LANCE_DELETION_ARROW ? "arrow" : "bin");
}

/* Reads the file that pb names into set, which is empty. */
static enum mly_err read_file(const struct mly_lance_table *table, uint64_t fragment_id,
                              const MlyPb__DeletionFile *pb, struct mly_lance_deletions *set,
                              struct mly_error *err)
{
    char name[LANCE_DELETION_NAME_BYTES];
    struct lance_path path;
    struct mly_bytes bytes;
    struct mly_file_info info;
    mly_lance_deletion_name(fragment_id, pb, name);
    mly_lance_path(table, "_deletions", name, &path);
    if (pb->type != LANCE_DELETION_ARROW && pb->type != LANCE_DELETION_BITMAP) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "%s: is of kind %d, which is not supported",
                        path.text, (int)pb->type);
    }
    mly_bytes_init(&bytes, table->env->mem, MLY_META_BYTES_MAX);
    enum mly_err rc = mly_lance_read_file(table->env, path.text, &bytes, &info, err);
    if (rc != MLY_OK) goto done;
    rc = mly_lance_sums_check(table, name, path.text, &bytes, err);
    if (rc != MLY_OK) goto done;
    rc = pb->type == LANCE_DELETION_ARROW
             ? mly_lance_arrow_read(bytes.data, bytes.bytes, set, err)
             : mly_lance_roaring_read(bytes.data, bytes.bytes, set, err);
    if (rc == MLY_OK && set->deleted_count != pb->deleted_count) {
        rc = mly_fail(err, MLY_ERR_CORRUPT,
                      "has %" PRIu64 " deleted rows, the manifest says %" PRIu64,
                      set->deleted_count, pb->deleted_count);
    }
    if (rc != MLY_OK) rc = mly_fail_in(err, rc, "%s", path.text);
done:
    mly_bytes_deinit(&bytes);
    return rc;
}

enum mly_err mly_lance_deletions_read(const struct mly_lance_table *table,
                                      const struct mly_lance_manifest *manifest, size_t fragment_i,
                                      struct mly_lance_deletions *out, struct mly_error *err)
{
    if (fragment_i >= manifest->pb->n_fragments) {
        return mly_fail(err, MLY_ERR_INVAL, "fragment %zu of %zu", fragment_i,
                        manifest->pb->n_fragments);
    }
    const MlyPb__Fragment *pb = manifest->pb->fragments[fragment_i];
    struct mly_lance_deletions set;
    mly_lance_deletions_init(&set, table->env->mem, pb->row_count);
    if (pb->deletion_file != NULL) {
        enum mly_err rc = read_file(table, pb->id, pb->deletion_file, &set, err);
        if (rc != MLY_OK) {
            mly_lance_deletions_deinit(&set);
            return rc;
        }
    }
    *out = set;
    return MLY_OK;
}

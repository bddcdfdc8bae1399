/* The two files of an IVF_PQ index, of the format's third layout.
 *
 * In: centroids, a codebook, then rows and codes of one partition after the other. Out, in a folder
 * of its own: index.idx (no rows; the centroids in a buffer) and auxiliary.idx (a row for each
 * vector: its address and its codes, which stand column by column within a partition; the codebook
 * and where partitions begin in buffers). docs/FORMAT.md, "Indices of Lance", has the bytes. */
#include "lance/lance_writer_int.h"

#include <inttypes.h>
#include <stdio.h>

#define ENTRIES ((size_t)256)
#define TENSOR_F32 2
#define GLOBALS 2
#define PAIRS 3
/* Where the buffer stands that lance:ivf and codebook_position name. */
#define IVF_GLOBAL "1"
#define METADATA_BYTES 256

struct mly_lance_index_writer {
    const struct mly_lance_table *table;
    const struct mly_lance_index_shape *shape;
    uint8_t uuid[16];
    char folder[LANCE_INDEX_FOLDER_BYTES];
    struct mly_lance_writer *auxiliary;
    struct lance_global globals[GLOBALS];
    MlyPb__Pair pairs[PAIRS];
    struct lance_writer_extra extra;
    char metadata[METADATA_BYTES];
    size_t partition_i;
    uint64_t row_count;
    bool is_finished;
};

void mly_lance_index_folder(const uint8_t uuid[16], char out[LANCE_INDEX_FOLDER_BYTES])
{
    char text[37];
    mly_lance_uuid_text(uuid, text);
    (void)snprintf(out, LANCE_INDEX_FOLDER_BYTES, LANCE_INDICES_FOLDER "/%s", text);
}

void mly_lance_index_sums_name(const uint8_t uuid[16], const char *name,
                               char out[LANCE_INDEX_SUMS_BYTES])
{
    char text[37];
    mly_lance_uuid_text(uuid, text);
    (void)snprintf(out, LANCE_INDEX_SUMS_BYTES, "%s-%s", text, name);
}

static void remove_folder(const struct mly_lance_table *table, const char *folder)
{
    struct lance_path path;
    struct mly_error ignored;
    mly_lance_unlink(table, folder, LANCE_INDEX_MAIN);
    mly_lance_unlink(table, folder, LANCE_INDEX_AUXILIARY);
    mly_lance_path(table, folder, NULL, &path);
    (void)!mly_dir_remove(table->env, MLY_AT_CWD, path.text, &ignored);
}

void mly_lance_index_discard(const struct mly_lance_table *table,
                             const struct mly_lance_index *index)
{
    char folder[LANCE_INDEX_FOLDER_BYTES], sums[LANCE_INDEX_SUMS_BYTES];
    mly_lance_index_folder(index->uuid, folder);
    remove_folder(table, folder);
    mly_lance_index_sums_name(index->uuid, LANCE_INDEX_MAIN, sums);
    mly_lance_sums_forget(table, sums);
    mly_lance_index_sums_name(index->uuid, LANCE_INDEX_AUXILIARY, sums);
    mly_lance_sums_forget(table, sums);
}

void mly_lance_index_writer_close(struct mly_lance_index_writer *writer)
{
    if (writer == NULL) return;
    mly_lance_writer_close(writer->auxiliary);
    if (!writer->is_finished) {
        struct mly_lance_index index = {.sub_count = 0};
        memcpy(index.uuid, writer->uuid, sizeof(index.uuid));
        mly_lance_index_discard(writer->table, &index);
    }
    mly_mem_free(writer->table->env->mem, writer);
}

static void set_pair(MlyPb__Pair *pair, const char *key, struct mly_str value)
{
    mly_pb__pair__init(pair);
    pair->has_key = true;
    pair->key = lance_pb_data(mly_str_of(key));
    pair->has_value = true;
    pair->value = lance_pb_data(value);
}

/* A tensor of two dimensions, packed into out. */
static enum mly_err pack_tensor(const float *values, size_t rows, size_t columns,
                                struct mly_bytes *out, struct mly_error *err)
{
    MlyPb__Tensor tensor = MLY_PB__TENSOR__INIT;
    uint32_t shape[2] = {(uint32_t)rows, (uint32_t)columns};
    tensor.has_type = true;
    tensor.type = TENSOR_F32;
    tensor.shape = shape;
    tensor.n_shape = 2;
    tensor.has_data = true;
    tensor.data =
        lance_pb_data((struct mly_str){(const char *)values, rows * columns * sizeof(values[0])});
    return mly_lance_pack(&tensor.base, out, err);
}

/* Where partitions begin and how long they are; centroids: packed, or NULL. */
static enum mly_err pack_ivf(const struct mly_lance_index_writer *writer,
                             const struct mly_bytes *centroids, struct mly_bytes *out,
                             struct mly_error *err)
{
    const struct mly_lance_index_shape *shape = writer->shape;
    struct mly_mem *mem = writer->table->env->mem;
    MlyPb__Ivf ivf = MLY_PB__IVF__INIT;
    enum mly_err rc = MLY_OK;
    uint64_t at = 0;
    ivf.n_offsets = ivf.n_lengths = shape->partition_count;
    ivf.offsets = mly_mem_array(mem, shape->partition_count, sizeof(ivf.offsets[0]));
    ivf.lengths = mly_mem_array(mem, shape->partition_count, sizeof(ivf.lengths[0]));
    if (ivf.offsets == NULL || ivf.lengths == NULL) {
        rc = mly_fail_nomem(err, shape->partition_count * sizeof(ivf.offsets[0]));
        goto done;
    }
    for (size_t i = 0; i < shape->partition_count && centroids == NULL; i++) {
        if (shape->partition_rows[i] > UINT32_MAX) {
            rc = mly_fail(err, MLY_ERR_LIMIT, "a partition of %" PRIu64 " rows, limit is %u",
                          shape->partition_rows[i], UINT32_MAX);
            goto done;
        }
        ivf.offsets[i] = at;
        ivf.lengths[i] = (uint32_t)shape->partition_rows[i];
        at += shape->partition_rows[i];
    }
    ivf.has_centroids = centroids != NULL;
    if (centroids != NULL) ivf.centroids = lance_pb_data(mly_bytes_view(centroids));
    rc = mly_lance_pack(&ivf.base, out, err);
done:
    mly_mem_free(mem, ivf.offsets);
    mly_mem_free(mem, ivf.lengths);
    return rc;
}

/* ---- auxiliary.idx ---- */

static enum mly_err begin_auxiliary(struct mly_lance_index_writer *writer, struct mly_error *err)
{
    const struct mly_lance_index_shape *shape = writer->shape;
    const struct mly_lance_field fields[] = {
        {.name = MLY_STR("_rowid"), .type = MLY_LANCE_UINT64, .nullable = true, .id = 0},
        {.name = MLY_STR("__pq_code"),
         .type = MLY_LANCE_CODES,
         .dim = (uint32_t)shape->sub_count,
         .nullable = true,
         .id = 1},
    };
    struct mly_bytes buffer;
    MLY_TRY(mly_lance_writer_open_in(writer->table, writer->folder, fields, 2, &writer->auxiliary,
                                     err));
    writer->auxiliary->extra = &writer->extra;
    mly_bytes_init(&buffer, writer->table->env->mem, MLY_META_BYTES_MAX);
    enum mly_err rc = pack_ivf(writer, NULL, &buffer, err);
    if (rc == MLY_OK) {
        rc = mly_lance_put_global(writer->auxiliary, buffer.data, buffer.bytes, &writer->globals[0],
                                  err);
    }
    buffer.bytes = 0;
    /* 256 rows of dim numbers by name; piece by piece as they lie there. */
    if (rc == MLY_OK) rc = pack_tensor(shape->codebook, ENTRIES, shape->dim, &buffer, err);
    if (rc == MLY_OK) {
        rc = mly_lance_put_global(writer->auxiliary, buffer.data, buffer.bytes, &writer->globals[1],
                                  err);
    }
    mly_bytes_deinit(&buffer);
    (void)snprintf(writer->metadata, sizeof(writer->metadata),
                   "[\"{\\\"codebook_position\\\":2,\\\"nbits\\\":8,\\\"num_sub_vectors\\\":%zu,"
                   "\\\"dimension\\\":%zu,\\\"codebook_tensor\\\":[],\\\"transposed\\\":true}\"]",
                   shape->sub_count, shape->dim);
    set_pair(&writer->pairs[0], "distance_type", MLY_STR("cosine"));
    set_pair(&writer->pairs[1], "lance:ivf", MLY_STR(IVF_GLOBAL));
    set_pair(&writer->pairs[2], "storage_metadata", mly_str_of(writer->metadata));
    writer->extra = (struct lance_writer_extra){writer->pairs, 3, writer->globals, 2};
    return rc;
}

enum mly_err mly_lance_index_writer_open(const struct mly_lance_table *table,
                                         const struct mly_lance_index_shape *shape,
                                         struct mly_lance_index_writer **out, struct mly_error *err)
{
    struct mly_mem *mem = table->env->mem;
    if (shape->sub_count == 0 || shape->dim % shape->sub_count != 0 ||
        shape->partition_count == 0 || shape->partition_count > UINT32_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "index of %zu partitions, %zu numbers in %zu pieces",
                        shape->partition_count, shape->dim, shape->sub_count);
    }
    struct mly_lance_index_writer *writer = mly_mem_array(mem, 1, sizeof(*writer));
    if (writer == NULL) return mly_fail_nomem(err, sizeof(*writer));
    writer->table = table;
    writer->shape = shape;
    enum mly_err rc = mly_lance_own_uuid(table, writer->uuid, err);
    if (rc != MLY_OK) {
        mly_mem_free(mem, writer);
        return rc;
    }
    mly_lance_index_folder(writer->uuid, writer->folder);
    rc = mly_lance_need_folder(table, LANCE_INDICES_FOLDER, err);
    if (rc == MLY_OK) rc = begin_auxiliary(writer, err);
    if (rc != MLY_OK) {
        mly_lance_index_writer_close(writer);
        return rc;
    }
    *out = writer;
    return MLY_OK;
}

enum mly_err mly_lance_index_put(struct mly_lance_index_writer *writer, const uint64_t *addresses,
                                 const uint8_t *codes, size_t count, struct mly_error *err)
{
    const struct mly_lance_index_shape *shape = writer->shape;
    if (writer->partition_i >= shape->partition_count ||
        count != shape->partition_rows[writer->partition_i]) {
        return mly_fail(err, MLY_ERR_INVAL, "partition %zu of %zu with %zu rows",
                        writer->partition_i, shape->partition_count, count);
    }
    MLY_TRY(mly_lance_put_raw(writer->auxiliary, 0, addresses, count, err));
    MLY_TRY(mly_lance_put_raw(writer->auxiliary, 1, codes, count, err));
    writer->partition_i++;
    writer->row_count += count;
    return MLY_OK;
}

static enum mly_err finish_file(struct mly_lance_index_writer *writer,
                                struct mly_lance_writer *file, const char *name, uint64_t *bytes,
                                struct mly_error *err)
{
    char sums[LANCE_INDEX_SUMS_BYTES];
    mly_lance_index_sums_name(writer->uuid, name, sums);
    MLY_TRY(mly_lance_writer_finish_as(file, name, sums, err));
    *bytes = file->file_bytes;
    return MLY_OK;
}

/* ---- index.idx ---- */

/* ["","",...]: nothing is said of any partition. */
static enum mly_err make_flat(const struct mly_lance_index_writer *writer, struct mly_bytes *out,
                              struct mly_error *err)
{
    for (size_t i = 0; i < writer->shape->partition_count; i++)
        MLY_TRY(mly_bytes_append(out, i == 0 ? "[\"\"" : ",\"\"", 3, err));
    return mly_bytes_append(out, "]", 1, err);
}

static enum mly_err write_main(struct mly_lance_index_writer *writer, uint64_t *bytes,
                               struct mly_error *err)
{
    const struct mly_lance_index_shape *shape = writer->shape;
    struct mly_mem *mem = writer->table->env->mem;
    const struct mly_lance_field field = {.name = MLY_STR("__flat_marker"),
                                          .type = MLY_LANCE_UINT64};
    struct mly_lance_writer *file = NULL;
    struct lance_global global;
    MlyPb__Pair pairs[PAIRS];
    struct mly_bytes flat, centroids, ivf;
    mly_bytes_init(&flat, mem, MLY_META_BYTES_MAX);
    mly_bytes_init(&centroids, mem, MLY_META_BYTES_MAX);
    mly_bytes_init(&ivf, mem, MLY_META_BYTES_MAX);
    enum mly_err rc = make_flat(writer, &flat, err);
    if (rc == MLY_OK) {
        rc = pack_tensor(shape->centroids, shape->partition_count, shape->dim, &centroids, err);
    }
    if (rc == MLY_OK) rc = pack_ivf(writer, &centroids, &ivf, err);
    if (rc == MLY_OK) {
        rc = mly_lance_writer_open_in(writer->table, writer->folder, &field, 1, &file, err);
    }
    if (rc == MLY_OK) rc = mly_lance_put_global(file, ivf.data, ivf.bytes, &global, err);
    if (rc == MLY_OK) {
        set_pair(&pairs[0], "lance:flat", mly_bytes_view(&flat));
        set_pair(&pairs[1], "lance:index",
                 MLY_STR("{\"type\":\"IVF_PQ\",\"distance_type\":\"cosine\"}"));
        set_pair(&pairs[2], "lance:ivf", MLY_STR(IVF_GLOBAL));
        const struct lance_writer_extra extra = {pairs, 3, &global, 1};
        file->extra = &extra;
        rc = finish_file(writer, file, LANCE_INDEX_MAIN, bytes, err);
    }
    mly_lance_writer_close(file);
    mly_bytes_deinit(&flat);
    mly_bytes_deinit(&centroids);
    mly_bytes_deinit(&ivf);
    return rc;
}

enum mly_err mly_lance_index_writer_finish(struct mly_lance_index_writer *writer,
                                           struct mly_lance_index *out, struct mly_error *err)
{
    struct mly_lance_index index = {
        .sub_count = (uint32_t)writer->shape->sub_count,
        .row_count = writer->row_count,
    };
    memcpy(index.uuid, writer->uuid, sizeof(index.uuid));
    if (writer->partition_i != writer->shape->partition_count) {
        return mly_fail(err, MLY_ERR_INVAL, "index has %zu of its %zu partitions",
                        writer->partition_i, writer->shape->partition_count);
    }
    MLY_TRY(
        finish_file(writer, writer->auxiliary, LANCE_INDEX_AUXILIARY, &index.auxiliary_bytes, err));
    MLY_TRY(write_main(writer, &index.main_bytes, err));
    writer->is_finished = true;
    *out = index;
    return MLY_OK;
}

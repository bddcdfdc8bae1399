/* In: names, shapes and bytes of tensors. Out: a safetensors file under its name, or none.
 *
 * The header stands in front of the tensors and holds their checksum, so its length is found first,
 * with zeros for the checksum, and it is written last. Bytes go into a file beside the one that is
 * wanted; that gets its name when all of it is on the disk.
 */
#include "embed/quantise/model_writer.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>

#define HEADER_BYTES_MAX ((size_t)16 << 20)
#define ALIGN 64
#define HEX_BYTES (2 * (size_t)MLY_HASH_BYTES)

static enum mly_err append(struct mly_bytes *out, const char *text, struct mly_error *err)
{
    return mly_bytes_append(out, text, strlen(text), err);
}

enum mly_err mly_json_append_text(struct mly_bytes *out, struct mly_str text, struct mly_error *err)
{
    MLY_TRY(append(out, "\"", err));
    for (size_t i = 0; i < text.bytes; i++) {
        const char c = text.data[i];
        if (c == '"' || c == '\\') MLY_TRY(append(out, "\\", err));
        if (c == '\n') {
            MLY_TRY(append(out, "\\n", err));
        } else if (c == '\t') {
            MLY_TRY(append(out, "\\t", err));
        } else {
            MLY_TRY(mly_bytes_append(out, &c, 1, err));
        }
    }
    return append(out, "\"", err);
}

enum mly_err mly_model_writer_open(const struct mly_env *env, const char *path, bool overwrite,
                                   struct mly_model_writer *out, struct mly_error *err)
{
    struct mly_model_writer *writer = out;
    *writer = (struct mly_model_writer){.env = env, .overwrite = overwrite};
    writer->file = MLY_FILE_CLOSED;
    mly_bytes_init(&writer->header, env->mem, HEADER_BYTES_MAX);
    mly_bytes_init(&writer->metadata, env->mem, HEADER_BYTES_MAX);
    uint64_t salt = 0;
    const int drawn = env->random(env->context, &salt, sizeof(salt));
    if (drawn < 0) return mly_fail_errno(err, MLY_ERR_IO, -drawn, "no random number could be had");
    const int bytes = snprintf(writer->path, sizeof(writer->path), "%s", path);
    const int part_bytes = snprintf(writer->part_path, sizeof(writer->part_path),
                                    "%s.%08" PRIx32 ".part", path, (uint32_t)salt);
    if (bytes < 0 || part_bytes < 0 || (size_t)part_bytes >= sizeof(writer->part_path)) {
        return mly_fail(err, MLY_ERR_LIMIT, "the model's path is longer than %zu bytes",
                        sizeof(writer->path) - 1);
    }
    bool exists = false;
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &exists, err));
    if (exists && !overwrite) return mly_fail(err, MLY_ERR_CONFLICT, "%s exists already", path);
    writer->hasher = mly_hasher_create(env->mem);
    if (writer->hasher == NULL) return mly_fail_nomem(err, 512);
    MLY_TRY(mly_file_open(env, MLY_AT_CWD, writer->part_path,
                          MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL, &writer->file, err));
    writer->made = true;
    return MLY_OK;
}

void mly_model_writer_close(struct mly_model_writer *writer)
{
    if (writer->env == NULL) return;
    mly_file_close(&writer->file);
    if (writer->made) {
        /* What cannot be removed stays; its name says what it is. */
        enum mly_err rc = mly_file_unlink(writer->env, MLY_AT_CWD, writer->part_path, NULL);
        writer->made = rc != MLY_OK;
    }
    mly_hasher_destroy(writer->hasher);
    writer->hasher = NULL;
    mly_bytes_deinit(&writer->header);
    mly_bytes_deinit(&writer->metadata);
}

enum mly_err mly_model_writer_note(struct mly_model_writer *writer, const char *key,
                                   struct mly_str text, struct mly_error *err)
{
    MLY_TRY(append(&writer->metadata, writer->metadata.bytes == 0 ? "" : ",", err));
    MLY_TRY(mly_json_append_text(&writer->metadata, mly_str_of(key), err));
    MLY_TRY(append(&writer->metadata, ":", err));
    return mly_json_append_text(&writer->metadata, text, err);
}

static const char *type_name(enum mly_tensor_type type, size_t *bytes)
{
    *bytes = type == MLY_TENSOR_F32 ? 4 : type == MLY_TENSOR_BF16 ? 2 : 1;
    return type == MLY_TENSOR_F32    ? "F32"
           : type == MLY_TENSOR_BF16 ? "BF16"
           : type == MLY_TENSOR_I8   ? "I8"
                                     : "U8";
}

enum mly_err mly_model_writer_plan(struct mly_model_writer *writer, const char *name,
                                   enum mly_tensor_type type, const uint64_t *shape, size_t rank,
                                   struct mly_error *err)
{
    char text[96];
    size_t bytes;
    const char *type_text = type_name(type, &bytes);
    const uint64_t start = writer->planned;
    MLY_TRY(append(&writer->header, ",", err));
    MLY_TRY(mly_json_append_text(&writer->header, mly_str_of(name), err));
    (void)snprintf(text, sizeof(text), ":{\"dtype\":\"%s\",\"shape\":[", type_text);
    MLY_TRY(append(&writer->header, text, err));
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] > SIZE_MAX || !mly_size_mul(bytes, (size_t)shape[i], &bytes)) {
            return mly_fail(err, MLY_ERR_LIMIT, "tensor %s is too large", name);
        }
        (void)snprintf(text, sizeof(text), "%s%" PRIu64, i > 0 ? "," : "", shape[i]);
        MLY_TRY(append(&writer->header, text, err));
    }
    const uint64_t end = start + bytes;
    (void)snprintf(text, sizeof(text), "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", start, end);
    MLY_TRY(append(&writer->header, text, err));
    writer->planned = end;
    return MLY_OK;
}

/* The whole head of the file: eight bytes of length and the JSON, padded. */
static enum mly_err make_head(const struct mly_model_writer *writer, const char hex[HEX_BYTES + 1],
                              struct mly_bytes *out, struct mly_error *err)
{
    mly_bytes_init(out, writer->env->mem, 3 * HEADER_BYTES_MAX);
    MLY_TRY(mly_bytes_append_u64le(out, 0, err));
    MLY_TRY(append(out, "{\"__metadata__\":{\"data_blake2b_256\":\"", err));
    MLY_TRY(append(out, hex, err));
    MLY_TRY(append(out, writer->metadata.bytes > 0 ? "\"," : "\"", err));
    MLY_TRY(mly_bytes_append(out, writer->metadata.data, writer->metadata.bytes, err));
    MLY_TRY(append(out, "}", err));
    MLY_TRY(mly_bytes_append(out, writer->header.data, writer->header.bytes, err));
    MLY_TRY(append(out, "}", err));
    while (out->bytes % ALIGN != 0) {
        MLY_TRY(append(out, " ", err));
    }
    const uint64_t length = out->bytes - 8;
    for (size_t i = 0; i < 8; i++) {
        out->data[i] = (uint8_t)(length >> (8 * i));
    }
    return MLY_OK;
}

enum mly_err mly_model_writer_begin(struct mly_model_writer *writer, struct mly_error *err)
{
    char zeros[HEX_BYTES + 1];
    struct mly_bytes head;
    memset(zeros, '0', HEX_BYTES);
    zeros[HEX_BYTES] = '\0';
    const enum mly_err rc = make_head(writer, zeros, &head, err);
    writer->data_start = head.bytes;
    mly_bytes_deinit(&head);
    return rc;
}

enum mly_err mly_model_writer_put(struct mly_model_writer *writer, const void *data, size_t bytes,
                                  struct mly_error *err)
{
    MLY_TRY(mly_file_write(&writer->file, data, bytes, writer->data_start + writer->at, err));
    mly_hasher_add(writer->hasher, data, bytes);
    writer->at += bytes;
    return MLY_OK;
}

static enum mly_err check_end(const struct mly_model_writer *writer, struct mly_error *err)
{
    if (writer->planned == writer->at) return MLY_OK;
    return mly_fail(err, MLY_ERR_INTERNAL,
                    "%" PRIu64 " bytes of tensors were written, %" PRIu64 " planned", writer->at,
                    writer->planned);
}

/* The name is durable when its folder is. */
static enum mly_err sync_folder(const struct mly_model_writer *writer, struct mly_error *err)
{
    char folder[MLY_PATH_BYTES_MAX];
    (void)snprintf(folder, sizeof(folder), "%s", writer->path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) return mly_dir_sync(writer->env, MLY_AT_CWD, ".", err);
    slash[slash == folder ? 1 : 0] = '\0';
    return mly_dir_sync(writer->env, MLY_AT_CWD, folder, err);
}

enum mly_err mly_model_writer_finish(struct mly_model_writer *writer, struct mly_error *err)
{
    char hex[HEX_BYTES + 1];
    struct mly_bytes head;
    MLY_TRY(check_end(writer, err));
    const struct mly_hash hash = mly_hasher_end(writer->hasher);
    mly_hash_to_hex(&hash, hex);
    enum mly_err rc = make_head(writer, hex, &head, err);
    if (rc == MLY_OK) rc = mly_file_write(&writer->file, head.data, head.bytes, 0, err);
    mly_bytes_deinit(&head);
    if (rc != MLY_OK) return rc;
    MLY_TRY(mly_file_sync(&writer->file, err));
    mly_file_close(&writer->file);
    return MLY_OK;
}

enum mly_err mly_model_writer_name(struct mly_model_writer *writer, struct mly_error *err)
{
    if (writer->overwrite) {
        MLY_TRY(mly_file_rename(writer->env, MLY_AT_CWD, writer->part_path, writer->path, err));
        writer->made = false;
    } else { /* A name that somebody took in the meantime stays theirs. */
        MLY_TRY(mly_file_link(writer->env, MLY_AT_CWD, writer->part_path, writer->path, err));
    }
    return sync_folder(writer, err);
}

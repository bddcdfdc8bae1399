/* In: files. Out: their sums, kept beside them, and the block that differs where one does.
 *
 * A sum is over the block as it is, the last one shorter; the header has the file's length, so that
 * a file that was cut off at a block's border is found too. */
#include "sums/sums.h"

#include "base/endian.h"
#include "base/limits.h"

#include <stdio.h>
#include <string.h>

#define MAGIC "MLY-SUM\n"
#define FORMAT 1u
#define HEAD_BYTES ((size_t)48)
/* 16 TB of file: no table has one of that size. */
#define BLOCKS_MAX ((uint64_t)1 << 28)

enum {
    HEAD_FORMAT = 8,
    HEAD_BLOCK_BYTES = 12,
    HEAD_FILE_BYTES = 16,
    HEAD_BLOCKS = 24,
    HEAD_SUMS_SUM = 32,
    HEAD_RESERVED = 36,
    HEAD_SUM = 44
};

static uint64_t blocks_of(uint64_t file_bytes)
{
    return file_bytes / MLY_SUMS_BLOCK_BYTES + (file_bytes % MLY_SUMS_BLOCK_BYTES != 0);
}

static size_t block_bytes(uint64_t file_bytes, uint64_t block_i)
{
    uint64_t left = file_bytes - block_i * MLY_SUMS_BLOCK_BYTES;
    return left < MLY_SUMS_BLOCK_BYTES ? (size_t)left : MLY_SUMS_BLOCK_BYTES;
}

/* Room for the sums of a file. */
static enum mly_err init(struct mly_mem *mem, uint64_t file_bytes, struct mly_sums *out,
                         struct mly_error *err)
{
    uint64_t blocks = blocks_of(file_bytes);
    if (blocks > BLOCKS_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "a file of %llu bytes, the limit of sums is %llu",
                        (unsigned long long)file_bytes,
                        (unsigned long long)(BLOCKS_MAX * MLY_SUMS_BLOCK_BYTES));
    }
    *out = (struct mly_sums){.mem = mem,
                             .crc = mly_crc32c_pick(),
                             .file_bytes = file_bytes,
                             .block_count = (size_t)blocks};
    out->sums = mly_mem_array(mem, out->block_count, sizeof(out->sums[0]));
    out->checked = mly_mem_array(mem, out->block_count, sizeof(out->checked[0]));
    if (out->sums != NULL && out->checked != NULL) return MLY_OK;
    mly_sums_deinit(out);
    return mly_fail_nomem(err, (size_t)blocks * 5);
}

void mly_sums_deinit(struct mly_sums *sums)
{
    if (sums->mem != NULL) {
        mly_mem_free(sums->mem, sums->sums);
        mly_mem_free(sums->mem, (void *)sums->checked);
    }
    memset(sums, 0, sizeof(*sums));
}

enum mly_err mly_sums_make(struct mly_mem *mem, const uint8_t *data, uint64_t bytes,
                           struct mly_sums *out, struct mly_error *err)
{
    MLY_TRY(init(mem, bytes, out, err));
    for (size_t i = 0; i < out->block_count; i++) {
        out->sums[i] = out->crc(0, data + i * MLY_SUMS_BLOCK_BYTES, block_bytes(bytes, i));
        atomic_store_explicit(&out->checked[i], 1, memory_order_relaxed);
    }
    return MLY_OK;
}

/* ---- while it is written ---- */

void mly_sums_maker_init(struct mly_sums_maker *maker, struct mly_mem *mem)
{
    *maker = (struct mly_sums_maker){.crc = mly_crc32c_pick()};
    mly_bytes_init(&maker->sums, mem, 4 * (size_t)BLOCKS_MAX);
}

void mly_sums_maker_deinit(struct mly_sums_maker *maker)
{
    mly_bytes_deinit(&maker->sums);
}

enum mly_err mly_sums_maker_add(struct mly_sums_maker *maker, const void *data, size_t bytes,
                                struct mly_error *err)
{
    const uint8_t *at = data;
    while (bytes > 0) {
        size_t room = MLY_SUMS_BLOCK_BYTES - (size_t)(maker->file_bytes % MLY_SUMS_BLOCK_BYTES);
        size_t part = bytes < room ? bytes : room;
        if (part == room) MLY_TRY(mly_bytes_reserve(&maker->sums, 4, err));
        maker->sum = maker->crc(maker->sum, at, part);
        maker->file_bytes += part;
        at += part;
        bytes -= part;
        if (part < room) break;
        MLY_TRY(mly_bytes_append_u32le(&maker->sums, maker->sum, err));
        maker->sum = 0;
    }
    return MLY_OK;
}

enum mly_err mly_sums_maker_finish(struct mly_sums_maker *maker, struct mly_sums *out,
                                   struct mly_error *err)
{
    MLY_TRY(init(maker->sums.mem, maker->file_bytes, out, err));
    for (size_t i = 0; i < out->block_count; i++) {
        bool is_full = i < maker->sums.bytes / 4;
        out->sums[i] = is_full ? mly_get_u32le(maker->sums.data + 4 * i) : maker->sum;
    }
    return MLY_OK;
}

/* ---- the file beside ---- */

static void encode(const struct mly_sums *sums, uint8_t *out)
{
    uint8_t *at = out + HEAD_BYTES;
    memset(out, 0, HEAD_BYTES);
    for (size_t i = 0; i < sums->block_count; i++)
        mly_put_u32le(at + 4 * i, sums->sums[i]);
    memcpy(out, MAGIC, 8);
    mly_put_u32le(out + HEAD_FORMAT, FORMAT);
    mly_put_u32le(out + HEAD_BLOCK_BYTES, (uint32_t)MLY_SUMS_BLOCK_BYTES);
    mly_put_u64le(out + HEAD_FILE_BYTES, sums->file_bytes);
    mly_put_u64le(out + HEAD_BLOCKS, sums->block_count);
    mly_put_u32le(out + HEAD_SUMS_SUM, sums->crc(0, at, 4 * sums->block_count));
    mly_put_u32le(out + HEAD_SUM, sums->crc(0, out, HEAD_SUM));
}

enum mly_err mly_sums_write(const struct mly_env *env, const char *path,
                            const struct mly_sums *sums, struct mly_error *err)
{
    char temporary[MLY_PATH_BYTES_MAX], id[37];
    struct mly_file file = MLY_FILE_CLOSED;
    size_t bytes = HEAD_BYTES + 4 * sums->block_count;
    MLY_TRY(mly_uuid4(env, id, err));
    int length = snprintf(temporary, sizeof(temporary), "%s.tmp-%s", path, id);
    if (length < 0 || (size_t)length >= sizeof(temporary)) {
        return mly_fail(err, MLY_ERR_LIMIT, "path of %d bytes, the limit is %zu", length,
                        sizeof(temporary) - 1);
    }
    uint8_t *data = mly_mem_alloc(env->mem, bytes);
    if (data == NULL) return mly_fail_nomem(err, bytes);
    encode(sums, data);
    enum mly_err rc = mly_file_open(env, MLY_AT_CWD, temporary,
                                    MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL, &file, err);
    if (rc == MLY_OK) {
        rc = mly_file_write(&file, data, bytes, 0, err);
        mly_file_close(&file);
        if (rc == MLY_OK) rc = mly_file_rename(env, MLY_AT_CWD, temporary, path, err);
        if (rc != MLY_OK) (void)env->unlink(env->context, MLY_AT_CWD, temporary);
    }
    mly_mem_free(env->mem, data);
    return rc;
}

/* crc is given since nothing else is known yet. */
static bool is_whole(mly_crc32c_fn crc, const uint8_t *data, size_t bytes)
{
    static const uint8_t zeros[HEAD_SUM - HEAD_RESERVED];
    if (bytes < HEAD_BYTES || memcmp(data, MAGIC, 8) != 0) return false;
    if (mly_get_u32le(data + HEAD_SUM) != crc(0, data, HEAD_SUM)) return false;
    uint64_t blocks = mly_get_u64le(data + HEAD_BLOCKS);
    return mly_get_u32le(data + HEAD_BLOCK_BYTES) == MLY_SUMS_BLOCK_BYTES && blocks <= BLOCKS_MAX &&
           blocks == blocks_of(mly_get_u64le(data + HEAD_FILE_BYTES)) &&
           bytes == HEAD_BYTES + 4 * (size_t)blocks &&
           memcmp(data + HEAD_RESERVED, zeros, sizeof(zeros)) == 0 &&
           mly_get_u32le(data + HEAD_SUMS_SUM) == crc(0, data + HEAD_BYTES, bytes - HEAD_BYTES);
}

static enum mly_err decode(struct mly_mem *mem, const struct mly_bytes *bytes, const char *path,
                           struct mly_sums *out, struct mly_error *err)
{
    if (!is_whole(mly_crc32c_pick(), bytes->data, bytes->bytes)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s: the sums themselves are damaged", path);
    }
    if (mly_get_u32le(bytes->data + HEAD_FORMAT) != FORMAT) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "%s: sums of format %u, known is %u", path,
                        mly_get_u32le(bytes->data + HEAD_FORMAT), FORMAT);
    }
    MLY_TRY(init(mem, mly_get_u64le(bytes->data + HEAD_FILE_BYTES), out, err));
    for (size_t i = 0; i < out->block_count; i++)
        out->sums[i] = mly_get_u32le(bytes->data + HEAD_BYTES + 4 * i);
    return MLY_OK;
}

enum mly_err mly_sums_read(const struct mly_env *env, const char *path, struct mly_sums *out,
                           struct mly_error *err)
{
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_bytes bytes;
    mly_bytes_init(&bytes, env->mem, HEAD_BYTES + 4 * (size_t)BLOCKS_MAX);
    enum mly_err rc = mly_file_open(env, MLY_AT_CWD, path, MLY_OPEN_READ, &file, err);
    if (rc != MLY_OK) goto done;
    rc = mly_file_read_all(&file, &bytes, err);
    if (rc == MLY_OK) rc = decode(env->mem, &bytes, path, out, err);
done:
    mly_file_close(&file);
    mly_bytes_deinit(&bytes);
    return rc;
}

/* ---- checking ---- */

static enum mly_err fail_block(const char *name, uint64_t block_i, struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_CORRUPT,
                    "%s: bytes %llu to %llu are not what was written (their sum differs)", name,
                    (unsigned long long)(block_i * MLY_SUMS_BLOCK_BYTES),
                    (unsigned long long)((block_i + 1) * MLY_SUMS_BLOCK_BYTES - 1));
}

static enum mly_err check_length(const struct mly_sums *sums, uint64_t file_bytes, const char *name,
                                 struct mly_error *err)
{
    if (file_bytes == sums->file_bytes) return MLY_OK;
    return mly_fail(err, MLY_ERR_CORRUPT, "%s has %llu bytes, it was written with %llu", name,
                    (unsigned long long)file_bytes, (unsigned long long)sums->file_bytes);
}

enum mly_err mly_sums_check(struct mly_sums *sums, const uint8_t *data, uint64_t file_bytes,
                            uint64_t offset, uint64_t bytes, const char *name,
                            struct mly_error *err)
{
    MLY_TRY(check_length(sums, file_bytes, name, err));
    if (offset > file_bytes || bytes > file_bytes - offset) {
        return mly_fail(err, MLY_ERR_INVAL, "%s: %llu bytes at %llu of %llu", name,
                        (unsigned long long)bytes, (unsigned long long)offset,
                        (unsigned long long)file_bytes);
    }
    if (bytes == 0) return MLY_OK;
    uint64_t last = (offset + bytes - 1) / MLY_SUMS_BLOCK_BYTES;
    for (uint64_t i = offset / MLY_SUMS_BLOCK_BYTES; i <= last; i++) {
        if (atomic_load_explicit(&sums->checked[i], memory_order_acquire) != 0) continue;
        const uint8_t *block = data + i * MLY_SUMS_BLOCK_BYTES;
        if (sums->crc(0, block, block_bytes(file_bytes, i)) != sums->sums[i]) {
            return fail_block(name, i, err);
        }
        atomic_store_explicit(&sums->checked[i], 1, memory_order_release);
    }
    return MLY_OK;
}

enum mly_err mly_sums_verify(const struct mly_env *env, const struct mly_sums *sums,
                             const char *path, uint64_t *first_bad, struct mly_error *err)
{
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_file_info info;
    uint8_t *block = NULL;
    enum mly_err rc = mly_file_open(env, MLY_AT_CWD, path, MLY_OPEN_READ, &file, err);
    if (rc == MLY_OK) rc = mly_file_info(&file, &info, err);
    if (rc == MLY_OK) rc = check_length(sums, info.bytes, path, err);
    if (rc != MLY_OK) goto done;
    block = mly_mem_alloc_aligned(env->mem, MLY_SUMS_BLOCK_BYTES);
    if (block == NULL) {
        rc = mly_fail_nomem(err, MLY_SUMS_BLOCK_BYTES);
        goto done;
    }
    for (uint64_t i = 0; i < sums->block_count; i++) {
        size_t bytes = block_bytes(sums->file_bytes, i);
        rc = mly_file_read(&file, block, bytes, i * MLY_SUMS_BLOCK_BYTES, err);
        if (rc != MLY_OK) {
            rc = mly_fail_in(err, rc, "%s", path);
            goto done;
        }
        if (sums->crc(0, block, bytes) == sums->sums[i]) continue;
        if (first_bad != NULL) *first_bad = i;
        rc = fail_block(path, i, err);
        goto done;
    }
done:
    mly_mem_free(env->mem, block);
    mly_file_close(&file);
    return rc;
}

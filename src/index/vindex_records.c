/* Making files of records: one for each data file, in the order of its rows, whatever cells they
 * are in. They outlive segments. */
#include "index/vindex_draft.h"

#include <string.h>

static enum mly_err write_head(struct vindex_records_maker *maker, uint32_t dim,
                               struct mly_error *err)
{
    uint8_t block[VINDEX_RECORDS_HEAD_BYTES] = {0};
    struct vindex_records_head head = {
        .format = VINDEX_FORMAT,
        .dim = dim,
        .width = (uint32_t)MLY_KERN_CODE_WIDTH(dim),
        .row_count = maker->of.row_count,
        .name_bytes = (uint32_t)maker->of.name.bytes,
    };
    memcpy(head.magic, VINDEX_RECORDS_MAGIC, 8);
    memcpy(head.name, maker->of.name.data, maker->of.name.bytes);
    memcpy(block, &head, sizeof(head));
    uint32_t sum = mly_crc32c_pick()(0, block, VINDEX_RECORDS_HEAD_BYTES - 4);
    memcpy(block + VINDEX_RECORDS_HEAD_BYTES - 4, &sum, 4);
    return mly_file_write(&maker->file, block, VINDEX_RECORDS_HEAD_BYTES, 0, err);
}

/* True where all of them are as they were written. */
static bool are_whole(const struct vindex_records *records, uint32_t row_count, uint32_t dim)
{
    mly_crc32c_fn crc = mly_crc32c_pick();
    size_t bytes = vindex_record_bytes(MLY_KERN_CODE_WIDTH(dim));
    const uint8_t *record = records->map.data + VINDEX_RECORDS_HEAD_BYTES;
    mly_map_advise(&records->map, 0, records->map.bytes, MLY_ADVICE_SOON);
    for (uint32_t row = 0; row < row_count; row++, record += bytes) {
        uint32_t sum;
        memcpy(&sum, record + bytes - 4, 4);
        if (crc(0, record, bytes - 4) != sum) return false;
    }
    return true;
}

enum mly_err mly_vindex_records_begin(struct vindex_records_maker *maker, const struct mly_env *env,
                                      const char *folder, struct mly_vindex_file of, uint32_t dim,
                                      struct mly_error *err)
{
    *maker = (struct vindex_records_maker){
        .env = env, .folder = folder, .of = of, .file = MLY_FILE_CLOSED};
    struct vindex_records there = {0};
    enum mly_err rc = mly_vindex_records_open(env, folder, of, dim, &there, err);
    bool is_right = there.map.data != NULL && are_whole(&there, of.row_count, dim);
    mly_map_close(&there.map);
    if (is_right) return MLY_OK;
    if (rc != MLY_OK && rc != MLY_ERR_CORRUPT) return rc;
    char id[37], suffix[48];
    MLY_TRY(mly_uuid4(env, id, err));
    memcpy(suffix, ".tmp-", 5);
    memcpy(suffix + 5, id, sizeof(id));
    MLY_TRY(mly_vindex_path(maker->temporary, folder, MLY_VINDEX_RECORDS, of.name, suffix, err));
    MLY_TRY(mly_file_open(env, MLY_AT_CWD, maker->temporary,
                          MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL, &maker->file, err));
    maker->at = VINDEX_RECORDS_HEAD_BYTES;
    rc = write_head(maker, dim, err);
    if (rc != MLY_OK) mly_vindex_records_drop(maker);
    return rc;
}

enum mly_err mly_vindex_records_add(struct vindex_records_maker *maker, const uint8_t *records,
                                    size_t bytes, struct mly_error *err)
{
    if (maker->file.fd < 0) return MLY_OK;
    MLY_TRY(mly_file_write(&maker->file, records, bytes, maker->at, err));
    maker->at += bytes;
    return MLY_OK;
}

enum mly_err mly_vindex_records_end(struct vindex_records_maker *maker, struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    if (maker->file.fd < 0) return MLY_OK;
    MLY_TRY(mly_vindex_path(path, maker->folder, MLY_VINDEX_RECORDS, maker->of.name,
                            MLY_VINDEX_RECORDS_SUFFIX, err));
    mly_file_close(&maker->file);
    enum mly_err rc = mly_file_rename(maker->env, MLY_AT_CWD, maker->temporary, path, err);
    if (rc != MLY_OK) {
        (void)maker->env->unlink(maker->env->context, MLY_AT_CWD, maker->temporary);
    }
    return rc;
}

void mly_vindex_records_drop(struct vindex_records_maker *maker)
{
    if (maker->env == NULL || maker->file.fd < 0) return;
    mly_file_close(&maker->file);
    (void)maker->env->unlink(maker->env->context, MLY_AT_CWD, maker->temporary);
}

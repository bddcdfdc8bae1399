/* Commits as records of the log.
 *
 * In: changes, or a record's bytes. Out: the bytes, and the operations decoded from them, which
 * borrow from the bytes: that is what the tail keeps. One commit is one record, so that it is whole
 * or not there (docs/FORMAT.md, "Commits"). */
#include "store/store_state_int.h"

#include "base/endian.h"
#include "base/limits.h"

#define RECORD_FORMAT 1u
#define RECORD_ALIGNMENT ((size_t)64)
#define ITEM_OPERATION 1u
#define ITEM_LOAD 2u
#define OPERATIONS_MAX ((uint32_t)1 << 20)

static enum mly_err make_empty(struct mly_mem *mem, struct mly_store_record **out,
                               struct mly_error *err)
{
    struct mly_store_record *record = mly_mem_array(mem, 1, sizeof(*record));
    if (record == NULL) return mly_fail_nomem(err, sizeof(*record));
    atomic_init(&record->refs, 1);
    record->mem = mem;
    mly_bytes_init(&record->payload, mem, MLY_LOG_PAYLOAD_BYTES_MAX);
    mly_arena_init(&record->arena, mem, SIZE_MAX / 2);
    *out = record;
    return MLY_OK;
}

struct mly_store_record *mly_store_record_retain(struct mly_store_record *record)
{
    atomic_fetch_add(&record->refs, 1);
    return record;
}

void mly_store_record_release(struct mly_store_record *record)
{
    if (record == NULL || atomic_fetch_sub(&record->refs, 1) != 1) return;
    struct mly_mem *mem = record->mem;
    mly_bytes_deinit(&record->payload);
    mly_arena_deinit(&record->arena);
    mly_mem_free(mem, record);
}

/* ---- encode ---- */

static enum mly_err align(struct mly_bytes *out, struct mly_error *err)
{
    size_t beyond = out->bytes % RECORD_ALIGNMENT;
    return beyond == 0 ? MLY_OK : mly_bytes_append_zeros(out, RECORD_ALIGNMENT - beyond, err);
}

static enum mly_operation_kind operation_kind(enum mly_change_kind kind)
{
    switch (kind) {
    case MLY_CHANGE_PUT:
        return MLY_OPERATION_PUT;
    case MLY_CHANGE_TOUCH:
        return MLY_OPERATION_TOUCH;
    case MLY_CHANGE_REMOVE:
        return MLY_OPERATION_REMOVE;
    case MLY_CHANGE_METADATA:
        break;
    }
    return MLY_OPERATION_METADATA;
}

/* Of an item: what it is and how long, filled in when that is known. */
static enum mly_err begin_item(struct mly_bytes *out, uint32_t kind, size_t *head,
                               struct mly_error *err)
{
    *head = out->bytes;
    MLY_TRY(mly_bytes_append_u32le(out, kind, err));
    return mly_bytes_append_zeros(out, RECORD_ALIGNMENT - 4, err);
}

static enum mly_err end_item(struct mly_bytes *out, size_t head, struct mly_error *err)
{
    mly_put_u64le(out->data + head + 8, out->bytes - head - RECORD_ALIGNMENT);
    return align(out, err);
}

static enum mly_err put_change(struct mly_bytes *out, const struct mly_change *change, uint32_t dim,
                               struct mly_error *err)
{
    struct mly_operation operation = {.kind = operation_kind(change->kind),
                                      .document = change->document};
    if (change->kind == MLY_CHANGE_PUT) {
        operation.rows = change->rows;
        operation.row_count = change->row_count;
        operation.dim = change->row_count > 0 ? dim : 0;
    }
    size_t head;
    MLY_TRY(begin_item(out, ITEM_OPERATION, &head, err));
    MLY_TRY(mly_operation_encode(&operation, out, err));
    return end_item(out, head, err);
}

static enum mly_err put_load(struct mly_bytes *out, const struct mly_store_load *load,
                             struct mly_error *err)
{
    size_t head;
    MLY_TRY(begin_item(out, ITEM_LOAD, &head, err));
    MLY_TRY(mly_store_load_encode(load, out, err));
    return end_item(out, head, err);
}

static enum mly_err encode(struct mly_store_record *record, const struct mly_change *changes,
                           size_t count, uint32_t dim, const struct mly_store_load *load,
                           struct mly_error *err)
{
    struct mly_bytes *out = &record->payload;
    size_t item_count = load != NULL;
    for (size_t i = 0; i < count; i++)
        item_count += load == NULL || !mly_store_goes_into_load(&changes[i]);
    if (item_count > OPERATIONS_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%zu documents in one commit, the limit is %u",
                        item_count, OPERATIONS_MAX);
    }
    MLY_TRY(mly_bytes_append_u32le(out, RECORD_FORMAT, err));
    MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)item_count, err));
    MLY_TRY(align(out, err));
    if (load != NULL) MLY_TRY(put_load(out, load, err));
    for (size_t i = 0; i < count; i++) {
        if (load != NULL && mly_store_goes_into_load(&changes[i])) continue;
        MLY_TRY(put_change(out, &changes[i], dim, err));
    }
    return MLY_OK;
}

/* ---- decode ---- */

static enum mly_err fail_record(const char *what, size_t offset, size_t bytes,
                                struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "commit in the log: %s at byte %zu of %zu", what, offset,
                    bytes);
}

static enum mly_err take_item(struct mly_store_record *record, uint64_t kind,
                              struct mly_str payload, struct mly_error *err)
{
    switch (kind) {
    case ITEM_OPERATION:
        MLY_TRY(
            mly_operation_decode(payload, &record->arena, &record->operations[record->count], err));
        record->count++;
        return MLY_OK;
    case ITEM_LOAD:
        if (record->load != NULL || record->count > 0) {
            return mly_fail(err, MLY_ERR_CORRUPT, "commit in the log: a load that is not first");
        }
        return mly_store_load_decode(payload, &record->arena, &record->load, err);
    default:
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "commit in the log has an item of kind %llu",
                        (unsigned long long)kind);
    }
}

static enum mly_err decode(struct mly_store_record *record, struct mly_error *err)
{
    const uint8_t *data = record->payload.data;
    const size_t bytes = record->payload.bytes;
    if (bytes < RECORD_ALIGNMENT) return fail_record("it ends too early", bytes, bytes, err);
    uint64_t format = mly_get_u32le(data);
    uint64_t count = mly_get_u32le(data + 4);
    if (format != RECORD_FORMAT) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "commit in the log of format %llu, known is %u",
                        (unsigned long long)format, RECORD_FORMAT);
    }
    if (count > OPERATIONS_MAX || count > bytes / RECORD_ALIGNMENT) {
        return fail_record("too many operations", 4, bytes, err);
    }
    record->operations =
        mly_arena_array(&record->arena, (size_t)count + 1, sizeof(record->operations[0]));
    if (record->operations == NULL) {
        return mly_fail_nomem(err, ((size_t)count + 1) * sizeof(record->operations[0]));
    }
    size_t offset = RECORD_ALIGNMENT;
    for (uint64_t i = 0; i < count; i++) {
        if (bytes - offset < RECORD_ALIGNMENT) {
            return fail_record("it ends too early", offset, bytes, err);
        }
        uint64_t kind = mly_get_u32le(data + offset);
        uint64_t item_bytes = mly_get_u64le(data + offset + 8);
        offset += RECORD_ALIGNMENT;
        if (item_bytes > bytes - offset) {
            return fail_record("an operation beyond its end", offset, bytes, err);
        }
        struct mly_str payload = {(const char *)data + offset, (size_t)item_bytes};
        MLY_TRY(take_item(record, kind, payload, err));
        offset += (size_t)item_bytes;
        size_t beyond = offset % RECORD_ALIGNMENT;
        if (beyond != 0) offset += RECORD_ALIGNMENT - beyond;
        if (offset > bytes) return fail_record("an operation beyond its end", offset, bytes, err);
    }
    return offset == bytes ? MLY_OK : fail_record("something behind its end", offset, bytes, err);
}

/* ---- records ---- */

/* What the bytes do not say, as it holds only now. */
static void note_new(struct mly_store_record *record, const struct mly_change *changes,
                     size_t count)
{
    size_t operation_i = 0;
    if (record->load != NULL) record->load->is_new = true;
    for (size_t i = 0; i < count; i++) {
        if (record->load != NULL && mly_store_goes_into_load(&changes[i])) {
            record->load->is_new = record->load->is_new && changes[i].is_new;
        } else {
            record->operations[operation_i++].is_new = changes[i].is_new;
        }
    }
}

enum mly_err mly_store_record_make(struct mly_mem *mem, const struct mly_change *changes,
                                   size_t count, uint32_t dim, const struct mly_store_load *load,
                                   struct mly_store_record **out, struct mly_error *err)
{
    struct mly_store_record *record = NULL;
    MLY_TRY(make_empty(mem, &record, err));
    enum mly_err rc = encode(record, changes, count, dim, load, err);
    if (rc == MLY_OK) rc = decode(record, err);
    if (rc != MLY_OK) {
        mly_store_record_release(record);
        return rc;
    }
    note_new(record, changes, count);
    *out = record;
    return MLY_OK;
}

enum mly_err mly_store_record_read(struct mly_mem *mem, const struct mly_log_record *from,
                                   struct mly_store_record **out, struct mly_error *err)
{
    struct mly_store_record *record = NULL;
    MLY_TRY(make_empty(mem, &record, err));
    record->lsn = from->lsn;
    memcpy(record->owner, from->owner, sizeof(record->owner));
    enum mly_err rc =
        mly_bytes_append(&record->payload, from->payload.data, from->payload.bytes, err);
    if (rc == MLY_OK) rc = decode(record, err);
    if (rc != MLY_OK) {
        mly_store_record_release(record);
        return mly_fail_in(err, rc, "record %llu", (unsigned long long)from->lsn);
    }
    *out = record;
    return MLY_OK;
}

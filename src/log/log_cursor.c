/* From record to record of one segment.
 *
 * In: a segment's file, which may be growing. Out: its records, and, where they end, whether that
 * is an end, what a crash left, or damage. How those are told apart stands in docs/FORMAT.md (W-3
 * to W-5): headers never cross a sector, so that a crash leaves them whole or zero; a payload that
 * a crash tore has more zero sectors than its header counts; and a record says up to which one
 * everything was durable when it was written. */
#include "base/limits.h"
#include "log/log_int.h"

#define WINDOW_BYTES ((size_t)64 << 10)
/* Where nothing was found last time: a header right behind the last record, or at the next page. */
#define GLANCE_BYTES (2 * LOG_PAGE_BYTES)

/* ---- the window ---- */

static void forget_window(struct log_cursor *cursor)
{
    cursor->window_bytes = 0;
}

static enum mly_err fill_window(struct log_cursor *cursor, uint64_t offset, size_t bytes,
                                struct mly_error *err)
{
    enum mly_err rc = MLY_ERR_CORRUPT;
    /* Twice: the writer may have cut off what it could not finish. */
    for (int attempt = 0; rc == MLY_ERR_CORRUPT && attempt < 2; attempt++) {
        struct mly_file_info info;
        cursor->window_bytes = 0;
        rc = mly_file_info(&cursor->file, &info, err);
        if (rc != MLY_OK) break;
        uint64_t there = info.bytes > offset ? info.bytes - offset : 0;
        size_t part = there < bytes ? (size_t)there : bytes;
        rc = mly_file_read(&cursor->file, cursor->window, part, offset, err);
        if (rc == MLY_OK) memset(cursor->window + part, 0, bytes - part);
    }
    if (rc != MLY_OK) return mly_fail_in(err, rc, "%s", cursor->name);
    cursor->window_offset = offset;
    return MLY_OK;
}

/* At least bytes from offset, a multiple of 64; zeros where the file ends before. */
static enum mly_err look_at(struct log_cursor *cursor, uint64_t offset, size_t bytes,
                            const uint8_t **out, struct mly_error *err)
{
    bool inside = offset >= cursor->window_offset &&
                  offset - cursor->window_offset <= cursor->window_bytes &&
                  cursor->window_bytes - (offset - cursor->window_offset) >= bytes;
    if (!inside) {
        const size_t least = cursor->is_idle ? GLANCE_BYTES : WINDOW_BYTES;
        size_t wanted = bytes > least ? bytes : least;
        if (wanted > cursor->window_capacity) {
            uint8_t *window = mly_mem_alloc_aligned(cursor->env->mem, wanted);
            if (window == NULL) return mly_fail_nomem(err, wanted);
            mly_mem_free(cursor->env->mem, cursor->window);
            cursor->window = window;
            cursor->window_capacity = wanted;
        }
        MLY_TRY(fill_window(cursor, offset, wanted, err));
        cursor->window_bytes = wanted;
    }
    *out = cursor->window + (offset - cursor->window_offset);
    return MLY_OK;
}

/* ---- open ---- */

enum mly_err mly_log_cursor_open(const struct mly_env *env, mly_crc32c_fn crc, const char *dir,
                                 uint64_t generation, struct log_cursor *out, struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    uint8_t page[LOG_PAGE_BYTES];
    *out = (struct log_cursor){.env = env, .crc = crc, .file = MLY_FILE_CLOSED};
    mly_log_segment_name(generation, out->name);
    MLY_TRY(mly_log_path(dir, out->name, path, err));
    MLY_TRY(mly_file_open(env, MLY_AT_CWD, path, MLY_OPEN_READ, &out->file, err));
    enum mly_err rc = mly_file_read(&out->file, page, sizeof(page), 0, err);
    if (rc != MLY_OK) rc = mly_fail_in(err, rc, "%s", path);
    bool good = rc == MLY_OK && mly_log_get_segment_head(crc, page, &out->head) &&
                out->head.generation == generation;
    if (rc == MLY_OK && !good) {
        rc = mly_fail(err, MLY_ERR_CORRUPT, "%s: the header of the log segment is damaged", path);
    }
    if (rc != MLY_OK) {
        mly_log_cursor_close(out);
        return rc;
    }
    out->offset = LOG_PAGE_BYTES;
    out->next_lsn = out->head.first_lsn;
    out->previous = out->head.sum;
    return MLY_OK;
}

void mly_log_cursor_close(struct log_cursor *cursor)
{
    mly_file_close(&cursor->file);
    mly_mem_free(cursor->env->mem, cursor->window);
    cursor->window = NULL;
    cursor->window_bytes = cursor->window_capacity = 0;
}

enum mly_err mly_log_fail_damaged(const struct log_cursor *cursor, struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "%s: record %llu, at %llu, is damaged", cursor->name,
                    (unsigned long long)cursor->next_lsn, (unsigned long long)cursor->offset);
}

/* ---- records ---- */

/* Is the next record at offset? */
static enum mly_err try_at(struct log_cursor *cursor, uint64_t offset, struct mly_log_record *out,
                           bool *found, struct mly_error *err)
{
    const uint8_t *data = NULL;
    struct log_record_head head;
    *found = false;
    MLY_TRY(look_at(cursor, offset, LOG_HEAD_BYTES, &data, err));
    if (!mly_log_get_record_head(cursor->crc, data, &head)) return MLY_OK;
    if (head.salt != cursor->head.salt || head.offset != offset || head.lsn != cursor->next_lsn ||
        head.previous != cursor->previous) {
        return MLY_OK;
    }
    MLY_TRY(look_at(cursor, offset, (size_t)log_record_bytes(head.payload_bytes), &data, err));
    const uint8_t *payload = data + LOG_HEAD_BYTES;
    if (cursor->crc(0, payload, head.payload_bytes) != head.payload_sum) return MLY_OK;
    *out = (struct mly_log_record){
        .lsn = head.lsn,
        .type = head.type,
        .payload = {(const char *)payload, head.payload_bytes},
        .owner = cursor->head.owner,
    };
    cursor->offset = offset + log_record_bytes(head.payload_bytes);
    cursor->next_lsn++;
    cursor->previous = head.sum;
    *found = true;
    return MLY_OK;
}

enum mly_err mly_log_cursor_next(struct log_cursor *cursor, struct mly_log_record *out, bool *found,
                                 struct mly_error *err)
{
    /* Twice: the window may be older than what was written since. */
    for (bool is_old = true; is_old;) {
        is_old = cursor->window_bytes > 0;
        uint64_t offset = cursor->offset;
        uint64_t page = log_round_up(offset, LOG_PAGE_BYTES);
        MLY_TRY(try_at(cursor, offset, out, found, err));
        if (!*found && page != offset) MLY_TRY(try_at(cursor, page, out, found, err));
        if (*found) {
            cursor->is_idle = false;
            return MLY_OK;
        }
        forget_window(cursor);
    }
    cursor->is_idle = true;
    return MLY_OK;
}

/* ---- where they end ---- */

/* Looks at everything from offset on: where its last byte that is not zero stands, and whether a
 * whole header in it says that the next record was durable. */
static enum mly_err survey(struct log_cursor *cursor, uint64_t offset, bool *proof,
                           struct mly_error *err)
{
    struct mly_file_info info;
    *proof = false;
    cursor->dirty_end = offset;
    cursor->is_idle = false;
    forget_window(cursor);
    MLY_TRY(mly_file_info(&cursor->file, &info, err));
    for (; offset < info.bytes; offset += LOG_PAGE_BYTES) {
        const uint8_t *data = NULL;
        MLY_TRY(look_at(cursor, offset, LOG_PAGE_BYTES, &data, err));
        if (mly_log_is_zero(data, LOG_PAGE_BYTES)) continue;
        for (size_t i = 0; i < LOG_PAGE_BYTES; i += LOG_HEAD_BYTES) {
            struct log_record_head head;
            if (mly_log_is_zero(data + i, LOG_HEAD_BYTES)) continue;
            cursor->dirty_end = offset + i + LOG_HEAD_BYTES;
            if (!mly_log_get_record_head(cursor->crc, data + i, &head)) continue;
            if (head.salt == cursor->head.salt && head.offset == offset + i &&
                head.synced_lsn >= cursor->next_lsn) {
                *proof = true;
            }
        }
    }
    return MLY_OK;
}

enum mly_err mly_log_cursor_has_proof(struct log_cursor *cursor, bool *out, struct mly_error *err)
{
    return survey(cursor, cursor->offset, out, err);
}

/* A record stands at offset, where the next one should: is it torn? */
static enum mly_err judge_payload(struct log_cursor *cursor, uint64_t offset,
                                  const struct log_record_head *head, enum log_find *out,
                                  struct mly_error *err)
{
    const uint8_t *data = NULL;
    size_t bytes = (size_t)log_record_bytes(head->payload_bytes);
    MLY_TRY(look_at(cursor, offset, bytes, &data, err));
    bool torn = mly_log_zero_pieces(data, bytes, offset) > head->zero_pieces;
    *out = torn ? LOG_FIND_TORN : LOG_FIND_DAMAGED;
    return MLY_OK;
}

static bool is_next(const struct log_cursor *cursor, uint64_t offset,
                    const struct log_record_head *head)
{
    return head->salt == cursor->head.salt && head->offset == offset &&
           head->lsn == cursor->next_lsn && head->previous == cursor->previous;
}

/* Something stands right behind the last record: the next one's header, and nothing else. */
static enum mly_err judge_here(struct log_cursor *cursor, enum log_find *out, struct mly_error *err)
{
    const uint8_t *data = NULL;
    struct log_record_head head;
    MLY_TRY(look_at(cursor, cursor->offset, LOG_HEAD_BYTES, &data, err));
    if (mly_log_get_record_head(cursor->crc, data, &head)) {
        *out = LOG_FIND_DAMAGED;
        if (!is_next(cursor, cursor->offset, &head)) return MLY_OK;
        return judge_payload(cursor, cursor->offset, &head, out, err);
    }
    /* Half a header is what a writer leaves that was ended in the midst of a write; then its last
     * field is not there, and neither is anything behind. */
    bool cut_off = mly_log_is_zero(data + LOG_HEAD_BYTES - sizeof(uint32_t), sizeof(uint32_t)) &&
                   cursor->dirty_end <= cursor->offset + LOG_HEAD_BYTES;
    *out = cut_off ? LOG_FIND_TORN : LOG_FIND_DAMAGED;
    return MLY_OK;
}

/* Nothing stands right behind the last record; something does at the page after it. Either the next
 * record begins there, or it began before, and what is left of it is payload. */
static enum mly_err judge_page(struct log_cursor *cursor, uint64_t page, enum log_find *out,
                               struct mly_error *err)
{
    const uint8_t *data = NULL;
    struct log_record_head head;
    MLY_TRY(look_at(cursor, page, LOG_HEAD_BYTES, &data, err));
    if (mly_log_get_record_head(cursor->crc, data, &head)) {
        *out = LOG_FIND_TORN; /* a later one */
        if (!is_next(cursor, page, &head)) return MLY_OK;
        return judge_payload(cursor, page, &head, out, err);
    }
    *out = mly_log_resembles(data, cursor->head.salt, cursor->next_lsn, page) ? LOG_FIND_DAMAGED
                                                                              : LOG_FIND_TORN;
    return MLY_OK;
}

enum mly_err mly_log_cursor_judge(struct log_cursor *cursor, enum log_find *out,
                                  struct mly_error *err)
{
    uint64_t page = log_round_up(cursor->offset, LOG_PAGE_BYTES);
    const uint8_t *data = NULL;
    bool proof;
    MLY_TRY(survey(cursor, cursor->offset, &proof, err));
    if (cursor->dirty_end == cursor->offset) {
        *out = LOG_FIND_END;
        return MLY_OK;
    }
    if (proof) {
        *out = LOG_FIND_DAMAGED;
        return MLY_OK;
    }
    MLY_TRY(look_at(cursor, cursor->offset, LOG_HEAD_BYTES, &data, err));
    if (!mly_log_is_zero(data, LOG_HEAD_BYTES)) {
        return judge_here(cursor, out, err);
    }
    MLY_TRY(look_at(cursor, page, LOG_HEAD_BYTES, &data, err));
    if (!mly_log_is_zero(data, LOG_HEAD_BYTES)) return judge_page(cursor, page, out, err);
    *out = LOG_FIND_TORN; /* its header is not there, what was written with it or later is */
    return MLY_OK;
}

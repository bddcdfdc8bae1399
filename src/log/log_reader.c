/* Reading beside a writer, without a lock.
 *
 * In: a folder that changes. Out: records in order, as far as they are there. What is half written
 * is the end, for now. A segment that ends is left when a newer one has the next record. */
#include "log/log_int.h"

/* Segments come and go while they are looked at. */
#define TRIES 8
/* Clocks of file systems tick that often, at worst: what is younger may have changed unseen. */
#define YOUNG_NS ((int64_t)2000000000)

struct mly_log_reader {
    const struct mly_env *env;
    mly_crc32c_fn crc;
    char *dir;
    bool strict;
    uint64_t from_lsn;
    bool has_cursor, judged;
    struct log_cursor cursor;
    uint64_t limit; /* where the next segment begins, as far as is known */
    struct log_segments segments;
    /* The folder when it had no segment behind that of the generation; 0: not known. */
    struct mly_file_info seen;
    uint64_t seen_generation;
};

enum mly_err mly_log_reader_open(const struct mly_env *env, const char *dir, uint64_t from_lsn,
                                 bool strict, struct mly_log_reader **out, struct mly_error *err)
{
    struct mly_log_reader *reader = mly_mem_array(env->mem, 1, sizeof(*reader));
    if (reader == NULL) return mly_fail_nomem(err, sizeof(*reader));
    size_t bytes = strlen(dir) + 1;
    reader->env = env;
    reader->crc = mly_crc32c_pick();
    reader->strict = strict;
    reader->from_lsn = from_lsn;
    reader->segments.mem = env->mem;
    reader->dir = mly_mem_alloc(env->mem, bytes);
    if (reader->dir == NULL) {
        mly_mem_free(env->mem, reader);
        return mly_fail_nomem(err, bytes);
    }
    memcpy(reader->dir, dir, bytes);
    *out = reader;
    return MLY_OK;
}

enum mly_err mly_log_find_first(const struct mly_env *env, const char *dir, uint64_t *out,
                                struct mly_error *err)
{
    struct log_segments segments = {.mem = env->mem};
    enum mly_err rc = mly_log_list(env, mly_crc32c_pick(), dir, false, &segments, err);
    if (rc == MLY_OK) *out = segments.count == 0 ? 0 : segments.items[0].first_lsn;
    mly_log_segments_deinit(&segments);
    return rc;
}

static void leave_segment(struct mly_log_reader *reader)
{
    if (reader->has_cursor) mly_log_cursor_close(&reader->cursor);
    reader->has_cursor = reader->judged = false;
}

void mly_log_reader_close(struct mly_log_reader *reader)
{
    if (reader == NULL) return;
    leave_segment(reader);
    mly_log_segments_deinit(&reader->segments);
    mly_mem_free(reader->env->mem, reader->dir);
    mly_mem_free(reader->env->mem, reader);
}

static enum mly_err list(struct mly_log_reader *reader, struct mly_error *err)
{
    return mly_log_list(reader->env, reader->crc, reader->dir, false, &reader->segments, err);
}

/* Opens the segment that has the record behind from_lsn. *there false: there is no log. */
static enum mly_err enter_segment(struct mly_log_reader *reader, bool *there, struct mly_error *err)
{
    for (int attempt = 0; attempt < TRIES; attempt++) {
        const struct log_segments *segments = &reader->segments;
        MLY_TRY(list(reader, err));
        *there = segments->count > 0;
        if (!*there) return MLY_OK;
        size_t i = segments->count;
        while (i > 0 && segments->items[i - 1].first_lsn > reader->from_lsn + 1)
            i--;
        if (i == 0) {
            return mly_fail(err, MLY_ERR_CONFLICT, "log %s begins with record %llu, not %llu",
                            reader->dir, (unsigned long long)segments->items[0].first_lsn,
                            (unsigned long long)reader->from_lsn + 1);
        }
        enum mly_err rc =
            mly_log_cursor_open(reader->env, reader->crc, reader->dir,
                                segments->items[i - 1].generation, &reader->cursor, err);
        if (rc == MLY_ERR_NOTFOUND) continue;
        if (rc != MLY_OK) return rc;
        reader->limit = i < segments->count ? segments->items[i].first_lsn : UINT64_MAX;
        reader->has_cursor = true;
        return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_CONFLICT, "log %s changes too fast to be read", reader->dir);
}

/* The folder as it is; *settled: what is done to it from now on shows. */
static bool look_at_folder(const struct mly_log_reader *reader, struct mly_file_info *out,
                           bool *settled)
{
    if (mly_file_info_at(reader->env, MLY_AT_CWD, reader->dir, true, out, NULL) != MLY_OK) {
        return false;
    }
    int64_t age_ns = mly_clock_wall_us(reader->env) * 1000 - out->modified_ns;
    *settled = age_ns >= YOUNG_NS || age_ns <= -YOUNG_NS;
    return true;
}

static bool is_as_seen(const struct mly_log_reader *reader)
{
    struct mly_file_info now = {0};
    bool settled;
    const struct mly_file_info *seen = &reader->seen;
    return reader->seen_generation == reader->cursor.head.generation &&
           look_at_folder(reader, &now, &settled) && now.inode == seen->inode &&
           now.device == seen->device && now.modified_ns == seen->modified_ns;
}

/* The segment made after this one; others may have been retired before we came to them. *there
 * false: there is none. Generations follow each other, so that mostly nothing need be listed. */
static enum mly_err open_next(struct mly_log_reader *reader, struct log_cursor *out, bool *there,
                              struct mly_error *err)
{
    uint64_t generation = reader->cursor.head.generation;
    const struct log_segments *segments = &reader->segments;
    struct mly_file_info before = {0};
    bool settled = false;
    *there = !is_as_seen(reader);
    if (!*there) return MLY_OK;
    if (!look_at_folder(reader, &before, &settled)) settled = false;
    enum mly_err rc =
        mly_log_cursor_open(reader->env, reader->crc, reader->dir, generation + 1, out, err);
    for (int attempt = 0; rc == MLY_ERR_NOTFOUND && attempt < TRIES; attempt++) {
        size_t i = 0;
        MLY_TRY(list(reader, err));
        while (i < segments->count && segments->items[i].generation <= generation)
            i++;
        *there = i < segments->count;
        if (!*there && settled) {
            reader->seen = before;
            reader->seen_generation = generation;
        }
        if (!*there) return MLY_OK;
        rc = mly_log_cursor_open(reader->env, reader->crc, reader->dir,
                                 segments->items[i].generation, out, err);
    }
    return rc;
}

/* What a newer segment says of this one. *moved: look again. */
static enum mly_err look_for_next(struct mly_log_reader *reader, bool *moved, struct mly_error *err)
{
    struct log_cursor *cursor = &reader->cursor;
    struct log_cursor next;
    uint64_t known_limit = reader->limit;
    MLY_TRY(open_next(reader, &next, moved, err));
    if (!*moved) return MLY_OK;
    reader->limit = next.head.first_lsn;
    /* One that begins before what we have read took that over from a file whose sync had failed: it
     * has the same records. */
    if (reader->limit <= cursor->next_lsn || reader->limit - 1 <= reader->from_lsn) {
        leave_segment(reader);
        reader->cursor = next;
        reader->has_cursor = true;
        reader->limit = UINT64_MAX;
        return MLY_OK;
    }
    mly_log_cursor_close(&next);
    /* What came before it must be in this one: written between our two looks, or else damaged. */
    if (known_limit == reader->limit) {
        enum mly_err rc = mly_log_fail_damaged(cursor, err);
        return mly_fail_in(err, rc, "log %s", reader->dir);
    }
    return MLY_OK;
}

/* There is no next record, here or elsewhere: is that as it should be? */
static enum mly_err check_end(struct mly_log_reader *reader, struct mly_log_record *out,
                              bool *found, struct mly_error *err)
{
    struct log_cursor *cursor = &reader->cursor;
    enum log_find find = LOG_FIND_END;
    bool proof = false;
    if (reader->judged && !reader->strict) return MLY_OK;
    reader->judged = true;
    if (reader->strict) {
        MLY_TRY(mly_log_cursor_judge(cursor, &find, err));
        proof = find == LOG_FIND_DAMAGED;
    } else {
        MLY_TRY(mly_log_cursor_has_proof(cursor, &proof, err));
    }
    if (!proof) return MLY_OK;
    /* It may have been written while we looked. */
    MLY_TRY(mly_log_cursor_next(cursor, out, found, err));
    if (*found) return MLY_OK;
    enum mly_err rc = mly_log_fail_damaged(cursor, err);
    return mly_fail_in(err, rc, "log %s", reader->dir);
}

static enum mly_err read_next(struct mly_log_reader *reader, struct mly_log_record *out,
                              bool *found, struct mly_error *err)
{
    *found = false;
    for (;;) {
        bool moved;
        bool there = true;
        if (!reader->has_cursor) MLY_TRY(enter_segment(reader, &there, err));
        if (!there) return MLY_OK;
        if (reader->cursor.next_lsn < reader->limit) {
            MLY_TRY(mly_log_cursor_next(&reader->cursor, out, found, err));
        }
        if (*found) return MLY_OK;
        MLY_TRY(look_for_next(reader, &moved, err));
        if (!moved) return check_end(reader, out, found, err);
    }
}

enum mly_err mly_log_reader_next(struct mly_log_reader *reader, struct mly_log_record *out,
                                 bool *found, struct mly_error *err)
{
    do {
        MLY_TRY(read_next(reader, out, found, err));
    } while (*found && out->lsn <= reader->from_lsn);
    if (*found) reader->from_lsn = out->lsn;
    return MLY_OK;
}

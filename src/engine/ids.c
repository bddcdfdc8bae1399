/* Identity (DESIGN 3): documents are the caller's or UUIDv7; chunks are UUIDv8 of what they are, so
 * that an edit keeps the ids and vectors of all chunks that did not change. */
#include "engine/engine_int.h"

#include "base/limits.h"
#include "base/utf8.h"

#include <string.h>

enum mly_err mly_check_document_id(struct mly_str id, struct mly_error *err)
{
    if (id.bytes == 0 || id.bytes > MLY_ID_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "document id has %zu bytes, it must have 1 to %zu",
                        id.bytes, (size_t)MLY_ID_BYTES_MAX);
    }
    size_t bad = mly_utf8_check(id);
    if (bad < id.bytes) {
        return mly_fail(err, MLY_ERR_INVAL, "document id is not UTF-8: byte 0x%02x at offset %zu",
                        (unsigned char)id.data[bad], bad);
    }
    return MLY_OK;
}

static enum mly_err keep_id(struct mly_str id, struct mly_arena *arena, struct mly_str *out,
                            struct mly_error *err)
{
    struct mly_str copy = mly_arena_copy(arena, id);
    if (copy.data == NULL) return mly_fail_nomem(err, id.bytes + 1);
    *out = copy;
    return MLY_OK;
}

enum mly_err mly_choose_document_id(const struct mly_env *env, struct mly_str wanted,
                                    struct mly_arena *arena, struct mly_str *out,
                                    struct mly_error *err)
{
    char made[37];
    if (wanted.data != NULL) {
        MLY_TRY(mly_check_document_id(wanted, err));
    } else {
        MLY_TRY(mly_uuid7(env, made, err));
        wanted = (struct mly_str){made, 36};
    }
    return keep_id(wanted, arena, out, err);
}

enum mly_err mly_make_document_id(const struct mly_env *env, struct mly_uuid_source *source,
                                  struct mly_arena *arena, struct mly_str *out,
                                  struct mly_error *err)
{
    char made[37];
    MLY_TRY(mly_uuid7_next(env, source, made, err));
    return keep_id((struct mly_str){made, 36}, arena, out, err);
}

/* A slot of the table that counts repetitions: which content, how often so far. */
struct seen {
    uint8_t key[16];
    uint64_t count; /* 0: free */
};

static uint64_t repetition_of(struct seen *table, size_t mask, const struct mly_hash *hash)
{
    uint64_t at;
    memcpy(&at, hash->bytes, sizeof(at));
    size_t slot_i = (size_t)at & mask;
    while (table[slot_i].count > 0 && memcmp(table[slot_i].key, hash->bytes, 16) != 0) {
        slot_i = (slot_i + 1) & mask;
    }
    memcpy(table[slot_i].key, hash->bytes, 16);
    return table[slot_i].count++;
}

enum mly_err mly_make_chunk_ids(struct mly_mem *mem, struct mly_str document_id,
                                struct mly_chunk_row *rows, size_t count, struct mly_error *err)
{
    if (count == 1) { /* it cannot come again */
        const struct mly_str parts[3] = {document_id, rows[0].heading, rows[0].content};
        struct mly_hash hash = mly_hash_parts(parts, 3);
        mly_uuid8(hash.bytes, rows[0].id);
        return MLY_OK;
    }
    size_t slots = 16;
    while (slots < count * 2) {
        slots *= 2;
    }
    struct seen *table = mly_mem_array(mem, slots, sizeof(table[0]));
    if (table == NULL) return mly_fail_nomem(err, slots * sizeof(table[0]));
    for (size_t i = 0; i < count; i++) {
        struct mly_str parts[4] = {document_id, rows[i].heading, rows[i].content, MLY_STR_NULL};
        struct mly_hash hash = mly_hash_parts(parts, 3);
        uint64_t repetition = repetition_of(table, slots - 1, &hash);
        if (repetition > 0) {
            uint8_t le[8];
            for (int b = 0; b < 8; b++) {
                le[b] = (uint8_t)(repetition >> (8 * b));
            }
            parts[3] = (struct mly_str){(const char *)le, sizeof(le)};
            hash = mly_hash_parts(parts, 4);
        }
        mly_uuid8(hash.bytes, rows[i].id);
    }
    mly_mem_free(mem, table);
    return MLY_OK;
}

void mly_give_id(struct memalloy_id *out, struct mly_str id)
{
    if (out == NULL) return;
    out->bytes = id.bytes <= MLY_ID_BYTES_MAX ? id.bytes : MLY_ID_BYTES_MAX;
    memcpy(out->text, id.data, out->bytes);
    out->text[out->bytes] = '\0';
}

enum mly_err mly_show_path(struct mly_str raw, struct mly_arena *arena, struct mly_document *out,
                           struct mly_error *err)
{
    struct mly_str copy = mly_arena_copy(arena, raw);
    if (copy.data == NULL) return mly_fail_nomem(err, raw.bytes + 1);
    if (mly_utf8_check(copy) == copy.bytes) {
        out->path = copy;
        out->path_raw = MLY_STR_NULL;
        return MLY_OK;
    }
    char *shown = mly_arena_take(arena, raw.bytes * 4 + 1);
    if (shown == NULL) return mly_fail_nomem(err, raw.bytes * 4 + 1);
    size_t at = 0;
    size_t i = 0;
    while (i < raw.bytes) {
        struct mly_str rest = mly_str_slice(raw, i, raw.bytes);
        size_t good = mly_utf8_check(rest);
        memcpy(shown + at, rest.data, good);
        at += good;
        i += good;
        if (i == raw.bytes) break;
        static const char digits[] = "0123456789abcdef";
        unsigned char byte = (unsigned char)raw.data[i++];
        shown[at++] = '\\';
        shown[at++] = 'x';
        shown[at++] = digits[byte >> 4];
        shown[at++] = digits[byte & 15];
    }
    shown[at] = '\0';
    out->path = (struct mly_str){shown, at};
    out->path_raw = copy;
    return MLY_OK;
}

/* _memalloy/store.json: what the manifests say, for people to look at.
 *
 * In: the newest manifests. Out: a file that nothing reads. It is written aside and renamed, so
 * that there is always a whole one; where that fails, nothing is lost. */
#include "store/store_state_int.h"

#include <stdio.h>

#define JSON_BYTES_MAX ((size_t)65536)

static enum mly_err append_text(struct mly_bytes *out, const char *text)
{
    return mly_bytes_append(out, text, strlen(text), NULL);
}

/* "text" with what JSON wants escaped; null for a null. */
static enum mly_err append_string(struct mly_bytes *out, struct mly_str text)
{
    if (text.data == NULL) return append_text(out, "null");
    MLY_TRY(append_text(out, "\""));
    for (size_t i = 0; i < text.bytes; i++) {
        unsigned char c = (unsigned char)text.data[i];
        char escaped[8];
        if (c == '"' || c == '\\' || c < 0x20) {
            snprintf(escaped, sizeof(escaped), "\\u%04x", c);
            MLY_TRY(append_text(out, escaped));
        } else {
            MLY_TRY(mly_bytes_append(out, &c, 1, NULL));
        }
    }
    return append_text(out, "\"");
}

static enum mly_err append_table(struct mly_bytes *out, const char *name,
                                 const struct mly_store_view *view)
{
    const struct {
        const char *name;
        struct mly_str key;
    } keys[] = {
        {"format", MLY_KEY_FORMAT},
        {"table", MLY_KEY_TABLE},
        {"model_id", MLY_KEY_MODEL_ID},
        {"model_hash", MLY_KEY_MODEL_HASH},
        {"model_pooling", MLY_KEY_MODEL_POOLING},
        {"model_quantisation", MLY_KEY_MODEL_QUANTISATION},
        {"dim", MLY_KEY_DIM},
        {"metric", MLY_KEY_METRIC},
    };
    MLY_TRY(append_text(out, "  \""));
    MLY_TRY(append_text(out, name));
    MLY_TRY(append_text(out, "\": {"));
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        MLY_TRY(append_text(out, i == 0 ? "\"" : ", \""));
        MLY_TRY(append_text(out, keys[i].name));
        MLY_TRY(append_text(out, "\": "));
        MLY_TRY(append_string(out, mly_store_view_config(view, keys[i].key)));
    }
    return append_text(out, "}");
}

static enum mly_err append_all(struct mly_bytes *out, const struct mly_store_view *documents,
                               const struct mly_store_view *chunks)
{
    MLY_TRY(append_text(out, "{\n"));
    MLY_TRY(append_table(out, "documents", documents));
    MLY_TRY(append_text(out, ",\n"));
    MLY_TRY(append_table(out, "chunks", chunks));
    return append_text(out, "\n}\n");
}

static enum mly_err replace_file(struct mly_store *store, const struct mly_bytes *text)
{
    enum mly_err rc = MLY_ERR_NOMEM;
    char *temporary = mly_store_join(store->mem, store->path, "_memalloy/store.json.tmp");
    char *path = mly_store_join(store->mem, store->path, "_memalloy/store.json");
    if (temporary == NULL || path == NULL) goto done;
    /* Only the holder of the lock comes here: one that is there is a crash's. */
    rc = mly_file_unlink(store->env, MLY_AT_CWD, temporary, NULL);
    if (rc != MLY_OK) goto done;
    rc = mly_file_create(store->env, MLY_AT_CWD, temporary, text->data, text->bytes, NULL);
    if (rc != MLY_OK) goto done;
    rc = mly_file_rename(store->env, MLY_AT_CWD, temporary, path, NULL);
done:
    mly_mem_free(store->mem, temporary);
    mly_mem_free(store->mem, path);
    return rc;
}

void mly_store_write_json(struct mly_store *store)
{
    struct mly_bytes text;
    mly_bytes_init(&text, store->mem, JSON_BYTES_MAX);
    mly_mutex_lock(&store->mutex);
    struct mly_store_view *documents =
        mly_store_view_retain(store->tables[MLY_STORE_DOCUMENTS].newest);
    struct mly_store_view *chunks = mly_store_view_retain(store->tables[MLY_STORE_CHUNKS].newest);
    mly_mutex_unlock(&store->mutex);
    enum mly_err rc = append_all(&text, documents, chunks);
    if (rc == MLY_OK) rc = replace_file(store, &text);
    (void)rc; /* Nothing reads it. */
    mly_store_view_release(documents);
    mly_store_view_release(chunks);
    mly_bytes_deinit(&text);
}

/* Strings and files become texts: checked UTF-8 and its hash. A file is looked at before and after
 * it is read, through its descriptor, so that text and stamp belong together. */
#include "source/source.h"

#include "base/bytes.h"
#include "base/limits.h"
#include "base/utf8.h"

#include <inttypes.h>

/* A NUL in these first bytes makes a file binary, as git and grep have it. */
#define BINARY_HEAD_BYTES ((size_t)8192)
#define READS_MAX 3

static enum mly_err check_utf8(struct mly_str text, size_t bytes_before, struct mly_error *err)
{
    size_t at = mly_utf8_check(text);
    if (at == text.bytes) return MLY_OK;
    return mly_fail(err, MLY_ERR_PARSE, "not UTF-8: byte 0x%02x at offset %zu",
                    (unsigned)(unsigned char)text.data[at], bytes_before + at);
}

enum mly_err mly_source_from_string(struct mly_str text, struct mly_text *out,
                                    struct mly_error *err)
{
    if (text.data == NULL) text = MLY_STR("");
    if (text.bytes > MLY_DOCUMENT_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "text of %zu bytes, limit is %zu", text.bytes,
                        MLY_DOCUMENT_BYTES_MAX);
    }
    MLY_TRY(check_utf8(text, 0, err));
    *out = (struct mly_text){.text = text, .hash = mly_hash_bytes(text)};
    return MLY_OK;
}

void mly_text_deinit(struct mly_text *text)
{
    if (text->buffer != NULL) mly_mem_free(text->mem, text->buffer);
    *text = (struct mly_text){.text = MLY_STR_NULL};
}

struct mly_file_stamp mly_source_stamp(const struct mly_file_info *info)
{
    return (struct mly_file_stamp){.device = (int64_t)info->device,
                                   .inode = (int64_t)info->inode,
                                   .byte_count = (int64_t)info->bytes,
                                   .modified_ns = info->modified_ns,
                                   .changed_ns = info->changed_ns};
}

static bool same_stamp(const struct mly_file_stamp *a, const struct mly_file_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->byte_count == b->byte_count &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

/* Opens path below dir_fd one name at a time: a link in the place of a folder is an error then,
 * even if it was put there a moment ago. */
static enum mly_err open_below(const struct mly_env *env, int dir_fd, const char *path,
                               struct mly_file *out, struct mly_error *err)
{
    struct mly_file folder = MLY_FILE_CLOSED;
    enum mly_err rc = MLY_OK;
    const char *rest = path;
    for (;;) {
        size_t bytes = strcspn(rest, "/");
        char name[256]; /* NAME_MAX is 255 on every file system of Linux */
        if (bytes == 0 || bytes >= sizeof(name) || (bytes == 1 && rest[0] == '.') ||
            (bytes == 2 && rest[0] == '.' && rest[1] == '.')) {
            rc = mly_fail(err, MLY_ERR_INVAL, "path %s is not one below a folder", path);
            break;
        }
        memcpy(name, rest, bytes);
        name[bytes] = '\0';
        bool last = rest[bytes] == '\0';
        struct mly_file next = MLY_FILE_CLOSED;
        rc = mly_file_open(env, folder.fd >= 0 ? folder.fd : dir_fd, name,
                           MLY_OPEN_READ | (last ? MLY_OPEN_NONBLOCK : MLY_OPEN_DIR), &next, err);
        mly_file_close(&folder);
        if (rc != MLY_OK) break;
        if (last) {
            *out = next;
            return MLY_OK;
        }
        folder = next;
        rest += bytes + 1;
    }
    mly_file_close(&folder);
    return rc;
}

static enum mly_err check_kind(const struct mly_file_info *info, uint64_t bytes_max,
                               struct mly_error *err)
{
    if (info->kind == MLY_KIND_DIR) return mly_fail(err, MLY_ERR_PARSE, "a folder, not a file");
    if (info->kind != MLY_KIND_FILE) return mly_fail(err, MLY_ERR_PARSE, "not a regular file");
    if (info->bytes > bytes_max) {
        return mly_fail(err, MLY_ERR_LIMIT, "file of %" PRIu64 " bytes, limit is %" PRIu64,
                        info->bytes, bytes_max);
    }
    return MLY_OK;
}

static enum mly_err check_binary(const void *head, size_t bytes, struct mly_error *err)
{
    const char *nul = memchr(head, '\0', bytes);
    if (nul == NULL) return MLY_OK;
    return mly_fail(err, MLY_ERR_PARSE, "binary: byte 0x00 at offset %zu",
                    (size_t)(nul - (const char *)head));
}

/* One reading. *changed is set where the file did not stay as it was; the error, if any, may then
 * be of that. */
static enum mly_err read_once(const struct mly_file *file, uint64_t bytes_max,
                              struct mly_bytes *buffer, struct mly_file_stamp *stamp, bool *changed,
                              struct mly_error *err)
{
    struct mly_file_info info;
    *changed = false;
    MLY_TRY(mly_file_info(file, &info, err));
    MLY_TRY(check_kind(&info, bytes_max, err));
    *stamp = mly_source_stamp(&info);
    unsigned char head[BINARY_HEAD_BYTES];
    size_t head_bytes = info.bytes < sizeof(head) ? (size_t)info.bytes : sizeof(head);
    buffer->bytes = 0;
    enum mly_err rc = mly_file_read(file, head, head_bytes, 0, err);
    if (rc == MLY_ERR_CORRUPT) { /* Shorter than it says: it changes, or is one of /sys. */
        head_bytes = 0;
        rc = MLY_OK;
    }
    /* Before the rest is read: a folder of pictures costs 8 KiB each. */
    if (rc == MLY_OK) rc = check_binary(head, head_bytes, err);
    if (rc == MLY_OK) rc = mly_file_read_all(file, buffer, err);
    if (rc != MLY_OK && rc != MLY_ERR_LIMIT && rc != MLY_ERR_PARSE) return rc;
    struct mly_error other = {0};
    enum mly_err look = mly_file_info(file, &info, &other);
    if (look != MLY_OK) {
        if (rc == MLY_OK && err != NULL) *err = other;
        return rc == MLY_OK ? look : rc;
    }
    struct mly_file_stamp after = mly_source_stamp(&info);
    *changed = !same_stamp(stamp, &after);
    return rc;
}

static enum mly_err read_steady(const struct mly_file *file, uint64_t bytes_max,
                                struct mly_bytes *buffer, struct mly_file_stamp *stamp,
                                struct mly_error *err)
{
    for (int i = 0; i < READS_MAX; i++) {
        bool changed;
        enum mly_err rc = read_once(file, bytes_max, buffer, stamp, &changed, err);
        if (!changed) return rc;
    }
    return mly_fail(err, MLY_ERR_CONFLICT, "the file changed while it was read, %d times",
                    READS_MAX);
}

/* Moves buffer's bytes into out. */
static enum mly_err make_text(struct mly_bytes *buffer, struct mly_text *out, struct mly_error *err)
{
    struct mly_str text = mly_bytes_view(buffer);
    /* Files whose size the system gives as 0 (those of /proc) show their head only now. */
    size_t head_bytes = text.bytes < BINARY_HEAD_BYTES ? text.bytes : BINARY_HEAD_BYTES;
    MLY_TRY(check_binary(text.data, head_bytes, err));
    size_t before = mly_str_starts_with(text, MLY_STR("\xEF\xBB\xBF")) ? 3 : 0;
    text = mly_str_slice(text, before, text.bytes);
    MLY_TRY(check_utf8(text, before, err));
    *out = (struct mly_text){.mem = buffer->mem,
                             .buffer = buffer->data,
                             .text = text,
                             .bytes_before = before,
                             .hash = mly_hash_bytes(text)};
    buffer->data = NULL; /* Moved. */
    return MLY_OK;
}

enum mly_err mly_source_from_file(const struct mly_env *env, int dir_fd, const char *path,
                                  uint64_t bytes_max, struct mly_text *out,
                                  struct mly_file_stamp *stamp, struct mly_error *err)
{
    if (bytes_max == 0) bytes_max = MLY_FILE_BYTES_MAX;
    if (bytes_max > MLY_DOCUMENT_BYTES_MAX) bytes_max = MLY_DOCUMENT_BYTES_MAX;
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_file_stamp seen;
    struct mly_bytes buffer;
    mly_bytes_init(&buffer, env->mem, (size_t)bytes_max + 1);
    enum mly_err rc;
    if (dir_fd == MLY_AT_CWD) {
        rc = mly_file_open(env, dir_fd, path, MLY_OPEN_READ | MLY_OPEN_NONBLOCK | MLY_OPEN_FOLLOW,
                           &file, err);
    } else {
        rc = open_below(env, dir_fd, path, &file, err);
    }
    if (rc != MLY_OK) goto done;
    rc = read_steady(&file, bytes_max, &buffer, &seen, err);
    if (rc != MLY_OK) goto done;
    if (buffer.bytes > bytes_max) {
        rc = mly_fail(err, MLY_ERR_LIMIT, "file of more than %" PRIu64 " bytes, limit is %" PRIu64,
                      bytes_max, bytes_max);
        goto done;
    }
    rc = make_text(&buffer, out, err);
    if (rc != MLY_OK) goto done;
    *stamp = seen;
done:
    mly_bytes_deinit(&buffer);
    mly_file_close(&file);
    return rc;
}

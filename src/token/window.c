/* See window.h. */
#include "token/window.h"

#include "base/utf8.h"

#define PAD 16u

void mly_window_init(struct mly_window *window, struct mly_mem *mem)
{
    *window = (struct mly_window){.mem = mem};
}

void mly_window_deinit(struct mly_window *window)
{
    mly_mem_free(window->mem, window->bytes_block);
    mly_mem_free(window->mem, window->starts_block);
    mly_mem_free(window->mem, window->ends_block);
    *window = (struct mly_window){.mem = window->mem};
}

enum mly_err mly_window_reserve(struct mly_window *window, size_t more, struct mly_error *err)
{
    if (window->capacity - window->count >= more) return MLY_OK;
    size_t capacity = 0, bytes = 0;
    const bool ok = mly_size_add(window->count + window->capacity / 2, more, &capacity) &&
                    mly_size_add(capacity, 4096, &capacity) &&
                    mly_size_mul(capacity + PAD, sizeof(uint32_t), &bytes);
    if (!ok) return mly_fail_nomem(err, SIZE_MAX);
    uint8_t *block = mly_mem_realloc(window->mem, window->bytes_block, capacity + PAD);
    if (block == NULL) return mly_fail_nomem(err, capacity + PAD);
    window->bytes_block = block;
    window->bytes = block + PAD;
    uint32_t *starts = mly_mem_realloc(window->mem, window->starts_block, bytes);
    if (starts == NULL) return mly_fail_nomem(err, bytes);
    window->starts_block = starts;
    window->starts = starts + PAD;
    uint32_t *ends = mly_mem_realloc(window->mem, window->ends_block, bytes);
    if (ends == NULL) return mly_fail_nomem(err, bytes);
    window->ends_block = ends;
    window->ends = ends + PAD;
    window->capacity = capacity;
    return MLY_OK;
}

enum mly_err mly_window_load(struct mly_window *window, struct mly_str text, size_t from, size_t to,
                             struct mly_error *err)
{
    window->count = 0;
    MLY_TRY(mly_window_reserve(window, to - from + 1, err));
    memcpy(window->bytes, text.data + from, to - from);
    window->count = to - from;
    window->base = from;
    window->same = true;
    uint8_t *nul = memchr(window->bytes, 0, window->count);
    while (nul != NULL) {
        *nul++ = MLY_BYTE_NUL;
        nul = memchr(nul, 0, window->count - (size_t)(nul - window->bytes));
    }
    return MLY_OK;
}

uint32_t mly_window_decode_wide(const uint8_t *p, size_t left, size_t *taken)
{
    uint32_t code_point = 0xFFFD;
    *taken = 1;
    if (p[0] == MLY_BYTE_NUL) return 0;
    if (p[0] == MLY_BYTE_MARK) return MLY_MARK_POINT;
    if (p[0] >= 0xC2 && p[0] < 0xE0 && left >= 2) {
        *taken = 2;
        code_point = (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    } else if (p[0] >= 0xE0 && p[0] < 0xF0 && left >= 3) {
        *taken = 3;
        code_point = (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    } else if (p[0] >= 0xF0 && p[0] < 0xF5 && left >= 4) {
        *taken = 4;
        code_point =
            (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
    }
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) return 0xFFFD;
    return code_point < 0x80 && *taken > 1 ? 0xFFFD : code_point;
}

void mly_window_put(struct mly_window *window, uint32_t code_point, uint32_t start, uint32_t end)
{
    const size_t at = window->count;
    size_t bytes = 1;
    if (code_point - 1 < 0x7F) {
        window->bytes[at] = (uint8_t)code_point;
    } else if (code_point == 0) {
        window->bytes[at] = MLY_BYTE_NUL;
    } else {
        bytes = mly_utf8_encode(code_point, (char *)window->bytes + at);
    }
    for (size_t i = 0; i < bytes; i++) {
        window->starts[at + i] = start;
        window->ends[at + i] = end;
    }
    window->count = at + bytes;
}

/* A stretch of text while it is normalised: its bytes, and which bytes of the text each came from.
 *
 * Bytes    UTF-8, but that NUL is 0xFF (as in the cells, where 0 marks what is empty) and that a
 *          U+2581 that is about to become a space is 0xFE: both never occur in UTF-8.
 * Same     as long as nothing but ASCII was exchanged for ASCII, byte i is byte base + i of the
 *          text, and there are no spans to carry.
 * Owns     its arrays, mly_window_deinit frees them. Before each there is room for 16 items.
 */
#ifndef MLY_TOKEN_WINDOW_H
#define MLY_TOKEN_WINDOW_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define MLY_BYTE_NUL 0xFFu
#define MLY_BYTE_MARK 0xFEu /* U+2581 */
#define MLY_MARK_POINT 0x2581u

struct mly_window {
    struct mly_mem *mem;
    uint8_t *bytes_block; /* bytes - 16, and so on */
    uint32_t *starts_block, *ends_block;
    uint8_t *bytes;
    uint32_t *starts, *ends; /* in the text, of each byte's character; unless same */
    size_t count, capacity;
    size_t base;
    bool same;
};

void mly_window_init(struct mly_window *window, struct mly_mem *mem);
void mly_window_deinit(struct mly_window *window);
/* Room for more bytes behind those that are there. */
MLY_MUST_USE enum mly_err mly_window_reserve(struct mly_window *window, size_t more,
                                             struct mly_error *err);
/* text[from:to] as it stands. */
MLY_MUST_USE enum mly_err mly_window_load(struct mly_window *window, struct mly_str text,
                                          size_t from, size_t to, struct mly_error *err);
/* Never reads behind the end; bytes that are not UTF-8 are U+FFFD, one by one. */
uint32_t mly_window_decode_wide(const uint8_t *bytes, size_t left, size_t *taken);

static inline uint32_t mly_window_decode(const uint8_t *bytes, size_t left, size_t *taken)
{
    if (bytes[0] < 0x80) {
        *taken = 1;
        return bytes[0];
    }
    return mly_window_decode_wide(bytes, left, taken);
}

static inline uint32_t mly_window_start(const struct mly_window *window, size_t i)
{
    return window->same ? (uint32_t)(window->base + i) : window->starts[i];
}

static inline uint32_t mly_window_end(const struct mly_window *window, size_t i)
{
    return window->same ? (uint32_t)(window->base + i + 1) : window->ends[i];
}

/* One character, for which there must be room (4 bytes). */
void mly_window_put(struct mly_window *window, uint32_t code_point, uint32_t start, uint32_t end);

#endif

/* The fake meter, the texts, and the check of chunk.h's rules. */
#include "chunk_cases.h"

#include "base/limits.h"
#include "base/utf8.h"

#include "mly_cmocka.h"

#include <stdio.h>
#include <string.h>

static int push_piece(struct mly_tokens *out, size_t start, size_t end, struct mly_error *err)
{
    if (out->count == out->capacity) {
        size_t capacity = out->capacity == 0 ? 64 : out->capacity * 2;
        void *items = mly_mem_realloc(out->mem, out->items, capacity * sizeof(out->items[0]));
        if (items == NULL) return (int)mly_fail_nomem(err, capacity * sizeof(out->items[0]));
        out->items = items;
        out->capacity = capacity;
    }
    out->items[out->count++] = (struct mly_token){1, (uint32_t)start, (uint32_t)end};
    return MLY_OK;
}

static bool is_word_letter(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c >= 0x80 && c < 0x2E80 && c != 0xA0);
}

static int measure_word(struct mly_str text, size_t *at, struct mly_tokens *out,
                        struct mly_error *err)
{
    size_t starts[26];
    size_t start = *at;
    size_t points = 0;
    while (*at < text.bytes) {
        size_t bytes;
        if (!is_word_letter(mly_utf8_decode(text, *at, &bytes))) break;
        if (points < 101 && points % 4 == 0) starts[points / 4] = *at;
        *at += bytes;
        points++;
    }
    if (points > 100) return push_piece(out, start, *at, err);
    for (size_t i = 0; i * 4 < points; i++) {
        size_t end = (i + 1) * 4 < points ? starts[i + 1] : *at;
        if (push_piece(out, starts[i], end, err) != MLY_OK) return MLY_ERR_NOMEM;
    }
    return MLY_OK;
}

static int fake_measure(void *context, struct mly_str text, struct mly_tokens *out,
                        struct mly_error *err)
{
    (void)context;
    out->count = 0;
    size_t at = 0;
    while (at < text.bytes) {
        size_t bytes;
        uint32_t c = mly_utf8_decode(text, at, &bytes);
        if (is_word_letter(c)) {
            if (measure_word(text, &at, out, err) != MLY_OK) return MLY_ERR_NOMEM;
            continue;
        }
        bool space = c <= ' ' || c == 0xA0 || c == 0x3000;
        if (!space && push_piece(out, at, at + bytes, err) != MLY_OK) return MLY_ERR_NOMEM;
        at += bytes;
    }
    return MLY_OK;
}

struct mly_meter fake_meter(size_t pieces_max)
{
    return (struct mly_meter){.measure = fake_measure, .pieces_max = pieces_max};
}

size_t fake_count(struct mly_str text)
{
    static struct mly_mem mem = MLY_MEM_INIT;
    struct mly_tokens tokens = {.mem = &mem};
    assert_int_equal(fake_measure(NULL, text, &tokens, NULL), MLY_OK);
    size_t count = tokens.count;
    mly_mem_free(&mem, tokens.items);
    return count;
}

static size_t line_of(struct mly_str text, size_t at)
{
    size_t line = 1;
    for (size_t i = 0; i < at; i++) {
        line += text.data[i] == '\n';
    }
    return line;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void check_lines(struct mly_str text, const struct mly_chunk *chunk)
{
    assert_int_equal(chunk->line_start, line_of(text, chunk->byte_start));
    size_t end = chunk->byte_end;
    while (end > chunk->byte_start && is_blank(text.data[end - 1])) {
        end--;
    }
    if (end == chunk->byte_start) end = chunk->byte_end;
    assert_int_equal(chunk->line_end, line_of(text, end - 1));
    assert_true(chunk->line_end >= chunk->line_start);
}

static void check_size(struct mly_str content, enum memalloy_chunking_kind kind, size_t size,
                       bool metered)
{
    bool pieces = kind == MEMALLOY_CHUNKING_HEADING || kind == MEMALLOY_CHUNKING_TOKEN;
    if (pieces) {
        assert_true(fake_count(content) <= size || mly_utf8_count(content) == 1);
        assert_true(content.bytes <= MLY_CHUNK_BYTES_MAX);
    } else {
        assert_true(mly_utf8_count(content) <= size);
    }
    if (metered) assert_true(fake_count(content) <= 254);
}

void split_and_check(struct mly_mem *mem, struct mly_str text, enum memalloy_chunking_kind kind,
                     int64_t size, int64_t overlap, bool metered, struct mly_chunks *out)
{
    struct mly_chunking chunking = {kind, size, overlap};
    struct mly_error err = {0};
    assert_int_equal(mly_chunking_resolve(&chunking, &err), MLY_OK);
    struct mly_meter meter = fake_meter(254);
    assert_int_equal(mly_chunk_split(mem, text, &chunking, metered ? &meter : NULL, out, &err),
                     MLY_OK);
    size_t covered = 0;
    size_t last_start = 0;
    for (size_t i = 0; i < out->count; i++) {
        const struct mly_chunk *chunk = &out->items[i];
        assert_true(chunk->byte_start <= covered);
        assert_true(chunk->byte_end > covered && chunk->byte_end <= text.bytes);
        assert_true(i == 0 ? chunk->byte_start == 0 : chunk->byte_start > last_start);
        assert_true(chunk->byte_end == text.bytes || mly_utf8_is_start(text.data[chunk->byte_end]));
        assert_true(mly_utf8_is_start(text.data[chunk->byte_start]));
        struct mly_str content = mly_str_slice(text, chunk->byte_start, chunk->byte_end);
        assert_int_equal(mly_utf8_check(content), content.bytes);
        check_size(content, kind, (size_t)chunking.size, metered);
        struct mly_str repeated = mly_str_slice(text, chunk->byte_start, covered);
        bool pieces = kind == MEMALLOY_CHUNKING_HEADING || kind == MEMALLOY_CHUNKING_TOKEN;
        size_t units = pieces ? fake_count(repeated) : mly_utf8_count(repeated);
        assert_true(units <= (size_t)chunking.overlap);
        if (text.bytes < 100000) check_lines(text, chunk);
        covered = chunk->byte_end;
        last_start = chunk->byte_start;
    }
    assert_int_equal(covered, text.bytes);
}

uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

struct mly_str random_text(struct mly_mem *mem, uint64_t seed, size_t bytes)
{
    static const char *const parts[] = {
        " ",
        " ",
        " ",
        " ",
        " ",
        ". ",
        "! ",
        "? ",
        "\n",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        "\t",
        ", ",
        "a",
        "of",
        "word",
        "Another",
        "internationalisation",
        "e.g. ",
        "3.14",
        "\n# Head\n\n",
        "\n## Two\n",
        "\n```\n",
        "\n- item",
        "\xE4\xB8\xAD\xE6\x96\x87",
        "\xE3\x80\x82",
        "\xE3\x80\x8C\xE3\x81\x82\xE3\x80\x8D",
        "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",
        "e\xCC\x81",
        "\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA",
        "\xC3\xA9",
        "-----",
        "/",
        "(x)",
        "\"q\"",
        "\xE3\x80\x80",
        "            ",
        "=====\n",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    };
    size_t part_count = sizeof(parts) / sizeof(parts[0]);
    char *data = mly_mem_alloc(mem, bytes + 64);
    assert_non_null(data);
    size_t at = 0;
    /* Some texts have no blanks at all, some only a few kinds of part. */
    size_t first = next_random(&seed) % 3 == 0 ? 14 : 0;
    size_t used = 1 + next_random(&seed) % (part_count - first);
    while (at < bytes) {
        const char *part = parts[first + next_random(&seed) % used];
        memcpy(data + at, part, strlen(part));
        at += strlen(part);
    }
    return (struct mly_str){data, at};
}

struct mly_str repeat_text(struct mly_mem *mem, const char *part, size_t bytes)
{
    size_t part_bytes = strlen(part);
    char *data = mly_mem_alloc(mem, bytes + part_bytes);
    assert_non_null(data);
    size_t at = 0;
    while (at < bytes) {
        memcpy(data + at, part, part_bytes);
        at += part_bytes;
    }
    return (struct mly_str){data, at};
}

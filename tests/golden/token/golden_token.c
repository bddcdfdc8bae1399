/* Compares word piece ids with those of HF tokenizers, string by string.
 *
 * usage: golden_token TOKENIZER FILE...
 * FILE is JSON lines: {"text": "...", "ids": [...]}, ids without special tokens, not truncated, and
 * perhaps "spans". Spans are checked too: within the text, in order, on borders of characters.
 * Prints every difference (the first ten of a file in full) and a line of counts; exit 0 if there
 * was none. */
#define _POSIX_C_SOURCE 200809L /* getline */

#include "base/mem.h"
#include "base/utf8.h"
#include "token/token.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_MAX 10

struct tally {
    size_t strings, pieces, differences;
};

static bool spans_hold(struct mly_str text, const struct mly_tokens *tokens)
{
    uint32_t start = 0, end = 0;
    for (size_t i = 0; i < tokens->count; i++) {
        const struct mly_token *token = &tokens->items[i];
        if (token->byte_start < start || token->byte_end < end) return false;
        if (token->byte_start >= token->byte_end || token->byte_end > text.bytes) return false;
        if (!mly_utf8_is_start(text.data[token->byte_start])) return false;
        if (token->byte_end < text.bytes && !mly_utf8_is_start(text.data[token->byte_end])) {
            return false;
        }
        start = token->byte_start;
        end = token->byte_end;
    }
    return true;
}

static bool ids_equal(const json_t *ids, const struct mly_tokens *tokens)
{
    if (json_array_size(ids) != tokens->count) return false;
    for (size_t i = 0; i < tokens->count; i++) {
        if (json_integer_value(json_array_get(ids, i)) != tokens->items[i].id) return false;
    }
    return true;
}

/* spans: pairs of byte offsets, or NULL. */
static bool spans_equal(const json_t *spans, const struct mly_tokens *tokens)
{
    bool equal = spans == NULL || json_array_size(spans) == tokens->count;
    for (size_t i = 0; spans != NULL && equal && i < tokens->count; i++) {
        const json_t *span = json_array_get(spans, i);
        equal = json_integer_value(json_array_get(span, 0)) == tokens->items[i].byte_start &&
                json_integer_value(json_array_get(span, 1)) == tokens->items[i].byte_end;
    }
    return equal;
}

static void show(const char *path, size_t line, const json_t *ids, const struct mly_tokens *tokens)
{
    char *expected = json_dumps(ids, JSON_COMPACT);
    printf("%s:%zu: expected %s, got [", path, line, expected != NULL ? expected : "?");
    for (size_t i = 0; i < tokens->count; i++) {
        printf(i > 0 ? ",%d" : "%d", (int)tokens->items[i].id);
    }
    printf("]\n");
    free(expected);
}

/* False where the line is not of the form or cannot be encoded. */
static bool check_line(const struct mly_tokenizer *tokenizer, const char *path, size_t line,
                       const json_t *entry, struct mly_tokens *tokens, struct tally *tally)
{
    const json_t *text = json_object_get(entry, "text"), *ids = json_object_get(entry, "ids");
    if (!json_is_string(text) || !json_is_array(ids)) {
        fprintf(stderr, "%s:%zu: no text or no ids\n", path, line);
        return false;
    }
    struct mly_str string = {json_string_value(text), json_string_length(text)};
    struct mly_error err = {0};
    if (mly_tokenizer_encode(tokenizer, string, tokens, &err) != MLY_OK) {
        fprintf(stderr, "%s:%zu: %s\n", path, line, err.message);
        return false;
    }
    tally->strings++;
    tally->pieces += tokens->count;
    bool same = ids_equal(ids, tokens), held = spans_hold(string, tokens);
    bool spans = !same || spans_equal(json_object_get(entry, "spans"), tokens);
    if (same && held && spans) return true;
    if (tally->differences++ < SHOWN_MAX) {
        if (!held) printf("%s:%zu: spans are out of order or outside\n", path, line);
        if (!spans) printf("%s:%zu: spans are not those of HF\n", path, line);
        show(path, line, ids, tokens);
    }
    return true;
}

static bool check_file(const struct mly_tokenizer *tokenizer, const char *path,
                       struct mly_tokens *tokens, struct tally *total)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: cannot be opened\n", path);
        return false;
    }
    char *line = NULL;
    size_t line_capacity = 0, line_i = 0;
    struct tally tally = {0};
    bool ok = true;
    ssize_t bytes;
    while (ok && (bytes = getline(&line, &line_capacity, file)) > 0) {
        json_error_t fault;
        json_t *entry = json_loadb(line, (size_t)bytes, JSON_ALLOW_NUL, &fault);
        line_i++;
        if (entry == NULL) fprintf(stderr, "%s:%zu: %s\n", path, line_i, fault.text);
        ok = entry != NULL && check_line(tokenizer, path, line_i, entry, tokens, &tally);
        json_decref(entry);
    }
    free(line);
    fclose(file);
    printf("%s: %zu strings, %zu pieces, %zu differences\n", path, tally.strings, tally.pieces,
           tally.differences);
    total->strings += tally.strings;
    total->differences += tally.differences;
    total->pieces += tally.pieces;
    return ok && tally.strings > 0;
}

static char *read_whole(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    size_t capacity = (size_t)16 << 20;
    char *data = malloc(capacity);
    if (data != NULL) *bytes = fread(data, 1, capacity, file);
    fclose(file);
    return data;
}

static enum mly_tokenizer_form form_of(const char *path)
{
    const size_t bytes = strlen(path);
    if (bytes > 5 && strcmp(path + bytes - 5, ".json") == 0) return MLY_TOKENIZER_JSON;
    return MLY_TOKENIZER_VOCABULARY;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: golden_token TOKENIZER FILE...\n");
        return 2;
    }
    size_t bytes = 0;
    char *vocabulary = read_whole(argv[1], &bytes);
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_tokenizer *tokenizer = NULL;
    struct mly_error err = {0};
    if (vocabulary == NULL ||
        mly_tokenizer_create(&mem, form_of(argv[1]), (struct mly_str){vocabulary, bytes},
                             &tokenizer, &err) != MLY_OK) {
        fprintf(stderr, "%s: %s\n", argv[1], vocabulary != NULL ? err.message : "not readable");
        return 2;
    }
    struct mly_tokens tokens;
    mly_tokens_init(&tokens, &mem);
    struct tally total = {0};
    bool ok = true;
    for (int i = 2; i < argc; i++) {
        ok = check_file(tokenizer, argv[i], &tokens, &total) && ok;
    }
    printf("%zu strings, %zu differences\n", total.strings, total.differences);
    mly_tokens_deinit(&tokens);
    mly_tokenizer_destroy(tokenizer);
    free(vocabulary);
    return ok && total.differences == 0 ? 0 : 1;
}

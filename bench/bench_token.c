/* Word pieces per CPU second on one thread.
 *
 * usage: bench_token TOKENIZER TEXT [SECONDS] [EXPECTED]
 * TEXT is a UTF-8 file, taken apart at blank lines as a chunker would. EXPECTED, if given, is how
 * many word pieces another tokenizer found in it: another number here is an error and nothing is
 * timed. Prints one line of JSON. Rounds of the whole text, the best one counts: the others were
 * disturbed. */
#define _POSIX_C_SOURCE 200809L

#include "base/mem.h"
#include "base/utf8.h"
#include "token/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool read_whole(const char *path, char **data, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    size_t capacity = 1 << 20;
    *data = NULL;
    *bytes = 0;
    bool ok = true;
    while (ok) {
        char *moved = realloc(*data, capacity);
        ok = moved != NULL;
        if (!ok) break;
        *data = moved;
        *bytes += fread(*data + *bytes, 1, capacity - *bytes, file);
        if (*bytes < capacity) break;
        capacity *= 2;
    }
    ok = ok && !ferror(file);
    fclose(file);
    return ok;
}

/* Encodes the parts between blank lines; returns the number of word pieces, or 0 on failure. */
static size_t encode_parts(const struct mly_tokenizer *tokenizer, struct mly_str text,
                           struct mly_tokens *tokens)
{
    size_t pieces = 0;
    for (size_t start = 0; start < text.bytes;) {
        size_t end = start;
        while (end < text.bytes &&
               !(text.data[end] == '\n' && end + 1 < text.bytes && text.data[end + 1] == '\n')) {
            const char *line = memchr(text.data + end + 1, '\n', text.bytes - end - 1);
            end = line != NULL ? (size_t)(line - text.data) : text.bytes;
        }
        struct mly_error err = {0};
        if (mly_tokenizer_encode(tokenizer, mly_str_slice(text, start, end), tokens, &err) !=
            MLY_OK) {
            fprintf(stderr, "bench_token: %s\n", err.message);
            return 0;
        }
        pieces += tokens->count;
        start = end + 1;
    }
    return pieces;
}

static int bench(const struct mly_tokenizer *tokenizer, struct mly_str text, double create_s,
                 double seconds, long long expected)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_tokens tokens;
    mly_tokens_init(&tokens, &mem);
    size_t pieces = encode_parts(tokenizer, text, &tokens);
    int exit_code = 1;
    if (pieces == 0) {
        fprintf(stderr, "bench_token: no word pieces to time\n");
    } else if (expected >= 0 && pieces != (size_t)expected) {
        fprintf(stderr, "bench_token: %zu word pieces, expected %lld\n", pieces, expected);
    } else {
        uint64_t calls = mem.calls;
        double begin = cpu_s(), best = 1e9;
        do {
            double start = cpu_s();
            (void)encode_parts(tokenizer, text, &tokens);
            double took = cpu_s() - start;
            best = took < best ? took : best;
        } while (cpu_s() - begin < seconds);
        printf("{\"pieces\": %zu, \"bytes\": %zu, \"pieces_per_cpu_s\": %.0f, "
               "\"mb_per_cpu_s\": %.1f, \"create_ms\": %.2f, \"allocations_when_warm\": %llu}\n",
               pieces, text.bytes, (double)pieces / best, (double)text.bytes / best / 1e6,
               create_s * 1e3, (unsigned long long)(mem.calls - calls));
        exit_code = 0;
    }
    mly_tokens_deinit(&tokens);
    return exit_code;
}

/* tokenizer.json, compiled bytes (.tok), or a vocabulary. */
static enum mly_tokenizer_form form_of(const char *path)
{
    const size_t bytes = strlen(path);
    if (bytes > 5 && strcmp(path + bytes - 5, ".json") == 0) return MLY_TOKENIZER_JSON;
    if (bytes > 4 && strcmp(path + bytes - 4, ".tok") == 0) return MLY_TOKENIZER_COMPILED;
    return MLY_TOKENIZER_VOCABULARY;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_token TOKENIZER TEXT [SECONDS] [EXPECTED]\n");
        return 2;
    }
    char *vocabulary = NULL, *text = NULL;
    size_t vocabulary_bytes = 0, text_bytes = 0;
    if (!read_whole(argv[1], &vocabulary, &vocabulary_bytes) ||
        !read_whole(argv[2], &text, &text_bytes)) {
        fprintf(stderr, "bench_token: %s or %s cannot be read\n", argv[1], argv[2]);
        return 2;
    }
    if (mly_utf8_check((struct mly_str){text, text_bytes}) != text_bytes) {
        fprintf(stderr, "bench_token: %s is not UTF-8\n", argv[2]);
        return 2;
    }
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_tokenizer *tokenizer = NULL;
    double start = cpu_s();
    if (mly_tokenizer_create(&mem, form_of(argv[1]), (struct mly_str){vocabulary, vocabulary_bytes},
                             &tokenizer, &err) != MLY_OK) {
        fprintf(stderr, "bench_token: %s: %s\n", argv[1], err.message);
        return 2;
    }
    double create_s = cpu_s() - start;
    int exit_code =
        bench(tokenizer, (struct mly_str){text, text_bytes}, create_s,
              argc > 3 ? strtod(argv[3], NULL) : 2.0, argc > 4 ? strtoll(argv[4], NULL, 10) : -1);
    mly_tokenizer_destroy(tokenizer);
    free(vocabulary);
    free(text);
    return exit_code;
}

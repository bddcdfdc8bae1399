/* Chunking of any text. Input: strategy, size, overlap, then the text; text that is not UTF-8 never
 * comes that far. */
#include "fuzz.h"

#include "base/utf8.h"
#include "chunk/chunk.h"
#include "token/token.h"

#include <memalloy.h>
#include <string.h>

static int measure(void *context, struct mly_str text, struct mly_tokens *out,
                   struct mly_error *err)
{
    return (int)mly_tokenizer_encode(context, text, out, err);
}

static void check_chunks(const struct mly_chunks *chunks, size_t bytes)
{
    uint64_t end = 0, start = 0;
    for (size_t i = 0; i < chunks->count; i++) {
        const struct mly_chunk *chunk = &chunks->items[i];
        fuzz_check(chunk->byte_start <= end && chunk->byte_start >= start, "no gap");
        fuzz_check(chunk->byte_end > chunk->byte_start && chunk->byte_end >= end, "it goes on");
        fuzz_check(chunk->line_start <= chunk->line_end, "lines are in order");
        start = chunk->byte_start;
        end = chunk->byte_end;
    }
    fuzz_check(end == bytes, "the text is covered");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const enum memalloy_chunking_kind kinds[] = {
        MEMALLOY_CHUNKING_HEADING, MEMALLOY_CHUNKING_TOKEN, MEMALLOY_CHUNKING_SENTENCE,
        MEMALLOY_CHUNKING_FIXED};
    if (bytes < 3) return 0;
    const struct mly_str text = {(const char *)data + 3, bytes - 3};
    if (mly_utf8_check(text) != text.bytes) return 0;
    struct fault_env fault;
    struct mly_error err = {0};
    struct mly_tokenizer *tokenizer = NULL;
    struct mly_chunks chunks = {0};
    fault_env_init(&fault);
    const struct mly_str vocabulary = MLY_STR("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##a\nthe\n.\n#\n");
    fuzz_check(mly_tokenizer_create(&fault.mem, MLY_TOKENIZER_VOCABULARY, vocabulary, &tokenizer,
                                    &err) == MLY_OK,
               "a tokenizer can be made");
    const struct mly_meter meter = {
        .context = tokenizer, .measure = measure, .pieces_max = 16 + data[2] % 64u};
    struct mly_chunking chunking = {kinds[data[0] % 4], MEMALLOY_SIZE_DEFAULT,
                                    MEMALLOY_SIZE_DEFAULT};
    if (data[1] != 0) chunking.size = data[1];
    if (data[2] != 0) chunking.overlap = data[2] - 1;
    enum mly_err rc = mly_chunking_resolve(&chunking, &err);
    if (rc == MLY_OK) rc = mly_chunk_split(&fault.mem, text, &chunking, &meter, &chunks, &err);
    fuzz_check_result(rc, &err);
    if (rc == MLY_OK) check_chunks(&chunks, text.bytes);
    mly_chunks_deinit(&chunks);
    mly_tokenizer_destroy(tokenizer);
    fuzz_check_clean(&fault);
    return 0;
}

bool fuzz_seed(size_t i, struct fuzz_input *out)
{
    static const char text[] =
        "# One\n\nA first paragraph. It has sentences! Has it? Yes: two, three.\n\n## Two\r\n- a\n"
        "- the list\n\n```c\n# no heading\nint a;\n```\n\nUnderlined\n==========\n\tthe the the a "
        "a "
        "a\n\n\xe4\xb8\xad\xe6\x96\x87\xe3\x80\x82\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb "
        "e\xcc\x81\xe2\x80\xa8| a | b |\n|---|---|\n";
    if (i >= 8) return false;
    fuzz_put_byte(out, (uint8_t)(i % 4));
    fuzz_put_byte(out, i < 4 ? 0 : 20);
    fuzz_put_byte(out, i < 4 ? 0 : 4);
    fuzz_put(out, text, sizeof(text) - 1);
    return true;
}

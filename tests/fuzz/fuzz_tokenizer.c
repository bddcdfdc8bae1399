/* Tokenizers of foreign origin. Input: form (and whether the bytes lie unaligned), length of a text
 * in two bytes, the tokenizer's bytes, the text. A tokenizer.json is compiled first. */
#include "fuzz.h"

#include "base/utf8.h"
#include "token/token.h"

#include <stdlib.h>
#include <string.h>

static void encode(struct fault_env *fault, const struct mly_tokenizer *tokenizer,
                   struct mly_str text)
{
    struct mly_error err = {0};
    struct mly_tokens tokens;
    const struct mly_tokenizer_frame *frame = mly_tokenizer_frame(tokenizer);
    fuzz_check(frame->prefix_count <= MLY_FRAME_MAX && frame->suffix_count <= MLY_FRAME_MAX,
               "a frame is short");
    mly_tokens_init(&tokens, &fault->mem);
    const enum mly_err rc = mly_tokenizer_encode(tokenizer, text, &tokens, &err);
    fuzz_check_result(rc, &err);
    uint64_t start = 0;
    for (size_t i = 0; rc == MLY_OK && i < tokens.count; i++) {
        const struct mly_token *token = &tokens.items[i];
        fuzz_check(token->id >= 0 && (uint32_t)token->id < frame->id_count,
                   "an id is below their count");
        fuzz_check(token->byte_start >= start, "starts never go back");
        fuzz_check(token->byte_end > token->byte_start && token->byte_end <= text.bytes,
                   "a span lies in its text");
        start = token->byte_start;
    }
    mly_tokens_deinit(&tokens);
}

static void try_form(enum mly_tokenizer_form form, struct mly_str bytes, struct mly_str text)
{
    struct fault_env fault;
    struct mly_error err = {0};
    struct mly_tokenizer *tokenizer = NULL;
    fault_env_init(&fault);
    const enum mly_err rc = mly_tokenizer_create(&fault.mem, form, bytes, &tokenizer, &err);
    fuzz_check_result(rc, &err);
    if (rc == MLY_OK && mly_utf8_check(text) == text.bytes) encode(&fault, tokenizer, text);
    mly_tokenizer_destroy(tokenizer);
    fuzz_check_clean(&fault);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 3) return 0;
    const size_t wanted = (size_t)data[1] << 8 | data[2], rest = bytes - 3;
    const size_t text_bytes = wanted < rest ? wanted : rest, own = rest - text_bytes;
    const struct mly_str text = {(const char *)data + 3 + own, text_bytes};
    static const enum mly_tokenizer_form forms[] = {MLY_TOKENIZER_VOCABULARY,
                                                    MLY_TOKENIZER_COMPILED, MLY_TOKENIZER_JSON};
    char *block = malloc(own + 8); /* As aligned as the input says. */
    if (block == NULL) abort();
    char *at = block + (data[0] & 0x80 ? 1 : 0);
    memcpy(at, data + 3, own);
    try_form(forms[(data[0] & 0x7f) % 3], (struct mly_str){at, own}, text);
    free(block);
    return 0;
}

static const char vocabulary[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##s\na\n##b\n.\nword\n";
static const char word_piece[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":0,\""
    "content\":\"[PAD]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized"
    "\":false,\"special\":true},{\"id\":1,\"content\":\"[UNK]\",\"single_word\":false,\"lstri"
    "p\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},{\"id\":2,\"content\":"
    "\"[CLS]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
    "\"special\":true},{\"id\":3,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false"
    ",\"rstrip\":false,\"normalized\":false,\"special\":true},{\"id\":4,\"content\":\"[MASK]"
    "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"specia"
    "l\":true}],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chin"
    "ese_chars\":true,\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":"
    "\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"
    "\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id"
    "\":0}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}],\"pair\":[{\"SpecialToken\":"
    "{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Special"
    "Token\":{\"id\":\"[SEP]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}},{"
    "\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":1}}],\"special_tokens\":{\"[CLS]\":{\"id"
    "\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3]"
    ",\"tokens\":[\"[SEP]\"]}}},\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"clean"
    "up\":true},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subwor"
    "d_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\""
    "[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"the\":5,\"##s\":6,\"a\":7,\"##b\":8,\".\":9}}}";
static const char unigram[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":0,"
    "\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":"
    "false,\"special\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
    "\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" "
    "\"}]},\"pre_tokenizer\":{\"type\":"
    "\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"add_prefix_space\":true},\"post_processor\":{"
    "\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"</s>\",\"type_id\":0}}"
    "],\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[0],\"tokens\":[\"<s>\"]},"
    "\"</s>\":{\"id\":\"</s>\",\"ids\":[2],\"tokens\":[\"</s>\"]}}},\"decoder\":null,\"model\":{"
    "\"type\":\"Unigram\",\"unk_id\":3,\"vocab\":[[\"<s>\",0.0],[\"<pad>\",0.0],[\"</s>\",0.0],["
    "\"<unk>\",0.0],[\"\xe2\x96\x81\",-2.5],[\"\xe2\x96\x81the\",-3.25],[\"a\",-4.0],[\"s\",-4.5]]}"
    "}";
static const char byte_level[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\"normalizer\":"
    "null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":"
    "true,\"use_regex\":true},\"post_processor\":null,\"decoder\":null,\"model\":{\"type\":\"BPE\","
    "\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":"
    "\"\",\"fuse_unk\":false,\"vocab\":{\"t\":0,\"h\":1,\"e\":2,\"th\":3,\"the\":4,\"\xc4\xa0\":5},"
    "\"merges\":[\"t h\",\"th e\"]}}";

bool fuzz_seed(size_t i, struct fuzz_input *out)
{
    static const char text[] = "The words, a b [MASK] \xc3\xa9t\xc3\xa9 \xe4\xb8\xad  the\xf0\x9f"
                               "\x98\x80";
    static const char *const jsons[] = {word_piece, unigram, byte_level};
    const size_t forms = sizeof(jsons) / sizeof(jsons[0]);
    if (i >= 1 + 2 * forms) return false;
    fuzz_put_byte(out, i == 0 ? 0 : i <= forms ? 2 : 1);
    fuzz_put_byte(out, 0);
    fuzz_put_byte(out, (uint8_t)(sizeof(text) - 1));
    if (i == 0) {
        fuzz_put(out, vocabulary, sizeof(vocabulary) - 1);
    } else if (i <= forms) {
        fuzz_put(out, jsons[i - 1], strlen(jsons[i - 1]));
    } else { /* What compiling gives, where that fits and is supported. */
        struct fault_env fault;
        struct mly_bytes bytes;
        struct mly_error err = {0};
        fault_env_init(&fault);
        mly_bytes_init(&bytes, &fault.mem, FUZZ_INPUT_MAX / 2);
        const struct mly_str json = {jsons[i - 1 - forms], strlen(jsons[i - 1 - forms])};
        if (mly_tokenizer_compile(&fault.mem, json, &bytes, &err) == MLY_OK) {
            fuzz_put(out, bytes.data, bytes.bytes);
        }
        mly_bytes_deinit(&bytes);
    }
    fuzz_put(out, text, sizeof(text) - 1);
    return true;
}

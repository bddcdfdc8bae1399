/* In: a tokenizer.json. Out: its compiled form.
 *
 * Whatever the file says that we would not follow exactly is refused by name: vectors of wrongly cut
 * text would be wrong without anybody noticing. */
#include "token/token_int.h"

#include <jansson.h>
#include <string.h>

#define VOCABULARY_MAX ((size_t)1 << 24)
#define SHOWN_BYTES 64

/* What a setting must be. */
struct wanted {
    const char *key, *text; /* text NULL: compare with number, or flag */
    json_int_t number;      /* -1: a flag */
    bool flag, or_null;     /* the flag; missing and null are fine too */
};

static void show(const json_t *value, char out[SHOWN_BYTES])
{
    if (value == NULL) {
        (void)memcpy(out, "missing", sizeof("missing"));
        return;
    }
    size_t bytes = json_dumpb(value, out, SHOWN_BYTES - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    if (bytes >= SHOWN_BYTES - 1) {
        (void)memcpy(out, "another", sizeof("another")); /* too long to show */
        return;
    }
    out[bytes] = '\0';
}

static enum mly_err refuse(const char *part, const char *key, const json_t *value,
                           struct mly_error *err)
{
    char shown[SHOWN_BYTES];
    show(value, shown);
    return mly_fail(err, MLY_ERR_UNSUPPORTED,
                    "tokenizer.json: %s%s%s is %s; only BERT's uncased WordPiece is supported",
                    part, key[0] == '\0' ? "" : ".", key, shown);
}

static bool fits(const json_t *value, const struct wanted *wanted)
{
    if (value == NULL || json_is_null(value)) return wanted->or_null;
    if (wanted->text != NULL) {
        return json_is_string(value) && strcmp(json_string_value(value), wanted->text) == 0;
    }
    if (wanted->number >= 0) {
        return json_is_integer(value) && json_integer_value(value) == wanted->number;
    }
    return json_is_boolean(value) && json_is_true(value) == wanted->flag;
}

static enum mly_err check_part(const json_t *tokenizer, const char *part,
                               const struct wanted *settings, size_t count, struct mly_error *err)
{
    const json_t *object = json_object_get(tokenizer, part);
    if (!json_is_object(object)) return refuse(part, "", object, err);
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, settings[i].key);
        if (!fits(value, &settings[i])) return refuse(part, settings[i].key, value, err);
    }
    return MLY_OK;
}

static const struct wanted normalizer[] = {
    {.key = "type", .text = "BertNormalizer"},
    {.key = "clean_text", .number = -1, .flag = true},
    {.key = "handle_chinese_chars", .number = -1, .flag = true},
    {.key = "strip_accents", .number = -1, .flag = true, .or_null = true},
    {.key = "lowercase", .number = -1, .flag = true},
};
static const struct wanted pre_tokenizer[] = {{.key = "type", .text = "BertPreTokenizer"}};
static const struct wanted model[] = {
    {.key = "type", .text = "WordPiece"},
    {.key = "unk_token", .text = "[UNK]"},
    {.key = "continuing_subword_prefix", .text = "##"},
    {.key = "max_input_chars_per_word", .number = 100},
};
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static bool is_special(const json_t *step, const char *name)
{
    const json_t *id = json_object_get(json_object_get(step, "SpecialToken"), "id");
    return json_is_string(id) && strcmp(json_string_value(id), name) == 0;
}

/* [CLS] text [SEP] is what we send. */
static enum mly_err check_processor(const json_t *tokenizer, struct mly_error *err)
{
    const json_t *processor = json_object_get(tokenizer, "post_processor");
    const json_t *type = json_object_get(processor, "type");
    const char *name = json_is_string(type) ? json_string_value(type) : "";
    if (strcmp(name, "TemplateProcessing") == 0) {
        const json_t *single = json_object_get(processor, "single");
        if (json_array_size(single) != 3 || !is_special(json_array_get(single, 0), "[CLS]") ||
            json_object_get(json_array_get(single, 1), "Sequence") == NULL ||
            !is_special(json_array_get(single, 2), "[SEP]")) {
            return refuse("post_processor", "single", single, err);
        }
        return MLY_OK;
    }
    if (strcmp(name, "BertProcessing") != 0) return refuse("post_processor", "type", type, err);
    const char *const keys[] = {"cls", "sep"}, *const texts[] = {"[CLS]", "[SEP]"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_object_get(processor, keys[i]);
        const json_t *text = json_array_get(value, 0);
        if (!json_is_string(text) || strcmp(json_string_value(text), texts[i]) != 0) {
            return refuse("post_processor", keys[i], value, err);
        }
    }
    return MLY_OK;
}

static const char *const specials[] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"};

static enum mly_err check_added(const json_t *added, const json_t *vocabulary, unsigned *seen,
                                struct mly_error *err)
{
    const json_t *content = json_object_get(added, "content");
    const char *text = json_is_string(content) ? json_string_value(content) : "";
    size_t i = 0;
    while (i < COUNT(specials) && strcmp(text, specials[i]) != 0) {
        i++;
    }
    if (i == COUNT(specials)) return refuse("added_tokens", "content", content, err);
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    for (size_t k = 0; k < COUNT(flags); k++) {
        const json_t *value = json_object_get(added, flags[k]);
        if (value != NULL && !json_is_false(value)) {
            return refuse("added_tokens", flags[k], value, err);
        }
    }
    const json_t *id = json_object_get(added, "id");
    if (!json_is_integer(id) || !json_equal(id, json_object_get(vocabulary, text))) {
        return refuse("added_tokens", text, id, err);
    }
    *seen |= 1u << i;
    return MLY_OK;
}

/* The tokenizer matches these in the raw text whenever the vocabulary has them. */
static enum mly_err check_all_added(const json_t *tokenizer, const json_t *vocabulary,
                                    struct mly_error *err)
{
    const json_t *list = json_object_get(tokenizer, "added_tokens");
    unsigned seen = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        MLY_TRY(check_added(json_array_get(list, i), vocabulary, &seen, err));
    }
    for (size_t i = 0; i < COUNT(specials); i++) {
        const bool there = json_object_get(vocabulary, specials[i]) != NULL;
        if (there != ((seen >> i & 1u) != 0)) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "tokenizer.json: %s stands in the vocabulary, but not among "
                            "added_tokens",
                            specials[i]);
        }
    }
    return MLY_OK;
}

/* Puts every piece at the place of its id. */
static enum mly_err order_pieces(json_t *vocabulary, struct mly_str *pieces, size_t count,
                                 size_t *text_bytes, struct mly_error *err)
{
    const char *key;
    json_t *value;
    *text_bytes = 0;
    json_object_foreach(vocabulary, key, value)
    {
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || (uint64_t)id >= count || pieces[id].data != NULL) {
            return mly_fail(
                err, MLY_ERR_CORRUPT,
                "tokenizer.json: the ids of %zu pieces are not 0 to %zu, each once: see "
                "\"%.40s\"",
                count, count - 1, key);
        }
        if (strchr(key, '\n') != NULL) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "tokenizer.json: piece %zu has a line feed in it", (size_t)id);
        }
        pieces[id] = mly_str_of(key);
        *text_bytes += pieces[id].bytes + 1;
    }
    return MLY_OK;
}

static enum mly_err write_pieces(struct mly_mem *mem, json_t *vocabulary, struct mly_bytes *out,
                                 struct mly_error *err)
{
    const size_t count = json_object_size(vocabulary);
    if (count == 0 || count > VOCABULARY_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT,
                        "tokenizer.json: %zu pieces, at least 1 and at most %zu", count,
                        VOCABULARY_MAX);
    }
    struct mly_str *pieces = mly_mem_array(mem, count, sizeof(pieces[0]));
    if (pieces == NULL) return mly_fail_nomem(err, count * sizeof(pieces[0]));
    size_t bytes;
    enum mly_err rc = order_pieces(vocabulary, pieces, count, &bytes, err);
    if (rc == MLY_OK) rc = mly_bytes_append(out, MLY_COMPILED_MAGIC, 8, err);
    for (size_t i = 0; i < count && rc == MLY_OK; i++) {
        rc = mly_bytes_append(out, pieces[i].data, pieces[i].bytes, err);
        if (rc == MLY_OK) rc = mly_bytes_append(out, "\n", 1, err);
    }
    mly_mem_free(mem, pieces);
    return rc;
}

static enum mly_err compile(struct mly_mem *mem, json_t *tokenizer, struct mly_bytes *out,
                            struct mly_error *err)
{
    MLY_TRY(check_part(tokenizer, "model", model, COUNT(model), err));
    MLY_TRY(check_part(tokenizer, "normalizer", normalizer, COUNT(normalizer), err));
    MLY_TRY(check_part(tokenizer, "pre_tokenizer", pre_tokenizer, COUNT(pre_tokenizer), err));
    MLY_TRY(check_processor(tokenizer, err));
    json_t *vocabulary = json_object_get(json_object_get(tokenizer, "model"), "vocab");
    if (!json_is_object(vocabulary)) return refuse("model", "vocab", vocabulary, err);
    MLY_TRY(check_all_added(tokenizer, vocabulary, err));
    return write_pieces(mem, vocabulary, out, err);
}

enum mly_err mly_tokenizer_compile(struct mly_mem *mem, struct mly_str json, struct mly_bytes *out,
                                   struct mly_error *err)
{
    json_error_t fault;
    json_t *tokenizer =
        json_loadb(json.bytes > 0 ? json.data : "", json.bytes, JSON_REJECT_DUPLICATES, &fault);
    if (tokenizer == NULL) {
        if (json_error_code(&fault) == json_error_out_of_memory) {
            return mly_fail(err, MLY_ERR_NOMEM, "out of memory while reading tokenizer.json");
        }
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "tokenizer.json cannot be read as JSON: %s at line %d", fault.text,
                        fault.line);
    }
    enum mly_err rc = compile(mem, tokenizer, out, err);
    json_decref(tokenizer);
    return rc;
}

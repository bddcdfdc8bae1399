/* In: the normalizer and the pre-tokenizer of a tokenizer.json. Out: their steps. */
#include "token/compile_int.h"

#include "base/utf8.h"

static enum mly_err add_step(struct mly_draft *draft, enum mly_step_kind kind, uint32_t flags,
                             struct mly_error *err)
{
    const size_t first = kind < MLY_STEP_NORMALIZERS ? 0 : (size_t)draft->settings.normalizer_count;
    if (draft->step_count - first >= MLY_STEPS_MAX) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "tokenizer.json: more than %d steps of normalizing or cutting",
                        MLY_STEPS_MAX);
    }
    draft->steps[draft->step_count++] = (struct mly_step){.kind = kind, .flags = flags};
    return MLY_OK;
}

static struct mly_step *last_step(struct mly_draft *draft)
{
    return &draft->steps[draft->step_count - 1];
}

static struct mly_str text_of(const json_t *value)
{
    if (!json_is_string(value)) return MLY_STR_NULL;
    return (struct mly_str){json_string_value(value), json_string_length(value)};
}

/* ---- normalizers ---- */

static enum mly_err add_bert(struct mly_draft *draft, const json_t *part, struct mly_error *err)
{
    bool clean = false, cjk = false, lower = false, strip = false;
    MLY_TRY(mly_compile_flag(part, "normalizer", "clean_text", &clean, err));
    MLY_TRY(mly_compile_flag(part, "normalizer", "handle_chinese_chars", &cjk, err));
    MLY_TRY(mly_compile_flag(part, "normalizer", "lowercase", &lower, err));
    strip = lower;
    const json_t *accents = json_object_get(part, "strip_accents");
    if (accents != NULL && !json_is_null(accents)) {
        MLY_TRY(mly_compile_flag(part, "normalizer", "strip_accents", &strip, err));
    }
    if (clean) MLY_TRY(add_step(draft, MLY_STEP_CLEAN, 0, err));
    if (cjk) MLY_TRY(add_step(draft, MLY_STEP_CJK, 0, err));
    if (strip) MLY_TRY(add_step(draft, MLY_STEP_NFD, 0, err));
    if (strip) MLY_TRY(add_step(draft, MLY_STEP_STRIP_NONSPACING, 0, err));
    return lower ? add_step(draft, MLY_STEP_LOWERCASE, 0, err) : MLY_OK;
}

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static enum mly_err decode_base64(struct mly_str text, struct mly_bytes *out, struct mly_error *err)
{
    MLY_TRY(mly_bytes_reserve(out, text.bytes, err));
    while (text.bytes > 0 && text.data[text.bytes - 1] == '=') {
        text.bytes--;
    }
    uint32_t bits = 0;
    for (size_t i = 0, held = 0; i < text.bytes; i++) {
        const int value = sextet(text.data[i]);
        if (value < 0) {
            return mly_fail(err, MLY_ERR_CORRUPT,
                            "tokenizer.json: precompiled_charsmap is not base64 at character %zu",
                            i);
        }
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held < 8) continue;
        held -= 8;
        const uint8_t byte = (uint8_t)(bits >> held);
        MLY_TRY(mly_bytes_append(out, &byte, 1, err));
    }
    return MLY_OK;
}

/* 4 bytes that say how long the double array is, the array, the texts. */
static enum mly_err take_charsmap(struct mly_draft *draft, const struct mly_bytes *map,
                                  struct mly_error *err)
{
    uint32_t bytes = 0;
    if (map->bytes >= 4) memcpy(&bytes, map->data, sizeof(bytes));
    if (map->bytes < 4 || bytes > map->bytes - 4 || bytes < 4) {
        return mly_fail(err, MLY_ERR_CORRUPT, "tokenizer.json: precompiled_charsmap is cut off");
    }
    bytes = bytes / 4 * 4;
    const struct mly_str texts = {(const char *)map->data + 4 + bytes, map->bytes - 4 - bytes};
    for (size_t at = 0, run = 0; at < texts.bytes; at++) {
        run = texts.data[at] == '\0' ? 0 : run + 1;
        if (run < MLY_PIECE_BYTES_MAX) continue;
        return mly_fail(err, MLY_ERR_LIMIT,
                        "tokenizer.json: precompiled_charsmap has a text of more than %d bytes",
                        MLY_PIECE_BYTES_MAX - 1);
    }
    if (mly_utf8_check(texts) != texts.bytes) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "tokenizer.json: precompiled_charsmap has text that is not UTF-8");
    }
    MLY_TRY(mly_bytes_append(&draft->charsmap, map->data + 4, bytes, err));
    return mly_compile_keep(draft, texts, &last_step(draft)->a, err);
}

static enum mly_err add_charsmap(struct mly_draft *draft, const json_t *part, struct mly_error *err)
{
    const json_t *value = json_object_get(part, "precompiled_charsmap");
    if (!json_is_string(value) || draft->charsmap.bytes > 0) {
        return mly_compile_refuse("normalizer", "precompiled_charsmap", value, err);
    }
    struct mly_bytes map;
    mly_bytes_init(&map, draft->mem, UINT32_MAX / 2);
    enum mly_err rc = add_step(draft, MLY_STEP_CHARSMAP, 0, err);
    if (rc == MLY_OK) rc = decode_base64(text_of(value), &map, err);
    if (rc == MLY_OK) rc = take_charsmap(draft, &map, err);
    mly_bytes_deinit(&map);
    return rc;
}

static bool is_plain(const char *pattern)
{
    return strpbrk(pattern, "\\^$.|?*+()[]{}") == NULL;
}

/* One character (or \s), so many times or more: "c+", "c{n,}", "\s+" ... false where it is not. */
static bool read_run(const char *pattern, struct mly_str *character, uint32_t *least)
{
    size_t taken = 0;
    if (strncmp(pattern, "\\s", 2) == 0) {
        *character = MLY_STR("");
        pattern += 2;
    } else {
        const struct mly_str text = mly_str_of(pattern);
        if (text.bytes == 0 || strchr("\\^$.|?*+()[]{}", pattern[0]) != NULL) return false;
        (void)mly_utf8_decode(text, 0, &taken);
        *character = (struct mly_str){pattern, taken};
        pattern += taken;
    }
    *least = 1;
    if (strcmp(pattern, "+") == 0) return true;
    if (pattern[0] != '{' || pattern[1] < '1' || pattern[1] > '9') return false;
    *least = (uint32_t)(pattern[1] - '0');
    return strcmp(pattern + 2, ",}") == 0;
}

static enum mly_err add_replace(struct mly_draft *draft, const json_t *part, struct mly_error *err)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const json_t *literal = json_object_get(pattern, "String");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *content = json_object_get(part, "content");
    struct mly_str text = text_of(literal);
    uint32_t least = 0;
    if (!json_is_string(content) || json_string_length(content) > MLY_PIECE_BYTES_MAX) {
        return mly_compile_refuse("normalizer", "content", content, err);
    }
    if (json_is_string(regex)) {
        if (is_plain(json_string_value(regex))) {
            text = text_of(regex);
        } else if (!read_run(json_string_value(regex), &text, &least)) {
            return mly_compile_refuse("normalizer", "pattern", pattern, err);
        }
    }
    if (text.data == NULL || (text.bytes == 0 && least == 0)) {
        return mly_compile_refuse("normalizer", "pattern", pattern, err);
    }
    MLY_TRY(add_step(draft, least > 0 ? MLY_STEP_REPLACE_RUN : MLY_STEP_REPLACE, least, err));
    MLY_TRY(mly_compile_keep(draft, text, &last_step(draft)->a, err));
    return mly_compile_keep(draft, text_of(content), &last_step(draft)->b, err);
}

static enum mly_err add_strip(struct mly_draft *draft, const json_t *part, struct mly_error *err)
{
    bool left = false, right = false;
    MLY_TRY(mly_compile_flag(part, "normalizer", "strip_left", &left, err));
    MLY_TRY(mly_compile_flag(part, "normalizer", "strip_right", &right, err));
    return add_step(draft, MLY_STEP_STRIP, (left ? 1u : 0u) | (right ? 2u : 0u), err);
}

static enum mly_err add_prepend(struct mly_draft *draft, const json_t *part, struct mly_error *err)
{
    const json_t *text = json_object_get(part, "prepend");
    if (!json_is_string(text) || json_string_length(text) > MLY_PIECE_BYTES_MAX) {
        return mly_compile_refuse("normalizer", "prepend", text, err);
    }
    if (json_string_length(text) == 0) return MLY_OK;
    MLY_TRY(add_step(draft, MLY_STEP_PREPEND, 0, err));
    return mly_compile_keep(draft, text_of(text), &last_step(draft)->a, err);
}

static const struct {
    const char *type;
    enum mly_step_kind kind;
} simple[] = {
    {"NFC", MLY_STEP_NFC},
    {"NFD", MLY_STEP_NFD},
    {"NFKC", MLY_STEP_NFKC},
    {"NFKD", MLY_STEP_NFKD},
    {"Lowercase", MLY_STEP_LOWERCASE},
    {"StripAccents", MLY_STEP_STRIP_ACCENTS},
    {"Nmt", MLY_STEP_NMT},
    {"BertPreTokenizer", MLY_STEP_BERT_WORDS},
    {"Whitespace", MLY_STEP_WHITESPACE},
    {"WhitespaceSplit", MLY_STEP_SPACE_SPLIT},
};

/* Not a sequence: those do not nest more than once. */
static enum mly_err add_normalizer(struct mly_draft *draft, const json_t *part,
                                   struct mly_error *err)
{
    const char *type = mly_compile_text(part, "type");
    if (strcmp(type, "BertNormalizer") == 0) return add_bert(draft, part, err);
    if (strcmp(type, "Precompiled") == 0) return add_charsmap(draft, part, err);
    if (strcmp(type, "Replace") == 0) return add_replace(draft, part, err);
    if (strcmp(type, "Strip") == 0) return add_strip(draft, part, err);
    if (strcmp(type, "Prepend") == 0) return add_prepend(draft, part, err);
    for (size_t i = 0; i < sizeof(simple) / sizeof(simple[0]); i++) {
        if (strcmp(type, simple[i].type) == 0 && simple[i].kind < MLY_STEP_NORMALIZERS) {
            return add_step(draft, simple[i].kind, 0, err);
        }
    }
    return mly_compile_refuse("normalizer", "type", json_object_get(part, "type"), err);
}

enum mly_err mly_compile_normalizer(struct mly_draft *draft, const json_t *part,
                                    struct mly_error *err)
{
    if (part == NULL || json_is_null(part)) return MLY_OK;
    if (strcmp(mly_compile_text(part, "type"), "Sequence") != 0) {
        return add_normalizer(draft, part, err);
    }
    const json_t *list = json_object_get(part, "normalizers");
    if (!json_is_array(list)) return mly_compile_refuse("normalizer", "normalizers", list, err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        MLY_TRY(add_normalizer(draft, json_array_get(list, i), err));
    }
    return MLY_OK;
}

/* ---- pre-tokenizers ---- */

static enum mly_err add_metaspace(struct mly_draft *draft, const json_t *part,
                                  struct mly_error *err)
{
    const json_t *scheme = json_object_get(part, "prepend_scheme");
    const json_t *prefix = json_object_get(part, "add_prefix_space");
    const json_t *split = json_object_get(part, "split");
    const char *how = json_is_string(scheme) ? json_string_value(scheme) : "always";
    uint32_t flags = split == NULL || !json_is_false(split) ? MLY_METASPACE_CUT : 0;
    if (strcmp(mly_compile_text(part, "replacement"), "\xe2\x96\x81") != 0) {
        return mly_compile_refuse("pre_tokenizer", "replacement",
                                  json_object_get(part, "replacement"), err);
    }
    if (strcmp(how, "always") == 0) {
        flags |= MLY_METASPACE_ALWAYS;
    } else if (strcmp(how, "first") == 0) {
        flags |= MLY_METASPACE_FIRST;
    } else if (strcmp(how, "never") != 0) {
        return mly_compile_refuse("pre_tokenizer", "prepend_scheme", scheme, err);
    }
    if (json_is_false(prefix) && strcmp(how, "never") != 0) {
        return mly_compile_refuse("pre_tokenizer", "add_prefix_space", prefix, err);
    }
    draft->settings.flags |= MLY_MODEL_SPACES;
    return add_step(draft, MLY_STEP_METASPACE, flags, err);
}

static enum mly_err add_byte_level(struct mly_draft *draft, const json_t *part,
                                   struct mly_error *err)
{
    bool prefix = false, regex = true;
    MLY_TRY(mly_compile_flag(part, "pre_tokenizer", "add_prefix_space", &prefix, err));
    if (json_object_get(part, "use_regex") != NULL) {
        MLY_TRY(mly_compile_flag(part, "pre_tokenizer", "use_regex", &regex, err));
    }
    draft->settings.flags |= MLY_MODEL_BYTE_LEVEL;
    if (prefix) MLY_TRY(add_step(draft, MLY_STEP_PREFIX_SPACE, 0, err));
    return regex ? add_step(draft, MLY_STEP_GPT2, 0, err) : MLY_OK;
}

static enum mly_err read_behaviour(const json_t *part, uint32_t *out, struct mly_error *err)
{
    static const char *const names[MLY_SPLITS] = {"Removed", "Isolated", "Contiguous"};
    const json_t *value = json_object_get(part, "behavior");
    const char *name = value == NULL ? "Isolated" : mly_compile_text(part, "behavior");
    for (uint32_t i = 0; i < MLY_SPLITS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = i;
            return MLY_OK;
        }
    }
    return mly_compile_refuse("pre_tokenizer", "behavior", value, err);
}

/* The patterns that we know by heart; more digits than the second number are parted. */
static const struct {
    const char *pattern;
    enum mly_step_kind kind;
    uint32_t digits;
} patterns[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     MLY_STEP_GPT2, 0},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     MLY_STEP_CL100K, 3},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     MLY_STEP_CL100K, 1},
};

static enum mly_err add_split(struct mly_draft *draft, const json_t *part, struct mly_error *err)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const char *regex = mly_compile_text(pattern, "Regex");
    const bool isolated = strcmp(mly_compile_text(part, "behavior"), "Isolated") == 0;
    /* The matches cover everything: to take what lies between away changes nothing. */
    const bool inverted = json_is_true(json_object_get(part, "invert")) &&
                          strcmp(mly_compile_text(part, "behavior"), "Removed") == 0;
    if (!isolated && !inverted) {
        return mly_compile_refuse("pre_tokenizer", "behavior", json_object_get(part, "behavior"),
                                  err);
    }
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        if (strcmp(regex, patterns[i].pattern) == 0) {
            return add_step(draft, patterns[i].kind, patterns[i].digits, err);
        }
    }
    return mly_compile_refuse("pre_tokenizer", "pattern", pattern, err);
}

static enum mly_err add_pre_tokenizer(struct mly_draft *draft, const json_t *part, bool last,
                                      struct mly_error *err)
{
    const char *type = mly_compile_text(part, "type");
    uint32_t split = MLY_SPLIT_ISOLATED;
    bool each = false;
    const bool changes = strcmp(type, "Metaspace") == 0 || strcmp(type, "ByteLevel") == 0;
    if (changes && !last) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "tokenizer.json: pre_tokenizer %s before another is not supported", type);
    }
    if (strcmp(type, "Metaspace") == 0) return add_metaspace(draft, part, err);
    if (strcmp(type, "ByteLevel") == 0) return add_byte_level(draft, part, err);
    if (strcmp(type, "Split") == 0) return add_split(draft, part, err);
    if (strcmp(type, "Punctuation") == 0) {
        MLY_TRY(read_behaviour(part, &split, err));
        return add_step(draft, MLY_STEP_PUNCTUATION, split, err);
    }
    if (strcmp(type, "Digits") == 0) {
        MLY_TRY(mly_compile_flag(part, "pre_tokenizer", "individual_digits", &each, err));
        split = each ? MLY_SPLIT_ISOLATED : MLY_SPLIT_CONTIGUOUS;
        return add_step(draft, MLY_STEP_DIGITS, split, err);
    }
    for (size_t i = 0; i < sizeof(simple) / sizeof(simple[0]); i++) {
        if (strcmp(type, simple[i].type) == 0 && simple[i].kind > MLY_STEP_NORMALIZERS) {
            return add_step(draft, simple[i].kind, 0, err);
        }
    }
    return mly_compile_refuse("pre_tokenizer", "type", json_object_get(part, "type"), err);
}

enum mly_err mly_compile_pre_tokenizer(struct mly_draft *draft, const json_t *part,
                                       struct mly_error *err)
{
    if (part == NULL || json_is_null(part)) return MLY_OK;
    if (strcmp(mly_compile_text(part, "type"), "Sequence") != 0) {
        return add_pre_tokenizer(draft, part, true, err);
    }
    const json_t *list = json_object_get(part, "pretokenizers");
    if (!json_is_array(list)) {
        return mly_compile_refuse("pre_tokenizer", "pretokenizers", list, err);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const bool last = i + 1 == json_array_size(list);
        MLY_TRY(add_pre_tokenizer(draft, json_array_get(list, i), last, err));
    }
    return MLY_OK;
}

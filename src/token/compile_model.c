/* In: the model of a tokenizer.json. Out: its pieces as cells, scores and symbols. */
#include "token/compile_int.h"

#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

/* What the pieces are gathered in; texts that differ from the file's are in text. */
struct gather {
    struct mly_draft *draft;
    struct mly_trie_piece *pieces;
    size_t count;
    char *text;
    size_t text_bytes;
};

int mly_compile_byte_of(uint32_t c)
{
    if ((c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF)) {
        return (int)c;
    }
    /* The other 68 bytes, in order, are U+0100 and on. */
    if (c < 0x100 || c >= 0x144) return -1;
    const uint32_t rest = c - 0x100;
    if (rest < 33) return (int)rest;
    if (rest < 67) return (int)(rest - 33 + 127);
    return 0xAD;
}

int64_t mly_compile_id(const struct mly_draft *draft, const char *piece)
{
    if (json_is_object(draft->vocabulary) || draft->places != NULL) {
        const json_t *ids = draft->places != NULL ? draft->places : draft->vocabulary;
        const json_t *id = json_object_get(ids, piece);
        return json_is_integer(id) ? json_integer_value(id) : -1;
    }
    int64_t found = -1;
    for (size_t i = 0; i < json_array_size(draft->vocabulary); i++) {
        const json_t *text = json_array_get(json_array_get(draft->vocabulary, i), 0);
        if (json_is_string(text) && strcmp(json_string_value(text), piece) == 0) {
            found = (int64_t)i;
        }
    }
    return found;
}

/* The piece as encoding sees it; null where no text can hold it. */
static struct mly_str piece_bytes(struct gather *gather, struct mly_str piece)
{
    static const char mark[] = "\xe2\x96\x81";
    const uint32_t flags = gather->draft->settings.flags;
    char *out = gather->text + gather->text_bytes;
    size_t count = 0, taken = 0;
    for (size_t at = 0; at < piece.bytes; at += taken) {
        const uint32_t c = mly_utf8_decode(piece, at, &taken);
        if (flags & MLY_MODEL_BYTE_LEVEL) {
            const int byte = mly_compile_byte_of(c);
            if (byte < 0) return MLY_STR_NULL;
            out[count++] = (char)(byte == 0 ? (int)MLY_BYTE_NUL : byte);
            continue;
        }
        if (c == ' ' && (flags & MLY_MODEL_SPACES)) return MLY_STR_NULL;
        if (c == 0) {
            out[count++] = (char)MLY_BYTE_NUL;
        } else if ((flags & MLY_MODEL_SPACES) && taken == 3 &&
                   memcmp(piece.data + at, mark, 3) == 0) {
            out[count++] = ' ';
        } else {
            memcpy(out + count, piece.data + at, taken);
            count += taken;
        }
    }
    gather->text_bytes += count;
    return (struct mly_str){out, count};
}

static enum mly_err add_piece(struct gather *gather, struct mly_str piece, json_int_t id,
                              struct mly_error *err)
{
    if (id < 0 || id >= MLY_IDS_MAX - 1) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "tokenizer.json: piece \"%.*s\" has no id from 0 to %d",
                        (int)(piece.bytes < 40 ? piece.bytes : 40), piece.data, MLY_IDS_MAX - 2);
    }
    struct mly_settings *settings = &gather->draft->settings;
    if ((uint32_t)id >= settings->frame.id_count) settings->frame.id_count = (uint32_t)id + 1;
    const struct mly_str text = piece_bytes(gather, piece);
    if (text.bytes == 0) return MLY_OK; /* can be in no word */
    gather->pieces[gather->count++] = (struct mly_trie_piece){text, (int32_t)id};
    return MLY_OK;
}

static enum mly_err init_gather(struct gather *gather, struct mly_draft *draft, size_t count,
                                size_t text_bytes, struct mly_error *err)
{
    *gather = (struct gather){.draft = draft};
    gather->pieces = mly_mem_array(draft->mem, count, sizeof(gather->pieces[0]));
    gather->text = mly_mem_alloc(draft->mem, text_bytes);
    if (gather->pieces != NULL && gather->text != NULL) return MLY_OK;
    return mly_fail_nomem(err, count * sizeof(gather->pieces[0]) + text_bytes);
}

static enum mly_err add_object(struct gather *gather, struct mly_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(gather->draft->vocabulary, key, value)
    {
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        MLY_TRY(add_piece(gather, mly_str_of(key), id, err));
    }
    return MLY_OK;
}

static enum mly_err build_from_object(struct mly_draft *draft, struct mly_error *err)
{
    const size_t count = json_object_size(draft->vocabulary);
    size_t text_bytes = 1;
    const char *key;
    json_t *value;
    json_object_foreach(draft->vocabulary, key, value)
    {
        text_bytes += strlen(key);
    }
    struct gather gather;
    enum mly_err rc = init_gather(&gather, draft, count, text_bytes, err);
    if (rc == MLY_OK) rc = add_object(&gather, err);
    if (rc == MLY_OK && gather.count == 0) {
        rc = mly_fail(err, MLY_ERR_CORRUPT, "tokenizer.json: there are no pieces");
    }
    if (rc == MLY_OK) {
        rc = mly_trie_build_pieces(draft->mem, gather.pieces, gather.count, &draft->cells, err);
    }
    draft->settings.root_base = draft->cells.root_base;
    mly_mem_free(draft->mem, gather.pieces);
    mly_mem_free(draft->mem, gather.text);
    return rc;
}

static enum mly_err take_unknown(struct mly_draft *draft, const json_t *model,
                                 struct mly_error *err)
{
    const json_t *text = json_object_get(model, "unk_token");
    if (text == NULL || json_is_null(text)) return MLY_OK;
    const int64_t id = mly_compile_id(draft, mly_compile_text(model, "unk_token"));
    if (id < 0) return mly_compile_refuse("model", "unk_token", text, err);
    draft->settings.unk_id = (int32_t)id;
    return MLY_OK;
}

static enum mly_err compile_wordpiece(struct mly_draft *draft, const json_t *model,
                                      struct mly_error *err)
{
    const json_t *chars = json_object_get(model, "max_input_chars_per_word");
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
    const json_t *unknown = json_object_get(model, "unk_token");
    if (!json_is_integer(chars) || json_integer_value(chars) < 0 ||
        json_integer_value(chars) > UINT32_MAX / 2) {
        return mly_compile_refuse("model", "max_input_chars_per_word", chars, err);
    }
    if (!json_is_string(prefix)) {
        return mly_compile_refuse("model", "continuing_subword_prefix", prefix, err);
    }
    if (!json_is_string(unknown)) return mly_compile_refuse("model", "unk_token", unknown, err);
    if (draft->settings.flags & MLY_MODEL_BYTE_LEVEL) {
        return mly_compile_refuse("model", "type", json_object_get(model, "type"), err);
    }
    draft->settings.word_chars_max = (uint32_t)json_integer_value(chars);
    MLY_TRY(mly_compile_keep(draft, mly_str_of(json_string_value(prefix)),
                             &draft->settings.tail_prefix, err));
    return build_from_object(draft, err);
}

/* serde_json, which HF reads with, makes digits an integer, the integer a double, and divides: now
 * and then another last bit than the nearest number. Its digits are those that our reader had, as
 * both read the shortest that stand for a number. */
static double as_serde(double value)
{
    char digits[40];
    int places = 15;
    for (; places <= 17; places++) {
        (void)snprintf(digits, sizeof(digits), "%.*e", places - 1, value);
        if (strtod(digits, NULL) == value) break;
    }
    const char *e = strchr(digits, 'e');
    if (e == NULL) return value;
    uint64_t whole = 0;
    int exponent = (int)strtol(e + 1, NULL, 10), zeros = 0;
    for (const char *at = digits; at < e; at++) {
        if (*at < '0' || *at > '9') continue;
        zeros = *at == '0' ? zeros + 1 : 0;
        whole = 10 * whole + (uint64_t)(*at - '0');
        exponent--;
    }
    exponent++;
    for (; zeros > 0 && whole > 0; zeros--) {
        whole /= 10;
        exponent++;
    }
    if (exponent > 0 || exponent < -300) return value;
    double power = 1.0;
    if (exponent < -22) return value;
    for (int i = exponent; i < 0; i++) {
        power *= 10.0; /* exact up to 10^22 */
    }
    const double result = (double)whole / power;
    return value < 0 ? -result : result;
}

static enum mly_err add_scored(struct gather *gather, struct mly_error *err)
{
    struct mly_draft *draft = gather->draft;
    double least = 0.0;
    for (size_t i = 0; i < draft->score_count; i++) {
        const json_t *item = json_array_get(draft->vocabulary, i);
        const json_t *text = json_array_get(item, 0), *score = json_array_get(item, 1);
        if (json_string_length(text) > MLY_PIECE_BYTES_MAX) {
            return mly_fail(err, MLY_ERR_LIMIT, "tokenizer.json: piece %zu has more than %d bytes",
                            i, MLY_PIECE_BYTES_MAX);
        }
        if (!json_is_string(text) || !json_is_number(score)) {
            return mly_fail(err, MLY_ERR_CORRUPT,
                            "tokenizer.json: model.vocab[%zu] is no text with a score", i);
        }
        draft->scores[i] = json_is_real(score) ? as_serde(json_real_value(score))
                                               : (double)json_integer_value(score);
        if (i == 0 || draft->scores[i] < least) least = draft->scores[i];
        const struct mly_str piece = {json_string_value(text), json_string_length(text)};
        MLY_TRY(add_piece(gather, piece, (json_int_t)i, err));
    }
    draft->settings.unk_score = least - 10.0;
    return MLY_OK;
}

/* <0x00> to <0xFF>, which stand for the bytes of what is unknown. */
static void find_fallback(struct mly_draft *draft)
{
    draft->has_symbols = true;
    for (int byte = 0; byte < 256; byte++) {
        draft->symbols[byte] = MLY_NO_SYMBOL;
    }
    if (json_is_object(draft->vocabulary)) {
        for (int byte = 0; byte < 256; byte++) {
            char name[8];
            (void)snprintf(name, sizeof(name), "<0x%02X>", (unsigned)byte);
            draft->symbols[byte] = (int32_t)mly_compile_id(draft, name);
        }
        return;
    }
    for (size_t i = 0; i < json_array_size(draft->vocabulary); i++) {
        const char *text =
            json_string_value(json_array_get(json_array_get(draft->vocabulary, i), 0));
        char name[8];
        if (strlen(text) != 6 || strncmp(text, "<0x", 3) != 0) continue;
        const long byte = strtol(text + 3, NULL, 16);
        if (byte < 0 || byte > 255) continue;
        (void)snprintf(name, sizeof(name), "<0x%02X>", (unsigned)byte);
        if (strcmp(name, text) == 0) draft->symbols[byte] = (int32_t)i;
    }
}

static enum mly_err compile_unigram(struct mly_draft *draft, const json_t *model,
                                    struct mly_error *err)
{
    const json_t *unknown = json_object_get(model, "unk_id");
    const json_t *fallback = json_object_get(model, "byte_fallback");
    draft->score_count = json_array_size(draft->vocabulary);
    if (!json_is_integer(unknown) || json_integer_value(unknown) < 0 ||
        (uint64_t)json_integer_value(unknown) >= draft->score_count) {
        return mly_compile_refuse("model", "unk_id", unknown, err);
    }
    if (draft->settings.flags & MLY_MODEL_BYTE_LEVEL) {
        return mly_compile_refuse("model", "type", json_object_get(model, "type"), err);
    }
    draft->settings.unk_id = (int32_t)json_integer_value(unknown);
    draft->scores = mly_mem_array(draft->mem, draft->score_count, sizeof(draft->scores[0]));
    if (draft->scores == NULL) return mly_fail_nomem(err, draft->score_count * sizeof(double));
    size_t text_bytes = 1;
    for (size_t i = 0; i < draft->score_count; i++) {
        text_bytes += json_string_length(json_array_get(json_array_get(draft->vocabulary, i), 0));
    }
    struct gather gather;
    enum mly_err rc = init_gather(&gather, draft, draft->score_count, text_bytes, err);
    if (rc == MLY_OK) rc = add_scored(&gather, err);
    if (rc == MLY_OK) {
        rc = mly_trie_build_pieces(draft->mem, gather.pieces, gather.count, &draft->cells, err);
    }
    draft->settings.root_base = draft->cells.root_base;
    mly_mem_free(draft->mem, gather.pieces);
    mly_mem_free(draft->mem, gather.text);
    if (rc != MLY_OK || !json_is_true(fallback)) return rc;
    draft->settings.flags |= MLY_MODEL_BYTE_FALLBACK;
    find_fallback(draft);
    return MLY_OK;
}

static enum mly_err check_absent(const json_t *model, const char *key, struct mly_error *err)
{
    const json_t *value = json_object_get(model, key);
    const bool empty = json_is_string(value) && json_string_length(value) == 0;
    const bool zero = json_is_number(value) && json_number_value(value) == 0.0;
    if (value == NULL || json_is_null(value) || empty || zero) return MLY_OK;
    return mly_compile_refuse("model", key, value, err);
}

static enum mly_err compile_bpe(struct mly_draft *draft, const json_t *model, struct mly_error *err)
{
    struct mly_settings *settings = &draft->settings;
    MLY_TRY(check_absent(model, "dropout", err));
    MLY_TRY(check_absent(model, "continuing_subword_prefix", err));
    MLY_TRY(check_absent(model, "end_of_word_suffix", err));
    if (json_is_true(json_object_get(model, "fuse_unk"))) settings->flags |= MLY_MODEL_FUSE_UNK;
    if (json_is_true(json_object_get(model, "ignore_merges"))) {
        settings->flags |= MLY_MODEL_IGNORE_MERGES;
    }
    MLY_TRY(build_from_object(draft, err));
    if (settings->flags & MLY_MODEL_BYTE_LEVEL) {
        if (json_is_true(json_object_get(model, "byte_fallback"))) {
            return mly_compile_refuse("model", "byte_fallback",
                                      json_object_get(model, "byte_fallback"), err);
        }
        draft->has_symbols = true;
        for (int byte = 0; byte < 256; byte++) {
            draft->symbols[byte] = MLY_NO_SYMBOL;
        }
        for (uint32_t c = '!'; c < 0x144; c++) {
            char piece[5] = {0};
            const int byte = mly_compile_byte_of(c);
            (void)mly_utf8_encode(c, piece);
            if (byte >= 0) draft->symbols[byte] = (int32_t)mly_compile_id(draft, piece);
        }
    } else if (json_is_true(json_object_get(model, "byte_fallback"))) {
        settings->flags |= MLY_MODEL_BYTE_FALLBACK;
        find_fallback(draft);
    }
    return mly_compile_merges(draft, model, err);
}

enum mly_err mly_compile_model(struct mly_draft *draft, const json_t *model, struct mly_error *err)
{
    static const char *const types[] = {"WordPiece", "Unigram", "BPE"};
    const char *type = mly_compile_text(model, "type");
    uint32_t kind = 0;
    while (kind < 3 && strcmp(type, types[kind]) != 0) {
        kind++;
    }
    if (kind == 3) return mly_compile_refuse("model", "type", json_object_get(model, "type"), err);
    draft->settings.model = kind;
    draft->vocabulary = json_object_get(model, "vocab");
    const bool right = kind == MLY_MODEL_UNIGRAM ? json_is_array(draft->vocabulary)
                                                 : json_is_object(draft->vocabulary);
    if (!right) return mly_compile_refuse("model", "vocab", draft->vocabulary, err);
    if (kind != MLY_MODEL_UNIGRAM) MLY_TRY(take_unknown(draft, model, err));
    if (kind == MLY_MODEL_WORDPIECE) return compile_wordpiece(draft, model, err);
    return kind == MLY_MODEL_UNIGRAM ? compile_unigram(draft, model, err)
                                     : compile_bpe(draft, model, err);
}

/* In: the added tokens of a tokenizer.json, and what it puts around a text. Out: the tables that
 * added tokens are found with, and the frame. */
#include "token/compile_int.h"

static struct mly_str text_of(const json_t *value)
{
    if (!json_is_string(value)) return MLY_STR_NULL;
    return (struct mly_str){json_string_value(value), json_string_length(value)};
}

static enum mly_err read_flag(const json_t *token, const char *key, uint32_t flag, uint32_t *flags,
                              struct mly_error *err)
{
    const json_t *value = json_object_get(token, key);
    if (value != NULL && !json_is_boolean(value)) {
        return mly_compile_refuse("added_tokens", key, value, err);
    }
    if (json_is_true(value)) *flags |= flag;
    return MLY_OK;
}

/* HF gives an added token the id of the piece of that text, else the next one that is free,
 * whatever the file says. */
static enum mly_err read_added(struct mly_draft *draft, const json_t *token, int64_t *next_id,
                               struct mly_added *out, struct mly_error *err)
{
    const json_t *content = json_object_get(token, "content"), *id = json_object_get(token, "id");
    const struct mly_str text = text_of(content);
    if (text.bytes == 0 || text.bytes > 65536 || strlen(text.data) != text.bytes) {
        return mly_compile_refuse("added_tokens", "content", content, err);
    }
    int64_t real = mly_compile_id(draft, text.data);
    if (real < 0) real = (*next_id)++;
    if (!json_is_integer(id) || json_integer_value(id) != real || real >= MLY_IDS_MAX - 1) {
        return mly_compile_refuse("added_tokens", text.data, id, err);
    }
    MLY_TRY(read_flag(token, "lstrip", MLY_ADDED_LSTRIP, &out->flags, err));
    MLY_TRY(read_flag(token, "rstrip", MLY_ADDED_RSTRIP, &out->flags, err));
    MLY_TRY(read_flag(token, "single_word", MLY_ADDED_WORD, &out->flags, err));
    out->id = (int32_t)real;
    struct mly_tokenizer_frame *frame = &draft->settings.frame;
    if ((uint32_t)real >= frame->id_count) frame->id_count = (uint32_t)real + 1;
    return mly_compile_keep(draft, text, &out->text, err);
}

/* What is looked for after normalising is the normalised token. */
static enum mly_err normalise(struct mly_draft *draft, struct mly_tokenizer *tokenizer,
                              struct mly_scratch *scratch, struct mly_added *added,
                              struct mly_error *err)
{
    const struct mly_str text = mly_str_slice(mly_bytes_view(&draft->texts), added->text.offset,
                                              (size_t)added->text.offset + added->text.bytes);
    MLY_TRY(mly_window_load(&scratch->window, text, 0, text.bytes, err));
    MLY_TRY(mly_normalize(tokenizer, scratch, true, true, err));
    const struct mly_str normal = {(const char *)scratch->window.bytes, scratch->window.count};
    if (normal.bytes == 0) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "tokenizer.json: added_tokens.%.*s is nothing when normalized",
                        (int)(text.bytes < 40 ? text.bytes : 40), text.data);
    }
    return mly_compile_keep(draft, normal, &added->text, err);
}

static enum mly_err normalise_all(struct mly_draft *draft, const json_t *list,
                                  struct mly_error *err)
{
    const size_t needed = sizeof(struct mly_tokenizer) + sizeof(struct mly_scratch);
    struct mly_tokenizer *tokenizer = mly_mem_array(draft->mem, 1, sizeof(*tokenizer));
    struct mly_scratch *scratch = mly_mem_array(draft->mem, 1, sizeof(*scratch));
    enum mly_err rc = MLY_OK;
    if (scratch != NULL) {
        scratch->mem = draft->mem;
        mly_window_init(&scratch->window, draft->mem);
        mly_window_init(&scratch->spare, draft->mem);
    }
    if (tokenizer == NULL || scratch == NULL) {
        rc = mly_fail_nomem(err, needed);
        goto done;
    }
    for (size_t i = 0; i < draft->added_count && rc == MLY_OK; i++) {
        if (!json_is_true(json_object_get(json_array_get(list, i), "normalized"))) continue;
        tokenizer->compiled = mly_compile_view(draft); /* texts move as they grow */
        mly_normalize_prepare(tokenizer);
        rc = normalise(draft, tokenizer, scratch, &draft->added[i], err);
    }
done:
    mly_scratch_destroy(scratch);
    mly_mem_free(draft->mem, tokenizer);
    return rc;
}

static enum mly_err build_cells(struct mly_draft *draft, const json_t *list, bool normalized,
                                struct mly_trie *out, struct mly_error *err)
{
    struct mly_trie_piece *pieces =
        mly_mem_array(draft->mem, draft->added_count + 1, sizeof(pieces[0]));
    if (pieces == NULL) return mly_fail_nomem(err, draft->added_count * sizeof(pieces[0]));
    size_t count = 0;
    const struct mly_str texts = mly_bytes_view(&draft->texts);
    for (size_t i = 0; i < draft->added_count; i++) {
        const json_t *flag = json_object_get(json_array_get(list, i), "normalized");
        if (json_is_true(flag) != normalized) continue;
        const struct mly_text_ref ref = draft->added[i].text;
        pieces[count++] = (struct mly_trie_piece){
            mly_str_slice(texts, ref.offset, (size_t)ref.offset + ref.bytes), (int32_t)i};
    }
    const enum mly_err rc =
        count > 0 ? mly_trie_build_pieces(draft->mem, pieces, count, out, err) : MLY_OK;
    mly_mem_free(draft->mem, pieces);
    return rc;
}

/* Thousands of tokens may be looked up among hundreds of thousands of pieces. Of a text that stands
 * twice, the last place counts. */
static enum mly_err list_places(struct mly_draft *draft, struct mly_error *err)
{
    draft->places = json_object();
    for (size_t i = 0; draft->places != NULL && i < json_array_size(draft->vocabulary); i++) {
        const char *text =
            json_string_value(json_array_get(json_array_get(draft->vocabulary, i), 0));
        json_t *place = json_integer((json_int_t)i);
        if (text != NULL && json_object_set_new_nocheck(draft->places, text, place) == 0) continue;
        return mly_fail_nomem(err, json_array_size(draft->vocabulary));
    }
    return draft->places != NULL ? MLY_OK : mly_fail_nomem(err, sizeof(json_t));
}

enum mly_err mly_compile_added(struct mly_draft *draft, const json_t *list, struct mly_error *err)
{
    const size_t count = json_array_size(list);
    if (count == 0) return MLY_OK;
    if (count > MLY_ADDED_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "tokenizer.json: %zu added tokens, at most %d", count,
                        MLY_ADDED_MAX);
    }
    int64_t next_id = json_is_array(draft->vocabulary)
                          ? (int64_t)json_array_size(draft->vocabulary)
                          : (int64_t)json_object_size(draft->vocabulary);
    if (json_is_array(draft->vocabulary)) MLY_TRY(list_places(draft, err));
    draft->added = mly_mem_array(draft->mem, count, sizeof(draft->added[0]));
    if (draft->added == NULL) return mly_fail_nomem(err, count * sizeof(draft->added[0]));
    draft->added_count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *token = json_array_get(list, i);
        MLY_TRY(read_flag(token, "normalized", 0, &draft->added[i].flags, err));
        MLY_TRY(read_added(draft, token, &next_id, &draft->added[i], err));
    }
    MLY_TRY(normalise_all(draft, list, err));
    MLY_TRY(build_cells(draft, list, false, &draft->raw, err));
    MLY_TRY(build_cells(draft, list, true, &draft->normal, err));
    draft->settings.raw_base = draft->raw.root_base;
    draft->settings.normal_base = draft->normal.root_base;
    return MLY_OK;
}

/* ---- the frame ---- */

/* One more id before the text, or behind it. */
static enum mly_err add_frame(struct mly_draft *draft, bool behind, const json_t *id,
                              struct mly_error *err)
{
    struct mly_tokenizer_frame *frame = &draft->settings.frame;
    int32_t *ids = behind ? frame->suffix : frame->prefix;
    uint32_t *count = behind ? &frame->suffix_count : &frame->prefix_count;
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= frame->id_count || *count == MLY_FRAME_MAX) {
        return mly_compile_refuse("post_processor", "id", id, err);
    }
    ids[(*count)++] = (int32_t)json_integer_value(id);
    return MLY_OK;
}

static enum mly_err add_special(struct mly_draft *draft, const json_t *processor,
                                const json_t *special, bool behind, struct mly_error *err)
{
    const json_t *type_id = json_object_get(special, "type_id");
    const json_t *tokens = json_object_get(processor, "special_tokens");
    const json_t *token = json_object_get(tokens, mly_compile_text(special, "id"));
    const json_t *ids = json_object_get(token, "ids");
    if (json_is_integer(type_id) && json_integer_value(type_id) != 0) {
        return mly_compile_refuse("post_processor", "type_id", type_id, err);
    }
    if (json_array_size(ids) == 0) {
        return mly_compile_refuse("post_processor", "single", special, err);
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        MLY_TRY(add_frame(draft, behind, json_array_get(ids, i), err));
    }
    return MLY_OK;
}

static enum mly_err read_template(struct mly_draft *draft, const json_t *processor,
                                  struct mly_error *err)
{
    const json_t *single = json_object_get(processor, "single");
    bool behind = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *special = json_object_get(item, "SpecialToken");
        const json_t *sequence = json_object_get(item, "Sequence");
        if (special != NULL) {
            MLY_TRY(add_special(draft, processor, special, behind, err));
            continue;
        }
        const json_t *type_id = json_object_get(sequence, "type_id");
        const bool zero = type_id == NULL || json_integer_value(type_id) == 0;
        if (behind || !zero || strcmp(mly_compile_text(sequence, "id"), "A") != 0) {
            return mly_compile_refuse("post_processor", "single", single, err);
        }
        behind = true;
    }
    return behind ? MLY_OK : mly_compile_refuse("post_processor", "single", single, err);
}

static enum mly_err read_processor(struct mly_draft *draft, const json_t *processor, bool *framed,
                                   struct mly_error *err)
{
    const char *type = mly_compile_text(processor, "type");
    if (strcmp(type, "ByteLevel") == 0) return MLY_OK;
    const bool template = strcmp(type, "TemplateProcessing") == 0;
    const bool pair = strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0;
    if (*framed || (!template && !pair)) {
        return mly_compile_refuse("post_processor", "type", json_object_get(processor, "type"),
                                  err);
    }
    *framed = true;
    if (template) return read_template(draft, processor, err);
    const json_t *cls = json_object_get(processor, "cls"), *sep = json_object_get(processor, "sep");
    MLY_TRY(add_frame(draft, false, json_array_get(cls, 1), err));
    return add_frame(draft, true, json_array_get(sep, 1), err);
}

static enum mly_err read_processors(struct mly_draft *draft, const json_t *processor,
                                    struct mly_error *err)
{
    bool framed = false;
    if (processor == NULL || json_is_null(processor)) return MLY_OK;
    if (strcmp(mly_compile_text(processor, "type"), "Sequence") != 0) {
        return read_processor(draft, processor, &framed, err);
    }
    const json_t *list = json_object_get(processor, "processors");
    for (size_t i = 0; i < json_array_size(list); i++) {
        MLY_TRY(read_processor(draft, json_array_get(list, i), &framed, err));
    }
    return MLY_OK;
}

/* What a shorter text of a batch is filled up with. */
static int64_t find_pad(const struct mly_draft *draft, const json_t *tokenizer)
{
    const json_t *id = json_object_get(json_object_get(tokenizer, "padding"), "pad_id");
    if (json_is_integer(id)) return json_integer_value(id);
    static const char *const names[] = {"[PAD]", "<pad>"};
    const json_t *added = json_object_get(tokenizer, "added_tokens");
    for (size_t k = 0; k < 2; k++) {
        const int64_t found = mly_compile_id(draft, names[k]);
        if (found >= 0) return found;
        for (size_t i = 0; i < json_array_size(added); i++) {
            const json_t *token = json_array_get(added, i);
            if (strcmp(mly_compile_text(token, "content"), names[k]) == 0) {
                return draft->added[i].id;
            }
        }
    }
    return 0;
}

enum mly_err mly_compile_frame(struct mly_draft *draft, const json_t *tokenizer,
                               struct mly_error *err)
{
    struct mly_tokenizer_frame *frame = &draft->settings.frame;
    MLY_TRY(read_processors(draft, json_object_get(tokenizer, "post_processor"), err));
    const int64_t pad = find_pad(draft, tokenizer);
    frame->pad_id = pad >= 0 && pad < frame->id_count ? (int32_t)pad : 0;
    const json_t *cut = json_object_get(tokenizer, "truncation");
    const json_t *most = json_object_get(cut, "max_length");
    if (strcmp(mly_compile_text(cut, "direction"), "Left") == 0) {
        return mly_compile_refuse("truncation", "direction", json_object_get(cut, "direction"),
                                  err);
    }
    if (json_is_integer(most) && json_integer_value(most) > 0 &&
        json_integer_value(most) <= INT32_MAX) {
        frame->pieces_max = (uint32_t)json_integer_value(most);
    }
    return MLY_OK;
}

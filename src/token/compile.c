/* In: a tokenizer.json. Out: its compiled form.
 *
 * Whatever the file says that we would not follow exactly is refused by name: vectors of wrongly
 * cut text would be wrong without anybody noticing. */
#include "token/compile_int.h"

#include <string.h>

#define SHOWN_BYTES 64

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

enum mly_err mly_compile_refuse(const char *part, const char *key, const json_t *value,
                                struct mly_error *err)
{
    char shown[SHOWN_BYTES];
    show(value, shown);
    return mly_fail(err, MLY_ERR_UNSUPPORTED,
                    "tokenizer.json: %s%s%s is %s, which is not supported", part,
                    key[0] == '\0' ? "" : ".", key, shown);
}

const char *mly_compile_text(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_string_value(value) : "";
}

enum mly_err mly_compile_flag(const json_t *object, const char *part, const char *key, bool *out,
                              struct mly_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value)) return mly_compile_refuse(part, key, value, err);
    *out = json_is_true(value);
    return MLY_OK;
}

enum mly_err mly_compile_keep(struct mly_draft *draft, struct mly_str text,
                              struct mly_text_ref *out, struct mly_error *err)
{
    const size_t offset = draft->texts.bytes;
    MLY_TRY(mly_bytes_append(&draft->texts, text.data, text.bytes, err));
    *out = (struct mly_text_ref){(uint32_t)offset, (uint32_t)text.bytes};
    return MLY_OK;
}

struct mly_compiled mly_compile_view(const struct mly_draft *draft)
{
    return (struct mly_compiled){
        .settings = &draft->settings,
        .steps = draft->steps,
        .cells = draft->cells,
        .raw = draft->raw,
        .normal = draft->normal,
        .scores = draft->scores,
        .score_count = draft->score_count,
        .merges = draft->merges,
        .merge_mask = draft->merge_slots > 0 ? draft->merge_slots - 1 : 0,
        .symbols = draft->has_symbols ? draft->symbols : NULL,
        .added = draft->added,
        .added_count = draft->added_count,
        .charsmap = (const uint32_t *)(const void *)draft->charsmap.data,
        .charsmap_count = draft->charsmap.bytes / sizeof(uint32_t),
        .texts = draft->texts.bytes > 0 ? mly_bytes_view(&draft->texts) : MLY_STR(""),
    };
}

static enum mly_err write_draft(const struct mly_draft *draft, struct mly_bytes *out,
                                struct mly_error *err)
{
    const struct mly_str parts[MLY_SECTION_COUNT] = {
        [MLY_SECTION_SETTINGS] = {(const char *)&draft->settings, sizeof(draft->settings)},
        [MLY_SECTION_STEPS] = {(const char *)draft->steps,
                               draft->step_count * sizeof(draft->steps[0])},
        [MLY_SECTION_CELLS] = {(const char *)draft->cells.cells,
                               draft->cells.cell_count * sizeof(draft->cells.cells[0])},
        [MLY_SECTION_SCORES] = {(const char *)draft->scores,
                                draft->score_count * sizeof(draft->scores[0])},
        [MLY_SECTION_MERGES] = {(const char *)draft->merges,
                                draft->merge_slots * sizeof(draft->merges[0])},
        [MLY_SECTION_SYMBOLS] = {(const char *)draft->symbols,
                                 draft->has_symbols ? sizeof(draft->symbols) : 0},
        [MLY_SECTION_ADDED] = {(const char *)draft->added,
                               draft->added_count * sizeof(draft->added[0])},
        [MLY_SECTION_RAW] = {(const char *)draft->raw.cells,
                             draft->raw.cell_count * sizeof(draft->raw.cells[0])},
        [MLY_SECTION_NORMAL] = {(const char *)draft->normal.cells,
                                draft->normal.cell_count * sizeof(draft->normal.cells[0])},
        [MLY_SECTION_CHARSMAP] = {(const char *)draft->charsmap.data, draft->charsmap.bytes},
        [MLY_SECTION_TEXTS] = {(const char *)draft->texts.data, draft->texts.bytes},
    };
    struct mly_compiled_header header = {.version = MLY_COMPILED_VERSION,
                                         .section_count = MLY_SECTION_COUNT};
    memcpy(header.magic, MLY_COMPILED_MAGIC, sizeof(header.magic));
    uint64_t offset = sizeof(header);
    for (size_t i = 0; i < MLY_SECTION_COUNT; i++) {
        header.sections[i] = (struct mly_section){offset, parts[i].bytes};
        offset += (parts[i].bytes + 7) / 8 * 8;
    }
    header.bytes = offset;
    MLY_TRY(mly_bytes_append(out, &header, sizeof(header), err));
    for (size_t i = 0; i < MLY_SECTION_COUNT; i++) {
        if (parts[i].bytes > 0) MLY_TRY(mly_bytes_append(out, parts[i].data, parts[i].bytes, err));
        MLY_TRY(mly_bytes_append_zeros(out, (size_t)(0 - parts[i].bytes) & 7u, err));
    }
    return MLY_OK;
}

static enum mly_err fill_draft(struct mly_draft *draft, const json_t *tokenizer,
                               struct mly_error *err)
{
    const json_t *model = json_object_get(tokenizer, "model");
    if (!json_is_object(model)) return mly_compile_refuse("model", "", model, err);
    MLY_TRY(mly_compile_normalizer(draft, json_object_get(tokenizer, "normalizer"), err));
    draft->settings.normalizer_count = (uint32_t)draft->step_count;
    MLY_TRY(mly_compile_pre_tokenizer(draft, json_object_get(tokenizer, "pre_tokenizer"), err));
    draft->settings.pre_tokenizer_count =
        (uint32_t)draft->step_count - draft->settings.normalizer_count;
    MLY_TRY(mly_compile_model(draft, model, err));
    MLY_TRY(mly_compile_added(draft, json_object_get(tokenizer, "added_tokens"), err));
    return mly_compile_frame(draft, tokenizer, err);
}

static enum mly_err compile(struct mly_mem *mem, const json_t *tokenizer, struct mly_bytes *out,
                            struct mly_error *err)
{
    struct mly_draft *draft = mly_mem_array(mem, 1, sizeof(*draft));
    if (draft == NULL) return mly_fail_nomem(err, sizeof(*draft));
    draft->mem = mem;
    draft->settings.unk_id = -1;
    mly_bytes_init(&draft->charsmap, mem, UINT32_MAX / 2);
    mly_bytes_init(&draft->texts, mem, UINT32_MAX / 2);
    const size_t before = out->bytes;
    enum mly_err rc = fill_draft(draft, tokenizer, err);
    if (rc == MLY_OK) rc = write_draft(draft, out, err);
    if (rc != MLY_OK) out->bytes = before;
    json_decref(draft->places);
    mly_trie_deinit(mem, &draft->cells);
    mly_trie_deinit(mem, &draft->raw);
    mly_trie_deinit(mem, &draft->normal);
    mly_mem_free(mem, draft->scores);
    mly_mem_free(mem, draft->merges);
    mly_mem_free(mem, draft->added);
    mly_bytes_deinit(&draft->charsmap);
    mly_bytes_deinit(&draft->texts);
    mly_mem_free(mem, draft);
    return rc;
}

enum mly_err mly_tokenizer_compile(struct mly_mem *mem, struct mly_str json, struct mly_bytes *out,
                                   struct mly_error *err)
{
    json_error_t fault;
    json_t *tokenizer = json_loadb(json.bytes > 0 ? json.data : "", json.bytes,
                                   JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &fault);
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

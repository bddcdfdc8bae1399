/* In: a tokenizer's bytes. Out: the read-only tables that encoding works with.
 *
 * BERT uncased with its default settings, in whatever form, goes the fast way of encode.c and
 * fold.c; everything else the general one of pipeline.c. */
#include "token/property.h"
#include "token/token_int.h"

static int32_t find_id(const struct mly_trie *trie, struct mly_str piece)
{
    const struct mly_trie_cell *cell = mly_trie_find(trie, piece);
    return cell != NULL ? cell->id : -1;
}

/* The classes of the ASCII bytes are read from the Unicode tables, so that there is one definition.
 */
static void fill_bert(struct mly_tokenizer *t)
{
    struct mly_bert *bert = &t->bert;
    for (unsigned byte = 0; byte < 256; byte++) {
        bert->byte_kind[byte] = MLY_FOLD_CONTROL;
        bert->byte_lower[byte] = (uint8_t)byte;
        if (byte >= 128) continue;
        uint32_t record = mly_fold_record(byte);
        uint32_t folded = mly_fold_record_payload(record);
        bert->byte_kind[byte] = (uint8_t)mly_fold_record_kind(record);
        if (folded != 0) bert->byte_lower[byte] = (uint8_t)folded;
        char piece = (char)byte;
        int32_t id = byte > 0 ? find_id(&t->trie, (struct mly_str){&piece, 1}) : -1;
        bert->punct_ids[byte] = id >= 0 ? id : t->unk_id;
    }
    const struct mly_trie_cell *tail = mly_trie_find(&t->trie, MLY_STR("##"));
    bert->tail_base = tail != NULL ? tail->base_label >> 8 : 0;
    bert->usable = true;
}

static enum mly_err find_specials(struct mly_tokenizer *t, struct mly_error *err)
{
    static const struct mly_str texts[] = {
        {"[UNK]", 5}, {"[CLS]", 5}, {"[SEP]", 5}, {"[PAD]", 5}, {"[MASK]", 6},
    };
    int32_t ids[5];
    for (size_t i = 0; i < 5; i++) {
        ids[i] = find_id(&t->trie, texts[i]);
        if (i < 3 && ids[i] < 0) {
            return mly_fail(err, MLY_ERR_CORRUPT, "vocabulary has no %s", texts[i].data);
        }
        if (ids[i] < 0) continue;
        t->bert.specials[t->bert.special_count++] = (struct mly_special){texts[i], ids[i]};
    }
    t->unk_id = ids[0];
    t->frame.prefix[0] = ids[1];
    t->frame.suffix[0] = ids[2];
    t->frame.prefix_count = t->frame.suffix_count = 1;
    t->frame.pad_id = ids[3] >= 0 ? ids[3] : 0;
    return MLY_OK;
}

static enum mly_err fill_from_lines(struct mly_tokenizer *t, struct mly_str vocabulary,
                                    struct mly_error *err)
{
    MLY_TRY(mly_trie_build(t->mem, vocabulary, &t->trie, err));
    MLY_TRY(find_specials(t, err));
    for (size_t i = 0; i < vocabulary.bytes; i++) {
        t->frame.id_count += vocabulary.data[i] == '\n' || i + 1 == vocabulary.bytes;
    }
    fill_bert(t);
    return MLY_OK;
}

/* True where the compiled form is just what the fast way does. */
static bool is_bert(const struct mly_compiled *c)
{
    static const uint32_t kinds[] = {MLY_STEP_CLEAN,     MLY_STEP_CJK,
                                     MLY_STEP_NFD,       MLY_STEP_STRIP_NONSPACING,
                                     MLY_STEP_LOWERCASE, MLY_STEP_BERT_WORDS};
    const struct mly_settings *s = c->settings;
    bool same = s->model == MLY_MODEL_WORDPIECE && s->normalizer_count == 5 &&
                s->pre_tokenizer_count == 1 && s->word_chars_max == MLY_WORD_CHARS_MAX &&
                mly_str_equal(mly_compiled_text(c, s->tail_prefix), MLY_STR("##")) &&
                c->added_count <= MLY_SPECIALS && c->normal.cell_count == 0;
    for (size_t i = 0; same && i < 6; i++) {
        same = c->steps[i].kind == kinds[i];
    }
    for (size_t i = 0; same && i < c->added_count; i++) {
        const struct mly_str text = mly_compiled_text(c, c->added[i].text);
        same = c->added[i].flags == 0 && text.data[0] == '[';
    }
    return same;
}

/* True where no step reaches over a single space between a letter or the like and a letter. */
static bool step_is_local(const struct mly_compiled *c, const struct mly_step *step,
                          const struct mly_ascii *ascii)
{
    const struct mly_str a = mly_compiled_text(c, step->a), b = mly_compiled_text(c, step->b);
    if (step->kind < MLY_STEP_STRIP) return ascii->map[' '] == ' ';
    if (step->kind == MLY_STEP_REPLACE) {
        size_t spaces = 0;
        for (size_t i = 0; i < a.bytes; i++) {
            spaces += a.data[i] == ' ';
        }
        return spaces == 0 || (spaces == a.bytes && spaces > 1);
    }
    if (step->kind == MLY_STEP_REPLACE_RUN) {
        return step->flags > 1 || mly_str_equal(b, MLY_STR(" ")) ||
               (a.bytes > 0 && a.data[0] != ' ');
    }
    return true;
}

static bool added_is_local(const struct mly_compiled *c, const struct mly_added *added)
{
    const struct mly_str text = mly_compiled_text(c, added->text);
    size_t taken = 0;
    for (size_t at = 0; at < text.bytes; at += taken) {
        const uint32_t point =
            mly_window_decode((const uint8_t *)text.data + at, text.bytes - at, &taken);
        const uint32_t bits = mly_property(point)->bits;
        if ((bits & MLY_IS_SPACE) || (at == 0 && (bits & MLY_IS_LETTER))) return false;
    }
    return (added->flags & MLY_ADDED_RSTRIP) == 0;
}

static bool may_cut_anywhere(const struct mly_tokenizer *t)
{
    const struct mly_compiled *c = &t->compiled;
    const struct mly_settings *s = c->settings;
    bool cuts = false;
    for (size_t i = 0; i < s->normalizer_count; i++) {
        if (!step_is_local(c, &c->steps[i], &t->ascii[i])) return false;
    }
    for (size_t i = 0; i < s->pre_tokenizer_count; i++) {
        const struct mly_step *step = &c->steps[s->normalizer_count + i];
        switch ((enum mly_step_kind)step->kind) {
        case MLY_STEP_BERT_WORDS:
        case MLY_STEP_WHITESPACE:
        case MLY_STEP_SPACE_SPLIT:
        case MLY_STEP_GPT2:
        case MLY_STEP_CL100K:
            cuts = true;
            break;
        case MLY_STEP_METASPACE:
            cuts = cuts || (step->flags & MLY_METASPACE_CUT);
            break;
        default:
            break;
        }
    }
    for (size_t i = 0; c->normal.cell_count > 0 && i < c->added_count; i++) {
        if (!added_is_local(c, &c->added[i])) return false;
    }
    return cuts;
}

static void fill_begins(const struct mly_trie *trie, uint8_t begins[256])
{
    for (unsigned byte = 1; byte < 256 && trie->cell_count > 0; byte++) {
        begins[byte] = (trie->cells[trie->root_base ^ byte].base_label & 0xFFu) == byte;
    }
}

static enum mly_err fill_from_compiled(struct mly_tokenizer *t, struct mly_str bytes,
                                       struct mly_error *err)
{
    struct mly_compiled *c = &t->compiled;
    if ((uintptr_t)bytes.data % 8 != 0) {
        t->bytes = mly_mem_alloc(t->mem, bytes.bytes);
        if (t->bytes == NULL) return mly_fail_nomem(err, bytes.bytes);
        memcpy(t->bytes, bytes.data, bytes.bytes);
        bytes.data = t->bytes;
    }
    MLY_TRY(mly_compiled_open(bytes, c, err));
    t->frame = c->settings->frame;
    t->unk_id = c->settings->unk_id;
    const struct mly_str prefix = mly_compiled_text(c, c->settings->tail_prefix);
    const struct mly_trie_cell *tail =
        mly_trie_walk(&c->cells, c->cells.root_base, (const uint8_t *)prefix.data, prefix.bytes);
    if (prefix.bytes == 0) t->tail_base = c->cells.root_base;
    if (tail != NULL) t->tail_base = tail->base_label >> 8;
    mly_normalize_prepare(t);
    fill_begins(&c->raw, t->raw_begins);
    fill_begins(&c->normal, t->normal_begins);
    t->cut_anywhere = may_cut_anywhere(t);
    if (!is_bert(c)) return MLY_OK;
    t->trie = c->cells;
    for (size_t i = 0; i < c->added_count; i++) {
        t->bert.specials[t->bert.special_count++] =
            (struct mly_special){mly_compiled_text(c, c->added[i].text), c->added[i].id};
    }
    fill_bert(t);
    return MLY_OK;
}

/* The compiled bytes become the tokenizer's own. */
static enum mly_err fill_from_json(struct mly_tokenizer *t, struct mly_str json,
                                   struct mly_error *err)
{
    struct mly_bytes compiled;
    mly_bytes_init(&compiled, t->mem, SIZE_MAX / 2);
    enum mly_err rc = mly_tokenizer_compile(t->mem, json, &compiled, err);
    if (rc == MLY_OK) {
        t->bytes = compiled.data;
        rc = fill_from_compiled(t, mly_bytes_view(&compiled), err);
    } else {
        mly_bytes_deinit(&compiled);
    }
    return rc;
}

enum mly_err mly_tokenizer_create(struct mly_mem *mem, enum mly_tokenizer_form form,
                                  struct mly_str bytes, struct mly_tokenizer **out,
                                  struct mly_error *err)
{
    struct mly_tokenizer *t = mly_mem_array(mem, 1, sizeof(*t));
    if (t == NULL) return mly_fail_nomem(err, sizeof(*t));
    t->mem = mem;
    enum mly_err rc = MLY_OK;
    t->slots = mly_mem_array(mem, MLY_SCRATCH_SLOTS, sizeof(t->slots[0]));
    if (t->slots == NULL) {
        rc = mly_fail_nomem(err, MLY_SCRATCH_SLOTS * sizeof(t->slots[0]));
        goto done;
    }
    for (size_t i = 0; i < MLY_SCRATCH_SLOTS; i++) {
        atomic_init(&t->slots[i], NULL);
    }
    if (form == MLY_TOKENIZER_VOCABULARY) {
        rc = fill_from_lines(t, bytes, err);
    } else if (form == MLY_TOKENIZER_JSON) {
        rc = fill_from_json(t, bytes, err);
    } else {
        rc = fill_from_compiled(t, bytes, err);
    }
    if (rc != MLY_OK) goto done;
    *out = t;
    t = NULL;
done:
    mly_tokenizer_destroy(t);
    return rc;
}

void mly_tokenizer_destroy(struct mly_tokenizer *tokenizer)
{
    if (tokenizer == NULL) return;
    for (size_t i = 0; tokenizer->slots != NULL && i < MLY_SCRATCH_SLOTS; i++) {
        mly_scratch_destroy(atomic_load(&tokenizer->slots[i]));
    }
    mly_mem_free(tokenizer->mem, tokenizer->slots);
    if (tokenizer->compiled.settings == NULL) mly_trie_deinit(tokenizer->mem, &tokenizer->trie);
    mly_mem_free(tokenizer->mem, tokenizer->bytes);
    mly_mem_free(tokenizer->mem, tokenizer);
}

const struct mly_tokenizer_frame *mly_tokenizer_frame(const struct mly_tokenizer *tokenizer)
{
    return &tokenizer->frame;
}

const char *mly_tokenizer_kind(const struct mly_tokenizer *tokenizer)
{
    const struct mly_settings *settings = tokenizer->compiled.settings;
    if (settings == NULL || settings->model == MLY_MODEL_WORDPIECE) return "word pieces";
    return settings->model == MLY_MODEL_UNIGRAM ? "unigram" : "byte pairs";
}

bool mly_tokenizer_is_additive(const struct mly_tokenizer *tokenizer)
{
    /* Others might be, but only here is it sure; elsewhere each part is measured by itself. */
    return tokenizer->bert.usable;
}

void mly_tokens_init(struct mly_tokens *tokens, struct mly_mem *mem)
{
    *tokens = (struct mly_tokens){.mem = mem};
}

void mly_tokens_deinit(struct mly_tokens *tokens)
{
    mly_mem_free(tokens->mem, tokens->items);
    *tokens = (struct mly_tokens){.mem = tokens->mem};
}

enum mly_err mly_tokens_reserve(struct mly_tokens *tokens, size_t more, struct mly_error *err)
{
    if (tokens->capacity - tokens->count >= more) return MLY_OK;
    size_t capacity = 0, bytes = 0;
    bool ok = mly_size_add(tokens->capacity, tokens->capacity / 2, &capacity) &&
              mly_size_add(capacity, more < 512 ? 512 : more, &capacity) &&
              mly_size_mul(capacity, sizeof(tokens->items[0]), &bytes);
    if (!ok) return mly_fail(err, MLY_ERR_LIMIT, "%zu word pieces are too many", tokens->count);
    struct mly_token *items = mly_mem_realloc(tokens->mem, tokens->items, bytes);
    if (items == NULL) return mly_fail_nomem(err, bytes);
    tokens->items = items;
    tokens->capacity = capacity;
    return MLY_OK;
}

/* In: a vocabulary. Out: the read-only tables that encoding works with: the trie, the classes of
 * the ASCII bytes (read from the Unicode tables, so that there is one definition), the ids of
 * punctuation and of the special tokens. */
#include "token/token_int.h"

static int32_t find_id(const struct mly_trie *trie, struct mly_str piece)
{
    const struct mly_trie_cell *cell = mly_trie_find(trie, piece);
    return cell != NULL ? cell->id : -1;
}

static enum mly_err find_specials(struct mly_tokenizer *t, struct mly_error *err)
{
    static const struct mly_str texts[MLY_SPECIALS] = {
        {"[UNK]", 5}, {"[CLS]", 5}, {"[SEP]", 5}, {"[PAD]", 5}, {"[MASK]", 6},
    };
    for (size_t i = 0; i < MLY_SPECIALS; i++) {
        t->specials[i] = (struct mly_special){texts[i], find_id(&t->trie, texts[i])};
        if (i < 3 && t->specials[i].id < 0) {
            return mly_fail(err, MLY_ERR_CORRUPT, "vocabulary has no %s", texts[i].data);
        }
    }
    t->unk_id = t->specials[0].id;
    t->frame.prefix[0] = t->specials[1].id;
    t->frame.suffix[0] = t->specials[2].id;
    t->frame.prefix_count = t->frame.suffix_count = 1;
    if (t->specials[3].id >= 0) t->frame.pad_id = t->specials[3].id;
    return MLY_OK;
}

static void fill_byte_tables(struct mly_tokenizer *t)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        t->byte_kind[byte] = MLY_FOLD_CONTROL;
        t->byte_lower[byte] = (uint8_t)byte;
        if (byte >= 128) continue;
        uint32_t record = mly_fold_record(byte);
        uint32_t folded = mly_fold_record_payload(record);
        t->byte_kind[byte] = (uint8_t)mly_fold_record_kind(record);
        if (folded != 0) t->byte_lower[byte] = (uint8_t)folded;
        char piece = (char)byte;
        int32_t id = find_id(&t->trie, (struct mly_str){&piece, 1});
        t->punct_ids[byte] = id >= 0 ? id : t->unk_id;
    }
}

static enum mly_err create_from_lines(struct mly_mem *mem, struct mly_str vocabulary,
                                      struct mly_tokenizer **out, struct mly_error *err)
{
    struct mly_tokenizer *t = mly_mem_array(mem, 1, sizeof(*t));
    if (t == NULL) return mly_fail_nomem(err, sizeof(*t));
    t->mem = mem;
    enum mly_err rc = mly_trie_build(mem, vocabulary, &t->trie, err);
    if (rc != MLY_OK) goto done;
    rc = find_specials(t, err);
    if (rc != MLY_OK) goto done;
    const struct mly_trie_cell *tail = mly_trie_find(&t->trie, MLY_STR("##"));
    t->tail_base = tail != NULL ? tail->base_label >> 8 : 0;
    fill_byte_tables(t);
    for (size_t i = 0; i < vocabulary.bytes; i++) {
        t->frame.id_count += vocabulary.data[i] == '\n' || i + 1 == vocabulary.bytes;
    }
    *out = t;
    t = NULL;
done:
    mly_tokenizer_destroy(t);
    return rc;
}

static enum mly_err create_from_json(struct mly_mem *mem, struct mly_str json,
                                     struct mly_tokenizer **out, struct mly_error *err)
{
    struct mly_bytes compiled;
    mly_bytes_init(&compiled, mem, SIZE_MAX / 2);
    enum mly_err rc = mly_tokenizer_compile(mem, json, &compiled, err);
    if (rc == MLY_OK) {
        rc = mly_tokenizer_create(mem, MLY_TOKENIZER_COMPILED, mly_bytes_view(&compiled), out, err);
    }
    mly_bytes_deinit(&compiled);
    return rc;
}

enum mly_err mly_tokenizer_create(struct mly_mem *mem, enum mly_tokenizer_form form,
                                  struct mly_str bytes, struct mly_tokenizer **out,
                                  struct mly_error *err)
{
    if (form == MLY_TOKENIZER_VOCABULARY) return create_from_lines(mem, bytes, out, err);
    if (form == MLY_TOKENIZER_JSON) return create_from_json(mem, bytes, out, err);
    if (bytes.bytes < 8 || memcmp(bytes.data, MLY_COMPILED_MAGIC, 8) != 0) {
        return mly_fail(err, MLY_ERR_CORRUPT, "these bytes are no compiled tokenizer");
    }
    return create_from_lines(mem, mly_str_slice(bytes, 8, bytes.bytes), out, err);
}

void mly_tokenizer_destroy(struct mly_tokenizer *tokenizer)
{
    if (tokenizer == NULL) return;
    mly_trie_deinit(tokenizer->mem, &tokenizer->trie);
    mly_mem_free(tokenizer->mem, tokenizer);
}

const struct mly_tokenizer_frame *mly_tokenizer_frame(const struct mly_tokenizer *tokenizer)
{
    return &tokenizer->frame;
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

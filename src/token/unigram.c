/* In: a word. Out: the most likely of all the ways to cut it into pieces.
 *
 * Viterbi over the ends of pieces, in double precision and in the order of HF tokenizers, so that
 * of ways that are equally likely the same one wins. Neighbouring unknown characters are one
 * unknown piece, or the bytes they are made of. */
#include "token/token_int.h"

/* UTF-8 by its first byte; bytes that begin nothing stand alone. */
static size_t char_bytes(uint8_t first, size_t left)
{
    size_t bytes = first < 0xC2 || first > 0xF4 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    return bytes < left ? bytes : left;
}

static void offer(struct mly_path *path, double score, size_t from, int32_t id)
{
    if (path->from != MLY_PATH_NONE && !(score > path->score)) return;
    *path = (struct mly_path){score, (uint32_t)from, id};
}

/* paths[i]: the best way to the end of i bytes. */
static void find_paths(const struct mly_tokenizer *t, const uint8_t *bytes, size_t count,
                       struct mly_path *paths)
{
    const struct mly_compiled *c = &t->compiled;
    const struct mly_trie_cell *cells = c->cells.cells;
    const double *scores = c->scores;
    const double unknown = c->settings->unk_score;
    for (size_t i = 1; i <= count; i++) {
        paths[i].from = MLY_PATH_NONE;
    }
    paths[0] = (struct mly_path){0.0, 0, 0};
    for (size_t at = 0; at < count;) {
        const size_t step = char_bytes(bytes[at], count - at);
        const double before = paths[at].score;
        uint32_t base = c->cells.root_base;
        bool whole = false; /* the character is a piece */
        const size_t end = count - at > MLY_PIECE_BYTES_MAX ? at + MLY_PIECE_BYTES_MAX : count;
        for (size_t i = at; i < end; i++) {
            const struct mly_trie_cell cell = cells[base ^ bytes[i]];
            if ((cell.base_label & 0xFFu) != bytes[i]) break;
            base = cell.base_label >> 8;
            if (cell.id < 0) continue;
            offer(&paths[i + 1], scores[cell.id] + before, at, cell.id);
            whole = whole || i + 1 - at == step;
        }
        if (!whole) offer(&paths[at + step], unknown + before, at, c->settings->unk_id);
        at += step;
    }
}

/* Unknown characters as one: a piece after all, their bytes, or the unknown one. */
static enum mly_err put_unknown(const struct mly_tokenizer *t, struct mly_scratch *scratch,
                                const struct mly_word *word, size_t from, size_t to,
                                struct mly_tokens *out, struct mly_error *err)
{
    static const uint8_t mark[] = {0xE2, 0x96, 0x81};
    const struct mly_compiled *c = &t->compiled;
    const uint8_t *bytes = scratch->window.bytes;
    const struct mly_trie_cell *cell =
        mly_trie_walk(&c->cells, c->cells.root_base, bytes + from, to - from);
    const int32_t id = cell != NULL && cell->id >= 0 ? cell->id : c->settings->unk_id;
    bool fallback = (cell == NULL || cell->id < 0) && c->symbols != NULL &&
                    (c->settings->flags & MLY_MODEL_BYTE_FALLBACK);
    const bool spaces = c->settings->flags & MLY_MODEL_SPACES;
    for (size_t i = from; i < to && fallback; i++) {
        const uint8_t byte = bytes[i] == MLY_BYTE_NUL ? 0 : bytes[i];
        fallback = c->symbols[byte] >= 0;
        for (size_t k = 0; k < 3 && spaces && byte == ' '; k++) {
            fallback = fallback && c->symbols[mark[k]] >= 0;
        }
    }
    MLY_TRY(mly_tokens_reserve(out, fallback ? 3 * (to - from) : 1, err));
    if (!fallback) {
        mly_pieces_put(scratch, word, id, from, to, out);
        return MLY_OK;
    }
    for (size_t i = from; i < to; i++) {
        const uint8_t byte = bytes[i] == MLY_BYTE_NUL ? 0 : bytes[i];
        const bool three = spaces && byte == ' ';
        for (size_t k = 0; k < (three ? 3u : 1u); k++) {
            mly_pieces_put(scratch, word, c->symbols[three ? mark[k] : byte], i, i + 1, out);
        }
    }
    return MLY_OK;
}

enum mly_err mly_unigram_encode(const struct mly_tokenizer *t, struct mly_scratch *scratch,
                                const struct mly_word *word, struct mly_tokens *out,
                                struct mly_error *err)
{
    const int32_t unk_id = t->compiled.settings->unk_id;
    const size_t count = word->end - word->first;
    MLY_TRY(mly_scratch_grow(scratch, (void **)&scratch->paths, &scratch->path_capacity, count + 1,
                             sizeof(scratch->paths[0]), err));
    struct mly_path *paths = scratch->paths;
    find_paths(t, scratch->window.bytes + word->first, count, paths);
    /* The way is known from its end; the score of each place becomes where its piece ends. */
    for (size_t end = count; end > 0; end = paths[end].from) {
        paths[paths[end].from].score = (double)end;
    }
    for (size_t at = 0; at < count;) {
        size_t end = (size_t)paths[at].score;
        const int32_t id = paths[end].id;
        if (id != unk_id) {
            MLY_TRY(mly_tokens_reserve(out, 1, err));
            mly_pieces_put(scratch, word, id, word->first + at, word->first + end, out);
        } else {
            while (end < count && paths[(size_t)paths[end].score].id == unk_id) {
                end = (size_t)paths[end].score;
            }
            MLY_TRY(put_unknown(t, scratch, word, word->first + at, word->first + end, out, err));
        }
        at = end;
    }
    return MLY_OK;
}

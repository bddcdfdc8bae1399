/* What is put in front of queries and of passages: from the options, else from the prompts of
 * config_sentence_transformers.json, else from what is known of the model's family.
 */
#include "embed/quantise/snapshot_int.h"

#include "base/utf8.h"

#include <ctype.h>

/* Families whose prefixes stand in their descriptions only. name: parts that the id or the name in
 * config.json has, in lower case. Source: the model cards of intfloat/e5 and BAAI/bge. */
static const struct family {
    const char *name[2];
    const char *query, *passage;
} families[] = {
    {{"multilingual-e5-", "instruct"}, NULL, NULL}, /* instructions: not ours to choose */
    {{"e5-", ""}, "query: ", "passage: "},
    {{"bge-", "-en"}, "Represent this sentence for searching relevant passages: ", ""},
};

static bool has_part(const char *text, const char *part)
{
    const size_t bytes = strlen(part);
    for (; bytes > 0 && *text != '\0'; text++) {
        size_t i = 0;
        while (i < bytes && tolower((unsigned char)text[i]) == part[i]) {
            i++;
        }
        if (i == bytes) return true;
    }
    return bytes == 0;
}

static const struct family *find_family(const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof(families) / sizeof(families[0]); i++) {
        if (has_part(name, families[i].name[0]) && has_part(name, families[i].name[1])) {
            return &families[i];
        }
    }
    return NULL;
}

/* The prompt of the first of these names that is there, or NULL. */
static const char *find_prompt(const json_t *prompts, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(prompts, names[i]);
        if (json_is_string(value)) return json_string_value(value);
    }
    return NULL;
}

static enum mly_err take_prefix(struct mly_snapshot *snapshot, const char *text, const char *what,
                                struct mly_str *out, struct mly_error *err)
{
    const struct mly_str prefix = mly_str_of(text == NULL ? "" : text);
    if (prefix.bytes > MLY_PREFIX_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "the %s prefix has %zu bytes, limit is %d", what,
                        prefix.bytes, MLY_PREFIX_BYTES_MAX);
    }
    const size_t bad = mly_utf8_check(prefix);
    if (bad < prefix.bytes) {
        return mly_fail(err, MLY_ERR_INVAL, "the %s prefix is not UTF-8: byte 0x%02x at offset %zu",
                        what, (unsigned char)prefix.data[bad], bad);
    }
    for (size_t i = 0; i < prefix.bytes; i++) {
        const unsigned char c = (unsigned char)prefix.data[i];
        if (c >= 0x20 || c == '\n' || c == '\t') continue;
        return mly_fail(err, MLY_ERR_INVAL,
                        "the %s prefix has the control character 0x%02x at offset %zu", what, c, i);
    }
    return mly_snapshot_copy(snapshot, prefix.data, out, err);
}

enum mly_err mly_snapshot_prefixes(struct mly_snapshot *snapshot,
                                   const struct mly_snapshot_files *files,
                                   const struct mly_snapshot_options *options,
                                   struct mly_error *err)
{
    static const char *const query_names[] = {"query", "retrieval.query", "search_query"};
    static const char *const passage_names[] = {"document", "passage", "corpus",
                                                "retrieval.passage", "search_document"};
    struct mly_snapshot_card *card = &snapshot->card;
    const json_t *prompts = json_object_get(files->prompts, "prompts");
    const json_t *published = json_object_get(files->config, "_name_or_path");
    const char *query = find_prompt(prompts, query_names, 3);
    const char *passage = find_prompt(prompts, passage_names, 5);
    card->prefix_from = "config_sentence_transformers.json";
    /* Newer folders have empty prompts where the model was given none. */
    if ((query == NULL || query[0] == '\0') && (passage == NULL || passage[0] == '\0')) {
        const struct family *family = find_family(card->id.data);
        if (family == NULL && json_is_string(published)) {
            family = find_family(json_string_value(published));
        }
        card->prefix_from = "none";
        if (family != NULL && family->query != NULL) {
            query = family->query;
            passage = family->passage;
            card->prefix_from = "what is known of this family of models";
        }
    }
    if (options->query_prefix != NULL || options->passage_prefix != NULL) {
        card->prefix_from = "the option";
    }
    if (options->query_prefix != NULL) query = options->query_prefix;
    if (options->passage_prefix != NULL) passage = options->passage_prefix;
    MLY_TRY(take_prefix(snapshot, query, "query", &card->query_prefix, err));
    return take_prefix(snapshot, passage, "passage", &card->passage_prefix, err);
}

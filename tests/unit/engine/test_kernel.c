/* What a caller in C may do with a kernel, right and wrong, through <memalloy.h> alone and with a
 * model of random weights: what is found does not matter here, what is kept and refused does.
 */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "store/store.h"
#include "temp_dir.h"
#include "tiny_model.h"

#include <memalloy.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[TEMP_DIR_BYTES];
static char model_path[TEMP_DIR_BYTES + 64];
static char store_path[TEMP_DIR_BYTES + 64];
static int store_count;

static int make_dir(void **state)
{
    (void)state;
    temp_dir_make(dir);
    snprintf(model_path, sizeof(model_path), "%s", tiny_model(dir, &tiny_small, 3));
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

static int new_store(void **state)
{
    (void)state;
    snprintf(store_path, sizeof(store_path), "%s/kb%d", dir, store_count++);
    return 0;
}

static struct memalloy_str str(const char *text)
{
    return (struct memalloy_str){text, strlen(text)};
}

static memalloy_kernel *open_with(uint32_t flags, uint32_t dim)
{
    struct memalloy_model_options model = {
        .struct_bytes = sizeof(model), .path = model_path, .threads = 2};
    struct memalloy_options options = {
        .struct_bytes = sizeof(options), .flags = flags, .dim = dim, .model = &model};
    memalloy_kernel *kernel = NULL;
    struct memalloy_error err = {0};
    if (memalloy_open(&kernel, store_path, &options, &err) != MEMALLOY_OK)
        fail_msg("%s", err.message);
    return kernel;
}

static struct memalloy_status status_of(memalloy_kernel *kernel)
{
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    assert_int_equal(memalloy_get_status(kernel, &status, NULL), MEMALLOY_OK);
    return status;
}

static void add(memalloy_kernel *kernel, const char *id, const char *text)
{
    struct memalloy_add_options options = {.struct_bytes = sizeof(options), .document_id = str(id)};
    struct memalloy_error err = {0};
    struct memalloy_id given;
    if (memalloy_add_text(kernel, text, strlen(text), &options, &given, &err) != MEMALLOY_OK) {
        fail_msg("%s", err.message);
    }
    assert_string_equal(given.text, id);
}

static void the_same_text_again_changes_nothing(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(0, 0);
    add(kernel, "a", "one text");
    struct memalloy_status before = status_of(kernel);
    add(kernel, "a", "one text");
    struct memalloy_status after = status_of(kernel);
    assert_int_equal(before.documents_version, after.documents_version);
    assert_int_equal(before.chunks_version, after.chunks_version);
    add(kernel, "a", "another text");
    assert_int_equal(status_of(kernel).documents, 1);
    assert_int_equal(status_of(kernel).chunks, 1);
    memalloy_close(kernel, NULL);
}

/* The id of the chunk that holds word. */
static void find_chunk(memalloy_kernel *kernel, const char *word, char id[37])
{
    memalloy_hits *hits = NULL;
    struct memalloy_search_options options = {.struct_bytes = sizeof(options), .top_k = 1000};
    assert_int_equal(memalloy_search_text(kernel, "x", 1, &options, &hits, NULL), MEMALLOY_OK);
    bool found = false;
    for (size_t i = 0; i < memalloy_hits_count(hits) && !found; i++) {
        struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
        memalloy_hits_get(hits, i, &hit);
        found = strstr(hit.content.data, word) != NULL;
        if (found) memcpy(id, hit.chunk_id.data, 37);
    }
    assert_true(found);
    memalloy_hits_destroy(hits);
}

static void an_edit_keeps_the_ids_of_the_other_chunks(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(0, 0);
    char first[37];
    char second[37];
    char edited[37];
    add(kernel, "a", "# One\n\nfirst part\n\n# Two\n\nsecond part\n");
    assert_int_equal(status_of(kernel).chunks, 2);
    find_chunk(kernel, "first", first);
    find_chunk(kernel, "second", second);
    add(kernel, "a", "# One\n\nfirst part, edited\n\n# Two\n\nsecond part\n");
    find_chunk(kernel, "edited", edited);
    assert_string_not_equal(first, edited);
    find_chunk(kernel, "second", edited);
    assert_string_equal(second, edited);
    assert_int_equal(second[14], '8'); /* UUID version 8 */
    memalloy_close(kernel, NULL);
}

static int cancel_at_once(void *context, const struct memalloy_progress *progress)
{
    (void)progress;
    ++*(int *)context;
    return 1;
}

static void a_cancelled_add_stores_nothing(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(0, 0);
    /* Long enough for the callback to be due: it is asked about ten times a second. */
    size_t bytes = (size_t)12 << 20;
    char *text = malloc(bytes);
    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++) {
        text[i] = i % 7 == 6 ? ' ' : (char)('a' + i % 26);
    }
    int calls = 0;
    struct memalloy_add_options options = {
        .struct_bytes = sizeof(options), .progress = cancel_at_once, .progress_context = &calls};
    struct memalloy_error err = {0};
    int rc = memalloy_add_text(kernel, text, bytes, &options, NULL, &err);
    assert_int_equal(rc, MEMALLOY_ERR_CANCELLED);
    assert_true(calls > 0);
    assert_int_equal(status_of(kernel).documents, 0);
    assert_int_equal(status_of(kernel).chunks_version, 0);
    free(text);
    memalloy_close(kernel, NULL);
}

/* An add_options of a later header: longer, and with a field that this library does not know. */
struct later_options {
    struct memalloy_add_options known;
    uint64_t news;
};

static void structs_of_other_headers_are_read_by_their_own_size(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(MEMALLOY_OPEN_NO_MODEL, 2);
    struct later_options options[2] = {
        {.known = {.struct_bytes = sizeof(options[0]), .document_id = str("first")}},
        {.known = {.struct_bytes = sizeof(options[0]), .document_id = str("second")}},
    };
    struct memalloy_str contents[2] = {str("one"), str("two")};
    const float vectors[4] = {1, 0, 0, 1};
    struct memalloy_id ids[2];
    struct memalloy_error err = {0};
    assert_int_equal(
        memalloy_add_vectors(kernel, contents, vectors, 2, 2, &options[0].known, ids, &err),
        MEMALLOY_OK);
    assert_string_equal(ids[0].text, "first");
    assert_string_equal(ids[1].text, "second");
    options[1].news = 1;
    assert_int_equal(
        memalloy_add_vectors(kernel, contents, vectors, 2, 2, &options[0].known, ids, &err),
        MEMALLOY_ERR_INVAL);
    assert_non_null(strstr(err.message, "memalloy_add_options"));
    /* An older header knows fewer fields: what is missing keeps its default. */
    struct memalloy_search_options older = {.struct_bytes = sizeof(size_t), .top_k = 1};
    memalloy_hits *hits = NULL;
    assert_int_equal(memalloy_search_vector(kernel, vectors, 2, &older, &hits, &err), MEMALLOY_OK);
    assert_int_equal(memalloy_hits_count(hits), 2);
    struct memalloy_hit hit;
    memset(&hit, 0x5A, sizeof(hit));
    hit.struct_bytes = sizeof(size_t) + sizeof(double);
    memalloy_hits_get(hits, 0, &hit);
    assert_true(hit.score > 0.99);
    assert_int_equal(hit.ordinal, 0x5A5A5A5A5A5A5A5A);
    memalloy_hits_destroy(hits);
    older.struct_bytes = 0;
    assert_int_equal(memalloy_search_vector(kernel, vectors, 2, &older, &hits, &err),
                     MEMALLOY_ERR_INVAL);
    memalloy_close(kernel, NULL);
}

static void vectors_must_be_numbers_with_a_direction(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(MEMALLOY_OPEN_NO_MODEL, 0);
    struct memalloy_str contents[2] = {str("one"), str("two")};
    const float zero[4] = {1, 0, 0, 0};
    struct memalloy_error err = {0};
    assert_int_equal(memalloy_add_vectors(kernel, contents, zero, 2, 2, NULL, NULL, &err),
                     MEMALLOY_ERR_INVAL);
    assert_string_equal(err.message, "vector 1 is all zero and has no direction");
    volatile float huge = 1e38f;
    const float infinite[4] = {1, 0, huge * 10.0f, 0};
    assert_int_equal(memalloy_add_vectors(kernel, contents, infinite, 2, 2, NULL, NULL, &err),
                     MEMALLOY_ERR_INVAL);
    const float large[4] = {3e38f, 3e38f, 1e-45f, 0};
    assert_int_equal(memalloy_add_vectors(kernel, contents, large, 2, 2, NULL, NULL, &err),
                     MEMALLOY_OK);
    assert_int_equal(memalloy_add_vectors(kernel, contents, large, 1, 4, NULL, NULL, &err),
                     MEMALLOY_ERR_INVAL);
    assert_string_equal(err.message, "vectors have 4 numbers, the store's have 2");
    assert_int_equal(memalloy_add_text(kernel, "x", 1, NULL, NULL, &err), MEMALLOY_ERR_MODEL);
    assert_int_equal(status_of(kernel).documents, 2);
    memalloy_close(kernel, NULL);
}

static void bad_arguments_are_refused_by_name(void **state)
{
    (void)state;
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = NULL;
    assert_int_equal(memalloy_open(&kernel, NULL, NULL, &err), MEMALLOY_ERR_INVAL);
    assert_int_equal(memalloy_open(&kernel, "", NULL, &err), MEMALLOY_ERR_INVAL);
    struct memalloy_chunking chunking = {.struct_bytes = sizeof(chunking),
                                         .kind = MEMALLOY_CHUNKING_FIXED,
                                         .size = 50,
                                         .overlap = 50};
    struct memalloy_options options = {.struct_bytes = sizeof(options), .chunking = &chunking};
    assert_int_equal(memalloy_open(&kernel, store_path, &options, &err), MEMALLOY_ERR_INVAL);
    assert_string_equal(err.message, "chunk overlap 50 must be below chunk size 50");
    assert_null(kernel);
    kernel = open_with(0, 0);
    struct memalloy_add_options add_options = {.struct_bytes = sizeof(add_options),
                                               .document_id = {"", 0}};
    assert_int_equal(memalloy_add_text(kernel, "x", 1, &add_options, NULL, &err),
                     MEMALLOY_ERR_INVAL);
    char long_id[513];
    memset(long_id, 'i', sizeof(long_id));
    add_options.document_id = (struct memalloy_str){long_id, 513};
    assert_int_equal(memalloy_add_text(kernel, "x", 1, &add_options, NULL, &err),
                     MEMALLOY_ERR_INVAL);
    assert_non_null(strstr(err.message, "513"));
    add_options.document_id.bytes = 512;
    assert_int_equal(memalloy_add_text(kernel, "x", 1, &add_options, NULL, &err), MEMALLOY_OK);
    assert_int_equal(memalloy_add_text(kernel, "\xFF", 1, NULL, NULL, &err), MEMALLOY_ERR_PARSE);
    assert_int_equal(memalloy_search_text(kernel, " \n", 2, NULL, NULL, &err), MEMALLOY_ERR_INVAL);
    memalloy_hits *hits = NULL;
    assert_int_equal(memalloy_search_text(kernel, " \n", 2, NULL, &hits, &err), MEMALLOY_ERR_INVAL);
    assert_string_equal(err.message, "query is blank");
    memalloy_close(kernel, NULL);
    memalloy_close(NULL, NULL);
}

static void an_id_with_quotes_and_nul_removes_itself_only(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(MEMALLOY_OPEN_NO_MODEL, 1);
    static const char injected[] = "x' OR '1'='1";
    static const char with_nul[] = "a\0b";
    struct memalloy_add_options options[3] = {
        {.struct_bytes = sizeof(options[0]), .document_id = {injected, sizeof(injected) - 1}},
        {.struct_bytes = sizeof(options[0]), .document_id = {with_nul, 3}},
        {.struct_bytes = sizeof(options[0]), .document_id = {"a", 1}},
    };
    struct memalloy_str contents[3] = {str("1"), str("2"), str("3")};
    const float vectors[3] = {1, 1, 1};
    assert_int_equal(memalloy_add_vectors(kernel, contents, vectors, 3, 1, options, NULL, NULL),
                     MEMALLOY_OK);
    int removed = 7;
    struct memalloy_error err = {0};
    assert_int_equal(memalloy_remove_document(kernel, str("y' OR '1'='1"), NULL, &removed, &err),
                     MEMALLOY_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(memalloy_remove_document(kernel, options[0].document_id, NULL, &removed, &err),
                     MEMALLOY_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(memalloy_remove_document(kernel, options[1].document_id, NULL, &removed, &err),
                     MEMALLOY_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(status_of(kernel).documents, 1);
    assert_int_equal(status_of(kernel).chunks, 1);
    memalloy_close(kernel, NULL);
}

static void handles_on_one_folder_see_each_other(void **state)
{
    (void)state;
    memalloy_kernel *writer = open_with(0, 0);
    memalloy_kernel *other = open_with(0, 0);
    uint64_t count = 7;
    assert_int_equal(memalloy_count(other, &count, NULL), MEMALLOY_OK);
    assert_int_equal(count, 0);
    add(writer, "a", "text");
    assert_int_equal(memalloy_count(other, &count, NULL), MEMALLOY_OK);
    assert_int_equal(count, 1);
    add(other, "b", "text");
    assert_int_equal(memalloy_count(writer, &count, NULL), MEMALLOY_OK);
    assert_int_equal(count, 2);
    memalloy_kernel *reader = open_with(MEMALLOY_OPEN_READONLY, 0);
    struct memalloy_error err = {0};
    assert_int_equal(memalloy_add_text(reader, "x", 1, NULL, NULL, &err), MEMALLOY_ERR_READONLY);
    memalloy_close(reader, NULL);
    memalloy_close(other, NULL);
    memalloy_close(writer, NULL);
}

static void another_model_is_refused(void **state)
{
    (void)state;
    char other[TEMP_DIR_BYTES + 80];
    memalloy_kernel *kernel = open_with(0, 0);
    add(kernel, "a", "text");
    memalloy_close(kernel, NULL);
    struct tiny_file file = tiny_make(&tiny_small, 99);
    snprintf(other, sizeof(other), "%s", tiny_write(&file, dir, "other.safetensors"));
    free(file.bytes);
    struct memalloy_model_options model = {.struct_bytes = sizeof(model), .path = other};
    struct memalloy_options options = {.struct_bytes = sizeof(options), .model = &model};
    struct memalloy_error err = {0};
    memalloy_hits *hits = NULL;
    assert_int_equal(memalloy_open(&kernel, store_path, &options, &err), MEMALLOY_OK);
    assert_int_equal(memalloy_search_text(kernel, "x", 1, NULL, &hits, &err),
                     MEMALLOY_ERR_MISMATCH);
    assert_true(err.message[0] != '\0');
    assert_null(hits);
    memalloy_close(kernel, NULL);
}

static void a_child_of_fork_is_told(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(0, 0);
    add(kernel, "a", "text");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        uint64_t count = 0;
        struct memalloy_error err = {0};
        int rc = memalloy_count(kernel, &count, &err);
        bool named = strstr(err.message, "fork") != NULL;
        memalloy_close(kernel, NULL);
        _exit(rc == MEMALLOY_ERR_FORKED && named ? 0 : 1);
    }
    int result = 1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    add(kernel, "b", "the parent goes on");
    memalloy_close(kernel, NULL);
}

static void a_child_of_fork_opens_what_was_not_used(void **state)
{
    (void)state;
    uint64_t count = 0;
    memalloy_kernel *kernel = open_with(0, 0);
    add(kernel, "a", "text");
    memalloy_close(kernel, NULL);
    kernel = open_with(0, 0);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0) {
            uint64_t found = 0;
            int rc = memalloy_count(kernel, &found, NULL);
            add(kernel, i == 0 ? "b" : "c", "of a child");
            if (rc == MEMALLOY_OK) rc = memalloy_close(kernel, NULL);
            _exit(rc == MEMALLOY_OK && found == (uint64_t)i + 1 ? 0 : 1);
        }
        int result = 1;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_int_equal(result, 0);
    }
    assert_int_equal(memalloy_count(kernel, &count, NULL), MEMALLOY_OK);
    assert_int_equal(count, 3);
    memalloy_close(kernel, NULL);
}

static void an_altered_document_says_so(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(0, 0);
    memalloy_documents *documents = NULL;
    add(kernel, "a", "\r\n  text\twith blanks \n");
    assert_int_equal(memalloy_get_document(kernel, str("a"), &documents, NULL), MEMALLOY_OK);
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    memalloy_documents_get(documents, 0, &document);
    assert_string_equal(document.content.data, "\r\n  text\twith blanks \n");
    assert_int_equal(document.altered, 0);
    memalloy_documents_destroy(documents);
    documents = NULL;
    struct memalloy_error err = {0};
    assert_int_equal(memalloy_get_document(kernel, str("b"), &documents, &err),
                     MEMALLOY_ERR_NOTFOUND);
    assert_null(documents);
    memalloy_close(kernel, NULL);
}

static void an_empty_store_answers_without_a_model(void **state)
{
    (void)state;
    struct memalloy_model_options model = {.struct_bytes = sizeof(model), .path = "/nowhere"};
    struct memalloy_options options = {.struct_bytes = sizeof(options), .model = &model};
    memalloy_kernel *kernel = NULL;
    memalloy_hits *hits = NULL;
    struct memalloy_error err = {0};
    assert_int_equal(memalloy_open(&kernel, store_path, &options, &err), MEMALLOY_OK);
    assert_int_equal(memalloy_search_text(kernel, "x", 1, NULL, &hits, &err), MEMALLOY_OK);
    assert_int_equal(memalloy_hits_count(hits), 0);
    memalloy_hits_destroy(hits);
    assert_int_equal(memalloy_add_text(kernel, "x", 1, NULL, NULL, &err), MEMALLOY_ERR_MODEL);
    assert_non_null(strstr(err.message, "/nowhere"));
    int removed = 1;
    assert_int_equal(memalloy_remove_document(kernel, str("x"), NULL, &removed, &err), MEMALLOY_OK);
    assert_int_equal(removed, 0);
    assert_int_not_equal(access(store_path, F_OK), 0); /* nothing was made for it */
    memalloy_close(kernel, NULL);
}

static void asking_for_the_status_for_ever_costs_nothing(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_with(0, 0);
    add(kernel, "a", "text");
    const char *model_id = status_of(kernel).model_id.data;
    for (int i = 0; i < 100; i++) {
        assert_ptr_equal(status_of(kernel).model_id.data, model_id);
    }
    assert_true(strlen(model_id) > 0);
    memalloy_close(kernel, NULL);
}

static void a_kernel_set_can_be_forced(void **state)
{
    (void)state;
    memalloy_model *model = NULL;
    struct memalloy_error err = {0};
    struct memalloy_model_options options = {
        .struct_bytes = sizeof(options), .path = model_path, .kernels = "scalar"};
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)};
    assert_int_equal(memalloy_model_open(&model, &options, &err), MEMALLOY_OK);
    assert_int_equal(memalloy_model_get_info(model, &info, &err), MEMALLOY_OK);
    assert_string_equal(info.kernels.data, "scalar");
    memalloy_model_close(model);
    options.kernels = "abacus";
    assert_int_equal(memalloy_model_open(&model, &options, &err), MEMALLOY_ERR_INVAL);
    assert_non_null(strstr(err.message, "abacus"));
    assert_non_null(strstr(err.message, "scalar"));
}

static void vectors_that_could_not_be_added_fix_no_dimension(void **state)
{
    (void)state;
    struct mly_store *other = NULL;
    struct mly_store_options store_options = {.lock_wait_ms = 1000};
    struct memalloy_options options = {
        .struct_bytes = sizeof(options), .flags = MEMALLOY_OPEN_NO_MODEL, .lock_wait_ms = 20};
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = NULL;
    const struct memalloy_str content = str("a text");
    const float vector[7] = {1};
    assert_int_equal(mly_store_open(mly_env_system(), store_path, &store_options, &other, NULL), 0);
    assert_int_equal(memalloy_open(&kernel, store_path, &options, &err), MEMALLOY_OK);
    assert_int_equal(mly_store_begin(other, NULL), 0);
    assert_int_equal(memalloy_add_vectors(kernel, &content, vector, 1, 6, NULL, NULL, &err),
                     MEMALLOY_ERR_BUSY);
    (void)mly_store_end(other, NULL);
    assert_int_equal(memalloy_add_vectors(kernel, &content, vector, 1, 7, NULL, NULL, &err),
                     MEMALLOY_OK);
    assert_int_equal(memalloy_add_vectors(kernel, &content, vector, 1, 6, NULL, NULL, &err),
                     MEMALLOY_ERR_INVAL);
    memalloy_close(kernel, NULL);
    (void)mly_store_close(other, NULL);
}

static void a_time_that_is_not_there_is_unknown(void **state)
{
    (void)state;
    struct mly_store *other = NULL;
    struct mly_store_options options = {.lock_wait_ms = 1000};
    memalloy_documents *documents = NULL;
    struct memalloy_document document;
    struct mly_change change = {
        .kind = MLY_CHANGE_TOUCH,
        .document = {.id = MLY_STR("d"),
                     .status = MLY_STR("ok"),
                     .created_at_us = -1, /* written as null */
                     .updated_at_us = 5},
    };
    assert_int_equal(mly_store_open(mly_env_system(), store_path, &options, &other, NULL), 0);
    assert_int_equal(mly_store_begin(other, NULL), 0);
    assert_int_equal(mly_store_commit(other, &change, 1, MLY_DURABILITY_DEFAULT, NULL), 0);
    (void)mly_store_end(other, NULL);
    (void)mly_store_close(other, NULL);
    memalloy_kernel *kernel = open_with(MEMALLOY_OPEN_NO_MODEL, 0);
    assert_int_equal(memalloy_get_document(kernel, str("d"), &documents, NULL), MEMALLOY_OK);
    document.struct_bytes = sizeof(document);
    memalloy_documents_get(documents, 0, &document);
    assert_true(document.created_at_us == MEMALLOY_TIME_UNKNOWN);
    assert_int_equal(document.updated_at_us, 5);
    memalloy_documents_destroy(documents);
    memalloy_close(kernel, NULL);
}

static void codes_have_names_and_texts(void **state)
{
    (void)state;
    assert_string_equal(memalloy_err_name(MEMALLOY_ERR_CORRUPT), "CORRUPT");
    assert_string_equal(memalloy_err_text(MEMALLOY_ERR_CORRUPT), "damaged data");
    assert_string_equal(memalloy_err_name(-1), "UNKNOWN");
    assert_string_equal(memalloy_version(), "0.2.0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_same_text_again_changes_nothing, new_store),
        cmocka_unit_test_setup(an_edit_keeps_the_ids_of_the_other_chunks, new_store),
        cmocka_unit_test_setup(a_cancelled_add_stores_nothing, new_store),
        cmocka_unit_test_setup(structs_of_other_headers_are_read_by_their_own_size, new_store),
        cmocka_unit_test_setup(vectors_must_be_numbers_with_a_direction, new_store),
        cmocka_unit_test_setup(vectors_that_could_not_be_added_fix_no_dimension, new_store),
        cmocka_unit_test_setup(a_time_that_is_not_there_is_unknown, new_store),
        cmocka_unit_test_setup(bad_arguments_are_refused_by_name, new_store),
        cmocka_unit_test_setup(an_id_with_quotes_and_nul_removes_itself_only, new_store),
        cmocka_unit_test_setup(handles_on_one_folder_see_each_other, new_store),
        cmocka_unit_test_setup(another_model_is_refused, new_store),
        cmocka_unit_test_setup(a_child_of_fork_is_told, new_store),
        cmocka_unit_test_setup(a_child_of_fork_opens_what_was_not_used, new_store),
        cmocka_unit_test_setup(an_altered_document_says_so, new_store),
        cmocka_unit_test_setup(an_empty_store_answers_without_a_model, new_store),
        cmocka_unit_test_setup(asking_for_the_status_for_ever_costs_nothing, new_store),
        cmocka_unit_test(a_kernel_set_can_be_forced),
        cmocka_unit_test(codes_have_names_and_texts),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

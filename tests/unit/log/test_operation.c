/* Document operations as bytes: what goes in comes out; every changed byte and every cut gives an
 * error or another operation within its bounds; every allocation may fail. */
#include "log/operation.h"

#include "log_cases.h"

#include "mly_cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 5
#define DIM 7

struct sample {
    struct mly_operation operation;
    struct mly_chunk_row rows[ROWS];
    float vectors[ROWS][DIM];
};

static void make_sample(struct sample *sample, enum mly_operation_kind kind)
{
    memset(sample, 0, sizeof(*sample));
    sample->operation = (struct mly_operation){
        .kind = kind,
        .document =
            {
                .id = MLY_STR("the document"),
                .path = MLY_STR("/notes/a.md"),
                .path_raw = MLY_STR_NULL,
                .stamp = {3, 4, 5, 6000000000, -7},
                .has_stamp = true,
                .title = MLY_STR(""),
                .metadata = MLY_STR("{\"a\": 1}"),
                .has_content_hash = true,
                .byte_count = 1 << 30,
                .chunk_count = ROWS,
                .status = MLY_STR("ok"),
                .reason = MLY_STR_NULL,
                .created_at_us = INT64_MAX,
                .updated_at_us = INT64_MIN,
            },
        .rows = sample->rows,
        .row_count = kind == MLY_OPERATION_PUT ? ROWS : 0,
        .dim = DIM,
    };
    memset(sample->operation.document.content_hash.bytes, 0xa5, MLY_HASH_BYTES);
    for (int i = 0; i < ROWS; i++) {
        struct mly_chunk_row *row = &sample->rows[i];
        snprintf(row->id, sizeof(row->id), "00000000-0000-8000-8000-%012d", i);
        row->document_id = sample->operation.document.id;
        row->content = i == 2 ? MLY_STR("") : MLY_STR("some text of it");
        row->metadata = i == 3 ? MLY_STR("{}") : sample->operation.document.metadata;
        if (i == 1) row->metadata = MLY_STR_NULL;
        row->heading = i % 2 == 0 ? MLY_STR("A > B") : MLY_STR_NULL;
        row->ordinal = i;
        row->byte_start = 10 * i;
        row->byte_end = 10 * i + 10;
        row->line_start = 1;
        row->line_end = 1 + i;
        row->page_start = row->page_end = -1;
        row->created_at_us = 77;
        for (int j = 0; j < DIM; j++)
            sample->vectors[i][j] = (float)(i + 1) / (float)(j + 1);
        row->vector = i == 3 ? NULL : sample->vectors[i];
    }
}

static bool same(struct mly_str a, struct mly_str b)
{
    return mly_str_equal(a, b);
}

static void check_same(const struct mly_operation *a, const struct mly_operation *b)
{
    const struct mly_document *x = &a->document;
    const struct mly_document *y = &b->document;
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->dim, b->dim);
    assert_int_equal(a->row_count, b->row_count);
    assert_true(same(x->id, y->id) && same(x->path, y->path) && same(x->path_raw, y->path_raw) &&
                same(x->title, y->title) && same(x->metadata, y->metadata) &&
                same(x->status, y->status) && same(x->reason, y->reason));
    assert_memory_equal(&x->stamp, &y->stamp, sizeof(x->stamp));
    assert_memory_equal(&x->content_hash, &y->content_hash, sizeof(x->content_hash));
    assert_true(x->has_stamp == y->has_stamp && x->has_content_hash == y->has_content_hash &&
                x->byte_count == y->byte_count && x->chunk_count == y->chunk_count &&
                x->created_at_us == y->created_at_us && x->updated_at_us == y->updated_at_us);
    for (size_t i = 0; i < a->row_count; i++) {
        const struct mly_chunk_row *p = &a->rows[i];
        const struct mly_chunk_row *q = &b->rows[i];
        assert_string_equal(p->id, q->id);
        assert_true(same(p->document_id, q->document_id) && same(p->content, q->content) &&
                    same(p->metadata, q->metadata) && same(p->heading, q->heading) &&
                    p->ordinal == q->ordinal && p->byte_start == q->byte_start &&
                    p->byte_end == q->byte_end && p->line_start == q->line_start &&
                    p->line_end == q->line_end && p->page_start == q->page_start &&
                    p->page_end == q->page_end && p->created_at_us == q->created_at_us);
        assert_int_equal(p->vector == NULL, q->vector == NULL);
        if (p->vector != NULL) assert_memory_equal(p->vector, q->vector, DIM * sizeof(float));
    }
}

static void what_goes_in_comes_out(void **state)
{
    (void)state;
    for (int kind = MLY_OPERATION_PUT; kind <= MLY_OPERATION_METADATA; kind++) {
        struct sample sample;
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_bytes bytes;
        struct mly_arena arena;
        struct mly_operation found;
        struct mly_error err = {0};
        make_sample(&sample, (enum mly_operation_kind)kind);
        mly_bytes_init(&bytes, &mem, 1 << 20);
        mly_arena_init(&arena, &mem, 1 << 20);
        /* At every alignment: vectors are copied where they must be. */
        for (size_t shift = 0; shift < 5; shift++) {
            bytes.bytes = 0;
            case_ok(mly_operation_encode(&sample.operation, &bytes, &err), &err);
            uint8_t *moved = malloc(bytes.bytes + shift);
            assert_non_null(moved);
            memcpy(moved + shift, bytes.data, bytes.bytes);
            struct mly_str payload = {(const char *)moved + shift, bytes.bytes};
            case_ok(mly_operation_decode(payload, &arena, &found, &err), &err);
            check_same(&sample.operation, &found);
            mly_arena_reset(&arena);
            free(moved);
        }
        mly_arena_deinit(&arena);
        mly_bytes_deinit(&bytes);
        assert_int_equal(mem.live, 0);
    }
}

/* Reads all that it points to, for the sanitizers. */
static size_t touch(const struct mly_operation *operation)
{
    size_t sum = operation->document.id.bytes;
    for (size_t i = 0; i < operation->row_count; i++) {
        const struct mly_chunk_row *row = &operation->rows[i];
        const struct mly_str texts[] = {row->content, row->metadata, row->heading};
        for (int t = 0; t < 3; t++) {
            for (size_t j = 0; j < texts[t].bytes; j++)
                sum += (unsigned char)texts[t].data[j];
        }
        sum += strlen(row->id);
        for (size_t j = 0; row->vector != NULL && j < operation->dim; j++)
            sum += row->vector[j] > 0;
    }
    return sum;
}

static void no_byte_is_trusted(void **state)
{
    (void)state;
    struct sample sample;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_bytes bytes;
    struct mly_arena arena;
    struct mly_operation found;
    struct mly_error err = {0};
    size_t refused = 0, sum = 0;
    make_sample(&sample, MLY_OPERATION_PUT);
    mly_bytes_init(&bytes, &mem, 1 << 20);
    mly_arena_init(&arena, &mem, 1 << 20);
    case_ok(mly_operation_encode(&sample.operation, &bytes, &err), &err);
    for (size_t i = 0; i < bytes.bytes; i++) {
        for (int value = 0; value < 256; value += value < 4 || value > 250 ? 1 : 41) {
            /* A block of its own, so that one byte too far is seen. */
            uint8_t *changed = malloc(bytes.bytes);
            assert_non_null(changed);
            memcpy(changed, bytes.data, bytes.bytes);
            changed[i] = (uint8_t)value;
            struct mly_str payload = {(const char *)changed, bytes.bytes};
            enum mly_err rc = mly_operation_decode(payload, &arena, &found, &err);
            if (rc == MLY_OK) sum += touch(&found);
            assert_true(rc == MLY_OK || rc == MLY_ERR_CORRUPT || rc == MLY_ERR_UNSUPPORTED);
            refused += rc != MLY_OK;
            mly_arena_reset(&arena);
            free(changed);
        }
    }
    for (size_t cut = 0; cut < bytes.bytes; cut++) {
        uint8_t *changed = malloc(cut + 1);
        assert_non_null(changed);
        memcpy(changed, bytes.data, cut);
        struct mly_str payload = {(const char *)changed, cut};
        assert_int_equal(mly_operation_decode(payload, &arena, &found, &err), MLY_ERR_CORRUPT);
        mly_arena_reset(&arena);
        free(changed);
    }
    assert_true(refused > 500 && sum > 0);
    mly_arena_deinit(&arena);
    mly_bytes_deinit(&bytes);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct sample sample;
    bool fired = true;
    make_sample(&sample, MLY_OPERATION_PUT);
    for (uint64_t fail_at = 1; fired; fail_at++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_bytes bytes;
        struct mly_arena arena;
        struct mly_operation found;
        struct mly_error err = {0};
        mem.fail_at = fail_at;
        mly_bytes_init(&bytes, &mem, 1 << 20);
        mly_arena_init(&arena, &mem, 1 << 20);
        enum mly_err rc = mly_operation_encode(&sample.operation, &bytes, &err);
        if (rc != MLY_OK) assert_int_equal(bytes.bytes, 0);
        if (rc == MLY_OK) rc = mly_operation_decode(mly_bytes_view(&bytes), &arena, &found, &err);
        fired = mem.calls >= fail_at;
        assert_int_equal(rc, fired ? MLY_ERR_NOMEM : MLY_OK);
        mly_arena_deinit(&arena);
        mly_bytes_deinit(&bytes);
        assert_int_equal(mem.live, 0);
    }
}

static void ceilings_hold(void **state)
{
    (void)state;
    struct sample sample;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_bytes bytes;
    struct mly_error err = {0};
    make_sample(&sample, MLY_OPERATION_PUT);
    mly_bytes_init(&bytes, &mem, 500);
    assert_int_equal(mly_operation_encode(&sample.operation, &bytes, &err), MLY_ERR_LIMIT);
    assert_int_equal(bytes.bytes, 0);
    sample.operation.document.id = MLY_STR_NULL;
    assert_int_equal(mly_operation_encode(&sample.operation, &bytes, &err), MLY_ERR_INVAL);
    make_sample(&sample, MLY_OPERATION_PUT);
    sample.operation.dim = 0;
    assert_int_equal(mly_operation_encode(&sample.operation, &bytes, &err), MLY_ERR_INVAL);
    mly_bytes_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(no_byte_is_trusted),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(ceilings_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Headings: what is one, what only looks like one, and the paths that chunks get. */
#include "chunk_cases.h"

#include "mly_cmocka.h"

#include <stdio.h>
#include <string.h>

static struct mly_mem mem = MLY_MEM_INIT;

/* expected: for each chunk its heading path in brackets and the first line it begins with. */
static void check_paths(const char *text, const char *expected)
{
    struct mly_chunks chunks;
    split_and_check(&mem, mly_str_of(text), MEMALLOY_CHUNKING_HEADING, 254, 0, true, &chunks);
    char shown[2048] = "";
    size_t at = 0;
    for (size_t i = 0; i < chunks.count; i++) {
        const struct mly_chunk *chunk = &chunks.items[i];
        const char *start = text + chunk->byte_start;
        int bytes = (int)strcspn(start, "\r\n");
        int wrote = snprintf(shown + at, sizeof(shown) - at, "[%.*s]%.*s;",
                             chunk->heading.data == NULL ? 1 : (int)chunk->heading.bytes,
                             chunk->heading.data == NULL ? "-" : chunk->heading.data, bytes, start);
        assert_true(wrote > 0 && (size_t)wrote < sizeof(shown) - at);
        at += (size_t)wrote;
    }
    assert_string_equal(shown, expected);
    mly_chunks_deinit(&chunks);
    assert_int_equal(mem.live, 0);
}

static void headings_give_paths(void **state)
{
    (void)state;
    check_paths("before\n\n# A\n\nx\n\n## B ##\n\ny\n\n### C\nz\n\n## D\n\nw\n\n# E\n\nv\n",
                "[-]before;[A]# A;[A > B]## B ##;[A > B > C]### C;[A > D]## D;[E]# E;");
    check_paths("Title\n=====\n\nx\n\nPart\n----\n\ny\n", "[Title]Title;[Title > Part]Part;");
    check_paths("# A\r\n\r\nx\r\n\r\n## B\r\n\r\ny\r\n", "[A]# A;[A > B]## B;");
    check_paths("   # A\n\nx", "[A]   # A;");
    check_paths("x\n\n   ## A #5\n\ny", "[-]x;[A #5]## A #5;");
}

static void headings_without_a_body_open_one_chunk(void **state)
{
    (void)state;
    check_paths("# A\n\n## B\n\n### C\n\nx\n\n# D\n", "[A > B > C]# A;[D]# D;");
    check_paths("# A\n## B\n\nx\n", "[A > B]# A;");
}

static void what_is_in_fences_and_front_matter_is_no_heading(void **state)
{
    (void)state;
    check_paths("# A\n\n```sh\n\n# not this\n\n```\n\n## B\n\nx\n", "[A]# A;[A > B]## B;");
    check_paths("~~~\n\n## no\n\n```\n\n## no\n\n~~~~\n\n## B\n\nx\n", "[-]~~~;[B]## B;");
    check_paths("```\n\n## never closed\n\nx", "[-]```;");
    check_paths("---\ntitle: x\n---\n\n# A\n\nx\n", "[-]---;[A]# A;");
    check_paths("    # indented code\n\n####### seven\n\n#nospace\n\n#\n\n# ---\n\nx",
                "[-]    # indented code;");
}

static void comments_of_source_code_are_no_headings(void **state)
{
    (void)state;
    check_paths("#!/usr/bin/env python3\n# Copyright by nobody\n# All of it\n\nimport os\n\n"
                "# how many\nn = 1\n\ndef f():\n    # inside\n    return n  # the end\n",
                "[-]#!/usr/bin/env python3;");
    check_paths("x = 1\n# one line\n\ny = 2\n", "[-]x = 1;");
    check_paths("## Doxygen says\n## this and that\n\nclass A:\n    pass\n", "[-]## Doxygen says;");
    check_paths("# -*- coding: utf-8 -*-\n\nx = 1\n", "[-]# -*- coding: utf-8 -*-;");
    check_paths("# ---- Tools ----#\n\nx = 1\n\n# C-- and C++\n\ny\n",
                "[Tools]# ---- Tools ----#;[C-- and C++]# C-- and C++;");
    /* A comment between blank lines titles what follows, in code as well. */
    check_paths("import os\n\n# Constants\n\nN = 1\n", "[-]import os;[Constants]# Constants;");
}

static void rules_and_tables_are_no_headings(void **state)
{
    (void)state;
    check_paths("a line\nanother\n---\n\nx\n\n---\n\ny\n\n- item\n---\n\na | b\n---\n\nz\n--\n",
                "[-]a line;");
    check_paths("=====\nTitle\n=====\n\nx\n", "[Title]=====;");
}

static void long_titles_lose_their_end(void **state)
{
    (void)state;
    struct mly_str title = repeat_text(&mem, "\xC3\xA9", 5000);
    char text[6000];
    int bytes = snprintf(text, sizeof(text), "## %.*s\n\nx", 5000, title.data);
    mly_mem_free(&mem, (void *)(uintptr_t)title.data);
    struct mly_chunks chunks;
    split_and_check(&mem, (struct mly_str){text, (size_t)bytes}, MEMALLOY_CHUNKING_HEADING, 254, 0,
                    true, &chunks);
    assert_int_equal(chunks.items[0].heading.bytes, 200);
    mly_chunks_deinit(&chunks);
}

static void paths_do_not_outgrow_the_text(void **state)
{
    (void)state;
    char head[1100];
    memset(head, 'h', sizeof(head));
    static const char marks[] = "#####";
    for (size_t i = 0; i < 5; i++) { /* five titles of 200 bytes */
        char *line = head + i * 220;
        memcpy(line, marks, i + 1);
        line[i + 1] = ' ';
        line[218] = '\n';
        line[219] = '\n';
    }
    struct mly_str tail = repeat_text(&mem, "###### x\n\ny\n\n", 400000);
    char *text = mly_mem_alloc(&mem, sizeof(head) + tail.bytes);
    assert_non_null(text);
    memcpy(text, head, sizeof(head));
    memcpy(text + sizeof(head), tail.data, tail.bytes);
    struct mly_str all = {text, sizeof(head) + tail.bytes};
    struct mly_chunking chunking = {MEMALLOY_CHUNKING_HEADING, 254, 0};
    struct mly_meter meter = fake_meter(254);
    struct mly_chunks chunks;
    assert_int_equal(mly_chunk_split(&mem, all, &chunking, &meter, &chunks, NULL), MLY_OK);
    assert_true(chunks.count > 30000);
    assert_true(chunks.heading_capacity < 20 * all.bytes);
    assert_true(chunks.items[1].heading.bytes > 1000);
    assert_true(mly_str_equal(chunks.items[chunks.count - 1].heading, MLY_STR("x")));
    mly_chunks_deinit(&chunks);
    mly_mem_free(&mem, text);
    mly_mem_free(&mem, (void *)(uintptr_t)tail.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headings_give_paths),
        cmocka_unit_test(headings_without_a_body_open_one_chunk),
        cmocka_unit_test(what_is_in_fences_and_front_matter_is_no_heading),
        cmocka_unit_test(comments_of_source_code_are_no_headings),
        cmocka_unit_test(rules_and_tables_are_no_headings),
        cmocka_unit_test(long_titles_lose_their_end),
        cmocka_unit_test(paths_do_not_outgrow_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

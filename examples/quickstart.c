/* Index a folder, ask a question, print cited passages.
 *
 *     cc quickstart.c -lmemalloy -o quickstart && ./quickstart kb ~/notes "what did we decide?"
 */
#include <memalloy.h>

#include <stdio.h>
#include <string.h>

static int ask(memalloy_kernel *kernel, const char *query, struct memalloy_error *err)
{
    memalloy_hits *hits = NULL;
    int rc = memalloy_search_text(kernel, query, strlen(query), NULL, &hits, err);
    for (size_t i = 0; rc == MEMALLOY_OK && i < memalloy_hits_count(hits); i++) {
        struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
        memalloy_hits_get(hits, i, &hit);
        const char *name = hit.path.data != NULL ? hit.path.data : hit.document_id.data;
        printf("%s:%lld-%lld  %.4f\n%s\n\n", name, (long long)hit.line_start,
               (long long)hit.line_end, hit.score, hit.content.data);
    }
    memalloy_hits_destroy(hits);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: quickstart STORE FOLDER QUERY\n");
        return 2;
    }
    struct memalloy_error err;
    memalloy_kernel *kernel = NULL;
    memalloy_report *report = NULL;
    int rc = memalloy_open(&kernel, argv[1], NULL, &err);
    if (rc == MEMALLOY_OK) {
        rc = memalloy_sync(kernel, argv[2], NULL, &report, &err);
    }
    if (rc == MEMALLOY_OK) {
        rc = ask(kernel, argv[3], &err);
    }
    memalloy_report_destroy(report);
    int closed = memalloy_close(kernel, rc == MEMALLOY_OK ? &err : NULL);
    if (rc != MEMALLOY_OK || closed != MEMALLOY_OK) {
        fprintf(stderr, "quickstart: %s\n", err.message);
        return 1;
    }
    return 0;
}

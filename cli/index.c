/* What the verbs say of the vector index, and its making with progress. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <math.h>

#include <string.h>
#include <time.h>

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void cli_index_make(const struct cli_args *args, memalloy_kernel *kernel, bool check,
                    struct cli_indexed *out)
{
    struct cli_progress progress;
    cli_progress_init(&progress, args);
    const struct memalloy_index_options options = {
        .struct_bytes = sizeof(options),
        .progress = cli_progress_report,
        .progress_context = &progress,
        .check = check,
        .lance = args->lance,
    };
    const double start_s = now_s();
    *out = (struct cli_indexed){.status.struct_bytes = sizeof(out->status)};
    out->code = memalloy_make_index(kernel, &options, &out->made, &out->err);
    cli_progress_end(&progress);
    out->seconds = now_s() - start_s;
    if (out->code == MEMALLOY_OK) {
        out->code = memalloy_get_index_status(kernel, &out->status, &out->err);
    }
}

json_t *cli_index_json(const struct memalloy_index_status *status)
{
    json_t *item = cli_object();
    cli_put(item, "rows", cli_json_int(status->rows));
    cli_put(item, "pending", cli_json_int(status->pending));
    cli_put(item, "cells", cli_json_int(status->cells));
    cli_put(item, "bytes", cli_json_int(status->index_bytes + status->record_bytes));
    cli_put(item, "due", json_boolean(status->is_due));
    json_t *lance = json_null();
    if (status->has_lance) {
        lance = cli_object();
        cli_put(lance, "rows", cli_json_int(status->lance_rows));
        cli_put(lance, "pending", cli_json_int(status->lance_pending));
        cli_put(lance, "bytes", cli_json_int(status->lance_bytes));
    }
    cli_put(item, "lance", lance);
    if (status->samples > 0) {
        cli_put(item, "measured_recall", json_real(round(status->measured_recall * 1e4) / 1e4));
        cli_put(item, "samples", cli_json_int(status->samples));
        cli_put(item, "effort_steps", cli_json_int(status->effort_steps));
    }
    return item;
}

json_t *cli_indexed_json(const struct cli_indexed *indexed)
{
    json_t *item = cli_object();
    if (indexed->code == MEMALLOY_OK) {
        json_decref(item);
        item = cli_index_json(&indexed->status);
    } else {
        cli_put(item, "error", cli_json_str(cli_str(indexed->err.message)));
    }
    cli_put(item, "made", json_boolean(indexed->made));
    cli_put(item, "seconds", json_real(indexed->seconds));
    return item;
}

const char *cli_index_text(char out[CLI_INDEX_BYTES], const struct memalloy_index_status *status)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], c[CLI_NUMBER_BYTES];
    if (status->rows == 0) {
        snprintf(out, CLI_INDEX_BYTES, "none%s: searches look at every vector",
                 status->is_due && status->pending > 0 ? " yet" : "");
        return out;
    }
    snprintf(out, CLI_INDEX_BYTES, "%s chunks in %s cells, %s", cli_count_text(a, status->rows),
             cli_count_text(b, status->cells),
             cli_bytes_text(c, status->index_bytes + status->record_bytes));
    if (status->pending > 0) {
        const size_t used = strlen(out);
        snprintf(out + used, CLI_INDEX_BYTES - used, "; %s to come",
                 cli_count_text(a, status->pending));
    }
    if (status->samples > 0) {
        const size_t used = strlen(out);
        snprintf(out + used, CLI_INDEX_BYTES - used, "; recall %.3f, measured",
                 status->measured_recall);
    }
    return out;
}

const char *cli_lance_text(char out[CLI_INDEX_BYTES], const struct memalloy_index_status *status)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES];
    if (!status->has_lance) {
        snprintf(out, CLI_INDEX_BYTES, "none");
        return out;
    }
    snprintf(out, CLI_INDEX_BYTES, "%s chunks, %s", cli_count_text(a, status->lance_rows),
             cli_bytes_text(b, status->lance_bytes));
    if (status->lance_pending > 0) {
        const size_t used = strlen(out);
        snprintf(out + used, CLI_INDEX_BYTES - used, "; %s not in it",
                 cli_count_text(a, status->lance_pending));
    }
    return out;
}

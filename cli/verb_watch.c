/* watch FOLDER: the store follows the folder until a signal comes. What happens goes to stdout, a
 * line or a JSON object each; how it stands is a line on stderr, drawn anew on a terminal. */
#include "cli.h"

/* How soon a signal is seen. */
#define LOOK_MS 100u

struct watching {
    const struct cli_args *args;
    struct cli_progress progress;
    bool is_first; /* everything is being looked at for the first time */
};

static const char *kind_name(int kind)
{
    switch (kind) {
    case MEMALLOY_FILE_ADDED:
        return "added";
    case MEMALLOY_FILE_REPLACED:
        return "replaced";
    case MEMALLOY_FILE_REMOVED:
        return "removed";
    case MEMALLOY_FILE_MOVED:
        return "moved";
    case MEMALLOY_FILE_SKIPPED:
        return "skipped";
    case MEMALLOY_WATCH_SYNCED:
        return "synced";
    case MEMALLOY_WATCH_PROBLEM:
        return "problem";
    case MEMALLOY_WATCH_SOLVED:
        return "solved";
    case MEMALLOY_WATCH_MISSED:
        return "missed";
    default:
        return "ended";
    }
}

static void write_json(const struct memalloy_watch_event *event)
{
    json_t *object = cli_object();
    cli_put(object, "event", cli_json_str(cli_str(kind_name(event->kind))));
    if (event->path.data != NULL) cli_put(object, "path", cli_json_str(event->path));
    if (event->old_path.data != NULL) cli_put(object, "old_path", cli_json_str(event->old_path));
    if (event->document_id.data != NULL) {
        cli_put(object, "document_id", cli_json_str(event->document_id));
    }
    if (event->reason.data != NULL) cli_put(object, "reason", cli_json_str(event->reason));
    if (event->kind == MEMALLOY_WATCH_SYNCED || event->kind == MEMALLOY_WATCH_MISSED) {
        cli_put(object, "count", cli_json_int(event->count));
    }
    cli_json_line(object, 6);
}

static void write_line(const struct memalloy_watch_event *event)
{
    printf("%-9s", kind_name(event->kind));
    cli_put_path(stdout, event->path);
    if (event->old_path.data != NULL) {
        fputs("  from ", stdout);
        cli_put_path(stdout, event->old_path);
    }
    if (event->reason.data != NULL) {
        fputs(": ", stdout);
        cli_put_field(stdout, event->reason);
    }
    putc('\n', stdout);
}

static void say_count(uint64_t count, bool is_first)
{
    char number[CLI_NUMBER_BYTES];
    fprintf(stderr, "%s%s file%s%s\n", is_first ? "following " : "", cli_count_text(number, count),
            count == 1 ? "" : "s", is_first ? "" : " looked at");
}

static void show_event(struct watching *watching, const struct memalloy_watch_event *event)
{
    const struct cli_args *args = watching->args;
    const bool is_file = event->kind <= MEMALLOY_FILE_SKIPPED;
    cli_progress_end(&watching->progress);
    if (args->json) {
        write_json(event);
    } else if (is_file) {
        /* A folder that is new to the store would be listed whole. */
        if (!watching->is_first || args->verbose) write_line(event);
    }
    (void)fflush(stdout);
    if (!is_file && event->reason.data != NULL) cli_say("%s", event->reason.data);
    if (event->kind == MEMALLOY_WATCH_SYNCED && !args->quiet) {
        say_count(event->count, watching->is_first);
    }
    if (event->kind == MEMALLOY_WATCH_SOLVED && !args->quiet) {
        fputs("following again\n", stderr);
    }
    if (event->kind == MEMALLOY_WATCH_SYNCED) watching->is_first = false;
}

/* The line that stands below; nothing where stderr is no terminal. */
static void show_status(struct watching *watching, const struct memalloy_watch_status *status)
{
    char text[160], a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], c[CLI_NUMBER_BYTES];
    if (!watching->progress.shown || !watching->progress.redraw) return;
    if (status->files_total > 0) {
        snprintf(text, sizeof(text), "%s of %s files", cli_count_text(a, status->files_done),
                 cli_count_text(b, status->files_total));
    } else if (status->state == MEMALLOY_WATCH_IS_STARTING) {
        snprintf(text, sizeof(text), "looking at everything");
    } else if (status->state == MEMALLOY_WATCH_IS_WAITING) {
        snprintf(text, sizeof(text), "waiting for the folder");
    } else if (status->pending > 0) {
        snprintf(text, sizeof(text), "%s pending", cli_count_text(a, status->pending));
    } else {
        snprintf(text, sizeof(text), "%s: all is in the store; %s added, %s replaced since",
                 status->state == MEMALLOY_WATCH_IS_POLLING ? "looking at intervals" : "following",
                 cli_count_text(b, status->added), cli_count_text(c, status->replaced));
    }
    fprintf(stderr, "\r\033[K%.*s", (int)cli_columns(stderr) - 1, text);
    (void)fflush(stderr);
    watching->progress.drawn = true;
}

static int follow(struct watching *watching, memalloy_watch *watch)
{
    struct memalloy_watch_status status = {.struct_bytes = sizeof(status)};
    int result = CLI_OK;
    while (cli_signal() == 0 && !cli_stdout_gone()) {
        struct memalloy_watch_event event = {.struct_bytes = sizeof(event)};
        const bool found = memalloy_watch_next(watch, LOOK_MS, &event) != 0;
        if (found) show_event(watching, &event);
        memalloy_watch_get_status(watch, &status);
        /* What is wrong from the beginning (no model, another one) does not mend itself. */
        if (watching->is_first && status.failed > 0 && !found) {
            result = CLI_FAILED;
            break;
        }
        if (!found) show_status(watching, &status);
    }
    cli_progress_end(&watching->progress);
    return result;
}

static int watch_store(const struct cli_args *args, memalloy_kernel *kernel)
{
    struct watching watching = {.args = args, .is_first = true};
    struct memalloy_error err = {0};
    memalloy_watch *watch = NULL;
    const struct memalloy_watch_options options = {
        .struct_bytes = sizeof(options),
        .include = args->include.items,
        .include_count = args->include.count,
        .exclude = args->exclude.items,
        .exclude_count = args->exclude.count,
        .file_bytes_max = args->file_bytes_max,
        .durability = args->durability,
        .flags = args->poll ? MEMALLOY_WATCH_POLL : 0u,
    };
    cli_progress_init(&watching.progress, args);
    if (memalloy_watch_open(kernel, args->rest[0], &options, &watch, &err) != MEMALLOY_OK) {
        return cli_fail(args, &err);
    }
    int result = follow(&watching, watch);
    memalloy_watch_close(watch);
    if (result == CLI_OK && !args->quiet) fputs("stopped; what was stored stays\n", stderr);
    return result;
}

int cli_verb_watch(struct cli_args *args)
{
    return cli_on_folder(args, "watch", watch_store);
}

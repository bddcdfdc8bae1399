/* Progress on stderr: on a terminal one line that is drawn anew, elsewhere a plain line every few
 * seconds, so that a log stays readable. The same callback carries the wish to stop. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define LOG_EVERY_S 5.0
#define LOG_EVERY_ASKED_S 2.0

static volatile sig_atomic_t signal_come;

static void note_signal(int number)
{
    signal_come = number;
}

void cli_signals_catch(void)
{
    /* SA_RESETHAND: whoever is impatient presses twice, and the second one ends at once. */
    struct sigaction action = {.sa_handler = note_signal,
                               .sa_flags = (int)(SA_RESTART | SA_RESETHAND)};
    struct sigaction before;
    sigemptyset(&action.sa_mask);
    int numbers[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        /* nohup and shells' background jobs ignore signals on purpose. */
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            sigaction(numbers[i], &action, NULL);
        }
    }
}

int cli_signal(void)
{
    return (int)signal_come;
}

void cli_progress_init(struct cli_progress *progress, const struct cli_args *args)
{
    const char *term = getenv("TERM");
    bool tty = cli_is_tty(stderr);
    *progress = (struct cli_progress){
        .args = args,
        .shown = args->progress || (!args->no_progress && !args->quiet),
        .redraw = tty && term != NULL && strcmp(term, "dumb") != 0,
        .every_s = args->progress ? LOG_EVERY_ASKED_S : LOG_EVERY_S,
    };
}

static const char *time_text(char *out, double seconds)
{
    unsigned long all = seconds > 359999 ? 359999 : (unsigned long)(seconds + 0.5);
    if (all >= 3600) {
        snprintf(out, CLI_NUMBER_BYTES, "%lu:%02lu:%02lu", all / 3600, all / 60 % 60, all % 60);
    } else {
        snprintf(out, CLI_NUMBER_BYTES, "%lu:%02lu", all / 60, all % 60);
    }
    return out;
}

static size_t embed_text(char *out, size_t out_bytes, const struct memalloy_progress *report)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], c[CLI_NUMBER_BYTES];
    int used = snprintf(out, out_bytes, "%s text%s, %s", cli_count_text(a, report->items_done),
                        report->items_done == 1 ? "" : "s", cli_bytes_text(b, report->bytes_done));
    size_t at = (size_t)used;
    if (report->bytes_total > 0) {
        used = snprintf(out + at, out_bytes - at, " of %s", cli_bytes_text(a, report->bytes_total));
        at += (size_t)used;
    }
    if (report->elapsed_s > 0.5) {
        used =
            snprintf(out + at, out_bytes - at, ", %s texts/s",
                     cli_count_text(c, (uint64_t)((double)report->items_done / report->elapsed_s)));
        at += (size_t)used;
    }
    if (report->remaining_s >= 0) {
        snprintf(out + at, out_bytes - at, ", %s left", time_text(a, report->remaining_s));
    }
    return strlen(out);
}

/* The line without the path; returns its columns (it is ASCII). */
static size_t line_text(char *out, size_t out_bytes, const struct memalloy_progress *report)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], c[CLI_NUMBER_BYTES], d[CLI_NUMBER_BYTES];
    if (report->stage == MEMALLOY_STAGE_WALK) {
        snprintf(out, out_bytes, "looking for files: %s",
                 cli_count_text(a, report->files_total > report->files_done ? report->files_total
                                                                            : report->files_done));
        return strlen(out);
    }
    if (report->stage == MEMALLOY_STAGE_EMBED) {
        return embed_text(out, out_bytes, report);
    }
    if (report->stage == MEMALLOY_STAGE_VECTORS) {
        const double share = report->items_total > 0
                                 ? 100.0 * (double)report->items_done / (double)report->items_total
                                 : 0;
        const bool is_known = report->remaining_s >= 0;
        snprintf(out, out_bytes, "making the vector index: %.0f %%%s%s%s", share,
                 is_known ? ", " : "", is_known ? time_text(a, report->remaining_s) : "",
                 is_known ? " left" : "");
        return strlen(out);
    }
    int used =
        snprintf(out, out_bytes, "%s of %s file%s, %s of %s", cli_count_text(a, report->files_done),
                 cli_count_text(b, report->files_total), report->files_total == 1 ? "" : "s",
                 cli_bytes_text(c, report->bytes_done), cli_bytes_text(d, report->bytes_total));
    size_t at = (size_t)used;
    if (report->bytes_per_s > 0 && at < out_bytes) {
        used = snprintf(out + at, out_bytes - at, ", %s/s",
                        cli_bytes_text(a, (uint64_t)report->bytes_per_s));
        at += (size_t)used;
    }
    if (report->remaining_s >= 0 && at < out_bytes) {
        snprintf(out + at, out_bytes - at, ", %s left", time_text(a, report->remaining_s));
    }
    return strlen(out);
}

int cli_progress_report(void *context, const struct memalloy_progress *report)
{
    struct cli_progress *progress = context;
    progress->files_done = report->files_done;
    progress->files_total = report->files_total;
    bool due = progress->redraw || report->elapsed_s - progress->line_s >= progress->every_s;
    if (progress->shown && due && report->stage != MEMALLOY_STAGE_DONE) {
        char text[160];
        size_t used = line_text(text, sizeof(text), report);
        progress->line_s = report->elapsed_s;
        if (progress->redraw) {
            /* One column stays free: in the last one some terminals go on to the next line. */
            size_t columns = cli_columns(stderr) - 1;
            fprintf(stderr, "\r\033[K%.*s", (int)columns, text);
            if (report->path != NULL && columns > used + 12) {
                fputs("  ", stderr);
                cli_put_path_fit(stderr, report->path, columns - used - 2);
            }
            fflush(stderr);
            progress->drawn = true;
        } else {
            fprintf(stderr, "%s\n", text);
        }
    }
    return cli_signal() != 0;
}

int cli_progress_step(void *context, const char *step, double share)
{
    struct cli_progress *progress = context;
    if (progress->shown && progress->redraw) {
        const int columns = (int)cli_columns(stderr) - 8;
        fprintf(stderr, "\r\033[K%3.0f %%  %.*s", share * 100, columns, step);
        fflush(stderr);
        progress->drawn = true;
    } else if (progress->args->progress && strcmp(progress->step, step) != 0) {
        snprintf(progress->step, sizeof(progress->step), "%s", step);
        fprintf(stderr, "%3.0f %%  %s\n", share * 100, step);
    }
    return cli_signal() != 0;
}

void cli_progress_end(struct cli_progress *progress)
{
    if (progress->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress->drawn = false;
    }
}

/* What the verbs of the command share. The command uses <memalloy.h> alone, as every other program
 * would: what it cannot do through that header, nobody can.
 *
 * Output   data to stdout; progress, summaries and errors to stderr. One JSON document per command
 *          with --json; embed, tokenize and watch give one per line.
 * Safety   what comes from files may hold control characters: it goes to a terminal escaped, and to
 *          a pipe or file as it is.
 * Errors   a verb returns an exit code of enum cli_exit; whoever finds the failure has told the
 *          user by then.
 * Threads  one; only the signal handler's flag is shared with it.
 */
#ifndef MLY_CLI_CLI_H
#define MLY_CLI_CLI_H

#include <memalloy.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

/* Exit codes are part of the interface: docs/memalloy.1 lists them. */
enum cli_exit {
    CLI_OK = 0,
    CLI_NOTHING = 1, /* no hits, unknown id or name */
    CLI_USAGE = 2,
    CLI_PARTIAL = 3, /* done but for files that could not be read, or ids that were not there */
    CLI_LOCKED = 4,
    CLI_CORRUPT = 5,
    CLI_FAILED = 6,
    CLI_INTERRUPTED = 130,
    CLI_TERMINATED = 143,
};

/* ---- memory: the one growing buffer of the command; running out ends the program */

struct cli_buf {
    char *data; /* NUL-terminated once anything was added, else NULL */
    size_t bytes, capacity;
};
void cli_buf_reserve(struct cli_buf *buf, size_t more_bytes);
void cli_buf_add(struct cli_buf *buf, const char *data, size_t bytes);
void cli_buf_add_text(struct cli_buf *buf, const char *text);
/* Forgets the first bytes. */
void cli_buf_drop(struct cli_buf *buf, size_t bytes);
void cli_buf_free(struct cli_buf *buf);
/* Zeroed memory for count items of item_bytes; free with cli_free. */
void *cli_array(size_t count, size_t item_bytes);
void cli_free(void *memory);

/* ---- arguments */

struct cli_list {
    const char **items; /* borrowed from argv */
    size_t count;
};

/* Everything that options can say; see options.c for what each verb takes. */
struct cli_args {
    const char *verb;
    struct cli_buf db; /* never empty once the arguments were read */
    const char *db_from;
    const char *model;
    uint32_t threads;
    uint32_t lock_wait_ms;
    bool json, quiet, verbose, special, progress, no_progress, help;
    size_t top_k, limit;
    double recall; /* 0: as the store has it */
    bool explain, lance, poll;
    size_t lines; /* of a passage; SIZE_MAX: as many as the output asks for, 0: all */
    const char *after;
    uint64_t file_bytes_max, memory_bytes_max;
    int durability; /* enum memalloy_durability */
    bool network_fs;
    struct cli_list include, exclude;
    struct cli_list documents; /* ids to search in; none: all */
    /* embed */
    struct cli_list files;
    int kind;     /* enum memalloy_embed_kind */
    int format;   /* enum cli_format */
    int on_error; /* 0: stop, 1: skip */
    bool has_format;
    const char *field, *id_field, *output;
    /* model add */
    const char *name, *precision, *pooling, *query_prefix, *passage_prefix, *calibration, *license;
    bool no_quality, force;
    struct cli_buf whole_verb; /* what verb points to, where it has two words */
    char **rest;               /* what is not an option */
    size_t rest_count;
};

struct cli_verb {
    const char *name;
    int (*run)(struct cli_args *args);
    unsigned bit;
    const char *synopsis;
    const char *summary;
    const char *details;
};
extern const struct cli_verb cli_verbs[];
#define CLI_VERBS_OF_STORES 122943u /* the bits of those that need one */
const struct cli_verb *cli_verb_find(const char *name);
/* "model": its verbs have two words. */
bool cli_verb_is_group(const char *name);
void cli_help_group(FILE *out, const char *name);

/* Options without a letter have numbers above every character. */
enum {
    CLI_OPT_DB = 256,
    CLI_OPT_MODEL,
    CLI_OPT_THREADS,
    CLI_OPT_WAIT,
    CLI_OPT_JSON,
    CLI_OPT_LINES,
    CLI_OPT_MAX_BYTES,
    CLI_OPT_PROGRESS,
    CLI_OPT_NO_PROGRESS,
    CLI_OPT_AFTER,
    CLI_OPT_SPECIAL,
    CLI_OPT_KIND,
    CLI_OPT_FIELD,
    CLI_OPT_ID_FIELD,
    CLI_OPT_FORMAT,
    CLI_OPT_ON_ERROR,
    CLI_OPT_NAME,
    CLI_OPT_PRECISION,
    CLI_OPT_POOLING,
    CLI_OPT_QUERY_PREFIX,
    CLI_OPT_PASSAGE_PREFIX,
    CLI_OPT_CALIBRATION,
    CLI_OPT_LICENSE,
    CLI_OPT_NO_QUALITY,
    CLI_OPT_FORCE,
    CLI_OPT_DURABILITY,
    CLI_OPT_MEMORY_LIMIT,
    CLI_OPT_NETWORK_FS,
    CLI_OPT_RECALL,
    CLI_OPT_EXPLAIN,
    CLI_OPT_DOCUMENT,
    CLI_OPT_LANCE,
    CLI_OPT_POLL,
};
struct cli_option {
    const char *name; /* NULL: the end of the table */
    int code;         /* below 256: the letter */
    const char *argument;
    unsigned verbs;
    const char *help;
};
extern const struct cli_option cli_options[];

/* Reads argv into args: CLI_OK with args->verb set (NULL for --version), else an exit code. */
int cli_args_read(struct cli_args *args, int argc, char **argv);
void cli_args_free(struct cli_args *args);
void cli_help(FILE *out, const struct cli_verb *verb);
/* Says on stderr what is wrong with the arguments and where help is; returns CLI_USAGE. */
int cli_usage(const struct cli_args *args, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int cli_verb_sync(struct cli_args *args);
int cli_verb_watch(struct cli_args *args);
int cli_verb_search(struct cli_args *args);
int cli_verb_get(struct cli_args *args);
int cli_verb_ls(struct cli_args *args);
int cli_verb_rm(struct cli_args *args);
int cli_verb_status(struct cli_args *args);
int cli_verb_checkpoint(struct cli_args *args);
int cli_verb_index(struct cli_args *args);
int cli_verb_verify(struct cli_args *args);
int cli_verb_embed(struct cli_args *args);
int cli_verb_tokenize(struct cli_args *args);
int cli_verb_model_ls(struct cli_args *args);
int cli_verb_model_add(struct cli_args *args);
int cli_verb_model_info(struct cli_args *args);
int cli_verb_model_verify(struct cli_args *args);
int cli_verb_model_rm(struct cli_args *args);

/* ---- terminal and streams */

/* Opens /dev/null for standard streams that are closed, so that no file of the store gets their
 * number, and ignores SIGPIPE, so that "| head" cannot stop a removal half way. */
void cli_streams_init(void);
/* Flushes stdout; a failure other than a closed pipe turns result into CLI_FAILED. */
int cli_streams_finish(int result);
/* Bytes to stdout; a failure is kept for cli_stdout_gone and cli_streams_finish. */
void cli_write(const void *data, size_t bytes);
/* True once the reader of stdout is gone. */
bool cli_stdout_gone(void);
bool cli_is_tty(FILE *stream);
/* Columns of the terminal behind stream; 80 where it does not say. */
size_t cli_columns(FILE *stream);

enum cli_style { CLI_STYLE_PATH, CLI_STYLE_SCORE, CLI_STYLE_DIM, CLI_STYLE_ERROR };
/* Escape sequences, or "" where stream takes no colour. */
const char *cli_style(FILE *stream, enum cli_style style);
const char *cli_style_end(FILE *stream);

/* One field of a line: control characters, line breaks and invalid bytes are escaped everywhere. */
void cli_put_field(FILE *stream, struct memalloy_str text);
/* A path as cli_put_field, relative to the working directory when it lies below it. */
void cli_put_path(FILE *stream, struct memalloy_str path);
/* As cli_put_path, the end of it within columns, for the progress line. */
void cli_put_path_fit(FILE *stream, const char *path, size_t columns);
/* A text of many lines: escaped on a terminal, byte for byte otherwise. */
void cli_put_text(FILE *stream, struct memalloy_str text);
/* A passage: each line behind four blanks; on a terminal folded at words. Cut after
 * lines_max lines; 0: whole; SIZE_MAX: whole unless stream is a terminal. */
void cli_put_passage(FILE *stream, struct memalloy_str text, size_t lines_max);
/* "1.4 MB" and "1,234", into a buffer of the caller's. */
#define CLI_NUMBER_BYTES 32
const char *cli_bytes_text(char *out, uint64_t bytes);
const char *cli_count_text(char *out, uint64_t count);

/* One code point of text, or -1 and one byte where it is not UTF-8; text is not empty. */
int32_t cli_utf8_next(const char *text, size_t bytes, size_t *out_bytes);
bool cli_utf8_ok(const char *text, size_t bytes);

/* ---- errors and JSON */

/* Tells the failure on stderr, with --json as a document on stdout as well, and gives the exit
 * code of err->code. */
int cli_fail(const struct cli_args *args, const struct memalloy_error *err);
/* A line on stderr: "memalloy: ...". */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void cli_out_of_memory(void);

/* Sets key of object to value, which it takes. */
void cli_put(json_t *object, const char *key, json_t *value);
void cli_push(json_t *array, json_t *value);
json_t *cli_object(void);
json_t *cli_list(void);
/* null where data is NULL; bytes that are not UTF-8 become U+FFFD. */
json_t *cli_json_str(struct memalloy_str text);
json_t *cli_json_int(uint64_t number);
/* null below 0 */
json_t *cli_json_place(int64_t number);
/* The metadata of a document as the object that it is. */
json_t *cli_json_metadata(struct memalloy_str text);
/* "2026-11-22T12:49:46.123456Z"; null for MEMALLOY_TIME_UNKNOWN */
json_t *cli_json_time(int64_t time_us);
/* Writes document and a line end to stdout and lets it go. digits: of reals, 17 for doubles. */
void cli_json_write(json_t *document, int digits);
/* The same, always on one line. */
void cli_json_line(json_t *document, int digits);

/* ---- stores and models */

struct memalloy_str cli_str(const char *text);
/* Opens the store of args; reading verbs never make one. Tells of failures itself. */
int cli_open(const struct cli_args *args, uint32_t flags, memalloy_kernel **out);
/* For writing, where there is a store: one that is not there is not made. */
int cli_open_existing(const struct cli_args *args, memalloy_kernel **out);
/* Closes a store that was written to; what could not be made durable is told and becomes the
 * result, where that is no failure already. kernel may be NULL. */
int cli_close(const struct cli_args *args, memalloy_kernel *kernel, int result);
/* What a verb on one folder does: looks at its argument, opens the store, works, closes it. */
typedef int (*cli_store_fn)(const struct cli_args *args, memalloy_kernel *kernel);
int cli_on_folder(const struct cli_args *args, const char *verb, cli_store_fn work);
int cli_open_model(const struct cli_args *args, memalloy_model **out);
/* Where a store was made with another model: the commands that help, behind what cli_fail said. */
void cli_say_remedy(const struct cli_args *args, memalloy_kernel *kernel,
                    const struct memalloy_error *err);

/* ---- progress and interruption */

struct cli_progress {
    const struct cli_args *args;
    bool shown, redraw, drawn;
    double line_s, every_s; /* time of the last plain line, and between two */
    uint64_t files_done, files_total;
    char step[80]; /* told last by cli_progress_step */
};
void cli_progress_init(struct cli_progress *progress, const struct cli_args *args);
/* A memalloy_progress_fn; cancels once a signal has come. */
int cli_progress_report(void *context, const struct memalloy_progress *report);
/* A memalloy_convert_fn of the same kind. */
int cli_progress_step(void *context, const char *step, double share);
/* Takes the line away. */
void cli_progress_end(struct cli_progress *progress);
/* From here on SIGINT and SIGTERM ask for an orderly end; a second one ends at once. */
void cli_signals_catch(void);
/* 0, or the signal that came. */
int cli_signal(void);

/* ---- the vector index */

struct cli_indexed {
    int code; /* of the library; status is known where it is 0 */
    struct memalloy_error err;
    int made;
    double seconds;
    struct memalloy_index_status status;
};
/* Makes what is due of it, with progress; tells nothing else. check: reads what there is first.
 * With --lance also that of the table. */
void cli_index_make(const struct cli_args *args, memalloy_kernel *kernel, bool check,
                    struct cli_indexed *out);
/* The members of status, or an error, in an object. */
json_t *cli_index_json(const struct memalloy_index_status *status);
json_t *cli_indexed_json(const struct cli_indexed *indexed);
/* "30,000 chunks in 64 cells, 4.3 MB", or why there is none. */
#define CLI_INDEX_BYTES 160
const char *cli_index_text(char out[CLI_INDEX_BYTES], const struct memalloy_index_status *status);
/* "30,000 chunks, 1.5 MB; 20 not in it", or "none". */
const char *cli_lance_text(char out[CLI_INDEX_BYTES], const struct memalloy_index_status *status);

/* ---- lines of input */

/* Lines without their ends, or texts of the arguments. One that is longer than anybody means has
 * data NULL and the bytes that were counted before it was dropped. */
struct cli_lines {
    const char *source; /* "stdin", a file, or NULL: the arguments */
    const struct memalloy_str *items;
    size_t count;
    uint64_t first;                   /* number of the first in its source, from 1 */
    uint64_t bytes_done, bytes_total; /* read so far, and of all files; total 0: not known */
};
/* Calls take with every text of the arguments, or with batches of lines of the files, or, where
 * there is neither or only "-", of stdin, as they come in: no more is read before take is back.
 * Ends with an exit code, at a signal too. */
typedef int (*cli_lines_fn)(void *context, const struct cli_lines *lines);
int cli_lines_each(const struct cli_args *args, cli_lines_fn take, void *context);
/* "file:17", for messages, into a buffer of the caller's. */
#define CLI_PLACE_BYTES 400
const char *cli_place(char out[CLI_PLACE_BYTES], const struct cli_lines *lines, size_t i);

/* ---- vectors out */

enum cli_format { CLI_JSONL, CLI_NPY, CLI_ARROW, CLI_ARROW_FILE };

struct cli_record {
    struct memalloy_str text, id; /* id.data NULL: none */
    uint64_t index;               /* of the record in the input, from 0 */
    int64_t id_integer;           /* what id says, where the input had it as a number */
    bool id_is_integer, truncated;
};

/* One way to write records with their vectors. Each put is flushed; close completes what was put,
 * also after a failure elsewhere. */
struct cli_writer {
    const struct cli_args *args;
    const struct memalloy_model_info *info;
    uint64_t rows;
    void *state;
    void (*put)(struct cli_writer *writer, const struct cli_record *records, const float *vectors,
                size_t count);
    int (*close)(struct cli_writer *writer); /* an exit code; frees state */
};
void cli_writer_jsonl(struct cli_writer *writer);
/* An exit code: a pipe needs a temporary file, since the count stands in front. */
int cli_writer_npy(struct cli_writer *writer);
void cli_writer_arrow(struct cli_writer *writer, bool file);

#endif

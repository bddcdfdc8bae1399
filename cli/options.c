/* argv comes in, a struct cli_args goes out. One table says what each option is called, which verbs
 * take it and what help says of it, so that the three cannot drift apart. Options may stand before
 * or behind the verb. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <getopt.h>

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    SYNC = 1u << 0,
    SEARCH = 1u << 1,
    GET = 1u << 2,
    LS = 1u << 3,
    RM = 1u << 4,
    STATUS = 1u << 5,
    EMBED = 1u << 6,
    TOKENIZE = 1u << 7,
    STORE = SYNC | SEARCH | GET | LS | RM | STATUS,
    ALL = STORE | EMBED | TOKENIZE,
};

const struct cli_verb cli_verbs[] = {
    {"sync", cli_verb_sync, SYNC, "sync [options] FOLDER", "make the store follow a folder",
     "Files that are new or changed are indexed, documents of files that are gone are removed.\n"
     "Hidden and binary files are left out; files that cannot be taken are reported with the\n"
     "reason. Patterns are globs on the path below FOLDER: * and ? stop at \"/\", ** does not,\n"
     "[a-z] is a class; one without \"/\" matches names at any depth; one that matches a folder\n"
     "takes everything below it.\n"},
    {"search", cli_verb_search, SEARCH, "search [options] QUERY...", "find passages by meaning",
     "Prints the passages that are nearest to the query, best first, each under a line\n"
     "\"path:first-last  score\" (text without a path: its document id). Exit code 1 when there\n"
     "are none.\n"},
    {"get", cli_verb_get, GET, "get [options] ID|PATH", "print the text of a document",
     "Prints the whole text byte for byte (on a terminal, control characters are escaped).\n"},
    {"ls", cli_verb_ls, LS, "ls [options]", "list the documents",
     "Prints id, chunks, bytes and path or title of each document, in the order of ids,\n"
     "with tabs between them when the output is not a terminal.\n"},
    {"rm", cli_verb_rm, RM, "rm [options] ID...", "remove documents",
     "Removes documents from the store; files are never touched, and a file that is still in\n"
     "its folder comes back with the next sync. Exit code 1 when no id was known, 3 when only\n"
     "some were.\n"},
    {"status", cli_verb_status, STATUS, "status [options]", "say what the store holds", ""},
    {"embed", cli_verb_embed, EMBED, "embed [options] [TEXT... | -]", "turn texts into vectors",
     "Prints one JSON array per text. Without TEXT, or with \"-\", each line of the standard\n"
     "input is a text.\n"},
    {"tokenize", cli_verb_tokenize, TOKENIZE, "tokenize [options] [TEXT... | -]",
     "turn texts into word piece ids",
     "Prints one line of ids per text. Without TEXT, or with \"-\", each line of the standard\n"
     "input is a text.\n"},
    {NULL, NULL, 0, NULL, NULL, NULL},
};

/* Options without a letter get numbers above every character. */
enum {
    OPT_DB = 256,
    OPT_MODEL,
    OPT_THREADS,
    OPT_WAIT,
    OPT_JSON,
    OPT_LINES,
    OPT_MAX_BYTES,
    OPT_PROGRESS,
    OPT_NO_PROGRESS,
    OPT_AFTER,
    OPT_SPECIAL,
};

struct option_row {
    const char *name;
    int code; /* below 256: the letter */
    const char *argument;
    unsigned verbs;
    const char *help;
};

static const struct option_row option_rows[] = {
    {"db", OPT_DB, "PATH", STORE, "the store's folder ($MEMALLOY_DB)"},
    {"top-k", 'k', "N", SEARCH, "at most N passages (5)"},
    {"lines", OPT_LINES, "N", SEARCH, "lines of a passage, 0: all (12 on a terminal, else all)"},
    {"include", 'i', "GLOB", SYNC, "only files that match (may be repeated)"},
    {"exclude", 'x', "GLOB", SYNC, "no files that match (may be repeated)"},
    {"max-bytes", OPT_MAX_BYTES, "N", SYNC, "skip larger files; K, M and G may follow (64M)"},
    {"limit", 'n', "N", LS, "at most N documents"},
    {"after", OPT_AFTER, "ID", LS, "only documents behind ID"},
    {"special", OPT_SPECIAL, NULL, TOKENIZE, "with [CLS] and [SEP]"},
    {"model", OPT_MODEL, "PATH", SYNC | SEARCH | STATUS | EMBED | TOKENIZE,
     "a file, or a folder with model.onnx ($MEMALLOY_MODEL)"},
    {"threads", OPT_THREADS, "N", SYNC | SEARCH | EMBED, "cores to use (all)"},
    {"wait", OPT_WAIT, "SECONDS", SYNC | RM, "how long to wait for another writer (10)"},
    {"progress", OPT_PROGRESS, NULL, SYNC, "progress even where it is off by itself"},
    {"no-progress", OPT_NO_PROGRESS, NULL, SYNC, "no progress"},
    {"json", OPT_JSON, NULL, ALL, "the result as JSON"},
    {"verbose", 'v', NULL, SYNC, "what each stage took, and every skipped file"},
    {"quiet", 'q', NULL, ALL, "nothing on stderr but errors"},
    {"help", 'h', NULL, ALL, "this text"},
};
#define OPTION_ROWS (sizeof(option_rows) / sizeof(option_rows[0]))
#define VERSION_CODE 'V'

const struct cli_verb *cli_verb_find(const char *name)
{
    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++) {
        if (strcmp(verb->name, name) == 0) {
            return verb;
        }
    }
    return NULL;
}

static void help_option(FILE *out, const struct option_row *row)
{
    char left[64];
    char letter[8] = "    ";
    if (row->code < 256) {
        snprintf(letter, sizeof(letter), "-%c, ", row->code);
    }
    snprintf(left, sizeof(left), "%s--%s%s%s", letter, row->name, row->argument ? " " : "",
             row->argument ? row->argument : "");
    fprintf(out, "  %-24s %s\n", left, row->help);
}

void cli_help(FILE *out, const struct cli_verb *verb)
{
    if (verb != NULL) {
        fprintf(out, "usage: memalloy %s\n\n%c%s.\n%s\n", verb->synopsis,
                verb->summary[0] - 'a' + 'A', verb->summary + 1, verb->details);
        for (size_t i = 0; i < OPTION_ROWS; i++) {
            if (option_rows[i].verbs & verb->bit) {
                help_option(out, &option_rows[i]);
            }
        }
        return;
    }
    fputs("usage: memalloy VERB [options] [arguments]\n\n"
          "The memory of this machine: folders in, cited passages out. No server, no network.\n\n",
          out);
    for (const struct cli_verb *each = cli_verbs; each->name != NULL; each++) {
        fprintf(out, "  %-34s %s\n", each->synopsis, each->summary);
    }
    fputs("  help [VERB]                        what a verb takes\n\n"
          "Every verb takes --json, --quiet and --help; those that use the store take --db PATH\n"
          "(else $MEMALLOY_DB, else $XDG_DATA_HOME/memalloy/default, else\n"
          "~/.local/share/memalloy/default). memalloy --version names the version.\n\n"
          "Exit codes: 0 done, 1 nothing found, 2 wrong usage, 3 done in part, 4 another process\n"
          "writes to the store, 5 damaged data, 6 any other failure, 130 interrupted.\n",
          out);
}

int cli_usage(const struct cli_args *args, const char *format, ...)
{
    struct cli_buf text = {0};
    cli_buf_reserve(&text, 1024);
    va_list list;
    va_start(list, format);
    vsnprintf(text.data, 1024, format, list);
    va_end(list);
    cli_say("%s", text.data);
    cli_buf_free(&text);
    const char *verb = args->verb != NULL && cli_verb_find(args->verb) ? args->verb : NULL;
    fprintf(stderr, "memalloy %s%s--help says more\n", verb ? verb : "", verb ? " " : "");
    return CLI_USAGE;
}

/* A decimal number from low to high and nothing else: no sign, no blanks. */
static bool read_number(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < low || value > high) {
        return false;
    }
    *out = value;
    return true;
}

/* As read_number, with K, M or G behind it. */
static bool read_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMG";
    char digits[24];
    size_t bytes = strlen(text);
    unsigned shift = 0;
    if (bytes == 0 || bytes >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, text, bytes + 1);
    const char *unit = strchr(units, digits[bytes - 1]);
    if (unit != NULL) {
        shift = 10 * (unsigned)(unit - units + 1);
        digits[bytes - 1] = '\0';
    }
    uint64_t value;
    if (!read_number(digits, 1, UINT64_MAX >> shift, &value)) {
        return false;
    }
    *out = value << shift;
    return true;
}

static bool read_seconds_as_ms(const char *text, uint32_t *out)
{
    uint64_t seconds;
    if (!read_number(text, 0, 86400, &seconds)) {
        return false;
    }
    *out = seconds == 0 ? 1 : (uint32_t)seconds * 1000; /* 0 is the library's own 10 s */
    return true;
}

static void list_add(struct cli_list *list, const char *item)
{
    const char **items = cli_array(list->count + 1, sizeof(*items));
    for (size_t i = 0; i < list->count; i++) {
        items[i] = list->items[i];
    }
    items[list->count] = item;
    cli_free(list->items);
    list->items = items;
    list->count++;
}

static int take_number(struct cli_args *args, int code, const char *value)
{
    uint64_t number = 0;
    switch (code) {
    case 'k':
        if (!read_number(value, 1, 0x7fffffff, &number)) {
            return cli_usage(args, "--top-k is a number from 1 to 2147483647, not \"%s\"", value);
        }
        args->top_k = (size_t)number;
        return CLI_OK;
    case 'n':
        if (!read_number(value, 1, 0x7fffffff, &number)) {
            return cli_usage(args, "--limit is a number from 1 to 2147483647, not \"%s\"", value);
        }
        args->limit = (size_t)number;
        return CLI_OK;
    case OPT_LINES:
        if (!read_number(value, 0, 0x7fffffff, &number)) {
            return cli_usage(args, "--lines is a number from 0 to 2147483647, not \"%s\"", value);
        }
        args->lines = (size_t)number;
        return CLI_OK;
    case OPT_THREADS:
        if (!read_number(value, 1, 1024, &number)) {
            return cli_usage(args, "--threads is a number from 1 to 1024, not \"%s\"", value);
        }
        args->threads = (uint32_t)number;
        return CLI_OK;
    case OPT_WAIT:
        if (!read_seconds_as_ms(value, &args->lock_wait_ms)) {
            return cli_usage(args, "--wait is a number of seconds from 0 to 86400, not \"%s\"",
                             value);
        }
        return CLI_OK;
    default: /* OPT_MAX_BYTES */
        if (!read_size(value, &args->file_bytes_max)) {
            return cli_usage(
                args, "--max-bytes is a number above 0, K, M or G behind it, not \"%s\"", value);
        }
        return CLI_OK;
    }
}

static int take_option(struct cli_args *args, int code, const char *value)
{
    switch (code) {
    case OPT_DB:
        if (value[0] == '\0') {
            return cli_usage(args, "--db is empty");
        }
        args->db.bytes = 0;
        cli_buf_add_text(&args->db, value);
        args->db_from = "--db";
        return CLI_OK;
    case OPT_MODEL:
        args->model = value;
        return CLI_OK;
    case OPT_AFTER:
        args->after = value;
        return CLI_OK;
    case OPT_JSON:
        args->json = true;
        return CLI_OK;
    case OPT_SPECIAL:
        args->special = true;
        return CLI_OK;
    case OPT_PROGRESS:
        args->progress = true;
        args->no_progress = false;
        return CLI_OK;
    case OPT_NO_PROGRESS:
        args->no_progress = true;
        args->progress = false;
        return CLI_OK;
    case 'i':
        list_add(&args->include, value);
        return CLI_OK;
    case 'x':
        list_add(&args->exclude, value);
        return CLI_OK;
    case 'v':
        args->verbose = true;
        return CLI_OK;
    case 'q':
        args->quiet = true;
        return CLI_OK;
    case 'h':
        args->help = true;
        return CLI_OK;
    default:
        return take_number(args, code, value);
    }
}

static size_t row_of(int code)
{
    size_t i = 0;
    while (i < OPTION_ROWS && option_rows[i].code != code) {
        i++;
    }
    return i;
}

/* Reads options up to the first argument that is none (stop) or all of argv, and notes in seen
 * (one bit per row) which there were. */
static int read_options(struct cli_args *args, int argc, char **argv, bool stop, uint32_t *seen,
                        bool *version)
{
    struct option longs[OPTION_ROWS + 2] = {{0}};
    char shorts[2 * OPTION_ROWS + 8] = "+:V";
    size_t shorts_bytes = 3;
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        const struct option_row *row = &option_rows[i];
        longs[i] = (struct option){row->name, row->argument ? required_argument : no_argument, NULL,
                                   row->code};
        if (row->code < 256) {
            shorts[shorts_bytes++] = (char)row->code;
            if (row->argument != NULL) {
                shorts[shorts_bytes++] = ':';
            }
        }
    }
    longs[OPTION_ROWS] = (struct option){"version", no_argument, NULL, VERSION_CODE};
    opterr = 0;
#ifdef __GLIBC__
    optind = 0; /* also forgets where the last call stood */
#else
    optind = 1;
#endif
    const char *mode = stop ? shorts : shorts + 1;
    for (int code; (code = getopt_long(argc, argv, mode, longs, NULL)) != -1;) {
        if (code == ':') {
            return cli_usage(args, "option %s needs a value", argv[optind - 1]);
        }
        if (code == '?') {
            const char *name = argv[optind - 1];
            char letter[3] = {'-', (char)optopt, '\0'};
            bool is_letter = optopt > 0 && optopt < 256 && row_of(optopt) == OPTION_ROWS;
            return cli_usage(args, "unknown option %s", is_letter ? letter : name);
        }
        if (code == VERSION_CODE) {
            *version = true;
            return CLI_OK;
        }
        *seen |= 1u << row_of(code);
        int rc = take_option(args, code, optarg);
        if (rc != CLI_OK) {
            return rc;
        }
    }
    return CLI_OK;
}

/* $MEMALLOY_DB, $XDG_DATA_HOME, ~: in this order; the base directory standard wants relative
 * values of $XDG_DATA_HOME ignored. */
static int find_db(struct cli_args *args)
{
    const char *db = getenv("MEMALLOY_DB");
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    if (args->db.bytes > 0) {
        return CLI_OK;
    }
    if (db != NULL && db[0] != '\0') {
        cli_buf_add_text(&args->db, db);
        args->db_from = "MEMALLOY_DB";
    } else if (data != NULL && data[0] == '/') {
        cli_buf_add_text(&args->db, data);
        cli_buf_add_text(&args->db, "/memalloy/default");
        args->db_from = "XDG_DATA_HOME";
    } else if (home != NULL && home[0] != '\0') {
        cli_buf_add_text(&args->db, home);
        cli_buf_add_text(&args->db, "/.local/share/memalloy/default");
        args->db_from = "HOME";
    } else {
        return cli_usage(args, "where is the store? give --db, or set MEMALLOY_DB or HOME");
    }
    return CLI_OK;
}

static int check_seen(struct cli_args *args, const struct cli_verb *verb, uint32_t seen)
{
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        if ((seen & 1u << i) && !(option_rows[i].verbs & verb->bit)) {
            return cli_usage(args, "option --%s is not for %s", option_rows[i].name, verb->name);
        }
    }
    return CLI_OK;
}

int cli_args_read(struct cli_args *args, int argc, char **argv)
{
    uint32_t seen = 0;
    bool version = false;
    int rc = read_options(args, argc, argv, true, &seen, &version);
    if (rc != CLI_OK || version) {
        return rc;
    }
    if (optind >= argc) {
        if (args->help) {
            args->verb = "help";
            return CLI_OK;
        }
        cli_help(stderr, NULL);
        return CLI_USAGE;
    }
    char **rest = argv + optind;
    int rest_count = argc - optind;
    args->verb = rest[0];
    if (strcmp(args->verb, "help") == 0) {
        args->rest = rest + 1;
        args->rest_count = (size_t)(rest_count - 1);
        return CLI_OK;
    }
    const struct cli_verb *verb = cli_verb_find(args->verb);
    if (verb == NULL) {
        return cli_usage(args, "unknown verb \"%s\"", args->verb);
    }
    rc = read_options(args, rest_count, rest, false, &seen, &version);
    if (rc != CLI_OK) {
        return rc;
    }
    if (version) {
        args->verb = NULL;
        return CLI_OK;
    }
    args->rest = rest + optind;
    args->rest_count = (size_t)(rest_count - optind);
    if (args->help) {
        return CLI_OK;
    }
    rc = check_seen(args, verb, seen);
    return rc == CLI_OK && (verb->bit & STORE) ? find_db(args) : rc;
}

void cli_args_free(struct cli_args *args)
{
    cli_buf_free(&args->db);
    cli_free(args->include.items);
    cli_free(args->exclude.items);
}

/* argv comes in, a struct cli_args goes out, by the table of help.c. Options may stand before or
 * behind the verb. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <getopt.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 60 /* seen has a bit for each */
#define VERSION_CODE 'V'

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

/* A decimal number from 0.5 to 1, with a point whatever the locale. */
static bool read_recall(const char *text, double *out)
{
    double value = 0, place = 1;
    size_t i = 0, digits = 0;
    for (bool behind = false; text[i] != '\0'; i++) {
        if (text[i] == '.' && !behind) {
            behind = true;
            continue;
        }
        if (text[i] < '0' || text[i] > '9' || digits == 15) {
            return false;
        }
        digits++;
        value = value * 10 + (text[i] - '0');
        place *= behind ? 10 : 1;
    }
    *out = value / place;
    return digits > 0 && *out >= 0.5 && *out <= 1;
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
    case CLI_OPT_LINES:
        if (!read_number(value, 0, 0x7fffffff, &number)) {
            return cli_usage(args, "--lines is a number from 0 to 2147483647, not \"%s\"", value);
        }
        args->lines = (size_t)number;
        return CLI_OK;
    case CLI_OPT_RECALL:
        if (!read_recall(value, &args->recall)) {
            return cli_usage(args, "--recall is a number from 0.5 to 1, not \"%s\"", value);
        }
        return CLI_OK;
    case CLI_OPT_THREADS:
        if (!read_number(value, 1, 256, &number)) {
            return cli_usage(args, "--threads is a number from 1 to 256, not \"%s\"", value);
        }
        args->threads = (uint32_t)number;
        return CLI_OK;
    case CLI_OPT_WAIT:
        if (!read_seconds_as_ms(value, &args->lock_wait_ms)) {
            return cli_usage(args, "--wait is a number of seconds from 0 to 86400, not \"%s\"",
                             value);
        }
        return CLI_OK;
    case CLI_OPT_MEMORY_LIMIT:
        if (!read_size(value, &args->memory_bytes_max)) {
            return cli_usage(
                args, "--memory-limit is a number above 0, K, M or G behind it, not \"%s\"", value);
        }
        return CLI_OK;
    default: /* CLI_OPT_MAX_BYTES */
        if (!read_size(value, &args->file_bytes_max)) {
            return cli_usage(
                args, "--max-bytes is a number above 0, K, M or G behind it, not \"%s\"", value);
        }
        return CLI_OK;
    }
}

/* The place of value in words, which ends with NULL. */
static int take_word(struct cli_args *args, const char *option, const char *const *words,
                     const char *value, int *out)
{
    char list[128] = "";
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], value) == 0) {
            *out = i;
            return CLI_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    return cli_usage(args, "%s is one of %s, not \"%s\"", option, list, value);
}

/* Options of embed. */
static int take_embed_option(struct cli_args *args, int code, const char *value)
{
    static const char *const kinds[] = {"passage", "query", NULL};
    static const char *const formats[] = {"jsonl", "npy", "arrow", "arrow-file", NULL};
    static const char *const answers[] = {"stop", "skip", NULL};
    switch (code) {
    case CLI_OPT_KIND:
        return take_word(args, "--kind", kinds, value, &args->kind);
    case CLI_OPT_FORMAT:
        args->has_format = true;
        return take_word(args, "--format", formats, value, &args->format);
    case CLI_OPT_ON_ERROR:
        return take_word(args, "--on-error", answers, value, &args->on_error);
    case CLI_OPT_FIELD:
        args->field = value;
        return CLI_OK;
    case CLI_OPT_ID_FIELD:
        args->id_field = value;
        return CLI_OK;
    case 'o':
        args->output = value;
        return CLI_OK;
    default: /* 'f' */
        list_add(&args->files, value);
        return CLI_OK;
    }
}

static int take_durability(struct cli_args *args, const char *value)
{
    static const char *const levels[] = {"full", "normal", "off", NULL};
    int level = 0;
    int rc = take_word(args, "--durability", levels, value, &level);
    args->durability = MEMALLOY_DURABILITY_FULL + level;
    return rc;
}

/* Options of model add; the library looks at their values. */
static int take_add_option(struct cli_args *args, int code, const char *value)
{
    switch (code) {
    case CLI_OPT_NAME:
        args->name = value;
        return CLI_OK;
    case CLI_OPT_PRECISION:
        args->precision = value;
        return CLI_OK;
    case CLI_OPT_POOLING:
        args->pooling = value;
        return CLI_OK;
    case CLI_OPT_QUERY_PREFIX:
        args->query_prefix = value;
        return CLI_OK;
    case CLI_OPT_PASSAGE_PREFIX:
        args->passage_prefix = value;
        return CLI_OK;
    case CLI_OPT_CALIBRATION:
        args->calibration = value;
        return CLI_OK;
    case CLI_OPT_LICENSE:
        args->license = value;
        return CLI_OK;
    case CLI_OPT_NO_QUALITY:
        args->no_quality = true;
        return CLI_OK;
    default: /* CLI_OPT_FORCE */
        args->force = true;
        return CLI_OK;
    }
}

/* Of an option that may be repeated. */
static struct cli_list *list_of(struct cli_args *args, int code)
{
    return code == 'i' ? &args->include : code == 'x' ? &args->exclude : &args->documents;
}

static int take_flag(struct cli_args *args, int code)
{
    args->special |= code == CLI_OPT_SPECIAL;
    args->explain |= code == CLI_OPT_EXPLAIN;
    args->lance |= code == CLI_OPT_LANCE;
    args->poll |= code == CLI_OPT_POLL;
    return CLI_OK;
}

static int take_option(struct cli_args *args, int code, const char *value)
{
    if (code >= CLI_OPT_NAME && code <= CLI_OPT_FORCE) {
        return take_add_option(args, code, value);
    }
    switch (code) {
    case CLI_OPT_KIND:
    case CLI_OPT_FORMAT:
    case CLI_OPT_ON_ERROR:
    case CLI_OPT_FIELD:
    case CLI_OPT_ID_FIELD:
    case 'o':
    case 'f':
        return take_embed_option(args, code, value);
    case CLI_OPT_DB:
        if (value[0] == '\0') {
            return cli_usage(args, "--db is empty");
        }
        args->db.bytes = 0;
        cli_buf_add_text(&args->db, value);
        args->db_from = "--db";
        return CLI_OK;
    case CLI_OPT_DURABILITY:
        return take_durability(args, value);
    case CLI_OPT_NETWORK_FS:
        args->network_fs = true;
        return CLI_OK;
    case CLI_OPT_MODEL:
        args->model = value;
        return CLI_OK;
    case CLI_OPT_AFTER:
        args->after = value;
        return CLI_OK;
    case CLI_OPT_JSON:
        args->json = true;
        return CLI_OK;
    case CLI_OPT_SPECIAL:
    case CLI_OPT_EXPLAIN:
    case CLI_OPT_LANCE:
    case CLI_OPT_POLL:
        return take_flag(args, code);
    case CLI_OPT_PROGRESS:
        args->progress = true;
        args->no_progress = false;
        return CLI_OK;
    case CLI_OPT_NO_PROGRESS:
        args->no_progress = true;
        args->progress = false;
        return CLI_OK;
    case 'i':
    case 'x':
    case CLI_OPT_DOCUMENT:
        list_add(list_of(args, code), value);
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
    while (cli_options[i].name != NULL && cli_options[i].code != code) {
        i++;
    }
    return i;
}

/* Reads options up to the first argument that is none (stop) or all of argv, and notes in seen
 * (one bit per row) which there were. */
static int read_options(struct cli_args *args, int argc, char **argv, bool stop, uint64_t *seen,
                        bool *version)
{
    struct option longs[OPTIONS_MAX + 2] = {{0}};
    char shorts[2 * OPTIONS_MAX + 8] = "+:V";
    size_t shorts_bytes = 3, count = 0;
    for (; cli_options[count].name != NULL && count < OPTIONS_MAX; count++) {
        const size_t i = count;
        const struct cli_option *row = &cli_options[i];
        longs[i] = (struct option){row->name, row->argument ? required_argument : no_argument, NULL,
                                   row->code};
        if (row->code < 256) {
            shorts[shorts_bytes++] = (char)row->code;
            if (row->argument != NULL) {
                shorts[shorts_bytes++] = ':';
            }
        }
    }
    longs[count] = (struct option){"version", no_argument, NULL, VERSION_CODE};
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
            bool is_letter = optopt > 0 && optopt < 256 && row_of(optopt) == count;
            return cli_usage(args, "unknown option %s", is_letter ? letter : name);
        }
        if (code == VERSION_CODE) {
            *version = true;
            return CLI_OK;
        }
        *seen |= (uint64_t)1 << row_of(code);
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

static int check_seen(struct cli_args *args, const struct cli_verb *verb, uint64_t seen)
{
    for (size_t i = 0; cli_options[i].name != NULL; i++) {
        if ((seen >> i & 1) && !(cli_options[i].verbs & verb->bit)) {
            return cli_usage(args, "option --%s is not for %s", cli_options[i].name, verb->name);
        }
    }
    return CLI_OK;
}

/* "model" becomes "model ls" and loses its first argument; with --help it may stand alone. */
static int take_subverb(struct cli_args *args)
{
    if (args->rest_count == 0) {
        return args->help ? CLI_OK : cli_usage(args, "%s needs a verb such as ls", args->verb);
    }
    const char *group = args->verb;
    args->whole_verb.bytes = 0;
    cli_buf_add_text(&args->whole_verb, group);
    cli_buf_add_text(&args->whole_verb, " ");
    cli_buf_add_text(&args->whole_verb, args->rest[0]);
    if (cli_verb_find(args->whole_verb.data) == NULL) {
        return cli_usage(args, "unknown verb \"%s\"", args->whole_verb.data);
    }
    args->verb = args->whole_verb.data;
    args->rest++;
    args->rest_count--;
    return CLI_OK;
}

/* Whoever wants JSON gets it also where the arguments before --json are wrong. */
static bool wants_json(int argc, char **argv)
{
    bool wanted = false;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        wanted = wanted || strcmp(argv[i], "--json") == 0;
    }
    return wanted;
}

int cli_args_read(struct cli_args *args, int argc, char **argv)
{
    args->json = wants_json(argc, argv);
    uint64_t seen = 0;
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
    const bool group = cli_verb_is_group(args->verb);
    if (!group && cli_verb_find(args->verb) == NULL) {
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
    if (group) {
        rc = take_subverb(args);
    }
    if (rc != CLI_OK || args->help) {
        return rc;
    }
    const struct cli_verb *verb = cli_verb_find(args->verb);
    rc = check_seen(args, verb, seen);
    return rc == CLI_OK && (verb->bit & CLI_VERBS_OF_STORES) ? find_db(args) : rc;
}

void cli_args_free(struct cli_args *args)
{
    cli_buf_free(&args->db);
    cli_free(args->include.items);
    cli_free(args->exclude.items);
    cli_free(args->documents.items);
    cli_free(args->files.items);
    cli_buf_free(&args->whole_verb);
}

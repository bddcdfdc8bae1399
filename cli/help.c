/* The tables of verbs and options, and the help that is printed from them: what each option is
 * called, which verbs take it and what help says of it stand in one place, so that the three cannot
 * drift apart. */
#include "cli.h"

#include <stdarg.h>
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
    MODEL_LS = 1u << 8,
    MODEL_ADD = 1u << 9,
    MODEL_INFO = 1u << 10,
    MODEL_VERIFY = 1u << 11,
    MODEL_RM = 1u << 12,
    CHECKPOINT = 1u << 13,
    VERIFY = 1u << 14,
    INDEX = 1u << 15,
    WATCH = 1u << 16,
    STORE = CLI_VERBS_OF_STORES,
    MODELS = MODEL_LS | MODEL_ADD | MODEL_INFO | MODEL_VERIFY | MODEL_RM,
    ALL = STORE | EMBED | TOKENIZE | MODELS,
};
_Static_assert(STORE ==
                   (SYNC | SEARCH | GET | LS | RM | STATUS | CHECKPOINT | VERIFY | INDEX | WATCH),
               "options.c looks for a store");

const struct cli_verb cli_verbs[] = {
    {"sync", cli_verb_sync, SYNC, "sync [options] FOLDER", "make the store follow a folder",
     "Files that are new or changed are indexed, documents of files that are gone are removed.\n"
     "Hidden and binary files are left out; files that cannot be taken are reported with the\n"
     "reason. Patterns are globs on the path below FOLDER: * and ? stop at \"/\", ** does not,\n"
     "[a-z] is a class; one without \"/\" matches names at any depth; one that matches a folder\n"
     "takes everything below it. At its end it does what index does, where that is due.\n"},
    {"watch", cli_verb_watch, WATCH, "watch [options] FOLDER",
     "follow the folder until it is stopped",
     "As sync, and again for what changes, once it is at rest, until Ctrl-C. Prints what happens "
     "to\n"
     "files: added, replaced, moved, removed, or skipped with the reason. Where the system does "
     "not\n"
     "tell of changes, FOLDER is looked at at intervals; where FOLDER vanishes, it is waited "
     "for.\n"},
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
    {"checkpoint", cli_verb_checkpoint, CHECKPOINT, "checkpoint [options]",
     "put the newest writes into the tables",
     "What was written stands in a log first; every command that writes does this when it ends.\n"
     "After a command that was killed, this or the next one that writes does it.\n"},
    {"index", cli_verb_index, INDEX, "index [options]", "make what is due of the vector index",
     "Stores of 20,000 chunks and more have one, so that a search need not look at every vector.\n"
     "sync makes it too, and so do programs that write, beside their work; searches are right\n"
     "with it, without it and while it is made. What is damaged is made again. It can be stopped,\n"
     "and deleted, at any time. With --lance the table of chunks also gets an index of its own\n"
     "kind (IVF_PQ), which lancedb and pylance search with and keep up; memalloy does not use "
     "it.\n"},
    {"verify", cli_verb_verify, VERIFY, "verify [options]", "read every file and look for damage",
     "Compares what was written with its sums; files of other programs have none and are read.\n"
     "Each file that is damaged is printed with what is wrong. Exit code 5 where there is one.\n"},
    {"embed", cli_verb_embed, EMBED, "embed [options] [TEXT... | -]", "turn texts into vectors",
     "Without TEXT, or with \"-\", each line of the standard input is a text; with --file, each\n"
     "line of the files; with --field, each line is a JSON object that holds the text. Vectors\n"
     "come out in the order of the texts, as JSON lines, npy or Arrow; memory stays bounded\n"
     "however long the input is. A record that cannot be embedded is named by its line; what\n"
     "came before it is written. Exit code 3 where records were skipped.\n"},
    {"tokenize", cli_verb_tokenize, TOKENIZE, "tokenize [options] [TEXT... | -]",
     "turn texts into word piece ids",
     "Prints one line of ids per text. Without TEXT, or with \"-\", each line of the standard\n"
     "input is a text.\n"},
    {"model ls", cli_verb_model_ls, MODEL_LS, "model ls [options]", "list the models that are here",
     "Models lie in $MEMALLOY_MODELS, else $XDG_DATA_HOME/memalloy/models, else\n"
     "~/.local/share/memalloy/models; --model NAME finds them there. \"*\" marks the default.\n"},
    {"model add", cli_verb_model_add, MODEL_ADD, "model add [options] FOLDER",
     "make a model of a published folder",
     "FOLDER holds config.json, model.safetensors and tokenizer.json of an encoder of BERT's "
     "kind,\n"
     "as Hugging Face has them; the result is a file in the models' folder, named after FOLDER.\n"
     "At int8, weights are rounded by text that is built in, and the result is compared with the\n"
     "published model. --precision onnx links to a folder with model.onnx instead.\n"},
    {"model info", cli_verb_model_info, MODEL_INFO, "model info [options] [NAME|PATH]",
     "say what a model is", "Without NAME: of the default model.\n"},
    {"model verify", cli_verb_model_verify, MODEL_VERIFY, "model verify [options] [NAME|PATH]...",
     "compare weights with their checksums",
     "Reads every weight. Without NAME: of all models that are here. Exit code 5 where one is\n"
     "damaged.\n"},
    {"model rm", cli_verb_model_rm, MODEL_RM, "model rm [options] NAME...", "remove models",
     "Removes files and links from the models' folder; what a link leads to stays. Exit code 1\n"
     "when no name was known, 3 when only some were.\n"},
    {NULL, NULL, 0, NULL, NULL, NULL},
};

const struct cli_option cli_options[] = {
    {"db", CLI_OPT_DB, "PATH", STORE, "the store's folder ($MEMALLOY_DB)"},
    {"top-k", 'k', "N", SEARCH, "at most N passages (5)"},
    {"lines", CLI_OPT_LINES, "N", SEARCH,
     "lines of a passage, 0: all (12 on a terminal, else all)"},
    {"recall", CLI_OPT_RECALL, "R", SEARCH,
     "what part of the true nearest to find, 0.5 to 1: by all vectors (0.95)"},
    {"document", CLI_OPT_DOCUMENT, "ID", SEARCH, "only in the document ID (may be repeated)"},
    {"explain", CLI_OPT_EXPLAIN, NULL, SEARCH, "what was looked at for it, and the time"},
    {"lance", CLI_OPT_LANCE, NULL, INDEX, "also an index in the table, for lancedb"},
    {"include", 'i', "GLOB", SYNC | WATCH, "only files that match (may be repeated)"},
    {"exclude", 'x', "GLOB", SYNC | WATCH, "no files that match (may be repeated)"},
    {"max-bytes", CLI_OPT_MAX_BYTES, "N", SYNC | WATCH,
     "skip larger files; K, M and G may follow (64M)"},
    {"poll", CLI_OPT_POLL, NULL, WATCH, "look at intervals, do not ask the system"},
    {"limit", 'n', "N", LS, "at most N documents"},
    {"after", CLI_OPT_AFTER, "ID", LS, "only documents behind ID"},
    {"kind", CLI_OPT_KIND, "KIND", EMBED,
     "passage, what is stored, or query, what is asked (passage)"},
    {"file", 'f', "PATH", EMBED | TOKENIZE, "texts are the lines of PATH (may be repeated)"},
    {"field", CLI_OPT_FIELD, "NAME", EMBED, "lines are JSON objects, the text is their NAME"},
    {"id-field", CLI_OPT_ID_FIELD, "NAME", EMBED, "the id to give back is their NAME"},
    {"format", CLI_OPT_FORMAT, "FORMAT", EMBED, "jsonl, npy, arrow (stream) or arrow-file (jsonl)"},
    {"output", 'o', "PATH", EMBED, "write there; .npy, .arrows and .arrow say the format"},
    {"on-error", CLI_OPT_ON_ERROR, "WHAT", EMBED, "stop at a bad record, or skip it (stop)"},
    {"name", CLI_OPT_NAME, "NAME", MODEL_ADD, "what the model is called here (the folder's name)"},
    {"precision", CLI_OPT_PRECISION, "WHICH", MODEL_ADD, "int8, bf16, f32 or onnx (int8)"},
    {"pooling", CLI_OPT_POOLING, "HOW", MODEL_ADD, "mean or cls (what the folder says)"},
    {"query-prefix", CLI_OPT_QUERY_PREFIX, "TEXT", MODEL_ADD, "put in front of every query"},
    {"passage-prefix", CLI_OPT_PASSAGE_PREFIX, "TEXT", MODEL_ADD, "put in front of every passage"},
    {"calibration", CLI_OPT_CALIBRATION, "PATH", MODEL_ADD, "text to round weights by (built in)"},
    {"license", CLI_OPT_LICENSE, "TEXT", MODEL_ADD, "noted in the file"},
    {"no-quality", CLI_OPT_NO_QUALITY, NULL, MODEL_ADD, "no comparison with the published model"},
    {"force", CLI_OPT_FORCE, NULL, MODEL_ADD, "replace a model of that name"},
    {"special", CLI_OPT_SPECIAL, NULL, TOKENIZE, "with [CLS] and [SEP]"},
    {"model", CLI_OPT_MODEL, "MODEL", SYNC | WATCH | SEARCH | STATUS | EMBED | TOKENIZE,
     "a name, a file, or a folder with model.onnx ($MEMALLOY_MODEL)"},
    {"threads", CLI_OPT_THREADS, "N", SYNC | WATCH | SEARCH | INDEX | EMBED | MODEL_ADD,
     "cores to use (all)"},
    {"durability", CLI_OPT_DURABILITY, "LEVEL", SYNC | WATCH | RM,
     "full, normal or off: what each write waits for (full)"},
    {"memory-limit", CLI_OPT_MEMORY_LIMIT, "N", STORE,
     "fail rather than take more; K, M and G may follow"},
    {"allow-network-fs", CLI_OPT_NETWORK_FS, NULL, STORE, "also where the store is on NFS or SMB"},
    {"wait", CLI_OPT_WAIT, "SECONDS", SYNC | WATCH | RM | CHECKPOINT | INDEX,
     "how long to wait for another writer (10)"},
    {"progress", CLI_OPT_PROGRESS, NULL, SYNC | WATCH | INDEX | EMBED | MODEL_ADD,
     "progress even where it is off by itself"},
    {"no-progress", CLI_OPT_NO_PROGRESS, NULL, SYNC | WATCH | INDEX | EMBED | MODEL_ADD,
     "no progress"},
    {"json", CLI_OPT_JSON, NULL, ALL, "the result as JSON"},
    {"verbose", 'v', NULL, SYNC | WATCH, "what each stage took, and every skipped file"},
    {"quiet", 'q', NULL, ALL, "nothing on stderr but errors"},
    {"help", 'h', NULL, ALL, "this text"},
    {NULL, 0, NULL, 0, NULL},
};

const struct cli_verb *cli_verb_find(const char *name)
{
    for (const struct cli_verb *verb = cli_verbs; verb->name != NULL; verb++) {
        if (strcmp(verb->name, name) == 0) {
            return verb;
        }
    }
    return NULL;
}

bool cli_verb_is_group(const char *name)
{
    return strcmp(name, "model") == 0;
}

void cli_help_group(FILE *out, const char *name)
{
    const size_t bytes = strlen(name);
    fprintf(out, "usage: memalloy %s VERB [options] [arguments]\n\n", name);
    for (const struct cli_verb *each = cli_verbs; each->name != NULL; each++) {
        if (strncmp(each->name, name, bytes) == 0 && each->name[bytes] == ' ') {
            fprintf(out, "  %-38s %s\n", each->synopsis, each->summary);
        }
    }
    fprintf(out, "\nmemalloy help %s VERB says what each takes.\n", name);
}

static void help_option(FILE *out, const struct cli_option *row)
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
        for (const struct cli_option *each = cli_options; each->name != NULL; each++) {
            if (each->verbs & verb->bit) {
                help_option(out, each);
            }
        }
        return;
    }
    fputs("usage: memalloy VERB [options] [arguments]\n\n"
          "The memory of this machine: folders in, cited passages out. No server, no network.\n\n",
          out);
    for (const struct cli_verb *each = cli_verbs; each->name != NULL; each++) {
        fprintf(out, "  %-38s %s\n", each->synopsis, each->summary);
    }
    fputs("  help [VERB]                            what a verb takes\n\n"
          "Every verb takes --json, --quiet and --help; those that use the store take --db PATH\n"
          "(else $MEMALLOY_DB, else $XDG_DATA_HOME/memalloy/default, else\n"
          "~/.local/share/memalloy/default). memalloy --version names the version.\n\n"
          "Exit codes: 0 done, 1 nothing found, 2 wrong usage, 3 done in part, 4 another process\n"
          "writes to the store, 5 damaged data, 6 any other failure (no store, no model), 130\n"
          "interrupted.\n",
          out);
}

int cli_usage(const struct cli_args *args, const char *format, ...)
{
    struct memalloy_error err = {.code = MEMALLOY_ERR_INVAL};
    va_list list;
    va_start(list, format);
    vsnprintf(err.message, sizeof(err.message), format, list);
    va_end(list);
    (void)cli_fail(args, &err);
    const char *verb = args->verb;
    if (verb != NULL && cli_verb_find(verb) == NULL && !cli_verb_is_group(verb)) {
        verb = NULL;
    }
    fprintf(stderr, "memalloy %s%s--help says more\n", verb ? verb : "", verb ? " " : "");
    return CLI_USAGE;
}

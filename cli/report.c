/* Errors and JSON documents. Errors go to stderr for the person; with --json they are a document on
 * stdout too, so that a program always gets exactly one. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct memalloy_str cli_str(const char *text)
{
    return (struct memalloy_str){text, text == NULL ? 0 : strlen(text)};
}

void cli_say(const char *format, ...)
{
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    fprintf(stderr, "%smemalloy:%s ", cli_style(stderr, CLI_STYLE_ERROR), cli_style_end(stderr));
    cli_put_field(stderr, cli_str(text));
    putc('\n', stderr);
}

static int exit_of(int code)
{
    switch (code) {
    case MEMALLOY_OK:
        return CLI_OK;
    case MEMALLOY_ERR_NOTFOUND:
        return CLI_NOTHING;
    case MEMALLOY_ERR_INVAL:
    case MEMALLOY_ERR_PARSE: /* of a query or a text: files are reported as skipped */
        return CLI_USAGE;
    case MEMALLOY_ERR_BUSY:
        return CLI_LOCKED;
    case MEMALLOY_ERR_CORRUPT:
        return CLI_CORRUPT;
    case MEMALLOY_ERR_CANCELLED:
        return cli_signal() == 0 ? CLI_FAILED : 128 + cli_signal();
    default:
        return CLI_FAILED;
    }
}

int cli_fail(const struct cli_args *args, const struct memalloy_error *err)
{
    cli_say("%s", err->message[0] != '\0' ? err->message : memalloy_err_text(err->code));
    if (args->json) {
        json_t *error = cli_object();
        cli_put(error, "code", cli_json_str(cli_str(memalloy_err_name(err->code))));
        cli_put(error, "message", cli_json_str(cli_str(err->message)));
        json_t *document = cli_object();
        cli_put(document, "error", error);
        cli_json_write(document, 17);
    }
    return exit_of(err->code);
}

void cli_put(json_t *object, const char *key, json_t *value)
{
    if (value == NULL || json_object_set_new(object, key, value) != 0) {
        cli_out_of_memory();
    }
}

void cli_push(json_t *array, json_t *value)
{
    if (value == NULL || json_array_append_new(array, value) != 0) {
        cli_out_of_memory();
    }
}

static json_t *made(json_t *value)
{
    if (value == NULL) {
        cli_out_of_memory();
    }
    return value;
}

json_t *cli_object(void)
{
    return made(json_object());
}

json_t *cli_list(void)
{
    return made(json_array());
}

json_t *cli_json_str(struct memalloy_str text)
{
    if (text.data == NULL) {
        return json_null();
    }
    if (cli_utf8_ok(text.data, text.bytes)) {
        return made(json_stringn(text.data, text.bytes));
    }
    struct cli_buf buf = {0};
    for (size_t i = 0, step; i < text.bytes; i += step) {
        bool ok = cli_utf8_next(text.data + i, text.bytes - i, &step) >= 0;
        cli_buf_add(&buf, ok ? text.data + i : "\xef\xbf\xbd", ok ? step : 3);
    }
    json_t *string = made(json_stringn(buf.data, buf.bytes));
    cli_buf_free(&buf);
    return string;
}

json_t *cli_json_int(uint64_t number)
{
    return made(json_integer((json_int_t)number));
}

json_t *cli_json_place(int64_t number)
{
    return number < 0 ? json_null() : made(json_integer(number));
}

json_t *cli_json_metadata(struct memalloy_str text)
{
    if (text.data == NULL) {
        return json_null();
    }
    /* What jansson cannot hold (an integer above 64 bits) is given as the text that it is. */
    json_t *value = json_loadb(text.data, text.bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    return value != NULL ? value : cli_json_str(text);
}

json_t *cli_json_time(int64_t time_us)
{
    if (time_us == MEMALLOY_TIME_UNKNOWN) {
        return json_null();
    }
    int64_t fraction_us = time_us % 1000000;
    time_t seconds = (time_t)(time_us / 1000000);
    if (fraction_us < 0) {
        fraction_us += 1000000;
        seconds--;
    }
    struct tm parts;
    char day[40], text[64];
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &parts) == 0) {
        return json_null();
    }
    snprintf(text, sizeof(text), "%s.%06dZ", day, (int)fraction_us);
    return made(json_string(text));
}

/* JSON leaves DEL, the second range of control characters and the direction marks as they are;
 * inside strings, the only place where they can stand, \u says the same. */
static void put_json_safely(const char *text)
{
    for (size_t i = 0, bytes = strlen(text), step; i < bytes; i += step) {
        int32_t point = cli_utf8_next(text + i, bytes - i, &step);
        bool direction = point == 0x200e || point == 0x200f ||
                         (point >= 0x2028 && point <= 0x202e) ||
                         (point >= 0x2066 && point <= 0x2069);
        if (direction || (point >= 0x7f && point < 0xa0)) {
            printf("\\u%04x", (unsigned)point);
        } else {
            fwrite(text + i, 1, step, stdout);
        }
    }
}

static void write_json(json_t *document, size_t flags)
{
    if (!cli_is_tty(stdout)) {
        json_dumpf(document, stdout, flags); /* failures show when stdout is flushed */
    } else {
        char *text = json_dumps(document, flags);
        if (text == NULL) {
            cli_out_of_memory();
        }
        put_json_safely(text);
        free(text);
    }
    putc('\n', stdout);
    json_decref(document);
}

void cli_json_write(json_t *document, int digits)
{
    size_t indent = cli_is_tty(stdout) ? (size_t)JSON_INDENT(2) : 0;
    write_json(document, (size_t)JSON_REAL_PRECISION(digits) | indent);
}

void cli_json_line(json_t *document, int digits)
{
    write_json(document, (size_t)JSON_REAL_PRECISION(digits));
}

/* Text on its way to the user. What comes out of files may hold escape sequences that repaint a
 * terminal or change how a line reads; they are shown as \x1b and \u202e there. Pipes and files get
 * every byte as it is, except in fields of a line, where a line break would start a new record. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#define INDENT 4
/* What a reader takes in at a glance; --lines 0 shows the rest. */
#define PASSAGE_ROWS_MAX 12

void cli_streams_init(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
            /* Opened the wrong way round: whoever reads or writes here still gets an error. */
            int got = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
            if (got != fd) {
                _Exit(CLI_FAILED);
            }
        }
    }
    signal(SIGPIPE, SIG_IGN);
    /* Only for wcwidth: numbers keep the C locale's point. */
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        setlocale(LC_CTYPE, "");
    }
}

static bool stdout_gone;
static int stdout_errno;

static void note_failure(int reason)
{
    if (reason == EPIPE) {
        stdout_gone = true;
    } else if (stdout_errno == 0 && !stdout_gone) {
        stdout_errno = reason != 0 ? reason : EIO;
    }
}

/* The first failure counts: stdio keeps only the fact, not the reason, so look after each flush. */
static void note_stdout(void)
{
    if (fflush(stdout) != 0) {
        note_failure(errno);
    } else if (ferror(stdout)) {
        note_failure(0);
    }
}

void cli_write(const void *data, size_t bytes)
{
    errno = 0;
    if (fwrite(data, 1, bytes, stdout) < bytes) {
        note_failure(errno); /* of many bytes stdio keeps none for a flush that would fail again */
    }
}

bool cli_stdout_gone(void)
{
    note_stdout();
    return stdout_gone || stdout_errno != 0;
}

int cli_streams_finish(int result)
{
    note_stdout();
    if (stdout_gone) {
        return result;
    }
    if (stdout_errno == 0 && fclose(stdout) != 0 && errno != EPIPE) {
        stdout_errno = errno; /* network file systems report a full disk here */
    }
    if (stdout_errno != 0) {
        cli_say("cannot write to stdout: %s", strerror(stdout_errno));
        return CLI_FAILED;
    }
    return result;
}

bool cli_is_tty(FILE *stream)
{
    return isatty(fileno(stream)) == 1;
}

size_t cli_columns(FILE *stream)
{
    struct winsize size = {0};
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) {
        return size.ws_col;
    }
    return 80;
}

static bool takes_colour(FILE *stream)
{
    const char *none = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return (none == NULL || none[0] == '\0') && term != NULL && strcmp(term, "dumb") != 0 &&
           cli_is_tty(stream);
}

const char *cli_style(FILE *stream, enum cli_style style)
{
    static const char *const codes[] = {
        [CLI_STYLE_PATH] = "\033[1;36m",
        [CLI_STYLE_SCORE] = "\033[33m",
        [CLI_STYLE_DIM] = "\033[2m",
        [CLI_STYLE_ERROR] = "\033[1;31m",
    };
    return takes_colour(stream) ? codes[style] : "";
}

const char *cli_style_end(FILE *stream)
{
    return takes_colour(stream) ? "\033[0m" : "";
}

int32_t cli_utf8_next(const char *text, size_t bytes, size_t *out_bytes)
{
    static const int32_t low[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *at = (const unsigned char *)text;
    *out_bytes = 1;
    if (at[0] < 0x80) {
        return at[0];
    }
    size_t wanted = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || wanted > bytes) {
        return -1;
    }
    int32_t point = at[0] & (0xff >> (wanted + 1));
    for (size_t i = 1; i < wanted; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return -1;
        }
        point = point << 6 | (at[i] & 0x3f);
    }
    if (point < low[wanted] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) {
        return -1;
    }
    *out_bytes = wanted;
    return point;
}

bool cli_utf8_ok(const char *text, size_t bytes)
{
    for (size_t i = 0, step; i < bytes; i += step) {
        if (cli_utf8_next(text + i, bytes - i, &step) < 0) {
            return false;
        }
    }
    return true;
}

/* Control characters of both ranges, and those that turn the direction of the line round. */
static bool is_unsafe(int32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x200e || point == 0x200f ||
           point == 0x2028 || point == 0x2029 || (point >= 0x202a && point <= 0x202e) ||
           (point >= 0x2066 && point <= 0x2069);
}

/* One code point as it is shown: its bytes and its columns. Always some columns for an escape. */
struct glyph {
    char text[8];
    size_t text_bytes, columns, from_bytes;
};

static struct glyph glyph_next(const char *text, size_t bytes)
{
    struct glyph glyph = {0};
    int32_t point = cli_utf8_next(text, bytes, &glyph.from_bytes);
    int written;
    if (point == '\n') {
        written = snprintf(glyph.text, sizeof(glyph.text), "\\n");
    } else if (point == '\t') {
        written = snprintf(glyph.text, sizeof(glyph.text), "\\t");
    } else if (point < 0x80 && (point < 0 || is_unsafe(point))) {
        written = snprintf(glyph.text, sizeof(glyph.text), "\\x%02x", (unsigned char)text[0]);
    } else if (is_unsafe(point)) {
        written = snprintf(glyph.text, sizeof(glyph.text), "\\u%04x", (unsigned)point & 0xffff);
    } else {
        memcpy(glyph.text, text, glyph.from_bytes);
        int columns = wcwidth((wchar_t)point);
        glyph.text_bytes = glyph.from_bytes;
        glyph.columns = columns < 0 ? 1 : (size_t)columns;
        return glyph;
    }
    glyph.text_bytes = (size_t)written;
    glyph.columns = (size_t)written;
    return glyph;
}

void cli_put_field(FILE *stream, struct memalloy_str text)
{
    for (size_t i = 0; i < text.bytes;) {
        struct glyph glyph = glyph_next(text.data + i, text.bytes - i);
        fwrite(glyph.text, 1, glyph.text_bytes, stream);
        i += glyph.from_bytes;
    }
}

/* The working directory with a "/" behind it, or "" where it has no name. */
static const char *working_directory(void)
{
    static char here[4096];
    if (here[0] == '\0') {
        if (getcwd(here, sizeof(here) - 1) == NULL) {
            here[0] = '\0';
            return "";
        }
        size_t bytes = strlen(here);
        if (here[bytes - 1] != '/') {
            here[bytes] = '/';
            here[bytes + 1] = '\0';
        }
    }
    return here;
}

static struct memalloy_str shorten_path(struct memalloy_str path)
{
    const char *here = working_directory();
    size_t bytes = strlen(here);
    /* In the root directory everything lies below: absolute paths read better there. */
    if (bytes > 1 && path.bytes > bytes && memcmp(path.data, here, bytes) == 0) {
        return (struct memalloy_str){path.data + bytes, path.bytes - bytes};
    }
    return path;
}

void cli_put_path(FILE *stream, struct memalloy_str path)
{
    cli_put_field(stream, shorten_path(path));
}

void cli_put_path_fit(FILE *stream, const char *path, size_t columns)
{
    struct memalloy_str all = shorten_path(cli_str(path));
    size_t wanted = 0;
    for (size_t i = 0; i < all.bytes;) {
        struct glyph glyph = glyph_next(all.data + i, all.bytes - i);
        wanted += glyph.columns;
        i += glyph.from_bytes;
    }
    size_t start = 0;
    bool cut = wanted > columns;
    while (cut && start < all.bytes && wanted + 1 > columns) {
        struct glyph glyph = glyph_next(all.data + start, all.bytes - start);
        wanted -= glyph.columns;
        start += glyph.from_bytes;
    }
    if (cut && columns > 0) {
        fputs("\xe2\x80\xa6", stream);
    }
    cli_put_field(stream, (struct memalloy_str){all.data + start, all.bytes - start});
}

void cli_put_text(FILE *stream, struct memalloy_str text)
{
    if (!cli_is_tty(stream)) {
        fwrite(text.data, 1, text.bytes, stream);
        return;
    }
    for (size_t i = 0; i < text.bytes;) {
        char byte = text.data[i];
        bool line_end = byte == '\r' && i + 1 < text.bytes && text.data[i + 1] == '\n';
        if (byte == '\n' || byte == '\t') {
            putc(byte, stream);
            i++;
        } else if (line_end) {
            i++;
        } else {
            struct glyph glyph = glyph_next(text.data + i, text.bytes - i);
            fwrite(glyph.text, 1, glyph.text_bytes, stream);
            i += glyph.from_bytes;
        }
    }
}

/* The bytes of line that fit into columns, folded behind a blank where there is one in the last
 * two thirds. Tabs are counted as one blank each: passages of code keep their shape. */
static size_t fold(struct memalloy_str line, size_t columns)
{
    size_t used = 0, blank_end = 0;
    for (size_t i = 0; i < line.bytes;) {
        struct glyph glyph = glyph_next(line.data + i, line.bytes - i);
        size_t width = line.data[i] == '\t' ? 4 : glyph.columns;
        if (used + width > columns && i > 0) {
            return blank_end > 0 ? blank_end : i;
        }
        used += width;
        i += glyph.from_bytes;
        if (line.data[i - 1] == ' ' && used > columns / 3) {
            blank_end = i;
        }
    }
    return line.bytes;
}

static void put_row(FILE *stream, struct memalloy_str row, bool escaped)
{
    fprintf(stream, "%*s", row.bytes > 0 ? INDENT : 0, "");
    for (size_t i = 0; i < row.bytes && escaped;) {
        if (row.data[i] == '\t') {
            fputs("    ", stream);
            i++;
            continue;
        }
        struct glyph glyph = glyph_next(row.data + i, row.bytes - i);
        fwrite(glyph.text, 1, glyph.text_bytes, stream);
        i += glyph.from_bytes;
    }
    if (!escaped) {
        fwrite(row.data, 1, row.bytes, stream);
    }
    putc('\n', stream);
}

/* Passages keep the white space between blocks; a reader wants neither end of it. */
static struct memalloy_str trim(struct memalloy_str text)
{
    size_t start = 0, end = text.bytes, line = 0;
    while (end > 0 && strchr(" \t\r\n", text.data[end - 1]) && text.data[end - 1] != '\0') {
        end--;
    }
    for (; start < end && strchr(" \t\r\n", text.data[start]) && text.data[start] != '\0';
         start++) {
        if (text.data[start] == '\n') {
            line = start + 1;
        }
    }
    return (struct memalloy_str){text.data + line, end - line};
}

void cli_put_passage(FILE *stream, struct memalloy_str text, size_t lines_max)
{
    bool tty = cli_is_tty(stream);
    size_t columns = tty ? cli_columns(stream) - INDENT : SIZE_MAX;
    size_t rows = 0, rows_max = lines_max;
    if (lines_max == SIZE_MAX) {
        rows_max = tty ? PASSAGE_ROWS_MAX : 0;
    }
    text = trim(text);
    for (size_t at = 0; at < text.bytes;) {
        const char *newline = memchr(text.data + at, '\n', text.bytes - at);
        size_t end = newline == NULL ? text.bytes : (size_t)(newline - text.data);
        struct memalloy_str line = {text.data + at, end - at};
        if (tty && line.bytes > 0 && line.data[line.bytes - 1] == '\r') {
            line.bytes--;
        }
        do {
            size_t bytes = tty ? fold(line, columns) : line.bytes;
            rows++;
            if (rows_max == 0 || rows <= rows_max) {
                put_row(stream, (struct memalloy_str){line.data, bytes}, tty);
            }
            line.data += bytes;
            line.bytes -= bytes;
        } while (line.bytes > 0);
        at = end + 1;
    }
    if (rows_max > 0 && rows > rows_max) {
        fprintf(stream, "%*s%s... %zu more lines%s\n", INDENT, "", cli_style(stream, CLI_STYLE_DIM),
                rows - rows_max, cli_style_end(stream));
    }
}

const char *cli_bytes_text(char *out, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 999.5 && unit < 4) {
        value /= 1000;
        unit++;
    }
    snprintf(out, CLI_NUMBER_BYTES, unit == 0 || value >= 99.95 ? "%.0f %s" : "%.1f %s", value,
             units[unit]);
    return out;
}

const char *cli_count_text(char *out, uint64_t count)
{
    char digits[24];
    int digit_count = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)count);
    size_t at = 0;
    for (int i = 0; i < digit_count; i++) {
        if (i > 0 && (digit_count - i) % 3 == 0) {
            out[at++] = ',';
        }
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

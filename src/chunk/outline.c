/* Finds the headings of a Markdown text, line by line: ATX ("## x") and setext (a line of = or -
 * under a title), outside fenced code and YAML front matter, and gives the sections between them.
 *
 * Source code comes through here too, and "# x" is a comment there, so more than CommonMark is
 * asked for: a title needs a letter or digit; neighbouring lines with the same number of # are no
 * headings; "# x" stands behind a blank line (or another heading, or nothing) and in front of a
 * blank line, a deeper heading, a fence or the end; a setext title is one line behind a blank line
 * and its underline has three characters at least. */
#include "chunk/chunk_int.h"

#define LEVELS_MAX 6
/* A heading's part in a path: longer titles lose their end. */
#define TITLE_BYTES_MAX ((size_t)200)
/* Paths may repeat their upper parts for each section; beyond this many bytes for each byte of the
 * text (which only a text made for it reaches) a path is its own title. */
#define PATH_BYTES_PER_BYTE ((size_t)8)
#define FRONT_MATTER_LINES_MAX 200

enum line_class { LINE_BLANK, LINE_TEXT, LINE_ATX, LINE_RULE, LINE_FENCE };

struct line {
    enum line_class class;
    size_t start, end, next; /* end: without CR and LF */
    size_t ink;              /* the first byte that is not a space */
    size_t level;            /* ATX: 1 to 6; RULE: 1 for =, 2 for -; FENCE: its length */
    char mark;               /* RULE and FENCE: the character */
    size_t title, title_end; /* ATX */
};

struct reader {
    struct mly_str text;
    struct mly_outline *out;
    struct mly_str titles[LEVELS_MAX + 1];
    struct line before, last;          /* the line before last, and the last */
    bool body_before, body_last, body; /* in front of those lines, and of the current one: has the
                                          section more than headings */
    size_t fence_bytes;                /* 0: outside */
    char fence_mark;
};

static bool is_blank_byte(char c)
{
    return c == ' ' || c == '\t';
}

/* Has a letter, a digit or anything beyond ASCII. */
static bool has_word(struct mly_str text)
{
    for (size_t i = 0; i < text.bytes; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x80u || (c >= '0' && c <= '9') || ((c | 0x20u) >= 'a' && (c | 0x20u) <= 'z')) {
            return true;
        }
    }
    return false;
}

/* Bytes at the front or at the end of text[from:to] that only decorate, "----- x ****#": three
 * marks at least, with the blanks among them. */
static size_t ornament(struct mly_str text, size_t from, size_t to, bool front)
{
    size_t bytes = 0;
    size_t marks = 0;
    while (from + bytes < to) {
        char c = text.data[front ? from + bytes : to - 1 - bytes];
        if (strchr("-=*#_~+ \t", c) == NULL || c == '\0') break;
        marks += !is_blank_byte(c);
        bytes++;
    }
    return marks >= 3 ? bytes : 0;
}

static void read_atx(struct mly_str text, struct line *line)
{
    size_t at = line->ink;
    while (at < line->end && text.data[at] == '#') {
        at++;
    }
    line->level = at - line->ink;
    if (line->level > LEVELS_MAX || (at < line->end && !is_blank_byte(text.data[at]))) return;
    size_t end = line->end;
    while (at < end && is_blank_byte(text.data[at])) {
        at++;
    }
    while (end > at && is_blank_byte(text.data[end - 1])) {
        end--;
    }
    size_t close = end; /* "## x ##" */
    while (close > at && text.data[close - 1] == '#') {
        close--;
    }
    if (close == at) {
        end = at;
    } else if (close < end && is_blank_byte(text.data[close - 1])) {
        end = close;
        while (end > at && is_blank_byte(text.data[end - 1])) {
            end--;
        }
    }
    line->class = LINE_ATX;
    line->title = at + ornament(text, at, end, true);
    line->title_end = end;
    if (line->title < end) line->title_end = end - ornament(text, line->title, end, false);
}

/* A run of one character from ink on; RULE where nothing but blanks follows, FENCE as CommonMark
 * has it. */
static void read_run(struct mly_str text, struct line *line)
{
    char mark = text.data[line->ink];
    size_t at = line->ink;
    while (at < line->end && text.data[at] == mark) {
        at++;
    }
    size_t run = at - line->ink;
    if (run < 3) return;
    line->mark = mark;
    if (mark == '`' || mark == '~') {
        if (mark == '`' && memchr(text.data + at, '`', line->end - at) != NULL) return;
        line->class = LINE_FENCE;
        line->level = run;
        return;
    }
    while (at < line->end && is_blank_byte(text.data[at])) {
        at++;
    }
    if (at < line->end) return;
    line->class = LINE_RULE;
    line->level = mark == '=' ? 1 : 2;
}

/* start is below text.bytes. */
static struct line read_line(struct mly_str text, size_t start)
{
    struct line line = {.class = LINE_TEXT, .start = start};
    const char *feed = memchr(text.data + start, '\n', text.bytes - start);
    line.end = feed == NULL ? text.bytes : (size_t)(feed - text.data);
    line.next = feed == NULL ? text.bytes : line.end + 1;
    if (line.end > start && text.data[line.end - 1] == '\r') line.end--;
    line.ink = start;
    while (line.ink < line.end && is_blank_byte(text.data[line.ink])) {
        line.ink++;
    }
    if (line.ink == line.end) {
        line.class = LINE_BLANK;
        return line;
    }
    bool tab = memchr(text.data + start, '\t', line.ink - start) != NULL;
    if (tab || line.ink - start > 3) return line; /* indented: code, or part of something */
    switch (text.data[line.ink]) {
    case '#':
        read_atx(text, &line);
        break;
    case '=':
    case '-':
    case '`':
    case '~':
        read_run(text, &line);
        break;
    default:
        break;
    }
    return line;
}

static bool is_closing_fence(const struct reader *reader, const struct line *line)
{
    if (line->class != LINE_FENCE || line->mark != reader->fence_mark ||
        line->level < reader->fence_bytes) {
        return false;
    }
    for (size_t at = line->ink + line->level; at < line->end; at++) {
        if (!is_blank_byte(reader->text.data[at])) return false;
    }
    return true;
}

/* "-*- coding: utf-8 -*-" and the like, alone at the head of a program. */
static bool is_editor_note(struct mly_str title)
{
    return mly_str_starts_with(title, MLY_STR("-*-")) ||
           mly_str_starts_with(title, MLY_STR("vim:")) ||
           mly_str_starts_with(title, MLY_STR("coding:")) ||
           mly_str_starts_with(title, MLY_STR("coding="));
}

static bool is_heading(const struct reader *reader, const struct line *line,
                       const struct line *ahead)
{
    if (line->class != LINE_ATX) return false;
    struct mly_str title = mly_str_slice(reader->text, line->title, line->title_end);
    if (!has_word(title)) return false;
    if (line->level == 1 && is_editor_note(title)) return false;
    const struct line *last = &reader->last;
    if (last->class == LINE_ATX && last->level == line->level) return false;
    if (ahead->class == LINE_ATX && ahead->level == line->level) return false;
    if (line->level > 1) return true;
    bool opens = last->class == LINE_BLANK || last->class == LINE_ATX || last->class == LINE_RULE;
    bool stands = ahead->class == LINE_BLANK || ahead->class == LINE_FENCE ||
                  (ahead->class == LINE_ATX && ahead->level > line->level);
    return opens && stands;
}

/* line underlines the last one. */
static bool is_underline(const struct reader *reader, const struct line *line)
{
    const struct line *last = &reader->last;
    if (line->class != LINE_RULE || last->class != LINE_TEXT) return false;
    size_t indent = last->ink - last->start;
    if (indent > 3) return false;
    struct mly_str title = mly_str_slice(reader->text, last->ink, last->end);
    if (!has_word(title) || memchr(title.data, '|', title.bytes) != NULL) return false;
    if (title.data[0] == '>' || title.data[0] == '-' || title.data[0] == '*' ||
        title.data[0] == '+') {
        return false;
    }
    const struct line *before = &reader->before;
    return before->class == LINE_BLANK || before->class == LINE_ATX ||
           (before->class == LINE_RULE && before->mark == line->mark);
}

static enum mly_err add_path(struct mly_outline *out, struct mly_str part, bool first,
                             struct mly_error *err)
{
    size_t needed = out->heading_bytes + part.bytes + 3;
    if (needed > out->heading_capacity) {
        size_t capacity = needed * 2;
        char *headings = mly_mem_realloc(out->mem, out->headings, capacity);
        if (headings == NULL) return mly_fail_nomem(err, capacity);
        out->headings = headings;
        out->heading_capacity = capacity;
    }
    if (!first) {
        memcpy(out->headings + out->heading_bytes, " > ", 3);
        out->heading_bytes += 3;
    }
    memcpy(out->headings + out->heading_bytes, part.data, part.bytes);
    out->heading_bytes += part.bytes;
    return MLY_OK;
}

static enum mly_err add_section(struct mly_outline *out, size_t start, struct mly_error *err)
{
    if (out->count == out->capacity) {
        size_t capacity = out->capacity == 0 ? 16 : out->capacity * 2;
        struct mly_section *items =
            mly_mem_realloc(out->mem, out->items, capacity * sizeof(items[0]));
        if (items == NULL) return mly_fail_nomem(err, capacity * sizeof(items[0]));
        out->items = items;
        out->capacity = capacity;
    }
    out->items[out->count] = (struct mly_section){.start = start};
    out->count++;
    return MLY_OK;
}

/* A heading at start: a new section, or, where the current one has headings only, its new path. */
static enum mly_err take_heading(struct reader *reader, size_t start, size_t level,
                                 struct mly_str title, bool body, struct mly_error *err)
{
    struct mly_outline *out = reader->out;
    if (title.bytes > TITLE_BYTES_MAX) {
        size_t end = (size_t)(title.data - reader->text.data) + TITLE_BYTES_MAX;
        title.bytes =
            mly_border_floor(reader->text, end) - (size_t)(title.data - reader->text.data);
    }
    reader->titles[level] = title;
    for (size_t i = level + 1; i <= LEVELS_MAX; i++) {
        reader->titles[i] = MLY_STR_NULL;
    }
    if (body) MLY_TRY(add_section(out, start, err));
    struct mly_section *section = &out->items[out->count - 1];
    if (!body && section->heading_bytes > 0) out->heading_bytes = section->heading_offset;
    section->heading_offset = out->heading_bytes;
    bool short_path = out->heading_bytes / PATH_BYTES_PER_BYTE > reader->text.bytes;
    bool first = true;
    for (size_t i = short_path ? level : 1; i <= level; i++) {
        if (reader->titles[i].data == NULL) continue;
        MLY_TRY(add_path(out, reader->titles[i], first, err));
        first = false;
    }
    section->heading_bytes = out->heading_bytes - section->heading_offset;
    reader->body = false;
    return MLY_OK;
}

static enum mly_err take_line(struct reader *reader, const struct line *line,
                              const struct line *ahead, struct mly_error *err)
{
    if (reader->fence_bytes > 0) {
        if (is_closing_fence(reader, line)) reader->fence_bytes = 0;
        return MLY_OK;
    }
    if (line->class == LINE_FENCE) {
        reader->fence_bytes = line->level;
        reader->fence_mark = line->mark;
        reader->body = true;
        return MLY_OK;
    }
    if (is_heading(reader, line, ahead)) {
        return take_heading(reader, line->ink, line->level,
                            mly_str_slice(reader->text, line->title, line->title_end), reader->body,
                            err);
    }
    if (is_underline(reader, line)) {
        const struct line *last = &reader->last;
        bool overline = reader->before.class == LINE_RULE;
        size_t end = last->end;
        while (is_blank_byte(reader->text.data[end - 1])) {
            end--;
        }
        return take_heading(reader, overline ? reader->before.ink : last->ink, line->level,
                            mly_str_slice(reader->text, last->ink, end),
                            overline ? reader->body_before : reader->body_last, err);
    }
    if (line->class != LINE_BLANK) reader->body = true;
    return MLY_OK;
}

/* Where YAML front matter ends, 0 where there is none. */
static size_t skip_front_matter(struct mly_str text)
{
    if (!mly_str_starts_with(text, MLY_STR("---"))) return 0;
    struct line line = read_line(text, 0);
    if (line.end != 3) return 0;
    for (int i = 0; i < FRONT_MATTER_LINES_MAX && line.next < text.bytes; i++) {
        line = read_line(text, line.next);
        struct mly_str content = mly_str_slice(text, line.start, line.end);
        if (mly_str_equal(content, MLY_STR("---")) || mly_str_equal(content, MLY_STR("..."))) {
            return line.next;
        }
    }
    return 0;
}

enum mly_err mly_outline_read(struct mly_mem *mem, struct mly_str text, struct mly_outline *out,
                              struct mly_error *err)
{
    *out = (struct mly_outline){.mem = mem};
    MLY_TRY(add_section(out, 0, err));
    struct reader reader = {.text = text, .out = out};
    size_t at = skip_front_matter(text);
    reader.body = at > 0;
    struct line line = {.class = LINE_BLANK, .next = text.bytes};
    if (at < text.bytes) line = read_line(text, at);
    while (at < text.bytes) {
        struct line ahead = {.class = LINE_BLANK, .next = text.bytes};
        if (line.next < text.bytes) ahead = read_line(text, line.next);
        bool body = reader.body;
        MLY_TRY(take_line(&reader, &line, &ahead, err));
        reader.before = reader.last;
        reader.last = line;
        reader.body_before = reader.body_last;
        reader.body_last = body;
        at = line.next;
        line = ahead;
    }
    return MLY_OK;
}

void mly_outline_deinit(struct mly_outline *outline)
{
    mly_mem_free(outline->mem, outline->items);
    mly_mem_free(outline->mem, outline->headings);
    *outline = (struct mly_outline){.mem = outline->mem};
}

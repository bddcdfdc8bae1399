/* Says of each place between two code points how good a cut there would be: behind a paragraph, a
 * sentence, a line, a word, between ideographs, inside a word. One pass, a few words of state, no
 * allocation; sentence ends are found by rule (stop, closing quotes, white space, no abbreviation,
 * no small letter), wide stops (U+3002 and its kin) need no white space. */
#include "chunk/chunk_int.h"

#include "base/utf8.h"

bool mly_border_is_space(uint32_t c)
{
    if (c < 0x80u) return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85u || c == 0xA0u || c == 0x1680u || (c >= 0x2000u && c <= 0x200Au) ||
           c == 0x2028u || c == 0x2029u || c == 0x202Fu || c == 0x205Fu || c == 0x3000u;
}

size_t mly_border_floor(struct mly_str text, size_t at)
{
    while (at > 0 && at < text.bytes && !mly_utf8_is_start(text.data[at])) {
        at--;
    }
    return at;
}

size_t mly_border_after(struct mly_str text, size_t at)
{
    at++;
    while (at < text.bytes && !mly_utf8_is_start(text.data[at])) {
        at++;
    }
    return at;
}

static bool is_mark(uint32_t c)
{
    if (c < mly_marks[0][0]) return false;
    size_t low = 0;
    size_t high = mly_marks_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c > mly_marks[middle][1]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < mly_marks_count && c >= mly_marks[low][0];
}

static bool is_regional(uint32_t c)
{
    return c >= 0x1F1E6u && c <= 0x1F1FFu;
}

/* Scripts that set no white space between words, and full-width forms. */
static bool is_wide(uint32_t c)
{
    if (c < 0x2E80u) return false;
    return c <= 0x312Fu || (c >= 0x31A0u && c <= 0x4DBFu) || (c >= 0x4E00u && c <= 0x9FFFu) ||
           (c >= 0xF900u && c <= 0xFAFFu) || (c >= 0xFF00u && c <= 0xFFEFu) ||
           (c >= 0x20000u && c <= 0x3FFFFu);
}

static enum mly_stop stop_of(uint32_t c)
{
    switch (c) {
    case '.':
        return MLY_STOP_DOT;
    case '!':
    case '?':
    case 0x2026u: /* ellipsis */
    case 0x203Cu:
    case 0x2047u:
    case 0x2048u:
    case 0x2049u:
    case 0x061Fu: /* Arabic */
    case 0x06D4u:
    case 0x0589u: /* Armenian */
    case 0x1362u: /* Ethiopic */
    case 0x104Bu: /* Myanmar */
    case 0x0964u: /* Devanagari */
    case 0x0965u:
    case 0x17D4u: /* Khmer */
        return MLY_STOP_MARK;
    case 0x3002u:
    case 0xFF01u:
    case 0xFF0Eu:
    case 0xFF1Fu:
    case 0xFF61u:
        return MLY_STOP_WIDE;
    default:
        return MLY_STOP_NONE;
    }
}

/* Quotes and brackets that belong to the sentence before them. */
static bool is_closer(uint32_t c)
{
    switch (c) {
    case '"':
    case '\'':
    case ')':
    case ']':
    case '}':
    case '*':
    case '_':
    case 0xBBu:
    case 0x2019u:
    case 0x201Du:
    case 0x203Au:
    case 0xFF09u:
    case 0xFF3Du:
    case 0xFF5Du:
    case 0xFF63u:
        return true;
    default:
        return c >= 0x3009u && c <= 0x301Bu && c != 0x3012u && c != 0x3013u && (c & 1u) != 0;
    }
}

/* Never the first of a line in CJK setting: closing marks, commas, stops, repetition signs. */
static bool is_no_start(uint32_t c)
{
    return is_closer(c) || stop_of(c) != MLY_STOP_NONE || c == 0x3001u || c == 0xFF0Cu ||
           c == 0xFF1Au || c == 0xFF1Bu || c == 0x30FBu || c == 0x30FCu || c == 0x3005u;
}

static bool is_no_end(uint32_t c)
{
    return (c >= 0x3008u && c <= 0x301Au && c != 0x3012u && (c & 1u) == 0) || c == 0xFF08u ||
           c == 0xFF3Bu || c == 0xFF5Bu || c == 0xFF62u || c == 0x201Cu || c == 0x2018u;
}

static bool is_split_punctuation(uint32_t c)
{
    return c == ',' || c == ';' || c == ':' || c == '/' || c == '&' || c == '|' || c == ')' ||
           c == ']' || c == '}' || c == '>' || c == '-' || c == 0x2013u || c == 0x2014u;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_abbreviation(struct mly_str word)
{
    static const char *const known[] = {"Mr", "Mrs", "Ms",  "Dr",  "Prof", "St",     "vs",
                                        "cf", "Cf",  "eg",  "ie",  "Fig",  "fig",    "No",
                                        "pp", "Eq",  "Sec", "Inc", "Ltd",  "approx", "resp"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (mly_str_equal(word, mly_str_of(known[i]))) return true;
    }
    return false;
}

/* True where the dot at stop_at ends a number that opens a line ("1. "), an initial ("J. "), an
 * abbreviation with dots ("e.g. ") or one of the list. Looks back 16 bytes at most. */
static bool is_dot_inside(struct mly_str text, size_t stop_at)
{
    size_t low = stop_at > 16 ? stop_at - 16 : 0;
    size_t start = stop_at;
    bool digits = true;
    while (start > low && (is_letter(text.data[start - 1]) || is_digit(text.data[start - 1]))) {
        start--;
        digits = digits && is_digit(text.data[start]);
    }
    if (start == stop_at) return false;
    char before = start == 0 ? '\n' : text.data[start - 1];
    if (digits) return before == '\n';
    if (stop_at - start == 1 && is_letter(text.data[start])) {
        /* "J. Smith" and "e.g. this", but not "vitamin C. The": that one is cut too late. */
        return before == '.' || (text.data[start] >= 'A' && text.data[start] <= 'Z');
    }
    return is_abbreviation(mly_str_slice(text, start, stop_at));
}

/* True where a list item begins at at. */
static bool is_list_item(struct mly_str text, size_t at)
{
    if (text.bytes - at < 2) return false;
    const char *p = text.data + at;
    if (*p == '-' || *p == '*' || *p == '+') return p[1] == ' ' || p[1] == '\t';
    size_t digits = 0;
    while (digits < 9 && at + digits < text.bytes && is_digit(p[digits])) {
        digits++;
    }
    return digits > 0 && text.bytes - at > digits + 1 && (p[digits] == '.' || p[digits] == ')') &&
           p[digits + 1] == ' ';
}

static void look_ahead(struct mly_border_scan *scan)
{
    if (scan->at < scan->text.bytes) {
        scan->ahead = mly_utf8_decode(scan->text, scan->at, &scan->ahead_bytes);
    }
}

void mly_border_start(struct mly_border_scan *scan, struct mly_str text, size_t start)
{
    *scan = (struct mly_border_scan){.text = text, .at = start};
    look_ahead(scan);
}

/* Takes c, which stands at at, into the state. */
static void pass(struct mly_border_scan *scan, uint32_t c, size_t at)
{
    if (mly_border_is_space(c)) {
        if (c == '\n') scan->newlines++;
        if (c == 0x2029u) scan->newlines += 2;
        scan->regionals = 0;
        return;
    }
    scan->newlines = 0;
    scan->regionals = is_regional(c) ? scan->regionals + 1 : 0;
    enum mly_stop stop = stop_of(c);
    if (stop != MLY_STOP_NONE) {
        scan->stop = stop;
        scan->stop_at = at;
    } else if (!is_closer(c)) {
        scan->stop = MLY_STOP_NONE;
    }
}

static enum mly_border behind_space(const struct mly_border_scan *scan)
{
    if (scan->newlines >= 2) return MLY_BORDER_PARAGRAPH;
    bool small = scan->ahead >= 'a' && scan->ahead <= 'z';
    if (scan->stop == MLY_STOP_MARK && !small) return MLY_BORDER_SENTENCE;
    if (scan->stop == MLY_STOP_WIDE) return MLY_BORDER_SENTENCE;
    if (scan->stop == MLY_STOP_DOT && !small && !is_dot_inside(scan->text, scan->stop_at)) {
        return MLY_BORDER_SENTENCE;
    }
    if (scan->newlines == 0) return MLY_BORDER_WORD;
    return is_list_item(scan->text, scan->at) ? MLY_BORDER_SENTENCE : MLY_BORDER_LINE;
}

enum mly_border mly_border_next(struct mly_border_scan *scan)
{
    uint32_t c = scan->ahead;
    size_t at = scan->at;
    scan->at += scan->ahead_bytes;
    pass(scan, c, at);
    if (scan->at >= scan->text.bytes) return MLY_BORDER_PARAGRAPH;
    look_ahead(scan);
    uint32_t d = scan->ahead;
    if (mly_border_is_space(d)) {
        return c == '\r' && d == '\n' ? MLY_BORDER_POINT : MLY_BORDER_GRAPHEME;
    }
    if (mly_border_is_space(c)) {
        enum mly_border border = behind_space(scan);
        scan->stop = MLY_STOP_NONE;
        return border;
    }
    if (c == 0x200Du || is_mark(d)) return MLY_BORDER_POINT;
    if (is_regional(d) && scan->regionals % 2 == 1) return MLY_BORDER_POINT;
    if (scan->stop == MLY_STOP_WIDE && !is_no_start(d)) return MLY_BORDER_SENTENCE;
    if (is_split_punctuation(c)) return MLY_BORDER_SPLIT;
    if ((is_wide(c) || is_wide(d)) && !is_no_start(d) && !is_no_end(c)) return MLY_BORDER_SPLIT;
    return MLY_BORDER_GRAPHEME;
}

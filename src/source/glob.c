/* Globs, matched as a set of states: one bit for each byte of the pattern, moved along with each
 * code point of the path. So the time is their lengths multiplied, whatever the pattern. */
#include "source/source.h"

#include "base/utf8.h"

#define STATE_WORDS ((MLY_GLOB_BYTES_MAX + 1 + 63) / 64)

struct states {
    uint64_t bits[STATE_WORDS];
};

struct glob {
    struct mly_str pattern; /* without the "/" at its end */
    bool folders_only;
    bool anywhere; /* no "/": names at any depth */
};

static void put(struct states *states, size_t at)
{
    states->bits[at / 64] |= (uint64_t)1 << (at % 64);
}

static bool has(const struct states *states, size_t at)
{
    return (states->bits[at / 64] >> (at % 64) & 1) != 0;
}

/* Names may be any bytes: one that is not part of UTF-8 counts as a code point beyond Unicode. */
static uint32_t point_at(struct mly_str text, size_t at, size_t *bytes)
{
    size_t left = text.bytes - at < 4 ? text.bytes - at : 4;
    size_t length = 1;
    while (length < left && !mly_utf8_is_start(text.data[at + length])) {
        length++;
    }
    struct mly_str sequence = {text.data + at, length};
    if (mly_utf8_check(sequence) == length) return mly_utf8_decode(text, at, bytes);
    *bytes = 1;
    return 0x110000u + (unsigned char)text.data[at];
}

/* The places behind "[" and behind "]"; false where the class is open. */
static bool class_end(struct mly_str pattern, size_t at, size_t *out)
{
    size_t first = at + 1;
    if (first < pattern.bytes && (pattern.data[first] == '!' || pattern.data[first] == '^')) {
        first++;
    }
    for (size_t i = first; i < pattern.bytes; i++) {
        if (pattern.data[i] == ']' && i > first) {
            *out = i + 1;
            return true;
        }
    }
    return false;
}

/* at stands on "[" of a closed class that ends before end. *down is set where a range goes down. */
static bool class_has(struct mly_str pattern, size_t at, size_t end, uint32_t c, bool *down)
{
    size_t i = at + 1;
    bool negated = pattern.data[i] == '!' || pattern.data[i] == '^';
    if (negated) i++;
    bool found = false;
    struct mly_str inner = {pattern.data, end - 1};
    while (i < inner.bytes) {
        size_t bytes;
        uint32_t low = point_at(inner, i, &bytes);
        uint32_t high = low;
        i += bytes;
        if (i + 1 < inner.bytes && inner.data[i] == '-') {
            high = point_at(inner, i + 1, &bytes);
            i += 1 + bytes;
            if (high < low) *down = true;
        }
        if (c >= low && c <= high) found = true;
    }
    return found != negated;
}

/* Stars from at on; 1 is *, more are **. */
static size_t star_count(struct mly_str pattern, size_t at)
{
    size_t count = 0;
    while (at + count < pattern.bytes && pattern.data[at + count] == '*') {
        count++;
    }
    return count;
}

/* True for a "**" that is a whole name with a "/" behind: it stands for any number of folders. */
static bool is_folders(struct mly_str pattern, size_t at, size_t stars)
{
    return stars >= 2 && (at == 0 || pattern.data[at - 1] == '/') && at + stars < pattern.bytes &&
           pattern.data[at + stars] == '/';
}

/* Adds at and all places that can be reached from there without a code point. That a place which
 * is there already needs no second look holds because states move in ascending order. */
static void enter(struct mly_str pattern, struct states *states, size_t at)
{
    while (!has(states, at)) {
        put(states, at);
        size_t stars = at < pattern.bytes ? star_count(pattern, at) : 0;
        if (stars == 0) return;
        at += is_folders(pattern, at, stars) ? stars + 1 : stars;
    }
}

/* Moves the state at over c. */
static void step(struct mly_str pattern, size_t at, uint32_t c, struct states *next)
{
    size_t stars = star_count(pattern, at);
    if (stars == 1) {
        if (c != '/') enter(pattern, next, at);
        return;
    }
    if (stars > 1) {
        bool folders = is_folders(pattern, at, stars);
        /* Within "**" of "**" "/" only a "/" ends a folder; the state itself stays in any case. */
        if (!folders) {
            enter(pattern, next, at);
            return;
        }
        put(next, at);
        if (c == '/') enter(pattern, next, at + stars + 1);
        return;
    }
    size_t bytes;
    if (pattern.data[at] == '[') {
        size_t end;
        bool down = false;
        if (c == '/' || !class_end(pattern, at, &end)) return;
        if (class_has(pattern, at, end, c, &down)) enter(pattern, next, end);
        return;
    }
    if (pattern.data[at] == '?') {
        if (c != '/') enter(pattern, next, at + 1);
        return;
    }
    if (point_at(pattern, at, &bytes) == c) enter(pattern, next, at + bytes);
}

static struct glob read_glob(struct mly_str pattern)
{
    struct glob glob = {.pattern = pattern};
    if (pattern.bytes > 0 && pattern.data[pattern.bytes - 1] == '/') {
        glob.folders_only = true;
        glob.pattern.bytes--;
    }
    glob.anywhere = memchr(pattern.data, '/', glob.pattern.bytes) == NULL;
    return glob;
}

static bool match(struct mly_str whole, struct mly_str path, bool is_folder)
{
    if (whole.bytes == 0 || whole.bytes > MLY_GLOB_BYTES_MAX) return false;
    struct glob glob = read_glob(whole);
    struct mly_str pattern = glob.pattern;
    if (pattern.bytes == 0) return false;
    struct states now = {{0}};
    enter(pattern, &now, 0);
    size_t at = 0;
    while (at < path.bytes) {
        size_t bytes;
        uint32_t c = point_at(path, at, &bytes);
        /* A folder on the way matches: so does all that is below. */
        if (c == '/' && has(&now, pattern.bytes)) return true;
        struct states next = {{0}};
        for (size_t i = 0; i < pattern.bytes; i++) {
            if (now.bits[i / 64] == 0) {
                i |= 63; /* No state in this word. */
                continue;
            }
            if (has(&now, i)) step(pattern, i, c, &next);
        }
        if (c == '/' && glob.anywhere) enter(pattern, &next, 0);
        now = next;
        at += bytes;
    }
    return has(&now, pattern.bytes) && (is_folder || !glob.folders_only);
}

bool mly_glob_match(struct mly_str pattern, struct mly_str path)
{
    return match(pattern, path, false);
}

bool mly_glob_match_folder(struct mly_str pattern, struct mly_str path)
{
    return match(pattern, path, true);
}

enum mly_err mly_glob_check(struct mly_str pattern, struct mly_error *err)
{
    int shown = pattern.bytes > 100 ? 100 : (int)pattern.bytes;
    if (pattern.bytes == 0) return mly_fail(err, MLY_ERR_INVAL, "a pattern is empty");
    if (pattern.bytes > MLY_GLOB_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "pattern \"%.*s...\" has %zu bytes, limit is %zu",
                        shown, pattern.data, pattern.bytes, MLY_GLOB_BYTES_MAX);
    }
    if (pattern.data[0] == '/') {
        return mly_fail(err, MLY_ERR_INVAL,
                        "pattern \"%.*s\" begins with \"/\", but paths count from the folder",
                        shown, pattern.data);
    }
    for (size_t i = 0; i < pattern.bytes; i++) {
        if (pattern.data[i] != '[') continue;
        size_t end;
        bool down = false;
        if (!class_end(pattern, i, &end)) {
            return mly_fail(err, MLY_ERR_INVAL, "pattern \"%.*s\" has a \"[\" without a \"]\"",
                            shown, pattern.data);
        }
        (void)class_has(pattern, i, end, 0, &down);
        if (down) {
            return mly_fail(err, MLY_ERR_INVAL, "pattern \"%.*s\" has a range that goes down",
                            shown, pattern.data);
        }
        i = end - 1;
    }
    return MLY_OK;
}

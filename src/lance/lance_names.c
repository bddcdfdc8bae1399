/* Names of our own files can be told from those of other programs, so that what a killed writer of
 * ours left is removed, and nothing that another program may just be writing. Everybody else makes
 * such names from chance (UUIDs of version 4); ours say version 8 and end in a mark. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mark[4] = {'m', 'l', 'y', 1};
#define MARK_TEXT "6d6c7901"
/* The highest 24 of a deletion file's 63 bits of number. */
#define DELETION_MARK ((uint64_t)0x6D6C79)
#define DELETION_MARK_SHIFT 40

static const char digits[] = "0123456789abcdef";

enum mly_err mly_lance_own_uuid(const struct mly_lance_table *table, uint8_t out[16],
                                struct mly_error *err)
{
    MLY_TRY(mly_random_bytes(table->env, out, 16, err));
    out[6] = (uint8_t)(0x80 | (out[6] & 0x0F));
    out[8] = (uint8_t)(0x80 | (out[8] & 0x3F));
    memcpy(out + 12, mark, sizeof(mark));
    return MLY_OK;
}

/* 24 binary digits and 26 hexadecimal ones: spread over the alphabet as object stores like it. */
void mly_lance_data_name(const uint8_t uuid[16], char out[MLY_LANCE_NAME_BYTES])
{
    size_t at = 0;
    for (size_t i = 0; i < 24; i++) {
        out[at++] = (char)('0' + (uuid[i / 8] >> (7 - i % 8) & 1));
    }
    for (size_t i = 3; i < 16; i++) {
        out[at++] = digits[uuid[i] >> 4];
        out[at++] = digits[uuid[i] & 15];
    }
    memcpy(out + at, ".lance", sizeof(".lance"));
}

void mly_lance_uuid_text(const uint8_t uuid[16], char out[37])
{
    size_t at = 0;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) out[at++] = '-';
        out[at++] = digits[uuid[i] >> 4];
        out[at++] = digits[uuid[i] & 15];
    }
    out[at] = '\0';
}

enum mly_err mly_lance_deletion_id(const struct mly_lance_table *table, uint64_t *out,
                                   struct mly_error *err)
{
    uint64_t chance;
    MLY_TRY(mly_random_bytes(table->env, &chance, sizeof(chance), err));
    *out = DELETION_MARK << DELETION_MARK_SHIFT | chance >> (64 - DELETION_MARK_SHIFT);
    return MLY_OK;
}

/* ---- reading them ---- */

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Does text have the shape of pattern: X a hexadecimal digit, B a binary one, V one of 89ab, the
 * rest as it is? */
static bool has_shape(const char *text, const char *pattern)
{
    for (; *pattern != '\0'; text++, pattern++) {
        bool fits = *pattern == 'X'   ? is_hex(*text)
                    : *pattern == 'B' ? *text == '0' || *text == '1'
                    : *pattern == 'V' ? *text == '8' || *text == '9' || *text == 'a' || *text == 'b'
                                      : *text == *pattern;
        if (!fits) return false;
    }
    return *text == '\0';
}

/* Digits at *at, and the separator behind them; false where there are none or too many. */
static bool skip_number(const char **at, char separator, uint64_t *out)
{
    const char *c = *at;
    uint64_t value = 0;
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    if (c == *at || *c != separator) return false;
    *at = c + 1;
    *out = value;
    return true;
}

enum lance_name_kind mly_lance_name_kind(const char *name)
{
    static const char hex32[] = "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX";
    uint64_t number, id;
    if (strncmp(name, ".tmp-", 5) == 0) {
        return has_shape(name + 5, hex32) ? LANCE_NAME_TEMPORARY : LANCE_NAME_FOREIGN;
    }
    if (has_shape(name, "BBBBBBBBBBBBBBBBBBBBBBBBXXXXXX8XXXVXXXXXXX" MARK_TEXT ".lance")) {
        return LANCE_NAME_DATA;
    }
    if (has_shape(name, "XXXXXXXX-XXXX-8XXX-VXXX-XXXX" MARK_TEXT)) return LANCE_NAME_INDEX;
    if (!skip_number(&name, '-', &number)) return LANCE_NAME_FOREIGN;
    if (has_shape(name, "XXXXXXXX-XXXX-8XXX-VXXX-XXXX" MARK_TEXT ".txn")) {
        return LANCE_NAME_TRANSACTION;
    }
    if (!skip_number(&name, '-', &number) || !skip_number(&name, '.', &id)) {
        return LANCE_NAME_FOREIGN;
    }
    return strcmp(name, "bin") == 0 && id >> DELETION_MARK_SHIFT == DELETION_MARK
               ? LANCE_NAME_DELETIONS
               : LANCE_NAME_FOREIGN;
}

bool mly_lance_is_own_transaction(const char *name, uint64_t read_version)
{
    uint64_t number = 0;
    if (mly_lance_name_kind(name) != LANCE_NAME_TRANSACTION) return false;
    (void)skip_number(&name, '-', &number); /* its kind says that there is one */
    return number == read_version;
}

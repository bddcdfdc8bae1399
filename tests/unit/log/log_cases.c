/* Everything follows from the number of a record. */
#include "log_cases.h"

#include "mly_cmocka.h"

#include <string.h>

void case_ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc != MLY_OK) fail_msg("%s", err->message);
}

uint32_t case_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

size_t case_payload(uint64_t number, uint8_t out[CASE_PAYLOAD_MAX])
{
    uint64_t state = number * 0x9e3779b97f4a7c15u + 1;
    size_t bytes = 1 + case_random(&state) % 300;
    if (number % 5 == 2) bytes = 1 + case_random(&state) % 3000;
    if (number % 13 == 7) bytes = 1 + case_random(&state) % CASE_PAYLOAD_MAX;
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)case_random(&state);
    /* Whole sectors of zeros, which must not be taken for missing ones. */
    if (number % 4 == 3 && bytes > 1200) memset(out + 200, 0, bytes - 210);
    return bytes;
}

bool case_is_right(const struct mly_log_record *record)
{
    static _Thread_local uint8_t wanted[CASE_PAYLOAD_MAX];
    size_t bytes = case_payload(record->lsn, wanted);
    return record->payload.bytes == bytes && record->type == (uint32_t)(record->lsn % 7) &&
           memcmp(record->payload.data, wanted, bytes) == 0 &&
           (uintptr_t)record->payload.data % 64 == 0 && record->owner[0] == 'o';
}

struct mly_log_options case_log_options(void)
{
    struct mly_log_options options = {.segment_bytes = 0};
    options.owner[0] = 'o';
    return options;
}

enum mly_err case_append(struct mly_log *log, uint64_t number, enum mly_durability durability,
                         struct mly_error *err)
{
    uint8_t payload[CASE_PAYLOAD_MAX];
    uint64_t lsn = 0;
    struct mly_log_entry entry = {.type = (uint32_t)(number % 7)};
    entry.payload = (struct mly_str){(const char *)payload, case_payload(number, payload)};
    enum mly_err rc = mly_log_append(log, &entry, 1, durability, &lsn, err);
    if (rc == MLY_OK) assert_int_equal(lsn, number);
    return rc;
}

enum mly_err case_replay_fn(void *context, const struct mly_log_record *record,
                            struct mly_error *err)
{
    struct case_replay *replay = context;
    (void)err;
    if (!case_is_right(record)) replay->wrong = true;
    if (replay->count == 0) replay->first = record->lsn;
    if (replay->count > 0 && record->lsn != replay->last + 1) replay->wrong = true;
    replay->last = record->lsn;
    replay->count++;
    return MLY_OK;
}

enum mly_err case_read(const struct mly_env *env, const char *dir, uint64_t from, bool strict,
                       struct case_replay *out, struct mly_error *err)
{
    struct mly_log_reader *reader = NULL;
    struct mly_log_record record;
    bool found = true;
    memset(out, 0, sizeof(*out));
    MLY_TRY(mly_log_reader_open(env, dir, from, strict, &reader, err));
    enum mly_err rc = MLY_OK;
    while (rc == MLY_OK && found) {
        rc = mly_log_reader_next(reader, &record, &found, err);
        if (rc == MLY_OK && found) rc = case_replay_fn(out, &record, err);
    }
    mly_log_reader_close(reader);
    return rc;
}

/* Records that can be told from their number alone, a replay that checks them, and little helpers
 * that all tests of the log share. */
#ifndef MLY_TEST_LOG_CASES_H
#define MLY_TEST_LOG_CASES_H

#include "log/log.h"

#define CASE_PAYLOAD_MAX ((size_t)20000)

/* Fails the test with the message where rc is not OK. */
void case_ok(enum mly_err rc, const struct mly_error *err);
/* The payload of record number; returns its length. Some are tiny, some span pages, some have
 * zeros for whole sectors. */
size_t case_payload(uint64_t number, uint8_t out[CASE_PAYLOAD_MAX]);
/* Is this record what it should be? */
bool case_is_right(const struct mly_log_record *record);
struct mly_log_options case_log_options(void);
/* Appends the record whose number is its lsn. */
enum mly_err case_append(struct mly_log *log, uint64_t number, enum mly_durability durability,
                         struct mly_error *err);

/* What a replay or a reader has seen: records first to last, each right and none left out. */
struct case_replay {
    uint64_t first, last, count;
    bool wrong;
};
enum mly_err case_replay_fn(void *context, const struct mly_log_record *record,
                            struct mly_error *err);
/* Reads everything beyond from with a reader of its own. */
enum mly_err case_read(const struct mly_env *env, const char *dir, uint64_t from, bool strict,
                       struct case_replay *out, struct mly_error *err);
/* xorshift: the same numbers for the same seed everywhere. */
uint32_t case_random(uint64_t *state);

#endif

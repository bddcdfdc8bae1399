/* What the crash tests do to a store, through <memalloy.h> alone, and how its state is told
 * afterwards.
 *
 * A writer does operations number 1, 2, 3 ... on documents of its own; what number n does follows
 * from its seed, n and what was done before, so nothing must be remembered but a number. Each
 * document's metadata has the number of the operation that wrote it, and its text follows from the
 * number it was written by: whether a store has the state after operation n, whole, can be seen.
 *
 * Numbers in hand stand in memory shared between processes: began before an operation, acked after
 * it, so a kill at any moment leaves them true.
 */
#ifndef MLY_TEST_DRIVER_H
#define MLY_TEST_DRIVER_H

#include <memalloy.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRIVER_DOCUMENTS 16
#define DRIVER_WRITERS_MAX 8
#define DRIVER_GROUP_MAX 3
#define DRIVER_WHY_BYTES 900
#define DRIVER_TIMES 4096

enum driver_kind { DRIVER_TEXT, DRIVER_VECTORS, DRIVER_METADATA, DRIVER_REMOVE };

/* text: the operation that wrote the text, 0 where the document is not there; metadata: the one
 * that wrote the metadata; has_vector: it was added with a vector of its own */
struct driver_entry {
    uint64_t text, metadata;
    bool has_vector;
};

/* A writer and its documents after operation number. */
struct driver_writer {
    uint32_t writer;
    uint64_t seed; /* of what it does; any */
    uint64_t number;
    struct driver_entry entries[DRIVER_DOCUMENTS];
};

struct driver_operation {
    enum driver_kind kind;
    uint32_t documents[DRIVER_GROUP_MAX];
    size_t count;
};

/* Of one writer, in shared memory. */
struct driver_mark {
    _Atomic uint64_t began, acked;
    _Atomic int64_t acked_ns[DRIVER_TIMES]; /* monotonic, of operation n at n % DRIVER_TIMES */
};

/* Shared between a test and its children. */
struct driver_board {
    struct driver_mark marks[DRIVER_WRITERS_MAX];
    uint64_t found[DRIVER_WRITERS_MAX];
    _Atomic uint64_t counts[8]; /* the test's own */
    _Atomic bool stop;
    char why[DRIVER_WHY_BYTES]; /* "" where all is well */
};
struct driver_board *driver_board_make(void);
void driver_board_free(struct driver_board *board);

/* xorshift*: the same numbers for the same seed everywhere. */
uint64_t driver_random(uint64_t *state);
int64_t driver_now_ns(void);
/* $MLY_TEST_SEED, or the clock. */
uint64_t driver_seed(void);
bool driver_is_long(void);

/* What the writer's next operation does; driver_advance puts it into the entries. */
struct driver_operation driver_next(const struct driver_writer *writer);
void driver_advance(struct driver_writer *writer);
void driver_advance_to(struct driver_writer *writer, uint64_t number);

/* The tests' folder, store and model: set up and torn down for each test. */
extern char driver_dir[256], driver_folder[280], driver_model_path[340];
int driver_set_up(void **state);
int driver_tear_down(void **state);

/* A store with the tiny model. durability as in memalloy_options. */
int driver_open(const char *path, const char *model_path, int durability, memalloy_kernel **out,
                struct memalloy_error *err);
/* The same through a system table of the test's own. */
struct mly_env;
int driver_open_in(const struct mly_env *env, const char *path, const char *model_path,
                   int durability, memalloy_kernel **out, struct memalloy_error *err);
/* The writer's next operation, marked before and after; advances the writer where it went well. */
int driver_do(memalloy_kernel *kernel, struct driver_writer *writer, struct driver_mark *mark,
              struct memalloy_error *err);

/* Advances each writer to the state that the store has, which must be between where it is and
 * began[i]; began NULL: what the board says when the store was looked at. deep: nobody writes
 * beside, and every text, count and vector is looked at. false: why says what is wrong. */
bool driver_learn(memalloy_kernel *kernel, struct driver_writer *writers, size_t writer_count,
                  const uint64_t *began, const struct driver_board *board, bool deep,
                  char why[DRIVER_WHY_BYTES]);
/* Advances the writer to the newest state up to began that looks as the one where it is: where two
 * operations undo each other nobody can tell that they were lost. For when nothing is in hand. */
void driver_skip_same(struct driver_writer *writer, uint64_t began);
/* In a process of its own, the store opened twice: driver_learn from what was acknowledged to what
 * was begun, the same state both times, and a search. false: the board's why. */
bool driver_check_twice(struct driver_board *board, struct driver_writer *writers, size_t count);
/* Some searches: each hit must be a passage of the text that its metadata names. */
bool driver_search(memalloy_kernel *kernel, uint64_t *random, char why[DRIVER_WHY_BYTES]);

#endif

/* What the files of watch/ share: the paths that wait, and the folders that are watched. */
#ifndef MLY_WATCH_WATCH_INT_H
#define MLY_WATCH_WATCH_INT_H

#include "watch/watch.h"

/* ---- waiting.c ---- */

/* More paths than this are "everything". */
#define WATCH_PATHS_MAX ((size_t)65536)

struct watch_path {
    char *text; /* NUL-terminated */
    size_t bytes;
    uint64_t first_ms, due_ms;
    bool is_folder;
};

struct watch_waiting {
    struct mly_mem *mem;
    struct watch_path *items;
    size_t count, capacity;
    uint32_t *slots; /* hash table of item number + 1; 0: free */
    size_t slot_count;
    bool is_all;
    uint64_t all_first_ms, all_due_ms;
};

void mly_watch_waiting_init(struct watch_waiting *waiting, struct mly_mem *mem);
void mly_watch_waiting_deinit(struct watch_waiting *waiting);
/* Puts a path off to now + wait, or to its patience's end. Memory that runs out makes it all. */
void mly_watch_waiting_note(struct watch_waiting *waiting, struct mly_str path, bool is_folder,
                            uint64_t now_ms, uint32_t wait_ms, uint32_t patience_ms);
void mly_watch_waiting_note_all(struct watch_waiting *waiting, uint64_t now_ms, uint32_t wait_ms,
                                uint32_t patience_ms);
/* UINT64_MAX: nothing waits. */
uint64_t mly_watch_waiting_due_ms(const struct watch_waiting *waiting);
MLY_MUST_USE enum mly_err mly_watch_waiting_take(struct watch_waiting *waiting, uint64_t now_ms,
                                                 struct mly_watch_batch *out,
                                                 struct mly_error *err);

/* ---- folders.c ---- */

struct watch_folder {
    int32_t number; /* the system's */
    char *path;     /* below the root; NUL-terminated */
    size_t bytes;
};

struct watch_folders {
    const struct mly_env *env;
    const struct mly_watch_options *options;
    struct mly_notify *notify;
    struct mly_file root;
    struct watch_folder *items;
    size_t count, capacity;
    uint32_t *slots; /* hash table of item number + 1, by the system's number; 0: free */
    size_t slot_count;
    size_t unwatched;
    char reason[200];
};

void mly_watch_folders_init(struct watch_folders *folders, const struct mly_env *env,
                            const struct mly_watch_options *options, struct mly_notify *notify);
void mly_watch_folders_deinit(struct watch_folders *folders);
/* Watches path, where it is a folder that is wanted, and those below it. */
MLY_MUST_USE enum mly_err mly_watch_folders_add(struct watch_folders *folders, struct mly_str path,
                                                struct mly_error *err);
/* Forgets path and what is below it. */
void mly_watch_folders_remove(struct watch_folders *folders, struct mly_str path);
/* Forgets the one of that number, which the system does not watch any more. */
void mly_watch_folders_end(struct watch_folders *folders, int32_t number);
/* NULL: no folder of ours. */
const struct watch_folder *mly_watch_folders_find(const struct watch_folders *folders,
                                                  int32_t number);

#endif

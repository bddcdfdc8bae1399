/* What the files of a sync share: what it looks at, and which documents have lost their file. */
#ifndef MLY_ENGINE_SYNC_INT_H
#define MLY_ENGINE_SYNC_INT_H

#include "engine/engine_int.h"
#include "engine/report.h"

/* A path below the folder that is looked at alone. */
struct mly_sync_path {
    struct mly_str path; /* "a/b"; "" is the folder itself */
    bool is_folder;      /* it may be one or have been one: documents below it are looked for */
};

/* A document whose file is gone: it goes, or takes the path of a new file of the same content. Or
 * one whose file changed: its vectors may be those of another file now. */
struct sync_gone {
    struct mly_str id, path, shown; /* path: its own bytes */
    struct mly_hash hash;
    int64_t inode;
    bool is_text; /* indexed, not skipped */
    bool is_there;
    bool is_taken;
    size_t taken; /* of the first of a hash: how many of that hash are, which stand in front */
};

struct sync_goners {
    struct mly_arena arena;
    struct sync_gone *items; /* sorted by hash; of one hash, those that can be taken first */
    size_t count, capacity;
};

/* Devices on which files of the folder are, by what their documents say. */
#define SYNC_DEVICES_MAX 64

struct sync {
    memalloy_kernel *kernel;
    const struct mly_env *env;
    struct mly_str root;
    struct mly_file root_dir; /* files are opened below it */
    uint64_t root_device, root_inode;
    uint64_t file_bytes_max;
    enum mly_durability durability;
    struct mly_snapshot *snapshot;
    struct mly_arena scope_arena;
    struct mly_sync_path
        *scope;           /* NULL: everything; else sorted by sync_compare, none below another */
    struct mly_str *only; /* its paths */
    size_t scope_count;
    struct mly_listing listing;
    struct sync_goners gone;
    struct mly_ingest ingest;
    memalloy_report *report;
    struct mly_watcher watcher;
    memalloy_file_fn file_fn; /* NULL: nobody wants to know */
    void *file_context;
    uint64_t *todo;    /* bitmap of listed files that must be opened */
    uint64_t embedded; /* bytes_done before the batch in hand */
    uint64_t files_read;
    double read_s;
    int64_t devices[SYNC_DEVICES_MAX];
    size_t device_count;
};

/* Looks at these paths alone; NULL: at all. As mly_engine_sync in all else. */
MLY_MUST_USE enum mly_err mly_sync(memalloy_kernel *kernel, const char *folder,
                                   const struct memalloy_sync_options *options,
                                   const struct mly_sync_path *paths, size_t count,
                                   memalloy_report **out, struct mly_error *err);

/* ---- sync_scope.c ---- */

/* Copies the paths into sync->scope, in order. INVAL for one that is not below the folder. */
MLY_MUST_USE enum mly_err mly_sync_take_scope(struct sync *sync, const struct mly_sync_path *paths,
                                              size_t count, struct mly_error *err);
/* Is a path below the root looked at? folders: as something below a path that may be a folder. */
bool mly_sync_is_in_scope(const struct sync *sync, struct mly_str path, bool folders);

/* ---- sync_gone.c ---- */

/* Fills sync->gone with documents in scope whose files are neither listed nor there. */
MLY_MUST_USE enum mly_err mly_sync_find_gone(struct sync *sync, struct mly_error *err);
/* Keeps a document whose file is to be read. */
MLY_MUST_USE enum mly_err mly_sync_keep_changed(struct sync *sync,
                                                const struct mly_document *document,
                                                struct mly_error *err);
/* A document of that content, which nobody has taken, whose file is gone; of several, the one with
 * the inode. NULL: none. */
struct sync_gone *mly_sync_take_gone(struct sync *sync, const struct mly_hash *hash, int64_t inode);
/* The id of any document of that content; data NULL: none. */
struct mly_str mly_sync_find_donor(const struct sync *sync, const struct mly_hash *hash);
/* Notes that a document was on that device and its file is there now. */
void mly_sync_note_device(struct sync *sync, int64_t device);
/* True where the system says that there is no such regular file below the root. Anything it does
 * not know (no permission, a failing disk, one that is not mounted) is not gone. */
bool mly_sync_is_gone(struct sync *sync, struct mly_str below, int64_t device, bool *is_away);
void mly_sync_gone_deinit(struct sync *sync);

/* ---- sync.c ---- */

/* root "/" path, in arena. */
MLY_MUST_USE enum mly_err mly_sync_full_path(const struct sync *sync, struct mly_str path,
                                             struct mly_arena *arena, struct mly_str *out,
                                             struct mly_error *err);

#endif

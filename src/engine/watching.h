/* What the files of a watch share. A watch is events of src/watch/, a timer, and scoped syncs:
 *
 *   loop's thread    events can be read -> noted by the room -> timer set for when they are at rest
 *   lane's thread    timer -> folders that came are watched -> what is at rest -> sync of that
 */
#ifndef MLY_ENGINE_WATCHING_H
#define MLY_ENGINE_WATCHING_H

#include "engine/engine_int.h"
#include "engine/sync_int.h"
#include "os/bell.h"
#include "os/lock.h"
#include "os/runtime.h"
#include "watch/watch.h"

/* The watches of a kernel; counted by the kernel and each watch, so that either may go first. */
struct mly_watches {
    struct mly_mem *mem;
    struct mly_mutex mutex; /* guards what follows, and what of a watch says so */
    struct mly_cond changed;
    size_t holds;
    bool closing;
    struct memalloy_watch *first;
};

/* One event in line; its texts stand behind it. */
struct watching_event {
    struct watching_event *next;
    struct memalloy_watch_event event;
};

struct memalloy_watch {
    struct mly_watches *watches;
    struct memalloy_watch *next; /* of the kernel's; guarded by watches, as is this: */
    bool is_ending, is_ended;

    /* fixed after open */
    struct mly_mem *mem;       /* outlives the kernel */
    const struct mly_env *env; /* the kernel's; not once it has ended */
    const struct mly_env *birth_env;
    int64_t pid;
    memalloy_kernel *kernel; /* the same */
    struct mly_arena arena;  /* of the options' texts */
    struct mly_str root;
    struct memalloy_watch_options options;
    struct memalloy_sync_options sync;
    struct mly_walk_options walk;
    struct mly_runtime *runtime;
    struct mly_timer *timer;
    struct mly_bell bell;

    /* the lane's thread alone */
    uint32_t backoff_ms;              /* after a failure; 0: there was none */
    bool is_first;                    /* nothing was looked at yet */
    bool is_full;                     /* what is under way looks at everything */
    bool other_names;                 /* a file changed whose other names nobody tells of */
    bool is_polling;                  /* there are no events, though they are wanted */
    uint64_t next_try_ms;             /* to have them */
    char events_problem[400];         /* why there are none; "": there are */
    uint64_t root_device, root_inode; /* of what the room watches */

    struct mly_mutex mutex; /* guards what follows */
    struct mly_cond changed;
    bool closing, is_working, full_wanted;
    bool look_owed;   /* at everything, by next_full_ms */
    bool is_settling; /* the room is the lane's; the loop lets it rest until then */
    bool is_resting, is_broken;
    uint64_t next_full_ms;  /* when everything is due again */
    uint64_t rest_ms;       /* not before this, lest looking at everything takes all the time */
    struct mly_watch *room; /* NULL: no events */
    struct mly_loop_item *item;
    uint64_t looks_begun, looks_done; /* at everything */
    uint64_t busy;                    /* paths under way */
    uint64_t failed_ms;               /* not before this, after a failure */
    struct memalloy_watch_status status;
    struct watching_event *line, *last;
    struct watching_event *given;
    size_t line_count;
    uint64_t missed;
    char problem[400]; /* "": none */
};

uint64_t mly_watching_now(const struct memalloy_watch *watch);
/* Sets the timer for what is due next. mutex is held. */
void mly_watching_arm(struct memalloy_watch *watch);

/* ---- watching_line.c ---- */

/* Puts an event in line; what cannot be kept counts as missed. */
void mly_watching_tell(struct memalloy_watch *watch, const struct memalloy_watch_event *event);
/* Says a problem aloud, once; "" that there is none any more. */
void mly_watching_tell_problem(struct memalloy_watch *watch, const char *reason);
void mly_watching_free_line(struct memalloy_watch *watch);

/* ---- watching_work.c ---- */

/* The timer's function: all that takes time. */
void mly_watching_work(void *context);
/* Lets go of the events. On no thread of the loop's. */
void mly_watching_close_room(struct memalloy_watch *watch);

#endif

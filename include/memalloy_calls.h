/* memalloy: calls that the library's own threads make, for programs that must not wait: an event
 * loop, a thread with other things to do. Included by <memalloy.h>.
 *
 * A call is a function of the caller's that makes one or more calls of memalloy.h. It runs on a
 * thread of the process's one runtime (never one thread for each), which blocks all signals. How it
 * ended is told in one of three ways: whoever waits for it sees it; done is called on that thread;
 * or its context is put in line, and a descriptor can be read that an event loop watches.
 *
 * Owns     calls/open and close, call/start and destroy come in pairs.
 * Threads  everything may be called from any thread.
 * Fork     in a child start fails with FORKED, and close and destroy leave everything alone.
 */
#ifndef MEMALLOY_CALLS_H
#define MEMALLOY_CALLS_H

#include <memalloy.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- cancelling ---- */

/* A token that ends calls which take progress: hand them memalloy_cancel_progress and the token.
 * They fail with CANCELLED within a tenth of a second; what was committed stays. */
typedef struct memalloy_cancel memalloy_cancel;
MEMALLOY_CALL int memalloy_cancel_create(memalloy_cancel **out, struct memalloy_error *err);
/* From any thread, and from a signal's handler. */
MEMALLOY_API void memalloy_cancel_ask(memalloy_cancel *cancel);
MEMALLOY_API int memalloy_cancel_is_asked(const memalloy_cancel *cancel);
/* A memalloy_progress_fn; context is the token. */
MEMALLOY_API int memalloy_cancel_progress(void *cancel, const struct memalloy_progress *progress);
/* No call uses it any more. */
MEMALLOY_API void memalloy_cancel_destroy(memalloy_cancel *cancel);

/* ---- calls ---- */

/* Those that one program has under way together, and one of them. */
typedef struct memalloy_calls memalloy_calls;
typedef struct memalloy_call memalloy_call;

struct memalloy_calls_options {
    size_t struct_bytes;
    uint32_t limit; /* of calls that wait or run; 0: 1000 */
};
/* options may be NULL. No thread yet. */
MEMALLOY_CALL int memalloy_calls_open(const struct memalloy_calls_options *options,
                                      memalloy_calls **out, struct memalloy_error *err);
/* Cancels what waits or runs, waits for its end, and frees. All its calls were destroyed, or are
 * after it: their handles stay good. Not from within a call. */
MEMALLOY_API void memalloy_calls_close(memalloy_calls *calls);

/* What the call does. The result becomes the call's. */
typedef int (*memalloy_work_fn)(void *context, memalloy_call *self, struct memalloy_error *err);

struct memalloy_call_options {
    size_t struct_bytes;
    /* 1: it may take seconds. Such calls have threads of their own: a search does not wait for an
     * ingest. */
    int is_long;
    /* called once it has ended, on the thread that ran it; NULL: the context is put in line */
    void (*done)(void *context);
};
/* options may be NULL. context must stay until the end. LIMIT where as many calls as allowed are
 * under way: back-pressure. */
MEMALLOY_CALL int memalloy_call_start(memalloy_calls *calls, memalloy_work_fn work, void *context,
                                      const struct memalloy_call_options *options,
                                      memalloy_call **out, struct memalloy_error *err);
/* One that waits is not run, one that runs and tells its progress ends soon: with CANCELLED. */
MEMALLOY_API void memalloy_call_cancel(memalloy_call *call);
MEMALLOY_API int memalloy_call_is_cancelled(const memalloy_call *call);
/* A memalloy_progress_fn for what the call does; context is the call. Keeps the newest, and ends
 * the work where the call was cancelled. */
MEMALLOY_API int memalloy_call_progress(void *call, const struct memalloy_progress *progress);
/* 1 and the newest progress where there is any that this has not given yet; 0 else. The path is
 * valid until it is asked again, by one thread at a time. */
MEMALLOY_API int memalloy_call_get_progress(memalloy_call *call, struct memalloy_progress *out);
/* 1 once it has ended; waits for that at most wait_ms. */
MEMALLOY_API int memalloy_call_wait(memalloy_call *call, uint32_t wait_ms);
/* What work returned; INVAL while it has not ended. */
MEMALLOY_CALL int memalloy_call_result(memalloy_call *call, struct memalloy_error *err);
/* Cancels it and waits for its end where it has not ended. Its context is put in line no more. */
MEMALLOY_API void memalloy_call_destroy(memalloy_call *call);

/* ---- for event loops ---- */

/* A descriptor that can be read while contexts are in line or there is new progress; nobody reads
 * it. -1 in a child of fork(). */
MEMALLOY_API int memalloy_calls_descriptor(const memalloy_calls *calls);
/* 1 and the context of a call that has ended, each once, in the order of their ends; 0: none is in
 * line, and the descriptor is quiet until there is news. */
MEMALLOY_API int memalloy_calls_next(memalloy_calls *calls, void **context);

#ifdef __cplusplus
}
#endif

#endif

/* A system table that fails on request: every file call is counted, call n fails with an errno of
 * choice, once or from then on; every allocation likewise through its own mly_mem. Also counts open
 * descriptors, mappings, streams and libraries, so that a leak is a failed test.
 */
#ifndef MLY_TEST_FAULT_ENV_H
#define MLY_TEST_FAULT_ENV_H

#include "os/env.h"

#include <stdatomic.h>

struct fault_env {
    struct mly_env env;        /* give &fault->env to the code under test */
    struct mly_mem mem;        /* mem.fail_at, mem.live */
    _Atomic uint64_t calls;    /* file calls so far, in every thread */
    _Atomic uint64_t fail_at;  /* 0: never; n: call n fails (counted from 1) */
    _Atomic bool fail_forever; /* and so do all after it, closes excepted */
    int fail_errno;            /* EIO, ENOSPC ... */
    bool kill;                 /* instead of failing, the process is killed before the call */
    bool short_transfers;      /* reads and writes do at most 7 bytes at a time */
    bool no_allocate;          /* as a file system that cannot */
    uint32_t file_system;      /* its number, where it is not to be the real one; else 0 */
    _Atomic bool interrupt;    /* every other call that may gives EINTR first */
    _Atomic uint64_t interrupts;
    _Atomic int64_t open_count; /* descriptors, mappings, streams, libraries */
    const char *failed_call;    /* the name of the call that was failed, or NULL */
};

/* Around the real system. Nothing fails yet. */
void fault_env_init(struct fault_env *fault);
/* Back to failing nothing; counters to 0; what is open stays counted. */
void fault_env_reset(struct fault_env *fault);

#endif

/* Power cuts: the list of what was done is done again to the disk as it was at first, and what no
 * sync covers is left out, or not, or in parts. */
#include "crash_env_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t crash_env_now(struct crash_env *crash)
{
    pthread_mutex_lock(&crash->mutex);
    size_t now = crash->op_count;
    pthread_mutex_unlock(&crash->mutex);
    return now;
}

/* For each inode the place behind its last sync before moment; 0: there was none. */
static size_t *find_syncs(const struct crash_env *crash, size_t moment)
{
    size_t *ends = crash_need(calloc(crash->inode_count + 1, sizeof(ends[0])));
    for (size_t i = 0; i < moment; i++) {
        if (crash->ops[i].kind == OP_SYNC) ends[crash->ops[i].inode] = i + 1;
    }
    return ends;
}

static bool is_covered(const struct crash_env *crash, const size_t *ends, size_t op_i)
{
    return !crash->ops[op_i].forsaken && op_i < ends[crash->ops[op_i].inode];
}

size_t crash_env_uncovered(const struct crash_env *crash, size_t moment)
{
    size_t count = 0;
    size_t *ends = find_syncs(crash, moment);
    for (size_t i = 0; i < moment; i++)
        count += crash->ops[i].kind != OP_SYNC && !is_covered(crash, ends, i);
    free(ends);
    return count;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

/* Fills keep for an uncovered operation, the i-th of them; false: nothing of it is kept. */
static bool choose(const struct crash_choice *choice, size_t i, uint64_t *state, uint8_t *keep,
                   size_t keep_bytes)
{
    memset(keep, 0xff, keep_bytes);
    switch (choice->kind) {
    case CRASH_DROP_ALL:
        return false;
    case CRASH_KEEP_ALL:
        return true;
    case CRASH_DROP_ONE:
        return i != choice->number;
    case CRASH_KEEP_ONE:
        return i == choice->number;
    case CRASH_PREFIX:
        return i < choice->number;
    case CRASH_RANDOM:
        break;
    }
    uint64_t likely = 1 + choice->number % 9; /* of ten */
    if (choice->number % 3 == 0) return next_random(state) % 10 < likely;
    for (size_t bit = 0; bit < keep_bytes * 8; bit++) {
        if (next_random(state) % 10 >= likely) keep[bit / 8] &= (uint8_t) ~(1u << bit % 8);
    }
    return true;
}

static void copy_first(const struct crash_env *crash, struct crash_env *out)
{
    for (size_t i = 0; i < crash->inode_count; i++) {
        const struct crash_inode *from = &crash->inodes[i];
        if (i > 0) (void)crash_new_inode(out, from->is_dir);
        struct crash_inode *to = &out->inodes[i];
        if (from->first_bytes > 0) {
            crash_set_size(to, from->first_bytes);
            memcpy(to->data, from->first_data, from->first_bytes);
        }
        for (size_t j = 0; j < from->first_entry_count; j++)
            crash_set_entry(to, from->first_entries[j].name, from->first_entries[j].inode);
    }
}

/* What is on the disk now is where its own crashes start from. */
static void keep_first(struct crash_env *crash)
{
    for (size_t i = 0; i < crash->inode_count; i++) {
        struct crash_inode *inode = &crash->inodes[i];
        if (inode->bytes > 0) {
            inode->first_data = crash_need(malloc(inode->bytes));
            memcpy(inode->first_data, inode->data, inode->bytes);
        }
        inode->first_bytes = inode->bytes;
        if (inode->entry_count > 0) {
            size_t bytes = inode->entry_count * sizeof(inode->entries[0]);
            inode->first_entries = crash_need(malloc(bytes));
            memcpy(inode->first_entries, inode->entries, bytes);
        }
        inode->first_entry_count = inode->entry_count;
    }
}

void crash_env_cut(const struct crash_env *crash, const struct crash_choice *choice,
                   struct crash_env *out)
{
    uint64_t state = choice->number * 0x9e3779b97f4a7c15u + choice->moment + 1;
    size_t uncovered = 0;
    size_t *ends = find_syncs(crash, choice->moment);
    crash_env_init(out);
    copy_first(crash, out);
    for (size_t i = 0; i < choice->moment; i++) {
        const struct crash_op *op = &crash->ops[i];
        if (op->kind == OP_SYNC) continue;
        if (is_covered(crash, ends, i)) {
            crash_apply(out, op, NULL);
            continue;
        }
        size_t sectors = (size_t)(op->bytes / SECTOR + 2);
        uint8_t *keep = crash_need(malloc(sectors / 8 + 1));
        size_t keep_bytes = op->kind == OP_WRITE ? sectors / 8 + 1 : 1;
        bool kept = choose(choice, uncovered++, &state, keep, keep_bytes);
        if (op->kind != OP_WRITE) kept = kept && (keep[0] & 1) != 0;
        if (kept) crash_apply(out, op, keep);
        free(keep);
    }
    free(ends);
    keep_first(out);
}

static bool try_one(const struct crash_env *crash, size_t moment, enum crash_kind kind,
                    uint64_t number, crash_fn fn, void *context, uint64_t *states)
{
    struct crash_choice choice = {moment, kind, number};
    struct crash_env after;
    crash_env_cut(crash, &choice, &after);
    bool legal = fn(context, &after, &choice);
    crash_env_deinit(&after);
    (*states)++;
    return legal;
}

bool crash_env_each(const struct crash_env *crash, struct crash_effort effort, crash_fn fn,
                    void *context, uint64_t *states)
{
    size_t stride = effort.stride == 0 ? 1 : effort.stride;
    size_t last = effort.last_moment == 0 ? crash->op_count : effort.last_moment;
    for (size_t moment = effort.first_moment; moment <= last; moment += stride) {
        size_t uncovered = crash_env_uncovered(crash, moment);
        size_t i = uncovered > effort.singles ? uncovered - effort.singles : 0;
        if (!try_one(crash, moment, CRASH_DROP_ALL, 0, fn, context, states)) return false;
        if (uncovered == 0) continue;
        if (!try_one(crash, moment, CRASH_KEEP_ALL, 0, fn, context, states)) return false;
        for (; uncovered > 1 && i < uncovered; i++) {
            if (!try_one(crash, moment, CRASH_DROP_ONE, i, fn, context, states) ||
                !try_one(crash, moment, CRASH_KEEP_ONE, i, fn, context, states) ||
                (i > 0 && !try_one(crash, moment, CRASH_PREFIX, i, fn, context, states))) {
                return false;
            }
        }
        for (uint64_t k = 0; k < effort.randoms; k++) {
            uint64_t seed = moment * 1000 + k;
            if (!try_one(crash, moment, CRASH_RANDOM, seed, fn, context, states)) return false;
        }
    }
    return true;
}

size_t crash_env_made_up(const struct crash_env *crash)
{
    for (size_t i = crash->skipped_moment; i < crash->op_count; i++) {
        if (crash->ops[i].kind == OP_SYNC && crash->ops[i].inode == crash->skipped_inode) return i;
    }
    return SIZE_MAX;
}

const char *crash_env_skipped(const struct crash_env *crash)
{
    const char *name = "/";
    for (size_t i = 0; i < crash->op_count; i++) {
        const struct crash_op *op = &crash->ops[i];
        if (op->target != crash->skipped_inode) continue;
        if (op->kind == OP_ADD) name = op->name;
        if (op->kind == OP_MOVE) name = op->to;
    }
    return name;
}

void crash_env_describe(const struct crash_env *crash, const struct crash_choice *choice, char *out,
                        size_t out_bytes)
{
    static const char *const kinds[] = {"all dropped", "all kept", "one dropped",
                                        "one kept",    "prefix",   "random"};
    static const char *const ops[] = {"write",  "truncate", "allocate", "name",
                                      "remove", "move",     "sync"};
    size_t *ends = find_syncs(crash, choice->moment);
    int bytes = snprintf(out, out_bytes, "moment %zu of %zu, %s %llu; uncovered:", choice->moment,
                         crash->op_count, kinds[choice->kind], (unsigned long long)choice->number);
    size_t nth = 0;
    for (size_t i = 0; i < choice->moment && bytes > 0 && (size_t)bytes < out_bytes; i++) {
        const struct crash_op *op = &crash->ops[i];
        if (op->kind == OP_SYNC || is_covered(crash, ends, i)) continue;
        /* There may be more than there is room for: the one that it is about, and neighbours. */
        bool is_far = choice->number > nth + 3 || nth > choice->number + 3;
        nth++;
        if (choice->kind != CRASH_RANDOM && is_far) continue;
        bytes += snprintf(out + bytes, out_bytes - (size_t)bytes, " %s(%zu %s%s %llu+%llu)",
                          ops[op->kind], op->inode, op->name, op->to,
                          (unsigned long long)op->offset, (unsigned long long)op->bytes);
    }
    free(ends);
}

/* Paths that wait until they are at rest.
 *
 * In: a path and a moment, as often as something happens. Out: those whose time has come, once. */
#include "watch/watch_int.h"

#include "base/hash.h"

#include <string.h>

/* Paths that are due within this time of each other are told together. */
#define TOGETHER_MS 20

void mly_watch_waiting_init(struct watch_waiting *waiting, struct mly_mem *mem)
{
    *waiting = (struct watch_waiting){.mem = mem};
}

static void clear(struct watch_waiting *waiting)
{
    for (size_t i = 0; i < waiting->count; i++)
        mly_mem_free(waiting->mem, waiting->items[i].text);
    waiting->count = 0;
    if (waiting->slots != NULL) memset(waiting->slots, 0, waiting->slot_count * sizeof(uint32_t));
}

void mly_watch_waiting_deinit(struct watch_waiting *waiting)
{
    clear(waiting);
    mly_mem_free(waiting->mem, waiting->items);
    mly_mem_free(waiting->mem, waiting->slots);
    *waiting = (struct watch_waiting){.mem = waiting->mem};
}

/* The slot of a path, or the free one where it would be. */
static uint32_t *slot_of(const struct watch_waiting *waiting, struct mly_str path)
{
    size_t mask = waiting->slot_count - 1;
    for (size_t at = (size_t)mly_hash_quick(path) & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &waiting->slots[at];
        if (*slot == 0) return slot;
        const struct watch_path *item = &waiting->items[*slot - 1];
        if (mly_str_equal((struct mly_str){item->text, item->bytes}, path)) return slot;
    }
}

static void fill_slots(struct watch_waiting *waiting)
{
    memset(waiting->slots, 0, waiting->slot_count * sizeof(uint32_t));
    for (size_t i = 0; i < waiting->count; i++) {
        struct mly_str path = {waiting->items[i].text, waiting->items[i].bytes};
        *slot_of(waiting, path) = (uint32_t)i + 1;
    }
}

/* Room for one more path; half of the slots stay free. */
static bool grow(struct watch_waiting *waiting)
{
    if (waiting->count < waiting->capacity) return true;
    size_t capacity = waiting->capacity == 0 ? 64 : waiting->capacity * 2;
    struct watch_path *items =
        mly_mem_realloc(waiting->mem, waiting->items, capacity * sizeof(waiting->items[0]));
    if (items == NULL) return false;
    waiting->items = items;
    uint32_t *slots = mly_mem_array(waiting->mem, capacity * 2, sizeof(slots[0]));
    if (slots == NULL) return false;
    mly_mem_free(waiting->mem, waiting->slots);
    waiting->slots = slots;
    waiting->slot_count = capacity * 2;
    waiting->capacity = capacity;
    fill_slots(waiting);
    return true;
}

static bool add(struct watch_waiting *waiting, struct mly_str path, uint64_t now_ms,
                struct watch_path **out)
{
    if (waiting->count >= WATCH_PATHS_MAX || !grow(waiting)) return false;
    char *text = mly_mem_copy(waiting->mem, path.data, path.bytes);
    if (text == NULL) return false;
    *slot_of(waiting, path) = (uint32_t)waiting->count + 1;
    *out = &waiting->items[waiting->count++];
    **out = (struct watch_path){.text = text, .bytes = path.bytes, .first_ms = now_ms};
    return true;
}

static uint64_t due_after(uint64_t first_ms, uint64_t now_ms, uint32_t wait_ms,
                          uint32_t patience_ms)
{
    uint64_t due_ms = now_ms + wait_ms, last_ms = first_ms + patience_ms;
    return due_ms < last_ms ? due_ms : last_ms;
}

void mly_watch_waiting_note_all(struct watch_waiting *waiting, uint64_t now_ms, uint32_t wait_ms,
                                uint32_t patience_ms)
{
    if (!waiting->is_all) waiting->all_first_ms = now_ms;
    waiting->is_all = true;
    waiting->all_due_ms = due_after(waiting->all_first_ms, now_ms, wait_ms, patience_ms);
    clear(waiting);
}

void mly_watch_waiting_note(struct watch_waiting *waiting, struct mly_str path, bool is_folder,
                            uint64_t now_ms, uint32_t wait_ms, uint32_t patience_ms)
{
    struct watch_path *item = NULL;
    uint32_t *slot = waiting->slots == NULL ? NULL : slot_of(waiting, path);
    if (slot != NULL && *slot != 0) {
        item = &waiting->items[*slot - 1];
    } else if (waiting->is_all || !add(waiting, path, now_ms, &item)) {
        mly_watch_waiting_note_all(waiting, now_ms, wait_ms, patience_ms);
        return;
    }
    item->is_folder = item->is_folder || is_folder;
    item->due_ms = due_after(item->first_ms, now_ms, wait_ms, patience_ms);
}

uint64_t mly_watch_waiting_due_ms(const struct watch_waiting *waiting)
{
    uint64_t due_ms = waiting->is_all ? waiting->all_due_ms : UINT64_MAX;
    for (size_t i = 0; i < waiting->count; i++) {
        if (waiting->items[i].due_ms < due_ms) due_ms = waiting->items[i].due_ms;
    }
    return due_ms;
}

static enum mly_err copy_due(const struct watch_waiting *waiting, uint64_t until_ms,
                             struct mly_watch_batch *out, struct mly_error *err)
{
    for (size_t i = 0; i < waiting->count; i++) {
        const struct watch_path *item = &waiting->items[i];
        if (item->due_ms > until_ms) continue;
        struct mly_str path =
            mly_arena_copy(&out->arena, (struct mly_str){item->text, item->bytes});
        if (path.data == NULL) return mly_fail_nomem(err, item->bytes + 1);
        out->items[out->count++] = (struct mly_watch_item){path, item->is_folder};
    }
    return MLY_OK;
}

static void drop_due(struct watch_waiting *waiting, uint64_t until_ms)
{
    size_t kept = 0;
    for (size_t i = 0; i < waiting->count; i++) {
        if (waiting->items[i].due_ms > until_ms) {
            waiting->items[kept++] = waiting->items[i];
        } else {
            mly_mem_free(waiting->mem, waiting->items[i].text);
        }
    }
    waiting->count = kept;
    fill_slots(waiting);
}

enum mly_err mly_watch_waiting_take(struct watch_waiting *waiting, uint64_t now_ms,
                                    struct mly_watch_batch *out, struct mly_error *err)
{
    *out = (struct mly_watch_batch){0};
    mly_arena_init(&out->arena, waiting->mem, SIZE_MAX);
    if (mly_watch_waiting_due_ms(waiting) > now_ms) return MLY_OK;
    if (waiting->is_all) {
        out->is_all = true;
        waiting->is_all = false;
        return MLY_OK;
    }
    out->items = mly_arena_take(&out->arena, waiting->count * sizeof(out->items[0]));
    enum mly_err rc = out->items == NULL
                          ? mly_fail_nomem(err, waiting->count * sizeof(out->items[0]))
                          : copy_due(waiting, now_ms + TOGETHER_MS, out, err);
    if (rc != MLY_OK) {
        mly_watch_batch_deinit(out);
        return rc;
    }
    drop_due(waiting, now_ms + TOGETHER_MS);
    return MLY_OK;
}

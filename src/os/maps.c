/* In: mappings as they come and go. Out: less memory in use, where it is too much. */
#include "os/maps.h"

#include "os/lock.h"

struct mapping {
    const void *at;
    size_t bytes;
};

struct mly_maps {
    const struct mly_env *env; /* the calls */
    struct mly_mem *mem;
    uint64_t bytes_max;
    struct mly_mutex mutex; /* what is below */
    struct mapping *items;
    size_t count, capacity;
};

enum mly_err mly_maps_create(const struct mly_env *env, struct mly_mem *mem, uint64_t bytes_max,
                             struct mly_maps **out, struct mly_error *err)
{
    struct mly_maps *maps = mly_mem_array(mem, 1, sizeof(*maps));
    if (maps == NULL) return mly_fail_nomem(err, sizeof(*maps));
    maps->env = env;
    maps->mem = mem;
    maps->bytes_max = bytes_max;
    mly_mutex_init(&maps->mutex);
    *out = maps;
    return MLY_OK;
}

void mly_maps_destroy(struct mly_maps *maps)
{
    if (maps == NULL) return;
    mly_mutex_deinit(&maps->mutex);
    mly_mem_free(maps->mem, maps->items);
    mly_mem_free(maps->mem, maps);
}

static enum mly_err add(struct mly_maps *maps, struct mapping item, struct mly_error *err)
{
    if (maps->count == maps->capacity) {
        size_t capacity = maps->capacity == 0 ? 16 : maps->capacity * 2;
        struct mapping *grown =
            mly_mem_realloc(maps->mem, maps->items, capacity * sizeof(maps->items[0]));
        if (grown == NULL) return mly_fail_nomem(err, capacity * sizeof(maps->items[0]));
        maps->items = grown;
        maps->capacity = capacity;
    }
    maps->items[maps->count++] = item;
    return MLY_OK;
}

enum mly_err mly_maps_add(struct mly_maps *maps, const void *at, size_t bytes,
                          struct mly_error *err)
{
    mly_mutex_lock(&maps->mutex);
    enum mly_err rc = add(maps, (struct mapping){at, bytes}, err);
    mly_mutex_unlock(&maps->mutex);
    return rc;
}

void mly_maps_remove(struct mly_maps *maps, const void *at)
{
    mly_mutex_lock(&maps->mutex);
    for (size_t i = 0; i < maps->count; i++) {
        if (maps->items[i].at != at) continue;
        maps->items[i] = maps->items[--maps->count];
        break;
    }
    mly_mutex_unlock(&maps->mutex);
}

void mly_maps_trim(struct mly_maps *maps)
{
    if (maps == NULL) return;
    const struct mly_env *env = maps->env;
    int64_t resident = env->resident_files(env->context);
    uint64_t own = atomic_load(&maps->mem->bytes);
    uint64_t left = own < maps->bytes_max ? maps->bytes_max - own : 0;
    if (left < MLY_MAPS_BYTES_MIN) left = MLY_MAPS_BYTES_MIN;
    if (resident < 0 || (uint64_t)resident <= left) return;
    /* Held, so that nothing of it is unmapped meanwhile and another's put there. */
    mly_mutex_lock(&maps->mutex);
    for (size_t i = 0; i < maps->count; i++)
        (void)env->advise(env->context, maps->items[i].at, maps->items[i].bytes, MLY_ADVICE_GONE);
    mly_mutex_unlock(&maps->mutex);
}

/* What a segment's recall was when it was measured, and how much more its searches look at for it.
 *
 * In: numbers of whoever measured. Out: a small file beside the segment, and the steps in an open
 * segment, which searches read while they may be set. A file that is missing or damaged says that
 * nothing was measured. */
#include "index/vindex_room.h"

#include <math.h>
#include <string.h>

#define GUARD_MAGIC "MLY-GRD\n"

/* The whole file; sum is of what is before it. */
struct guard_file {
    char magic[8];
    uint32_t format, samples;
    uint64_t rows;
    struct mly_vindex_level levels[MLY_VINDEX_LEVELS];
    uint32_t sum;
};

static enum mly_err path_of(char out[MLY_PATH_BYTES_MAX], const char *folder, const char *name,
                            const char *suffix, struct mly_error *err)
{
    return mly_vindex_path(out, folder, MLY_VINDEX_SEGMENTS, mly_str_of(name), suffix, err);
}

static bool is_sound(const struct mly_vindex_guard *guard)
{
    for (size_t i = 0; i < MLY_VINDEX_LEVELS; i++) {
        const struct mly_vindex_level *level = &guard->levels[i];
        if (!(level->recall > 0 && level->recall <= 1 && level->measured >= 0 &&
              level->measured <= 1 && level->step <= MLY_VINDEX_STEP_MAX)) {
            return false;
        }
    }
    return guard->samples > 0;
}

void mly_vindex_guard_read(struct mly_vindex *segment, const char *folder, const char *name)
{
    char path[MLY_PATH_BYTES_MAX];
    struct mly_map map = {0};
    struct guard_file file;
    if (path_of(path, folder, name, MLY_VINDEX_GUARD_SUFFIX, NULL) != MLY_OK) return;
    if (mly_file_map_or_copy(segment->env, MLY_AT_CWD, path, sizeof(file) + 1, &map, NULL) !=
        MLY_OK) {
        return;
    }
    bool is_whole = map.bytes == sizeof(file);
    if (is_whole) memcpy(&file, map.data, sizeof(file));
    mly_map_close(&map);
    if (!is_whole || memcmp(file.magic, GUARD_MAGIC, 8) != 0 || file.format != VINDEX_FORMAT ||
        segment->crc(0, &file, offsetof(struct guard_file, sum)) != file.sum) {
        return;
    }
    struct mly_vindex_guard guard = {.samples = file.samples, .rows = file.rows};
    memcpy(guard.levels, file.levels, sizeof(guard.levels));
    if (is_sound(&guard)) mly_vindex_set_guard(segment, &guard);
}

enum mly_err mly_vindex_guard_write(const struct mly_vindex *segment, const char *folder,
                                    const char *name, const struct mly_vindex_guard *guard,
                                    struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX], draft[MLY_PATH_BYTES_MAX];
    struct guard_file bytes = {.magic = GUARD_MAGIC, .format = VINDEX_FORMAT};
    bytes.samples = guard->samples;
    bytes.rows = guard->rows;
    memcpy(bytes.levels, guard->levels, sizeof(bytes.levels));
    bytes.sum = segment->crc(0, &bytes, offsetof(struct guard_file, sum));
    MLY_TRY(path_of(path, folder, name, MLY_VINDEX_GUARD_SUFFIX, err));
    MLY_TRY(path_of(draft, folder, name, MLY_VINDEX_GUARD_SUFFIX ".tmp", err));
    MLY_TRY(mly_file_unlink(segment->env, MLY_AT_CWD, draft, err));
    MLY_TRY(mly_file_create(segment->env, MLY_AT_CWD, draft, &bytes, sizeof(bytes), err));
    return mly_file_rename(segment->env, MLY_AT_CWD, draft, path, err);
}

void mly_vindex_set_guard(struct mly_vindex *segment, const struct mly_vindex_guard *guard)
{
    for (size_t i = 0; i < MLY_VINDEX_LEVELS; i++) {
        atomic_store(&segment->guard_recalls[i], guard->levels[i].recall);
        atomic_store(&segment->guard_measured[i], guard->levels[i].measured);
        atomic_store(&segment->guard_steps[i], guard->levels[i].step);
    }
    atomic_store(&segment->guard_rows, guard->rows);
    atomic_store(&segment->guard_samples, guard->samples);
}

void mly_vindex_get_guard(const struct mly_vindex *segment, struct mly_vindex_guard *out)
{
    *out = (struct mly_vindex_guard){.samples = atomic_load(&segment->guard_samples),
                                     .rows = atomic_load(&segment->guard_rows)};
    for (size_t i = 0; i < MLY_VINDEX_LEVELS; i++) {
        out->levels[i].recall = atomic_load(&segment->guard_recalls[i]);
        out->levels[i].measured = atomic_load(&segment->guard_measured[i]);
        out->levels[i].step = atomic_load(&segment->guard_steps[i]);
    }
}

size_t mly_vindex_guard_level(const struct mly_vindex_guard *guard, float recall)
{
    size_t i = 0;
    if (!(recall > 0)) recall = MLY_VINDEX_RECALL;
    while (i + 1 < MLY_VINDEX_LEVELS && guard->levels[i].recall < recall - 1e-6f)
        i++;
    return i;
}

void mly_vindex_strengthen(struct vindex_effort *effort, uint32_t step, size_t cell_count)
{
    if (step == 0) return;
    effort->pool *= 1 + step;
    effort->gap *= 1 + 0.5f * (float)step;
    effort->probes = effort->probes < cell_count >> step ? effort->probes << step : cell_count;
    if (step < MLY_VINDEX_STEP_MAX) return;
    effort->probes = cell_count;
    effort->gap = INFINITY;
}

/* The segments of a store, and what a snapshot has of them.
 *
 * In: the folder of segments, listed again when it changes; a snapshot. Out: which of its rows are
 * found through which segment. A segment that cannot be read is as good as none: its rows are
 * scanned, and a writer makes it again. */
#include "store/store_index_int.h"

#include "base/hash.h"
#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

#define SUFFIX ".vec"
/* Clocks of file systems tick that often, at worst: what is younger may have changed unseen. */
#define YOUNG_NS ((int64_t)2000000000)

/* ---- segments ---- */

struct mly_store_segment *mly_store_segment_retain(struct mly_store_segment *segment)
{
    atomic_fetch_add(&segment->refs, 1);
    return segment;
}

void mly_store_segment_release(struct mly_store_segment *segment)
{
    if (segment == NULL || atomic_fetch_sub(&segment->refs, 1) != 1) return;
    mly_vindex_close(segment->vindex);
    mly_mem_free(segment->mem, segment);
}

/* NULL where it cannot be opened, or is for other vectors. */
static struct mly_store_segment *segment_open(const struct mly_store *store, const char *name)
{
    const struct mly_store_index *index = store->index;
    struct mly_store_segment *segment = mly_mem_array(store->mem, 1, sizeof(*segment));
    if (segment == NULL) return NULL;
    atomic_init(&segment->refs, 1);
    segment->mem = store->mem;
    (void)snprintf(segment->name, sizeof(segment->name), "%s", name);
    if (mly_vindex_open(store->env, index->kern, index->folder, name, &segment->vindex, NULL) !=
        MLY_OK) {
        segment->vindex = NULL;
        mly_store_segment_release(segment);
        return NULL;
    }
    struct mly_vindex_info info;
    mly_vindex_get_info(segment->vindex, &info);
    segment->vector_count = info.vector_count;
    return segment;
}

static int compare_segments(const void *a, const void *b)
{
    const struct mly_store_segment *first = *(struct mly_store_segment *const *)a;
    const struct mly_store_segment *second = *(struct mly_store_segment *const *)b;
    if (first->vector_count != second->vector_count) {
        return first->vector_count > second->vector_count ? -1 : 1;
    }
    return strcmp(first->name, second->name);
}

/* ---- the list ---- */

enum mly_err mly_store_index_init(struct mly_store *store, const struct mly_store_options *options,
                                  struct mly_error *err)
{
    const uint32_t rows_min = options->index_rows_min, file_min = options->index_file_rows_min;
    if (options->kern == NULL || store->in_memory) return MLY_OK;
    struct mly_store_index *index = mly_mem_array(store->mem, 1, sizeof(*index));
    if (index == NULL) return mly_fail_nomem(err, sizeof(*index));
    store->index = index;
    index->kern = options->kern;
    index->rows_min = rows_min == 0 ? MLY_VINDEX_ROWS_MIN : rows_min;
    index->file_rows_min = file_min == 0 ? MLY_STORE_INDEXED_ROWS_MIN : file_min;
    atomic_init(&index->stop, false);
    atomic_init(&index->callers, 0);
    atomic_init(&index->done, 0.0);
    atomic_init(&index->loaded_s, -1.0);
    mly_mutex_init(&index->task_mutex);
    mly_cond_init(&index->task_cond);
    index->folder = mly_store_join(store->mem, store->path, "_memalloy/index");
    if (index->folder != NULL) {
        index->segments_folder = mly_store_join(store->mem, index->folder, MLY_VINDEX_SEGMENTS);
    }
    if (index->segments_folder == NULL) return mly_fail_nomem(err, strlen(store->path) + 32);
    return MLY_OK;
}

static void drop_list(struct mly_store_index *index, struct mly_mem *mem)
{
    for (size_t i = 0; i < index->count; i++)
        mly_store_segment_release(index->segments[i]);
    mly_mem_free(mem, index->segments);
    index->segments = NULL;
    index->count = 0;
}

void mly_store_index_deinit(struct mly_store *store)
{
    struct mly_store_index *index = store->index;
    if (index == NULL) return;
    drop_list(index, store->mem);
    mly_cond_deinit(&index->task_cond);
    mly_mutex_deinit(&index->task_mutex);
    mly_mem_free(store->mem, index->folder);
    mly_mem_free(store->mem, index->segments_folder);
    mly_mem_free(store->mem, index);
    store->index = NULL;
}

struct listing {
    struct mly_store *store;
    struct mly_store_segment **segments;
    size_t count, capacity;
};

static struct mly_store_segment *find_open(const struct mly_store_index *index, const char *name)
{
    for (size_t i = 0; i < index->count; i++) {
        if (strcmp(index->segments[i]->name, name) == 0) return index->segments[i];
    }
    return NULL;
}

/* It may have been when it was open here already. */
static void measured_by_others(const struct mly_store *store, struct mly_store_segment *segment)
{
    struct mly_vindex_guard guard;
    mly_vindex_get_guard(segment->vindex, &guard);
    if (guard.samples == 0) {
        mly_vindex_guard_read(segment->vindex, store->index->folder, segment->name);
    }
}

/* False where memory failed. */
static bool take_name(struct listing *listing, const char *name)
{
    struct mly_store *store = listing->store;
    const size_t bytes = strlen(name);
    const size_t suffix = sizeof(SUFFIX) - 1;
    if (bytes <= suffix || bytes >= MLY_VINDEX_SEGMENT_NAME_BYTES || name[0] == '.' ||
        strcmp(name + bytes - suffix, SUFFIX) != 0) {
        return true;
    }
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 8 : 2 * listing->capacity;
        struct mly_store_segment **grown =
            mly_mem_realloc(store->mem, listing->segments, capacity * sizeof(listing->segments[0]));
        if (grown == NULL) return false;
        listing->segments = grown;
        listing->capacity = capacity;
    }
    struct mly_store_segment *known = find_open(store->index, name);
    if (known != NULL) measured_by_others(store, known);
    struct mly_store_segment *segment =
        known != NULL ? mly_store_segment_retain(known) : segment_open(store, name);
    if (segment != NULL) listing->segments[listing->count++] = segment;
    return true;
}

static void list_segments(struct mly_store *store)
{
    struct mly_store_index *index = store->index;
    struct listing listing = {.store = store};
    struct mly_dir dir;
    if (mly_dir_open(store->env, MLY_AT_CWD, index->segments_folder, &dir, NULL) == MLY_OK) {
        const char *name;
        while (mly_dir_next(&dir, &name, NULL) == MLY_OK && name != NULL) {
            if (!take_name(&listing, name)) break;
        }
        mly_dir_close(&dir);
    }
    if (listing.count > 1) {
        qsort(listing.segments, listing.count, sizeof(listing.segments[0]), compare_segments);
    }
    bool same = listing.count == index->count;
    for (size_t i = 0; same && i < listing.count; i++)
        same = listing.segments[i] == index->segments[i];
    drop_list(index, store->mem);
    index->segments = listing.segments;
    index->count = listing.count;
    if (!same) index->generation++;
}

void mly_store_index_refresh(struct mly_store *store)
{
    struct mly_store_index *index = store->index;
    struct mly_file_info info = {0};
    if (mly_file_info_at(store->env, MLY_AT_CWD, index->segments_folder, true, &info, NULL) !=
        MLY_OK) {
        info = (struct mly_file_info){0};
    }
    const struct mly_file_info *seen = &index->seen;
    if (index->listed && !index->young && info.inode == seen->inode &&
        info.device == seen->device && info.modified_ns == seen->modified_ns) {
        return;
    }
    index->seen = info;
    index->listed = true;
    int64_t age_ns = mly_clock_wall_us(store->env) * 1000 - info.modified_ns;
    index->young = age_ns < YOUNG_NS && age_ns > -YOUNG_NS;
    list_segments(store);
}

void mly_store_index_remove(struct mly_store *store, struct mly_store_segment *segment)
{
    struct mly_store_index *index = store->index;
    for (size_t i = 0; i < index->count; i++) {
        if (index->segments[i] != segment) continue;
        char *path = mly_store_join(store->mem, index->segments_folder, segment->name);
        if (path != NULL && !store->read_only) {
            (void)store->env->unlink(store->env->context, MLY_AT_CWD, path);
        }
        mly_mem_free(store->mem, path);
        memmove(index->segments + i, index->segments + i + 1,
                (index->count - i - 1) * sizeof(index->segments[0]));
        index->count--;
        index->generation++;
        mly_store_segment_release(segment);
        return;
    }
}

/* ---- what a snapshot has of them ---- */

bool mly_store_index_covers(const struct mly_store_view *view, const struct mly_store_part *part,
                            struct mly_str *name)
{
    const struct mly_store_fragment *fragment = part->fragment;
    const struct mly_store_index *index = view->table->store->index;
    uint64_t bytes;
    if (fragment->data == NULL || fragment->row_count < index->file_rows_min ||
        view->fields[MLY_CHUNK_VECTOR] == MLY_LANCE_NO_FIELD ||
        (part->dead != NULL && part->dead->set.deleted_count == part->row_count)) {
        return false;
    }
    *name = mly_lance_fragment_file_of(fragment->data, view->fields[MLY_CHUNK_VECTOR], &bytes);
    return name->data != NULL && name->bytes > 0 && name->bytes <= MLY_VINDEX_NAME_BYTES_MAX &&
           memchr(name->data, '/', name->bytes) == NULL && name->data[0] != '.';
}

/* A part by the name of its data file. */
struct named_part {
    uint64_t hash;
    struct mly_str name;
    size_t part_i;
};

static int compare_parts(const void *a, const void *b)
{
    const struct named_part *first = a;
    const struct named_part *second = b;
    return (first->hash > second->hash) - (first->hash < second->hash);
}

static size_t find_part(const struct named_part *parts, size_t count, struct mly_str name)
{
    uint64_t hash = mly_hash_quick(name);
    size_t low = 0;
    for (size_t high = count; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (parts[middle].hash < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < count && parts[low].hash == hash; low++) {
        if (mly_str_equal(parts[low].name, name)) return parts[low].part_i;
    }
    return MLY_STORE_NO_PART;
}

static void index_release(struct mly_snapshot_index *attached)
{
    if (attached == NULL || atomic_fetch_sub(&attached->refs, 1) != 1) return;
    struct mly_mem *mem = attached->mem;
    for (size_t i = 0; i < attached->source_count; i++)
        mly_store_segment_release(attached->segments[i]);
    mly_mem_free(mem, attached->segments);
    mly_mem_free(mem, attached->sources);
    mly_mem_free(mem, attached->parts);
    mly_mem_free(mem, attached->covers_part);
    mly_mem_free(mem, attached->covers_block);
    mly_mem_free(mem, attached);
}

/* Fills in parts for the segment's files; false where the snapshot has none of them. */
static bool match(struct mly_snapshot_index *attached, const struct mly_store_view *view,
                  const struct mly_store_segment *segment, const struct named_part *names,
                  size_t name_count, struct mly_vindex_part *parts)
{
    struct mly_vindex_info info;
    mly_vindex_get_info(segment->vindex, &info);
    bool any = false;
    if (info.dim != view->dim || info.metric != MLY_VINDEX_COSINE) return false;
    for (size_t i = 0; i < info.file_count; i++) {
        struct mly_vindex_file file = mly_vindex_file(segment->vindex, i);
        size_t part_i = find_part(names, name_count, file.name);
        parts[i] = (struct mly_vindex_part){0};
        if (part_i == MLY_STORE_NO_PART || attached->covers_part[part_i]) continue;
        const struct mly_store_part *part = &view->parts[part_i];
        if (part->row_count != file.row_count) continue;
        attached->covers_part[part_i] = true;
        parts[i] = (struct mly_vindex_part){
            .is_present = true,
            .first_address = part->fragment->id << 32,
            .dead = part->dead == NULL ? NULL : part->dead->set.bits,
            .context = (void *)(uintptr_t)part,
        };
        any = true;
    }
    return any;
}

static void match_all(struct mly_snapshot_index *attached, const struct mly_store_view *view,
                      const struct named_part *names, size_t name_count)
{
    const struct mly_store_index *index = attached->store->index;
    struct mly_vindex_part *parts = attached->parts;
    for (size_t i = 0; i < index->count; i++) {
        struct mly_store_segment *segment = index->segments[i];
        struct mly_vindex_info info;
        mly_vindex_get_info(segment->vindex, &info);
        if (!match(attached, view, segment, names, name_count, parts)) continue;
        attached->segments[attached->source_count] = mly_store_segment_retain(segment);
        attached->sources[attached->source_count++] =
            (struct mly_vindex_source){segment->vindex, parts};
        parts += info.file_count;
    }
    for (size_t i = 0; i < view->block_count; i++) {
        size_t part_i = mly_store_view_find_part(view, view->blocks[i].first_address >> 32);
        attached->covers_block[i] = part_i != MLY_STORE_NO_PART && attached->covers_part[part_i];
    }
}

static struct named_part *name_parts(const struct mly_store_view *view, size_t *count)
{
    struct named_part *names =
        mly_mem_array(view->table->store->mem, view->part_count + 1, sizeof(names[0]));
    *count = 0;
    for (size_t i = 0; names != NULL && i < view->part_count; i++) {
        struct mly_str name;
        if (!mly_store_index_covers(view, &view->parts[i], &name)) continue;
        names[(*count)++] = (struct named_part){mly_hash_quick(name), name, i};
    }
    if (*count > 1) qsort(names, *count, sizeof(names[0]), compare_parts);
    return names;
}

static enum mly_err attach(const struct mly_snapshot *snapshot, struct mly_snapshot_index **out,
                           struct mly_error *err)
{
    struct mly_store *store = snapshot->store;
    const struct mly_store_view *view = snapshot->views[MLY_STORE_CHUNKS];
    const struct mly_store_index *index = store->index;
    struct mly_snapshot_index *attached = mly_mem_array(store->mem, 1, sizeof(*attached));
    if (attached == NULL) return mly_fail_nomem(err, sizeof(*attached));
    atomic_init(&attached->refs, 1);
    attached->mem = store->mem;
    attached->store = store;
    attached->generation = index->generation;
    size_t file_count = 0, name_count;
    for (size_t i = 0; i < index->count; i++) {
        struct mly_vindex_info info;
        mly_vindex_get_info(index->segments[i]->vindex, &info);
        file_count += info.file_count;
    }
    struct mly_mem *mem = store->mem;
    attached->segments = mly_mem_array(mem, index->count + 1, sizeof(attached->segments[0]));
    attached->sources = mly_mem_array(mem, index->count + 1, sizeof(attached->sources[0]));
    attached->parts = mly_mem_array(mem, file_count + 1, sizeof(attached->parts[0]));
    attached->covers_part = mly_mem_array(mem, view->part_count + 1, sizeof(bool));
    attached->covers_block = mly_mem_array(mem, view->block_count + 1, sizeof(bool));
    struct named_part *names = name_parts(view, &name_count);
    if (attached->segments == NULL || attached->sources == NULL || attached->parts == NULL ||
        attached->covers_part == NULL || attached->covers_block == NULL || names == NULL) {
        mly_mem_free(mem, names);
        index_release(attached);
        return mly_fail_nomem(err, file_count * sizeof(attached->parts[0]));
    }
    match_all(attached, view, names, name_count);
    mly_mem_free(mem, names);
    *out = attached;
    return MLY_OK;
}

enum mly_err mly_snapshot_open_index(struct mly_snapshot *snapshot, struct mly_snapshot_index **out,
                                     struct mly_error *err)
{
    struct mly_store *store = snapshot->store;
    enum mly_err rc = MLY_OK;
    *out = NULL;
    if (store->index == NULL) return MLY_OK;
    mly_mutex_lock(&store->mutex);
    mly_store_index_refresh(store);
    if (snapshot->index == NULL || snapshot->index->generation != store->index->generation) {
        struct mly_snapshot_index *attached = NULL;
        rc = attach(snapshot, &attached, err);
        if (rc == MLY_OK) {
            index_release(snapshot->index);
            snapshot->index = attached;
        }
    }
    if (rc == MLY_OK && snapshot->index->source_count > 0) {
        atomic_fetch_add(&snapshot->index->refs, 1);
        *out = snapshot->index;
    }
    mly_mutex_unlock(&store->mutex);
    return rc;
}

void mly_snapshot_close_index(struct mly_snapshot_index *index)
{
    index_release(index);
}

const struct mly_vindex_source *mly_snapshot_index_sources(const struct mly_snapshot_index *index,
                                                           size_t *count)
{
    *count = index->source_count;
    return index->sources;
}

bool mly_snapshot_index_covers(const struct mly_snapshot_index *index, size_t block_i)
{
    return index->covers_block[block_i];
}

enum mly_err mly_snapshot_get_vector(void *context, const struct mly_vindex_part *part,
                                     uint32_t row, const float **out, struct mly_error *err)
{
    const struct mly_snapshot *snapshot = context;
    const struct mly_store_view *view = snapshot->views[MLY_STORE_CHUNKS];
    const struct mly_store_part *own = part->context;
    const size_t field = view->fields[MLY_CHUNK_VECTOR];
    struct mly_lance_vectors page;
    *out = NULL;
    if (row >= own->row_count) return MLY_OK;
    MLY_TRY(mly_lance_get_vectors(own->fragment->data, field, row, &page, err));
    size_t i = (size_t)(row - page.first_row);
    if (page.values == NULL || (page.valid != NULL && (page.valid[i >> 3] >> (i & 7) & 1) == 0)) {
        return MLY_OK;
    }
    MLY_TRY(mly_lance_check_vectors(own->fragment->data, field, row, 1, err));
    *out = page.values + i * page.dim;
    return MLY_OK;
}

void mly_snapshot_distrust_index(struct mly_snapshot_index *index)
{
    struct mly_store *store = index->store;
    bool found = false;
    for (int pass = 0; pass < 2 && !found; pass++) {
        for (size_t i = 0; i < index->source_count; i++) {
            struct mly_store_segment *segment = index->segments[i];
            /* Where none can be shown to be damaged, none is believed. */
            if (pass == 0 && mly_vindex_verify(segment->vindex, NULL) == MLY_OK) continue;
            found = true;
            mly_mutex_lock(&store->mutex);
            mly_store_index_remove(store, segment);
            mly_mutex_unlock(&store->mutex);
        }
    }
}

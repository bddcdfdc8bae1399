/* Views that grow: what the log adds to a view of a table.
 *
 * In: a view, rows that die, rows and data files that are new. Out: a view that shares all else. */
#include "store/store_state_int.h"

#include "base/limits.h"

/* A copy of the part's dead rows that may be changed. */
static enum mly_err own_dead(struct mly_store_part *part, struct mly_mem *mem,
                             struct mly_error *err)
{
    struct mly_store_dead *dead = mly_mem_array(mem, 1, sizeof(*dead));
    if (dead == NULL) return mly_fail_nomem(err, sizeof(*dead));
    atomic_init(&dead->refs, 1);
    dead->mem = mem;
    if (part->dead == NULL) {
        mly_lance_deletions_init(&dead->set, mem, part->fragment->row_count);
    } else {
        enum mly_err rc = mly_lance_deletions_copy(&part->dead->set, &dead->set, err);
        if (rc != MLY_OK) {
            mly_mem_free(mem, dead);
            return rc;
        }
    }
    mly_store_dead_release(part->dead);
    part->dead = dead;
    return MLY_OK;
}

static enum mly_err bury(struct mly_store_view *view, const struct mly_store_rows *rows,
                         struct mly_error *err)
{
    size_t part_i = MLY_STORE_NO_PART;
    for (size_t i = 0; i < rows->count; i++) {
        uint64_t address = rows->items[i];
        if (i == 0 || address >> 32 != rows->items[i - 1] >> 32) {
            part_i = mly_store_view_find_part(view, address >> 32);
            if (part_i == MLY_STORE_NO_PART) {
                return mly_fail(err, MLY_ERR_INTERNAL, "no fragment %llu to delete rows of",
                                (unsigned long long)(address >> 32));
            }
            MLY_TRY(own_dead(&view->parts[part_i], view->table->store->mem, err));
        }
        MLY_TRY(mly_lance_deletions_add(&view->parts[part_i].dead->set, address & UINT32_MAX, err));
    }
    return MLY_OK;
}

/* A fragment of the tail, with an id and a serial and nothing in it. */
static enum mly_err make_fragment(struct mly_store_table *table, struct mly_store_fragment **out,
                                  struct mly_error *err)
{
    struct mly_store *store = table->store;
    if (store->serial_next == UINT32_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%s: 4294967295 fragments were opened; open it anew",
                        store->path);
    }
    struct mly_store_fragment *fragment = mly_mem_array(store->mem, 1, sizeof(*fragment));
    if (fragment == NULL) return mly_fail_nomem(err, sizeof(*fragment));
    atomic_init(&fragment->refs, 1);
    fragment->table = table;
    fragment->serial = store->serial_next++;
    fragment->id = UINT32_MAX - table->tail_parts++ % MLY_STORE_TAIL_PARTS_MAX;
    *out = fragment;
    return MLY_OK;
}

/* A part of a new slab, behind the others. */
static enum mly_err add_slab(struct mly_store_view *view, uint32_t dim, struct mly_error *err)
{
    struct mly_store_table *table = view->table;
    struct mly_store_fragment *fragment = NULL;
    MLY_TRY(make_fragment(table, &fragment, err));
    enum mly_err rc =
        mly_store_slab_make(table->store->mem, table->kind, dim, &fragment->slab, err);
    if (rc != MLY_OK) {
        mly_store_fragment_release(fragment);
        return rc;
    }
    fragment->row_count = fragment->slab->capacity;
    view->parts[view->part_count++] = (struct mly_store_part){.fragment = fragment};
    return MLY_OK;
}

static enum mly_err open_load(const struct mly_store_view *view,
                              struct mly_store_fragment *fragment, struct mly_error *err)
{
    struct mly_store *store = view->table->store;
    size_t count = mly_lance_manifest_field_count(view->manifest);
    struct mly_lance_field *fields = mly_mem_array(store->mem, count + 1, sizeof(fields[0]));
    if (fields == NULL) return mly_fail_nomem(err, (count + 1) * sizeof(fields[0]));
    for (size_t i = 0; i < count; i++)
        mly_lance_manifest_get_field(view->manifest, i, &fields[i]);
    enum mly_err rc = mly_lance_fragment_open_file(
        view->table->lance, fields, count, fragment->file, fragment->id, &fragment->data, err);
    mly_mem_free(store->mem, fields);
    return rc;
}

enum mly_err mly_store_fragment_adopt(const struct mly_store_view *view,
                                      struct mly_store_record *record,
                                      struct mly_store_fragment **out, struct mly_error *err)
{
    struct mly_store_fragment *fragment = NULL;
    MLY_TRY(make_fragment(view->table, &fragment, err));
    fragment->record = mly_store_record_retain(record);
    fragment->file = &record->load->files[view->table->kind];
    fragment->file_bytes = fragment->file->file_bytes;
    enum mly_err rc = open_load(view, fragment, err);
    if (rc == MLY_OK) fragment->row_count = mly_lance_fragment_row_count(fragment->data);
    if (rc == MLY_OK && fragment->row_count > MLY_FRAGMENT_ROWS_MAX) {
        rc = mly_fail(err, MLY_ERR_LIMIT, "%llu rows at once, the limit is %llu",
                      (unsigned long long)fragment->row_count,
                      (unsigned long long)MLY_FRAGMENT_ROWS_MAX);
    }
    if (rc != MLY_OK) {
        mly_store_fragment_release(fragment);
        return rc;
    }
    *out = fragment;
    return MLY_OK;
}

/* Can rows be added to the last part? Where another view has added to its slab they would come
 * behind rows that this one must not see. */
static bool is_open(const struct mly_store_view *view, uint32_t dim)
{
    if (view->part_count == view->base_count) return false;
    const struct mly_store_part *part = &view->parts[view->part_count - 1];
    const struct mly_store_slab *slab = part->fragment->slab;
    return slab != NULL && slab->count == part->row_count && slab->count < slab->capacity &&
           (view->table->kind == MLY_STORE_DOCUMENTS || slab->dim == dim);
}

static enum mly_err add_rows(struct mly_store_view *view, const struct mly_store_new_row *rows,
                             size_t row_count, uint32_t dim, struct mly_error *err)
{
    struct mly_mem *mem = view->table->store->mem;
    for (size_t i = 0; i < row_count; i++) {
        if (!is_open(view, dim)) MLY_TRY(add_slab(view, dim, err));
        struct mly_store_part *part = &view->parts[view->part_count - 1];
        struct mly_store_fragment *fragment = part->fragment;
        if (view->table->kind == MLY_STORE_DOCUMENTS) {
            const struct mly_document *document = rows[i].row;
            if (document->status.data != NULL &&
                mly_str_equal(document->status, MLY_STR("skipped"))) {
                MLY_TRY(mly_store_fragment_skip(fragment, mem, (uint32_t)part->row_count, err));
            }
        }
        mly_store_slab_add(fragment->slab, view->table->kind, &rows[i]);
        part->row_count++;
    }
    return MLY_OK;
}

static enum mly_err fill_grown(struct mly_store_view *view, const struct mly_store_view *old,
                               const struct mly_store_rows *dead,
                               const struct mly_store_new_row *rows, size_t row_count, uint32_t dim,
                               struct mly_store_fragment *adopted, struct mly_error *err)
{
    size_t count = old->part_count + row_count / MLY_SLAB_ROWS_MIN + 3;
    view->parts = mly_mem_array(view->table->store->mem, count, sizeof(view->parts[0]));
    if (view->parts == NULL) return mly_fail_nomem(err, count * sizeof(view->parts[0]));
    memcpy(view->fields, old->fields, sizeof(view->fields));
    view->base_count = old->base_count;
    view->dim = old->dim != 0 ? old->dim : row_count > 0 ? dim : 0;
    for (size_t i = 0; i < old->part_count; i++) {
        view->parts[i] = old->parts[i];
        atomic_fetch_add(&view->parts[i].fragment->refs, 1);
        if (view->parts[i].dead != NULL) atomic_fetch_add(&view->parts[i].dead->refs, 1);
        view->part_count = i + 1;
    }
    MLY_TRY(bury(view, dead, err));
    MLY_TRY(add_rows(view, rows, row_count, dim, err));
    if (adopted != NULL) {
        atomic_fetch_add(&adopted->refs, 1);
        view->parts[view->part_count++] =
            (struct mly_store_part){.fragment = adopted, .row_count = adopted->row_count};
    }
    return mly_store_view_finish(view, err);
}

enum mly_err mly_store_view_grow(struct mly_store_view *old, const struct mly_store_rows *dead,
                                 const struct mly_store_new_row *rows, size_t row_count,
                                 uint32_t dim, struct mly_store_fragment *adopted,
                                 struct mly_store_view **out, struct mly_error *err)
{
    struct mly_store_view *view = NULL;
    MLY_TRY(mly_store_view_new(old->table, &view, err));
    view->base = mly_store_view_retain(mly_store_view_base(old));
    view->manifest = view->base->manifest;
    enum mly_err rc = fill_grown(view, old, dead, rows, row_count, dim, adopted, err);
    if (rc != MLY_OK) {
        mly_store_view_release(view);
        return rc;
    }
    *out = view;
    return MLY_OK;
}

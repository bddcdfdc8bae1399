/* Views: one state of a table, ready to be read.
 *
 * In: the newest manifest and the view before it, or a view and what the log adds to it. Out: a
 * view that shares every fragment and every set of dead rows that did not change, so that following
 * a writer costs what it added. */
#include "store/store_state_int.h"

#include "base/limits.h"

#include <stdio.h>

#define LOAD_TRIES 5
/* Of other programs, one after the other, that are looked through for our newest. */
#define VERSIONS_BACK 64
/* Rows of a page's dead bitmap, the whole of it per view: one bit per row. */
#define BITS_BYTES_MAX ((size_t)1 << 32)

struct mly_store_view *mly_store_view_retain(struct mly_store_view *view)
{
    atomic_fetch_add(&view->refs, 1);
    return view;
}

void mly_store_fragment_release(struct mly_store_fragment *fragment)
{
    if (fragment == NULL || atomic_fetch_sub(&fragment->refs, 1) != 1) return;
    struct mly_store_table *table = fragment->table;
    struct mly_mem *mem = table->store->mem;
    for (size_t key_i = 0; key_i < MLY_STORE_KEYS; key_i++) {
        if (fragment->keyed_generation[key_i] != 0) {
            atomic_fetch_add(&table->keys[key_i].gone_runs, fragment->keyed_runs[key_i]);
        }
    }
    mly_lance_fragment_close(fragment->data);
    mly_keyfile_close(atomic_load(&fragment->keyfile));
    mly_store_slab_destroy(mem, fragment->slab);
    mly_store_record_release(fragment->record);
    mly_mem_free(mem, fragment->skipped);
    mly_mem_free(mem, fragment);
}

void mly_store_dead_release(struct mly_store_dead *dead)
{
    if (dead == NULL || atomic_fetch_sub(&dead->refs, 1) != 1) return;
    mly_lance_deletions_deinit(&dead->set);
    mly_mem_free(dead->mem, dead);
}

void mly_store_view_release(struct mly_store_view *view)
{
    if (view == NULL || atomic_fetch_sub(&view->refs, 1) != 1) return;
    struct mly_mem *mem = view->table->store->mem;
    for (size_t i = 0; i < view->part_count; i++) {
        mly_store_fragment_release(view->parts[i].fragment);
        mly_store_dead_release(view->parts[i].dead);
    }
    mly_mem_free(mem, view->parts);
    mly_mem_free(mem, view->slots);
    mly_mem_free(mem, view->blocks);
    mly_arena_deinit(&view->bits);
    if (view->base == NULL) mly_lance_manifest_destroy(view->manifest);
    mly_store_view_release(view->base);
    mly_mem_free(mem, view);
}

struct mly_str mly_store_view_config(const struct mly_store_view *view, struct mly_str key)
{
    if (view->manifest == NULL) return MLY_STR_NULL;
    return mly_lance_manifest_config(view->manifest, key);
}

uint64_t mly_store_number(struct mly_str text)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || value > UINT64_MAX / 10 - 1) return 0;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    return value;
}

void mly_store_view_uuid(const struct mly_store_view *view, uint8_t out[MLY_STORE_UUID_BYTES])
{
    struct mly_str text = mly_store_view_config(view, MLY_KEY_TABLE);
    memset(out, 0, MLY_STORE_UUID_BYTES);
    size_t digits = 0;
    for (size_t i = 0; i < text.bytes && digits < 2 * (size_t)MLY_STORE_UUID_BYTES; i++) {
        int digit = mly_hex_digit(text.data[i]);
        if (digit < 0) continue; /* the dashes */
        out[digits / 2] = (uint8_t)(out[digits / 2] | digit << (digits % 2 == 0 ? 4 : 0));
        digits++;
    }
}

/* ---- fragments ---- */

enum mly_err mly_store_fragment_skip(struct mly_store_fragment *fragment, struct mly_mem *mem,
                                     uint32_t row, struct mly_error *err)
{
    if (fragment->skipped_count == fragment->skipped_capacity) {
        size_t capacity = fragment->skipped_capacity == 0 ? 16 : fragment->skipped_capacity * 2;
        size_t bytes = capacity * sizeof(fragment->skipped[0]);
        uint32_t *skipped = mly_mem_realloc(mem, fragment->skipped, bytes);
        if (skipped == NULL) return mly_fail_nomem(err, bytes);
        fragment->skipped = skipped;
        fragment->skipped_capacity = capacity;
    }
    fragment->skipped[fragment->skipped_count++] = row;
    return MLY_OK;
}

/* Which rows are files that were skipped: counting documents must not fail later. */
static enum mly_err find_skipped(const struct mly_store_view *view,
                                 struct mly_store_fragment *fragment, struct mly_error *err)
{
    size_t field = view->fields[MLY_DOCUMENT_STATUS];
    if (field == MLY_LANCE_NO_FIELD) return MLY_OK;
    for (uint64_t row = 0; row < fragment->row_count; row++) {
        struct mly_str status;
        MLY_TRY(mly_lance_get_string(fragment->data, field, row, &status, err));
        if (status.data != NULL && mly_str_equal(status, MLY_STR("skipped"))) {
            MLY_TRY(mly_store_fragment_skip(fragment, view->table->store->mem, (uint32_t)row, err));
        }
    }
    return MLY_OK;
}

static enum mly_err open_fragment(const struct mly_store_view *view, size_t fragment_i,
                                  const struct mly_lance_fragment_info *info,
                                  struct mly_store_fragment **out, struct mly_error *err)
{
    struct mly_store_table *table = view->table;
    struct mly_store *store = table->store;
    struct mly_store_fragment *fragment = mly_mem_array(store->mem, 1, sizeof(*fragment));
    if (fragment == NULL) return mly_fail_nomem(err, sizeof(*fragment));
    atomic_init(&fragment->refs, 1);
    fragment->table = table;
    fragment->serial = store->serial_next;
    fragment->id = info->id;
    fragment->file_bytes = info->file_bytes;
    enum mly_err rc =
        mly_lance_fragment_open(table->lance, view->manifest, fragment_i, &fragment->data, err);
    if (rc != MLY_OK) goto done;
    fragment->row_count = mly_lance_fragment_row_count(fragment->data);
    if (fragment->row_count > MLY_FRAGMENT_ROWS_MAX || fragment->id > UINT32_MAX) {
        rc = mly_fail(err, MLY_ERR_UNSUPPORTED,
                      "%s: fragment %llu has %llu rows; row addresses hold 32 bits of each",
                      mly_lance_table_path(table->lance), (unsigned long long)fragment->id,
                      (unsigned long long)fragment->row_count);
        goto done;
    }
    if (store->serial_next == UINT32_MAX) {
        rc = mly_fail(err, MLY_ERR_LIMIT, "%s: 4294967295 fragments were opened; open it anew",
                      store->path);
        goto done;
    }
    struct mly_keyfile *keyfile = mly_store_keys_open(view, fragment);
    atomic_init(&fragment->keyfile, keyfile);
    if (table->kind == MLY_STORE_DOCUMENTS && keyfile == NULL) {
        rc = find_skipped(view, fragment, err);
        if (rc != MLY_OK) goto done;
    }
    store->serial_next++;
    *out = fragment;
    fragment = NULL;
done:
    mly_store_fragment_release(fragment);
    return rc;
}

static enum mly_err read_dead(const struct mly_store_view *view, size_t fragment_i,
                              struct mly_store_dead **out, struct mly_error *err)
{
    struct mly_mem *mem = view->table->store->mem;
    struct mly_store_dead *dead = mly_mem_array(mem, 1, sizeof(*dead));
    if (dead == NULL) return mly_fail_nomem(err, sizeof(*dead));
    atomic_init(&dead->refs, 1);
    dead->mem = mem;
    enum mly_err rc =
        mly_lance_deletions_read(view->table->lance, view->manifest, fragment_i, &dead->set, err);
    if (rc != MLY_OK) goto done;
    if (dead->set.bits == NULL || dead->set.deleted_count == 0) goto done; /* nothing is dead */
    *out = dead;
    dead = NULL;
done:
    mly_store_dead_release(dead);
    return rc;
}

/* One fragment of the new view; taken from the old one where nothing changed. */
static enum mly_err make_part(struct mly_store_view *view, const struct mly_store_view *old,
                              size_t fragment_i, struct mly_error *err)
{
    struct mly_store_part *part = &view->parts[fragment_i];
    struct mly_lance_fragment_info info;
    mly_lance_manifest_get_fragment(view->manifest, fragment_i, &info);
    const struct mly_store_part *before = NULL;
    if (old != NULL && old->manifest != NULL &&
        mly_lance_manifest_same_data(old->manifest, view->manifest, info.id)) {
        size_t old_i = mly_lance_manifest_find_fragment(old->manifest, info.id);
        if (old_i < old->part_count) before = &old->parts[old_i];
    }
    if (before != NULL) {
        atomic_fetch_add(&before->fragment->refs, 1);
        part->fragment = before->fragment;
        part->row_count = before->row_count;
        if (mly_lance_manifest_same_deletions(old->manifest, view->manifest, info.id)) {
            if (before->dead != NULL) atomic_fetch_add(&before->dead->refs, 1);
            part->dead = before->dead;
            return MLY_OK;
        }
    } else {
        MLY_TRY(open_fragment(view, fragment_i, &info, &part->fragment, err));
        part->row_count = part->fragment->row_count;
    }
    return read_dead(view, fragment_i, &part->dead, err);
}

/* ---- finding a fragment by its serial ---- */

static enum mly_err make_slots(struct mly_store_view *view, struct mly_error *err)
{
    size_t slot_count = 4;
    while (slot_count < view->part_count * 2)
        slot_count *= 2;
    view->slots = mly_mem_array(view->table->store->mem, slot_count, sizeof(view->slots[0]));
    if (view->slots == NULL) return mly_fail_nomem(err, slot_count * sizeof(view->slots[0]));
    view->slot_count = slot_count;
    for (size_t i = 0; i < view->part_count; i++) {
        size_t slot = view->parts[i].fragment->serial & (slot_count - 1);
        while (view->slots[slot] != 0)
            slot = (slot + 1) & (slot_count - 1);
        view->slots[slot] = (uint32_t)i + 1;
    }
    return MLY_OK;
}

size_t mly_store_view_find_serial(const struct mly_store_view *view, uint32_t serial)
{
    if (view->slot_count == 0) return MLY_STORE_NO_PART;
    size_t slot = serial & (view->slot_count - 1);
    for (; view->slots[slot] != 0; slot = (slot + 1) & (view->slot_count - 1)) {
        size_t part_i = view->slots[slot] - 1;
        if (view->parts[part_i].fragment->serial == serial) return part_i;
    }
    return MLY_STORE_NO_PART;
}

/* ---- vectors for scans ---- */

static enum mly_err add_block(struct mly_store_view *view, const struct mly_vector_block *block,
                              struct mly_error *err)
{
    if (view->block_count == view->block_capacity) {
        size_t capacity = view->block_capacity == 0 ? 8 : view->block_capacity * 2;
        size_t bytes = capacity * sizeof(view->blocks[0]);
        struct mly_vector_block *blocks =
            mly_mem_realloc(view->table->store->mem, view->blocks, bytes);
        if (blocks == NULL) return mly_fail_nomem(err, bytes);
        view->blocks = blocks;
        view->block_capacity = capacity;
    }
    view->blocks[view->block_count++] = *block;
    return MLY_OK;
}

/* The rows of a page that must not be looked at: dead ones and those without a vector. */
static enum mly_err find_dead_bits(struct mly_store_view *view, const struct mly_store_part *part,
                                   const struct mly_lance_vectors *page, const uint8_t **out,
                                   struct mly_error *err)
{
    *out = NULL;
    if (part->dead == NULL && page->valid == NULL) return MLY_OK;
    if (page->valid == NULL && page->first_row % 8 == 0) {
        *out = part->dead->set.bits + page->first_row / 8; /* the usual case copies nothing */
        return MLY_OK;
    }
    size_t bytes = page->row_count / 8 + 1;
    uint8_t *bits = mly_arena_array(&view->bits, bytes, 1);
    if (bits == NULL) return mly_fail_nomem(err, bytes);
    for (size_t i = 0; i < page->row_count; i++) {
        bool is_null = page->valid != NULL && (page->valid[i >> 3] >> (i & 7) & 1) == 0;
        if (is_null || mly_store_part_is_dead(part, page->first_row + i)) {
            bits[i >> 3] = (uint8_t)(bits[i >> 3] | 1u << (i & 7));
        }
    }
    *out = bits;
    return MLY_OK;
}

/* The vectors of a slab are one page. */
static enum mly_err get_page(const struct mly_store_view *view, const struct mly_store_part *part,
                             uint64_t row, struct mly_lance_vectors *out, struct mly_error *err)
{
    const struct mly_store_slab *slab = part->fragment->slab;
    if (slab == NULL) {
        return mly_lance_get_vectors(part->fragment->data, view->fields[MLY_CHUNK_VECTOR], row, out,
                                     err);
    }
    *out = (struct mly_lance_vectors){
        .values = slab->vectors,
        .row_count = (size_t)part->row_count,
        .dim = slab->dim,
        .valid = slab->has_null ? slab->valid : NULL,
    };
    return MLY_OK;
}

static enum mly_err make_blocks(struct mly_store_view *view, const struct mly_store_part *part,
                                struct mly_error *err)
{
    const struct mly_store_fragment *fragment = part->fragment;
    if (part->dead != NULL && part->dead->set.deleted_count == part->row_count) return MLY_OK;
    for (uint64_t row = 0; row < part->row_count;) {
        struct mly_lance_vectors page;
        MLY_TRY(get_page(view, part, row, &page, err));
        if (page.first_row > row || page.row_count == 0 || page.first_row + page.row_count <= row) {
            return mly_fail(err, MLY_ERR_INTERNAL, "page of vectors does not hold row %llu",
                            (unsigned long long)row);
        }
        row = page.first_row + page.row_count;
        if (page.values == NULL) continue;
        struct mly_vector_block block = {
            .first_address = fragment->id << 32 | page.first_row,
            .values = page.values,
            .row_count = page.row_count,
            .dim = page.dim,
        };
        MLY_TRY(find_dead_bits(view, part, &page, &block.dead, err));
        MLY_TRY(add_block(view, &block, err));
    }
    return MLY_OK;
}

/* ---- making a view ---- */

/* Of those found when the fragment was opened: a key file that came later has the same. */
static uint64_t count_skipped(const struct mly_store_part *part)
{
    const struct mly_store_fragment *fragment = part->fragment;
    const struct mly_keyfile *keyfile =
        fragment->skipped_count > 0 ? NULL : atomic_load(&fragment->keyfile);
    size_t rows = keyfile != NULL ? mly_keyfile_skipped_count(keyfile) : fragment->skipped_count;
    if (part->dead == NULL && fragment->slab == NULL) return rows;
    uint64_t count = 0;
    for (size_t i = 0; i < rows; i++) {
        uint32_t row = keyfile != NULL ? mly_keyfile_skipped(keyfile, i) : fragment->skipped[i];
        count += row < part->row_count && !mly_store_part_is_dead(part, row);
    }
    return count;
}

static void count_part(struct mly_store_view *view, const struct mly_store_part *part)
{
    const struct mly_store_fragment *fragment = part->fragment;
    uint64_t dead_count = part->dead == NULL ? 0 : part->dead->set.deleted_count;
    view->live_count += part->row_count - dead_count;
    view->file_bytes += fragment->file_bytes;
    view->skipped_count += count_skipped(part);
}

/* What follows from the parts: counts, vectors to scan, where to find a part. */
enum mly_err mly_store_view_finish(struct mly_store_view *view, struct mly_error *err)
{
    for (size_t i = 0; i < view->part_count; i++) {
        count_part(view, &view->parts[i]);
        if (view->table->kind == MLY_STORE_CHUNKS) MLY_TRY(make_blocks(view, &view->parts[i], err));
    }
    return make_slots(view, err);
}

static enum mly_err fill_view(struct mly_store_view *view, const struct mly_store_view *old,
                              struct mly_error *err)
{
    struct mly_store_table *table = view->table;
    MLY_TRY(mly_store_find_fields(table->kind, mly_lance_table_path(table->lance), view->manifest,
                                  view->fields, &view->dim, err));
    size_t count = mly_lance_manifest_fragment_count(view->manifest);
    view->parts = mly_mem_array(table->store->mem, count + 1, sizeof(view->parts[0]));
    if (view->parts == NULL) return mly_fail_nomem(err, (count + 1) * sizeof(view->parts[0]));
    for (size_t i = 0; i < count; i++) {
        MLY_TRY(make_part(view, old, i, err));
        view->part_count = view->base_count = i + 1;
    }
    return mly_store_view_finish(view, err);
}

enum mly_err mly_store_view_new(struct mly_store_table *table, struct mly_store_view **out,
                                struct mly_error *err)
{
    struct mly_mem *mem = table->store->mem;
    struct mly_store_view *view = mly_mem_array(mem, 1, sizeof(*view));
    if (view == NULL) return mly_fail_nomem(err, sizeof(*view));
    atomic_init(&view->refs, 1);
    view->table = table;
    mly_arena_init(&view->bits, mem, BITS_BYTES_MAX);
    for (size_t i = 0; i < MLY_STORE_COLUMNS_MAX; i++)
        view->fields[i] = MLY_LANCE_NO_FIELD;
    *out = view;
    return MLY_OK;
}

/* A version of another program carries our number along. Where it restored an old version it has
 * the number of then, and its rows are what its owner wants all the same: what our newest version
 * before it had is not to be done once more. */
static enum mly_err find_lsn(const struct mly_store_view *view, uint64_t *out,
                             struct mly_error *err)
{
    const struct mly_lance_manifest *manifest = view->manifest;
    struct mly_lance_manifest *before = NULL;
    enum mly_err rc = MLY_OK;
    const struct mly_str own = mly_store_view_config(view, MLY_KEY_LSN);
    *out = mly_store_number(own);
    if (own.data == NULL) return MLY_OK;
    for (int i = 0; i < VERSIONS_BACK && !mly_lance_manifest_is_ours(manifest); i++) {
        struct mly_lance_manifest *older = NULL;
        rc = mly_lance_manifest_load_before(view->table->lance, manifest, &older, err);
        mly_lance_manifest_destroy(before);
        before = older;
        if (rc != MLY_OK) break;
        uint64_t lsn = mly_store_number(mly_lance_manifest_config(older, MLY_KEY_LSN));
        if (lsn > *out) *out = lsn;
        manifest = older;
    }
    mly_lance_manifest_destroy(before);
    return rc == MLY_ERR_NOMEM ? rc : MLY_OK; /* what is gone cannot be asked */
}

/* manifest is the view's where it returns OK. */
static enum mly_err make_view(struct mly_store_table *table, struct mly_lance_manifest *manifest,
                              const struct mly_store_view *old, struct mly_store_view **out,
                              struct mly_error *err)
{
    struct mly_store_view *view = NULL;
    MLY_TRY(mly_store_view_new(table, &view, err));
    view->manifest = manifest;
    if (manifest != NULL) {
        enum mly_err rc = fill_view(view, old, err);
        if (rc == MLY_OK) rc = find_lsn(view, &view->lsn, err);
        if (rc != MLY_OK) {
            /* A part that failed half way holds its fragment. */
            if (view->parts != NULL &&
                view->part_count < mly_lance_manifest_fragment_count(manifest)) {
                view->part_count++;
            }
            view->manifest = NULL;
            mly_store_view_release(view);
            return rc;
        }
    }
    *out = view;
    return MLY_OK;
}

/* While a damaged manifest lies above it, the one before looks stale again and again. */
static bool is_same_version(const struct mly_store_view *old,
                            const struct mly_lance_manifest *manifest)
{
    return old != NULL && old->manifest != NULL &&
           mly_lance_manifest_version(old->manifest) == mly_lance_manifest_version(manifest);
}

static void note_unsound(struct mly_store *store, const struct mly_lance_unsound *unsound)
{
    snprintf(store->report.reason, sizeof(store->report.reason), "%.399s", unsound->reason.message);
}

/* A foreign cleanup may take files away between reading a manifest and opening what it names: then
 * there is a newer manifest. */
enum mly_err mly_store_table_refresh(struct mly_store_table *table, struct mly_error *err)
{
    struct mly_store_view *old = table->newest;
    if (table->ahead != NULL) {
        bool gone;
        MLY_TRY(mly_lance_manifest_is_stale(table->lance, table->ahead->manifest, &gone, err));
        if (!gone) return MLY_OK;
        mly_store_view_release(table->ahead);
        table->ahead = NULL;
        table->unsound = 0;
    }
    if (old != NULL) {
        bool stale;
        MLY_TRY(mly_lance_manifest_is_stale(table->lance, old->manifest, &stale, err));
        if (!stale) return MLY_OK;
    }
    for (int attempt = 1;; attempt++) {
        struct mly_lance_manifest *manifest = NULL;
        struct mly_lance_unsound unsound;
        MLY_TRY(mly_lance_manifest_load_sound(table->lance, &manifest, &unsound, err));
        if (unsound.count > 0 && is_same_version(old, manifest)) {
            mly_lance_manifest_destroy(manifest);
            table->unsound = unsound.count;
            note_unsound(table->store, &unsound);
            return MLY_OK;
        }
        struct mly_store_view *view = NULL;
        enum mly_err rc = make_view(table, manifest, old, &view, err);
        if (rc == MLY_OK) {
            table->newest = view;
            table->unsound = unsound.count;
            if (unsound.count > 0) note_unsound(table->store, &unsound);
            mly_store_view_release(old);
            return MLY_OK;
        }
        bool stale = false;
        if (rc == MLY_ERR_NOTFOUND && attempt < LOAD_TRIES) {
            enum mly_err stale_rc =
                mly_lance_manifest_is_stale(table->lance, manifest, &stale, NULL);
            stale = stale && stale_rc == MLY_OK;
        }
        mly_lance_manifest_destroy(manifest);
        if (stale) continue;
        /* The newest manifest names a file that is not there. */
        if (rc == MLY_ERR_NOTFOUND) rc = MLY_ERR_CORRUPT;
        if (err != NULL) err->code = rc;
        return rc;
    }
}

/* Where the sync of a commit fails, and that of a new segment too, the tables get it without the
 * log: a power cut between the two tables leaves one that has what nobody acknowledged. */
enum mly_err mly_store_step_back(struct mly_store *store, bool *done, struct mly_error *err)
{
    uint64_t first = 0;
    *done = false;
    MLY_TRY(mly_log_find_first(store->env, store->log_dir, &first, err));
    for (int kind = 0; first != 0 && kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_table *table = &store->tables[kind];
        struct mly_store_view *view = table->newest;
        struct mly_lance_manifest *before = NULL;
        if (view->manifest == NULL || view->lsn <= store->seen_lsn || table->ahead != NULL ||
            !mly_lance_manifest_is_ours(view->manifest)) {
            continue;
        }
        if (mly_lance_manifest_load_before(table->lance, view->manifest, &before, NULL) != MLY_OK) {
            continue;
        }
        struct mly_store_view *stepped = NULL;
        enum mly_err rc = make_view(table, before, view, &stepped, err);
        if (rc != MLY_OK) {
            mly_lance_manifest_destroy(before);
            return rc;
        }
        snprintf(store->report.reason, sizeof(store->report.reason),
                 "%.300s: version %llu has commit %llu, and the log ends before it: taken back",
                 mly_lance_table_path(table->lance),
                 (unsigned long long)mly_lance_manifest_version(view->manifest),
                 (unsigned long long)view->lsn);
        table->ahead = view;
        table->newest = stepped;
        table->unsound = 1;
        *done = true;
    }
    return MLY_OK;
}

void mly_store_step_forth(struct mly_store *store)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_table *table = &store->tables[kind];
        if (table->ahead == NULL) continue;
        mly_store_view_release(table->newest);
        table->newest = table->ahead;
        table->ahead = NULL;
        table->unsound = 0;
    }
}

enum mly_err mly_store_set_aside(struct mly_store *store, struct mly_error *err)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_table *table = &store->tables[kind];
        if (table->unsound == 0 || table->newest->manifest == NULL) continue;
        const struct mly_lance_manifest *also =
            table->ahead == NULL ? NULL : table->ahead->manifest;
        MLY_TRY(
            mly_lance_set_aside(table->lance, table->newest->manifest, also, store->lost_dir, err));
        mly_store_view_release(table->ahead);
        table->ahead = NULL;
        table->unsound = 0;
        store->report.kept = true;
    }
    return MLY_OK;
}

#include "vindex_cases.h"

#include "mly_cmocka.h"
#include "test_pace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CENTRES 40
#define QUERIES TEST_PACE(60, 20, 12)

static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* About normal: the sum of four. */
static float normal(uint64_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)(next(state) >> 40) * 0x1p-24F - 0.5F;
    return sum;
}

static void make_vector(const struct vindex_case *of, uint64_t *state, float *out)
{
    uint64_t centre = next(state) % CENTRES, inner = next(state) % 20;
    uint64_t a = centre + 1000, b = centre * 100 + inner + 5000;
    double square = 0;
    for (size_t i = 0; i < of->dim; i++) {
        out[i] = normal(&a) + 0.7F * normal(&b) + 0.6F * normal(state);
        square += (double)out[i] * (double)out[i];
    }
    float factor = of->metric == MLY_VINDEX_COSINE ? (float)(1 / sqrt(square)) : 3.0F;
    for (size_t i = 0; i < of->dim; i++)
        out[i] *= factor;
}

void vindex_case_make(struct vindex_case *of, enum mly_vindex_metric metric, size_t dim,
                      const uint32_t *row_counts, size_t file_count, uint64_t seed)
{
    *of = (struct vindex_case){
        .dim = dim, .metric = metric, .file_count = file_count, .run_rows = 700};
    for (size_t i = 0; i < file_count; i++) {
        snprintf(of->names[i], sizeof(of->names[i]), "f%zu-%u.lance", i, (unsigned)(seed % 1000));
        of->files[i] = (struct mly_vindex_file){mly_str_of(of->names[i]), row_counts[i]};
        of->values[i] = malloc(row_counts[i] * dim * sizeof(float));
        if (of->values[i] == NULL) abort();
        for (size_t row = 0; row < row_counts[i]; row++)
            make_vector(of, &seed, of->values[i] + row * dim);
    }
}

void vindex_case_free(struct vindex_case *of)
{
    for (size_t i = 0; i < of->file_count; i++) {
        free(of->values[i]);
        free(of->none[i]);
    }
}

void vindex_case_query(const struct vindex_case *of, uint64_t seed, float *out)
{
    seed += 77777;
    make_vector(of, &seed, out);
}

static enum mly_err give_rows(void *context, size_t file_i, uint32_t row_first,
                              struct mly_vindex_rows *out, struct mly_error *err)
{
    struct vindex_case *of = context;
    (void)err;
    of->calls++;
    size_t left = of->files[file_i].row_count - row_first;
    out->row_count = left < of->run_rows ? left : of->run_rows;
    out->values = of->values[file_i] + row_first * of->dim;
    out->none = NULL;
    if (of->none[file_i] != NULL) {
        /* Bitmaps begin at a byte: rows up to the next one are given alone. */
        if (row_first % 8 != 0 && out->row_count > 8 - row_first % 8) {
            out->row_count = 8 - row_first % 8;
        }
        static uint8_t shifted;
        out->none = of->none[file_i] + row_first / 8;
        if (row_first % 8 != 0) {
            shifted = (uint8_t)(*out->none >> row_first % 8);
            out->none = &shifted;
        }
    }
    return MLY_OK;
}

struct mly_vindex_maker vindex_case_maker(struct vindex_case *of, const struct mly_env *env,
                                          const char *folder)
{
    return (struct mly_vindex_maker){
        .env = env,
        .kern = mly_kern_pick(NULL),
        .folder = folder,
        .metric = of->metric,
        .dim = of->dim,
        .rows = give_rows,
        .rows_context = of,
    };
}

void vindex_case_parts(struct vindex_case *of, struct mly_vindex_part *parts)
{
    for (size_t i = 0; i < of->file_count; i++) {
        parts[i] = (struct mly_vindex_part){
            .is_present = true, .first_address = (uint64_t)i << 32, .context = of};
    }
}

static bool is_set(const uint8_t *bits, size_t i)
{
    return (bits[i / 8] >> (i % 8) & 1) != 0;
}

enum mly_err vindex_case_vector(void *context, const struct mly_vindex_part *part, uint32_t row,
                                const float **out, struct mly_error *err)
{
    const struct vindex_case *of = part->context;
    (void)context;
    (void)err;
    const size_t file_i = (size_t)(part->first_address >> 32);
    const bool is_none = of->none[file_i] != NULL && is_set(of->none[file_i], row);
    *out = is_none ? NULL : of->values[file_i] + row * of->dim;
    return MLY_OK;
}

static float score_of(const struct vindex_case *of, const struct mly_kern *kern, const float *query,
                      const float *row)
{
    if (of->metric != MLY_VINDEX_L2) return kern->dot_f32(query, row, of->dim);
    double sum = 0;
    for (size_t i = 0; i < of->dim; i++) {
        double difference = (double)query[i] - (double)row[i];
        sum += difference * difference;
    }
    return (float)-sum;
}

static int compare(const void *a, const void *b)
{
    const struct mly_match *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    return (x->row_address > y->row_address) - (x->row_address < y->row_address);
}

size_t vindex_case_exact(const struct vindex_case *of, const struct mly_vindex_part *parts,
                         const float *query, size_t k, struct mly_match *out)
{
    const struct mly_kern *kern = mly_kern_pick("scalar");
    size_t total = 0, count = 0;
    for (size_t i = 0; i < of->file_count; i++)
        total += of->files[i].row_count;
    struct mly_match *all = malloc((total + 1) * sizeof(*all));
    if (all == NULL) abort();
    for (size_t i = 0; i < of->file_count; i++) {
        if (!parts[i].is_present) continue;
        for (size_t row = 0; row < of->files[i].row_count; row++) {
            if (parts[i].dead != NULL && is_set(parts[i].dead, row)) continue;
            if (parts[i].allowed != NULL && !is_set(parts[i].allowed, row)) continue;
            if (of->none[i] != NULL && is_set(of->none[i], row)) continue;
            float score = score_of(of, kern, query, of->values[i] + row * of->dim);
            all[count++] = (struct mly_match){parts[i].first_address + row, score};
        }
    }
    qsort(all, count, sizeof(*all), compare);
    if (count > k) count = k;
    memcpy(out, all, count * sizeof(*all));
    free(all);
    return count;
}

static void ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc != MLY_OK) fail_msg("%s", err->message);
}

struct mly_vindex *vindex_case_build(struct vindex_case *of, const char *folder,
                                     const struct mly_vindex_fold *fold, const char *set,
                                     struct mly_pool *pool)
{
    const struct mly_env *env = mly_env_system();
    struct mly_vindex_maker maker = vindex_case_maker(of, env, folder);
    struct mly_vindex *segment = NULL;
    struct mly_error err = {0};
    char name[MLY_VINDEX_SEGMENT_NAME_BYTES];
    maker.kern = mly_kern_pick(set);
    maker.pool = pool;
    if (fold == NULL) {
        ok(mly_vindex_build(&maker, of->files, of->file_count, name, &err), &err);
    } else {
        ok(mly_vindex_fold(&maker, fold, name, &err), &err);
    }
    ok(mly_vindex_open(env, maker.kern, folder, name, &segment, &err), &err);
    ok(mly_vindex_verify(segment, &err), &err);
    return segment;
}

double vindex_case_recall(const struct vindex_case *of, struct mly_vindex *segment,
                          const struct mly_vindex_part *parts, float wanted, size_t k)
{
    const struct mly_env *env = mly_env_system();
    struct mly_vindex_room *room = NULL;
    struct mly_vindex_source source = {segment, parts};
    struct mly_error err = {0};
    float *query = malloc(of->dim * sizeof(float));
    struct mly_match *exact = malloc(k * sizeof(*exact));
    size_t found = 0, total = 0;
    assert_true(query != NULL && exact != NULL);
    ok(mly_vindex_room_create(env, &room, &err), &err);
    for (uint64_t q = 0; q < QUERIES; q++) {
        const struct mly_match *got;
        size_t count;
        vindex_case_query(of, q, query);
        struct mly_vindex_ask ask = {
            .query = query, .dim = of->dim, .k = k, .recall = wanted, .vector = vindex_case_vector};
        ok(mly_vindex_search(room, &source, 1, &ask, &got, &count, NULL, &err), &err);
        size_t there = vindex_case_exact(of, parts, query, k, exact);
        total += there;
        assert_int_equal(count, there);
        for (size_t i = 0; i < count; i++) {
            assert_true(i == 0 || got[i].score <= got[i - 1].score);
            size_t j = exact[i].row_address == got[i].row_address ? i : 0;
            while (j < there && exact[j].row_address != got[i].row_address)
                j++;
            if (j == there) continue;
            float bound = of->metric == MLY_VINDEX_L2 ? 1e-4F * fabsf(exact[j].score) : 0;
            assert_true(fabsf(exact[j].score - got[i].score) <= bound);
            found++;
        }
    }
    mly_vindex_room_destroy(room);
    free(exact);
    free(query);
    return (double)found / (double)total;
}

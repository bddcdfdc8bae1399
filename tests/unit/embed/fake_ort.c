/* In: what the engine says to ONNX Runtime. Out: answers, or the failure that was asked for. Every
 * handle is a counted block of its own, so that a sanitizer sees a wrong release. */
#include "fake_ort.h"

#include "embed/onnx/ort.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
EXPORT struct fake_ort *fake_ort_state(void);
EXPORT const struct mly_ort_base *OrtGetApiBase(void);

static struct fake_ort fake;

struct fake_ort *fake_ort_state(void)
{
    return &fake;
}

struct mly_ort_status {
    char text[128];
};
struct mly_ort_env {
    int unused;
};
struct mly_ort_session {
    int unused;
};
struct mly_ort_options {
    int unused;
};
struct mly_ort_memory {
    int unused;
};
struct mly_ort_allocator {
    int unused;
};
struct mly_ort_shape {
    int element;
    size_t rank;
    int64_t sides[3];
};
struct mly_ort_type {
    struct mly_ort_shape shape;
};
struct mly_ort_value {
    struct mly_ort_shape shape;
    void *data;
    bool owned;
};

static struct mly_ort_allocator allocator;

static void *give(size_t bytes)
{
    void *block = calloc(1, bytes);
    if (block == NULL) abort();
    atomic_fetch_add(&fake.live, 1);
    return block;
}

static void take_back(void *block)
{
    atomic_fetch_sub(&fake.live, 1);
    free(block);
}

/* NULL, or the failure of this call. */
static mly_ort_result next(void)
{
    const uint64_t call = atomic_fetch_add(&fake.calls, 1) + 1;
    if (call != atomic_load(&fake.fail_at)) return NULL;
    struct mly_ort_status *status = give(sizeof(*status));
    const char *text = fake.fail_text == NULL ? "the test\nsays no" : fake.fail_text;
    memcpy(status->text, text, strlen(text) + 1);
    return status;
}

#define NEXT()                                                                                     \
    do {                                                                                           \
        mly_ort_result failed = next();                                                            \
        if (failed != NULL) return failed;                                                         \
    } while (0)

static const char *error_message(const struct mly_ort_status *status)
{
    return status->text;
}

static mly_ort_result create_env(int level, const char *id, struct mly_ort_env **out)
{
    (void)id;
    NEXT();
    fake.log_level = level;
    *out = give(sizeof(**out));
    return NULL;
}

static mly_ort_result create_session(const struct mly_ort_env *env, const void *model,
                                     size_t model_bytes, const struct mly_ort_options *options,
                                     struct mly_ort_session **out)
{
    NEXT();
    if (env == NULL || options == NULL || model == NULL || model_bytes == 0) abort();
    *out = give(sizeof(**out));
    return NULL;
}

static const int64_t *input_data(const char *const *names,
                                 const struct mly_ort_value *const *values, size_t count,
                                 const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) return values[i]->data;
    }
    return NULL;
}

/* A row for each piece, or the mean of them; padding gives nonsense, so that using it is seen. */
static void compute(const int64_t *ids, const int64_t *mask, size_t width, size_t rank, float *out)
{
    double count = 0;
    for (size_t k = 0; k < width; k++) {
        const bool real = mask == NULL || mask[k] != 0;
        count += real;
        for (size_t d = 0; d < FAKE_DIM; d++) {
            const float number = real ? fake_number(ids[k], d) : 1e9f;
            if (rank == 3) out[k * FAKE_DIM + d] = number;
            if (rank == 2 && real) out[d] += number;
        }
    }
    for (size_t d = 0; rank == 2 && d < FAKE_DIM; d++) {
        out[d] = (float)((double)out[d] / count);
    }
}

static mly_ort_result run(struct mly_ort_session *session,
                          const struct mly_ort_run_options *options, const char *const *names,
                          const struct mly_ort_value *const *values, size_t count,
                          const char *const *output_names, size_t output_count,
                          struct mly_ort_value **outputs)
{
    NEXT();
    if (session == NULL || options != NULL || output_count != 1) abort();
    const size_t texts = (size_t)values[0]->shape.sides[0];
    const size_t width = (size_t)values[0]->shape.sides[1];
    const int64_t *ids = input_data(names, values, count, "input_ids");
    const int64_t *mask = input_data(names, values, count, "attention_mask");
    const int64_t *types = input_data(names, values, count, "token_type_ids");
    for (size_t i = 0; types != NULL && i < texts * width; i++) {
        if (types[i] != 0) abort();
    }
    size_t port = 0;
    while (strcmp(fake.outputs[port].name, output_names[0]) != 0) {
        port++;
    }
    const size_t rank = fake.outputs[port].rank, rows = texts + fake.extra_rows;
    const size_t step = rank == 3 ? width * FAKE_DIM : FAKE_DIM;
    struct mly_ort_value *value = give(sizeof(*value));
    float *data = give(rows * step * sizeof(float));
    for (size_t i = 0; i < texts; i++) {
        compute(ids + i * width, mask == NULL ? NULL : mask + i * width, width, rank,
                data + i * step);
    }
    if (fake.not_a_number) data[0] = NAN;
    *value = (struct mly_ort_value){{MLY_ORT_TYPE_FLOAT, rank, {(int64_t)rows}}, data, true};
    value->shape.sides[1] = rank == 3 ? (int64_t)width : FAKE_DIM;
    value->shape.sides[2] = FAKE_DIM;
    if (texts > fake.texts_most) fake.texts_most = texts;
    if (texts * width > fake.cells_most) fake.cells_most = texts * width;
    *outputs = value;
    return NULL;
}

static mly_ort_result create_options(struct mly_ort_options **out)
{
    NEXT();
    *out = give(sizeof(**out));
    return NULL;
}

static mly_ort_result disable_memory_pattern(struct mly_ort_options *options)
{
    (void)options;
    NEXT();
    fake.pattern_off = true;
    return NULL;
}

static mly_ort_result disable_arena(struct mly_ort_options *options)
{
    (void)options;
    NEXT();
    fake.arena_off = true;
    return NULL;
}

static mly_ort_result set_log_level(struct mly_ort_options *options, int level)
{
    (void)options;
    (void)level;
    NEXT();
    return NULL;
}

static mly_ort_result set_intra_threads(struct mly_ort_options *options, int count)
{
    (void)options;
    NEXT();
    fake.intra_threads = count;
    return NULL;
}

static mly_ort_result set_inter_threads(struct mly_ort_options *options, int count)
{
    (void)options;
    NEXT();
    fake.inter_threads = count;
    return NULL;
}

static mly_ort_result set_option(struct mly_ort_options *options, const char *key,
                                 const char *value)
{
    (void)options;
    NEXT();
    if (strcmp(key, "session.intra_op.allow_spinning") == 0) {
        fake.spinning_off = strcmp(value, "0") == 0;
    }
    return NULL;
}

static mly_ort_result count_ports(const struct fake_port *ports, size_t *out)
{
    NEXT();
    for (*out = 0; *out < FAKE_PORTS && ports[*out].name != NULL;) {
        ++*out;
    }
    return NULL;
}

static mly_ort_result input_count(const struct mly_ort_session *session, size_t *out)
{
    (void)session;
    return count_ports(fake.inputs, out);
}

static mly_ort_result output_count(const struct mly_ort_session *session, size_t *out)
{
    (void)session;
    return count_ports(fake.outputs, out);
}

static mly_ort_result port_type(const struct fake_port *port, struct mly_ort_type **out)
{
    NEXT();
    *out = give(sizeof(**out));
    (*out)->shape.element = port->element;
    (*out)->shape.rank = port->rank;
    return NULL;
}

static mly_ort_result input_type(const struct mly_ort_session *session, size_t i,
                                 struct mly_ort_type **out)
{
    (void)session;
    return port_type(&fake.inputs[i], out);
}

static mly_ort_result output_type(const struct mly_ort_session *session, size_t i,
                                  struct mly_ort_type **out)
{
    (void)session;
    return port_type(&fake.outputs[i], out);
}

static mly_ort_result port_name(const struct fake_port *port, struct mly_ort_allocator *from,
                                char **out)
{
    NEXT();
    if (from != &allocator) abort();
    *out = give(strlen(port->name) + 1);
    memcpy(*out, port->name, strlen(port->name) + 1);
    return NULL;
}

static mly_ort_result input_name(const struct mly_ort_session *session, size_t i,
                                 struct mly_ort_allocator *from, char **out)
{
    (void)session;
    return port_name(&fake.inputs[i], from, out);
}

static mly_ort_result output_name(const struct mly_ort_session *session, size_t i,
                                  struct mly_ort_allocator *from, char **out)
{
    (void)session;
    return port_name(&fake.outputs[i], from, out);
}

static mly_ort_result create_tensor(const struct mly_ort_memory *memory, void *data, size_t bytes,
                                    const int64_t *shape, size_t rank, int type,
                                    struct mly_ort_value **out)
{
    NEXT();
    if (memory == NULL || rank != 2 || type != MLY_ORT_TYPE_INT64 ||
        bytes != (size_t)(shape[0] * shape[1]) * sizeof(int64_t)) {
        abort();
    }
    *out = give(sizeof(**out));
    **out = (struct mly_ort_value){{type, rank, {shape[0], shape[1], 0}}, data, false};
    return NULL;
}

static mly_ort_result tensor_data(struct mly_ort_value *value, void **out)
{
    NEXT();
    *out = value->data;
    return NULL;
}

static mly_ort_result tensor_of_type(const struct mly_ort_type *type,
                                     const struct mly_ort_shape **out)
{
    NEXT();
    *out = type->shape.rank == 0 ? NULL : &type->shape;
    return NULL;
}

static mly_ort_result element_type(const struct mly_ort_shape *shape, int *out)
{
    NEXT();
    *out = shape->element;
    return NULL;
}

static mly_ort_result get_rank(const struct mly_ort_shape *shape, size_t *out)
{
    NEXT();
    *out = shape->rank;
    return NULL;
}

static mly_ort_result dimensions(const struct mly_ort_shape *shape, int64_t *out, size_t rank)
{
    NEXT();
    memcpy(out, shape->sides, rank * sizeof(out[0]));
    return NULL;
}

static mly_ort_result value_shape(const struct mly_ort_value *value, struct mly_ort_shape **out)
{
    NEXT();
    *out = give(sizeof(**out));
    **out = value->shape;
    return NULL;
}

static mly_ort_result create_cpu_memory(int allocator_kind, int memory_kind,
                                        struct mly_ort_memory **out)
{
    NEXT();
    if (allocator_kind != MLY_ORT_ALLOCATOR_DEVICE || memory_kind != MLY_ORT_MEMORY_DEFAULT) {
        abort();
    }
    *out = give(sizeof(**out));
    return NULL;
}

/* Frees even where it says that it failed: what a caller could do about it would be nothing. */
static mly_ort_result allocator_free(struct mly_ort_allocator *from, void *block)
{
    if (from != &allocator) abort();
    take_back(block);
    return next();
}

static mly_ort_result default_allocator(struct mly_ort_allocator **out)
{
    NEXT();
    *out = &allocator;
    return NULL;
}

static void release_env(struct mly_ort_env *env)
{
    take_back(env);
}

static void release_status(struct mly_ort_status *status)
{
    take_back(status);
}

static void release_memory(struct mly_ort_memory *memory)
{
    take_back(memory);
}

static void release_session(struct mly_ort_session *session)
{
    take_back(session);
}

static void release_value(struct mly_ort_value *value)
{
    if (value->owned) take_back(value->data);
    take_back(value);
}

static void release_type(struct mly_ort_type *type)
{
    take_back(type);
}

static void release_shape(struct mly_ort_shape *shape)
{
    take_back(shape);
}

static void release_options(struct mly_ort_options *options)
{
    take_back(options);
}

static const struct mly_ort_api api = {
    .error_message = error_message,
    .create_env = create_env,
    .create_session = create_session,
    .run = run,
    .create_options = create_options,
    .disable_memory_pattern = disable_memory_pattern,
    .disable_arena = disable_arena,
    .set_log_level = set_log_level,
    .set_intra_threads = set_intra_threads,
    .set_inter_threads = set_inter_threads,
    .input_count = input_count,
    .output_count = output_count,
    .input_type = input_type,
    .output_type = output_type,
    .input_name = input_name,
    .output_name = output_name,
    .create_tensor = create_tensor,
    .tensor_data = tensor_data,
    .tensor_of_type = tensor_of_type,
    .element_type = element_type,
    .rank = get_rank,
    .dimensions = dimensions,
    .value_shape = value_shape,
    .create_cpu_memory = create_cpu_memory,
    .allocator_free = allocator_free,
    .default_allocator = default_allocator,
    .release_env = release_env,
    .release_status = release_status,
    .release_memory = release_memory,
    .release_session = release_session,
    .release_value = release_value,
    .release_type = release_type,
    .release_shape = release_shape,
    .release_options = release_options,
    .set_option = set_option,
};

static const struct mly_ort_api *get_api(uint32_t version)
{
    return fake.no_api || version != MLY_ORT_API_VERSION ? NULL : &api;
}

static const char *version(void)
{
    return "1.2.3";
}

const struct mly_ort_base *OrtGetApiBase(void)
{
    static const struct mly_ort_base base = {get_api, version};
    return &base;
}

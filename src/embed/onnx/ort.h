/* The part of ONNX Runtime's C interface that we use, declared by ourselves: the library is looked
 * for at run time, and nobody needs its headers.
 *
 * Its functions stand in a table that is only ever added to, so that a place, once shipped, stays:
 * we declare the first 131 places, ask for the version that has all of them (5, ONNX Runtime 1.5)
 * and get a table that begins so from every later library too. Places that we do not use are
 * unnamed.
 *
 * Errors   functions give NULL, or a status that is the caller's to release.
 */
#ifndef MLY_EMBED_ONNX_ORT_H
#define MLY_EMBED_ONNX_ORT_H

#include <stddef.h>
#include <stdint.h>

#define MLY_ORT_API_VERSION 5
#define MLY_ORT_SYMBOL "OrtGetApiBase"

/* Values of its enumerations. */
#define MLY_ORT_LOG_FATAL 4
#define MLY_ORT_TYPE_FLOAT 1
#define MLY_ORT_TYPE_INT64 7
#define MLY_ORT_ALLOCATOR_DEVICE 0 /* plain, without an arena */
#define MLY_ORT_MEMORY_DEFAULT 0

struct mly_ort_status;
struct mly_ort_env;
struct mly_ort_session;
struct mly_ort_options;
struct mly_ort_run_options;
struct mly_ort_value;
struct mly_ort_memory;
struct mly_ort_type;
struct mly_ort_shape;
struct mly_ort_allocator;

typedef struct mly_ort_status *mly_ort_result;
typedef void (*mly_ort_unused)(void);

struct mly_ort_api {
    mly_ort_unused unused_0[2];
    const char *(*error_message)(const struct mly_ort_status *status);
    mly_ort_result (*create_env)(int log_level, const char *log_id, struct mly_ort_env **out);
    mly_ort_unused unused_4[4];
    mly_ort_result (*create_session)(const struct mly_ort_env *env, const void *model,
                                     size_t model_bytes, const struct mly_ort_options *options,
                                     struct mly_ort_session **out);
    mly_ort_result (*run)(struct mly_ort_session *session,
                          const struct mly_ort_run_options *options, const char *const *input_names,
                          const struct mly_ort_value *const *inputs, size_t input_count,
                          const char *const *output_names, size_t output_count,
                          struct mly_ort_value **outputs);
    mly_ort_result (*create_options)(struct mly_ort_options **out);
    mly_ort_unused unused_11[6];
    mly_ort_result (*disable_memory_pattern)(struct mly_ort_options *options);
    mly_ort_unused unused_18[1];
    mly_ort_result (*disable_arena)(struct mly_ort_options *options);
    mly_ort_unused unused_20[2];
    mly_ort_result (*set_log_level)(struct mly_ort_options *options, int level);
    mly_ort_unused unused_23[1];
    mly_ort_result (*set_intra_threads)(struct mly_ort_options *options, int count);
    mly_ort_result (*set_inter_threads)(struct mly_ort_options *options, int count);
    mly_ort_unused unused_26[4];
    mly_ort_result (*input_count)(const struct mly_ort_session *session, size_t *out);
    mly_ort_result (*output_count)(const struct mly_ort_session *session, size_t *out);
    mly_ort_unused unused_32[1];
    mly_ort_result (*input_type)(const struct mly_ort_session *session, size_t i,
                                 struct mly_ort_type **out);
    mly_ort_result (*output_type)(const struct mly_ort_session *session, size_t i,
                                  struct mly_ort_type **out);
    mly_ort_unused unused_35[1];
    mly_ort_result (*input_name)(const struct mly_ort_session *session, size_t i,
                                 struct mly_ort_allocator *allocator, char **out);
    mly_ort_result (*output_name)(const struct mly_ort_session *session, size_t i,
                                  struct mly_ort_allocator *allocator, char **out);
    mly_ort_unused unused_38[11];
    mly_ort_result (*create_tensor)(const struct mly_ort_memory *memory, void *data,
                                    size_t data_bytes, const int64_t *shape, size_t rank, int type,
                                    struct mly_ort_value **out); /* borrows data */
    mly_ort_unused unused_50[1];
    mly_ort_result (*tensor_data)(struct mly_ort_value *value, void **out); /* borrowed */
    mly_ort_unused unused_52[3];
    mly_ort_result (*tensor_of_type)(const struct mly_ort_type *type,
                                     const struct mly_ort_shape **out); /* borrowed; NULL: none */
    mly_ort_unused unused_56[4];
    mly_ort_result (*element_type)(const struct mly_ort_shape *shape, int *out);
    mly_ort_result (*rank)(const struct mly_ort_shape *shape, size_t *out);
    mly_ort_result (*dimensions)(const struct mly_ort_shape *shape, int64_t *out, size_t rank);
    mly_ort_unused unused_63[2];
    mly_ort_result (*value_shape)(const struct mly_ort_value *value, struct mly_ort_shape **out);
    mly_ort_unused unused_66[3];
    mly_ort_result (*create_cpu_memory)(int allocator_kind, int memory_kind,
                                        struct mly_ort_memory **out);
    mly_ort_unused unused_70[6];
    mly_ort_result (*allocator_free)(struct mly_ort_allocator *allocator, void *block);
    mly_ort_unused unused_77[1];
    mly_ort_result (*default_allocator)(struct mly_ort_allocator **out); /* the library's own */
    mly_ort_unused unused_79[13];
    void (*release_env)(struct mly_ort_env *env);
    void (*release_status)(struct mly_ort_status *status);
    void (*release_memory)(struct mly_ort_memory *memory);
    void (*release_session)(struct mly_ort_session *session);
    void (*release_value)(struct mly_ort_value *value);
    mly_ort_unused unused_97[1];
    void (*release_type)(struct mly_ort_type *type);
    void (*release_shape)(struct mly_ort_shape *shape);
    void (*release_options)(struct mly_ort_options *options);
    mly_ort_unused unused_101[29];
    mly_ort_result (*set_option)(struct mly_ort_options *options, const char *key,
                                 const char *value);
};

#define MLY_ORT_PLACE(member, place)                                                               \
    _Static_assert(offsetof(struct mly_ort_api, member) == (place) * sizeof(mly_ort_unused),       \
                   "a place of the table has moved")
MLY_ORT_PLACE(error_message, 2);
MLY_ORT_PLACE(create_session, 8);
MLY_ORT_PLACE(create_options, 10);
MLY_ORT_PLACE(disable_memory_pattern, 17);
MLY_ORT_PLACE(disable_arena, 19);
MLY_ORT_PLACE(set_log_level, 22);
MLY_ORT_PLACE(set_intra_threads, 24);
MLY_ORT_PLACE(input_count, 30);
MLY_ORT_PLACE(input_type, 33);
MLY_ORT_PLACE(input_name, 36);
MLY_ORT_PLACE(create_tensor, 49);
MLY_ORT_PLACE(tensor_data, 51);
MLY_ORT_PLACE(tensor_of_type, 55);
MLY_ORT_PLACE(element_type, 60);
MLY_ORT_PLACE(value_shape, 65);
MLY_ORT_PLACE(create_cpu_memory, 69);
MLY_ORT_PLACE(allocator_free, 76);
MLY_ORT_PLACE(default_allocator, 78);
MLY_ORT_PLACE(release_env, 92);
MLY_ORT_PLACE(release_type, 98);
MLY_ORT_PLACE(set_option, 130);

/* What the library's one symbol gives. */
struct mly_ort_base {
    const struct mly_ort_api *(*get_api)(uint32_t version);
    const char *(*version)(void);
};
typedef const struct mly_ort_base *(*mly_ort_get_base)(void);

#endif

/* In: a model's bytes. Out: a session of ONNX Runtime that keeps to our bounds, and which inputs
 * and which output of the model are to be used.
 *
 * No arena and no memory pattern: both keep the largest batch's memory for good, which is how an
 * embedding server grows to gigabytes. No spinning: threads that wait for the next text burn
 * nothing. */
#include "embed/onnx/onnx_int.h"

#include <string.h>

#define THREADS_MAX 256u
#define NAME_SHOWN 60

const char *const mly_onnx_input_names[MLY_ONNX_INPUTS_MAX] = {"input_ids", "attention_mask",
                                                               "token_type_ids"};

static enum mly_err set_options(struct mly_onnx_session *s, uint32_t threads, struct mly_error *err)
{
    const struct mly_ort_api *api = s->api;
    const char what[] = "take its options";
    const int count = (int)(threads < THREADS_MAX ? threads : THREADS_MAX);
    MLY_TRY(mly_ort_check(api, api->create_options(&s->options), what, err));
    MLY_TRY(mly_ort_check(api, api->disable_arena(s->options), what, err));
    MLY_TRY(mly_ort_check(api, api->disable_memory_pattern(s->options), what, err));
    MLY_TRY(mly_ort_check(api, api->set_log_level(s->options, MLY_ORT_LOG_FATAL), what, err));
    MLY_TRY(mly_ort_check(api, api->set_intra_threads(s->options, count), what, err));
    MLY_TRY(mly_ort_check(api, api->set_inter_threads(s->options, 1), what, err));
    return mly_ort_check(api, api->set_option(s->options, "session.intra_op.allow_spinning", "0"),
                         what, err);
}

/* An input or an output of the model. */
struct port {
    char *name;  /* the library's, given back with free_name */
    int element; /* 0 where it is no tensor */
    size_t rank;
};

static enum mly_err look_at_type(const struct mly_ort_api *api, const struct mly_ort_type *type,
                                 struct port *out, struct mly_error *err)
{
    const struct mly_ort_shape *shape = NULL;
    const char what[] = "tell the model's types";
    MLY_TRY(mly_ort_check(api, api->tensor_of_type(type, &shape), what, err));
    if (shape == NULL) return MLY_OK;
    MLY_TRY(mly_ort_check(api, api->element_type(shape, &out->element), what, err));
    return mly_ort_check(api, api->rank(shape, &out->rank), what, err);
}

static enum mly_err look_at_port(const struct mly_onnx_session *s, bool is_input, size_t i,
                                 struct port *out, struct mly_error *err)
{
    const struct mly_ort_api *api = s->api;
    struct mly_ort_type *type = NULL;
    *out = (struct port){0};
    MLY_TRY(mly_ort_check(api,
                          is_input ? api->input_type(s->session, i, &type)
                                   : api->output_type(s->session, i, &type),
                          "tell the model's types", err));
    enum mly_err rc = look_at_type(api, type, out, err);
    api->release_type(type);
    if (rc != MLY_OK) return rc;
    return mly_ort_check(api,
                         is_input ? api->input_name(s->session, i, s->allocator, &out->name)
                                  : api->output_name(s->session, i, s->allocator, &out->name),
                         "tell the model's names", err);
}

/* A name that it does not take back is a leak of its own, and none of our caller's. */
static void free_name(const struct mly_onnx_session *s, char *name)
{
    if (name == NULL) return;
    mly_ort_result failed = s->api->allocator_free(s->allocator, name);
    if (failed != NULL) s->api->release_status(failed);
}

static enum mly_err take_input(struct mly_onnx_session *s, const struct port *port,
                               struct mly_error *err)
{
    uint8_t known = 0;
    while (known < MLY_ONNX_INPUTS_MAX && strcmp(port->name, mly_onnx_input_names[known]) != 0) {
        known++;
    }
    if (known == MLY_ONNX_INPUTS_MAX || s->input_count == MLY_ONNX_INPUTS_MAX) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "the model wants an input %.*s; input_ids, attention_mask and "
                        "token_type_ids are known",
                        NAME_SHOWN, port->name);
    }
    if (port->element != MLY_ORT_TYPE_INT64 || port->rank != 2) {
        return mly_fail(
            err, MLY_ERR_UNSUPPORTED,
            "the model's input %s has element type %d and rank %zu, expected int64 (%d) "
            "and 2",
            port->name, port->element, port->rank, MLY_ORT_TYPE_INT64);
    }
    s->inputs[s->input_count++] = known;
    return MLY_OK;
}

static enum mly_err find_inputs(struct mly_onnx_session *s, struct mly_error *err)
{
    size_t count = 0;
    MLY_TRY(mly_ort_check(s->api, s->api->input_count(s->session, &count),
                          "tell the model's inputs", err));
    for (size_t i = 0; i < count; i++) {
        struct port port;
        MLY_TRY(look_at_port(s, true, i, &port, err));
        enum mly_err rc = take_input(s, &port, err);
        free_name(s, port.name);
        if (rc != MLY_OK) return rc;
    }
    if (s->input_count == 0) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "the model takes no input");
    }
    return MLY_OK;
}

/* How much an output is what we look for; 0: not at all. */
static int rate_output(const struct port *port)
{
    if (port->element != MLY_ORT_TYPE_FLOAT) return 0;
    if (port->rank == 2) return strcmp(port->name, "sentence_embedding") == 0 ? 4 : 0;
    if (port->rank != 3) return 0;
    if (strcmp(port->name, "last_hidden_state") == 0) return 3;
    return strcmp(port->name, "token_embeddings") == 0 ? 2 : 1;
}

static enum mly_err find_output(struct mly_onnx_session *s, struct mly_error *err)
{
    size_t count = 0;
    int best = 0;
    MLY_TRY(mly_ort_check(s->api, s->api->output_count(s->session, &count),
                          "tell the model's outputs", err));
    for (size_t i = 0; i < count; i++) {
        struct port port;
        MLY_TRY(look_at_port(s, false, i, &port, err));
        const int rating = rate_output(&port);
        if (rating > best) {
            best = rating;
            free_name(s, s->output_name);
            s->output_name = port.name;
            s->output_rank = port.rank;
        } else {
            free_name(s, port.name);
        }
    }
    if (best == 0) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "none of the model's %zu outputs is float32 of [texts][pieces][numbers] or "
                        "is called sentence_embedding",
                        count);
    }
    return MLY_OK;
}

enum mly_err mly_onnx_session_init(struct mly_onnx_session *session, const struct mly_ort_api *api,
                                   const uint8_t *model, size_t model_bytes, uint32_t threads,
                                   struct mly_error *err)
{
    struct mly_onnx_session *s = session;
    *s = (struct mly_onnx_session){.api = api};
    MLY_TRY(mly_onnx_scan(model, model_bytes, &s->alone, err));
    MLY_TRY(
        mly_ort_check(api, api->create_env(MLY_ORT_LOG_FATAL, "memalloy", &s->env), "start", err));
    MLY_TRY(set_options(s, threads, err));
    MLY_TRY(mly_ort_check(api, api->default_allocator(&s->allocator), "give its allocator", err));
    MLY_TRY(mly_ort_check(
        api, api->create_cpu_memory(MLY_ORT_ALLOCATOR_DEVICE, MLY_ORT_MEMORY_DEFAULT, &s->memory),
        "describe memory", err));
    MLY_TRY(mly_ort_check(api,
                          api->create_session(s->env, model, model_bytes, s->options, &s->session),
                          "load the model", err));
    MLY_TRY(find_inputs(s, err));
    return find_output(s, err);
}

void mly_onnx_session_deinit(struct mly_onnx_session *session)
{
    const struct mly_ort_api *api = session->api;
    if (api == NULL) return;
    free_name(session, session->output_name);
    if (session->session != NULL) api->release_session(session->session);
    if (session->memory != NULL) api->release_memory(session->memory);
    if (session->options != NULL) api->release_options(session->options);
    if (session->env != NULL) api->release_env(session->env);
    *session = (struct mly_onnx_session){0};
}

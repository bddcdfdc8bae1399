/* In: perhaps a path. Out: ONNX Runtime's table of functions. It is looked for where the user says,
 * where the caller says, and where the system has its libraries; nothing is linked, so that
 * memalloy works without it. What was named and does not load is an error, never a reason to take
 * another. */
#include "embed/onnx/onnx_int.h"

#include <string.h>

#define VARIABLE "MEMALLOY_ONNXRUNTIME"
#define WHY_BYTES 256

static enum mly_err take_api(struct mly_ort *ort, const char *name, struct mly_error *err)
{
    const struct mly_env *env = ort->env;
    void *symbol = env->library_symbol(env->context, ort->library, MLY_ORT_SYMBOL);
    if (symbol == NULL) {
        return mly_fail(err, MLY_ERR_MODEL, "%s is not ONNX Runtime: it has no %s", name,
                        MLY_ORT_SYMBOL);
    }
    mly_ort_get_base get_base;
    _Static_assert(sizeof(get_base) == sizeof(symbol), "POSIX has it so");
    memcpy(&get_base, &symbol, sizeof(get_base)); /* ISO C has no cast for it */
    const struct mly_ort_base *base = get_base();
    ort->api = base == NULL ? NULL : base->get_api(MLY_ORT_API_VERSION);
    if (ort->api == NULL) {
        return mly_fail(err, MLY_ERR_MODEL, "%s is ONNX Runtime %s, 1.5 or newer is needed", name,
                        base == NULL ? "of unknown version" : base->version());
    }
    ort->version = base->version();
    return MLY_OK;
}

enum mly_err mly_ort_load(const struct mly_env *env, const char *wanted, struct mly_ort *out,
                          struct mly_error *err)
{
    const char *names[] = {"libonnxruntime.so.1", "libonnxruntime.so"};
    size_t count = 2;
    const char *variable = env->variable(env->context, VARIABLE);
    if (variable != NULL && variable[0] != '\0') wanted = variable;
    if (wanted != NULL) {
        names[0] = wanted;
        count = 1;
    }
    struct mly_ort ort = {.env = env};
    char why[WHY_BYTES] = "";
    size_t i = 0;
    while (i < count &&
           env->library_open(env->context, names[i], &ort.library, why, sizeof(why)) < 0) {
        i++;
    }
    if (i == count && wanted != NULL) {
        return mly_fail(err, MLY_ERR_MODEL, "ONNX Runtime cannot be loaded from %s: %s", wanted,
                        why);
    }
    if (i == count) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "a model.onnx needs ONNX Runtime, which is not installed: `pip install "
                        "onnxruntime` for Python, or name its library with " VARIABLE " (%s)",
                        why);
    }
    enum mly_err rc = take_api(&ort, names[i], err);
    if (rc != MLY_OK) {
        mly_ort_unload(&ort);
        return rc;
    }
    *out = ort;
    return MLY_OK;
}

void mly_ort_unload(struct mly_ort *ort)
{
    if (ort->library == NULL) return;
    (void)ort->env->library_close(ort->env->context, ort->library);
    *ort = (struct mly_ort){.env = ort->env};
}

enum mly_err mly_ort_check(const struct mly_ort_api *api, mly_ort_result status, const char *what,
                           struct mly_error *err)
{
    if (status == NULL) return MLY_OK;
    const char *text = api->error_message(status);
    if (text == NULL) text = "no reason given";
    /* The library has no code of its own for it. */
    const bool memory =
        strstr(text, "bad_alloc") != NULL || strstr(text, "Failed to allocate memory") != NULL;
    enum mly_err rc = mly_fail(err, memory ? MLY_ERR_NOMEM : MLY_ERR_MODEL,
                               "ONNX Runtime cannot %s: %s", what, text);
    api->release_status(status);
    if (err != NULL) {
        for (char *at = err->message; *at != '\0'; at++) {
            if ((unsigned char)*at < 0x20) *at = ' '; /* its texts may have several lines */
        }
    }
    return rc;
}

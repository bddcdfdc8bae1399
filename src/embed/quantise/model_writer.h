/* Writes a model file (docs/NUMERICS.md, "The model file"): first what it will hold is planned,
 * then the tensors' bytes come in that order, then the header is filled in and the file gets its
 * name.
 *
 * Owns     plan copies names; put copies nothing. close drops a file that was not finished.
 * Errors   CONFLICT where the name is taken and overwrite was not asked for; IO, LIMIT, NOMEM.
 */
#ifndef MLY_EMBED_QUANTISE_MODEL_WRITER_H
#define MLY_EMBED_QUANTISE_MODEL_WRITER_H

#include "base/bytes.h"
#include "base/limits.h"
#include "embed/safetensors.h"
#include "os/os.h"

struct mly_hasher;

struct mly_model_writer {
    const struct mly_env *env;
    struct mly_file file;
    char path[MLY_PATH_BYTES_MAX], part_path[MLY_PATH_BYTES_MAX];
    bool overwrite, made;      /* made: the file of part_path is ours */
    struct mly_bytes header;   /* the tensors' part of the JSON */
    struct mly_bytes metadata; /* JSON without the checksum */
    struct mly_hasher *hasher;
    uint64_t planned;        /* bytes of all tensors */
    uint64_t data_start, at; /* of the tensors in the file; bytes put */
};

MLY_MUST_USE enum mly_err mly_model_writer_open(const struct mly_env *env, const char *path,
                                                bool overwrite, struct mly_model_writer *out,
                                                struct mly_error *err);
void mly_model_writer_close(struct mly_model_writer *writer);
/* A key and a text of the metadata. */
MLY_MUST_USE enum mly_err mly_model_writer_note(struct mly_model_writer *writer, const char *key,
                                                struct mly_str text, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_model_writer_plan(struct mly_model_writer *writer, const char *name,
                                                enum mly_tensor_type type, const uint64_t *shape,
                                                size_t rank, struct mly_error *err);
/* All is planned and noted. */
MLY_MUST_USE enum mly_err mly_model_writer_begin(struct mly_model_writer *writer,
                                                 struct mly_error *err);
/* The next bytes; a tensor may come in parts. */
MLY_MUST_USE enum mly_err mly_model_writer_put(struct mly_model_writer *writer, const void *data,
                                               size_t bytes, struct mly_error *err);
/* Header and sync: the file of part_path is whole. */
MLY_MUST_USE enum mly_err mly_model_writer_finish(struct mly_model_writer *writer,
                                                  struct mly_error *err);
/* Gives it its name. */
MLY_MUST_USE enum mly_err mly_model_writer_name(struct mly_model_writer *writer,
                                                struct mly_error *err);

/* Appends text as a JSON string, quotes included. Control characters but \n and \t must not be in
 * it. */
MLY_MUST_USE enum mly_err mly_json_append_text(struct mly_bytes *out, struct mly_str text,
                                               struct mly_error *err);

#endif

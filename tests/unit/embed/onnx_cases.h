/* Folders of a model for ONNX Runtime, whole or with one thing changed, and engines opened on them
 * with the stand-in of fake_ort.c for a library.
 */
#ifndef MLY_EMBED_ONNX_CASES_H
#define MLY_EMBED_ONNX_CASES_H

#include "embed/embed.h"

#include "fake_ort.h"
#include "fault_env.h"

#define ONNX_VOCABULARY 31 /* five special tokens, 26 letters */
#define ONNX_PIECES_MAX 300

/* What folders are made of; a test may change them on their way to disk. */
extern const char onnx_tokenizer[], onnx_pooling[], onnx_modules[];
/* A graph with one node and one tensor, 20 bytes and more. */
struct onnx_bytes {
    unsigned char data[256];
    size_t bytes;
};
/* operation: what the node does; tensor and tensor_bytes: the inside of its tensor message. */
struct onnx_bytes onnx_model(const char *operation, const void *tensor, size_t tensor_bytes);

/* A whole folder below dir, made anew; the path lives until the next call. */
const char *onnx_folder(const char *dir);
/* Writes text to folder/name with the first from replaced by to; from NULL: as it is. */
void onnx_write(const char *folder, const char *name, const char *text, const char *from,
                const char *to);

/* The stand-in's state, everything in it as a BERT has it: failing nothing, counting from 0. */
struct fake_ort *onnx_fake(void);

struct onnx_engine {
    struct fault_env fault;
    struct mly_pool *pool;
    struct mly_embedder *embedder;
};
/* With two threads. NULL library: the stand-in. */
enum mly_err onnx_open(struct onnx_engine *engine, const char *folder, const char *library,
                       struct mly_error *err);
/* Closes what there is, and checks that nothing is left of it. */
void onnx_close(struct onnx_engine *engine);

#endif

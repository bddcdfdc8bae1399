/* memalloy: making model files. Part of <memalloy.h>, whose rules hold here too. */
#ifndef MEMALLOY_CONVERT_H
#define MEMALLOY_CONVERT_H

#include <memalloy.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Told what is being done and how far it is, from 0 to 1, some times a second; a result other than
 * 0 cancels. */
typedef int (*memalloy_convert_fn)(void *context, const char *step, double share);

/* What is NULL or 0 comes from the folder's own configuration. */
struct memalloy_convert_options {
    size_t struct_bytes;
    const char *source_path;  /* a folder as Hugging Face has them: config.json, model.safetensors,
                                tokenizer.json and the files of sentence-transformers */
    const char *out_path;     /* the model file to make; NULL: the folder is only checked */
    const char *quantisation; /* "int8" (NULL), "bf16" or "f32" */
    const char *calibration_path; /* text to round weights by at int8, UTF-8, passages between lines
                                     of two percent signs or between empty lines; NULL: the one that
                                     is built in */
    const char *id;               /* NULL: the folder's name */
    const char *pooling;          /* "mean" or "cls" */
    const char *query_prefix, *passage_prefix; /* "": none */
    const char *source, *license;              /* for the file's metadata */
    const char *kernels;                       /* as in memalloy_model_options */
    uint32_t pieces_max;
    uint32_t threads; /* 0: every core the process may use */
    int overwrite;    /* 1: a file of that name is replaced */
    int no_quality;   /* 1: the result is not compared with the published model */
    memalloy_convert_fn progress;
    void *progress_context;
    const char *onnxruntime_path; /* of add with "onnx": as in memalloy_model_options */
};

/* Texts are NUL-terminated. */
struct memalloy_convert_report {
    size_t struct_bytes;
    char id[136];
    char hash[72];         /* of the file; "" where none was made */
    char architecture[32]; /* "bert", "xlm-roberta" */
    char pooling[8], pooling_from[64];
    char quantisation[8];
    char query_prefix[520], passage_prefix[520], prefix_from[64], pieces_from[64];
    uint32_t dim, layers, pieces_max, vocabulary;
    uint32_t tensors_ignored; /* of the source: heads for training and the like */
    uint64_t file_bytes;
    double seconds;
    /* Cosine of our vectors to the published model's in float32, over texts of kinds that were not
     * calibrated with; counts are 0 where nothing was measured. */
    uint32_t passages, queries;
    double passages_mean, passages_min, queries_mean, queries_min;
    char name[136]; /* of add: what it is called in the models' folder */
};

/* Makes a model file from a published encoder of BERT's architecture. The same folder and options
 * give the same bytes on every machine. The file appears whole or not at all.
 * MODEL where files or tensors are missing; UNSUPPORTED names a setting that cannot be followed;
 * CORRUPT a file that cannot be read; CONFLICT where out_path exists; CANCELLED. */
MEMALLOY_CALL int memalloy_model_convert(const struct memalloy_convert_options *options,
                                         struct memalloy_convert_report *out,
                                         struct memalloy_error *err);

/* The same into the models' folder, which is made: name.safetensors; out_path is not looked at.
 * name NULL: the source folder's. Quantisation "onnx": a link to the source folder, which
 * ONNX Runtime then runs, after it was opened once; of the report only what opening tells. */
MEMALLOY_CALL int memalloy_model_add(const char *name,
                                     const struct memalloy_convert_options *options,
                                     struct memalloy_convert_report *out,
                                     struct memalloy_error *err);

#ifdef __cplusplus
}
#endif
#endif

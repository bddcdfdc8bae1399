/* Makes a model file from a folder as Hugging Face has them.
 *
 *   convert_model FOLDER FILE [int8 | bf16 | f32 [ID [SOURCE [LICENSE]]]]
 */
#include <memalloy.h>

#include <stdio.h>

int main(int count, char **words)
{
    struct memalloy_convert_options options = {.struct_bytes = sizeof(options)};
    struct memalloy_convert_report report = {.struct_bytes = sizeof(report)};
    struct memalloy_error err;
    const char **places[] = {&options.source_path, &options.out_path, &options.quantisation,
                             &options.id,          &options.source,   &options.license};
    for (int i = 1; i < count && i <= 6; i++) {
        *places[i - 1] = words[i];
    }
    if (options.out_path == NULL) {
        fprintf(stderr, "usage: %s FOLDER FILE [int8 | bf16 | f32 [ID [SOURCE [LICENSE]]]]\n",
                words[0]);
        return 2;
    }
    options.overwrite = 1;
    const int rc = memalloy_model_convert(&options, &report, &err);
    if (rc != MEMALLOY_OK) {
        fprintf(stderr, "%s: %s\n", words[0], err.message);
        return 1;
    }
    printf("%s: %s, %u layers of %u, %s, %.1f MB, %.1f s\n", options.out_path, report.id,
           report.layers, report.dim, report.quantisation, (double)report.file_bytes / 1e6,
           report.seconds);
    printf("cosine to float32: %u passages %.6f, at least %.6f; %u queries %.6f, at least %.6f\n",
           report.passages, report.passages_mean, report.passages_min, report.queries,
           report.queries_mean, report.queries_min);
    return 0;
}

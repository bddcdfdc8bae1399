/* The encoder once more, in doubles and as plainly as the books have it: what the fast one is held
 * against.
 */
#ifndef MLY_EMBED_PLAIN_ENCODER_H
#define MLY_EMBED_PLAIN_ENCODER_H

#include "embed/embed_int.h"

/* The vector of one sequence, unit length, into out[hidden]. */
void plain_encode(const struct mly_model *model, const int32_t *ids, size_t pieces, double *out);
double plain_cosine(const double *a, const float *b, size_t n);

#endif

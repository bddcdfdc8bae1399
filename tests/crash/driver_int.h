/* Between driver.c and driver_check.c: what documents are called and made of. */
#ifndef MLY_TEST_DRIVER_INT_H
#define MLY_TEST_DRIVER_INT_H

#include "driver.h"

#define DRIVER_DIM 64
#define DRIVER_ID_BYTES 32
#define DRIVER_METADATA_BYTES 96

/* "w3-7" */
void driver_id(uint32_t writer, uint32_t document, char out[DRIVER_ID_BYTES]);
bool driver_parse_id(struct memalloy_str id, uint32_t *writer, uint32_t *document);
/* {"text": 12, "metadata": 15, "vector": 0}: all that tells what a document must be */
void driver_metadata(struct driver_entry entry, char out[DRIVER_METADATA_BYTES]);
bool driver_parse_metadata(struct memalloy_str metadata, struct driver_entry *out);
/* The text that operation number gave the document; freed with free(). */
char *driver_text(uint32_t writer, uint32_t document, struct driver_entry entry, size_t *bytes);
void driver_vector(uint32_t writer, uint32_t document, uint64_t number, float out[DRIVER_DIM]);

#endif

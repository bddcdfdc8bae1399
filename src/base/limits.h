/* Every ceiling, with its reason. Passing one is MLY_ERR_LIMIT, not a crash. */
#ifndef MLY_BASE_LIMITS_H
#define MLY_BASE_LIMITS_H

#include <stddef.h>

/* One document: its chunks, vectors and rows are held in memory until they are committed. */
#define MLY_DOCUMENT_BYTES_MAX ((size_t)64 << 20)
/* Files above it are skipped unless the caller raises it up to the document limit. */
#define MLY_FILE_BYTES_MAX MLY_DOCUMENT_BYTES_MAX
/* Ids are keys: they stand in every chunk's row. */
#define MLY_ID_BYTES_MAX ((size_t)512)
/* Metadata is repeated in every chunk's row. */
#define MLY_METADATA_BYTES_MAX ((size_t)1 << 20)
/* Linux's PATH_MAX is 4,096 for one call; names are reached through openat below that. */
#define MLY_PATH_BYTES_MAX ((size_t)4096)
/* A folder's depth: each level holds a descriptor while it is walked. */
#define MLY_WALK_DEPTH_MAX ((size_t)200)
/* A chunk in any strategy that counts word pieces. */
#define MLY_CHUNK_BYTES_MAX ((size_t)4096)
/* A query: 1 MiB is far above what any model reads. */
#define MLY_QUERY_BYTES_MAX ((size_t)1 << 20)
/* Vectors: as RELIABILITY's cap; wider ones do not exist in this field. */
#define MLY_DIM_MAX ((size_t)65536)
/* A Lance fragment counts rows in 32 bits; ours stay far below. */
#define MLY_FRAGMENT_ROWS_MAX ((size_t)1 << 31)
/* Manifests and metadata sections of files that others wrote. */
#define MLY_META_BYTES_MAX ((size_t)256 << 20)
#define MLY_TOP_K_MAX ((size_t)0x7fffffff)

#endif

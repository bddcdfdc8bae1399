/* A folder of the test's own, removed with all that is in it. */
#ifndef MLY_TEST_TEMP_DIR_H
#define MLY_TEST_TEMP_DIR_H

#include <stddef.h>

#define TEMP_DIR_BYTES 256
/* Makes a new folder under $TMPDIR, /dev/shm or /tmp and writes its path. Aborts the test program
 * where it cannot. */
void temp_dir_make(char path[TEMP_DIR_BYTES]);
/* Removes it and everything below; a missing one is fine. Symbolic links are not followed. */
void temp_dir_remove(const char *path);
/* Writes a file below dir (parents exist). */
void temp_dir_write(const char *dir, const char *name, const void *data, size_t bytes);

#endif

/* What stands in a folder of a table.
 *
 * In: the folder's name. Out: each name in it, in no order; a folder that is not there has none. */
#include "lance/lance_int.h"

enum mly_err mly_lance_each_name(const struct mly_lance_table *table, const char *folder,
                                 mly_lance_name_fn fn, void *context, struct mly_error *err)
{
    struct lance_path path;
    struct mly_dir dir;
    bool exists = false;
    mly_lance_path(table, folder, NULL, &path);
    MLY_TRY(mly_file_exists(table->env, MLY_AT_CWD, path.text, &exists, err));
    if (!exists) return MLY_OK;
    MLY_TRY(mly_dir_open(table->env, MLY_AT_CWD, path.text, &dir, err));
    enum mly_err rc;
    for (;;) {
        const char *name;
        rc = mly_dir_next(&dir, &name, err);
        if (rc != MLY_OK) rc = mly_fail_in(err, rc, "%s", path.text);
        if (rc != MLY_OK || name == NULL) break;
        rc = fn(context, folder, name, err);
        if (rc != MLY_OK) break;
    }
    mly_dir_close(&dir);
    return rc;
}

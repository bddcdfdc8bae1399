/* Large pages on their way to the file, by a thread of their own: copying them into the system's
 * cache takes as long as summing them does.
 *
 * In: pages with their places. Out: the same file as without the thread; nobody else touches the
 * file until the thread is joined, so that the order of what the system is asked stays the same. */
#include "lance/lance_int.h"
#include "lance/lance_writer_int.h"

static void *run(void *argument)
{
    struct mly_lance_writer *writer = argument;
    struct lance_ahead *ahead = &writer->ahead;
    for (size_t i = 0; i < ahead->count && ahead->rc == MLY_OK; i++) {
        const struct lance_ahead_page *page = &ahead->pages[i];
        for (uint64_t at = 0; at < page->bytes && ahead->rc == MLY_OK;) {
            uint64_t offset = page->offset + at;
            uint64_t part = LANCE_WRITE_BYTES - offset % LANCE_WRITE_BYTES;
            if (part > page->bytes - at) part = page->bytes - at;
            ahead->rc =
                mly_lance_write_at(writer, page->data + at, (size_t)part, offset, &ahead->err);
            at += part;
        }
    }
    return NULL;
}

void mly_lance_ahead_start(struct mly_lance_writer *writer)
{
    const struct mly_env *env = writer->table->env;
    struct lance_ahead *ahead = &writer->ahead;
    ahead->running = env->thread_start(env->context, run, writer, &ahead->thread) == 0;
    if (!ahead->running) (void)run(writer);
}

enum mly_err mly_lance_ahead_join(struct mly_lance_writer *writer, struct mly_error *err)
{
    const struct mly_env *env = writer->table->env;
    struct lance_ahead *ahead = &writer->ahead;
    if (ahead->pages == NULL) return MLY_OK;
    if (ahead->running) (void)env->thread_join(env->context, ahead->thread);
    ahead->running = false;
    mly_mem_free(env->mem, ahead->pages);
    ahead->pages = NULL;
    ahead->count = 0;
    return ahead->rc == MLY_OK ? MLY_OK : mly_fail(err, ahead->rc, "%s", ahead->err.message);
}

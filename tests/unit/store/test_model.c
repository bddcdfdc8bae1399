/* Random operations on a store, through two handles, compared with a plain array after each. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DOCUMENTS 40
#define HANDLES 2
#define BATCH_MAX 8

struct world {
    char folder[TEMP_DIR_BYTES];
    struct mly_store *stores[HANDLES];
    struct case_entry entries[DOCUMENTS];
    uint64_t random;
};

static void open_handle(struct world *world, size_t i)
{
    struct mly_error err = {0};
    struct mly_store_options options = case_options();
    case_ok(mly_store_open(mly_env_system(), world->folder, &options, &world->stores[i], &err),
            &err);
}

/* A batch of changes to different documents, and what they make of the entries. */
static void change_some(struct world *world, struct mly_store *store)
{
    static struct case_document documents[BATCH_MAX];
    struct mly_change changes[BATCH_MAX];
    struct mly_error err = {0};
    bool used[DOCUMENTS] = {false};
    size_t count = 0;
    size_t wanted = 1 + case_random(&world->random) % BATCH_MAX;
    for (size_t i = 0; i < wanted; i++) {
        uint32_t number = case_random(&world->random) % DOCUMENTS;
        if (used[number]) continue;
        used[number] = true;
        struct case_entry *entry = &world->entries[number];
        uint32_t what = case_random(&world->random) % 10;
        if (what < 5) {
            *entry = case_entry(true, 1 + case_random(&world->random) % 9, 0);
        } else if (what == 5 && (!entry->there || entry->version == 0)) {
            *entry = case_entry(true, 0, case_random(&world->random) % 100);
        } else if (what < 8 && entry->there) {
            entry->stamp = case_random(&world->random) % 1000;
        } else if (what >= 8) {
            entry->there = false;
        } else {
            continue;
        }
        case_make(&documents[count], number, entry->version, entry->stamp);
        changes[count] = case_change(&documents[count]);
        if (what >= 5 && what < 8) changes[count].kind = MLY_CHANGE_TOUCH;
        if (!entry->there) changes[count].kind = MLY_CHANGE_REMOVE;
        count++;
    }
    case_ok(case_commit(store, changes, count, &err), &err);
}

static void a_store_equals_a_plain_array_after_every_step(void **state)
{
    (void)state;
    const char *given = getenv("MLY_TEST_SEED");
    const char *steps_given = getenv("MLY_TEST_STEPS");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    unsigned long steps = steps_given != NULL ? strtoul(steps_given, NULL, 10) : 150;
    printf("# seed %llu, %lu steps\n", (unsigned long long)seed, steps);
    static struct world world;
    memset(&world, 0, sizeof(world));
    world.random = seed * 2 + 1;
    temp_dir_make(world.folder);
    for (size_t i = 0; i < HANDLES; i++)
        open_handle(&world, i);
    for (unsigned long step = 0; step < steps; step++) {
        uint32_t what = case_random(&world.random);
        size_t handle = case_random(&world.random) % HANDLES;
        if (what % 8 == 0) {
            (void)mly_store_close(world.stores[handle], NULL);
            open_handle(&world, handle);
        } else {
            change_some(&world, world.stores[handle]);
        }
        /* Now and then a handle is left behind, so that it has several commits to catch up with. */
        size_t looker = case_random(&world.random) % HANDLES;
        case_check(world.stores[looker], world.entries, DOCUMENTS);
    }
    for (size_t i = 0; i < HANDLES; i++) {
        case_check(world.stores[i], world.entries, DOCUMENTS);
        (void)mly_store_close(world.stores[i], NULL);
    }
    temp_dir_remove(world.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_equals_a_plain_array_after_every_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A disk that is full at any point: the call that does not fit fails and changes nothing, what was
 * acknowledged is there, searches and removals still work, and with room again all goes on. On a
 * small tmpfs in a mount namespace of the test's own. */
#define _GNU_SOURCE
#include "driver.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIM 8
#define DOCUMENTS 64
#define CONTENT_BYTES 3000
#define DISK_BYTES (64u << 20)
#define STEPS 40
#define STEPS_LONG 600
#define EXIT_NO_MOUNT 77

static char dir[TEMP_DIR_BYTES], store_path[TEMP_DIR_BYTES + 16];

/* The version of each document that is there; 0: none. */
struct ledger {
    uint32_t versions[DOCUMENTS];
};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
    _exit(1);
}

/* ---- the disk ---- */

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, text, strlen(text)) < 0) (void)errno; /* the mount will tell */
    close(fd);
}

/* In a child: false where this machine does not allow it. */
static bool mount_disk(void)
{
    char map[64], options[64];
    unsigned user = (unsigned)geteuid(), group = (unsigned)getegid();
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
        (void)snprintf(map, sizeof(map), "0 %u 1", user);
        write_text("/proc/self/setgroups", "deny");
        write_text("/proc/self/uid_map", map);
        (void)snprintf(map, sizeof(map), "0 %u 1", group);
        write_text("/proc/self/gid_map", map);
    }
    (void)snprintf(options, sizeof(options), "size=%u,mode=0700", DISK_BYTES);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return false;
    return mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}

static uint64_t free_bytes(void)
{
    struct statvfs info;
    if (statvfs(dir, &info) != 0) die("no statvfs");
    return (uint64_t)info.f_bavail * info.f_bsize;
}

/* Leaves so many bytes; the file takes the rest. */
static void leave(uint64_t bytes)
{
    char path[TEMP_DIR_BYTES + 32];
    (void)snprintf(path, sizeof(path), "%s/ballast", dir);
    (void)unlink(path);
    uint64_t room = free_bytes();
    if (room <= bytes) return;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)(room - bytes)) != 0) die("no ballast");
    close(fd);
}

/* ---- the store ---- */

static memalloy_kernel *open_store(void)
{
    struct memalloy_options options = {
        .struct_bytes = sizeof(options), .flags = MEMALLOY_OPEN_NO_MODEL, .dim = DIM};
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = NULL;
    if (memalloy_open(&kernel, store_path, &options, &err) != MEMALLOY_OK) die("%s", err.message);
    return kernel;
}

static void make(uint32_t number, uint32_t version, char id[16], char content[CONTENT_BYTES + 1],
                 float vector[DIM])
{
    uint64_t state = number * 1000003ull + version * 2ull + 1;
    (void)snprintf(id, 16, "d%u", number);
    for (size_t i = 0; i < CONTENT_BYTES; i++)
        content[i] = (char)('a' + driver_random(&state) % 26);
    content[CONTENT_BYTES] = '\0';
    for (size_t i = 0; i < DIM; i++)
        vector[i] = (float)(driver_random(&state) % 2001) / 1000.0f - 1.0f;
}

static int put(memalloy_kernel *kernel, uint32_t number, uint32_t version,
               struct memalloy_error *err)
{
    char id[16], content[CONTENT_BYTES + 1];
    float vector[DIM];
    make(number, version, id, content, vector);
    struct memalloy_str text = {content, CONTENT_BYTES};
    struct memalloy_add_options options = {.struct_bytes = sizeof(options),
                                           .document_id = {id, strlen(id)}};
    return memalloy_add_vectors(kernel, &text, vector, 1, DIM, &options, NULL, err);
}

static int take_out(memalloy_kernel *kernel, uint32_t number, struct memalloy_error *err)
{
    char id[16];
    int removed = 0;
    (void)snprintf(id, sizeof(id), "d%u", number);
    return memalloy_remove_document(kernel, (struct memalloy_str){id, strlen(id)}, NULL, &removed,
                                    err);
}

static void check_one(memalloy_kernel *kernel, uint32_t number, uint32_t version, const char *when)
{
    char id[16], content[CONTENT_BYTES + 1];
    float vector[DIM];
    struct memalloy_error err = {0};
    memalloy_documents *documents = NULL;
    memalloy_hits *hits = NULL;
    make(number, version, id, content, vector);
    int rc = memalloy_get_document(kernel, (struct memalloy_str){id, strlen(id)}, &documents, &err);
    if (version == 0) {
        if (rc != MEMALLOY_ERR_NOTFOUND) die("%s: %s is there (%s)", when, id, err.message);
        return;
    }
    if (rc != MEMALLOY_OK) die("%s: %s: %s", when, id, err.message);
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    memalloy_documents_get(documents, 0, &document);
    if (document.altered != 0 || document.content.bytes != CONTENT_BYTES ||
        memcmp(document.content.data, content, CONTENT_BYTES) != 0) {
        die("%s: %s has another text", when, id);
    }
    memalloy_documents_destroy(documents);
    struct memalloy_search_options options = {.struct_bytes = sizeof(options), .top_k = 1};
    if (memalloy_search_vector(kernel, vector, DIM, &options, &hits, &err) != MEMALLOY_OK) {
        die("%s: a search fails: %s", when, err.message);
    }
    struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
    if (memalloy_hits_count(hits) != 1) die("%s: nothing is found", when);
    memalloy_hits_get(hits, 0, &hit);
    if (strcmp(hit.document_id.data, id) != 0) {
        die("%s: the vector of %s finds %s", when, id, hit.document_id.data);
    }
    memalloy_hits_destroy(hits);
}

static void check(memalloy_kernel *kernel, const struct ledger *ledger, const char *when)
{
    uint64_t count = 0, expected = 0;
    struct memalloy_error err = {0};
    for (uint32_t i = 0; i < DOCUMENTS; i++) {
        check_one(kernel, i, ledger->versions[i], when);
        expected += ledger->versions[i] != 0;
    }
    if (memalloy_count(kernel, &count, &err) != MEMALLOY_OK) die("%s: %s", when, err.message);
    if (count != expected) {
        die("%s: %llu documents, should be %llu", when, (unsigned long long)count,
            (unsigned long long)expected);
    }
}

/* ---- the test, in a child ---- */

struct tally {
    uint64_t refused, removed_full, removals_refused, closes_refused;
};

/* With so many bytes left: puts until one does not fit, removes, makes room, goes on. */
static void one_step(struct ledger *ledger, uint64_t bytes, uint32_t version, struct tally *tally)
{
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = open_store();
    leave(bytes);
    for (uint32_t i = 0; i < DOCUMENTS; i++) {
        err = (struct memalloy_error){0};
        int rc = put(kernel, i, version, &err);
        if (rc == MEMALLOY_OK) {
            ledger->versions[i] = version;
            continue;
        }
        tally->refused++;
        if (rc != MEMALLOY_ERR_IO || err.system_errno != ENOSPC || err.message[0] == '\0') {
            die("%llu bytes left: error %d (errno %d): %s", (unsigned long long)bytes, rc,
                err.system_errno, err.message);
        }
        break;
    }
    check(kernel, ledger, "full");
    uint32_t victim = version % DOCUMENTS;
    bool was_there = ledger->versions[victim] != 0;
    int rc = take_out(kernel, victim, &err);
    if (rc == MEMALLOY_OK) {
        ledger->versions[victim] = 0;
        tally->removed_full += was_there;
    } else {
        tally->removals_refused++;
        (void)fprintf(stderr, "%llu bytes left: a removal fails: %s\n", (unsigned long long)bytes,
                      err.message);
    }
    check(kernel, ledger, "full, after a removal");
    tally->closes_refused += memalloy_close(kernel, &err) != MEMALLOY_OK;
    kernel = open_store();
    check(kernel, ledger, "full, opened again");
    leave(free_bytes() + DISK_BYTES);
    if (put(kernel, victim, version + 1, &err) != MEMALLOY_OK) {
        die("with room again: %s", err.message);
    }
    ledger->versions[victim] = version + 1;
    check(kernel, ledger, "with room again");
    if (memalloy_close(kernel, &err) != MEMALLOY_OK) die("closing, with room: %s", err.message);
}

static void child_fills(uint64_t steps, int pipe_fd)
{
    struct ledger ledger = {{0}};
    struct tally tally = {0};
    uint64_t random = 7;
    if (!mount_disk()) _exit(EXIT_NO_MOUNT);
    (void)snprintf(store_path, sizeof(store_path), "%s/kb", dir);
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t most = step % 2 == 0 ? 40 : 400; /* pages */
        one_step(&ledger, driver_random(&random) % most * 4096, (uint32_t)step * 2 + 1, &tally);
    }
    if (write(pipe_fd, &tally, sizeof(tally)) != sizeof(tally)) _exit(1);
    _exit(0);
}

static void a_full_disk_costs_nothing_but_what_does_not_fit(void **state)
{
    (void)state;
    int fds[2], status = 0;
    struct tally tally = {0};
    uint64_t steps = driver_is_long() ? STEPS_LONG : STEPS;
    temp_dir_make(dir);
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) child_fills(steps, fds[1]);
    close(fds[1]);
    bool told = read(fds[0], &tally, sizeof(tally)) == (ssize_t)sizeof(tally);
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    temp_dir_remove(dir);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_MOUNT) {
        print_message("skip: no tmpfs can be mounted here (CAP_SYS_ADMIN)\n");
        skip();
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0 && told);
    print_message("ran: %llu times full, %llu adds refused, %llu removals on the full disk\n",
                  (unsigned long long)steps, (unsigned long long)tally.refused,
                  (unsigned long long)tally.removed_full);
    assert_true(tally.refused > steps / 2);
    assert_int_equal(tally.removals_refused, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_costs_nothing_but_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

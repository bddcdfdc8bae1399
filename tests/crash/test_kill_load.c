/* kill -9 in the middle of loads of more than 8 MB, which go round the log: each is there as a
 * whole or not at all, and the one before it until then. */
#define _GNU_SOURCE
#include "driver.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOCUMENTS 2600u
#define CONTENT_BYTES 4000u
#define DIM 8u
#define KILLS 25
#define KILLS_LONG 300

/* One load's arguments, made once: only metadata and a digit of the contents change. */
struct load {
    struct memalloy_str contents[DOCUMENTS];
    struct memalloy_add_options options[DOCUMENTS];
    float vectors[DOCUMENTS * DIM];
    char ids[DOCUMENTS][16], metadata[48];
};

static struct load *load_make(void)
{
    struct load *load = calloc(1, sizeof(*load));
    uint64_t random = 5;
    if (load == NULL) abort();
    for (size_t i = 0; i < DOCUMENTS; i++) {
        char *text = malloc(CONTENT_BYTES + 1);
        if (text == NULL) abort();
        for (size_t k = 0; k < CONTENT_BYTES; k++)
            text[k] = (char)('a' + driver_random(&random) % 26);
        text[CONTENT_BYTES] = '\0';
        load->contents[i] = (struct memalloy_str){text, CONTENT_BYTES};
        (void)snprintf(load->ids[i], sizeof(load->ids[i]), "load-%zu", i);
        for (size_t k = 0; k < DIM; k++)
            load->vectors[i * DIM + k] = (float)(driver_random(&random) % 2001) / 1000.0f - 1.0f;
    }
    return load;
}

static void load_free(struct load *load)
{
    for (size_t i = 0; i < DOCUMENTS; i++)
        free((void *)(uintptr_t)load->contents[i].data);
    free(load);
}

static void load_number(struct load *load, uint64_t number)
{
    (void)snprintf(load->metadata, sizeof(load->metadata), "{\"load\":%llu}",
                   (unsigned long long)number);
    for (size_t i = 0; i < DOCUMENTS; i++) {
        ((char *)(uintptr_t)load->contents[i].data)[0] = (char)('a' + number % 26);
        load->options[i] = (struct memalloy_add_options){
            .struct_bytes = sizeof(load->options[i]),
            .document_id = {load->ids[i], strlen(load->ids[i])},
            .metadata = {load->metadata, strlen(load->metadata)},
        };
    }
}

static void give_up(struct driver_board *board, const char *message)
{
    (void)snprintf(board->why, sizeof(board->why), "%s", message);
    _exit(1);
}

static memalloy_kernel *open_store(struct driver_board *board)
{
    struct memalloy_options options = {
        .struct_bytes = sizeof(options), .flags = MEMALLOY_OPEN_NO_MODEL, .dim = DIM};
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = NULL;
    if (memalloy_open(&kernel, driver_folder, &options, &err) != MEMALLOY_OK) {
        give_up(board, err.message);
    }
    return kernel;
}

static void child_loads(struct driver_board *board, struct load *load)
{
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = open_store(board);
    for (uint64_t number = atomic_load(&board->marks[0].acked) + 1;; number++) {
        load_number(load, number);
        atomic_store(&board->marks[0].began, number);
        if (memalloy_add_vectors(kernel, load->contents, load->vectors, DOCUMENTS, DIM,
                                 load->options, NULL, &err) != MEMALLOY_OK) {
            give_up(board, err.message);
        }
        atomic_store(&board->marks[0].acked, number);
    }
}

/* The number that all documents have; 0: there are none. */
static uint64_t find_number(struct driver_board *board, memalloy_kernel *kernel,
                            const struct load *load)
{
    struct memalloy_error err = {0};
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    memalloy_documents *documents = NULL;
    unsigned long long number = 0, other = 0;
    if (memalloy_list_documents(kernel, 0, (struct memalloy_str){NULL, 0}, &documents, &err) !=
        MEMALLOY_OK) {
        give_up(board, err.message);
    }
    size_t count = memalloy_documents_count(documents);
    if (count != 0 && count != DOCUMENTS) give_up(board, "a load is there in part");
    for (size_t i = 0; i < count; i++) {
        memalloy_documents_get(documents, i, &document);
        if (sscanf(document.metadata.data, "{\"load\":%llu}", &other) != 1 ||
            (i > 0 && other != number)) {
            give_up(board, "two loads are mixed");
        }
        number = other;
    }
    memalloy_documents_destroy(documents);
    for (size_t i = 0; i < count; i += 100) {
        struct memalloy_str id = {load->ids[i], strlen(load->ids[i])};
        if (memalloy_get_document(kernel, id, &documents, &err) != MEMALLOY_OK) {
            give_up(board, err.message);
        }
        memalloy_documents_get(documents, 0, &document);
        if (document.content.bytes != CONTENT_BYTES || document.altered != 0 ||
            document.content.data[0] != (char)('a' + number % 26) ||
            memcmp(document.content.data + 1, load->contents[i].data + 1, CONTENT_BYTES - 1) != 0) {
            give_up(board, "a text of another load");
        }
        memalloy_documents_destroy(documents);
    }
    return number;
}

static void child_checks(struct driver_board *board, const struct load *load)
{
    uint64_t acked = atomic_load(&board->marks[0].acked);
    uint64_t found[2];
    for (int time = 0; time < 2; time++) {
        struct memalloy_error err = {0};
        struct memalloy_status status = {.struct_bytes = sizeof(status)};
        memalloy_kernel *kernel = open_store(board);
        found[time] = find_number(board, kernel, load);
        if (memalloy_get_status(kernel, &status, &err) != MEMALLOY_OK ||
            status.chunks != status.documents) {
            give_up(board, "documents and chunks are not as many");
        }
        if (memalloy_close(kernel, &err) != MEMALLOY_OK) give_up(board, err.message);
    }
    if (found[0] != found[1]) give_up(board, "opened again it is another load");
    if (found[0] < acked) give_up(board, "an acknowledged load is lost");
    if (found[0] > atomic_load(&board->marks[0].began)) give_up(board, "a load of the future");
    board->found[0] = found[0];
    _exit(0);
}

static void a_large_load_is_there_whole_or_not_at_all(void **state)
{
    (void)state;
    struct driver_board *board = driver_board_make();
    struct load *load = load_make();
    uint64_t seed = driver_seed(), random = seed * 2 + 1,
             kills = driver_is_long() ? KILLS_LONG : KILLS;
    uint64_t unacked_seen = 0;
    for (uint64_t i = 0; i < kills; i++) {
        int status = 0;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) child_loads(board, load);
        /* Every other one is let finish a load, so that there is something to be lost. */
        uint64_t acked = atomic_load(&board->marks[0].acked);
        for (int k = 0; i % 2 == 0 && k < 20000 && atomic_load(&board->marks[0].acked) == acked;
             k++)
            usleep(1000);
        usleep((useconds_t)(driver_random(&random) % 300000));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFSIGNALED(status)) fail_msg("the writer ended: %s", board->why);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) child_checks(board, load);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fail_msg("kill %llu, MLY_TEST_SEED=%llu: status %d: %s", (unsigned long long)i,
                     (unsigned long long)seed, status, board->why);
        }
        unacked_seen += board->found[0] > atomic_load(&board->marks[0].acked);
        atomic_store(&board->marks[0].acked, board->found[0]);
    }
    print_message("ran: %llu kills of loads of %.1f MB, %llu loads acknowledged, %llu there before "
                  "it (seed %llu)\n",
                  (unsigned long long)kills, DOCUMENTS * (CONTENT_BYTES + 4.0 * DIM) / 1e6,
                  (unsigned long long)atomic_load(&board->marks[0].acked),
                  (unsigned long long)unacked_seen, (unsigned long long)seed);
    assert_true(atomic_load(&board->marks[0].acked) > 0);
    load_free(load);
    driver_board_free(board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_large_load_is_there_whole_or_not_at_all, driver_set_up,
                                        driver_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

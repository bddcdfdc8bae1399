/* Vectors as Arrow IPC, a stream or a file: columns index (int64), id (utf8, where ids were asked
 * for), text (utf8), truncated (bool) and vector (fixed size list of float32). Every put is a
 * record batch of its own. Flatbuffers are written from front to back: parents first, and the
 * places of what they point to filled in when it is known. */
#include "cli.h"

#include <string.h>

/* Of Arrow's Schema.fbs and Message.fbs. */
enum { VERSION_5 = 4, HEADER_SCHEMA = 1, HEADER_BATCH = 3 };
enum { TYPE_INT = 2, TYPE_FLOAT = 3, TYPE_UTF8 = 5, TYPE_BOOL = 6, TYPE_FIXED_LIST = 16 };
enum { SINGLE = 1 };

#define FIELDS_MAX 8
#define COLUMNS_MAX 5

struct block {
    uint64_t offset, metadata_bytes, body_bytes;
};

struct arrow {
    bool file;
    uint64_t at;           /* bytes written */
    struct cli_buf blocks; /* struct block of each batch, for the file's footer */
    struct cli_buf meta, body;
};

/* ---- flatbuffers ---- */

static void pad(struct cli_buf *buf, size_t multiple, size_t rest)
{
    static const char zeros[8] = {0};
    while (buf->bytes % multiple != rest) {
        cli_buf_add(buf, zeros, 1);
    }
}

static void put_number(struct cli_buf *buf, uint64_t number, size_t bytes)
{
    char out[8];
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (char)(number >> (8 * i));
    }
    cli_buf_add(buf, out, bytes);
}

static void set_number(struct cli_buf *buf, size_t place, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        buf->data[place + i] = (char)(number >> (8 * i));
    }
}

/* Lets the offset at place point to what is written next, at target. */
static void point(struct cli_buf *buf, size_t place, size_t target)
{
    set_number(buf, place, target - place, 4);
}

/* One field of a table: a number of so many bytes, or, with place, an offset to fill in. */
struct slot {
    unsigned number;
    size_t bytes;
    uint64_t value;
    size_t *place;
};

/* Writes a vtable and its table; the largest fields first, so that all are aligned. */
static size_t put_table(struct cli_buf *buf, const struct slot *slots, size_t count)
{
    static const size_t sizes[] = {8, 4, 2, 1};
    uint16_t offsets[FIELDS_MAX] = {0};
    unsigned last = 0;
    size_t inside = 4;
    for (size_t s = 0; s < 4; s++) {
        for (size_t i = 0; i < count; i++) {
            if (slots[i].bytes == sizes[s]) {
                offsets[slots[i].number] = (uint16_t)inside;
                inside += slots[i].bytes;
                last = slots[i].number + 1 > last ? slots[i].number + 1 : last;
            }
        }
    }
    const size_t vtable_bytes = 4 + 2 * (size_t)last;
    pad(buf, 8, (12 - vtable_bytes % 8) % 8); /* the table at 4 of 8: eights are aligned */
    const size_t vtable = buf->bytes;
    put_number(buf, vtable_bytes, 2);
    put_number(buf, inside, 2);
    for (unsigned i = 0; i < last; i++) {
        put_number(buf, offsets[i], 2);
    }
    const size_t table = buf->bytes;
    put_number(buf, table - vtable, 4);
    for (size_t s = 0; s < 4; s++) {
        for (size_t i = 0; i < count; i++) {
            if (slots[i].bytes != sizes[s]) {
                continue;
            }
            if (slots[i].place != NULL) {
                *slots[i].place = buf->bytes;
            }
            put_number(buf, slots[i].value, slots[i].bytes);
        }
    }
    return table;
}

static void put_string(struct cli_buf *buf, size_t place, struct memalloy_str text)
{
    pad(buf, 4, 0);
    point(buf, place, buf->bytes);
    put_number(buf, text.bytes, 4);
    cli_buf_add(buf, text.data, text.bytes);
    put_number(buf, 0, 1);
}

/* A vector of count offsets, to be filled in; gives the place of the first. */
static size_t put_offsets(struct cli_buf *buf, size_t place, size_t count)
{
    pad(buf, 4, 0);
    point(buf, place, buf->bytes);
    put_number(buf, count, 4);
    const size_t first = buf->bytes;
    for (size_t i = 0; i < count; i++) {
        put_number(buf, 0, 4);
    }
    return first;
}

/* The head of a vector of structs with numbers of eight bytes. */
static void begin_structs(struct cli_buf *buf, size_t place, size_t count)
{
    pad(buf, 8, 4);
    point(buf, place, buf->bytes);
    put_number(buf, count, 4);
}

/* ---- the schema ---- */

struct column {
    const char *name;
    unsigned type;
    uint64_t size; /* bits of an int, length of a list */
};

static size_t columns_of(const struct cli_writer *writer, struct column out[COLUMNS_MAX])
{
    size_t count = 0;
    out[count++] = (struct column){"index", TYPE_INT, 64};
    if (writer->args->id_field != NULL) {
        out[count++] = (struct column){"id", TYPE_UTF8, 0};
    }
    out[count++] = (struct column){"text", TYPE_UTF8, 0};
    out[count++] = (struct column){"truncated", TYPE_BOOL, 0};
    out[count++] = (struct column){"vector", TYPE_FIXED_LIST, writer->info->dim};
    return count;
}

static void put_field(struct cli_buf *buf, size_t place, const struct column *column)
{
    size_t name = 0, type = 0, children = 0;
    const bool nullable = strcmp(column->name, "id") == 0;
    const struct slot field[] = {{0, 4, 0, &name},
                                 {1, 1, nullable, NULL},
                                 {2, 1, column->type, NULL},
                                 {3, 4, 0, &type},
                                 {5, 4, 0, &children}};
    const size_t table = put_table(buf, field, 5);
    point(buf, place, table);
    put_string(buf, name, cli_str(column->name));
    const struct slot whole[] = {{0, 4, column->size, NULL}, {1, 1, 1, NULL}};
    const struct slot single[] = {{0, 2, SINGLE, NULL}};
    const struct slot list[] = {{0, 4, column->size, NULL}};
    size_t type_table = 0;
    switch (column->type) {
    case TYPE_INT:
        type_table = put_table(buf, whole, 2);
        break;
    case TYPE_FLOAT:
        type_table = put_table(buf, single, 1);
        break;
    case TYPE_FIXED_LIST:
        type_table = put_table(buf, list, 1);
        break;
    default: /* utf8, bool: nothing to say */
        type_table = put_table(buf, NULL, 0);
    }
    point(buf, type, type_table);
    const bool is_list = column->type == TYPE_FIXED_LIST;
    const size_t child = put_offsets(buf, children, is_list);
    if (is_list) {
        put_field(buf, child, &(struct column){"item", TYPE_FLOAT, 0});
    }
}

/* What the vectors are of, so that a table says it wherever it goes. */
static void put_notes(struct cli_buf *buf, size_t place, const struct memalloy_model_info *info,
                      int kind)
{
    const struct {
        const char *key;
        struct memalloy_str value;
    } notes[] = {
        {"memalloy.model_id", info->id},
        {"memalloy.model_hash", info->hash},
        {"memalloy.model_pooling", info->pooling},
        {"memalloy.model_quantisation", info->quantisation},
        {"memalloy.kind", cli_str(kind == MEMALLOY_EMBED_QUERY ? "query" : "passage")},
    };
    const size_t count = sizeof(notes) / sizeof(notes[0]);
    const size_t first = put_offsets(buf, place, count);
    for (size_t i = 0; i < count; i++) {
        size_t key = 0, value = 0;
        const struct slot pair[] = {{0, 4, 0, &key}, {1, 4, 0, &value}};
        const size_t table = put_table(buf, pair, 2);
        point(buf, first + 4 * i, table);
        put_string(buf, key, cli_str(notes[i].key));
        put_string(buf, value, notes[i].value);
    }
}

static void put_schema(struct cli_buf *buf, size_t place, const struct cli_writer *writer)
{
    struct column columns[COLUMNS_MAX];
    const size_t count = columns_of(writer, columns);
    size_t fields = 0, notes = 0;
    const struct slot schema[] = {{0, 2, 0, NULL}, {1, 4, 0, &fields}, {2, 4, 0, &notes}};
    const size_t table = put_table(buf, schema, 3);
    point(buf, place, table);
    const size_t first = put_offsets(buf, fields, count);
    for (size_t i = 0; i < count; i++) {
        put_field(buf, first + 4 * i, &columns[i]);
    }
    put_notes(buf, notes, writer->info, writer->args->kind);
}

/* ---- messages ---- */

static void write_out(struct arrow *arrow, const void *data, size_t bytes)
{
    cli_write(data, bytes);
    arrow->at += bytes;
}

static void write_number(struct arrow *arrow, uint32_t number)
{
    struct cli_buf buf = {0};
    put_number(&buf, number, 4);
    write_out(arrow, buf.data, 4);
    cli_buf_free(&buf);
}

/* Begins a message in meta; gives the place of the offset to its header. */
static size_t begin_message(struct arrow *arrow, unsigned header, uint64_t body_bytes)
{
    size_t place = 0;
    arrow->meta.bytes = 0;
    put_number(&arrow->meta, 0, 4);
    const struct slot message[] = {
        {0, 2, VERSION_5, NULL}, {1, 1, header, NULL}, {2, 4, 0, &place}, {3, 8, body_bytes, NULL}};
    const size_t table = put_table(&arrow->meta, message, 4);
    point(&arrow->meta, 0, table);
    return place;
}

static void write_message(struct arrow *arrow)
{
    pad(&arrow->meta, 8, 0);
    write_number(arrow, UINT32_MAX);
    write_number(arrow, (uint32_t)arrow->meta.bytes);
    write_out(arrow, arrow->meta.data, arrow->meta.bytes);
}

/* ---- a batch ---- */

struct buffers {
    uint64_t pairs[2 * 3 * COLUMNS_MAX]; /* offset and bytes */
    size_t count;
};

/* What was added to body since from is a buffer. */
static void note_buffer(struct arrow *arrow, struct buffers *buffers, size_t from)
{
    buffers->pairs[2 * buffers->count] = from;
    buffers->pairs[2 * buffers->count + 1] = arrow->body.bytes - from;
    buffers->count++;
    pad(&arrow->body, 8, 0);
}

/* One bit for each record, of its id's being there or of its having been cut off. */
static void put_bits(struct arrow *arrow, struct buffers *buffers, const struct cli_record *records,
                     size_t count, bool ids)
{
    const size_t from = arrow->body.bytes;
    for (size_t i = 0; i < count; i += 8) {
        unsigned byte = 0;
        for (size_t bit = 0; bit < 8 && i + bit < count; bit++) {
            const struct cli_record *record = &records[i + bit];
            byte |= (unsigned)(ids ? record->id.data != NULL : record->truncated) << bit;
        }
        put_number(&arrow->body, byte, 1);
    }
    note_buffer(arrow, buffers, from);
}

static void put_texts(struct arrow *arrow, struct buffers *buffers,
                      const struct cli_record *records, size_t count, bool ids)
{
    size_t from = arrow->body.bytes;
    uint64_t end = 0;
    put_number(&arrow->body, 0, 4);
    for (size_t i = 0; i < count; i++) {
        end += ids ? records[i].id.bytes : records[i].text.bytes;
        put_number(&arrow->body, end, 4);
    }
    note_buffer(arrow, buffers, from);
    from = arrow->body.bytes;
    for (size_t i = 0; i < count; i++) {
        const struct memalloy_str text = ids ? records[i].id : records[i].text;
        cli_buf_add(&arrow->body, text.data, text.bytes);
    }
    note_buffer(arrow, buffers, from);
}

/* Fills body; a buffer of no bytes says that no value of a column is null. */
static void fill_body(struct cli_writer *writer, struct buffers *buffers,
                      const struct cli_record *records, const float *vectors, size_t count)
{
    struct arrow *arrow = writer->state;
    arrow->body.bytes = 0;
    note_buffer(arrow, buffers, 0);
    for (size_t i = 0; i < count; i++) {
        put_number(&arrow->body, records[i].index, 8);
    }
    note_buffer(arrow, buffers, 0);
    if (writer->args->id_field != NULL) {
        put_bits(arrow, buffers, records, count, true);
        put_texts(arrow, buffers, records, count, true);
    }
    note_buffer(arrow, buffers, arrow->body.bytes);
    put_texts(arrow, buffers, records, count, false);
    note_buffer(arrow, buffers, arrow->body.bytes);
    put_bits(arrow, buffers, records, count, false);
    note_buffer(arrow, buffers, arrow->body.bytes); /* of the lists, and of what is in them */
    note_buffer(arrow, buffers, arrow->body.bytes);
    const size_t from = arrow->body.bytes;
    cli_buf_add(&arrow->body, (const char *)vectors, count * writer->info->dim * sizeof(float));
    note_buffer(arrow, buffers, from);
}

static void put_nodes(struct cli_writer *writer, size_t place, const struct cli_record *records,
                      size_t count)
{
    struct arrow *arrow = writer->state;
    struct column columns[COLUMNS_MAX];
    const size_t column_count = columns_of(writer, columns);
    uint64_t without_id = 0;
    for (size_t i = 0; i < count; i++) {
        without_id += records[i].id.data == NULL;
    }
    begin_structs(&arrow->meta, place, column_count + 1);
    for (size_t i = 0; i < column_count; i++) {
        put_number(&arrow->meta, count, 8);
        put_number(&arrow->meta, strcmp(columns[i].name, "id") == 0 ? without_id : 0, 8);
    }
    put_number(&arrow->meta, count * writer->info->dim, 8); /* the lists' items */
    put_number(&arrow->meta, 0, 8);
}

static void put(struct cli_writer *writer, const struct cli_record *records, const float *vectors,
                size_t count)
{
    struct arrow *arrow = writer->state;
    struct buffers buffers = {.count = 0};
    size_t nodes = 0, buffer_list = 0;
    fill_body(writer, &buffers, records, vectors, count);
    const size_t place = begin_message(arrow, HEADER_BATCH, arrow->body.bytes);
    const struct slot batch[] = {{0, 8, count, NULL}, {1, 4, 0, &nodes}, {2, 4, 0, &buffer_list}};
    const size_t table = put_table(&arrow->meta, batch, 3);
    point(&arrow->meta, place, table);
    put_nodes(writer, nodes, records, count);
    begin_structs(&arrow->meta, buffer_list, buffers.count);
    for (size_t i = 0; i < 2 * buffers.count; i++) {
        put_number(&arrow->meta, buffers.pairs[i], 8);
    }
    struct block block = {.offset = arrow->at, .body_bytes = arrow->body.bytes};
    write_message(arrow);
    block.metadata_bytes = arrow->at - block.offset;
    write_out(arrow, arrow->body.data, arrow->body.bytes);
    if (arrow->file) {
        cli_buf_add(&arrow->blocks, (const char *)&block, sizeof(block));
    }
    writer->rows += count;
}

/* ---- begin and end ---- */

/* The schema once more, and where each batch lies. */
static void write_footer(struct cli_writer *writer)
{
    struct arrow *arrow = writer->state;
    struct cli_buf *meta = &arrow->meta;
    const size_t count = arrow->blocks.bytes / sizeof(struct block);
    size_t schema = 0, dictionaries = 0, batches = 0;
    meta->bytes = 0;
    put_number(meta, 0, 4);
    const struct slot footer[] = {
        {0, 2, VERSION_5, NULL}, {1, 4, 0, &schema}, {2, 4, 0, &dictionaries}, {3, 4, 0, &batches}};
    const size_t table = put_table(meta, footer, 4);
    point(meta, 0, table);
    put_schema(meta, schema, writer);
    begin_structs(meta, dictionaries, 0);
    begin_structs(meta, batches, count);
    for (size_t i = 0; i < count; i++) {
        struct block block;
        memcpy(&block, arrow->blocks.data + i * sizeof(block), sizeof(block));
        put_number(meta, block.offset, 8);
        put_number(meta, block.metadata_bytes, 8); /* four bytes, and four of padding */
        put_number(meta, block.body_bytes, 8);
    }
    write_out(arrow, meta->data, meta->bytes);
    write_number(arrow, (uint32_t)meta->bytes);
    write_out(arrow, "ARROW1", 6);
}

static int finish(struct cli_writer *writer)
{
    struct arrow *arrow = writer->state;
    write_number(arrow, UINT32_MAX); /* the end of the stream */
    write_number(arrow, 0);
    if (arrow->file) {
        write_footer(writer);
    }
    cli_buf_free(&arrow->meta);
    cli_buf_free(&arrow->body);
    cli_buf_free(&arrow->blocks);
    cli_free(arrow);
    return CLI_OK;
}

void cli_writer_arrow(struct cli_writer *writer, bool file)
{
    struct arrow *arrow = cli_array(1, sizeof(*arrow));
    arrow->file = file;
    writer->state = arrow;
    writer->put = put;
    writer->close = finish;
    if (file) {
        write_out(arrow, "ARROW1\0\0", 8);
    }
    const size_t place = begin_message(arrow, HEADER_SCHEMA, 0);
    put_schema(&arrow->meta, place, writer);
    write_message(arrow);
}

/* protobuf-c with our allocator: bytes in, messages out and back. What unpacking may take is
 * bounded, because a message of two bytes becomes a struct of a hundred. Unknown fields stay in the
 * message and are packed again. */
#include "lance/lance_int.h"

struct unpack_state {
    struct mly_mem *mem;
    size_t bytes_left;
    bool out_of_memory, over_limit;
};

static void *unpack_alloc(void *data, size_t bytes)
{
    struct unpack_state *state = data;
    if (bytes > state->bytes_left) {
        state->over_limit = true;
        return NULL;
    }
    void *block = mly_mem_alloc(state->mem, bytes);
    if (block == NULL) {
        state->out_of_memory = true;
        return NULL;
    }
    state->bytes_left -= bytes;
    return block;
}

static void unpack_free(void *data, void *block)
{
    struct unpack_state *state = data;
    mly_mem_free(state->mem, block);
}

enum mly_err mly_lance_unpack(struct mly_mem *mem, const ProtobufCMessageDescriptor *type,
                              const uint8_t *data, size_t bytes, const char *what,
                              ProtobufCMessage **out, struct mly_error *err)
{
    struct unpack_state state = {.mem = mem, .bytes_left = LANCE_UNPACK_BYTES_MAX};
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, &state};
    /* protobuf-c wants a pointer even for no bytes. */
    static const uint8_t none[1] = {0};
    ProtobufCMessage *message =
        protobuf_c_message_unpack(type, &allocator, bytes, bytes == 0 ? none : data);
    if (message != NULL) {
        *out = message;
        return MLY_OK;
    }
    if (state.out_of_memory) return mly_fail_nomem(err, bytes);
    if (state.over_limit) {
        return mly_fail(err, MLY_ERR_LIMIT, "%s unpacks to more than %zu bytes", what,
                        LANCE_UNPACK_BYTES_MAX);
    }
    return mly_fail(err, MLY_ERR_CORRUPT, "%s: %zu bytes are no valid message", what, bytes);
}

void mly_lance_unpacked_free(struct mly_mem *mem, ProtobufCMessage *message)
{
    struct unpack_state state = {.mem = mem};
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, &state};
    protobuf_c_message_free_unpacked(message, &allocator);
}

enum mly_err mly_lance_pack(const ProtobufCMessage *message, struct mly_bytes *out,
                            struct mly_error *err)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    MLY_TRY(mly_bytes_reserve(out, bytes, err));
    out->bytes += protobuf_c_message_pack(message, out->data + out->bytes);
    return MLY_OK;
}

enum mly_err mly_lance_pack_section(const ProtobufCMessage *message, struct mly_bytes *out,
                                    struct mly_error *err)
{
    /* What does not fit into 32 bits does not fit into out either. */
    size_t bytes = protobuf_c_message_get_packed_size(message);
    MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)bytes, err));
    return mly_lance_pack(message, out, err);
}

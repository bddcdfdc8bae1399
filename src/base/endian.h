/* Numbers in the byte order of every file of ours: little end first, at any address. */
#ifndef MLY_BASE_ENDIAN_H
#define MLY_BASE_ENDIAN_H

#include <stdint.h>

/* Compilers make one load, or one store, of each of these. */
static inline uint16_t mly_get_u16le(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t mly_get_u32le(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t mly_get_u64le(const uint8_t *at)
{
    return (uint64_t)mly_get_u32le(at) | (uint64_t)mly_get_u32le(at + 4) << 32;
}

static inline void mly_put_u32le(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

static inline void mly_put_u64le(uint8_t *at, uint64_t value)
{
    mly_put_u32le(at, (uint32_t)value);
    mly_put_u32le(at + 4, (uint32_t)(value >> 32));
}

#endif

#!/usr/bin/env python3
"""Writes src/kern/crc32c_tables.c: the tables of CRC32C (polynomial 0x1EDC6F41, reflected) for eight bytes at a time.

    tools/make_crc_tables.py > src/kern/crc32c_tables.c
"""

POLYNOMIAL = 0x82F63B78  # reflected
SLICES = 8


def shift(crc: int, bits: int) -> int:
    for _ in range(bits):
        crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
    return crc


def power(exponent: int) -> int:
    """x^exponent mod P, reflected: what a product with it must have been shifted by."""
    return shift(1 << 31, exponent)


def main() -> None:
    print("/* Made by tools/make_crc_tables.py: table s has the CRC32C of a byte and s zero bytes behind it. */")
    print('#include "kern/crc32c_int.h"\n')
    print(f"const uint32_t mly_crc32c_table[{SLICES}][256] = {{")
    for slice_i in range(SLICES):
        print("    {")
        values = [f"0x{shift(byte, 8 * (slice_i + 1)):08x}u" for byte in range(256)]
        for at in range(0, 256, 8):
            print("        " + ", ".join(values[at : at + 8]) + ",")
        print("    },")
    print("};\n")
    print("/* x^(8 * bytes - 33): a carry-less product with it, put through crc32, is the CRC with that many zero bytes")
    print(" * behind it. */")
    print(f"const uint64_t mly_crc32c_stripe_1 = 0x{power(8 * 1024 - 33):08x}u;")
    print(f"const uint64_t mly_crc32c_stripe_2 = 0x{power(8 * 2048 - 33):08x}u;")


if __name__ == "__main__":
    main()

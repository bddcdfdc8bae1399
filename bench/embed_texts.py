"""The texts of bench_embed.py: passages of Python's own reference, which every machine has, of an exact length.

A text of n pieces is cut out of the running text at word borders where n pieces, [CLS] and [SEP] included, come out
exactly, so that no rival spends time on padding. The tokenizer is Hugging Face's; that ours gives the same ids is checked
by `make bench` and the tests.
"""

import struct

LENGTHS = (16, 64, 128, 256)
COUNTS = {16: 512, 64: 256, 128: 192, 256: 96}
CALIBRATION_COUNT = 48


def topics():
    from pydoc_data.topics import topics as found

    return [" ".join(found[name].split()) for name in sorted(found)]


def cut(tokenizer, texts, length, count):
    """count texts of exactly so many pieces, spread over all of them: (text, ids)."""
    parts = []
    for text in texts:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        words, spans = encoding.word_ids, encoding.offsets
        start, wanted = 0, length - 2
        while start + wanted < len(spans):
            if words[start] == words[start - 1] and start > 0:
                start += 1
                continue
            end = start + wanted
            part = text[spans[start][0] : spans[end - 1][1]]
            ids = tokenizer.encode(part).ids
            if words[end] != words[end - 1] and len(ids) == length:
                parts.append((part, ids))
                start = end
            else:
                start += 1
    if len(parts) < count:
        raise SystemExit(f"bench: {len(parts)} texts of {length} word pieces, {count} are needed")
    return [parts[i * len(parts) // count] for i in range(count)]


def make(tokenizer):
    """length -> [(text, ids)], and calibration sequences from topics that none of those come from."""
    every = topics()
    kept_apart = every[::6]
    timed = [text for i, text in enumerate(every) if i % 6]
    texts = {length: cut(tokenizer, timed, length, COUNTS[length]) for length in LENGTHS}
    calibration = []
    for length in LENGTHS:
        calibration += [ids for _, ids in cut(tokenizer, kept_apart, length, CALIBRATION_COUNT // len(LENGTHS))]
    return texts, calibration


def write_ids(path, sequences):
    """For `bench_embed serve`: i32 count, then per sequence its length and ids."""
    with open(path, "wb") as file:
        file.write(struct.pack("<i", len(sequences)))
        for ids in sequences:
            file.write(struct.pack(f"<{len(ids) + 1}i", len(ids), *ids))

"""BERT's uncased word pieces in plain Python, for texts that a model is calibrated with.

In: a vocabulary and a text. Out: ids with [CLS] and [SEP]. Slow and short; the library's own tokenizer is src/token.
Written from Devlin et al. 2018 and the published tokenizer's settings.
"""

import unicodedata

WORD_CHARACTERS_MAX = 100


def is_mark(character):
    """What stands alone: punctuation, and every other sign of ASCII that is neither letter nor digit."""
    ascii_sign = character.isascii() and not character.isalnum() and character > " "
    return ascii_sign or unicodedata.category(character).startswith("P")


def is_han(character):
    return any(
        low <= ord(character) <= high
        for low, high in ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF), (0x2F800, 0x2FA1F))
    )


def split_words(text):
    kept = []
    for character in text:
        if character in "\t\n\r" or unicodedata.category(character) == "Zs":
            kept.append(" ")
        elif unicodedata.category(character) not in ("Cc", "Cf", "Cn", "Co", "Cs") and character != "\ufffd":
            kept.append(f" {character} " if is_han(character) else character)
    letters = unicodedata.normalize("NFD", "".join(kept))
    # Letter by letter: of a whole word, a last sigma would become another letter.
    plain = "".join(c.lower() for c in letters if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if is_mark(c) else c for c in plain).split()


class WordPieces:
    def __init__(self, vocabulary):
        self.ids = {piece: i for i, piece in enumerate(vocabulary)}
        self.unknown, self.first, self.last = (self.ids[piece] for piece in ("[UNK]", "[CLS]", "[SEP]"))

    def word(self, word):
        """The longest piece that fits, again and again; a word that cannot be made up is one unknown piece."""
        if len(word) > WORD_CHARACTERS_MAX:
            return [self.unknown]
        found, start = [], 0
        while start < len(word):
            end = len(word)
            while end > start and ("##" if start else "") + word[start:end] not in self.ids:
                end -= 1
            if end == start:
                return [self.unknown]
            found.append(self.ids[("##" if start else "") + word[start:end]])
            start = end
        return found

    def encode(self, text, pieces_max):
        pieces = [piece for word in split_words(text) for piece in self.word(word)]
        return [self.first, *pieces[: pieces_max - 2], self.last]

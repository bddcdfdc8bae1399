#!/usr/bin/env python3
"""Writes tests/golden/token/*.jsonl: strings of our own and the word piece ids HF gives for them.

usage: make_golden.py [FOLDER]        needs: tokenizers==0.23.3

The tokenizer is put together from FOLDER/vocab.txt with the settings of all-MiniLM-L6-v2's
tokenizer.json, so that the model is not needed; --check MODEL_TOKENIZER_JSON compares the two.
"""
import hashlib
import json
import random
import sys
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

HF_VERSION = "0.23.3"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

SENTENCES = """\
The quick-witted librarian re-shelved 1,024 books; she wasn't unaffable.
Über den Wäldern öffnet sich früh ein weißer, STRASSEN-breiter Nebel. ẞ
À l'été, l'élève où naïve garçon reçoit son cœur – ça coûte 3,50 €.
¿Dónde está el pingüino? ¡Mañana cumplirá años en el jardín!
Ação, coração e pães: três irmãs não põem avós à mesa.
Perché l'università è lì? Così può più gente andarci.
Zażółć gęślą jaźń; łódź płynie ku Śniardwom.
Příliš žluťoučký kůň úpěl ďábelské ódy. Ľúbim ŕiekať.
Árvíztűrő tükörfúrógép, hűvös őszi eső.
Țara și orașul își împart pâinea încă din iarnă.
İstanbul'da ılık bir gün; ağaçların gölgesi çok büyük. IĞDIR
På fjället bor många björnar; œufs, Ærøskøbing, Þórður, ðelta.
Ngày mai trời sẽ nắng, những đứa trẻ chạy ngoài đường phố.
Ωραία μέρα σήμερα, πάμε ΘΆΛΑΣΣΑ ΌΛΟΙ μαζί· ὁ ἄνθρωπος ᾧ ᾳ.
Сегодня ёж и чайка пьют чай в Ёлкино; їжак ґанок Њњ ў.
Այսօր լավ օր է, և գիրքը սեղանին է։
დღეს კარგი ამინდია, წიგნი მაგიდაზეა. ᲓᲦᲔᲡ
היום יום יפה; הַסֵּפֶר עַל הַשֻּׁלְחָן, שָׁלוֹם!
اليوم جميل، والكِتَابُ على الطاولة؟ ١٢٣٤ آأإؤئ
امروز هوا خوب است، می‌خواهم کتاب بخوانم. ۱۲۳۴
آج موسم اچھا ہے، کتاب میز پر ہے۔
आज मौसम अच्छा है, किताब मेज़ पर है। क्षत्रिय ड़ढ़
আজ আবহাওয়া ভালো, বইটি টেবিলে আছে। কো কৌ
ਅੱਜ ਮੌਸਮ ਵਧੀਆ ਹੈ। ਸ਼ਹਿਰ
આજે હવામાન સારું છે, પુસ્તક ટેબલ પર છે.
இன்று வானிலை நன்றாக உள்ளது; கொடி பௌர்ணமி ஔவை.
ఈరోజు వాతావరణం బాగుంది. పుస్తకం బల్లపై ఉంది.
ಇಂದು ಹವಾಮಾನ ಚೆನ್ನಾಗಿದೆ. ಕೋಳಿ ಕೇಳಿ
ഇന്ന് നല്ല കാലാവസ്ഥയാണ്. കൊടി കോഴി കൌതുകം
අද කාලගුණය හොඳයි. කෝප්ප කොළ
วันนี้อากาศดี หนังสืออยู่บนโต๊ะ น้ำใจ
ມື້ນີ້ອາກາດດີ ປຶ້ມຢູ່ເທິງໂຕະ
ဒီနေ့ ရာသီဥတု ကောင်းတယ်။
ថ្ងៃនេះអាកាសធាតុល្អ។
དེ་རིང་གནམ་གཤིས་ཡག་པོ་འདུག། བོད་སྐད། ཀྵ རྀ
ዛሬ አየሩ ጥሩ ነው፡ መጽሐፉ ጠረጴዛ ላይ ነው።
Өнөөдөр цаг агаар сайхан байна. ᠮᠣᠩᠭᠣᠯ
今天天气很好,书在桌子上。〇㐀𠀀豈﨎龦
今日は天気がいいです。ガギグゲゴ パピプペポ ヴ ｶﾞ 々〆ヶ「」
오늘은 날씨가 좋습니다. 책이 책상 위에 있어요. 각갂힣 각
Hôm nay cà phê ngon, e\u0301 cu\u0303ng o\u031b\u0301 de\u0323\u0302.
👍 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ☕️ 1️⃣ 🫠 ❤️‍🔥 ✈︎ 🧑🏿‍🚀
x² + y³ ≠ ∑ᵢ αᵢ·βᵢ ≤ ½ ∞; ∀ε>0 ∃δ: |f(x)−L|<ε ⇒ √2≈1.414 ℏ ℃ Å Ω K
def f(x: int) -> str: return f"{x!r:>10}" # see https://example.org/a?b=c&d=%20e
C:\\Users\\me\\file_name-v1.2.tar.gz ~/.ssh/id_rsa user@host.example $PATH `ls` {"k": [1, 2]}
“curly” ‘quotes’ „low“ «guillemets» – — … ‹x› 。、！？：；（）
Ⅷ ⅷ ① ⓐ Ⓐ ﬁ ﬂ ﬀ ĳ Ĳ ŉ ǆ ǅ Ǆ ẖ ǰ ΐ ﬓ K Å ſ
[CLS] [SEP] [MASK] [PAD] [UNK] [cls] [CLS [[SEP]] a[MASK]b [CLS]\u0301x \u00e9[SEP]\u0301
##ing # ## ###a a##b [unused1] ## [unused0]
don't can't I'm we've o'clock rock'n'roll e.g. i.e. U.S.A. 3.14 1e-10 0xFF 10:45 2026-11-22
"""


def strings_of_languages():
    yield from SENTENCES.splitlines()
    yield from (SENTENCES.upper() + SENTENCES.swapcase()).splitlines()
    yield from ["", " ", "\t\r\n", "\u00a0\u2003\u3000", "\x00", "a\x00b", "\ufeffa", "a\u200bb",
                "\u0301", "\u0301a", "a\u0301", "\u0301 \u0301", "\ufffd", "a\ufffdb", "\x7f\x85"]
    for n in (99, 100, 101, 200):
        for char in "a", "\u00e9", "e\u0301", "\u4e2d", "\ud55c", "\U0001f600", "\u302e", "x\u200b":
            yield char * n
        yield "a" * n + "." + "b" * n + " ok"
    yield "a" * 20000
    yield "\u00e9" * 5000 + " tail"


def strings_of_characters():
    """Each character that Unicode's first plane may hold but CJK, Hangul and private ones, and every
    61st of the rest, between letters that show whether it parts words."""
    picked = [cp for cp in range(0x110000) if not 0xD800 <= cp < 0xE000 and (
        cp < 0x3400 or 0xA000 <= cp < 0xAC00 or 0xF900 <= cp < 0x10000
        or 0x1D100 <= cp < 0x1D250 or cp % 61 == 0)]
    for i in range(0, len(picked), 16):
        yield " ".join(f"x{chr(cp)}Y" for cp in picked[i:i + 16])


KEPT_MARKS = "\u302e\u302f\u1b44\U0001d165\U0001d16d\U000116b6\U00011446\u08d4\U0001e000\U0001e94a"
DROPPED_MARKS = "\u0300\u0301\u0345\u0327\u093c\u05b0\u0c55\u064b\u0483\u0488\u20d0\u0cbf\u0981"
DROPPED = "\x00\x01\u00ad\u200b\u200d\ufeff\ufffd\u0600\ue000\U000f0000\x7f\x85"
FALL_APART = "\u00e9\u0390\u0958\u09cb\uac00\uac01\U0001d160\u0ccb\u2126\u0130\u1f80\u0f73\u0344"
WORDS = SPECIALS + ["[", "##", "hello", "unaffable", "a" * 97, "b" * 101, "\u4e2d", " ", " ", ",",
                    "\u2014", "\U0001f600"]


def random_string(dice):
    parts = []
    for _ in range(dice.randrange(1, 32)):
        pool = dice.choice([KEPT_MARKS, DROPPED_MARKS, DROPPED, FALL_APART, WORDS, WORDS, None])
        if pool is not None:
            parts.append(dice.choice(pool))
        else:
            top = dice.choice([0x80, 0x800, 0x3400, 0xD800, 0x20000])
            cp = dice.randrange(top)
            parts.append("x" if 0xD800 <= cp < 0xE000 else chr(cp))
    return "".join(parts)


def build(folder):
    pieces = (folder / "vocab.txt").read_text("utf-8").split("\n")[:-1]
    tokenizer = Tokenizer(models.WordPiece(
        {piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]",
        max_input_chars_per_word=100, continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


def encode(tokenizer, strings):
    return [found.ids for found in tokenizer.encode_batch(strings, add_special_tokens=False)]


def main():
    arguments = sys.argv[1:]
    if tokenizers.__version__ != HF_VERSION:
        raise SystemExit(f"tokenizers is {tokenizers.__version__}, the ids are {HF_VERSION}'s")
    check = None
    if arguments[:1] == ["--check"]:
        check = arguments[1]
        arguments = arguments[2:]
    folder = Path(arguments[0] if arguments else "tests/golden/token")
    tokenizer = build(folder)
    dice = random.Random(20260101)
    sets = {
        "languages": list(strings_of_languages()),
        "characters": list(strings_of_characters()),
        "random": [random_string(dice) for _ in range(3000)],
    }
    for name, strings in sets.items():
        ids = encode(tokenizer, strings)
        if check is not None:
            published = Tokenizer.from_file(check)
            published.no_padding()
            published.no_truncation()
            if ids != encode(published, strings):
                raise SystemExit(f"{name}: {check} gives other ids")
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8", newline="\n") as file:
            for text, numbers in zip(strings, ids):
                line = {"text": text, "ids": numbers}
                file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        print(f"{name}: {len(strings)} strings, {sum(map(len, ids))} pieces")
    vocabulary = (folder / "vocab.txt").read_bytes()
    versions = (f"tokenizers {tokenizers.__version__}\n"
                f"vocab.txt sha256 {hashlib.sha256(vocabulary).hexdigest()}\n")
    (folder / "VERSIONS").write_text(versions, encoding="utf-8")


if __name__ == "__main__":
    main()

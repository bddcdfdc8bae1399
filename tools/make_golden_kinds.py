#!/usr/bin/env python3
"""Writes tests/golden/token/kinds/: a small tokenizer of each kind, trained on sentences of our own,
and the ids and spans that HF gives for strings of our own.

usage: make_golden_kinds.py [FOLDER]        needs: tokenizers==0.23.3, sentencepiece

Spans are given for strings of ASCII only: elsewhere ours say more (docs of src/token/token.h).
"""
import base64
import json
import random
import sys
import tempfile
import unicodedata
from pathlib import Path

import make_golden
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
PARTS = ["\u2581", "\u2581\u2581", "  ", "   ", " ", "\n", "\r\n", "\t", "\u3000", "\u00a0", "<mask>",
         " <mask> ", "</s>", "<s>", "new york", "qux", "\u00dcber", "<r>  ", "``", "''", "'s", "'LL",
         "'\u017f", "12345", "1", "\u00e9", "\ufb01", "\u2460", "\u212b", "\u0301", "\u0323",
         "\u0915\u094d\u0937\u093f", "\ud55c", "\u1112", "\u1161", "\u11ab",
         "\U0001f469\u200d\U0001f469", "\U0001f1e9\U0001f1ea", "\u200d", "\u200b", "hello", "world",
         "the", "stra\u00dfe", "\u65e5\u672c", "\ufdfa", "\u00bd", "\x00", "\x01", "[MASK]",
         "don't", "...", "--", "\u20ac", "\u017f", "\u0130", "Z9", "\ufeff", "\u09c7\u09be"]


def strings():
    dice = random.Random(20260102)
    yield from (text for text in make_golden.strings_of_languages() if len(text) < 3000)
    for _ in range(250):
        parts = []
        for _ in range(dice.randrange(1, 20)):
            roll = dice.random()
            if roll < 0.6:
                parts.append(dice.choice(PARTS))
            elif roll < 0.8:
                parts.append(" ")
            else:
                parts.append(make_golden.random_string(dice)[:6])
        yield "".join(parts)


def charsmap():
    """Half the full-width and compatibility characters, and controls that vanish: rules of our own."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    rules = ["1\t", "7F\t", "200B\t20", "3000\t20", "A0\t20", "9\t20", "A\t20", "D\t20",
             "65 301\tE9", "75 308\tFC", "D A\t20"]
    for cp in list(range(0xFF01, 0xFF5F)) + list(range(0xFB00, 0xFB07)) + list(range(0x2460, 0x2474)):
        rules.append(f"{cp:X}\t" + " ".join(f"{ord(c):X}" for c in
                                            unicodedata.normalize("NFKC", chr(cp))))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "rules.tsv").write_text("\n".join(rules) + "\n")
        (folder / "text.txt").write_text("a b c d e f g h i j k l m n o p\n" * 50)
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text.txt"), model_prefix=str(folder / "m"), vocab_size=22,
            normalization_rule_tsv=str(folder / "rules.tsv"), minloglevel=2, hard_vocab_limit=False)
        model = pb.ModelProto()
        model.ParseFromString((folder / "m.model").read_bytes())
    return {"type": "Precompiled", "precompiled_charsmap":
            base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()}


def lines():
    return [line for line in make_golden.SENTENCES.splitlines() if line] * 3


def unigram(pre_tokenizer, normalizer=None, extra=()):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(lines(), trainers.UnigramTrainer(
        vocab_size=900, special_tokens=SPECIALS[:4] + list(extra), unk_token="<unk>",
        show_progress=False))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return json.loads(tokenizer.to_str())


def bpe(pre_tokenizer, model=None, alphabet=True, **trainer):
    tokenizer = Tokenizer(model or models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if alphabet:
        trainer["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(lines(), trainers.BpeTrainer(
        vocab_size=900, show_progress=False, special_tokens=SPECIALS[:4], **trainer))
    return tokenizer


def with_normalizer(tokenizer, *parts):
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": list(parts)}
    return tokenizer


def kinds():
    meta, split = pre_tokenizers.Metaspace, pre_tokenizers.WhitespaceSplit
    runs = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    mapped = charsmap()
    yield "unigram_split", with_normalizer(
        unigram(pre_tokenizers.Sequence([split(), meta()])), mapped)
    yield "unigram_first", with_normalizer(
        unigram(meta(prepend_scheme="first")), mapped, runs,
        {"type": "Strip", "strip_left": False, "strip_right": True})
    fallback = unigram(meta(), normalizers.NFKC(), [f"<0x{i:02X}>" for i in range(256)])
    fallback["model"]["byte_fallback"] = True
    fallback["added_tokens"] = [t for t in fallback["added_tokens"]
                                if not t["content"].startswith("<0x")]
    yield "unigram_bytes", fallback
    albert = Tokenizer.from_str(json.dumps(unigram(
        pre_tokenizers.Sequence([split(), meta()]),
        normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.NFKD(),
                              normalizers.StripAccents(), normalizers.Lowercase()]))))
    albert.add_tokens([AddedToken("new york"), AddedToken("\u00dcber", normalized=True),
                       AddedToken("qux", single_word=True), AddedToken("<r>", rstrip=True)])
    yield "unigram_added", json.loads(albert.to_str())
    yield "unigram_parts", unigram(pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("isolated"),
         pre_tokenizers.Digits(True), meta()]), normalizers.Sequence(
             [normalizers.Nmt(), normalizers.NFC(), normalizers.Prepend("\u2581")]))
    roberta = bpe(pre_tokenizers.ByteLevel(add_prefix_space=True))
    roberta.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    roberta.enable_padding(pad_id=3, pad_token="<pad>")
    roberta.enable_truncation(128)
    yield "bpe_roberta", json.loads(roberta.to_str())
    yield "bpe_cl100k", json.loads(bpe(pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(CL100K), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        models.BPE(ignore_merges=True)).to_str())
    yield "bpe_meta", json.loads(bpe(meta(), models.BPE(unk_token="<unk>", fuse_unk=True),
                                     alphabet=False, limit_alphabet=120).to_str())
    cased = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    cased.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    cased.train_from_iterator(lines(), trainers.WordPieceTrainer(
        vocab_size=900, special_tokens=BERT, show_progress=False))
    cased.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    yield "wordpiece_cased", json.loads(cased.to_str())
    other = json.loads(cased.to_str())
    other["normalizer"] = {"type": "BertNormalizer", "clean_text": False, "lowercase": True,
                           "handle_chinese_chars": False, "strip_accents": False}
    other["model"]["max_input_chars_per_word"] = 9
    yield "wordpiece_other", other


def main():
    if tokenizers.__version__ != make_golden.HF_VERSION:
        raise SystemExit(f"tokenizers is {tokenizers.__version__}, "
                         f"the ids are {make_golden.HF_VERSION}'s")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/token/kinds")
    folder.mkdir(exist_ok=True)
    texts = list(strings())
    for name, settings in kinds():
        text = json.dumps(settings, ensure_ascii=False, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.post_processor = processors.Sequence([])
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8", newline="\n") as file:
            for string in texts:
                found = tokenizer.encode(string, add_special_tokens=False)
                line = {"text": string, "ids": found.ids}
                whole = not settings["model"].get("byte_fallback")  # of bytes HF says less
                if string.isascii() and whole and all(a < b for a, b in found.offsets):
                    line["spans"] = found.offsets
                file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        print(name, tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()

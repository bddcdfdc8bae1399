#!/usr/bin/env python3
"""Real English sentences in number, out of the documentation that Debian packages: ann_sentences.py [--cache FOLDER]
[--count N] OUT.txt

Packages are fetched with apt-get download and unpacked into the cache, nothing is installed. Out: count distinct
sentences (two that have the same letters are one), one per line, shuffled with a fixed seed. The same packages give
the same file; which versions of them there are is apt's affair, so the list is written beside it.
"""

import argparse
import gzip
import html
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

# By subject, so that the vectors are of more than one field. What a release of Debian lacks is passed over by name.
PACKAGES = """
    python3.11-doc python-django-doc python-sqlalchemy-doc python-pandas-doc python-sympy-doc python-scipy-doc
    python-sklearn-doc python-astropy-doc python-skimage-doc python-celery-doc
    linux-doc-6.1 manpages manpages-dev manpages-posix manpages-posix-dev freebsd-manpages perl-doc glibc-doc
    postgresql-doc-15 libboost1.81-doc llvm-14-doc llvm-15-doc clang-14-doc cmake-doc libstdc++-12-doc
    openjdk-17-doc erlang-doc rust-doc ghc-doc racket-doc scala-doc groovy-doc ant-doc nodejs-doc lazarus-doc-2.2
    qtbase5-doc-html qtdeclarative5-doc-html qttools5-doc-html qtmultimedia5-doc-html qtwebengine5-doc-html
    qtcreator-doc libgtk-3-doc libgtk-4-doc libglib2.0-doc tcl8.6-doc tk8.6-doc ns3-doc
    octave-doc r-doc-html maxima-doc sagemath-doc scilab-doc grass-doc csound-doc puredata-doc lilypond-doc
    gnuplot-doc gcl-doc acl2-books-source
    gimp-help-en libreoffice-help-en-us gnome-user-docs inkscape-tutorials kicad-doc-en gnucash-docs
    apache2-doc exim4-doc-html postfix-doc nova-doc neutron-doc keystone-doc cinder-doc glance-doc swift-doc
    debian-handbook debian-policy developers-reference debian-reference-en installation-guide-amd64 aptitude-doc-en
    debian-faq doc-debian git-doc vim-doc vim-runtime zsh-doc bash-doc autoconf-doc binutils-doc emacs-el
    wordnet-base dict-gcide dict-jargon dict-foldoc dict-wn bible-kjv-text fortunes
""".split()

MARKUP = {".html", ".htm", ".xhtml", ".xml", ".page"}
PLAIN = {".txt", ".rst", ".md", ".dz", ".texi", ".tex", ".pod", ".lisp", ".el"}
GLOSSES = {".noun", ".verb", ".adj", ".adv"}
FILE_BYTES_MAX = 64 << 20
SHORTEST, LONGEST, WORDS_MIN, LETTERS_MIN = 30, 200, 6, 0.84

DROPPED = re.compile(r"<(script|style|pre|nav|head|footer)\b.*?</\1>", re.S | re.I)
BLOCK = re.compile(r"</?(?:p|div|li|td|th|tr|h\d|dd|dt|br|section|ul|ol|table|blockquote|para|title)\b[^>]*>", re.I)
TAG = re.compile(r"<[^>]*>")
END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
FONT = re.compile(r"\\f(?:[BIRP]|\([A-Z]{2}|C[WBRI]?|\[[^\]]*\])")
INLINE = re.compile(r"^\.(?:[BI]|BR|IR|BI|RB|RI|IB|SM)\s+(.*)")
FIRST = re.compile(r"[A-Za-z\"'(]")
# Manuals come in many languages, in folders named after them; and no other language has one of these words, no
# accented letter, in nearly every sentence.
LOCALE = re.compile(
    r"(?:ar|bg|ca|cs|da|de|el|es|et|eu|fa|fi|fr|gl|he|hi|hr|hu|id|it|ja|ko|lt|lv|nb|nl|nn|no|oc|pl|pt|ro|ru|sk|sl|sr|sv|th|"
    r"tr|uk|vi|zh)(?:[-_@][A-Za-z]+)?"
)
ENGLISH = re.compile(
    r"\b(?:the|an|of|to|is|and|or|for|with|by|be|this|that|it|not|are|from|if|you|can|will|has|have|which|when|was)\b",
    re.I,
)
FOREIGN = re.compile(r"[^\W\d_a-zA-Z]")


def paragraphs_of_manual(text):
    text = FONT.sub("", text).replace("\\-", "-").replace("\\&", "").replace("\\(aq", "'").replace("\\e", "\\")
    lines = []
    for line in text.split("\n"):
        inline = INLINE.match(line)
        if inline:
            lines.append(inline[1].replace('"', ""))
        elif line.startswith((".", "'")):
            yield " ".join(lines)
            lines = []
        else:
            lines.append(line)
    yield " ".join(lines)


def paragraphs(path, text):
    if path.suffix in MARKUP:
        text = html.unescape(TAG.sub("", BLOCK.sub("\n\n", DROPPED.sub(" ", text))))
    elif "man" in path.parts:
        return paragraphs_of_manual(text)
    elif path.suffix in GLOSSES:
        return (gloss for line in text.split("\n") if " | " in line for gloss in line.split(" | ", 1)[1].split(";"))
    elif "bible-kjv" in str(path):
        return (re.sub(r"^\S+\d+:\d+\s*", "", line) for line in text.split("\n"))
    elif "fortunes" in path.parts:
        return re.split(r"\n%\n", text)
    elif path.suffix == ".el":
        text = "\n".join(line.lstrip("; ") for line in text.split("\n") if line.startswith(";"))
    return re.split(r"\n\s*\n", text)


def sentences_of(paragraph):
    for sentence in END.split(" ".join(paragraph.split())):
        count = len(sentence)
        if not SHORTEST <= count <= LONGEST or not FIRST.match(sentence):
            continue
        if sentence.count(" ") + 1 >= WORDS_MIN:
            if FOREIGN.search(sentence) or not ENGLISH.search(sentence):
                continue
            if sum(c.isalpha() or c == " " for c in sentence) >= LETTERS_MIN * count:
                yield sentence


def sentences_of_file(path):
    """What cannot be read as text gives none: foreign files are of every kind."""
    try:
        data = path.read_bytes()
        if path.suffix in (".gz", ".dz"):
            data = gzip.decompress(data)
        if len(data) > FILE_BYTES_MAX or b"\0" in data[:4096]:
            return []
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        found = (s for p in paragraphs(plain, data.decode("utf-8", "replace")) for s in sentences_of(p))
        return list(dict.fromkeys(found))
    except (OSError, EOFError, ValueError):
        return []


def is_wanted(path):
    name = path.name.removesuffix(".gz")
    if path.is_symlink() or not path.is_file() or name.startswith(("changelog", "copyright", "NEWS")):
        return False
    if "fortunes" in path.parts:
        return "." not in name
    if any(LOCALE.fullmatch(part) for part in path.parts):
        return False
    return Path(name).suffix in MARKUP | PLAIN | GLOSSES or "man" in path.parts


def fetch(cache, packages=tuple(PACKAGES)):
    """The packages, unpacked; a folder that is there is kept, so that a second call needs no network."""
    cache.mkdir(parents=True, exist_ok=True)
    roots = []
    for name in packages:
        root = cache / name
        if not root.exists():
            scratch = cache / f".{name}.part"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name]
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
            packages = list(scratch.glob("*.deb"))
            if done.returncode != 0 or not packages:
                print(f"sentences: apt cannot fetch {name}, which is left out", file=sys.stderr)
                shutil.rmtree(scratch)
                continue
            subprocess.run(["dpkg-deb", "-x", packages[0], scratch / "root"], check=True)
            (scratch / "root" / ".package").write_text(packages[0].name + "\n")
            (scratch / "root").rename(root)
            shutil.rmtree(scratch)
        roots.append(root)
    return roots


def descriptions():
    """Of all packages that apt knows of, sorted."""
    text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False).stdout.decode("utf-8", "replace")
    found = set()
    for entry in re.finditer(r"^Description(?:-en)?: (.*\n(?: .*\n)*)", text, re.M):
        for paragraph in entry[1].replace("\n .\n", "\n\n").split("\n\n"):
            found.update(sentences_of(paragraph))
    return sorted(found)


def collect(roots):
    """Distinct sentences in an order that depends on the packages only."""
    files = sorted(path for root in roots for path in root.rglob("*") if is_wanted(path))
    seen, kept = set(), []

    def take(found):
        for sentence in found:
            key = re.sub(r"[^a-z]", "", sentence.lower())
            if key not in seen:
                seen.add(key)
                kept.append(sentence)

    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        for found in pool.imap(sentences_of_file, files, chunksize=32):
            take(found)
    take(descriptions())
    return kept


def main():
    options = argparse.ArgumentParser()
    options.add_argument("out", type=Path)
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    options.add_argument("--cache", type=Path, default=default / "memalloy" / "bench-sentences")
    options.add_argument("--count", type=int, default=1_020_000)
    args = options.parse_args()
    roots = fetch(args.cache)
    kept = collect(roots)
    if len(kept) < args.count:
        sys.exit(f"sentences: only {len(kept)} of {args.count} distinct sentences in {len(roots)} packages")
    random.Random(20261122).shuffle(kept)
    scratch = args.out.with_suffix(".part")
    scratch.write_text("\n".join(kept[: args.count]) + "\n", encoding="utf-8")
    scratch.rename(args.out)
    packages = "".join((root / ".package").read_text() for root in roots)
    args.out.with_suffix(".packages").write_text(packages)
    print(f"sentences: {args.count} of {len(kept)} distinct, from {len(roots)} packages")


if __name__ == "__main__":
    main()

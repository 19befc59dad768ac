"""Data sets that cannot be trained on. Each is a good one with one fault, and with words of the expected message.

A table: a name, the command line, what writes the good data set at a path, what goes wrong there, the words.
"""

from __future__ import annotations

import gzip
import os
import tarfile
from typing import NamedTuple

from tests.datasets.damage import (
    FASHION,
    FILES,
    IMAGES,
    LABELS,
    LIBSVM,
    LINES,
    MNIST,
    NAMES,
    NET,
    OTHERS,
    SIZE,
    SMALL,
    Write,
    both,
    change,
    cut,
    empty,
    fashion,
    folders,
    idx,
    jpegs,
    link,
    nothing,
    picture,
    pipe,
    put,
    release,
    remove,
    rename,
    samples,
    shards,
    table,
    tars,
    wide_jpeg,
    wide_png,
    write_table,
    write_tar,
)


class Bad(NamedTuple):
    name: str
    argv: str  # {root} stands for the folder of the data
    good: Write
    spoil: Write
    said: str  # words of the message, also with {root}


BAD = [
    # Class folders, decoded at the start
    Bad("an empty class folder", SMALL, folders, empty("train/c"), "{root}/train/c has no image"),
    Bad("an empty class folder to test on", SMALL, folders, empty("test/b"), "{root}/test/b has no image"),
    Bad("a class folder with texts", SMALL, folders, put("train/c/0.txt"), "{root}/train/c has no image"),
    Bad("no class folder", SMALL, folders, empty("train"), "{root}/train is not a tree of class folders"),
    Bad("one class", SMALL, folders, remove("train/b"), "{root}/test has the class 'b'"),
    Bad("one class in all", SMALL, folders, both(remove("train/b"), remove("test/b")), "{root} are all of one class"),
    Bad("a class unknown in training", SMALL, folders, rename("test/b", "test/c"), "{root}/test has the class 'c'"),
    Bad("no test folder", SMALL, folders, remove("test"), "{root}/test is missing"),
    Bad("a file as test folder", SMALL, folders, both(remove("test"), put("test")), "{root}/test is missing"),
    Bad("a zero-byte image", SMALL, folders, put("train/a/0.png"), "{root}/train/a/0.png"),
    Bad("an image cut short", SMALL, folders, cut("train/a/1.png", 90), "{root}/train/a/1.png"),
    Bad("a text named .jpg", SMALL, folders, put("train/a/0.jpg", b"no image"), "{root}/train/a/0.jpg: no image of a"),
    Bad("an image of another size", SMALL, folders, put("train/b/9.png", picture(0, size=9)), "{root}/train/b/9.png"),
    Bad("an image over Pillow's limit", SMALL, folders, put("train/a/0.png", wide_png(20_000)), "exceeds limit of"),
    Bad("a header of 2 billion pixels a row", SMALL, folders, put("test/a/0.png", wide_png(2**31 - 1)), "test/a/0.png"),
    Bad("a pipe as an image", SMALL, folders, pipe("train/a/0.png"), "{root}/train/a/0.png is not a regular file"),
    Bad("a link to nothing", SMALL, folders, link("train/a/2.png", "gone"), "{root}/train/a/2.png: No such file"),
    Bad(
        "a file that links to itself", SMALL, folders, link("train/a/2.png", "2.png"), "{root}/train/a/2.png: Too many"
    ),
    Bad("a folder that links to itself", SMALL, folders, link("train/c", "c"), "{root}/train/c: Too many levels"),
    Bad("a class that is another's link", SMALL, folders, link("train/c", "a"), "{root}/train/c has no image of its"),
    Bad("a bad name, a bad image", SMALL, folders, put(os.fsdecode(b"train/a/\xff.png")), r"{root}/train/a/\udcff.png"),
    Bad("a line break in a name", SMALL, folders, put("train/a/x\ny.png"), r"{root}/train/a/x\ny.png"),
    Bad("more than there are", f"{SMALL} dataset.train_size=9", folders, nothing, "train_size=9: there are only 4"),
    Bad("all held out", f"{SMALL} dataset.held_out=4", folders, nothing, "held_out=4 leaves nothing to train on"),
    Bad("nothing at all", SMALL, nothing, nothing, "no CIFAR10 under {root}"),
    Bad("an empty root", SMALL, nothing, empty("."), "no CIFAR10 under {root}"),
    Bad("a file as root", SMALL.replace("{root}", "{root}/file"), nothing, put("file"), "no CIFAR10 under {root}/file"),
    Bad("nobody's home", "dataset=cifar10 dataset.root='~nobody-at-all/data'", nothing, nothing, "~nobody-at-all/data"),
    Bad("a root too long", f"dataset=cifar10 dataset.root={'x' * 300}", nothing, nothing, "File name too long"),
    # Releases
    Bad("batches of no bytes", SMALL, nothing, put("cifar-10-batches-py/data_batch_1"), "no CIFAR10 under {root}"),
    Bad("a cut archive", SMALL, nothing, put("cifar-10-python.tar.gz", b"\x1f\x8b\x08"), "no CIFAR10 under {root}"),
    Bad(
        "a pipe as archive",
        "dataset=cifar10 dataset.root={root} dataset.download=true",
        nothing,
        pipe("cifar-10-python.tar.gz"),
        "{root}/cifar-10-python.tar.gz is not a regular file",
    ),
    Bad("a pipe as batch", SMALL, nothing, pipe("cifar-10-batches-py/data_batch_1"), "data_batch_1 is not a regular"),
    Bad("another release", SMALL.replace("10", "100"), release, nothing, "no CIFAR100 under {root}"),
    Bad("hundred empty", SMALL.replace("10", "100"), folders, empty("train/c"), "{root}/train/c has no image"),
    Bad("images without labels", MNIST, release, remove(LABELS), "no MNIST under {root} (train: "),
    Bad("zero-byte images", MNIST, release, put(IMAGES), "no MNIST under {root} (train: "),
    Bad("zero-byte labels", MNIST, release, put(LABELS), "no MNIST under {root} (train: "),
    Bad("images cut short", MNIST, release, cut(IMAGES, 100), "no MNIST under {root} (train: "),
    Bad("a header cut short", MNIST, release, cut(IMAGES, 7), "no MNIST under {root} (train: "),
    Bad(
        "a wrong magic", MNIST, release, change(IMAGES, lambda b: b"\x01\x02\x03\x04" + b[4:]), "no MNIST under {root}"
    ),
    Bad("labels for images", MNIST, release, put(IMAGES, idx(2049, 4, content=bytes(4))), "no MNIST under {root}"),
    Bad("a gzip for images", MNIST, release, change(IMAGES, gzip.compress), "no MNIST under {root}"),
    Bad("a cut gzip alone", MNIST, nothing, put(f"{IMAGES}.gz", b"\x1f\x8b\x08"), "no MNIST under {root}"),
    Bad("a huge header", MNIST, release, put(IMAGES, idx(2051, 2**31, 2**31, 2**31)), "no MNIST under {root}"),
    Bad("fewer labels", MNIST, release, put(LABELS, idx(2049, 3, content=bytes(3))), "{root} is damaged: its train"),
    Bad("no sample", MNIST, release, both(put(IMAGES, idx(2051, 0, 8, 8)), put(LABELS, idx(2049, 0))), "MNIST under"),
    Bad("a label above 9", MNIST, release, put(LABELS, idx(2049, 4, content=bytes([0, 1, 2, 10]))), "the largest 10"),
    Bad("one digit", MNIST, release, put(LABELS, idx(2049, 4, content=bytes([3] * 4))), "{root} are all of one class"),
    Bad("a pipe as images", MNIST, release, pipe(IMAGES), f"{{root}}/{IMAGES} is not a regular file"),
    Bad("a pipe beside a release", MNIST, release, pipe(f"{IMAGES}.gz"), "-ubyte.gz is not a regular file"),
    Bad(
        "old files of another kind",
        MNIST,
        nothing,
        both(put("MNIST/processed/training.pt", b"no"), put("MNIST/processed/test.pt", b"no")),
        "no MNIST under {root} (train: ",
    ),
    Bad(
        "fewer garments to test on",
        FASHION,
        fashion,
        put("FashionMNIST/raw/t10k-images-idx3-ubyte", idx(2051, 3, SIZE, SIZE, content=bytes(3 * SIZE * SIZE))),
        "FashionMNIST under {root} is damaged: its test files have 3 images and 4 labels",
    ),
    Bad(
        "no garments to test on", FASHION, fashion, remove("FashionMNIST/raw/t10k-images-idx3-ubyte"), "no FashionMNIST"
    ),
    # Class folders, read while training runs
    Bad("files: an empty class folder", FILES, jpegs, empty("train/c"), "{root}/train/c has no image"),
    Bad("files: no training", FILES, jpegs, remove("train"), "{root}/train is missing"),
    Bad("files: no class folder", FILES, jpegs, empty("train"), "{root}/train is not a tree of class folders"),
    Bad("files: nothing in val", FILES, jpegs, empty("val"), "{root}/val is not a tree of class folders"),
    Bad("files: a class in val alone", FILES, jpegs, rename("val/b", "val/c"), "{root}/val has the class 'c'"),
    Bad("files: one class", NET, jpegs, both(remove("train/b"), remove("val/b")), "{root}/train are all of one class"),
    Bad("files: a zero-byte image", FILES, jpegs, put("train/a/0.jpeg"), "{root}/train/a/0.jpeg"),
    Bad("files: a text", NET, jpegs, put("train/a/0.jpeg", b"no image"), "{root}/train/a/0.jpeg: no image of a known"),
    Bad("files: cut short", FILES, jpegs, cut("train/a/1.jpeg", 200), "{root}/train/a/1.jpeg"),
    Bad("files: cut short in val", FILES, jpegs, cut("val/a/1.jpeg", 200), "{root}/val/a/1.jpeg"),
    Bad("files: a JPEG of 65,000 × 65,000", FILES, jpegs, change("train/a/0.jpeg", wide_jpeg), "exceeds limit of"),
    Bad("files: a PNG over the limit", NET, jpegs, put("train/a/0.png", wide_png(20_000)), "{root}/train/a/0.png"),
    Bad("files: a pipe", FILES, jpegs, pipe("train/a/0.jpeg"), "{root}/train/a/0.jpeg is not a regular file"),
    Bad("files: a link to nothing", FILES, jpegs, link("train/a/2.jpeg", "gone"), "{root}/train/a/2.jpeg"),
    Bad("files: a folder's link to itself", FILES, jpegs, link("train/c", "c"), "{root}/train/c: Too many levels"),
    Bad(
        "files: a batch of which nothing can be read",
        f"{FILES} dataset.skip_corrupt=true",
        jpegs,
        both(*(put(f"train/{name}/{i}.jpeg") for name in "ab" for i in range(2))),
        "no other image of its batch can be read",
    ),
    # Parquet
    Bad(
        "parquet: text labels", NET, shards, write_table(table(list("abab"))), "{root}/train-0.parquet: label is string"
    ),
    Bad("parquet: digits as text", NET, shards, write_table(table(list("0101"))), "label is string"),
    Bad("parquet: fractions as labels", NET, shards, write_table(table([0.0, 0.5, 1, 2])), "label is double"),
    Bad("parquet: a row without a label", NET, shards, write_table(table([0, 1, None, 1])), "1 rows have no label"),
    Bad("parquet: labels below 0", NET, shards, write_table(table([0, 1, -1, 1])), "images without a label"),
    Bad("parquet: a label of 10¹²", NET, shards, write_table(table([0, 1, 10**12, 1])), "the label 1000000000000"),
    Bad("parquet: one class", NET, shards, write_table(table([1] * 4)), "{root}/train-0.parquet are all of one class"),
    Bad("parquet: a class in val alone", NET, shards, write_table(table([0, 1, 2, 1]), "val-0.parquet"), "class '2'"),
    Bad(
        "parquet: a name in val alone",
        NET,
        shards,
        both(
            write_table(table().replace_schema_metadata({"huggingface": NAMES})),
            write_table(table().replace_schema_metadata({"huggingface": OTHERS}), "val-0.parquet"),
        ),
        "{root}/val-0.parquet has the class 'owl'",
    ),
    Bad("parquet: images as text", NET, shards, write_table(table(images=list("abcd"))), "image is string"),
    Bad("parquet: bytes as text", NET, shards, write_table(table(images=[{"bytes": "a"}] * 4)), "image is struct"),
    Bad("parquet: no bytes", NET, shards, write_table(table(images=[{"path": "a"}] * 4)), "{root}/train-0.parquet: "),
    Bad("parquet: no image", NET, shards, write_table(table().drop_columns("image")), "needs image.bytes and label"),
    Bad("parquet: no row", NET, shards, write_table(table().slice(0, 0)), "have no image"),
    Bad("parquet: zero bytes", FILES, shards, put("train-0.parquet"), "{root}/train-0.parquet"),
    Bad("parquet: cut short", NET, shards, cut("train-0.parquet", 300), "{root}/train-0.parquet"),
    Bad("parquet: of another kind", NET, shards, put("train-0.parquet", b"PAR1" * 9), "{root}/train-0.parquet"),
    Bad("parquet: a pipe", NET, shards, pipe("train-0.parquet"), "{root}/train-0.parquet is not a regular file"),
    Bad("parquet: a folder", NET, shards, empty("train-1.parquet"), "{root}/train-1.parquet is not a regular file"),
    Bad(
        "parquet: a row that is no image",
        NET,
        shards,
        write_table(table(images=[{"bytes": picture(0)}] * 3 + [{"bytes": b"no image"}])),
        "{root}/train-0.parquet, row 3",
    ),
    Bad(
        "parquet: a row without bytes",
        NET,
        shards,
        write_table(table(images=[{"bytes": picture(0)}] * 3 + [{"bytes": None}])),
        "{root}/train-0.parquet, row 3: there are no bytes",
    ),
    # Tar
    Bad("tar: zero bytes", NET, tars, put("train-0.tar"), "{root}/train-0.tar"),
    Bad("tar: cut short", NET, tars, cut("train-0.tar", 1000), "{root}/train-0.tar"),
    Bad("tar: compressed", NET, tars, write_tar([b"0", b"1"], tarfile.REGTYPE, "w:gz"), "{root}/train-0.tar"),
    Bad("tar: empty", NET, tars, write_tar([]), "{root}/train-0.tar does not have"),
    Bad("tar: a class as text", NET, tars, write_tar([b"0", b"cat"]), "{root}/train-0.tar, at 1.cls"),
    Bad("tar: a class of no bytes", NET, tars, write_tar([b"0", b""]), "{root}/train-0.tar, at 1.cls"),
    Bad("tar: a class below 0", NET, tars, write_tar([b"0", b"-1"]), "images without a label"),
    Bad("tar: a class of forty digits", NET, tars, write_tar([b"0", b"9" * 40]), "{root}/train-0.tar, at 1.cls"),
    Bad("tar: links for images", NET, tars, write_tar([b"0", b"1"], tarfile.SYMTYPE), "{root}/train-0.tar, "),
    Bad("tar: one class", NET, tars, write_tar([b"1", b"1"]), "{root}/train-0.tar are all of one class"),
    Bad(
        "tar: a class in val alone", NET, tars, write_tar([b"0", b"2"], name="val-0.tar"), "val-0.tar has the class '2'"
    ),
    Bad("tar: a pipe", FILES, tars, pipe("train-0.tar"), "{root}/train-0.tar is not a regular file"),
    # Tables
    Bad("table: missing", LIBSVM, samples, remove("train"), "cannot read {root}/train (No such file"),
    Bad(
        "table: a folder",
        LIBSVM,
        samples,
        both(remove("train"), empty("train")),
        "{root}/train is not a regular file",
    ),
    Bad("table: a pipe", LIBSVM, samples, pipe("train"), "{root}/train is not a regular file"),
    Bad("table: a pipe to test on", f"{LIBSVM} dataset.test={{root}}/t", samples, pipe("t"), "{root}/t is not a"),
    Bad("table: zero bytes", LIBSVM, samples, put("train"), "{root}/train has the labels (none)"),
    Bad("table: a CSV", LIBSVM, samples, put("train", b"label,x\n1,2\n"), "{root}/train is not in LIBSVM's format"),
    Bad(
        "table: a row cut short", LIBSVM, samples, put("train", b"1 1:0.5\n-1 1:\n"), "{root}/train is not in LIBSVM's"
    ),
    Bad("table: one label", LIBSVM, samples, put("train", b"1 1:1\n1 1:2\n"), "{root}/train has the labels 1:"),
    Bad("table: three labels", LIBSVM, samples, put("train", b"1 1:1\n2 1:1\n3 1:1\n"), "{root}/train has the labels"),
    Bad(
        "table: a label to test on alone",
        f"{LIBSVM} dataset.test={{root}}/t",
        samples,
        put("t", b"2 1:1\n"),
        "{root}/t has",
    ),
    Bad(
        "table: an index of 2 billion",
        LIBSVM,
        samples,
        put("train", b"1 2000000000:1\n-1 1:1\n" * 99),
        "{root}/train has",
    ),
    Bad("table: not a number", LIBSVM, samples, put("train", b"1 1:nan\n-1 1:1\n"), "{root}/train has values"),
    Bad(
        "table: a gzip cut short",
        f"{LIBSVM}.gz",
        samples,
        put("train.gz", gzip.compress(LINES.encode())[:25]),
        "train.gz",
    ),
    Bad("table: no gzip", f"{LIBSVM}.gz", samples, put("train.gz", LINES.encode()), "{root}/train.gz"),
    Bad(
        "table: a damaged gzip",
        f"{LIBSVM}.gz",
        samples,
        put("train.gz", gzip.compress(LINES.encode())[:12] + bytes(20)),
        "{root}/train.gz",
    ),
    # Data that come with the package
    Bad("digits: more than there are", "dataset=digits dataset.train_size=1501", nothing, nothing, "only 1500 images"),
]

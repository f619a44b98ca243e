"""Evidence of windows of words: against scikit-learn's counts, and without a look at the test."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from stpatch_jax.data import LabelledConfig, k_fold
from stpatch_jax.data.labelled.texts import Evidence, WindowCounts
from stpatch_jax.errors import InputError
from stpatch_jax.recipes import recipe
from stpatch_jax.recipes.sentiment.data import LabelledTextConfig

WORDS = ["good", "bad", "not", "film", "plot"]
LINES = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=4, max_size=12)


def write(folder, positive, negative):
    for name, lines in (("x.pos", positive), ("x.neg", negative)):
        (folder / name).write_text("".join(line + "\n" for line in lines))
    return str(folder / "x.pos")


def lines(random, count, favourite):
    return [
        " ".join([favourite, *random.choice(WORDS, random.integers(1, 6))]) for _ in range(count)
    ]


def joined(line, n):
    return [" ".join(line[at : at + n]) for at in range(len(line) - n + 1)]


@settings(max_examples=15)
@given(lines=LINES, flips=st.integers(0, 2**12), smoothing=st.sampled_from([0.5, 1.0]))
def test_ratios_are_those_of_scikit_learns_counts(lines, flips, smoothing):
    assume(any(lines))
    labels = np.array([flips >> at & 1 for at in range(len(lines))])
    counts = WindowCounts(lines, labels, 2)
    left_out = np.array([0, 2])
    kept = np.setdiff1d(np.arange(len(lines)), left_out)
    ratios = counts.ratios(smoothing=smoothing, without=left_out)
    for n in (1, 2):
        analyzer: Any = functools.partial(joined, n=n)
        vectorizer: Any = CountVectorizer(analyzer=analyzer, binary=True)
        if not any(len(lines[at]) >= n for at in kept):
            continue
        held = vectorizer.fit_transform([lines[at] for at in kept]).toarray()
        p, q = (held[labels[kept] == label].sum(axis=0) + smoothing for label in (1, 0))
        expected = dict(
            zip(
                vectorizer.get_feature_names_out().tolist(),
                np.log(p / p.sum()) - np.log(q / q.sum()),
                strict=True,
            )
        )
        for line in lines:
            evidence = Evidence(counts.numbers, ratios, 2).of(line, length=8)[:, n - 1]
            windows = joined(line, n)
            for at, window in enumerate(windows):
                first = windows.index(window) == at
                wanted = expected.get(window, 0.0) if first else 0.0
                assert evidence[at + n - 1] == pytest.approx(wanted, abs=1e-6)
            assert not evidence[len(line) :].any()


def parts_of(line, lengths):
    """Windows of one word, and pieces of words as fastText cuts them."""
    words = [f"<{word}>" for word in line]
    pieces = [word[at : at + n] for word in words for n in lengths for at in range(len(word))]
    return line, [piece for piece in pieces if len(piece) in lengths]


def test_evidence_weighs_pieces_as_scikit_learns_logistic_regression_does():
    random = np.random.default_rng(5)
    drawn = [line.split() for line in lines(random, 60, "film")]
    labels = np.array(["good" in line for line in drawn], int)
    counts = WindowCounts(drawn, labels, 1, pieces=(3, 4))
    kept = np.arange(50)
    weighed = counts.weighed(smoothing=0.5, without=np.arange(50, 60))
    features = []
    parts = zip(*(parts_of(line, (3, 4)) for line in drawn), strict=True)
    for part, scale in zip(parts, (1.0, 0.4), strict=True):
        given_so: Any = list
        vectorizer: Any = CountVectorizer(analyzer=given_so, binary=True)
        held = vectorizer.fit_transform(part).toarray()
        p, q = (held[kept][labels[kept] == label].sum(axis=0) + 0.5 for label in (1, 0))
        features.append(scale * held * np.log(p / p.sum() / (q / q.sum())))
    held = np.concatenate(features, axis=1)
    reference = LogisticRegression(C=1 / 3, tol=1e-8, max_iter=1000).fit(held[kept], labels[kept])
    expected = reference.decision_function(held) - reference.intercept_
    evidence = Evidence(counts.numbers, weighed, 1, (3, 4)).fields(drawn, length=8)
    np.testing.assert_allclose(evidence.sum(axis=(1, 2)), expected, atol=0.02)
    assert np.abs(expected).max() > 1


def test_evidence_does_not_depend_on_the_order_of_sums():
    random = np.random.default_rng(6)
    drawn = [line.split() for line in lines(random, 60, "film")]
    labels, order = np.array(["good" in line for line in drawn], int), random.permutation(60)
    first, other = (
        WindowCounts([drawn[at] for at in rows], labels[rows], 2, pieces=(3, 4))
        for rows in (np.arange(60), order)
    )
    same = [other.numbers[window] for window in first.numbers]
    expected = other.weighed(smoothing=0.5)[same]
    np.testing.assert_array_equal(first.weighed(smoothing=0.5), expected)


def test_a_word_is_told_by_its_pieces_where_it_is_unheard_of():
    drawn = [["wonderful"], ["dreadful"], ["wonders"], ["dreads"]]
    counts = WindowCounts(drawn, np.array([1, 0, 1, 0]), 2, pieces=(4, 5))
    known = Evidence(counts.numbers, counts.weighed(smoothing=0.5), 2, (4, 5))
    praise, blame, neither = known.fields([["wonderfully"], ["dreaded"], ["zzzzzz"]], length=2)
    assert praise[0, 2] > 0 > blame[0, 2]
    assert not praise[:, :2].any()
    assert not neither.any()


@pytest.mark.parametrize("pieces", [(), (4, 5)])
def test_test_lines_change_nothing_that_is_trained_on(pieces, tmp_path):
    random = np.random.default_rng(0)
    positive, negative = lines(random, 40, "good"), lines(random, 40, "bad")
    options: Any = {"fold": 3, "pieces": pieces}
    config = LabelledTextConfig(write(tmp_path, positive, negative), **options)
    before = config.load()
    labels = np.repeat([0, 1], 40)
    test = k_fold(labels, 10, seed=0)[3][1]
    np.testing.assert_array_equal(before.splits["test"].groups, test)
    everything = [*negative, *positive]
    for at in test:
        everything[at] = "quite other words good good"
    after = LabelledTextConfig(write(tmp_path, everything[40:], everything[:40]), **options).load()
    for split in ("train", "validation"):
        np.testing.assert_array_equal(after.splits[split].fields, before.splits[split].fields)
    assert after.digest("train") == before.digest("train")
    assert after.report["windows"] == before.report["windows"]
    for name, fitted in before.state().items():
        np.testing.assert_array_equal(after.state()[name], fitted)
    assert (after.splits["test"].fields != before.splits["test"].fields).any()


@pytest.mark.parametrize("pieces", [(), (5,)])
def test_a_line_is_no_evidence_for_itself(pieces, tmp_path):
    # Each word occurs once only: all that training lines know of theirs is that they are alone.
    positive, negative = ([f"{label}{at:02}" for at in range(30)] for label in "pn")
    found = LabelledTextConfig(write(tmp_path, positive, negative), pieces=pieces).load()
    assert not found.splits["train"].fields.any()
    counts = {name: len(split.labels) for name, split in found.splits.items()}
    assert counts == {"train": 48, "validation": 6, "test": 6}


def test_folds_test_every_line_once(tmp_path):
    random = np.random.default_rng(1)
    path = write(tmp_path, lines(random, 20, "good"), lines(random, 20, "bad"))
    tested = [LabelledTextConfig(path, fold=at, folds=4).load() for at in range(4)]
    numbers = np.sort(np.concatenate([found.splits["test"].groups for found in tested]))
    np.testing.assert_array_equal(numbers, np.arange(40))
    for found in tested:
        groups = [split.groups for split in found.splits.values()]
        assert len(np.unique(np.concatenate(groups))) == 40


def test_what_is_no_pair_or_no_fold_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("line\n")
    with pytest.raises(InputError, match=r"one file of a pair NAME\.pos and NAME\.neg"):
        LabelledTextConfig(str(tmp_path / "x.txt")).load()
    with pytest.raises(InputError, match=r"data\.fold must be in \[0, 10\)"):
        LabelledTextConfig(fold=10)
    with pytest.raises(InputError, match=r"data\.smoothing must be above 0"):
        LabelledTextConfig(smoothing=0.0)
    with pytest.raises(InputError, match=r"data\.longest_window must be a whole number >= 1"):
        LabelledTextConfig(longest_window=0)
    for config in (LabelledTextConfig, LabelledConfig):
        with pytest.raises(InputError, match=r"data\.pieces must be a whole number >= 1, got 0"):
            config(pieces=(4, 0))


def test_files_of_strangers_are_utf_8_and_a_table_holds_the_same(tmp_path):
    random = np.random.default_rng(1)
    positive = lines(random, 40, "\u00c9cole voil\u00e0")
    negative = lines(random, 40, "na\u00efve")
    config = recipe("sentiment").data
    assert isinstance(config, LabelledTextConfig)
    found = {}
    for encoding in ("utf-8", "utf-16"):
        for name, part in (("x.pos", positive), ("x.neg", negative)):
            (tmp_path / name).write_bytes("\r\n".join([*part, ""]).encode(encoding))
        path = str(tmp_path / "x.pos")
        found[encoding] = dataclasses.replace(config, path=path).load()
        assert {"\u00e9cole", "voil\u00e0"} <= {
            w for line in found[encoding].words["train"] for w in line
        }
    rows = [f"{label},{text}\n" for label, part in ((0, negative), (1, positive)) for text in part]
    (tmp_path / "x.csv").write_text("label,text\n" + "".join(rows))
    found["table"] = dataclasses.replace(config, path=str(tmp_path / "x.csv")).load()
    for other in ("utf-16", "table"):
        for split in ("train", "test"):
            assert found[other].words[split] == found["utf-8"].words[split]
    (tmp_path / "x.pos").write_bytes("\n".join(positive).encode("latin-1"))
    with pytest.raises(InputError, match=r"text encoded as utf-8, got line 1 .*encoding="):
        dataclasses.replace(config, path=str(tmp_path / "x.pos")).load()


def test_texts_of_three_classes_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f"a,{n % 3}\n" for n in range(30)))
    with pytest.raises(InputError, match="of two classes, got 0, 1, 2; keep"):
        LabelledTextConfig(str(tmp_path / "x.csv")).load()


def trained(folder, pieces=()):
    """Data of texts, and a function that restores others for a run on them."""
    random = np.random.default_rng(2)
    path = write(folder, lines(random, 30, "\u00c9cole good"), lines(random, 30, "na\u00efve bad"))
    config = LabelledTextConfig(path, length=4, pieces=pieces)
    data = config.load()
    return data, lambda file: config.restore(str(file), data.state())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["new.txt", "new.tsv", "new.csv", "one.tsv", "1.CSV", "head.txt"])
def test_a_run_reads_texts_of_every_kind_as_it_read_its_own(name, encoding, tmp_path):
    data, restore = trained(tmp_path)
    assert data.words
    texts = [" ".join(line) for line in data.words["test"]]
    mark = "," if "csv" in name.lower() else "\t"
    rows = {
        "new.txt": texts,
        "head.txt": ["Text", *texts],
        "one": ["review", *texts],
        "new": [mark.join(("id", "text", "label")), *(mark.join(("7", t, "?")) for t in texts)],
    }
    written = rows.get(name) or rows["new" if name[:3] == "new" else "one"]
    (tmp_path / name).write_bytes("\r\n".join([*written, ""]).encode(encoding))
    found = restore(tmp_path / name)
    np.testing.assert_array_equal(found.fields, data.splits["test"].fields)
    first = 1 if name == "new.txt" else 2
    assert found.names("all")["line"].tolist() == list(range(first, first + len(texts)))
    header = ["The first line, Text, was read as a header."] if name == "head.txt" else []
    assert found.report["notes"] == [
        *header,
        f"{sum(len(line) > 4 for line in data.words['test'])} texts were cut behind 4 words.",
    ]


def test_a_run_knows_pieces_of_words_whatever_the_settings_say(tmp_path):
    data, restore = trained(tmp_path, pieces=(3, 4))
    assert data.words
    (tmp_path / "new.txt").write_text("\n".join(" ".join(line) for line in data.words["test"]))
    np.testing.assert_array_equal(restore(tmp_path / "new.txt").fields, data.splits["test"].fields)
    found = LabelledTextConfig(length=4).restore(str(tmp_path / "new.txt"), data.state())
    np.testing.assert_array_equal(found.fields, data.splits["test"].fields)
    assert data.channels == ("1 word", "2 words", "3 words", "pieces")


def test_what_texts_lack_is_told(tmp_path):
    _, restore = trained(tmp_path)
    (tmp_path / "x.csv").write_text('text,n\n"good,\nbad",1\n,2\nunheard of,3\n')
    found = restore(tmp_path / "x.csv")
    assert found.names("all")["line"].tolist() == [2, 5]
    assert found.report["notes"] == [
        "1 empty text was left out.",
        "1 texts hold no words that the run knows.",
    ]
    assert found.fields[0].any()
    assert not found.fields[1].any()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.csv", b"title,body\na,b\n", r"one column of the text, got none among title, bo.*text="),
        ("x.csv", b"text\ngood, bad\n", r"must have the 1 cells of its header, got line 2 has 2"),
        ("x.txt", b"\n\n\n", "must have texts, got empty ones alone; give another"),
        ("x.txt", b"caf\xe9\n", r"text encoded as utf-8, got line 1 .*; give its encoding"),
        ("x.xlsx", b"PK\x03\x04", "must be text, got a ZIP archive, such as"),
        ("x.jsonl", b'{"text": "a"}\n', "a text a line or be a table, got marked-up"),
        ("y.txt", None, "there must be a text file at"),
    ],
)
def test_files_without_texts_are_refused(name, content, told, tmp_path):
    _, restore = trained(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        restore(tmp_path / name)


def test_a_run_of_before_knows_no_words(tmp_path):
    data, _ = trained(tmp_path)
    state = {name: value for name, value in data.state().items() if name != "windows"}
    (tmp_path / "x.txt").write_text("good\n")
    with pytest.raises(InputError, match="must tell the words that it knows, got one of an older"):
        LabelledTextConfig().restore(str(tmp_path / "x.txt"), state)

"""The stream of documents: batches that follow from (seed, step), whatever was read before."""

import pytest
from models_shared import untrained_toy
from tuning_shared import write_data

from minidream.tuning.stream import Stream, Survey, survey

COLOURS = "red orange yellow green cyan blue purple".split()
CAPTIONS = [f"a {colour} circle" for colour in COLOURS]


@pytest.fixture(scope="module")
def model():
    return untrained_toy()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "whole", CAPTIONS)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "damaged", CAPTIONS, broken=(1, 4))


def texts(stream: Stream, step: int, size: int) -> list[str]:
    layouts, documents = stream.batch(step, size)
    assert len(layouts) == len(documents) == size
    return [document.text for document in documents]


def test_each_pass_has_every_document_once_in_an_order_of_its_own(model, data):
    stream = Stream(model, data, records=7, seed=5)
    read = sum([texts(stream, step, 3) for step in range(7)], [])
    passes = [read[:7], read[7:14], read[14:]]
    assert all(sorted(each) == sorted(CAPTIONS) for each in passes)
    assert len({tuple(each) for each in passes}) == 3
    assert texts(Stream(model, data, 7, seed=6), 0, 7) != passes[0]


@pytest.mark.filterwarnings("ignore:2 records were skipped")
@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_batch_follows_from_its_step_alone(model, damaged, size):
    stream = Stream(model, damaged, records=7, seed=1)
    together = [texts(stream, step, size) for step in range(6)]
    for step, batch in enumerate(together):
        assert texts(Stream(model, damaged, 7, seed=1), step, size) == batch
    assert [texts(stream, step, size) for step in (4, 2)] == [together[4], together[2]]
    assert not {"a orange circle", "a cyan circle"} & set(sum(together, []))


def test_every_other_document_is_turned(model, data):
    stream = Stream(model, data, records=7, both_ways=True)
    plain = Stream(model, data, records=7)
    found, same = (each.batch(0, 14)[1] for each in (stream, plain))
    for number, (document, other) in enumerate(zip(found, same)):
        assert document.text == other.text
        assert document.images[0].tobytes() == other.images[0].tobytes()
        assert document.targets == ((0,), ())[number % 2] and other.targets == (0,)
        assert isinstance(document.items[number % 2], str)


def test_the_survey_counts(model, data, damaged):
    queries, patches = model.queries, model.vision.patches
    longest = 1 + 3 + (queries + 2) + (patches + 2) + 1
    assert survey(model, data) == Survey(7, 7, 0, longest, 1)
    assert survey(model, data, both_ways=True) == Survey(7, 7, 0, longest, 1)
    with pytest.warns(UserWarning, match="2 records were skipped"):
        assert survey(model, damaged) == Survey(7, 5, 0, longest, 1)


def test_what_does_not_fit_is_left_out(model, tmp_path):
    long = " ".join(["a red circle"] * 200)
    data = write_data(tmp_path / "data", [long, *CAPTIONS[:2]])
    found = survey(model, data)
    assert (found.records, found.usable, found.too_long) == (3, 2, 1)
    stream = Stream(model, data, found.records)
    assert set(texts(stream, 0, 6)) == set(CAPTIONS[:2])
    with pytest.raises(ValueError, match="no document of .* can be used: 0 records .* 1 documents"):
        survey(model, write_data(tmp_path / "long", [long]))


def test_all_unknown_words_are_named(model, tmp_path):
    data = write_data(tmp_path / "data", ["a red rocket", "a circle", "a cat over a dog"])
    with pytest.raises(ValueError, match="does not know these words .*: (?=.*rocket)(?=.*cat dog)"):
        survey(model, data)


def test_data_that_change_meanwhile_are_an_error(model, data):
    with pytest.raises(RuntimeError, match="there were 9 records, and now there are 7"):
        Stream(model, data, records=9).batch(0, 20)

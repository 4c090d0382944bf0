"""What the readers of all formats promise: order, shares, resuming, and what they leave alone."""

import gc
import pathlib
import random
import socket
import warnings
import weakref

import psutil
import pytest
import torch
from data_shared import COUNT, WRITERS, decoded, records_of, write_csv, write_webdataset

from minidream import Document, data
from minidream.data import webdataset
from minidream.data.reading import NAMED, Share, Skipped, Unusable

every_format = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Windows that are shorter than a folder, so that there are several."""
    monkeypatch.setattr(webdataset, "WINDOW", 4)


@every_format
def test_every_record_becomes_one_document(tmp_path, name):
    reading = data.documents(WRITERS[name](tmp_path))
    documents = list(reading)
    assert all(isinstance(document, Document) for document in documents)
    assert sorted(records_of(documents)) == list(range(COUNT))
    assert reading.position == COUNT and not reading.skipped


@every_format
def test_the_order_follows_from_the_seed(tmp_path, name):
    folder = WRITERS[name](tmp_path)
    orders = {seed: records_of(data.documents(folder, seed=seed)) for seed in (0, 1, -7, 2**31)}
    assert len(set(map(tuple, orders.values()))) == 4
    assert orders[0] != list(range(COUNT))
    random.seed(3)  # no other generator takes part
    torch.manual_seed(3)
    assert records_of(data.documents(folder, seed=0)) == orders[0]


@every_format
def test_a_reading_from_each_step_gives_the_rest_of_an_uninterrupted_one(tmp_path, name):
    folder = WRITERS[name](tmp_path)
    for process, processes in ((0, 1), (1, 3)):
        share = {"seed": 5, "process": process, "processes": processes}
        whole = records_of(data.documents(folder, **share))
        for start in range(len(whole) + 1):
            rest = data.documents(folder, start=start, **share)
            assert rest.position == start
            assert records_of(rest) == whole[start:]
            assert rest.position == len(whole)


@every_format
@pytest.mark.parametrize("processes", [1, 2, 3, 7, COUNT + 1])
def test_processes_share_all_records(tmp_path, name, processes):
    folder = WRITERS[name](tmp_path)
    parts = [
        records_of(data.documents(folder, seed=2, process=process, processes=processes))
        for process in range(processes)
    ]
    assert sorted(sum(parts, [])) == list(range(COUNT))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@every_format
def test_only_pictures_of_the_documents_are_decoded(tmp_path, monkeypatch, name):
    folder = WRITERS[name](tmp_path)
    share = {"seed": 1, "process": 1, "processes": 2}
    mine = records_of(data.documents(folder, **share))
    with decoded(monkeypatch) as found:
        reading = data.documents(folder, start=3, **share)
        assert found == []
        for taken in range(3, 3 + 6):
            next(reading)
            assert found == mine[3 : taken + 1]  # one at a time, none of another process


@every_format
def test_files_are_open_one_at_a_time(tmp_path, monkeypatch, name):
    folder, opened, original = WRITERS[name](tmp_path), [], pathlib.Path.open
    this_process = psutil.Process()

    def held():
        return [file.path for file in this_process.open_files() if str(tmp_path) in file.path]

    def watched(path, *arguments, **options):
        assert not held(), f"{held()} are open while {path} is opened"
        opened.append(path)
        return original(path, *arguments, **options)

    # A tar file stays open, and what belongs to a document is in it.
    stays = int(name == "webdataset")
    if not stays:
        monkeypatch.setattr(pathlib.Path, "open", watched)
    reading = data.documents(folder)
    assert not held()
    for _ in range(COUNT):
        next(reading)
        assert len(held()) <= stays
    assert not list(reading) and not held()
    assert stays or len(opened) > 2 * COUNT


@every_format
def test_memory_holds_no_document_that_was_given(tmp_path, name):
    reading = data.documents(WRITERS[name](tmp_path))
    for _ in range(COUNT):
        document = next(reading)
        left = [weakref.ref(document), weakref.ref(document.images[0])]
        del document
        assert [reference() for reference in left] == [None, None]


@every_format
def test_a_folder_is_left_as_it_was_and_nothing_is_fetched(tmp_path, monkeypatch, name):
    def state():
        files = (path for path in sorted(tmp_path.rglob("*")) if path.is_file())
        return [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in files]

    def refused(*arguments, **options):
        raise AssertionError("a connection was opened")

    folder = WRITERS[name](tmp_path)
    before = state()
    monkeypatch.setattr(socket, "socket", refused)
    assert len(list(data.documents(folder))) == COUNT
    assert state() == before


@every_format
def test_the_reader_of_a_format_gives_the_same_documents(tmp_path, name):
    folder = WRITERS[name](tmp_path)
    reader = getattr(data, name.split(",")[0])
    assert data.format_of(folder) is reader
    found = records_of(reader.read(folder, 4, 2, 1, 2))
    assert found == records_of(data.documents(folder, seed=4, start=2, process=1, processes=2))
    assert records_of(reader.read(str(folder))) == records_of(data.documents(folder))


@every_format
def test_options_out_of_range_are_refused_before_anything_is_read(tmp_path, name):
    folder = WRITERS[name](tmp_path)
    for options, error, message in (
        ({"processes": 0}, ValueError, "processes is at least 1, and not 0"),
        ({"process": 3, "processes": 3}, ValueError, "process is between 0 and 2, and not 3"),
        ({"process": -1}, ValueError, "process is between 0 and 0, and not -1"),
        ({"start": -1}, ValueError, "start is at least 0, and not -1"),
        ({"start": 1.5}, ValueError, "start is a whole number, not 1.5"),
        ({"seed": "0"}, TypeError, "seed is a number"),
        ({"seed": 2**64}, ValueError, "seed is between"),
    ):
        with pytest.raises(error, match=message):
            data.documents(folder, **options)


@every_format
def test_a_start_after_the_end_is_refused_with_both_numbers(tmp_path, name):
    folder = WRITERS[name](tmp_path)
    with pytest.raises(ValueError, match=f"start is {COUNT + 1}, .* has {COUNT} records"):
        next(data.documents(folder, start=COUNT + 1))
    with pytest.raises(ValueError, match="start is 9, and process 2 of 3 has 7 records"):
        next(data.documents(folder, start=9, process=2, processes=3))


def test_numbers_of_other_types_count_as_integers():
    share = Share(seed=3.0, start=torch.tensor(1), process=0, processes=2.0)
    assert (share.seed, share.start, share.processes) == (3, 1, 2)
    assert share.order(5).tolist() == Share(3, 1, 0, 2).order(5).tolist()


# --------------------------------------------------------------------------------------------------
# What is skipped


def without_pictures(folder, *records):
    write_csv(folder)
    for record in records:
        (folder / f"{record}.png").unlink()
    return folder


def test_what_is_skipped_is_counted_and_said_once_at_the_end(tmp_path):
    reading = data.documents(without_pictures(tmp_path, 2, 5, 11, 17, 19))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(COUNT - 5 - 1):
            next(reading)
    with pytest.warns(UserWarning, match="5 records were skipped") as caught:
        assert len(list(reading)) == 1
    assert len(caught) == 1 and str(caught[0].message) == str(reading.skipped)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(reading) == []
        del reading


def test_a_reading_that_is_given_up_says_what_it_skipped(tmp_path):
    reading = data.documents(without_pictures(tmp_path, *range(5)))
    for _ in range(10):
        next(reading)
    skipped = len(reading.skipped)
    assert skipped and reading.position == 10 + skipped
    with pytest.warns(UserWarning, match=f"{skipped} records? w"):
        del reading


def test_a_pass_goes_on_from_its_position_also_over_skipped_records(tmp_path):
    folder = without_pictures(tmp_path, 0, 1, 6, 7, 8)
    with pytest.warns(UserWarning):
        whole = records_of(data.documents(folder, seed=9))
    assert sorted(whole) == sorted(set(range(COUNT)) - {0, 1, 6, 7, 8})
    for taken in range(len(whole) + 1):
        reading = data.documents(folder, seed=9)
        first = records_of(next(reading) for _ in range(taken))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rest = records_of(data.documents(folder, seed=9, start=reading.position))
            del reading
        assert first + rest == whole


@pytest.mark.parametrize("name", ["imagefolder, csv", "webdataset"])
def test_what_was_skipped_keeps_nothing_alive(tmp_path, name):
    """An exception that is kept would, with the frames in which it was raised."""
    folder = WRITERS[name](tmp_path)
    for shard in folder.glob("*.tar"):
        shard.write_bytes(shard.read_bytes()[:3000])
    for picture in folder.glob("1*.png"):
        picture.write_bytes(b"no picture")
    gc.collect()
    gc.disable()
    try:
        reading = data.documents(folder)
        while not reading.skipped:
            next(reading)
        left = weakref.ref(reading)
        with pytest.warns(UserWarning, match="skipped"):
            del reading
        assert left() is None
    finally:
        gc.enable()


def test_a_record_that_was_interrupted_is_still_to_come(tmp_path, monkeypatch):
    folder = write_csv(tmp_path)
    whole = records_of(data.documents(folder))
    reading = data.documents(folder)
    first = records_of(next(reading) for _ in range(4))

    def interrupted(image):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("minidream.data.pictures.as_rgb", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(reading)
    assert first + records_of(data.documents(folder, start=reading.position)) == whole


def test_the_account_names_the_first_records_of_each_reason():
    skipped = Skipped()
    assert not skipped and len(skipped) == 0
    for number in range(NAMED + 2):
        skipped.add(f"record {number}", Unusable("it is blank", f"field {number}"))
    skipped.add("record 9", Unusable("it is late"))
    assert len(skipped) == NAMED + 3
    assert str(skipped) == (
        "6 records were skipped:\n"
        "- 5 because it is blank (record 0: 'field 0'; record 1: 'field 1'; record 2: 'field 2'; "
        "and 2 more)\n"
        "- 1 because it is late (record 9)"
    )
    skipped.add("record 10", Unusable("it is long", "x" * 10_000))
    assert len(str(skipped)) < 1000


def test_an_account_of_many_records_stays_small():
    skipped = Skipped()
    for number in range(1000):
        skipped.add(f"record {number}", Unusable("it is blank"))
    assert sum(map(len, skipped.first.values())) == NAMED


# --------------------------------------------------------------------------------------------------
# Which format a folder has


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        data.documents(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="part-1.tar is missing"):
        data.documents([tmp_path / "part-1.tar"])
    with pytest.raises(TypeError):
        data.documents(3)


def test_an_unknown_format_says_what_was_found_and_expected(tmp_path):
    with pytest.raises(ValueError, match=r"Found: nothing\. Expected: metadata.csv .*\.tar"):
        data.documents(tmp_path)
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("a star", encoding="utf-8")
    with pytest.raises(ValueError, match=r"Found: \d\.txt, .*, \.\.\.\. Expected: "):
        data.documents(tmp_path)
    with pytest.raises(ValueError, match=r"Found: a file 3\.txt\. Expected"):
        data.documents(tmp_path / "3.txt")


def test_a_folder_of_two_formats_is_ambiguous(tmp_path):
    write_csv(tmp_path)
    write_webdataset(tmp_path)
    with pytest.raises(ValueError, match="looks like imagefolder and webdataset: use the reader"):
        data.documents(tmp_path)
    assert len(list(data.imagefolder.read(tmp_path))) == COUNT


def test_other_files_beside_the_data_do_not_matter(tmp_path):
    """img2dataset writes statistics beside each tar file."""
    write_webdataset(tmp_path)
    (tmp_path / "part-000_stats.json").write_text('{"count": 5}', encoding="utf-8")
    (tmp_path / ".hidden.tar").write_bytes(b"no tar file")
    assert len(list(data.documents(tmp_path))) == COUNT


def test_a_file_of_a_folder_can_be_given_itself(tmp_path):
    for name, file in (
        ("imagefolder, csv", "metadata.csv"),
        ("imagefolder, jsonl", "metadata.jsonl"),
        ("llava", "conversations.json"),
    ):
        folder = WRITERS[name](tmp_path / name)
        assert records_of(data.documents(folder / file)) == records_of(data.documents(folder))
    for name in ("mmc4", "obelics"):
        folder = WRITERS[name](tmp_path / name)
        assert sorted(records_of(data.documents(folder / "shard_0.jsonl"))) == list(
            range(COUNT // 3)
        )


def test_the_home_folder_can_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_csv(tmp_path / "pictures")
    assert len(list(data.documents("~/pictures"))) == COUNT

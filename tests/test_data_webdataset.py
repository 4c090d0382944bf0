"""Tar files of samples: how members are grouped, shuffled in windows, and which are refused."""

import io
import json
import tarfile
import warnings

import pytest
from data_shared import (
    COUNT,
    picture_bytes,
    record_of,
    records_of,
    sample_members,
    write_tar,
    write_webdataset,
)

from minidream import data
from minidream.data import webdataset
from minidream.data.reading import Share
from minidream.data.webdataset import Sample, members, split_name


def read_all(folder) -> tuple[list[int], dict]:
    """The records of a folder in which something is wrong, sorted, and what was skipped."""
    reading = data.documents(folder)
    with pytest.warns(UserWarning, match="skipped"):
        records = sorted(records_of(reading))
    return records, dict(reading.skipped.counts)


def good(first: int, last: int) -> list:
    return [member for record in range(first, last) for member in sample_members(record)]


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


# --------------------------------------------------------------------------------------------------
# Samples


def test_a_sample_is_a_caption_and_the_picture_to_be_painted(tmp_path):
    write_tar(tmp_path / "a.tar", sample_members(7))
    (document,) = data.documents(tmp_path)
    assert document.items[0] == "caption 7" and document.targets == (0,)
    assert record_of(document) == 7


@pytest.mark.parametrize(
    "extra, text",
    [
        ([("7.txt", b" a star\n")], "a star"),
        ([("7.json", b'{"caption": "a star", "width": 5}')], "a star"),
        ([("7.json", b'{"caption": "a ring", "text": "a star"}')], "a star"),
        ([("7.json", b'{"caption": "a ring"}'), ("7.txt", b"a star")], "a star"),
        ([("7.json", b"damaged, but not needed"), ("7.txt", b"a star")], "a star"),
        ([("7.txt", "星".encode()), ("7.cls", b"3"), ("7.seg.png", b"no picture")], "星"),
    ],
)
@pytest.mark.parametrize("kind", ["png", "jpg", "JPEG", "webp"])
def test_the_caption_is_the_txt_or_a_field_of_the_json(tmp_path, extra, text, kind):
    content = picture_bytes(7, "JPEG" if kind[0] in "jJ" else kind.upper())
    write_tar(tmp_path / "a.tar", [*extra[:1], (f"7.{kind}", content), *extra[1:]])
    (document,) = data.documents(tmp_path)
    assert document.text == text and document.images[0].size == (5, 3)


def test_the_base_name_reaches_to_the_first_dot_of_the_file():
    for name, parts in {
        "0001.jpg": ("0001", "jpg"),
        "./a.b/0001.seg.PNG": ("a.b/0001", "seg.png"),
        "a/b/0001.txt": ("a/b/0001", "txt"),
        "README": ("", ""),
        "a/._0001.jpg": ("", ""),
        "a.b/0001": ("", ""),
    }.items():
        assert split_name(name) == parts, name


def test_samples_of_the_same_name_in_other_folders_are_others(tmp_path):
    folders = [tarfile.TarInfo("a"), tarfile.TarInfo("b")]
    for folder in folders:
        folder.type = tarfile.DIRTYPE
    first, second = sample_members(3), [(f"b/{name}", data) for name, data in sample_members(4)]
    write_tar(
        tmp_path / "a.tar", [folders[0], *[(f"a/{n}", d) for n, d in first], folders[1], *second]
    )
    renamed = [("b/0003" + name[-4:], content) for name, content in sample_members(5)]
    write_tar(tmp_path / "b.tar", [("a/0003" + name[-4:], d) for name, d in first] + renamed)
    reading = data.documents(tmp_path)
    assert sorted(records_of(reading)) == [3, 3, 4, 5]
    assert not reading.skipped  # the folders are no samples


@pytest.mark.parametrize(
    "sample, reason",
    [
        ([("5.txt", b"a star")], "a sample has no picture"),
        ([("5.png", picture_bytes(5))], "a sample has no caption"),
        ([("5.png", picture_bytes(5)), ("5.json", b"[]")], "a sample has no caption"),
        ([("5.png", picture_bytes(5)), ("5.json", b'{"alt": "a"}')], "a sample has no caption"),
        ([("5.png", picture_bytes(5)), ("5.json", b"{")], "a caption is damaged"),
        ([("5.png", picture_bytes(5)), ("5.json", b"[" * 9999)], "a caption is damaged"),
        ([("5.png", picture_bytes(5)), ("5.txt", b"\xff\xfe")], "a caption is damaged"),
        ([("5.png", picture_bytes(5)), ("5.txt", b" \n")], "a field is blank"),
        ([("5.png", picture_bytes(5)), ("5.json", b'{"text": 3}')], "a field is no str"),
        ([("5.png", picture_bytes(5)), ("5.txt", b"<dream>")], "text holds a special token"),
        ([("5.png", b"no picture"), ("5.txt", b"a")], "a picture cannot be read"),
        ([("5.png", picture_bytes(5)[:50]), ("5.txt", b"a")], "a picture cannot be read"),
        ([*sample_members(5), ("0005.jpg", b"")], "a sample has two of a kind"),
        ([*sample_members(5), ("0005.txt", b"b")], "a sample has two of a kind"),
    ],
)
def test_a_sample_that_cannot_be_used_is_skipped_with_the_reason(tmp_path, sample, reason):
    write_tar(tmp_path / "a.tar", good(0, 3) + sample + good(6, 9))
    assert read_all(tmp_path) == ([0, 1, 2, 6, 7, 8], {reason: 1})


# --------------------------------------------------------------------------------------------------
# Hostile tar files


@pytest.mark.parametrize(
    "name",
    ["/etc/0005.png", "../0005.png", "a/../../0005.png", "a\\..\\..\\0005.png", "C:\\0005.png"],
)
def test_a_member_whose_name_leaves_the_folder_is_skipped(tmp_path, name):
    hostile = [(name, picture_bytes(5)), (name.replace("png", "txt"), b"caption 5")]
    write_tar(tmp_path / "a.tar", good(0, 3) + hostile + good(6, 9))
    reason = "the name of a member leaves the folder"
    assert read_all(tmp_path) == ([0, 1, 2, 6, 7, 8], {reason: 1})


@pytest.mark.parametrize("name", ["/etc/passwd", "../up"])
def test_so_is_one_that_belongs_to_no_sample(tmp_path, name):
    write_tar(tmp_path / "a.tar", good(0, 3) + [(name, b"content")] + good(6, 9))
    reason = "the name of a member leaves the folder"
    assert read_all(tmp_path) == ([0, 1, 2, 6, 7, 8], {reason: 1})


@pytest.mark.parametrize(
    "kind, link",
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "0000.png"),
        (tarfile.LNKTYPE, "0000.png"),
        (tarfile.LNKTYPE, "../outside.png"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
@pytest.mark.parametrize("name", ["0005.png", "device"])
def test_links_and_devices_are_skipped(tmp_path, kind, link, name):
    hostile = [special(name, kind, link), (name.replace(".png", "") + ".txt", b"caption 5")]
    write_tar(tmp_path / "a.tar", good(0, 3) + hostile + good(6, 9))
    reason = "a member is no ordinary file, but a link or a device"
    assert read_all(tmp_path) == ([0, 1, 2, 6, 7, 8], {reason: 1})


def test_nothing_is_unpacked(tmp_path, monkeypatch):
    write_webdataset(tmp_path / "data")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert len(list(data.documents(tmp_path / "data"))) == COUNT
    assert not list((tmp_path / "here").iterdir())


def test_a_sparse_file_is_not_blown_up(tmp_path):
    """A gigabyte of nothing: a GNU header of 512 bytes says that the file is that large."""
    info = special("0005.png", tarfile.GNUTYPE_SPARSE)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482], header[483:495] = 0, b"%011o\0" % 2**30  # no extension; the real size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in good(0, 3):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        tar.fileobj.write(bytes(header))
        tar.offset += len(header)
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getmember("0005.png").size == 2**30
    reason = "a member is no ordinary file, but a link or a device"
    assert read_all(tmp_path) == ([0, 1, 2], {reason: 1})


def test_a_member_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "LARGEST", 1000)
    hostile = [("0005.png", picture_bytes(5)), ("0005.txt", b"a" * 1001)]
    write_tar(tmp_path / "a.tar", good(0, 3) + hostile + good(6, 9))
    reason = "a member has more than 1,000 bytes"
    assert read_all(tmp_path) == ([0, 1, 2, 6, 7, 8], {reason: 1})


def test_a_truncated_shard_gives_what_it_has_whatever_was_cut(tmp_path):
    write_tar(tmp_path / "whole.tar", good(0, 4))
    whole = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "data").mkdir()
    blocks = len(good(0, 4)) * 2  # a header and a block of content for each member
    for block in range(1, blocks):
        for cut in (0, 1, 300):
            (tmp_path / "data" / "a.tar").write_bytes(whole[: 512 * block + cut])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reading = data.documents(tmp_path / "data")
                records = sorted(records_of(reading))
            # The caption is the last of a sample's four blocks, and "caption 0" has nine bytes.
            complete = (512 * block + cut + 512 - len("caption 0")) // 2048
            assert records == list(range(complete)), (block, cut)
            between_members = cut == 0 and block % 2 == 0
            assert ("the rest of a shard is damaged" in reading.skipped.counts) != between_members


def test_rubbish_after_a_member_is_not_taken_for_the_end(tmp_path):
    """To tarfile it is the end."""
    write_tar(tmp_path / "a.tar", good(0, 4))
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[2 * 2048 : 2 * 2048 + 512] = b"\x07" * 512  # the header of the third sample
    (tmp_path / "a.tar").write_bytes(content)
    write_tar(tmp_path / "b.tar", good(10, 12))
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert len(tar.getmembers()) == 4
    records, skipped = read_all(tmp_path)
    assert records == [0, 1, 10, 11] and skipped == {"the rest of a shard is damaged": 1}


def test_a_negative_size_does_not_lead_backwards(tmp_path):
    info = tarfile.TarInfo("0005.png")
    info.size = -2048
    header = info.tobuf(tarfile.GNU_FORMAT)
    write_tar(tmp_path / "a.tar", good(0, 3))
    content = (tmp_path / "a.tar").read_bytes()[: 3 * 2048]
    (tmp_path / "a.tar").write_bytes(content + header + bytes(1024))
    records, skipped = read_all(tmp_path)
    assert records == [0, 1, 2] and skipped == {"the rest of a shard is damaged": 1}


def test_a_pass_over_damaged_shards_can_be_resumed_too(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "WINDOW", 3)
    write_webdataset(tmp_path)
    shard = tmp_path / "part-002.tar"
    shard.write_bytes(shard.read_bytes()[:6000])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for process in (0, 1):
            share = {"seed": 3, "process": process, "processes": 2}
            whole = records_of(data.documents(tmp_path, **share))
            for taken in range(len(whole) + 1):
                reading = data.documents(tmp_path, **share)
                first = records_of(next(reading) for _ in range(taken))
                rest = data.documents(tmp_path, start=reading.position, **share)
                assert first + records_of(rest) == whole
                del reading  # it says what it skipped


# --------------------------------------------------------------------------------------------------
# Shards


def test_shards_are_given_as_a_folder_or_a_list(tmp_path):
    write_webdataset(tmp_path)
    shards = sorted(tmp_path.glob("*.tar"))
    assert len(shards) == 4
    whole = records_of(data.documents(tmp_path))
    assert records_of(data.documents(shards)) == whole
    assert records_of(data.documents([str(shard) for shard in shards])) == whole
    first = sorted(records_of(data.documents(shards[0])))
    assert first == list(range(COUNT // 5))
    assert sorted(records_of(data.documents(shards[1:]))) == list(range(COUNT // 5, COUNT))


@pytest.mark.parametrize("content", [b"", b"no tar file" * 100, picture_bytes(3)])
def test_a_file_that_is_no_tar_file_is_an_error_before_the_first_document(tmp_path, content):
    write_webdataset(tmp_path)
    (tmp_path / "part-009.tar").write_bytes(content)
    with pytest.raises(ValueError, match="part-009.tar is no tar file"):
        data.documents(tmp_path)


def test_a_compressed_tar_file_is_an_error(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("0.txt"))
    with pytest.raises(ValueError, match="a.tar is no tar file"):
        data.documents(tmp_path)


def test_no_samples_and_no_shards_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no .tar file"):
        webdataset.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no .tar file"):
        webdataset.read([])
    write_tar(tmp_path / "a.tar", [("README", b"nothing here")])
    write_tar(tmp_path / "b.tar", [])
    with pytest.raises(ValueError, match=r"there are no samples in .*a\.tar.*b\.tar"):
        next(data.documents(tmp_path))


def test_a_shard_that_leads_out_of_the_folder_is_refused_unless_it_is_named(tmp_path):
    write_tar(tmp_path / "outside.tar", good(0, 3))
    write_webdataset(tmp_path / "data")
    link = tmp_path / "data" / "part-009.tar"
    link.symlink_to(tmp_path / "outside.tar")
    with pytest.raises(ValueError, match="part-009.tar is not read: it leads out of"):
        data.documents(tmp_path / "data")
    assert sorted(records_of(data.documents([link]))) == [0, 1, 2]


# --------------------------------------------------------------------------------------------------
# Windows


def test_samples_are_shuffled_within_windows_of_the_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "WINDOW", 5)
    write_tar(tmp_path / "a.tar", good(0, COUNT))
    order = records_of(data.documents(tmp_path, seed=1))
    for first in range(0, COUNT, 5):
        window = list(range(first, min(first + 5, COUNT)))
        assert sorted(order[first : first + 5]) == window
    assert order != sorted(order)


def test_a_window_ends_early_if_its_files_are_large(monkeypatch):
    monkeypatch.setattr(webdataset, "WINDOW", 4)
    monkeypatch.setattr(webdataset, "WINDOW_BYTES", 100)
    sizes = [10, 10, 10, 10, 90, 10, 200, 40, 40, 40, 1]
    stream = [Sample(str(size), {"png": size}) for size in sizes]
    found = [
        [sample.sizes["png"] for sample in window] for window in webdataset.windows(stream, Share())
    ]
    assert found == [[10] * 4, [90, 10], [200], [40] * 3, [1]]


def test_a_start_is_the_same_with_windows_of_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "WINDOW_BYTES", 3 * len(picture_bytes(0)) + 10)
    monkeypatch.setattr(webdataset, "WINDOW", 6)
    folder = write_webdataset(tmp_path)
    for process in range(2):
        share = {"seed": 8, "process": process, "processes": 2}
        whole = records_of(data.documents(folder, **share))
        for start in range(len(whole) + 1):
            assert records_of(data.documents(folder, start=start, **share)) == whole[start:]


def test_files_of_other_processes_and_of_earlier_windows_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "WINDOW", 4)
    folder, read = write_webdataset(tmp_path), []
    original = tarfile.TarFile.extractfile

    def watched(tar, member):
        read.append(int(member.name[:4]))
        return original(tar, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", watched)
    share = {"seed": 1, "process": 0, "processes": 2}
    mine = records_of(data.documents(folder, **share))
    assert set(read) == set(mine) and len(read) == 2 * len(mine)
    read.clear()
    rest = records_of(data.documents(folder, start=8, **share))
    assert rest == mine[8:]
    # The window before is kept too: only at its end is it known whether it was a short one.
    assert len(set(read)) < len(mine) and set(rest) <= set(read)


def test_tarfile_does_not_remember_the_members(tmp_path):
    write_tar(tmp_path / "a.tar", good(0, COUNT))
    for tar, member in members(tmp_path / "a.tar"):
        assert not tar.members
        assert member.isreg()


def test_a_window_is_the_only_thing_that_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "WINDOW", 3)
    alive, counts, original = set(), [], Sample.__init__

    def made(self, *arguments, **options):
        original(self, *arguments, **options)
        alive.add(id(self))

    def gone(self):
        alive.discard(id(self))

    monkeypatch.setattr(Sample, "__init__", made)
    monkeypatch.setattr(Sample, "__del__", gone, raising=False)
    for _ in data.documents(write_webdataset(tmp_path)):
        counts.append(len(alive))
    # A full window, those on their way in and out, and hardly any at the end of one (the last
    # window is a short one).
    assert 3 <= max(counts) <= 3 + 2 and min(counts[:-2]) <= 2


def test_the_json_of_img2dataset_is_understood(tmp_path):
    content = {"caption": "a star", "url": "http://example.org", "key": "7", "status": "success"}
    write_tar(
        tmp_path / "00000.tar",
        [("7.jpg", picture_bytes(7, "JPEG")), ("7.json", json.dumps(content).encode())],
    )
    assert [document.text for document in data.documents(tmp_path)] == ["a star"]

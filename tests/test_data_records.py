"""Lists of records: JSON lines, a JSON array and CSV, read one record at a time."""

import csv
import json
import random

import pytest

from minidream.data import records
from minidream.data.reading import Unusable
from minidream.data.records import csv_records, json_array_records, json_line_records

# Text with all that could be taken for an end of a string, a record or a line.
HARD = ['"', "\\", '\\"', "[", "]", "{", "}", ",", "\n", "\r\n", "\u2028", "é", "星", "\x0b", " "]


def hard_texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(HARD, k=rng.randrange(1, 9))) for _ in range(count)]


def all_of(found) -> list:
    return [found[number] for number in range(len(found))]


# --------------------------------------------------------------------------------------------------
# The same records as json and csv read


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_array_is_read_as_json_reads_it(tmp_path, indent, ascii, mark):
    path = tmp_path / "list.json"
    for seed in range(20):
        texts = hard_texts(12, seed)
        content = [{"key": text, text: [text, {"deep": [text]}, [], {}]} for text in texts]
        text = json.dumps(content, indent=indent, ensure_ascii=ascii)
        path.write_bytes(mark + text.encode() + b"\n")
        assert all_of(json_array_records(path, ("key",))) == content


@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_json_lines_are_read_as_json_reads_them(tmp_path, ascii, end):
    parts = [[{"key": text} for text in hard_texts(7, seed)] for seed in range(3)]
    paths = [tmp_path / f"{number}.jsonl" for number in range(3)]
    for path, part in zip(paths, parts):
        lines = [json.dumps(record, ensure_ascii=ascii) for record in part]
        path.write_bytes(("\ufeff" + end + end.join(lines)).encode())  # no end after the last
    found = json_line_records(paths, ("key",))
    assert all_of(found) == sum(parts, [])
    assert [found.name(number) for number in (0, 6, 7, 20)] == [
        "0.jsonl, record 1",
        "0.jsonl, record 7",
        "1.jsonl, record 1",
        "2.jsonl, record 7",
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_is_read_as_csv_reads_it(tmp_path, mark, end):
    path = tmp_path / "rows.csv"
    for seed in range(20):
        rows = [[f"{text}.png", text] for text in hard_texts(9, seed)]
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(mark)
            csv.writer(file, lineterminator=end).writerows([["file_name", "text"], *rows])
        with path.open(encoding="utf-8-sig", newline="") as file:
            expected = list(csv.DictReader(file))
        assert [list(row.values()) for row in expected] == rows
        assert all_of(csv_records(path, ("file_name", "text"))) == expected


def test_records_can_be_read_in_any_order(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"key": number} for number in range(10)]), encoding="utf-8")
    found = json_array_records(path, ("key",))
    assert [found[number]["key"] for number in (7, 0, 9, 7)] == [7, 0, 9, 7]


def test_what_is_kept_of_a_record_is_where_it_lies(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"key": "x" * 100_000}) + "\n", encoding="utf-8")
    found = json_line_records([path] * 50, ("key",))
    assert len(found) == 50
    assert found.begins.itemsize * len(found.begins) + found.ends.itemsize * len(found.ends) == 800


# --------------------------------------------------------------------------------------------------
# What concerns the whole


@pytest.mark.parametrize(
    "content, message",
    [
        ("", r"damaged at line 1: the file is empty"),
        ("[\n", r"damaged at line 1: '\[' was found where '\[\]' was expected"),
        ('[\n{"key": 1},\n{"key": 2}\n', r"damaged at line 3: nothing was found where '\]'"),
        ('[\n{"key": 1},\n{"key": 2,}\n]', r"damaged at line 3: .*column 11; JSON was expected"),
        ('[\n{"key": 1}\n{"key": 2}\n]', r"damaged at line 2: nothing was found where ','"),
        ('[\n{"key": 1},\n{"key":\n2\n3}]', r"damaged at line 5: Expecting ',' delimiter"),
        ('[\n{"key": 1},\n{"key": "2}]', r"damaged at line 3: ',.*2}\]' was found where '\]'"),
        ('[\n{"key": 1},\n]', r"damaged at line 2: ',.*' was found where '\]' was expected"),
        ('[{"key": 1}]\n[]', r"damaged at line 1: .* was found where '\]' was expected"),
        ('[{"key": 1}, 3]', r"damaged at line 1: ', 3\]' was found where '\]'"),
        ('[3, {"key": 1}]', r"damaged at line 1: '\[3,' was found where '\['"),
        ('{"key": [1, 2]}', r"damaged at line 1: .* was found where '\[' was expected"),
        ('{"key": 1}', r"damaged at line 1: .* was found where '\[\]' was expected"),
        ("3", r"damaged at line 1: '3' was found where '\[\]' was expected"),
        ('[{"key": ' + "1" * 5000 + "}]", r"damaged at line 1: Exceeds the limit"),
        ('[{"key": ' + "[" * 5000 + "]" * 5000 + "}]", r"damaged at line 1: maximum recursion"),
        ("[]", r"there are no records in list.json"),
        ('[{"other": 1}, [2]]', r"no record of list.json .* \['key'\]; the first one has \['oth"),
        ("[[2]]", r"no record of list.json .* the fields \['key'\]; the first one is \[2\]"),
    ],
)
def test_a_damaged_array_is_an_error_with_its_line(tmp_path, content, message):
    path = tmp_path / "list.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        json_array_records(path, ("key",))


@pytest.mark.parametrize(
    "lines, message",
    [
        (['{"key": 1}', "", '{"key": '], r"1\.jsonl is damaged at line 3: Expecting value at col"),
        (['{"key": 1}', "key: 1"], r"1\.jsonl is damaged at line 2: Expecting value at column 1"),
        (['{"key": 1} {"key": 2}'], r"1\.jsonl is damaged at line 1: Extra data at column 12"),
        (['{"key": ' + "[" * 9999], r"1\.jsonl is damaged at line 1: maximum recursion"),
        ([""], r"there are no records in 1\.jsonl \(in "),
        (['{"other": 1}'], r"no record of 1\.jsonl .* \['key'\]; the first one has \['other'\]"),
        (["null", "3"], r"no record of 1\.jsonl .*; the first one "),
    ],
)
def test_damaged_lines_are_an_error_with_their_number(tmp_path, lines, message):
    path = tmp_path / "1.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        json_line_records([path], ("key",))


@pytest.mark.parametrize("content", [b'{"key": "\xff"}\n', '{"key": 1}\n'.encode("utf-16")])
def test_another_encoding_is_an_error_with_its_line(tmp_path, content):
    path = tmp_path / "1.jsonl"
    path.write_bytes(b'{"key": 1}\n' + content)
    with pytest.raises(ValueError, match=r"1\.jsonl is damaged at line [23]: "):
        json_line_records([path], ("key",))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"is empty; a line with the names of the columns was expected"),
        (b"file_name,text\n", r"there are no records in rows\.csv"),
        (b"file_name,caption\n1.png,a\n", r"has no column 'text'; it has \['file_name', 'caption'"),
        (b"file_name,text\n1.png,a\n2.png,a, b\n", r"damaged at line 3: 3 fields in 2 columns"),
        (b'file_name,text\n1.png,"a\nb"\n2.png,"a\n', r"damaged at line 4: unexpected end of data"),
        (b'file_name,text\n1.png,"a" b\n', r"damaged at line 2: .* CSV in UTF-8 was expected"),
        (b"file_name,text\n1.png,\xff\n", r"damaged at line 2: 'utf-8' codec"),
        (b"file_name,text\r1.png,a\r", r"damaged at line 1: new-line character"),
    ],
)
def test_damaged_csv_is_an_error_with_its_line(tmp_path, content, message):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        csv_records(path, ("file_name", "text"))


def test_a_row_with_too_few_fields_lacks_the_last(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("file_name,text\n1.png\n\n2.png,b\n", encoding="utf-8")
    found = csv_records(path, ("file_name", "text"))
    assert all_of(found) == [{"file_name": "1.png"}, {"file_name": "2.png", "text": "b"}]


@pytest.mark.parametrize("content", ['{"key": "%s"}\n', '[{"key": "%s"}]', '[{"key": 1} %s]'])
def test_what_is_too_long_for_a_record_is_not_read_at_once(tmp_path, monkeypatch, content):
    monkeypatch.setattr(records, "LONGEST", 1000)
    path = tmp_path / "file"
    path.write_text(content % ("x" * 999), encoding="utf-8")
    read = (
        json_array_records
        if content.startswith("[")
        else lambda *a: json_line_records([path], a[1])
    )
    with pytest.raises(
        ValueError, match=r"damaged at line 1: (a (line|record) has more than 1,000|')"
    ):
        read(path, ("key",))


def test_a_file_of_quotes_does_not_take_for_ever(tmp_path):
    """Each of a hundred thousand quotes could begin a string that never ends."""
    path = tmp_path / "list.json"
    path.write_text('[{"key": "' + r"\"" * 1_000_000, encoding="utf-8")
    with pytest.raises(ValueError, match="damaged at line 1"):
        json_array_records(path, ("key",))


def test_a_record_that_is_no_object_is_unusable(tmp_path):
    path = tmp_path / "1.jsonl"
    path.write_text('{"key": 1}\n[1]\nnull\n', encoding="utf-8")
    found = json_line_records([path], ("key",))
    assert found[0] == {"key": 1}
    for number in (1, 2):
        with pytest.raises(Unusable, match="a record is no object"):
            found[number]


def test_a_file_that_changes_meanwhile_is_an_error(tmp_path):
    path = tmp_path / "1.jsonl"
    path.write_text('{"key": 1}\n{"key": 2}\n', encoding="utf-8")
    found = json_line_records([path], ("key",))
    path.write_text('{"key": "longer"}\n', encoding="utf-8")
    with pytest.raises(RuntimeError, match="was changed while it was being read"):
        found[1]

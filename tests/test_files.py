"""Files that are complete or absent, tables among them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invitro.errors import InputError
from invitro.files import is_on_local_disk, relative, sha256, whole_or_absent, write_json, write_rows, write_text
from invitro.tables import read_rows, suffix_of


def write_one_by_one(path: Path, rows: list, like: Path) -> None:
    with write_rows(path, {}, like) as write:
        for row in rows:
            write([row])


def fail_midway(path: Path) -> None:
    with whole_or_absent(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("midway")


def test_whole_or_absent_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(path)
    assert list(path.parent.iterdir()) == []


def test_whole_or_absent_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(path)
    assert path.read_text() == "old"
    write_text(path, "né")
    assert path.read_bytes() == "né".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_write_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"ccc": float("nan")})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "metrics.json", {"ccc": 0.5})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"ccc": 0.5}


def test_sha256_and_suffix(tmp_path: Path) -> None:
    write_text(tmp_path / "a.TSV", "abc")
    assert sha256(tmp_path / "a.TSV") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert suffix_of(tmp_path / "a.TSV") == ".tsv"


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
tables = st.lists(st.fixed_dictionaries({"id": cells, "text": cells, "más": cells}), min_size=1, max_size=12)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@given(rows=tables, size=st.integers(1, 5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_rows_are_read_back(tmp_path: Path, suffix: str, rows: list, size: int) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / f"table{suffix}"
    with write_rows(path, {"score": pa.float64()}, like=source) as write:
        write([row | {"score": None} for row in rows])
    lists = list(read_rows(path, size))
    assert all(len(piece) == size for piece in lists[:-1])
    flat = [row for piece in lists for row in piece]
    assert [{name: row[name] for name in ("id", "text", "más")} for row in flat] == rows
    assert [row["score"] for row in flat] == ["" if suffix in (".csv", ".tsv") else None] * len(rows)


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"n": pa.array([1, 2], pa.int16()), "tags": [["a"], []]}), source)
    target = tmp_path / "out.parquet"
    with write_rows(target, {"score": pa.float64()}, like=source) as write:
        for piece in read_rows(source, 1):
            write([row | {"score": 0.5} for row in piece])
    schema = pq.read_schema(target)
    assert schema.field("n").type == pa.int16()
    assert schema.names == ["n", "tags", "score"]
    assert pq.read_table(target).num_rows == 2


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id\n1\n")
    with pytest.raises(ValueError, match="extra"), write_rows(tmp_path / "out.csv", {}, like=source) as write:
        write([{"id": "1"}, {"extra": "2"}])
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("suffix", "rows", "message"),
    [
        (".csv", [{"text": "a"}, {"text": "b", "mood": "calm"}], "new columns: mood"),
        (".parquet", [{"text": "a"}, {"text": "b", "mood": "calm"}], "new columns: mood"),
        (".parquet", [{"text": "a"}, {"text": 1}], "a value of another type"),
        (".parquet", [{"text": "zebra"}, {"text": ["zebra"]}], "a value of another type"),
        (".parquet", [{"n": 1}, {"n": 10**30}], "a value of another type"),
        (".parquet", [{"n": {}}], "a value of another type"),
    ],
)
def test_rows_that_do_not_fit_are_refused_without_their_text(
    tmp_path: Path, suffix: str, rows: list, message: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(InputError, match=message) as refused:
        write_one_by_one(tmp_path / f"out{suffix}", rows, source)
    assert "zebra" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_missing_number_is_null_in_jsonl(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"n": [float("nan"), 2.0]}), source)
    with write_rows(tmp_path / "out.jsonl", {}, source) as write:
        write(next(read_rows(source, 9)))
    assert (tmp_path / "out.jsonl").read_text() == '{"n": null}\n{"n": 2.0}\n'


def test_cells_that_a_spreadsheet_would_run_can_be_escaped(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "a", "text": "b"}\n')
    cells = ["=HYPERLINK(1)", "+cmd", "-3.5", "- so", "@x", "fine = ok", "\t=1"]
    for escape, texts in (
        (False, cells),
        (True, ["'=HYPERLINK(1)", "'+cmd", "-3.5", "'- so", "'@x", "fine = ok", "'\t=1"]),
    ):
        with write_rows(tmp_path / "out.csv", {}, source, escape) as write:
            write([{"id": 1, "text": text} for text in cells])
        assert [row["text"] for row in next(read_rows(tmp_path / "out.csv", 9))] == texts


def mount(point: str, kind: str, options: str = "rw") -> SimpleNamespace:
    return SimpleNamespace(mountpoint=point, fstype=kind, opts=options)


@pytest.mark.parametrize(
    ("mounts", "local"),
    [
        ([("/", "ext4", "rw")], True),
        ([("/", "apfs", "rw"), ("{folder}", "smbfs", "rw")], False),
        ([("/", "nfs4", "rw"), ("{folder}", "APFS", "rw,local")], True),
        ([("{folder}", "NTFS", "rw,remote")], False),
        ([("{folder}", "nfs", "rw"), ("{folder}", "ext4", "rw")], True),  # mounted over
        ([], False),  # a Windows share that is not a drive
    ],
)
def test_a_folder_is_local_by_its_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: list[tuple[str, str, str]], local: bool
) -> None:
    disks = [mount(point.format(folder=tmp_path), *rest) for point, *rest in mounts]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: disks)
    assert is_on_local_disk(tmp_path / "labels") is local


def test_this_disk_is_recognised(tmp_path: Path) -> None:
    assert is_on_local_disk(tmp_path)
    assert not is_on_local_disk(Path("/proc"))


def test_a_file_that_another_program_has_open_is_waited_for_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, replace, refusals = tmp_path / "history.csv", Path.replace, [0, 1]

    def refusing(self: Path, other: Path) -> Path:
        if refusals:
            refusals.pop()
            raise PermissionError(13, "in use")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", refusing)
    with pytest.raises(PermissionError):
        write_text(target, "one")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("invitro.files.WINDOWS", True)
    write_text(target, "two")
    assert target.read_text() == "two"


def test_where_a_file_is_from_a_folder_has_slashes() -> None:
    assert relative(Path("runs/a/error.txt"), Path("runs/report")) == "../a/error.txt"

"""Text of tables as trimmed Arrow strings: the same values whichever way a column is taken."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.text import constant, first_known, from_codes, matches, plain, text
from schema.upsert import to_arrow

BYTES = st.lists(st.binary(min_size=0, max_size=6), min_size=1, max_size=30)


def meaning(value: bytes) -> str | None:
    """What the bytes of one cell say, spelled out."""
    return value.split(b"\0", 1)[0].decode("latin-1").strip(" \t\r\n\0") or None


@given(BYTES, st.booleans())
@settings(deadline=None)
def test_a_column_says_what_its_cells_say(cells: list[bytes], many: bool) -> None:
    """Zeros end a value, blanks around it go, nothing but blanks is null; with few and many values alike."""
    cells = cells * 40
    if many:  # all different, so that the column is not coded
        cells = [b"%04d" % k + c for k, c in enumerate(cells)]
    column = np.array(cells, dtype="S12")
    found = text(column)
    assert plain(found).to_pylist() == [meaning(c) for c in column.tolist()]
    if many:
        assert isinstance(found, pa.StringArray)
    else:
        words = found.dictionary.to_pylist()
        assert len(set(words)) == len(words)
        assert "" not in words


def test_what_is_text_already() -> None:
    assert text(np.array([" a ", "", "\t"])).to_pylist() == ["a", None, None]
    assert text(pa.chunked_array([["b "], [None, " "]])).to_pylist() == ["b", None, None]
    assert text(np.array([], dtype="S4")).to_pylist() == []
    wide = np.array(["é ".encode("latin-1"), b"plain"], dtype="S8")
    assert text(wide).to_pylist() == ["é", "plain"]


def test_columns_are_combined_by_their_values() -> None:
    one = from_codes(np.array([0, -1, -1, 1], dtype=np.int32), ["SKY", "QSO"])
    two = pa.array([None, "GALAXY", None, "SKY"])
    assert first_known(one, two).to_pylist() == ["SKY", "GALAXY", None, "QSO"]
    assert first_known(constant(None, 4), two, constant("x", 4)).to_pylist() == ["x", "GALAXY", "x", "SKY"]
    assert matches(two, "SKY".__eq__).tolist() == [False, False, False, True]
    assert matches(one, lambda word: True).tolist() == [True, False, False, True]


def test_coded_text_goes_to_the_database_as_it_is() -> None:
    from schema.tables import target

    given_ = pa.table({"survey": constant("sdss", 3)})
    assert to_arrow(target, given_)["survey"].type == given_["survey"].type

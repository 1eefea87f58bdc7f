"""Dates and identifiers in a table, as spreadsheets write them."""

from __future__ import annotations

import re

import pandas as pd

from cxr.data.sources.label_csv import is_blank

DAY_ZERO = pd.Timestamp("1899-12-30")  # of Excel's day numbers
FORMS = {
    r"\d{4}-\d{1,2}-\d{1,2}": "%Y-%m-%d",
    r"\d{4}/\d{1,2}/\d{1,2}": "%Y/%m/%d",
    r"\d{8}": "%Y%m%d",
    r"\d{1,2}\.\d{1,2}\.\d{4}": "%d.%m.%Y",
}
ROUNDED = r"[+-]?\d([.,]\d+)?[Ee]\+\d+"  # as Excel shows a number of twelve digits and more
SLASHED = r"(\d{1,2})/(\d{1,2})/(\d{4})"


def check_ids(column: pd.Series, name: str) -> None:
    """Raise ValueError, naming the line, for an identifier that a spreadsheet has rounded, such as 1.23457E+14: several
    of them look the same, so that one patient would be made of many.
    """
    if (rounded := column.str.strip().str.fullmatch(ROUNDED)).any():
        line = rounded.idxmax()
        raise ValueError(
            f"{name} line {line}: {column.name} is {column[line]!r}, a number that a spreadsheet has rounded, so that "
            f"different ones look the same: export the table again with that column as text, or restore the published "
            f"file"
        )


def read_dates(column: pd.Series, name: str) -> pd.Series:
    """A text column as dates, NaT where blank: 2020-12-31, 2020/12/31, 20201231, 31.12.2020, Excel's day number, or
    12/31/2020 and 31/12/2020 where the column itself shows which it is. A time of day behind it is ignored.

    Raises ValueError, naming the line, for another form, a day that does not exist, and slashes that could be both.
    """
    cells = column.str.strip().str.replace(r"[ T]\d{1,2}:\d{2}.*$", "", regex=True)
    slashed = cells.str.extract(rf"^{SLASHED}$").dropna().astype(int)
    form = "%d/%m/%Y"
    if len(slashed):
        day_first, month_first = (slashed[0] > 12).any(), (slashed[1] > 12).any()
        if day_first == month_first:
            line = slashed.index[0]
            problem = "mixes day/month and month/day" if day_first else "could be day/month or month/day"
            raise ValueError(f"{name} line {line}: {column.name} {problem} ({cells[line]}): write dates as 2020-12-31")
        form = "%d/%m/%Y" if day_first else "%m/%d/%Y"
    return pd.Series(
        [_date(cell, form, column, line, name) for line, cell in cells.items()], column.index, dtype="datetime64[ns]"
    )


def _date(cell: str, slashes: str, column: pd.Series, line: int, name: str) -> pd.Timestamp:
    if is_blank(cell):
        return pd.NaT
    for pattern, form in {**FORMS, SLASHED: slashes}.items():
        if re.fullmatch(pattern, cell):
            try:
                return pd.to_datetime(cell, format=form)
            except ValueError:
                break
    else:
        if re.fullmatch(r"\d{4,5}([.,]0+)?", cell):
            return DAY_ZERO + pd.Timedelta(days=int(re.split("[.,]", cell)[0]))
    raise ValueError(f"{name} line {line}: {column.name} is {cell!r}, no date: write it as 2020-12-31")

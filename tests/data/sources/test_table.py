"""A hospital's own folder and CSV, as Excel and other tools write it."""

import pytest

from cxr.data.sources import registry
from cxr.data.sources.archive import Folder
from cxr.data.sources.dataset import Given
from cxr.data.sources.table import columns_of
from tests.data.sources.trees import png, put

COLUMNS = ["path=Datei", "patient=Fallnummer", "view=Aufnahme", "sex=Geschlecht", "birth=Geburtsdatum", "date=Datum"]
COLUMNS += ["cardiomegaly=Herz vergrößert", "Pleural Effusion=Erguss"]
EXCEL = (
    "Datei;Fallnummer;Aufnahme;Geschlecht;Geburtsdatum;Datum;Herz vergrößert;Erguss;Müll\r\n"
    r"C:\Röntgen\eins.PNG;17;p.a.;weiblich;01.07.1950;01.07.2020;1,0;nein;x" + "\r\n"
    "zwei;17;a.p.;W;18445;44013;0;;\r\n"
    "drei.png;18;seitl;m;1950-07-01;2020-07-01 08:15:00;WAHR;Ja;\r\n"
)  # 18445 and 44013 are Excel's numbers of 1 July 1950 and 1 July 2020


def tree(root, text=EXCEL, encoding="cp1252"):
    images = {f"bilder/{name}": png(k) for k, name in enumerate(("eins.png", "zwei.png", "drei.png"))}
    return Folder(put(root, images | {"liste.csv": text.encode(encoding)}))


def read(root, columns=tuple(COLUMNS), **options):
    return registry.read(registry.find("table"), tree(root, **options), Given(columns=columns_of(list(columns))))


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_of_excel_is_read(tmp_path, encoding):
    rows = read(tmp_path, text=EXCEL.replace("seitl", "LAT"), encoding=encoding).records
    assert rows["path"].tolist() == ["bilder/eins.png", "bilder/zwei.png", "bilder/drei.png"]
    assert rows["patient_id"].tolist() == ["17", "17", "18"] and rows["sex"].tolist() == ["F", "F", "M"]
    assert rows["view"].tolist()[:2] == ["PA", "AP"] and rows["projection"].tolist()[2] == "lateral"
    assert [round(age, 1) for age in rows["age"]] == [70.0, 70.0, 70.0]
    assert rows["Cardiomegaly"].tolist() == [1, 0, 1]
    assert rows["Pleural Effusion"].tolist()[::2] == [0, 1] and rows["Pleural Effusion"].isna().tolist()[1]
    assert rows["Edema"].isna().all()


def change(old: str, new: str) -> str:
    assert old in EXCEL
    return EXCEL.replace("seitl", "LAT").replace(old, new)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (EXCEL, "line 4: Aufnahme is 'seitl', must be one of AP, PA"),
        (change("zwei;17", "zwei;1,23457E+14"), r"line 3: Fallnummer is '1,23457E\+14', a number .* rounded"),
        (change("zwei;17", "zwei;"), "line 3: Fallnummer is blank"),
        (change("zwei;", "vier.png;"), "line 3: the image 'vier.png' does not exist"),
        (change("zwei;", "eins;"), "lines 2, 3: the image bilder/eins.png stands twice"),
        (change("nein", "vielleicht"), "line 2: Erguss is 'vielleicht', must be 1, 0, -1"),
        (change("01.07.1950", "31.02.1950"), "line 2: Geburtsdatum is '31.02.1950', no date"),
        (change("01.07.1950", "01/07/1950"), "line 2: Geburtsdatum could be day/month or month/day"),
    ],
)
def test_a_cell_that_is_not_understood_is_named(tmp_path, text, problem):
    with pytest.raises(ValueError, match=problem):
        read(tmp_path, text=text)


def test_slashed_dates_are_read_where_the_column_shows_the_order(tmp_path):
    both = change("01.07.1950", "07/01/1950").replace("18445", "12/31/1950")
    assert [round(age) for age in read(tmp_path, text=both).records["age"]] == [70, 70, 70]
    with pytest.raises(ValueError, match="mixes day/month and month/day"):
        read(tmp_path, text=both.replace("07/01/1950", "31/12/1950"))


def test_an_age_may_have_a_comma_or_dicoms_form(tmp_path):
    text = (
        change("Geburtsdatum", "Alter").replace("01.07.1950", "67,5").replace("18445", "067Y").replace("1950-07-01", "")
    )
    columns = [c for c in COLUMNS if not c.startswith(("birth", "date"))] + ["age=Alter"]
    ages = read(tmp_path, columns, text=text).records["age"]
    assert ages.tolist()[:2] == [67.5, 67] and ages.isna().tolist()[2]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (COLUMNS[1:], "does not say which column of liste.csv is the path"),
        (COLUMNS[:6], "columns names no finding"),
        ([*COLUMNS, "edema=Ödem"], "column 'Ödem' is missing"),
        ([*COLUMNS, "edema=Erguss"], "gives one column of the CSV two meanings"),
        ([*COLUMNS, "Herz=Erguss"], "unknown finding 'Herz'"),
        ([*COLUMNS, "edema"], "must be <key>=<column of the CSV>"),
        ([*COLUMNS, "sex=x"], "sex stands twice"),
        ([*COLUMNS, "csv=other.csv"], "name one table"),
    ],
)
def test_a_wrong_column_is_named(tmp_path, columns, problem):
    with pytest.raises(ValueError, match=problem):
        read(tmp_path, columns, text=EXCEL.replace("seitl", "LAT"))


def test_without_a_view_every_image_is_frontal_and_it_is_noted(tmp_path):
    reading = read(tmp_path, [c for c in COLUMNS if not c.startswith("view")])
    assert (reading.records["projection"] == "frontal").all() and "every image counts as frontal" in reading.notes[0]


def test_a_study_that_a_spreadsheet_rounded_is_refused_and_a_name_with_an_e_is_not(tmp_path):
    columns = [*COLUMNS, "study=Müll"]
    with pytest.raises(ValueError, match=r"line 2: Müll is '1\.2E\+15', a number"):
        read(tmp_path, columns, text=change("nein;x", "nein;1.2E+15"))
    assert read(tmp_path, columns, text=change("nein;x", "nein;12E5")).records["study_id"].iloc[0] == "12E5"

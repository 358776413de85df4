"""The catalogue agrees with the series table, the label sets and itself, and says where it is wrong."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from hcc_tace_data import Catalog
from hcc_tace_data.errors import CatalogError
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.labels.names import tumour_classes, whole_liver_classes
from hcc_tace_data.loaders.label_sets import resolve_label_set
from hcc_tace_data.open import open_collection

CATALOG = Path(__file__).resolve().parents[2] / "catalog.yaml"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def test_counts_are_those_of_the_series_table(catalog: Catalog) -> None:
    table, idc = load_series_table(), catalog.counts.idc
    ct = table[table["modality"] == "CT"]
    assert len(table) == idc.series
    assert len(ct) == idc.ct_series
    assert ct["instances"].sum() == idc.ct_instances
    assert table["instances"].sum() == idc.instances
    assert table["bytes"].sum() == idc.bytes
    assert table["patient_id"].nunique() == idc.patients
    assert table["study_uid"].nunique() == idc.studies
    extra = load_series_table(with_bamf=True)
    assert (extra["source"] == "bamf_aimi_annotations").sum() == idc.bamf_series
    assert extra["series_description"].str.contains("corrected").sum() == idc.bamf_corrected


def test_phase_volumes_add_up(catalog: Catalog) -> None:
    paper = catalog.counts.paper
    assert sum(paper.phases.values()) == paper.phase_volumes
    assert list(paper.phases) == [phase.key for phase in catalog.phases]
    # 48 series hold several phases, one of them three
    assert catalog.counts.idc.ct_series + paper.stacked_series + 1 == paper.phase_volumes


def test_label_sets_of_the_loaders(catalog: Catalog) -> None:
    keys = tuple(segment.key for segment in catalog.segments)
    standard = resolve_label_set("standard", keys)
    assert standard == {1: ("liver",), 2: ("tumour", "necrosis"), 3: ("portal_vein",), 4: ("aorta",)}
    assert list(standard)[-1] == 2  # painted last: the tumour wins where segments overlap
    assert resolve_label_set("lesion", keys) == {1: ("liver", "portal_vein"), 2: ("tumour", "necrosis")}
    assert set(resolve_label_set("liver", keys)[1]) == {"liver", "portal_vein", "tumour", "necrosis"}
    assert {key for items in catalog.label_sets.values() for item in items for key in item.segments} == set(keys)


def test_coded_concepts_are_dicoms(catalog: Catalog) -> None:
    from pydicom.sr.codedict import codes

    for segment, name in (("liver", "Liver"), ("portal_vein", "PortalVein"), ("aorta", "AbdominalAorta")):
        concept = next(s.type for s in catalog.segments if s.key == segment)
        assert getattr(codes.SCT, name).value == concept.value
    assert codes.SCT.Mass.value == next(s.type.value for s in catalog.segments if s.key == "tumour")
    assert codes.SCT.Necrosis.value == next(s.type.value for s in catalog.segments if s.key == "necrosis")


def test_it_cannot_be_changed(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="frozen"):
        catalog.identity.patients = 3  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("  patients: 105\n  patient_id_pattern", "  patients: many\n  patient_id_pattern", "identity.patients"),
        ("  idc_first: 11", "  idc_frist: 11", "versions.idc_frist"),
        ("colour: '#D55E00'", "colour: red", "segments.1.colour"),
        ("{code: HT603, patient_id: HCC_012", "{code: 603, patient_id: HCC_012", "known_issues"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = CATALOG.read_text()
    assert text.count(old) == 1
    path = tmp_path / "catalog.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(CatalogError, match=re.escape(named)) as caught:
        Catalog.load(path)
    line = text[: text.index(old)].count("\n") + 1
    assert f"line {line}" in str(caught.value)


def test_broken_yaml_and_absent_files(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("identity: [")
    with pytest.raises(CatalogError, match="not YAML"):
        Catalog.load(tmp_path / "bad.yaml")
    with pytest.raises(CatalogError, match="no catalogue"):
        Catalog.load(tmp_path / "none.yaml")


def test_the_vocabulary_knows_every_name_and_code(catalog: Catalog) -> None:
    known = catalog.vocabulary
    for segment in catalog.segments:
        for name in (segment.name, segment.key, *segment.aliases):
            assert known.key_of(f" {name.upper()} ") == segment.key
        assert known.key_of("Segment 9", segment.type.value) == segment.key
        assert known.key_of("", f"{segment.type.scheme}:{segment.type.value}") == segment.key
        assert known.key_of("", f"99LOCAL:{segment.type.value}") is None
        assert known.key_of(number=segment.number) == known.key_of(str(segment.number), number=9) == segment.key
        assert known.key_of(str(segment.number)) is None  # in a SEG, a number is not a name
    assert known.key_of() is known.key_of("spleen", number=1) is known.key_of(number=200) is None


def test_the_whole_liver_is_one_thing(catalog: Catalog) -> None:
    known = catalog.vocabulary
    assert set(known.whole_liver) == {"liver", "tumour", "necrosis", "portal_vein"}
    assert whole_liver_classes(catalog) == (1, 2, 3)
    assert whole_liver_classes(catalog, catalog.classes("lesion")) == (1, 2)
    assert whole_liver_classes(catalog, {7: ("liver", "aorta")}) == ()
    assert tumour_classes(catalog) == tumour_classes(catalog, catalog.classes("lesion")) == (2,)


def test_the_shipped_catalogue_is_pickled_as_a_reference(catalog: Catalog) -> None:
    assert pickle.loads(pickle.dumps(catalog)) is catalog
    assert len(pickle.dumps(catalog)) < 200
    other = catalog.model_copy(update={"splits": catalog.splits.model_copy(update={"folds": 3})})
    assert pickle.loads(pickle.dumps(other)) == other != catalog


def test_a_collection_carries_its_catalogue(catalog: Catalog, twin: Path) -> None:
    """Another collection's names are used for its files, down to the annotations of a study."""
    bamf = {**catalog.sources, "bamf": {**catalog.sources["bamf"], "description_prefix": "Segmentation"}}
    other = catalog.model_copy(update={"sources": bamf})
    collection = open_collection(twin, catalog=other)
    patient = collection[next(iter(collection))]
    study = patient.studies[0]
    assert collection.catalog is patient.catalog is study.catalog is study.series[0].catalog is other
    assert collection.subset([patient.patient_id]).catalog is other
    series = next(one for one in study.series if one.modality == "SEG")
    assert all(one.catalog is other for one in study.annotations)
    assert (series.origin == "bamf") == series.description.startswith("Segmentation")
    assert open_collection(twin).catalog is catalog

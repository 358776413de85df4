"""HT3: is anything left that identifies a person? After DICOM PS3.15, Annex E, with TCIA's options."""

from __future__ import annotations

from collections.abc import Iterator

from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.deid import elements as deid_elements
from hcc_tace_data.validators.deid import files as deid_files
from hcc_tace_data.validators.deid import pixels as deid_pixels
from hcc_tace_data.validators.deid import planes as deid_planes
from hcc_tace_data.validators.deid import records as deid_records
from hcc_tace_data.validators.deid.suspects import suspects
from hcc_tace_data.validators.rule import Draft, Rule

__all__ = ["RULES"]

_TABLE = "DICOM PS3.15, Table E.1-1 (innolitics/dicom-standard, early 2025; edition unstated)"


def _unscanned(context: Context) -> Iterator[Draft]:
    for row, reason in context.fact(suspects).problems:
        yield Draft(
            message=f"The header could not be scanned whole for identifiers ({reason}).",
            hint="Fetch the file again; if it is damaged at its source, leave it out.",
            at=context.place(row),
        )


RULES: tuple[Rule, ...] = (
    Rule(
        code="HT301", name="identifying-elements", severity="error", scope="instance", depth="headers",
        summary="Elements that the Basic Profile empties or removes hold nothing, at any depth.",
        why="They name or locate a person. What de-identification tools write in place of a value passes, and so do "
            "the "
            "digits that CTP's hash leaves of an accession number, in files that went through CTP.",
        fix="Empty or remove the element.",
        source=_TABLE, check=deid_elements.identifying,
    ),
    Rule(
        code="HT302", name="patient-code", severity="error", scope="patient", depth="headers",
        summary="PatientName and PatientID are the collection's codes.",
        why="Anything else may be a name or a hospital's number. In a file whose CTP block names another collection of "
            "the archive, codes that begin with that collection's name pass.",
        fix="Replace it by HCC_nnn.",
        source="TCIA", check=deid_elements.names,
    ),
    Rule(
        code="HT303", name="free-text", severity="error", scope="instance", depth="headers",
        summary="Texts, private and unknown elements included, hold no names, dates, numbers or addresses.",
        why="Identifiers hide in descriptions and comments. Words are compared with lists of technical and English "
            "words "
            "and of names; numbers, addresses and dates are recognised by their form; and what an identifying element "
            "holds may "
            "occur nowhere else.",
        fix="Review and clean the text.",
        source="DICOM PS3.15, E.3.5 (Clean Descriptors Option)", check=deid_elements.free_text,
    ),
    Rule(
        code="HT304", name="method-recorded", severity="warning", scope="series", depth="headers",
        summary="Images record how they were de-identified.",
        why="Users must know what was removed. Derived objects (segmentations, reports) inherit their sources' state "
            "and are "
            "left out.",
        fix="Set DeidentificationMethod (0012,0063) or its code sequence (0012,0064).",
        source="DICOM PS3.15, E.1.1", check=deid_records.method_recorded,
    ),
    Rule(
        code="HT305", name="plausible-dates", severity="warning", scope="instance", depth="headers",
        summary="Dates lie between 1990 and today.",
        why="A date outside was shifted wrongly, or not a date. Files of other collections, which shift otherwise, "
            "are left out.",
        fix="Shift the patient's dates again, all by the same number of days.",
        source="DICOM PS3.15, E.3.6", check=deid_records.plausible_dates,
    ),
    Rule(
        code="HT306", name="uid-roots", severity="error", scope="instance", depth="headers",
        summary="UIDs were replaced: none of a manufacturer's or hospital's root is left.",
        why="An original UID leads back to the hospital's archive. Images carry UIDs of the archive's root or UUIDs; "
            "derived "
            "objects may carry those of the software that made them.",
        fix="Replace UIDs consistently, file meta information included.",
        source=_TABLE, check=deid_elements.uids,
    ),
    Rule(
        code="HT307", name="burned-in-kinds", severity="warning", scope="instance", depth="index",
        summary="There are no images of kinds that often show names in their pixels.",
        why="Screen captures, localizers and dose pages show the patient's name, whatever BurnedInAnnotation says.",
        fix="Look at the pixels; remove the image.",
        source="DICOM PS3.15, E.3.1 (Clean Pixel Data Option)", check=deid_pixels.burned_in,
    ),
    Rule(
        code="HT308", name="header-scanned", severity="error", scope="instance", depth="headers",
        summary="Every header could be scanned for identifiers.",
        why="What was not read was not checked.", fix="Fetch the file again.",
        source="DICOM PS3.10", check=_unscanned,
    ),
    Rule(
        code="HT309", name="consistent-dates", severity="error", scope="study", depth="headers",
        summary="The dates of one examination lie within two days of each other.",
        why="Dates shifted by different numbers of days, or not at all, give the true date away and make intervals "
            "wrong.",
        fix="Shift all dates of a patient by the same number of days.",
        source="DICOM PS3.15, E.3.6", check=deid_records.consistent_dates,
    ),
    Rule(
        code="HT310", name="dates-marked", severity="warning", scope="series", depth="headers",
        summary="Images say that their dates were modified.",
        why="Without LongitudinalTemporalInformationModified nobody can tell a shifted date from a true one.",
        fix="Set (0028,0303) to MODIFIED once the dates were shifted.",
        source="DICOM PS3.15, E.3.6", check=deid_records.dates_marked,
    ),
    Rule(
        code="HT311", name="private-elements", severity="warning", scope="instance", depth="headers",
        summary="Private elements are known to be safe, or hold short numbers and technical words only.",
        why="Manufacturers keep names and record numbers in private elements. What the safe list does not name "
            "passes only if "
            "it cannot identify.",
        fix="Remove the element, or review it.",
        source="DICOM PS3.15, E.3.10 (Retain Safe Private Option) and Table E.3.10-1", check=deid_elements.private,
    ),
    Rule(
        code="HT312", name="pixel-text", severity="error", scope="instance", depth="pixels",
        summary="A sample of each series shows no legible text.",
        why="Names in pixels survive every cleaning of headers. Three slices of a series and up to twelve images of "
            "suspect "
            "kinds are read by optical character recognition; slices outside the sample are not.",
        fix="Blank the region, or remove the image.",
        source="DICOM PS3.15, E.3.1 (Clean Pixel Data Option)", check=deid_pixels.pixel_text,
    ),
    Rule(
        code="HT313", name="clinical-text", severity="error", scope="collection", depth="headers",
        summary="The clinical sheet holds codes, intervals and measurements; no names, dates or numbers of persons.",
        why="Spreadsheets are filled by hand; comments and added columns keep what the columns must not.",
        fix="Clean the cell.",
        source="DICOM PS3.15, E.3.5, applied to the sheet", check=deid_files.clinical_sheet,
    ),
    Rule(
        code="HT314", name="file-names", severity="error", scope="instance", depth="headers",
        summary="Names of files and folders hold no identifiers.",
        why="Exports name folders after patients and accession numbers.", fix="Rename the file or folder.",
        source="DICOM PS3.15, E.3.5, applied to paths", check=deid_files.file_names,
    ),
    Rule(
        code="HT315", name="identity-removed", severity="warning", scope="series", depth="headers",
        summary="Images say that the patient's identity was removed.",
        why="PatientIdentityRemoved is what archives and users check first.", fix="Set (0012,0062) to YES once it was.",
        source="DICOM PS3.15, E.1.1", check=deid_records.identity_removed,
    ),
    Rule(
        code="HT316", name="burned-in-annotation", severity="error", scope="instance", depth="headers",
        summary="No image says that its pixels hold identifying text.",
        why="BurnedInAnnotation lies when it says NO; when it says YES it does not.",
        fix="Blank the region, or remove the image.",
        source="DICOM PS3.15, E.3.1 (Clean Pixel Data Option)", check=deid_pixels.annotated,
    ),
    Rule(
        code="HT317", name="nothing-drawn-over", severity="error", scope="instance", depth="headers",
        summary="No overlay plane is kept in unused bits of the pixels, and no text or lines are drawn over the image.",
        why="Viewers draw them over the image, and cleaning elements does not reach them. Overlay data, curves, icons "
            "and documents of their own elements are reported by HT301.",
        fix="Clear the bits and remove the overlay's group; remove the annotation.",
        source="DICOM PS3.15, E.3.1; PS3.3, C.9.2", check=deid_planes.drawn_over,
    ),
    Rule(
        code="HT318", name="unused-bits-empty", severity="error", scope="instance", depth="pixels",
        summary="Bits of the pixels outside BitsStored are empty.",
        why="Old scanners kept overlays there, with names; viewers may draw them. Bits that repeat the sign, and the "
            "padding value, pass.",
        fix="Clear the bits, or fetch the file again.",
        source="DICOM PS3.15, E.3.1 (Clean Pixel Data Option); PS3.5, 8.1", check=deid_planes.hidden_bits,
    ),
)  # fmt: skip

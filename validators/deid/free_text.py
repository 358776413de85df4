"""Find what may identify a person in free text."""

from __future__ import annotations

import re

from hcc_tace_data.validators.deid.person_names import person_names
from hcc_tace_data.validators.deid.wordlists import word

__all__ = ["suspicions"]

_MONTH = (
    "jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|fév(?:rier)?|mar(?:ch|s|zo)?|mär(?:z)?|apr(?:il)?|avr(?:il)?|may|mai|june?|juin"
    "|july?|juil(?:let)?|aug(?:ust)?|août|sept?(?:ember|embre)?|oct(?:ober|obre)?|okt(?:ober)?|nov(?:ember|embre)?"
    "|dec(?:ember)?|déc(?:embre)?|dez(?:ember)?"
)
_DAY, _NUMBER, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d{2}"
_NOT_BEFORE, _NOT_AFTER = r"(?<![\d.,/^-])", r"(?![\d^]|[-./,]\d)"
_DATES = (
    # 12/31/1999, 31.12.99, 1999-12-31, 19991231, 31-DEC-1999, December 31, 1999: one separator throughout
    rf"{_NOT_BEFORE}(?:{_NUMBER}([/.-]){_DAY}\1(?:{_YEAR}|\d{{2}})){_NOT_AFTER}"
    rf"|{_NOT_BEFORE}(?:{_DAY}([/.-]){_NUMBER}\2(?:{_YEAR}|\d{{2}})){_NOT_AFTER}"
    rf"|{_NOT_BEFORE}(?:{_YEAR}([/.-]){_NUMBER}\3{_DAY}){_NOT_AFTER}"
    rf"|(?<![\d.])(?:{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[0-5]\d{{5}}(?:\.\d+)?)?)(?![\d.])"
    rf"|(?<!\d){_DAY}(?:st|nd|rd|th|\.)?[ -]?(?:{_MONTH})\b\.?,?[ -]?(?:{_YEAR}|'?\d{{2}}\b)"
    rf"|\b(?:{_MONTH})\b\.?[ -]?{_DAY}(?:st|nd|rd|th)?,?[ -]+{_YEAR}"
    rf"|\b(?:{_MONTH})\b\.?[ -,]+{_YEAR}(?!\d)"
)
#: Longer texts are judged in pieces of this length, which share so many characters.
_WHOLE, _OVERLAP = 1000, 150
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
#: Street suffixes: USPS Publication 28, appendix C1, and their abbreviations, save those that radiology uses (neck,
#: field ...).
_STREETS = (
    "street|streets|st|avenue|ave|av|road|roads|rd|boulevard|blvd|lane|ln|drive|drives|dr|"
    "terrace|ter|way|ways|court|courts|ct|place|pl|circle|circles|cir|square|squares|sq|parkway|"
    "pkwy|highway|hwy|trail|trl|plaza|loop|alley|crescent|close|mews|grove|groves|garden|gardens|"
    "row|hill|hills|view|walk|path|pike|crossing|junction|junctions|ford|fords|island|islands|isle|"
    "stravenue|plain|plains|mall|rapid|rapids|ville|ranch|rest|cove|coves|point|extension|"
    "extensions|station|corner|corners|meadow|meadows|forge|forges|key|keys|knoll|knolls|shoal|"
    "shoals|shore|shores|spring|springs|spur|spurs|turnpike|underpass|well|wells|annex|arcade|bayou|"
    "beach|bend|bluff|bluffs|bridge|brook|brooks|burg|burgs|bypass|camp|canyon|cape|causeway|cliff|"
    "cliffs|club|common|course|creek|crest|dale|dam|divide|estate|estates|expressway|falls|ferry|"
    "flat|flats|forest|fork|forks|fort|freeway|gateway|glen|glens|green|greens|harbor|harbors|"
    "haven|heights|hollow|inlet|lake|lakes|land|landing|lock|locks|lodge|manor|manors|mill|mills|"
    "mission|motorway|mount|mountain|mountains|orchard|oval|overpass|park|parks|passage|pine|pines|"
    "prairie|ramp|ridge|ridges|river|route|skyway|summit|throughway|trace|trafficway|tunnel|union|"
    "unions|valley|valleys|viaduct|village|villages|vista|walks"
)
_LETTER = "A-Za-zÀ-ÖØ-öø-ÿĀ-ſ"
_AFTER_NUMBER = re.compile(
    rf"(?<![\d.,/-])\d{{1,5}}[A-Z]?,? +((?:[A-ZÀ-Ö0-9][{_LETTER}0-9'’.-]*[ ]+){{1,4}})(?:{_STREETS})\b(?!\s*=)",
    re.IGNORECASE,
)
_BEFORE_NUMBER = re.compile(
    r"\b(?:rue|calle|via|viale|vicolo|piazza|plaza|avenida|avenue|boulevard|bd|chemin|all[ée]e|impasse|place|ul\.|ulica|al\.|aleja|plac|os\.|rua|rodovia|travessa|largo|alameda|estrada|praia|quadra"
    r"|calzada|callej[óo]n|privada|prolongaci[óo]n|circuito|strada|borgo|contrada|rotonda|canale|stretto|incrocio)"
    rf" +(?:(?!OF\b|TO\b)[{_LETTER}'’.-]+,? *){{1,5}}\d{{1,5}}\b"
    rf"|\b\d{{1,4}},? +(?:bis +|ter +)?(?:rue|avenue|boulevard|chemin|all[ée]e|impasse|place)(?: +de| +du| +des)?"
    rf"[ '][{_LETTER}'’ -]{{3,}}"
    rf"|\b[{_LETTER}-]{{3,}}(?:stra(?:ss|ß)e|str\.|gasse|allee|platz|weg|straat|laan|gracht|singel"
    r"|steeg|dreef|kade|plein|hof|baan|gatan|v[äa]gen|stigen|torget|gr[äa]nd)"
    r"[ ,]+\d{1,4}[a-z]?\b"
    rf"|\b(?:P\.? ?O\.? ?Box|Postfach|Apartado|Apt\.?|Suite|Unit) +#?\d{{1,6}}\b",
    re.IGNORECASE,
)
_PLACE = re.compile(
    rf"\b[{_LETTER}.' ]{{3,}}, ?(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA"
    r"|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]) \d{5}(?:-\d{4})?\b|\b[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}\b"
)
_ORGANISATION = re.compile(
    rf"\b((?:[{_LETTER}'’.&-]{{3,}} +){{1,4}})(?:hospital|clinic|klinik(?:um)?|hôpital|infirmary|medical cent(?:er|re)"
    r"|health system|university|universit(?:y|é|à|ät)|krankenhaus|ospedale|szpital)\b"
    rf"|\b(?:hospital|hôpital|clinique|clínica|ospedale|szpital|university of|clinic of) +(?:[{_LETTER}'’.-]{{3,}})",
    re.IGNORECASE,
)
_RECORD = re.compile(
    r"(?<![A-Za-z])(?:(?:MRN|ACC(?:ESSION|N)?|UHID|E?MPI|CSN|SSN)(?:[ _-]*(?:ID|NR|NO|NUM(?:BER)?))?[ _#:.=-]*"
    r"[A-Z]{0,4}[ -]?\d(?:-?\d){3}"
    r"|(?:MR ?#|RECORD|PATIENT|PAT|PT|PID|CASE|CHART|HOSP(?:ITAL)?|VISIT|ENCOUNTER|ORDER|ID|NHS|ACCT|ACCOUNT|FILE|FIN"
    r"|POLICY|INSURANCE|LICEN[CS]E|RIS)(?:[ _-]*(?:ID|NR|NO|NUM(?:BER)?))?[ _#:.=-]*[A-Z]{0,4}[ -]?\d(?:-?\d){4})",
    re.IGNORECASE,
)
#: A number long enough for a record, and no part of a UID, decimal or dimension.
_LONG_NUMBER = re.compile(r"(?<![\d.A-Za-z+-])[A-Z]{0,3}-?\d{7,12}(?![\d.]|[A-Za-z]{3})")
#: Cyrillic, Hebrew, Arabic, Devanagari, Thai, Hangul, kana, Chinese; and escapes to such character sets.
_OTHER_SCRIPT = re.compile(
    "[\u0400-\u052f\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2}|\x1b[($]"
)
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("e-mail", re.compile(r"(?!git@git(?:hub|lab)\.com)(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.]{2,}")),
    ("URL", re.compile(r"\b(?:https?|ftp|file|dicom)://(?!(?:www\.)?(?:github\.com|dicom\.nema\.org|gitlab\.com)/)\S+"
                       r"|\bwww\.[\w-]+\.\S+", re.I)),
    ("IP address", re.compile(rf"(?<![\d.])(?:{_OCTET}\.){{3}}{_OCTET}(?![\d.])"
                              r"|\b(?:[0-9a-f]{1,4}:){5,7}[0-9a-f]{1,4}\b|(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", re.I)),
    ("phone number", re.compile(
        r"(?<![\d.])(?<!\d )(?:\+?1[ .-]?|001[ .-]?)?(?:\(\d{3}\) ?|\d{3}([ .-]))"
        r"\d{3}(?:(?(1)\1|[ ])|[.-])\d{4}(?:x\d+|[ ]?ext\.? ?\d+)?(?![\d.])"
        r"|(?<![\d.\w])\+\d{1,3}[ .-]?(?:\(0\)[ .-]?)?\d[\d ().-]{5,14}\d(?!\d)"
        r"|(?<![\d.\w])(?=\(?0(?:[ ./()-]*\d){8})\(?0\d{1,5}\)?[ ./-]\d[\d ./-]{4,12}\d(?![\d.])"
        r"|\b(?:tel|telephone|telefon|phone|ph|fax|mobile|cell|pager|bleep|call|ext)\b[ .:#]*\(?\+?\d[\d ().-]{4,}\d"
        r"|(?<![\d.-])\d{3}-\d{4}(?![\d.-])", re.I)),
    ("social security number", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")),
    ("date", re.compile(_DATES, re.I)),
    ("record number", _RECORD),
)  # fmt: skip


def _address(text: str) -> bool:
    if _BEFORE_NUMBER.search(text) or _PLACE.search(text):
        return True
    for match in _AFTER_NUMBER.finditer(text):
        words = [part.strip(".'’-") for part in match.group(1).split()]
        if any(part and not word(part).technical and not part.isdigit() for part in words):
            return True
    return False


def _organisation(text: str) -> bool:
    for match in _ORGANISATION.finditer(text):
        before = (match.group(1) or "").split()
        if not before or any(not word(part.strip(".,'")).technical for part in before):
            return True
    return False


def suspicions(text: str) -> list[str]:
    """Return the kinds of identifier that `text` may hold, in a fixed order.

    Examples
    --------
    >>> suspicions("call Dr. Hibbert at 555-123-4567")
    ['phone number', 'person name']
    >>> suspicions("LIVER 3 PHASE (C/A/P)"), suspicions("P/P C/A/P,LIVER PROTO.")
    ([], [])
    """
    if len(text) > _WHOLE:  # in pieces that overlap: the time stays in proportion to the length
        pieces = [text[start : start + _WHOLE] for start in range(0, len(text) - _OVERLAP, _WHOLE - _OVERLAP)]
        return list(dict.fromkeys(kind for piece in pieces for kind in suspicions(piece)))
    kinds = [kind for kind, pattern in _PATTERNS if pattern.search(text)]
    if not kinds and _LONG_NUMBER.search(text):
        kinds.append("long number")
    if _address(text):
        kinds.append("address")
    if _organisation(text):
        kinds.append("institution")
    if person_names(text):
        kinds.append("person name")
    if _OTHER_SCRIPT.search(text):
        kinds.append("words in another script")
    return kinds

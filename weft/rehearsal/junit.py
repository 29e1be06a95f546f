"""The results of tests in the form that CI services read: JUnit's XML as of Ant, Jenkins and GitLab."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from weft.rehearsal.matching import picture
from weft.rehearsal.testing import CaseResult, FileResult, Miss

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document may hold (production 2, Char)."""


def document(results: Sequence[FileResult]) -> bytes:
    """Return the results as an XML document: a suite for each document of tests, a case for each case."""
    cases = [case for result in results for case in result.every_case()]
    root = ET.Element("testsuites", {"name": "weft", **_counts(cases)})
    for result in results:
        suite = ET.SubElement(
            root, "testsuite", {"name": _clean(result.workflow), **_counts(list(result.every_case()))}
        )
        for case in result.every_case():
            suite.append(_case(case, result))
    ET.indent(root)
    found: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return found + b"\n"


def write(file: Path, results: Sequence[FileResult]) -> None:
    """Write the document to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(document(results))


def _counts(cases: Sequence[CaseResult]) -> dict[str, str]:
    return {
        "tests": str(len(cases)),
        "failures": str(sum(case.state == "failed" for case in cases)),
        "errors": str(sum(case.state == "error" for case in cases)),
        "skipped": "0",
        "time": f"{sum(case.ms for case in cases) / 1000:.3f}",
    }


def _case(case: CaseResult, result: FileResult) -> ET.Element:
    facts = {
        "classname": _clean(result.workflow),
        "name": _clean(case.name),
        "time": f"{case.ms / 1000:.3f}",
        "file": _clean(str(result.path)),
    }
    if case.where.line is not None:
        facts["line"] = str(case.where.line)
    found = ET.Element("testcase", facts)
    if case.state != "passed":
        kind = "failure" if case.state == "failed" else "error"
        told = ET.SubElement(found, kind, {"message": _clean(_first(case)), "type": kind})
        told.text = _clean("\n".join(told_of(case)))
    return found


def _first(case: CaseResult) -> str:
    return next(iter(lines(case.misses[0]))).splitlines()[0] if case.misses else case.state


def lines(miss: Miss) -> list[str]:
    """Return what was not as expected, and where that is written, as lines."""
    place = ":".join(str(part) for part in (miss.where.file, miss.where.line, miss.where.column) if part is not None)
    if miss.difference is not None:
        return [f"{miss.difference.field}  ({place})", *picture(miss.difference)]
    return [f"{miss.message}  ({place})", *([f"  {miss.remedy}"] if miss.remedy else [])]


def told_of(case: CaseResult) -> Iterator[str]:
    """Yield what was not as expected, line by line, and last what the run failed for, which may be why."""
    for miss in case.misses:
        for line in lines(miss):
            yield from line.splitlines() or [""]
    if case.problem is not None:
        yield f"The run failed: {case.problem.code}: {case.problem.message}"


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)

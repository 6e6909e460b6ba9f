"""The report: one file that needs nothing else, escapes what it is given, and says the verdict."""

from __future__ import annotations

import html
import io
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from sbitools.calibration import CalibrationDraws, CalibrationResult, calibrate_draws
from sbitools.calibration.check import Check
from sbitools.chain import Run
from sbitools.config import load_config
from sbitools.errors import StoreError
from sbitools.report import write_calibration
from sbitools.report.blocks import Section, Table
from sbitools.report.evidence import evidence
from sbitools.report.html import render, tone
from sbitools.report.tables import check_table, p_text, power_table, set_table
from sbitools.report.verdict import verdicts
from tests.plugins import gaussian

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser",
                                                "google-chrome"))), None)  # fmt: skip


@pytest.fixture(scope="module")
def page(finished) -> Path:
    return finished.parent / "results" / "report" / "report.html"


class Inspector(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_one_file_without_scripts_or_remote_parts(page):
    parsed = Inspector(page.read_text())
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "iframe", "object", "embed", "link", "base", "form", "video"}
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "data", "action", "background", "poster"):
            if name in attributes:
                assert (attributes[name] or "").startswith(("data:image/", "#")), (tag, name)
    assert "@import" not in page.read_text()
    assert not re.search(r"url\(", page.read_text())
    policy = [a["content"] for t, a in parsed.tags if a.get("http-equiv")]
    assert policy
    assert "default-src 'none'" in (policy[0] or "")


def test_what_users_wrote_is_escaped(page):
    text = page.read_text()
    assert "<script>alert(1)</script> & co" in html.unescape(text)
    assert "<script" not in text
    assert gaussian.MESSAGE in html.unescape(text), "the failure's reason is shown"
    assert gaussian.MESSAGE not in text


def test_the_verdict_comes_first_and_sections_follow(page):
    text = Inspector(page.read_text()).text
    assert text.index("Transfer to the reference simulator:") < text.index("Self-consistency:")
    headings = ["Checks", "Emulator", "Posteriors", "Calibration", "Latent space", "Information",
                "Recovery", "Training", "Simulations", "Costs", "Provenance"]  # fmt: skip
    places = [text.rindex(f"\n{heading}\n") for heading in headings]
    assert places == sorted(places)
    assert text.index("Self-consistency:") < places[0]


def test_every_link_has_its_target_and_every_picture_its_words(page):
    tags = Inspector(page.read_text()).tags
    ids = {a["id"] for _, a in tags if "id" in a}
    targets = {(a["href"] or "#")[1:] for t, a in tags if t == "a"}
    assert targets <= ids
    assert len(targets) == 13
    pictures = [a for t, a in tags if t == "img"]
    assert len(pictures) >= 8
    assert all(a.get("alt") for a in pictures)


def test_numbers_in_the_report_are_those_of_the_artifacts(page, finished):
    text = Inspector(page.read_text()).text
    run = Run(load_config(finished))
    result = CalibrationResult.from_json(run.folder("calibration") / "result.json")
    for check in [*result.emulated, *(result.reference or []), *(result.transfer or [])]:
        assert f"{check.effect:+.3f}" in text
        assert p_text(check.p_value) in text
    for name in ("reference/test", "emulated/train", "posterior"):
        for value in run.record(name).outputs.values():
            assert value in text
    assert str(run.seed("emulated/test")) in text
    assert "1 failed" in text or "failed" in text


def test_a_report_is_written_again_from_the_artifacts_alone(finished, tmp_path):
    shutil.copytree(finished.parent / "results", tmp_path / "results")
    run = Run(load_config(finished, [f"run_dir='{tmp_path / 'results'}'"]))
    shutil.rmtree(run.folder("report"))
    shutil.rmtree(run.folder("emulator") / "checkpoint")
    from sbitools.report import write_report

    page, machine = write_report(run)
    assert page.stat().st_size > 100_000
    assert machine.exists()
    (run.folder("validation") / "statistics.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(StoreError, match="run the stage"):
        write_report(run)


# --- verdicts -----------------------------------------------------------------------------------


def draws(n: int, width: float = 1.0, shift: float = 0.0, names=("a", "b")) -> CalibrationDraws:
    """Posterior draws for theta ~ N(0, 1), x ~ N(theta, 1); exact for width 1 and shift 0."""
    rng = np.random.default_rng(n)
    theta = rng.standard_normal((n, 2))
    mean = (theta + rng.standard_normal((n, 2))) / 2 + shift
    sd = width * np.sqrt(0.5)
    points = mean[:, None] + sd * rng.standard_normal((n, 200, 2))

    def log_prob(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
        return -0.5 * (((values - centre) / sd) ** 2).sum(-1)

    return CalibrationDraws(theta, points, log_prob(theta, mean), log_prob(points, mean[:, None]),
                            names=tuple(names), labels=tuple(names))  # fmt: skip


@pytest.mark.parametrize(
    ("emulated", "reference", "passed", "tones", "phrase"),
    [
        (draws(400), draws(401), [True, True], ["pass", "pass"], "no miscalibration was found"),
        (draws(400), draws(401, shift=0.5), [False, True], ["fail", "pass"], "sizes below say"),
        (draws(400, 0.5), draws(99, 0.5), [False, False], ["fail", "fail"], "mend that first"),
        (draws(400, 0.5), draws(8), [False, False], ["mixed", "fail"], "too few tests"),
        (draws(400), None, [True, None], ["pass", "mixed"], "nothing yet about the real"),
    ],
)
def test_verdicts_say_what_the_checks_found(emulated, reference, passed, tones, phrase):
    # Exact posteriors fail a set of checks with probability 1 %; these seeds do not.
    result = calibrate_draws(emulated, reference)
    boxes = verdicts(result)
    assert [box.passed for box in boxes] == passed
    assert [tone(box) for box in boxes] == tones
    assert phrase in boxes[0].text
    assert all(box.passed is not False for box in boxes) == result.passed


def test_a_difference_within_the_bands_is_not_a_pass():
    result = calibrate_draws(draws(400), draws(401))
    assert result.transfer is not None
    first = result.transfer[0]
    changed = Check(**{**vars(first), "passed": False, "p_value": 1e-5})
    box = verdicts(CalibrationResult(**{**vars(result), "transfer": [changed]}))[0]
    assert not box.passed
    assert tone(box) == "mixed"
    assert "measurably differently" in box.text


def silent(n: int, seed: int) -> CalibrationDraws:
    """Posteriors that have learnt nothing: draws of the prior."""
    rng = np.random.default_rng(seed)
    return CalibrationDraws(rng.standard_normal((n, 2)), rng.standard_normal((n, 200, 2)))


def test_a_posterior_that_repeats_the_prior_is_not_praised():
    result = calibrate_draws(silent(300, 0))
    box = verdicts(result)[0]
    assert not box.passed
    assert tone(box) == "mixed"
    assert "repeats the prior" in box.text
    assert not result.passed
    assert "almost nothing was learnt" in result.verdict


@pytest.mark.parametrize("n", [300, 24])
def test_what_learnt_nothing_has_nothing_to_transfer(n):
    result = calibrate_draws(silent(300, 0), silent(n, 1))
    box = verdicts(result)[0]
    assert box.title.endswith(": nothing to transfer")
    assert box.text.startswith("The posterior repeats the prior on reference fields too")
    assert (box.passed, tone(box)) == (False, "mixed")
    assert not result.passed
    assert box.text in result.verdict


def test_evidence_comes_with_its_uncertainty():
    result = calibrate_draws(draws(400), draws(401, shift=0.5))
    lines = " ".join(verdicts(result)[0].evidence)
    coverage = result.check("coverage", "reference")
    share = 100 * (coverage.details["levels"][1]["actual"])
    low, high = map(int, re.findall(r"95 %: (\d+) to (\d+) %", lines)[0])
    assert low < share < high
    # Four standard errors of a share of about 0.6 in 401 tests are 10 points.
    assert 5 < high - low < 15
    assert "chance alone:" in lines
    assert re.search(r"posterior sigma \(95 %: \+0\.\d\d to \+0\.\d\d\)", lines)


@pytest.mark.parametrize(("p_value", "told"), [(0.0021, True), (0.009, True), (0.011, False)])
def test_a_check_that_nearly_failed_is_named(p_value, told):
    check = calibrate_draws(draws(400)).check("tarp", "emulated")
    check = replace(check, p_value=p_value, false_alarm=0.002, passed=True)
    assert any("fails below 0.002" in line for line in evidence([check])) is told
    failed = evidence([replace(check, passed=False, p_value=0.0001)])
    assert len(failed) == 1
    assert "fails below" not in failed[0]


def test_a_pass_says_what_would_go_unseen():
    many, few = (verdicts(calibrate_draws(draws(n)))[0].text for n in (400, 60))
    limits = [int(re.findall(r"below (\d+) points would go unseen", t)[0]) for t in (many, few)]
    assert "with 400 tests" in many
    assert 2 < limits[0] < limits[1] < 50


def test_without_a_reference_the_page_does_not_speak_of_one(tmp_path):
    page = write_calibration(calibrate_draws(draws(60)), tmp_path / "page.html")
    text = Inspector(page.read_text()).text
    assert "Transfer to the reference simulator: not tested" in text
    below = text[text.rindex("\nChecks\n") :]
    assert "reference" not in below
    paired = write_calibration(calibrate_draws(draws(60), draws(61)), page)
    assert "reference lines" in Inspector(paired.read_text()).text


def test_contraction_is_shown_with_its_error(tmp_path):
    result = calibrate_draws(draws(60))
    row = result.check("contraction").details["parameters"][0]
    text = Inspector(write_calibration(result, tmp_path / "page.html").read_text()).text
    assert f"{row['contraction']:.3g} ± {row['error']:.1g}" in text


def test_a_calibration_alone_makes_a_page_with_escaped_names(tmp_path):
    result = calibrate_draws(
        draws(60, names=("<b>a</b>", "b")), draws(61, names=("<b>a</b>", "b"))
    )
    page = write_calibration(result, tmp_path / "calibration.html").read_text()
    assert "<b>a</b>" not in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page


def test_tables_pair_emulated_with_reference():
    result = calibrate_draws(draws(60), draws(61))
    table = check_table(result)
    assert [name for name, _, _ in table.checks] == [c.name for c in result.emulated]
    levels = [
        c.false_alarm for c in [*result.emulated, *(result.reference or [])] if c.false_alarm
    ]
    assert f"below its level (at most {max(levels):.2g}), chosen from the joint" in table.caption
    assert "an exact posterior fails any line of one kind of tests in 1 % of runs" in table.caption
    assert all([line.tests for line in lines] == ["emulated", "reference"]
               for _, _, lines in table.checks)  # fmt: skip


def test_every_line_says_its_level_and_power():
    result = calibrate_draws(draws(60), draws(61))
    lines = {(name, line.tests): line for name, _, rows in check_table(result).checks
             for line in rows}  # fmt: skip
    for kind in ("emulated", "reference"):
        check = result.check("sbc", kind)
        assert lines["sbc", kind].level == f"{check.false_alarm:.2g}"
        power = [round(100 * share) for share in check.details["power"].values()]
        assert lines["sbc", kind].power == f"{min(power)} – {max(power)} %"
        assert (lines["recovery", kind].level, lines["recovery", kind].power) == ("-", "-")
    table = power_table(result)
    assert table is not None
    assert {row[:2] for row in table.rows} >= {("sbc", "emulated"), ("tarp", "reference")}


def test_sets_of_checks_show_joint_p_and_power():
    result = calibrate_draws(draws(400), draws(401, shift=0.5))
    rows = {row[0]: row for row in set_table(result).rows}
    assert set(rows) == {"emulated", "reference", "transfer"}
    assert {kind: row[-1] for kind, row in rows.items()} == {
        "emulated": "pass", "reference": "fail", "transfer": "fail",
    }  # fmt: skip
    for kind, row in rows.items():
        assert row[3] == p_text(result.joint[kind])
        assert row[4] == "1 %"
    power = result.check("sbc").details["power of the set"]
    assert rows["emulated"][5:-1] == tuple(f"{100 * p:.0f} %" for p in power.values())
    assert rows["transfer"][5:-1] == ("-",) * len(power)


# --- parts --------------------------------------------------------------------------------------


def test_cells_are_escaped():
    section = Section("a", "<i>", "<u>", [Table(("<h>",), [("<c>",)], "<cap>")])
    page = render("<t>", "<s>", "<d>", [], [section])
    for text in ("<i>", "<u>", "<h>", "<c>", "<cap>", "<t>", "<s>", "<d>"):
        assert text not in page
        assert html.escape(text) in page


def browse(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess:
    """Open a page in a browser that cannot reach any host."""
    assert CHROMIUM
    fixed = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-sync", "--disable-component-update",
        "--disable-background-networking", f"--user-data-dir={profile}",
    ]  # fmt: skip
    return subprocess.run(
        [CHROMIUM, *fixed, *options, page.as_uri()], capture_output=True, timeout=120, check=True,
        env=os.environ | {"HOME": str(profile)},
    )  # fmt: skip


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_report_and_asks_for_nothing(page, tmp_path):
    from PIL import Image

    picture, log = tmp_path / "page.png", tmp_path / "net.json"
    shown = browse(page, tmp_path / "profile", f"--screenshot={picture}", f"--log-net-log={log}",
                   "--window-size=1180,2400", "--dump-dom")  # fmt: skip
    dom = shown.stdout.decode()
    assert "Self-consistency:" in dom
    assert "Transfer to the reference simulator:" in dom
    assert b"Content Security Policy" not in shown.stderr, "nothing was even blocked"
    image = np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("L"))
    assert image.shape == (2400, 1180)
    assert image.std() > 10, "not an empty page"
    assert image[:600].min() < 100, "there is text at the top"
    assert requested(log) == []


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_browser_test_would_see_a_request(tmp_path):
    page, log = tmp_path / "page.html", tmp_path / "net.json"
    page.write_text('<img src="http://pictures.invalid/a.png">')
    browse(page, tmp_path / "profile", f"--log-net-log={log}", "--dump-dom")
    assert any("pictures.invalid" in url for url in requested(log))


# What the browser asks for on its own account, whatever page it shows.
OWN_HOSTS = {"accounts.google.com", "clients2.google.com", "update.googleapis.com",
             "www.google.com", "redirector.gvt1.com", "edgedl.me.gvt1.com",
             "optimizationguide-pa.googleapis.com", "android.clients.google.com"}  # fmt: skip


def requested(log: Path) -> list[str]:
    """Addresses a page asked the network for."""
    urls = re.findall(r'"url":"((?:https?|wss?|ftp)://[^"]+)"', log.read_text())
    return [url for url in urls if urlsplit(url).hostname not in OWN_HOSTS]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_prints_the_report_page_by_page(page, tmp_path):
    out = tmp_path / "report.pdf"
    browse(page, tmp_path / "profile", f"--print-to-pdf={out}", "--no-pdf-header-footer")
    pages = len(re.findall(rb"/Type\s*/Page\b", out.read_bytes()))
    assert 4 <= pages <= 20

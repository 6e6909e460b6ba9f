"""The sections about latent space and information: every number of the checks is there."""

from dataclasses import replace

import numpy as np

from sbitools.calibration import calibrate_draws
from sbitools.report import write_calibration
from sbitools.report.tables import p_text

from .test_report import Inspector


def test_latents_and_information_have_sections(tmp_path):
    from tests.oracles.gaussian import calibration_draws

    def full(seed):
        d = calibration_draws(100, 60, seed=seed)
        latent, summary = np.random.default_rng(seed).standard_normal((2, 100, 2))
        return replace(d, latent=latent + 0.8 * summary, summary=summary)

    result = calibrate_draws(full(1), full(2))
    text = Inspector(write_calibration(result, tmp_path / "page.html").read_text()).text
    places = [text.rindex(f"\n{heading}\n") for heading in ("Latent space", "Information")]
    latent, information = (result.check(name, "reference") for name in ("latent", "information"))
    section = text[places[0] : places[1]]
    rows = {row["name"]: row for row in latent.details["parameters"]}
    assert all(p_text(row["p_value"]) in section for row in rows.values())
    bias, width = rows["mean and summaries"], rows["width and summaries"]
    assert f"{bias['effect']:.2f} ± {bias['error']:.2f} sigma" in section
    assert f"{100 * width['effect']:.0f} " in section
    assert f"a bias of {bias['effect']:.2f} sigma rms that depends on x" in latent.summary
    section = text[places[1] :]
    for row in (information.details["joint"], *information.details["parameters"]):
        assert f"{row['effect']:.3f} ± {row['error']:.1g}" in section
    assert f"{information.details['claimed']:.3f} nats on reference tests" in section

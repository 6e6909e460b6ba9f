"""The search of options: seeded, resumable, and it finds the better ones."""

import pytest

from sbitools.errors import ConfigError, RunDirError, TrainingError
from sbitools.inference.search import search
from sbitools.training.run_state import claimed

OPTIONS = {"flow": "zuko_maf", "flow_hidden": 8, "features": 4, "channels": 1, "epochs": 2,
           "flow_transforms": 1, "batch_size": 256}  # fmt: skip
SPACE = {"learning_rate": (1e-6, 1e-2)}


def test_the_better_option_is_found_and_a_second_search_repeats_it(store, tmp_path):
    seen = []
    found = search(store, trials=4, run_dir=tmp_path, seed=3, space=SPACE,
                   on_trial=lambda i, trial: seen.append(i), **OPTIONS)  # fmt: skip
    assert seen == [0, 1, 2, 3]
    rates = [t.options.get("learning_rate", 1e-3) for t in found.trials]
    assert set(rates) == {1e-3, 1e-2, 1e-6}  # the default is one of the trials
    assert found.best == {"learning_rate": 1e-2}
    assert rates[-1] == 1e-6
    again = search(store, trials=4, run_dir=tmp_path, seed=3, space=SPACE, **OPTIONS)
    assert again == found


def test_what_cannot_be_searched_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="learning_rte"):
        search(store, trials=2, run_dir=tmp_path / "a", seed=1, space={"learning_rte": (1.0,)},
               **OPTIONS)  # fmt: skip
    search(store, trials=1, run_dir=tmp_path / "b", seed=1, space=SPACE, **OPTIONS)
    with pytest.raises(TrainingError, match="another run_dir"):
        search(store, "fmpe", trials=1, run_dir=tmp_path / "b", seed=1, epochs=1)
    with pytest.raises(ConfigError, match="trials: expected a whole number >= 1"):
        search(store, trials=0, run_dir=tmp_path / "c", seed=1)


def test_a_trial_that_another_process_trains_has_not_diverged(store, tmp_path):
    folder = tmp_path / "trial-0"
    folder.mkdir()
    with claimed(folder), pytest.raises(RunDirError, match="one training at a time"):
        search(store, trials=1, run_dir=tmp_path, seed=1, space=SPACE, **OPTIONS)
    assert not (tmp_path / "trial-0.json").exists()

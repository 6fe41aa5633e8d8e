"""The examples of the documentation run, and what they say is true."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

pyplot = pytest.importorskip("matplotlib.pyplot", reason="the examples draw")

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
SLOW = {
    "plot_counterfactual",
    "plot_loss_weights",
    "plot_optuna_search",
    "plot_text_counts",
}


@pytest.fixture(scope="module")
def run():
    """Run an example once, without a display; return its variables."""
    backend, results = pyplot.get_backend(), {}
    pyplot.switch_backend("Agg")

    def run_once(name):
        if name not in results:
            # As "__main__", so that the processes of a search can load the example's functions.
            results[name] = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return results[name]

    yield run_once
    pyplot.close("all")
    pyplot.switch_backend(backend)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW))
        for path in sorted(EXAMPLES.glob("plot_*.py"))
    ],
)
def test_every_example_runs_and_draws(run, name):
    if name == "plot_optuna_search":
        pytest.importorskip("optuna", reason="the example searches with it")
    assert run(name)["figure"].axes


@pytest.mark.slow
def test_the_front_of_the_loss_weights_is_a_trade_of_contrast_for_fidelity(run):
    example = run("plot_loss_weights")
    results, front = example["results"], example["front"]
    assert len(results) == 12
    assert np.isfinite(results[["contrast", "fidelity"]]).all(axis=None)
    for row in results.itertuples():
        beaten = (
            (results["contrast"] >= row.contrast)
            & (results["fidelity"] >= row.fidelity)
            & ((results["contrast"] > row.contrast) | (results["fidelity"] > row.fidelity))
        ).any()
        assert row.on_front == (not beaten)
    # What the text claims: there is a choice to make, and a denser prior moves along it.
    assert len(front) >= 3
    assert front["fidelity"].is_monotonic_decreasing
    assert front["alpha"].iloc[0] > front["alpha"].iloc[-1]
    chosen = results.loc[example["search"].best_index_]
    assert chosen["on_front"]
    assert chosen["fidelity"] >= 0.95 * results["fidelity"].max()


@pytest.mark.slow
def test_optuna_finds_a_front_prunes_and_scores_as_a_fit_does(run):
    optuna = pytest.importorskip("optuna", reason="the example searches with it")
    example = run("plot_optuna_search")
    fronts, study = example["fronts"], example["study"]
    for trial in fronts.best_trials:
        assert not any(
            all(np.greater_equal(other.values, trial.values)) and other.values != trial.values
            for other in fronts.trials
        )
    assert len(fronts.best_trials) > 1
    best = fronts.best_trials[0]
    assert example["evaluate"](best.params, example["folds"][0]) == tuple(best.values)
    assert np.mean(example["again"]) == study.best_value
    states = [trial.state for trial in study.trials]
    assert optuna.trial.TrialState.PRUNED in states
    assert example["n_fits"] < 3 * len(states)


@pytest.mark.slow
def test_the_code_of_texts_knows_more_than_the_frequencies_of_words(run):
    example = run("plot_text_counts")
    assert example["perplexity"]["model"] < 0.9 * example["perplexity"]["words alone"]
    assert example["rising"]["feature"].str.startswith("t").mean() > 0.9  # words of topics


@pytest.mark.slow
def test_counterfactuals_are_taken_for_the_class_they_go_to(run):
    example = run("plot_counterfactual")
    X, y = example["X_test"], example["y_test"]
    for before, after in example["PAIRS"]:
        sent = example["counterfactual"](
            example["est"], X[y == before], example["profile"], to=after
        )
        judged = example["judge"].predict(sent.X_edited)
        assert (judged == after).mean() > 0.8
    assert (example["profile"].activity[:, :5] >= 0.5).all()  # as the text says


def test_every_picture_of_the_pages_is_there():
    pages = EXAMPLES.parent.glob("*.md")
    pictures = [
        page.parent / name
        for page in pages
        for name in re.findall(r"!\[[^\]]*\]\((.*?)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(pictures) > 10
    assert [path.name for path in pictures if not path.is_file()] == []


def test_the_worked_values_are_those_of_the_definitions(run):
    values = run("plot_metric_values")["values"]
    cases = ["all on", "dead", "class blocks", "dense", "shuffled labels"]
    assert values.index.tolist() == cases
    assert values["consistency"].tolist() == pytest.approx([1, 0, 1, 1, 0.25], abs=0.02)
    assert values["contrast"].tolist() == pytest.approx([0, 0, 1, 0, 0], abs=0.02)
    assert values["dead fraction"].tolist() == [0, 1, 0, 0, 0]
    probe = values["probe, k = 1"]
    assert probe["class blocks"] == 1
    assert probe["dense"] > 0.6  # which contrast does not see
    assert probe[["all on", "dead", "shuffled labels"]].to_numpy() == pytest.approx(0.5, abs=0.1)
    # A support that tells one class of four apart: ln 4 - 3/4 ln 3.
    information = values["information of support (nats)"]
    assert information["class blocks"] == pytest.approx(np.log(4) - 0.75 * np.log(3), abs=0.005)
    assert information["dense"] == 0


@pytest.mark.slow
def test_the_snippets_of_the_metrics_page_print_what_stands_below_them(capsys):
    page = (EXAMPLES.parent / "metrics.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert len(snippets) == page.count("```python") == 2
    namespace = {}
    for code, output in snippets:
        exec(code, namespace)
        assert capsys.readouterr().out == output

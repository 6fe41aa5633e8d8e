"""Make every picture of the documentation that no benchmark makes.

    python docs/save_pictures.py [--data-dir DIR] [--only displays examples reports]

DIR holds the IDX files of Fashion-MNIST; without it they are downloaded from OpenML. The reports
are photographed by Selenium in Chromium with its driver. The models take about two minutes to fit.
"""

import argparse
import io
import re
import runpy
import shutil
import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
from PIL import Image
from selenium import webdriver
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer, datasets
from sklearn_classvsc.report import factor_report

DOCS = Path(__file__).resolve().parent
EXAMPLES = {
    "plot_counterfactual.py": "example_counterfactual.png",
    "plot_loss_weights.py": "example_loss_weights.png",
    "plot_metric_values.py": "metrics_values.png",
    "plot_optuna_search.py": "example_optuna_search.png",
    "plot_texts.py": "example_texts.png",
}
# A block of code, or an image.
PART = re.compile(r"```python\n(.*?)```|!\[[^\]]*\]\(images/([\w.]+)\)", re.DOTALL)
DATA = "\n## The data of these pictures\n"


@cache
def fitted(data_dir: Path | None) -> dict[str, Any]:
    """Return the data and the models of the page on displays: its last section but one."""
    page = (DOCS / "displays.md").read_text(encoding="utf-8")
    variables: dict[str, Any] = {}
    fetch_images = partial(datasets.fetch_images, data_dir=data_dir)
    with patch.object(datasets, "fetch_images", fetch_images):
        for code, _ in PART.findall(page.partition(DATA)[2]):
            exec(code, variables)
    return variables


def displays(data_dir: Path | None) -> None:
    """Run the code on the page on displays; an image there is the figure of the code below it."""
    page = (DOCS / "displays.md").read_text(encoding="utf-8")
    variables = dict(fitted(data_dir))
    picture = ""
    for code, image in PART.findall(page.partition(DATA)[0]):
        picture = image or picture
        if code:
            exec(code, variables)
            if picture:
                save_figure(plt.gcf(), picture)
            picture = ""
        plt.close("all")


def examples(data_dir: Path | None) -> None:
    """Run the examples, and save the figure of each."""
    for example, picture in EXAMPLES.items():
        # As "__main__", so that the processes of a search can load the functions of the example.
        path = str(DOCS / "examples" / example)
        save_figure(runpy.run_path(path, run_name="__main__")["figure"], picture)


def reports(data_dir: Path | None) -> None:
    """Photograph the reports of three models, each of data that it was not trained on."""
    page = fitted(data_dir)
    fashion = partial(factor_report, page["est"], page["X"], page["y"], image_shape=(28, 28))
    report = fashion(title="Fashion-MNIST: 10,000 held-out images")
    classes = [entry["name"] for entry in report.to_dict()["classes"]]
    of_trousers = next(
        factor["dimensions"][0]
        for factor in report.to_dict()["factors"]
        if [classes[c] for c in factor["classes"]] == ["Trouser"]
    )
    with opened(report, 1060) as browser:
        photograph(browser, "report_summary.png", "body", "#factors")
        card = f"#factor-{of_trousers}"
        browser.execute_script(f"document.querySelector('{card}').open = true")
        browser.execute_async_script("setTimeout(arguments[0], 500)  // its images are decoded")
        photograph(browser, "report_factor.png", card, f"{card} + *")

    cancer = factor_report(page["table"], page["T"], page["t"], title="Breast cancer")
    with opened(cancer, 1060, dark=True) as browser:
        photograph(browser, "report_classes.png", "#classes", "#more")

    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.3, stratify=y, random_state=0)
    est = ClassVSCTransformer(random_state=0).fit(X, y)
    digits = factor_report(est, X_test, y_test, image_shape=(8, 8), title="Digits")
    with opened(digits, 390) as browser:
        photograph(browser, "report_narrow.png", "body", "#factors")


@contextmanager
def opened(report: Any, width: int, *, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """Open a report in Chromium, in a window of a given width in pixels."""
    options = webdriver.ChromeOptions()
    names = ["chromium", "chromium-browser", "google-chrome"]
    options.binary_location = next(filter(None, map(shutil.which, names)), "")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with (
        tempfile.TemporaryDirectory() as folder,
        webdriver.Chrome(options=options, service=service) as browser,
    ):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(report.save(Path(folder) / "report.html").as_uri())
        # The bar of sections would lie across the picture.
        browser.execute_script("document.querySelector('nav').style.position = 'static'")
        yield browser


def photograph(browser: webdriver.Chrome, picture: str, first: str, end: str) -> None:
    """Save the page from one element to just above another, both given as CSS selectors."""
    width, top, bottom = browser.execute_script(
        """const top = (name) => document.querySelector(name).getBoundingClientRect().top + scrollY;
        return [innerWidth, top(arguments[0]), top(arguments[1])];""",
        *(first, end),
    )
    top = max(top - 12, 0)
    clip = {"x": 0, "y": top, "width": width, "height": bottom - top, "scale": 1}
    parameters = {"captureBeyondViewport": True, "clip": clip}
    png = browser.execute_cdp_cmd("Page.captureScreenshot", parameters)["data"]
    image = Image.open(io.BytesIO(b64decode(png))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(DOCS / "images" / picture, optimize=True)
    print(f"wrote docs/images/{picture}")


def save_figure(figure: Any, picture: str) -> None:
    """Save a figure of matplotlib."""
    figure.savefig(DOCS / "images" / picture, dpi=110)
    print(f"wrote docs/images/{picture}")


if __name__ == "__main__":
    makers: dict[str, Callable[[Path | None], None]] = {
        "displays": displays,
        "examples": examples,
        "reports": reports,
    }
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="folder of the IDX files of Fashion-MNIST")
    parser.add_argument("--only", nargs="+", choices=makers, default=list(makers))
    arguments = parser.parse_args()
    plt.switch_backend("Agg")
    for name in arguments.only:
        makers[name](arguments.data_dir)

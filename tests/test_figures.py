"""The pictures, looked at by a program: files, order, colours, texts, and what must not break."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from disk_kit import TOO_LARGE, disk_that_takes
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from PIL import Image

import msft_plugins.figures
from msft_core import Best, EpochRecord, ImageBatch, Predictions, RunReport
from msft_core.pages import RunPages, drawing, style

LONG = "soft-coated_wheaten_terrier_of_the_long-haired_kind"
PICTURES = ["confusion_matrix.png", "curves.png", "predictions.png", "train_batch.png"]


@dataclass
class Table:
    ids: list[str]


@dataclass
class Splits:
    classes: tuple[str, ...]
    train: Table


@dataclass
class Said:
    infos: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def info(self, message: str) -> None:
        self.infos.append(message)

    def warning(self, message: str) -> None:
        self.warnings.append(message)


class FakeRun:
    """What the plugin asks of a run, without a network."""

    def __init__(self, folder: Path, answers: Predictions, **settings: Any) -> None:
        self.folder = folder
        self.answers = answers
        self.reporter = Said()
        self.splits = Splits(answers.classes, Table([f"t{index}" for index in range(50)]))
        self._settings = msft_plugins.figures.FigureSettings(**settings)
        self.history: Sequence[EpochRecord] = epochs(0.5)
        self.best: Best | None = None
        self.pages = RunPages(self)  # type: ignore[arg-type]

    def settings(self, kind: str, name: str) -> Any:
        assert (kind, name) == ("callback", "figures")
        return self._settings

    def predictions(self, split: str) -> Predictions:
        assert split == "val"
        return self.answers

    def images(self, split: str, count: int) -> ImageBatch:
        assert split == "train"
        return photos(min(count, 50), len(self.answers.classes))

    def read_images(self, split: str, ids: list[str]) -> ImageBatch:
        assert split == "val"
        return photos(len(ids), len(self.answers.classes))


def photos(count: int, classes: int = 2) -> ImageBatch:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return ImageBatch(pixels, np.arange(count) % classes, tuple(f"t{i}" for i in range(count)))


def answers(labels: list[int], predicted: list[int], sure: list[float], *names: str) -> Predictions:
    """One answer an image: the class predicted and its probability."""
    classes = names or ("cat", "dog", "fox")
    rows = np.arange(len(labels))
    others = (1 - np.asarray(sure)) / (len(classes) - 1)
    probabilities = np.repeat(others[:, None], len(classes), axis=1)
    probabilities[rows, predicted] = sure
    ids = tuple(f"v{row}" for row in rows)
    return Predictions(ids, np.asarray(labels), probabilities.astype(np.float32), classes)


def many_answers(classes: int, count: int) -> Predictions:
    random = np.random.default_rng(1)
    labels = random.integers(0, classes, count)
    probabilities = random.random((count, classes)) + 2.0 * np.eye(classes)[labels]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = tuple(f"{LONG}_{index}" for index in range(classes))
    return Predictions(tuple(map(str, range(count))), labels, probabilities, names)


FEW = answers([0, 0, 1, 1, 2], [0, 1, 1, 2, 2], [0.9, 0.6, 0.5, 0.8, 0.7])


def epochs(*accuracies: float | None, loss: float = 1.0) -> tuple[EpochRecord, ...]:
    """An epoch each; None where it was not evaluated."""
    return tuple(
        EpochRecord(
            number,
            {"loss": loss / number},
            {} if accuracy is None else {"accuracy": accuracy, "loss": 1.2 / number},
        )
        for number, accuracy in enumerate(accuracies, start=1)
    )


def report(folder: Path, history: tuple[EpochRecord, ...], best: bool = True) -> RunReport:
    chosen = Best(folder / "best.ckpt", 1, 0.5, "accuracy") if best else None
    return RunReport("completed", folder, chosen, history)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in [*figure.texts, *figure.axes[0].texts]]


def rendered(figure: Figure) -> Any:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def points(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    """What a line shows: the points that are not NaN."""
    (line,) = [line for line in axes.lines if line.get_label() == label]
    x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    return x[np.isfinite(y)].tolist(), y[np.isfinite(y)].tolist()


# The files


def test_a_run_leaves_four_readable_pictures_and_nothing_else(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, FEW)
    msft_plugins.figures.on_run_start(run)
    assert [path.name for path in tmp_path.iterdir()] == ["train_batch.png"]
    msft_plugins.figures.on_run_end(run, report(tmp_path, epochs(0.5, 0.6)), None)
    assert sorted(path.name for path in tmp_path.iterdir()) == PICTURES
    for name in PICTURES:
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert 400 <= picture.width <= 2000
            assert 300 <= picture.height <= 2000
            assert np.asarray(picture).std() > 10
    assert run.reporter == Said()


def test_settings_decide_how_many_images_and_how_fine(tmp_path: Path) -> None:
    for name, settings in {"few": {"train_images": 4}, "many": {}, "fine": {"dpi": 220}}.items():
        (tmp_path / name).mkdir()
        msft_plugins.figures.on_run_start(FakeRun(tmp_path / name, FEW, **settings))

    def size(name: str) -> tuple[int, int]:
        with Image.open(tmp_path / name / "train_batch.png") as picture:
            return picture.size

    assert size("few")[1] < size("many")[1]
    assert size("fine") == pytest.approx([2 * side for side in size("many")], abs=2)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        run = FakeRun(folder, FEW)
        msft_plugins.figures.on_run_start(run)
        msft_plugins.figures.on_run_end(run, report(folder, epochs(0.5)), None)
        contents.append([(folder / picture).read_bytes() for picture in PICTURES])
    assert contents[0] == contents[1]
    assert b"matplotlib" not in contents[0][0].lower()


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "train_batch.png").write_bytes(b"old")
    run = FakeRun(tmp_path, FEW)
    with disk_that_takes(1000):
        msft_plugins.figures.on_run_start(run)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    (warning,) = run.reporter.warnings
    assert warning.startswith("figures: train_batch.png was not drawn: OutputError: ")
    assert TOO_LARGE in warning


def test_one_picture_that_fails_hinders_neither_the_run_nor_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FakeRun(tmp_path, FEW)
    monkeypatch.setattr(run, "read_images", lambda split, ids: 1 / 0)
    msft_plugins.figures.on_run_end(run, report(tmp_path, epochs(0.5)), None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["confusion_matrix.png", "curves.png"]
    assert len(run.reporter.warnings) == 1
    assert "predictions.png" in run.reporter.warnings[0]


@pytest.mark.parametrize(
    ("error", "best", "drawn"),
    [
        (None, True, {"curves.png", "predictions.png", "confusion_matrix.png"}),
        (None, False, {"curves.png", "predictions.png", "confusion_matrix.png"}),
        (RuntimeError(), True, {"curves.png", "predictions.png", "confusion_matrix.png"}),
        (RuntimeError(), False, {"curves.png"}),
        (KeyboardInterrupt(), True, {"curves.png", "predictions.png", "confusion_matrix.png"}),
        (KeyboardInterrupt(), False, {"curves.png"}),
    ],
)
def test_after_an_error_the_network_is_asked_only_where_there_is_a_best_checkpoint(
    tmp_path: Path, error: BaseException | None, best: bool, drawn: set[str]
) -> None:
    msft_plugins.figures.on_run_end(
        FakeRun(tmp_path, FEW), report(tmp_path, epochs(0.5), best=best), error
    )
    assert {path.name for path in tmp_path.iterdir()} == drawn


def test_a_run_without_a_finished_epoch_has_nothing_to_draw(tmp_path: Path) -> None:
    msft_plugins.figures.on_run_end(FakeRun(tmp_path, FEW), report(tmp_path, (), best=False), None)
    assert not list(tmp_path.iterdir())


# Training images and predictions


def test_training_images_carry_their_class_names() -> None:
    figure = drawing.draw_training_images(photos(3, 3), ("cat", "dog", "fox"), 1234)
    assert texts(figure)[-3:] == ["cat", "dog", "fox"]
    assert "3 of 1,234 images of 3 classes" in texts(figure)[1]


def test_mistakes_come_first_by_confidence_and_then_the_least_sure_right_answers() -> None:
    assert drawing.most_telling(FEW).tolist() == [3, 1, 2, 4, 0]


def test_a_caption_is_blue_when_right_and_red_with_the_truth_when_wrong() -> None:
    figure = drawing.draw_predictions(photos(2), FEW, [3, 2], "best checkpoint, epoch 7")
    captions = {text.get_text(): to_hex(text.get_color()) for text in figure.axes[0].texts}
    assert captions == {
        "fox 80%": style.WRONG,
        "true: dog": style.WRONG,
        "dog 50%": style.RIGHT,
        # So that a mislabelled photograph can be found.
        "v3": style.MUTED,
        "v2": style.MUTED,
    }


def test_the_heading_says_accuracy_checkpoint_and_what_is_shown() -> None:
    figure = drawing.draw_predictions(photos(5), FEW, [3, 1, 2, 4, 0], "best checkpoint, epoch 7")
    assert texts(figure)[0] == "Validation: accuracy 60.0% (3/5)"
    assert texts(figure)[1].startswith("best checkpoint, epoch 7\n2 mistakes, surest first")
    figure = drawing.draw_predictions(photos(1), FEW, [3], "")
    assert "1 of 2 mistakes" in texts(figure)[1]
    figure = drawing.draw_predictions(photos(1), answers([0], [0], [0.4]), [0], "")
    assert "no mistakes" in texts(figure)[1]


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_captions_of_long_names_neither_overlap_nor_leave_the_picture(count: int) -> None:
    few = answers([0] * count, [1] * count, [0.9] * count, LONG, "W" * 60)
    figure = drawing.draw_predictions(photos(count), few, range(count), "best checkpoint, epoch 7")
    renderer = rendered(figure)
    boxes = [text.get_window_extent(renderer) for text in [*figure.texts, *figure.axes[0].texts]]
    width, height = figure.get_size_inches() * figure.dpi
    for index, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
        assert box.count_overlaps(boxes[index + 1 :]) == 0
    assert any("…" in text for text in texts(figure))


def test_a_name_too_long_keeps_both_ends() -> None:
    short = style.fitting("{} 9%", "soft-coated_wheaten_terrier", 1.6, 8.5)
    assert short.startswith("soft-coated")
    assert short.endswith("…terrier 9%")
    assert style.fitting("{}", "dog", 1.6, 8.5) == "dog"
    assert style.fitting("{}", "w" * 80, 1.6, 8.5).count("…") == 1


# Curves


def test_one_epoch_gives_one_point_over_an_integer() -> None:
    figure = drawing.draw_curves(epochs(0.5), Best(Path("best.ckpt"), 1, 0.5, "accuracy"))
    rendered(figure)
    loss, metrics = figure.axes
    assert points(loss, "training") == ([1], [1])
    assert points(metrics, "accuracy") == ([1], [0.5])
    low, high = loss.get_xlim()
    assert [tick for tick in loss.get_xticks() if low <= tick <= high] == [1]


def test_an_epoch_that_was_not_evaluated_has_no_point() -> None:
    loss, metrics = drawing.draw_curves(epochs(None, 0.5, None, 0.75), None).axes
    assert points(loss, "training")[0] == [1, 2, 3, 4]
    assert points(loss, "validation")[0] == [2, 4]
    assert points(metrics, "accuracy") == ([2, 4], [0.5, 0.75])


def test_a_run_that_was_never_evaluated_has_a_loss_curve_only() -> None:
    (loss,) = drawing.draw_curves(epochs(None, None), None).axes
    assert [line.get_label() for line in loss.lines] == ["training"]


@pytest.mark.filterwarnings("error")
def test_values_that_are_not_finite_are_left_out() -> None:
    history = epochs(0.5, float("nan"), 0.75)
    history = (replace(history[0], train={"loss": float("inf")}), *history[1:])
    figure = drawing.draw_curves(history, None)
    rendered(figure)
    loss, metrics = figure.axes
    assert points(loss, "training")[0] == [2, 3]
    assert points(metrics, "accuracy")[0] == [1, 3]
    assert np.isfinite([*loss.get_ylim(), *metrics.get_ylim()]).all()
    rendered(drawing.draw_curves(epochs(float("nan"), loss=float("nan")), None))


def test_only_metrics_between_0_and_1_are_drawn() -> None:
    record = EpochRecord(1, {"loss": 1.0}, {"accuracy": 0.5, "perplexity": 7.0, "kappa": -0.2})
    _, metrics = drawing.draw_curves([record], None).axes
    assert [line.get_label() for line in metrics.lines] == ["accuracy"]


def test_the_best_epoch_is_marked_and_named() -> None:
    best = Best(Path("best.ckpt"), 2, 0.75, "accuracy")
    figure = drawing.draw_curves(epochs(0.5, 0.75, 0.6), best)
    assert texts(figure)[1] == "3 epochs; best accuracy 0.75 at epoch 2"
    for axes in figure.axes:
        assert points(axes, "best: epoch 2")[0] == [2, 2]


def test_metrics_by_the_dozen_share_one_entry_of_the_legend() -> None:
    record = EpochRecord(1, {"loss": 1.0}, {f"recall of {i}": 0.5 for i in range(30)})
    _, metrics = drawing.draw_curves([record], None).axes
    entries = [text.get_text() for text in metrics.get_legend().get_texts()]
    assert len(metrics.lines) == 30
    assert len(entries) == 7
    assert entries[-1] == "24 more"


# Confusion matrix


def test_cells_have_counts_and_shares_of_the_true_class() -> None:
    figure = drawing.draw_confusion_matrix(FEW, "best checkpoint, epoch 7")
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert cells[0, 0] == "1\n50%"
    assert cells[1, 0] == "1\n50%"  # column 1, row 0: a cat taken for a dog
    assert cells[0, 1] == "0"
    assert cells[2, 2] == "1\n100%"
    assert figure.axes[0].get_ylabel() == "true class"
    assert texts(figure)[0] == "Confusion matrix: accuracy 60.0% (3/5)"
    assert "epoch 7" in texts(figure)[1]


@pytest.mark.filterwarnings("error")
def test_a_class_without_validation_images_has_a_grey_row() -> None:
    figure = drawing.draw_confusion_matrix(answers([0, 0], [0, 2], [0.9, 0.9]), "")
    rendered(figure)
    colours = np.asarray(figure.axes[0].images[0].get_array())
    assert to_hex(colours[1, 1]) == style.PALE
    assert to_hex(colours[0, 1]) == "#ffffff"
    assert {text.get_position()[1] for text in figure.axes[0].texts} == {0}


@pytest.mark.parametrize("classes", [2, 10, 30, 120])
def test_class_names_beside_a_matrix_stay_apart_and_in_the_picture(classes: int) -> None:
    figure = drawing.draw_confusion_matrix(many_answers(classes, 300), "best checkpoint, epoch 7")
    renderer = rendered(figure)
    axes = figure.axes[0]
    names = axes.get_yticklabels()
    assert len(names) == len(axes.get_xticklabels()) == classes
    extents = [name.get_window_extent(renderer) for name in names]
    for upper, lower in pairwise(extents):
        # Nominal boxes may touch where the letters do not.
        assert lower.y1 - upper.y0 < 0.35 * upper.height
    outer = [*extents, axes.xaxis.label.get_window_extent(renderer)]
    outer += [name.get_window_extent(renderer) for name in axes.get_xticklabels()]
    outer += [axes.yaxis.label.get_window_extent(renderer)]
    width, height = figure.get_size_inches() * figure.dpi
    for box in outer:
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height


def test_counts_are_written_up_to_30_classes_and_the_picture_grows_no_further() -> None:
    sizes = []
    for classes in (30, 31, 1000):
        figure = drawing.draw_confusion_matrix(many_answers(classes, 2000), "")
        assert bool(figure.axes[0].texts) == (classes <= 30)
        sizes.append(figure.get_size_inches().max())
    assert max(sizes) < 16


# What all have in common


@pytest.mark.filterwarnings("error")
def test_chinese_and_mathematical_class_names_give_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = (
        "哈士奇",
        "边境牧羊犬（黑白花色，长毛，三岁以上，城市里的）",
        "$x_{$",
        LONG,
        "\U0001f436",
    )
    run = FakeRun(tmp_path, answers([0, 1, 2, 3, 4], [1, 1, 3, 3, 0], [0.9] * 5, *names))
    msft_plugins.figures.on_run_start(run)
    msft_plugins.figures.on_run_end(run, report(tmp_path, epochs(0.5)), None)
    assert sorted(path.name for path in tmp_path.iterdir()) == PICTURES
    assert run.reporter.warnings == []
    assert caplog.records == []


@pytest.fixture
def no_chinese_font(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plain = [font for font in fontManager.ttflist if font.name not in style.CJK_FONTS]
    monkeypatch.setattr(fontManager, "ttflist", plain)
    style.font_families.cache_clear()
    yield
    style.font_families.cache_clear()


def test_a_font_that_was_installed_after_matplotlib_looked_is_found(
    no_chinese_font: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """matplotlib's list of fonts is a file in its cache, and may be older than the font."""
    font = Path(get_data_path(), "fonts", "ttf", "DejaVuSerif.ttf")
    installed = tmp_path / "NotoSansCJK-Regular.ttf"
    installed.write_bytes(font.read_bytes())
    monkeypatch.setattr(style, "CJK_FONTS", ("DejaVu Serif",))
    plain = [font for font in fontManager.ttflist if font.name != "DejaVu Serif"]
    monkeypatch.setattr(fontManager, "ttflist", plain)
    monkeypatch.setattr(style, "findSystemFonts", lambda: [str(installed)])
    assert style.font_families() == ("DejaVu Sans", "DejaVu Serif")


def test_where_no_font_has_chinese_characters_one_line_says_so(
    tmp_path: Path, no_chinese_font: None
) -> None:
    run = FakeRun(tmp_path, answers([0], [0], [0.9], "哈士奇", "dog"))
    msft_plugins.figures.on_run_start(run)
    assert len(run.reporter.infos) == 1
    assert "fonts-noto-cjk" in run.reporter.infos[0]
    assert not style.lacks_font(["Dogue de Bordeaux", "Šarplaninac"])


def test_the_users_matplotlib_settings_neither_change_nor_matter(tmp_path: Path) -> None:
    style.save(drawing.draw_confusion_matrix(FEW, ""), tmp_path / "plain.png", 110)
    with matplotlib.rc_context({"figure.autolayout": True, "font.size": 30, "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        style.save(drawing.draw_confusion_matrix(FEW, ""), tmp_path / "odd.png", 110)
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "odd.png").read_bytes()


def test_importing_the_plugin_is_cheap_and_drawing_needs_no_pyplot() -> None:
    script = (
        "import sys, msft_plugins.figures\n"
        "assert not {'numpy', 'matplotlib', 'mindspore'} & set(sys.modules)\n"
        "import msft_core.pages.drawing\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_component_is_a_callback_that_is_on_by_default() -> None:
    (component,) = msft_plugins.figures.list_components()
    assert (component.kind, component.name) == ("callback", "figures")
    assert component.settings().enabled
    with pytest.raises(ValueError, match="less than or equal to 100"):
        component.settings(predictions=101)


def test_file_names_that_are_not_utf_8_and_control_characters_are_drawn(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, answers([0, 1], [1, 1], [0.9, 0.8], "\udcff\udcfe", "a\nb\x07"))
    msft_plugins.figures.on_run_end(run, report(tmp_path, epochs(0.5)), None)
    assert "predictions.png" in {path.name for path in tmp_path.iterdir()}
    assert run.reporter.warnings == []

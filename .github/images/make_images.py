"""Make the README's pictures, .github/images/*.png, from two runs of CRNN's demo.

    python .github/images/make_images.py

A run that does not exist is trained first, which takes minutes on two CPU cores.
Each picture is shown 800 pixels wide and stays below 150 KB.
"""
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

REPO = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPO / "CRNN"))

from frames import frame_path, read_frames  # noqa: E402
from runs import saved_epochs  # noqa: E402

JPEGS, IMAGES = REPO / "UCF101" / "demo" / "jpegs", REPO / ".github" / "images"
FULL, SHORT = REPO / "CRNN" / "model_ckpt_demo", REPO / "CRNN" / "model_ckpt_demo12"
BLUE, VERMILLION = "#0072B2", "#D55E00"  # colour-blind safe


def command(script: str, *words) -> None:
    subprocess.run([sys.executable, REPO / script, *map(str, words)], check=True)


def predict_test_videos(folder: Path, *flags) -> pd.DataFrame:
    """Return the list of a demo run by filename. Train the run if it does not exist."""
    if not saved_epochs(folder, "CRNN"):
        command("CRNN/UCF101_CRNN.py", "--demo", "--save_model_path", folder, *flags)
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "list.pkl"
        command("check_model_prediction.py", "--save_model_path", folder, "--output", output)
        table = pd.read_pickle(output)
    return table[table["split"] == "test"].set_index("filename")


def draw_strips(table: pd.DataFrame) -> Figure:
    """Draw a row for each video: its action, 6 of its 10 frames, the prediction and its probability."""
    height = 0.45 + 0.85 * len(table)
    figure = Figure(figsize=(8, height))  # an inch is shown as 100 pixels
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set(xlim=(0, 8), ylim=(height, 0))  # inches, from the top left
    axes.axis("off")
    for x, title in ((0.15, "action"), (1.25, "a test video, over time"), (6.45, "the model's answer")):
        axes.text(x, 0.25, title, va="center", fontsize=10, color="dimgray")
    for place, row in enumerate(table.itertuples()):
        top = 0.45 + 0.85 * place
        for k, (_, pixels) in enumerate(read_frames(str(JPEGS / row.Index), [1, 3, 5, 6, 8, 10])):
            left = 1.25 + 0.84 * k
            axes.imshow(pixels, extent=(left, left + 0.8, top + 0.8, top), interpolation="nearest")
        axes.text(0.15, top + 0.4, row.y, va="center", fontsize=12)
        axes.text(6.45, top + 0.4, f"{row.y_pred}\n{row.confidence:.1%}", va="center", fontsize=12,
                  weight="bold", linespacing=1.4, color=BLUE if row.y == row.y_pred else VERMILLION)
    return figure


def join_videos(names: list[str], folder: Path) -> None:
    """Write the frames of several videos, one video after the other, as one frame folder."""
    folder.mkdir()
    frames = [path for name in names for path in sorted((JPEGS / name).iterdir())]
    for number, path in enumerate(frames, start=1):
        shutil.copy(path, frame_path(str(folder), number))


def main():
    IMAGES.mkdir(exist_ok=True)
    full, short = predict_test_videos(FULL), predict_test_videos(SHORT, "--epochs", 12)
    flowers = full[full.index.str.contains("_g04_")]  # the test's other group has a pale disc
    draw_strips(flowers.groupby("y").head(1)).savefig(IMAGES / "demo.png", dpi=150)
    shutil.copy(FULL / "fig_UCF101_CRNN.png", IMAGES / "curves.png")
    mistakes = short[short["y"] != short["y_pred"]].sort_values("confidence", ascending=False)
    draw_strips(mistakes.head(5)).savefig(IMAGES / "mistakes.png", dpi=150)

    actions = ["Stay", "MoveLeft", "Sway", "MoveRight", "Stay", "Sway"]
    videos = [f"v_{action}_g04_c{clip:02d}" for clip, action in enumerate(actions, start=1)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / ", ".join(actions)  # the picture's title
        join_videos(videos, folder)
        command("check_model_prediction.py", "--save_model_path", FULL, "--video", folder,
                "--clips", 51, "--plot", IMAGES / "timeline.png")

    for path in sorted(IMAGES.glob("*.png")):
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
        print(f"{path.relative_to(REPO)}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

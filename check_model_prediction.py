"""Predict with a trained model: a list of all videos of a data set, or what happens in any video.

    python check_model_prediction.py --save_model_path CRNN/model_ckpt
        predict all videos of the data set with the best epoch, and write a list
    python check_model_prediction.py --checkpoint CRNN_epoch8.pth --video a.mp4 folder
        print the five most likely actions of video files, frame folders, folders of videos
    python check_model_prediction.py --model CRNN --video a.mp4 --clips 20 --plot a.png
        print what happens when, from 20 clips spread over the video, and draw it

The list, UCF101_<model>_videos_prediction.pkl, is a pandas DataFrame with the
columns filename, y, y_pred, confidence (0..1) and split (train, test or new).
The notebook check_video_predictions.ipynb shows it. Sizes, frames and actions
come from the checkpoint. The raw state dicts of the original tutorial do not
hold them: use --img_x, --img_y and --frames. --demo uses the demo's checkpoints.
"""
import argparse
import importlib
import math
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import torch
from joblib import cpu_count  # comes with scikit-learn
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

REPO = Path(__file__).resolve().parent
SCRIPTS = {"Conv3D": "UCF101_3DCNN", "CRNN": "UCF101_CRNN", "ResNetCRNN": "UCF101_ResNetCRNN"}
sys.path[:0] = [str(REPO / folder) for folder in SCRIPTS]

from frames import count_frames, frame_rate, frame_times, read_frames  # noqa: E402
from functions import (  # noqa: E402
    keep_arrays,
    make_loader,
    name_unreadable_videos,
    predict,
    resize,
    select_frames,
    spread_clips,
)
from runs import (  # noqa: E402
    WORLD_SIZE,
    InputError,
    abbreviate,
    atomic_file,
    check_writable,
    get_device,
    join_counts,
    load_checkpoint,
    load_weights,
    name_weights,
    parallelize,
    report,
    run,
    saved_args,
    saved_epochs,
)
from videos import (  # noqa: E402
    VIDEO_NAME,
    Video,
    find_videos,
    is_ucf101,
    label_videos,
    load_action_names,
    name_key,
    scan_folder,
    without_suffix,
)

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # colour-blind safe


class Trained(NamedTuple):
    """A model and what its checkpoint says about it."""
    name: str
    model: torch.nn.Module  # on its device, in DataParallel
    args: argparse.Namespace
    action_names: list[str]  # by class index
    sides: dict[str, str]  # {name of a video: train or test}, as far as the checkpoint records it
    frame_rate: float | None  # of the training files
    trained_on: str = ""  # data_path of the training


# ------------------------------------------------------------------------------ 1. Options


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or these words."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    number = dict(type=int, metavar="int")
    parser.add_argument("--model", choices=SCRIPTS, help="use the best checkpoint in this model's folder")
    parser.add_argument("--demo", action="store_true", help="with --model: use the demo's checkpoints")
    parser.add_argument("--save_model_path", metavar="FOLDER", help="use the best checkpoint in this folder")
    parser.add_argument("--checkpoint", nargs="+", metavar="FILE",
                        help="use this checkpoint, or raw state dicts (encoder and decoder: two files)")
    parser.add_argument("--video", nargs="+", metavar="PATH",
                        help="predict these video files, frame folders and folders of videos")
    parser.add_argument("--clips", **number, help="clips spread over each video (default: as in training)")
    parser.add_argument("--csv", metavar="FILE",
                        help="with --video: write a table with one row per clip and action")
    parser.add_argument("--plot", metavar="FILE.png", help="with one --video: also draw what happens when")
    parser.add_argument("--data_path", metavar="PATH",
                        help="list the videos of this folder or table (default: as in training)")
    parser.add_argument("--output", metavar="FILE", help="file of the list (default: beside this script)")
    parser.add_argument("--batch_size", **number, help="videos at a time (default: as in training)")
    parser.add_argument("--num_workers", **number, default=cpu_count(), help="processes that read videos")
    parser.add_argument("--begin_frame", **number, help="first frame of a clip (default: as in training)")
    parser.add_argument("--skip_frame", **number, help="take every n-th frame, whatever the frame rate")
    raw = parser.add_argument_group("for raw state dicts, which do not hold these")
    raw.add_argument("--action_name_path", metavar="FILE", help="action names, a text file or a pickled list")
    raw.add_argument("--img_x", **number, help="height of the frames")
    raw.add_argument("--img_y", **number, help="width of the frames")
    raw.add_argument("--frames", **number, help="frames in a clip")
    options = parser.parse_args(words)
    if not (options.model or options.save_model_path or options.checkpoint):
        parser.error("name the model by --model, --save_model_path or --checkpoint")
    if (options.csv or options.plot) and not options.video:
        parser.error("--csv and --plot need --video")
    if options.demo and not options.model:
        parser.error("--demo needs --model")
    if options.video and (options.data_path or options.output):
        parser.error("--data_path and --output are for a list and do not work with --video")
    for name, value in vars(options).items():
        if type(value) is int and value < (0 if name == "num_workers" else 1):
            parser.error(f"argument --{name}: {value} is too small")
    if options.plot and not options.plot.lower().endswith(".png"):
        parser.error(f"--plot {options.plot}: the name must end in .png")
    for path in filter(None, (options.csv, options.plot, options.output)):  # now, not after an hour of work
        folder = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.access(path if os.path.exists(path) else folder, os.W_OK):
            parser.error(f"{path} is a folder, or cannot be written")
    return options


# ------------------------------------------------------------------------------ 2. The model


def find_checkpoint(options: argparse.Namespace) -> tuple[dict, Path]:
    """Load the checkpoint that the options name. Returns (checkpoint, its path)."""
    if options.checkpoint:
        states = [load_checkpoint(file) for file in options.checkpoint]
        states = [state.get("state_dict", state) for state in states]
        keys = set(states[0]) if len(states) == 1 and isinstance(states[0], dict) else set()
        is_ours = keys >= {"model", "args", "action_names"}
        return states[0] if is_ours else from_raw_weights(states, options), Path(options.checkpoint[0])
    folder = options.save_model_path
    if not folder:
        script = importlib.import_module(SCRIPTS[options.model])
        folder = script.DEMO["save_model_path"] if options.demo else script.PARAMETERS["save_model_path"][0]
    names = [name for name in SCRIPTS if saved_epochs(folder, name)]
    if options.model or len(names) != 1:
        names = [name for name in names if name == options.model]
    if not os.path.isdir(folder):
        raise InputError(f"{folder} does not exist: train first, or use another --save_model_path")
    if not names:
        raise InputError(f"{folder} holds no {options.model or '<model>'}_epoch*.pth, or those of several "
                         "models: train first, use another --save_model_path, or name a --checkpoint")
    return load_best(Path(folder), names[0])


def load_best(folder: Path, name: str) -> tuple[dict, Path]:
    """Load the checkpoint with the highest test accuracy (then the lowest test loss) in a folder."""
    ranked = []
    for path in [folder / f"{name}_epoch{epoch}.pth" for epoch in saved_epochs(folder, name)]:
        try:
            checkpoint = load_checkpoint(path, "test_score", "test_loss", tensors=False)
            ranked.append((-checkpoint["test_score"], checkpoint["test_loss"], path))
        except InputError as error:
            print(f"{error}: trying the others")
    for *_, path in sorted(ranked):
        try:
            return load_checkpoint(path), path
        except InputError as error:
            print(f"{error}: trying the next best")
    raise InputError(f"no checkpoint in {folder} can be read")


def model_name(weights: dict, files: str) -> str:
    """Return which model has weights of these names, which are without DataParallel's "module."."""
    names = {name.removeprefix("encoder.") for name in weights}
    if "resnet.0.weight" in names:
        return "ResNetCRNN"
    if "conv1.0.weight" in names or "LSTM.weight_ih_l0" in names or "decoder.LSTM.weight_ih_l0" in names:
        return "CRNN"
    if "conv1.weight" in names and "fc3.weight" in names:
        return "Conv3D"
    raise InputError(f"{files} is neither a checkpoint nor a state dict of Conv3D, CRNN or ResNetCRNN")


def from_raw_weights(states: list[dict], options: argparse.Namespace) -> dict:
    """Make a checkpoint of the original's state dicts: sizes from the shapes, the rest from flags."""
    files, weights = ", ".join(options.checkpoint), {}
    for state in states:
        weights.update(name_weights(state, files))
    name = model_name(weights, files)
    script = importlib.import_module(SCRIPTS[name])
    defaults = {key: default for key, (default, *_) in script.PARAMETERS.items()}
    try:
        if name == "Conv3D":
            size = dict(fc_hidden1=len(weights["fc1.weight"]), fc_hidden2=len(weights["fc2.weight"]),
                        channels=weights["conv1.weight"].shape[1])
            classes = len(weights["fc3.weight"])
        else:
            size = dict(CNN_fc_hidden1=len(weights["encoder.fc1.weight"]), img_x=256, img_y=342,
                        CNN_fc_hidden2=len(weights["encoder.fc2.weight"]),
                        CNN_embed_dim=len(weights["encoder.fc3.weight"]),
                        RNN_hidden_layers=sum("LSTM.weight_ih" in key for key in weights),
                        RNN_hidden_nodes=weights["decoder.LSTM.weight_hh_l0"].shape[1],
                        RNN_FC_dim=len(weights["decoder.fc1.weight"]))
            if name == "CRNN":
                size["channels"] = weights["encoder.conv1.0.weight"].shape[1]
            classes = len(weights["decoder.fc2.weight"])
    except KeyError as error:
        hint = " (name the files of both encoder and decoder)" if len(states) == 1 else ""
        raise InputError(f"{files} is not a whole state dict of {name}: {error} is missing{hint}") from error
    if size.get("channels") == 6:
        size.update(channels=3, input="both")
    if size.get("channels", 3) not in (1, 3):
        raise InputError(f"{files}: the model takes {size['channels']} channels; frames have 3, or 1 if grey")
    if options.img_x or options.img_y:
        x, y = options.img_x or options.img_y, options.img_y or options.img_x
        size.update(img_x=x, img_y=y, res_size=x)
    args = defaults | size | dict(end_frame=1 + (options.frames or 28), cache_features=False)
    action_names = sorted(load_action_names(options.action_name_path or defaults["action_name_path"]))
    if len(action_names) != classes:
        raise InputError(f"{files}: the model has {classes} actions, the list has {len(action_names)}: "
                         "use --action_name_path")
    return dict(name=name, model=weights, args=args, action_names=action_names, epoch=None)


def load_model(options: argparse.Namespace, device: torch.device) -> Trained:
    """Build the model of the checkpoint that the options name, and load its weights."""
    checkpoint, path = find_checkpoint(options)
    name = checkpoint.get("name") or model_name(checkpoint["model"], str(path))
    if options.model and options.model != name:
        raise InputError(f"{path} is a checkpoint of {name}, not of {options.model}: leave out --model")
    if checkpoint["epoch"] and (options.action_name_path or options.img_x or options.img_y or options.frames):
        raise InputError(f"{path} holds its actions, sizes and frames: leave out flags for raw weights")
    script = importlib.import_module(SCRIPTS[name])
    args = argparse.Namespace(**saved_args(checkpoint, script.PARAMETERS))
    T, trained_on = len(select_frames(args)), args.data_path
    args.begin_frame = options.begin_frame or args.begin_frame
    args.skip_frame = options.skip_frame or args.skip_frame
    args.end_frame = args.begin_frame + T * args.skip_frame
    args.clips = options.clips or args.clips
    args.batch_size = options.batch_size or args.batch_size
    args.data_path = options.data_path or args.data_path
    args.num_workers, args.save_model_path = options.num_workers, str(path.parent)
    args.resnet_weights = "none"  # the checkpoint holds them
    model = script.build_model(args, len(checkpoint["action_names"]))
    load_weights(model, checkpoint["model"], path)
    print(f"Weights {path}, epoch {checkpoint['epoch']}" if checkpoint["epoch"] else f"Weights {path}")
    # by the name in lower case and as it is written; if two differ only in case, the latter decides
    sides = {key(video): side for key in (name_key, str) for side in ("train", "test")
             for video in checkpoint.get(f"{side}_videos", [])}
    return Trained(name, parallelize(model, device), args, checkpoint["action_names"], sides,
                   checkpoint.get("frame_rate"), trained_on)


# ------------------------------------------------------------------------------ 3. A list of all videos


def predict_list(options: argparse.Namespace, trained: Trained, device) -> None:
    """Predict every video of the data set, write the list, print the accuracy on each side of the split."""
    args, action_names = trained.args, trained.action_names
    output = Path(options.output or REPO / f"UCF101_{trained.name}_videos_prediction.pkl")
    check_writable(output.parent, "--output FILE is needed: the list cannot be written to")
    videos = label_videos(find_videos(args.data_path), action_names, "The model was not trained on them: use "
                          "a --data_path without them, or predict single videos with --video")
    script = importlib.import_module(SCRIPTS[trained.name])
    with name_unreadable_videos(args, videos):
        datasets = [script.make_dataset(args, videos)]
        [dataset] = keep_arrays(args, trained.model, device, datasets, write=False)
        loader = make_loader(dataset, args, shuffle=False)
        log_probabilities, _ = predict(trained.model, device, loader, args.clips)
    sides = find_trained_videos(videos, trained)
    report_uncertain_list(options, trained, videos, sides)
    confidence, predicted = log_probabilities.exp().max(1)
    table = pd.DataFrame({
        "filename": [video.name for video in videos],
        "y": [video.action for video in videos],
        "y_pred": [action_names[k] for k in predicted],
        "confidence": confidence.numpy(),
        "split": sides,
    })
    with atomic_file(output) as file:
        table.to_pickle(file)
    print(f"Output  {output}\n        {len(table):,} videos of {args.data_path};\n"
          "        look at them in check_video_predictions.ipynb")
    for split in ("train", "test", "new", "unknown"):
        part = table[table["split"] == split]
        right = part["y"] == part["y_pred"]
        if len(part):
            print(f"Accuracy {split:<7} {right.mean():6.1%}  {right.sum():,} of {len(part):,} videos")
    if not options.checkpoint and "test" in set(table["split"]):
        print("        (the test videos chose this epoch, so this accuracy is a little too high)")


def find_trained_videos(videos: list[Video], trained: Trained) -> list[str]:
    """Return train, test or new for each video; unknown if the checkpoint does not record training videos.

    A video in the training's folder is recognised by its path there, one of UCF101 by its name. Any other
    counts as the training's video of its name, unless that one is still there and has another size.
    """
    root = data_folder(trained.trained_on)
    same_data = os.path.realpath(trained.args.data_path) == os.path.realpath(trained.trained_on)
    other, found = "new" if "train" in trained.sides.values() else "unknown", []
    for video in videos:
        folder, file = os.path.split(video.path)
        place = Path(os.path.realpath(folder), without_suffix(file))
        by_name = same_data or VIDEO_NAME.fullmatch(video.name)
        inside = place.is_relative_to(root)
        name = place.relative_to(root).as_posix() if inside and not by_name else video.name
        side = trained.sides.get(name) or trained.sides.get(name_key(name), other)
        if not by_name and not inside and is_another(Path(video.path), root / name):
            side = other
        found.append(side)
    return found


def data_folder(data_path: str) -> Path:
    """Return the folder of data_path, which may be a table in it."""
    path = Path(os.path.realpath(data_path))
    return path.parent if path.suffix.lower() in (".csv", ".tsv") else path


def is_another(path: Path, namesake: Path) -> bool:
    """Return whether the training's video, a path without suffix, is still there and has another size."""
    if path.is_file() and without_suffix(path.name) != path.name:
        namesake = namesake.with_name(namesake.name + path.suffix)
    if not namesake.exists():
        return False
    ours, theirs = (sum(frame.stat().st_size for frame in video.iterdir()) if video.is_dir()
                    else video.stat().st_size for video in (path, namesake))
    return ours != theirs


def report_uncertain_list(options, trained: Trained, videos: list[Video], sides: list[str]) -> None:
    """Print if videos were recognised by name only, and if new ones have another frame rate."""
    folder, root = data_folder(trained.args.data_path), data_folder(trained.trained_on)
    if not folder.is_relative_to(root) and "train" in trained.sides.values():
        report("Split", f"by name: a video counts as train or test if {trained.trained_on} had a video of "
               "this name (and of this size, if that video still exists)")
    new = [video.path for video, side in zip(videos, sides, strict=True) if side == "new"]
    fast = sum(bool(fit_frame_rate(trained, path, options)[1]) for path in new)
    if fast:
        report("Rate", f"{fast:,} of {len(new):,} new videos have another frame rate than the training's: "
               "movements look faster or slower. --video corrects this; for a list use --skip_frame")


# ------------------------------------------------------------------------------ 4. Any video


def predict_videos(options: argparse.Namespace, trained: Trained, device: torch.device) -> None:
    """Print the most likely actions of each video and of its clips; write them as a table and a picture."""
    paths = [found for path in options.video for found in expand(path)]
    if options.plot and len(paths) > 1:
        raise InputError(f"--plot draws one video, but --video names {len(paths)}")
    names = Counter(os.path.basename(os.path.normpath(path)) for path in paths)
    tables, failed = [], False
    for path in paths:
        try:
            if not os.path.exists(path):
                raise InputError(f"{path}: no such file or folder")
            args, note = fit_frame_rate(trained, path, options)
            table, moments = predict_clips(trained, args, path, device)
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            failed = True
            continue
        name = os.path.basename(os.path.normpath(path))
        print_prediction(table, name if names[name] == 1 else path, note)
        tables.append(table)
        if options.plot:
            figure = plot_timeline(table, read_strip(path, moments))
            with atomic_file(options.plot) as file:
                figure.savefig(file, format="png", dpi=140)
            print(f"\nOutput  {options.plot}")
    if options.csv and tables:
        with atomic_file(options.csv) as file:
            pd.concat(tables).to_csv(file, index=False, errors="backslashreplace")
        print(f"\nOutput  {options.csv}")
    if failed:
        sys.exit(1)


def expand(path: str) -> list[str]:
    """Return the videos of a path: those below a folder of videos, or the path itself."""
    skipped = Counter()
    found = [video for video, *_ in scan_folder(path, skipped)] if os.path.isdir(path) else []
    if found and join_counts(skipped):
        report("Skipped", f"{join_counts(skipped)}, in {path}")
    return found or [path]


def fit_frame_rate(trained: Trained, path: str, options) -> tuple[argparse.Namespace, str]:
    """Take every n-th frame of a file with n times the frame rate of the training. Returns (args, note)."""
    args = argparse.Namespace(**vars(trained.args))
    rate, usual = frame_rate(path), trained.frame_rate or (25 if is_ucf101(trained.action_names) else None)
    if options.skip_frame or not rate or not usual or 2 / 3 < rate / usual < 1.5:
        return args, ""
    rates = f"{rate:.0f} frames per second, but {usual:.0f} in training: "
    if rate < usual:
        return args, rates + "movements look faster than in training"
    n, T = round(rate / usual), len(select_frames(args))
    args.skip_frame *= n
    args.end_frame = args.begin_frame + args.skip_frame * T
    return args, rates + f"one frame in {n} is used"


def predict_clips(trained: Trained, args: argparse.Namespace, path: str, device) -> tuple[pd.DataFrame, list]:
    """Predict each of the clips that are spread over a video, one at a time.

    Returns:
        a table with the columns video, start, end (seconds), action and probability, a row for each clip and
        action, the most likely of a clip first; table.attrs: "seconds", of the whole video, "timed" (False: a
        frame folder, whose seconds are guessed from the training's frame rate), "lacks": frames, for a clip
        [(second, frame number), ...] of at most 12 frames, spread evenly over those that the clips hold
    """
    times = frame_times(path) if os.path.isfile(path) else []
    count, timed = len(times) or count_frames(path), bool(times)
    if not timed:
        times = [number / (trained.frame_rate or 25) for number in range(max(1, count))]
    numbers = select_frames(args)
    args.clips = min(args.clips, max(1, count - numbers[-1] + 1))  # or some would be the same
    clips = spread_clips(numbers, args.clips, count)
    script = importlib.import_module(SCRIPTS[trained.name])
    dataset = script.make_dataset(args, [Video(path, path, "", "")])
    batches = ((X[None], torch.tensor([0])) for X, _ in dataset.read(0, clips))
    log_probabilities, _ = predict(trained.model, device, batches)
    rows, seen = [], set()
    for clip, probabilities in zip(clips, log_probabilities.exp(), strict=True):
        start, end = (min(number, len(times)) for number in (clip[0], clip[-1]))
        seen.update(min(number, len(times)) for number in clip)
        for label in probabilities.argsort(descending=True).tolist():
            rows.append((path, times[start - 1], times[end - 1], trained.action_names[label],
                         float(probabilities[label])))
    table = pd.DataFrame(rows, columns=["video", "start", "end", "action", "probability"])
    table.attrs = dict(seconds=times[-1], timed=timed, lacks=max(0, numbers[-1] - count))
    chosen = np.linspace(0, len(seen) - 1, min(12, len(seen))).round().astype(int)
    return table, [(times[number - 1], number) for number in np.array(sorted(seen))[chosen].tolist()]


def make_clip(trained: Trained, frames: np.ndarray) -> torch.Tensor:
    """Make a batch of one clip of the model's size from your own frames, uint8 (T, H, W, C).

    They count as a video: the clip starts at begin_frame, and holds the last one if there are too few.
    Differences need one frame more than the clip has.
    """
    dataset = importlib.import_module(SCRIPTS[trained.name]).make_dataset(trained.args, [])
    numbers = [min(number, len(frames)) for number in dataset.add_next(dataset.frame_numbers)]
    images = resize(((number, frames[number - 1]) for number in numbers), dataset.img_x, dataset.img_y)
    return dataset.arrange(torch.stack([image for _, image in images]))[None]


def print_prediction(table: pd.DataFrame, name: str, note: str) -> None:
    """Print the five most likely actions of a video, by the mean of its clips, then the best of each clip."""
    clips, notes = table.drop_duplicates(["start", "end"]), [note] if note else []
    if table.attrs["lacks"]:
        notes.append(f"{table.attrs['lacks']} frames shorter than a clip: the last frame is held")
    if len(clips) > 1:
        notes.append(f"the mean of {len(clips)} clips")
    elif table.attrs["seconds"] > clips["end"].iloc[0]:
        start, end, _ = clips[["start", "end", "probability"]].iloc[0]
        number = min(20, math.ceil(table.attrs["seconds"] / max(end - start, 0.1)))
        notes.append(f"from seconds {start:.1f} to {end:.1f} of {table.attrs['seconds']:.1f}; "
                     f"use --clips {number} to see more")
    print(f"\n{name}")
    for line in notes:
        print(f"  ({line})")
    mean = table.groupby("action")["probability"].mean().sort_values(ascending=False)
    for action, probability in mean.head(5).items():
        bar = "#" * round(probability * (shutil.get_terminal_size().columns - 40))
        print(f"  {action:<24} {probability:6.1%}  {bar}")
    if len(clips) > 1:
        print("\n  seconds" if table.attrs["timed"] else "\n  seconds, guessed from the frames")
        for row in clips.itertuples():
            print(f"  {row.start:7.1f} to {row.end:7.1f}  {row.action:<24} {row.probability:6.1%}")


# ------------------------------------------------------------------------------ 5. The picture


def read_strip(path: str, moments: list) -> list[tuple[float, np.ndarray]]:
    """Read frames as small pictures: [(second, uint8 (H, W, 3)), ...]."""
    strip, seconds = [], {number: second for second, number in moments}
    for number, pixels in read_frames(path, sorted(seconds)):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.thumbnail((240, 240))
        strip.append((seconds.get(number, moments[-1][0]), np.asarray(image)))
    return strip


def plot_timeline(table: pd.DataFrame, strip: list) -> Figure:
    """Draw frames of a video over time, and below them the probabilities of its most likely actions."""
    seconds = max(table.attrs["seconds"], table["end"].max(), 0.1)
    name = os.path.basename(os.path.normpath(table["video"].iloc[0]))
    labels = fit_fonts([name, *table["action"]])
    table = table.replace({"action": labels})
    # in inches; the axes are 7.2 wide; no height if none of the pictures can be read
    width = 6.9 / max(len(strip), 6)
    heights = [width * picture.shape[0] / picture.shape[1] for _, picture in strip]
    tallest = max(heights, default=0)
    inches = 4.6 + tallest
    figure = Figure(figsize=(8, inches))
    draw_probabilities(figure.add_axes([0.08, 0.6 / inches, 0.9, 2.6 / inches]), table, seconds)
    top = figure.add_axes([0.08, 4.2 / inches, 0.9, tallest / inches])
    for place, ((second, picture), height) in enumerate(zip(strip, heights, strict=True)):
        middle, half = 7.2 * (place + 0.5) / len(strip), width / 2
        top.imshow(picture, extent=(middle - half, middle + half, 0, height), aspect="auto",
                   interpolation="nearest" if picture.shape[1] < 100 else None)  # do not blur small frames
        top.text(middle, -0.03, f"{second:.{1 if seconds > 3 else 2}f} s", ha="center", va="top", fontsize=9,
                 color="dimgray")
    top.set(xlim=(0, 7.2), ylim=(0, max(tallest, 0.1)))
    top.axis("off")
    top.set_title(labels[name], loc="left", parse_math=False)
    return figure


def draw_probabilities(axes: Axes, table: pd.DataFrame, seconds: float) -> None:
    """Draw the probabilities of the actions that are most often first, then of the most likely on average."""
    clips, mean = table.drop_duplicates(["start", "end"]), table.groupby("action")["probability"].mean()
    firsts = clips["action"].value_counts()
    actions = sorted(mean.index, key=lambda action: (-firsts.get(action, 0), -mean[action]))[:len(COLORS)]
    overlap = (clips["start"].to_numpy()[1:] < clips["end"].to_numpy()[:-1]).any()
    for action, color in reversed(list(zip(actions, COLORS, strict=False))):  # the most likely on top
        part = table[table["action"] == action]
        middle, percent = (part["start"] + part["end"]) / 2, 100 * part["probability"]
        if overlap:  # bars would hide each other
            axes.plot(middle, percent, color=color, lw=2.5, label=action)
        else:
            axes.plot(middle, percent, color=color, lw=1)
            axes.hlines(percent, part["start"], part["end"], color=color, lw=5, label=action)
    xlabel = "seconds" if table.attrs["timed"] else "seconds, guessed from the frames"
    axes.set(xlim=(0, seconds), ylim=(-2, 102), xlabel=xlabel, ylabel="probability (%)")
    axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles[::-1], labels[::-1], loc="lower left", bbox_to_anchor=(0, 1),
                         ncol=max(2, min(4, 90 // (max(map(len, labels)) + 8))),  # 90 letters fit
                         frameon=False, borderaxespad=0.2)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may hold dollar signs


REPORTED_LETTERS = set()


def fit_fonts(texts: list[str]) -> dict[str, str]:
    """Let Matplotlib use installed fonts that have the letters of these texts.

    Returns {text: what to show}: letters that no font has are written as \\u8d70, and reported.
    """
    missing = {letter for text in texts for letter in text if letter.isprintable() and not letter.isspace()}
    families = list(matplotlib.rcParams["font.family"])
    for family in families:
        missing -= letters_of(font_manager.findfont(font_manager.FontProperties(family=[family])))
    for path in font_manager.findSystemFonts() if missing else []:  # also those installed lately
        found = missing & letters_of(path)
        if found:
            font_manager.fontManager.addfont(path)
            families.append(font_manager.FontProperties(fname=path).get_name())
            missing -= found
    matplotlib.rcParams["font.family"] = families
    if missing - REPORTED_LETTERS:
        REPORTED_LETTERS.update(missing)
        report("Fonts", f"no installed font has {abbreviate(sorted(missing))}: install a Noto font, for "
               "example Noto Sans CJK for Chinese, Japanese and Korean")
    escaped = {ord(letter): letter.encode("ascii", "backslashreplace").decode() for letter in missing}
    return {text: text.translate(escaped).encode("utf-8", "backslashreplace").decode() for text in texts}


def letters_of(font_path: str) -> set[str]:
    try:
        font = font_manager.get_font(font_path)
        return set(map(chr, font.get_charmap())) if font.scalable else set()
    except Exception:  # a damaged font, or one of another kind
        return set()


def main():
    options = parse_arguments()
    if WORLD_SIZE > 1:
        raise InputError("prediction uses one process: start it with python, not with torchrun")
    device = get_device()
    trained = load_model(options, device)
    if options.video:
        predict_videos(options, trained, device)
    else:
        predict_list(options, trained, device)


if __name__ == "__main__":
    run(main, resumes=False)

"""Predict with a trained model: a list of all videos of a data set, or what happens in any video.

    python check_model_prediction.py --save_model_path CRNN/model_ckpt
        predict all videos of the data set with the best epoch, and write a list
    python check_model_prediction.py --checkpoint CRNN_epoch8.pth --video a.mp4 folder
        print the five most likely actions of video files, frame folders, folders of videos
    python check_model_prediction.py --model CRNN --video a.mp4 --clips 20 --plot a.png
        print what happens when, from 20 clips spread over the video, and draw it;
        --labels videos.csv compares it with the labelled parts of a table

The list, UCF101_<model>_videos_prediction.pkl beside this script, is a pandas
DataFrame with the columns filename, y, y_pred, confidence (0..1) and split
(train, test or new). The notebook check_video_predictions.ipynb shows it. As
.csv it also has the probability of each action, and opens in a spreadsheet.
"""
import argparse
import filecmp
import importlib
import math
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
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
# unless they are there: another process of a DataLoader has them in the order that import_script chose
sys.path[:0] = [str(REPO / folder) for folder in SCRIPTS if str(REPO / folder) not in sys.path]

import frames  # noqa: E402
import functions  # noqa: E402
import runs  # noqa: E402
import videos  # noqa: E402

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # colour-blind safe
RECORD = ". Record a camera or a stream first: ffmpeg -i /dev/video0 -t 60 a.mp4 (or README, To load a model)"
matplotlib.rcParams["text.parse_math"] = False  # a name may hold dollar signs
pd.set_option("mode.string_storage", "python")  # Arrow takes no names that are not UTF-8


class Trained(NamedTuple):
    """A model and what its checkpoint says about it."""
    name: str
    model: torch.nn.Module  # on its device, in DataParallel
    args: argparse.Namespace
    action_names: list[str]  # by class index
    sides: dict[str, str]  # {name of a video: train or test}, as far as the checkpoint records it
    frame_rate: float | None  # of the training files
    paths: dict[str, str]  # {name of a video of the training or test: its real path then}


# ------------------------------------------------------------------------------ 1. Options


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Parse the words of a command line. Those that begin with a - may also be files."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    number = dict(type=int, metavar="int")
    parser.add_argument("--model", choices=SCRIPTS, help="use the best checkpoint in this model's folder")
    parser.add_argument("--demo", action="store_true", help="with --model: use the demo's checkpoints")
    parser.add_argument("--save_model_path", metavar="FOLDER", help="use the best checkpoint in this folder")
    parser.add_argument("--checkpoint", nargs="+", metavar="FILE",
                        help="use this checkpoint, or raw state dicts (encoder and decoder: two files)")
    parser.add_argument("--video", nargs="+", metavar="PATH", help="files, frame folders, folders of videos")
    parser.add_argument("--clips", **number, help="clips spread over each video (default: as in training)")
    parser.add_argument("--csv", metavar="FILE", help="with --video: write a row for each clip and action")
    parser.add_argument("--plot", metavar="FILE.png", help="with one --video: also draw what happens when")
    parser.add_argument("--labels", metavar="TABLE", help="with --video: compare with these labelled parts")
    parser.add_argument("--data_path", metavar="PATH",
                        help="list the videos of this folder or table (default: as in training)")
    parser.add_argument("--output", metavar="FILE",
                        help="file of the list, .pkl or .csv (default: a .pkl beside this script)")
    parser.add_argument("--batch_size", **number, help="videos at a time (default: as in training)")
    parser.add_argument("--num_workers", **number, default=cpu_count(), help="processes that read videos")
    parser.add_argument("--begin_frame", **number, help="first frame of a clip (default: as in training)")
    parser.add_argument("--skip_frame", **number, help="take every n-th frame, whatever the frame rate")
    raw = parser.add_argument_group("for raw state dicts, which do not hold these")
    raw.add_argument("--action_name_path", metavar="FILE", help="action names, a text file or a pickled list")
    raw.add_argument("--img_x", **number, help="height of the frames")
    raw.add_argument("--img_y", **number, help="width of the frames")
    raw.add_argument("--frames", **number, help="frames in a clip")
    files = {word for word in words if word.startswith("-") and os.path.exists(word)}
    options = parser.parse_args([f"./{word}" if word in files else word for word in words])
    if not (options.model or options.save_model_path or options.checkpoint):
        parser.error("name the model by --model, --save_model_path or --checkpoint")
    if (options.csv or options.plot or options.labels) and not options.video:
        parser.error("--csv, --plot and --labels need --video")
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


def import_script(name: str):
    """Import a model's script. Its folder's own functions.py and so on predict, as they trained."""
    shared, folder = (runs, frames, videos, functions), Path(__file__).resolve().with_name(name)
    if not all(filecmp.cmp(module.__file__, folder / f"{module.__name__}.py", False) for module in shared):
        sys.path.insert(0, str(folder))
        for module in shared:
            importlib.reload(module)
    return importlib.import_module(SCRIPTS[name])


def find_checkpoint(options: argparse.Namespace) -> tuple[dict, Path]:
    """Load the checkpoint that the options name. Returns (checkpoint, its path)."""
    if options.checkpoint:
        states = [runs.load_checkpoint(file) for file in options.checkpoint]
        states = [state.get("state_dict", state) for state in states]
        keys = set(states[0]) if len(states) == 1 and isinstance(states[0], dict) else set()
        is_ours = keys >= {"model", "args", "action_names"}
        return states[0] if is_ours else from_raw_weights(states, options), Path(options.checkpoint[0])
    folder = options.save_model_path
    if not folder:
        script = import_script(options.model)
        folder = script.DEMO["save_model_path"] if options.demo else script.PARAMETERS["save_model_path"][0]
    names = [name for name in SCRIPTS if runs.saved_epochs(folder, name)]
    if options.model or len(names) != 1:
        names = [name for name in names if name == options.model]
    if not os.path.isdir(folder):
        raise runs.InputError(f"{folder} does not exist: train first, or use another --save_model_path")
    if not names:
        raise runs.InputError(f"{folder} holds no {options.model or '<model>'}_epoch*.pth, or those of "
                              "several models: train first, use another --save_model_path, or name a "
                              "--checkpoint")
    return load_best(Path(folder), names[0])


def load_best(folder: Path, name: str) -> tuple[dict, Path]:
    """Load the checkpoint with the highest test accuracy (then the lowest test loss) in a folder."""
    ranked = []
    for path in [folder / f"{name}_epoch{epoch}.pth" for epoch in runs.saved_epochs(folder, name)]:
        try:
            checkpoint = runs.load_checkpoint(path, "test_score", "test_loss", tensors=False)
            ranked.append((-checkpoint["test_score"], checkpoint["test_loss"], path))
        except runs.InputError as error:
            print(f"{error}: trying the others")
    for *_, path in sorted(ranked):
        try:
            return runs.load_checkpoint(path), path
        except runs.InputError as error:
            print(f"{error}: trying the next best")
    raise runs.InputError(f"no checkpoint in {folder} can be read")


def model_name(weights: dict, files: str) -> str:
    """Return which model has weights of these names, which are without DataParallel's "module."."""
    names = {name.removeprefix("encoder.") for name in weights}
    if "resnet.0.weight" in names:
        return "ResNetCRNN"
    if "conv1.0.weight" in names or "LSTM.weight_ih_l0" in names or "decoder.LSTM.weight_ih_l0" in names:
        return "CRNN"
    if "conv1.weight" in names and "fc3.weight" in names:
        return "Conv3D"
    raise runs.InputError(f"{files} is neither a checkpoint nor a state dict of Conv3D, CRNN or ResNetCRNN")


def from_raw_weights(states: list[dict], options: argparse.Namespace) -> dict:
    """Make a checkpoint of the original's state dicts: sizes from the shapes, the rest from flags."""
    files, weights = ", ".join(options.checkpoint), {}
    for state in states:
        weights.update(runs.name_weights(state, files))
    name = model_name(weights, files)
    script = import_script(name)
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
        raise runs.InputError(f"{files} is not a whole state dict of {name}: {error} is missing"
                              f"{hint}") from error
    if size.get("channels") == 6:
        size.update(channels=3, input="both")
    if size.get("channels", 3) not in (1, 3):
        raise runs.InputError(f"{files}: the model takes {size['channels']} channels; frames have 3, or 1 "
                              "if grey")
    if options.img_x or options.img_y:
        x, y = options.img_x or options.img_y, options.img_y or options.img_x
        size.update(img_x=x, img_y=y, res_size=x)
    args = defaults | size | dict(end_frame=1 + (options.frames or 28), cache_features=False)
    action_names = sorted(videos.load_action_names(options.action_name_path or defaults["action_name_path"]))
    if len(action_names) != classes:
        raise runs.InputError(f"{files}: the model has {classes} actions, the list has {len(action_names)}: "
                              "use --action_name_path")
    return dict(name=name, model=weights, args=args, action_names=action_names, epoch=None)


def load_model(options: argparse.Namespace, device: torch.device) -> Trained:
    """Build the model of the checkpoint that the options name, and load its weights."""
    checkpoint, path = find_checkpoint(options)
    name = checkpoint.get("name") or model_name(checkpoint["model"], str(path))
    if options.model and options.model != name:
        raise runs.InputError(f"{path} is a checkpoint of {name}, not of {options.model}: leave out --model")
    if checkpoint["epoch"] and (options.action_name_path or options.img_x or options.img_y or options.frames):
        raise runs.InputError(f"{path} holds its actions, sizes and frames: leave out flags for raw weights")
    script = import_script(name)
    args = argparse.Namespace(**runs.saved_args(checkpoint, script.PARAMETERS))
    T = len(functions.select_frames(args))
    args.begin_frame = options.begin_frame or args.begin_frame
    args.skip_frame = options.skip_frame or args.skip_frame
    args.end_frame = args.begin_frame + T * args.skip_frame
    args.clips = options.clips or args.clips
    args.batch_size = options.batch_size or args.batch_size
    args.data_path = options.data_path or args.data_path
    args.num_workers, args.save_model_path = options.num_workers, str(path.parent)
    args.resnet_weights = "none"  # the checkpoint holds them
    model = script.build_model(args, len(checkpoint["action_names"]))
    runs.load_weights(model, checkpoint["model"], path)
    print(f"Weights {path}, epoch {checkpoint['epoch']}" if checkpoint["epoch"] else f"Weights {path}")
    # by the name in lower case and as it is written; if two differ only in case, the latter decides
    sides = {key(video): side for key in (videos.name_key, str) for side in ("train", "test")
             for video in checkpoint.get(f"{side}_videos", [])}
    return Trained(name, runs.parallelize(model, device), args, checkpoint["action_names"], sides,
                   checkpoint.get("frame_rate"), checkpoint.get("video_paths", {}))


# ------------------------------------------------------------------------------ 3. A list of all videos


def predict_list(options: argparse.Namespace, trained: Trained, device) -> None:
    """Predict every video of the data set, write the list, print the accuracy on each side of the split."""
    args, action_names = trained.args, trained.action_names
    output = Path(options.output or REPO / f"UCF101_{trained.name}_videos_prediction.pkl")
    runs.check_writable(output.parent, "--output FILE is needed: the list cannot be written to")
    listed = videos.label_videos(videos.find_videos(args.data_path), action_names, "The model was not trained"
                                 " on them: use a --data_path without them, or predict single videos with "
                                 "--video")
    script = import_script(trained.name)
    with functions.name_unreadable_videos(args, listed):
        datasets = [script.make_dataset(args, listed)]
        [dataset] = functions.keep_arrays(args, trained.model, device, datasets, write=False)
        loader = functions.make_loader(dataset, args, shuffle=False)
        log_probabilities, _ = functions.predict(trained.model, device, loader, args.clips)
    sides = find_trained_videos(listed, trained)
    report_other_rates(options, trained, listed, sides)
    confidence, predicted = log_probabilities.exp().max(1)
    table = pd.DataFrame({
        "filename": [video.name for video in listed],
        "y": [video.action for video in listed],
        "y_pred": [action_names[k] for k in predicted],
        "confidence": confidence.numpy(),
        "split": sides,
    })
    if output.suffix.lower() == ".csv":
        probabilities = pd.DataFrame(log_probabilities.exp().numpy(), columns=action_names)
        write_csv(pd.concat([table, probabilities], axis=1), output)
        viewer = "a spreadsheet"
    else:
        with runs.atomic_file(output) as file:
            table.to_pickle(file)
        viewer = "check_video_predictions.ipynb"
    print(f"Output  {output}\n        {len(table):,} videos of {args.data_path};\n"
          f"        look at them in {viewer}")
    for split in ("train", "test", "new", "unknown"):
        part = table[table["split"] == split]
        right = part["y"] == part["y_pred"]
        if len(part):
            print(f"Accuracy {split:<7} {right.mean():6.1%}  {right.sum():,} of {len(part):,} videos")
    if not options.checkpoint and "test" in set(table["split"]):
        print("        (the test videos chose this epoch, so this accuracy is a little too high)")


def find_trained_videos(listed: list[videos.Video], trained: Trained) -> list[str]:
    """Return train, test or new for each video; unknown if the checkpoint does not record training videos.

    A video is recognised by its real path. Any other counts as the training's video of its name, but outside
    UCF101 not if that one is still there and has another size. A part that training did not list takes the
    side of its recording (train, if that has parts on both sides).
    """
    other, found, by_name = "new" if "train" in trained.sides.values() else "unknown", [], 0
    places, recordings = {}, {}  # {real path, or (real path, times): side}, {name: (side, real path)}
    for name, path in sorted(trained.paths.items(), key=lambda item: trained.sides.get(item[0]) == "train"):
        side = places[path] = places[place_of(name, path)] = trained.sides.get(name)
        recordings[videos.recording_of(name)] = side, path
    for video in listed:
        side = places.get(place_of(video.name, video.path)) or places.get(os.path.realpath(video.path))
        side_by_name, namesake = recordings.get(videos.recording_of(video.name), ("", ""))
        if not side and (videos.VIDEO_NAME.fullmatch(video.name) or not os.path.exists(namesake)
                         or size_of(video.path) == size_of(namesake)):
            side = (trained.sides.get(video.name) or trained.sides.get(videos.name_key(video.name))
                    or side_by_name)
            by_name += bool(side)
        found.append(side or other)
    if by_name:
        runs.report("Split", f"by name for {by_name:,} of {len(listed):,} videos: they are not the files "
                    "of the training, but have their names (and their sizes, if those files still exist; "
                    "videos of UCF101 only their names)")
    return found


def place_of(name: str, path: str) -> tuple[str, str]:
    """Return a video's real path, and the times of a part of a recording, which are in its name behind @."""
    return os.path.realpath(path), name.rpartition("/")[2].partition("@")[2]


def size_of(path: str) -> int:
    return sum(map(os.path.getsize, Path(path).iterdir() if os.path.isdir(path) else [path]))


def report_other_rates(options, trained: Trained, listed: list[videos.Video], sides: list[str]) -> None:
    """Print how many new videos have another frame rate than the training's."""
    notes = [fit_frame_rate(trained, video.path, options)[1]
             for video, side in zip(listed, sides, strict=True) if side == "new"]
    if any(notes):
        runs.report("Rate", f"{sum(map(bool, notes)):,} of {len(notes):,} new videos have another frame rate "
                    "than the training's: movements look faster or slower. If it is higher, use --skip_frame "
                    "(--video does so by itself)")


# ------------------------------------------------------------------------------ 4. Any video


def predict_videos(options: argparse.Namespace, trained: Trained, device: torch.device) -> None:
    """Print the most likely actions of each video and of its clips; write them as a table and a picture."""
    paths = [found for path in options.video for found in expand(path)]
    if options.plot and len(paths) > 1:
        raise runs.InputError(f"--plot draws one video, but --video names {len(paths)}")
    labels = find_labels(options.labels, paths, trained.action_names) if options.labels else {}
    tables = []
    try:
        for path in paths:
            try:
                if not os.path.isfile(path) and not os.path.isdir(path):  # a pipe may never end
                    hint = RECORD if os.path.exists(path) or "://" in path or path.isdigit() else ""
                    raise runs.InputError(f"{path} is neither a file nor a folder{hint}")
                args, note = fit_frame_rate(trained, path, options)
                table, moments = predict_clips(trained, args, path, device)
            except runs.InputError as error:
                print(f"Error: {error}", file=sys.stderr)
                continue
            tables.append(table)
            parts = labels.get(os.path.realpath(path), [])
            print_prediction(table, path, note)
            if parts:
                print_agreement(table, parts, trained.action_names)
            if options.plot:
                figure = plot_timeline(table, read_strip(path, moments), parts)
                with runs.atomic_file(options.plot) as file:
                    figure.savefig(file, format="png", dpi=140)
                print(f"\nOutput  {options.plot}")
    finally:  # also after Ctrl-C
        if options.csv and tables:
            table = pd.concat(tables)
            if os.path.realpath(os.path.dirname(options.csv)) != os.getcwd():  # its paths start in its folder
                table["video"] = table["video"].map(os.path.abspath)
            write_csv(table, options.csv)
            print(f"\nOutput  {options.csv}")
    if len(tables) < len(paths):
        sys.exit(1)


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table. A spreadsheet needs a byte-order mark to read other letters than ASCII."""
    text = table.to_csv(index=False)
    with runs.atomic_file(path) as file:
        file.write(text.encode("utf-8" if text.isascii() else "utf-8-sig", "backslashreplace"))


def expand(path: str) -> list[str]:
    """Return the videos of a path: those below a folder of videos, or the path itself."""
    skipped = Counter()
    found = [video for video, *_ in videos.scan_folder(path, skipped)] if os.path.isdir(path) else []
    if found and runs.join_counts(skipped):
        runs.report("Skipped", f"{runs.join_counts(skipped)}, in {path}")
    return found or [path]


def find_labels(data_path: str, paths: list[str], action_names: list[str]) -> dict[str, list[videos.Video]]:
    """Return {real path: the labelled parts of a video, in order}. Raise InputError if there are none."""
    names, labels = {videos.name_key(name): name for name in action_names}, defaultdict(list)
    if not os.path.isfile(data_path):
        raise runs.InputError(f"--labels {data_path} is not a file: it must be a table (.csv)")
    for part in sorted(videos.find_videos(data_path), key=lambda part: part.start):
        part = part._replace(action=names.get(videos.name_key(part.action), part.action))
        labels[os.path.realpath(part.path)].append(part)
    if labels.keys().isdisjoint(map(os.path.realpath, paths)):
        files = set(map(os.path.basename, paths))
        others = sorted(labels, key=lambda path: os.path.basename(path) not in files)  # namesakes first
        raise runs.InputError(f"--labels {data_path} does not name {runs.abbreviate(paths)}, but "
                              f"{runs.abbreviate(others)}")
    return labels


def fit_frame_rate(trained: Trained, path: str, options) -> tuple[argparse.Namespace, str]:
    """Take every n-th frame of a file with n times the frame rate of the training. Returns (args, note)."""
    args = argparse.Namespace(**vars(trained.args))
    rate, usual = frames.frame_rate(path), trained.frame_rate
    usual = usual or (25 if videos.is_ucf101(trained.action_names) else None)
    if options.skip_frame or not rate or not usual or 2 / 3 < rate / usual < 1.5:
        return args, ""
    rates = f"{rate:.0f} frames per second, but {usual:.0f} in training: "
    if rate < usual:
        return args, rates + "movements look faster than in training"
    n, T = round(rate / usual), len(functions.select_frames(args))
    args.skip_frame *= n
    args.end_frame = args.begin_frame + args.skip_frame * T
    return args, rates + f"one frame in {n} is used"


def predict_clips(trained: Trained, args: argparse.Namespace, path: str, device,
                  part: tuple[float, float] = frames.WHOLE) -> tuple[pd.DataFrame, list]:
    """Predict each of the clips that are spread over a video or a part of it, one at a time.

    Returns:
        a table: video, start, end (seconds), action and probability, a row for each clip and action, the most
        likely of a clip first; its attrs: "seconds" of the video, their "unit", "lacks": frames, for a clip
        [(second, frame number), ...] of at most 12 frames, spread evenly over those that the clips hold
    """
    times, unit = frames.frame_times(path, part) if os.path.isfile(path) else [], "seconds"
    count = len(times) or frames.count_frames(path)
    if not times:
        times = [number / (trained.frame_rate or 25) for number in range(max(1, count))]
        unit += ", guessed from the frames"
    numbers = functions.select_frames(args)
    args.clips = min(args.clips, max(1, count - numbers[-1] + 1))  # or some would be the same
    clips = functions.spread_clips(numbers, args.clips, count)
    video = videos.Video(path, path, "", "", start=part[0], end=part[1])
    dataset = import_script(trained.name).make_dataset(args, [video])
    batches = ((X[None], torch.tensor([0])) for X, _ in dataset.read(0, clips))
    log_probabilities, _ = functions.predict(trained.model, device, batches)
    rows, seen = [], set()
    for clip, probabilities in zip(clips, log_probabilities.exp(), strict=True):
        start, end = (min(number, len(times)) for number in (clip[0], clip[-1]))
        seen.update(min(number, len(times)) for number in clip)
        for label in probabilities.argsort(descending=True).tolist():
            rows.append((path, times[start - 1], times[end - 1], trained.action_names[label],
                         float(probabilities[label])))
    table = pd.DataFrame(rows, columns=["video", "start", "end", "action", "probability"])
    table.attrs = dict(begin=part[0], seconds=times[-1], unit=unit, lacks=max(0, numbers[-1] - count))
    chosen = np.linspace(0, len(seen) - 1, min(12, len(seen))).round().astype(int)
    return table, [(times[number - 1], number) for number in np.array(sorted(seen))[chosen].tolist()]


def make_clip(trained: Trained, images: np.ndarray) -> torch.Tensor:
    """Make a batch of one clip of the model's size from your own images, uint8 (T, H, W, C).

    They count as a video: the clip starts at begin_frame, and holds the last one if there are too few.
    Differences need one image more than the clip has.
    """
    dataset = import_script(trained.name).make_dataset(trained.args, [])
    numbers = [min(number, len(images)) for number in dataset.add_next(dataset.frame_numbers)]
    X = [frames.resize(images[number - 1], dataset.img_x, dataset.img_y) for number in numbers]
    return dataset.arrange(torch.stack(X))[None]


def print_prediction(table: pd.DataFrame, path: str, note: str) -> None:
    """Print the five most likely actions of a video, by the mean of its clips, then the best of each clip."""
    clips, seconds = table.drop_duplicates(["start", "end"]), table.attrs["seconds"]
    print(f"\n{path}" + (f"\n  ({note})" if note else ""))
    if table.attrs["lacks"]:
        print(f"  ({table.attrs['lacks']} frames shorter than a clip: the last frame is held)")
    if len(clips) > 1:
        print(f"  (the mean of {len(clips)} clips)")
    elif seconds > clips["end"].iloc[0]:
        start, end = clips[["start", "end"]].iloc[0]
        number = min(20, math.ceil(seconds / max(end - start, 0.1)))
        print(f"  (from seconds {start:.1f} to {end:.1f} of {seconds:.1f}; use --clips {number} to see more)")
    mean = table.groupby("action")["probability"].mean().sort_values(ascending=False)
    for action, probability in mean.head(5).items():
        bar = "#" * round(probability * (shutil.get_terminal_size().columns - 40))
        print(f"  {action:<24} {probability:6.1%}  {bar}")
    if len(clips) > 1:
        print(f"\n  {table.attrs['unit']}")
        for row in clips.itertuples():
            print(f"  {row.start:7.1f} to {row.end:7.1f}  {row.action:<24} {row.probability:6.1%}")


def print_agreement(table: pd.DataFrame, parts: list[videos.Video], action_names: list[str]) -> None:
    """Print how many clips have the action of a labelled part in which their middle lies, by action."""
    clips, pairs = table.drop_duplicates(["start", "end"]), []  # (labelled, predicted)
    for clip in clips.itertuples():
        middle = (clip.start + clip.end) / 2
        actions = [part.action for part in parts if part.start <= middle < part.end]
        if actions:
            pairs.append((clip.action if clip.action in actions else actions[-1], clip.action))
    right = sum(labelled == predicted for labelled, predicted in pairs)
    print(f"\n  labelled parts: {len(pairs)} clips, {right} right, {100 * right / max(1, len(pairs)):.1f} % "
          f"(clips in no part: {len(clips) - len(pairs)})")
    for action in sorted({part.action for part in parts}):
        counts = Counter(predicted for labelled, predicted in pairs if labelled == action)
        wrong = runs.join_counts({other: n for other, n in counts.most_common(4) if other != action})
        note = f"  taken for {wrong}" if wrong else ""
        if action not in action_names:
            note += "  (unknown to the model)"
        print(f"  {action:<24} {counts[action]:3} of {counts.total():3}{note}")


# ------------------------------------------------------------------------------ 5. The picture


def read_strip(path: str, moments: list, part: tuple[float, float] = frames.WHOLE) -> list[tuple]:
    """Read frames as small pictures: [(second, uint8 (H, W, 3)), ...]."""
    strip, seconds = [], {number: second for second, number in moments}
    for number, pixels in frames.read_frames(path, sorted(seconds), part=part):
        if isinstance(pixels, Exception):
            continue
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.thumbnail((240, 240))
        strip.append((seconds.get(number, moments[-1][0]), np.asarray(image)))
    return strip


def plot_timeline(table: pd.DataFrame, strip: list, parts: Sequence[videos.Video] = ()) -> Figure:
    """Draw frames of a video over time, and below them the probabilities of its actions, and its parts."""
    seconds = max(table.attrs["seconds"], table["end"].max(), 0.1)
    name = os.path.basename(os.path.normpath(table["video"].iloc[0]))
    labels = fit_fonts([name, *table["action"], *(part.action for part in parts)])
    table = table.replace({"action": labels})
    parts = [part._replace(action=labels[part.action], end=min(part.end, seconds)) for part in parts]
    width = 6.9 / max(len(strip), 6)  # inches, of axes of 7.2
    heights = [width * picture.shape[0] / picture.shape[1] for _, picture in strip]
    tallest = max(heights, default=0)  # 0 if no picture can be read
    inches = 4.6 + tallest
    figure = Figure(figsize=(8, inches))
    draw_probabilities(figure.add_axes([0.08, 0.6 / inches, 0.9, 2.6 / inches]), table, seconds, parts)
    top = figure.add_axes([0.08, 4.2 / inches, 0.9, tallest / inches])
    for place, ((second, picture), height) in enumerate(zip(strip, heights, strict=True)):
        middle, half = 7.2 * (place + 0.5) / len(strip), width / 2
        top.imshow(picture, extent=(middle - half, middle + half, 0, height), aspect="auto",
                   interpolation="nearest" if picture.shape[1] < 100 else None)  # do not blur small frames
        top.text(middle, -0.03, f"{second:.{1 if seconds > 3 else 2}f} s", ha="center", va="top", fontsize=9,
                 color="dimgray")
    top.set(xlim=(0, 7.2), ylim=(0, max(tallest, 0.1)))
    top.axis("off")
    top.set_title(labels[name], loc="left")
    return figure


def draw_probabilities(axes: Axes, table: pd.DataFrame, seconds: float, parts: Sequence) -> None:
    """Draw the actions that are most often first or labelled, then the most likely; below them the parts."""
    clips, mean = table.drop_duplicates(["start", "end"]), table.groupby("action")["probability"].mean()
    often = Counter([*clips["action"], *(part.action for part in parts)])
    actions = sorted(mean.index, key=lambda action: (-often[action], -mean[action]))
    colors = dict(zip(actions, COLORS, strict=False))
    overlap = (clips["start"].to_numpy()[1:] < clips["end"].to_numpy()[:-1]).any()
    for action, color in reversed(colors.items()):  # the most likely on top
        rows = table[table["action"] == action]
        middle, percent = (rows["start"] + rows["end"]) / 2, 100 * rows["probability"]
        axes.plot(middle, percent, color=color, lw=2.5 if overlap else 1, label=action if overlap else "")
        if not overlap:  # else bars would hide each other
            axes.hlines(percent, rows["start"], rows["end"], color=color, lw=5, label=action)
    axes.legend(reverse=True, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2,
                ncol=max(2, min(4, 90 // (max(map(len, colors)) + 8))))  # 90 letters fit
    ends = []  # of the last part in each row: parts that overlap stand in rows
    for part in parts:
        row = next((row for row, end in enumerate(ends) if end <= part.start), len(ends))
        ends[row:row + 1] = [part.end]
        length, y, color = part.end - part.start, -10 - 12 * row, colors.get(part.action, "silver")
        axes.broken_barh([(part.start, length)], (y - 5, 10), color=color, lw=0.5, zorder=2)
        letters = max(0, int(100 * length / seconds))  # that fit
        axes.text(part.start + length / 2, y, part.action[:letters], fontsize=8, ha="center", va="center")
    xlabel = table.attrs["unit"] + ("; below the curves: the labelled parts" if parts else "")
    axes.set(xlim=(table.attrs.get("begin", 0), seconds), ylim=(-2 - 13 * len(ends), 102),
             yticks=range(0, 101, 20), xlabel=xlabel, ylabel="probability (%)")
    axes.grid(alpha=0.3)


# for letters that Matplotlib's own font lacks: Chinese, Japanese, Korean, Indian, Thai
FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Devanagari", "Noto Sans Thai", "Microsoft YaHei",
         "Malgun Gothic", "Nirmala UI", "Leelawadee UI", "Hiragino Sans GB", "Arial Unicode MS")


def fit_fonts(texts: list[str]) -> dict[str, str]:
    """Let Matplotlib use those of FONTS that are installed.

    Returns {text: what to show}: letters that no font has are written as \\u8d70, and reported.
    """
    installed = [font for font in FONTS if font in font_manager.get_font_names()]
    families = [*dict.fromkeys([*matplotlib.rcParams["font.family"], *installed])]
    matplotlib.rcParams["font.family"] = families
    missing = {letter for text in texts for letter in text if letter.isprintable() and not letter.isspace()}
    for family in families:
        font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=[family])))
        missing -= set(map(chr, font.get_charmap()))
    if missing:
        runs.report("Fonts", f"no font has {runs.abbreviate(sorted(missing))}: install a Noto font, for "
                    f"example {FONTS[0]}, and delete {matplotlib.get_cachedir()}")
    escaped = {ord(letter): letter.encode("ascii", "backslashreplace").decode() for letter in missing}
    return {text: text.translate(escaped).encode("utf-8", "backslashreplace").decode() for text in texts}


def main():
    options = parse_arguments(sys.argv[1:])
    if runs.WORLD_SIZE > 1:
        raise runs.InputError("prediction uses one process: start it with python, not with torchrun")
    device = runs.get_device()
    trained = load_model(options, device)
    if options.video:
        predict_videos(options, trained, device)
    else:
        predict_list(options, trained, device)


if __name__ == "__main__":
    runs.run(main, resumes=False)

"""Let a trained model predict a list of all videos, or what happens in any video.

    python check_model_prediction.py --save_model_path CRNN/model_ckpt
        the best epoch there, over all videos of its data set, as a list
    python check_model_prediction.py --checkpoint CRNN_epoch8.pth --video a.mp4 folder
        the five likeliest actions of video files, frame folders, folders of them
    python check_model_prediction.py --model CRNN --video a.mp4 --clips 20 --plot a.png
        what happens when: 20 clips spread over the video, and a picture of them

The list, UCF101_<model>_videos_prediction.pkl, is a pandas DataFrame with the
columns filename, y, y_pred, confidence (0..1) and split (train, test or new).
The notebook check_video_predictions.ipynb shows it. Sizes, frames and actions
come from the checkpoint. The original tutorial's raw state dicts do not tell
them: --img_x, --img_y and --frames do. --demo takes the demo's checkpoints.
"""
import argparse
import importlib
import math
import os
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from joblib import cpu_count  # comes with scikit-learn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import Dataset

REPO = Path(__file__).resolve().parent
SCRIPTS = {"Conv3D": "UCF101_3DCNN", "CRNN": "UCF101_CRNN", "ResNetCRNN": "UCF101_ResNetCRNN"}
sys.path[:0] = [str(REPO / folder) for folder in SCRIPTS]

from functions import (  # noqa: E402
    VIDEO_NAME,
    WORLD_SIZE,
    InputError,
    Video,
    atomic_file,
    count_frames,
    decode,
    find_videos,
    frame_rate,
    get_device,
    in_words,
    is_ucf101,
    label_videos,
    load_action_names,
    load_checkpoint,
    load_weights,
    make_loader,
    name_key,
    parallelize,
    predict,
    read_frame_folder,
    read_video_file,
    run,
    saved_args,
    saved_epochs,
    say,
    select_frames,
    unreadable_videos_named,
    walk,
)

ORDINALS = {2: "second", 3: "third"}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # colour-blind safe


class Trained(NamedTuple):
    """A model and what its checkpoint tells of it."""
    name: str
    model: torch.nn.Module  # on its device, in DataParallel
    args: argparse.Namespace
    action_names: list[str]  # by class index
    sides: dict[str, str]  # train or test, by the names of videos, as far as the checkpoint knows them
    frame_rate: float | None  # of the training files
    trained_on: str = ""  # the training's data_path


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or these words as one."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    number = dict(type=int, metavar="int")
    parser.add_argument("--model", choices=SCRIPTS, help="take the best checkpoint in this model's folder")
    parser.add_argument("--demo", action="store_true", help="with --model: of the script's --demo")
    parser.add_argument("--save_model_path", metavar="FOLDER", help="take the best checkpoint of this folder")
    parser.add_argument("--checkpoint", nargs="+", metavar="FILE",
                        help="take this checkpoint, or raw state dicts (of encoder and decoder: two files)")
    parser.add_argument("--video", nargs="+", metavar="PATH",
                        help="predict these video files, frame folders and folders of videos")
    parser.add_argument("--clips", **number, help="clips spread over each video, not the training's number")
    parser.add_argument("--csv", metavar="FILE", help="with --video: write a table, a row a clip and action")
    parser.add_argument("--plot", metavar="FILE.png", help="with one --video: also draw what happens when")
    parser.add_argument("--data_path", metavar="FOLDER", help="list this folder's videos, not the training's")
    parser.add_argument("--output", metavar="FILE", help="write the list here, not beside this script")
    parser.add_argument("--batch_size", **number, help="videos at a time, not the training's number")
    parser.add_argument("--num_workers", **number, default=cpu_count(), help="processes that read videos")
    parser.add_argument("--begin_frame", **number, help="first frame of a clip, not the training's")
    parser.add_argument("--skip_frame", **number, help="take every n-th frame, whatever the frame rates")
    raw = parser.add_argument_group("raw state dicts only, as they do not tell these")
    raw.add_argument("--action_name_path", metavar="FILE", help="the actions, a text file or a pickled list")
    raw.add_argument("--img_x", **number, help="height of the frames")
    raw.add_argument("--img_y", **number, help="width of the frames")
    raw.add_argument("--frames", **number, help="frames in a clip")
    options = parser.parse_args(words)
    if not (options.model or options.save_model_path or options.checkpoint):
        parser.error("which model? give --model, --save_model_path or --checkpoint")
    if (options.csv or options.plot) and not options.video:
        parser.error("--csv and --plot go with --video")
    if options.video and (options.data_path or options.output):
        parser.error("--data_path and --output go with a list, not with --video")
    for name, value in vars(options).items():
        if type(value) is int and value < (0 if name == "num_workers" else 1):
            parser.error(f"argument --{name}: {value} is too small")
    if options.plot and not options.plot.lower().endswith(".png"):
        parser.error(f"--plot {options.plot}: name it .png")
    for path in filter(None, (options.csv, options.plot, options.output)):  # now, not after an hour of work
        folder = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.access(path if os.path.exists(path) else folder, os.W_OK):
            parser.error(f"{path}: there is no such folder, or it cannot be written to")
    return options


# ------------------------------------------------------------------------------ the model


def find_checkpoint(options: argparse.Namespace) -> tuple[dict, Path]:
    """Load the checkpoint that the options name. Returns (checkpoint, its path)."""
    if options.checkpoint:
        states = [load_checkpoint(file) for file in options.checkpoint]
        states = [state.get("state_dict", state) for state in states]
        is_ours = len(states) == 1 and states[0].keys() >= {"model", "args", "action_names"}
        return states[0] if is_ours else from_raw_weights(states, options), Path(options.checkpoint[0])
    folder = options.save_model_path
    if not folder:
        script = importlib.import_module(SCRIPTS[options.model])
        folder = script.DEMO["save_model_path"] if options.demo else script.PARAMETERS["save_model_path"][0]
    names = [name for name in SCRIPTS if saved_epochs(folder, name)]
    if options.model or len(names) != 1:
        names = [name for name in names if name == options.model]
    if not os.path.isdir(folder):
        raise InputError(f"{folder} is not there: train first, or give another --save_model_path")
    if not names:
        raise InputError(f"{folder} holds no {options.model or '<model>'}_epoch*.pth, or those of several "
                         "models: train first, give another --save_model_path, or name a --checkpoint")
    return load_best(Path(folder), names[0])


def load_best(folder: Path, name: str) -> tuple[dict, Path]:
    """Load the checkpoint of the highest test accuracy (then the lowest test loss) in a folder."""
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
    """Tell the model by the names of its weights, without DataParallel's "module."."""
    names = {name.removeprefix("encoder.") for name in weights}
    if "resnet.0.weight" in names:
        return "ResNetCRNN"
    if "conv1.0.weight" in names or "LSTM.weight_ih_l0" in names or "decoder.LSTM.weight_ih_l0" in names:
        return "CRNN"
    if "conv1.weight" in names and "fc3.weight" in names:
        return "Conv3D"
    raise InputError(f"{files}: neither a checkpoint nor a state dict of Conv3D, CRNN or ResNetCRNN")


def from_raw_weights(states: list[dict], options: argparse.Namespace) -> dict:
    """Make a checkpoint of the original's state dicts: sizes by the weights' shapes, the rest by flags."""
    files, weights = ", ".join(options.checkpoint), {}
    for state in states:
        if not state or not all(torch.is_tensor(tensor) for tensor in state.values()):
            raise InputError(f"{files}: neither a checkpoint nor a state dict")
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}  # DataParallel adds it
        part = "decoder." if "LSTM.weight_ih_l0" in state else "encoder."
        if "conv1.weight" in state or any(key.startswith(("encoder.", "decoder.")) for key in state):
            part = ""
        weights.update({part + key: tensor for key, tensor in state.items()})
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
            classes = len(weights["decoder.fc2.weight"])
    except KeyError as error:
        hint = " (name the encoder's and the decoder's file)" if len(states) == 1 else ""
        raise InputError(f"{files}: no state dict of {name}: {error} is missing{hint}") from error
    if size.get("channels", 3) not in (1, 3):
        raise InputError(f"{files}: the model takes {size['channels']} channels; frames have 3 or, grey, 1")
    if options.img_x or options.img_y:
        x, y = options.img_x or options.img_y, options.img_y or options.img_x
        size.update(img_x=x, img_y=y, res_size=x)
    args = defaults | size | dict(end_frame=1 + (options.frames or 28), cache_features=False)
    action_names = sorted(load_action_names(options.action_name_path or defaults["action_name_path"]))
    if len(action_names) != classes:
        raise InputError(f"{files}: the model knows {classes} actions, the list has {len(action_names)}: "
                         "give its own by --action_name_path")
    return dict(name=name, model=weights, args=args, action_names=action_names, epoch=None)


def load_model(options: argparse.Namespace, device: torch.device) -> Trained:
    """Build the model of the checkpoint that the options name, with its weights."""
    checkpoint, path = find_checkpoint(options)
    name = checkpoint.get("name") or model_name(checkpoint["model"], str(path))
    if options.model and options.model != name:
        raise InputError(f"{path} is no checkpoint of {options.model} but of {name}: leave --model out")
    if checkpoint["epoch"] and (options.action_name_path or options.img_x or options.img_y or options.frames):
        raise InputError(f"{path} tells its actions, sizes and frames: leave out flags of raw state dicts")
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
    args.resnet_weights = "none"  # they are in the checkpoint
    model = script.build_model(args, len(checkpoint["action_names"]))
    load_weights(model, checkpoint["model"], path)
    print(f"Weights {path}, epoch {checkpoint['epoch']}" if checkpoint["epoch"] else f"Weights {path}")
    # in any case; the second pass, of names as they are written, wins
    sides = {key(video): side for key in (name_key, str) for side in ("train", "test")
             for video in checkpoint.get(f"{side}_videos", [])}
    return Trained(name, parallelize(model, device), args, checkpoint["action_names"], sides,
                   checkpoint.get("frame_rate"), trained_on)


# ------------------------------------------------------------------------------ a list of all videos


def predict_list(options: argparse.Namespace, trained: Trained, device) -> None:
    """Predict every video of the data set, write the list, print the accuracy on each side of the split."""
    args, action_names = trained.args, trained.action_names
    videos = label_videos(find_videos(args.data_path), action_names, "The model was not trained on them: "
                          "list a folder without them by --data_path, or ask for videos by --video")
    script = importlib.import_module(SCRIPTS[trained.name])
    with unreadable_videos_named(args, videos):
        dataset = script.make_dataset(args, videos, trained.model, device)
        loader = make_loader(dataset, args, shuffle=False)
        log_probabilities, _ = predict(trained.model, device, loader, args.clips)
    sides = sides_of(videos, trained)
    say_what_names_do_not_tell(options, trained, videos, sides)
    confidence, predicted = log_probabilities.exp().max(1)
    table = pd.DataFrame({
        "filename": [video.name for video in videos],
        "y": [video.action for video in videos],
        "y_pred": [action_names[k] for k in predicted],
        "confidence": confidence.numpy(),
        "split": sides,
    })
    output = options.output or REPO / f"UCF101_{trained.name}_videos_prediction.pkl"
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
        print("        (the test videos chose this epoch: the accuracy on them is a little too good)")


def say_what_names_do_not_tell(options, trained: Trained, videos: list[Video], sides: list[str]) -> None:
    """Say that videos of another folder count as training's by name, and that a list fits no frame rate."""
    folder, root = (Path(os.path.realpath(path)) for path in (trained.args.data_path, trained.trained_on))
    if not folder.is_relative_to(root) and "train" in trained.sides.values():
        say("Split", f"by name: a video counts as train or test if {trained.trained_on} had one of its name "
            "(and has it in the same size, if it is still there)")
    new = [video.path for video, side in zip(videos, sides, strict=True) if side == "new"]
    fast = sum(bool(fit_frame_rate(trained, path, options)[1]) for path in new)
    if fast:
        say("Rate", f"{fast:,} of {len(new):,} new videos have another frame rate than the training's, and "
            "look faster or slower than in training: --video fits it, --skip_frame sets it")


def sides_of(videos: list[Video], trained: Trained) -> list[str]:
    """train, test or new; unknown where the checkpoint is too old to know its training videos, or raw.

    A video in the training's folder goes by its path, any other by its name, also below train or test alone,
    unless the training's video of that name is still there and another one.
    """
    folder, root = (Path(os.path.realpath(path)) for path in (trained.args.data_path, trained.trained_on))
    other, found = "new" if "train" in trained.sides.values() else "unknown", []
    for video in videos:
        own = not VIDEO_NAME.fullmatch(video.name)  # UCF101's names tell the video wherever it lies
        by_path = own and (folder / video.name).is_relative_to(root)
        names = [video.name, f"{folder.name}/{video.name}"]
        if by_path:
            names = [(folder / video.name).relative_to(root).as_posix()]
        names += [name_key(name) for name in names]
        known = next((name for name in names if name in trained.sides), None)
        if known and own and not by_path and is_another(Path(video.path), root / known):
            known = None
        found.append(trained.sides[known] if known else other)
    return found


def is_another(path: Path, namesake: Path) -> bool:
    """Whether the training's video, a path without suffix, is still there and has another size."""
    if path.is_file():
        namesake = namesake.with_name(namesake.name + path.suffix)
    if not namesake.exists():
        return False
    ours, theirs = (sum(frame.stat().st_size for frame in video.iterdir()) if video.is_dir()
                    else video.stat().st_size for video in (path, namesake))
    return ours != theirs


# ------------------------------------------------------------------------------ any video


def predict_videos(options: argparse.Namespace, trained: Trained, device: torch.device) -> None:
    """Print the likeliest actions of each video and of its clips; write them as a table and a picture."""
    paths = [found for path in options.video for found in expand(path)]
    if options.plot and len(paths) > 1:
        raise InputError(f"--plot draws one video; --video names {len(paths)}")
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
            with atomic_file(options.plot) as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the font lacks some writing systems
                plot_timeline(table, read_strip(path, moments)).savefig(file, format="png", dpi=140)
            print(f"\nOutput  {options.plot}")
    if options.csv and tables:
        with atomic_file(options.csv) as file:
            pd.concat(tables).to_csv(file, index=False, errors="backslashreplace")
        print(f"\nOutput  {options.csv}")
    if failed:
        sys.exit(1)


def expand(path: str) -> list[str]:
    """Return the videos that a path names: those below a folder of videos, else itself."""
    passed_over = Counter()
    found = [video for video, *_ in walk(path, passed_over)] if os.path.isdir(path) else []
    if found and in_words(passed_over):
        say("Skipped", f"{in_words(passed_over)}, in {path}")
    return found or [path]


def fit_frame_rate(trained: Trained, path: str, options) -> tuple[argparse.Namespace, str]:
    """Take every n-th frame of a file n times as fast as the training's. Returns (args, what to say)."""
    args = argparse.Namespace(**vars(trained.args))
    rate, usual = frame_rate(path), trained.frame_rate or (25 if is_ucf101(trained.action_names) else None)
    if options.skip_frame or not rate or not usual or 2 / 3 < rate / usual < 1.5:
        return args, ""
    rates = f"{rate:.0f} frames a second, the training's had {usual:.0f}: "
    if rate < usual:
        return args, rates + "movements look faster than in training"
    n, T = round(rate / usual), len(select_frames(args))
    args.skip_frame *= n
    args.end_frame = args.begin_frame + args.skip_frame * T
    return args, rates + f"every {ORDINALS.get(n, f'{n}th')} frame is taken"


def frame_times(path: str) -> list[float]:
    """Return the seconds, from 0, at which a file's frames are shown, [] if it cannot be read. Decodes it."""
    times, step, shift = [], 0.04, 0.0
    for number, frame in decode(path):
        following = times[-1] + step if times else 0.0
        time = following if frame.time is None else frame.time + shift
        if times and time < times[-1] - step / 2:  # several files were joined: the clock begins anew
            shift += following - time
            time = following
        if times and time > times[-1]:
            step = time - times[-1]
        times += [time] * (number - len(times))  # a frame that cannot be read has the time of the next
    return [time - times[0] for time in times]


class ClipBatches:
    """The clips of one video as batches (X, y) of one, read as they are asked for."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self):
        return self.dataset.clips

    def __iter__(self):
        for X in self.dataset.read(0):
            yield X[None], torch.tensor([0])


def predict_clips(trained: Trained, args: argparse.Namespace, path: str, device) -> tuple[pd.DataFrame, list]:
    """Predict each of the clips that are spread over a video, one at a time.

    Returns:
        a table with the columns video, start, end (seconds), action and probability, a row a clip and action,
        the likeliest of a clip first; table.attrs: "seconds", of the whole video, "timed" (False: a frame
        folder, whose seconds are guessed by the training's frame rate), "lacks": frames, for a clip
        [(second, frame number), ...] of at most 12 frames, spread evenly over those that the clips hold
    """
    times = frame_times(path) if os.path.isfile(path) else []
    count, timed = len(times) or count_frames(path), bool(times)
    if not timed:
        times = [number / (trained.frame_rate or 25) for number in range(max(1, count))]
    numbers = select_frames(args)
    args.clips = min(args.clips, max(1, count - numbers[-1] + 1))  # or some would be the same
    args.cache_features = False
    script = importlib.import_module(SCRIPTS[trained.name])
    dataset = script.make_dataset(args, [Video(path, path, "", "")], trained.model, device)
    dataset.counts[0], dataset.said_short = count, True
    log_probabilities, _ = predict(trained.model, device, ClipBatches(dataset))
    rows, seen = [], set()
    for clip, probabilities in zip(dataset.frame_numbers_of(0), log_probabilities.exp(), strict=True):
        start, end = (min(number, len(times)) for number in (clip[0], clip[-1]))
        seen.update(min(number, len(times)) for number in clip)
        for label in probabilities.argsort(descending=True).tolist():
            rows.append((path, times[start - 1], times[end - 1], trained.action_names[label],
                         float(probabilities[label])))
    table = pd.DataFrame(rows, columns=["video", "start", "end", "action", "probability"])
    table.attrs = dict(seconds=times[-1], timed=timed, lacks=max(0, numbers[-1] - count))
    chosen = np.linspace(0, len(seen) - 1, min(12, len(seen))).round().astype(int)
    return table, [(times[number - 1], number) for number in np.array(sorted(seen))[chosen].tolist()]


def print_prediction(table: pd.DataFrame, name: str, note: str) -> None:
    """Print the five likeliest actions of a video, by the mean of its clips, and then those of each clip."""
    clips, notes = table.drop_duplicates(["start", "end"]), [note] if note else []
    if table.attrs["lacks"]:
        notes.append(f"{table.attrs['lacks']} frames shorter than a clip: the last one is held")
    if len(clips) > 1:
        notes.append(f"the mean of {len(clips)} clips")
    elif table.attrs["seconds"] > clips["end"].iloc[0]:
        start, end, _ = clips[["start", "end", "probability"]].iloc[0]
        number = min(20, math.ceil(table.attrs["seconds"] / max(end - start, 0.1)))
        notes.append(f"seconds {start:.1f} to {end:.1f} of {table.attrs['seconds']:.1f} were looked at; "
                     f"--clips {number} sees more")
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


def read_strip(path: str, moments: list) -> list[tuple[float, np.ndarray]]:
    """Read frames as small pictures: [(second, uint8 (H, W, 3)), ...]."""
    strip, seconds = [], {number: second for second, number in moments}
    read = read_frame_folder if os.path.isdir(path) else read_video_file
    for number, pixels in read(path, sorted(seconds), 3):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.thumbnail((240, 240))
        strip.append((seconds.get(number, moments[-1][0]), np.asarray(image)))
    return strip


def plot_timeline(table: pd.DataFrame, strip: list) -> Figure:
    """Draw frames of a video over time, and below them the probabilities of its likeliest actions."""
    seconds = max(table.attrs["seconds"], table["end"].max(), 0.1)
    # inches; the axes are 7.2 wide; no height if none of the pictures can be read
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
    name = os.path.basename(os.path.normpath(table["video"].iloc[0]))
    top.set_title(name.encode("utf-8", "backslashreplace").decode(), loc="left", parse_math=False)
    return figure


def draw_probabilities(axes: Axes, table: pd.DataFrame, seconds: float) -> None:
    """Draw the probabilities of the actions that most often come first, then of the likeliest in the mean."""
    clips, mean = table.drop_duplicates(["start", "end"]), table.groupby("action")["probability"].mean()
    firsts = clips["action"].value_counts()
    actions = sorted(mean.index, key=lambda action: (-firsts.get(action, 0), -mean[action]))[:len(COLORS)]
    overlap = (clips["start"].to_numpy()[1:] < clips["end"].to_numpy()[:-1]).any()
    for action, color in reversed(list(zip(actions, COLORS, strict=False))):  # the likeliest on top
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


def main():
    options = parse_arguments()
    if WORLD_SIZE > 1:
        raise InputError("one process predicts: start this by python, not by torchrun")
    device = get_device()
    trained = load_model(options, device)
    if options.video:
        predict_videos(options, trained, device)
    else:
        predict_list(options, trained, device)


if __name__ == "__main__":
    run(main, resumes=False)

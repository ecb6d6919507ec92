"""What the three scripts share: how videos become clips, clips become logits, logits become a trained model.

    1. Videos and splits          find_videos, label_videos, split_videos, load_videos
    2. Clips                      select_frames, read_clips, Dataset_CRNN, Dataset_3DCNN, make_loader
    3. Models                     CNN3D, EncoderCNN, ResCNNEncoder, DecoderRNN, CRNN
    4. Training and testing       augment, train_one_epoch, predict, evaluate
    5. Features of a frozen CNN   cache_features, FeatureDataset
    ---- what follows keeps long runs alive, and may be skipped at first
    6. Lists                      load_action_names, choose_action_names, listed_videos
    7. Parameters and errors      parse_args, run, InputError, unreadable_videos_named
    8. Devices and processes      join_processes, get_device, parallelize
    9. Checkpoints                load_checkpoint, check_output_folder, resume_training, save_epoch
   10. Progress                   print_split, add_epoch, plot_curves, print_outcome
   11. Demo data                  make_demo_data

Shapes: N videos in a batch, T frames, C channels, H height, W width, E embedding, K actions, V videos in all.
The original tutorial calls the height of a frame img_x and its width img_y; so do the parameters here.

A video is a file or a folder of frames; a clip is the tensor cut from it. Frames are numbered from 1.

This file stands in Conv3D/, CRNN/ and ResNetCRNN/, byte for byte the same, so that each folder works alone.
Edit Conv3D/functions.py, then: cp Conv3D/functions.py CRNN/ && cp Conv3D/functions.py ResNetCRNN/
"""
import argparse
import contextlib
import errno
import hashlib
import math
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unicodedata
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import groupby, islice, product
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from tqdm import tqdm

# Ask Linux for huge pages for large tensors, before the first one: halves the time of a Conv3D step on a CPU
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# torchrun starts a process for each GPU, number RANK of WORLD_SIZE; a cluster may set some of these alone
TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
RANK, WORLD_SIZE = (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if TORCHRUN else (0, 1)

# ------------------------------------------------------------------------------ 1. Videos and splits

VIDEO_NAME = re.compile(r"v_(?P<action>.+)_g[0-9]+_c[0-9]+")  # v_Biking_g05_c02
GROUP_NAME = re.compile(r".*_g(?P<group>[0-9]+)_c[0-9]+")
VIDEO_SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
                  ".ts", ".mts", ".m2ts", ".ogv", ".gif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
JUNK = (".", "@eaDir", "__MACOSX", "fig_UCF101_")  # what macOS, network drives and training put beside
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "testing", "val", "valid", "validation", "eval", "evaluation")
SIDE_NAMES = [re.compile(rf"(.*[\W_])?({'|'.join(names)})(set|[\W_0-9].*)?")  # train_256, rawframes_val
              for names in (TRAIN_FOLDERS, TEST_FOLDERS)]
UCF101_LIST = Path(__file__).resolve().parent.parent / "UCF101actions.pkl"
OFFICIAL_TEST_GROUPS = {"official1": range(1, 8), "official2": range(8, 15), "official3": range(15, 22)}
SPLITS = ("random", "group", *OFFICIAL_TEST_GROUPS, "folders")


class Video(NamedTuple):
    name: str  # v_<Action>_gNN_cNN, or the path below data_path without suffix: Bend/anna 1
    path: str  # a folder of frames, or a video file
    action: str
    source: str  # videos of one source show one person, one scene; "" where nothing tells it
    side: str = ""  # train or test, where folders say so
    label: int = -1  # the class index, the place of the action in the sorted list


class Data(NamedTuple):
    train: list[Video]
    test: list[Video]
    action_names: list[str]  # by class index
    frame_rate: float | None  # frames a second of the training files, None if unknown


def name_key(name: str) -> str:
    """What names are compared by: case, surrounding blanks and the Unicode form do not matter."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def frame_path(folder: str, number: int) -> str:
    return os.path.join(folder, f"frame{number:06d}.jpg")


def find_videos(data_path: str) -> list[Video]:
    """Find the videos below a folder: [train|test/]<Action>/[<source>/]<video>, or v_<Action>_gNN_cNN.

    Says in one line what was passed over. Raises InputError if there is no video, or if two have one name.
    """
    if not os.path.isdir(data_path):
        raise InputError(f"{data_path} is not a folder: give the folder of the videos by --data_path (--demo "
                         "needs none)")
    videos, passed_over = [], Counter()
    found = list(walk(data_path, passed_over))
    sides = find_sides(found)
    above = {folders[:depth] for *_, folders in found for depth in range(1, len(folders) + 1)}
    for path, stem, folders in found:
        side = sides.get(name_key(folders[0]), "") if folders else ""
        below = folders[1:] if sides else folders  # from the class folder on
        match = VIDEO_NAME.fullmatch(stem)
        if sides and not side:
            passed_over[f"videos outside of {' and '.join(sides)}"] += 1
        elif not match and (not below or not below[0].strip()):
            passed_over["videos or folders of pictures in no class folder"] += 1
        elif not match and len(below) > 2:
            passed_over["videos deeper than <Action>/<source>/<video>"] += 1
        elif (*folders, os.path.basename(path)) in above:
            raise InputError(f"{path} holds pictures and, below, more pictures or videos: keep one kind")
        else:
            name = unicodedata.normalize("NFC", stem if match else "/".join((*folders, stem)))
            action = match["action"] if match else below[0]
            videos.append(Video(name, path, action, source_of(stem, below), side))
    reasons = in_words(passed_over)
    if not videos:
        raise InputError(f"{data_path} holds no video: --data_path is the folder of the class folders, with "
                         f"<Action>/<video> files or folders of frames (passed over: {reasons or 'nothing'})")
    if reasons:
        say("Skipped", reasons)
    return unique(videos)


def find_sides(found: list[tuple]) -> dict[str, str]:
    """Return {folder: train or test} if the topmost folders are the sides of a split, else {}.

    Raises InputError for sides that cannot be followed, having other names, or no class folders.
    """
    labelled = {name_key(folders[0]) for _, stem, folders in found
                if len(folders) > 1 or folders and VIDEO_NAME.fullmatch(stem)}
    train, test = (next((name for name in names if name in labelled), None)
                   for names in (TRAIN_FOLDERS, TEST_FOLDERS))
    if train and test:
        return {train: "train", test: "test"}
    top = {name_key(folders[0]) for _, stem, folders in found if folders and not VIDEO_NAME.fullmatch(stem)}
    alike = [{name for name in top if pattern.fullmatch(name)} for pattern in SIDE_NAMES]
    only_sides = set().union(*alike) == top and (all(alike) or len(top) == 1)
    if only_sides or not top.isdisjoint(TRAIN_FOLDERS) and not top.isdisjoint(TEST_FOLDERS):
        raise InputError(f"--data_path has the folders {some(sorted(top), 9)}: call the sides of a split "
                         "train and test, with class folders in both, or give one of them")
    if train:
        say("Data", f"There is a folder {train} but no test or val: it is no side of a split")
    return {}


def source_of(stem: str, below: tuple) -> str:
    """Return a video's group or else the folder between class folder and video, "" if there is none."""
    folder = name_key(below[1]) if len(below) > 1 else ""
    group = GROUP_NAME.fullmatch(stem) or GROUP_NAME.fullmatch(folder)
    if group:
        return f"g{int(group['group'])}"
    return "" if folder == name_key(below[0]) else folder  # brush_hair/brush_hair/1.avi has none


def walk(data_path: str, passed_over: Counter) -> Iterator[tuple[str, str, tuple]]:
    """Yield (path, name without suffix, names of the folders above it) of each video below a folder."""
    for folder, subfolders, files in os.walk(data_path, onerror=refuse_folder, followlinks=True):
        folders = Path(folder).relative_to(data_path).parts
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(JUNK))
        listed = sorted(name for name in files if not name.startswith(JUNK))
        files = [name for name in listed if os.path.isfile(os.path.join(folder, name))]
        films = [name for name in files if name.lower().endswith(VIDEO_SUFFIXES)]
        images = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
        passed_over["broken links"] += len(listed) - len(files)
        passed_over["files of other kinds"] += len(files) - len(films) - len(images)
        passed_over["empty folders"] += not listed and not subfolders
        if images and folders and not films and (len(images) > 1 or not subfolders):
            stem, suffix = os.path.splitext(folders[-1])  # frames may lie in 1.avi/
            yield folder, stem if suffix.lower() in VIDEO_SUFFIXES else folders[-1], folders[:-1]
        else:
            passed_over["pictures beside videos or folders"] += len(images)
        for name in films:
            yield os.path.join(folder, name), os.path.splitext(name)[0], folders
        others = []
        for name in subfolders:
            path = os.path.join(folder, name)
            if VIDEO_NAME.fullmatch(name) and os.path.exists(frame_path(path, 1)):
                yield path, name, folders  # unopened: UCF101 has 2.5 million frames
            else:
                others.append(name)
        subfolders[:] = others
        if len(folders) == 4:
            passed_over["folders too deep"] += len(subfolders)
            subfolders.clear()


def in_words(passed_over: Counter) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in passed_over.items() if count)


def refuse_folder(error: OSError) -> None:
    raise InputError(f"{error.filename}: {error.strerror}") from error


def unique(videos: list[Video]) -> list[Video]:
    """Drop the file of a video that is there as a folder, too. Else a name or file twice is an InputError."""
    names, files = {}, {}
    for video in sorted(videos, key=lambda video: os.path.isfile(video.path)):  # folders first
        key = video.name.casefold() if VIDEO_NAME.fullmatch(video.name) else video.name  # v_HandStandPush...
        other = names.setdefault(key, video)
        if other is video:
            other = files.setdefault(os.path.realpath(video.path), video)
        elif os.path.isdir(other.path) and os.path.isfile(video.path):
            continue
        if other is not video:
            raise InputError(f"{other.path} and {video.path} have the same name, or are one file: rename or "
                             "remove one")
    return sorted(names.values())


def label_videos(videos: list[Video], action_names: list[str], remedy: str = "") -> list[Video]:
    """Give videos the actions as the list spells them, and class indices. Unknown ones: InputError."""
    labels, labelled = {name_key(name): label for label, name in enumerate(action_names)}, []
    unknown = {video.action for video in videos if name_key(video.action) not in labels}
    if unknown:
        raise InputError(f"unknown actions: {some(sorted(unknown), 10)}. {remedy}")
    ucf101 = is_ucf101(action_names)
    for video in videos:
        label = labels[name_key(video.action)]
        source = video.source
        if ucf101 and any(map(VIDEO_NAME.fullmatch, video.name.split("/"))):
            source = f"{action_names[label]} {source}"  # UCF101 numbers its groups anew in each action
        labelled.append(video._replace(action=action_names[label], label=label, source=source))
    return labelled


def split_videos(videos: list[Video], split: str, seed: int) -> tuple[list[Video], list[Video]]:
    """Divide labelled videos into (train, test).

    random: a quarter of the videos, as the original tutorial; group: whole sources, about a quarter of each
    action; official1..3: the test lists of UCF101 (http://crcv.ucf.edu/data/UCF101.php), by group;
    folders: as the folders train and test have them; else a text file that names the test videos, one a line.
    """
    from sklearn.model_selection import train_test_split  # here, as it takes a second

    has_folders = any(video.side for video in videos)
    if has_folders and split != "folders":
        raise InputError(f"--split {split}: --data_path has folders train and test: take --split folders")
    if split == "folders" and not has_folders:
        raise InputError("--split folders: --data_path has no folders train and test or val: take group")
    if split == "folders":
        test = [video for video in videos if video.side == "test"]
    elif split == "group":
        test = hold_out_sources(videos, seed)
    elif split in OFFICIAL_TEST_GROUPS:
        if not all(video.source.startswith(f"{video.action} g") for video in videos):
            raise InputError(f"--split {split} is of UCF101 and its list of actions: take group or random")
        groups = OFFICIAL_TEST_GROUPS[split]
        test = [video for video in videos if int(video.source.rpartition(" g")[2]) in groups]
    elif split == "random":
        test = train_test_split(videos, test_size=0.25, random_state=seed)[1] if len(videos) > 1 else []
    else:
        test = listed_videos(videos, split)
    chosen = set(test)
    train = [video for video in videos if video not in chosen]
    if {video.label for video in train}.isdisjoint(video.label for video in test):
        remedy = "take another --split or more videos" if split in SPLITS else "list test videos only"
        raise InputError(f"--split {split} puts {len(train)} of the {len(videos)} videos in training and "
                         f"{len(test)} in the test, no action in both: {remedy}")
    return train, test


def hold_out_sources(videos: list[Video], seed: int) -> list[Video]:
    """Return the test videos: whole sources, about a quarter of each action, at best of every action."""
    from sklearn.model_selection import StratifiedGroupKFold  # here, as it takes a second

    if not any(video.source for video in videos):
        raise InputError("--split group needs to know which videos come from one source: put those in one "
                         "folder, <Action>/<source>/<video>, or name them ..._g01_c01; or --split random")
    sources = [video.source or video.path for video in videos]
    labels = np.array([video.label for video in videos])
    folds = []  # (actions that miss a side, distance from a quarter, indices of the test videos)
    for parts in (4, 3, 2):
        folding = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore")  # an action, or all, have fewer videos than parts
            for train, test in folding.split(labels, labels, sources):
                missing = 2 * len(set(labels)) - len(set(labels[train])) - len(set(labels[test]))
                folds.append((missing, abs(len(test) / len(labels) - 1 / 4), test.tolist()))
        if folds and min(folds)[0] == 0:
            break
    return [videos[index] for index in min(folds)[2]] if folds else []


def load_videos(args: argparse.Namespace) -> Data:
    """Find, label and split the videos, and say what was found. InputError where that fails."""
    frame_numbers = select_frames(args)
    videos = find_videos(args.data_path)
    action_names = choose_action_names(args.action_name_path, videos)
    videos = label_videos(videos, action_names, f"--action_name_path {args.action_name_path} lacks them: add "
                          "--action_name_path none to train on those found, or give a list, one a line")
    found, count = sorted({video.action for video in videos}), len(action_names)
    missing = sorted(set(action_names) - set(found))
    actions = f"{len(found)} of the {count} actions listed" if missing else f"{count} actions"
    clips = f", {args.clips} clips a video" if args.clips > 1 else ""
    say("Data", f"{len(videos):,} videos of {actions}, frames {frame_numbers[0]} to {frame_numbers[-1]} "
        f"({len(frame_numbers)} of them){clips}, in")
    print(f"        {args.data_path}")
    say("Actions", some(found, 12) + (f"; no video of {some(missing)}" if missing else ""))
    folders = sum(os.path.isdir(video.path) for video in videos)
    if 0 < folders < len(videos):
        say("", f"{folders:,} of the videos are folders of frames, the others files: none should be both")
    if len(found) == 1:
        say("", f"They are all of one action, {videos[0].action}: every answer will be right, and mean "
            "nothing. --data_path is the folder of the class folders")
    train, test = split_videos(videos, args.split, args.seed)
    print_split(args.split, train, test)
    return Data(train, test, action_names, usual_frame_rate(train))


def usual_frame_rate(videos: list[Video]) -> float | None:
    """Return the most common frame rate of a hundred files, None if there is none. Says if others differ."""
    files = [video.path for video in videos if os.path.isfile(video.path)]
    rates = list(filter(None, map(frame_rate, files[::math.ceil(len(files) / 100) or 1])))
    # phones write 29.4, 29.7, ...: near ones count as one
    usual = max(rates, key=lambda rate: sum(abs(rate - other) < 1 for other in rates), default=None)
    unusual = sum(not 2 / 3 < rate / usual < 1.5 for rate in rates)
    if unusual:
        say("Rate", f"{unusual:,} of {len(rates):,} training files looked at have not the usual {usual:.0f} "
            "frames a second: their movements look faster or slower")
    return usual


def frame_rate(path: str) -> float | None:
    """Return a file's frames a second; None for a number that makes no sense, and for no video file."""
    rate = 0.0
    with contextlib.suppress(av.FFmpegError, InputError), open_video(path) as (_, stream):
        rate = float(stream.average_rate or 0)
    return rate if 1 <= rate <= 240 else None


# ------------------------------------------------------------------------------ 2. Clips

def select_frames(args: argparse.Namespace) -> list[int]:
    """Return the frame numbers of a clip. Frame 1 is a video's first; end_frame is not taken."""
    if args.begin_frame >= args.end_frame:
        raise InputError(f"--begin_frame {args.begin_frame} must be below --end_frame {args.end_frame}")
    return list(range(args.begin_frame, args.end_frame, args.skip_frame))


def spread_clips(frame_numbers: list[int], clips: int, count: int) -> list[list[int]]:
    """Spread clips evenly over a video of `count` frames, the first at `frame_numbers`; they may overlap."""
    room = max(0, count - frame_numbers[-1])
    shifts = [round(clip * room / max(1, clips - 1)) for clip in range(clips)]
    return [[number + shift for number in frame_numbers] for shift in shifts]


def list_images(folder: str) -> dict[int, str]:
    """Return {frame number: path}: frame000001.jpg, ... by that number, other images in natural order."""
    with user_file(folder):
        names = [name for name in os.listdir(folder)
                 if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")]
    images = {int(name[5:11]): name for name in names if re.fullmatch(r"frame[0-9]{6}\.jpg", name)}
    if 1 not in images or 0 in images:
        series = Counter(re.sub(r"[0-9]+", "#", os.path.splitext(name)[0]) for name in names)
        stems = {os.path.splitext(name)[0] for name in names}  # img_1.jpg, flow_1.jpg, or img_1.png
        if sum(count > 1 for count in series.values()) > 1 or len(stems) < len(names):
            raise InputError(f"{folder} holds several series of images ({', '.join(sorted(series)[:3])}): "
                             "keep one")
        images = dict(enumerate(sorted(names, key=natural_key), start=1))
    return {number: os.path.join(folder, name) for number, name in images.items()}


def natural_key(name: str) -> list:
    """Sort 2 before 10."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", name))]


def read_frame_folder(folder: str, frame_numbers: list[int], channels: int) -> Iterator:
    """Yield (number, pixels) of the frames that can be read, uint8 (H, W, C), C = 3 colour or 1 grey.

    If the folder has fewer frames, its last one comes last, whether asked for or not.
    """
    images = list_images(folder)
    end = max(images, default=0)
    for number in sorted({min(number, end) for number in frame_numbers} & images.keys()):
        try:
            with Image.open(images[number], formats=["JPEG", "PNG", "BMP", "WEBP"]) as image:
                ImageOps.exif_transpose(image, in_place=True)
                if image.mode.startswith("I"):  # 16 bits
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                pixels = np.asarray(image if channels == 3 and image.mode == "RGB" else
                                    image.convert("RGB" if channels == 3 else "L"))
        except Exception as error:  # damaged data can raise nearly anything
            refuse_system_error(error, images[number])
            continue
        yield number, pixels.reshape(*pixels.shape[:2], channels)


@contextlib.contextmanager
def open_video(path: str):
    """Open a video file and its best stream: not a preview, not a cover."""
    # a relative take:2.avi would name a protocol; titles may be in any encoding
    with av.open(os.path.abspath(path), metadata_errors="replace") as container:
        streams = [stream for stream in container.streams.video
                   if stream.codec_context is not None and stream.codec_context.name != "ansi"]  # a .txt
        if not streams:
            raise UnreadableVideo(f"{path} has no video stream that can be decoded")
        yield container, max(streams, key=stream_score)


def stream_score(stream: av.VideoStream) -> tuple[bool, int]:
    """Among the streams of a file the one marked as default is the best, else the largest, never a cover."""
    cover = stream.disposition & Disposition.attached_pic or stream.codec_context.name in ("mjpeg", "png")
    default = stream.disposition & Disposition.default
    return not cover, stream.width * stream.height + (5_000_000 if default else 0)  # as the ffmpeg program


def count_frames(path: str) -> int:
    """Count the frames that a video has, by decoding: headers may lie. 0 if it cannot be read."""
    if os.path.isdir(path):
        return max(list_images(path), default=0)
    return max((number for number, _ in decode(path)), default=0)


def decode(path: str) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame) of a file's whole frames, from 1, as far as it can be read.

    A damaged packet costs its own frame only. Raises InputError if the system is why it cannot be read.
    """
    decoded, lost = 0, []  # lost: when the frames of damaged packets would have been shown
    try:
        with open_video(path) as (container, stream):
            for packet in container.demux(stream):  # the last one is empty, and flushes the decoder
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    refuse_system_error(error, path)
                    lost.append(packet.pts)
                    continue
                for frame in frames:
                    decoded += 1
                    before = sum(time is None or frame.pts is None or time < frame.pts for time in lost)
                    if not frame.is_corrupt:
                        yield decoded + before, frame
    except Exception as error:  # damaged data can raise nearly anything
        refuse_system_error(error, path)


def read_video_file(path: str, frame_numbers: list[int], channels: int) -> Iterator:
    """Decode a file up to the last frame asked for. Yields as read_frame_folder does."""
    wanted, last, matrix, converter = set(frame_numbers), None, None, VideoReformatter()

    def to_pixels(frame):
        rgb = converter.reformat(frame, format="rgb24" if channels == 3 else "gray", threads=1)
        return turn(rgb.to_ndarray().reshape(frame.height, frame.width, channels), matrix)

    try:
        for number, frame in decode(path):
            if last is None:  # once, as a frame that was asked for its side data is freed late
                matrix = frame.side_data.get("DISPLAYMATRIX")  # of a phone held upright, a front camera
                matrix = [1, 0, 0, 0, 1] if matrix is None else np.frombuffer(matrix, np.int32).tolist()
            last = number, frame
            if number in wanted or number > frame_numbers[-1]:  # beyond only if the last one was unreadable
                yield number, to_pixels(frame)
            if number >= frame_numbers[-1]:
                return
        if last and last[0] not in wanted:
            yield last[0], to_pixels(last[1])
    except Exception as error:  # damaged data can raise nearly anything
        refuse_system_error(error, path)


def turn(pixels: np.ndarray, matrix: list[int]) -> np.ndarray:
    """Turn and mirror (H, W, C) as a file's display matrix says, to the nearest quarter turn."""
    a, b, _, c, d, *_ = matrix  # (x, y) is shown at (ax + cy, bx + dy)
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[::-1 if d < 0 else 1, ::-1 if a < 0 else 1]


def resize(frames: Iterator, img_x: int, img_y: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(number, pixels) to (number, uint8 (C, img_x, img_y)), as Pillow's bilinear does, within 1/255."""
    for shape, same_size in groupby(frames, key=lambda frame: frame[1].shape):
        at_once = max(1, 8_000_000 // math.prod(shape))  # faster than singly, but large ones fill memory
        while group := list(islice(same_size, at_once)):
            X = torch.from_numpy(np.stack([pixels for _, pixels in group]))
            X = X.permute(0, 3, 1, 2)  # (group, C, H, W)
            X = F.interpolate(X, size=(img_x, img_y), mode="bilinear", antialias=True)
            yield from zip([number for number, _ in group], X, strict=True)


def read_clips(path: str, clips: list[list[int]], img_x: int, img_y: int, channels: int = 3):
    """Read clips of a frame folder or video file, given by their frame numbers, decoding it once.

    A clip that goes beyond the end holds the last frame; for one that cannot be read the nearest stands in.

    Yields, for each clip:
        X: uint8, (T, C, img_x, img_y), 0..255, C = 3 colour or 1 grey
        unreadable: the numbers of the frames that could not be read, list of int
        end: the number of the last frame that the clip could have, int

    Raises UnreadableVideo if no frame can be read, InputError if the system is why.
    """
    read = read_frame_folder if os.path.isdir(path) else read_video_file
    frames = resize(read(path, sorted(set().union(*clips)), channels), img_x, img_y)
    images, last = {}, 0  # {frame number: (C, img_x, img_y)}, the highest of them
    for numbers in clips:
        images = {number: image for number, image in images.items() if number >= min(numbers[0], last)}
        while last < numbers[-1] and (frame := next(frames, None)):
            last = frame[0]
            images[last] = frame[1]
        end = numbers[-1]
        if last < end:  # the video is shorter, or its last frame unreadable
            end = min(end, count_frames(path)) if os.path.isdir(path) else last
        own = [number for number in images if number in numbers or number == last < numbers[-1]]
        if not own and (len(clips) == 1 or not images):
            raise UnreadableVideo(f"{path}: none of its frames {numbers[0]} to {numbers[-1]} can be read")
        shown = [min(own or images, key=lambda other: abs(other - number)) for number in numbers]  # nearest
        # stacked as they lie in memory, channels last: else each clip is copied slowly
        X = torch.stack([images[number].permute(1, 2, 0) for number in shown])
        unreadable = [number for number in numbers if number not in images and number <= end]
        yield X.permute(0, 3, 1, 2), unreadable, end


class Dataset_CRNN(Dataset):
    """Clips as (X, y): X uint8 (T, C, img_x, img_y), y the class index.

    Of several clips a video, dataset[3, 0] is the first one of video 3, dataset[3] all of them, with X uint8
    (clips, T, C, img_x, img_y).
    """

    def __init__(self, videos: list[Video], frame_numbers: list[int], img_x: int, img_y: int,
                 channels: int = 3, clips: int = 1):
        self.videos, self.frame_numbers, self.clips = videos, frame_numbers, clips
        self.img_x, self.img_y, self.channels = img_x, img_y, channels
        # shared by all processes that read: frames of a video, and the last frame of one that is too short, 0
        # if not known; whether it was reported
        self.counts = torch.zeros(len(videos), dtype=torch.int32).share_memory_()
        self.ends = torch.zeros(len(videos), dtype=torch.int32).share_memory_()
        self.reported = torch.zeros(len(videos), dtype=torch.bool).share_memory_()
        self.said_short = False

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        index, clip = index if isinstance(index, tuple) else (index, None)
        try:
            X = list(self.read(index, clip))
        except UnreadableVideo:
            if clip is None:
                raise
            X = [list(self.read(index))[clip]]  # frames of the other clips stand in
        return torch.stack(X) if len(X) > 1 else X[0], self.videos[index].label

    def frame_numbers_of(self, index: int) -> list[list[int]]:
        """The frame numbers of each clip of a video."""
        if self.clips > 1 and self.counts[index] == 0:
            self.counts[index] = count_frames(self.videos[index].path)
        return spread_clips(self.frame_numbers, self.clips, int(self.counts[index]))

    def read(self, index: int, clip: int | None = None) -> Iterator[torch.Tensor]:
        """Yield the clips of a video one by one, or one of them. Says once which frames cannot be read."""
        path, clips = self.videos[index].path, self.frame_numbers_of(index)
        clips = clips if clip is None else [clips[clip]]
        for X, unreadable, end in read_clips(path, clips, self.img_x, self.img_y, self.channels):
            if end < self.frame_numbers[-1]:
                self.ends[index] = end
            if unreadable and not self.reported[index]:
                self.reported[index] = True
                numbers = ", ".join(map(str, unreadable))
                print(f"\n{path}: frame {numbers} cannot be read; the nearest readable one stands in",
                      file=sys.stderr, flush=True)
            yield X


class Dataset_3DCNN(Dataset_CRNN):
    """Clips as (X, y): X uint8 (C, T, img_x, img_y), or (clips, C, T, img_x, img_y), y the class index."""

    def read(self, index: int, clip: int | None = None) -> Iterator[torch.Tensor]:
        for X in super().read(index, clip):
            yield X.transpose(0, 1)


class ClipSampler(DistributedSampler):
    """Shuffle the videos anew in each epoch and draw one clip of each: yields (video, clip) indices.

    Of torchrun's processes every one gets the same number of videos.
    """

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch + 500_000)
        draws = torch.randint(self.dataset.clips, (len(self.dataset),), generator=generator).tolist()
        return iter([(index, draws[index]) for index in super().__iter__()])


def make_loader(dataset: Dataset, args: argparse.Namespace, shuffle: bool) -> DataLoader:
    """Batches of this process: batch_size is the whole batch, shared out among the processes of torchrun.

    Shuffled, one clip of each video; else all clips of each, in batches of as many, each in one process only.
    """
    if args.batch_size % WORLD_SIZE:
        raise InputError(f"--batch_size {args.batch_size} cannot be shared out evenly among "
                         f"{WORLD_SIZE} processes")
    batch_size = args.batch_size // WORLD_SIZE
    if shuffle:
        sampler = ClipSampler(dataset, WORLD_SIZE, RANK, seed=args.seed)
    else:
        sampler, batch_size = range(RANK, len(dataset), WORLD_SIZE), max(1, batch_size // args.clips)
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=args.num_workers,
                      persistent_workers=args.num_workers > 0, pin_memory=torch.cuda.is_available(),
                      worker_init_fn=start_worker,
                      generator=torch.Generator())  # or starting workers would draw dropout's random numbers


def start_worker(worker_id: int) -> None:
    """Leave Ctrl-C, and what it cuts off, to the main process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = lambda *error: None  # the thread that hands over tensors complains when that one ends


# ------------------------------------------------------------------------------ 3. Models

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """uint8 0..255, channels in dim 1, to normalised float32; a float clip is taken as already normalised."""

    def __init__(self, mean: tuple, std: tuple):
        super().__init__()
        # not persistent: published weights know no such entries
        self.register_buffer("mean", 255 * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, X):
        return X.float().sub_(self.mean).div_(self.std) if X.dtype == torch.uint8 else X


def autocast(X: torch.Tensor) -> torch.autocast:
    """bfloat16 on GPUs that have it. Entered in forward: DataParallel's threads would not inherit it."""
    enabled = X.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(X.device.type, dtype=torch.bfloat16, enabled=enabled)


def conv_output_size(size: tuple, layers: list[tuple[int, int]]) -> list[int]:
    """Size after unpadded convolutions, each a (kernel, stride). InputError if nothing would be left."""
    smallest = 1
    for kernel, stride in reversed(layers):
        smallest = (smallest - 1) * stride + kernel
    if min(size) < smallest:
        given, needed = "x".join(map(str, size)), "x".join([str(smallest)] * len(size))
        raise InputError(f"clips of {given} are too small for this model: it needs at least {needed}")
    for kernel, stride in layers:
        size = [(n - kernel) // stride + 1 for n in size]
    return size


class CNN3D(nn.Module):
    """3D CNN, trained from scratch: (N, C, T, H, W) -> logits (N, K)."""

    def __init__(self, t_dim=28, img_x=256, img_y=342, drop_p=0.2, fc_hidden1=256, fc_hidden2=256,
                 num_classes=101, in_channels=3):
        super().__init__()
        t, h, w = conv_output_size((t_dim, img_x, img_y), [(5, 2), (3, 2)])
        self.normalize = Normalize((0.5,), (0.5,))
        self.conv1 = nn.Conv3d(in_channels, 32, kernel_size=5, stride=2)
        self.bn1 = nn.BatchNorm3d(32)
        self.conv2 = nn.Conv3d(32, 48, kernel_size=3, stride=2)
        self.bn2 = nn.BatchNorm3d(48)
        self.drop3d = nn.Dropout3d(drop_p)
        self.fc1 = nn.Linear(48 * t * h * w, fc_hidden1)
        self.fc2 = nn.Linear(fc_hidden1, fc_hidden2)
        self.drop = nn.Dropout(drop_p)
        self.fc3 = nn.Linear(fc_hidden2, num_classes)

    def forward(self, X):
        with autocast(X):
            X = X.to(memory_format=torch.channels_last_3d, copy=True)  # copy: for a single channel, too
            X = self.normalize(X)
            X = self.drop3d(F.relu(self.bn1(self.conv1(X))))
            X = self.drop3d(F.relu(self.bn2(self.conv2(X))))
            X = F.relu(self.fc1(X.flatten(1)))
            X = self.drop(F.relu(self.fc2(X)))
            return self.fc3(X).float()


def conv2d_block(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size, stride=2),
                         nn.BatchNorm2d(out_channels, momentum=0.01), nn.ReLU(inplace=True))


class EncoderCNN(nn.Module):
    """2D CNN over every frame, trained from scratch: (N, T, 3, H, W) -> (N, T, E)."""

    def __init__(self, img_x=224, img_y=224, fc_hidden1=1024, fc_hidden2=768, drop_p=0.3, CNN_embed_dim=512):
        super().__init__()
        h, w = conv_output_size((img_x, img_y), [(5, 2), (3, 2), (3, 2), (3, 2)])
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.conv1 = conv2d_block(3, 32, 5)
        self.conv2 = conv2d_block(32, 64, 3)
        self.conv3 = conv2d_block(64, 128, 3)
        self.conv4 = conv2d_block(128, 256, 3)
        self.fc1 = nn.Linear(256 * h * w, fc_hidden1)
        self.fc2 = nn.Linear(fc_hidden1, fc_hidden2)
        self.drop = nn.Dropout(drop_p)
        self.fc3 = nn.Linear(fc_hidden2, CNN_embed_dim)

    def convolve(self, X):
        X = self.normalize(X.contiguous(memory_format=torch.channels_last))  # (N, 3, H, W)
        return self.conv4(self.conv3(self.conv2(self.conv1(X)))).flatten(1)  # (N, 256*h*w)

    def forward(self, X):
        # one time step after the other: its activations stay near the caches, and BatchNorm sees the N frames
        # of a step, as in the original; the linear layers take all frames at once
        X = torch.stack([self.convolve(x) for x in X.unbind(1)], dim=1)  # (N, T, 256*h*w)
        X = F.relu(self.fc1(X))  # (N, T, fc_hidden1)
        X = self.drop(F.relu(self.fc2(X)))
        return self.fc3(X)  # (N, T, E)


def load_resnet152(weights: str) -> nn.Module:
    """ResNet-152 (https://arxiv.org/abs/1512.03385) with weights of a file, of torchvision's, or "none".

    Raises InputError where the weights cannot be had, saying what to do.
    """
    from torchvision.models import ResNet152_Weights, resnet152  # here, as it takes a second

    if weights in ResNet152_Weights.__members__:
        try:
            return resnet152(weights=weights)
        except (OSError, RuntimeError) as error:  # no network, or a download whose hash is wrong
            raise InputError(f"no download of the ResNet-152 weights ({first_line(error)}): fetch "
                             f"{ResNet152_Weights[weights].url} elsewhere, for --resnet_weights "
                             "FILE") from error
    if weights != "none" and not os.path.exists(weights):
        raise InputError(f"--resnet_weights {weights} is no file and none of "
                         f"{', '.join(ResNet152_Weights.__members__)}, none")
    # untrained, 50 blocks add up to features of 1e8, too large for float16, unless each begins as identity
    resnet = resnet152(zero_init_residual=True)
    if weights != "none":
        load_weights(resnet, load_checkpoint(weights), weights)
    return resnet


# The original calls its encoder once a frame, and each call moves BatchNorm's running statistics by 0.01.
# Here the 28 frames of a clip make one call: to move the statistics as fast takes 1 - 0.99^28.
BN_MOMENTUM = 1 - 0.99**28


class ResCNNEncoder(nn.Module):
    """Frozen ResNet-152 over every frame, and layers that train: (N, T, 3, H, W) -> (N, T, E).

    Also takes the ResNet's features of the frames, (N, T, 2048): frozen, they need computing only once.
    """

    def __init__(self, fc_hidden1=1024, fc_hidden2=768, drop_p=0.3, CNN_embed_dim=512,
                 weights="IMAGENET1K_V1"):
        super().__init__()
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        resnet = load_resnet152(weights)
        self.resnet = nn.Sequential(*list(resnet.children())[:-1]).requires_grad_(False)
        self.fc1 = nn.Linear(resnet.fc.in_features, fc_hidden1)
        self.bn1 = nn.BatchNorm1d(fc_hidden1, momentum=BN_MOMENTUM)
        self.fc2 = nn.Linear(fc_hidden1, fc_hidden2)
        self.bn2 = nn.BatchNorm1d(fc_hidden2, momentum=BN_MOMENTUM)
        self.drop = nn.Dropout(drop_p)
        self.fc3 = nn.Linear(fc_hidden2, CNN_embed_dim)

    def train(self, mode: bool = True):
        super().train(mode)
        self.resnet.eval()  # or its running statistics would drift
        return self

    @torch.no_grad()
    def features(self, X):
        """Frames (N, T, 3, H, W) to the pooled features (N, T, 2048)."""
        N, T = X.shape[:2]
        X = X.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (N*T, 3, H, W)
        chunks = X.split(128 if X.is_cuda else 14)  # a bound on memory; on a CPU few are the fastest
        X = torch.cat([self.resnet(self.normalize(x)).flatten(1) for x in chunks])
        return X.view(N, T, -1)  # (N, T, 2048)

    def forward(self, X):
        N, T = X.shape[:2]
        if X.ndim == 5:
            X = self.features(X)
        X = F.relu(self.bn1(self.fc1(X.flatten(0, 1).float())))  # (N*T, fc_hidden1)
        X = self.drop(F.relu(self.bn2(self.fc2(X))))
        return self.fc3(X).view(N, T, -1)  # (N, T, E)


class DecoderRNN(nn.Module):
    """LSTM over the frames' embeddings, its last step classified: (N, T, E) -> logits (N, K)."""

    def __init__(self, CNN_embed_dim=512, h_RNN_layers=3, h_RNN=512, h_FC_dim=256, drop_p=0.3,
                 num_classes=101):
        super().__init__()
        self.LSTM = nn.LSTM(CNN_embed_dim, h_RNN, num_layers=h_RNN_layers, batch_first=True)
        self.fc1 = nn.Linear(h_RNN, h_FC_dim)
        self.drop = nn.Dropout(drop_p)
        self.fc2 = nn.Linear(h_FC_dim, num_classes)

    def forward(self, X):
        self.LSTM.flatten_parameters()  # DataParallel's replicas lose the contiguous copy
        with torch.autocast(X.device.type, enabled=False):  # or cuDNN's LSTM runs in float16
            X, _ = self.LSTM(X.float())
        X = self.drop(F.relu(self.fc1(X[:, -1])))  # (N, h_FC_dim)
        return self.fc2(X)


class CRNN(nn.Module):
    """An encoder of frames and a decoder of their sequence: (N, T, 3, H, W) -> logits (N, K)."""

    def __init__(self, encoder: nn.Module, decoder: DecoderRNN):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, X):
        with autocast(X):
            return self.decoder(self.encoder(X)).float()


# ------------------------------------------------------------------------------ 4. Training and testing


def progress_bar(loader, text: str) -> tqdm:
    """A bar that goes when it is full; none where the output is no terminal, one for all processes."""
    return tqdm(loader, desc=text, leave=False, disable=None if RANK == 0 else True)


def augment(X: torch.Tensor, how: str) -> torch.Tensor:
    """Crop each clip of a batch at random, the same way in all its frames: uint8 (N, ..., H, W) to the same.

    A crop has three quarters of the area or more, its sides' ratio changed by 10 % at most, and is resized to
    (H, W). "crop_flip" also mirrors half of the clips; "none" leaves all as they are.
    """
    if how == "none":
        return X
    from torchvision.transforms import v2  # here, as it takes a second

    H, W = X.shape[-2:]
    crop = v2.RandomResizedCrop((H, W), scale=(0.75, 1), ratio=(0.9 * W / H, 1.1 * W / H))
    flip = v2.RandomHorizontalFlip(0.5 if how == "crop_flip" else 0)
    return torch.stack([flip(crop(x)) for x in X])


def cosine_rate(learning_rate: float, progress: float) -> float:
    """The learning rate at `progress` (0..1) of training: up in a twentieth of it, then down to 0."""
    return learning_rate * min(1, progress / 0.05 + 0.01) * (1 + math.cos(math.pi * progress)) / 2


def train_one_epoch(model, device, train_loader, optimizer, epoch: int, args: argparse.Namespace):
    """Train on every batch (X, y) of a loader once.

    Returns (mean loss, accuracy in 0..1) over the epoch, dropout on. InputError if the loss is not finite.
    """
    # every epoch from its own seed: a resumed run draws the dropout that the unbroken one would have
    torch.manual_seed(args.seed + epoch + 1_000_000 * RANK)
    model.train()
    sums = torch.zeros(3, device=device)  # of losses, right answers, clips; there, no step waits for them
    bar = progress_bar(train_loader, f"Epoch {epoch + 1}/{args.epochs} train")
    for step, (X, y) in enumerate(bar):
        if args.lr_schedule == "cosine":
            progress = (epoch + step / len(train_loader)) / args.epochs
            for group in optimizer.param_groups:
                group["lr"] = cosine_rate(args.learning_rate, progress)
        X, y = X.to(device, non_blocking=True), y.to(device, non_blocking=True)
        logits = model(augment(X, args.augment))  # (N, K)
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sums[0] += loss.detach() * len(y)
        sums[1] += (logits.argmax(1) == y).sum()
        sums[2] += len(y)
        if (step + 1) % args.log_interval == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
    say_short_videos(train_loader.dataset)
    if TORCHRUN:
        dist.all_reduce(sums)
    loss, correct, clips = sums.tolist()
    if not math.isfinite(loss):
        raise InputError(f"the loss of epoch {epoch + 1} is {loss}: lower --learning_rate")
    return loss / clips, correct / clips


@torch.no_grad()
def predict(model, device, loader, clips: int = 1, text: str = "Predict"):
    """Run the model in eval mode; of several clips a video, X (N, clips, ...), average the softmax over them.

    Returns: log-probabilities (V, K) float64, labels (V,): those of this process, on the CPU
    """
    model.eval()
    if TORCHRUN:
        model = model.module  # DistributedDataParallel would wait for processes that have fewer batches
        for buffer in model.buffers():  # each has BatchNorm statistics of its own: take those that are saved
            dist.broadcast(buffer, 0)
    log_probabilities, labels = [], []
    for X, y in progress_bar(loader, text):
        X = X.to(device, non_blocking=True)
        logits = model(X.flatten(0, 1) if clips > 1 else X)  # (N*clips, K)
        each = logits.double().log_softmax(1).view(len(y), clips, -1)  # (N, clips, K)
        log_probabilities.append(each.logsumexp(1).sub(math.log(clips)).cpu())  # (N, K)
        labels.append(y)
    say_short_videos(getattr(loader, "dataset", None))
    if not labels:  # more processes than videos
        return torch.empty(0, 1, dtype=torch.double), torch.empty(0, dtype=torch.long)
    return torch.cat(log_probabilities), torch.cat(labels)


def evaluate(model, device, test_loader, clips: int = 1) -> tuple[float, float]:
    """Test on every video once, whatever the number of processes. Returns (mean loss, accuracy in 0..1)."""
    log_probabilities, y = predict(model, device, test_loader, clips, "Test")
    loss = F.nll_loss(log_probabilities, y, reduction="sum")
    sums = torch.stack([loss, (log_probabilities.argmax(1) == y).sum(), torch.tensor(len(y))]).to(device)
    if TORCHRUN:
        dist.all_reduce(sums)
    loss, correct, videos = sums.tolist()
    return loss / videos, correct / videos


# ------------------------------------------------------------------------------ 5. Features of a frozen CNN


class Features(nn.Module):
    """The frozen part of a ResCNNEncoder as a module, for DataParallel: (N, T, 3, H, W) -> (N, T, 2048)."""

    def __init__(self, encoder: ResCNNEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, X):
        with autocast(X):
            return self.encoder.features(X)


class FeatureDataset(Dataset):
    """Kept features as (X, y): X float16 (T, 2048), or (clips, T, 2048), y the class index."""

    def __init__(self, videos: list[Video], paths: list[Path], clips: int):
        self.videos, self.paths, self.clips = videos, paths, clips

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        index, clip = index if isinstance(index, tuple) else (index, None)
        try:
            X = torch.from_numpy(np.load(self.paths[index]))  # (clips, T, 2048)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{self.paths[index]} is damaged: remove it to have it computed anew") from error
        return X[clip or 0] if self.clips == 1 or clip is not None else X, self.videos[index].label


def cache_features(args: argparse.Namespace, model: nn.Module, videos: list[Video], device) -> FeatureDataset:
    """Compute the frozen ResNet's features of the clips of each video once, and keep them in half precision.

    They lie in save_model_path, in a folder named by what they depend on: frames, clips, size, weights; in it
    a file for each video, named by a hash of its name, size and time. So an interrupted run goes on where it
    was, and a video that has changed never meets old features. The processes of torchrun share the work.
    """
    frame_numbers = select_frames(args)
    digest = hashlib.sha256(repr(("v2", args.res_size, frame_numbers, args.clips)).encode())
    for tensor in model.module.encoder.resnet.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    folder = Path(args.save_model_path) / f"features_{digest.hexdigest()[:16]}"
    paths = [folder / f"{file_state(video, frame_numbers, args.clips)}.npy" for video in videos]
    count = sum(not path.exists() for path in paths)
    clips = Dataset_CRNN(videos, frame_numbers, args.res_size, args.res_size, clips=args.clips)
    if count:
        print(f"Cache   the ResNet-152 features of {count:,} videos, in\n        {folder}")
        with user_file(folder):
            folder.mkdir(exist_ok=True)
        missing = [index for index in range(len(videos))[RANK::WORLD_SIZE] if not paths[index].exists()]
        loader = DataLoader(clips, max(1, 16 // args.clips), sampler=missing, num_workers=args.num_workers,
                            pin_memory=torch.cuda.is_available(), worker_init_fn=start_worker)
        extract = Features(model.module.encoder).eval()
        extract = extract if TORCHRUN else nn.DataParallel(extract)
        done = iter(missing)
        for X, y in progress_bar(loader, "Features"):
            X = X.to(device, non_blocking=True).view(-1, *X.shape[-4:])  # (N*clips, T, 3, H, W)
            features = extract(X).half().cpu()  # (N*clips, T, 2048)
            for video_features in features.unflatten(0, (len(y), args.clips)):
                with atomic_file(paths[next(done)]) as file:
                    np.save(file, video_features.numpy())
    if TORCHRUN:
        dist.barrier()
    say_short_videos(clips)
    return FeatureDataset(videos, paths, args.clips)


def file_state(video: Video, frame_numbers: list[int], clips: int) -> str:
    """A hash of what tells that a clip has changed: the size and time of its file, or of its frames'."""
    paths = [video.path]
    if os.path.isdir(video.path):
        images = list_images(video.path)
        taken = {*frame_numbers, max(images, default=0)}  # the last one may be held
        paths = [path for number, path in images.items() if clips > 1 or number in taken]
    states = [(s.st_size, s.st_mtime_ns) for s in map(os.stat, filter(os.path.exists, sorted(paths)))]
    return hashlib.sha256(repr((video.name, states)).encode()).hexdigest()[:32]


# ============================================================================================================
# What follows keeps long runs alive. It may be skipped at first.
# ============================================================================================================

# ------------------------------------------------------------------------------ 6. Lists


class ListUnpickler(pickle.Unpickler):
    """Unpickle lists and strings only: a pickle can run any code by naming a class or function in it."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def load_action_names(path: str) -> list[str]:
    """Read the action names: a pickled list of str, or a text file with one a line. InputError for others."""
    with user_file(f"--action_name_path {path}"), open(path, "rb") as file:
        if path.endswith(".pkl") or file.peek(1)[:1] == b"\x80":
            try:
                names = ListUnpickler(file).load()
            except Exception:  # a damaged pickle can raise nearly anything
                names = None
        else:
            names = [line.strip() for line in file.read().decode("utf-8-sig").splitlines() if line.strip()]
            numbers = [name.split(maxsplit=1)[0] for name in names]
            if numbers == [str(n + 1) for n in range(len(names))]:  # as UCF101's classInd.txt numbers them
                names = [name.split(maxsplit=1)[-1] for name in names]
    if type(names) is not list or not names or not all(type(name) is str for name in names):
        raise InputError(f"--action_name_path {path} is not a pickled list of str; a text file with one name "
                         "a line will do, too")
    if len({name_key(name) for name in names}) < len(names):
        raise InputError(f"{path} names an action twice (upper and lower case are the same action)")
    return names


def choose_action_names(path: str, videos: list[Video]) -> list[str]:
    """Return the sorted action names: of a list, or those found ("none", or none is in UCF101's list)."""
    found = {name_key(video.action): video.action.strip() for video in videos}
    names = list(found.values()) if path == "none" else load_action_names(path)
    if path == str(UCF101_LIST) and found.keys().isdisjoint(map(name_key, names)):
        names = list(found.values())
        say("Actions", "none is one of UCF101's, so those found are taken")
    return sorted(names)  # the order of a LabelEncoder's classes


def is_ucf101(action_names: list[str]) -> bool:
    names = load_action_names(str(UCF101_LIST)) if UCF101_LIST.exists() else []
    return {name_key(name) for name in names} == {name_key(name) for name in action_names}


def listed_videos(videos: list[Video], path: str) -> list[Video]:
    """Return the videos that a text file names, one a line, as UCF101's testlist01.txt does.

    Folders and suffix may stand or miss; further columns are ignored. Names that are not there are counted.
    """
    if not os.path.isfile(path):
        raise InputError(f"--split {path} is neither a file nor one of {', '.join(SPLITS)}")
    named = defaultdict(set)  # by the whole name, and by its last part
    for video in videos:
        for name in {name_key(video.name), name_key(video.name).rpartition("/")[2]}:
            named[name].add(video)
    with user_file(path):
        lines = list(filter(str.strip, Path(path).read_text("utf-8-sig").splitlines()))
    # as many columns as leave a name that is there, of each line as many: else "anna 1,Bend" might take anna
    columns = next((count for count in range(9)
                    if any(name in named for line in lines for name in names_on(line, count))), 0)
    test, unknown = set(), []
    for line in lines:
        matches = next((named[name] for name in names_on(line, columns) if name in named), set())
        if len(matches) > 1:
            one, other, *_ = sorted(video.path for video in matches)
            raise InputError(f"{path}: {line.strip()} may be {one} or {other}: add its folder")
        test |= matches
        if not matches:
            unknown.append(line.strip())
    if not test:
        raise InputError(f"{path} names none of the videos: write them as {videos[0].name}, one a line")
    if unknown:
        say("", f"Names of the list that are not there: {len(unknown):,}, such as {some(unknown)}")
    return sorted(test)


def clean_name(line: str) -> str:
    return name_key(line.strip().strip("\"'")).replace("\\", "/").removeprefix("./")


def names_on(line: str, columns: int) -> Iterator[str]:
    """Yield the names that a line of a test list may mean, the likeliest first, as name_key writes them.

    What follows a suffix are further columns, whatever their number; without a suffix the last `columns` are.
    """
    name, suffixes = clean_name(line), "|".join(map(re.escape, VIDEO_SUFFIXES))
    file = re.fullmatch(rf"(.+?)(?:{suffixes})[\"']?(?:\s*[,;\t].*|(?:\s+-?[0-9.]+)*)", name)
    if file:
        yield from places(name)
    for _ in range(0 if file else columns):
        name = re.sub(r"(?<=.)(?:\s*[,;\t][^,;\t]*|\s+-?[0-9.]+)$", "", name)
    yield from places(file[1] if file else name.rstrip("\"'"))


def places(name: str) -> Iterator[str]:
    """Yield a path without its first folders, as a list may name videos by where they lie on a disk."""
    yield name
    folders = 0 if VIDEO_NAME.fullmatch(name.rpartition("/")[2]) else 1  # that must stay
    while name.count("/") > folders:
        name = name.partition("/")[2]
        yield name


# ------------------------------------------------------------------------------ 7. Parameters and errors


class InputError(Exception):
    """Something the user can put right: run() prints it without a traceback and exits with status 1."""


class UnreadableVideo(InputError):
    """A video of which no frame can be read."""


WORKER_DIED = "DataLoader worker (pid"  # torch raises this anywhere in the main process
# errors of the system, not of a video: memory, file handles, permission
SYSTEM_ERRORS = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES}
OUT_OF_MEMORY = "the memory is full: lower --batch_size, --num_workers or the size of the frames"


def parse_args(doc: str, parameters: dict, demo: dict) -> argparse.Namespace:
    """Turn each name=(default, help[, choices or smallest value]) into a flag --name.

    With --demo, `demo` replaces defaults. Whole numbers are 1 or more, others above 0 and below 1, unless a
    smallest value is given.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    for name, (default, text, *limit) in parameters.items():
        options = dict(type=type(default), metavar=type(default).__name__)
        if isinstance(default, bool):
            options = dict(action=argparse.BooleanOptionalAction)  # --resume, --no-resume
        elif limit and isinstance(limit[0], tuple):
            options = dict(type=type(default), choices=limit[0])
        parser.add_argument(f"--{name}", default=default, help=f"{text} (default: {default})", **options)
    args = parser.parse_args()
    if args.demo:
        parser.set_defaults(**demo)  # a value given on the command line still wins
        args = parser.parse_args()
    for name, (default, _, *limit) in parameters.items():
        value = getattr(args, name)
        smallest = limit[0] if limit else 1
        if type(default) is int and type(smallest) is int and not smallest <= value < 2**31:
            parser.error(f"argument --{name}: {value} is out of range")
        if type(default) is float and not (0 < value < 1 or limit and value == smallest):
            parser.error(f"argument --{name}: {value} is out of range")
        if name.endswith("_path") and value != "none":
            setattr(args, name, os.path.abspath(value))
    if args.augment != "none" and getattr(args, "cache_features", False):
        parser.error(f"argument --augment: {args.augment} changes the frames in each epoch, so that their "
                     "features cannot be kept: add --no-cache_features")
    # torchrun's processes on one machine share out its cores
    args.num_workers = math.ceil(args.num_workers / int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    return args


def run(main: Callable[[], None], resumes: bool = True) -> None:
    """Run a script: a user's mistake ends in one line and status 1, Ctrl-C in how to go on and status 130."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # log files are written as it goes; any name can be printed
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        if TORCHRUN:
            join_processes()
        main()
        if TORCHRUN:
            dist.destroy_process_group()
            end_process("", 0)
    except InputError as error:  # from a worker process it comes wrapped in that one's traceback
        end_process("Error: " + re.split(r"(?:InputError|UnreadableVideo): ", str(error))[-1].strip(), 1)
    except (RuntimeError, MemoryError, ValueError) as error:
        if WORKER_DIED in str(error):
            end_process("Error: a process that reads videos was killed, mostly for want of memory: lower "
                        "--num_workers or --batch_size", 1)
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
            end_process(f"Error: {OUT_OF_MEMORY}", 1)
        if "more than 1 value per channel" in str(error):
            end_process("Error: the last batch of an epoch holds a single clip, of which BatchNorm sees one "
                        "value: take another --batch_size, or larger frames", 1)
        raise
    except BrokenPipeError:
        try:
            print(flush=True)
        except BrokenPipeError:  # "| head" has ended, not a worker's pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python writes at exit
            end_process("Error: what reads the output has ended", 1)
        raise
    except KeyboardInterrupt:
        message = "\nInterrupted."
        if resumes:
            again = quote(*sys.argv) if "--resume" in sys.argv else quote(*sys.argv, "--resume")
            python = "torchrun ..." if TORCHRUN else "python"
            message += f" The finished epochs are saved; go on with\n  {python} {again}"
        end_process(message if RANK == 0 else "", 130)


def end_process(message: str, status: int) -> None:
    """End this process with a message.

    Under torchrun it ends at once. After an error an orderly end may wait for the other processes, which wait
    for this one; after a good run it may abort, as the threads of torch.distributed still hold tensors.
    """
    if message:
        print(message, file=sys.stderr, flush=True)
    if TORCHRUN:
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


@contextlib.contextmanager
def user_file(path: str | Path):
    """While a user's file is open, an error of the system, or a text in no UTF-8, is an InputError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text: save it as one") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def refuse_system_error(error: Exception, path: str) -> None:
    """Raise InputError if an error met while reading does not mean that the video is damaged."""
    if isinstance(error, InputError):
        raise error
    if isinstance(error, MemoryError):
        raise InputError(f"{path}: {OUT_OF_MEMORY}")
    if getattr(error, "errno", None) in SYSTEM_ERRORS:
        remedy = ": lower --num_workers, or raise ulimit -n" if error.errno == errno.EMFILE else ""
        raise InputError(f"{path}: {os.strerror(error.errno)}{remedy}")


@contextlib.contextmanager
def unreadable_videos_named(args: argparse.Namespace, videos: list[Video]):
    """When a video cannot be read, look at all, so that they are not found one a run. Raises InputError."""
    try:
        yield
    except UnreadableVideo:
        dataset, paths = Dataset_CRNN(videos, select_frames(args), 8, 8, clips=args.clips), []
        dataset.reported[:] = True  # single frames do not matter now
        for index in tqdm(range(len(videos)), "Looking for others", disable=None):
            try:
                dataset[index]
            except UnreadableVideo:
                paths.append(videos[index].path)
        if not paths:  # it can be read now
            raise
        message = (f"{len(paths):,} of {len(videos):,} videos cannot be read: {some(paths)}\n"
                   "Remove them or fetch them again")
        output = Path(args.save_model_path) / "unreadable_videos.txt"
        with contextlib.suppress(InputError):  # a folder that cannot be written to
            with atomic_file(output) as file:
                file.write("".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape"))
            message += f"; all are named in {output}"
        raise InputError(message) from None


def some(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def quote(*words: str) -> str:
    """Words as one command line, for this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def say(label: str, text: str) -> None:
    """Print a paragraph of 80 columns behind a label."""
    print(textwrap.fill(text, 80, initial_indent=f"{label:<8}", subsequent_indent=" " * 8,
                        break_long_words=False, break_on_hyphens=False))


# ------------------------------------------------------------------------------ 8. Devices and processes


def join_processes() -> None:
    """Join the processes of torchrun, of which rank 0 alone prints."""
    backend, gpu = "gloo", None
    if torch.cuda.is_available():
        backend, gpu = "nccl", torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if gpu.index >= torch.cuda.device_count():
            raise InputError(f"--nproc_per_node is above the {torch.cuda.device_count()} GPUs there are")
        torch.cuda.set_device(gpu)
    store, *_ = next(dist.rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":  # one machine, so all know the number of the restart:
        # the store outlives the processes, and restarted ones would meet the addresses of the dead
        store = dist.PrefixStore("attempt" + os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    dist.init_process_group(backend, store=store, rank=RANK, world_size=WORLD_SIZE, device_id=gpu,
                            timeout=timedelta(hours=2))  # some finish their features much earlier
    if RANK > 0:
        sys.stdout = open(os.devnull, "w", errors="backslashreplace")


def get_device() -> torch.device:
    """Choose CUDA or the CPU.

    Not Apple's MPS, where Conv3d has been silently wrong and BatchNorm3d has crashed
    (https://github.com/pytorch/pytorch/issues/197114, .../190645).
    """
    hardware = f"CPU, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32
        torch.backends.cudnn.benchmark = True
        hardware = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    print(f"Device  {hardware}, {WORLD_SIZE} processes" if TORCHRUN else f"Device  {hardware}")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parallelize(model: nn.Module, device: torch.device) -> nn.Module:
    """Put the model on the device and in DataParallel, or under torchrun in DistributedDataParallel.

    DataParallel splits each batch among all visible GPUs; with one or none it passes it through.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(f"Model   {total:,} parameters, {trained:,} of them train")
    model = model.to(device)
    if TORCHRUN:
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)  # no second copy
    return nn.DataParallel(model)


# ------------------------------------------------------------------------------ 9. Checkpoints

HISTORIES = ("train_loss", "train_score", "test_loss", "test_score")
# parameters that a resumed run may change: the rest decide what is learnt
MAY_CHANGE = {"data_path", "action_name_path", "save_model_path", "epochs", "num_workers", "log_interval",
              "resume", "demo", "cache_features"}


@contextlib.contextmanager
def atomic_file(path: str | Path):
    """Open a file that is written whole or not at all: under another name, flushed to disk, then renamed."""
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
        Path(temporary).unlink(missing_ok=True)
        if WORKER_DIED in str(error):
            raise
        raise InputError(f"{path} could not be written ({first_line(error)}): what was there is as it was; "
                         "if the disk is full, make room (a training run goes on with --resume)") from error


def replace(temporary: str | Path, path: str | Path) -> None:
    """os.replace, but wait for a virus scanner or a viewer that has the file open, as on Windows they do."""
    for seconds in (0.1, 1, 10):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(seconds)
    os.replace(temporary, path)


def load_checkpoint(path: str | Path, *keys: str, tensors: bool = True) -> dict:
    """Load a dict that torch.save wrote, on the CPU. Raises InputError if it is damaged or lacks a key.

    weights_only admits tensors and plain values, no code. The sums in the zip file tell a flipped bit.
    Without `tensors` they stay on the disk, unchecked: a quick look at the rest.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=None if tensors else True)
        if tensors and zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip():
            checkpoint = None
    except Exception as error:  # damaged data can raise nearly anything
        checkpoint = None
        if "GLOBAL" in str(error):
            raise InputError(f"{path} holds Python objects, such as a whole pickled model, which can run "
                             "code: save model.state_dict() instead") from None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= set(keys):
        raise InputError(f"{path} is damaged or no checkpoint")
    return checkpoint


def load_weights(model: nn.Module, state: dict, path: str | Path) -> None:
    """model.load_state_dict, but a model of other layers or sizes is an InputError."""
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not fit this model: {' '.join(str(error).split())[:200]}") from error


def saved_args(checkpoint: dict, parameters: dict) -> dict:
    """A checkpoint's parameters; those that came after it have their default, which means "as before"."""
    return {name: default for name, (default, *_) in parameters.items()} | checkpoint["args"]


def saved_epochs(folder: str | Path, name: str) -> list[int]:
    """The epochs that have a model file <name>_epoch<epoch>.pth, in order."""
    matches = (re.fullmatch(rf"{name}_epoch([0-9]+)\.pth", path.name) for path in Path(folder).glob("*.pth"))
    return sorted(int(match[1]) for match in matches if match)


def best_epoch(history: dict) -> int:
    """The epoch, from 1, of the highest test accuracy; among equals, of the lowest test loss."""
    ranks = [(score, -loss) for score, loss in zip(history["test_score"], history["test_loss"], strict=True)]
    return ranks.index(max(ranks)) + 1


def save_epoch(args: argparse.Namespace, name: str, model, optimizer, history: dict, data: Data) -> None:
    """Write the newest epoch of `history` into save_model_path; drop the epochs neither best nor last.

    The model goes last, so its file stands for a complete epoch, whenever the run is killed.
    """
    if RANK > 0:
        return
    folder, epoch = Path(args.save_model_path), len(history["test_score"])
    with atomic_file(folder / f"{name}_optimizer_epoch{epoch}.pth") as file:
        torch.save({"optimizer": optimizer.state_dict(), "history": history, "epoch": epoch}, file)
    for key in HISTORIES:
        with atomic_file(folder / f"epoch_{key}.npy") as file:
            np.save(file, np.array(history[key]))
    with atomic_file(folder / f"fig_UCF101_{name}.png") as file:
        plot_curves(file, name, history)
    with atomic_file(folder / f"{name}_epoch{epoch}.pth") as file:
        torch.save({"name": name, "model": model.module.state_dict(), "args": vars(args),
                    "action_names": data.action_names, "epoch": epoch,
                    "test_loss": history["test_loss"][-1], "test_score": history["test_score"][-1],
                    "train_videos": [video.name for video in data.train],
                    "test_videos": [video.name for video in data.test], "frame_rate": data.frame_rate}, file)
    best = best_epoch(history)
    keep = {best, epoch} if best < epoch else {epoch - 1, epoch}  # always two: one may be damaged
    for path in folder.glob(f"{name}_*epoch*.pth*"):
        match = re.fullmatch(rf"{name}_(optimizer_)?epoch([0-9]+)\.pth(\.tmp)?", path.name)
        if match and (match[3] or not args.keep_all_epochs and int(match[2]) not in keep):
            with contextlib.suppress(PermissionError):  # on Windows, if open elsewhere: after the next epoch
                path.unlink()


def check_output_folder(args: argparse.Namespace, name: str) -> None:
    """Make save_model_path. InputError if it cannot be written to, or holds a run that is not resumed."""
    folder = Path(args.save_model_path)
    with user_file(f"--save_model_path {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    others = sorted(path.name for path in folder.glob("*_epoch*.pth") if not path.name.startswith(f"{name}_"))
    if others:
        raise InputError(f"{folder} holds {others[0]}: choose another --save_model_path")
    epochs = saved_epochs(folder, name)
    if epochs and not args.resume:
        raise InputError(f"{folder} holds {name}_epoch{epochs[-1]}.pth: go on with --resume, or begin "
                         "again in another --save_model_path")


def resume_training(args, parameters: dict, name: str, model, optimizer, data: Data) -> dict:
    """Load the last undamaged epoch of save_model_path. Returns the history so far.

    Raises InputError rather than go on with a run of other parameters or videos.
    """
    folder = Path(args.save_model_path)
    epochs = saved_epochs(folder, name)
    for epoch in reversed(epochs):
        path = folder / f"{name}_epoch{epoch}.pth"
        try:
            checkpoint = load_checkpoint(path, "model", "args", "action_names", "test_videos")
            state = load_checkpoint(folder / f"{name}_optimizer_epoch{epoch}.pth", "optimizer", "history")
        except InputError as error:
            print(f"{error}: trying the epoch before")
            continue
        refuse_changes(args, saved_args(checkpoint, parameters), checkpoint, data, path)
        load_weights(model.module, checkpoint["model"], path)
        optimizer.load_state_dict(state["optimizer"])
        print(f"Resume  after epoch {epoch}, from {path}")
        if epoch >= args.epochs:
            print("        Nothing is left to train: raise --epochs to go on")
        return state["history"]
    if epochs:
        raise InputError(f"no checkpoint in {folder} can be read: remove them to begin again")
    return {key: [] for key in HISTORIES}


def refuse_changes(args: argparse.Namespace, saved: dict, checkpoint: dict, data: Data, path: Path) -> None:
    """Raise InputError if a parameter or the data that decide what is learnt are not the checkpoint's."""
    may_change = MAY_CHANGE - ({"epochs"} if args.lr_schedule == "cosine" else set())
    if not {args.split, saved["split"]} & set(SPLITS):  # two lists, perhaps one that was moved
        may_change |= {"split"}
    changed = [f"--{key} {saved.get(key)} -> {value}" for key, value in vars(args).items()
               if key not in may_change and saved.get(key) != value]
    if checkpoint["action_names"] != data.action_names:
        changed.append("the action names")
    elif not changed:
        for side, videos in (("train", data.train), ("test", data.test)):
            names = {video.name for video in videos}
            before = set(checkpoint.get(f"{side}_videos", names))  # older ones do not know those of training
            if names != before:
                new, gone = len(names - before), len(before - names)
                changed.append(f"the {side} videos: {new:,} new, {gone:,} gone")
    if changed:
        raise InputError(f"{path} was trained with other parameters or data ({', '.join(changed)}): "
                         "give those again, or choose another --save_model_path")


# ------------------------------------------------------------------------------ 10. Progress


def print_split(split: str, train: list[Video], test: list[Video]) -> None:
    """Say what the test accuracy will be worth."""
    say("Split", f"{split}: {len(train):,} videos to train on, {len(test):,} to test on")
    for side, videos in (("training", train), ("test", test)):
        counts = Counter({video.action: 0 for video in (*train, *test)})
        counts.update(video.action for video in videos)
        ranked = counts.most_common()
        (most, highest), (fewest, lowest) = ranked[0], ranked[-1]
        if lowest < highest:
            say("", f"{side}: {lowest:,} ({fewest}) to {highest:,} ({most}) videos an action")
        else:
            say("", f"{side}: {lowest:,} of each action")
        missing = sorted(action for action, count in counts.items() if count == 0)
        if missing:
            say("", f"No {side} video: {', '.join(missing)}")
    sources, tested = ({video.source for video in side if video.source} for side in (train, test))
    shared = sum(video.source in sources for video in test)
    if sources or tested:
        say("", f"sources: {len(sources):,} in training, {len(tested):,} in the test, "
            f"{len(sources & tested):,} in both")
    unknown = [not video.source for video in (*train, *test)]
    if shared:
        remedy = "" if split == "folders" else ". --split group is"
        say("", f"{shared:,} of the {len(test):,} test videos ({shared / len(test):.1%}) have a sibling from "
            f"the same source in training: not a fair test{remedy}")
    if any(unknown):
        say("", f"The source of {sum(unknown):,} of {len(unknown):,} videos is not known: siblings of "
            "training videos may be among those of the test. Folders <Action>/<source>/<video> tell it")


def say_short_videos(dataset: Dataset) -> None:
    """Say once how many videos were shorter than a clip. Of any dataset but our own nothing is known."""
    if not isinstance(dataset, Dataset_CRNN) or dataset.said_short:
        return
    ends = dataset.ends
    if TORCHRUN:
        ends = ends.to("cuda" if torch.cuda.is_available() else "cpu")
        dist.all_reduce(ends, dist.ReduceOp.MAX)
    short = [(end, video.name) for end, video in zip(ends.tolist(), dataset.videos, strict=True) if end]
    if short:
        dataset.said_short = True
        stills = sum(end <= dataset.frame_numbers[0] for end, _ in short)
        say("Short", f"{len(short):,} of {len(dataset):,} videos end before frame "
            f"{dataset.frame_numbers[-1]} and hold their last one; the shortest, {min(short)[1]}, has "
            f"{min(short)[0]}" + (f". Of {stills:,} the clip is a still picture" if stills else ""))


def add_epoch(args, history: dict, train: tuple[float, float], test: tuple[float, float], started: float):
    """Add the (loss, accuracy) of an epoch on both sides to the history, and print them in one line."""
    for side, (loss, score) in (("train", train), ("test", test)):
        history[f"{side}_loss"].append(loss)
        history[f"{side}_score"].append(score)
    print(f"Epoch {len(history['test_loss']):>3}/{args.epochs}"
          f"  train loss {train[0]:.4f}  acc {train[1]:6.1%}"
          f"  test loss {test[0]:.4f}  acc {test[1]:6.1%}  {time.time() - started:.0f} s", flush=True)


def plot_curves(file, name: str, history: dict) -> None:
    """Draw loss and accuracy by epoch, the best epoch marked, as a PNG."""
    best, epochs = best_epoch(history), range(1, len(history["test_score"]) + 1)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = (("loss", "loss", 1), ("score", "accuracy (%)", 100))
    for axes, (key, ylabel, scale) in zip(figure.subplots(1, 2), panels, strict=True):
        for side, line, color in (("train", ".--", "#0072B2"), ("test", ".-", "#D55E00")):
            axes.plot(epochs, scale * np.array(history[f"{side}_{key}"]), line, color=color, label=side)
        value = scale * history[f"test_{key}"][best - 1]
        label = f"best epoch {best}: {value:.4g}"
        axes.plot(best, value, "o", ms=10, mfc="none", color="black", label=label)
        axes.set(title=f"{name}: {ylabel}", xlabel="epoch", ylabel=ylabel)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, format="png", dpi=180)


def print_outcome(args: argparse.Namespace, name: str, history: dict, data: Data) -> None:
    """Say where the results are and what to run next."""
    best = best_epoch(history)
    print(f"\nBest    epoch {best}: test accuracy {history['test_score'][best - 1]:.1%}; "
          f"last, epoch {len(history['test_score'])}: {history['test_score'][-1]:.1%}\n"
          "        (the test videos chose the best epoch: report the last one's accuracy)")
    print(f"Output  checkpoints, histories, fig_UCF101_{name}.png in\n        {args.save_model_path}")
    script = Path(__file__).resolve().parent.parent / "check_model_prediction.py"
    if script.exists():
        print(f"Next    python {quote(str(script), '--save_model_path', args.save_model_path)}")


# ------------------------------------------------------------------------------ 11. Demo data

DEMO_ACTIONS = ["MoveLeft", "MoveRight", "Stay", "Sway"]
DEMO_GROUPS, DEMO_CLIPS = 10, 24  # clips of each action in each group
DEMO_FRAMES, DEMO_SIZE = 10, 40  # frames in a clip, and their height and width in pixels


def make_demo_data(data_path: str, action_name_path: str) -> None:
    """Make a small data set in the form of UCF101's frame folders, unless it is there; nothing is downloaded.

    A disc cut from one of scikit-learn's two photographs moves over the other. It may be anywhere along its
    line at any moment, whatever the action (it leaves on one side and comes in on the other), so that no
    single frame gives the action away. All clips of a group take their pictures from about one place.
    """
    if RANK == 0 and not os.path.exists(data_path):
        print(f"Demo    making its videos in\n        {data_path}")
        temporary = Path(f"{data_path}.tmp")  # renamed when complete
        shutil.rmtree(temporary, ignore_errors=True)
        with user_file(data_path):
            temporary.mkdir(parents=True)
            write_demo_videos(temporary)
            with atomic_file(action_name_path) as file:  # before the videos: they tell that all is there
                pickle.dump(DEMO_ACTIONS, file)
            replace(temporary, data_path)
    if TORCHRUN:
        dist.barrier()


def write_demo_videos(data_path: Path) -> None:
    from sklearn.datasets import load_sample_images  # here, as it takes a second

    rng = np.random.default_rng(0)
    photos = load_sample_images().images  # two uint8 (427, 640, 3): a temple, a flower
    for group in range(1, DEMO_GROUPS + 1):
        place = rng.uniform(size=4)
        for action, clip in product(DEMO_ACTIONS, range(1, DEMO_CLIPS + 1)):
            folder = data_path / f"v_{action}_g{group:02d}_c{clip:02d}"
            folder.mkdir()
            background = cut_out(photos[group % 2], 4, place[:2], rng) // 3  # dim
            disc = cut_out(photos[1 - group % 2], 3, place[2:], rng)
            for number, frame in enumerate(demo_clip(action, background, disc, rng), start=1):
                Image.fromarray(frame).save(frame_path(str(folder), number), quality=95)


def cut_out(photo: np.ndarray, shrink: int, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of a photograph near `place` (0..1, down and across), shrunk to the demo's frame size."""
    side = DEMO_SIZE * shrink
    room = np.array(photo.shape[:2]) - side
    y, x = (np.clip(place + rng.uniform(-0.1, 0.1, 2), 0, 1) * room).astype(int)
    return np.asarray(Image.fromarray(photo[y:y + side, x:x + side]).resize((DEMO_SIZE, DEMO_SIZE)))


def demo_clip(action: str, background: np.ndarray, disc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) of a disc over a background, both (H, W, 3)."""
    t, half = np.arange(DEMO_FRAMES), DEMO_SIZE / 2
    start, radius = rng.uniform(0, DEMO_SIZE), rng.uniform(7, 11)  # pixels
    speed = rng.uniform(2, 3.2)  # pixels a frame
    sway = 8 * np.sin(rng.uniform(0, 2 * np.pi) + 2 * np.pi * t / rng.uniform(4, 6))
    x = start + {"MoveLeft": -speed * t, "MoveRight": speed * t, "Stay": 0 * t, "Sway": sway}[action]
    grid_y, grid_x = np.mgrid[:DEMO_SIZE, :DEMO_SIZE]
    v = np.broadcast_to((grid_y - half) / radius, (DEMO_FRAMES, DEMO_SIZE, DEMO_SIZE))  # -1..1 on the disc
    u = ((grid_x - x[:, None, None] + half) % DEMO_SIZE - half) / radius
    row, column = ((np.clip(a, -1, 1) * (half - 1) + half).astype(int) for a in (v, u))
    return np.where((u**2 + v**2 < 1)[..., None], disc[row, column], background)

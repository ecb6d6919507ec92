"""What the three video classification scripts share: data, models, training, checkpoints.

    1. Parameters and errors      parse_args, run, InputError
    2. Actions and labels         load_action_names, labels2cat, labels2onehot, onehot2labels, cat2labels
    3. Videos and splits          list_videos, select_frames, check_frames, split_videos, load_videos
    4. Clips                      read_clip, Dataset_CRNN, Dataset_3DCNN, make_loader
    5. Models                     CNN3D, EncoderCNN, ResCNNEncoder, DecoderRNN, CRNN
    6. Devices                    get_device, parallelize
    7. Training and testing       train_one_epoch, predict, evaluate
    8. Features of a frozen CNN   cached_features, FeatureDataset
    9. Checkpoints                load_checkpoint, save_epoch, resume_training, plot_curves
   10. Progress                   print_epoch, print_outcome
   11. Demo data                  make_demo_data

Shapes: N videos in a batch, T frames, C channels, H height, W width, E embedding, K actions, V videos in all.

This file stands in Conv3D/, CRNN/ and ResNetCRNN/, byte for byte the same, so that each folder works alone.
Edit Conv3D/functions.py, then: cp Conv3D/functions.py CRNN/ && cp Conv3D/functions.py ResNetCRNN/
"""
import argparse
import contextlib
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
import time
import zipfile
from collections.abc import Callable
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from tqdm import tqdm

# Ask Linux for huge pages for large tensors, before the first one: halves the time of a Conv3D step on a CPU
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# torchrun starts one process for each GPU and tells each its number, 0 to WORLD_SIZE - 1
TORCHRUN = "WORLD_SIZE" in os.environ
RANK, WORLD_SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

# ------------------------------------------------------------------------------ 1. Parameters and errors


class InputError(Exception):
    """Something the user can put right: run() prints it without a traceback and exits with status 1."""


WORKER_DIED = "DataLoader worker (pid"  # torch raises this anywhere in the main process
MAY_BE_ZERO = ("seed", "num_workers", "dropout")


def parse_args(doc: str, parameters: dict, demo: dict | None = None) -> argparse.Namespace:
    """Turn each name=(default, help[, choices]) into a flag --name; with --demo, `demo` replaces defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=HelpFormatter, allow_abbrev=False)
    for name, (default, text, *choices) in parameters.items():
        if isinstance(default, bool):
            kind = dict(action=argparse.BooleanOptionalAction)  # --resume, --no-resume
        elif choices:
            kind = dict(type=type(default), choices=choices[0])
        else:
            kind = dict(type=type(default), metavar=type(default).__name__)
        parser.add_argument(f"--{name}", default=default, help=text, **kind)
    args = parser.parse_args()
    if demo and args.demo:
        parser.set_defaults(**demo)  # a value given on the command line still wins
        args = parser.parse_args()
    for name in vars(args):
        if name.endswith("_path"):
            setattr(args, name, os.path.abspath(getattr(args, name)))
    # torchrun's processes on one machine share out its cores
    args.num_workers = math.ceil(args.num_workers / int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    for name, value in vars(args).items():
        limit = 1 if name == "dropout" else 2**31
        if type(value) in (int, float) and not (0 < value < limit or value == 0 and name in MAY_BE_ZERO):
            parser.error(f"argument --{name}: {value} is out of range")
    return args


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keep the line breaks of the script's docstring and show every default that there is."""

    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


def run(main: Callable[[], None], resumes: bool = True) -> None:
    """Run a script: a user's mistake ends in one line and status 1, Ctrl-C in how to go on and status 130."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a log file is written as it goes, too
    try:
        main()
        if TORCHRUN:
            dist.destroy_process_group()
            leave("", 0)
    except (InputError, OSError) as error:  # from a worker process it comes wrapped in that one's traceback
        leave("Error: " + str(error).rpartition("InputError: ")[2].strip(), 1)
    except RuntimeError as error:
        if WORKER_DIED in str(error):
            leave("Error: a process that reads videos was killed, mostly for want of memory: lower "
                  "--num_workers or --batch_size", 1)
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            leave("Error: the memory is full: lower --batch_size or the size of the frames", 1)
        raise
    except KeyboardInterrupt:
        again = quote(*sys.argv, *["--resume"] * ("--resume" not in sys.argv))
        again = f"torchrun ... {again}" if TORCHRUN else f"python {again}"
        how = f" The finished epochs are saved; go on with\n  {again}" if resumes else ""
        leave(f"\nInterrupted.{how}" * (RANK == 0), 130)


def leave(message: str, status: int) -> None:
    """End this process with a message.

    Under torchrun it ends at once. After an error an orderly end may wait for the other processes, which wait
    for this one; after a good run it may abort, as the threads of torch.distributed still hold tensors.
    """
    print(message, end="\n" * bool(message), file=sys.stderr, flush=True)
    if TORCHRUN:
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def quote(*words: str) -> str:
    """Words as one command line, for this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


# ------------------------------------------------------------------------------ 2. Actions and labels


class ListUnpickler(pickle.Unpickler):
    """Unpickle lists and strings only: a pickle can run any code by naming a class or function in it."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def load_action_names(path: str) -> list[str]:
    """Read a pickled list of str, the action names. Raises InputError for anything else."""
    try:
        with open(path, "rb") as file:
            names = ListUnpickler(file).load()
    except OSError as error:
        raise InputError(f"--action_name_path {path}: {error.strerror}; the README shows how to write one")
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(f"--action_name_path {path} is not a pickled list of str ({error}); the README "
                         "shows how to write one")
    if type(names) is not list or not names or not all(type(name) is str for name in names):
        raise InputError(f"{path} is not a pickled list of str; the README shows how to write one")
    if len({name.casefold() for name in names}) < len(names):
        raise InputError(f"{path} names an action twice (upper and lower case are the same action)")
    return names


def labels2cat(label_encoder, labels):
    """Action names to class indices, (V,) int."""
    return label_encoder.transform(labels)


def labels2onehot(one_hot_encoder, label_encoder, labels):
    """Action names to one-hot rows, (V, K) float."""
    return one_hot_encoder.transform(label_encoder.transform(labels).reshape(-1, 1)).toarray()


def onehot2labels(label_encoder, y_onehot):
    """One-hot rows (V, K) to a list of action names."""
    return label_encoder.inverse_transform(np.argmax(y_onehot, axis=1)).tolist()


def cat2labels(label_encoder, y_cat):
    """Class indices (V,) to a list of action names."""
    return label_encoder.inverse_transform(y_cat).tolist()


# ------------------------------------------------------------------------------ 3. Videos and splits

VIDEO_NAME = re.compile(r"v_(?P<action>.+)_g(?P<group>[0-9]+)_c[0-9]+")  # v_Biking_g05_c02
VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm")
OFFICIAL_TEST_GROUPS = {"official1": range(1, 8), "official2": range(8, 15), "official3": range(15, 22)}
SPLITS = ("random", "group", *OFFICIAL_TEST_GROUPS)


class Video(NamedTuple):
    name: str  # v_<Action>_gNN_cNN
    path: str  # a folder of frames, or a video file
    action: str  # as the action list spells it
    group: int  # clips of one group were cut from one source: same person, same scene


def frame_path(folder: str, number: int) -> str:
    return os.path.join(folder, f"frame{number:06d}.jpg")


def count_frames(folder: str) -> int:
    return sum(re.fullmatch(r"frame[0-9]{6}\.jpg", name) is not None for name in os.listdir(folder))


def find_videos(folder: str, depth: int = 1):
    """Yield (name, path) of what is or looks like a video in a folder and in the class folders below it."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        stem, suffix = os.path.splitext(entry.name)
        if entry.name.startswith("."):  # .DS_Store, and the ._* that macOS leaves beside each file
            continue
        if not entry.is_dir():
            if suffix.lower() in VIDEO_SUFFIXES:
                yield stem, entry.path
        elif VIDEO_NAME.fullmatch(entry.name) or os.path.exists(frame_path(entry.path, 1)):
            yield entry.name, entry.path
        elif depth:
            yield from find_videos(entry.path, depth - 1)


def list_videos(data_path: str, action_names: list[str]) -> list[Video]:
    """List the videos under data_path by name. A video stored both ways counts once.

    Raises InputError if there is none, or one whose action is not in action_names.
    """
    if not os.path.isdir(data_path):
        raise InputError(f"{data_path} is not a folder: give the folder of the videos by --data_path (--demo "
                         "needs none)")
    spelling = {name.casefold(): name for name in action_names}  # the files say HandStandPushups
    videos, misnamed, unknown = {}, [], set()
    for name, path in find_videos(data_path):
        match = VIDEO_NAME.fullmatch(name)
        if not match:
            misnamed.append(path)
        elif action := spelling.get(match["action"].casefold()):
            videos.setdefault(name.casefold(), Video(name, path, action, int(match["group"])))
        else:
            unknown.add(match["action"])
    if misnamed:
        print(f"Skipped {len(misnamed)} not named v_<Action>_gNN_cNN, such as {', '.join(misnamed[:3])}")
    if unknown:
        raise InputError(f"{data_path} has actions that are not in the list (of --action_name_path or of the "
                         f"checkpoint): {', '.join(sorted(unknown))}")
    if not videos:
        raise InputError(f"{data_path} holds no video: no v_<Action>_gNN_cNN folder of frames or video file")
    return sorted(videos.values())


def select_frames(args: argparse.Namespace) -> list[int]:
    """Return the numbers of the frames of a clip. Frame 1 is a video's first; end_frame is not taken."""
    if args.begin_frame >= args.end_frame:
        raise InputError(f"--begin_frame {args.begin_frame} must be below --end_frame {args.end_frame}")
    return list(range(args.begin_frame, args.end_frame, args.skip_frame))


def check_frames(videos: list[Video], frames: list[int]) -> None:
    """Raise InputError if a folder has too few frames or a file is empty.

    A file's frames are counted when it is decoded, in read_clip.
    """
    last, short = frames[-1], []
    for path in (video.path for video in videos):
        if os.path.isfile(path):
            if os.path.getsize(path) == 0:
                raise InputError(f"{path} is an empty file: fetch it again or remove it")
        elif not os.path.exists(frame_path(path, last)):
            count = count_frames(path)  # slow, so only here
            if count == 0:
                raise InputError(f"{path} holds no frames: they are named frame000001.jpg, and so on")
            if count < last:  # else a frame is missing in between, and another stands in
                short.append(f"{path} has {count} frames")
    if short:
        raise InputError(f"{short[0]}, frame {last} is asked for: remove it, or train with a lower "
                         f"--end_frame ({len(short)} such in all)")


def split_videos(videos: list[Video], split: str, seed: int) -> tuple[list[Video], list[Video]]:
    """Divide the videos into (train, test).

    random: a quarter of the videos, as the original tutorial; group: the videos of a quarter of the groups;
    official1..3: the test lists published with UCF101 (http://crcv.ucf.edu/data/UCF101.php), by group.
    """
    if split == "random" and len(videos) > 1:
        train, test = train_test_split(videos, test_size=0.25, random_state=seed)
    else:
        groups = sorted({video.group for video in videos})
        quarter = np.random.default_rng(seed).permutation(groups)[:max(1, round(len(groups) / 4))]
        test_groups = set(OFFICIAL_TEST_GROUPS.get(split, quarter.tolist()))
        train = [video for video in videos if video.group not in test_groups]
        test = [video for video in videos if video.group in test_groups]
    if not train or not test:
        raise InputError(f"--split {split} puts {len(train)} of the {len(videos)} videos in training and "
                         f"{len(test)} in the test: take another --split or more videos")
    return train, test


def load_videos(args: argparse.Namespace) -> tuple[list[Video], list[Video], list[str]]:
    """Find, check and split the videos, and say what was found. Returns (train, test, action names by class).

    Raises InputError as load_action_names, list_videos, check_frames and split_videos do.
    """
    frames = select_frames(args)
    action_names = sorted(load_action_names(args.action_name_path))  # the order of a LabelEncoder's classes
    videos = list_videos(args.data_path, action_names)
    check_frames(videos, frames)
    train, test = split_videos(videos, args.split, args.seed)
    count, listed = len({video.action for video in videos}), len(action_names)
    actions = f"{count} actions" if count == listed else f"{count} of the {listed} actions listed"
    print(f"Data    {len(videos):,} videos of {actions}, "
          f"frames {frames[0]} to {frames[-1]} ({len(frames)}), in\n        {args.data_path}")
    print(f"Split   {args.split}: {len(train):,} videos to train on, {len(test):,} to test on")
    sources = {(video.action, video.group) for video in train}
    leaked = sum((video.action, video.group) in sources for video in test) / len(test)
    if leaked:
        print(f"        {leaked:.1%} of the test videos have a sibling from the same source in\n"
              "        training: not a fair test. --split group is, and for UCF101 official1")
    return train, test, action_names


# ------------------------------------------------------------------------------ 4. Clips


def read_frame_folder(folder: str, frames: list[int], channels: int):
    """Yield frames as arrays, uint8, (H, W, C), C = 3 colour or 1 grey; None for an unreadable one."""
    mode = "RGB" if channels == 3 else "L"
    for number in frames:
        try:
            with Image.open(frame_path(folder, number), formats=["JPEG"]) as image:
                pixels = np.asarray(image if image.mode == mode else image.convert(mode))
                pixels = pixels.reshape(image.height, image.width, channels)
        except Exception:  # damaged data can raise nearly anything
            pixels = None
        yield pixels


def read_video_file(path: str, frames: list[int], channels: int):
    """Decode a video file from its start to the last frame asked for. Yields what read_frame_folder does."""
    pixel_format, converter = "rgb24" if channels == 3 else "gray", VideoReformatter()
    decoded, left = 0, len(frames)
    try:
        with av.open(path) as container:
            expected = container.streams.video[0].frames  # 0 where the container does not say
            for frame in container.decode(video=0):
                decoded += 1
                if decoded in frames:
                    pixels = converter.reformat(frame, format=pixel_format).to_ndarray()
                    pixels = pixels.reshape(frame.height, frame.width, channels)
                    yield np.rot90(pixels, frame.rotation // 90)  # a phone held upright
                    left -= 1
                if left == 0:
                    return
    except (av.FFmpegError, OSError, LookupError, ValueError):  # damaged, or no video at all
        pass
    else:
        if expected < frames[-1]:
            raise InputError(f"{path} has {decoded} frames, frame {frames[-1]} is asked for: "
                             "remove it, or train with a lower --end_frame")
    yield from [None] * left


def read_clip(path: str, frames: list[int], img_x: int, img_y: int, channels: int = 3):
    """Read frames of a frame folder or video file, resized as Pillow's bilinear does, within 1/255.

    Where a frame cannot be read, the nearest one of the clip that can stands in; InputError if none can.

    Returns:
        clip: uint8, (T, C, img_x, img_y), 0..255, C = 3 colour or 1 grey
        unreadable: the numbers of the frames that could not be read, list of int
    """
    read = read_frame_folder if os.path.isdir(path) else read_video_file
    images = dict(zip(frames, read(path, frames, channels)))
    readable = [number for number in frames if images[number] is not None]
    if not readable:
        raise InputError(f"{path}: none of its frames {frames[0]} to {frames[-1]} can be read; "
                         "remove it or fetch it again")
    images = [images[min(readable, key=lambda other: abs(other - number))] for number in frames]
    clip = []
    for _, same_size in groupby(images, key=np.shape):  # all frames in one call, if they are of one size
        X = torch.from_numpy(np.stack(list(same_size))).permute(0, 3, 1, 2)  # (T, C, H, W)
        clip.append(F.interpolate(X, size=(img_x, img_y), mode="bilinear", antialias=True))
    return clip[0] if len(clip) == 1 else torch.cat(clip), sorted(set(frames) - set(readable))


class Dataset_CRNN(Dataset):
    """Clips as (X, y): X uint8 (T, C, img_x, img_y), y the class index."""

    def __init__(self, videos: list[Video], labels, frames: list[int], img_x: int, img_y: int, channels=3):
        self.videos, self.labels, self.frames = videos, labels, frames
        self.img_x, self.img_y, self.channels = img_x, img_y, channels
        self.reported = torch.zeros(len(videos), dtype=torch.bool).share_memory_()  # once, by any worker

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        video = self.videos[index]
        X, unreadable = read_clip(video.path, self.frames, self.img_x, self.img_y, self.channels)
        if unreadable and not self.reported[index]:
            self.reported[index] = True
            numbers = ", ".join(map(str, unreadable))
            print(f"\n{video.path}: frame {numbers} cannot be read; the nearest readable one stands in",
                  file=sys.stderr, flush=True)
        return X, int(self.labels[index])


class Dataset_3DCNN(Dataset_CRNN):
    """Clips as (X, y): X uint8 (C, T, img_x, img_y), y the class index."""

    def __getitem__(self, index):
        X, y = super().__getitem__(index)
        return X.transpose(0, 1), y


def make_loader(dataset: Dataset, args: argparse.Namespace, shuffle: bool, num_workers: int) -> DataLoader:
    """Batches of this process: batch_size is the whole batch, shared out among the processes of torchrun.

    Shuffled, every process gets the same number of clips; else each clip goes to exactly one process.
    """
    if args.batch_size % WORLD_SIZE:
        raise InputError(f"--batch_size {args.batch_size} cannot be shared out evenly among "
                         f"{WORLD_SIZE} processes")
    if shuffle:
        sampler = DistributedSampler(dataset, WORLD_SIZE, RANK, seed=args.seed)
    else:
        sampler = range(RANK, len(dataset), WORLD_SIZE)
    return DataLoader(dataset, args.batch_size // WORLD_SIZE, sampler=sampler, num_workers=num_workers,
                      persistent_workers=num_workers > 0, pin_memory=torch.cuda.is_available(),
                      worker_init_fn=ignore_interrupt,
                      generator=torch.Generator())  # or starting workers would draw dropout's random numbers


def ignore_interrupt(worker_id: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# ------------------------------------------------------------------------------ 5. Models

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


# The original calls the 2D CNN once a frame, and each call moves BatchNorm's running statistics by 0.01.
# Folded into the batch, 28 frames make one call: to move the statistics as fast it takes 1 - 0.99^28.
BN_MOMENTUM = 1 - 0.99**28


def conv2d_block(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size, stride=2),
                         nn.BatchNorm2d(out_channels, momentum=BN_MOMENTUM), nn.ReLU(inplace=True))


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

    def forward(self, X):
        N, T = X.shape[:2]
        X = X.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (N*T, 3, H, W)
        X = self.conv4(self.conv3(self.conv2(self.conv1(self.normalize(X)))))
        X = F.relu(self.fc1(X.flatten(1)))
        X = self.drop(F.relu(self.fc2(X)))
        return self.fc3(X).view(N, T, -1)  # (N, T, E)


def load_resnet152(weights: str) -> nn.Module:
    """ResNet-152 (https://arxiv.org/abs/1512.03385) with weights of a file, of torchvision's, or "none".

    Raises InputError where the weights cannot be had, saying what to do.
    """
    from torchvision.models import get_model, get_model_weights  # here, as it takes a second

    # untrained, 50 blocks add up to features of 1e8, too large for float16, unless each begins as identity
    resnet = get_model("resnet152", weights=None, zero_init_residual=weights == "none")
    published = get_model_weights("resnet152").__members__
    if weights == "none":
        return resnet
    if os.path.exists(weights):
        state = load_checkpoint(weights)
    elif weights in published:
        try:
            state = published[weights].get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:  # no network, or a download whose hash is wrong
            raise InputError(f"no download of the ResNet-152 weights ({first_line(error)}): fetch "
                             f"{published[weights].url} elsewhere and name it by --resnet_weights FILE")
    else:
        raise InputError(f"--resnet_weights {weights} is no file and none of {', '.join(published)}, none")
    load_weights(resnet, state, weights)
    return resnet


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
        chunks = [self.resnet(self.normalize(x)).flatten(1) for x in X.split(128)]  # a bound on memory
        return torch.cat(chunks).view(N, T, -1)  # (N, T, 2048)

    def forward(self, X, only_features: bool = False):
        N, T = X.shape[:2]
        if X.ndim == 5:
            X = self.features(X)
        if only_features:
            return X
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

    def forward(self, X, only_features: bool = False):
        with autocast(X):
            if only_features:
                return self.encoder(X, only_features=True)
            return self.decoder(self.encoder(X)).float()


# ------------------------------------------------------------------------------ 6. Devices


def get_device() -> torch.device:
    """Choose CUDA or the CPU. Under torchrun: join its processes, of which rank 0 alone prints.

    Not Apple's MPS, where Conv3d has been silently wrong and BatchNorm3d has crashed
    (https://github.com/pytorch/pytorch/issues/197114, .../190645).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if TORCHRUN:
        backend, gpu = "gloo", None
        if device.type == "cuda":
            backend, gpu = "nccl", torch.device("cuda", int(os.environ["LOCAL_RANK"]))
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
            sys.stdout = open(os.devnull, "w")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
        torch.backends.cudnn.benchmark = True
        hardware = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    else:
        hardware = f"CPU, {torch.get_num_threads()} threads"
    print(f"Device  {hardware}" + f", {WORLD_SIZE} processes" * TORCHRUN)
    return device


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


# ------------------------------------------------------------------------------ 7. Training and testing


def progress_bar(loader, text: str) -> tqdm:
    """A bar that goes when it is full; none where the output is no terminal, one for all processes."""
    return tqdm(loader, desc=text, leave=False, disable=None if RANK == 0 else True)


def train_one_epoch(model, device, train_loader, optimizer, epoch: int, args: argparse.Namespace):
    """Train on every clip once. Returns (mean loss, accuracy in 0..1) over the epoch, dropout on."""
    # every epoch from its own seed: a resumed run draws the dropout that the unbroken one would have
    torch.manual_seed(args.seed + epoch + 1_000_000 * RANK)
    train_loader.sampler.set_epoch(epoch)
    model.train()
    sums = torch.zeros(2, device=device)  # of losses and of right answers; there, no step waits for them
    bar = progress_bar(train_loader, f"Epoch {epoch + 1}/{args.epochs} train")
    for step, (X, y) in enumerate(bar, start=1):
        X, y = X.to(device, non_blocking=True), y.to(device, non_blocking=True)
        logits = model(X)  # (N, K)
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sums += torch.stack([loss.detach() * len(y), (logits.argmax(1) == y).sum()])
        if step % args.log_interval == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
    if TORCHRUN:
        dist.all_reduce(sums)
    (loss, correct), clips = sums.tolist(), train_loader.sampler.total_size  # clips of all processes
    if not math.isfinite(loss):
        raise InputError(f"the loss of epoch {epoch + 1} is {loss}: lower --learning_rate")
    return loss / clips, correct / clips


@torch.no_grad()
def predict(model, device, loader, text: str = "Predict") -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model in eval mode. Returns logits (V, K) float32, labels (V,): this process's, on the CPU."""
    model.eval()
    if TORCHRUN:
        model = model.module  # DistributedDataParallel would wait for processes that have fewer batches
        for buffer in model.buffers():  # each has BatchNorm statistics of its own: take those that are saved
            dist.broadcast(buffer, 0)
    logits, labels = [], []
    for X, y in progress_bar(loader, text):
        logits.append(model(X.to(device, non_blocking=True)))
        labels.append(y)
    if not logits:  # more processes than videos
        return torch.empty(0, 1), torch.empty(0, dtype=torch.long)
    return torch.cat(logits).cpu(), torch.cat(labels)


def evaluate(model, device, test_loader) -> tuple[float, float]:
    """Test on every clip once, whatever the number of processes. Returns (mean loss, accuracy in 0..1)."""
    logits, y = predict(model, device, test_loader, "Test")
    loss = F.cross_entropy(logits.double(), y, reduction="sum")
    sums = torch.stack([loss, (logits.argmax(1) == y).sum(), torch.tensor(len(y))]).to(device)
    if TORCHRUN:
        dist.all_reduce(sums)
    loss, correct, clips = sums.tolist()
    return loss / clips, correct / clips


# ------------------------------------------------------------------------------ 8. Features of a frozen CNN

VIDEOS_PER_FILE = 16


def cached_features(args: argparse.Namespace, model: nn.Module, videos: list[Video], device) -> dict:
    """Compute the frozen ResNet's features of every clip once, and keep them on disk in half precision.

    They lie in save_model_path, in a folder named by a hash of all they depend on, so other videos, frames,
    sizes or weights never meet old features. Each file holds 16 videos and is written whole, so that an
    interrupted run goes on where it was; the processes of torchrun share the work.

    Returns: {video name: float16 tensor (T, 2048)}, mapped from disk, not read into memory
    """
    videos, frames = sorted(videos), select_frames(args)
    states = [file_state(video, frames) for video in videos]
    digest = hashlib.sha256(repr(("v1", args.res_size, frames, states)).encode())
    for tensor in model.module.encoder.resnet.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    folder = Path(args.save_model_path) / f"features_{digest.hexdigest()[:16]}"
    indices = range(len(videos))
    parts = {folder / f"{start // VIDEOS_PER_FILE:05d}.pt": indices[start:start + VIDEOS_PER_FILE]
             for start in indices[::VIDEOS_PER_FILE]}
    count = sum(len(part) for path, part in parts.items() if not path.exists())
    if count:
        print(f"Cache   the ResNet-152 features of {count:,} videos, in\n        {folder}")
        folder.mkdir(exist_ok=True)
        missing = [path for path in list(parts)[RANK::WORLD_SIZE] if not path.exists()]
        dataset = Dataset_CRNN(videos, [0] * len(videos), frames, args.res_size, args.res_size)
        loader = DataLoader(dataset, batch_sampler=[parts[path] for path in missing],
                            num_workers=args.num_workers, pin_memory=torch.cuda.is_available(),
                            worker_init_fn=ignore_interrupt)
        extract = model.module.eval() if TORCHRUN else model.eval()  # unequal shares: no DDP
        for path, (X, _) in zip(missing, progress_bar(loader, "Features")):
            X = X.to(device, non_blocking=True)
            features = extract(X, True).half().cpu()  # DataParallel fails on keywords if clips are few
            write_atomically(path, lambda file: torch.save(features, file))
    if TORCHRUN:
        dist.barrier()
    try:
        clips = [clip for path in parts for clip in torch.load(path, weights_only=True, mmap=True)]
    except Exception as error:  # damaged data can raise nearly anything
        raise InputError(f"{folder} is damaged ({first_line(error)}): remove it, to have it computed anew")
    return {video.name: clip for video, clip in zip(videos, clips)}


def file_state(video: Video, frames: list[int]) -> tuple:
    """What tells that a clip has changed: the sizes and times of its file, or of its frames' files."""
    paths = [video.path]
    if os.path.isdir(video.path):
        paths = [frame_path(video.path, number) for number in frames]
    return video.name, [(s.st_size, s.st_mtime_ns) for s in map(os.stat, filter(os.path.exists, paths))]


class FeatureDataset(Dataset):
    """Cached features as (X, y): X float16 (T, 2048), y the class index. Fast enough without workers."""

    def __init__(self, features: dict, videos: list[Video], labels):
        self.features, self.labels = [features[video.name] for video in videos], labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.features[index], int(self.labels[index])


# ------------------------------------------------------------------------------ 9. Checkpoints

HISTORIES = ("train_loss", "train_score", "test_loss", "test_score")
# parameters that a resumed run may change: the rest decide what is learnt
MAY_CHANGE = {"data_path", "action_name_path", "save_model_path", "epochs", "num_workers", "log_interval",
              "resume", "demo", "cache_features"}


def write_atomically(path: str | Path, write: Callable) -> None:
    """Write a file whole or not at all: under another name, flushed to the disk, then renamed."""
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
        Path(temporary).unlink(missing_ok=True)
        if WORKER_DIED in str(error):
            raise
        raise InputError(f"{path} could not be written ({first_line(error)}). What was saved before is as it "
                         "was; if the disk is full, make room (a training run goes on with --resume)")


def replace(temporary: str | Path, path: str | Path) -> None:
    """os.replace, but wait for a virus scanner or a viewer that has the file open, as on Windows they do."""
    for seconds in (0.1, 1, 10):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            time.sleep(seconds)
    os.replace(temporary, path)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def load_checkpoint(path: str | Path, *keys: str, only_values: bool = False) -> dict:
    """Load a dict that torch.save wrote, on the CPU. Raises InputError if it is damaged or lacks a key.

    weights_only admits tensors and plain values, no code. The sums in the zip file tell a flipped bit.
    only_values leaves tensors on the disk, unchecked, for a quick look at the rest.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=only_values or None)
        if not only_values and zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip():
            checkpoint = None
    except Exception:  # damaged data can raise nearly anything
        checkpoint = None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= set(keys):
        raise InputError(f"{path} is damaged or no checkpoint")
    return checkpoint


def load_weights(model: nn.Module, state: dict, path: str | Path) -> None:
    """model.load_state_dict, but a model of other layers or sizes is an InputError."""
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not fit this model: {' '.join(str(error).split())[:200]}")


def saved_epochs(folder: str | Path, name: str) -> list[int]:
    """The epochs that have a model file <name>_epoch<epoch>.pth, in order."""
    matches = (re.fullmatch(rf"{name}_epoch([0-9]+)\.pth", path.name) for path in Path(folder).glob("*.pth"))
    return sorted(int(match[1]) for match in matches if match)


def best_epoch(history: dict) -> int:
    """The epoch, from 1, of the highest test accuracy; among equals, of the lowest test loss."""
    ranks = [(score, -loss) for score, loss in zip(history["test_score"], history["test_loss"])]
    return ranks.index(max(ranks)) + 1


def save_epoch(args, name: str, model, optimizer, history: dict, action_names: list, test: list) -> None:
    """Write the newest epoch of `history` into save_model_path; drop the epochs neither best nor last.

    The optimizer goes first, so a model file stands for a complete epoch, whenever the run is killed.
    """
    if RANK > 0:
        return
    folder, epoch = Path(args.save_model_path), len(history["test_score"])
    write_atomically(folder / f"{name}_optimizer_epoch{epoch}.pth", lambda file: torch.save(
        {"optimizer": optimizer.state_dict(), "history": history, "epoch": epoch}, file))
    write_atomically(folder / f"{name}_epoch{epoch}.pth", lambda file: torch.save(
        {"model": model.module.state_dict(), "args": vars(args), "action_names": action_names, "epoch": epoch,
         "test_loss": history["test_loss"][-1], "test_score": history["test_score"][-1],
         "test_videos": [video.name for video in test]}, file))
    save_histories(folder, name, history)
    best = best_epoch(history)
    keep = {best, epoch} if best < epoch else {epoch - 1, epoch}  # always two: one may be damaged
    for path in folder.glob(f"{name}_*epoch*.pth*"):
        match = re.fullmatch(rf"{name}_(optimizer_)?epoch([0-9]+)\.pth(\.tmp)?", path.name)
        if match and (match[3] or not args.keep_all_epochs and int(match[2]) not in keep):
            with contextlib.suppress(PermissionError):  # on Windows, if open elsewhere: after the next epoch
                path.unlink()


def save_histories(folder: Path, name: str, history: dict) -> None:
    for key in HISTORIES:
        write_atomically(folder / f"epoch_{key}.npy", lambda file: np.save(file, np.array(history[key])))
    plot_curves(folder / f"fig_UCF101_{name}.png", name, history)


def plot_curves(path: Path, name: str, history: dict) -> None:
    """Draw loss and accuracy by epoch, the best epoch marked, as a PNG."""
    best, epochs = best_epoch(history), range(1, len(history["test_score"]) + 1)
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = (("loss", "loss", 1), ("score", "accuracy (%)", 100))
    for axes, (key, ylabel, scale) in zip(figure.subplots(1, 2), panels):
        for side, line, color in (("train", ".--", "#0072B2"), ("test", ".-", "#D55E00")):
            axes.plot(epochs, scale * np.array(history[f"{side}_{key}"]), line, color=color, label=side)
        value = scale * history[f"test_{key}"][best - 1]
        label = f"best epoch {best} (by accuracy): {value:.4g}"
        axes.plot(best, value, "o", ms=10, mfc="none", color="black", label=label)
        axes.set(title=f"{name}: {ylabel}", xlabel="epoch", ylabel=ylabel)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))


def resume_training(args, name: str, model, optimizer, action_names: list[str], test: list[Video]) -> dict:
    """Load the last undamaged epoch under --resume. Returns the history so far, a number for each epoch.

    Raises InputError rather than overwrite a run without --resume, or go on with a run of other parameters.
    """
    folder = Path(args.save_model_path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # can be written to
    except OSError as error:
        raise InputError(f"--save_model_path {folder}: {error.strerror}")
    epochs = saved_epochs(folder, name)
    others = sorted(path.name for path in folder.glob("*_epoch*.pth") if not path.name.startswith(f"{name}_"))
    if others:
        raise InputError(f"{folder} holds {others[0]}: choose another --save_model_path")
    if epochs and not args.resume:
        raise InputError(f"{folder} holds {name}_epoch{epochs[-1]}.pth: go on with --resume, or begin "
                         "again in another --save_model_path")
    for epoch in reversed(epochs):
        path = folder / f"{name}_epoch{epoch}.pth"
        try:
            checkpoint = load_checkpoint(path, "model", "args", "action_names", "test_videos")
            rest = load_checkpoint(folder / f"{name}_optimizer_epoch{epoch}.pth", "optimizer", "history")
        except InputError as error:
            print(f"{error}: trying the epoch before")
            continue
        refuse_changes(args, checkpoint, action_names, test, path)
        load_weights(model.module, checkpoint["model"], path)
        optimizer.load_state_dict(rest["optimizer"])
        if RANK == 0:
            save_histories(folder, name, rest["history"])
        print(f"Resume  after epoch {epoch}, from {path}")
        if epoch >= args.epochs:
            print("        Nothing is left to train: raise --epochs to go on")
        return rest["history"]
    if epochs:
        raise InputError(f"no checkpoint in {folder} can be read: remove them to begin again")
    return {key: [] for key in HISTORIES}


def refuse_changes(args, checkpoint: dict, action_names: list[str], test: list[Video], path: Path) -> None:
    """Raise InputError if a parameter or the data that decide what is learnt are not the checkpoint's."""
    saved = checkpoint["args"]
    changed = [f"--{key} {saved.get(key)} -> {value}" for key, value in vars(args).items()
               if key not in MAY_CHANGE and saved.get(key) != value]
    if checkpoint["action_names"] != action_names:
        changed.append("the action names")
    elif not changed and set(checkpoint["test_videos"]) != {video.name for video in test}:
        changed.append("the test videos")
    if changed:
        raise InputError(f"{path} was trained with other parameters ({', '.join(changed)}): "
                         "give those again, or choose another --save_model_path")


# ------------------------------------------------------------------------------ 10. Progress


def print_epoch(args, history: dict, started: float) -> None:
    """One line on the newest epoch."""
    train_loss, train_score, test_loss, test_score = (history[key][-1] for key in HISTORIES)
    print(f"Epoch {len(history['test_loss']):>3}/{args.epochs}"
          f"  train loss {train_loss:.4f}  acc {train_score:6.1%}"
          f"  test loss {test_loss:.4f}  acc {test_score:6.1%}  {time.time() - started:.0f} s", flush=True)


def print_outcome(args, name: str, history: dict) -> None:
    """Say where the results are and what to run next."""
    best, where = best_epoch(history), " --demo" * args.demo
    if any(word.startswith("--save_model_path") for word in sys.argv):  # not the default
        where = f" --save_model_path {quote(args.save_model_path)}"
    print(f"\nBest    epoch {best}: test accuracy {history['test_score'][best - 1]:.1%}; "
          f"last, epoch {len(history['test_score'])}: {history['test_score'][-1]:.1%}\n"
          "        (the test videos chose the best epoch: report the last one's accuracy)\n"
          f"Output  checkpoints, histories, fig_UCF101_{name}.png in\n        {args.save_model_path}")
    script = Path(__file__).resolve().parent.parent / "check_model_prediction.py"
    if script.exists():
        with contextlib.suppress(ValueError):  # on Windows, on another drive
            script = os.path.relpath(script)
        print(f"Next    python {quote(str(script))} --model {name}{where}")


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
        temporary.mkdir(parents=True)
        rng = np.random.default_rng(0)
        photos = load_sample_images().images  # two uint8 (427, 640, 3): a temple, a flower
        for group in range(1, DEMO_GROUPS + 1):
            place = rng.uniform(size=4)
            for action in DEMO_ACTIONS:
                for clip in range(1, DEMO_CLIPS + 1):
                    folder = temporary / f"v_{action}_g{group:02d}_c{clip:02d}"
                    folder.mkdir()
                    background = cut_out(photos[group % 2], 4, place[:2], rng) // 3  # dim
                    disc = cut_out(photos[1 - group % 2], 3, place[2:], rng)
                    for number, frame in enumerate(demo_clip(action, background, disc, rng), start=1):
                        Image.fromarray(frame).save(frame_path(str(folder), number), quality=95)
        write_atomically(action_name_path, lambda file: pickle.dump(DEMO_ACTIONS, file))
        replace(temporary, data_path)
    if TORCHRUN:
        dist.barrier()


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

"""The subject of the tutorial: clips as data sets, the three models, training and testing.

    1. Clips                       Dataset_CRNN, Dataset_3DCNN, make_loader
    2. Models                      CNN3D, EncoderCNN, ResCNNEncoder, DecoderRNN, CRNN
    3. Training and testing        augment, train_one_epoch, predict, evaluate
    4. Kept clips and features     keep_arrays, KeptDataset, KeptLoader
    5. Short, unreadable videos    report_short_videos, name_unreadable_videos

Shapes: N videos in a batch, T frames, C channels, H height, W width, E embedding, K actions, V all videos.
As in the original tutorial, img_x is the height of a frame and img_y its width.

A clip is the tensor cut from a video. videos.py finds videos, frames.py reads them, runs.py keeps runs alive.
The file is the same in Conv3D/, CRNN/ and ResNetCRNN/. Edit the one in Conv3D/ and copy it to the others.
"""
import argparse
import contextlib
import copy
import functools
import hashlib
import inspect
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Dataset, DistributedSampler

import runs
from frames import VERSIONS, UnreadableVideo, estimate_frames, read_clips, reading, video_state
from runs import RANK, TORCHRUN, WORLD_SIZE, InputError, report
from videos import Video

# ------------------------------------------------------------------------------ 1. Clips


def select_frames(args: argparse.Namespace) -> list[int]:
    """Return the frame numbers of a clip. The first frame of a video is 1; end_frame is left out."""
    if args.begin_frame >= args.end_frame:
        raise InputError(f"--begin_frame {args.begin_frame} must be below --end_frame {args.end_frame}")
    return list(range(args.begin_frame, args.end_frame, args.skip_frame))


def spread_clips(frame_numbers: list[int], clips: int, count: int) -> list[list[int]]:
    """Spread clips evenly over a video of `count` frames, the first at `frame_numbers`. They may overlap."""
    room = max(0, count - frame_numbers[-1])
    shifts = [round(clip * room / max(1, clips - 1)) for clip in range(clips)]
    return [[number + shift for number in frame_numbers] for shift in shifts]


class Dataset_CRNN(Dataset):
    """Clips as (X, y): X uint8 (T, C, img_x, img_y), with input="both" (T, 2C, ...), y the class index.

    With several clips per video, dataset[3, 0] is the first clip of video 3, and dataset[3] is all of them, X
    uint8 (clips, T, C, img_x, img_y).
    """

    def __init__(self, videos: list[Video], frame_numbers: list[int], img_x: int, img_y: int,
                 channels: int = 3, clips: int = 1, input: str = "frames"):
        self.videos, self.frame_numbers, self.clips, self.input = videos, frame_numbers, clips, input
        self.img_x, self.img_y, self.channels = img_x, img_y, channels
        # of each video: its number of frames (0: unknown), its last frame if it is shorter than a clip, and
        # whether its unreadable frames are reported
        self.notes = torch.zeros(3, len(videos), dtype=torch.int32)
        self.counts, self.ends, self.reported = self.notes
        self.short_reported = False

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        index, clip = index if isinstance(index, tuple) else (index, None if self.clips > 1 else 0)
        clips = spread_clips(self.frame_numbers, self.clips, int(self.counts[index]))
        label, counted = self.videos[index].label, self.clips == 1 or self.counts[index] > 0
        if counted and clip is not None:
            with contextlib.suppress(UnreadableVideo):  # then frames of other clips replace its own
                return next(self.read(index, [clips[clip]]))[0], label
        X = [X for X, _ in self.read(index, clips)] if counted else self.read_and_count(index)
        return torch.stack(X) if clip is None else X[clip], label

    def read(self, index: int, clips: list[list[int]]) -> Iterator[tuple[torch.Tensor, int]]:
        """Yield (X, number of the last frame) of clips of a video, given by their frame numbers."""
        video = self.videos[index]
        clips = [self.add_next(numbers) for numbers in clips]
        for X, unreadable, end in read_clips(video.path, clips, self.img_x, self.img_y, self.channels,
                                             (video.start, video.end)):
            if end < self.frame_numbers[-1]:
                self.ends[index] = end
            if unreadable and not self.reported[index]:
                self.reported[index] = True
                numbers = ", ".join(map(str, unreadable))
                print(f"\n{video.path}: frame {numbers} cannot be read; the nearest readable one replaces it",
                      file=sys.stderr, flush=True)
            yield self.arrange(X), end

    def add_next(self, numbers: list[int]) -> list[int]:
        """Add the frame that the last difference needs to the frame numbers of a clip."""
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        return numbers if self.input == "frames" else [*numbers, numbers[-1] + step]

    def arrange(self, X: torch.Tensor) -> torch.Tensor:
        """Turn the frames of add_next, uint8 (T or T + 1, C, H, W), into what the model sees."""
        if self.input == "frames":
            return X
        # 128: no change. This hides the scene, as "RGB difference" in https://arxiv.org/abs/1608.00859
        differences = (X[1:].short() - X[:-1]).clamp(-127, 127).add(128).byte()
        return differences if self.input == "differences" else torch.cat([X[:-1], differences], dim=1)

    def read_and_count(self, index: int) -> list[torch.Tensor]:
        """Read all clips of a video for the first time, and count its frames on the way."""
        video = self.videos[index]
        count = estimate_frames(video.path, (video.start, video.end))
        X, end = self.read_spread(index, count)
        if end != count:  # the packets of some files are not their frames
            X, end = self.read_spread(index, end)
        self.counts[index] = end
        return X

    def read_spread(self, index: int, count: int) -> tuple[list[torch.Tensor], int]:
        """Read clips spread over `count` frames, and on to the end. Returns (clips, the number of frames)."""
        clips = spread_clips(self.frame_numbers, self.clips, count)
        *X, (_, end) = self.read(index, [*clips, [2**31]])  # a frame beyond the end of any video
        return [X for X, _ in X], end


class Dataset_3DCNN(Dataset_CRNN):
    """Clips as (X, y): X uint8 (C, T, img_x, img_y), or (clips, C, T, img_x, img_y), y the class index."""

    def arrange(self, X: torch.Tensor) -> torch.Tensor:
        return super().arrange(X).transpose(0, 1)


class ClipSampler(DistributedSampler):
    """Shuffle the videos anew in each epoch and draw one clip of each: yields (video, clip) indices."""

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch + 500_000)
        draws = torch.randint(self.dataset.clips, (len(self.dataset),), generator=generator).tolist()
        return iter([(index, draws[index]) for index in super().__iter__()])


# An epoch's seed is this times --seed, plus the epoch: without it, seed 42's second epoch would be seed 43's
# first. CPUs use 32 bits of a seed: with this number, neighbouring seeds are far apart in these, too
SEED_STEP = 2_654_435_761


def make_loader(dataset: Dataset, args: argparse.Namespace, shuffle: bool):
    """Return batches for this process. batch_size is the whole batch, divided among the torchrun processes.

    shuffle=True gives one clip of each video, shuffle=False all clips, each video in one process only.
    """
    batch_size = args.batch_size // WORLD_SIZE
    if shuffle:
        sampler = ClipSampler(dataset, WORLD_SIZE, RANK, seed=args.seed * SEED_STEP)
    else:
        sampler, batch_size = range(RANK, len(dataset), WORLD_SIZE), max(1, batch_size // args.clips)
    if isinstance(dataset, KeptDataset):  # see section 4
        return KeptLoader(dataset, batch_size, sampler)
    return open_loader(dataset, batch_size, sampler, args.num_workers)


def open_loader(dataset: Dataset, batch_size: int, sampler, num_workers: int) -> DataLoader:
    """Return a DataLoader whose processes share the notes of the data set."""
    for part in dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]:
        if num_workers and isinstance(part, Dataset_CRNN):
            part.notes.share_memory_()
    # forked in 0.4 s; by a fork server, as Python 3.14 does, each would import torch anew, in 7 s and more
    context = "fork" if num_workers and sys.platform == "linux" else None
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=num_workers,
                      persistent_workers=num_workers > 0, pin_memory=torch.cuda.is_available(),
                      worker_init_fn=runs.start_worker, multiprocessing_context=context,
                      generator=torch.Generator())  # or starting workers would draw dropout's random numbers


# ------------------------------------------------------------------------------ 2. Models

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """uint8 0..255, channels in dim 1, to normalised float32; a float clip counts as already normalised."""

    def __init__(self, mean: tuple, std: tuple, input: str = "frames"):
        super().__init__()
        motion = (0.5,) * len(mean), (0.08,) * len(mean)  # differences are small
        # beside them frames weigh 0.3: otherwise the scene would be learnt first
        both = mean + motion[0], tuple(value / 0.3 for value in std) + motion[1]
        mean, std = {"frames": (mean, std), "differences": motion, "both": both}[input]
        # not persistent: published weights know no such entries
        self.register_buffer("mean", 255 * torch.tensor(mean), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std), persistent=False)

    def forward(self, X):
        if X.dtype != torch.uint8:
            return X
        return X.float().movedim(1, -1).sub_(self.mean).div_(self.std).movedim(-1, 1)


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
    """3D CNN, trained from scratch: (N, C, T, H, W) -> logits (N, K). C is in_channels."""

    def __init__(self, t_dim=28, img_x=256, img_y=342, drop_p=0.2, fc_hidden1=256, fc_hidden2=256,
                 num_classes=101, in_channels=3, input="frames"):
        super().__init__()
        t, h, w = conv_output_size((t_dim, img_x, img_y), [(5, 2), (3, 2)])
        half = (0.5,) * (in_channels // 2 if input == "both" else 1)
        self.normalize = Normalize(half, half, input)
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
    """2D CNN over every frame, trained from scratch: (N, T, C, H, W) -> (N, T, E). C is in_channels."""

    def __init__(self, img_x=224, img_y=224, fc_hidden1=1024, fc_hidden2=768, drop_p=0.3, CNN_embed_dim=512,
                 in_channels=3, input="frames"):
        super().__init__()
        h, w = conv_output_size((img_x, img_y), [(5, 2), (3, 2), (3, 2), (3, 2)])
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD, input)
        self.conv1 = conv2d_block(in_channels, 32, 5)
        self.conv2 = conv2d_block(32, 64, 3)
        self.conv3 = conv2d_block(64, 128, 3)
        self.conv4 = conv2d_block(128, 256, 3)
        self.fc1 = nn.Linear(256 * h * w, fc_hidden1)
        self.fc2 = nn.Linear(fc_hidden1, fc_hidden2)
        self.drop = nn.Dropout(drop_p)
        self.fc3 = nn.Linear(fc_hidden2, CNN_embed_dim)

    def convolve(self, X):
        """Convolve t time steps: (t, N, C, H, W) to (t, N, 256*h*w)."""
        steps = len(X)
        X = self.normalize(X.flatten(0, 1).contiguous(memory_format=torch.channels_last))  # (t*N, C, H, W)
        for block in (self.conv1, self.conv2, self.conv3, self.conv4):
            if self.training and steps > 1:  # BatchNorm sees the N frames of a time step, as in the original
                conv, norm, relu = block
                X = relu(torch.cat([norm(x) for x in conv(X).chunk(steps)]))
            else:
                X = block(X)
        return X.flatten(1).unflatten(0, (steps, -1))

    def forward(self, X):
        # a GPU takes all time steps at once; on a CPU the activations of a single one stay near the caches
        steps = X.transpose(0, 1).split(X.shape[1] if X.is_cuda else 1)
        X = torch.cat([self.convolve(x) for x in steps])  # (T, N, 256*h*w)
        X = F.relu(self.fc1(X))  # (T, N, fc_hidden1)
        X = self.drop(F.relu(self.fc2(X)))
        return self.fc3(X).transpose(0, 1)  # (N, T, E)


def load_resnet152(weights: str) -> nn.Module:
    """ResNet-152 (https://arxiv.org/abs/1512.03385) with weights of a file, of torchvision's, or "none".

    Raises InputError if the weights cannot be loaded.
    """
    from torchvision.models import ResNet152_Weights, resnet152  # here, as it takes a second

    if weights in ResNet152_Weights.__members__:
        try:
            return resnet152(weights=weights)
        except (OSError, RuntimeError) as error:  # no network, or a download whose hash is wrong
            raise InputError(f"cannot download the ResNet-152 weights ({runs.first_line(error)}): download "
                             f"{ResNet152_Weights[weights].url} on another computer and use --resnet_weights "
                             "FILE") from error
    if weights != "none" and not os.path.exists(weights):
        raise InputError(f"--resnet_weights {weights} is neither a file nor one of "
                         f"{', '.join(ResNet152_Weights.__members__)}, none")
    # untrained, 50 blocks add up to features of 1e8, too large for float16, unless each begins as identity
    resnet = resnet152(zero_init_residual=True)
    if weights != "none":
        runs.load_weights(resnet, runs.load_checkpoint(weights), weights)
    return resnet


# The original calls its encoder once a frame, and each call moves BatchNorm's running statistics by 0.01.
# Here the frames of a clip make one call: to move the statistics as fast takes 1 - 0.99^28 if they are 28.
BN_MOMENTUM = 1 - 0.99**28


class ResCNNEncoder(nn.Module):
    """Frozen ResNet-152 over every frame, and layers that train: (N, T, 3, H, W) -> (N, T, E).

    Also takes the ResNet's features of the frames, (N, T, 2048): frozen, they need computing only once.
    """

    def __init__(self, fc_hidden1=1024, fc_hidden2=768, drop_p=0.3, CNN_embed_dim=512,
                 weights="IMAGENET1K_V1", input="frames"):
        super().__init__()
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD, input)
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
    """An encoder of frames and a decoder of their sequence: (N, T, C, H, W) -> logits (N, K)."""

    def __init__(self, encoder: nn.Module, decoder: DecoderRNN):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, X):
        with autocast(X):
            return self.decoder(self.encoder(X)).float()


# ------------------------------------------------------------------------------ 3. Training and testing


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
    torch.manual_seed(args.seed * SEED_STEP + epoch + 10_000 * RANK)
    model.train()
    sums = torch.zeros(3, device=device)  # of losses, right answers, clips; there, no step waits for them
    bar = runs.progress_bar(train_loader, f"Epoch {epoch + 1}/{args.epochs} train")
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
    report_short_videos(train_loader.dataset)
    if TORCHRUN:
        dist.all_reduce(sums)
    loss, correct, clips = sums.tolist()
    if not math.isfinite(loss):
        raise InputError(f"the loss of epoch {epoch + 1} is {loss}: lower --learning_rate")
    return loss / clips, correct / clips


@torch.no_grad()
def predict(model, device, loader, clips: int = 1, text: str = "Predict"):
    """Run the model in eval mode. With several clips per video, X is (N, clips, ...): average the softmax.

    Returns: log-probabilities (V, K) float64, labels (V,): those of this process, on the CPU
    """
    model.eval()
    if TORCHRUN:
        model = model.module  # DistributedDataParallel would wait for processes that have fewer batches
        for buffer in model.buffers():  # BatchNorm's, which differ since the last step: take the saved ones
            dist.broadcast(buffer, 0)
    log_probabilities, labels = [], []
    for X, y in runs.progress_bar(loader, text):
        X = X.to(device, non_blocking=True)
        logits = model(X.flatten(0, 1) if clips > 1 else X)  # (N*clips, K)
        probabilities = logits.double().softmax(1).view(len(y), clips, -1)  # (N, clips, K)
        log_probabilities.append(probabilities.mean(1).log().cpu())  # (N, K)
        labels.append(y)
    report_short_videos(getattr(loader, "dataset", None))
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


# ------------------------------------------------------------------------------ 4. Kept clips and features


class KeptDataset(Dataset):
    """What is kept on disk of the videos of a data set, as (X, y): uint8 clips or float16 features (T, 2048).

    The file of a video is named by its name, size and time, so a video that changes is read again.
    """

    def __init__(self, dataset: Dataset_CRNN, folder: Path):
        self.videos, self.clips = dataset.videos, dataset.clips
        numbers = dataset.add_next(dataset.frame_numbers)
        self.paths = [folder / f"{video_state(video.name, video.path, numbers, self.clips)}.npy"
                      for video in self.videos]

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        X, y = self.read([index])
        return X[0], int(y[0])

    @functools.cached_property
    def form(self) -> tuple[bytes, tuple, str]:
        """The header, shape and dtype of all files."""
        with reading_kept(self.paths[0]), open(self.paths[0], "rb") as file:
            arrays = np.load(self.paths[0], mmap_mode="r")  # (clips, ...)
            return file.read(arrays.offset), arrays.shape, arrays.dtype.name

    def read(self, indices: list, each=map, pin_memory=False) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the batch (X, y) of indices or pairs (index, clip). each: map, or that of some threads."""
        pairs = [index if isinstance(index, tuple) else (index, 0) for index in indices]
        _, shape, dtype = self.form
        shape = shape[1:] if self.clips == 1 or isinstance(indices[0], tuple) else shape
        X = torch.empty(len(pairs), *shape, dtype=getattr(torch, dtype), pin_memory=pin_memory)
        list(each(self.read_file, X.numpy(), *zip(*pairs, strict=True)))
        return X, torch.tensor([self.videos[index].label for index, _ in pairs])

    def read_file(self, X: np.ndarray, index: int, clip: int) -> None:
        with reading_kept(self.paths[index]), open(self.paths[index], "rb") as file:
            is_ours = file.read(len(self.form[0])) == self.form[0]
            file.seek(clip * X.nbytes, os.SEEK_CUR)
            if not is_ours or file.readinto(X) != X.nbytes:
                raise EOFError


@contextlib.contextmanager
def reading_kept(path: Path) -> Iterator[None]:
    with reading(str(path)):
        try:
            yield
        except (ValueError, EOFError) as error:
            raise InputError(f"{path} is damaged: delete it to make it again") from error


class KeptLoader(BatchSampler):
    """Batches of a KeptDataset as (X, y), read by threads, the next one while this one is used.

    This is faster than getting a batch (CRNN: 126 MB) from other processes; --num_workers has no effect here.
    """

    def __init__(self, dataset: KeptDataset, batch_size: int, sampler):
        super().__init__(sampler, batch_size, drop_last=False)  # batches of indices
        self.dataset = dataset

    def __iter__(self):
        pin_memory, batch = torch.cuda.is_available(), None
        with ThreadPoolExecutor(8) as threads, ThreadPoolExecutor(1) as ahead:
            for indices in super().__iter__():
                batch, before = ahead.submit(self.dataset.read, indices, threads.map, pin_memory), batch
                if before:
                    yield before.result()
            if batch:
                yield batch.result()


class Features(nn.Module):
    """The frozen part of a ResCNNEncoder as a module, for DataParallel: (N, T, 3, H, W) -> (N, T, 2048)."""

    def __init__(self, encoder: ResCNNEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, X):
        with autocast(X):
            return self.encoder.features(X)


def keep_arrays(args: argparse.Namespace, model: nn.Module, device, datasets: list[Dataset_CRNN],
                write: bool = True) -> list[Dataset]:
    """Return data sets that read kept clips, or features of a frozen ResNet: a video is decoded only once.

    Clips are kept if all together take no more than cache_gb gigabytes. They lie in a folder of
    save_model_path, named by what they depend on. What is missing there is written first; with write=False a
    data set of which something is missing is returned as it is.
    """
    first = datasets[0]
    if write:
        check_batches(args, model, device, first)
    encoder = model.module.encoder if getattr(args, "cache_features", False) else None  # of ResNetCRNN
    channels = first.channels * (2 if first.input == "both" else 1)
    frame_bytes = 2 * 2048 if encoder else channels * first.img_x * first.img_y
    count = sum(map(len, datasets))
    gigabytes = count * first.clips * len(first.frame_numbers) * frame_bytes / 1e9
    if not encoder and gigabytes > args.cache_gb:
        if write and args.cache_gb:
            report("Cache", f"none: the clips take {gigabytes:,.1f} GB, above --cache_gb {args.cache_gb}. "
                   "The videos are read again in every epoch")
        return datasets
    folder = Path(args.save_model_path) / folder_name(first, encoder)
    if not write and not folder.is_dir():
        return datasets
    kept = [KeptDataset(dataset, folder) for dataset in datasets]
    if write:
        report("Cache", f"{'features' if encoder else 'clips'} of {count:,} videos, {gigabytes:,.2f} GB, in")
        print(f"        {folder}")
        write_arrays(args, device, datasets, [path for dataset in kept for path in dataset.paths], encoder)
        return kept
    return [new if all(path.exists() for path in new.paths) else dataset
            for new, dataset in zip(kept, datasets, strict=True)]


def check_batches(args: argparse.Namespace, model: nn.Module, device, dataset: Dataset_CRNN) -> None:
    """Raise at the start what would end the first epoch, after hours of decoding."""
    if args.batch_size % WORLD_SIZE:
        raise InputError(f"--batch_size {args.batch_size} cannot be divided among {WORLD_SIZE} processes")
    if (math.ceil(len(dataset) / WORLD_SIZE) - 1) % (args.batch_size // WORLD_SIZE) == 0:
        X, _ = dataset[0, 0]  # the last batch has one clip: BatchNorm may need more
        copy.deepcopy(model.module).train()(X[None].to(device))


def folder_name(dataset: Dataset_CRNN, encoder: ResCNNEncoder | None) -> str:
    """Return a name that changes with the clips' form, the code that makes them, and the ResNet's weights."""
    digest = hashlib.sha256(repr((type(dataset).__name__, list(dataset.frame_numbers), dataset.clips,
                                  dataset.img_x, dataset.img_y, dataset.channels, dataset.input)).encode())
    digest.update(Path(__file__).with_name("frames.py").read_bytes())
    digest.update(Path(__file__).read_bytes().split(b"\n# ---")[1])  # section 1, so that models may be edited
    for part in (Normalize, ResCNNEncoder.features) if encoder else ():
        digest.update(inspect.getsource(part).encode())
    for tensor in encoder.resnet.state_dict().values() if encoder else ():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return f"{'features' if encoder else 'clips'}_{digest.hexdigest()[:16]}"


def write_arrays(args: argparse.Namespace, device, datasets: list[Dataset_CRNN], paths: list[Path],
                 encoder: ResCNNEncoder | None) -> None:
    """Write the missing files, each (clips, ...). The processes of torchrun share the work."""
    missing = [index for index in range(RANK, len(paths), WORLD_SIZE) if not paths[index].exists()]
    batch_size = max(1, 16 // args.clips) if encoder else 1
    loader = open_loader(ConcatDataset(datasets), batch_size, missing, min(args.num_workers, len(missing)))
    if encoder:
        extract = Features(encoder).eval()
        extract = nn.DataParallel(extract) if device.type == "cuda" and not TORCHRUN else extract
    folder, flag = paths[0].parent, "--no-cache_features" if encoder else "--cache_gb 0"
    with runs.user_file(folder):
        folder.mkdir(exist_ok=True)
    done, bar = iter(missing), runs.progress_bar(missing, "Videos read")
    for X, y in loader:
        X = X if args.clips > 1 else X[:, None]  # (N, clips, ...)
        if encoder:
            features = extract(X.to(device, non_blocking=True).flatten(0, 1))  # (N*clips, T, 2048)
            X = features.half().cpu().unflatten(0, X.shape[:2])  # (N, clips, T, 2048)
        for arrays in X:
            try:
                with runs.atomic_file(paths[next(done)]) as file:
                    np.save(file, arrays.numpy())
            except InputError as error:
                raise InputError(f"{error}\nOr delete {folder} and add {flag}") from error
        bar.update(len(y))
    bar.close()
    if TORCHRUN:
        dist.barrier()
        if not all(path.exists() for path in paths):
            raise InputError("a process does not see what another one has kept: all machines must share "
                             f"--save_model_path and --data_path. Or add {flag}")
    for dataset in datasets:
        report_short_videos(dataset)


# ------------------------------------------------------------------------------ 5. Short, unreadable videos


def report_short_videos(dataset: Dataset) -> None:
    """Print once how many videos are shorter than a clip, among those that this run has read."""
    if not isinstance(dataset, Dataset_CRNN) or dataset.short_reported:
        return
    ends = dataset.ends
    if TORCHRUN:
        ends = ends.to("cuda" if torch.cuda.is_available() else "cpu")
        dist.all_reduce(ends, dist.ReduceOp.MAX)
    short = [(end, video.name) for end, video in zip(ends.tolist(), dataset.videos, strict=True) if end]
    if short:
        dataset.short_reported = True
        stills = sum(end <= dataset.frame_numbers[0] for end, _ in short)
        end, name = min(short)
        report("Short", f"{len(short):,} of {len(dataset):,} videos end before frame "
               f"{dataset.frame_numbers[-1]} and hold their last one; the shortest, {name}, has {end} frames"
               + (f". {stills:,} of these clips are a still picture" if stills else ""))


@contextlib.contextmanager
def name_unreadable_videos(args: argparse.Namespace, videos: list[Video]) -> Iterator[None]:
    """When a video cannot be read, try all, so that you need not find them one by one. Raises InputError."""
    try:
        yield
    except UnreadableVideo:
        dataset, errors = Dataset_CRNN(videos, select_frames(args), 8, 8, clips=args.clips), {}
        dataset.reported[:] = True  # single frames do not matter now
        for index in runs.progress_bar(range(len(videos)), "Looking for others"):
            try:
                dataset[index]
            except UnreadableVideo as error:
                errors[index] = str(error)
        if not errors:  # it can be read now
            raise
        first = next(iter(errors.values()))
        if len(errors) == len(videos) > 1:
            raise InputError(f"none of the {len(videos):,} videos can be read. {first}\nThis may be the "
                             f"installation ({VERSIONS}): pip install -r requirements.txt") from None
        paths = list(dict.fromkeys(videos[index].path for index in errors))  # of parts of one file once
        message = (f"{len(errors):,} of {len(videos):,} videos cannot be read: {runs.abbreviate(paths)}\n"
                   f"The first: {first}. Replace them, or move them out of --data_path")
        output = Path(args.save_model_path) / "unreadable_videos.txt"
        with contextlib.suppress(InputError):  # a folder that cannot be written to
            with runs.atomic_file(output) as file:
                file.write("".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape"))
            message += f"; {output} names all of them"
        raise InputError(message) from None

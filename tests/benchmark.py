"""Time this project's way against the straightforward way, in one run, and print a table in Markdown.

    python tests/benchmark.py                      everything, some ten minutes on two cores, 14 GB of memory
    python tests/benchmark.py --quick              everything on small sizes, in seconds: shows that it runs
    python tests/benchmark.py --only reading crnn  some rows

Both ways take turns (A B A B ...), so that what else the machine does meets both alike; a figure is the
median of the rounds behind a first one that is not counted. The straightforward way is written out here, in
the functions named plain_*, and has no huge pages, as a plain script has not. `rates` is what a GPU is asked
for, and is left out where there is none, unless named by --only.
"""
import argparse
import contextlib
import copy
import ctypes
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import av
import numpy as np
import torch
import torch.nn.functional as F
from joblib import cpu_count  # comes with scikit-learn
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Conv3D"))
import functions  # noqa: E402
from functions import (BN_MOMENTUM, CNN3D, CRNN, IMAGENET_MEAN, IMAGENET_STD, VIDEOS_PER_FILE,  # noqa: E402
                       Dataset_CRNN, DecoderRNN, EncoderCNN, FeatureDataset, ResCNNEncoder, Video,
                       check_frames, frame_path, get_device, list_videos, read_clip, split_videos)

UCF101_VIDEOS, NUM_CLASSES = 13320, 101
RESNET152_FLOP = 2 * 11.51e9  # a frame of 224x224: torchvision's count of multiply-adds, each two operations
ROWS = ("reading", "memory", "listing", "crnn", "conv3d", "resnet", "rates")
PARAMETERS = dict(  # name: (default, with --quick, help)
    rounds=(5, 2, "rounds that count"),
    frames=(28, 10, "frames of a clip"),
    clips=(8, 2, "reading: clips in a round"),
    size=(224, 64, "height and width of a clip, but of Conv3D's"),
    conv3d_x=(256, 64, "Conv3D: height of a clip"),
    conv3d_y=(342, 64, "Conv3D: width of a clip"),
    small_batch=(4, 1, "videos a step of CRNN, first row"),
    batch=(30, 2, "videos a step of CRNN, second row, and of Conv3D"),
    feature_batch=(40, 4, "videos a step of ResNetCRNN on features"),
    frame_batch=(2, 2, "videos a step of ResNetCRNN on frames"),
    folders=(13320, 500, "listing: frame folders"),
    peak_tflops=(989.0, 989.0, "rates: the card's dense bf16 peak (H100 SXM: 989)"),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=functions.HelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="small sizes; a size given as a flag still wins")
    for name, (default, _, text) in PARAMETERS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    if parser.parse_args().quick:
        parser.set_defaults(**{name: quick for name, (_, quick, _) in PARAMETERS.items()})
    return parser.parse_args()


def alternate(rounds: int, *ways) -> list[float]:
    """Run the ways in turn, each twice, of which the second counts. Returns the median seconds of each."""
    times = [[] for _ in ways]
    for _ in range(rounds):
        for way, seconds in zip(ways, times):
            way()  # settles memory and caches, as the steps of a training run do for each other
            synchronize()
            started = time.perf_counter()
            way()
            synchronize()
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


def synchronize() -> None:
    """Wait for the GPU, which works on after a call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def plainly(way):
    """The way without the huge pages that functions.py asks for."""
    def plain():
        set_huge_pages(False)
        way()
        set_huge_pages(True)
    return plain


def set_huge_pages(on: bool) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(41, int(not on), 0, 0, 0)  # PR_SET_THP_DISABLE


def print_row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


# ------------------------------------------------------------------------------ reading


def make_data(folder: str, args) -> tuple[list[str], list[str]]:
    """Write .avi files of 320x240, their frames as JPEGs of 342x256: the sizes of UCF101 and its frames."""
    photos = load_sample_images().images
    films, jpegs = [], []
    for n in range(args.clips):
        films.append(f"{folder}/{n}.avi")
        with av.open(films[-1], "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 1_000_000
            for t in range(60):
                image = np.ascontiguousarray(photos[n % 2][t:t + 240, 2 * t:2 * t + 320])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        jpegs.append(f"{folder}/v_Action_g01_c{n:02d}")
        os.mkdir(jpegs[-1])
        with av.open(films[-1]) as container:
            for number, frame in zip(range(1, args.frames + 1), container.decode(video=0)):
                frame.to_image().resize((342, 256)).save(frame_path(jpegs[-1], number), quality=90)
    return films, jpegs


def plain_read_clip(folder: str, frames: list[int], size: int) -> torch.Tensor:
    """(T, 3, H, W) float32, normalised."""
    transform = transforms.Compose([transforms.Resize([size, size]), transforms.ToTensor(),
                                    transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    return torch.stack([transform(Image.open(frame_path(folder, number))) for number in frames])


def decode_only(folder: str, frames: list[int]) -> None:
    for number in frames:
        Image.open(frame_path(folder, number)).load()


def reading(args) -> float:
    """Print the rows of reading. Returns the frames/s of JPEGs on one core."""
    threads, frames, size = torch.get_num_threads(), list(range(1, args.frames + 1)), args.size
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        films, jpegs = make_data(folder, args)
        plain, ours, decoded, film = (args.clips * args.frames / seconds for seconds in alternate(
            2 * args.rounds,
            plainly(lambda: [plain_read_clip(path, frames, size) for path in jpegs]),
            lambda: [read_clip(path, frames, size, size) for path in jpegs],
            lambda: [decode_only(path, frames) for path in jpegs],
            lambda: [read_clip(path, frames, size, size) for path in films]))
        mean, std = (255 * torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
        pillow = plain_read_clip(jpegs[0], frames, size) * std + mean
        difference = (read_clip(jpegs[0], frames, size, size)[0] - pillow).abs().max()
    torch.set_num_threads(threads)
    print_row(f"JPEGs of 342x256 to {size}x{size}, one core", f"{plain:.0f} frames/s", f"{ours:.0f} frames/s",
              f"{ours / plain:.2f}x",
              f"{ours / decoded:.0%} of decoding alone; pixels within {difference:.0f}/255")
    print_row(f"first {args.frames} frames of a 320x240 .avi, to the same", f"{plain:.0f} frames/s (JPEGs)",
              f"{film:.0f} frames/s", f"{film / plain:.2f}x", "")
    return ours


class PeakMemory(Dataset):
    """Clips, each with the bytes by which the most memory that its process ever held has grown."""

    def __init__(self, dataset: Dataset):
        self.dataset, self.first = dataset, None

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        import resource  # POSIX

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, else kB
        peak *= 1 if sys.platform == "darwin" else 1024
        self.first = self.first or peak
        return self.dataset[index][0], peak - self.first


def memory(args) -> None:
    """Print the memory of a process that reads clips, in units of one batch of them."""
    with tempfile.TemporaryDirectory() as folder:
        _, jpegs = make_data(folder, args)
        videos = [Video("", jpegs[n % args.clips], "", 1) for n in range(6 * args.batch)]
        dataset = Dataset_CRNN(videos, [0] * len(videos), list(range(1, args.frames + 1)),
                               args.size, args.size)
        for X, peak in DataLoader(PeakMemory(dataset), args.batch, num_workers=1):
            pass
    print_row(f"memory of a worker, above its start, with batches of {args.batch} clips", "",
              f"{peak.max() / 2**20:.0f} MiB", "",
              f"{peak.max() / X.nbytes:.1f} batches of {X.nbytes / 2**20:.1f} MiB")


def listing(args) -> None:
    """Print the time to find, check and split frame folders."""
    actions = [f"Action{n}" for n in range(NUM_CLASSES)]
    with tempfile.TemporaryDirectory() as temporary:
        for n in range(args.folders):
            folder = f"{temporary}/v_{actions[n % NUM_CLASSES]}_g{n // NUM_CLASSES % 25 + 1:02d}_c{n:05d}"
            os.mkdir(folder)
            for number in (1, 28):
                open(frame_path(folder, number), "w").close()

        def find():
            videos = list_videos(temporary, actions)
            check_frames(videos, list(range(1, 29)))
            split_videos(videos, "random", 42)

        seconds, = alternate(args.rounds, find)
    print_row(f"finding, checking and splitting {args.folders:,} frame folders",
              "", f"{seconds:.2f} s", "", "")


# ------------------------------------------------------------------------------ training steps


def plain_encoder(encoder: EncoderCNN, x: torch.Tensor) -> torch.Tensor:
    x = encoder.conv4(encoder.conv3(encoder.conv2(encoder.conv1(x))))
    x = F.relu(encoder.fc1(x.flatten(1)))
    return encoder.fc3(encoder.drop(F.relu(encoder.fc2(x))))


def plain_resnet_encoder(encoder: ResCNNEncoder, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        x = encoder.resnet(x).flatten(1)
    x = F.relu(encoder.bn1(encoder.fc1(x)))
    return encoder.fc3(encoder.drop(F.relu(encoder.bn2(encoder.fc2(x)))))


def plain_crnn(model: CRNN, X: torch.Tensor) -> torch.Tensor:
    """(N, T, 3, H, W) float32 to logits: the 2D network is called once a frame."""
    encode = plain_encoder if isinstance(model.encoder, EncoderCNN) else plain_resnet_encoder
    return model.decoder(torch.stack([encode(model.encoder, X[:, t]) for t in range(X.shape[1])], dim=1))


def plain_cnn3d(model: CNN3D, X: torch.Tensor) -> torch.Tensor:
    """(N, 3, T, H, W) float32 to logits."""
    X = model.drop3d(F.relu(model.bn1(model.conv1(X))))
    X = model.drop3d(F.relu(model.bn2(model.conv2(X))))
    X = F.relu(model.fc1(X.flatten(1)))
    return model.fc3(model.drop(F.relu(model.fc2(X))))


def plain_copy(model: CRNN) -> CRNN:
    """The same weights, with the BatchNorm momentum of a network that is called once a frame."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if getattr(module, "momentum", None) == BN_MOMENTUM:
            module.momentum = 0.01
    return model


def make_model(name: str, args) -> torch.nn.Module:
    if name == "Conv3D":
        return CNN3D(args.frames, args.conv3d_x, args.conv3d_y)
    encoder = EncoderCNN(args.size, args.size) if name == "CRNN" else ResCNNEncoder(weights="none")
    return CRNN(encoder, DecoderRNN())


def make_clips(name: str, count: int, args) -> tuple[torch.Tensor, torch.Tensor]:
    """Random clips, uint8, and labels."""
    shape = (args.frames, 3, args.size, args.size)
    if name == "Conv3D":
        shape = (3, args.frames, args.conv3d_x, args.conv3d_y)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8), torch.randint(0, NUM_CLASSES, (count,))


def make_step(model, forward=None):
    """A training step, step(X, y); with `forward` the straightforward one, that waits to print its loss."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                 fused=None if forward else True)
    device = next(model.parameters()).device

    def step(X, y):
        X, y = X.to(device, non_blocking=True), y.to(device, non_blocking=True)
        loss = F.cross_entropy(forward(model, X) if forward else model(X), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if forward:
            loss.item()
    return step


@torch.no_grad()
def difference(model, X: torch.Tensor, plain_forward, plain_X: torch.Tensor) -> str:
    plain = plain_forward(model.eval(), plain_X)
    return f"outputs within {((model(X) - plain).abs().max() / plain.abs().max()).item():.0e} of the largest"


def crnn(args) -> None:
    """Print the rows of a training step of CRNN."""
    model = make_model("CRNN", args)
    plain_model = plain_copy(model)
    plain_step, step = make_step(plain_model, plain_crnn), make_step(model)
    for batch in (args.small_batch, args.batch):
        X, y = make_clips("CRNN", batch, args)
        plain_X = model.encoder.normalize(X)
        plain, ours = alternate(args.rounds, plainly(lambda: plain_step(plain_X, y)), lambda: step(X, y))
        print_row(f"CRNN training step, {batch} clips of {args.frames}x{args.size}x{args.size}",
                  f"{plain:.2f} s", f"{ours:.2f} s", f"{plain / ours:.2f}x",
                  difference(model, X[:2], plain_crnn, plain_X[:2]))
        model.train()


def conv3d(args) -> None:
    """Print the rows of a training step of Conv3D. Both ways train one model, or memory would not do."""
    model = make_model("Conv3D", args)
    X, y = make_clips("Conv3D", args.batch, args)
    plain_X = model.normalize(X)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def forward_backward(logits):
        optimizer.zero_grad()
        F.cross_entropy(logits, y).backward()

    def adam(fused):
        optimizer.param_groups[0]["fused"] = fused  # on a CPU the two keep the same state
        optimizer.step()

    plain, plain_adam, ours, ours_adam = alternate(
        args.rounds, plainly(lambda: forward_backward(plain_cnn3d(model, plain_X))),
        plainly(lambda: adam(None)), lambda: forward_backward(model(X)), lambda: adam(True))
    size = f"{args.batch} clips of {args.frames}x{args.conv3d_x}x{args.conv3d_y}"
    share = model.fc1.weight.numel() / sum(p.numel() for p in model.parameters())
    print_row(f"Conv3D forward and backward, {size}", f"{plain:.2f} s", f"{ours:.2f} s",
              f"{plain / ours:.2f}x", difference(model, X[:2], plain_cnn3d, plain_X[:2]))
    print_row("Conv3D optimizer", f"{plain_adam:.2f} s, {plain_adam / (plain + plain_adam):.0%} of a step",
              f"{ours_adam:.2f} s, {ours_adam / (ours + ours_adam):.0%} of a step",
              f"{plain_adam / ours_adam:.1f}x", f"{share:.2%} of the parameters are one layer's")


def resnet(args) -> None:
    """Print the row of an epoch of ResNetCRNN after the first, without the reading that features spare."""
    model = make_model("ResNetCRNN", args).train()
    plain_step, step = make_step(plain_copy(model), plain_crnn), make_step(model)
    X, y = make_clips("ResNetCRNN", args.frame_batch, args)
    plain_X = model.encoder.normalize(X)
    videos = [Video(f"{n}", "", "Action", 1) for n in range(args.feature_batch)]
    with tempfile.TemporaryDirectory() as folder:
        torch.save(torch.rand(len(videos), args.frames, 2048).half(), f"{folder}/0.pt")
        features = dict(zip([video.name for video in videos], torch.load(f"{folder}/0.pt", mmap=True)))
        loader = DataLoader(FeatureDataset(features, videos, [0] * len(videos)), len(videos), shuffle=True)
        plain, ours = alternate(args.rounds, plainly(lambda: plain_step(plain_X, y)),
                                lambda: [step(X, y) for X, y in loader])
    plain, ours = plain / len(y), ours / len(videos)
    print_row("ResNetCRNN epoch after the first, a video", f"{plain:.2f} s", f"{1000 * ours:.2f} ms",
              f"{plain / ours:.0f}x",
              f"features of UCF101: {UCF101_VIDEOS * 28 * 2048 * 2 / 1e9:.1f} GB on disk")


# ------------------------------------------------------------------------------ rates, on a GPU


@contextlib.contextmanager
def plain_settings():
    """No bf16, no TF32."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # of convolutions and LSTMs
    with mock.patch.object(functions, "autocast", lambda X: contextlib.nullcontext()):
        yield
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")


def rates_of(args, way, count: int) -> tuple[float, float]:
    """`count` of five calls by second, in float32 and as the scripts run; the GPU is waited for once."""
    def five(context):
        with context():
            for _ in range(5):
                way()
    slow, fast = alternate(args.rounds, lambda: five(plain_settings), lambda: five(contextlib.nullcontext))
    return 5 * count / slow, 5 * count / fast


def rates(args, frames_read: float) -> None:
    """Print videos/s of each model, copying to the GPU included, and what the published schedules take."""
    device = get_device()  # sets TF32 and the like
    pin = torch.Tensor.pin_memory if device.type == "cuda" else torch.Tensor.contiguous
    print_row("rates", "float32", "as the scripts run", "ratio", "")
    print_row(*["---"] * 5)
    for name, epochs, batch in (("Conv3D", 15, args.batch), ("CRNN", 120, args.batch),
                                ("ResNetCRNN", 120, args.feature_batch)):
        model, (X, y) = make_model(name, args).to(device), map(pin, make_clips(name, batch, args))
        first, read = 0, epochs  # seconds before training, epochs that read frames
        if name == "ResNetCRNN":
            clips = X[:VIDEOS_PER_FILE]
            model.eval()
            with torch.no_grad():
                slow, fast = rates_of(
                    args, lambda: model(clips.to(device, non_blocking=True), only_features=True),
                    len(clips) * args.frames)
            tflops = fast * RESNET152_FLOP * (args.size / 224) ** 2 / 1e12
            print_row("ResNet-152 features", f"{slow:.0f} frames/s", f"{fast:.0f} frames/s",
                      f"{fast / slow:.2f}x",
                      f"{tflops:.1f} TFLOP/s, {tflops / args.peak_tflops:.0%} of the card's bf16 peak")
            first, read = UCF101_VIDEOS * args.frames / fast, 1
            X = pin(torch.rand(batch, args.frames, 2048).half())
        if name == "CRNN":
            plain_model, plain_X = plain_copy(model), pin(model.cpu().encoder.normalize(X))
            model = model.to(device)
            loop = make_step(plain_model, plain_crnn)
            looped, _ = rates_of(args, lambda: loop(plain_X, y), batch)
        step = make_step(model.train())
        slow, fast = rates_of(args, lambda: step(X, y), batch)
        with torch.no_grad():
            _, tested = rates_of(args, lambda: model.eval()(X.to(device, non_blocking=True)), batch)
        print_row(f"{name} training, {batch} videos a step", f"{slow:.1f} videos/s", f"{fast:.1f} videos/s",
                  f"{fast / slow:.2f}x", f"test {tested:.1f} videos/s"
                  + (f"; {fast / looped:.1f}x the float32 loop over time" if name == "CRNN" else ""))
        seconds = first + epochs * UCF101_VIDEOS * (0.75 / fast + 0.25 / tested)
        reading = read * UCF101_VIDEOS * args.frames / (frames_read * cpu_count())
        print_row(f"{name}, {epochs} epochs of UCF101", "", f"{seconds / 3600:.2f} h", "",
                  f"reading meanwhile, on {cpu_count()} cores: {reading / 3600:.2f} h")


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # no Linux on x86
        return platform.processor() or platform.machine()


def main():
    args = parse_args()
    only = args.only or (ROWS if torch.cuda.is_available() else ROWS[:-1])
    torch.manual_seed(0)
    print(f"{cpu_name()}, {torch.get_num_threads()} threads; torch {torch.__version__}; "
          f"medians of {args.rounds} rounds, of reading twice as many\n")
    print_row("on the CPU", "straightforward", "here", "ratio", "")
    print_row(*["---"] * 5)
    if "reading" in only or "rates" in only:
        frames_read = reading(args)
    for measure in (memory, listing, crnn, conv3d, resnet):
        if measure.__name__ in only and not (measure is memory and os.name == "nt"):
            measure(args)
    if "rates" in only:
        print()
        rates(args, frames_read)


if __name__ == "__main__":
    main()

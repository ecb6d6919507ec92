"""Compare this project with the straightforward way, in one run, and print a table in Markdown.

    python tests/benchmark.py                      everything, about 20 minutes on two cores, 14 GB of memory
    python tests/benchmark.py --quick              everything on small sizes, in seconds: shows that it runs
    python tests/benchmark.py --only reading crnn  some rows

Both ways take turns (A B A B ...), so that other work on the machine affects both. A figure is the median
of the rounds; a call that is not counted precedes each. The functions plain_* are the straightforward way,
without huge pages. One process for each core reads videos, like the workers of a training run.
`rates` is for GPUs, and is left out without one, unless you name it with --only.
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
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from unittest import mock

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter
from joblib import cpu_count  # comes with scikit-learn
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "CRNN"))
import functions
import runs
from functions import CNN3D, CRNN, Dataset_CRNN, DecoderRNN, EncoderCNN, ResCNNEncoder
from videos import Video, frame_path

CPU = torch.device("cpu")
PATTERNS = ("v_*", "*.avi")  # of the frame folders and the files that write_videos makes
UCF101_VIDEOS, NUM_CLASSES = 13320, 101
RESNET152_FLOP = 2 * 11.51e9  # a frame of 224x224: torchvision's count of multiply-adds, each two operations
PARAMETERS = dict(  # name: (default, with --quick, help)
    rounds=(5, 2, "rounds that count; twice as many of reading, half as many of kept clips and ResNet-152"),
    videos=(16, 2, "different videos to read"),
    length=(180, 40, "their frames; a video of UCF101 has 186 on average"),
    phone_videos=(4, 2, "kept: videos as phones write them"),
    phone_seconds=(20, 1, "kept: their length"),
    phone_height=(1080, 108, "kept: their height"),
    frames=(28, 10, "frames of a clip"),
    size=(224, 64, "height and width of a clip, but of Conv3D's"),
    conv3d_x=(256, 64, "Conv3D: height of a clip"),
    conv3d_y=(342, 64, "Conv3D: width of a clip"),
    crnn_batches=((4, 8, 30), (1, 2), "CRNN: videos a step"),
    batch=(30, 2, "Conv3D, and rates of CRNN: videos a step"),
    feature_batch=(40, 4, "ResNetCRNN: videos a step, on features"),
    frame_batch=(2, 2, "ResNetCRNN: videos a step, on frames"),
    resnet_frames=(128, 16, "ResNet-152: frames at once"),
    peak_tflops=(989.0, 989.0, "rates: the card's dense bf16 peak (H100 SXM: 989)"),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="small sizes; a size given as a flag still wins")
    for name, (default, _, text) in PARAMETERS.items():
        options = dict(type=int, nargs="+") if isinstance(default, tuple) else dict(type=type(default))
        parser.add_argument(f"--{name}", default=default, help=f"{text} (default: {default})", **options)
    if parser.parse_args().quick:
        parser.set_defaults(**{name: quick for name, (_, quick, _) in PARAMETERS.items()})
    return parser.parse_args()


def alternate(rounds: int, *ways) -> list[float]:
    """Run the ways in turn, each twice, of which the second counts. Returns the median seconds of each."""
    times = [[] for _ in ways]
    for _ in range(rounds):
        for way, seconds in zip(ways, times, strict=True):
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


@contextlib.contextmanager
def plain_memory():
    """Without the huge pages that runs.py asks for."""
    set_huge_pages(False)
    yield
    set_huge_pages(True)


def set_huge_pages(on: bool) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(41, int(not on), 0, 0, 0)  # PR_SET_THP_DISABLE


def print_row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


# ------------------------------------------------------------------------------ reading


def write_videos(folder: Path, args) -> None:
    """Write n.avi of 320x240, and their frames as JPEGs of 342x256: the sizes of UCF101 and its frames."""
    photos = load_sample_images().images
    for n in range(args.videos):
        jpegs = folder / f"v_Action_g01_c{n:02d}"
        jpegs.mkdir()
        with av.open(str(folder / f"{n}.avi"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 1_000_000
            for t in range(args.length):
                shift = 160 - abs(t % 320 - 160)  # there and back
                image = np.ascontiguousarray(photos[n % 2][shift:shift + 240, 2 * shift:2 * shift + 320])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                Image.fromarray(image).resize((342, 256)).save(frame_path(str(jpegs), t + 1), quality=90)
            container.mux(stream.encode())


def find(folder: Path, pattern: str, count: int) -> list[Video]:
    """`count` videos, those there over and over."""
    paths = sorted(map(str, folder.glob(pattern)))
    return [Video(f"{n}", paths[n % len(paths)], "Action", "", label=0) for n in range(count)]


@plain_memory()
def plain_read_clip(folder: str, frames: int, size: int) -> torch.Tensor:
    """(T, 3, H, W) float32, normalised: Pillow and torchvision, frame by frame."""
    transform = transforms.Compose([transforms.Resize([size, size]), transforms.ToTensor(),
                                    transforms.Normalize(functions.IMAGENET_MEAN, functions.IMAGENET_STD)])
    return torch.stack([transform(Image.open(frame_path(folder, number + 1))) for number in range(frames)])


def plain_read_film(path: str, frames: int, size: int) -> torch.Tensor:
    """(T, 3, H, W) uint8: decode, convert in one thread, resize once."""
    converter = VideoReformatter()
    with av.open(path) as container:
        X = np.stack([converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                      for frame in islice(container.decode(video=0), frames)])
    return F.interpolate(torch.from_numpy(X).permute(0, 3, 1, 2), size=(size, size), mode="bilinear",
                         antialias=True)


def read_clip(path: str, frames: int, size: int) -> torch.Tensor:
    """(T, 3, H, W) uint8: our way."""
    [(X, _, _)] = functions.read_clips(path, [list(range(1, frames + 1))], size, size)
    return X


def decode(path: str, frames: int, size: int) -> None:
    if os.path.isdir(path):
        for number in range(frames):
            Image.open(frame_path(path, number + 1)).load()
    else:
        with av.open(path) as container:
            list(islice(container.decode(video=0), frames))


def read_all(way, frames: int, size: int, paths: list[str]) -> None:
    for path in paths:
        way(path, frames, size)


def reading_rates(args, ways: list[tuple]) -> list[float]:
    """Frames a second of each (way, paths), a process on each core reading all the paths."""
    cores = cpu_count()
    # of these pools one whose process is killed is an error, not an endless wait
    with ProcessPoolExecutor(cores, initializer=torch.set_num_threads, initargs=[1]) as pool:
        def read(way, paths):
            list(pool.map(partial(read_all, way, args.frames, args.size), [paths] * cores))

        seconds = alternate(2 * args.rounds, *(partial(read, way, paths) for way, paths in ways))
    return [cores * args.videos * args.frames / s for s in seconds]


def reading(args, folder: Path) -> None:
    """Print the rows of reading."""
    jpegs, films = ([video.path for video in find(folder, pattern, args.videos)] for pattern in PATTERNS)
    plain, decoded, ours, plain_film, decoded_film, film = reading_rates(args, [
        (plain_read_clip, jpegs), (decode, jpegs), (read_clip, jpegs),
        (plain_read_film, films), (decode, films), (read_clip, films)])
    clip, normalize = (args.frames, args.size), make_model("CRNN", args).encoder.normalize
    off = (normalize(read_clip(jpegs[0], *clip)) - plain_read_clip(jpegs[0], *clip)) * normalize.std
    off_film = read_clip(films[0], *clip).float() - plain_read_film(films[0], *clip)
    print_row(f"JPEGs of 342x256 to {args.size}x{args.size}, {cpu_count()} cores busy",
              f"{plain:.0f} frames/s", f"{ours:.0f} frames/s", f"{ours / plain:.2f}x",
              f"decoding alone {decoded:.0f}; pixels within {off.abs().max():.0f}/255")
    print_row(f"first {args.frames} frames of a 320x240 .avi, to the same",
              f"{plain_film:.0f} frames/s (decode, convert in one thread, resize once)",
              f"{film:.0f} frames/s", f"{film / plain_film:.2f}x",
              f"decoding alone {decoded_film:.0f}; {film / plain:.1f}x the straightforward way with JPEGs; "
              f"pixels within {off_film.abs().max():.0f}/255")


def write_phone_videos(folder: Path, args) -> list[Video]:
    """Write H.264 files with a key frame each second: 30 frames a second, 16:9."""
    height, width = args.phone_height, args.phone_height * 16 // 9 // 2 * 2
    photo = Image.fromarray(load_sample_images().images[0]).resize((width + 240, height + 240))
    paths = [str(folder / f"phone{n}.mp4") for n in range(args.phone_videos)]
    for n, path in enumerate(paths):
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "g": "30"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for t in range(30 * args.phone_seconds):
                shift = 120 - abs((t + 10 * n) % 240 - 120)
                image = np.asarray(photo)[shift:shift + height, 2 * shift:2 * shift + width]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
            container.mux(stream.encode())
    return [Video(path, path, "Action", "", label=0) for path in paths]


def kept(args, folder: Path) -> None:
    """Print an epoch's reading of phone videos from kept clips, against decoding anew, and the first pass."""
    videos, size = write_phone_videos(folder, args), 96
    model = CRNN(EncoderCNN(size, size), DecoderRNN())
    X = torch.randint(256, (len(videos), args.frames, 3, size, size), dtype=torch.uint8)
    [step] = alternate(args.rounds, partial(make_step(model), X, torch.zeros(len(videos), dtype=torch.long)))

    def read(loader):
        for _ in loader:
            pass

    for clips in (1, 5):
        settings = argparse.Namespace(clips=clips, batch_size=len(videos), seed=0, num_workers=cpu_count(),
                                      save_model_path=str(folder), cache_gb=10)

        def first_pass(settings=settings):
            for path in folder.glob("clips_*/*.npy"):
                path.unlink()
            return functions.keep_arrays(settings, None, CPU, [make_dataset()])[0]

        def make_dataset(clips=clips):
            return Dataset_CRNN(videos, list(range(1, args.frames + 1)), size, size, clips=clips)

        def first_epoch(settings=settings):
            read(functions.make_loader(make_dataset(), settings, shuffle=True))

        with contextlib.redirect_stdout(None):
            anew, seconds = (functions.make_loader(dataset, settings, shuffle=True)
                             for dataset in (make_dataset(), first_pass()))
            anew, again = alternate(max(1, args.rounds // 2), partial(read, anew), partial(read, seconds))
            first, writing = alternate(1, first_epoch, first_pass)
        anew, again, first, writing = (1000 * s / len(videos) for s in (anew, again, first, writing))
        print_row(f"reading in an epoch, {args.phone_seconds} s of {args.phone_height}p, --clips {clips}",
                  f"{anew:.0f} ms a video", f"{again:.1f} ms a video (kept clips)", f"{anew / again:.0f}x",
                  f"CRNN's step at {size}x{size} takes {1000 * step / len(videos):.0f} ms a video; in the "
                  f"first epoch reading takes {first:.0f} ms, writing kept clips {writing:.0f} ms")


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


def make_step(model):
    """A training step of ours, step(X, y)."""
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step(X, y):
        X, y = X.to(device, non_blocking=True), y.to(device, non_blocking=True)
        loss = F.cross_entropy(model(X), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def make_plain_step(model):
    """The straightforward one of a copy of a CRNN, that waits to print its loss."""
    model = copy.deepcopy(model)
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    @plain_memory()
    def step(X, y):
        loss = F.cross_entropy(plain_crnn(model, X.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return step


@torch.no_grad()
def difference(model, X: torch.Tensor, plain_forward, plain_X: torch.Tensor) -> str:
    plain = plain_forward(model.eval(), plain_X)
    return f"outputs within {((model(X) - plain).abs().max() / plain.abs().max()).item():.0e} of the largest"


def crnn(args, folder: Path) -> None:
    """Print the rows of a training step of CRNN."""
    for batch in args.crnn_batches:
        model = make_model("CRNN", args)
        X, y = make_clips("CRNN", batch, args)
        plain_X = model.encoder.normalize(X)
        plain, ours = alternate(args.rounds, partial(make_plain_step(model), plain_X, y),
                                partial(make_step(model), X, y))
        print_row(f"CRNN training step, {batch} clips of {args.frames}x{args.size}x{args.size}",
                  f"{plain:.2f} s", f"{ours:.2f} s", f"{plain / ours:.2f}x",
                  difference(model, X[:2], plain_crnn, plain_X[:2]))


def conv3d(args, folder: Path) -> None:
    """Print the rows of a training step of Conv3D. Both ways train one model, or memory would not do."""
    model = make_model("Conv3D", args)
    X, y = make_clips("Conv3D", args.batch, args)
    plain_X = model.normalize(X)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def learn(forward, X):
        optimizer.zero_grad()
        F.cross_entropy(forward(X), y).backward()

    def adam(fused):
        optimizer.param_groups[0]["fused"] = fused  # on a CPU the two keep the same state
        optimizer.step()

    plain, plain_adam, ours, ours_adam = alternate(
        args.rounds, plain_memory()(partial(learn, partial(plain_cnn3d, model), plain_X)),
        plain_memory()(partial(adam, None)), partial(learn, model, X), partial(adam, True))
    size = f"{args.batch} clips of {args.frames}x{args.conv3d_x}x{args.conv3d_y}"
    share = model.fc1.weight.numel() / sum(p.numel() for p in model.parameters())
    print_row(f"Conv3D forward and backward, {size}", f"{plain:.2f} s", f"{ours:.2f} s",
              f"{plain / ours:.2f}x", difference(model, X[:2], plain_cnn3d, plain_X[:2]))
    print_row("Conv3D optimizer", f"{plain_adam:.2f} s, {plain_adam / (plain + plain_adam):.0%} of a step",
              f"{ours_adam:.2f} s, {ours_adam / (ours + ours_adam):.0%} of a step",
              f"{plain_adam / ours_adam:.1f}x", f"{share:.2%} of the parameters are one layer's")


def resnet(args, folder: Path) -> None:
    """Print the rows of ResNetCRNN: the frozen ResNet, and an epoch after the first without the reading."""
    model = make_model("ResNetCRNN", args).train()
    encoder = model.encoder
    X, _ = make_clips("ResNetCRNN", -(-args.resnet_frames // args.frames), args)
    X = X.flatten(0, 1)[:args.resnet_frames][None]  # (1, T, 3, H, W)

    @torch.no_grad()
    def at_once():
        encoder.resnet(encoder.normalize(X[0].contiguous(memory_format=torch.channels_last)))

    plain, ours = (args.resnet_frames / s for s in alternate(
        max(1, args.rounds // 2), at_once, partial(encoder.features, X)))
    print_row(f"frozen ResNet-152, {args.resnet_frames} frames of {args.size}x{args.size}",
              f"{plain:.1f} frames/s (all at once)", f"{ours:.1f} frames/s (in chunks of 14)",
              f"{ours / plain:.2f}x", "")

    X, y = make_clips("ResNetCRNN", args.frame_batch, args)
    videos, path = find(folder, "*.avi", args.feature_batch), folder / "features.npy"
    np.save(path, np.random.default_rng(0).random((1, args.frames, 2048), np.float32).astype(np.float16))
    clips = Dataset_CRNN(videos, range(1, args.frames + 1), args.size, args.size)
    dataset = functions.KeptDataset(clips, folder)
    dataset.paths = [path] * len(videos)
    loader = DataLoader(dataset, len(videos), shuffle=True)
    step = make_step(model)
    plain, ours = alternate(args.rounds, partial(make_plain_step(model), encoder.normalize(X), y),
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
    def five():
        for _ in range(5):
            way()
    slow, fast = alternate(args.rounds, plain_settings()(five), five)
    return 5 * count / slow, 5 * count / fast


def rate_of_features(args, encoder: ResCNNEncoder, X: torch.Tensor, device) -> float:
    """Print and return the frames/s of the frozen ResNet."""
    extract = functions.Features(encoder).eval()
    slow, fast = rates_of(args, lambda: extract(X.to(device, non_blocking=True)), len(X) * args.frames)
    tflops = fast * RESNET152_FLOP * (args.size / 224) ** 2 / 1e12
    print_row("ResNet-152 features", f"{slow:.0f} frames/s", f"{fast:.0f} frames/s", f"{fast / slow:.2f}x",
              f"{tflops:.1f} TFLOP/s, {tflops / args.peak_tflops:.0%} of the card's bf16 peak")
    return fast


def rates_of_training(args, name: str, model, X: torch.Tensor, y: torch.Tensor, device):
    """Print and return the videos/s of training and of a test, copying to the GPU included."""
    looped = ""
    if name == "CRNN":
        plain_step, plain_X = make_plain_step(model), pin(model.encoder.normalize(X.to(device)).cpu())
        rate, _ = rates_of(args, lambda: plain_step(plain_X, y), len(y))
        looped = f"; float32 loop over time {rate:.1f}"
    step = make_step(model.train())
    slow, fast = rates_of(args, lambda: step(X, y), len(y))
    model.eval()
    with torch.no_grad():
        _, tested = rates_of(args, lambda: model(X.to(device, non_blocking=True)), len(y))
    print_row(f"{name} training, {len(y)} videos a step", f"{slow:.1f} videos/s", f"{fast:.1f} videos/s",
              f"{fast / slow:.2f}x", f"test {tested:.1f} videos/s{looped}")
    return fast, tested


def pin(X: torch.Tensor) -> torch.Tensor:
    return X.pin_memory() if torch.cuda.is_available() else X


def rates(args, folder: Path) -> None:
    """Print videos/s of each model, and what the published schedules take."""
    jpegs = [video.path for video in find(folder, PATTERNS[0], args.videos)]
    [frames_read] = reading_rates(args, [(read_clip, jpegs)])
    print()
    device = runs.get_device()  # sets TF32 and the like
    print_row("rates", "float32", "as the scripts run", "ratio", "")
    print_row(*["---"] * 5)
    for name, epochs, batch in (("Conv3D", 15, args.batch), ("CRNN", 120, args.batch),
                                ("ResNetCRNN", 120, args.feature_batch)):
        model, (X, y) = make_model(name, args).to(device), map(pin, make_clips(name, batch, args))
        seconds, read = 0, epochs  # before training; epochs that read frames
        if name == "ResNetCRNN":
            frames = UCF101_VIDEOS * args.frames
            seconds, read = frames / rate_of_features(args, model.encoder, X[:16], device), 1
            X = pin(torch.rand(batch, args.frames, 2048).half())
        trained, tested = rates_of_training(args, name, model, X, y, device)
        seconds += epochs * UCF101_VIDEOS * (0.75 / trained + 0.25 / tested)
        reading_seconds = read * UCF101_VIDEOS * args.frames / frames_read
        print_row(f"{name}, {epochs} epochs of UCF101", "", f"{seconds / 3600:.2f} h", "",
                  f"reading meanwhile, on {cpu_count()} cores: {reading_seconds / 3600:.2f} h")


ROWS = dict(reading=reading, kept=kept, crnn=crnn, conv3d=conv3d, resnet=resnet, rates=rates)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # no Linux on x86
        return platform.processor() or platform.machine()


def main():
    args = parse_args()
    rows = args.only or [name for name in ROWS if name != "rates" or torch.cuda.is_available()]
    torch.manual_seed(0)
    print(f"{cpu_name()}, {cpu_count()} cores; torch {torch.__version__}, {torch.get_num_threads()} threads")
    if hasattr(os, "getloadavg"):
        print("load at the start (1, 5, 15 minutes):", ", ".join(f"{load:.1f}" for load in os.getloadavg()))
    print(f"medians of {args.rounds} rounds, of reading twice as many\n")
    print_row("on the CPU", "straightforward", "here", "ratio", "")
    print_row(*["---"] * 5)
    with tempfile.TemporaryDirectory() as folder:
        write_videos(Path(folder), args)
        for name in rows:
            ROWS[name](args, Path(folder))


if __name__ == "__main__":
    main()

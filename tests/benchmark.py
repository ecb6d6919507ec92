"""Compare this project with the straightforward way, in one run, and print a table in Markdown.

    python tests/benchmark.py                      everything, about 20 minutes on two cores, 14 GB of memory
    python tests/benchmark.py --quick              everything on small sizes, in seconds: shows that it runs
    python tests/benchmark.py --only reading crnn  some rows

Both ways take turns (A B A B ...), so that other work on the machine affects both. A figure is the median of
the rounds. The functions plain_* are the straightforward way, without huge pages, bf16 and TF32. One process
for each core reads videos. With a GPU, models train there, and the last rows say what the published schedules
take.
"""
import argparse
import contextlib
import ctypes
import math
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

import av
import numpy as np
import torch
import torch.nn.functional as F
from joblib import cpu_count  # comes with scikit-learn
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "CRNN"))
import functions
import runs
from frames import frame_path
from functions import CNN3D, CRNN, Dataset_CRNN, DecoderRNN, EncoderCNN, ResCNNEncoder
from videos import Video

GPU = torch.cuda.is_available()
UCF101_VIDEOS, NUM_CLASSES = 13320, 101
RESNET152_FLOP = 2 * 11.51e9  # of a frame of 224x224: a multiply-add counts as two
PEAK_FLOPS = 989e12  # an H100 SXM and an H200, bf16
SIZES = dict(  # name: (usual, with --quick)
    rounds=(5, 1), videos=(16, 2), length=(180, 40),  # frames of a video; UCF101 has 186 on average
    frames=(28, 10), size=(224, 64), conv3d_size=((256, 342), (64, 64)),  # of a clip
    conv3d_batch=(30, 2), crnn_batches=((4, 8, 30), (1, 2)), resnet_batch=(40, 4),
    resnet_frame_batch=(40 if GPU else 2, 2),  # the straightforward way computes the ResNet in each step
)


def alternate(rounds: int, *ways) -> list[float]:
    """Run the ways in turn, each twice, of which the second counts. Returns the median seconds of each."""
    times = [[] for _ in ways]
    for _ in range(rounds):
        for way, seconds in zip(ways, times, strict=True):
            for _ in range(2):  # the first settles memory and caches, as steps of a run do for each other
                started = time.perf_counter()
                way()
                if GPU:
                    torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


@contextlib.contextmanager
def plain_settings():
    """Without what runs.py and functions.py ask for: huge pages, TF32, bf16."""
    def set_huge_pages(on: bool) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(41, int(not on), 0, 0, 0)  # PR_SET_THP_DISABLE

    precision, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    set_huge_pages(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    with mock.patch.object(functions, "autocast", lambda X: contextlib.nullcontext()):
        yield
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision(precision)
    set_huge_pages(True)


def print_row(name: str, plain: str, ours: str, ratio: str, *remarks: str) -> None:
    print("|", " | ".join((name, plain, ours, ratio, "; ".join(remarks))), "|", flush=True)


# ------------------------------------------------------------------------------ reading


def write_videos(folder: Path, args) -> tuple[list[str], list[str]]:
    """Write .avi files of 320x240 and their frames as JPEGs of 342x256, as those of UCF101."""
    photos = load_sample_images().images
    for n in range(args.videos):
        jpegs = folder / f"jpegs{n}"
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
    return [sorted(map(str, folder.glob(pattern))) for pattern in ("jpegs*", "*.avi")]


@plain_settings()
def plain_read_jpegs(folder: str, frames: int, size: int) -> torch.Tensor:
    """(T, 3, H, W) float32, normalised: Pillow and torchvision, frame by frame."""
    transform = transforms.Compose([transforms.Resize([size, size]), transforms.ToTensor(),
                                    transforms.Normalize(functions.IMAGENET_MEAN, functions.IMAGENET_STD)])
    return torch.stack([transform(Image.open(frame_path(folder, number + 1))) for number in range(frames)])


def read_clip(path: str, frames: int, size: int) -> torch.Tensor:
    """(T, 3, H, W) uint8: our way."""
    [(X, _, _)] = functions.read_clips(path, [list(range(1, frames + 1))], size, size)
    return X


def read_all(way, frames: int, size: int, paths: list[str]) -> None:
    for path in paths:
        way(path, frames, size)


def reading_rates(args, *ways: tuple) -> list[float]:
    """Frames per second of each (way, paths), a process on each core reading all the paths."""
    cores = cpu_count()
    # of these pools one whose process is killed is an error, not an endless wait
    with ProcessPoolExecutor(cores, initializer=torch.set_num_threads, initargs=[1]) as pool:
        def read(way, paths):
            list(pool.map(partial(read_all, way, args.frames, args.size), [paths] * cores))

        seconds = alternate(2 * args.rounds, *(partial(read, way, paths) for way, paths in ways))
    return [cores * args.videos * args.frames / s for s in seconds]


def reading(args, folder: Path) -> None:
    jpegs, files = write_videos(folder, args)
    plain, ours, file = reading_rates(args, (plain_read_jpegs, jpegs), (read_clip, jpegs), (read_clip, files))
    for name, rate in (("JPEGs of 342x256", ours), ("a .avi of 320x240, against these JPEGs", file)):
        print_row(f"{args.frames} frames of {name}, to {args.size}x{args.size}, {cpu_count()} cores busy",
                  f"{plain:.0f} frames/s", f"{rate:.0f} frames/s", f"{rate / plain:.2f}x")
    args.rates["reading"] = ours


def kept_loader(args, folder: Path, batch: int, shape: tuple, dtype) -> functions.KeptLoader:
    """The loader of a run whose clips or features, random arrays (1, *shape), are kept: 16 batches."""
    video = Video("v", str(folder), "Action", "", label=0)
    dataset = functions.KeptDataset(Dataset_CRNN([video], [1], 8, 8), folder)
    dataset.paths, dataset.videos = [folder / f"{n}.npy" for n in range(16 * batch)], [video] * 16 * batch
    for path in dataset.paths:
        np.save(path, np.random.default_rng(0).integers(0, 255, (1, *shape), np.uint8).astype(dtype))
    options = argparse.Namespace(batch_size=batch, num_workers=cpu_count(), seed=0)
    return functions.make_loader(dataset, options, shuffle=True)


def kept(args, folder: Path) -> None:
    """Kept clips to the device."""
    shape = (args.frames, 3, args.size, args.size)
    loader = kept_loader(args, folder, args.crnn_batches[-1], shape, np.uint8)

    def load():
        for X, _ in loader:
            X.to(args.device, non_blocking=True)

    [seconds] = alternate(args.rounds, load)
    args.rates["bytes"] = len(loader.dataset) * math.prod(shape) / seconds
    print_row(f"kept clips of {'x'.join(map(str, shape))} to the device", "",
              f"{len(loader.dataset) / seconds:.0f} videos/s", "", f"{args.rates['bytes'] / 1e9:.1f} GB/s")


# ------------------------------------------------------------------------------ training steps


def plain_crnn(model: CRNN, X: torch.Tensor) -> torch.Tensor:
    """(N, T, 3, H, W) float32 to logits: the 2D network is called once a frame."""
    encoder, steps = model.encoder, []
    for x in X.unbind(1):
        if isinstance(encoder, EncoderCNN):
            x = encoder.conv4(encoder.conv3(encoder.conv2(encoder.conv1(x)))).flatten(1)
            x = F.relu(encoder.fc2(F.relu(encoder.fc1(x))))
        else:
            with torch.no_grad():
                x = encoder.resnet(x).flatten(1)
            x = F.relu(encoder.bn2(encoder.fc2(F.relu(encoder.bn1(encoder.fc1(x))))))
        steps.append(encoder.fc3(encoder.drop(x)))
    return model.decoder(torch.stack(steps, dim=1))


def plain_cnn3d(model: CNN3D, X: torch.Tensor) -> torch.Tensor:
    """(N, 3, T, H, W) float32 to logits."""
    X = model.drop3d(F.relu(model.bn1(model.conv1(X))))
    X = model.drop3d(F.relu(model.bn2(model.conv2(X))))
    X = F.relu(model.fc1(X.flatten(1)))
    return model.fc3(model.drop(F.relu(model.fc2(X))))


def make_step(model, forward, plain: bool = False):
    """Return step(X, y), a training step from the copy to the device to the optimizer."""
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                 fused=None if plain else True)

    def step(X, y):
        loss = F.cross_entropy(forward(X.to(device, non_blocking=True)), y.to(device, non_blocking=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if plain:
            loss.item()  # it waits to print the loss
    return plain_settings()(step) if plain else step


def make_batch(count: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random clips, uint8, and labels."""
    X, y = torch.randint(256, (count, *shape), dtype=torch.uint8), torch.randint(NUM_CLASSES, (count,))
    return (X.pin_memory(), y.pin_memory()) if GPU else (X, y)


def normalise(model, X: torch.Tensor) -> torch.Tensor:
    """What the straightforward way reads: float32, normalised."""
    if isinstance(model, CNN3D):
        return model.normalize(X)
    return model.encoder.normalize(X.flatten(0, 1)).view(X.shape)  # frame by frame


def compare_steps(args, name: str, model, plain_forward, *shape: int) -> None:
    """Print the row of a training step on a batch of this shape."""
    model, (X, y) = model.to(args.device), make_batch(*shape)
    plain_X = normalise(model, X.to(args.device)).cpu()
    step = make_step(model, model)
    ways = [partial(make_step(model, partial(plain_forward, model), plain=True), plain_X, y),
            partial(step, X, y)]
    if GPU:
        ways.append(partial(plain_settings()(step), X, y))
    plain, ours, *in_float32 = alternate(args.rounds, *ways)
    args.rates[name], remarks = len(y) / ours, []
    if GPU:
        torch.cuda.reset_peak_memory_stats()
        step(X, y)
        remarks = [f"{len(y) / ours:.0f} videos/s, in float32 {len(y) / in_float32[0]:.0f}",
                   f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB at most"]
    with torch.no_grad():
        expected = plain_settings()(plain_forward)(model.eval(), plain_X[:2].to(args.device))
        off = ((model(X[:2].to(args.device)) - expected).abs().max() / expected.abs().max()).item()
    print_row(f"{name} training step, {len(y)} clips of {'x'.join(map(str, X.shape[1:]))}", f"{plain:.2f} s",
              f"{ours:.2f} s", f"{plain / ours:.2f}x", f"outputs within {off:.0e} of the largest", *remarks)


def conv3d(args, folder: Path) -> None:
    compare_steps(args, "Conv3D", CNN3D(args.frames, *args.conv3d_size), plain_cnn3d,
                  args.conv3d_batch, 3, args.frames, *args.conv3d_size)


def crnn(args, folder: Path) -> None:
    for batch in args.crnn_batches:
        compare_steps(args, "CRNN", CRNN(EncoderCNN(args.size, args.size), DecoderRNN()), plain_crnn,
                      batch, args.frames, 3, args.size, args.size)


def resnet(args, folder: Path) -> None:
    """An epoch after the first without the reading of frames; with a GPU also the frozen ResNet."""
    model = CRNN(ResCNNEncoder(weights="none"), DecoderRNN()).to(args.device).train()
    X, y = make_batch(args.resnet_frame_batch, args.frames, 3, args.size, args.size)
    plain_X = normalise(model, X.to(args.device)).cpu()
    plain_step, step = make_step(model, partial(plain_crnn, model), plain=True), make_step(model, model)
    loader = kept_loader(args, folder, args.resnet_batch, (args.frames, 2048), np.float16)
    plain, ours = alternate(args.rounds, partial(plain_step, plain_X, y),
                            lambda: [step(X, y) for X, y in loader])
    plain, ours = plain / len(X), ours / len(loader.dataset)
    print_row("ResNetCRNN epoch after the first, per video", f"{plain:.2f} s", f"{1000 * ours:.2f} ms",
              f"{plain / ours:.0f}x")
    args.rates["ResNetCRNN"] = 1 / ours
    if GPU:
        features = functions.Features(model.encoder).eval()

        def extract():
            features(X.to(args.device, non_blocking=True))

        plain, ours = (len(X) * args.frames / s for s in alternate(
            args.rounds, plain_settings()(extract), extract))
        share = ours * RESNET152_FLOP * (args.size / 224) ** 2 / PEAK_FLOPS
        print_row("frozen ResNet-152", f"{plain:.0f} frames/s (float32)", f"{ours:.0f} frames/s",
                  f"{ours / plain:.2f}x", f"{share:.0%} of the card's bf16 peak")


def schedules(args) -> None:
    """What UCF101 takes with the published schedules, by the rates of the other rows."""
    frame, conv3d_frame = 3 * args.size**2, 3 * math.prod(args.conv3d_size)  # bytes
    schedule = ("Conv3D", 15, conv3d_frame), ("CRNN", 120, frame), ("ResNetCRNN", 120, 2 * 2048)
    for name, epochs, frame_bytes in schedule:
        computing = epochs * UCF101_VIDEOS / args.rates[name] / 3600  # of a test video as of a training video
        loading = epochs * UCF101_VIDEOS * args.frames * frame_bytes / args.rates["bytes"] / 3600
        decoding = epochs * UCF101_VIDEOS * args.frames / args.rates["reading"] / 3600
        print_row(f"{name}, {epochs} epochs of UCF101", "", f"computing {computing:.2f} h", "",
                  f"loading what is kept {loading:.2f} h", f"or decoding in each epoch {decoding:.2f} h")


ROWS = dict(reading=reading, kept=kept, crnn=crnn, conv3d=conv3d, resnet=resnet)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="some rows")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    args = parser.parse_args()
    vars(args).update({name: sizes[args.quick] for name, sizes in SIZES.items()}, rates={})
    torch.manual_seed(0)
    args.device = runs.get_device()
    print(f"{cpu_count()} cores; torch {torch.__version__}")
    print_row("", "straightforward", "here", "ratio")
    print_row(*["---"] * 5)
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            ROWS[name](args, Path(folder))
    if GPU and len(args.only) == len(ROWS):
        schedules(args)


if __name__ == "__main__":
    main()

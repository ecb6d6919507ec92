"""Time this project's way against the straightforward way, in one run, and print a table in Markdown.

    python tests/benchmark.py                      everything, some minutes on two cores and 10 GB of memory
    python tests/benchmark.py --quick              everything on small sizes, in seconds: shows that it runs
    python tests/benchmark.py --only loader avi    some rows

Both ways take turns (A B A B ...), so that what else the machine does meets both alike; a figure is the median of
the rounds behind a first one that is not counted. The straightforward way is written out here, in the functions
named plain_*. The rows of the GPU need CUDA and are left out without it.
"""
import argparse
import contextlib
import copy
import os
import platform
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from unittest import mock

import av
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Conv3D"))
import functions  # noqa: E402
from functions import (BN_MOMENTUM, CNN3D, CRNN, IMAGENET_MEAN, IMAGENET_STD, DecoderRNN, EncoderCNN,  # noqa: E402
                       FeatureDataset, Normalize, ResCNNEncoder, Video, check_frames, frame_path, get_device,
                       list_videos, read_clip, split_videos)

NUM_CLASSES = 101
UCF101_VIDEOS = 13320
ROWS = ("loader", "avi", "crnn", "conv3d", "resnet", "listing", "gpu")
RESNET152_FLOP = 2 * 11.51e9  # a frame of 224x224: torchvision's count of multiply-adds, each two operations
# name: (default, with --quick, help)
PARAMETERS = dict(
    rounds=(5, 2, "rounds that count"),
    frames=(28, 10, "frames of a clip"),
    clips=(8, 2, "loader, avi: clips read in a round"),
    img_size=(224, 64, "loader, avi, CRNN, ResNetCRNN: height and width of a clip"),
    crnn_batch=(4, 2, "crnn: videos a step"),
    conv3d_batch=(8, 2, "conv3d: videos a step"),
    conv3d_x=(256, 64, "Conv3D: height of a clip"),
    conv3d_y=(342, 64, "Conv3D: width of a clip"),
    resnet_videos=(2, 2, "resnet: videos a step on frames"),
    feature_batch=(40, 4, "resnet: videos a step on cached features"),
    folders=(13320, 1000, "listing: frame folders"),
    gpu_batch=(30, 2, "gpu: videos a step of Conv3D and CRNN"),
    gpu_feature_batch=(40, 4, "gpu: videos a step of ResNetCRNN"),
    gpu_steps=(5, 1, "gpu: steps in a round"),
    peak_tflops=(989.0, 989.0, "gpu: the card's dense bf16 peak (H100 SXM: 989)"),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=functions.HelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=" ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="small sizes; a size given as a flag still wins")
    for name, (default, _, text) in PARAMETERS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    if parser.parse_args().quick:
        parser.set_defaults(**{name: quick for name, (_, quick, _) in PARAMETERS.items()})
    return parser.parse_args()


def synchronize() -> None:
    """Wait for the GPU, which works on after a call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(rounds: int, *ways) -> list[float]:
    """Run the ways in turn. Returns the median seconds of each."""
    times = [[] for _ in ways]
    for _ in range(1 + rounds):
        for way, seconds in zip(ways, times):
            synchronize()
            started = time.perf_counter()
            way()
            synchronize()
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds[1:]) for seconds in times]


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


# ------------------------------------------------------------------------------ reading


def make_images(count: int, height: int, width: int) -> list[np.ndarray]:
    """Shifted cut-outs of the two photographs that scikit-learn ships, (height, width, 3) uint8."""
    photos = load_sample_images().images
    places = [(photos[n % 2], 5 * n % (427 - height), 7 * n % (640 - width)) for n in range(count)]
    return [photo[y:y + height, x:x + width] for photo, y, x in places]


def write_jpegs(folder: Path, images: list[np.ndarray]) -> str:
    folder.mkdir()
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).save(frame_path(str(folder), number), quality=90)
    return str(folder)


def write_avi(path: Path, images: list[np.ndarray]) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 1_000_000  # about UCF101's
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def scaled_frames(film: str, count: int) -> list[np.ndarray]:
    """The first frames of a video at 342x256, the size of the original tutorial's data set."""
    with av.open(film) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    return [np.asarray(frame.resize((342, 256))) for frame in frames[:count]]


def decode_only(folder: str, frames: list[int]) -> list[Image.Image]:
    return [Image.open(frame_path(folder, number)).convert("RGB") for number in frames]


def plain_read_clip(folder: str, frames: list[int], size: int) -> torch.Tensor:
    """(T, 3, H, W) float32, normalised."""
    transform = transforms.Compose([transforms.Resize([size, size]), transforms.ToTensor(),
                                    transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    return torch.stack([transform(Image.open(frame_path(folder, number))) for number in frames])


def reading(args) -> tuple[list[tuple], float]:
    """The rows loader and avi, and the frames/s of the first on one core."""
    threads, frames, size = torch.get_num_threads(), list(range(1, args.frames + 1)), args.img_size
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        films = [write_avi(Path(temporary) / f"{n}.avi", make_images(60, 240, 320)) for n in range(args.clips)]
        folders = [write_jpegs(Path(temporary) / f"jpegs{n}", scaled_frames(film, args.frames))
                   for n, film in enumerate(films)]
        seconds = alternate(args.rounds,
                            lambda: [plain_read_clip(folder, frames, size) for folder in folders],
                            lambda: [read_clip(folder, frames, size, size) for folder in folders],
                            lambda: [decode_only(folder, frames) for folder in folders],
                            lambda: [read_clip(film, frames, size, size) for film in films])
        pillow = np.stack([image.resize((size, size), Image.Resampling.BILINEAR)
                           for image in decode_only(folders[0], frames)])
        clip = read_clip(folders[0], frames, size, size)[0].permute(0, 2, 3, 1).numpy()
    torch.set_num_threads(threads)
    difference = np.abs(clip.astype(int) - pillow.astype(int)).max()
    plain, ours, decode, film = (args.clips * args.frames / s for s in seconds)
    return [
        (f"JPEGs of 342x256 to {size}x{size}, one core", f"{plain:.0f} frames/s", f"{ours:.0f} frames/s",
         f"{ours / plain:.2f}x", f"{ours / decode:.0%} of decoding alone ({decode:.0f}); "
                                 f"pixels within {difference}/255 of Pillow's"),
        (f"first {args.frames} frames of a 320x240 .avi, to the same", f"{plain:.0f} frames/s (JPEGs)",
         f"{film:.0f} frames/s", f"{film / plain:.2f}x", ""),
    ], ours


def listing(args) -> list[tuple]:
    """The row of finding, checking and splitting frame folders."""
    actions = [f"Action{n}" for n in range(NUM_CLASSES)]
    with tempfile.TemporaryDirectory() as temporary:
        for n in range(args.folders):
            clip, rest = divmod(n, 25 * NUM_CLASSES)
            folder = f"{temporary}/v_{actions[rest % NUM_CLASSES]}_g{rest // NUM_CLASSES + 1:02d}_c{clip + 1:02d}"
            os.mkdir(folder)
            for number in (1, 28):
                open(frame_path(folder, number), "w").close()

        def find():
            videos = list_videos(temporary, actions)
            check_frames(videos, list(range(1, 29)))
            split_videos(videos, "random", 42)

        seconds, = alternate(args.rounds, find)
    return [(f"list, check and split {args.folders:,} frame folders", "", f"{seconds:.2f} s", "", "")]


# ------------------------------------------------------------------------------ training steps


def plain_head(encoder, x: torch.Tensor) -> torch.Tensor:
    """The linear layers behind EncoderCNN's convolutions."""
    x = F.relu(encoder.fc1(x.flatten(1)))
    return encoder.fc3(encoder.drop(F.relu(encoder.fc2(x))))


def plain_crnn(model: CRNN, X: torch.Tensor) -> torch.Tensor:
    """(N, T, 3, H, W) float32 to logits: the 2D network is called once a frame."""
    embeddings = []
    for t in range(X.shape[1]):
        x = model.encoder.conv1(X[:, t])
        x = model.encoder.conv2(x)
        x = model.encoder.conv3(x)
        x = model.encoder.conv4(x)
        embeddings.append(plain_head(model.encoder, x))
    return model.decoder(torch.stack(embeddings, dim=1))


def plain_resnet_crnn(model: CRNN, X: torch.Tensor) -> torch.Tensor:
    """(N, T, 3, H, W) float32 to logits: the frozen ResNet is called once a frame, in every epoch."""
    encoder, embeddings = model.encoder, []
    for t in range(X.shape[1]):
        with torch.no_grad():
            x = encoder.resnet(X[:, t]).flatten(1)
        x = F.relu(encoder.bn1(encoder.fc1(x)))
        x = F.relu(encoder.bn2(encoder.fc2(x)))
        embeddings.append(encoder.fc3(encoder.drop(x)))
    return model.decoder(torch.stack(embeddings, dim=1))


def plain_cnn3d(model: CNN3D, X: torch.Tensor) -> torch.Tensor:
    """(N, 3, T, H, W) float32 in the default memory format to logits."""
    X = model.drop3d(F.relu(model.bn1(model.conv1(X))))
    X = model.drop3d(F.relu(model.bn2(model.conv2(X))))
    X = F.relu(model.fc1(X.flatten(1)))
    X = model.drop(F.relu(model.fc2(X)))
    return model.fc3(X)


def plain_copy(model: CRNN) -> CRNN:
    """The same weights, with the BatchNorm momentum of a network that is called once a frame."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if getattr(module, "momentum", None) == BN_MOMENTUM:
            module.momentum = 0.01
    return model


def train_step(forward, optimizer, X: torch.Tensor, y: torch.Tensor, device, wait: bool) -> None:
    """wait: for the loss, at every step, as the straightforward way prints it."""
    X, y = X.to(device, non_blocking=True), y.to(device, non_blocking=True)
    loss = F.cross_entropy(forward(X), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if wait:
        loss.item()


def make_optimizer(model, **options) -> torch.optim.Adam:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, **options)


def make_clips(*shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Random clips (N, ...) as uint8, and labels (N,)."""
    X, y = torch.randint(0, 256, shape, dtype=torch.uint8), torch.randint(0, NUM_CLASSES, shape[:1])
    return (X.pin_memory(), y.pin_memory()) if torch.cuda.is_available() else (X, y)


def make_crnn(args) -> CRNN:
    return CRNN(EncoderCNN(args.img_size, args.img_size), DecoderRNN(num_classes=NUM_CLASSES))


def make_resnet_crnn() -> CRNN:
    return CRNN(ResCNNEncoder(weights="none"), DecoderRNN(num_classes=NUM_CLASSES))


def make_cnn3d(args) -> CNN3D:
    return CNN3D(args.frames, args.conv3d_x, args.conv3d_y, num_classes=NUM_CLASSES)


@torch.no_grad()
def compare_outputs(model, plain_forward, X: torch.Tensor, plain_X: torch.Tensor) -> str:
    """Say by how much the two ways' outputs differ in eval mode."""
    model.eval()
    difference = relative_difference(model(X), plain_forward(model, plain_X))
    return f"eval outputs differ by {difference:.0e} of the largest"


def crnn(args) -> list[tuple]:
    """The row of a training step of CRNN."""
    model = make_crnn(args)
    plain_model = plain_copy(model)
    optimizer, plain_optimizer = make_optimizer(model, fused=True), make_optimizer(plain_model)
    X, y = make_clips(args.crnn_batch, args.frames, 3, args.img_size, args.img_size)
    plain_X = model.encoder.normalize(X)
    plain, ours = alternate(
        args.rounds,
        lambda: train_step(partial(plain_crnn, plain_model), plain_optimizer, plain_X, y, "cpu", wait=True),
        lambda: train_step(model, optimizer, X, y, "cpu", wait=False))
    return [(f"CRNN training step, {args.crnn_batch} x {args.frames}x{args.img_size}x{args.img_size}",
             f"{plain:.2f} s", f"{ours:.2f} s", f"{plain / ours:.2f}x", compare_outputs(model, plain_crnn, X, plain_X))]


def conv3d(args) -> list[tuple]:
    """The rows of a training step of CNN3D. Both ways train one model, or memory would not do."""
    model = make_cnn3d(args)
    optimizer = make_optimizer(model)
    X, y = make_clips(args.conv3d_batch, 3, args.frames, args.conv3d_x, args.conv3d_y)
    plain_X = model.normalize(X)

    def forward_backward(forward, X):
        model.zero_grad()
        F.cross_entropy(forward(X), y).backward()

    def adam(fused):
        optimizer.param_groups[0]["fused"] = fused  # on a CPU the two keep the same state
        optimizer.step()

    plain, plain_adam, ours, ours_adam = alternate(
        args.rounds, lambda: forward_backward(partial(plain_cnn3d, model), plain_X), lambda: adam(None),
        lambda: forward_backward(model, X), lambda: adam(True))
    size = f"{args.conv3d_batch} x {args.frames}x{args.conv3d_x}x{args.conv3d_y}"
    parameters = sum(p.numel() for p in model.parameters())
    return [
        (f"Conv3D forward and backward, {size}", f"{plain:.2f} s", f"{ours:.2f} s", f"{plain / ours:.2f}x",
         compare_outputs(model, plain_cnn3d, X, plain_X)),
        (f"Conv3D optimizer, {parameters / 1e6:,.0f} M parameters, {model.fc1.weight.numel() / parameters:.2%} of "
         "them in fc1", f"{plain_adam:.2f} s", f"{ours_adam:.2f} s", f"{plain_adam / ours_adam:.2f}x",
         f"{plain_adam / (plain + plain_adam):.0%} and {ours_adam / (ours + ours_adam):.0%} of a step"),
    ]


def resnet(args) -> list[tuple]:
    """The row of an epoch of ResNetCRNN after the first. The frames' reading, which features spare, is not counted."""
    model = make_resnet_crnn().train()
    plain_model = plain_copy(model)
    optimizer, plain_optimizer = make_optimizer(model, fused=True), make_optimizer(plain_model)
    X, y = make_clips(args.resnet_videos, args.frames, 3, args.img_size, args.img_size)
    plain_X = model.encoder.normalize(X)
    videos = [Video(f"v_Action_g01_c{n:02d}", "", "Action", 1) for n in range(args.feature_batch)]
    with tempfile.TemporaryDirectory() as temporary:
        np.save(f"{temporary}/00000.npy", np.random.rand(len(videos), args.frames, 2048).astype(np.float16))
        features = dict(zip([video.name for video in videos], np.load(f"{temporary}/00000.npy", mmap_mode="r")))
        loader = DataLoader(FeatureDataset(features, videos, [0] * len(videos)), len(videos), shuffle=True)

        def cached_epoch():
            for X, y in loader:
                train_step(model, optimizer, X, y, "cpu", wait=False)

        plain, ours = alternate(
            args.rounds,
            lambda: train_step(partial(plain_resnet_crnn, plain_model), plain_optimizer, plain_X, y, "cpu", wait=True),
            cached_epoch)
    plain, ours = plain / len(y), ours / len(videos)
    return [("ResNetCRNN epoch after the first, a video", f"{plain:.2f} s", f"{1000 * ours:.2f} ms",
             f"{plain / ours:.0f}x", f"features of UCF101: {UCF101_VIDEOS * 28 * 2048 * 2 / 1e9:.1f} GB")]


# ------------------------------------------------------------------------------ on a GPU


@contextlib.contextmanager
def without_bf16():
    with mock.patch.object(functions, "autocast", lambda X: contextlib.nullcontext()):
        yield


@contextlib.contextmanager
def original_settings():
    """PyTorch's own settings instead of get_device's, and no bf16."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    with without_bf16():
        yield
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def repeated(count: int, call, context=contextlib.nullcontext):
    """A way that makes `count` calls and, as training does, waits for the GPU only behind the last."""
    def way():
        with context():
            for _ in range(count):
                call()
    return way


def gpu_training(args, model, X: torch.Tensor, y: torch.Tensor) -> list[float]:
    """Videos/s of training steps without and with bf16, and of test steps; the copying to the GPU is counted."""
    optimizer = make_optimizer(model.cuda().train(), fused=True)
    step = partial(train_step, model, optimizer, X, y, "cuda", wait=False)
    seconds = alternate(args.rounds, repeated(args.gpu_steps, step, without_bf16), repeated(args.gpu_steps, step))
    model.eval()
    seconds += alternate(args.rounds, repeated(args.gpu_steps, lambda: model(X.to("cuda", non_blocking=True)),
                                               torch.no_grad))
    return [args.gpu_steps * len(y) / s for s in seconds]


def gpu_loop(args, model: CRNN, X: torch.Tensor, y: torch.Tensor) -> tuple:
    """The row of a training step of CRNN against the float32 loop over time."""
    plain_model, plain_X = plain_copy(model).cuda(), model.cpu().encoder.normalize(X).pin_memory()
    optimizer, plain_optimizer = make_optimizer(model.cuda().train(), fused=True), make_optimizer(plain_model.train())
    plain_step = partial(train_step, partial(plain_crnn, plain_model), plain_optimizer, plain_X, y, "cuda", wait=True)
    step = partial(train_step, model, optimizer, X, y, "cuda", wait=False)
    plain, ours = (args.gpu_steps * len(y) / seconds for seconds in alternate(
        args.rounds, repeated(args.gpu_steps, plain_step, original_settings), repeated(args.gpu_steps, step)))
    return ("CRNN training against the float32 loop over time", f"{plain:.0f} videos/s", f"{ours:.0f} videos/s",
            f"{ours / plain:.1f}x", "")


def gpu_features(args, model: CRNN, X: torch.Tensor) -> tuple[tuple, float]:
    """The row of ResNet-152's features, and their frames/s."""
    model.cuda().eval()
    step = torch.no_grad()(lambda: model(X.to("cuda", non_blocking=True), only_features=True))
    slow, fast = (args.gpu_steps * X.shape[0] * X.shape[1] / seconds for seconds in alternate(
        args.rounds, repeated(args.gpu_steps, step, without_bf16), repeated(args.gpu_steps, step)))
    flop = RESNET152_FLOP * (args.img_size / 224) ** 2
    return ("ResNet-152 features", f"{slow:.0f} frames/s", f"{fast:.0f} frames/s", f"{fast / slow:.2f}x",
            f"{fast * flop / (args.peak_tflops * 1e12):.0%} of {args.peak_tflops:.0f} TFLOP/s"), fast


def gpu(args, read_rate: float) -> list[tuple]:
    """The rows of the GPU. read_rate: frames/s that one core reads."""
    clips = make_clips(args.gpu_batch, args.frames, 3, args.img_size, args.img_size)
    clips_3d = make_clips(args.gpu_batch, 3, args.frames, args.conv3d_x, args.conv3d_y)
    features, labels = make_clips(args.gpu_feature_batch, args.frames, 2048)
    resnet_crnn = make_resnet_crnn()
    feature_row, feature_rate = gpu_features(args, resnet_crnn, clips[0][:functions.VIDEOS_PER_FILE])
    rows, schedules = [gpu_loop(args, make_crnn(args), *clips), feature_row], []
    for name, epochs, read_epochs, model, (X, y) in (
            ("Conv3D", 15, 15, make_cnn3d(args), clips_3d), ("CRNN", 120, 120, make_crnn(args), clips),
            ("ResNetCRNN", 120, 1, resnet_crnn, (features.half().pin_memory(), labels))):
        slow, fast, test = gpu_training(args, model, X, y)
        rows.append((f"{name} training, {len(y)} videos a step" + ", on features" * (name == "ResNetCRNN"),
                     f"{slow:.0f} videos/s", f"{fast:.0f} videos/s", f"{fast / slow:.2f}x", f"test {test:.0f} videos/s"))
        seconds = epochs * (UCF101_VIDEOS * 0.75 / fast + UCF101_VIDEOS * 0.25 / test)
        frames = UCF101_VIDEOS * args.frames
        seconds += frames / feature_rate * (name == "ResNetCRNN")
        reading = read_epochs * frames / (read_rate * os.cpu_count())
        schedules.append((f"{name}, {epochs} epochs of UCF101", "", f"{seconds / 3600:.2f} h", "",
                          f"reading meanwhile, on {os.cpu_count()} cores: {reading / 3600:.2f} h"))
    return rows + schedules


# ------------------------------------------------------------------------------ the table


def print_rows(*rows: tuple) -> None:
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # no Linux on x86
        return platform.processor() or platform.machine()


def main():
    args = parse_args()
    torch.manual_seed(0)
    on_gpu = "gpu" in args.only and torch.cuda.is_available()
    print(f"{cpu_name()}, {torch.get_num_threads()} threads; torch {torch.__version__}, torchvision "
          f"{torchvision.__version__}; medians of {args.rounds} rounds\n")
    print_rows(("on the CPU", "straightforward", "this project", "ratio", ""), ("---",) * 5)
    if on_gpu or {"loader", "avi"} & set(args.only):
        read_rows, read_rate = reading(args)
        print_rows(*read_rows)
    for name, measure in (("crnn", crnn), ("conv3d", conv3d), ("resnet", resnet), ("listing", listing)):
        if name in args.only:
            print_rows(*measure(args))
    if on_gpu:
        print()
        get_device()  # sets TF32 and the like
        print_rows((f"on {torch.cuda.get_device_name()}", "without bf16", "with bf16", "ratio", ""), ("---",) * 5)
        print_rows(*gpu(args, read_rate))
    elif "gpu" in args.only:
        print("\nNo CUDA here: the rows of the GPU are left out.")


if __name__ == "__main__":
    main()

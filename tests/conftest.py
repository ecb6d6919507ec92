"""Small videos, and a way to run the scripts as a user does."""
import contextlib
import importlib
import io
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # the tests' models are too small for more
if "TEST_ON_GPUS" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # equality to the last bit is promised on a CPU

import av  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

REPO = Path(__file__).resolve().parent.parent
SCRIPTS = {
    "Conv3D": REPO / "Conv3D" / "UCF101_3DCNN.py",
    "CRNN": REPO / "CRNN" / "UCF101_CRNN.py",
    "ResNetCRNN": REPO / "ResNetCRNN" / "UCF101_ResNetCRNN.py",
}
sys.path[:0] = [str(REPO), *(str(script.parent) for script in SCRIPTS.values())]
MODELS = list(SCRIPTS)
MODULES = {model: importlib.import_module(script.stem) for model, script in SCRIPTS.items()}

import runs  # noqa: E402

ACTIONS = ["Biking", "HandstandPushups", "Punch"]
SMALL = {  # the smallest sizes at which each model runs in seconds
    "Conv3D": ["--img_x", "24", "--img_y", "32", "--fc_hidden1", "16", "--fc_hidden2", "16"],
    "CRNN": ["--img_x", "40", "--img_y", "40", "--CNN_fc_hidden1", "16", "--CNN_fc_hidden2", "16",
             "--CNN_embed_dim", "16", "--RNN_hidden_nodes", "16", "--RNN_FC_dim", "16"],
    "ResNetCRNN": ["--res_size", "32", "--CNN_fc_hidden1", "16", "--CNN_fc_hidden2", "16",
                   "--CNN_embed_dim", "16", "--RNN_hidden_nodes", "16", "--RNN_FC_dim", "16",
                   "--resnet_weights", "none"],
}


def write_frames(folder: Path, images) -> None:
    """Write arrays (H, W, 3) as a frame folder."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).save(folder / f"frame{number:06d}.jpg", quality=95)


def to_frame(image: np.ndarray) -> av.VideoFrame:
    name = "rgb48le" if image.dtype == np.uint16 else {3: "rgb24", 4: "rgba"}[image.shape[2]]
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), name)


def write_video(path: Path, images, codec: str = "mpeg4", pix_fmt: str = "", rate=25, times=None,
                **options) -> Path:
    """Write arrays (H, W, 3), or 4 with transparency, as a video file. times: of frames, in milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(images):
            frame = to_frame(image)
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_images(seed: int, count: int = 12, height: int = 30, width: int = 40) -> list[np.ndarray]:
    """Smooth random frames, so that JPEG and video coding change them little."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        images.append(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)))
    return images


def tree(root: Path, *paths: str) -> Path:
    """Make empty files: to find videos, names are enough."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def broken_frames(folder: Path) -> None:
    """Of a frame folder: frame 3 is truncated, 4 empty, 5 no picture."""
    data = (folder / "frame000003.jpg").read_bytes()
    (folder / "frame000003.jpg").write_bytes(data[: len(data) // 2])
    (folder / "frame000004.jpg").write_bytes(b"")
    (folder / "frame000005.jpg").write_bytes(b"no picture")


class Payload:
    """Unpickled without care, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """3 actions x 4 groups x 2 clips of 12 frames, as frame folders, and actions.pkl beside them."""
    root = tmp_path_factory.mktemp("data")
    for a, action in enumerate(ACTIONS):
        for group in range(1, 5):
            for clip in (1, 2):
                images = make_images(100 * a + 10 * group + clip)
                write_frames(root / "jpegs" / f"v_{action}_g{group:02d}_c{clip:02d}", images)
    (root / "actions.pkl").write_bytes(pickle.dumps(ACTIONS))
    return root


def arguments(model: str, data: Path, save_model_path: Path, *more) -> list[str]:
    """The command of a short run of a training script."""
    return [sys.executable, str(SCRIPTS[model]), "--data_path", str(data / "jpegs"),
            "--action_name_path", str(data / "actions.pkl"), "--save_model_path", str(save_model_path),
            "--split", "group", "--end_frame", "11", "--batch_size", "6", "--epochs", "2",
            "--num_workers", "0", "--learning_rate", "1e-3", *SMALL[model], *map(str, more)]


def run(*command, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Run a command; a failure shows what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=240,
                          **options)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def run_here(script: Path, *words, check: bool = True,
             encoding: str = "utf-8") -> subprocess.CompletedProcess:
    """Run a script's main() in this process, which spares it the seconds of importing torch.

    Its output has the encoding of a terminal that shows nothing else: what it cannot encode is an error.
    """
    module = importlib.import_module(script.stem)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, "strict", newline="") for _ in range(2))
    argv, sys.argv, code = sys.argv, [str(script), *map(str, words)], 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runs.run(module.main, resumes=hasattr(module, "DEMO"))
    except SystemExit as exit:
        code = exit.code or 0
    finally:
        sys.argv = argv
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))
    done = subprocess.CompletedProcess(words, code, *texts)
    if check:
        assert code == 0, done.stdout + done.stderr
    return done


def train(model: str, data: Path, save_model_path: Path, *more, **options) -> subprocess.CompletedProcess:
    """A short run of a training script in this process."""
    _, script, *words = arguments(model, data, save_model_path, *more)
    return run_here(Path(script), *words, **options)


def predict(*words, **options) -> subprocess.CompletedProcess:
    """A run of check_model_prediction.py in this process."""
    return run_here(REPO / "check_model_prediction.py", "--num_workers", "0", *words, **options)


def load(path: Path) -> dict:
    """A checkpoint, as a stranger's would be loaded: tensors and plain values only."""
    return torch.load(path, weights_only=True)


def histories(folder: Path) -> dict[str, np.ndarray]:
    return {key: np.load(folder / f"epoch_{key}.npy")
            for key in ("train_loss", "train_score", "test_loss", "test_score")}


def assert_same_run(a: Path, b: Path, name: str, epoch: int) -> None:
    """Losses, scores and weights equal to the last bit, on a GPU nearly."""
    found, expected = ({key: torch.from_numpy(values) for key, values in histories(folder).items()}
                       | load(folder / f"{name}_epoch{epoch}.pth")["model"] for folder in (a, b))
    rounding = 0.02 if torch.cuda.is_available() else 0
    torch.testing.assert_close(found, expected, rtol=rounding, atol=rounding)


def assert_refused(done: subprocess.CompletedProcess, *words: str, status: int = 1) -> None:
    """The run ended in a message of one or two lines that holds these words, and in no traceback."""
    lines = done.stderr.strip().splitlines()
    message = lines[-1] if status == 2 and lines else done.stderr  # argparse shows the usage before
    assert done.returncode == status and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert len(message.strip().splitlines()) <= 2, message
    for word in words:
        assert word in message, message


def damage(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="session")
def trained(small_data, tmp_path_factory):
    """trained(model) -> the folder of a finished run of two epochs; each model is trained once."""
    folders = {}

    def get(model: str) -> Path:
        if model not in folders:
            folders[model] = tmp_path_factory.mktemp(model)
            (folders[model] / "output.txt").write_text(train(model, small_data, folders[model]).stdout)
        return folders[model]

    return get


SLOW_RUNS = {}  # {name of a test: its run, a function of small_data and an empty folder}, by the test files


def pytest_configure(config):
    """A deprecation that a line of this project or torch meets is the next version's break."""
    for module in ("torch", "runs", "frames", "videos", "functions", "UCF101_", "check_", "conf", "test_"):
        for category in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"):
            config.addinivalue_line("filterwarnings", f"error::{category}:{module}")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.name in SLOW_RUNS)  # last


@pytest.fixture(scope="session", autouse=True)
def slow_runs(request, tmp_path_factory):
    """{name of a test: the future of its run}. The runs of the selected tests start with the session, one
    after the other, on a core that the other tests leave idle."""
    with ThreadPoolExecutor(1) as pool:
        futures = {}
        for item in request.session.items:
            if item.name in SLOW_RUNS:
                data, folder = request.getfixturevalue("small_data"), tmp_path_factory.mktemp("slow")
                futures[item.name] = pool.submit(SLOW_RUNS[item.name], data, folder)
        yield futures
        pool.shutdown(cancel_futures=True)

"""What keeps a long run alive: parameters, messages, devices, processes, checkpoints and curves.

    1. Messages                InputError, report, user_file
    2. Parameters              parse_args
    3. Running a script        run, explain
    4. Devices and processes   get_device, parallelize, join_processes, start_worker
    5. Files                   atomic_file, open_output_folder
    6. Checkpoints             load_checkpoint, start_from, save_epoch, resume_training
    7. Progress                progress_bar, add_epoch, plot_curves, print_outcome, read_curves

You can skip this file at first: it says nothing about video. It imports none of the other files.
The file is the same in Conv3D/, CRNN/ and ResNetCRNN/. Edit the one in Conv3D/ and copy it to the others.
"""
import argparse
import contextlib
import math
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from filelock import FileLock, Timeout  # comes with torch
from matplotlib.figure import Figure
from tqdm import tqdm

# Use huge pages on Linux for large tensors; set before the first one. This halves a Conv3D step on a CPU
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# torchrun starts one process per GPU, number RANK of WORLD_SIZE; a cluster may set only some of the variables
TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
RANK, WORLD_SIZE = (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if TORCHRUN else (0, 1)

# ------------------------------------------------------------------------------ 1. Messages


class InputError(Exception):
    """An error that the user can fix. run() prints its message without traceback and exits with status 1."""


OUT_OF_MEMORY = "memory is full: lower --batch_size, --num_workers or the frame size"


def report(label: str, text: str) -> None:
    """Print a label and a paragraph, in lines of 80 columns."""
    print(textwrap.fill(text, 80, initial_indent=f"{label:<8}", subsequent_indent=" " * 8,
                        break_long_words=False, break_on_hyphens=False))


def abbreviate(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def join_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in counts.items() if count)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def shell_command(*words: str) -> str:
    """Join words to a command line, quoted for this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


@contextlib.contextmanager
def user_file(path: str | Path) -> Iterator[None]:
    """Turn an error of the system, or text that is not UTF-8, into an InputError that names the path."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


# ------------------------------------------------------------------------------ 2. Parameters


def parse_args(doc: str, parameters: dict, demo: dict, few_videos: dict) -> argparse.Namespace:
    """Make a flag --name of each name=(default, help[, choices or smallest value]); read the command line.

    With --demo, `demo` replaces defaults, with --few_videos `few_videos`. Without a smallest value, int
    parameters must be 1 or more and float parameters above 0; float parameters must be below 1.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    for name, (default, text, *limit) in parameters.items():
        options = dict(type=type(default), metavar=type(default).__name__)
        if isinstance(default, bool):
            options = dict(action=argparse.BooleanOptionalAction)  # --resume, --no-resume
        elif limit and isinstance(limit[0], tuple):
            options = dict(type=type(default), choices=limit[0])
        text = f"{text} (default: {default})".replace("%", "%%")  # a path may hold a %
        parser.add_argument(f"--{name}", default=default, help=text, **options)
    args = parser.parse_args()
    if args.demo and args.few_videos:
        parser.error("--demo and --few_videos are two sets of parameters: use one of them")
    if args.demo or args.few_videos:
        parser.set_defaults(**demo if args.demo else few_videos)  # a value on the command line still wins
        args = parser.parse_args()
    for name, (default, _, *limit) in parameters.items():
        value = getattr(args, name)
        smallest = limit[0] if limit else 1
        if type(default) is int and type(smallest) is int and not smallest <= value < 2**31:
            parser.error(f"argument --{name}: {value} is out of range")
        if type(default) is float and not (0 < value < 1 or limit and value == smallest):
            parser.error(f"argument --{name}: {value} is out of range")
        if (name.endswith("_path") or name == "start_from") and value != "none":
            setattr(args, name, os.path.abspath(value))
    if args.augment != "none" and getattr(args, "cache_features", False):
        parser.error(f"argument --augment: {args.augment} changes the frames in every epoch, so features "
                     "cannot be kept; add --no-cache_features")
    # the torchrun processes on one machine share its cores
    args.num_workers = math.ceil(args.num_workers / int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    return args


# ------------------------------------------------------------------------------ 3. Running a script


def run(main: Callable[[], None], resumes: bool = True) -> None:
    """Run a script. Errors of the user end in one or two lines and status 1, Ctrl-C in status 130."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # log files grow line by line; any file name can be printed
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    store = None
    try:
        store = join_processes() if TORCHRUN else None
        main()
        if TORCHRUN:
            dist.destroy_process_group()
            end_process("", 0)
    except KeyboardInterrupt:
        message = "\nInterrupted."
        if resumes:
            words = sys.argv if "--resume" in sys.argv else [*sys.argv, "--resume"]
            message += (" The finished epochs are saved. To continue:\n"
                        f"  {'torchrun ...' if TORCHRUN else 'python'} {shell_command(*words)}")
        end_process(message if RANK == 0 else "", 130)
    except Exception as error:
        message = explain(error)
        if not message:
            raise
        with contextlib.suppress(RuntimeError):  # the process that holds the store may have ended
            if store and store.add(ascii(message), 1) > 1:  # another process has printed it
                message = ""
        end_process(message and f"Error: {message}", 1)


# what torch raises as a plain RuntimeError or ValueError: a part of its text, and what to tell the user
WORKER_DIED = "DataLoader worker (pid"
KNOWN_ERRORS = {
    WORKER_DIED: "a process that reads videos was killed, usually because memory or Docker's shared memory "
                 "ran out: lower --batch_size or --num_workers (0 needs no shared memory)",
    "can't allocate memory": OUT_OF_MEMORY,
    "shared memory": "there is too little shared memory: use --num_workers 0, or docker run --shm-size 8g",
    "more than 1 value per channel": "the last batch of an epoch has a single clip, and BatchNorm needs more "
                                     "than one value: choose another --batch_size or larger frames",
}


def explain(error: Exception) -> str:
    """Return the message for an error that the user can fix, "" for any other."""
    if isinstance(error, InputError):  # from a worker process its text is the traceback there
        return re.split(r"(?:InputError|UnreadableVideo): ", str(error))[-1].strip()
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, BrokenPipeError):  # nobody reads the output, as after "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python writes to it at exit
        return "the program that reads the output has ended"
    message = str(error).strip().rpartition("\n")[2]  # above it, an error from a worker has its traceback
    return next((text for part, text in KNOWN_ERRORS.items() if part in message), "")


def end_process(message: str, status: int) -> None:
    """End this process with a message.

    Under torchrun it ends at once. After an error, an orderly end may wait for the other processes, which
    wait for this one. After a good run it may abort, because threads of torch.distributed still hold tensors.
    """
    if message:
        print(message, file=sys.stderr, flush=True)
    if TORCHRUN:
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


# ------------------------------------------------------------------------------ 4. Devices and processes


def get_device() -> torch.device:
    """Choose CUDA or the CPU.

    Apple's MPS is not used: Conv3d has been silently wrong and BatchNorm3d has crashed on it
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
    """Move the model to the device and wrap it in DataParallel, under torchrun in DistributedDataParallel.

    DataParallel splits each batch over all visible GPUs. With one GPU or none it changes nothing.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    print(f"Model   {total:,} parameters, {trained:,} of them trainable")
    model = model.to(device)
    if TORCHRUN:
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)  # no second copy
    if device.type == "cuda":
        return nn.DataParallel(model)
    parallel = nn.DataParallel(nn.Identity())  # it would move the model to a GPU that is visible
    parallel.module, parallel.device_ids = model, []
    return parallel


def join_processes() -> dist.Store:
    """Join the processes that torchrun started. Only rank 0 prints. Returns the store that they share."""
    backend, gpu = "gloo", None
    if torch.cuda.is_available():
        backend, gpu = "nccl", torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if gpu.index >= torch.cuda.device_count():
            raise InputError(f"--nproc_per_node is more than the number of GPUs, {torch.cuda.device_count()}")
        torch.cuda.set_device(gpu)
    store, *_ = next(dist.rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":  # one machine: all processes know the number of the restart
        # the store outlives the processes: without a prefix, restarted ones find old addresses
        store = dist.PrefixStore("attempt" + os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    dist.init_process_group(backend, store=store, rank=RANK, world_size=WORLD_SIZE, device_id=gpu,
                            timeout=timedelta(hours=2))  # some processes finish their features much earlier
    if RANK > 0:
        sys.stdout = open(os.devnull, "w", errors="backslashreplace")
    return store


def start_worker(worker_id: int) -> None:
    """Ignore Ctrl-C in a worker, because the main process stops its workers, and end when that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = lambda *error: None  # or the thread that passes tensors prints an error
    threading.Thread(target=end_with_main_process, daemon=True).start()


def end_with_main_process() -> None:
    multiprocessing.parent_process().join()  # the main process, also where a fork server started this one
    os._exit(1)


# ------------------------------------------------------------------------------ 5. Files


@contextlib.contextmanager
def atomic_file(path: str | Path):
    """Open a file that is written completely or not at all: write a temporary file, flush it, rename it."""
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError when the disk is full
        with contextlib.suppress(OSError):  # it must not hide the first error
            os.unlink(temporary)
        if WORKER_DIED in str(error):
            raise
        raise InputError(f"{path} could not be written ({first_line(error)}). Earlier files are unchanged. "
                         "If the disk is full, make room; a training run continues with --resume") from error


def replace(temporary: str | Path, path: str | Path) -> None:
    """Call os.replace; wait while another program has the file open, which blocks it on Windows."""
    for seconds in (0.1, 1, 10):
        with contextlib.suppress(PermissionError):
            return os.replace(temporary, path)
        time.sleep(seconds)
    os.replace(temporary, path)


def check_writable(folder: str | Path, flag: str) -> None:
    """Raise InputError that names the flag if no file can be written in a folder."""
    with user_file(f"{flag} {folder}"):
        tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def open_output_folder(args: argparse.Namespace, name: str) -> Iterator[None]:
    """Make save_model_path, and lock it: one run at a time writes there.

    The lock ends with the process, however that ends. Raises InputError if the folder cannot be written to,
    is in use, or holds another run that is not resumed.
    """
    folder = Path(args.save_model_path)
    with user_file(f"--save_model_path {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder, "--save_model_path")
    with lock_folder(folder) if RANK == 0 else contextlib.nullcontext():  # torchrun's processes are one run
        others = [path.name for path in folder.glob("*_epoch*.pth") if not path.name.startswith(f"{name}_")]
        if others:
            raise InputError(f"{folder} holds {min(others)}: choose another --save_model_path")
        epochs = saved_epochs(folder, name)
        if TORCHRUN:
            seen = [0] * WORLD_SIZE
            dist.all_gather_object(seen, max(epochs, default=0))
            if len(set(seen)) > 1:
                raise InputError(f"the processes find epochs {seen} in --save_model_path: it must be a "
                                 "folder that all machines share")
        if epochs and not args.resume:
            raise InputError(f"{folder} holds {name}_epoch{epochs[-1]}.pth: continue with --resume, or start "
                             "again with another --save_model_path")
        yield


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=8)  # seconds; the workers of a killed run hold the lock a little longer
    except Timeout:
        raise InputError(f"another run is writing to {folder} (it is locked): wait for it, or choose another "
                         "--save_model_path") from None
    except OSError as error:  # some network drives have no locks
        print(f"{folder} cannot be locked ({first_line(error)}): start only one run there")
    try:
        yield
    finally:
        lock.release()


# ------------------------------------------------------------------------------ 6. Checkpoints

HISTORIES = ("train_loss", "train_score", "test_loss", "test_score")
# parameters that a resumed run may change: the others decide what is learnt or kept. The lists of videos in
# the checkpoint stand for --split
MAY_CHANGE = {"data_path", "action_name_path", "save_model_path", "split", "epochs", "num_workers",
              "log_interval", "resume", "demo", "few_videos", "cache_features", "cache_gb"}


def load_checkpoint(path: str | Path, *keys: str, tensors: bool = True) -> dict:
    """Load a dict that torch.save wrote, to the CPU. Raise InputError if it is damaged or lacks a key.

    weights_only allows tensors and plain values but no code. Checksums in the zip file reveal a flipped bit.
    With tensors=False the tensors stay on disk, unchecked: a quick look at the other entries.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file" + (" (it is a folder)" if os.path.isdir(path) else ""))
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=None if tensors else True)
        if tensors and zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip():
            checkpoint = None
    except Exception as error:  # damaged data can raise nearly anything
        checkpoint = None
        if "GLOBAL" in str(error):
            raise InputError(f"{path} holds Python objects, for example a whole pickled model, and these can "
                             "run code: save model.state_dict() instead") from None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= set(keys):
        raise InputError(f"{path} is damaged or not a checkpoint")
    return checkpoint


def load_weights(model: nn.Module, state: dict, path: str | Path) -> None:
    """Call model.load_state_dict. Raise InputError if the layers or sizes differ."""
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not fit this model: {' '.join(str(error).split())[:200]}") from error


def name_weights(state: dict, path: str | Path) -> dict[str, torch.Tensor]:
    """Return a state dict of ours or of the original tutorial by our names: encoder.conv1.0.weight, ..."""
    if not isinstance(state, dict) or not state or not all(
            isinstance(key, str) and torch.is_tensor(tensor) for key, tensor in state.items()):
        raise InputError(f"{path} is neither a checkpoint nor a state dict")
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}  # DataParallel adds it
    part = "decoder." if "LSTM.weight_ih_l0" in state else "encoder."
    if "conv1.weight" in state or any(key.startswith(("encoder.", "decoder.")) for key in state):
        part = ""
    return {part + key: tensor for key, tensor in state.items()}


def start_from(path: str, name: str, model: nn.Module) -> None:
    """Take all weights of a checkpoint that fit the model by name and shape; the others stay as they are.

    Raises InputError if nothing fits, or if the checkpoint is one of another model.
    """
    checkpoint, own = load_checkpoint(path), model.state_dict()
    weights = name_weights(checkpoint.get("model", checkpoint.get("state_dict", checkpoint)), path)
    taken = {key: tensor for key, tensor in weights.items() if key in own and tensor.shape == own[key].shape}
    if not any(tensor.ndim > 1 for tensor in taken.values()) or checkpoint.get("name", name) != name:
        raise InputError(f"--start_from {path}: these are not the weights of a {name}")
    model.load_state_dict(taken, strict=False)
    new, values = [key for key in own if key not in taken], sum(tensor.numel() for tensor in taken.values())
    report("Start", f"from {path}: {len(taken)} tensors ({values:,} values) taken, {len(new)} new"
           + (f": {abbreviate(new, 6)}" if new else ""))


def saved_args(checkpoint: dict, parameters: dict) -> dict:
    """Return a checkpoint's parameters. Newer parameters have their default, which means "as before"."""
    return {name: default for name, (default, *_) in parameters.items()} | checkpoint["args"]


def saved_epochs(folder: str | Path, name: str) -> list[int]:
    """Return the epochs that have a model file <name>_epoch<epoch>.pth, in order."""
    matches = (re.fullmatch(rf"{name}_epoch([0-9]+)\.pth", path.name) for path in Path(folder).glob("*.pth"))
    return sorted(int(match[1]) for match in matches if match)


def best_epoch(history: dict) -> int:
    """Return the epoch, from 1, with the highest test accuracy, and among equals the lowest test loss."""
    ranks = [(score, -loss) for score, loss in zip(history["test_score"], history["test_loss"], strict=True)]
    return ranks.index(max(ranks)) + 1


def save_epoch(args: argparse.Namespace, name: str, model, optimizer, history: dict,
               data_record: dict) -> None:
    """Write the last epoch of `history` to save_model_path. Delete epochs that are neither best nor last.

    The model is written last, so a model file means that its epoch is complete, whenever the run is killed.
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
        torch.save({"name": name, "model": model.module.state_dict(), "args": vars(args), "epoch": epoch,
                    "test_loss": history["test_loss"][-1], "test_score": history["test_score"][-1],
                    **data_record}, file)
    best = best_epoch(history)
    keep = {best, epoch} if best < epoch else {epoch - 1, epoch}  # always two: one may be damaged
    for path in folder.glob(f"{name}_*epoch*.pth*"):
        match = re.fullmatch(rf"{name}_(optimizer_)?epoch([0-9]+)\.pth(\.tmp)?", path.name)
        if match and (match[3] or not args.keep_all_epochs and int(match[2]) not in keep):
            with contextlib.suppress(PermissionError):  # open elsewhere, on Windows: deleted later
                path.unlink()


def resume_training(args: argparse.Namespace, parameters: dict, name: str, model, optimizer,
                    data_record: dict) -> dict:
    """Load the last undamaged epoch of save_model_path, else the weights of start_from. Return the history.

    Raises InputError if the run had other parameters or videos.
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
        refuse_changes(args, saved_args(checkpoint, parameters), checkpoint, data_record, path)
        load_weights(model.module, checkpoint["model"], path)
        optimizer.load_state_dict(state["optimizer"])
        print(f"Resume  after epoch {epoch}, from {path}")
        if epoch >= args.epochs:
            print("        All epochs are trained: raise --epochs to continue")
        return state["history"]
    if epochs:
        raise InputError(f"no checkpoint in {folder} can be read: delete them to start again")
    if args.start_from != "none":
        start_from(args.start_from, name, model.module)
    return {key: [] for key in HISTORIES}


def refuse_changes(args: argparse.Namespace, saved: dict, checkpoint: dict, data_record: dict,
                   path: Path) -> None:
    """Raise InputError if a parameter or a list of videos that decides what is learnt has changed."""
    may_change = MAY_CHANGE - ({"epochs"} if args.lr_schedule == "cosine" else set())
    changed = [f"--{key} {saved.get(key)} -> {value}" for key, value in vars(args).items()
               if key not in may_change and saved.get(key) != value]
    if checkpoint["action_names"] != data_record["action_names"]:
        changed.append("the action names")
    elif not changed:
        actions = data_record["video_actions"]
        actions_before = checkpoint.get("video_actions", actions)  # older checkpoints do not have them
        for key in ("train_videos", "test_videos"):
            names = set(data_record[key])
            before = set(checkpoint.get(key, names))  # older checkpoints have no train_videos
            relabelled = sum(actions[name] != actions_before[name] for name in names & before)
            if names != before or relabelled:
                changed.append(f"the {key.replace('_', ' ')}: {len(names - before):,} new, "
                               f"{len(before - names):,} missing, {relabelled:,} with another action")
        if changed and saved["split"] != args.split:
            changed.insert(0, f"--split {saved['split']} -> {args.split}")
    if changed:
        raise InputError(f"{path} is of a run with other parameters or data ({', '.join(changed)}): "
                         "use the same again, or choose another --save_model_path")


# ------------------------------------------------------------------------------ 7. Progress


def progress_bar(items, text: str) -> tqdm:
    """Return a bar that disappears when it is full. It is silent without a terminal, and on ranks above 0."""
    return tqdm(items, desc=text, leave=False, disable=None if RANK == 0 else True)


def add_epoch(args, history: dict, train: tuple[float, float], test: tuple[float, float], started: float):
    """Add the (loss, accuracy) of training and test to the history, and print them in one line."""
    for side, (loss, score) in (("train", train), ("test", test)):
        history[f"{side}_loss"].append(loss)
        history[f"{side}_score"].append(score)
    print(f"Epoch {len(history['test_loss']):>3}/{args.epochs}"
          f"  train loss {train[0]:.4f}  acc {train[1]:6.1%}"
          f"  test loss {test[0]:.4f}  acc {test[1]:6.1%}  {time.time() - started:.0f} s", flush=True)


def plot_curves(file, name: str, history: dict) -> None:
    """Plot loss and accuracy by epoch, with the best epoch marked, as a PNG."""
    best, epochs = best_epoch(history), range(1, len(history["test_score"]) + 1)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = (("loss", "loss", 1), ("score", "accuracy (%)", 100))
    for axes, (key, ylabel, scale) in zip(figure.subplots(1, 2), panels, strict=True):
        for side, line, color in (("train", ".--", "#0072B2"), ("test", ".-", "#D55E00")):
            axes.plot(epochs, scale * np.array(history[f"{side}_{key}"]), line, color=color, label=side)
        value = scale * history[f"test_{key}"][best - 1]
        axes.plot(best, value, "o", ms=10, mfc="none", color="black", label=f"best epoch {best}: {value:.4g}")
        axes.set(title=f"{name}: {ylabel}", xlabel="epoch", ylabel=ylabel)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, format="png", dpi=180)


def print_outcome(args: argparse.Namespace, name: str, history: dict, data_record: dict,
                  chance: float) -> None:
    """Print the best and the last accuracy, how certain the last one is, what helps, and what to run next."""
    from scipy.stats import binomtest  # here, because it takes a second; comes with scikit-learn

    best, last, count = best_epoch(history), history["test_score"][-1], len(data_record["test_videos"])
    interval = binomtest(round(last * count), count).proportion_ci(method="wilson")
    print(f"\nBest    epoch {best}: test accuracy {history['test_score'][best - 1]:.1%}; "
          f"last, epoch {len(history['test_score'])}: {last:.1%}")
    report("", f"Report the last one, because the test videos chose the best. With {count:,} test videos its "
           f"95 % interval is {interval.low:.1%} to {interval.high:.1%} (Wilson; more if they share sources)")
    for line in read_curves(args, history, interval.low, chance):
        report("Curves", line)
    print(f"Output  checkpoints, histories, fig_UCF101_{name}.png in\n        {args.save_model_path}")
    script = Path(__file__).resolve().parent.parent / "check_model_prediction.py"
    if script.exists():
        print(f"Next    python {shell_command(str(script), '--save_model_path', args.save_model_path)}")


def read_curves(args: argparse.Namespace, history: dict, low: float, chance: float) -> list[str]:
    """Return what the curves say and what to do about it: at most two lines, often none.

    low is the lower end of the last test accuracy's interval. The other rules take the mean accuracy in the
    last third of the epochs, and compare it with the third before that.
    """
    n, lines = max(1, len(history["test_score"]) // 3), []
    train, test = np.array(history["train_score"]), np.array(history["test_score"])
    train_before, test_before = train[-2 * n:][:n].mean(), test[-2 * n:][:n].mean()
    train, test = train[-n:].mean(), test[-n:].mean()
    own_cnn = not hasattr(args, "resnet_weights")  # the ResNet's features are kept, and it takes no "both"
    unused = {"--clips 5": args.clips < 5, "--augment crop": own_cnn and args.augment == "none",
              "--input both (for motions)": own_cnn and args.input == "frames"}
    helps = ", ".join(["videos of more sources", *(flag for flag in unused if unused[flag])])  # best first
    if low <= chance:
        lines.append(f"This test cannot tell the model from guessing (chance level {chance:.1%})")
    if train < 0.8 and train >= train_before + 0.02:
        longer = f"train longer, with --epochs {2 * args.epochs} --resume"
        if args.lr_schedule == "cosine":  # its end is fixed
            longer = f"start again with --epochs {2 * args.epochs} and another --save_model_path"
        lines.append(f"Training accuracy still rises ({train_before:.0%}, now {train:.0%}): {longer}")
    elif test <= test_before - 0.05 and train >= train_before:
        lines.append(f"Test accuracy falls ({test_before:.0%}, now {test:.0%}): train fewer epochs, or use "
                     f"{helps}")
    elif train >= test + 0.2:
        lines.append(f"Training accuracy ({train:.0%}) is far above test accuracy ({test:.0%}): use {helps}")
    return lines

"""A run that cannot be lost: parameters, kills, full disks, damage, locks, checkpoints, several processes."""
import argparse
import errno
import filecmp
import inspect
import os
import pickle
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import pytest
import torch

import check_model_prediction
import frames
import functions
import runs
import videos
from conftest import (
    ACTIONS,
    MODELS,
    MODULES,
    REPO,
    SCRIPTS,
    SLOW_RUNS,
    arguments,
    assert_refused,
    assert_same_run,
    damage,
    histories,
    load,
    make_images,
    predict,
    run,
    run_here,
    train,
    write_video,
)

posix = pytest.mark.skipif(os.name == "nt", reason="uses signals and limits of POSIX")

# ------------------------------------------------------------------------------ one experiment, three scripts


@pytest.mark.parametrize("name", ["runs.py", "frames.py", "videos.py", "functions.py"])
@pytest.mark.parametrize("folder", ["CRNN", "ResNetCRNN"])
def test_each_folder_has_the_same_file(name, folder):
    equal = filecmp.cmp(REPO / "Conv3D" / name, REPO / folder / name, shallow=False)
    assert equal, f"copy it again: cp Conv3D/{name} {folder}/{name}"


@pytest.mark.parametrize("module", [runs, frames, videos, functions])
def test_the_table_at_the_top_of_a_file_lists_its_sections(module):
    listed = re.findall(r"^    ([0-9]\. .+)$", module.__doc__, re.M)
    sections = re.findall(r"^# -{70,} ([0-9]\. .+)$", inspect.getsource(module), re.M)
    assert len(listed) == len(sections) > 4
    for line, section in zip(listed, sections, strict=True):
        assert line.startswith(section)
        names = line[len(section):].split(":")[0].split(",")
        assert all(hasattr(module, name.strip()) for name in names), line


def test_the_scripts_differ_in_their_parameters_dataset_and_model_only():
    mains = {model: inspect.getsource(module.main) for model, module in MODULES.items()}
    assert mains["Conv3D"] == mains["CRNN"] == mains["ResNetCRNN"]
    assert len(mains["CRNN"].splitlines()) <= 35
    for module in MODULES.values():
        own = {name: list(inspect.signature(value).parameters) for name, value in vars(module).items()
               if inspect.getmodule(value) is module}
        assert own == {"main": [], "build_model": ["args", "num_classes"], "make_dataset": ["args", "videos"]}


def test_it_runs_from_any_folder_and_a_folder_taken_away_still_trains(small_data, tmp_path):
    away = tmp_path / "away"
    shutil.copytree(REPO / "CRNN", away / "CRNN", ignore=shutil.ignore_patterns("model_ckpt*", "__pycache__"))
    (away / "UCF101actions.pkl").write_bytes(pickle.dumps(ACTIONS))
    python, _, *words = arguments("CRNN", small_data, "here", "--epochs", "1")
    del words[2:4]  # --action_name_path
    run(python, "UCF101_CRNN.py", *words, cwd=away / "CRNN")
    assert (away / "CRNN" / "here" / "CRNN_epoch1.pth").exists()  # relative to where one stands


# ------------------------------------------------------------------------------ parameters

DEFAULTS = {  # as the original tutorial has them; what came later means "as before"
    "common": dict(split="random", seed=42, begin_frame=1, end_frame=29, skip_frame=1, clips=1, cache_gb=10,
                   input="frames", augment="none", lr_schedule="constant", start_from="none",
                   keep_all_epochs=False),
    "Conv3D": dict(img_x=256, img_y=342, channels=3, epochs=15, batch_size=30, learning_rate=1e-4,
                   dropout=0.2),
    "CRNN": dict(img_x=224, img_y=224, epochs=120, batch_size=30, learning_rate=1e-4, dropout=0.3),
    "ResNetCRNN": dict(res_size=224, epochs=120, batch_size=40, learning_rate=1e-3, dropout=0.3,
                       resnet_weights="IMAGENET1K_V1", cache_features=True),
}


@pytest.mark.parametrize("model", MODELS)
def test_the_defaults_are_the_tutorials_and_help_names_every_parameter(model):
    defaults = {name: default for name, (default, *_) in MODULES[model].PARAMETERS.items()}
    expected = DEFAULTS["common"] | DEFAULTS[model]
    assert {name: defaults[name] for name in expected} == expected
    text = run_here(SCRIPTS[model], "--help").stdout
    assert set(defaults) <= set(re.findall(r"^  --(\w+)\b", text, re.M))


@pytest.mark.parametrize("model", MODELS)
def test_the_recipes_replace_defaults_and_a_flag_wins(model, monkeypatch):
    module = MODULES[model]
    defaults = {name: default for name, (default, *_) in module.PARAMETERS.items()}
    for flag, recipe in (("demo", module.DEMO), ("few_videos", module.FEW_VIDEOS)):
        words = [module.__file__, f"--{flag}", "--epochs", "7", "--num_workers", "1"]
        monkeypatch.setattr(sys, "argv", words)
        args = runs.parse_args(module.__doc__, module.PARAMETERS, module.DEMO, module.FEW_VIDEOS)
        expected = defaults | recipe | {flag: True, "epochs": 7, "num_workers": 1}
        assert recipe["epochs"] != 7 and vars(args) == expected


BAD_COMMANDS = {  # the flags, the exit status, what the message must name
    "no data_path": ("--data_path {data}/none", 1, ["none does not exist", "--demo"]),
    "frames too small": ("--img_x 20", 1, ["20x40 are too small", "33x33"]),
    "begin at end": ("--begin_frame 11", 1, ["--begin_frame 11", "--end_frame 11"]),
    "save_model_path is a file": ("--save_model_path {data}/actions.pkl", 1, ["--save_model_path", "exists"]),
    "BatchNorm of one value": ("--batch_size 17", 1, ["BatchNorm", "another --batch_size"]),  # 18 videos
    "bad batch": ("--batch_size 0", 2, ["--batch_size"]),
    "unknown augment": ("--augment zoom", 2, ["--augment", "crop_flip"]),
    "two recipes": ("--demo --few_videos", 2, ["--demo and --few_videos"]),
    "unknown flag": ("--batchsize 3", 2, ["--batchsize"]),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_input_ends_in_one_message_and_leaves_no_output(case, small_data, tmp_path):
    flags, status, words = BAD_COMMANDS[case]
    flags = [flag.format(data=small_data) for flag in flags.split()]
    assert_refused(train("CRNN", small_data, tmp_path / "out", *flags, check=False), *words, status=status)
    assert {path.suffix for path in tmp_path.rglob("*")} <= {""}  # no more than a lock


def test_too_little_shared_memory_is_said_with_the_remedy(small_data, tmp_path, monkeypatch):
    def no_shared_memory(tensor):  # as torch raises in a container whose /dev/shm cannot be written
        raise RuntimeError("unable to open shared memory object </torch_1_2> in read/write mode")

    monkeypatch.setattr(torch.Tensor, "share_memory_", no_shared_memory)
    done = train("CRNN", small_data, tmp_path, "--num_workers", "2", check=False)
    assert_refused(done, "shared memory", "--num_workers 0")


@posix
def test_an_output_that_nobody_reads_any_more_ends_the_run_with_a_message(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)  # as "| head" does
    with open(writer, "w") as output, pytest.raises(SystemExit) as end:
        monkeypatch.setattr(sys, "stdout", output)
        runs.run(lambda: print("x" * 99))
    assert capsys.readouterr().err == "Error: the program that reads the output has ended\n"
    assert end.value.code == 1


# ------------------------------------------------------------------------------ what is saved, and resumed


def until_epoch_1(run_of_two_epochs: Path, folder: Path) -> None:
    """The folder as it was when the first epoch had ended, kept clips and features and all."""
    shutil.copytree(run_of_two_epochs, folder)
    for path in folder.glob("*_epoch2.pth"):
        path.unlink()


def kept_files(folder: Path) -> dict[str, int]:
    """{name: when it was written} of the kept clips or features, oldest first."""
    paths = sorted(folder.glob("*_*/*.npy"), key=lambda path: path.stat().st_mtime_ns)
    return {path.name: path.stat().st_mtime_ns for path in paths}


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_equals_the_unbroken_one_to_the_last_bit(model, trained, small_data, tmp_path):
    until_epoch_1(trained(model), tmp_path / model)
    out = train(model, small_data, tmp_path / model, "--resume", "--num_workers", "1").stdout
    assert "after epoch 1" in out and "Epoch   1/" not in out
    assert_same_run(trained(model), tmp_path / model, model, 2)
    assert kept_files(tmp_path / model) == kept_files(trained(model))  # nothing is read again
    assert len(kept_files(trained(model))) == 24


CURVES = {  # accuracy by epoch in training and in the test of 100 videos of four actions; flags; what is said
    "learnt": ([0.5, 0.8, 0.9, 0.95, 0.97, 0.98], [0.5, 0.7, 0.8, 0.85, 0.9, 0.9], {}, []),
    "hopeless": ([0.25] * 6, [0.28] * 6, {}, [["cannot tell", "chance level 25.0%"]]),
    "short": ([0.3, 0.5], [0.25, 0.3], {}, [["cannot tell"], ["30%, now 50%", "--epochs 4 --resume"]]),
    "short, with a cosine": ([0.3, 0.4, 0.5], [0.35, 0.4, 0.5], dict(lr_schedule="cosine"),
                             [["start again with --epochs 6"]]),
    "learnt by heart": ([0.5, 0.9, 1, 1, 1, 1], [0.5, 0.6, 0.6, 0.6, 0.6, 0.6], {},
                        [["(100%)", "(60%)", "more sources, --clips 5, --augment crop, --input both"]]),
    "by heart, with all that helps": ([0.9, 1, 1], [0.5, 0.6, 0.6],
                                      dict(clips=5, augment="crop_flip", input="differences"),
                                      [["use videos of more sources."]]),
    "by heart, a frozen ResNet": ([0.9, 1, 1], [0.5, 0.6, 0.6], dict(resnet_weights="none"),
                                  [["use videos of more sources, --clips 5."]]),
    "better before": ([0.5, 0.6, 0.8, 0.85, 0.9, 0.95], [0.5, 0.6, 0.7, 0.7, 0.6, 0.6], dict(clips=5),
                      [["70%, now 60%", "train fewer epochs, or use", "sources, --augment crop"]]),
}


@pytest.mark.parametrize("case", CURVES)
def test_the_end_says_how_certain_the_accuracy_is_what_the_curves_show_and_what_helps(case, tmp_path, capsys):
    train_score, test_score, flags, expected = CURVES[case]
    usual = dict(clips=1, augment="none", input="frames", lr_schedule="constant", epochs=len(test_score))
    args = argparse.Namespace(**usual | flags, save_model_path=str(tmp_path))
    history = dict(train_score=train_score, test_score=test_score, test_loss=[1.0] * len(test_score))
    runs.print_outcome(args, "CRNN", history, {"test_videos": ["name"] * 100}, chance=0.25)
    certain, *said = [" ".join(part.split("\nOutput")[0].split()) + "." for part in
                      capsys.readouterr().out.split("\nCurves ")]
    interval = "20.1% to 37.5%" if case == "hopeless" else "% to "  # Wilson's of 28 in 100
    assert re.search(f"With 100 test videos its 95 % interval is .*{interval}", certain)
    assert len(said) == len(expected)
    for line, words in zip(said, expected, strict=True):
        assert all(word in line for word in words), line


# ------------------------------------------------------------------------------ kills, full disks, damage

DYING = """
import os, signal

replace = os.replace

def die_halfway(temporary, path, **options):
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if os.path.basename(path) == os.environ["DIE_AT"] and first:
        os.truncate(temporary, os.path.getsize(temporary) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(temporary, path, **options)

os.replace = die_halfway
"""


def dying_at(file: str, folder: Path) -> dict[str, str]:
    """An environment in which a script kills itself when it has written half of this file."""
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(DYING)  # Python imports it at its start
    return os.environ | {"DIE_AT": file, "PYTHONPATH": str(folder / "hook")}


ALL_AT_ONCE = ["--clips", "2", "--augment", "crop_flip", "--lr_schedule", "cosine"]
KILLS = {  # the file that is half written at the kill, the epoch from which the run goes on, flags
    "at a clip that is kept": ("clip", 0, []),
    "at the second model, with workers, clips, crops and a schedule": (
        "CRNN_epoch2.pth", 1, [*ALL_AT_ONCE, "--cache_gb", "0", "--num_workers", "1"]),
}


@posix
@pytest.mark.parametrize("case", KILLS)
def test_a_killed_run_goes_on_to_the_same_numbers(case, trained, small_data, tmp_path):
    """Its lock dies with it, even if its workers live on for some seconds.

    In the second case the whole run keeps its clips, the killed one reads them anew in each epoch.
    """
    file, epoch, flags = KILLS[case]
    whole, out = trained("CRNN"), tmp_path / "out"
    if file == "clip":
        file = list(kept_files(whole))[5]  # the sixth that is written
    if flags:
        whole = tmp_path / "whole"
        train("CRNN", small_data, whole, *ALL_AT_ONCE)
    command = arguments("CRNN", small_data, out, *flags, "--resume")
    killed = run(*command, check=False, env=dying_at(file, tmp_path))
    assert killed.returncode == -signal.SIGKILL and len(list(out.rglob(f"{file}.tmp"))) == 1
    assert len(kept_files(out)) == (5 if epoch == 0 else 0)
    done = train("CRNN", small_data, out, *flags, "--resume")
    assert f"after epoch {epoch}" in done.stdout or epoch == 0 and "Epoch   1/2" in done.stdout
    assert_same_run(whole, out, "CRNN", 2)
    assert not list(out.rglob("*.tmp"))


ORPHANS = """
import os, signal, sys
from torch.utils.data import DataLoader
import functions
import runs
from videos import Video

if __name__ == "__main__":
    dataset = functions.Dataset_CRNN([Video(path, path, "", "", label=0) for path in sys.argv[1:]], [1], 8, 8)
    loader = DataLoader(dataset, num_workers=2, prefetch_factor=1, worker_init_fn=runs.start_worker)
    batches = iter(loader)
    next(batches), next(batches)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_no_worker_outlives_its_killed_main_process(tmp_path):
    """Neither one that reads (a pipe that nobody writes to) nor one that waits: all let go of the output."""
    write_video(tmp_path / "good.avi", make_images(0, 3))
    os.mkfifo(tmp_path / "pipe.avi")
    (tmp_path / "script.py").write_text(ORPHANS)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", *(tmp_path / f"{name}.avi" for name in (
            "good", "good", "pipe"))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(REPO / "CRNN")})
    process.wait(60)
    started = time.time()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL and time.time() - started < 10, out


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(trained, small_data, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    shutil.copytree(trained("CRNN"), whole)
    train("CRNN", small_data, whole, "--epochs", "3", "--resume")
    shutil.copytree(whole, out)
    damage(out / "CRNN_epoch3.pth")
    done = train("CRNN", small_data, out, "--epochs", "3", "--resume")
    assert "CRNN_epoch3.pth is damaged" in done.stdout and re.search(r"after epoch [12]", done.stdout)
    assert_same_run(whole, out, "CRNN", 3)
    for path in out.glob("*.pth"):
        path.write_bytes(path.read_bytes()[:1000])
    assert_refused(train("CRNN", small_data, out, "--epochs", "4", "--resume", check=False), "can be read")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_full_disk_leaves_what_was_saved_and_no_half(trained, small_data, tmp_path, monkeypatch):
    resource, out, new = pytest.importorskip("resource"), tmp_path / "out", tmp_path / "new"  # POSIX
    shutil.copytree(trained("CRNN"), out)
    before = contents(out)
    done = run(*arguments("CRNN", small_data, out, "--resume", "--epochs", "3"), check=False,
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)))
    assert_refused(done, "CRNN_optimizer_epoch3.pth could not be written", "--resume")
    assert contents(out) == before

    def fail(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    assert_refused(train("CRNN", small_data, new, check=False), ".npy could not be written", "--cache_gb 0")
    assert contents(new) == {}


@pytest.mark.parametrize("busy", [False, True])
def test_a_file_is_written_whole_or_not_at_all(busy, tmp_path, monkeypatch):
    """Also if another program has it open for a moment, as a virus scanner on Windows."""
    replace, calls = os.replace, []

    def fail_once(*paths):
        calls.append(paths)
        if busy and len(calls) != 2:
            raise PermissionError
        replace(*paths)

    monkeypatch.setattr(os, "replace", fail_once)
    with runs.atomic_file(tmp_path / "file") as file:
        file.write(b"whole")
    with pytest.raises(runs.InputError, match=r"file could not be written \(disk on fire\)"):
        with runs.atomic_file(tmp_path / "file") as file:
            file.write(b"half")
            monkeypatch.setattr(os, "unlink", fail_once if busy else os.unlink)  # the clean-up may fail, too
            raise OSError("disk on fire")
    assert (tmp_path / "file").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1 + busy


@posix
def test_a_folder_has_one_run_at_a_time_and_ctrl_c_says_how_to_go_on(small_data, tmp_path, monkeypatch):
    flags = ["--epochs", "500", "--num_workers", "2", "--cache_gb", "0"]
    process, end = subprocess.Popen(  # in a process group of its own, as a terminal does
        arguments("CRNN", small_data, tmp_path, *flags), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE), time.time() + 120
    while not runs.saved_epochs(tmp_path, "CRNN"):
        assert process.poll() is None and time.time() < end, process.communicate()
        time.sleep(0.05)
    acquire = runs.FileLock.acquire
    with monkeypatch.context() as patch:  # wait for the lock for less than the usual seconds
        patch.setattr(runs.FileLock, "acquire", lambda lock, timeout: acquire(lock, 0.1))
        done = train("CRNN", small_data, tmp_path, *flags, "--resume", check=False)
    assert_refused(done, "another run", str(tmp_path), "another --save_model_path")
    os.killpg(process.pid, signal.SIGINT)  # to the workers, too, as a terminal does
    _, err = process.communicate(timeout=60)  # until no worker holds the pipe
    assert process.returncode == 130 and "Traceback" not in err
    assert "--epochs 500" in err and "--resume" in err
    [*_, epoch] = runs.saved_epochs(tmp_path, "CRNN")
    done = train("CRNN", small_data, tmp_path, "--resume", "--epochs", epoch + 1)
    assert f"after epoch {epoch}" in done.stdout


def die(worker_id: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as Linux does when memory is short


@posix
@pytest.mark.parametrize("cache_gb", [10, 0])
def test_a_killed_worker_ends_the_run_with_what_to_do(cache_gb, small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "start_worker", die)
    done = train("CRNN", small_data, tmp_path, "--num_workers", "1", "--cache_gb", cache_gb, check=False)
    assert_refused(done, "a process that reads videos was killed", "--num_workers")


# ------------------------------------------------------------------------------ what a resumed run refuses


def test_nothing_is_overwritten_without_resume(trained, small_data):
    done = train("CRNN", small_data, trained("CRNN"), check=False)
    assert_refused(done, "--resume", "--save_model_path")
    done = train("Conv3D", small_data, trained("CRNN"), "--resume", check=False)
    assert_refused(done, "CRNN_epoch", "--save_model_path")


CHANGES = {  # other flags than the run had, what the message names
    "parameters": ("--seed 1 --img_x 41 --clips 3 --augment crop --input both --lr_schedule cosine "
                   "--keep_all_epochs --start_from other.pth",
                   ["--seed 42 -> 1", "--img_x 40 -> 41", "--clips 1 -> 3", "--augment none -> crop",
                    "--input frames -> both", "--lr_schedule constant -> cosine",
                    "--keep_all_epochs False -> True", "--start_from none -> ", "other.pth"]),
    "split": ("--split random", ["--split group -> random", "the train videos", "the test videos"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_parameters_are_refused_by_name(case, trained, small_data):
    flags, words = CHANGES[case]
    done = train("CRNN", small_data, trained("CRNN"), "--resume", *flags.split(), check=False)
    assert_refused(done, *words, "choose another --save_model_path")


def test_changes_that_give_the_same_numbers_are_taken(trained, small_data, tmp_path):
    """Of --split, too, if it gives the same videos."""
    until_epoch_1(trained("CRNN"), tmp_path / "out")
    listed = load(trained("CRNN") / "CRNN_epoch2.pth")["test_videos"]
    (tmp_path / "test.txt").write_text("\n".join(listed))
    flags = ["--num_workers", "1", "--log_interval", "3", "--cache_gb", "0", "--split", tmp_path / "test.txt"]
    assert "after epoch 1" in train("CRNN", small_data, tmp_path / "out", "--resume", *flags).stdout
    assert_same_run(trained("CRNN"), tmp_path / "out", "CRNN", 2)


def test_a_cosine_ends_at_its_epochs_and_all_epochs_stay_if_asked(small_data, tmp_path):
    flags = ["--lr_schedule", "cosine", "--keep_all_epochs", "--resume", "--epochs"]
    train("CRNN", small_data, tmp_path, *flags, "3")
    assert_refused(train("CRNN", small_data, tmp_path, *flags, "4", check=False), "--epochs 3 -> 4")
    assert len(list(tmp_path.glob("CRNN_epoch*.pth"))) == 3


def test_changed_videos_and_actions_are_noticed_on_either_side(small_data, tmp_path):
    def train_on(actions: dict, *flags):
        rows = [f"{small_data / 'jpegs' / name},{action},{'test' if '_g04_' in name else 'train'}"
                for name, action in actions.items()]
        (tmp_path / "videos.csv").write_text("\n".join(["video,action,split", *rows]))
        return train("CRNN", small_data, tmp_path / "out", "--data_path", tmp_path / "videos.csv",
                     "--split", "given", "--resume", *flags, check=False)

    videos = {path.name: path.name.split("_")[1] for path in (small_data / "jpegs").iterdir()}
    fewer = {name: action for name, action in videos.items() if not name.endswith("_c01")}
    other = videos | {name: "Punch" for name in videos if "Biking" in name}
    assert train_on(videos, "--epochs", "1").returncode == 0
    assert_refused(train_on(fewer), "the train videos: 0 new, 9 missing", "the test videos: 0 new, 3 missing")
    assert_refused(train_on(other), "0 missing, 6 with another action", "0 missing, 2 with another action")


# ------------------------------------------------------------------------------ names no terminal can show


@pytest.fixture(scope="session")
def odd_names(tmp_path_factory) -> Path:
    """Videos with a Chinese name and, where files may have one, with a Latin-1 name that is no UTF-8."""
    root = tmp_path_factory.mktemp("odd")
    names = ["视频/视频 1", "视频/视频 2", "视频/视频 3", "Walk/走", "Walk/b", "Walk/c", "Walk/d"]
    if sys.platform == "linux":
        names[3:5] = ["Walk/走" + os.fsdecode(b"\xe9"), os.fsdecode(b"Caf\xe9/x")]
    for seed, name in enumerate(names):
        write_video(root / "video.mp4", make_images(seed))  # FFmpeg's names are UTF-8
        (root / "jpegs" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "video.mp4").rename(root / "jpegs" / f"{name}.mp4")
    return root


ODD_FLAGS = "--action_name_path none --split random --seed 3 --end_frame 14 --resume".split()


def test_names_that_the_terminal_cannot_show_train_and_are_predicted(odd_names, tmp_path):
    for encoding, epochs in (("cp1252", 1), ("utf-8", 2)):
        more = {"encoding": encoding}
        out = train("Conv3D", odd_names, tmp_path, *ODD_FLAGS, "--epochs", epochs, **more).stdout
        assert f"Epoch   {epochs}/{epochs}" in out and ("Short" in out or epochs == 2)
        out = predict("--save_model_path", tmp_path, "--output", tmp_path / "list.pkl", **more).stdout
        assert "Accuracy test" in out
        out = predict("--save_model_path", tmp_path, "--csv", tmp_path / "a.csv",
                      "--video", odd_names / "jpegs", **more).stdout
        assert len(re.findall(r"^  Walk ", out, re.M)) == 7


@pytest.mark.parametrize("workers", ["0", "1"])
def test_unreadable_videos_of_any_name_are_named_in_one_run(workers, odd_names, tmp_path):
    shutil.copytree(odd_names, tmp_path / "data")
    videos = sorted((tmp_path / "data" / "jpegs").glob("*/*"))[::2]
    for path in videos:
        path.write_bytes(b"no video")
    flags = [*ODD_FLAGS, "--num_workers", workers]
    done = train("Conv3D", tmp_path / "data", tmp_path / "out", *flags, encoding="cp1252", check=False)
    assert_refused(done, "4 of 7 videos cannot be read", "it is text", "unreadable_videos.txt")
    assert "elete" not in done.stderr
    named = (tmp_path / "out" / "unreadable_videos.txt").read_bytes().splitlines()
    assert sorted(named) == sorted(map(os.fsencode, videos))
    for path in (tmp_path / "data" / "jpegs").glob("*/*"):
        path.write_bytes(b"no video")
    done = train("Conv3D", tmp_path / "data", tmp_path / "out", *flags, encoding="cp1252", check=False)
    assert_refused(done, "none of the 7 videos can be read", "it is text", f"av {av.__version__}, Pillow")


# ------------------------------------------------------------------------------ several processes

# each process needs a GPU of its own
FOR_TWO_PROCESSES = {} if torch.cuda.device_count() > 1 else {"CUDA_VISIBLE_DEVICES": ""}
TORCHRUNS = {  # flags, and the test videos: they do not divide by 2, or leave one process without
    "CRNN": (["--clips", "3", "--augment", "crop_flip", "--epochs", "3", "--resume"],
             [f"v_{action}_{clip}" for action in ACTIONS for clip in ("g03_c01", "g04_c01", "g04_c02")]),
    "ResNetCRNN": (["--clips", "2", "--end_frame", "5", "--epochs", "1"], ["v_Punch_g04_c02"]),
}


def run_in_two_processes(model: str, data: Path, folder: Path) -> tuple[str, Path]:
    """Train by torchrun. Of the CRNN's processes one dies in the second epoch; torchrun starts both again."""
    flags, tested = TORCHRUNS[model]
    (folder / "test.txt").write_text("\n".join(tested))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--max_restarts", "1"]
    _, *words = arguments(model, data, folder / "out", "--split", folder / "test.txt", *flags)
    environment = dying_at("CRNN_epoch2.pth", folder) | FOR_TWO_PROCESSES
    return run(*launcher, *words, env=environment).stdout, folder / "out"


for name in TORCHRUNS if os.name == "posix" else ():
    SLOW_RUNS[f"test_two_processes_train_as_one_and_test_each_video_once[{name}]"] = partial(
        run_in_two_processes, name)


def evaluate_alone(checkpoint: Path, data: Path) -> tuple[float, float]:
    """Test loss and score of a checkpoint in this one process, one video at a time."""
    words = ["--checkpoint", str(checkpoint), "--num_workers", "0", "--batch_size", "1"]
    options, device = check_model_prediction.parse_arguments(words), torch.device("cpu")
    found = check_model_prediction.load_model(options, device)
    labelled = videos.label_videos(videos.find_videos(str(data / "jpegs")), found.action_names)
    tested = [video for video in labelled if found.sides[video.name] == "test"]
    loader = functions.make_loader(MODULES[found.name].make_dataset(found.args, tested), found.args, False)
    return functions.evaluate(found.model, device, loader, found.args.clips)


@posix
@pytest.mark.parametrize("model", TORCHRUNS)
def test_two_processes_train_as_one_and_test_each_video_once(model, small_data, slow_runs, request):
    """Test loss and score are those of one process on the same weights, even if a process died on the way."""
    out, folder = slow_runs[request.node.name].result()
    tested, attempts = len(TORCHRUNS[model][1]), 2 if model == "CRNN" else 1
    said = f"{24 - tested} videos for training, {tested} for the test"
    assert " ".join(out.split()).count(said) == attempts  # only rank 0 speaks
    assert ("after epoch 1" in out) == (attempts == 2)
    assert len(kept_files(folder)) == 24  # they share the work
    epochs = len(histories(folder)["test_loss"])
    checkpoint = load(folder / f"{model}_epoch{epochs}.pth")
    assert f"Epoch   {epochs}/{epochs}" in out and epochs == checkpoint["args"]["epochs"]
    loss, score = evaluate_alone(folder / f"{model}_epoch{epochs}.pth", small_data)
    assert score == pytest.approx(checkpoint["test_score"])
    rounding = 1e-2 if model == "ResNetCRNN" else 1e-5  # its features are kept in half precision
    assert loss == pytest.approx(checkpoint["test_loss"], rel=rounding)


NOT_SHARED = {  # the one of two machines that has the run: what the one message says
    0: "the processes find epochs [2, 0] in --save_model_path",
    2: "all machines must share --save_model_path and --data_path",  # neither: clips are kept on both
}


@posix
@pytest.mark.parametrize("machine", NOT_SHARED)
def test_machines_that_do_not_share_a_folder_end_with_one_message(machine, trained, small_data, tmp_path):
    shutil.copytree(trained("CRNN"), tmp_path / f"out{machine}")
    command = shlex.join(arguments("CRNN", small_data, f"{tmp_path}/out", "--resume"))
    command = command.replace(f"{tmp_path}/out", f"{tmp_path}/out$RANK")
    err = run(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--no-python",
              "bash", "-c", f"exec {command}", check=False, env=os.environ | FOR_TWO_PROCESSES).stderr
    [message] = re.findall("^Error: .*", err, re.M)
    assert NOT_SHARED[machine] in message


def test_a_cluster_that_sets_some_of_torchruns_variables_starts_no_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    alone = runpy.run_path(runs.__file__)
    assert not alone["TORCHRUN"] and (alone["RANK"], alone["WORLD_SIZE"]) == (0, 1)


def test_a_batch_that_cannot_be_shared_out_is_refused(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(functions, "WORLD_SIZE", 2)
    done = train("CRNN", small_data, tmp_path, "--batch_size", "5", check=False)
    assert_refused(done, "--batch_size 5 cannot be divided among 2 processes")

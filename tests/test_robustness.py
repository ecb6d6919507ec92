"""A run that cannot be lost: kills, full disks, damaged files, other parameters, several processes."""
import argparse
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import check_model_prediction
import functions
import UCF101_CRNN
from conftest import (
    ACTIONS,
    SCRIPTS,
    Payload,
    arguments,
    as_before_these_parameters,
    assert_refused,
    assert_same_run,
    broken_frames,
    damage,
    histories,
    load,
    make_images,
    predict,
    run,
    train,
    write_frames,
)

resource = pytest.importorskip("resource")  # POSIX


def test_an_output_that_nobody_reads_any_more_ends_the_run_with_a_message():
    code = "import functions; functions.run(lambda: [print('x' * 99) for _ in range(9999)])"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=SCRIPTS["CRNN"].parent, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()  # as "| head" does
    assert process.stderr.read() == "Error: what reads the output has ended\n" and process.wait() == 1


def start(command, **options) -> subprocess.Popen:
    """Start a command in a process group of its own, as a terminal does."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, **options)


def wait_for_epoch(epoch: int, folder: Path, process: subprocess.Popen) -> None:
    """Wait until an epoch, or a later one, has been saved."""
    end = time.time() + 120
    while not any(saved >= epoch for saved in functions.saved_epochs(folder, "CRNN")):
        assert process.poll() is None and time.time() < end, process.communicate()
        time.sleep(0.01)


# ------------------------------------------------------------------------------ kills, full disks, damage

DYING = """
import os, signal

replace = os.replace

def die_halfway(temporary, path, **options):
    if os.path.basename(path) == os.environ["DIE_AT"]:
        os.truncate(temporary, os.path.getsize(temporary) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(temporary, path, **options)

os.replace = die_halfway
"""
ALL_AT_ONCE = ["--clips", "2", "--augment", "crop_flip", "--lr_schedule", "cosine", "--num_workers", "1"]
KILLS = {  # the file that is half written at the kill, the epoch from which the run goes on, its flags
    "at the first history": ("epoch_train_score.npy", 0, []),
    "at the second model, with clips, crops and a schedule": ("CRNN_epoch2.pth", 1, ALL_AT_ONCE),
}


@pytest.mark.parametrize("case", KILLS)
def test_a_killed_run_goes_on_to_the_same_numbers(case, trained, small_data, tmp_path):
    file, epoch, flags = KILLS[case]
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(DYING)  # Python imports it at its start
    whole, out = trained("CRNN"), tmp_path / "out"
    if flags:
        whole = tmp_path / "whole"
        train("CRNN", small_data, whole, *flags, "--num_workers", "0")
    killed = run(*arguments("CRNN", small_data, out, *flags, "--resume"), check=False,
                 env=os.environ | {"DIE_AT": file, "PYTHONPATH": str(tmp_path / "hook")})
    assert killed.returncode == -signal.SIGKILL and (out / f"{file}.tmp").exists()
    done = train("CRNN", small_data, out, *flags, "--resume")
    assert f"after epoch {epoch}" in done.stdout or epoch == 0 and "Epoch   1/2" in done.stdout
    assert_same_run(whole, out, "CRNN", 2)
    assert not list(out.glob("*.tmp"))


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(trained, small_data, tmp_path):
    shutil.copytree(trained("CRNN"), tmp_path, dirs_exist_ok=True)
    train("CRNN", small_data, tmp_path, "--epochs", "3", "--resume")
    whole = tmp_path.parent / "whole"
    shutil.copytree(tmp_path, whole)
    damage(tmp_path / "CRNN_epoch3.pth")
    out = train("CRNN", small_data, tmp_path, "--epochs", "3", "--resume").stdout
    assert "CRNN_epoch3.pth is damaged" in out and re.search(r"after epoch [12]", out)
    assert_same_run(whole, tmp_path, "CRNN", 3)
    for path in tmp_path.glob("*.pth"):
        path.write_bytes(path.read_bytes()[:1000])
    done = train("CRNN", small_data, tmp_path, "--epochs", "4", "--resume", check=False)
    assert_refused(done, "can be read")


def test_a_full_disk_leaves_what_was_saved(trained, small_data, tmp_path):
    shutil.copytree(trained("CRNN"), tmp_path, dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limit = len(before["CRNN_epoch2.pth"]) // 2
    done = run(*arguments("CRNN", small_data, tmp_path, "--resume", "--epochs", "3"), check=False,
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert_refused(done, "could not be written", "--resume")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_another_program_has_open_is_waited_for(tmp_path, monkeypatch):
    replace, calls = os.replace, []

    def busy_once(temporary, path):  # as on Windows, while a virus scanner reads what was just written
        calls.append(path)
        if len(calls) == 1:
            raise PermissionError
        replace(temporary, path)

    monkeypatch.setattr(os, "replace", busy_once)
    with functions.atomic_file(tmp_path / "file") as file:
        file.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole" and len(calls) == 2


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_bytes(b"before")
    with pytest.raises(functions.InputError, match="file could not be written .*disk on fire"):
        with functions.atomic_file(tmp_path / "file") as file:
            file.write(b"half")
            raise OSError("disk on fire")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_ctrl_c_says_how_to_go_on_and_leaves_no_worker(small_data, tmp_path):
    process = start(arguments("CRNN", small_data, tmp_path, "--epochs", "500", "--num_workers", "2"))
    wait_for_epoch(1, tmp_path, process)
    os.killpg(process.pid, signal.SIGINT)  # to the workers, too, as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "--epochs 500" in err and "--resume" in err
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the worker in /proc")
def test_a_killed_worker_ends_the_run_with_what_to_do(small_data, tmp_path):
    process = start(arguments("CRNN", small_data, tmp_path, "--epochs", "500", "--num_workers", "1"))
    wait_for_epoch(1, tmp_path, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)  # as Linux does when memory is short
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in err
    assert "a process that reads videos was killed" in err and "--num_workers" in err


# ------------------------------------------------------------------------------ what a resumed run refuses


def test_nothing_is_overwritten_without_resume(trained, small_data):
    done = train("CRNN", small_data, trained("CRNN"), check=False)
    assert_refused(done, "--resume", "--save_model_path")
    done = train("Conv3D", small_data, trained("CRNN"), "--resume", check=False)
    assert_refused(done, "CRNN_epoch", "--save_model_path")


CHANGES = {  # other flags than the run had, what the message names
    "data": (["--seed", "1", "--img_x", "41"], ["--seed 42 -> 1", "--img_x 40 -> 41"]),
    "clips": (["--clips", "3"], ["--clips 1 -> 3"]),
    "crops": (["--augment", "crop"], ["--augment none -> crop"]),
    "schedule": (["--lr_schedule", "cosine"], ["--lr_schedule constant -> cosine"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_parameters_are_refused_by_name(case, trained, small_data):
    flags, words = CHANGES[case]
    done = train("CRNN", small_data, trained("CRNN"), "--resume", "--epochs", "3", *flags, check=False)
    assert_refused(done, *words, "choose another --save_model_path")


def test_harmless_changes_are_taken(trained, small_data, tmp_path):
    shutil.copytree(trained("CRNN"), tmp_path, dirs_exist_ok=True)
    out = train("CRNN", small_data, tmp_path, "--resume", "--num_workers", "1", "--log_interval", "3").stdout
    assert "after epoch 2" in out


def test_a_cosine_ends_at_its_epochs_so_they_cannot_change(small_data, tmp_path):
    cosine = ["--lr_schedule", "cosine"]
    train("CRNN", small_data, tmp_path, *cosine)
    done = train("CRNN", small_data, tmp_path, *cosine, "--resume", "--epochs", "3", check=False)
    assert_refused(done, "--epochs 2 -> 3")


def test_added_and_removed_videos_are_noticed_on_either_side(small_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    tested = [f"v_{action}_g04_c0{clip}" for action in ACTIONS for clip in (1, 2)]
    (tmp_path / "test.txt").write_text("\n".join(tested))
    flags = ["--split", tmp_path / "test.txt", "--epochs", "1"]
    train("CRNN", data, tmp_path / "out", *flags)
    flags = [*flags[:2], "--resume"]
    write_frames(data / "jpegs" / "v_Punch_g01_c03", make_images(0))
    done = train("CRNN", data, tmp_path / "out", *flags, check=False)
    assert_refused(done, "the train videos: 1 new, 0 gone")
    for name in ("v_Punch_g01_c03", "v_Punch_g01_c01"):
        shutil.rmtree(data / "jpegs" / name)
    done = train("CRNN", data, tmp_path / "out", *flags, check=False)
    assert_refused(done, "the train videos: 0 new, 1 gone")
    shutil.copytree(small_data / "jpegs" / "v_Punch_g01_c01", data / "jpegs" / "v_Punch_g01_c01")
    shutil.rmtree(data / "jpegs" / "v_Punch_g04_c02")
    done = train("CRNN", data, tmp_path / "out", *flags, check=False)
    assert_refused(done, "the test videos: 0 new, 1 gone")
    shutil.copytree(small_data / "jpegs" / "v_Punch_g04_c02", data / "jpegs" / "v_Punch_g04_c02")
    (tmp_path / "test.txt").rename(tmp_path / "moved.txt")
    flags[1] = tmp_path / "moved.txt"
    assert "Epoch   2/2" in train("CRNN", data, tmp_path / "out", *flags).stdout


# ------------------------------------------------------------------------------ parameters come and go


def answer(folder: Path, video: Path) -> str:
    """What a prediction prints of a video, from its name on."""
    out = predict("--save_model_path", folder, "--video", video).stdout
    return out[out.index(video.name):]


def test_a_checkpoint_of_an_older_parameter_set_resumes_and_predicts_as_before(trained, small_data, tmp_path):
    for name in ("old", "new"):
        shutil.copytree(trained("CRNN"), tmp_path / name)
    for path in (tmp_path / "old").glob("CRNN_epoch*.pth"):
        torch.save(as_before_these_parameters(load(path)), path)
        assert "clips" not in load(path)["args"]
    video = small_data / "jpegs" / "v_Punch_g03_c01"
    assert answer(tmp_path / "old", video) == answer(tmp_path / "new", video)
    for name in ("old", "new"):
        train("CRNN", small_data, tmp_path / name, "--resume", "--epochs", "3")
    assert_same_run(tmp_path / "old", tmp_path / "new", "CRNN", 3)
    assert "train_videos" in load(tmp_path / "old" / "CRNN_epoch3.pth")


def test_a_parameter_that_comes_later_breaks_no_checkpoint(trained, small_data, tmp_path, monkeypatch):
    shutil.copytree(trained("CRNN"), tmp_path, dirs_exist_ok=True)
    build_model, told = UCF101_CRNN.build_model, []

    def build_model_of_the_future(args, num_classes):
        told.append(args.warmth)
        return build_model(args, num_classes)

    monkeypatch.setitem(UCF101_CRNN.PARAMETERS, "warmth", (0.0, "a parameter of the future; 0: as before", 0))
    monkeypatch.setattr(UCF101_CRNN, "build_model", build_model_of_the_future)
    answer(tmp_path, small_data / "jpegs" / "v_Punch_g03_c01")
    done = train("CRNN", small_data, tmp_path, "--resume", "--epochs", "3", "--warmth", "0.5", check=False)
    assert_refused(done, "--warmth 0.0 -> 0.5")
    train("CRNN", small_data, tmp_path, "--resume", "--epochs", "3")
    assert told == [0.0, 0.5, 0.0] and load(tmp_path / "CRNN_epoch3.pth")["args"]["warmth"] == 0.0


# ------------------------------------------------------------------------------ broken and hostile data


def test_broken_frames_do_not_stop_training_and_are_named_once(small_data, tmp_path):
    shutil.copytree(small_data, tmp_path / "data")
    for folder in sorted((tmp_path / "data" / "jpegs").iterdir())[::5]:
        broken_frames(folder)
    done = run(*arguments("Conv3D", tmp_path / "data", tmp_path / "out", "--num_workers", "2"))
    assert "Epoch   2/2" in done.stdout
    assert done.stderr.count("frame 3, 4, 5 cannot be read; the nearest readable one stands in") == 5


@pytest.mark.parametrize("workers", ["0", "1"])
def test_all_unreadable_videos_are_named_in_one_run(workers, small_data, tmp_path):
    """One of them is to train on, one to test on, one has frames that cannot be read only beyond the clip."""
    shutil.copytree(small_data, tmp_path / "data")
    (tmp_path / "test.txt").write_text("v_Punch_g01_c02\nv_Biking_g01_c02\n")
    videos = [tmp_path / "data" / "jpegs" / name for name in ("v_Biking_g01_c02", "v_Punch_g02_c01")]
    for video in videos:
        for path in video.iterdir():
            path.write_bytes(b"no picture")
    (tmp_path / "data" / "jpegs" / "v_Biking_g02_c01" / "frame000012.jpg").write_bytes(b"no picture")
    done = train("Conv3D", tmp_path / "data", tmp_path / "out", "--num_workers", workers,
                 "--split", tmp_path / "test.txt", check=False)
    assert_refused(done, "2 of 24 videos cannot be read", *map(str, videos), "unreadable_videos.txt")
    named = (tmp_path / "out" / "unreadable_videos.txt").read_text().splitlines()
    assert sorted(named) == sorted(map(str, videos))


def test_unreadable_videos_are_named_even_if_no_file_can_be_written(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = [functions.Video(path, path, "", "") for path in [str(tmp_path / "broken.mp4")]]
    args = argparse.Namespace(begin_frame=1, end_frame=11, skip_frame=1, clips=1,
                              save_model_path=str(tmp_path / "none"))
    with pytest.raises(functions.InputError, match="1 of 1 videos cannot be read: .*broken.mp4") as error:
        with functions.unreadable_videos_named(args, videos):
            raise functions.UnreadableVideo
    assert "unreadable_videos.txt" not in str(error.value)


def test_unreadable_videos_are_named_by_a_list_of_predictions_too(trained, small_data, tmp_path):
    shutil.copytree(small_data, tmp_path / "data")
    shutil.copytree(trained("Conv3D"), tmp_path / "out")
    for path in (tmp_path / "data" / "jpegs" / "v_Punch_g02_c01").iterdir():
        path.write_bytes(b"no picture")
    done = predict("--save_model_path", tmp_path / "out", "--data_path", tmp_path / "data" / "jpegs",
                   "--output", tmp_path / "list.pkl", check=False)
    assert_refused(done, "1 of 24 videos cannot be read", "v_Punch_g02_c01")
    assert not (tmp_path / "list.pkl").exists()


def test_a_hostile_checkpoint_does_not_run(small_data, tmp_path):
    for name in ("CRNN_epoch1.pth", "CRNN_optimizer_epoch1.pth"):
        torch.save({"model": Payload(tmp_path / "trace")}, tmp_path / name)
    done = train("CRNN", small_data, tmp_path, "--resume", check=False)
    assert_refused(done, "can be read")
    assert "can run code" in done.stdout
    for tensors in (True, False):
        with pytest.raises(functions.InputError, match="can run code"):
            functions.load_checkpoint(tmp_path / "CRNN_epoch1.pth", tensors=tensors)
    assert not (tmp_path / "trace").exists()


def test_a_video_name_leads_nowhere_outside_the_output_folders(small_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    (data / "jpegs" / "v_Punch_g01_c01").rename(data / "jpegs" / "v_..%2f..%2fPunch_g01_c01")
    assert_refused(train("CRNN", data, tmp_path / "out", check=False), "..%2f..%2fPunch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


# ------------------------------------------------------------------------------ several processes


def torchrun(model, data, folder, *more, launcher=()):
    command = arguments(model, data, folder, *more)
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *launcher, *command[1:]]


def evaluate_alone(checkpoint: Path, data: Path, monkeypatch) -> tuple[float, float]:
    """Test loss and score of a checkpoint in this one process, one video at a time."""
    words = ["check", "--checkpoint", str(checkpoint), "--num_workers", "0", "--batch_size", "1"]
    monkeypatch.setattr(sys, "argv", words)
    device = torch.device("cpu")
    found = check_model_prediction.load_model(check_model_prediction.parse_arguments(), device)
    videos = functions.label_videos(functions.find_videos(str(data / "jpegs")), found.action_names)
    videos = [video for video in videos if found.sides[video.name] == "test"]
    script = sys.modules[SCRIPTS[found.name].stem]
    dataset = script.make_dataset(found.args, videos, found.model, device)
    loader = functions.make_loader(dataset, found.args, shuffle=False)
    assert len(loader) == len(videos) > 0
    return functions.evaluate(found.model, device, loader, found.args.clips)


TORCHRUNS = {  # flags, and how many test videos: they do not divide by 2, or leave one process without
    "CRNN": (["--clips", "3", "--augment", "crop_flip"], 5),
    "ResNetCRNN": (["--clips", "2"], 1),
}


@pytest.mark.parametrize("model", TORCHRUNS)
def test_two_processes_train_as_one_and_test_each_video_once(model, small_data, tmp_path, monkeypatch):
    """Test loss and score are those of one process on the same weights."""
    data, out, (flags, count) = tmp_path / "data", tmp_path / "out", TORCHRUNS[model]
    shutil.copytree(small_data, data)
    shutil.rmtree(data / "jpegs" / "v_Punch_g04_c02")
    listed = sorted(path.name for path in (data / "jpegs").glob("*_g04_*"))[:count]
    (tmp_path / "test.txt").write_text("\n".join(listed))
    flags = ["--epochs", "1", "--split", tmp_path / "test.txt", *flags]
    printed = run(*torchrun(model, data, out, *flags)).stdout
    said = f"{23 - count} videos to train on, {count} to test on"
    assert " ".join(printed.split()).count(said) == 1  # only rank 0 speaks
    if model == "ResNetCRNN":
        assert len(list(out.glob("features_*/*.npy"))) == 23
    checkpoint = load(out / f"{model}_epoch1.pth")
    loss, score = evaluate_alone(out / f"{model}_epoch1.pth", data, monkeypatch)
    assert score == pytest.approx(checkpoint["test_score"])
    assert loss == pytest.approx(checkpoint["test_loss"],
                                 rel=1e-2 if model == "ResNetCRNN" else 1e-5)  # float16


def test_a_cluster_that_sets_some_of_torchruns_variables_starts_no_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    alone = runpy.run_path(functions.__file__)
    assert not alone["TORCHRUN"] and (alone["RANK"], alone["WORLD_SIZE"]) == (0, 1)


def test_a_batch_that_cannot_be_shared_out_is_refused(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(functions, "WORLD_SIZE", 2)
    done = train("CRNN", small_data, tmp_path, "--batch_size", "5", check=False)
    assert_refused(done, "--batch_size 5 cannot be shared out evenly among 2 processes")


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the worker in /proc")
def test_torchrun_restarts_a_dead_process_from_the_last_epoch(small_data, tmp_path):
    command = torchrun("CRNN", small_data, tmp_path, "--resume", "--epochs", "6",
                       launcher=["--max_restarts", "1"])
    process = start(command)
    wait_for_epoch(2, tmp_path, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    worker = [c for c in children if b"UCF101_CRNN" in Path(f"/proc/{c}/cmdline").read_bytes()][-1]
    os.kill(int(worker), signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert re.search(r"after epoch [0-9]+", out) and "Epoch   6/6" in out
    assert len(histories(tmp_path)["test_loss"]) == 6

"""A run that cannot be lost: kills, full disks, damaged and hostile files, several processes."""
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ACTIONS, SCRIPTS, arguments, damage, run, train
from test_data import Payload, broken_frames
from test_scripts import assert_same_run, histories

import functions

resource = pytest.importorskip("resource")  # POSIX


def start(command, **options) -> subprocess.Popen:
    """Start a command in a process group of its own, as a terminal does."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, **options)


def wait_for(condition, process, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert process.poll() is None and time.time() < end, process.communicate()
        time.sleep(0.005)


@pytest.mark.parametrize("moment", ["writing the optimizer", "writing the model", "between epochs"])
def test_a_killed_run_goes_on_to_the_same_numbers(moment, trained, small_data, tmp_path):
    patterns = {"writing the optimizer": "CRNN_optimizer_epoch*.tmp",
                "writing the model": "CRNN_epoch*.pth.tmp",
                "between epochs": "CRNN_epoch1.pth"}
    process = start(arguments("CRNN", small_data, tmp_path, "--resume", "--num_workers", "1"))
    wait_for(lambda: list(tmp_path.glob(patterns[moment])), process)
    process.kill()
    process.communicate()
    train("CRNN", small_data, tmp_path, "--resume")
    assert_same_run(trained("CRNN"), tmp_path, "CRNN", 2)
    assert not list(tmp_path.glob("*.tmp"))


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
    assert done.returncode == 1 and "can be read" in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_leaves_what_was_saved(trained, small_data, tmp_path):
    shutil.copytree(trained("CRNN"), tmp_path, dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limit = len(before["CRNN_epoch2.pth"]) // 2
    done = run(*arguments("CRNN", small_data, tmp_path, "--resume", "--epochs", "3"), check=False,
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "could not be written" in done.stderr and "--resume" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_another_program_has_open_is_waited_for(tmp_path, monkeypatch):
    replace, calls = os.replace, []

    def busy_once(temporary, path):  # as on Windows, while a virus scanner reads what was just written
        calls.append(path)
        if len(calls) == 1:
            raise PermissionError
        replace(temporary, path)

    monkeypatch.setattr(os, "replace", busy_once)
    functions.write_atomically(tmp_path / "file", lambda file: file.write(b"whole"))
    assert (tmp_path / "file").read_bytes() == b"whole" and len(calls) == 2


def test_ctrl_c_says_how_to_go_on_and_leaves_no_worker(small_data, tmp_path):
    process = start(arguments("CRNN", small_data, tmp_path, "--epochs", "500", "--num_workers", "2"))
    wait_for(lambda: (tmp_path / "CRNN_epoch1.pth").exists(), process)
    os.killpg(process.pid, signal.SIGINT)  # to the workers, too, as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "--epochs 500" in err and "--resume" in err
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the worker in /proc")
def test_a_killed_worker_ends_the_run_with_what_to_do(small_data, tmp_path):
    process = start(arguments("CRNN", small_data, tmp_path, "--epochs", "500", "--num_workers", "1"))
    wait_for(lambda: (tmp_path / "CRNN_epoch1.pth").exists(), process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)  # as Linux does when memory is short
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in err
    assert "a process that reads videos was killed" in err and "--num_workers" in err


def test_nothing_is_overwritten_without_resume(trained, small_data):
    done = train("CRNN", small_data, trained("CRNN"), check=False)
    assert done.returncode == 1 and "--resume" in done.stderr and "--save_model_path" in done.stderr
    done = train("Conv3D", small_data, trained("CRNN"), "--resume", check=False)
    assert done.returncode == 1 and "CRNN_epoch" in done.stderr


def test_changed_parameters_are_refused_by_name_and_harmless_ones_are_not(trained, small_data, tmp_path):
    shutil.copytree(trained("CRNN"), tmp_path, dirs_exist_ok=True)
    done = train("CRNN", small_data, tmp_path, "--resume", "--seed", "1", "--img_x", "41", check=False)
    assert done.returncode == 1 and "--seed 42 -> 1" in done.stderr and "--img_x 40 -> 41" in done.stderr
    assert "Traceback" not in done.stderr
    out = train("CRNN", small_data, tmp_path, "--resume", "--num_workers", "1", "--log_interval", "3").stdout
    assert "after epoch 2" in out


def test_broken_frames_do_not_stop_training_and_are_named_once(small_data, tmp_path):
    shutil.copytree(small_data, tmp_path / "data")
    for folder in sorted((tmp_path / "data" / "jpegs").iterdir())[::5]:
        broken_frames(folder)
    done = run(*arguments("Conv3D", tmp_path / "data", tmp_path / "out", "--num_workers", "2"))
    assert "Epoch   2/2" in done.stdout
    assert done.stderr.count("frame 3, 4, 5 cannot be read; the nearest readable one stands in") == 5


def test_a_video_without_a_readable_frame_ends_the_run_with_its_name(small_data, tmp_path):
    shutil.copytree(small_data, tmp_path / "data")
    for path in (tmp_path / "data" / "jpegs" / "v_Punch_g02_c01").iterdir():
        path.write_bytes(b"no picture")
    for workers in ("0", "1"):  # raised here, and in another process
        done = train("Conv3D", tmp_path / "data", tmp_path / "out", "--num_workers", workers, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert re.fullmatch(r"Error: .*v_Punch_g02_c01: none of its frames 1 to 10 can be read; .*",
                            done.stderr.strip())


def test_a_hostile_checkpoint_does_not_run(small_data, tmp_path):
    for name in ("CRNN_epoch1.pth", "CRNN_optimizer_epoch1.pth"):
        torch.save({"model": Payload(tmp_path / "trace")}, tmp_path / name)
    done = train("CRNN", small_data, tmp_path, "--resume", check=False)
    assert (done.returncode == 1 and "damaged or no checkpoint" in done.stdout
            and "Traceback" not in done.stderr)
    with pytest.raises(functions.InputError, match="damaged or no checkpoint"):
        functions.load_checkpoint(tmp_path / "CRNN_epoch1.pth", only_values=True)
    assert not (tmp_path / "trace").exists()


def test_a_video_name_leads_nowhere_outside_the_output_folders(small_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    (data / "jpegs" / "v_Punch_g01_c01").rename(data / "jpegs" / "v_..%2f..%2fPunch_g01_c01")
    done = train("CRNN", data, tmp_path / "out", check=False)
    assert done.returncode == 1 and "..%2f..%2fPunch" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def torchrun(model, data, folder, *more, launcher=()):
    command = arguments(model, data, folder, *more)
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *launcher, *command[1:]]


def evaluate_alone(model, checkpoint, data, monkeypatch):
    """Test loss and score of a checkpoint in this one process."""
    import check_model_prediction as check

    monkeypatch.setattr(sys, "argv", ["check", "--model", model, "--checkpoint", str(checkpoint),
                                      "--num_workers", "0"])
    net, args, action_names, test = check.load_model(check.parse_arguments(), torch.device("cpu"))
    videos = [v for v in functions.list_videos(str(data / "jpegs"), action_names) if v.name in test]
    dataset = check.make_dataset(model, videos, [action_names.index(v.action) for v in videos], args)
    return functions.evaluate(net, torch.device("cpu"), functions.make_loader(dataset, args, False, 0))


@pytest.mark.parametrize("model", list(SCRIPTS))
def test_two_processes_train_as_one_and_test_each_video_once(model, small_data, tmp_path, monkeypatch):
    """5 test videos do not divide by 2: test loss and score are those of one process on the same weights."""
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(small_data, data)
    videos = functions.list_videos(str(data / "jpegs"), ACTIONS)
    shutil.rmtree(functions.split_videos(videos, "group", 42)[1][0].path)
    first = run(*torchrun(model, data, out, "--epochs", "1")).stdout
    assert first.count("18 videos to train on, 5 to test on") == 1  # only rank 0 speaks
    if model == "ResNetCRNN":
        assert len(list(out.glob("features_*/*.pt"))) == 2  # 16 and 7 videos, one file by each process
    if model == "CRNN":
        second = run(*torchrun(model, data, out, "--resume")).stdout
        assert second.count("after epoch 1") == 1 and second.count("Epoch   2/2") == 1
    checkpoint = torch.load(out / f"{model}_epoch1.pth", weights_only=True)
    loss, score = evaluate_alone(model, out / f"{model}_epoch1.pth", data, monkeypatch)
    assert score == checkpoint["test_score"]
    assert loss == pytest.approx(checkpoint["test_loss"],
                                 rel=1e-2 if model == "ResNetCRNN" else 1e-5)  # float16


def test_a_batch_that_cannot_be_shared_out_is_refused(small_data, tmp_path):
    done = run(*torchrun("CRNN", small_data, tmp_path, "--batch_size", "5"), check=False)
    assert (done.returncode == 1
            and "--batch_size 5 cannot be shared out evenly among 2 processes" in done.stderr)


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the worker in /proc")
def test_torchrun_restarts_a_dead_process_from_the_last_epoch(small_data, tmp_path):
    command = torchrun("CRNN", small_data, tmp_path, "--resume", "--epochs", "20",
                       launcher=["--max_restarts", "1"])
    process = start(command)
    wait_for(lambda: (tmp_path / "CRNN_epoch2.pth").exists(), process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    worker = [c for c in children if b"UCF101_CRNN" in Path(f"/proc/{c}/cmdline").read_bytes()][-1]
    os.kill(int(worker), signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert re.search(r"after epoch [0-9]+", out) and "Epoch  20/20" in out
    assert len(histories(tmp_path)["test_loss"]) == 20

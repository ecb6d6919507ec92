"""The training scripts as a user runs them."""
import argparse
import filecmp
import importlib
import inspect
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import functions
from conftest import (
    ACTIONS,
    REPO,
    SCRIPTS,
    arguments,
    assert_refused,
    assert_same_run,
    histories,
    load,
    make_images,
    predict,
    run,
    run_here,
    train,
    write_frames,
    write_video,
)

MODELS = list(SCRIPTS)
MODULES = {model: importlib.import_module(script.stem) for model, script in SCRIPTS.items()}
LENGTHS = (9, 11, 16, 24)  # frames of the videos of each group in long_data; a clip has 10


@pytest.fixture(scope="session")
def long_data(tmp_path_factory) -> Path:
    """3 actions x 4 groups of frame folders of LENGTHS, and actions.pkl beside them."""
    root = tmp_path_factory.mktemp("long")
    for a, action in enumerate(ACTIONS):
        for group, count in enumerate(LENGTHS, start=1):
            images = make_images(10 * a + group, count)
            write_frames(root / "jpegs" / f"v_{action}_g{group:02d}_c01", images)
    (root / "actions.pkl").write_bytes(pickle.dumps(ACTIONS))
    return root


# ------------------------------------------------------------------------------ what they have in common


def test_the_three_functions_py_are_one_file():
    for folder in ("CRNN", "ResNetCRNN"):
        assert filecmp.cmp(REPO / "Conv3D/functions.py", REPO / folder / "functions.py", shallow=False), (
            f"mend it: cp Conv3D/functions.py {folder}/functions.py")


def test_the_scripts_differ_in_their_parameters_dataset_and_model_only():
    mains = {model: inspect.getsource(module.main) for model, module in MODULES.items()}
    assert mains["Conv3D"] == mains["CRNN"] == mains["ResNetCRNN"]
    assert len(mains["CRNN"].splitlines()) <= 35
    for module in MODULES.values():
        own = {name: list(inspect.signature(value).parameters) for name, value in vars(module).items()
               if inspect.getmodule(value) is module}
        assert own == {"main": [], "build_model": ["args", "num_classes"],
                       "make_dataset": ["args", "videos", "model", "device"]}


DEFAULTS = {  # as the original tutorial has them; what came later means "as before"
    "common": dict(split="random", seed=42, begin_frame=1, end_frame=29, skip_frame=1, clips=1,
                   augment="none", lr_schedule="constant", log_interval=10, resume=False,
                   keep_all_epochs=False, demo=False),
    "Conv3D": dict(img_x=256, img_y=342, channels=3, epochs=15, batch_size=30, learning_rate=1e-4,
                   dropout=0.2),
    "CRNN": dict(img_x=224, img_y=224, epochs=120, batch_size=30, learning_rate=1e-4, dropout=0.3),
    "ResNetCRNN": dict(res_size=224, epochs=120, batch_size=40, learning_rate=1e-3, dropout=0.3,
                       resnet_weights="IMAGENET1K_V1", cache_features=True),
}


@pytest.mark.parametrize("model", MODELS)
def test_the_defaults_are_the_tutorials(model):
    defaults = {name: default for name, (default, *_) in MODULES[model].PARAMETERS.items()}
    expected = DEFAULTS["common"] | DEFAULTS[model]
    assert {name: defaults[name] for name in expected} == expected


def test_help_names_every_parameter():
    for model, script in SCRIPTS.items():
        text = run_here(script, "--help").stdout
        for name in MODULES[model].PARAMETERS:
            assert re.search(rf"^  --{name}\b", text, re.M), name


# ------------------------------------------------------------------------------ a run and its outputs


@pytest.mark.parametrize("model", MODELS)
def test_a_script_trains_and_writes_its_outputs(model, trained):
    folder = trained(model)
    output = (folder / "output.txt").read_text()
    assert "24 videos of 3 actions" in output and "18 videos to train on, 6 to test on" in output
    assert len(re.findall(r"^Epoch +\d+/2 .*train loss .*test loss", output, re.M)) == 2
    assert max(len(line) for line in output.splitlines() if not {"/", "\\"} & set(line)) <= 80
    for key, values in histories(folder).items():
        assert values.shape == (2,) and np.isfinite(values).all()
        assert "loss" in key or ((0 <= values) & (values <= 1)).all()
    with Image.open(folder / f"fig_UCF101_{model}.png") as figure:
        assert figure.size[0] > 800
    assert (folder / f"{model}_optimizer_epoch2.pth").exists()
    script, path = re.search(r"^Next +python (\S+) --save_model_path (\S+)$", output, re.M).groups()
    assert os.path.samefile(path, folder) and os.path.samefile(script, REPO / "check_model_prediction.py")


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_tells_all_that_prediction_needs(model, trained, small_data):
    folder = trained(model)
    checkpoint = load(folder / f"{model}_epoch2.pth")
    assert set(checkpoint) == {"name", "model", "args", "action_names", "epoch", "test_loss", "test_score",
                               "train_videos", "test_videos", "frame_rate"}
    assert checkpoint["name"] == model and checkpoint["epoch"] == 2
    assert set(checkpoint["args"]) == set(MODULES[model].PARAMETERS)
    assert not any(key.startswith("module.") for key in checkpoint["model"])
    assert checkpoint["action_names"] == ACTIONS
    assert len(checkpoint["train_videos"]) == 18 and len(checkpoint["test_videos"]) == 6
    names = {path.name for path in (small_data / "jpegs").iterdir()}
    assert {*checkpoint["train_videos"], *checkpoint["test_videos"]} == names
    assert checkpoint["test_score"] == histories(folder)["test_score"][1]
    assert checkpoint["test_loss"] == histories(folder)["test_loss"][1]
    assert checkpoint["frame_rate"] is None  # frame folders have none


def until_epoch_1(run_of_two_epochs: Path, folder: Path) -> None:
    """The folder as it was when the first epoch had ended, kept features and all."""
    shutil.copytree(run_of_two_epochs, folder)
    for path in folder.glob("*_epoch2.pth"):
        path.unlink()


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_equals_the_unbroken_one_to_the_last_bit(model, trained, small_data, tmp_path):
    until_epoch_1(trained(model), tmp_path / model)
    out = train(model, small_data, tmp_path / model, "--resume", "--num_workers", "1").stdout
    assert "after epoch 1" in out and "Epoch   1/" not in out
    assert_same_run(trained(model), tmp_path / model, model, 2)


def test_only_the_best_and_the_last_epoch_stay_and_the_best_is_marked(small_data, tmp_path):
    out = train("CRNN", small_data, tmp_path, "--epochs", "5").stdout
    scores, losses = histories(tmp_path)["test_score"], histories(tmp_path)["test_loss"]
    best = 1 + min(range(5), key=lambda e: (-scores[e], losses[e]))
    kept = {best, 5, 4} if best == 5 else {best, 5}
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == sorted(
        f"CRNN_{part}epoch{epoch}.pth" for part in ("", "optimizer_") for epoch in kept)
    assert f"epoch {best}: test accuracy" in out
    out = train("CRNN", small_data, tmp_path, "--epochs", "5", "--resume").stdout
    assert "Nothing is left to train: raise --epochs" in out and f"epoch {best}: test accuracy" in out


def test_every_epoch_stays_if_asked(small_data, tmp_path):
    train("CRNN", small_data, tmp_path, "--epochs", "4", "--keep_all_epochs")
    done = train("CRNN", small_data, tmp_path, "--epochs", "5", "--resume", check=False)
    assert_refused(done, "--keep_all_epochs True -> False")  # it would remove them
    assert len(list(tmp_path.glob("CRNN_epoch*.pth"))) == 4


def test_it_runs_from_any_folder_and_a_folder_taken_away_still_trains(small_data, tmp_path):
    away = tmp_path / "away"
    (away / "CRNN").mkdir(parents=True)
    for name in ("UCF101_CRNN.py", "functions.py"):
        (away / "CRNN" / name).write_bytes((REPO / "CRNN" / name).read_bytes())
    (away / "UCF101actions.pkl").write_bytes(pickle.dumps(ACTIONS))
    command = arguments("CRNN", small_data, "here", "--epochs", "1")
    command[1] = "UCF101_CRNN.py"
    at = command.index("--action_name_path")
    del command[at:at + 2]
    run(*command, cwd=away / "CRNN")
    assert (away / "CRNN" / "here" / "CRNN_epoch1.pth").exists()  # relative to where one stands


def test_avi_files_train_with_workers(tmp_path):
    for a, action in enumerate(["Biking", "HandStandPushups", "Punch"]):
        for group in range(1, 5):
            write_video(tmp_path / "jpegs" / action / f"v_{action}_g{group:02d}_c01.avi",
                        make_images(10 * a + group))
    (tmp_path / "actions.pkl").write_bytes(pickle.dumps(ACTIONS))
    out = train("Conv3D", tmp_path, tmp_path / "out", "--num_workers", "2", "--split", "random",
                "--channels", "1").stdout
    assert "9 videos to train on, 3 to test on" in out
    assert load(tmp_path / "out" / "Conv3D_epoch2.pth")["frame_rate"] == 25


def test_own_videos_in_class_folders_train_without_a_list_of_actions(tmp_path):
    """Files as a phone names them, folders as people make them; the list of UCF101 is the default."""
    for a, action in enumerate(["Bend down", "Wave"]):
        for person in ("anna", "Ben", "Zoë"):
            for number in (1, 2):
                path = tmp_path / "jpegs" / action / person / f"MOV {number}.mov"
                write_video(path, make_images(9 * a + number))
    done = train("Conv3D", tmp_path, tmp_path / "out", "--action_name_path", REPO / "UCF101actions.pkl")
    assert "those found are taken" in done.stdout and "Actions Bend down, Wave" in done.stdout
    checkpoint = load(tmp_path / "out" / "Conv3D_epoch2.pth")
    assert checkpoint["action_names"] == ["Bend down", "Wave"]
    people = {side: {name.split("/")[1] for name in checkpoint[f"{side}_videos"]}
              for side in ("train", "test")}
    assert len(people["test"]) == 1 and not people["train"] & people["test"]  # one person's are held out
    assert "Bend down/Zoë/MOV 2" in {*checkpoint["train_videos"], *checkpoint["test_videos"]}


def test_a_random_split_says_what_its_accuracy_is_worth(small_data, tmp_path):
    out = train("Conv3D", small_data, tmp_path, "--split", "random", "--epochs", "1").stdout
    text = " ".join(out.split())
    found = re.search(r"(\d+) of the 6 test videos \([0-9.]+%\) have a sibling from the same", text)
    assert int(found[1]) > 0


def test_short_videos_are_used_counted_and_the_shortest_is_named(long_data, tmp_path):
    """Of the clip's 12 frames, videos of 9 and 11 lack some: each side of the split has a line on its own."""
    out = train("Conv3D", long_data, tmp_path, "--end_frame", "13", "--num_workers", "1").stdout
    found = re.findall(r"Short (\d+) of ([0-9,]+) videos end before frame 12 and hold their last one; "
                       r"the shortest, (\w+), has (\d+)", " ".join(out.split()))
    assert sum(int(short) for short, *_ in found) == 6 and sum(int(videos) for _, videos, *_ in found) == 12
    for *_, name, count in found:
        assert int(count) == LENGTHS[int(name.split("_g")[1][:2]) - 1]
    assert min(int(count) for *_, count in found) == 9
    assert "Short" not in train("Conv3D", long_data, tmp_path / "all", "--end_frame", "10").stdout
    out = train("Conv3D", long_data, tmp_path / "late", "--begin_frame", "10", "--end_frame", "20").stdout
    found = re.findall(r"Of (\d+) the clip is a still picture", " ".join(out.split()))
    assert sum(map(int, found)) == 3  # those of 9 frames


# ------------------------------------------------------------------------------ several clips of a video


def spread_by_hand(count: int) -> list[list[int]]:
    """Three clips of 10 frames: the first frames, the middle, the last ones."""
    room = max(0, count - 10)
    return [[number + shift for number in range(1, 11)] for shift in (0, round(room / 2), room)]


def evaluate_by_hand(model: str, checkpoint: dict, data: Path) -> tuple[float, float]:
    """(loss, accuracy) on the test videos by the mean of the softmax of three clips, one clip at a time."""
    args = argparse.Namespace(**checkpoint["args"])
    net = MODULES[model].build_model(args, len(ACTIONS))
    net.load_state_dict(checkpoint["model"])
    net.eval()
    height, width = (args.res_size, args.res_size) if model == "ResNetCRNN" else (args.img_x, args.img_y)
    losses, right = [], []
    for name in checkpoint["test_videos"]:
        count = len(list((data / "jpegs" / name).iterdir()))
        probabilities = []
        for numbers in spread_by_hand(count):
            [(X, *_)] = functions.read_clips(str(data / "jpegs" / name), [numbers], height, width)
            X = X.transpose(0, 1) if model == "Conv3D" else X
            with torch.no_grad():
                probabilities.append(net(X[None]).double().softmax(1)[0])
        mean, label = torch.stack(probabilities).mean(0), ACTIONS.index(name.split("_")[1])
        losses.append(-mean[label].log().item())
        right.append(mean.argmax().item() == label)
    return float(np.mean(losses)), float(np.mean(right))


CLIPS = ["--clips", "3", "--learning_rate", "1e-2"]


@pytest.fixture(scope="session")
def trained_on_clips(long_data, tmp_path_factory):
    """trained_on_clips(model) -> the folder of a run of two epochs with CLIPS; each model is trained once."""
    folders = {}

    def get(model: str) -> Path:
        if model not in folders:
            folders[model] = tmp_path_factory.mktemp(model)
            out = train(model, long_data, folders[model], *CLIPS).stdout
            (folders[model] / "output.txt").write_text(out)
        return folders[model]

    return get


@pytest.mark.parametrize("model", ["CRNN", "ResNetCRNN"])
def test_with_clips_the_accuracy_is_the_videos(model, trained_on_clips, long_data):
    folder = trained_on_clips(model)
    out = (folder / "output.txt").read_text()
    assert "3 clips a video" in out
    checkpoint = load(folder / f"{model}_epoch2.pth")
    loss, score = evaluate_by_hand(model, checkpoint, long_data)
    assert len(checkpoint["test_videos"]) == 3
    assert histories(folder)["test_score"][1] == checkpoint["test_score"] == pytest.approx(score)
    assert histories(folder)["test_loss"][1] == checkpoint["test_loss"]
    rounding = 1e-2 if model == "ResNetCRNN" else 1e-5  # its features are kept in half precision
    assert checkpoint["test_loss"] == pytest.approx(loss, rel=rounding)
    assert re.search(rf"^Epoch +2/2 .*test loss {checkpoint['test_loss']:.4f}  acc +{score:.1%} ", out, re.M)


def test_each_epoch_trains_on_one_clip_of_each_video_drawn_anew(long_data):
    videos = functions.label_videos(functions.find_videos(str(long_data / "jpegs")), ACTIONS)
    dataset = functions.Dataset_CRNN(videos, list(range(1, 11)), 20, 20, clips=3)
    args = argparse.Namespace(batch_size=5, clips=3, seed=42, num_workers=0)
    loader = functions.make_loader(dataset, args, shuffle=True)
    epochs = []
    for epoch in range(8):
        loader.sampler.set_epoch(epoch)
        draws = list(loader.sampler)
        assert sorted(index for index, _ in draws) == list(range(12))
        epochs.append(dict(draws))
        if epoch == 0:
            batches = [X for X, _ in loader]
            assert [len(X) for X in batches] == [5, 5, 2]
            for (index, clip), X in zip(draws, torch.cat(batches), strict=True):
                numbers = spread_by_hand(LENGTHS[index % 4])[clip]
                [(expected, *_)] = functions.read_clips(videos[index].path, [numbers], 20, 20)
                assert torch.equal(X, expected)
    assert all(a != b for a, b in zip(epochs, epochs[1:], strict=False))
    assert all(len({epoch[index] for epoch in epochs}) > 1 for index in range(12))
    counts = np.bincount([clip for draws in epochs for clip in draws.values()])
    assert len(counts) == 3 and counts.min() > 20  # of 96 draws
    loader.sampler.set_epoch(3)
    assert dict(loader.sampler) == epochs[3]  # of its own seed: a resumed run draws the same


def test_kept_features_are_those_of_all_clips_and_resume_the_same(trained_on_clips, long_data, tmp_path):
    whole = trained_on_clips("ResNetCRNN")
    [kept] = whole.glob("features_*")
    shapes = {(features.shape, features.dtype.name) for features in map(np.load, kept.iterdir())}
    assert shapes == {((3, 10, 2048), "float16")} and len(list(kept.iterdir())) == 12
    until_epoch_1(whole, tmp_path / "resumed")
    more = [*CLIPS, "--resume", "--num_workers", "1"]
    out = train("ResNetCRNN", long_data, tmp_path / "resumed", *more).stdout
    assert "Cache" not in out  # they depend on the videos, not on the run
    assert_same_run(whole, tmp_path / "resumed", "ResNetCRNN", 2)


def test_the_defaults_of_what_came_later_change_no_number(trained, small_data, tmp_path):
    train("CRNN", small_data, tmp_path, "--clips", "1", "--augment", "none", "--lr_schedule", "constant")
    assert_same_run(trained("CRNN"), tmp_path, "CRNN", 2)


@pytest.mark.parametrize("flags", ["--augment crop", "--augment crop_flip", "--clips 2",
                                   "--lr_schedule cosine"])
def test_each_of_them_changes_what_is_learnt(flags, trained, small_data, tmp_path):
    train("CRNN", small_data, tmp_path, *flags.split(), "--epochs", "1")
    assert histories(tmp_path)["train_loss"][0] != histories(trained("CRNN"))["train_loss"][0]


def test_augmented_clips_cannot_have_kept_features(small_data, tmp_path):
    done = train("ResNetCRNN", small_data, tmp_path / "out", "--augment", "crop", check=False)
    assert_refused(done, "--augment", "crop", "--no-cache_features", status=2)
    done = train("ResNetCRNN", small_data, tmp_path / "out", "--augment", "crop", "--no-cache_features",
                 "--resnet_weights", tmp_path / "none", check=False)
    assert_refused(done, "--resnet_weights")  # so the remedy is taken


# ------------------------------------------------------------------------------ features of the frozen ResNet


def test_frames_instead_of_cached_features(trained, small_data, tmp_path):
    out = train("ResNetCRNN", small_data, tmp_path, "--epochs", "1", "--no-cache_features").stdout
    assert "Cache " not in out and not list(tmp_path.glob("features_*"))
    np.testing.assert_allclose(  # half precision apart, the same
        histories(tmp_path)["test_loss"], histories(trained("ResNetCRNN"))["test_loss"][:1], rtol=1e-2)


def test_a_changed_picture_that_a_clip_holds_makes_its_features_old(tmp_path):
    write_frames(tmp_path / "video", make_images(0, count=6))
    video = functions.Video("video", str(tmp_path / "video"), "Punch", "")
    states = [functions.file_state(video, [1, 2, 9], 1)]  # 6 is held for 9
    for number in (2, 6, 4):
        path = tmp_path / "video" / f"frame{number:06d}.jpg"
        path.write_bytes(path.read_bytes() + b" ")
        states.append(functions.file_state(video, [1, 2, 9], 1))
    assert len(set(states)) == 3 and states[2] == states[3]


def test_features_are_computed_once_and_anew_when_a_video_changes(trained, small_data, tmp_path):
    output = (trained("ResNetCRNN") / "output.txt").read_text()
    assert features_computed(output) == [18, 6]
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(small_data, data)  # with their times, so that they count as the same
    shutil.copytree(trained("ResNetCRNN"), out)
    features = sorted(out.glob("features_*/*.npy"))
    assert len(features) == 24 and np.load(features[0]).dtype == np.float16
    whole = features[0].read_bytes()
    features[0].write_bytes(whole[:1000])
    more = ["--epochs", "3", "--resume"]
    done = train("ResNetCRNN", data, out, *more, check=False)
    assert_refused(done, f"{features[0]} is damaged: remove it")
    for path in features[:7]:  # as if stopped on the way: what was computed is kept
        path.unlink()
    assert sum(features_computed(train("ResNetCRNN", data, out, *more).stdout)) == 7
    frame = data / "jpegs" / "v_Punch_g01_c01" / "frame000006.jpg"
    frame.write_bytes(frame.read_bytes() + b" ")
    more = ["--epochs", "4", "--resume"]
    assert features_computed(train("ResNetCRNN", data, out, *more).stdout) == [1]
    assert len(list(out.glob("features_*"))) == 1


def features_computed(output: str) -> list[int]:
    """Of how many videos, for each side of the split that lacked some."""
    return [int(number) for number in re.findall(r"the ResNet-152 features of (\d+) videos", output)]


# ------------------------------------------------------------------------------ what a user can get wrong


@pytest.fixture(scope="session")
def wrong(tmp_path_factory) -> Path:
    """A folder of what is no data, no list, no folder."""
    root = tmp_path_factory.mktemp("wrong")
    (root / "empty").mkdir()
    for name in ("v_Wave_g01_c01", "v_Wave_g02_c01", "v_Bend_g01_c01", "v_Punch_g01_c01"):
        write_frames(root / "mixed" / name, make_images(0, count=1))
    for name in ("Bend/1", "Bend/2", "Wave/1", "Wave/2"):
        write_frames(root / "sourceless" / name, make_images(0, count=1))
    (root / "dict.pkl").write_bytes(pickle.dumps({"Punch": 1}))
    (root / "file").write_text("")
    return root


BAD_COMMANDS = {  # the flags, the exit status, what the message must name; {wrong} is the folder above
    "no data_path": ("--data_path {wrong}/none", 1, ["none", "--data_path"]),
    "no videos": ("--data_path {wrong}/empty", 1, ["empty", "no video"]),
    "some unknown actions": ("--data_path {wrong}/mixed", 1, ["Bend, Wave", "--action_name_path none"]),
    "no action list": ("--action_name_path {wrong}/dict.pkl", 1, ["dict.pkl", "not a pickled list of str"]),
    "no such action list": ("--action_name_path {wrong}/none.txt", 1, ["none.txt", "No such file"]),
    "frames too small": ("--img_x 20", 1, ["20x40 are too small", "33x33"]),
    "begin at end": ("--begin_frame 11", 1, ["--begin_frame 11", "--end_frame 11"]),
    "no such split": ("--split half", 1, ["--split half", "neither a file nor", "group"]),
    "another list's split": ("--split official1", 1, ["official1", "UCF101", "group"]),
    "no train and test folders": ("--split folders", 1, ["--split folders", "train and test"]),
    "no sources": ("--data_path {wrong}/sourceless --action_name_path none", 1,
                   ["<Action>/<source>/<video>", "--split random"]),
    "save_model_path is a file": ("--save_model_path {wrong}/file", 1,
                                  ["--save_model_path", "file", "exists"]),
    "BatchNorm of one value": ("--batch_size 17", 1, ["BatchNorm", "another --batch_size"]),  # 18 videos
    "bad batch": ("--batch_size 0", 2, ["--batch_size"]),
    "no clips": ("--clips 0", 2, ["--clips"]),
    "unknown augment": ("--augment zoom", 2, ["--augment", "crop_flip"]),
    "unknown schedule": ("--lr_schedule step", 2, ["--lr_schedule", "cosine"]),
    "unknown flag": ("--batchsize 3", 2, ["--batchsize"]),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_input_ends_in_one_message_and_writes_nothing(case, wrong, small_data, tmp_path):
    flags, status, words = BAD_COMMANDS[case]
    flags = [flag.format(wrong=wrong) for flag in flags.split()]
    if case == "no data_path":
        done = run(*arguments("CRNN", small_data, tmp_path / "out", *flags), check=False)  # as a user sees it
    else:
        done = train("CRNN", small_data, tmp_path / "out", *flags, check=False)
    assert_refused(done, *words, status=status)
    assert not list((tmp_path / "out").glob("**/*"))


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


ODD_FLAGS = ["--action_name_path", "none", "--split", "random", "--seed", "3"]


def test_names_that_the_terminal_cannot_show_train_and_are_predicted(odd_names, tmp_path):
    command = arguments("Conv3D", odd_names, tmp_path, *ODD_FLAGS, "--end_frame", "14")
    done = run(*command, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, errors="replace")
    assert "Epoch   2/2" in done.stdout and "Short" in done.stdout
    for encoding in ("cp1252", "utf-8"):
        more = {"encoding": encoding}
        out = train("Conv3D", odd_names, tmp_path, *ODD_FLAGS, "--end_frame", "14", "--resume", **more).stdout
        assert "after epoch 2" in out
        out = predict("--save_model_path", tmp_path, "--output", tmp_path / "list.pkl", **more).stdout
        assert "Accuracy test" in out
        out = predict("--save_model_path", tmp_path, "--csv", tmp_path / "a.csv",
                      "--video", odd_names / "jpegs", **more).stdout
        assert len(re.findall(r"^  Walk ", out, re.M)) == 7


@pytest.mark.parametrize("number", range(0, 7, 3))
@pytest.mark.filterwarnings("ignore:Glyph")  # Matplotlib's font has no Chinese
def test_a_picture_of_a_video_shows_its_name_as_far_as_it_can(number, odd_names, trained, tmp_path):
    path = sorted((odd_names / "jpegs").glob("*/*"))[number]
    done = predict("--save_model_path", trained("Conv3D"), "--video", path, "--plot", tmp_path / "a.png")
    assert done.stderr == ""
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 800


def test_unreadable_videos_of_any_name_are_named(odd_names, tmp_path):
    shutil.copytree(odd_names, tmp_path / "data")
    for path in (tmp_path / "data" / "jpegs").glob("*/*"):
        path.write_bytes(b"no video")
    done = train("Conv3D", tmp_path / "data", tmp_path / "out", *ODD_FLAGS, encoding="cp1252", check=False)
    assert_refused(done, "7 of 7 videos cannot be read", "unreadable_videos.txt")
    named = (tmp_path / "out" / "unreadable_videos.txt").read_bytes().splitlines()
    assert sorted(named) == sorted(map(os.fsencode, (tmp_path / "data" / "jpegs").glob("*/*")))


# ------------------------------------------------------------------------------ that the models learn


def demo(model, tmp_path, *more):
    return run_here(SCRIPTS[model], "--demo", "--data_path", tmp_path / "demo" / "jpegs",
                    "--action_name_path", tmp_path / "demo" / "actions.pkl",
                    "--save_model_path", tmp_path / model, *more)


@pytest.mark.parametrize("model, epochs", [("Conv3D", 3), ("CRNN", 4)])
def test_the_demo_is_learnt(model, epochs, tmp_path_factory):
    """On groups held out, well above the chance of one in four, even in fewer epochs than it has."""
    folder = tmp_path_factory.getbasetemp() / "demo"
    out = demo(model, folder, "--epochs", epochs).stdout
    assert "group: " in out and histories(folder / model)["test_score"].max() > 0.6


def test_resnetcrnn_learns_its_training_videos_by_heart(trained, small_data, tmp_path):
    [features] = trained("ResNetCRNN").glob("features_*")
    shutil.copytree(features, tmp_path / features.name)  # of the same frames and weights
    args = argparse.Namespace(**load(trained("ResNetCRNN") / "ResNetCRNN_epoch2.pth")["args"])
    args.save_model_path, args.dropout, args.RNN_hidden_layers = str(tmp_path), 0.0, 1
    args.CNN_fc_hidden1 = args.CNN_fc_hidden2 = args.CNN_embed_dim = args.RNN_hidden_nodes = 64
    videos = functions.label_videos(functions.find_videos(str(small_data / "jpegs")), ACTIONS)
    torch.manual_seed(args.seed)
    model = torch.nn.DataParallel(MODULES["ResNetCRNN"].build_model(args, len(ACTIONS)))
    dataset = MODULES["ResNetCRNN"].make_dataset(args, videos, model, torch.device("cpu"))
    loader = functions.make_loader(dataset, args, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scores = [functions.train_one_epoch(model, torch.device("cpu"), loader, optimizer, epoch, args)[1]
              for epoch in range(30)]
    assert min(scores) < 0.5 and max(scores) > 0.9  # a third is chance

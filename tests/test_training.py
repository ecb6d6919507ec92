"""Training and testing, on any loader and by the scripts: outputs, clips, what is kept, that models learn."""
import argparse
import errno
import os
import pickle
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

import functions
import UCF101_CRNN
from conftest import (
    ACTIONS,
    MODELS,
    MODULES,
    REPO,
    SCRIPTS,
    SLOW_RUNS,
    assert_refused,
    assert_same_run,
    broken_frames,
    histories,
    load,
    make_images,
    run,
    train,
    write_frames,
    write_video,
)
from functions import CRNN, DecoderRNN, EncoderCNN
from runs import InputError
from videos import Video, find_videos, label_videos

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def long_data(tmp_path_factory) -> Path:
    """3 actions x 4 groups of frame folders of 9 to 24 frames, and actions.pkl beside them."""
    root = tmp_path_factory.mktemp("long")
    for a, action in enumerate(ACTIONS):
        for group, count in enumerate((9, 11, 16, 24), start=1):
            images = make_images(10 * a + group, count)
            write_frames(root / "jpegs" / f"v_{action}_g{group:02d}_c01", images)
    (root / "actions.pkl").write_bytes(pickle.dumps(ACTIONS))
    return root


# ------------------------------------------------------------------------------ on any loader


def default_args(**changes) -> argparse.Namespace:
    """The parameters of a training script as they stand in its block."""
    defaults = {name: default for name, (default, *_) in UCF101_CRNN.PARAMETERS.items()}
    return argparse.Namespace(**defaults | changes)


class OwnDataset(Dataset):
    """What a learner writes: dark clips are 0, bright ones 1."""

    def __len__(self):
        return 21

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        bright = index % 2
        return torch.rand(9, 3, 49, 49, generator=generator) / 2 + bright, bright


def small_crnn() -> CRNN:
    torch.manual_seed(0)
    return CRNN(EncoderCNN(49, 49, 16, 16, 0, 16), DecoderRNN(16, 1, 16, 16, 0, 2))


def test_a_learners_own_dataset_and_dataloader_train_and_are_tested():
    """No sampler of ours, and a last batch that is not full: losses and scores count every clip."""
    model, args = small_crnn(), default_args(epochs=6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    loader = DataLoader(OwnDataset(), batch_size=8, shuffle=True)
    for epoch in range(args.epochs):
        functions.train_one_epoch(model, CPU, loader, optimizer, epoch, args)
    loss, accuracy = functions.evaluate(model, CPU, loader)
    assert accuracy == 1 and loss < 0.1
    X, y = next(iter(DataLoader(OwnDataset(), batch_size=21)))
    wrong = TensorDataset(X, 1 - y)  # of tensors, all labels wrong
    assert functions.evaluate(model, CPU, DataLoader(wrong, batch_size=5))[1] == 0
    wrong = TensorDataset(X, y.where(torch.arange(21) > 0, 1 - y))  # one of them is
    assert functions.evaluate(model, CPU, DataLoader(wrong, batch_size=5))[1] == pytest.approx(20 / 21)


def test_the_mean_of_several_clips_is_that_of_their_probabilities():
    """Not of their logits, in which one sure clip outweighs many."""
    logits = torch.tensor([[[9.0, 0.0], [0.0, 1.0], [0.0, 1.0]],
                           [[0.0, 2.0], [1.0, 0.0], [1.0, 0.0]]])  # (2, 3, 2)
    loader = DataLoader(TensorDataset(logits, torch.tensor([0, 1])), batch_size=2)
    found, labels = functions.predict(torch.nn.Identity(), CPU, loader, clips=3)
    torch.testing.assert_close(found.exp(), logits.double().softmax(2).mean(1))
    assert labels.tolist() == [0, 1]
    loss, accuracy = functions.evaluate(torch.nn.Identity(), CPU, loader, clips=3)
    right = logits.double().softmax(2).mean(1)[[0, 1], [0, 1]]
    assert loss == pytest.approx(-right.log().mean().item()) and accuracy == (right > 0.5).double().mean()


def test_the_defaults_draw_no_random_number():
    """clips 1 and augment none are the tutorial: an epoch without dropout leaves the generator as seeded."""
    model, args = small_crnn(), default_args()
    optimizer = torch.optim.Adam(model.parameters())
    loader = DataLoader(OwnDataset(), batch_size=8, generator=torch.Generator())
    functions.train_one_epoch(model, CPU, loader, optimizer, 3, args)
    state = torch.get_rng_state()
    assert torch.equal(state, torch.manual_seed(torch.initial_seed()).get_state())
    for epoch, changes, same in ((3, {}, True), (3, {"augment": "crop"}, False), (2, {"seed": 43}, False)):
        functions.train_one_epoch(model, CPU, loader, optimizer, epoch, default_args(**changes))
        assert torch.equal(state, torch.get_rng_state()) == same  # same: as in a resumed run


@pytest.mark.parametrize("how", ["crop", "crop_flip"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_clip_is_cropped_as_one_and_each_clip_otherwise(how, channels):
    pixels = torch.linspace(40, 110, 40)[:, None] + torch.linspace(0, 110, 60)  # tell where they stand
    clips = pixels.to(torch.uint8).expand(64, 5, channels, 40, 60).contiguous()
    for X in (clips, clips.transpose(1, 2)):  # as CRNN has it, as Conv3D has it
        torch.manual_seed(3)
        cropped = functions.augment(X, how)
        assert cropped.shape == X.shape and cropped.dtype == torch.uint8
        flat = cropped.flatten(1, 2)  # (64, 5 * channels, 40, 60)
        assert torch.equal(flat, flat[:, :1].expand_as(flat))  # all frames and channels alike
        assert len({tuple(clip[0].flatten().tolist()) for clip in flat}) > 55
        mirrored = (flat[:, 0, :, 0] > flat[:, 0, :, -1]).any(1).double().mean()  # brighter on the left
        assert 0.25 < mirrored < 0.75 if how == "crop_flip" else mirrored == 0
        span = flat[:, 0].amax((1, 2)).int() - flat[:, 0].amin((1, 2)).int()  # of 180 grey levels
        assert span.min() > 0.7 * 180 and 0.85 * 180 < span.double().mean() < 180  # gentle, and a crop
        torch.manual_seed(3)
        assert torch.equal(functions.augment(X, how), cropped)  # the same seed, the same crops
        assert not torch.equal(functions.augment(X, how), cropped)
    assert functions.augment(clips, "none") is clips


def test_the_cosine_rate_warms_up_shortly_and_falls_to_nothing():
    rate = [functions.cosine_rate(0.1, step / 1000) for step in range(1001)]
    top = rate.index(max(rate))
    assert 30 <= top <= 60 and 0.095 < rate[top] <= 0.1
    assert 0 < rate[0] < 0.01 and rate[-1] < 1e-6
    assert rate[:top] == sorted(rate[:top]) and rate[top:] == sorted(rate[top:], reverse=True)
    assert rate[500] == pytest.approx(0.05, rel=1e-6)


def test_the_rate_of_a_step_depends_on_epoch_and_step_alone():
    """So a resumed run needs no more than the number of its epoch."""
    loader = DataLoader(OwnDataset(), batch_size=8)  # 3 steps
    for schedule, expected in (("cosine", functions.cosine_rate(0.5, (3 + 2 / 3) / 4)), ("constant", 0.25)):
        model = small_crnn()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
        args = default_args(epochs=4, lr_schedule=schedule, learning_rate=0.5)
        functions.train_one_epoch(model, CPU, loader, optimizer, 3, args)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_a_loss_that_is_not_finite_ends_the_run_with_what_to_do():
    model = small_crnn()
    optimizer = torch.optim.Adam(model.parameters())
    clips = TensorDataset(torch.full((2, 9, 3, 49, 49), torch.nan), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="loss of epoch 1 is nan: lower --learning_rate"):
        functions.train_one_epoch(model, CPU, DataLoader(clips, 2), optimizer, 0, default_args())


# ------------------------------------------------------------------------------ a run and its outputs


@pytest.mark.parametrize("model", MODELS)
def test_a_script_trains_and_writes_its_outputs(model, trained):
    folder = trained(model)
    output = (folder / "output.txt").read_text()
    assert "24 videos of 3 actions" in output and "18 videos for training, 6 for the test" in output
    assert len(re.findall(r"^Epoch +\d+/2 .*train loss .*test loss", output, re.M)) == 2
    assert max(len(line) for line in output.splitlines() if not {"/", "\\"} & set(line)) <= 80
    assert "Curves  This test cannot tell the model from guessing (chance level 33.3%)" in output
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
                               "train_videos", "test_videos", "video_actions", "video_paths", "frame_rate"}
    assert checkpoint["name"] == model and checkpoint["epoch"] == 2
    assert set(checkpoint["args"]) == set(MODULES[model].PARAMETERS)
    assert not any(key.startswith("module.") for key in checkpoint["model"])
    assert checkpoint["action_names"] == ACTIONS
    assert len(checkpoint["train_videos"]) == 18 and len(checkpoint["test_videos"]) == 6
    paths = {path.name: str(path) for path in (small_data / "jpegs").iterdir()}
    assert checkpoint["video_paths"] == paths
    assert {*checkpoint["train_videos"], *checkpoint["test_videos"]} == paths.keys()
    assert checkpoint["video_actions"] == {name: name.split("_")[1] for name in paths}
    assert checkpoint["test_score"] == histories(folder)["test_score"][1]
    assert checkpoint["test_loss"] == histories(folder)["test_loss"][1]
    assert checkpoint["frame_rate"] is None  # frame folders have none


def test_own_videos_in_class_folders_train_without_a_list_of_actions(tmp_path):
    """Files as a phone names them, folders as people make them; the list of UCF101 is the default."""
    for a, action in enumerate(["Bend down", "Wave"]):
        for person in ("anna", "Ben", "Zoë"):
            for number in (1, 2):
                path = tmp_path / "jpegs" / action / person / f"MOV {number}.mov"
                write_video(path, make_images(9 * a + number))
    done = train("Conv3D", tmp_path, tmp_path / "out", "--action_name_path", REPO / "UCF101actions.pkl",
                 "--channels", "1", "--num_workers", "2", "--batch_size", "7")  # then 1 of the 8 is left
    assert "the actions found are used" in " ".join(done.stdout.split())
    checkpoint = load(tmp_path / "out" / "Conv3D_epoch2.pth")
    assert checkpoint["frame_rate"] == 25
    assert checkpoint["action_names"] == ["Bend down", "Wave"]
    train_videos, test_videos = checkpoint["train_videos"], checkpoint["test_videos"]
    assert "Bend down/Zoë/MOV 2" in train_videos + test_videos
    [person] = {name.split("/")[1] for name in test_videos}  # one person's are held out
    assert not any(f"/{person}/" in name for name in train_videos)


def test_broken_frames_do_not_stop_training_and_are_named_once(small_data, tmp_path, capfd):
    """Also if two workers read a video in turn, in every epoch."""
    shutil.copytree(small_data / "jpegs", tmp_path / "data")
    for folder in sorted((tmp_path / "data").iterdir())[::5]:
        broken_frames(folder)
    videos = label_videos(find_videos(str(tmp_path / "data")), ACTIONS)
    dataset = functions.Dataset_CRNN(videos, list(range(1, 11)), 8, 8)
    loader = functions.make_loader(dataset, default_args(batch_size=1, num_workers=2), shuffle=True)
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        assert sum(len(y) for _, y in loader) == 24
    assert capfd.readouterr().err.count("frame 3, 4, 5 cannot be read; the nearest") == 5


# ------------------------------------------------------------------------------ several clips of a video


def spread_by_hand(count: int) -> list[list[int]]:
    """Three clips of 10 frames: the first frames, the middle, the last ones."""
    room = max(0, count - 10)
    return [[number + shift for number in range(1, 11)] for shift in (0, round(room / 2), room)]


def evaluate_by_hand(checkpoint: dict, data: Path) -> tuple[float, float]:
    """(loss, accuracy) on the test videos by the mean of the softmax of three clips, one clip at a time."""
    args = argparse.Namespace(**checkpoint["args"])
    net = UCF101_CRNN.build_model(args, len(ACTIONS))
    net.load_state_dict(checkpoint["model"])
    net.eval()
    losses, right = [], []
    for name in checkpoint["test_videos"]:
        folder, probabilities = data / "jpegs" / name, []
        for numbers in spread_by_hand(len(list(folder.iterdir()))):
            [(X, *_)] = functions.read_clips(str(folder), [numbers], args.img_x, args.img_y)
            with torch.no_grad():
                probabilities.append(net(X[None]).double().softmax(1)[0])
        mean, label = torch.stack(probabilities).mean(0), ACTIONS.index(name.split("_")[1])
        losses.append(-mean[label].log().item())
        right.append(mean.argmax().item() == label)
    return float(np.mean(losses)), float(np.mean(right))


def test_with_clips_the_accuracy_is_the_videos_whether_clips_are_kept_or_not(long_data, tmp_path):
    """And all numbers are the same to the last bit."""
    kept, read_anew = tmp_path / "kept", tmp_path / "read anew"
    flags = ["--clips", "3", "--learning_rate", "1e-2", "--augment", "crop_flip"]
    out = train("CRNN", long_data, kept, *flags).stdout
    assert "3 clips per video" in out
    checkpoint = load(kept / "CRNN_epoch2.pth")
    loss, score = evaluate_by_hand(checkpoint, long_data)
    assert len(checkpoint["test_videos"]) == 3
    assert histories(kept)["test_score"][1] == checkpoint["test_score"] == pytest.approx(score)
    assert histories(kept)["test_loss"][1] == checkpoint["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert re.search(rf"^Epoch +2/2 .*test loss {checkpoint['test_loss']:.4f}  acc +{score:.1%} ", out, re.M)
    train("CRNN", long_data, read_anew, *flags, "--cache_gb", "0", "--num_workers", "1")
    assert_same_run(kept, read_anew, "CRNN", 2)
    assert {np.load(path).shape for path in kept.glob("clips_*/*.npy")} == {(3, 10, 3, 40, 40)}
    assert not list(read_anew.glob("clips_*"))


@pytest.mark.parametrize("flags", ["--augment crop_flip", "--clips 2", "--lr_schedule cosine"])
def test_each_of_these_changes_what_is_learnt(flags, trained, small_data, tmp_path):
    train("CRNN", small_data, tmp_path, *flags.split(), "--epochs", "1")
    assert histories(tmp_path)["train_loss"][0] != histories(trained("CRNN"))["train_loss"][0]


# ------------------------------------------------------------------------------ what is kept


@pytest.mark.parametrize("model, kept, shape", [
    ("Conv3D", "clips", (1, 3, 10, 24, 32)), ("ResNetCRNN", "features", (1, 10, 2048))])
def test_the_start_says_what_is_kept_how_large_and_where(model, kept, shape, trained):
    [folder] = trained(model).glob("*_*/")
    arrays = [np.load(path) for path in folder.iterdir()]
    assert folder.name.startswith(f"{kept}_") and len(arrays) == 24
    dtype = "uint8" if kept == "clips" else "float16"
    assert {(array.shape, array.dtype.name) for array in arrays} == {(shape, dtype)}
    said = f"Cache   {kept} of 24 videos, 0.00 GB, in\n        {folder}\n"
    assert said in (trained(model) / "output.txt").read_text()


def test_what_would_take_too_much_is_not_kept_and_the_start_says_how_much(tmp_path, capsys):
    ucf101 = [Video(f"v_Punch_g01_c{number}", "nowhere", "Punch", "g1", label=0) for number in range(13_320)]
    datasets = [functions.Dataset_CRNN(ucf101[start::2], list(range(1, 29)), 224, 224) for start in (0, 1)]
    for cache_gb, words in ((10, "clips take 56.1 GB"), (56, "--cache_gb 56"), (0, "")):
        args = default_args(save_model_path=str(tmp_path), cache_gb=cache_gb)
        assert functions.keep_arrays(args, None, CPU, datasets) == datasets
        out = " ".join(capsys.readouterr().out.split())
        assert words in out and bool(words) == bool(out)
    assert not list(tmp_path.iterdir())


def test_after_an_edit_of_what_reads_clips_they_are_made_again(tmp_path, monkeypatch):
    """But not after an edit of a model."""
    monkeypatch.setattr(functions, "__file__", str(tmp_path / "functions.py"))
    names = []
    for edited in ("nothing", "class CNN3D(", "def resize(", "def read_frames("):
        for file in ("frames.py", "functions.py"):
            text = (REPO / "Conv3D" / file).read_text(encoding="utf-8")
            (tmp_path / file).write_text(text.replace(f"\n{edited}", f"\n\n{edited}"), encoding="utf-8")
        names.append(functions.folder_name(functions.Dataset_CRNN([], [1, 2], 8, 8), None))
    assert names[0] == names[1] and len(set(names)) == 3


def test_a_changed_picture_that_a_clip_holds_is_read_again(tmp_path):
    write_frames(tmp_path / "video", make_images(0, count=6))
    video = Video("video", str(tmp_path / "video"), "Punch", "")
    states = [functions.video_state(video.name, video.path, [1, 2, 9], 1)]  # 6 is held for 9
    for number in (2, 6, 4):
        path = tmp_path / "video" / f"frame{number:06d}.jpg"
        path.write_bytes(path.read_bytes() + b" ")
        states.append(functions.video_state(video.name, video.path, [1, 2, 9], 1))
    assert len(set(states)) == 3 and states[2] == states[3]


def test_a_damaged_file_is_named_and_only_what_is_missing_or_changed_is_made(trained, small_data, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(small_data, data)  # with their times, so that they count as the same
    shutil.copytree(trained("CRNN"), out)
    biking = Video("v_Biking_g01_c01", str(data / "jpegs" / "v_Biking_g01_c01"), "", "")
    [damaged] = out.glob(f"clips_*/{functions.video_state(biking.name, biking.path, range(1, 11), 1)}.npy")
    damaged.write_bytes(damaged.read_bytes()[:1000])
    more = ["--epochs", "3", "--resume"]
    assert_refused(train("CRNN", data, out, *more, check=False), f"{damaged} is damaged: delete it")
    times = {path: path.stat().st_mtime_ns for path in out.glob("clips_*/*")}
    damaged.unlink()
    frame = data / "jpegs" / "v_Punch_g01_c01" / "frame000006.jpg"
    frame.write_bytes(frame.read_bytes() + b" ")
    train("CRNN", data, out, *more)
    now = {path: path.stat().st_mtime_ns for path in out.glob("clips_*/*")}
    assert len(now.keys() - times) == 1 and times.keys() <= now.keys()  # that of the changed video
    assert [path for path in times if now[path] != times[path]] == [damaged]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO])  # deleted; a network drive went away
def test_an_error_of_the_system_is_no_damage_of_a_kept_file(number, small_data, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    videos = label_videos(find_videos(str(small_data / "jpegs")), ACTIONS)
    kept = functions.KeptDataset(functions.Dataset_CRNN(videos, [1, 2], 8, 8), tmp_path)
    monkeypatch.setattr(np, "load", np.load if number == errno.ENOENT else fail)
    with pytest.raises(InputError, match=re.escape(f"{kept.paths[3]}: {os.strerror(number)}")):
        kept[3]


def test_frames_instead_of_kept_features_can_be_cropped(small_data, tmp_path):
    flags = ["--augment", "crop", "--end_frame", "4", "--epochs", "1"]
    done = train("ResNetCRNN", small_data, tmp_path, *flags, check=False)
    assert_refused(done, "--augment", "crop", "--no-cache_features", status=2)
    assert "Epoch   1/1" in train("ResNetCRNN", small_data, tmp_path, *flags, "--no-cache_features").stdout
    assert not list(tmp_path.glob("features_*"))


# ------------------------------------------------------------------------------ that the models learn

DEMOS = {  # shorter than the demo is: fewer epochs, and of CRNN every third frame
    "Conv3D": ["--epochs", "2"],
    "CRNN": ["--epochs", "8", "--skip_frame", "3", "--learning_rate", "1e-3"],
}


def run_demo(model: str, _, folder: Path) -> tuple[str, Path]:
    data, out = folder.parent / "demo", folder / "out"
    done = run(sys.executable, SCRIPTS[model], "--demo", "--data_path", data / "jpegs", "--save_model_path",
               out, "--num_workers", "0", *DEMOS[model])
    return done.stdout, out


for name in DEMOS:
    SLOW_RUNS[f"test_the_demo_is_learnt[{name}]"] = partial(run_demo, name)


@pytest.mark.parametrize("model", DEMOS)
def test_the_demo_is_learnt(model, slow_runs, request):
    """On groups held out, well above the chance of one in four."""
    out, folder = slow_runs[request.node.name].result()
    assert "group: " in out and histories(folder)["test_score"].max() > 0.6


def test_resnetcrnn_learns_its_training_videos_by_heart(trained, small_data, tmp_path):
    [features] = trained("ResNetCRNN").glob("features_*")
    shutil.copytree(features, tmp_path / features.name)  # of the same frames and weights
    args = argparse.Namespace(**load(trained("ResNetCRNN") / "ResNetCRNN_epoch2.pth")["args"])
    args.save_model_path, args.dropout, args.RNN_hidden_layers = str(tmp_path), 0.0, 1
    args.CNN_fc_hidden1 = args.CNN_fc_hidden2 = args.CNN_embed_dim = args.RNN_hidden_nodes = 64
    videos = label_videos(find_videos(str(small_data / "jpegs")), ACTIONS)
    torch.manual_seed(args.seed)
    model = torch.nn.DataParallel(MODULES["ResNetCRNN"].build_model(args, len(ACTIONS)))
    [dataset] = functions.keep_arrays(args, model, CPU, [MODULES["ResNetCRNN"].make_dataset(args, videos)])
    loader = functions.make_loader(dataset, args, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scores = [functions.train_one_epoch(model, CPU, loader, optimizer, epoch, args)[1]
              for epoch in range(30)]
    assert min(scores) < 0.5 and max(scores) > 0.9  # a third is chance

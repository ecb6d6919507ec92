"""Training and testing, on any loader and by the scripts: outputs, what is kept, starts, learning."""
import argparse
import errno
import os
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
    Payload,
    assert_refused,
    assert_same_run,
    broken_frames,
    histories,
    load,
    predict,
    run,
    train,
)
from functions import CRNN, DecoderRNN, EncoderCNN
from runs import InputError, load_checkpoint, parallelize
from videos import Video, find_videos, label_videos

CPU = torch.device("cpu")


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
    wrong = TensorDataset(X, y.where(torch.arange(21) > 0, 1 - y))  # of tensors, one label is wrong
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


KEPT = {  # what is kept of each video, and its form
    "Conv3D": ("clips", (1, 3, 10, 24, 32), "uint8"), "CRNN": ("clips", (1, 10, 3, 40, 40), "uint8"),
    "ResNetCRNN": ("features", (1, 10, 2048), "float16"),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_script_trains_and_writes_its_outputs(model, trained):
    folder, (kept, *form) = trained(model), KEPT[model]
    output = (folder / "output.txt").read_text()
    assert "24 videos of 3 actions" in output and "18 videos for training, 6 for the test" in output
    assert len(re.findall(r"^Epoch +\d+/2 .*train loss .*test loss", output, re.M)) == 2
    assert max(len(line) for line in output.splitlines() if not {"/", "\\"} & set(line)) <= 80
    assert "Curves  This test cannot tell the model from guessing (chance level 33.3%)" in output
    for key, values in histories(folder).items():
        assert values.shape == (2,) and np.isfinite(values).all()
        assert "loss" in key or ((0 <= values) & (values <= 1)).all()
    [cache] = folder.glob(f"{kept}_*")
    assert f"Cache   {kept} of 24 videos, 0.00 GB, in\n        {cache}\n" in output
    arrays = [np.load(path) for path in cache.iterdir()]
    assert [[array.shape, array.dtype.name] for array in arrays] == [form] * 24
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


def test_only_the_best_and_the_last_epoch_stay_and_the_best_is_marked(small_data, tmp_path):
    out = train("CRNN", small_data, tmp_path, "--epochs", "5").stdout
    scores, losses = histories(tmp_path)["test_score"], histories(tmp_path)["test_loss"]
    best = 1 + min(range(5), key=lambda e: (-scores[e], losses[e]))
    kept = {best, 5, 4} if best == 5 else {best, 5}
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == sorted(
        f"CRNN_{part}epoch{epoch}.pth" for part in ("", "optimizer_") for epoch in kept)
    assert f"epoch {best}: test accuracy" in out
    out = train("CRNN", small_data, tmp_path, "--epochs", "5", "--resume").stdout
    assert "All epochs are trained: raise --epochs" in out and f"epoch {best}: test accuracy" in out


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


@pytest.mark.parametrize("flags", ["--augment crop_flip", "--clips 2", "--lr_schedule cosine"])
def test_each_of_these_changes_what_is_learnt(flags, trained, small_data, tmp_path):
    train("CRNN", small_data, tmp_path, *flags.split(), "--epochs", "1")
    assert histories(tmp_path)["train_loss"][0] != histories(trained("CRNN"))["train_loss"][0]


# ------------------------------------------------------------------------------ what is kept


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
    kept.form = b"", (1, 2, 3, 8, 8), "uint8"
    monkeypatch.setattr(functions, "open", open if number == errno.ENOENT else fail, raising=False)
    with pytest.raises(InputError, match=re.escape(f"{kept.paths[3]}: {os.strerror(number)}")):
        kept[3]


def test_what_a_frozen_resnet_cannot_take_is_refused_with_the_remedy(small_data, tmp_path):
    """Crops of kept features, and six channels. Frames instead of features can be cropped."""
    crop = ["--augment", "crop", "--end_frame", "4", "--epochs", "1"]
    for flags, remedy in ((crop, "--no-cache_features"), (["--input", "both"], "differences")):
        done = train("ResNetCRNN", small_data, tmp_path, *flags, check=False)
        assert_refused(done, *flags[:2], remedy, status=2)
    assert "Epoch   1/1" in train("ResNetCRNN", small_data, tmp_path, *crop, "--no-cache_features").stdout
    assert not list(tmp_path.glob("features_*"))


# ------------------------------------------------------------------------------ checkpoints, old and new


def answer(folder: Path, video: Path) -> str:
    """What a prediction prints of a video, from its name on."""
    out = predict("--save_model_path", folder, "--video", video).stdout
    return out[out.index(video.name):]


def test_a_checkpoint_of_an_older_parameter_set_resumes_and_predicts_as_before(trained, small_data, tmp_path):
    """It knows no clips, input, crops, schedules, kept clips, training videos, frame rate and name."""
    for name in ("old", "new"):
        shutil.copytree(trained("CRNN"), tmp_path / name)
    for path in (tmp_path / "old").glob("CRNN_epoch*.pth"):
        checkpoint = load(path)
        for key in ("clips", "input", "augment", "lr_schedule", "start_from", "cache_gb"):
            del checkpoint["args"][key]
        for key in ("train_videos", "video_actions", "video_paths", "frame_rate", "name"):
            del checkpoint[key]
        torch.save(checkpoint, path)
    video = small_data / "jpegs" / "v_Punch_g03_c01"
    assert answer(tmp_path / "old", video) == answer(tmp_path / "new", video)
    out = predict("--save_model_path", tmp_path / "old", "--output", tmp_path / "list.pkl").stdout
    assert re.search(r"Accuracy test .* of 6 videos\nAccuracy unknown .* of 18 videos", out)
    more = ["--resume", "--epochs", "3"]
    done = train("CRNN", small_data, tmp_path / "old", *more, "--clips", "2", check=False)
    assert_refused(done, "--clips 1 -> 2")
    for name in ("old", "new"):
        train("CRNN", small_data, tmp_path / name, *more)
    assert_same_run(tmp_path / "old", tmp_path / "new", "CRNN", 3)


STARTS = {  # the part of a model's weights in the file, flags of the run that starts from it, what is new
    "Conv3D": ("", "", ["fc3.weight", "fc3.bias"]),
    "CRNN, larger": ("", "--img_x 60", ["encoder.fc1.weight", "decoder.fc2.weight", "decoder.fc2.bias"]),
    "CRNN, raw encoder": ("encoder.", "--input both", ["encoder.conv1.0.weight", *(
        f"decoder.{key}" for key in DecoderRNN(1, 3, 1, 1).state_dict())]),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_run_starts_from_all_weights_that_fit_once(case, trained, small_data, tmp_path):
    part, flags, new = STARTS[case]
    model, start = case.split(",")[0], tmp_path / "start.pth"
    checkpoint = load(trained(model) / f"{model}_epoch2.pth")
    before = checkpoint["model"]
    for key in [key for key in before if key.startswith(("fc3", "decoder.fc2"))]:
        before[key] = before[key][:2]  # of two actions
    raw = {f"module.{key.removeprefix(part)}": tensor for key, tensor in before.items() if part in key}
    torch.save(raw if part else checkpoint, start)
    words = ["--start_from", start, *flags.split(), "--epochs", "1", "--learning_rate", "1e-12"]
    out = train(model, small_data, tmp_path, *words).stdout
    weights = load(tmp_path / f"{model}_epoch1.pth")["model"]
    taken = [tensor.numel() for key, tensor in weights.items() if key not in new]
    said = f"{len(taken)} tensors ({sum(taken):,} values) taken, {len(new)} new: {', '.join(new[:6])}"
    assert f"from {start}: {said}" in " ".join(out.split())
    for key in (key for key in weights if key not in new and key.endswith(("weight", "bias"))):
        torch.testing.assert_close(weights[key], before[key])
    start.unlink()
    assert "Start " not in train(model, small_data, tmp_path, *words, "--resume").stdout


def test_weights_of_which_nothing_fits_or_of_another_model_are_refused(trained, small_data, tmp_path):
    for file in (trained("Conv3D") / "Conv3D_epoch2.pth", trained("ResNetCRNN") / "ResNetCRNN_epoch2.pth"):
        done = train("CRNN", small_data, tmp_path, "--start_from", file, check=False)
        assert_refused(done, str(file))
    assert not list(tmp_path.glob("*.pth"))


def test_a_hostile_checkpoint_does_not_run(small_data, tmp_path):
    for name in ("CRNN_epoch1.pth", "CRNN_optimizer_epoch1.pth"):
        torch.save({"model": Payload(tmp_path / "trace")}, tmp_path / name)
    assert_refused(train("CRNN", small_data, tmp_path, "--resume", check=False), "can be read")
    words = ["--start_from", tmp_path / "CRNN_epoch1.pth"]
    assert_refused(train("CRNN", small_data, tmp_path / "out", *words, check=False), "can run code")
    for tensors in (True, False):
        with pytest.raises(InputError, match="can run code"):
            load_checkpoint(tmp_path / "CRNN_epoch1.pth", tensors=tensors)
    assert not (tmp_path / "trace").exists()


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
    model = parallelize(MODULES["ResNetCRNN"].build_model(args, len(ACTIONS)), CPU)
    [dataset] = functions.keep_arrays(args, model, CPU, [MODULES["ResNetCRNN"].make_dataset(args, videos)])
    loader = functions.make_loader(dataset, args, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scores = [functions.train_one_epoch(model, CPU, loader, optimizer, epoch, args)[1]
              for epoch in range(30)]
    assert min(scores) < 0.5 and max(scores) > 0.9  # a third is chance

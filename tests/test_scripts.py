"""The training scripts as a user runs them."""
import filecmp
import pickle
import re

import numpy as np
import pytest
import torch
from conftest import (ACTIONS, REPO, SCRIPTS, arguments, make_images, run, run_here, train, write_frames,
                      write_video)
from PIL import Image

import functions

MODELS = list(SCRIPTS)


def test_the_three_functions_py_are_one_file():
    for folder in ("CRNN", "ResNetCRNN"):
        assert filecmp.cmp(REPO / "Conv3D/functions.py", REPO / folder / "functions.py", shallow=False), (
            f"mend it: cp Conv3D/functions.py {folder}/functions.py")


def histories(folder):
    return {key: np.load(folder / f"epoch_{key}.npy")
            for key in ("train_loss", "train_score", "test_loss", "test_score")}


def weights(folder, name, epoch):
    return torch.load(folder / f"{name}_epoch{epoch}.pth", weights_only=True)["model"]


def assert_same_run(a, b, name, epoch):
    """Losses, scores and weights equal to the last bit."""
    for key, values in histories(a).items():
        assert values.tolist() == histories(b)[key].tolist(), key
    weights_a, weights_b = weights(a, name, epoch), weights(b, name, epoch)
    for key, tensor in weights_a.items():
        assert torch.equal(tensor, weights_b[key]), key


@pytest.mark.parametrize("model", MODELS)
def test_a_script_trains_and_writes_its_outputs(model, trained, small_data):
    folder = trained(model)
    output = (folder / "output.txt").read_text()
    assert "24 videos of 3 actions" in output and "18 videos to train on, 6 to test on" in output
    assert len(re.findall(r"^Epoch +\d+/2 .*train loss .*test loss", output, re.M)) == 2
    path = functions.quote(str(folder))
    assert f"check_model_prediction.py --model {model} --save_model_path {path}" in output
    assert max(len(line) for line in output.splitlines() if not {"/", "\\"} & set(line)) <= 80
    for key, values in histories(folder).items():
        assert values.shape == (2,) and np.isfinite(values).all()
        assert "loss" in key or ((0 <= values) & (values <= 1)).all()
    with Image.open(folder / f"fig_UCF101_{model}.png") as figure:
        assert figure.size[0] > 800
    checkpoint = torch.load(folder / f"{model}_epoch2.pth", weights_only=True)
    assert set(checkpoint) == {"model", "args", "action_names", "epoch", "test_loss", "test_score",
                               "test_videos"}
    assert not any(key.startswith("module.") for key in checkpoint["model"])
    assert checkpoint["action_names"] == ACTIONS and len(checkpoint["test_videos"]) == 6
    assert checkpoint["test_score"] == histories(folder)["test_score"][1]
    assert (folder / f"{model}_optimizer_epoch2.pth").exists()


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_equals_the_unbroken_one_to_the_last_bit(model, trained, small_data, tmp_path):
    train(model, small_data, tmp_path, "--epochs", "1", "--resume")  # nothing there: begins at the beginning
    out = run(*arguments(model, small_data, tmp_path, "--resume", "--num_workers", "1")).stdout
    assert "after epoch 1" in out and "Epoch   1/" not in out
    assert_same_run(trained(model), tmp_path, model, 2)


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
    assert done.returncode == 1 and "--keep_all_epochs True -> False" in done.stderr  # it would remove them
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


def test_a_random_split_says_what_its_accuracy_is_worth(small_data, tmp_path):
    out = train("Conv3D", small_data, tmp_path, "--split", "random", "--epochs", "1").stdout
    assert re.search(r"%? of the test videos have a sibling from the same source", out)


def test_frames_instead_of_cached_features(trained, small_data, tmp_path):
    out = train("ResNetCRNN", small_data, tmp_path, "--epochs", "1", "--no-cache_features").stdout
    assert "Cache " not in out and not list(tmp_path.glob("features_*"))
    np.testing.assert_allclose(  # half precision apart, the same
        histories(tmp_path)["test_loss"], histories(trained("ResNetCRNN"))["test_loss"][:1], rtol=1e-2)


def test_features_are_computed_once_and_anew_when_a_video_changes(trained, small_data, tmp_path):
    assert "the ResNet-152 features of 24 videos" in (trained("ResNetCRNN") / "output.txt").read_text()
    for path in (small_data / "jpegs").rglob("*.jpg"):
        copy = tmp_path / "jpegs" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "actions.pkl").write_bytes(pickle.dumps(ACTIONS))
    out = train("ResNetCRNN", tmp_path, tmp_path / "out", "--epochs", "1").stdout
    assert "features of 24 videos" in out
    features = sorted((tmp_path / "out").glob("features_*/*.pt"))
    assert len(features) == 2 and torch.load(features[0]).dtype == torch.float16
    features[1].unlink()  # as if stopped on the way: what was computed is kept
    out = train("ResNetCRNN", tmp_path, tmp_path / "out", "--epochs", "2", "--resume").stdout
    assert "features of 8 videos" in out
    assert len(list((tmp_path / "out").glob("features_*"))) == 1
    features[0].write_bytes(features[0].read_bytes()[:1000])
    done = train("ResNetCRNN", tmp_path, tmp_path / "out", "--epochs", "3", "--resume", check=False)
    assert done.returncode == 1 and f"{features[0].parent} is damaged" in done.stderr
    frame = tmp_path / "jpegs" / "v_Punch_g01_c01" / "frame000006.jpg"
    frame.write_bytes(frame.read_bytes() + b" ")
    out = train("ResNetCRNN", tmp_path, tmp_path / "out", "--epochs", "3", "--resume").stdout
    assert "features of 24 videos" in out


def bad_command(case, data, tmp_path):
    """Returns (command line additions, what the message must name)."""
    if case == "no data_path":
        return ["--data_path", tmp_path / "none"], ["none", "--data_path"]
    if case == "no videos":
        (tmp_path / "empty").mkdir()
        return ["--data_path", tmp_path / "empty"], ["empty", "no video"]
    if case == "unknown actions":
        for name in ("v_Wave_g01_c01", "v_Wave_g02_c01", "v_Bend_g01_c01"):
            write_frames(tmp_path / "own" / name, make_images(0, count=1))
        return ["--data_path", tmp_path / "own"], ["own", "Bend, Wave", "--action_name_path"]
    if case == "too few frames":
        return ["--end_frame", "14"], ["v_Biking_g01_c01 has 12 frames", "--end_frame"]
    if case == "no action list":
        (tmp_path / "actions.pkl").write_bytes(pickle.dumps({"Punch": 1}))
        return ["--action_name_path", tmp_path / "actions.pkl"], ["actions.pkl", "not a pickled list of str"]
    if case == "frames too small":
        return ["--img_x", "20"], ["20x40 are too small", "33x33"]
    if case == "begin at end":
        return ["--begin_frame", "11"], ["--begin_frame 11", "--end_frame 11"]
    if case == "bad batch":
        return ["--batch_size", "0"], ["--batch_size"]
    if case == "unknown flag":
        return ["--batchsize", "3"], ["--batchsize"]
    if case == "save_model_path is a file":
        (tmp_path / "file").write_text("")
        return ["--save_model_path", tmp_path / "file"], ["--save_model_path", "file", "exists"]


@pytest.mark.parametrize("case", ["no data_path", "no videos", "unknown actions", "too few frames",
                                  "no action list", "frames too small", "begin at end",
                                  "save_model_path is a file", "bad batch", "unknown flag"])
def test_bad_input_ends_in_one_message_and_writes_nothing(case, small_data, tmp_path):
    more, names = bad_command(case, small_data, tmp_path)
    if case in ("no data_path", "frames too small"):
        done = run(*arguments("CRNN", small_data, tmp_path / "out", *more), check=False)  # as a user sees it
    else:
        done = train("CRNN", small_data, tmp_path / "out", *more, check=False)
    assert done.returncode == (2 if case in ("bad batch", "unknown flag") else 1)
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
    message = done.stderr.strip().splitlines()[-1] if done.returncode == 2 else done.stderr
    assert len(message.strip().splitlines()) <= 2
    for name in names:
        assert name in message, message


def test_help_names_every_parameter():
    for script in SCRIPTS.values():
        text = run_here(script, "--help").stdout
        for flag in ("--data_path", "--split", "--seed", "--end_frame", "--batch_size", "--resume", "--demo"):
            assert flag in text


def demo(model, tmp_path, *more):
    return run_here(SCRIPTS[model], "--demo", "--data_path", tmp_path / "demo" / "jpegs",
                    "--action_name_path", tmp_path / "demo" / "actions.pkl",
                    "--save_model_path", tmp_path / model, *more)


@pytest.mark.parametrize("model, epochs", [("Conv3D", 4), ("CRNN", 6)])
def test_the_demo_is_learnt(model, epochs, tmp_path_factory):
    """On groups held out, well above the chance of one in four, even in fewer epochs than it has."""
    folder = tmp_path_factory.getbasetemp() / "demo"
    out = demo(model, folder, "--epochs", epochs).stdout
    assert "group: " in out and histories(folder / model)["test_score"].max() > 0.6


def test_resnetcrnn_learns_its_training_videos_by_heart(small_data, tmp_path):
    train("ResNetCRNN", small_data, tmp_path, "--epochs", "20", "--dropout", "0", "--learning_rate", "1e-2",
          "--CNN_fc_hidden1", "64", "--CNN_fc_hidden2", "64", "--CNN_embed_dim", "64",
          "--RNN_hidden_nodes", "64", "--RNN_hidden_layers", "1")
    assert histories(tmp_path)["train_score"].max() > 0.9  # a third is chance

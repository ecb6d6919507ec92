"""check_model_prediction.py: the list, any video, any weights."""
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ACTIONS, REPO, SCRIPTS, damage, make_images, run, run_here, write_frames, write_video

import functions


def predict(model, *more, check=True):
    return run_here(REPO / "check_model_prediction.py", "--model", model, "--num_workers", "0", *more,
                    check=check)


@pytest.mark.parametrize("model", list(SCRIPTS))
def test_the_best_epoch_predicts_every_video(model, trained, small_data, tmp_path):
    out = predict(model, "--save_model_path", trained(model), "--output", tmp_path / "list.pkl").stdout
    table = pd.read_pickle(tmp_path / "list.pkl")
    assert list(table) == ["filename", "y", "y_pred", "confidence", "split"]
    assert sorted(table["filename"]) == sorted(path.name for path in (small_data / "jpegs").iterdir())
    assert ((table["filename"].str.split("_").str[1] == table["y"]).all()
            and set(table["y_pred"]) <= set(ACTIONS))
    assert table["confidence"].between(1 / 3 - 1e-6, 1).all()
    scores, losses = (np.load(trained(model) / f"epoch_test_{key}.npy") for key in ("score", "loss"))
    best = min(range(2), key=lambda e: (-scores[e], losses[e]))
    assert f"{model}_epoch{best + 1}.pth" in out
    checkpoint = torch.load(trained(model) / f"{model}_epoch{best + 1}.pth", weights_only=True)
    test = table[table["split"] == "test"]
    assert (sorted(test["filename"]) == sorted(checkpoint["test_videos"])
            and (table["split"] == "train").sum() == 18)
    accuracy = (test["y"] == test["y_pred"]).mean()
    assert accuracy == pytest.approx(scores[best])
    last = out.splitlines()[-2:]
    assert (last[0].startswith("Accuracy train")
            and re.match(rf"Accuracy test +{accuracy:.1%} +of 6 videos", last[1]))


def test_top_five_of_video_files_and_frame_folders(trained, tmp_path):
    write_frames(tmp_path / "my walk", make_images(1, height=50, width=90))
    write_video(tmp_path / "clip.mp4", make_images(2, count=30, height=64, width=48))
    out = run(sys.executable, REPO / "check_model_prediction.py", "--model", "CRNN", "--save_model_path",
              trained("CRNN"), "--csv", tmp_path / "top5.csv", "--video", tmp_path / "my walk",
              tmp_path / "clip.mp4").stdout
    assert "my walk" in out and "clip.mp4" in out and "#" in out
    for action in ACTIONS:
        assert len(re.findall(rf"^  {action} +[0-9.]+%", out, re.M)) == 2
    table = pd.read_csv(tmp_path / "top5.csv")
    assert len(table) == 2 * len(ACTIONS)
    np.testing.assert_allclose(table.groupby("video")["probability"].sum(), 1, rtol=1e-5)


def test_a_video_of_a_high_frame_rate_is_said_to_be_one(trained, tmp_path):
    write_video(tmp_path / "fast.mp4", make_images(2, count=30), rate=50)
    path = ["--save_model_path", trained("Conv3D"), "--video", tmp_path / "fast.mp4"]
    out = predict("Conv3D", *path).stdout
    assert "fast.mp4  (50 frames a second, UCF101 has 25: try --skip_frame 2)" in out
    assert "frames a second" not in predict("Conv3D", *path, "--skip_frame", "2").stdout


def test_videos_of_another_data_set_are_on_neither_side_of_the_split(trained, tmp_path):
    write_frames(tmp_path / "new" / "v_Punch_g99_c01", make_images(3))
    out = predict("Conv3D", "--save_model_path", trained("Conv3D"), "--data_path", tmp_path / "new",
                  "--output", tmp_path / "list.pkl").stdout
    assert re.search(r"Accuracy unknown .* of 1 videos", out) and "Accuracy train" not in out


def test_an_output_that_cannot_be_written_is_refused_before_predicting(trained, tmp_path):
    for flag in (["--output"], ["--video", tmp_path, "--csv"]):
        done = predict("Conv3D", "--save_model_path", trained("Conv3D"), *flag, tmp_path / "none" / "a",
                       check=False)
        assert done.returncode == 2 and "none" in done.stderr and done.stdout == ""


def test_what_cannot_be_predicted_is_named_and_the_rest_is_predicted(trained, tmp_path):
    write_video(tmp_path / "short.mp4", make_images(2, count=7))
    write_frames(tmp_path / "folder", make_images(1, count=8))
    write_video(tmp_path / "good.avi", make_images(2))
    done = predict("Conv3D", "--save_model_path", trained("Conv3D"), "--video", tmp_path / "short.mp4",
                   tmp_path / "folder", tmp_path / "none.mp4", tmp_path / "good.avi", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "good.avi" in done.stdout
    assert re.search("short.mp4 has 7 frames", done.stderr) and re.search("folder has 8 frames", done.stderr)
    assert "none.mp4: no such file or folder" in done.stderr


def raw_weights(model, checkpoint, folder, prefix):
    """The files that the original tutorial writes: state dicts, of encoder and decoder apart."""
    weights = torch.load(checkpoint, weights_only=True)["model"]
    if model == "Conv3D":
        parts = {"3dcnn_epoch1.pth": weights}
    else:
        parts = {f"{file}_epoch1.pth": {key.removeprefix(part): tensor for key, tensor in weights.items()
                                        if key.startswith(part)}
                 for file, part in (("cnn_encoder", "encoder."), ("rnn_decoder", "decoder."))}
    for name, state in parts.items():
        torch.save({prefix + key: tensor for key, tensor in state.items()}, folder / name,
                   _use_new_zipfile_serialization=model == "CRNN")  # PyTorch 1.0 wrote no zip files
    return [folder / name for name in parts]


@pytest.mark.parametrize("model, prefix", [("Conv3D", "module."), ("CRNN", ""), ("ResNetCRNN", "module.")])
def test_raw_weights_of_the_original_tutorial_predict_the_same(model, prefix, trained, small_data, tmp_path):
    files = raw_weights(model, trained(model) / f"{model}_epoch2.pth", tmp_path, prefix)
    size = {"Conv3D": ["--img_x", "24", "--img_y", "32"], "CRNN": ["--img_x", "40", "--img_y", "40"],
            "ResNetCRNN": ["--img_x", "32"]}[model]
    video = small_data / "jpegs" / "v_Punch_g03_c01"
    theirs = predict(model, "--checkpoint", *reversed(files),
                     "--action_name_path", small_data / "actions.pkl",
                     "--frames", "10", *size, "--video", video).stdout
    ours = predict(model, "--checkpoint", trained(model) / f"{model}_epoch2.pth", "--video", video).stdout
    assert theirs[theirs.index("v_Punch_g03_c01"):] == ours[ours.index("v_Punch_g03_c01"):]


def test_a_raw_list_says_that_its_split_is_unknown(trained, small_data, tmp_path):
    files = raw_weights("CRNN", trained("CRNN") / "CRNN_epoch2.pth", tmp_path, "")
    out = predict("CRNN", "--checkpoint", *files, "--action_name_path", small_data / "actions.pkl",
                  "--frames", "10", "--img_x", "40", "--data_path", small_data / "jpegs",
                  "--output", tmp_path / "list.pkl").stdout
    assert re.search(r"Accuracy unknown +[0-9.]+% +of 24 videos", out)


@pytest.mark.parametrize("case", ["no checkpoint", "no values", "other model", "half the weights",
                                  "other sizes", "no file", "no list of actions"])
def test_wrong_weights_end_in_one_message(case, trained, small_data, tmp_path):
    files = raw_weights("CRNN", trained("CRNN") / "CRNN_epoch2.pth", tmp_path, "")
    (tmp_path / "other").mkdir()
    torch.save({"epoch": 1}, tmp_path / "other" / "CRNN_epoch1.pth")
    more, message = {
        "no checkpoint": (["--save_model_path", tmp_path], "holds no CRNN_epoch"),
        "no values": (["--save_model_path", tmp_path / "other"], "no checkpoint in .*other can be read"),
        "other model": (["--checkpoint", trained("Conv3D") / "Conv3D_epoch2.pth"], "no checkpoint of CRNN"),
        "half the weights": (["--checkpoint", files[0]], "name the encoder's and the decoder's file"),
        "other sizes": (["--checkpoint", *files, "--img_x", "99",
                         "--action_name_path", small_data / "actions.pkl"],
                        "does not fit this model: .*fc1.weight"),
        "no file": (["--checkpoint", tmp_path / "none.pth"], "none.pth"),
        "no list of actions": (["--checkpoint", *files, "--img_x", "40"], "does not fit this model: .*fc2"),
    }[case]
    done = predict("CRNN", *more, "--video", small_data / "jpegs" / "v_Punch_g03_c01", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(message, done.stderr) and len(done.stderr.strip().splitlines()) <= 2


def test_a_damaged_best_epoch_gives_way_to_the_next(trained, tmp_path):
    for path in trained("CRNN").glob("CRNN_epoch*.pth"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    import check_model_prediction as check
    _, best = check.load_best(tmp_path, "CRNN")
    damage(best)
    _, other = check.load_best(tmp_path, "CRNN")
    assert other != best
    damage(other)
    with pytest.raises(functions.InputError, match="no checkpoint in .* can be read"):
        check.load_best(tmp_path, "CRNN")
